"""The figure of a comparison: the result of each architecture at its cost, and the size of the differences."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from pbl.errors import Sentence
from pbl.reports.drawing import BLUE, GREEN, GREY, ORANGE, SMALL, WIDE, caption, cut, literal, wrap
from pbl.statistics import FEWEST_SEEDS

MOST_PAIRS = 15
MOST_NAMES = 30  # with more architectures only those on the front are named


class _Thousands(LogFormatter):
    """Labels of a logarithmic axis, in the format of the tables: 10,000."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        text = super().__call__(x, pos)
        return f"{int(text):,}" if text.isdecimal() else text


def plot_comparison(comparison: Any) -> Figure:
    """Draws accuracy, or another measure, by training time or weights, and the differences between architectures with the margin shaded.

    Args:
        comparison: A `pbl.comparison.Comparison`.
    """
    table, pairs = comparison.architectures, comparison.pairs
    if not len(pairs):
        pairs = comparison.models
    # One above the other: the names of architectures need the width.
    heights = 3.6 + 0.06 * min(len(table), MOST_NAMES), 1.5 + 0.34 * min(len(pairs), MOST_PAIRS)
    figure = Figure(figsize=(WIDE, sum(heights)), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=heights)
    _draw_architectures(above, comparison)
    _draw_differences(below, comparison, pairs)
    return figure


def _draw_architectures(axes: Axes, comparison: Any) -> None:
    """Draws the accuracy of each architecture by its cost, and the Pareto front."""
    table, measure, scale = comparison.architectures, comparison.measure, comparison.scale
    turned = comparison.is_less_better
    sign = -1 if turned else 1
    cost, label = "train_seconds", caption("training time [s]")
    if table[cost].isna().any() or comparison.runs["device"].nunique() > 1:  # seconds of two devices cannot be compared
        cost, label = "parameters", caption("trainable weights")
    points = []
    for row in table.itertuples():
        x = getattr(row, cost)
        if x is None or not np.isfinite(x):
            continue
        seeds = scale * comparison.values[row.architecture].mean(axis=1)
        axes.plot([x] * len(seeds), seeds, ".", color=GREY, alpha=0.4, markersize=5)
        mean = getattr(row, measure)
        error = [[scale * (mean - row.low)], [scale * (row.high - mean)]]
        colour = GREEN if row.pretrained else BLUE
        fill = "white" if row.seeds < FEWEST_SEEDS else colour
        axes.errorbar(
            x, scale * mean, yerr=error, fmt="o", color=colour, markerfacecolor=fill, capsize=3, linewidth=1.2
        )
        points.append(
            (
                x,
                scale * mean,
                scale * (row.high if turned else row.low),
                row.pretrained,
                row.architecture,
                row.tie_group,
            )
        )
    # The front goes through those whose mean is not below the interval of any cheaper one. Pre-trained ones have their own front.
    points.sort(key=lambda point: (point[0], -sign * point[1]))
    labels = []
    for kind in sorted({p[3] for p in points}):
        own, best = [p for p in points if p[3] == kind], []
        for point in own:
            if not any(q[0] <= point[0] and sign * (q[2] - point[1]) > 0 for q in own) and (
                not best or sign * (point[1] - best[-1][1]) > 0
            ):
                best.append(point)
        for number, point in enumerate(own if len(points) <= MOST_NAMES else best):
            text = literal(cut(point[4], 48)) + (f" ({point[5]})" if point[5] else "")
            above = 4 if number % 2 == 0 else -11  # so that labels of neighbours at the same height do not overlap
            labels.append(axes.annotate(text, point[:2], xytext=(6, above), textcoords="offset points", fontsize=SMALL))
        if len(best) > 1:
            axes.plot(
                [p[0] for p in best],
                [p[1] for p in best],
                "--",
                color=ORANGE,
                linewidth=1,
                label=caption("Pareto front"),
            )
    if table["tie_group"].any():
        axes.set_title(caption("(a), (b): those that share a letter are not separated"), fontsize="medium")
    if table["pretrained"].any():
        axes.plot([], [], "o", color=GREEN, label=caption("pre-trained"))
    if (table["seeds"] < FEWEST_SEEDS).any():
        few = caption("fewer than {n} seeds: no claim", n=FEWEST_SEEDS)
        axes.plot([], [], "o", color=BLUE, markerfacecolor="white", label=few)
    names = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))  # each label once
    if names:
        # With hundreds of points, searching for the best place takes as long as the rest of the picture.
        place = "best" if len(points) <= MOST_NAMES else "lower right"
        axes.legend(names.values(), names.keys(), fontsize="small", loc=place)
    axes.set_xscale("log")
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(_Thousands(minor_thresholds=(1.2, 0.5)))
    told = (
        "{split} {measure} [%], 95% interval; dots: seeds"
        if scale == 100
        else "{split} {measure}, 95% interval; dots: seeds"
    )
    fields = {"split": _name_split(comparison), "measure": comparison.measure_name}
    beside = "\n".join(wrap(line, 40) for line in caption(told, **fields).split("\n"))
    axes.set(xlabel=label, ylabel=literal(beside))
    axes.margins(x=0.25)
    for label in labels:  # in the right half the label is left of its point, since a long one would leave the axes
        if axes.transAxes.inverted().transform(axes.transData.transform(label.xy))[0] > 0.5:
            label.set_horizontalalignment("right")
            label.xyann = (-6, label.xyann[1])
    axes.grid(alpha=0.3)


def _draw_differences(axes: Axes, comparison: Any, pairs: pd.DataFrame) -> None:
    """Draws the first pairs, each with its interval, and the margin."""
    of = {"images": comparison.images, "split": _name_split(comparison), "shown": MOST_PAIRS, "n": len(pairs)}
    told = (
        "{images:,} {split} images"
        if len(pairs) <= MOST_PAIRS
        else "first {shown} of {n} pairs, {images:,} {split} images"
    )
    below = caption(told, **of)
    pairs = pairs.head(MOST_PAIRS)
    margin = comparison.margin
    told = "margin: {margin:g}"
    if comparison.scale == 100:
        told = "margin: {margin:g} point" if margin == 1 else "margin: {margin:g} points"
    axes.axvspan(-margin, margin, color=GREY, alpha=0.15, linewidth=0, label=caption(told, margin=margin))
    axes.axvline(0, color=GREY, linewidth=0.8)
    for at, row in enumerate(pairs.itertuples()):
        colour = ORANGE if row.p_holm < 0.05 else GREY
        error = comparison.scale * np.array([[row.difference - row.low], [row.high - row.difference]])
        axes.errorbar(
            comparison.scale * row.difference, at, xerr=error, fmt="o", color=colour, capsize=3, linewidth=1.4
        )
    told = "{first}  minus\n{second}"
    names = [literal(caption(told, first=cut(row.first, 60), second=cut(row.second, 60))) for row in pairs.itertuples()]
    axes.set_yticks(range(len(pairs)), names, fontsize=SMALL)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    told = "difference in {measure}, separate 95% interval for each\norange: separated, all pairs considered (Holm)"
    if comparison.scale == 100:
        told = "difference in {measure} [points], separate 95% interval for each\norange: separated, all pairs considered (Holm)"
    axes.set_xlabel(literal(caption(told, measure=comparison.measure_name)))
    kind = caption("architectures" if len(comparison.pairs) else "trained models: no claim about architectures")
    axes.set_title(f"{kind}\n{below}", fontsize="medium")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3, axis="x")


def _name_split(comparison: Any) -> Sentence:
    return Sentence({"val": "validation", "test": "test"}[comparison.split])
