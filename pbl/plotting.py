"""Pictures of a run, by matplotlib: each function returns a `Figure`, which a notebook shows and a run saves."""

import functools
import importlib.util
import sys
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import font_manager, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from pbl.diagnosis.signals import Signals
from pbl.evaluation.calibration import compute_calibration_error, find_bins
from pbl.languages import say
from pbl.statistics import FEWEST_SEEDS, wilson_interval

# Okabe and Ito's colours: told apart by the colour-blind, and in grey print by their lightness.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#595959"
MOST_FILTERS = 64
MOST_PAIRS = 15  # of a comparison
MOST_NAMES = 30  # of more architectures those on the front are named

JAPANESE_FONTS = (
    "Noto Sans CJK JP", "Noto Sans JP", "IPAexGothic", "IPAPGothic", "TakaoPGothic", "VL Gothic", "Hiragino Sans", "Yu Gothic",
    "Meiryo", "BIZ UDGothic", "MS Gothic",
)  # fmt: skip
JAPANESE_FONT_FILES = ("NotoSansCJK-Regular", "ipaexg", "ipagp", "TakaoPGothic")


@functools.cache
def use_japanese_font() -> str | None:
    """Lets matplotlib take letters that its own font lacks from a Japanese one, and returns its name.

    A font that is installed, or the one that the package matplotlib-fontja brings; None where there is neither.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    name = next((name for name in JAPANESE_FONTS if name in installed), None)
    if name is None:
        # What was installed after matplotlib made its list is not in it.
        files = [file for file in map(Path, font_manager.findSystemFonts()) if file.stem in JAPANESE_FONT_FILES]
        brought = importlib.util.find_spec("matplotlib_fontja")  # found, not imported: that would change all figures
        if brought is not None and brought.origin:
            files += sorted(Path(brought.origin).parent.rglob("*.ttf"))
        if files:
            font_manager.fontManager.addfont(files[0])
            name = font_manager.get_font(files[0]).family_name
    if name is not None and name not in rcParams["font.family"]:
        rcParams["font.family"] = [*rcParams["font.family"], name]
    return name


use_japanese_font()  # before any text is made: a text keeps the fonts that there were


@functools.cache
def _tell_of_missing_letters() -> None:
    warnings.filterwarnings("ignore", message="Glyph .* missing from")  # which matplotlib would say of each letter
    print(
        say(
            "No font here has Japanese letters: they are boxes in the figures. pip install matplotlib-fontja, or on Debian and"
            " Colab: apt-get install fonts-noto-cjk; then start Python again."
        ),
        file=sys.stderr,
    )


def plot_learning_curves(
    history: pd.DataFrame,
    best_epoch: int | None = None,
    title: str = "Learning curves",
    fine_tune_from_epoch: int | None = None,
    signals: Signals | None = None,
) -> Figure:
    """Draws loss and accuracy by epoch, and with signals the gap between training and validation and the learning rate.

    Solid stand the probe and validation, measured alike: fixed images, after the epoch, without dropout or augmentation; with
    their 95% intervals (Wilson; of the gap Newcombe). The gap's last point is of the images looked at in the end. Thin and grey
    stands what Keras logs of training: a mean over an epoch in which the weights changed, under dropout and augmentation, so
    that it may lie on the other side of validation.

    Args:
        history: Columns `epoch` (from 1), `loss`, `accuracy`, `val_loss`, `val_accuracy`, as in `history.csv`.
        best_epoch: The epoch to mark: the one whose model was kept.
        title: The heading.
        fine_tune_from_epoch: The first epoch of fine-tuning, before which a line is drawn.
        signals: What `OverfittingMonitor` measured; they begin at epoch 0, before training.
    """
    has_signals = signals is not None and len(signals.probe.loss) > 1
    figure = Figure(figsize=(10, 6.4 if has_signals else 4.2), layout="constrained")
    figure.suptitle(_literal(title))
    if has_signals:
        (loss, accuracy), (gap, rate) = figure.subplots(2, 2, height_ratios=(2.6, 1), sharex=True)
    else:
        loss, accuracy = figure.subplots(1, 2)
    few = "." if len(history) < 3 else None  # single points would be invisible as a line
    for axes, name, label in (
        (loss, "loss", "cross-entropy loss [nats]"),
        (accuracy, "accuracy", "accuracy [share of images]"),
    ):
        axes.plot(
            history["epoch"], history[name], color=GREY, linewidth=1, marker=few,
            label="Keras's training log (mean while learning)",
        )  # fmt: skip
        if has_signals:
            _draw_sides(axes, signals, name)
        else:
            axes.plot(
                history["epoch"], history[f"val_{name}"], color=ORANGE, linewidth=2, marker=few,
                label="validation (after the epoch)",
            )  # fmt: skip
        axes.set(ylabel=label, title=name)
    loss.set_ylim(bottom=0)
    if has_signals:
        _scale_loss(loss, signals)
        _draw_gap(gap, signals)
        rate.plot(history["epoch"], history["learning_rate"], color=GREY, linewidth=1.5, marker=few)
        rate.set(ylabel="learning rate", yscale="log" if (history["learning_rate"] > 0).any() else "linear")
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
            label = f"best epoch {best_epoch} (lowest validation loss): {best.item():.4f}"
            axes.plot(best_epoch, best.item(), "o", color=GREEN, label=label)
        if fine_tune_from_epoch:
            axes.plot([], [], color=GREY, linestyle="--", linewidth=1, label="fine-tuning begins")
        axes.legend(fontsize="small")
    for axes in (gap, rate) if has_signals else (loss, accuracy):
        axes.set_xlabel("epoch (0: before training)" if has_signals else "epoch")
    return figure


def _draw_sides(axes: Axes, signals: Signals, name: str) -> None:
    """Loss or accuracy of the probe and of validation, from before training on."""
    epochs = [row["epoch"] for row in signals.epochs]
    sides = (("training images (probe)", signals.probe, BLUE), ("validation", signals.val, ORANGE))
    for label, side, colour in sides:
        n = len(side.labels)
        if not n:
            continue
        label = f"{label}, {n:,} images, after the epoch"
        if name == "loss":
            axes.plot(epochs, side.loss.astype(float).mean(axis=1), color=colour, linewidth=2, label=label)
            continue
        right = side.correct.sum(axis=1)
        axes.plot(epochs, right / n, color=colour, linewidth=2, label=label)
        low, high = np.transpose([wilson_interval(int(count), n) for count in right])
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)


def _scale_loss(axes: Axes, signals: Signals) -> None:
    """Logarithmic, where on a plain axis all but the first epochs would lie flat; below a thousandth nothing is shown."""
    sides = [side.loss.astype(float).mean(axis=1) for side in (signals.probe, signals.val) if len(side.labels)]
    known = np.concatenate(sides)
    known = known[np.isfinite(known)]
    if len(known) and known.max() > 30 * max(sides[-1][np.isfinite(sides[-1])].min(initial=np.inf), 1e-9):
        axes.set(yscale="log", ylim=(max(1e-3, known.min() / 1.5), 1.5 * known.max()))


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
        label = "of {probe_images:,} and {val_images:,} images".format(**signals.end)
        error = [[value - low], [high - value]]
        axes.errorbar([signals.end["epoch"]], [value], yerr=error, fmt="o", color=BLUE, capsize=3, label=label)
        axes.legend(fontsize="small")
    axes.set(ylabel="gap [points]", title="accuracy: training images minus validation, 95% interval")
    axes.title.set_fontsize("medium")


def plot_data_size(table: pd.DataFrame, expected: float, low: float, high: float, title: str) -> Figure:
    """Draws accuracy by number of training images, and what one doubling more lets expect.

    Args:
        table: Columns `images` and `val_accuracy`, a row a run.
        expected, low, high: Of twice as many images as the most: accuracy and its 95% interval.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_literal(title))
    means = table.groupby("images")["val_accuracy"].mean()
    axes.plot(table["images"], table["val_accuracy"], ".", color=GREY, label="runs")
    axes.plot(means.index, means, color=ORANGE, linewidth=2, marker="o", label="mean over seeds")
    most = int(means.index[-1])
    axes.plot([most, 2 * most], [means.iloc[-1], expected], "--", color=BLUE, linewidth=1.5)
    error = [[max(0.0, expected - low)], [max(0.0, high - expected)]]
    axes.errorbar(
        [2 * most], [expected], yerr=error, fmt="o", color=BLUE, capsize=4, label="one doubling more, foretold (95%)"
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks([*means.index, 2 * most], [f"{count:,}" for count in (*means.index, 2 * most)])
    axes.set_xlabel("training images")
    axes.set_ylabel("validation accuracy [share of images]")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def plot_gains(
    labels: Sequence[str],
    gains: Sequence[tuple[float, float, float]],
    title: str,
    axis: str,
    is_open: Sequence[bool],
    remark: str = "",
    most: int = 40,
) -> Figure:
    """Draws what each run gained or lost against the run that it came from, the first on top.

    Blue where the interval lies above 0, orange where it lies below, grey where it contains 0.

    Args:
        labels: What each run is, and what it changed.
        gains: Of each, the difference of the two accuracies, a share, and its interval's lower and upper bound.
        title: The heading.
        axis: What the numbers are.
        is_open: Of each, whether it is drawn as an open circle.
        remark: Stands below.
        most: So many are drawn, the last.
    """
    shown = list(zip(labels, gains, is_open, strict=True))[-most:]
    texts = [_literal(_wrap(label, 56, 3)) for label, *_ in shown]
    lines = sum(max(2, text.count("\n") + 1) for text in texts)
    figure = Figure(figsize=(10, 1.5 + 0.17 * max(lines, 4)), layout="constrained")
    axes = figure.subplots()
    title = _literal(title)
    axes.set_title(title if len(labels) <= most else f"{title} (the last {most} of {len(labels)})")
    axes.axvline(0, color=GREY, linewidth=1)
    for row, (_, (difference, low, high), is_hollow) in enumerate(shown):
        colour = BLUE if low > 0 else ORANGE if high < 0 else GREY
        axes.plot([100 * low, 100 * high], [row, row], color=colour, linewidth=2)
        axes.plot(100 * difference, row, "o", color=colour, markerfacecolor="white" if is_hollow else colour)
    axes.set_yticks(range(len(shown)), texts, fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    figure.supxlabel("\n".join(_literal(_wrap(line, 116)) for line in (axis, remark)), fontsize=9)
    axes.grid(alpha=0.3, axis="x")
    return figure


def plot_learning_rates(table: pd.DataFrame, suggestion: float | None, title: str) -> Figure:
    """Draws the loss by learning rate, as `pbl.training.trials.find_learning_rate` saw it.

    Args:
        table: Columns `learning_rate`, `loss` and `smoothed`.
        suggestion: The rate to mark.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_literal(title))
    axes.plot(table["learning_rate"], table["loss"], color=GREY, linewidth=0.6, label="loss of each batch")
    axes.plot(table["learning_rate"], table["smoothed"], color=ORANGE, linewidth=2, label="smoothed")
    finite = table["smoothed"][np.isfinite(table["smoothed"])]
    if len(finite):
        first, lowest = finite.iloc[: max(1, len(finite) // 2)].max(), finite.min()
        axes.set_ylim(lowest - 0.1 * (first - lowest + 0.1), first + 0.5 * (first - lowest + 0.1))
    if suggestion is not None:
        lowest_at = table["learning_rate"][table["smoothed"].idxmin()]
        axes.axvline(
            lowest_at, color=GREY, linestyle=":", linewidth=1.2, label=f"lowest smoothed loss: {lowest_at:.2g}"
        )
        axes.axvline(
            suggestion, color=BLUE, linestyle="--", linewidth=1.5, label=f"suggested, a tenth of it: {suggestion:g}"
        )
    axes.set_xscale("log")
    axes.set_xlabel("learning rate, higher at each step")
    axes.set_ylabel("cross-entropy loss [nats]")
    axes.legend(fontsize=8)
    return figure


def plot_confusion_matrix(
    matrix: Sequence[Sequence[int]], class_names: Sequence[str], title: str = "Confusion matrix"
) -> Figure:
    """Draws a confusion matrix: rows true classes, columns predicted ones, counts, coloured by the share of the row.

    Args:
        matrix: `int [classes, classes]`.
        class_names: Name of each class.
        title: The heading.
    """
    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    class_names, title = [_literal(name) for name in class_names], _literal(title)
    n = len(class_names)
    side = min(max(4.5, 0.5 * n + 2.5), 24)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class's images", shrink=0.8)
    upright = max(map(len, class_names)) > 3 and n > 2
    axes.set_xticks(range(n), class_names, rotation=45 if upright else 0, ha="right" if upright else "center")
    axes.set_yticks(range(n), class_names)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(textwrap.fill(title, round(9 * side)), fontsize="medium")
    if n <= 40:
        for row, column in np.ndindex(n, n):
            if counts[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(
                    column,
                    row,
                    counts[row, column],
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8 if n > 10 else 10,
                )
    return figure


def plot_reliability(confidence: np.ndarray, correct: np.ndarray, mended: np.ndarray | None, title: str) -> Figure:
    """Draws how often a model is right against how sure it is, in bins of equally many images, and how many are how sure.

    Args:
        confidence: `float [n]`, the probability of the predicted class.
        correct: `bool [n]`.
        mended: The same after temperature scaling, or None.
        title: The heading.
    """
    figure = Figure(figsize=(5.6, 6.2), layout="constrained")
    axes, below = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    axes.set_title(_literal(title), fontsize="medium")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    kinds = [(confidence, ORANGE, "o", "as trained")]
    kinds += [(mended, BLUE, "s", "after temperature scaling")] if mended is not None else []
    for sure, colour, marker, name in kinds:
        bin_of = find_bins(sure)
        groups = [(sure[bin_of == b].mean(), correct[bin_of == b]) for b in range(bin_of.max() + 1)]
        x, share = [at for at, _ in groups], [right.mean() for _, right in groups]
        bounds = [wilson_interval(int(right.sum()), len(right)) for _, right in groups]
        error = np.clip([[p - low, high - p] for p, (low, high) in zip(share, bounds, strict=True)], 0, None).T
        ece = compute_calibration_error(sure, correct)
        label = f"{name}: ECE {ece[0]:.3f} (calibrated: {ece[1]:.3f}, to {ece[2]:.3f})"
        axes.errorbar(x, share, yerr=error, fmt=marker, color=colour, capsize=2, linewidth=1, markersize=5, label=label)
        below.hist(sure, bins=np.linspace(0, 1, 21), histtype="step", color=colour, linewidth=1.5)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="right [share of images], 95% interval")
    axes.legend(fontsize="small")
    below.set(xlabel="confidence: probability of the predicted class", ylabel="images")
    for each in (axes, below):
        each.grid(alpha=0.3)
    return figure


def plot_precision_recall(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], title: str, positive: int | None = None
) -> Figure:
    """Draws precision against recall, of one class against the rest: the curve for rare classes (Saito, Rehmsmeier 2015).

    Args:
        labels: `int [n]`.
        probabilities: `float [n, classes]`.
        class_names: Name of each class.
        title: The heading.
        positive: Of two classes, the one to draw; else every class, the three hardest in colour.
    """

    def curve(is_of_class: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        precision, recall, _ = _sklearn_metrics().precision_recall_curve(is_of_class, scores)
        return recall, precision, _sklearn_metrics().average_precision_score(is_of_class, scores)

    figure, axes = _draw_one_against_rest(
        labels, probabilities, class_names, title, positive, curve, "average precision"
    )
    axes.set(xlabel="recall: found, of the class's images", ylabel="precision: right, of those called so")
    if positive is not None:
        share = float((labels == positive).mean())
        axes.axhline(share, color=GREY, linewidth=1, linestyle="--", label=f"guessing: {share:.2f}")
    axes.legend(fontsize="small", loc="lower left")
    return figure


def plot_roc(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], title: str, positive: int | None = None
) -> Figure:
    """Draws the true against the false positive rate, of one class against the rest; arguments as `plot_precision_recall`."""

    def curve(is_of_class: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        false_rate, true_rate, _ = _sklearn_metrics().roc_curve(is_of_class, scores)
        return false_rate, true_rate, _sklearn_metrics().roc_auc_score(is_of_class, scores)

    figure, axes = _draw_one_against_rest(labels, probabilities, class_names, title, positive, curve, "area")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="guessing: 0.50")
    axes.set(xlabel="false positives, of the other classes' images", ylabel="true positives, of the class's images")
    axes.legend(fontsize="small", loc="lower right")
    return figure


def _sklearn_metrics() -> Any:
    """scikit-learn's metrics, imported when a curve is drawn: it takes a second."""
    from sklearn import metrics

    return metrics


def _draw_one_against_rest(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], title: str, positive: int | None,
    curve: Callable, area: str,
) -> tuple[Figure, Axes]:  # fmt: skip
    figure = Figure(figsize=(5.6, 5.2), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_literal(title), fontsize="medium")
    classes = range(len(class_names)) if positive is None else [positive]
    curves = {
        c: curve(labels == c, probabilities[:, c]) for c in classes if (labels == c).any() and (labels != c).any()
    }
    hardest = sorted(curves, key=lambda c: curves[c][2])[:3]
    for c in sorted(curves, key=lambda c: c in hardest):  # the coloured ones last, so above
        x, y, value = curves[c]
        if c not in hardest:
            axes.plot(x, y, color=GREY, linewidth=0.7, alpha=0.6, drawstyle="steps-post")
            continue
        colour = (ORANGE, BLUE, GREEN)[hardest.index(c)]
        axes.plot(
            x, y, color=colour, linewidth=1.8, drawstyle="steps-post",
            label=f"{_literal(_keep_start(class_names[c], 24))}: {area} {value:.3f}",
        )  # fmt: skip
    if len(curves) > 3:
        mean = np.mean([value for _, _, value in curves.values()])
        axes.plot([], [], color=GREY, linewidth=0.7, label=f"other classes; mean {area} of all {mean:.3f}")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02))
    axes.grid(alpha=0.3)
    return figure, axes


def plot_thresholds(
    table: pd.DataFrame, chosen: float | None, interval: tuple[float, float] | None, aim: str, title: str
) -> Figure:
    """Draws precision, recall, F1 and cost against the threshold, with the one that validation images chose and 0.5.

    Args:
        table: As `pbl.evaluation.thresholds.tabulate_thresholds` gives it.
        chosen: The threshold chosen on validation, or None.
        interval: Its 95% bootstrap interval, or None.
        aim: What it was chosen for, in words.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_title(_literal(title), fontsize="medium")
    lines = (("precision", BLUE, "-"), ("recall", ORANGE, "-"), ("f1", GREEN, "-"))
    if aim.startswith("cost"):
        lines = (*lines, ("cost", GREY, "-."))
    if aim == "youden":
        lines = (*lines, ("youden", GREY, "-."))
    table = table.iloc[1:]  # above all scores nothing is called positive
    for name, colour, style in lines:
        axes.plot(
            table["threshold"], table[name], color=colour, linestyle=style, linewidth=1.8,
            label={"f1": "F1", "cost": "cost of a mean image", "youden": "Youden's J"}.get(name, name),
        )  # fmt: skip
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=":", label="0.5")
    if interval is not None:
        axes.axvspan(*interval, color=GREY, alpha=0.15, linewidth=0, label="95% interval of the chosen threshold")
    if chosen is not None:
        axes.axvline(
            chosen, color="black", linewidth=1.3, linestyle="--", label=f"chosen on validation for {aim}: {chosen:.2f}"
        )
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="threshold on the probability of the positive class")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def plot_comparison(comparison: Any) -> Figure:
    """Draws accuracy against training time or weights, and the differences between architectures with the margin shaded.

    Args:
        comparison: A `pbl.comparison.Comparison`.
    """
    table, pairs = comparison.architectures, comparison.pairs
    if not len(pairs):
        pairs = comparison.models
    shown = f"first {MOST_PAIRS} of {len(pairs)} pairs, " if len(pairs) > MOST_PAIRS else ""
    pairs = pairs.head(MOST_PAIRS)
    height = 1.6 + 0.34 * max(len(pairs), min(len(table), MOST_NAMES))
    figure = Figure(figsize=(12, max(4.6, height)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    cost, label = "train_seconds", "training time [s]"
    if table[cost].isna().any() or comparison.runs["device"].nunique() > 1:  # seconds of two devices do not compare
        cost, label = "parameters", "trainable weights"
    points = []
    for row, (_, one) in zip(table.itertuples(), table.iterrows(), strict=True):
        x = one[cost]
        if x is None or not np.isfinite(x):
            continue
        seeds = 100 * comparison.correct[row.architecture].mean(axis=1)
        left.plot([x] * len(seeds), seeds, ".", color=GREY, alpha=0.4, markersize=5)
        error = [[100 * (row.accuracy - row.low)], [100 * (row.high - row.accuracy)]]
        colour = GREEN if row.pretrained else BLUE
        fill = "white" if row.seeds < FEWEST_SEEDS else colour
        left.errorbar(
            x, 100 * row.accuracy, yerr=error, fmt="o", color=colour, markerfacecolor=fill, capsize=3, linewidth=1.2
        )
        points.append((x, 100 * row.accuracy, 100 * row.low, row.pretrained, row.architecture, row.tie_group))
    # A front only through those that none cheaper beats for sure: whose mean no cheaper one's interval lies above. Pre-trained
    # ones have one of their own.
    points.sort(key=lambda point: (point[0], -point[1]))
    for kind in sorted({p[3] for p in points}):
        own, best = [p for p in points if p[3] == kind], []
        for point in own:
            if not any(q[0] <= point[0] and q[2] > point[1] for q in own) and (not best or point[1] > best[-1][1]):
                best.append(point)
        for number, point in enumerate(own if len(points) <= MOST_NAMES else best):
            text = _literal(_cut(point[4], 34)) + (f" ({point[5]})" if point[5] else "")
            above = 4 if number % 2 == 0 else -11  # neighbours of one height do not meet
            left.annotate(text, point[:2], xytext=(6, above), textcoords="offset points", fontsize=8)
        if len(best) > 1:
            left.plot([p[0] for p in best], [p[1] for p in best], "--", color=ORANGE, linewidth=1, label="Pareto front")
    if table["tie_group"].any():
        left.set_title("(a), (b): those that share a letter are not separated", fontsize=9)
    if table["pretrained"].any():
        left.plot([], [], "o", color=GREEN, label="pre-trained")
    if (table["seeds"] < FEWEST_SEEDS).any():
        left.plot([], [], "o", color=BLUE, markerfacecolor="white", label=f"fewer than {FEWEST_SEEDS} seeds: no claim")
    names = dict(zip(*left.get_legend_handles_labels()[::-1], strict=True))  # each once
    if names:
        # Looking for the best place costs as much as all else of the picture where there are hundreds of points.
        left.legend(
            names.values(), names.keys(), fontsize="small", loc="best" if len(points) <= MOST_NAMES else "lower right"
        )
    left.set_xscale("log")
    for axis in (left.xaxis.set_major_formatter, left.xaxis.set_minor_formatter):
        axis(LogFormatter(minor_thresholds=(1.2, 0.5)))
    left.set(xlabel=label, ylabel=f"{comparison.split} accuracy [%], 95% interval; dots: seeds")
    left.margins(x=0.25)
    left.grid(alpha=0.3)
    right.axvspan(
        -comparison.margin,
        comparison.margin,
        color=GREY,
        alpha=0.15,
        linewidth=0,
        label=f"margin: {comparison.margin:g} points",
    )
    right.axvline(0, color=GREY, linewidth=0.8)
    for at, row in enumerate(pairs.itertuples()):
        colour = ORANGE if row.p_holm < 0.05 else GREY
        error = 100 * np.array([[row.difference - row.low], [row.high - row.difference]])
        right.errorbar(100 * row.difference, at, xerr=error, fmt="o", color=colour, capsize=3, linewidth=1.4)
    names = [_literal(f"{_cut(row.first, 30)}  minus\n{_cut(row.second, 30)}") for row in pairs.itertuples()]
    right.set_yticks(range(len(pairs)), names, fontsize=7)
    right.invert_yaxis()
    right.set_xlabel(
        "difference in accuracy [points], 95% interval of each by itself\norange: separated, all pairs considered (Holm)"
    )
    kind = "architectures" if len(comparison.pairs) else "trained models: no claim about architectures"
    right.set_title(f"{kind}\n{shown}{comparison.images} {comparison.split} images", fontsize="medium")
    right.legend(fontsize="small")
    right.grid(alpha=0.3, axis="x")
    return figure


def plot_gallery(pixels: Sequence[np.ndarray], titles: Sequence[str], title: str) -> Figure:
    """Draws images side by side, eight a row, each under its own title; at most the first 40.

    Args:
        pixels: Images, each `uint8 [height, width, 1 or 3]`, of any sizes.
        titles: One for each image; of a long line the end is shown, where the file's name stands.
        title: The heading.
    """
    most = 40
    shown = list(zip(pixels, titles, strict=True))[:most]
    columns = min(8, max(4, len(shown)))  # four are as wide as a heading
    rows = max(1, -(-len(shown) // columns))
    lines = max((text.count("\n") + 1 for _, text in shown), default=1)
    # Heights in inches: the heading, and for each row the picture and the lines above it.
    figure = Figure(figsize=(1.5 * columns, 0.5 + rows * (1.45 + 0.14 * lines)), layout="constrained")
    title = _literal(title)
    figure.suptitle(title if len(pixels) <= most else f"{title} (the first {most} of {len(pixels)})")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, (image, text) in zip(panels, shown, strict=False):
        grey = image.shape[-1] == 1
        # A constant image is shown in its own brightness, not stretched.
        axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
        axes.set_title("\n".join(_literal(_keep_end(line, 22)) for line in text.split("\n")), fontsize=7)
    return figure


def plot_filters(filters: np.ndarray, title: str) -> Figure:
    """Draws the filters of a convolution, all in one range that is symmetric about 0; at most the first 64.

    Args:
        filters: `float [height, width, channels, filters]`. Of three channels they are taken as red, green and blue; of other
            numbers than one the mean over the channels is drawn.
        title: The heading.
    """
    count, channels = filters.shape[3], filters.shape[2]
    shown = np.moveaxis(filters[..., :MOST_FILTERS], 3, 0)
    columns = min(len(shown), 16 if len(shown) > 32 else 8)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(5.0, 0.6 * columns + 1), max(2.4, 0.9 + 0.62 * rows)), layout="constrained")
    size = f"{filters.shape[0]}x{filters.shape[1]}x{channels}"
    of_all = f"{len(shown)} of {count}" if count > len(shown) else f"{count}"
    figure.suptitle(f"{_literal(title)}: {of_all}, each {size}", fontsize="medium")
    if channels not in (1, 3):
        shown = shown.mean(axis=3, keepdims=True)
    limit = float(np.abs(shown).max()) or 1.0
    panels = figure.subplots(rows, columns, squeeze=False)
    _hide_axes(panels)
    for axes, kernel in zip(panels.ravel(), shown, strict=False):
        if channels == 3:
            axes.imshow(0.5 + kernel / (2 * limit))
        else:
            image = axes.imshow(kernel[..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    if channels == 3:
        figure.supxlabel(f"red, green and blue weights: black -{limit:.2g}, mid-grey 0, white +{limit:.2g}", fontsize=8)
    else:
        label = "weight" if channels == 1 else f"mean of {channels} channels' weights"
        figure.colorbar(image, ax=panels, label=label, shrink=0.9)
    return figure


def plot_feature_maps(image: np.ndarray, name: str, maps: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draws what layers make of an image, the image beside it; of each layer at most the first 16 maps, in one range.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        name: The image's name.
        maps: By the layer's name, `float [height, width, maps]`.
        title: The heading.
    """
    figure = Figure(figsize=(10, 0.6 + 2.5 * len(maps)), layout="constrained")
    figure.suptitle(_literal(title))
    left, right = figure.subfigures(1, 2, width_ratios=(1, 4.2))
    axes = left.subplots()
    _show(axes, image, _literal(_cut(name[::-1], 24)[::-1]))
    for part, (layer, values) in zip(np.ravel(right.subfigures(len(maps), 1)), maps.items(), strict=True):
        height, width, count = values.shape
        shown = np.moveaxis(values[..., :16], 2, 0)
        of_all = f"{len(shown)} of {count}" if count > len(shown) else f"{count}"
        part.suptitle(_literal(f"'{layer}': {of_all} maps of {height}x{width}"), fontsize="medium")
        panels = part.subplots(2, 8, squeeze=False)
        _hide_axes(panels)
        for axes, one in zip(panels.ravel(), shown, strict=False):
            drawn = axes.imshow(one, cmap="viridis", vmin=shown.min(), vmax=shown.max())
        part.colorbar(drawn, ax=panels, shrink=0.9)
    return figure


def plot_heat_maps(
    pixels: np.ndarray, maps: np.ndarray, untrained: np.ndarray, table: pd.DataFrame, title: str
) -> Figure:
    """Draws images, heat maps over them, and those of the same network untrained, two images a row.

    Args:
        pixels: `uint8 [n, height, width, 1 or 3]`.
        maps, untrained: `float [n, height, width]` from 0 to 1.
        table: A row an image: `image` (its name), `true` (its class or None), `predicted`, `probability`, and `rank_correlation`
            of the two maps or NaN.
        title: The heading.
    """
    groups = min(2, len(pixels))
    rows = -(-len(pixels) // groups)
    figure = Figure(figsize=(0.9 + 5.2 * groups, 0.7 + 2.0 * rows), layout="constrained")
    figure.suptitle(_literal(title), fontsize="medium")
    widths = (1, 1, 1, 0.02) * groups  # a gap after each image's three
    panels = figure.subplots(rows, 4 * groups, squeeze=False, width_ratios=widths)
    _hide_axes(panels)
    for number, row in enumerate(table.itertuples(index=False)):
        image, trained, other = panels[number // groups, 4 * (number % groups) :][:3]
        true = [] if pd.isna(row.true) else [f"true: {_cut(row.true, 20)}"]
        _show(image, pixels[number], "\n".join(map(_literal, [*true, _cut(row.image[::-1], 20)[::-1]])))
        likeness = "" if np.isnan(row.rank_correlation) else f"\nrank correlation {row.rank_correlation:.2f}"
        predicted = _literal(f"predicted: {_cut(row.predicted, 12)}\nprobability {row.probability:.2f}")
        for axes, heat, text in (
            (trained, maps[number], predicted),
            (other, untrained[number], f"untrained{likeness}"),
        ):
            # In grey beneath, so that every colour is the map's.
            axes.imshow(pixels[number].mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            drawn = axes.imshow(heat, cmap="viridis", vmin=0, vmax=1, alpha=0.6)
            axes.set_title(text if heat.any() else f"{text}\n(nothing found: all 0)", fontsize=8)
    figure.colorbar(drawn, ax=panels, label="share of the image's highest", shrink=min(1.0, 2 / rows), aspect=30)
    return figure


def plot_loss_line(
    table: pd.DataFrame,
    weights: int,
    images: Mapping[str, int],
    title: str,
    own: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Draws loss and accuracy along the line from the first to the last weights of a training.

    Args:
        table: Columns `position` (0 first, 1 last), `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`.
        weights: How many weights the training changed.
        images: How many of "train" and "val" were looked at.
        title: The heading.
        own: Where the statistics of batch normalisation were taken anew at each position: of "train" and "val" the loss and
            accuracy of the trained network with the averages of its own training, which are marked.
    """
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    figure.suptitle(_literal(title))
    panels = figure.subplots(1, 2)
    few = "." if len(table) < 60 else None
    for number, (axes, name, label) in enumerate(
        ((panels[0], "loss", "cross-entropy loss [nats]"), (panels[1], "accuracy", "accuracy [share of images]"))
    ):
        for at, text in ((0, "first weights"), (1, "trained weights")):
            axes.axvline(at, color=GREY, linestyle=":", linewidth=1.2)
            axes.text(at, 1.01, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8)
        for side, text, colour in (("train", "training images", BLUE), ("val", "validation", ORANGE)):
            style = "-" if side == "train" else "--"
            axes.plot(
                table["position"], table[f"{side}_{name}"], style, color=colour, linewidth=2, marker=few,
                label=f"{text} ({images[side]:,})",
            )  # fmt: skip
            if own:
                axes.plot(1, own[side][number], "o" if side == "train" else "s", color=colour, fillstyle="none")
        if own:
            axes.plot([], [], "o", color=GREY, fillstyle="none", label="with the training's own averages")
        axes.set(xlabel="position on the line", ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    losses = np.append(table[["train_loss", "val_loss"]].to_numpy(), [loss for loss, _ in (own or {}).values()])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if len(losses) and losses.max() > 30 * losses.min():
        panels[0].set_yscale("log")
    else:
        panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1.02)
    anew = "; batch normalisation's statistics are taken anew at each point" if own else ""
    figure.supxlabel(f"A cut through a mountain of {weights:,} dimensions, one for each weight{anew}.", fontsize=9)
    return figure


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    """An image of one or three channels, in its own brightness."""
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axes.set_title(title, fontsize=8)
    _hide_axes(axes)


def _hide_axes(panels: Axes | np.ndarray) -> None:
    for axes in np.ravel(panels):
        axes.axis("off")
        axes.set(xticks=[], yticks=[])  # else their places are computed all the same


def _cut(text: str, most: int) -> str:
    """The beginning of a text, of so many letters; Chinese and Japanese ones are twice as wide."""
    width = np.cumsum([2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text])
    return text if not len(text) or width[-1] <= most else text[: int((width < most).sum())] + "…"


def _keep_end(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]


def _keep_start(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _wrap(text: str, width: int, most: int | None = None) -> str:
    """At most so many lines; a Chinese character is as wide as two letters."""
    width = width if text.isascii() else width * 2 // 3
    return "\n".join(textwrap.wrap(text, width, max_lines=most, placeholder=" …"))


def _literal(text: str) -> str:
    """What stands between two $ would be set as mathematics, and letters without a font as boxes."""
    if any("\u3000" <= letter <= "\uffee" for letter in text) and use_japanese_font() is None:
        _tell_of_missing_letters()
    return text.replace("$", r"\$")
