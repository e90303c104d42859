"""What a model costs: its weights, and its multiply-accumulates for one image."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import layers

from pbl.models.calls import replaced_calls
from pbl.models.keras_private import flatten_layers, has_inner_layers


def count_trainable_weights(model: keras.Model) -> int:
    """Returns the number of trainable weights: what papers call parameters, without moving averages.

    Example:
        >>> from pbl import models
        >>> models.count_trainable_weights(models.resnet20((32, 32, 3), 10))
        269722
    """
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def count_macs(model: keras.Model, input_shape: tuple[int, int, int]) -> int:
    """Counts the multiply-accumulates of all convolutions and dense layers for one image.

    One is a multiplication and an addition; papers that report FLOPs mostly mean this number. Pooling,
    normalisation, activations and the products inside attention are left out.

    Args:
        model: Any Keras model with one input; it is called once, on a black image.
        input_shape: (height, width, channels).

    Example:
        >>> from pbl import models
        >>> models.count_macs(models.resnet20((32, 32, 3), 10), (32, 32, 3))
        40551040
    """
    macs = 0

    def count(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments, **options):
            nonlocal macs
            outputs = original(*arguments, **options)
            # The kernel of a transposed convolution is applied at each place of its input, any other kernel at each place of its output.
            places = arguments[0] if isinstance(layer, layers.Conv2DTranspose) else outputs
            macs += _macs_of(layer, tuple(places.shape))
            return outputs

        return call

    with replaced_calls((layer for layer in flatten_layers(model) if isinstance(layer, COUNTED)), count):
        model(keras.ops.zeros((1, *input_shape)), training=False)
    return macs


@contextlib.contextmanager
def counted_outputs(model: keras.Model) -> Iterator[list[int]]:
    """Within it, the list that it gives gets one number for each call of a layer: how many numbers the layer gave out.

    Layers that hold layers are left out: what these give is counted already.

    Example:
        >>> import keras
        >>> from pbl import models
        >>> model = models.mlp((8, 8, 1), 10, widths=[32])
        >>> with models.counted_outputs(model) as counts:
        ...     outputs = model(keras.ops.zeros((1, 8, 8, 1)))
        >>> max(counts)
        64
    """
    counts: list[int] = []

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments: Any, **options: Any) -> Any:
            outputs = original(*arguments, **options)
            counts.append(
                sum(math.prod(array.shape) for array in keras.tree.flatten(outputs) if hasattr(array, "shape"))
            )
            return outputs

        return call

    with replaced_calls([layer for layer in flatten_layers(model) if not has_inner_layers(layer)], watch):
        yield counts


COUNTED = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Conv2DTranspose,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)


def _macs_of(layer: keras.Layer, shape: tuple[int | None, ...]) -> int:
    if isinstance(layer, (layers.SeparableConv1D, layers.SeparableConv2D)):  # both kernels at each place of the output
        kernels = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
        return math.prod(shape[1:-1]) * kernels
    kernel = layer.kernel.shape
    if isinstance(layer, layers.Dense):
        return math.prod(shape[1:-1]) * math.prod(kernel)
    if isinstance(layer, layers.EinsumDense):
        # An axis of the output that is not an axis of the kernel is a position; the kernel is applied at each.
        _, kernel_axes, output_axes = layer.equation.replace("->", ",").split(",")
        places = [size for axis, size in zip(output_axes, shape, strict=True) if axis not in kernel_axes]
        return math.prod(places[1:]) * math.prod(kernel)
    return math.prod(shape[1:-1]) * math.prod(kernel)  # a convolution's kernel is applied at each pixel
