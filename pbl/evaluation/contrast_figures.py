"""The figures of contrastive learning: probes by the number of labels, neighbours, pairs, and a map of the features."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from pbl.errors import Sentence
from pbl.evaluation.contrast import Pairs, map_features
from pbl.reports.drawing import (
    BLUE,
    GREEN,
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

STYLES = {
    ("encoder", "probe"): (BLUE, "-", "o"),
    ("encoder", "nearest"): (BLUE, "--", "s"),
    ("pixels", "probe"): (ORANGE, "-", "o"),
    ("pixels", "nearest"): (ORANGE, "--", "s"),
    ("untrained", "probe"): (GREY, "-", "o"),
    ("untrained", "nearest"): (GREY, "--", "s"),
    ("scratch", "train"): (GREEN, "-", "^"),
    ("augmented", "train"): (GREEN, "--", "^"),
    ("tuned", "train"): (BLUE, ":", "^"),
}
ARM_NAMES = {
    ("encoder", "probe"): "encoder, logistic regression",
    ("encoder", "nearest"): "encoder, nearest neighbour",
    ("pixels", "probe"): "pixels, logistic regression",
    ("pixels", "nearest"): "pixels, nearest neighbour",
    ("untrained", "probe"): "untrained encoder, logistic regression",
    ("untrained", "nearest"): "untrained encoder, nearest neighbour",
    ("scratch", "train"): "trained from scratch",
    ("augmented", "train"): "trained from scratch, same augmentation",
    ("tuned", "train"): "encoder, fine-tuned",
}
SHOWN = 8  # images shown with their nearest ones
NEAREST = 5
MOST_MAPPED = 800  # images on a map
MOST_COLOURS = 20
MAPS = ("pca", "tsne")


def draw_contrast(
    run: str,
    split: str,
    metrics: Mapping[str, Any],
    features: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    gallery: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None,
    pairs: Pairs | None,
    all_figures: bool,
) -> Iterator[tuple[str, Figure]]:
    """Draws the figures of an evaluation, one after another.

    Args:
        run, split: For the heading.
        metrics: What `pbl.tasks.contrast.judge` found.
        features, labels: `float [n, size]` and `int [n]`.
        class_names: Name of class 0, 1, ...
        gallery: Images, `uint8 [s, height, width, channels]`, and their nearest training images, `uint8 [s, 5, height, width, channels]`; the
            classes of both, `int [s]` and `int [s, 5]`. None if there are none.
        pairs: All pairs of some images; None if there are none.
        all_figures: If false, only the probes, or the pairs.

    Yields:
        Name and figure.
    """
    of = {"run": run, "split": Sentence({"val": "validation", "test": "test"}.get(split, split))}
    levels = metrics["contrast"]["levels"]
    if levels:
        yield "probes", plot_probes(levels, caption("{run}, {split}: how good the features are", **of))
    if pairs is not None and (all_figures or not levels):
        judged = metrics["contrast"]["pairs"]
        yield "pairs", plot_pairs(pairs, judged["thresholds"], caption("{run}, {split}: pairs of images", **of))
    if not all_figures:
        return
    if gallery is not None:
        title = caption("{run}, {split}: images and their nearest training images", **of)
        yield "neighbours", plot_neighbours(*gallery, class_names, title)
    chosen = np.random.default_rng(0).permutation(len(labels))[:MOST_MAPPED]
    title = caption("{run}, {split}: a map of the features", **of)
    yield "embeddings", plot_embeddings(features[chosen], labels[chosen], class_names, title, MAPS[:1])


def plot_probes(levels: Sequence[Mapping[str, Any]], title: str) -> Figure:
    """Draws the accuracy of each arm by the number of labels, with its 95% interval.

    Args:
        levels: Each with `labels` and `arms`: name, way, accuracy, low and high.
        title: The heading.
    """
    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    axes = figure.subplots()
    for key, (colour, line, marker) in STYLES.items():
        rows = [
            (level["labels"], of["accuracy"], of["low"], of["high"])
            for level in levels
            for of in level["arms"]
            if (of["name"], of["way"]) == key
        ]
        if not rows:
            continue
        at, value, low, high = np.array(rows, float).T
        label = caption(ARM_NAMES[key])
        axes.plot(at, 100 * value, line, color=colour, marker=marker, markersize=4, label=label)
        axes.fill_between(at, 100 * low, 100 * high, color=colour, alpha=0.1, linewidth=0)
    axes.set_xscale("log")
    places = [level["labels"] for level in levels]
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    axes.set(xlabel=caption("images with a label"), ylabel=caption("accuracy [%]"))
    axes.set_title(literal(title), fontsize=9)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def plot_pairs(pairs: Pairs, thresholds: Mapping[str, float], title: str) -> Figure:
    """Draws how similar pairs of one class and pairs of two classes are, and the thresholds."""
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(float(pairs.cosine.min()), max(float(pairs.cosine.max()), float(pairs.cosine.min()) + 1e-6), 61)
    for chosen, label, colour in ((pairs.same, caption("same"), BLUE), (~pairs.same, caption("different"), ORANGE)):
        weights = np.full(int(chosen.sum()), 100 / max(int(chosen.sum()), 1))
        axes.hist(pairs.cosine[chosen], edges, weights=weights, alpha=0.5, color=colour, label=label)
    if "eer" in thresholds:
        label = caption("threshold of the equal error rate")
        axes.axvline(thresholds["eer"], color="black", linewidth=1, linestyle="--", label=label)
    axes.set(xlabel=caption("cosine of the features"), ylabel=caption("pairs [%]"))
    axes.set_title(literal(title), fontsize=9)
    axes.legend(fontsize="small")
    return figure


def plot_neighbours(
    images: np.ndarray,
    nearest: np.ndarray,
    labels: np.ndarray,
    theirs: np.ndarray,
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draws images, and in the same row the training images whose features are nearest; a different class is bold."""
    names = [literal(cut(name, 10)) for name in number_classes(class_names)]
    figure = plot_found(
        images, nearest, [names[label] for label in labels], [[names[label] for label in row] for row in theirs], title
    )
    grid = np.reshape(figure.axes, (len(images), -1))
    for row, column in np.argwhere(theirs != labels[:, None]):
        grid[row, column + 1].title.set(color=ORANGE, weight="bold")
    return figure


def plot_found(
    images: np.ndarray, found: np.ndarray, names: Sequence[str], captions: Sequence[Sequence[str]], title: str
) -> Figure:
    """Draws images, and in the same row the ones that were found for each.

    Args:
        images: `uint8 [n, height, width, channels]`.
        found: The images found for each, `uint8 [n, m, height, width, channels]`.
        names, captions: The text above them.
        title: The heading.
    """
    rows, columns = found.shape[:2]
    figure = Figure(figsize=(0.95 * (columns + 1) + 0.5, 0.87 * rows + 0.5), layout="constrained")
    set_heading(figure, title)
    grid = figure.subplots(rows, columns + 1, squeeze=False)
    for row in range(rows):
        show_image(grid[row, 0], images[row], names[row])
        for column in range(columns):
            show_image(grid[row, column + 1], found[row, column], captions[row][column])
    return figure


def plot_embeddings(
    features: np.ndarray, labels: np.ndarray, class_names: Sequence[str], title: str, ways: Sequence[str]
) -> Figure:
    """Draws features in two dimensions, coloured by class: by "pca", "tsne" or both, next to each other."""
    figure = Figure(figsize=(3.5 * len(ways) + 1.4, 3.8), layout="constrained")
    set_heading(figure, title)
    names = [literal(cut(name, 14)) for name in number_classes(class_names)]
    told = {"pca": caption("principal components"), "tsne": "t-SNE"}
    for axes, way in zip(np.atleast_1d(figure.subplots(1, len(ways))), ways, strict=True):
        places = map_features(features, way)
        for number in np.unique(labels):
            of = labels == number
            colour = colormaps["tab20"](number % MOST_COLOURS)
            axes.scatter(*places[of].T, s=8, color=colour, alpha=0.7, linewidths=0, label=names[number])
        hide_axes(axes)
        axes.set_title(told[way], fontsize=SMALL)
    if len(np.unique(labels)) <= MOST_COLOURS:
        axes.legend(fontsize=SMALL, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return figure
