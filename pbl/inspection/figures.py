"""The figures of an inspection: filters, feature maps, heat maps, and the loss along a line."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pbl.reports.drawing import (
    BLUE,
    GREY,
    ORANGE,
    SMALL,
    WIDE,
    caption,
    cut,
    cut_start,
    hide_axes,
    literal,
    set_heading,
    shorten_name,
    show_image,
    wrap,
)

MOST_FILTERS = 64
MOST_LETTERS = 18  # letters in a line above a heat map


def plot_filters(filters: np.ndarray, title: str) -> Figure:
    """Draws the filters of a convolution, all in one range of colours, symmetric about 0; at most the first 64.

    Args:
        filters: `float [height, width, channels, filters]`. Three channels are drawn as red, green and blue, one channel as grey; with
            other numbers of channels their mean is drawn.
        title: The heading.
    """
    count, channels = filters.shape[3], filters.shape[2]
    shown = np.moveaxis(filters[..., :MOST_FILTERS], 3, 0)
    columns = min(len(shown), 16 if len(shown) > 32 else 8)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(5.0, 0.46 * columns + 1), max(2.4, 0.9 + 0.48 * rows)), layout="constrained")
    size = f"{filters.shape[0]}x{filters.shape[1]}x{channels}"
    told = "{title}: {shown} of {n}, each {size}" if count > len(shown) else "{title}: {n}, each {size}"
    title = caption(told, title=title, shown=len(shown), n=count, size=size)
    set_heading(figure, title)
    if channels not in (1, 3):
        shown = shown.mean(axis=3, keepdims=True)
    limit = float(np.abs(shown).max()) or 1.0
    panels = figure.subplots(rows, columns, squeeze=False)
    hide_axes(panels)
    for axes, kernel in zip(panels.ravel(), shown, strict=False):
        if channels == 3:
            axes.imshow(0.5 + kernel / (2 * limit))
        else:
            image = axes.imshow(kernel[..., 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
    if channels == 3:
        told = "red, green and blue weights: black -{limit:.2g}, mid-grey 0, white +{limit:.2g}"
        figure.supxlabel(caption(told, limit=limit), fontsize=SMALL)
    else:
        label = caption("weight" if channels == 1 else "mean of {channels} channels' weights", channels=channels)
        figure.colorbar(image, ax=panels, label=label, shrink=0.9)
    return figure


def plot_feature_maps(image: np.ndarray, name: str, maps: Mapping[str, np.ndarray], title: str) -> Figure:
    """Draws an image and, next to it, maps of layers; of each layer at most the first 16, in one range of colours.

    Args:
        image: `uint8 [height, width, 1 or 3]`.
        name: The image's name.
        maps: By the layer's name, its maps `float [height, width, maps]`.
        title: The heading.
    """
    figure = Figure(figsize=(WIDE, 0.6 + 1.85 * len(maps)), layout="constrained")
    set_heading(figure, title)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 4.2))[0]
    axes = left.subplots()
    show_image(axes, image, literal(cut_start(shorten_name(name), 20)))
    for part, (layer, values) in zip(np.ravel(right.subfigures(len(maps), 1)), maps.items(), strict=True):
        height, width, count = values.shape
        shown = np.moveaxis(values[..., :16], 2, 0)
        told = "'{layer}': {n} maps of {height}x{width}"
        if count > len(shown):
            told = "'{layer}': {shown} of {n} maps of {height}x{width}"
        told = caption(told, layer=layer, shown=len(shown), n=count, height=height, width=width)
        part.suptitle(literal(told), fontsize="medium")
        panels = part.subplots(2, 8, squeeze=False)
        hide_axes(panels)
        for axes, one in zip(panels.ravel(), shown, strict=False):
            drawn = axes.imshow(one, cmap="viridis", vmin=shown.min(), vmax=shown.max())
        part.colorbar(drawn, ax=panels, shrink=0.9)
    return figure


def plot_heat_maps(
    pixels: np.ndarray, maps: np.ndarray, untrained: np.ndarray, table: pd.DataFrame, title: str
) -> Figure:
    """Draws images with heat maps over them, and those of the untrained network next to them, two images in a row.

    Args:
        pixels: `uint8 [n, height, width, 1 or 3]`.
        maps, untrained: `float [n, height, width]` from 0 to 1.
        table: One row for each image: `image` (its name), `true` (its class or None), `predicted`, `probability`, and `rank_correlation`
            of the two maps or NaN.
        title: The heading.
    """
    groups = min(2, len(pixels))
    rows = -(-len(pixels) // groups)
    figure = Figure(figsize=(0.9 + (WIDE - 0.9) / 2 * groups, 0.6 + 1.45 * rows), layout="constrained")
    set_heading(figure, title)
    widths = (1, 1, 1, 0.02) * groups  # a gap after each image's three panels
    panels = figure.subplots(rows, 4 * groups, squeeze=False, width_ratios=widths)
    hide_axes(panels)
    for number, row in enumerate(table.itertuples(index=False)):
        image, trained, other = panels[number // groups, 4 * (number % groups) :][:3]
        true = [] if pd.isna(row.true) else [caption("true: {name}", name=cut(row.true, 12))]
        show_image(image, pixels[number], "")
        _set_title(image, [*true, cut_start(shorten_name(row.image), MOST_LETTERS)])
        likeness = []
        if not np.isnan(row.rank_correlation):
            likeness = [caption("rank correlation {value:.2f}", value=row.rank_correlation)]
        mark = "" if pd.isna(row.true) else "✓ " if row.true == row.predicted else "✗ "
        predicted = [
            mark + caption("predicted: {name}", name=cut(row.predicted, 12)),
            caption("probability {value:.2f}", value=row.probability),
        ]
        for axes, heat, lines in (
            (trained, maps[number], predicted),
            (other, untrained[number], [caption("untrained"), *likeness]),
        ):
            # The image below is grey, so that all colour comes from the map.
            axes.imshow(pixels[number].mean(axis=-1), cmap="gray", vmin=0, vmax=255)
            drawn = axes.imshow(heat, cmap="viridis", vmin=0, vmax=1, alpha=0.6)
            lines = lines if heat.any() else [*lines, caption("(nothing found: all 0)")]
            _set_title(axes, lines)
    figure.colorbar(
        drawn, ax=panels, label=wrap(caption("share of the image's highest"), 18), shrink=min(1.0, 2 / rows), aspect=30
    )
    return figure


def _set_title(axes: Axes, lines: Sequence[str]) -> None:
    broken = "\n".join(wrap(line, MOST_LETTERS) for line in lines)
    axes.set_title(literal(broken), fontsize=SMALL)


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
        images: Number of images of "train" and "val".
        title: The heading.
        own: Given if the statistics of batch normalisation were measured again at each position: loss and accuracy of the
            trained network with the averages of its own training, for "train" and "val". They are marked.
    """
    figure = Figure(figsize=(WIDE, 3.9), layout="constrained")
    set_heading(figure, title)
    panels = figure.subplots(1, 2)
    few = "." if len(table) < 60 else None
    for number, (axes, name, label) in enumerate(
        (
            (panels[0], "loss", caption("cross-entropy loss [nats]")),
            (panels[1], "accuracy", caption("accuracy [share of images]")),
        )
    ):
        for at, text in ((0, caption("initial weights")), (1, caption("trained weights"))):
            axes.axvline(at, color=GREY, linestyle=":", linewidth=1.2)
            axes.text(at, 1.01, text, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=SMALL)
        for side, text, colour in (
            ("train", caption("training images ({n:,})", n=images["train"]), BLUE),
            ("val", caption("validation ({n:,})", n=images["val"]), ORANGE),
        ):
            style = "-" if side == "train" else "--"
            axes.plot(
                table["position"],
                table[f"{side}_{name}"],
                style,
                color=colour,
                linewidth=2,
                marker=few,
                label=text,
            )
            if own:
                axes.plot(1, own[side][number], "o" if side == "train" else "s", color=colour, fillstyle="none")
        if own:
            axes.plot([], [], "o", color=GREY, fillstyle="none", label=caption("with the training's own averages"))
        axes.set(xlabel=caption("position on the line"), ylabel=label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    losses = np.append(table[["train_loss", "val_loss"]].to_numpy(), [loss for loss, _ in (own or {}).values()])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    if len(losses) and losses.max() > 30 * losses.min():
        panels[0].set_yscale("log")
    else:
        panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1.02)
    told = "A cut through a landscape of {weights:,} dimensions, one for each weight."
    if own:
        told = "A cut through a landscape of {weights:,} dimensions, one for each weight; batch normalisation's statistics are recomputed at each point."
    figure.supxlabel(literal(wrap(caption(told, weights=weights), round(15 * WIDE))), fontsize=9)
    return figure
