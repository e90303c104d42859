"""The figures of trials before a training: loss by learning rate, accuracy by number of images."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.reports.drawing import BLUE, GREY, ORANGE, caption, literal


def plot_learning_rates(table: pd.DataFrame, suggestion: float | None, title: str) -> Figure:
    """Draws the loss by learning rate, as `find_learning_rate` of `pbl.training.trials` measured it.

    Args:
        table: Columns `learning_rate`, `loss` and `smoothed`.
        suggestion: The rate to mark.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(literal(title))
    axes.plot(table["learning_rate"], table["loss"], color=GREY, linewidth=0.6, label=caption("loss of each batch"))
    axes.plot(table["learning_rate"], table["smoothed"], color=ORANGE, linewidth=2, label=caption("smoothed"))
    finite = table["smoothed"][np.isfinite(table["smoothed"])]
    if len(finite):
        first, lowest = finite.iloc[: max(1, len(finite) // 2)].max(), finite.min()
        axes.set_ylim(lowest - 0.1 * (first - lowest + 0.1), first + 0.5 * (first - lowest + 0.1))
    if suggestion is not None:
        lowest_at = table["learning_rate"][table["smoothed"].idxmin()]
        axes.axvline(
            lowest_at,
            color=GREY,
            linestyle=":",
            linewidth=1.2,
            label=caption("rate of the lowest smoothed loss: {rate:.2g}", rate=lowest_at),
        )
        axes.axvline(
            suggestion,
            color=BLUE,
            linestyle="--",
            linewidth=1.5,
            label=caption("suggested rate, a tenth of it: {rate:g}", rate=suggestion),
        )
    axes.set_xscale("log")
    axes.set_xlabel(caption("learning rate, higher at each step"))
    axes.set_ylabel(caption("loss"))
    axes.legend(fontsize=8)
    return figure


def plot_data_size(table: pd.DataFrame, expected: float, low: float, high: float, title: str) -> Figure:
    """Draws accuracy by number of training images, and the accuracy predicted for twice as many.

    Args:
        table: Columns `images` and `val_accuracy`, one row for each run.
        expected, low, high: The predicted accuracy, and the bounds of its 95% interval.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(literal(title))
    means = table.groupby("images")["val_accuracy"].mean()
    axes.plot(table["images"], table["val_accuracy"], ".", color=GREY, label=caption("runs"))
    axes.plot(means.index, means, color=ORANGE, linewidth=2, marker="o", label=caption("mean over seeds"))
    most = int(means.index[-1])
    axes.plot([most, 2 * most], [means.iloc[-1], expected], "--", color=BLUE, linewidth=1.5)
    error = [[max(0.0, expected - low)], [max(0.0, high - expected)]]
    label = caption("predicted for twice as many, with its 95% interval")
    axes.errorbar([2 * most], [expected], yerr=error, fmt="o", color=BLUE, capsize=4, label=label)
    axes.set_xscale("log", base=2)
    axes.set_xticks([*means.index, 2 * most], [f"{count:,}" for count in (*means.index, 2 * most)])
    axes.set_xlabel(caption("training images"))
    axes.set_ylabel(caption("validation accuracy [share of images]"))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure
