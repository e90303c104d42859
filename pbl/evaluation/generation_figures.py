"""The figures of generation: samples, the course of the training, classes, and the nearest training image of each sample."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from pbl.errors import InputError, Sentence
from pbl.reports.drawing import (
    BLUE,
    GREY,
    ORANGE,
    SMALL,
    caption,
    cut,
    hide_axes,
    literal,
    number_classes,
    set_heading,
    show_image,
)
from pbl.storage.writing import replacing

MOST_EPOCHS = 10  # rows of the figure of the course
MOST_SHOWN = 12  # samples shown with their nearest training images
MOST_CLASSES = 40
MOST_IN_GRID = 400


def draw_generation(
    run: str,
    split: str,
    metrics: Mapping[str, Any],
    samples: np.ndarray,
    nearest: Any,
    train: np.ndarray,
    class_names: Sequence[str],
    grids: np.ndarray | None,
    all_figures: bool,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation, one after another.

    Args:
        run, split: For the heading.
        metrics: What `pbl.tasks.generation.judge` found.
        samples: `uint8 [n, height, width, channels]`.
        nearest: `pbl.evaluation.generation.Nearest` of the first of them.
        train: The training images to which the indices in `nearest` refer.
        class_names: Names of the judge's classes; empty if there are none.
        grids: `uint8 [epochs, 16, height, width, channels]`; None if they are not known.
        all_figures: If false, only the samples and the course.

    Yields:
        Name and figure.
    """
    of = {"run": run, "split": Sentence({"val": "validation", "test": "test"}.get(split, split))}
    kid = metrics["metrics"]["kid"]
    title = caption("{run}: generated images, not selected (KID x 1000: {kid:.1f})", run=run, kid=kid)
    yield "samples", plot_samples(samples[:64], title)
    if grids is not None and len(grids):
        yield "course", plot_course(grids, caption("{run}: the same noise after each epoch", run=run))
    if not all_figures:
        return
    order = np.argsort(nearest.distance, kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(MOST_SHOWN, len(order))).astype(int)]
    title = caption("{run}, {split}: samples and their nearest training images", **of)
    yield "nearest", plot_pairs(samples, nearest, train, chosen, title)
    if class_names and len(class_names) <= MOST_CLASSES:
        title = caption("{run}, {split}: classes, as seen by the judge", **of)
        yield "classes", plot_classes(metrics["samples"], class_names, title)


def plot_samples(images: np.ndarray, title: str, labels: Sequence[str] | None = None) -> Figure:
    """Draws images in a grid, eight in a row.

    Args:
        images: `uint8 [n, height, width, channels]`.
        title: The heading.
        labels: A label above each.
    """
    columns = min(8, max(1, len(images)))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(max(4.0, 0.8 * columns), 0.8 * rows + 0.5), layout="constrained")
    set_heading(figure, title)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for at, axes in enumerate(grid):
        hide_axes(axes)
        if at < len(images):
            show_image(axes, images[at], "" if labels is None else literal(labels[at]))
    return figure


def plot_course(grids: np.ndarray, title: str) -> Figure:
    """Draws the images from the same noise: one row for each epoch, at most ten of them, the last one at the bottom."""
    chosen = np.unique(np.linspace(0, len(grids) - 1, min(MOST_EPOCHS, len(grids))).astype(int))
    columns = min(grids.shape[1], 12)
    figure = Figure(figsize=(0.6 * columns + 1.2, 0.6 * len(chosen) + 0.5), layout="constrained")
    set_heading(figure, title)
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for row, epoch in enumerate(chosen):
        for column in range(columns):
            show_image(grid[row, column], grids[epoch, column], "")
        _name_row(grid[row, 0], caption("epoch {epoch}", epoch=epoch + 1))
    return figure


def plot_pairs(samples: np.ndarray, nearest: Any, train: np.ndarray, chosen: Sequence[int], title: str) -> Figure:
    """Draws samples, and below each its nearest training image, with the distance in grey levels."""
    figure = Figure(figsize=(0.63 * len(chosen) + 0.8, 2.2), layout="constrained")
    set_heading(figure, title)
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, number in enumerate(chosen):
        show_image(grid[0, column], samples[number], "")
        show_image(grid[1, column], train[nearest.number[number]], f"{nearest.distance[number]:.0f}")
    for row, name in enumerate((caption("sample"), caption("training"))):
        _name_row(grid[row, 0], name)
    return figure


def _name_row(axes: Any, name: str) -> None:
    axes.text(-0.1, 0.5, name, transform=axes.transAxes, fontsize=SMALL, ha="right", va="center")


def plot_classes(of: Mapping[str, Any], class_names: Sequence[str], title: str) -> Figure:
    """Draws the share of each class among generated and real images, as the judge classifies them."""
    figure = Figure(figsize=(max(5.0, 0.45 * len(class_names) + 1.5), 3.4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(class_names))
    for shift, key, label, colour in (
        (-0.2, "real_counts", caption("real"), GREY),
        (0.2, "counts", caption("generated"), BLUE if min(of["counts"]) else ORANGE),
    ):
        counts = np.array(of[key], float)
        axes.bar(places + shift, 100 * counts / max(counts.sum(), 1), 0.4, color=colour, label=label)
    names = [literal(cut(name, 14)) for name in number_classes(class_names)]
    axes.set_xticks(places, names, rotation=90 if len(class_names) > 12 else 0)
    axes.set_ylabel(caption("images [%]"))
    axes.set_title(literal(title), fontsize=9)
    axes.legend(fontsize="small")
    return figure


def write_images(images: np.ndarray, out: Path, run: str) -> list[Path]:
    """Writes generated images.

    Args:
        images: `uint8 [n, height, width, channels]`.
        out: A `.png`: one grid, of at most 400 images; a `.npz`: an array `images`; any other name: a folder, made if absent, with one PNG per image.
        run: The run's name, for the heading.

    Returns:
        The files that were written.

    Raises:
        InputError: The file or folder cannot be written; too many images for a grid.
    """
    kind = out.suffix.lower()
    if kind == ".png" and len(images) > MOST_IN_GRID:
        raise InputError(
            "--out {file}: a grid has at most {most} images. Give a folder or a .npz for more.",
            file=out,
            most=MOST_IN_GRID,
        )
    if kind in (".png", ".npz") and not out.parent.is_dir():
        raise InputError(
            "--out {file}: the folder {folder} does not exist. Make it first.", file=out, folder=out.parent
        )
    if kind == ".png":
        with replacing(out) as temporary:
            plot_samples(images, caption("{run}: generated images, not selected", run=run)).savefig(temporary, dpi=120)
        return [out]
    if kind == ".npz":
        with replacing(out) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, images=images)
        return [out]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--out {file}: {reason}. Give another file or folder.", file=out, reason=error.strerror
        ) from None
    files = []
    for number, image in enumerate(images):
        files.append(out / f"{number:05d}.png")
        with replacing(files[-1]) as temporary:
            Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(temporary, format="PNG")
    return files
