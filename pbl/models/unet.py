"""U-Net: a class for each pixel, from a path that sees what is there and a path that says where.

Ronneberger, Fischer and Brox (2015), U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv:1505.04597, figure 1: on
the left four times two 3x3 convolutions and a max pooling, on the right four times an up-convolution, the left side's map of the same
size beside it, and two 3x3 convolutions; in the end a 1x1 convolution. `task=segmentation`.

Weights with one grey channel and two classes: 31,030,658 as in the figure, 31,036,546 trainable ones with batch normalisation, which takes
the place of the convolutions' biases (31.0 million, as U-Net is quoted).

The left side may be another network's: `encoder="resnet20"`, or any classifier of this package whose maps halve in size, with the weights
of a run, or `efficientnetv2_transfer` with ImageNet's. It is frozen where it brings weights; `fine_tune_epochs` trains it afterwards.

Different from the paper: `padding="same"`, so that the mask has the image's size (the paper's 572x572 pixels give 388x388); batch
normalisation (Ioffe and Szegedy 2015) after each convolution, with Keras's epsilon of 1e-3 and a momentum of .9; pixels from -1 to 1.
Images whose sides 2^depth does not divide are padded with black at the right and below, and the mask is cut back.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
from keras import layers

from pbl.errors import InputError
from pbl.models.card import DIGIT, Card
from pbl.models.contrastive import build_classifier, load_classifier

CARDS = {
    "unet": Card("Functional", 2015, "Ronneberger et al. 2015, arXiv:1505.04597", DIGIT, 2, 31_036_546, 751_501_312, smallest=8, task="segmentation"),
}  # fmt: skip


def unet(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int = 64,
    depth: int = 4,
    skips: bool = True,
    batch_norm: bool = True,
    dropout: float = 0.5,
    encoder: str | None = None,
    encoder_options: dict[str, Any] | None = None,
    weights: str | None = None,
) -> keras.Model:
    """Builds a U-Net (Ronneberger et al. 2015).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, the background among them.
        width: Channels of the first convolutions; each pooling doubles them. The paper's is 64; 16 is enough for small images.
        depth: Poolings. The paper's is 4.
        skips: Whether the right side sees the left side's maps; without them it knows what is there, and only roughly where.
        batch_norm: Whether batch normalisation follows each convolution; the paper has none.
        dropout: Share of the lowest maps' values set to zero in training ("at the end of the contracting path").
        encoder: A classifier of this package in place of the left side, such as "resnet20", "vgg16" or "efficientnetv2_transfer"; its
            depth is then how often its maps halve.
        encoder_options: Its own options, such as {"variant": "b1"}.
        weights: Of the encoder: the folder of a run of that classifier, or of `task=contrast` with it as encoder; "imagenet" where the
            classifier has such weights. None: random, and it is trained from the first epoch on.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, height, width, num_classes]`, which sum to 1 for each pixel.

    Raises:
        InputError: An option that does not fit; no such run, or one of another classifier.
    """
    images = keras.Input(input_shape)
    if encoder is not None:
        maps, border = _take_left(images, encoder, encoder_options, weights, num_classes)
    else:
        for option, value in (("encoder_options", encoder_options), ("weights", weights)):
            if value is not None:
                raise InputError(
                    "model_options.{option} is of an encoder: give model_options.encoder too, such as resnet20.",
                    option=option,
                )
        if min(input_shape[:2]) < 2**depth // 2:  # more than half of it would be padding
            raise InputError(
                "unet with depth={depth} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. Lower"
                " model_options.depth, or give image_size={smallest} or more.",
                depth=depth, smallest=2**depth // 2, height=input_shape[0], width=input_shape[1],
            )  # fmt: skip
        border = _find_border(input_shape, 2**depth)
        x = _pad(layers.Rescaling(1 / 127.5, offset=-1)(images), border)
        maps = {}  # by how often they were halved: [batch, h / 2^level, w / 2^level, width * 2^level]
        for level in range(depth):
            x = maps[level] = _convolve_twice(x, width * 2**level, batch_norm, f"down{level + 1}")
            x = layers.MaxPooling2D(2)(x)
        maps[depth] = _convolve_twice(x, width * 2**depth, batch_norm, "bottom")

    lowest = max(maps)
    x = layers.Dropout(dropout)(maps[lowest])
    for level in reversed(range(lowest)):
        x = layers.Conv2DTranspose(width * 2**level, 2, strides=2, name=f"up{level + 1}")(x)
        if skips and level in maps:
            x = layers.Concatenate()([maps[level], x])
        x = _convolve_twice(x, width * 2**level, batch_norm, f"up{level + 1}")

    x = layers.Conv2D(num_classes, 1, name="classes")(x)
    if any(border):
        x = layers.Cropping2D(tuple((0, pixels) for pixels in border), name="cut_back")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(images, probabilities, name="unet")


def _find_border(input_shape: tuple[int, int, int], divisor: int) -> tuple[int, int]:
    """How many rows and columns are missing to what a number divides."""
    return -input_shape[0] % divisor, -input_shape[1] % divisor


def _pad(x, border: tuple[int, int]):
    return layers.ZeroPadding2D(tuple((0, pixels) for pixels in border), name="padding")(x) if any(border) else x


def _take_left(
    images, encoder: str, encoder_options: dict[str, Any] | None, weights: str | None, num_classes: int
) -> tuple[dict[int, Any], tuple[int, int]]:
    """The maps of a classifier without its head, by how often they were halved; and the border that was added to the images."""
    options, input_shape = dict(encoder_options or {}), tuple(images.shape[1:])
    takes_weights = encoder.endswith("_transfer")
    if weights == "imagenet" and not takes_weights:
        raise InputError(
            "model_options.weights=imagenet: {encoder} has none. Take vgg16_transfer, resnet50_transfer, efficientnet_transfer or efficientnetv2_transfer, or give the folder"
            " of a run.",
            encoder=encoder,
        )
    if takes_weights:
        options["weights"] = "imagenet" if weights == "imagenet" else None
    times, border, wanted = 5, None, _find_border(input_shape, 32)  # no encoder halves more often
    while border != wanted:  # how often this one does is known when it is built
        border = wanted
        padded = (input_shape[0] + border[0], input_shape[1] + border[1], input_shape[2])
        before, left, scales = _find_maps(encoder, build_classifier(encoder, padded, max(2, num_classes), options))
        times = min(times, scales[-1])
        wanted = _find_border(input_shape, 2**times)
    if weights not in (None, "imagenet"):
        _, donor, _ = _find_maps(encoder, load_classifier(Path(weights).expanduser(), encoder, encoder_options or {}))
        if [weight.shape for weight in donor.weights] != [weight.shape for weight in left.weights]:
            raise InputError(
                "{run} learned from images of another shape, and its weights do not fit. Give the same channels.",
                run=weights,
            )
        left.set_weights(donor.get_weights())
    left.trainable = weights is None

    x = _pad(images, border)
    if left.input_shape[-1] == 3 and input_shape[-1] == 1:
        x = layers.Concatenate(name="as_colour")([x] * 3)
    for layer in before:
        x = layer(x)
    return dict(zip(scales, left(x), strict=True)), border


def _find_maps(name: str, classifier: keras.Model) -> tuple[list[layers.Layer], keras.Model, list[int]]:
    """The part of a classifier up to its last maps: what prepares pixels for a backbone within, such as the mean colour taken off; the
    network, with the last maps of each size as outputs; and how often each was halved."""
    inner = [layer for layer in classifier.layers if isinstance(layer, keras.Model)]
    network, before = classifier, []
    if len(inner) == 1:
        network = inner[0]
        ahead = classifier.layers[: classifier.layers.index(network)]
        before = [layer for layer in ahead if not isinstance(layer, (layers.InputLayer, layers.Concatenate))]
    image, found = None, {}
    if getattr(network, "inputs", None) and len(classifier.outputs[0].shape) == 2:
        image = keras.Input(network.inputs[0].shape[1:]) if isinstance(network, keras.Sequential) else network.inputs[0]
        # Maps, and what leads to them step by step: what is pooled at once, as in squeeze and excitation, is none.
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
            "model_options.encoder={name} has no maps that halve in size, as the left side of a U-Net does. Take such as resnet20,"
            " vgg_small, vgg16, resnet18 or efficientnetv2_transfer.",
            name=name,
        )
    scales = sorted(found)
    return before, keras.Model(image, [found[times] for times in scales], name="encoder"), scales


def _walk(network: keras.Model, image) -> Iterator[tuple[list, Any]]:
    """Yields what goes into each layer, and what comes out; a `Sequential` is called anew, since its layers were called often."""
    x = image
    for layer in network.layers:
        if isinstance(network, keras.Sequential):
            before, x = [x], layer(x)
            yield before, x
            continue
        try:
            yield keras.tree.flatten(layer.input), layer.output
        except (AttributeError, ValueError):  # of a layer of several calls they are not one
            continue


def _convolve_twice(x, filters: int, batch_norm: bool, name: str):
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
