"""Classification: one class for each image, by softmax probabilities."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from pbl.config import Config
from pbl.data import Data, Images
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.errors import InputError
from pbl.evaluation.figures import draw
from pbl.evaluation.metrics import add_what_validation_chose, choose_by_validation, compute_metrics
from pbl.evaluation.mistakes import find_pairs, make_small_images
from pbl.models.calls import is_overridden
from pbl.models.prediction import predict_probabilities
from pbl.runs import Run
from pbl.tasks.task import Judged, Question, Task
from pbl.training.optimization import build_loss


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model returns a row of probabilities for each image; returns their dtype."""
    return check_outputs(model, data.images("val").view[:2], data.num_classes)


def check_outputs(model: keras.Model, pixels: np.ndarray, num_classes: int) -> str:
    """Raises InputError unless a model returns one row of probabilities for each image; this is checked before an hour is spent on it.

    Args:
        model: The model.
        pixels: A few images, `uint8 [n, height, width, channels]`.
        num_classes: Number of probabilities in a row.

    Returns:
        The outputs' dtype.
    """
    if not is_overridden(model, "call"):
        raise InputError(
            "{model} has no call(): it classifies nothing. Use task=own for a model with a training step of its own.",
            model=model.name,
        )
    outputs = model(pixels, training=False)
    if outputs is None:
        raise InputError("The call() of {model} returns nothing. End it with `return`.", model=type(model).__name__)
    if isinstance(outputs, (list, tuple, dict)):
        raise InputError(
            "The model gives {n} outputs; `train` takes one. Train it in a notebook by `fit`.", n=len(outputs)
        )
    if tuple(outputs.shape) != (len(pixels), num_classes):
        raise InputError(
            "The model gives the shape {shape} for {n} images of {classes} classes. End it with"
            " Dense(num_classes, activation='softmax').",
            shape=tuple(outputs.shape),
            n=len(pixels),
            classes=num_classes,
        )
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if rows.min() < 0 or abs(rows.sum(axis=1) - 1).max() > 1e-2:
        raise InputError(
            "The model's outputs are not probabilities: a row sums to {total:.3g}. End it with Dense(num_classes, activation='softmax').",
            total=float(rows.sum(axis=1)[0]),
        )
    return keras.backend.standardize_dtype(outputs.dtype)


def compile_arguments(config: Config) -> dict[str, Any]:
    """Cross-entropy, and accuracy."""
    return {"loss": build_loss(config), "metrics": ["accuracy"]}


def predict(model: keras.Model, pixels: np.ndarray, run: Run) -> pd.DataFrame:
    """Predicts classes: `class`, `probability`, and one column of probabilities for each class."""
    probabilities, names = predict_probabilities(model, pixels), run.split["class_names"]
    best = probabilities.argmax(axis=1)
    table = pd.DataFrame({"class": [names[c] for c in best], "probability": probabilities.max(axis=1)})
    return pd.concat([table, pd.DataFrame(probabilities, columns=[f"p({name})" for name in names])], axis=1)


def watch(data: Data, file: Path) -> OverfittingMonitor:
    """Measures the quantities that the diagnosis needs."""
    return OverfittingMonitor(data, file=file)


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Computes the metrics of `pbl.evaluation.metrics`, and what was chosen on validation: temperature and threshold.

    Args:
        model: A model with one softmax output.
        data: The data that the classes come from.
        images: The images.
        question: What the evaluation asks.
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
    figures = draw(question.run, question.split, metrics, images, probabilities, question.all_figures)
    places = [place for pair in find_pairs(labels, probabilities) for place in pair.places]
    small = make_small_images([images.pixels[place] for place in places])  # so that the report can show them later
    arrays = {
        "labels": labels,
        "probabilities": probabilities,
        "mistakes": np.array(places, int),
        "small_images": small,
    }
    return Judged(metrics, arrays, figures)


TASK = Task(check, compile_arguments, watch, judge, predict=predict)
