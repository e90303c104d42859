"""The figures of anomaly detection: scores with the threshold, reconstructions, the ROC curve, kinds of anomalies next to baselines."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pbl.diagnosis.anomalies import BASELINE_NAMES
from pbl.errors import Sentence
from pbl.evaluation.anomalies import map_errors
from pbl.evaluation.metrics import Ranking
from pbl.reports.drawing import (
    BLUE,
    GREEN,
    GREY,
    NARROW,
    ORANGE,
    SMALL,
    caption,
    cut_start,
    hide_axes,
    literal,
    set_heading,
    shorten_name,
    show_image,
    wrap,
)

SHOWN = 6  # most and least anomalous images
DRAWS = 300  # bootstrap draws of the images, for the band of the ROC curve
GRID = np.linspace(0, 1, 201)
MOST_KINDS = 12  # kinds of anomalies with a colour of their own


def draw_anomalies(
    run: str,
    split: str,
    metrics: Mapping[str, Any],
    images: Any,
    scores: np.ndarray,
    normal: np.ndarray,
    by_baseline: Mapping[str, np.ndarray],
    threshold: float | None,
    reconstruct: Callable[[np.ndarray], np.ndarray],
    score: str,
    all_figures: bool,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation, one after another.

    Args:
        run, split: For the heading.
        metrics: What `pbl.tasks.anomaly.judge` found.
        images: The images, `pbl.data.Images`.
        scores, normal: `float [n]` and `bool [n]`.
        by_baseline: Scores of the baselines.
        threshold: The threshold, or None.
        reconstruct: From indices of images to the network's reconstructions, `float32 [n, height, width, channels]`.
        score: "mean" or "max_patch".
        all_figures: If false, only the scores and the reconstructions.

    Yields:
        Name and figure.
    """
    of = {
        "run": run,
        "split": Sentence({"val": "validation", "test": "test"}.get(split, split)),
        "leak": Sentence(" (leak: likely too good)") if metrics["leak"] else "",
    }
    title = caption("{run}, {split}{leak}: scores of {n:,} images", **of, n=len(scores))
    yield "scores", plot_scores(scores, normal, threshold, title)
    title = caption("{run}, {split}{leak}: reconstructions", **of)
    yield "reconstructions", plot_reconstructions(images, scores, normal, reconstruct, score, title)
    if not all_figures or normal.all() or not normal.any():
        return
    best = metrics["difference"]["baseline"]
    title, name = caption("{run}, {split}{leak}: ROC curve", **of), caption(BASELINE_NAMES[best])
    yield "roc", plot_roc_band(~normal, scores, by_baseline[best], name, threshold, title)
    title = caption("{run}, {split}{leak}: by kind of anomaly, and without a network", **of)
    yield "kinds", plot_kinds(metrics, title)


def plot_scores(scores: np.ndarray, normal: np.ndarray, threshold: float | None, title: str) -> Figure:
    """Draws the distributions of the scores of normal images and of anomalies, each as a share of its own images.

    Args:
        scores: `float [n]`, above 0.
        normal: `bool [n]`.
        threshold: Drawn if it is finite.
        title: The heading.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    low, high = max(float(scores.min()), 1e-9), max(float(scores.max()), 2e-9)
    bins = np.geomspace(low, high * 1.0001, 50)
    for of, colour in ((normal, BLUE), (~normal, ORANGE)):
        if of.any():
            part = np.clip(scores[of], low, high)
            weights = np.full(len(part), 1 / len(part))
            filled = {"alpha": 0.5} if colour == BLUE else {"histtype": "step", "linewidth": 1.8}
            label = caption("normal ({n:,})" if colour == BLUE else "anomalies ({n:,})", n=len(part))
            axes.hist(part, bins, weights=weights, color=colour, label=label, **filled)
    if threshold is not None and np.isfinite(threshold):
        axes.axvline(
            threshold, color=GREY, linestyle="--", label=caption("threshold {value}", value=f"{threshold:.3g}")
        )
    axes.set(
        xscale="log",
        xlabel=caption("score: squared error, pixels from 0 to 1"),
        ylabel=caption("share of the images"),
    )
    axes.set_title(literal(wrap(title, 80)), fontsize="medium")
    axes.legend()
    return figure


def plot_reconstructions(
    images: Any,
    scores: np.ndarray,
    normal: np.ndarray,
    reconstruct: Callable[[np.ndarray], np.ndarray],
    score: str,
    title: str,
) -> Figure:
    """Draws the most and the least anomalous images, their reconstructions, and the difference, all on one scale.

    Args:
        images, scores, normal, reconstruct, score: As for `draw_anomalies`.
        title: The heading.
    """
    order = np.argsort(-scores, kind="stable")
    count = min(SHOWN, max(1, len(order) // 2))
    parts = [
        (caption("most anomalous: image"), order[:count]),
        (caption("least anomalous: image"), order[::-1][:count]),
    ]
    chosen = np.concatenate([at for _, at in parts])
    pixels, back = images.pixels[chosen], reconstruct(chosen)
    errors = map_errors(pixels, back, score)
    most = max(float(np.quantile(errors, 0.999)), 1e-9)
    figure = Figure(figsize=(1.2 * count + 1.2, 7), layout="constrained")
    set_heading(figure, title)
    panels = figure.subplots(2, 1)
    magma = colormaps["magma"]
    for axes, (name, of), start in zip(panels, parts, (0, count), strict=True):
        here = slice(start, start + count)
        coloured = (magma(np.clip(errors[here] / most, 0, 1))[..., :3] * 255).astype(np.uint8)
        rows = [pixels[here], np.clip(back[here], 0, 255).astype(np.uint8), coloured]
        axes.imshow(_tile(rows))
        height, width = pixels.shape[1] + GAP, pixels.shape[2] + GAP
        for column, at in enumerate(of):
            what = caption("normal {score:.3g}" if normal[at] else "anomaly {score:.3g}", score=scores[at])
            told = f"{what}\n{cut_start(shorten_name(str(images.names[at])), 15)}"
            axes.text((column + 0.5) * width, -0.06 * height, literal(told), ha="center", va="bottom", fontsize=SMALL)
        names = [wrap(text, 14) for text in (name, caption("reconstructed"), caption("squared error"))]
        axes.set_yticks([(row + 0.5) * height for row in range(3)], names, fontsize=SMALL, rotation=90, va="center")
        axes.set_xticks([])
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    scale = ScalarMappable(Normalize(0, most), magma)
    figure.colorbar(scale, ax=panels, shrink=0.35, label=caption("squared error of a pixel, 0 to 1"))
    return figure


GAP = 1  # pixels between images


def _tile(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Puts rows of images `uint8 [n, height, width, 1 or 3]` below each other, on white: one picture is drawn faster than many."""
    tiled = []
    for row in rows:
        colour = np.repeat(row, 3, axis=-1) if row.shape[-1] == 1 else row
        padded = np.pad(colour, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
        tiled.append(np.concatenate(list(padded), axis=1))
    return np.concatenate(tiled, axis=0)


def plot_map(image: np.ndarray, given: np.ndarray, errors: np.ndarray, most: float) -> Figure:
    """Draws an image, its reconstruction, and the squared error of its pixels.

    Args:
        image, given: `[height, width, channels]`, 0 to 255.
        errors: `float [height, width]`.
        most: The error that gets the brightest colour.
    """
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    panels = figure.subplots(1, 3)
    show_image(panels[0], image, caption("image"))
    show_image(panels[1], np.clip(given, 0, 255).astype(np.uint8), caption("reconstructed"))
    shown = panels[2].imshow(errors, cmap="magma", vmin=0, vmax=max(most, 1e-9))
    panels[2].set_title(caption("squared error"), fontsize=SMALL)
    hide_axes(panels[2])
    figure.colorbar(shown, ax=panels[2], shrink=0.8)
    return figure


def plot_roc_band(
    is_anomaly: np.ndarray,
    scores: np.ndarray,
    baseline: np.ndarray,
    name: str,
    threshold: float | None,
    title: str,
) -> Figure:
    """Draws the ROC curve with a band, and that of the best baseline.

    The band is pointwise, 95%, over draws of normal images and of anomalies.

    Args:
        is_anomaly: `bool [n]`.
        scores, baseline: `float [n]`.
        name: The baseline's name.
        threshold: Its position is marked.
        title: The heading.
    """
    random = np.random.default_rng(0)
    counts = np.zeros((DRAWS, len(scores)))
    for of in (np.flatnonzero(is_anomaly), np.flatnonzero(~is_anomaly)):
        counts[:, of] = random.multinomial(len(of), np.full(len(of), 1 / len(of)), DRAWS)
    drawn = _found_by_alarms(is_anomaly, scores, counts)
    figure = Figure(figsize=(NARROW, 4.2), layout="constrained")
    axes = figure.subplots()
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    axes.fill_between(GRID, low, high, color=BLUE, alpha=0.2, label=caption("95% band"))
    one = np.ones((1, len(scores)))
    axes.plot(GRID, _found_by_alarms(is_anomaly, scores, one)[0], color=BLUE, label=caption("network"))
    axes.plot(GRID, _found_by_alarms(is_anomaly, baseline, one)[0], color=ORANGE, linestyle="--", label=name)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label=caption("chance"))
    if threshold is not None and np.isfinite(threshold):
        alarm = scores > threshold
        place = alarm[~is_anomaly].mean(), alarm[is_anomaly].mean()
        axes.plot(*place, "o", color=GREEN, label=caption("at the threshold"))
    axes.set(
        xlabel=caption("false alarms: share of normal images"),
        ylabel=caption("found: share of anomalies"),
        xlim=(0, 1),
        ylim=(0, 1.01),
    )
    axes.set_title(literal(wrap(title, 46)), fontsize="medium")
    axes.legend(loc="lower right", fontsize="small")
    return figure


def _found_by_alarms(is_anomaly: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Share of the anomalies found at each false alarm rate in `GRID`, for samples `counts [draws, n]`."""
    ranking = Ranking(is_anomaly, scores)
    ranked = counts[:, ranking.order]
    found = np.add.reduceat(ranked * ranking.is_positive, ranking.starts, axis=1).cumsum(axis=1)
    alarms = np.add.reduceat(ranked * ~ranking.is_positive, ranking.starts, axis=1).cumsum(axis=1)
    zero = np.zeros(1)
    return np.stack(
        [
            np.interp(GRID, np.concatenate([zero, a / a[-1]]), np.concatenate([zero, f / f[-1]]))
            for f, a in zip(found, alarms, strict=True)
        ]
    )


def plot_kinds(metrics: Mapping[str, Any], title: str) -> Figure:
    """Draws the AUROC of each kind of anomaly, of all together, and of the baselines, with their intervals.

    Args:
        metrics: `kinds`, `baselines`, `metrics` and `intervals`, as `pbl.tasks.anomaly.judge` returns them.
        title: The heading.
    """
    kinds = sorted((kind for kind in metrics["kinds"] if kind["roc_auc"] is not None), key=lambda kind: kind["roc_auc"])
    low, high = metrics["intervals"].get("roc_auc", (None, None))
    rows: list[tuple[str, float, float | None, float | None, str]] = [
        (f"{kind['name']} ({kind['images']})", kind["roc_auc"], kind.get("low"), kind.get("high"), BLUE)
        for kind in kinds[:24]
    ]
    rows.append((caption("all anomalies"), metrics["metrics"]["roc_auc"], low, high, GREEN))
    rows += [
        (caption(BASELINE_NAMES[of["name"]]), of["roc_auc"], of["low"], of["high"], ORANGE)
        for of in metrics["baselines"]
    ]
    figure = Figure(figsize=(7, 0.34 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    _plot_rows(axes, rows)
    axes.axvline(0.5, color=GREY, linestyle=":")
    axes.set(
        xlabel=caption("AUROC with 95% interval; dotted: chance"),
        xlim=(min(0.4, *(row[2] if row[2] is not None else row[1] for row in rows)) - 0.03, 1.02),
    )
    axes.set_title(literal(wrap(title, 60)), fontsize="medium")
    return figure


def _plot_rows(axes: Any, rows: Sequence[tuple[str, float, float | None, float | None, str]]) -> None:
    for at, (_, value, low, high, colour) in enumerate(rows):
        if low is not None:
            axes.plot([low, high], [at, at], color=colour, linewidth=2)
        axes.plot(value, at, "o", color=colour)
    axes.set_yticks(range(len(rows)), [literal(row[0]) for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def plot_codes(
    pixels: np.ndarray, codes: np.ndarray, kinds: Sequence[str], normal: np.ndarray, names: Sequence[str], title: str
) -> Figure:
    """Draws images at the position of two numbers: normal ones and each kind of anomaly, and some of the images themselves.

    Args:
        pixels: `uint8 [n, height, width, 1 or 3]`.
        codes: `float [n, 2]`.
        kinds: The class of each image.
        normal: `bool [n]`.
        names: Names of the two numbers, for the axes.
        title: The heading.
    """
    figure = Figure(figsize=(8, 6.4), layout="constrained")
    axes = figure.subplots()
    colours = colormaps["tab20"]
    anomalous = sorted({kind for kind, is_normal in zip(kinds, normal, strict=True) if not is_normal})
    kinds = np.asarray(kinds)
    for number, kind in enumerate(anomalous[:MOST_KINDS]):
        of = (kinds == kind) & ~normal
        colour = colours(number % 20)
        axes.scatter(*codes[of].T, s=9, color=colour, alpha=0.6, linewidths=0, label=literal(f"{kind} ({of.sum()})"))
    if len(anomalous) > MOST_KINDS:
        of = np.isin(kinds, anomalous[MOST_KINDS:]) & ~normal
        label = caption("others ({n:,})", n=of.sum())
        axes.scatter(*codes[of].T, s=9, color=GREY, alpha=0.6, linewidths=0, label=label)
    label = caption("normal ({n:,})", n=normal.sum())
    axes.scatter(*codes[normal].T, s=16, color="black", marker="x", linewidths=0.9, label=label)
    span = np.maximum(np.ptp(codes, axis=0), 1e-9)
    free = np.ones(len(codes), bool)
    from_outside = np.argsort(-np.abs(codes - codes.mean(axis=0)).sum(axis=1))
    for at in from_outside:  # images do not overlap
        if free[at]:
            free &= (np.abs(codes - codes[at]) / span).max(axis=1) > 0.07
            _show_at(axes, pixels[at], codes[at], BLUE if normal[at] else ORANGE)
    axes.set(xlabel=names[0], ylabel=names[1])
    title = caption("{title}; blue frame: normal, orange frame: anomalies", title=title)
    axes.set_title(literal(wrap(title, 80)), fontsize="medium")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.margins(0.06)
    return figure


def _show_at(axes: Any, image: np.ndarray, place: np.ndarray, colour: str) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    height, width = image.shape[:2]
    coloured = np.broadcast_to(image, (height, width, 3))
    shown = OffsetImage(coloured, zoom=20 / max(height, width))
    axes.add_artist(AnnotationBbox(shown, place, pad=0.1, bboxprops={"edgecolor": colour, "linewidth": 1}))
