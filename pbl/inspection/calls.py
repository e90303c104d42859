"""The output of each layer while a model is called: filters, Grad-CAM and attention are computed from it."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pbl.errors import InputError
from pbl.models.calls import replaced_calls
from pbl.models.keras_private import flatten_layers

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose)
ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
BATCH = 32  # images


class Call(NamedTuple):
    """One output of a layer while a model was called."""

    layer: keras.Layer
    output: Any


def call_watched(model: keras.Model, pixels: np.ndarray, see: Callable[[int, Call], None]) -> Any:
    """Calls a model in inference mode, and passes the outputs of all its layers to `see`, nested and shared layers too.

    No new model is built, so it works in the same way for Sequential, Functional and subclassed models.

    Args:
        model: The model.
        pixels: `[n, height, width, channels]`.
        see: Called with each output and its index, from 0, in the order in which the layers finish, before anything is
            computed from the output.

    Returns:
        The model's output, or the first of several.
    """
    if not model.built:  # building calls the layers too
        model(pixels[:1], training=False)
    numbers = itertools.count()

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            outputs = original(*arguments, **options)
            for output in filter(tf.is_tensor, keras.tree.flatten(outputs)):
                see(next(numbers), Call(layer, output))
            return outputs

        return call

    are_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # inside a `tf.function` of a student's model no value could be seen
    try:
        with replaced_calls(flatten_layers(model), watch):
            outputs = model(pixels, training=False)
    finally:
        tf.config.run_functions_eagerly(are_eager)
    return keras.tree.flatten(outputs)[0]


def is_map(call: Call) -> bool:
    """Returns whether an output is a map of more than one place, `float [n, height, width, channels]`."""
    shape = call.output.shape
    return len(shape) == 4 and shape[1] * shape[2] > 1 and call.output.dtype.is_floating


def check_pixels(pixels: np.ndarray) -> np.ndarray:
    """Returns the images as an array; raises InputError unless they are `[n, height, width, channels]`, at least one."""
    pixels = np.asarray(pixels)
    if pixels.ndim != 4 or not len(pixels):
        raise InputError(
            "The images have the shape {shape}. Give [n, height, width, channels]; for one image, image[None].",
            shape=pixels.shape,
        )
    return pixels
