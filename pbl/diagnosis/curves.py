"""Learning curves: loss, accuracy, gap and learning rate by epoch."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pbl.diagnosis.signals import Signals
from pbl.reports.drawing import BLUE, GREEN, GREY, ORANGE, WIDE, caption, literal, set_heading
from pbl.statistics import wilson_interval

NOT_CURVES = ("epoch", "seconds", "learning_rate", "images_per_second", "data_share")


def plot_history(history: pd.DataFrame, best_epoch: int | None = None, title: str | None = None) -> Figure:
    """Draws everything that Keras logged by epoch, for a model that is not a classifier: one panel for each quantity, with validation in the same panel.

    Args:
        history: Columns `epoch` (from 1), and a column for each quantity, as in `history.csv`; `val_x` belongs to `x`, and `x_low` and
            `x_high` are its interval.
        best_epoch: The epoch to mark: the one whose model was kept.
        title: The heading; by default "Learning curves" in the reader's language.
    """
    logged = dict.fromkeys(name.removeprefix("val_") for name in history if name not in NOT_CURVES)
    banded = [name for name in logged if {f"{name}_low", f"{name}_high"} <= set(logged)]
    names = [name for name in logged if name.rpartition("_")[0] not in banded]
    columns = min(2, max(1, len(names)))  # half of a picture would be empty beside a single quantity
    rows = max(1, -(-len(names) // columns))
    figure = Figure(figsize=(WIDE if columns == 2 else 5.6, 3.1 * rows), layout="constrained")
    set_heading(figure, caption("Learning curves") if title is None else title)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        for column, label, colour in (
            (name, caption("training"), GREY),
            (f"val_{name}", caption("validation"), ORANGE),
        ):
            if column in history:
                axes.plot(history["epoch"], history[column], color=colour, marker=".", label=label)
        if name in banded:  # a difference between the two sides belongs to neither
            axes.lines[0].set_label(caption("training minus validation") if name == "gap" else None)
            ends = (history[f"{name}_{end}"] for end in ("low", "high"))
            axes.fill_between(history["epoch"], *ends, color=GREY, alpha=0.2, label=caption("95% interval"))
            axes.axhline(0, color=GREY, linewidth=0.8)
        if best_epoch is not None:
            axes.axvline(best_epoch, color=GREEN, linestyle=":", label=caption("kept: epoch {epoch}", epoch=best_epoch))
        shown = {
            "loss": caption("loss"), "accuracy": caption("accuracy"), "f1": caption("F1"), "dice": caption("Dice"), "map50": caption("mAP50"),
            "kid": caption("KID x 1000"), "probe_dice": caption("Dice, after the epoch"), "probe_map50": caption("mAP50, after the epoch"),
            "gap": caption("gap"),
        }.get(name, name)  # fmt: skip
        axes.set(xlabel=caption("epoch"), ylabel=literal(shown))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


def plot_learning_curves(
    history: pd.DataFrame,
    best_epoch: int | None = None,
    title: str | None = None,
    fine_tune_from_epoch: int | None = None,
    signals: Signals | None = None,
    is_cross_entropy: bool = True,
) -> Figure:
    """Draws loss and accuracy by epoch; with signals also the gap between training and validation, and the learning rate.

    The thick lines are the probe and validation. Both are measured in the same way: on fixed images, after the epoch, without dropout or
    augmentation. The bands are 95% intervals (Wilson's; for the gap Newcombe's). The last point of the gap is measured on the
    larger samples at the end of training. The thin grey line is what Keras logged in training: a mean over an epoch in which the
    weights changed, with dropout and augmentation, so it may be on the other side of validation.

    Args:
        history: Columns `epoch` (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`, as in `history.csv`.
        best_epoch: The epoch to mark: the one whose model was kept.
        title: The heading; by default "Learning curves" in the reader's language.
        fine_tune_from_epoch: The first epoch of fine-tuning; a line is drawn before it.
        signals: What `OverfittingMonitor` measured, from epoch 0, before training.
        is_cross_entropy: Whether the training loss is the cross-entropy itself. With label smoothing or mean squared error the numbers
            are different: with signals they are left out, without signals they are called "loss".
    """
    if signals is not None and len(signals.probe.loss) < 2:  # of no epoch yet
        signals = None
    figure = Figure(figsize=(WIDE, 4 if signals is None else 6.2), layout="constrained")
    set_heading(figure, caption("Learning curves") if title is None else title)
    if signals is not None:
        (loss, accuracy), (gap, rate) = figure.subplots(2, 2, height_ratios=(2.6, 1), sharex=True)
    else:
        loss, accuracy = figure.subplots(1, 2)
    few = "." if len(history) < 3 else None  # a line through one point is invisible
    is_nats = is_cross_entropy or signals is not None
    for axes, name, label in (
        (loss, "loss", caption("cross-entropy loss [nats]") if is_nats else caption("loss")),
        (accuracy, "accuracy", caption("accuracy [share of images]")),
    ):
        if name == "accuracy" or is_cross_entropy or signals is None:
            axes.plot(
                history["epoch"],
                history[name],
                color=GREY,
                linewidth=1,
                marker=few,
                label=caption("Keras's training log (mean during the epoch)"),
            )
        if signals is not None:
            _draw_sides(axes, signals, name)
        else:
            axes.plot(
                history["epoch"],
                history[f"val_{name}"],
                color=ORANGE,
                linewidth=2,
                marker=few,
                label=caption("validation (after the epoch)"),
            )
        axes.set(ylabel=label, title=caption("loss") if name == "loss" else caption("accuracy"))
    loss.set_ylim(bottom=0)
    if signals is not None:
        _scale_loss(loss, signals)
        _draw_gap(gap, signals)
        rate.plot(history["epoch"], history["learning_rate"], color=GREY, linewidth=1.5, marker=few)
        rate.set(ylabel=caption("learning rate"), yscale="log" if (history["learning_rate"] > 0).all() else "linear")
    for axes in figure.axes:
        if best_epoch is not None and (history["epoch"] == best_epoch).any():
            axes.axvline(best_epoch, color=GREEN, linestyle=":", linewidth=1.2)
        if fine_tune_from_epoch:
            axes.axvline(fine_tune_from_epoch - 0.5, color=GREY, linestyle="--", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        best = history.loc[history["epoch"] == best_epoch, f"val_{name}"]
        if len(best):
            told, value = "kept: epoch {epoch}, accuracy {value:.4f}", best.item()
            if name == "loss":
                told = "kept: epoch {epoch}, loss {value:.4f} (lowest)"
            if name == "loss" and signals is not None and not is_cross_entropy:
                places = [place for place, row in enumerate(signals.epochs) if row["epoch"] == best_epoch]
                value = float(signals.val.loss[places[-1]].astype(float).mean()) if places else np.nan
                told = (
                    "kept: epoch {epoch}"  # the lowest value of the training's own loss, which may be at another epoch
                )
            axes.plot(best_epoch, value, "o", color=GREEN, label=caption(told, epoch=best_epoch, value=value))
        if fine_tune_from_epoch:
            axes.plot([], [], color=GREY, linestyle="--", linewidth=1, label=caption("fine-tuning begins"))
    for axes in (loss, accuracy) if signals is None else (gap, rate):
        axes.set_xlabel(caption("epoch") if signals is None else caption("epoch (0: before training)"))
    # One legend below both, each label once: inside the axes it would cover curves.
    entries = {
        label: line for axes in (loss, accuracy) for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(entries.values(), entries.keys(), fontsize="small", loc="outside lower center", ncols=2)
    return figure


def plot_progress(signals: Signals) -> Figure:
    """Draws loss, accuracy and gap of the epochs so far, side by side: small and quick to draw, for a notebook."""
    figure = Figure(figsize=(11, 3), dpi=72)
    loss, accuracy, gap = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.05, right=0.99, bottom=0.16, top=0.88, wspace=0.18)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        _draw_sides(axes, signals, name)
        axes.set_title(caption("loss") if name == "loss" else caption("accuracy"), fontsize="medium")
    _scale_loss(loss, signals)
    loss.legend(fontsize="x-small")
    _draw_gap(gap, signals)
    gap.set_ylabel("")
    gap.set_title(caption("gap [points]"), fontsize="medium")
    for axes in figure.axes:
        axes.set_xlabel(caption("epoch (0: before training)"), fontsize="small")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    return figure


def _draw_sides(axes: Axes, signals: Signals, name: str) -> None:
    """Draws loss or accuracy of the probe and of validation, from epoch 0 on."""
    epochs = [row["epoch"] for row in signals.epochs]
    known, new = len(signals.probe.labels), len(signals.val.labels)
    is_all = known == sum(signals.about.get("train_counts", []))
    told = (
        "training, all {n:,} images, after the epoch"
        if is_all
        else "training images (probe), {n:,} images, after the epoch"
    )
    for label, side, colour in (
        (caption(told, n=known), signals.probe, BLUE),
        (caption("validation, {n:,} images, after the epoch", n=new), signals.val, ORANGE),
    ):
        n = len(side.labels)
        if not n:
            continue
        if name == "loss":
            axes.plot(epochs, side.loss.astype(float).mean(axis=1), color=colour, linewidth=2, label=label)
            continue
        right = side.correct.sum(axis=1)
        axes.plot(epochs, right / n, color=colour, linewidth=2, label=label)
        low, high = np.transpose([wilson_interval(int(count), n) for count in right])
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _scale_loss(axes: Axes, signals: Signals) -> None:
    """Makes the axis logarithmic if a linear one would flatten all but the first epochs; no curve is cut off."""
    sides = [side.loss.astype(float).mean(axis=1) for side in (signals.probe, signals.val) if len(side.labels)]
    known = np.concatenate(sides)
    known = known[np.isfinite(known)]
    if len(known) and known.max() > 30 * max(sides[-1][np.isfinite(sides[-1])].min(initial=np.inf), 1e-9):
        axes.set(yscale="log", ylim=(max(1e-9, known[known > 0].min(initial=1.0) / 1.5), 1.5 * known.max()))


def _draw_gap(axes: Axes, signals: Signals) -> None:
    rows = pd.DataFrame(signals.epochs)
    axes.axhline(0, color=GREY, linewidth=0.8)
    if "gap" in rows:
        axes.plot(rows["epoch"], 100 * rows["gap"], color=BLUE, linewidth=2)
        axes.fill_between(
            rows["epoch"], 100 * rows["gap_low"], 100 * rows["gap_high"], color=BLUE, alpha=0.15, linewidth=0
        )
    if signals.has_end and signals.end["val_images"]:
        value, low, high = (100 * number for number in signals.gap)
        label = caption("on {probe_images:,} and {val_images:,} images", **signals.end)
        error = [[value - low], [high - value]]
        axes.errorbar([signals.end["epoch"]], [value], yerr=error, fmt="o", color=BLUE, capsize=3, label=label)
        axes.legend(fontsize="small")
    axes.set(ylabel=caption("gap [points]"), title=caption("accuracy: training images minus validation, 95% interval"))
    axes.title.set_fontsize("medium")
