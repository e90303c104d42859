"""All uses of Keras's private parts, so that only one file has to be checked for a new version of Keras.

None of them has a public counterpart but `open_tape`, which stands here since it loads TensorFlow only when it is called. `tests/test_keras_private.py` checks them against the versions in `TESTED`.
"""

import sys
from typing import Any

import keras
from keras.src.random.seed_generator import global_seed_generator
from keras.src.utils.module_utils import tensorflow

from pbl.errors import InputError

TESTED = ("3.13", "3.15")


def flatten_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns a model and all its layers, also those inside layers and models; a shared layer once."""
    return model._flatten_layers()


def has_inner_layers(layer: keras.Layer) -> bool:
    """Returns whether a layer holds layers of its own."""
    return bool(layer._layers)


def open_tape() -> Any:
    """Returns TensorFlow's `GradientTape`, for a model with its own training step: Keras has no function for gradients."""
    return tensorflow.GradientTape()


def find_logits(outputs: Any) -> Any:
    """Returns the input of Keras's softmax or sigmoid, called eagerly, for these outputs; None if it is not known."""
    return getattr(outputs, "_keras_logits", None)


def find_seed_state() -> keras.Variable:
    """Returns the random state that `keras.random` uses if no seed is given."""
    return global_seed_generator().state


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Lets the `fit` that has just begun start at an epoch, from 0; None: at its own first epoch. `BackupAndRestore` does so too."""
    model._initial_epoch = epoch


def find_place(optimizer: keras.optimizers.Optimizer, variable: Any) -> int:
    """Returns the place of a variable in an optimizer's lists of slots."""
    return optimizer._get_variable_index(variable)


def find_moments(optimizer: keras.optimizers.Adam) -> tuple[list, list]:
    """Returns the first and second moments that Adam keeps, one variable for each variable that it trains."""
    return optimizer._momentums, optimizer._velocities


def find_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[Any, Any]]:
    """Returns the variables that an optimizer trains, each with its average from `use_ema`."""
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def find_swap(callback: keras.callbacks.SwapEMAWeights) -> dict[str, bool]:
    """Returns the attribute that tells Keras's callback whether the averages are in the model."""
    return {name: value for name, value in vars(callback).items() if name == "_ema_weights_in_model"}


def find_callbacks(name: str) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of the `fit` that calls the callback `name`. Keras does not pass them to a callback; they come from the calling frame.

    Raises:
        InputError: It is not called by a `fit`.
    """
    frame = sys._getframe(1)
    while frame is not None and not isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList):
        frame = frame.f_back
    if frame is None:
        raise InputError("{name} works in `fit`, or in a keras.callbacks.CallbackList.", name=name)
    return frame.f_locals["self"].callbacks
