"""Classification: one class for each image, by softmax probabilities."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure

from pbl.config import Config
from pbl.data import Data, Images
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.errors import InputError
from pbl.evaluation.calibration import apply_temperature
from pbl.evaluation.metrics import add_what_validation_chose, choose_by_validation, compute_metrics
from pbl.evaluation.thresholds import parse_aim, tabulate_thresholds
from pbl.models.prediction import predict_probabilities
from pbl.plotting import (
    plot_confusion_matrix,
    plot_gallery,
    plot_precision_recall,
    plot_reliability,
    plot_roc,
    plot_thresholds,
)
from pbl.tasks.task import Judged, Question, Task
from pbl.training.optimization import build_loss


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model gives a row of probabilities for an image; returns their dtype."""
    return check_outputs(model, data.images("val").pixels[:2], data.num_classes)


def check_outputs(model: keras.Model, pixels: np.ndarray, num_classes: int) -> str:
    """Raises InputError unless a model gives one row of probabilities for each image; before an hour is spent on it.

    Args:
        model: The model.
        pixels: A few images, `uint8 [n, height, width, channels]`.
        num_classes: How many probabilities a row must have.

    Returns:
        The outputs' dtype.
    """
    outputs = model(pixels, training=False)
    if isinstance(outputs, (list, tuple, dict)):
        raise InputError(
            "The model gives {n} outputs; `train` takes one. Train it in a notebook by `fit`.", n=len(outputs)
        )
    if tuple(outputs.shape) != (len(pixels), num_classes):
        raise InputError(
            "The model gives the shape {shape} for {n} images of {classes} classes. End it with"
            " Dense(num_classes, activation='softmax').",
            shape=tuple(outputs.shape), n=len(pixels), classes=num_classes,
        )  # fmt: skip
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if rows.min() < 0 or abs(rows.sum(axis=1) - 1).max() > 1e-2:
        raise InputError(
            "The model's outputs are no probabilities: a row sums to {total:.3g}. End it with"
            " Dense(num_classes, activation='softmax').",
            total=float(rows.sum(axis=1)[0]),
        )
    return keras.backend.standardize_dtype(outputs.dtype)


def compile_arguments(config: Config) -> dict[str, Any]:
    """Cross-entropy, and accuracy."""
    return {"loss": build_loss(config), "metrics": ["accuracy"]}


def watch(data: Data, file: Path) -> OverfittingMonitor:
    """Measures what the diagnosis needs."""
    return OverfittingMonitor(data, file=file)


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Computes the metrics of `pbl.evaluation.metrics`, and what validation chose: temperature and threshold.

    Args:
        model: A model of one softmax output.
        data: Whose classes they are.
        images: The images.
        question: What is asked.
    """
    labels, probabilities = images.labels, predict_probabilities(model, images.pixels)
    metrics = compute_metrics(labels, probabilities, data.class_names, question.positive_class)
    positive = data.class_names.index(metrics["positive"]["class"]) if "positive" in metrics else None
    known = (labels, probabilities) if question.is_validation else question.validation
    if known is not None:
        temperature, threshold, interval = choose_by_validation(*known, positive, question.aim)
        add_what_validation_chose(metrics, labels, probabilities, temperature, threshold, question.aim)
        if "threshold" in metrics:
            metrics["threshold"]["interval"] = interval
    return Judged(
        metrics, {"labels": labels, "probabilities": probabilities}, draw(question, metrics, images, probabilities)
    )


def draw(
    question: Question, result: dict[str, Any], images: Images, probabilities: np.ndarray
) -> Iterator[tuple[str, Figure]]:
    """The figures of an evaluation, by name."""
    run, split = question.run, question.split
    labels, names = images.labels, result["class_names"]
    of = f"{split} ({result['images']:,} images"
    title = f"{run}: confusion matrix, {of}, accuracy {result['accuracy']:.4f})"
    yield "confusion_matrix", plot_confusion_matrix(result["confusion_matrix"], names, title)
    if not question.all_figures:
        return
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    mended = None
    if "temperature" in result["calibration"]:
        mended = apply_temperature(probabilities, result["calibration"]["temperature"])[range(len(labels)), predicted]
    title = f"{run}: how sure, how right, {of})"
    yield "reliability", plot_reliability(confidence, predicted == labels, mended, title)
    positive = names.index(result["positive"]["class"]) if "positive" in result else None
    for name, plot in (("precision_recall", plot_precision_recall), ("roc", plot_roc)):
        title = f"{run}: {name.replace('_', ' and ').replace('roc', 'ROC curves')}, {of})"
        yield name, plot(labels, probabilities, names, title, positive)
    if "threshold" in result and positive is not None:
        chosen = result["threshold"]
        table = tabulate_thresholds(labels == positive, probabilities[:, positive], parse_aim(chosen["aim"]))
        title = f"{run}: thresholds for '{names[positive]}', {of})"
        yield "threshold", plot_thresholds(table, chosen["value"], chosen["interval"], chosen["aim"], title)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:24]
    unsure = np.argsort(confidence, kind="stable")[:24]
    for name, chosen, heading in (
        ("mistakes", worst, f"the surest of {len(wrong)} mistakes"),
        ("least_sure", unsure, "the least sure"),
    ):
        if len(chosen):
            titles = [
                f"{names[labels[at]]}\ncalled {names[predicted[at]]}, {confidence[at]:.2f}\n{images.names[at]}"
                for at in chosen
            ]
            yield name, plot_gallery([images.pixels[at] for at in chosen], titles, f"{run}, {split}: {heading}")


TASK = Task(check, compile_arguments, watch, judge)
