"""Pictures of predicted masks: where they are right, what is missed, what is false."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pbl.evaluation.segmentation import Thresholds
from pbl.reports.drawing import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    SMALL,
    WIDE,
    caption,
    cut,
    cut_start,
    literal,
    set_heading,
    shorten_name,
    wrap,
)

# Also distinguishable for people who confuse red and green (Okabe and Ito 2008): right, missed, false.
RIGHT, MISSED, FALSE = (0, 158, 115), (0, 114, 178), (230, 159, 0)
SHOWN = 6  # images of each kind: worst, median, best


def draw_masks(
    title: str,
    pixels: Any,
    names: Sequence[str],
    truth: np.ndarray,
    predicted: np.ndarray,
    dice: np.ndarray,
    result: Mapping[str, Any],
    table: Thresholds | None,
    all_figures: bool,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation.

    Args:
        title: Run and split.
        pixels: The images, or an object that returns `uint8 [n, height, width, channels]` for indices.
        names: Their names.
        truth, predicted: `uint8 [n, height, width]`.
        dice: `float [n]`, NaN for images that have no class.
        result: What `pbl.tasks.segmentation.judge` found.
        table: The thresholds, with two classes.
        all_figures: Whether more than the first figure are drawn.
    """
    yield "masks", plot_overlays(pixels, names, truth, predicted, dice, caption("{of}: masks", of=title))
    if not all_figures:
        return
    yield "sizes", plot_sizes(truth, dice, caption("{of}: Dice by size", of=title))
    if table is not None:
        chosen = (result["threshold"] or {}).get("value")
        yield "thresholds", plot_mask_thresholds(table, chosen, caption("{of}: choice of the probability", of=title))


def lay_over(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Colours an image by its masks, `uint8 [height, width, 3]`: right, missed, and false, which includes pixels of another class.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        truth, predicted: `uint8 [height, width]`.
    """
    shown = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    shown = shown.astype(np.float64)
    for colour, place in (
        (RIGHT, (truth > 0) & (truth == predicted)),
        (MISSED, (truth > 0) & (predicted == 0)),
        (FALSE, (predicted > 0) & (truth != predicted)),
    ):
        shown[place] = 0.45 * shown[place] + 0.55 * np.array(colour)
    return shown.round().astype(np.uint8)


def draw_classes(image: np.ndarray, mask: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws an image with a colour for each class that is marked, and what the colours mean; with two classes the second in green.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        mask: `uint8 [height, width]`, class numbers; 0 is the background.
        class_names: Names of all classes.
    """
    figure = Figure(figsize=(4, 4.6 if len(class_names) > 2 else 4), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    if len(class_names) == 2:
        axes.imshow(lay_over(image, mask, mask))
        return figure
    shown = np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
    shown = shown.astype(np.float64) / 255
    for number in np.unique(mask[mask > 0]).tolist():
        colour = colormaps["tab10"]((number - 1) % 10)
        shown[mask == number] = 0.45 * shown[mask == number] + 0.55 * np.array(colour[:3])
        axes.scatter([], [], marker="s", color=colour, label=literal(cut(class_names[number], 20)))
    axes.imshow(shown)
    if mask.any():
        figure.legend(loc="outside lower center", ncols=3, fontsize=SMALL, frameon=False)
    return figure


def choose_shown(values: np.ndarray, falsely: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Chooses the worst, the median and the best images, at most 6 of each, and images in which something is found that does not exist.

    Args:
        values: `float [n]`, more is better; NaN for an image without what is sought.
        falsely: `int [n]`, how much is found in such an image; 0 for the others.

    Returns:
        The heading of each row that is not empty, and the indices of its images.
    """
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    of_each = min(SHOWN, len(order) // 3 or len(order))  # with few images none is shown twice
    middle = (len(order) - of_each) // 2
    rows = [
        (caption("worst images"), order[:of_each]),
        (caption("median images"), order[middle : middle + of_each] if len(order) > 2 else order[:0]),
        (caption("best images"), order[::-1][:of_each] if len(order) > 2 else order[:0]),
        (
            caption("found, but nothing is there"),
            np.argsort(-falsely, kind="stable")[: min(SHOWN, (falsely > 0).sum())],
        ),
    ]
    return [(name, of) for name, of in rows if len(of)]


def plot_overlays(
    pixels: Any, names: Sequence[str], truth: np.ndarray, predicted: np.ndarray, dice: np.ndarray, title: str
) -> Figure:
    """Draws the worst, the median and the best images, and images without any class in which one was found."""
    falsely = np.zeros(len(dice), int)
    empty = np.isnan(dice)
    falsely[empty] = (predicted[empty] > 0).sum(axis=(1, 2))
    rows = choose_shown(dice, falsely)
    figure = Figure(figsize=(WIDE, 1.6 * len(rows) + 0.8), layout="constrained")
    set_heading(figure, title)
    panels = figure.subplots(len(rows), SHOWN, squeeze=False)
    for (name, of), axes_of_row in zip(rows, panels, strict=True):
        for axes in axes_of_row:
            axes.axis("off")
        for axes, at in zip(axes_of_row, of, strict=False):
            axes.axis("on")
            axes.imshow(lay_over(pixels[at], truth[at], predicted[at]))
            told = "" if np.isnan(dice[at]) else f"Dice {dice[at]:.2f}\n"
            axes.set_title(literal(f"{told}{cut_start(shorten_name(str(names[at])), 15)}"), fontsize=SMALL)
            axes.set(xticks=[], yticks=[])
        axes_of_row[0].set_ylabel(wrap(name, 16), fontsize=SMALL)
    handles = [
        Patch(color=np.array(colour) / 255, label=label)
        for colour, label in (
            (RIGHT, caption("marked correctly")),
            (MISSED, caption("missed")),
            (FALSE, caption("marked wrongly")),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small")
    return figure


def plot_sizes(truth: np.ndarray, dice: np.ndarray, title: str) -> Figure:
    """Draws the Dice of each image against the size of what is marked in it: small regions are missed first."""
    share = (truth > 0).mean(axis=(1, 2))
    of = ~np.isnan(dice)
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(100 * share[of], dice[of], ".", color=BLUE, alpha=0.6)
    axes.set(xscale="log", ylim=(-0.02, 1.02), xlabel=caption("marked pixels [% of the image]"), ylabel=caption("Dice"))
    axes.grid(alpha=0.3)
    axes.set_title(textwrap.fill(literal(title), 80), fontsize="medium")
    return figure


def plot_mask_thresholds(table: Thresholds, chosen: float | None, title: str) -> Figure:
    """Draws the result of each threshold: mean Dice, and the share of images without a region that get one."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(table.threshold, table.dice, color=BLUE, label=caption("Dice, mean over images that have the class"))
    if not np.isnan(table.false_images).all():
        told = caption("share of the images without the class in which it is found")
        axes.plot(table.threshold, table.false_images, color=ORANGE, linestyle="--", label=told)
    axes.axvline(0.5, color=GREY, linestyle=":", label="0.5")
    if chosen is not None:
        axes.axvline(chosen, color=GREEN, label=caption("chosen: {threshold:.3f}", threshold=chosen))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel=caption("probability from which a pixel gets the class"))
    axes.set_title(textwrap.fill(literal(title), 80), fontsize="medium")
    axes.legend(fontsize="small")
    return figure
