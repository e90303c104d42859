"""Where a training failed whose loss is no longer a finite number: epoch, step and layer."""

import time
from collections.abc import Callable

import keras
import numpy as np

from pbl.data import Data
from pbl.errors import Sentence
from pbl.models.calls import replaced_calls
from pbl.models.keras_private import flatten_layers, has_inner_layers
from pbl.training.checkpoint import ExactResume
from pbl.training.performance import fused_operations

PATIENCE_SECONDS = 120.0


def is_finite(logs: dict[str, float]) -> bool:
    """Returns whether what is minimised is a finite number: the loss, or each `..._loss` of a model with several."""
    losses = [
        value
        for name, value in logs.items()
        if name == "loss" or (name.endswith("_loss") and not name.startswith(("val_", "probe_")))
    ]
    return bool(np.isfinite(losses).all())


class StopAtNaN(keras.callbacks.Callback):
    """Ends the training at the first loss that is not a finite number.

    Unlike `keras.callbacks.TerminateOnNaN` it remembers the place, and does not make Keras wait for a GPU at each step.

    Attributes:
        at: Epoch and step, both from 0, after which it was seen; None if it was never seen.
    """

    async_safe = True

    def __init__(self):
        super().__init__()
        self.at: tuple[int, int] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.at is None and not is_finite(logs or {}):
            self.at = (self._epoch, batch)
            self.model.stop_training = True


def name_layer(model: keras.Model, data: Data, resume: ExactResume, until: tuple[int, int]) -> str:
    """Repeats a training from its last good state, step by step, and returns which value overflowed first.

    Args:
        model: Built and compiled as in the training; it is trained here.
        data: Its data.
        resume: Opened on the run's folder; its state is put back, if there is one.
        until: Epoch and step, from 0, at which the loss was seen not to be finite.

    Returns:
        For example "step 12 of epoch 3: the outputs of 'conv2d_4' are not finite"; "" if it did not happen again, or not
        within two minutes.
    """
    epoch, step = resume.put_back(model)
    deadline = time.monotonic() + PATIENCE_SECONDS
    with fused_operations(model):
        for batch in data.stream(epoch, step):
            if (epoch, step) > until or time.monotonic() > deadline:
                return ""
            before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]
            where = Sentence("step {step} of epoch {epoch}", step=step + 1, epoch=epoch + 1)
            for variable, value in zip(model.variables, before, strict=True):
                if not np.isfinite(value).all():
                    return Sentence(
                        "{where}: '{weight}' is no longer finite, because its gradient was not",
                        where=where,
                        weight=variable.path,
                    )
            model.reset_metrics()
            if not is_finite(model.train_on_batch(*batch, return_dict=True)):
                for variable, value in zip(model.variables, before, strict=True):
                    variable.assign(value)
                layer = _first_overflow(model, batch[0])
                if not layer:
                    return where
                return Sentence("{where}: the outputs of '{layer}' are not finite", where=where, layer=layer)
            step += 1
            if step == data.steps_per_epoch:
                epoch, step = epoch + 1, 0
    return ""


def _first_overflow(model: keras.Model, images) -> str:
    """The first layer, in the order of the computation, whose output is not finite."""
    found: list[str] = []

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments, **options):
            outputs = original(*arguments, **options)
            for output in keras.tree.flatten(outputs):
                if not found and not np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(output, "float32"))).all():
                    found.append(layer.name)
            return outputs

        return call

    with replaced_calls((layer for layer in flatten_layers(model) if not has_inner_layers(layer)), watch):
        model(images, training=True)
    return found[0] if found else ""
