"""A model with its own loss or training step, and no agreed score: an autoencoder, a GAN, a contrastive encoder.

The builder returns a subclass of `keras.Model` with its own `compute_loss` or `train_step`, and if it is to be validated
`test_step`. It is compiled here with the settings' optimizer, or by the builder (a GAN with two optimizers). The training
resumes exactly, is reported, logged and measured; `evaluate` returns the model's Keras metrics.
"""

from pathlib import Path
from typing import Any

import keras

from pbl.config import Config
from pbl.data import Data, Images
from pbl.errors import InputError
from pbl.models.calls import is_overridden, is_validated
from pbl.storage.writing import temporary_folder
from pbl.tasks.task import Judged, Question, Task


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model has something to learn and its weights can be kept; this is checked before an hour is spent on it."""
    overrides = {name for name in ("train_step", "compute_loss") if is_overridden(model, name)}
    if not overrides and not model.compiled and not model.losses:
        raise InputError(
            "task=own: {model} has no loss. Return a subclass of keras.Model with its own compute_loss or train_step, or a"
            " model that the builder has compiled.",
            model=model.name,
        )
    try:
        with temporary_folder() as folder:
            model.save_weights(Path(folder) / "trial.weights.h5")
        if not model.trainable_weights:
            raise ValueError("it has none.")
    except Exception as error:
        raise InputError(
            "task=own: the weights of {model} cannot be saved: {error} Make its layers in __init__ and build them, and set self.built = True if "
            "the model itself is never called.",
            model=model.name,
            error=" ".join(str(error).split())[:300],
        ) from error
    return "float32"


def compile_arguments(config: Config) -> dict[str, Any]:
    """None: the model has its own loss and metrics."""
    return {}


def watch(data: Data, file: Path) -> None:
    """None: tasks of this kind have no common quantity to measure."""


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Computes the model's Keras metrics: the result of `model.evaluate`, including the loss.

    Args:
        model: The model; compiled here if it is not.
        data: The data that the images belong to.
        images: The images.
        question: What the evaluation asks; only `best` is used.
    """
    if not model.compiled:
        model.compile()
    values = {}
    if is_validated(model):
        values = model.evaluate(data.in_order(images), return_dict=True, verbose=0)
    metrics = {name: float(value) for name, value in values.items()}
    monitor, mode = question.best
    headline = monitor.removeprefix("val_")
    return Judged(
        {
            "images": len(images.labels),
            "headline": headline if headline in metrics else next(iter(metrics), None),
            "better": "lower" if mode == "min" else "higher",
            "metrics": metrics,
        },
        arrays={},
    )


TASK = Task(check, compile_arguments, watch, judge, options={"monitor": "val_loss", "mode": "min"})
