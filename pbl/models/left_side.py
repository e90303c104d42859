"""The left side of a network whose maps get smaller and then larger again, and the parts of its right side.

It is the network's own, or a classifier of this package without its head, with the weights of a run or of ImageNet. `unet` and `center_net`
are built from it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import layers

from pbl.errors import InputError
from pbl.models.contrastive import build_classifier, load_classifier


def check_encoder(encoder: str | None, encoder_options: dict[str, Any] | None, weights: str | None) -> None:
    """Raises InputError if options of an encoder are given without an encoder."""
    for option, value in (("encoder_options", encoder_options), ("weights", weights)):
        if encoder is None and value is not None:
            raise InputError(
                "model_options.{option} belongs to an encoder: give model_options.encoder too, such as resnet20.",
                option=option,
            )


def find_border(input_shape: tuple[int, int, int], divisor: int) -> tuple[int, int]:
    """How many rows and columns must be added to make both sides multiples of a number."""
    return -input_shape[0] % divisor, -input_shape[1] % divisor


def pad(x, border: tuple[int, int]):
    """Adds so many rows at the bottom and columns at the right, black; none if both are 0."""
    return layers.ZeroPadding2D(tuple((0, pixels) for pixels in border), name="padding")(x) if any(border) else x


def take_left(
    images, encoder: str, encoder_options: dict[str, Any] | None, weights: str | None, num_classes: int
) -> tuple[dict[int, Any], tuple[int, int]]:
    """Takes a classifier without its head as the left side; it is frozen if it has weights.

    Args:
        images: The network's input, `[batch, height, width, channels]`, pixels 0 to 255.
        encoder, encoder_options: The name of a classifier, and its own options.
        weights: The folder of a run of it, "imagenet", or None.
        num_classes: Number of classes in the data; some classifiers need at least 2.

    Returns:
        Its maps by how often they were halved, and the rows and columns that were added to the images for it.

    Raises:
        InputError: It has no such maps, or no such weights.
    """
    options, input_shape = dict(encoder_options or {}), tuple(images.shape[1:])
    takes_weights = encoder.endswith("_transfer")
    if weights == "imagenet" and not takes_weights:
        raise InputError(
            "model_options.weights=imagenet: {encoder} has none. Use vgg16_transfer, resnet50_transfer, efficientnet_transfer or "
            "efficientnetv2_transfer, or give the folder of a run.",
            encoder=encoder,
        )
    if takes_weights:
        options["weights"] = "imagenet" if weights == "imagenet" else None
    times, border, wanted = 5, None, find_border(input_shape, 32)  # no encoder halves more often
    while border != wanted:  # how often this one halves is known only after building it
        border = wanted
        padded = (input_shape[0] + border[0], input_shape[1] + border[1], input_shape[2])
        before, left, scales = _find_maps(encoder, build_classifier(encoder, padded, max(2, num_classes), options))
        times = min(times, scales[-1])
        wanted = find_border(input_shape, 2**times)
    if weights not in (None, "imagenet"):
        _, donor, _ = _find_maps(encoder, load_classifier(Path(weights).expanduser(), encoder, encoder_options or {}))
        if [weight.shape for weight in donor.weights] != [weight.shape for weight in left.weights]:
            raise InputError(
                "{run} learned from images of another shape, and its weights do not fit. Give the same channels.",
                run=weights,
            )
        left.set_weights(donor.get_weights())
    left.trainable = weights is None

    x = pad(images, border)
    if left.input_shape[-1] == 3 and input_shape[-1] == 1:
        x = layers.Concatenate(name="as_colour")([x] * 3)
    for layer in before:
        x = layer(x)
    return dict(zip(scales, left(x), strict=True)), border


def _find_maps(name: str, classifier: keras.Model) -> tuple[list[layers.Layer], keras.Model, list[int]]:
    """The part of a classifier up to its last maps: the layers that prepare pixels for an inner backbone, such as subtracting the mean colour; the
    network, with the last maps of each size as outputs; and how often each map was halved."""
    inner = [layer for layer in classifier.layers if isinstance(layer, keras.Model)]
    network, before = classifier, []
    if len(inner) == 1:
        network = inner[0]
        ahead = classifier.layers[: classifier.layers.index(network)]
        before = [layer for layer in ahead if not isinstance(layer, (layers.InputLayer, layers.Concatenate))]
    image, found = None, {}
    if getattr(network, "inputs", None) and len(classifier.outputs[0].shape) == 2:
        image = keras.Input(network.inputs[0].shape[1:]) if isinstance(network, keras.Sequential) else network.inputs[0]
        # Follows maps from step to step: maps that are pooled to one value at once, as in squeeze and excitation, do not count.
        followed = {id(image)}
        for given, after in _walk(network, image):
            shape = getattr(after, "shape", ())
            if len(shape) != 4 or not any(id(x) in followed and 2 * shape[1] + 8 >= x.shape[1] for x in given):
                continue
            followed.add(id(after))
            times = max(0, (image.shape[1] // shape[1]).bit_length() - 1)
            if (shape[1] << times, shape[2] << times) == image.shape[1:3]:
                found[times] = after
    if max(found, default=0) < 1:
        raise InputError(
            "model_options.encoder={name} has no maps that halve in size, as the left side of a U-Net does. Use another, such as resnet20, "
            "vgg_small, vgg16, resnet18 or efficientnetv2_transfer.",
            name=name,
        )
    scales = sorted(found)
    return before, keras.Model(image, [found[times] for times in scales], name="encoder"), scales


def _walk(network: keras.Model, image) -> Iterator[tuple[list, Any]]:
    """Yields the inputs and the output of each layer; a `Sequential` is called again, since its layers were called more than once."""
    x = image
    for layer in network.layers:
        if isinstance(network, keras.Sequential):
            before, x = [x], layer(x)
            yield before, x
            continue
        try:
            yield keras.tree.flatten(layer.input), layer.output
        except (AttributeError, ValueError):  # a layer with several calls has no single input
            continue


def convolve_twice(x, filters: int, batch_norm: bool, name: str):
    """Two 3x3 convolutions with ReLU, as on both sides of a U-Net; with `batch_norm` normalised and without biases."""
    for number in (1, 2):
        x = layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=not batch_norm,
            kernel_initializer="he_normal",
            name=f"{name}_conv{number}",
        )(x)
        if batch_norm:
            x = layers.BatchNormalization(momentum=0.9, name=f"{name}_norm{number}")(x)
        x = layers.ReLU(name=f"{name}_relu{number}")(x)
    return x
