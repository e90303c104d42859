"""Grad-CAM: the places of an image that are evidence for a class.

A heat map can be drawn for any network and any class, even if the network is wrong or has learned nothing. So `inspect_run`
draws that of the untrained network next to it (Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv:1810.03292): what is
the same in both comes from the image or the architecture, not from the training.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from pbl.errors import InputError, name_nearest
from pbl.inspection.calls import ATTENTION, BATCH, CONVOLUTIONS, Call, call_watched, check_pixels, is_map
from pbl.models import keras_private


def find_logits(model: keras.Model, outputs: Any) -> Any:
    """Returns the logits of a model's output: the inputs of its last softmax.

    Keras keeps them with the probabilities, for its losses. They cannot be computed from the probabilities: the same number added to all
    logits changes no probability. So the logarithm of a probability is not the logit, and its gradient differs too.

    Args:
        model: The model.
        outputs: Its output, computed eagerly: `[n, classes]`; or `[n, 1]`, the sigmoid of two classes.

    Returns:
        `float32 [n, classes]`; for a sigmoid -z and z; the outputs themselves if they are not probabilities.

    Raises:
        InputError: The probabilities come from a softmax that is not Keras's.
    """
    if len(outputs.shape) != 2:
        raise InputError(
            "{name} gives the shape {shape}: it is not a classifier with one row [classes] for each image.",
            name=model.name,
            shape=tuple(outputs.shape),
        )
    logits = keras_private.find_logits(outputs)
    if logits is None:
        rows = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        if rows.shape[1] > 1 and rows.min() >= 0 and abs(rows.sum(axis=1) - 1).max() < 1e-2:
            raise InputError(
                "{name} ends in a softmax whose logits Keras does not know, and Grad-CAM needs them. End it with"
                " Dense(num_classes, activation='softmax', dtype='float32') or keras.ops.softmax.",
                name=model.name,
            )
        logits = outputs
    logits = ops.cast(logits, "float32")
    return logits if logits.shape[1] > 1 else ops.concatenate([-logits, logits], axis=1)


def grad_cam(
    model: keras.Model,
    pixels: np.ndarray,
    classes: int | Sequence[int] | None = None,
    layer: keras.Layer | str | None = None,
) -> np.ndarray:
    """Computes which places of an image are evidence for a class, as far as the last convolution shows them (Grad-CAM).

    Selvaraju et al. (2017), Grad-CAM: Visual Explanations from Deep Networks, arXiv:1610.02391. The weight of each map A^k of
    the last convolution is the mean gradient of the class's logit (equation 1). The heat map is the weighted sum of the maps,
    negative values set to 0 (equation 2). The logit is the softmax's own input (see `find_logits`), so the gradient is exact.
    The maps are taken after the layers that follow at the same size, such as normalisation, activation and the sum of a residual
    block, and before pooling. Convolutions that do not lead to the first output are left out.

    Args:
        model: A classifier with a convolution: Sequential, Functional or subclassed, with nested or shared layers, in any
            precision.
        pixels: `[n, height, width, channels]`, as the model takes them.
        classes: The class to explain: one for all images, or one for each; by default the predicted classes.
        layer: A layer, or its name, whose output is used instead of the last convolution's; for a shared layer that of the last call.

    Returns:
        `float32 [n, height, width]`, resized (bilinear) to the images, the highest value of each 1; all 0 if nothing is evidence
        for the class. Values of two images cannot be compared.

    Raises:
        InputError: The model has no such map, or no such class; the pixels have another shape.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.small_cnn(data.input_shape, data.num_classes)
        >>> pbl.grad_cam(model, data.images("val").pixels[:2]).shape
        (2, 8, 8)
    """
    return explain(model, pixels, classes, layer)[0]


def explain(
    model: keras.Model, pixels: np.ndarray, classes: int | Sequence[int] | None, layer: keras.Layer | str | None
) -> tuple[np.ndarray, Call]:
    """Does what `grad_cam` does, and also returns the call that the heat maps belong to."""
    pixels = check_pixels(pixels)
    chosen, call = choose_map(model, pixels[:1], layer)
    heats = []
    for begin in range(0, len(pixels), BATCH):
        batch = pixels[begin : begin + BATCH]
        maps: list[Any] = []
        # The tape records only what is computed from the map.
        with tf.GradientTape(watch_accessed_variables=False) as tape:

            def see(number: int, call: Call, tape: tf.GradientTape = tape, maps: list[Any] = maps) -> None:
                if number == chosen:
                    tape.watch(call.output)
                    maps.append(call.output)

            logits = find_logits(model, call_watched(model, batch, see))
            of_class = _check_classes(classes, logits, begin, len(pixels))
            score = ops.take_along_axis(logits, of_class[:, None], axis=1)
        gradient = ops.cast(tape.gradient(score, maps[0]), "float32")
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)  # equation 1
        heats.append(ops.relu(ops.sum(weights * ops.cast(maps[0], "float32"), axis=-1)))  # equation 2
    return make_heat_maps(heats, pixels.shape[1:3]), call


def make_heat_maps(maps: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """Resizes maps to the size of the images (bilinear), and scales each so that its highest value is 1.

    Args:
        maps: Batches of maps, each `[n, rows, columns]`.
        size: Height and width.

    Returns:
        `float32 [n, height, width]`; all 0 if the highest value is not above 0, or is not finite because the network overflowed.
    """
    heat = np.concatenate(
        [
            ops.convert_to_numpy(ops.image.resize(batch[..., None], size, interpolation="bilinear", antialias=False))
            for batch in maps
        ]
    )[..., 0]
    highest = heat.max(axis=(1, 2), keepdims=True)
    is_map = np.isfinite(highest) & (highest > 0)
    return np.where(is_map, heat / np.where(is_map, highest, 1), 0).astype(np.float32)


def _check_classes(classes: int | Sequence[int] | None, logits: Any, begin: int, n: int) -> Any:
    """Returns the class to explain for each image of a batch, `int32 [images]`."""
    if classes is None:
        return ops.argmax(logits, axis=1)
    numbers = np.asarray(classes)
    count = logits.shape[1]
    fits = numbers.shape in ((), (n,)) and np.issubdtype(numbers.dtype, np.integer)
    if not fits or numbers.min(initial=0) < 0 or numbers.max(initial=0) >= count:
        raise InputError(
            "classes={classes}: give one class from 0 to {last}, or one for each of the {n} images.",
            classes=classes,
            last=count - 1,
            n=n,
        )
    return np.broadcast_to(numbers, n)[begin : begin + BATCH].astype(np.int32)


def choose_map(model: keras.Model, one: np.ndarray, layer: keras.Layer | str | None) -> tuple[int, Call]:
    """Chooses the output that Grad-CAM uses: its index in `call_watched`, and its call for one image."""
    calls: list[Call] = []
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:

        def see(number: int, call: Call) -> None:
            calls.append(call)
            if is_map(call):
                tape.watch(call.output)

        score = ops.sum(find_logits(model, call_watched(model, one, see))[:, 0])
    maps = {number: call for number, call in enumerate(calls) if is_map(call)}
    gradients = tape.gradient(score, [call.output for call in maps.values()])
    connected = [number for number, gradient in zip(maps, gradients, strict=True) if gradient is not None]
    if layer is not None:
        of_layer = [number for number in connected if layer in (maps[number].layer, maps[number].layer.name)]
        if not of_layer:
            name = getattr(layer, "name", layer)
            raise InputError(
                "{model} has no layer '{name}' that gives a map [height, width, channels] on the way to its output. {nearest}",
                model=model.name,
                name=name,
                nearest=name_nearest(name, {maps[number].layer.name for number in connected}),
            )
        return of_layer[-1], maps[of_layer[-1]]
    convolutions = [number for number in connected if isinstance(maps[number].layer, CONVOLUTIONS)]
    if not convolutions:
        raise InputError(
            "{model} has no convolution with a map of more than one position before its output, so it has no map that corresponds to positions of "
            "the image. Look at its mistakes and its loss line, or use a convolutional network, such as small_cnn.",
            model=model.name,
        )
    if any(isinstance(call.layer, ATTENTION) for call in calls[convolutions[-1] :]):
        raise InputError(
            "{model} continues to look at the image after its last convolution, with attention that Grad-CAM does not see. Use "
            "attention_maps(model, pixels), or name a layer.",
            model=model.name,
        )
    chosen = max(number for number in connected if shares_places(maps, convolutions[-1], number))
    return chosen, maps[chosen]


def shares_places(maps: dict[int, Call], convolution: int, number: int) -> bool:
    """Returns whether an output follows a convolution and has the same number of rows and columns."""
    return number >= convolution and maps[number].output.shape[1:3] == maps[convolution].output.shape[1:3]
