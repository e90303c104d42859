"""The figures of an evaluation: confusion matrix, calibration, one class against the rest, thresholds, images."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.errors import Sentence
from pbl.evaluation.calibration import apply_temperature, compute_calibration_error, find_bins
from pbl.evaluation.metrics import rank_one_against_rest
from pbl.evaluation.mistakes import count_confusions
from pbl.evaluation.thresholds import parse_aim, tabulate_thresholds, write_threshold
from pbl.reports.drawing import (
    BLUE,
    GREEN,
    GREY,
    NARROW,
    ORANGE,
    SMALL,
    WIDE,
    caption,
    cut,
    cut_start,
    hide_axes,
    literal,
    number_classes,
    set_heading,
    shorten_name,
    show_image,
    wrap,
)
from pbl.statistics import wilson_interval

MOST_CLASSES = 40  # classes in a picture; with more it shows MOST_SHOWN
MOST_SHOWN = 25
MOST_OF_LEGEND = 52  # letters in a line of a legend below a narrow picture
MOST_LETTERS = 17  # letters in a line above an image of a gallery; Japanese ones are twice as wide


def draw(
    run: str, split: str, result: dict[str, Any], images: Any, probabilities: np.ndarray, all_figures: bool
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation, one after another.

    Args:
        run: The run's name.
        split: "val" or "test".
        result: Its metrics.
        images: The judged images, `pbl.data.Images`.
        probabilities: `float [n, classes]`.
        all_figures: If false, only the confusion matrix.

    Yields:
        Name and figure.
    """
    labels, names = images.labels, number_classes(result["class_names"])
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    of = {"run": run, "split": Sentence({"val": "validation", "test": "test"}.get(split, split)), "n": result["images"]}
    title = caption(
        "{run}: confusion matrix, {split} ({n:,} images, accuracy {accuracy:.4f})", **of, accuracy=result["accuracy"]
    )
    yield "confusion_matrix", _draw_matrix(labels, predicted, names, title)
    if not all_figures:
        return
    mended = None
    if "temperature" in result["calibration"]:
        mended = apply_temperature(probabilities, result["calibration"]["temperature"])[range(len(labels)), predicted]
    title = caption("{run}: confidence and accuracy, {split} ({n:,} images)", **of)
    yield "reliability", plot_reliability(confidence, predicted == labels, mended, title)
    positive = names.index(result["positive"]["class"]) if "positive" in result else None
    # A curve, and a threshold, need images of the class and of other classes.
    has_curves = len(np.unique(labels)) > 1
    for kind, title in (
        ("precision_recall", caption("{run}: precision and recall, {split} ({n:,} images)", **of)),
        ("roc", caption("{run}: ROC curves, {split} ({n:,} images)", **of)),
    ) * has_curves:
        yield kind, plot_one_against_rest(kind, labels, probabilities, names, title, positive)
    if "threshold" in result and has_curves:
        chosen = result["threshold"]
        table = tabulate_thresholds(labels == positive, probabilities[:, positive], parse_aim(chosen["aim"]))
        title = caption("{run}: thresholds for '{name}', {split} ({n:,} images)", **of, name=names[positive])
        yield "threshold", plot_thresholds(table, chosen["value"], chosen["interval"], chosen["aim"], title)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    unsure = np.argsort(confidence, kind="stable")[:24]
    for name, chosen, heading in (
        ("mistakes", worst, caption("{run}, {split}: the most confident of {n} mistakes", **of | {"n": len(wrong)})),
        ("least_sure", unsure, caption("{run}, {split}: the least confident images", **of)),
    ):
        if len(chosen):
            titles = []
            for at in chosen:  # the name of a class is cut, not the mark before it or the number after it
                mark = "✓" if predicted[at] == labels[at] else "✗"
                called = f"{mark} {cut(names[predicted[at]], MOST_LETTERS - 7)} {confidence[at]:.2f}"
                titles.append(f"{cut(names[labels[at]], MOST_LETTERS)}\n{called}\n{shorten_name(images.names[at])}")
            yield name, plot_gallery([images.pixels[at] for at in chosen], titles, heading)


def plot_confusion_matrix(
    matrix: Sequence[Sequence[int]], class_names: Sequence[str], title: str | None = None
) -> Figure:
    """Draws a confusion matrix: rows are true classes, columns predicted ones; with counts, coloured by the share of the row.

    With more than 40 classes it shows the 25 that are confused most with each other: more could not be read.

    Args:
        matrix: `int [classes, classes]`.
        class_names: Name of each class.
        title: The heading; by default "Confusion matrix" in the reader's language.
    """
    title = caption("Confusion matrix") if title is None else title
    counts, class_names = np.asarray(matrix), number_classes(class_names)
    images = counts.sum(axis=1)
    if len(class_names) <= MOST_CLASSES:
        return _plot_matrix(counts, images, class_names, title)
    a, b = np.nonzero(counts - np.diag(np.diag(counts)))
    order = np.argsort(-counts[a, b], kind="stable")
    chosen = _choose_mixed(zip(a[order].tolist(), b[order].tolist(), strict=True), images)
    title += _tell_chosen(chosen, class_names)
    return _plot_matrix(counts[np.ix_(chosen, chosen)], images[chosen], [class_names[c] for c in chosen], title)


def _draw_matrix(labels: np.ndarray, predicted: np.ndarray, names: Sequence[str], title: str) -> Figure:
    """The same from labels and predictions, without the complete matrix: with 10,000 classes it would take 800 MB."""
    images = np.bincount(labels, minlength=len(names))
    chosen = list(range(len(names)))
    if len(names) > MOST_CLASSES:
        chosen = _choose_mixed(((a, b) for a, b, _ in count_confusions(labels, predicted)), images)
        title += _tell_chosen(chosen, names)
    place = np.full(len(names), -1)
    place[chosen] = np.arange(len(chosen))
    row, column = place[labels], place[predicted]
    counts = np.zeros((len(chosen), len(chosen)), int)
    is_shown = (row >= 0) & (column >= 0)
    np.add.at(counts, (row[is_shown], column[is_shown]), 1)
    return _plot_matrix(counts, images[chosen], [names[c] for c in chosen], title)


def _choose_mixed(pairs: Iterable[tuple[int, int]], images: np.ndarray) -> list[int]:
    """The classes of the first pairs, next to each other; if there are too few, those with most images."""
    chosen = list(itertools.islice(dict.fromkeys(c for pair in pairs for c in pair), MOST_SHOWN))
    rest = [c for c in np.argsort(-images, kind="stable").tolist() if c not in chosen]
    return [*chosen, *rest[: MOST_SHOWN - len(chosen)]]


def _tell_chosen(chosen: list[int], names: Sequence[str]) -> str:
    told = ". The {n} of {all:,} classes that are confused most; shares are of all images of a class"
    return caption(told, n=len(chosen), all=len(names))


def _plot_matrix(counts: np.ndarray, images: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    """Args: `counts` `int [shown, shown]`; `images` `int [shown]`, for each true class."""
    shares = counts / np.maximum(images[:, None], 1)
    class_names = [cut(name, 24) for name in class_names]
    class_names, title = [literal(name) for name in class_names], literal(title)
    n = len(class_names)
    side = max(4.2, min(0.36 * n, 5.8) + 1.5)  # inches; with more than 16 classes the cells are smaller
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label=caption("share of the true class's images"), shrink=0.8)
    upright = max(map(len, class_names)) > 3 and n > 2
    axes.set_xticks(range(n), class_names, rotation=45 if upright else 0, ha="right" if upright else "center")
    axes.set_yticks(range(n), class_names)
    axes.set(xlabel=caption("predicted class"), ylabel=caption("true class"))
    axes.set_title(wrap(title, round(11 * side)), fontsize="medium")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column,
            row,
            counts[row, column],
            ha="center",
            va="center",
            color=colour,
            fontsize=SMALL if n > 10 else 10,
        )
    return figure


def plot_reliability(confidence: np.ndarray, correct: np.ndarray, mended: np.ndarray | None, title: str) -> Figure:
    """Draws the accuracy by confidence, in bins with equally many images, and a histogram of the confidences.

    Args:
        confidence: `float [n]`, the probability of the predicted class.
        correct: `bool [n]`.
        mended: The same after temperature scaling, or None.
        title: The heading.
    """
    figure = Figure(figsize=(NARROW, 4.5), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    set_heading(figure, title)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label=caption("perfectly calibrated"))
    kinds = [(confidence, ORANGE, "o", caption("as trained"))]
    kinds += [(mended, BLUE, "s", caption("after temperature scaling"))] if mended is not None else []
    for sure, colour, marker, name in kinds:
        bin_of = find_bins(sure)
        groups = [(sure[bin_of == b].mean(), correct[bin_of == b]) for b in range(bin_of.max() + 1)]
        x, share = [at for at, _ in groups], [right.mean() for _, right in groups]
        bounds = [wilson_interval(int(right.sum()), len(right)) for _, right in groups]
        error = np.clip([[p - low, high - p] for p, (low, high) in zip(share, bounds, strict=True)], 0, None).T
        ece = compute_calibration_error(sure, correct)
        told = "{name}: ECE {ece:.3f} (calibrated: {mean:.3f}, to {high:.3f})"
        label = wrap(caption(told, name=name, ece=ece[0], mean=ece[1], high=ece[2]), MOST_OF_LEGEND)
        axes.errorbar(x, share, yerr=error, fmt=marker, color=colour, capsize=2, linewidth=1, markersize=5, label=label)
        below.hist(sure, bins=np.linspace(0, 1, 21), histtype="step", color=colour, linewidth=1.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel=wrap(caption("correct [share of images], 95% interval"), 26))
    figure.legend(fontsize="small", loc="outside lower left")  # inside the axes it would cover intervals
    below.set(
        xlabel=caption("confidence: probability of the predicted class"), ylabel=wrap(caption("number of images"), 10)
    )
    for each in (axes, below):
        each.grid(alpha=0.3)
    return figure


def plot_one_against_rest(
    kind: Literal["precision_recall", "roc"],
    labels: np.ndarray,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    title: str,
    positive: int | None = None,
) -> Figure:
    """Draws a curve of each class against the rest: precision against recall, or the true against the false positive rate (ROC).

    For rare classes precision and recall say more (Saito and Rehmsmeier 2015, doi:10.1371/journal.pone.0118432).

    Args:
        kind: "precision_recall" or "roc".
        labels: `int [n]`.
        probabilities: `float [n, classes]`.
        class_names: Name of each class.
        title: The heading.
        positive: With two classes, the one to draw; otherwise every class is drawn, the three hardest in colour.
    """
    from sklearn import metrics  # takes a second, so imported only when a curve is drawn

    is_roc = kind == "roc"
    area = caption("area") if is_roc else caption("average precision")
    areas = {}
    for c in range(len(class_names)) if positive is None else [positive]:
        found = rank_one_against_rest(labels == c, probabilities[:, c])["roc_auc" if is_roc else "average_precision"]
        if found is not None:
            areas[c] = found
    ranked = sorted(areas, key=areas.get)
    # With many classes only the three hardest, and some from the whole range: a thousand lines would be one grey patch.
    drawn = ranked
    if len(ranked) > MOST_CLASSES:
        drawn = [*ranked[:3], *(ranked[at] for at in np.linspace(3, len(ranked) - 1, MOST_SHOWN).astype(int))]
    curves = {}
    for c in drawn:
        if is_roc:
            x, y, _ = metrics.roc_curve(labels == c, probabilities[:, c])
        else:
            y, x, _ = metrics.precision_recall_curve(labels == c, probabilities[:, c])
        curves[c] = x, y, areas[c]

    figure = Figure(figsize=(NARROW, 4.5), layout="constrained")
    axes = figure.subplots()
    set_heading(figure, title)
    hardest = sorted(curves, key=lambda c: curves[c][2])[:3]
    for c in sorted(curves, key=lambda c: c in hardest):  # the coloured ones are drawn last, on top
        x, y, value = curves[c]
        if c not in hardest:
            axes.plot(x, y, color=GREY, linewidth=0.7, alpha=0.6, drawstyle="steps-post")
            continue
        colour = (ORANGE, BLUE, GREEN)[hardest.index(c)]
        label = f"{literal(cut(class_names[c], 24))}: {area} {value:.3f}"
        axes.plot(x, y, color=colour, linewidth=1.8, drawstyle="steps-post", label=label)
    if len(curves) > 3:
        told = "other classes; mean {area} of all {mean:.3f}"
        if len(drawn) < len(areas):
            told = "{n} of the other classes; mean {area} of all {mean:.3f}"
        label = caption(told, n=len(drawn) - 3, area=area, mean=np.mean(list(areas.values())))
        axes.plot([], [], color=GREY, linewidth=0.7, label=wrap(label, MOST_OF_LEGEND))
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.grid(alpha=0.3)
    if is_roc:
        axes.plot(
            [0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label=caption("guessing: {share:.2f}", share=0.5)
        )
        axes.set(
            xlabel=caption("false positives, of the other classes' images"),
            ylabel=caption("true positives, of the class's images"),
        )
    else:
        if positive is not None:
            share = float((labels == positive).mean())
            axes.axhline(
                share, color=GREY, linewidth=1, linestyle="--", label=caption("guessing: {share:.2f}", share=share)
            )
        axes.set(
            xlabel=caption("recall: found share of the images of the class"),
            ylabel=caption("precision: correct share of the predictions"),
        )
    figure.legend(fontsize="small", loc="outside lower left")  # inside the axes it would cover a low curve
    return figure


def plot_thresholds(
    table: pd.DataFrame, chosen: float | None, interval: tuple[float, float] | None, aim: str, title: str
) -> Figure:
    """Draws precision, recall, F1 and cost by threshold; marks 0.5 and the threshold chosen on validation images.

    Args:
        table: As `pbl.evaluation.thresholds.tabulate_thresholds` returns it.
        chosen: The threshold chosen on validation, or None.
        interval: Its 95% bootstrap interval, or None.
        aim: What it was chosen for, in the form of `Aim`: "f1", "youden", "cost:5:1".
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(literal(title), fontsize="medium")
    lines = (("precision", BLUE, "-"), ("recall", ORANGE, "-"), ("f1", GREEN, "-"))
    if aim.startswith("cost"):
        lines = (*lines, ("cost", GREY, "-."))
    if aim == "youden":
        lines = (*lines, ("youden", GREY, "-."))
    table = table.iloc[1:]  # the first threshold is above all scores: no image is called positive
    say_name = {
        "precision": caption("precision"),
        "recall": caption("recall"),
        "f1": caption("F1"),
        "cost": caption("mean cost of an image"),
        "youden": caption("Youden's J"),
    }
    for name, colour, style in lines:
        axes.plot(
            table["threshold"],
            table[name],
            color=colour,
            linestyle=style,
            linewidth=1.8,
            label=say_name[name],
        )
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":", label="0.5")
    if interval is not None:
        axes.axvspan(
            *interval, color=GREY, alpha=0.15, linewidth=0, label=caption("95% interval of the chosen threshold")
        )
    if chosen is not None:
        axes.axvline(
            chosen,
            color="black",
            linewidth=1.3,
            linestyle="--",
            label=caption(
                "chosen on validation for {aim}: {value}", aim=say_name.get(aim, aim), value=write_threshold(chosen)
            ),
        )
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel=caption("threshold on the probability of the positive class"))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def plot_gallery(pixels: Sequence[np.ndarray], titles: Sequence[str], title: str) -> Figure:
    """Draws images in a grid, eight in a row, each below its own title; at most the first 40.

    Args:
        pixels: Images, each `uint8 [height, width, 1 or 3]`, of any size.
        titles: One for each image; a long line is cut to its end, since a path ends with the file's name.
        title: The heading.
    """
    most = 40
    shown = list(zip(pixels, titles, strict=True))[:most]
    columns = min(8, max(4, len(shown)))  # a heading needs the width of four
    rows = max(1, -(-len(shown) // columns))
    lines = max((text.count("\n") + 1 for _, text in shown), default=1)
    # Inches: the heading; for each row the picture and the lines above it.
    figure = Figure(figsize=(WIDE / 8 * columns, 0.5 + rows * (1.0 + 0.15 * lines)), layout="constrained")
    if len(pixels) > most:
        title += caption(" (the first {most} of {n})", most=most, n=len(pixels))
    set_heading(figure, title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    hide_axes(panels)
    for axes, (image, text) in zip(panels, shown, strict=False):
        ends = [cut_start(line, MOST_LETTERS) for line in text.split("\n")]
        show_image(axes, image, "\n".join(map(literal, ends)))
    return figure
