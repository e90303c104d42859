"""The figures of a run: filters, feature maps, Grad-CAM or attention, and the loss from the first to the last weights."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from scipy.stats import spearmanr

from pbl import models
from pbl.data import Data, find_image_files
from pbl.errors import InputError, Sentence
from pbl.evaluation.run import load_model, open_run_data, read_images
from pbl.inspection.attention import attention_maps, find_attention
from pbl.inspection.figures import MOST_FILTERS, plot_feature_maps, plot_filters, plot_heat_maps, plot_loss_line
from pbl.inspection.filters import feature_maps, find_filters
from pbl.inspection.gradcam import explain, grad_cam
from pbl.inspection.loss_line import POSITIONS, find_normalising, loss_line, measure_loss, renew_statistics
from pbl.languages import say_sentence
from pbl.models.prediction import predict_probabilities
from pbl.models.slips import tell_slips
from pbl.reports.drawing import caption
from pbl.runs import Run, load_run
from pbl.storage.escapes import for_shell
from pbl.storage.writing import replacing, write_table
from pbl.tasks import Drawing, find_task
from pbl.training.build import build_and_compile
from pbl.training.performance import is_native, precision

MOST, FEWEST = 500, 50  # images of each side for the loss line
MOST_MACS = 2e13  # for the loss line: some minutes on a CPU; a large network gets fewer images
MOST_SHOWN = 16
OF_EACH = 4  # number of worst mistakes, and of right images


def build_first(run: Run, data: Data) -> keras.Model:
    """Builds a run's model again, with the weights at the start of its training.

    They come from the run's seed, from `initial_weights`, or from a pretrained backbone. The run's `experiment.py` must have been
    executed before.

    Args:
        run: The run.
        data: Its data.

    Raises:
        InputError: The weights that it started from no longer exist.
    """
    config = run.config.replace(precision=_policy(run), distribute="none", deterministic=False)
    with contextlib.redirect_stdout(io.StringIO()):  # the builder prints what a training starts from
        return build_and_compile(config, data)[0]


def build_untrained(run: Run) -> keras.Model:
    """Builds a run's model with random weights from its seed, even if it started from other weights; see `build_first`."""
    options = models.keep_options(run.config.model, run.config.model_options, run.environment.get("builder_options"))
    if "weights" in models.options_of(models.find_builder(run.config.model)):
        options["weights"] = None
    keras.utils.set_random_seed(run.config.seed)
    with precision(_policy(run)):
        return models.build(run.config.model, tuple(run.split["input_shape"]), len(run.split["class_names"]), **options)


def _policy(run: Run) -> str:
    policy = run.environment.get("precision", "float32")
    return policy if is_native(policy) else "float32"


@dataclass(frozen=True)
class Shown:
    """The images that are drawn.

    Attributes:
        pixels: `uint8 [n, height, width, channels]`.
        names: n names.
        labels: Their n true classes; None if unknown.
        typical: Index of the one that is used for the feature maps.
    """

    pixels: np.ndarray
    names: list[str]
    labels: list[int] | None
    typical: int = 0


def choose_images(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Chooses the four mistakes with the lowest probability of the true class, the worst first, and then four right ones.

    Among the right ones, the most confident of each class come first, and classes of the mistakes before others.

    Args:
        labels: `int [n]`.
        probabilities: `float [n, classes]`.

    Returns:
        Their indices; fewer than eight if there are not enough.
    """
    of_true = probabilities[np.arange(len(labels)), labels]
    table = pd.DataFrame({"label": labels, "p": of_true, "is_right": probabilities.argmax(axis=1) == labels})
    table = table.sort_values("p", kind="stable")
    wrong = table[~table["is_right"]].head(OF_EACH)
    right = table[table["is_right"]].iloc[::-1]
    right = right.assign(place=right.groupby("label").cumcount(), is_alike=right["label"].isin(wrong["label"]))
    right = right.sort_values(["place", "is_alike", "p"], ascending=[True, False, False], kind="stable").head(OF_EACH)
    return [*wrong.index, *right.index]


def inspect_run(
    run: str | Path | Run,
    paths: str | Path | Sequence[str | Path] | None = None,
    *,
    tell: Callable[[str], None] = lambda line: print(say_sentence(line)),
) -> list[Path]:
    """Draws what the best model of a run looks at, into the run's `figures/`; the numbers of each figure go into a CSV.

    `filters.png` (of the first convolution) and `feature_maps.png` (of one image); for a classifier `grad_cam.png` or, for a
    transformer, `attention.png` (both with the untrained network for comparison), and `loss_line.png` (see `pbl.inspection.loss_line`); for
    another task what it draws itself (`Task.inspect`): for anomaly detection `codes.png`.

    Args:
        run: The run, or its folder. Its `experiment.py` is executed: inspect only runs that you trust.
        paths: Image files, and folders that are searched for images; the first 16 are shown. By default: the four worst mistakes
            on validation images, and four right ones; if there are no classes, eight validation images.
        tell: Called with a line for each figure that cannot be drawn for this network.

    Returns:
        The files that were written.

    Raises:
        InputError: The run is incomplete; an image cannot be read; without `paths`: the run's data or predictions are missing.

    Example:
        >>> import pbl
        >>> files = pbl.inspect_run("runs/mine/001", tell=lambda line: None)  # an MLP has no filters to draw
        >>> [file.name for file in files]
        ['loss_line.png', 'loss_line.csv']
    """
    run = load_run(run)
    task = find_task(run.config)
    given = [] if paths is None else [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = find_image_files(given)
    pixels = None
    if files:  # reported before the model is built
        read, pixels = read_images(run, files[: 2 * MOST_SHOWN], {Path(path) for path in given}, tell)
        read, pixels = read[:MOST_SHOWN], pixels[:MOST_SHOWN]
    model = load_model(run)
    data, no_data = None, None
    try:
        data = open_run_data(run)
    except InputError as error:
        no_data = error
    if pixels is not None:
        shown = Shown(pixels, [file.name for file in read], None)
        if len(files) > MOST_SHOWN:
            tell(Sentence("The first {shown} of {all} images are shown.", shown=MOST_SHOWN, all=len(files)))
    elif data is None:
        raise InputError("{error} Or give images: python -m pbl inspect RUN photo.jpg.", error=no_data)
    else:
        shown = choose_shown(run, data)

    def with_data(draw: Drawing, run: Run) -> tuple[Figure, pd.DataFrame]:
        if no_data is not None:
            raise no_data
        return draw(run, model, data)

    drawings: dict[str, Callable[[], tuple[Figure, pd.DataFrame]]] = {
        "filters": lambda: _draw_filters(run, model, shown),
        "feature_maps": lambda: _draw_feature_maps(run, model, shown),
    }
    of_data = task.inspect
    if run.config.is_classifier:
        heat = "attention" if find_attention(model) else "grad_cam"
        drawings[heat] = lambda: _draw_heat_maps(run, model, shown, heat)
        of_data = {"loss_line": _draw_loss_line}
    drawings |= {name: partial(with_data, draw, run) for name, draw in of_data.items()}
    written = []
    for name, draw in drawings.items():
        try:
            with tell_slips(run.path, models.MODELS.get(run.config.model)):
                figure, table = draw()
        except InputError as error:
            tell(Sentence("{name}.png is left out: {error}", name=name, error=error))
            continue
        picture, numbers = (run.path / "figures" / f"{name}.{ending}" for ending in ("png", "csv"))
        with replacing(picture) as temporary:
            picture.parent.mkdir(exist_ok=True)
            figure.savefig(temporary, dpi=120)
        write_table(numbers, table, encoding="utf-8-sig")
        written += [picture, numbers]
    return written


def choose_shown(run: Run, data: Data) -> Shown:
    """Chooses validation images: for a classifier four mistakes and four right ones (`choose_images`), for another task the first eight.

    Raises:
        InputError: The run's predictions are missing, or belong to other images.
    """
    if not run.config.is_classifier:
        images = data.sample("val", OF_EACH * 2)
        return Shown(images.pixels[: OF_EACH * 2], images.names[: OF_EACH * 2], None)
    saved, images = run.read_predictions("val"), data.images("val")
    try:
        chosen = choose_images(saved.labels, saved.probabilities)
        place = {content: number for number, content in enumerate(images.hashes)}
        places = [place[saved.hashes[number]] for number in chosen]
    except (IndexError, KeyError):  # predictions of other images or classes
        raise InputError(
            "{file} is missing or damaged. Write it again: python -m pbl evaluate {run}.",
            file=run.path / "predictions_val.npz",
            run=for_shell(run.path),
        ) from None
    labels, probabilities = saved.labels, saved.probabilities
    right = next((at for at, number in enumerate(chosen) if probabilities[number].argmax() == labels[number]), 0)
    return Shown(images.view[places], [images.names[at] for at in places], labels[chosen].tolist(), right)


def _draw_filters(run: Run, model: keras.Model, shown: Shown) -> tuple[Figure, pd.DataFrame]:
    name, filters = find_filters(model, shown.pixels)
    drawn = filters[..., :MOST_FILTERS]
    of_filter, row, column, channel = np.indices(drawn.transpose(3, 0, 1, 2).shape).reshape(4, -1)
    table = pd.DataFrame({"filter": of_filter, "row": row, "column": column, "channel": channel})
    table["weight"] = drawn[row, column, channel, of_filter]
    title = caption("{run}: filters of the first convolution, '{name}'", run=run.name, name=name)
    return plot_filters(filters, title), table


def _draw_feature_maps(run: Run, model: keras.Model, shown: Shown) -> tuple[Figure, pd.DataFrame]:
    image, name = shown.pixels[shown.typical], shown.names[shown.typical]
    maps = feature_maps(model, image)
    rows = [
        {
            "layer": layer,
            "map": number,
            "lowest": float(values.min()),
            "mean": float(values.mean()),
            "highest": float(values.max()),
            "share_of_zeros": float((values == 0).mean()),
        }
        for layer, of_layer in maps.items()
        for number, values in enumerate(np.moveaxis(of_layer, -1, 0))
    ]
    return plot_feature_maps(image, name, maps, caption("{run}: feature maps", run=run.name)), pd.DataFrame(rows)


FEWEST_PLACES = 4  # cells per side of the map; with fewer it shows little more than a half of the image


def _draw_heat_maps(run: Run, model: keras.Model, shown: Shown, kind: str) -> tuple[Figure, pd.DataFrame]:
    """Draws Grad-CAM of the predicted class, or attention, next to that of the untrained network."""
    probabilities = predict_probabilities(model, shown.pixels)
    predicted = probabilities.argmax(axis=1)
    if kind == "grad_cam":
        maps, call = explain(model, shown.pixels, predicted, None)
        height, width = call.output.shape[1:3]
        told = "{run}: Grad-CAM of the predicted class, from the {height}x{width} positions of '{layer}'"
        title = caption(told, run=run.name, height=height, width=width, layer=call.layer.name)
        if min(height, width) < FEWEST_PLACES:
            told = "too coarse to show a part of the image; larger images (image_size) give more positions"
            title += f"\n{caption(told)}"
    else:
        maps = attention_maps(model, shown.pixels)
        title = caption("{run}: attention rollout, the patches that the answer comes from", run=run.name)
    other = build_untrained(run)
    renew_statistics(other, shown.pixels)
    untrained = grad_cam(other, shown.pixels, predicted) if kind == "grad_cam" else attention_maps(other, shown.pixels)
    class_names, n = run.split["class_names"], len(shown.pixels)
    table = pd.DataFrame(
        {
            "image": shown.names,
            "true": [None] * n if shown.labels is None else [class_names[label] for label in shown.labels],
            "predicted": [class_names[label] for label in predicted],
            "probability": probabilities.max(axis=1),
            "rank_correlation": [_correlate(*pair) for pair in zip(maps, untrained, strict=True)],
        }
    )
    return plot_heat_maps(shown.pixels, maps, untrained, table, title), table


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps, as Adebayo et al. (2018) compare them; NaN if one is constant."""
    if not (np.ptp(one) and np.ptp(other)):
        return np.nan
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _draw_loss_line(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    first = build_first(run, data)
    start, end = first.get_weights(), model.get_weights()
    statistics = {id(of) for layer in find_normalising(first) for of in (layer.moving_mean, layer.moving_variance)}
    count = sum(
        a.size
        for weight, a, b in zip(first.weights, start, end, strict=True)
        if id(weight) not in statistics and not np.array_equal(a, b)
    )
    macs = max(1, models.count_macs(first, data.input_shape))
    most = int(np.clip(MOST_MACS / (3 * len(POSITIONS) * macs), FEWEST, MOST))
    train, val = (_sample(data, split, most) for split in ("train", "val"))
    table = loss_line(first, start, end, train, val, _with_progress(POSITIONS))
    epoch = run.environment.get("best_epoch") or "?"
    figure = plot_loss_line(
        table,
        count,
        {"train": len(train[1]), "val": len(val[1])},
        caption(
            "{run}: the straight line from the initial weights to those of epoch {epoch}", run=run.name, epoch=epoch
        ),
        {"train": measure_loss(model, *train), "val": measure_loss(model, *val)} if statistics else None,
    )
    return figure, table


def _sample(data: Data, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels and labels of at most `most` images of a split, each class in its share."""
    images = data.sample(split, most)
    at = np.linspace(0, len(images.labels) - 1, min(most, len(images.labels))).round().astype(int)
    return images.view[at], images.labels[at]


def _with_progress(positions: np.ndarray) -> Iterable[float]:
    """Shows a progress bar on a terminal, which is removed at the end."""
    if not (sys.stderr and sys.stderr.isatty()):
        return positions
    return track(positions, "", console=Console(stderr=True), transient=True)
