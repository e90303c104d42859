"""Segmentation: a class for each pixel, by softmax probabilities; scored per image or patient, never per pixel alone.

`task=segmentation` with `model=unet`, or your own network that gives `[batch, height, width, classes]`. The data have a mask for each
image (`pbl.data.mask_files`). With two classes the threshold is chosen on validation, and judged beside .5.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import ndimage

from pbl.config import Config
from pbl.data import Data, Images
from pbl.errors import InputError
from pbl.evaluation.mask_figures import draw_masks, lay_over
from pbl.evaluation.segmentation import (
    NEIGHBOURS,
    Thresholds,
    choose_threshold,
    count_overlap,
    judge_masks,
    make_baselines,
    tabulate_thresholds,
)
from pbl.models.calls import is_overridden
from pbl.models.prediction import predict_outputs
from pbl.runs import Run
from pbl.storage.reading import UnreadableFile
from pbl.tasks.task import Judged, Question, Task
from pbl.training.mask_loss import KINDS, MaskLoss, MeanDice

OPTIONS = {"loss": "cross_entropy", "class_weights": (), "false_images": None}
AT_ONCE = 2**22  # pixels whose probabilities are in memory together
MOST_TRAIN = 500  # training images with which the baselines are made


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_data` is told: that each image has a mask. Raises InputError where an option has no possible value."""
    if options["loss"] not in KINDS:
        raise InputError("task_options.loss={loss}. Valid: {valid}.", loss=options["loss"], valid=", ".join(KINDS))
    weights = options["class_weights"]
    is_list = isinstance(weights, (list, tuple))
    if not is_list or not all(isinstance(w, (int, float)) and not isinstance(w, bool) and w >= 0 for w in weights):
        raise InputError(
            "task_options.class_weights={weights}: a number, 0 or more, for each class, the background first: [1, 5].",
            weights=weights,
        )
    most = options["false_images"]
    if most is not None and not (isinstance(most, (int, float)) and not isinstance(most, bool) and 0 <= most < 1):
        raise InputError(
            "task_options.false_images={share}: a share of the images without a region, from 0 to below 1, such as 0.1.",
            share=most,
        )
    return {"masks": True}


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model gives probabilities of each class for each pixel; returns their dtype."""
    pixels = data.images("val").view[:2]
    outputs = model(pixels, training=False) if is_overridden(model, "call") else None
    shape = (*pixels.shape[:3], data.num_classes)
    if tuple(getattr(outputs, "shape", ())) != shape:
        raise InputError(
            "task=segmentation: {model} gives {found} for {n} images; it must give {shape}, a probability of each class for each pixel."
            " Take model=unet, or end yours with Conv2D(num_classes, 1, activation='softmax', dtype='float32').",
            model=model.name, found=tuple(getattr(outputs, "shape", ())) or type(outputs).__name__, n=len(pixels), shape=shape,
        )  # fmt: skip
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if rows.min() < 0 or abs(rows.sum(axis=-1) - 1).max() > 1e-2:
        raise InputError(
            "task=segmentation: the outputs of {model} are no probabilities: those of a pixel sum to {total:.3g}. End it with a softmax.",
            model=model.name, total=float(rows.sum(axis=-1).ravel()[0]),
        )  # fmt: skip
    return keras.backend.standardize_dtype(outputs.dtype)


def compile_arguments(config: Config) -> dict[str, Any]:
    """The loss by the task's options, and Dice; raises InputError for settings that mean nothing of masks."""
    if config.label_smoothing or config.loss != Config.model_fields["loss"].default:
        raise InputError(
            "task=segmentation: loss and label_smoothing are for classes. Valid: task_options.loss={valid}.",
            valid=", ".join(KINDS),
        )
    options = {**OPTIONS, **config.task_options}
    return {"loss": MaskLoss(options["loss"], options["class_weights"]), "metrics": [MeanDice()]}


def watch(data: Data, file: Path) -> None:
    """Nothing: loss and Dice of training and validation stand in the history."""


def predict_masks(model: keras.Model, pixels: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields places of some images after others, and their probabilities, `float32 [some, height, width, classes]`."""
    at_once = max(1, AT_ONCE // int(np.prod(pixels.shape[1:3])))
    for start in range(0, len(pixels), at_once):
        place = slice(start, min(start + at_once, len(pixels)))
        yield place, predict_outputs(model, pixels[place])


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Judges masks by the likeliest class, and with two classes by the threshold that validation chose.

    Args:
        model: The model.
        data: That the images are of.
        images: The images.
        question: What is asked; `options` are the task's.
    """
    truth, names = images.masks, data.class_names
    predicted = np.zeros(truth.shape, np.uint8)
    foreground = np.zeros(truth.shape, np.float32) if len(names) == 2 else None
    for place, probabilities in predict_masks(model, images.view):
        if not np.isfinite(probabilities).all():
            raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
        predicted[place] = probabilities.argmax(axis=-1)
        if foreground is not None:
            foreground[place] = probabilities[..., 1]
    groups = None
    if question.groups is not None:  # an image in no group is one of its own
        groups = [word or f"\0{at}" for at, word in enumerate(question.groups)]
    judged = judge_masks(truth, predicted, names, groups)
    table = None if foreground is None else tabulate_thresholds(truth == 1, foreground)
    train = data.sample("train", MOST_TRAIN)
    baselines = []
    for baseline in make_baselines(train.pixels, train.masks, images.pixels, len(names)):
        of = judge_masks(truth, baseline.masks, names, groups)
        baselines.append(
            {"name": baseline.name, "dice": of["dice"], "pixel_accuracy": of["pixel_accuracy"], **baseline.settings}
        )
    metrics = {"dice": judged["dice"], "pixel_accuracy": judged["pixel_accuracy"]}
    if len(names) == 2:
        (one,) = judged["classes"]
        metrics |= {"iou": one["iou"]["value"], "pooled_dice": one["pooled_dice"], "distance": one["distance"]}
    headline = [of["dice"] for of in judged["classes"]]
    result = {
        "images": len(truth), "headline": "dice", "better": "higher", "metrics": metrics,
        "intervals": {"dice": [headline[0]["low"], headline[0]["high"]]} if len(headline) == 1 and headline[0]["low"] is not None else {},
        "masks": judged, "without_network": baselines, "is_validation": question.is_validation,
        "threshold": _judge_threshold(table, foreground, truth, names, groups, question),
    }  # fmt: skip
    overlap = count_overlap(truth, predicted, len(names))
    dice = np.where(overlap.truth > 0, overlap.dice, np.nan)[:, 1:]
    arrays = {"masks": predicted, **_list_values(dice, images, groups)}
    figures = draw_masks(
        f"{question.run}, {question.split}", images.view, images.names, truth, predicted,
        _mean_known(dice), result, table, question.all_figures,
    )  # fmt: skip
    return Judged(result, arrays, figures)


def _mean_known(values: np.ndarray) -> np.ndarray:
    """The mean of each row's numbers, NaN where it has none."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def _judge_threshold(
    table: Thresholds | None,
    foreground: np.ndarray | None,
    truth: np.ndarray,
    names: list[str],
    groups: list[str] | None,
    question: Question,
) -> dict[str, Any] | None:
    """The threshold that validation chose, and what it gives here; None with more classes, or where validation says nothing."""
    if table is None:
        return None
    most_false = question.options.get("false_images")
    value = choose_threshold(table, most_false) if question.is_validation else _read_threshold(question.folder)
    if value is None:
        return None
    masks = (foreground.astype(np.float64) >= value).astype(np.uint8)
    (one,) = judge_masks(truth, masks, names, groups)["classes"]
    return {"value": value, "most_false_images": most_false, **one}


def _read_threshold(folder: Path | None) -> float | None:
    """What `metrics_val.json` says."""
    if folder is None:
        return None
    try:
        found = Run(folder).read_json("metrics_val.json").get("threshold")
    except (FileNotFoundError, UnreadableFile):
        return None
    value = found.get("value") if isinstance(found, dict) else None
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else None


def _list_values(dice: np.ndarray, images: Images, groups: list[str] | None) -> dict[str, np.ndarray]:
    """A value for each image that has a class, or for each group, whose mean is the headline: what `compare` reads.

    Args:
        dice: `float [n, classes]`, without the background; NaN where an image has it not.
        images: The images.
        groups: A word for each, or None.
    """
    units = np.arange(len(dice)) if groups is None else np.unique(groups, return_inverse=True)[1]
    words = images.names if groups is None else sorted(set(groups))
    count = int(units.max()) + 1
    values, has_any = np.zeros(count), np.zeros(count, bool)
    for of_class in dice.T:
        known = ~np.isnan(of_class)
        total = np.bincount(units[known], of_class[known], minlength=count)
        of = np.bincount(units[known], minlength=count)
        has = of > 0
        if has.any():
            values[has] += total[has] / of[has] / has.sum() / dice.shape[1]
        has_any |= has
    values *= has_any.sum()
    hashes = [hashlib.sha256() for _ in range(count)]
    for at in sorted(range(len(dice)), key=lambda at: images.hashes[at]):
        hashes[units[at]].update(images.hashes[at].encode())
    kept = np.flatnonzero(has_any)
    return {
        "names": np.array([words[at] for at in kept]),
        "hashes": np.array([images.hashes[at] if groups is None else hashes[at].hexdigest() for at in kept]),
        "truth": np.ones(len(kept), np.int32),
        "values": values[kept],
    }


def _choose_masks(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields places of some images after others, and their masks: by the threshold that validation chose, else by the likeliest class."""
    value = _read_threshold(run.path)  # of two classes alone there is one
    for place, probabilities in predict_masks(model, pixels):
        masks = probabilities.argmax(axis=-1) if value is None else probabilities[..., 1].astype(np.float64) >= value
        yield place, masks.astype(np.uint8)


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Measures the predicted masks: of each class but the background its pixels, their share of the image, and how many regions."""
    names, rows = run.split["class_names"], []
    for _, masks in _choose_masks(model, pixels, run):
        for mask in masks:
            row: dict[str, Any] = {}
            for number, name in enumerate(names[1:], 1):
                place = mask == number
                row |= {
                    f"{name}: pixels": int(place.sum()),
                    f"{name}: share": float(place.mean()),
                    f"{name}: regions": int(ndimage.label(place, NEIGHBOURS)[1]),
                }
            rows.append(row)
    return pd.DataFrame(rows)


def draw_maps(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[Figure]:
    """Draws each image with its predicted mask over it."""
    for place, masks in _choose_masks(model, pixels, run):
        for image, mask in zip(pixels[place], masks, strict=True):
            figure = Figure(figsize=(4, 4), layout="constrained")
            axes = figure.subplots()
            axes.imshow(lay_over(image, mask, mask))
            axes.axis("off")
            yield figure


TASK = Task(
    check,
    compile_arguments,
    watch,
    judge,
    best=("val_dice", "max"),
    options=OPTIONS,
    loads=load_arguments,
    predict=predict,
    draw_maps=draw_maps,
    mutes=frozenset({"reference_accuracy", "small_validation"}),
)
