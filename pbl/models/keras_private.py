"""All that touches Keras's private parts, so that a new version of Keras is looked at in one place.

Each has no public counterpart. `tests/test_keras_private.py` holds them to the versions in `TESTED`.
"""

import sys
from typing import Any

import keras
from keras.src.random.seed_generator import global_seed_generator
from keras.src.utils.module_utils import tensorflow

from pbl.errors import InputError

TESTED = ("3.13", "3.15")


def flatten_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model and all its layers, also those inside of layers and models; a shared layer once."""
    return model._flatten_layers()


def has_inner_layers(layer: keras.Layer) -> bool:
    """Returns whether a layer holds layers of its own."""
    return bool(layer._layers)


def open_tape() -> Any:
    """Returns TensorFlow's `GradientTape`, for a model with a training step of its own: Keras has no word for gradients."""
    return tensorflow.GradientTape()


def find_logits(outputs: Any) -> Any:
    """Returns what Keras's softmax or sigmoid, called eagerly, was given for these outputs; None where it is not known."""
    return getattr(outputs, "_keras_logits", None)


def find_seed_state() -> keras.Variable:
    """Returns the random state that `keras.random` uses without a seed of its own."""
    return global_seed_generator().state


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Lets the `fit` that has just begun start at an epoch, from 0; None: at its own. `BackupAndRestore` does so too."""
    model._initial_epoch = epoch


def find_place(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a variable in an optimizer's lists of slots."""
    return optimizer._get_variable_index(variable)


def find_moments(optimizer: keras.optimizers.Adam) -> tuple[list, list]:
    """Returns the first and second moments that Adam keeps, a variable for each that it trains."""
    return optimizer._momentums, optimizer._velocities


def find_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[Any, Any]]:
    """Returns the variables that an optimizer trains, each with the average that `use_ema` keeps of it."""
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def find_swap(callback: keras.callbacks.SwapEMAWeights) -> dict[str, bool]:
    """Returns the attribute by which Keras's callback knows whether the averages are in the model."""
    return {name: value for name, value in vars(callback).items() if name == "_ema_weights_in_model"}


def find_callbacks(name: str) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of the `fit` that calls the callback `name`. Keras tells it nothing of the others; its caller does.

    Raises:
        InputError: It is not called by a `fit`.
    """
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList):
        frame = frame.f_back
    if frame is None:
        raise InputError("{name} works in `fit`, or in a keras.callbacks.CallbackList.", name=name)
    return frame.f_locals["self"].callbacks
