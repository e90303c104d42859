"""Pictures of found boxes: which are right, missed and false; and what thresholds show."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from pbl.evaluation.detection import (
    Matches,
    Thresholds,
    compute_average_precision,
    is_box,
    score_images,
    tabulate_thresholds,
)
from pbl.evaluation.mask_figures import SHOWN, choose_shown
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
    number_classes,
    set_heading,
    shorten_name,
    show_image,
    wrap,
)

# Distinguished by colour (Okabe and Ito 2008) and, in grey print too, by line style: found correctly, missed, found falsely.
RIGHT, MISSED, FALSE = ("#56B4E9", "-"), ("#F0E442", (0, (1, 1.2))), (ORANGE, (0, (4, 2)))
MOST_CURVES = 10  # classes that each have a colour; with more, the worst and the best are shown
LINES = ("-", "--", ":", "-.")


def draw_detection(
    title: str,
    pixels: Any,
    names: Sequence[str],
    truth: np.ndarray,
    found: np.ndarray,
    matches: Matches,
    class_names: Sequence[str],
    threshold: float | None,
    all_figures: bool,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation.

    Args:
        title: Run and split.
        pixels: The images, or an object that returns `uint8 [height, width, 1 or 3]` for an index.
        names: Their names.
        truth, found: `[n, most, 5]`, `[n, k, 6]`.
        matches: What `pbl.evaluation.detection.match` returns for them.
        class_names: Names of the classes.
        threshold: Lowest score at which a box is shown, chosen on validation; with None the pictures use .5.
        all_figures: Whether more than the first figure are drawn.
    """
    shown = 0.5 if threshold is None else threshold
    yield (
        "boxes",
        plot_boxes(pixels, names, truth, found, matches, class_names, shown, caption("{of}: boxes", of=title)),
    )
    if not all_figures:
        return
    yield (
        "precision_recall",
        plot_box_curves(matches, class_names, caption("{of}: precision and recall of boxes", of=title)),
    )
    table = tabulate_thresholds(matches)
    yield (
        "thresholds",
        plot_box_thresholds(table, threshold, caption("{of}: from which score a box is shown", of=title)),
    )


def plot_boxes(
    pixels: Any,
    names: Sequence[str],
    truth: np.ndarray,
    found: np.ndarray,
    matches: Matches,
    class_names: Sequence[str],
    threshold: float,
    title: str,
) -> Figure:
    """Draws the worst, the median and the best images by the F1 of their boxes, and images without objects in which one is found."""
    values, has = score_images(matches, threshold), matches.truth.any(axis=1)
    is_shown = matches.score >= threshold
    falsely = np.bincount(matches.image[is_shown], minlength=len(has)) * ~has
    rows = choose_shown(np.where(has, values, np.nan), falsely)
    figure = Figure(figsize=(WIDE, 1.6 * max(1, len(rows)) + 0.8), layout="constrained")
    set_heading(figure, title)
    panels = figure.subplots(max(1, len(rows)), SHOWN, squeeze=False)
    for axes in panels.flat:
        axes.axis("off")
    words = [literal(cut(name, 8)) for name in number_classes(class_names)]
    for (name, of), axes_of_row in zip(rows, panels, strict=False):
        for axes, at in zip(axes_of_row, of, strict=False):
            told = caption("F1 {value:.2f}", value=values[at]) + "\n" if has[at] else ""
            show_image(axes, pixels[at], literal(f"{told}{cut_start(shorten_name(str(names[at])), 15)}"))
            of_image = (matches.image == at) & is_shown
            partners = matches.partner[of_image]
            for row, kind, partner in zip(matches.row[of_image], matches.kind[of_image], partners, strict=True):
                outline(axes, found[at, row], words[kind], *(RIGHT if partner >= 0 else FALSE))
            for row in np.setdiff1d(np.flatnonzero(is_box(truth[at])), partners):
                outline(axes, truth[at, row], words[int(truth[at, row, 4])], *MISSED, is_below=True)
        axes_of_row[0].axis("on")
        axes_of_row[0].set_ylabel(wrap(name, 16), fontsize=SMALL)
    handles = [
        Line2D([], [], color=colour, linestyle=line, linewidth=2, label=label)
        for (colour, line), label in (
            (RIGHT, caption("found correctly")),
            (MISSED, caption("missed")),
            (FALSE, caption("found wrongly")),
        )
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, fontsize="small", facecolor="#404040", labelcolor="white"
    )
    return figure


def draw_boxes(image: np.ndarray, found: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Draws an image, `uint8 [height, width, 1 or 3]`, with its boxes, `[k, 6]`, and the class and score of each."""
    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    show_image(axes, image, "")
    words = [literal(cut(name, 12)) for name in number_classes(class_names)]
    for box in found[is_box(found)]:
        outline(axes, box, f"{words[int(box[4])]} {box[5]:.2f}", *RIGHT)
    return figure


def outline(axes: Axes, box: np.ndarray, word: str, colour: str, line: Any, is_below: bool = False) -> None:
    """Draws a box into an image, with a label at its upper or lower edge.

    Args:
        axes: The axes with the image, whose pixel 0 is from -.5 to .5 in them, and from 0 to 1 in a box.
        box: `[4 or more]`, left, top, right, bottom.
        word: The label: its class, and what else is to be shown.
        colour, line: Colour and style of its lines.
        is_below: Whether the label is below the box.
    """
    left, top, right, bottom = (float(side) - 0.5 for side in box[:4])
    # A dark line below makes each colour visible on bright pixels too.
    for width, shade, style in ((2.6, "#202020", "-"), (1.4, colour, line)):
        axes.add_patch(
            Rectangle(
                (left, top),
                right - left,
                bottom - top,
                fill=False,
                linewidth=width,
                edgecolor=shade,
                linestyle=style,
                alpha=0.55 if shade != colour else 1,
            )
        )
    # The label is outside the box, unless that would be outside the image.
    room = 0.08 * abs(np.subtract(*axes.get_ylim()))
    edge, is_upper = (bottom, bottom > max(axes.get_ylim()) - room) if is_below else (top, top >= room)
    axes.annotate(
        word,
        (left, edge),
        (1, 1 if is_upper else -1),
        textcoords="offset points",
        va="bottom" if is_upper else "top",
        fontsize=SMALL,
        color=colour,
        bbox={"facecolor": "#202020", "edgecolor": "none", "pad": 0.6, "alpha": 0.7},
        annotation_clip=False,
    )


def plot_box_curves(matches: Matches, class_names: Sequence[str], title: str) -> Figure:
    """Draws precision against recall of each class at an IoU of .5, over all scores; with many classes those with the smallest and largest area."""
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    curves, areas = [], compute_average_precision(matches)[:, 0]
    for number, name in enumerate(number_classes(class_names)):
        total = matches.truth[:, number].sum()
        if not total:
            continue
        of = np.flatnonzero(matches.kind == number)
        of = of[np.argsort(-matches.score[of], kind="stable")]
        right = matches.right[of, 0].cumsum()
        recall, precision = right / total, right / np.arange(1, len(of) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        curves.append((areas[number], name, recall, best))
    if len(curves) > MOST_CURVES:
        curves.sort(key=lambda curve: curve[0])
        curves = curves[: MOST_CURVES // 2] + curves[-(MOST_CURVES // 2) :]
    colours = (BLUE, ORANGE, GREEN, GREY, "#CC79A7")
    for place, (area, name, recall, best) in enumerate(curves):
        axes.plot(
            np.concatenate([[0], recall]),
            np.concatenate([best[:1], best]),
            color=colours[place % len(colours)],
            linestyle=LINES[place // len(colours) % len(LINES)],
            label=f"{literal(cut(name, 16))}  {area:.3f}",
        )
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel=caption("recall: found share of the true boxes"),
        ylabel=caption("precision: correct share of the found boxes"),
    )
    axes.grid(alpha=0.3)
    axes.set_title(textwrap.fill(literal(title), 80), fontsize="medium")
    if curves:
        figure.legend(
            loc="outside right upper", fontsize="small", title=caption("average precision"), title_fontsize="small"
        )
    return figure


def plot_box_thresholds(table: Thresholds, chosen: float | None, title: str) -> Figure:
    """Draws the result of each threshold: F1 of boxes, and the share of images whose number of boxes is right for each class."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    axes.step(table.threshold, table.f1, where="post", color=BLUE, label=caption("F1 of boxes"))
    axes.step(
        table.threshold,
        table.right_count,
        where="post",
        color=ORANGE,
        linestyle="--",
        label=caption("images with the right number of each class"),
    )
    if chosen is not None:
        axes.axvline(chosen, color=GREEN, linestyle=":", label=caption("chosen: {threshold:.3f}", threshold=chosen))
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xlabel=caption("score from which a box is shown"))
    axes.grid(alpha=0.3)
    axes.set_title(textwrap.fill(literal(title), 80), fontsize="medium")
    axes.legend(fontsize="small")
    return figure
