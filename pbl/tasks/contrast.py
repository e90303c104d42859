"""Contrast: a network learns which images are alike, and its features serve other tasks, or tell whether two images show the same.

`task=contrast` with `model=simclr` (no labels: two views of one image are alike) or `supcon` (all images of a class are alike), and an
augmentation, which makes the views. Labels are used to evaluate: by probes on few labels and on many, compared with plain pixels and with the
same network untrained. With `task_options.identities=true` classes are identities, such as persons: validation and test have other ones
than train, and pairs of images are evaluated in place of probes.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.config import Augmentation, Config
from pbl.data import Data, Images
from pbl.errors import InputError
from pbl.evaluation.contrast import (
    MOST_LABELS,
    MOST_PAIRED,
    Pairs,
    find_nearest,
    judge_pairs,
    judge_probes,
    make_pairs,
    measure_spread,
    scale_rows,
)
from pbl.evaluation.contrast_figures import (
    MAPS,
    MOST_MAPPED,
    NEAREST,
    SHOWN,
    draw_contrast,
    plot_embeddings,
    plot_neighbours,
)
from pbl.evaluation.contrast_monitor import ContrastMonitor, check_encoder, embed
from pbl.models.keras_private import find_seed_state
from pbl.models.prediction import predict_outputs
from pbl.reports.drawing import caption
from pbl.runs import Run
from pbl.tasks.task import Judged, Question, Task, read_validation

OPTIONS = {"identities": False}
LARGEST = 32  # side of the images whose pixels are compared; larger ones are shrunk


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `load_data`: two views, and whether classes are identities."""
    if not isinstance(options["identities"], bool):
        raise InputError("task_options.identities={value}. Valid: true, false.", value=options["identities"])
    return {"views": 2, "identities": options["identities"]}


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model learns by contrast and its views differ; returns "float32"."""
    check_encoder(model, data)
    if data.augmentation == Augmentation() and not getattr(model, "supervised", False):
        raise InputError(
            "task=contrast: the two views of an image are made by augmentation, but none is set, so there is nothing to learn. Give, for example, "
            "augmentation.crop=4 augmentation.rotation=20 augmentation.zoom=0.3; photographs also flip, brightness, contrast and saturation."
        )
    return "float32"


def compile_arguments(config: Config) -> dict[str, Any]:
    """None: the model has its own loss; raises InputError if the settings contain something that it cannot use."""
    for setting in ("class_weight", "sample_weights"):
        if getattr(config, setting):
            raise InputError("task=contrast does not use weights of images: omit {setting}.", setting=setting)
    if config.loss != Config.model_fields["loss"].default:
        raise InputError("task=contrast has its own loss: omit loss={loss}.", loss=config.loss)
    if config.batch_size < 2:
        raise InputError(
            "task=contrast: with batch_size=1 an image has no other images to be compared with. Give 64 or more."
        )
    return {}


def choose_best(options: Mapping[str, Any]) -> tuple[str, str]:
    """The quantity by which the best epoch is chosen."""
    return ("val_eer", "min") if options["identities"] else ("val_probe", "max")


def watch(data: Data, file: Path) -> keras.callbacks.Callback:
    """`ContrastMonitor`."""
    return ContrastMonitor(data)


def make_untrained(encoder: keras.Model) -> keras.Model:
    """Returns an untrained encoder with the same layers, always the same one; random states stay unchanged."""
    python, numpy, state = random.getstate(), np.random.get_state(), find_seed_state()
    kept = keras.ops.convert_to_numpy(state)
    keras.utils.set_random_seed(1)
    try:
        return type(encoder).from_config(encoder.get_config())
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        find_seed_state().assign(kept)


def shrink_pixels(pixels: np.ndarray) -> np.ndarray:
    """Pixels as features, `uint8 [n, size]`: images with a side above 32 are reduced to the means of blocks."""
    step = -(-max(pixels.shape[1:3]) // LARGEST)
    if step > 1:
        height, width = (max(1, side // step) * step if side >= step else side for side in pixels.shape[1:3])
        down, right = min(step, height), min(step, width)
        blocks = pixels[:, :height, :width].reshape(
            len(pixels), height // down, down, width // right, right, pixels.shape[3]
        )
        pixels = blocks.mean(axis=(2, 4)).astype(np.uint8)
    return pixels.reshape(len(pixels), -1)


def choose_paired(hashes: list[str], labels: np.ndarray) -> np.ndarray:
    """The numbers of at most 600 images whose pairs are compared: equally many of each class, chosen by content, `int [n]`, in rising order."""
    order = np.argsort(np.array(hashes), kind="stable")
    place = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()  # among those of its class
    most = max(4, -(-MOST_PAIRED // max(len(np.unique(labels)), 1)))
    chosen = order[place < most]
    if len(chosen) > MOST_PAIRED:  # many classes: complete classes, as many as fit
        first = pd.Series(np.arange(len(chosen))).groupby(labels[chosen]).transform("min").to_numpy()
        chosen = chosen[np.argsort(first, kind="stable")[:MOST_PAIRED]]
    return np.sort(chosen)


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Evaluates an encoder's features by probes, neighbours and pairs, compared with pixels and with the untrained encoder.

    The interval of `few_labels` is over the draws of the labels and the images, those of `probe` and `nearest` are over the images, and those
    of pairs over the classes.

    Args:
        model: The model.
        data: The data that the images belong to; probes learn from its training images.
        images: The images.
        question: What the evaluation asks.
    """
    features, has_identities = predict_outputs(model, images.pixels), data.identities
    if not np.isfinite(features).all():
        raise InputError("The encoder's features are not all numbers: its training diverged. Lower learning_rate.")
    untrained = make_untrained(model.encoder)
    train = data.sample("train", MOST_LABELS)
    known = predict_outputs(model, train.pixels)
    found: dict[str, Any] = {
        "supervised": bool(getattr(model, "supervised", False)),
        "identities": has_identities,
        "temperature": _read_number(model, "temperature"),
        "spread": measure_spread(embed(model, features)),
        "training_images": len(data.images("train").labels),
        "levels": [],
        "pairs": None,
        "pair_controls": [],
    }
    metrics: dict[str, float | None] = {}
    intervals: dict[str, list[float]] = {}
    arrays = {"truth": images.labels.astype(np.int32)}
    if not has_identities:
        arms = {
            "encoder": (known, features),
            "untrained": (predict_outputs(untrained, train.pixels), predict_outputs(untrained, images.pixels)),
            "pixels": (shrink_pixels(train.pixels), shrink_pixels(images.pixels)),
        }
        judged = judge_probes(arms, train.hashes, train.labels, images.labels, found["training_images"])
        # In supervised learning all labels were used already: a probe on few of them would not show how useful few labels are.
        found["levels"] = judged["levels"][-1:] if found["supervised"] else judged["levels"]
        of_all = {(of["name"], of["way"]): of for of in judged["levels"][-1]["arms"]}
        metrics |= {
            "probe": of_all["encoder", "probe"]["accuracy"],
            "nearest": of_all["encoder", "nearest"]["accuracy"],
        }
        for name, way in (("probe", "probe"), ("nearest", "nearest")):
            intervals[name] = [of_all["encoder", way][end] for end in ("low", "high")]
        if len(found["levels"]) > 1:
            few = next(of for of in found["levels"][0]["arms"] if (of["name"], of["way"]) == ("encoder", "probe"))
            metrics["few_labels"], intervals["few_labels"] = few["accuracy"], [few["low"], few["high"]]
        arrays["probes"] = judged["by_level"]
        arrays["values"] = judged["by_level"][:, -1].astype(np.float64)
    pairs = _judge_pairs(model, untrained, images, features, question, found)
    if found["pairs"] is not None:
        metrics |= found["pairs"]["metrics"]
        intervals |= found["pairs"]["intervals"]
    result = {
        "images": len(images.labels),
        "headline": "eer" if has_identities else "probe",
        "better": "lower" if has_identities else "higher",
        "metrics": metrics,
        "intervals": intervals,
        "contrast": found,
    }
    figures = draw_contrast(
        question.run,
        question.split,
        result,
        features,
        images.labels,
        data.class_names,
        _make_gallery(known, train, features, images),
        pairs,
        question.all_figures,
    )
    return Judged(result, arrays, figures)


def _read_number(model: keras.Model, name: str) -> float | None:
    value = getattr(model, name, None)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _judge_pairs(
    model: keras.Model,
    untrained: keras.Model,
    images: Images,
    features: np.ndarray,
    question: Question,
    found: dict[str, Any],
) -> Pairs | None:
    """Enters into `found` how well pairs are told apart; for identities also by the controls. Returns the pairs."""
    at = choose_paired(images.hashes, images.labels)
    if len(at) < 2:
        return None
    labels = images.labels[at]
    pairs = make_pairs(features[at], labels)
    thresholds = None if question.is_validation else read_pairs(question.folder).get("thresholds")
    found["pairs"], samples = judge_pairs(pairs, thresholds)
    if found["pairs"] is None:
        return None
    found["pairs"]["is_chosen_here"] = thresholds is None
    if found["identities"]:
        pixels = images.pixels[at]
        others = {"pixels": shrink_pixels(pixels), "untrained": predict_outputs(untrained, pixels)}
        for name, rows in others.items():
            judged, theirs = judge_pairs(make_pairs(rows, labels))
            value = found["pairs"]["metrics"]["eer"] - judged["metrics"]["eer"]
            low, high = np.quantile(samples - theirs, [0.025, 0.975]) if len(samples) else (None, None)
            found["pair_controls"].append(
                {
                    "name": name,
                    "eer": judged["metrics"]["eer"],
                    "value": value,
                    "low": None if low is None else float(min(low, value)),
                    "high": None if high is None else float(max(high, value)),
                }
            )
    return pairs


def read_pairs(folder: Path | None) -> dict[str, Any]:
    """The part about pairs in a run's `metrics_val.json`; {} if it is missing or damaged."""
    try:
        pairs = read_validation(folder)["contrast"]["pairs"]
        thresholds = {str(name): float(value) for name, value in pairs["thresholds"].items()}
        return {**pairs, "thresholds": thresholds, "quantiles": np.array(pairs["quantiles"], float)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _make_gallery(
    known: np.ndarray, train: Images, features: np.ndarray, images: Images
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Some images, one of each class first, and their nearest training images; see `draw_contrast`."""
    place = pd.Series(images.labels).groupby(images.labels).cumcount().to_numpy()
    chosen = np.argsort(place, kind="stable")[:SHOWN]
    similarity = scale_rows(features[chosen]) @ scale_rows(known).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :NEAREST]
    return images.view[chosen], train.pixels[nearest], images.labels[chosen], train.labels[nearest]


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Returns for each image the other image that is most like it, and how similar the two are.

    Returns:
        `other`: its place among the images; `cosine`, -1 to 1; `above`: the share of validation pairs of two classes that are less alike, 0 to 1;
        `same`: whether it is above the threshold of equal errors that was chosen on validation. The last two only if validation has such pairs.

    Raises:
        InputError: There is only one image.
    """
    if len(pixels) < 2:
        raise InputError("A run of task=contrast compares images with each other: give two or more, or a folder.")
    rows = scale_rows(predict_outputs(model, pixels))
    number, cosine = find_nearest(rows, rows, itself=True)
    table = _compare_with_pairs(cosine, run)
    table.insert(0, "other", number)
    return table


def search(model: keras.Model, pixels: np.ndarray, among: np.ndarray, run: Run, most: int = 5) -> pd.DataFrame:
    """Finds for each image those that are most like it, by the cosine of the features.

    Args:
        model: The run's model.
        pixels, among: The images, and those that are searched: `uint8 [n, height, width, channels]` each, in the form that the model takes.
        run: The run.
        most: Number of images found for each image; all if there are fewer.

    Returns:
        `image` and `found`, places in `pixels` and `among`; `rank` from 1; `cosine`, `above` and `same` as in `predict`. The most similar
        comes first; among equals, the earlier.
    """
    rows, others = (scale_rows(predict_outputs(model, of)) for of in (pixels, among))
    return find_alike(rows, others, run, most)


def find_alike(rows: np.ndarray, others: np.ndarray, run: Run, most: int) -> pd.DataFrame:
    """Does what `search` does, with features that are already computed: `float32 [n, size]` and `float32 [m, size]`, of length 1."""
    found = np.empty((len(rows), min(most, len(others))), int)
    cosine = np.empty(found.shape, np.float32)
    for at in range(0, len(rows), 100):  # rows of similarity that are in memory at the same time
        similarity = rows[at : at + 100] @ others.T
        found[at : at + 100] = np.argsort(-similarity, axis=1, kind="stable")[:, : found.shape[1]]
        cosine[at : at + 100] = np.take_along_axis(similarity, found[at : at + 100], axis=1)
    image, rank = np.indices(found.shape)
    table = pd.DataFrame({"image": image.ravel(), "rank": rank.ravel() + 1, "found": found.ravel()})
    return pd.concat([table, _compare_with_pairs(cosine.ravel(), run)], axis=1)


def _compare_with_pairs(cosine: np.ndarray, run: Run) -> pd.DataFrame:
    """`cosine`; and, if validation had pairs, `above` and `same`, see `predict`."""
    table = pd.DataFrame({"cosine": cosine.astype(float)})
    known = read_pairs(run.path)
    if known:
        table["above"] = np.searchsorted(known["quantiles"], cosine) / len(known["quantiles"])
        table["same"] = cosine >= known["thresholds"]["eer"]
    return table


def draw_embeddings(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    """Draws a map of validation images: by principal components, and by t-SNE."""
    val = data.sample("val", MOST_MAPPED)
    features = predict_outputs(model, val.pixels)
    title = caption("{run}, {split}: a map of the features", run=run.name, split=caption("validation"))
    table = pd.DataFrame({"image": val.names, "class": [data.class_names[label] for label in val.labels]})
    return plot_embeddings(features, val.labels, data.class_names, title, MAPS), table


def draw_neighbours(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    """Draws validation images next to the training images whose features are nearest."""
    val, train = data.sample("val", 200), data.sample("train", MOST_LABELS)
    features, known = predict_outputs(model, val.pixels), predict_outputs(model, train.pixels)
    images, nearest, labels, theirs = _make_gallery(known, train, features, val)
    title = caption(
        "{run}, {split}: images and their nearest training images", run=run.name, split=caption("validation")
    )
    table = pd.DataFrame({"class": [data.class_names[label] for label in labels]})
    for place in range(nearest.shape[1]):
        table[f"nearest_{place + 1}"] = [data.class_names[label] for label in theirs[:, place]]
    return plot_neighbours(images, nearest, labels, theirs, data.class_names, title), table


TASK = Task(
    check,
    compile_arguments,
    watch,
    judge,
    best=choose_best,
    options=OPTIONS,
    loads=load_arguments,
    predict=predict,
    inspect={"embeddings": draw_embeddings, "nearest_images": draw_neighbours},
    has_classes=False,
    mutes=frozenset({"small_validation", "reference_accuracy"}),
)
