"""What convolutions look for, and what they find: the filters, and the feature maps of an image."""

import contextlib

import keras
import numpy as np
from keras import layers, ops

from pbl.errors import InputError
from pbl.inspection.calls import CONVOLUTIONS, Call, call_watched, check_pixels, is_map
from pbl.inspection.gradcam import choose_map, shares_places


def find_filters(model: keras.Model, pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns the name and the filters of a model's first convolution.

    Args:
        model: The model.
        pixels: Any images that it takes, `[n, height, width, channels]`.

    Returns:
        The layer's name; `float32 [height, width, channels, filters]`. Each filter of a depthwise convolution has one channel.

    Raises:
        InputError: The model has no convolution.
    """
    found: list[keras.Layer] = []
    call_watched(
        model,
        check_pixels(pixels)[:1],
        lambda number, call: found.append(call.layer) if isinstance(call.layer, CONVOLUTIONS) else None,
    )
    if not found:
        raise InputError(
            "{model} has no convolution, so it has no filters: each of its weights belongs to one position. Use a convolutional network, such as "
            "small_cnn.",
            model=model.name,
        )
    called = found[0]
    kernel = called.depthwise_kernel if isinstance(called, layers.SeparableConv2D) else called.kernel
    filters = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    if isinstance(called, layers.Conv2DTranspose):
        filters = filters.swapaxes(2, 3)
    if isinstance(called, (layers.DepthwiseConv2D, layers.SeparableConv2D)):
        filters = filters.reshape(*filters.shape[:2], 1, -1)
    return called.name, filters


def feature_maps(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the feature maps of an image after the first and the last convolution.

    They are taken after the layers that follow at the same size before the next convolution, such as normalisation and
    activation; the last are those that `grad_cam` uses.

    Args:
        model: A model with a convolution.
        image: `[height, width, channels]`.

    Returns:
        By the name of the layer, its output `float32 [height, width, maps]`; only one entry if the first convolution is also the last.

    Raises:
        InputError: The model has no convolution whose map has more than one place.
    """
    calls: list[Call] = []
    call_watched(model, check_pixels(image[None]), lambda number, call: calls.append(call))
    maps = {number: call for number, call in enumerate(calls) if is_map(call)}
    convolutions = [number for number, call in maps.items() if isinstance(call.layer, CONVOLUTIONS)]
    if not convolutions:
        raise InputError(
            "{model} has no convolution with a map of more than one position, so it has no feature maps. Use a convolutional network, such as "
            "small_cnn, or larger images.",
            model=model.name,
        )
    first, second = (*convolutions, len(calls))[:2]
    chosen = [max(number for number in maps if number < second and shares_places(maps, first, number))]
    with contextlib.suppress(InputError):  # attention follows, so the last step is not a convolution
        chosen.append(choose_map(model, image[None], None)[0])
    found = {}
    for number in dict.fromkeys(chosen):
        name = calls[number].layer.name
        name = f"{name} (call {number})" if name in found else name  # a shared layer
        found[name] = ops.convert_to_numpy(ops.cast(calls[number].output, "float32"))[0]
    return found
