"""Segmentation: a class for each pixel, by softmax probabilities; scored per image or patient, never only per pixel.

`task=segmentation` with `model=unet`, or your own network that returns `[batch, height, width, classes]`. The data have a mask for each
image (`pbl.data.mask_files`). With two classes the threshold is chosen on validation, and compared with .5.
"""

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
from pbl.evaluation.mask_evidence import Units, average_within, measure_masks, name_groups, predict_masks
from pbl.evaluation.mask_figures import draw_classes, draw_masks
from pbl.evaluation.mask_monitor import MaskMonitor
from pbl.evaluation.segmentation import (
    NEIGHBOURS,
    Thresholds,
    average,
    choose_threshold,
    judge_masks,
    tabulate_thresholds,
)
from pbl.models.calls import is_overridden
from pbl.runs import Run
from pbl.tasks.task import Judged, Question, Task, name_units, read_validation
from pbl.training.mask_loss import KINDS, MaskLoss, MeanDice

OPTIONS = {"loss": "cross_entropy", "class_weights": (), "false_images": None}


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `load_data`: each image has a mask. Raises InputError if an option has an impossible value."""
    if options["loss"] not in KINDS:
        raise InputError("task_options.loss={loss}. Valid: {valid}.", loss=options["loss"], valid=", ".join(KINDS))
    weights = options["class_weights"]
    is_list = isinstance(weights, (list, tuple))
    if (
        not is_list
        or not all(isinstance(w, (int, float)) and not isinstance(w, bool) and w >= 0 for w in weights)
        or (weights and not any(weights))
    ):
        raise InputError(
            "task_options.class_weights={weights}: a number, 0 or more, for each class, the background first, and not all 0: [1, 5].",
            weights=weights,
        )
    if weights and options["loss"] == "dice":
        raise InputError(
            "task_options.class_weights weight the cross-entropy, but task_options.loss=dice has none. Omit them, or use loss=both."
        )
    most = options["false_images"]
    if most is not None and not (isinstance(most, (int, float)) and not isinstance(most, bool) and 0 <= most < 1):
        raise InputError(
            "task_options.false_images={share}: a share of the images without a region, from 0 to below 1, such as 0.1.",
            share=most,
        )
    return {"masks": True}


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model returns probabilities of each class for each pixel; returns their dtype."""
    pixels = data.images("val").view[:2]
    outputs = model(pixels, training=False) if is_overridden(model, "call") else None
    shape = (*pixels.shape[:3], data.num_classes)
    if tuple(getattr(outputs, "shape", ())) != shape:
        raise InputError(
            "task=segmentation: {model} gives {found} for {n} images; it must give {shape}, a probability of each class for each pixel. Use "
            "model=unet, or end yours with Conv2D(num_classes, 1, activation='softmax', dtype='float32').",
            model=model.name,
            found=tuple(getattr(outputs, "shape", ())) or type(outputs).__name__,
            n=len(pixels),
            shape=shape,
        )
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if rows.min() < 0 or abs(rows.sum(axis=-1) - 1).max() > 1e-2:
        raise InputError(
            "task=segmentation: the outputs of {model} are not probabilities: for a pixel they sum to {total:.3g}. End it with a softmax.",
            model=model.name,
            total=float(rows.sum(axis=-1).ravel()[0]),
        )
    return keras.backend.standardize_dtype(outputs.dtype)


def compile_arguments(config: Config) -> dict[str, Any]:
    """The loss by the task's options, and Dice; raises InputError for settings that have no meaning for masks."""
    if config.label_smoothing or config.loss != Config.model_fields["loss"].default:
        raise InputError(
            "task=segmentation: loss and label_smoothing are for classes. Valid: task_options.loss={valid}.",
            valid=", ".join(KINDS),
        )
    if config.class_weight is not None:
        raise InputError(
            "task=segmentation: class_weight={value} weights whole images by their class. Weight pixels instead: task_options.class_weights=[1, 5].",
            value=config.class_weight,
        )
    options = {**OPTIONS, **config.task_options}
    return {"loss": MaskLoss(options["loss"], options["class_weights"]), "metrics": [MeanDice()]}


def watch(data: Data, file: Path) -> keras.callbacks.Callback:
    """`MaskMonitor`, whose numbers are in the history."""
    return MaskMonitor(data)


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Evaluates masks by the most probable class, and with two classes by the threshold that was chosen on validation.

    Args:
        model: The model.
        data: The data that the images belong to.
        images: The images.
        question: What the evaluation asks; `options` are those of the task.
    """
    truth, names = images.masks, data.class_names
    measured = measure_masks(model, data, images, question.findings, question.is_validation, question.groups)
    if measured is None:
        raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
    numbers, predicted, groups = measured.numbers, measured.predicted, name_groups(question.groups)
    judged, foreground = numbers["masks"], predicted.foreground
    table = None if foreground is None else tabulate_thresholds(truth == 1, foreground)
    metrics = {"dice": judged["dice"], "pixel_accuracy": judged["pixel_accuracy"]}
    if len(names) == 2:
        (one,) = judged["classes"]
        metrics |= {"iou": one["iou"]["value"], "pooled_dice": one["pooled_dice"], "distance": one["distance"]}
    mean, intervals = average(measured.units.values), {}
    if mean.low is not None and judged["dice"] is not None:
        intervals["dice"] = [mean.low, mean.high]
    result = {
        "headline": "dice",
        "better": "higher",
        "metrics": metrics,
        "intervals": intervals,
        **numbers,
        "is_validation": question.is_validation,
        "threshold": _judge_threshold(table, foreground, truth, names, groups, question),
    }
    arrays = {"masks": predicted.masks, **_list_values(measured.units, images, groups)}
    figures = draw_masks(
        f"{question.run}, {question.split}",
        images.view,
        images.names,
        truth,
        predicted.masks,
        average_within(measured.dice),
        result,
        table,
        question.all_figures,
    )
    return Judged(result, arrays, figures)


def _judge_threshold(
    table: Thresholds | None,
    foreground: np.ndarray | None,
    truth: np.ndarray,
    names: list[str],
    groups: list[str] | None,
    question: Question,
) -> dict[str, Any] | None:
    """The threshold that was chosen on validation, and its result here; None with more classes, or if validation has none."""
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
    """The threshold in `metrics_val.json`."""
    found = read_validation(folder).get("threshold")
    value = found.get("value") if isinstance(found, dict) else None
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else None


def _list_values(units: Units, images: Images, groups: list[str] | None) -> dict[str, np.ndarray]:
    """A value for each image that has a class, or for each group, whose mean is the headline: `compare` reads it."""
    names, hashes = name_units(images, groups)
    return {
        "names": names[units.kept],
        "hashes": hashes[units.kept],
        "truth": np.ones(len(units.kept), np.int32),
        "values": units.values,
    }


def _choose_masks(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields the places of images, a few at a time, and their masks: by the threshold that was chosen on validation, else by the most probable class."""
    value = _read_threshold(run.path)  # it exists only with two classes
    for place, probabilities in predict_masks(model, pixels):
        masks = probabilities.argmax(axis=-1) if value is None else probabilities[..., 1].astype(np.float64) >= value
        yield place, masks.astype(np.uint8)


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Measures the predicted masks, in the size that the network sees.

    Returns:
        For each class except the background `<class>: pixels`, `<class>: share` (of the image's pixels, 0 to 1) and `<class>: regions`.
    """
    names, rows = run.split["class_names"], []
    for of_image in mask(model, pixels, run):
        row: dict[str, Any] = {}
        for number, name in enumerate(names[1:], 1):
            place = of_image == number
            row |= {
                f"{name}: pixels": int(place.sum()),
                f"{name}: share": float(place.mean()),
                f"{name}: regions": int(ndimage.label(place, NEIGHBOURS)[1]),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def mask(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[np.ndarray]:
    """Yields the predicted mask of each image."""
    for _, masks in _choose_masks(model, pixels, run):
        yield from masks


def draw_maps(model: keras.Model, pixels: np.ndarray, run: Run) -> Iterator[Figure]:
    """Draws each image with its predicted mask over it."""
    for place, masks in _choose_masks(model, pixels, run):
        for image, marked in zip(pixels[place], masks, strict=True):
            yield draw_classes(image, marked, run.split["class_names"])


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
    mask=mask,
    mutes=frozenset({"reference_accuracy", "small_validation"}),
)
