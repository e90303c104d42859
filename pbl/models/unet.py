"""U-Net: a class for each pixel, from a path that finds what is in the image and a path that finds where.

Ronneberger, Fischer and Brox (2015), U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv:1505.04597, figure 1: on
the left, four times two 3x3 convolutions and a max pooling; on the right, four times an up-convolution, the left side's map of the same
size joined to it, and two 3x3 convolutions; at the end a 1x1 convolution. `task=segmentation`.

Weights with one grey channel and two classes: 31,030,658 as in the figure, 31,036,546 trainable ones with batch normalisation, which
replaces the convolutions' biases (31.0 million is the usual number for U-Net).

The left side may be another network: `encoder="resnet20"`, or any classifier of this package whose maps halve in size, with the weights
of a run, or `efficientnetv2_transfer` with ImageNet's. It is frozen if it has weights; `fine_tune_epochs` trains it afterwards.

Different from the paper: `padding="same"`, so that the mask has the image's size (the paper's 572x572 pixels give 388x388); batch
normalisation (Ioffe and Szegedy 2015) after each convolution, with Keras's epsilon of 1e-3 and a momentum of .9; pixels from -1 to 1.
Images whose sides are not multiples of 2^depth are padded with black at the right and at the bottom, and the mask is cut back.
"""

from typing import Any

import keras
from keras import layers

from pbl.errors import InputError
from pbl.models.card import DIGIT, Card
from pbl.models.left_side import check_encoder, convolve_twice, find_border, pad, take_left

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
        num_classes: Number of classes, including the background.
        width: Channels of the first convolutions; each pooling doubles them. 64 in the paper; 16 is enough for small images.
        depth: Number of poolings, 4 in the paper.
        skips: Whether the right side sees the left side's maps; without them it knows what is in the image, but only roughly where.
        batch_norm: Whether batch normalisation follows each convolution; the paper has none.
        dropout: Share of the lowest maps' values set to zero in training ("at the end of the contracting path").
        encoder: A classifier of this package in place of the left side, such as "resnet20", "vgg16" or "efficientnetv2_transfer"; `depth`
            is then how often its maps halve.
        encoder_options: The classifier's own options, such as {"variant": "b1"}.
        weights: Weights of the encoder: the folder of a run of that classifier, or of `task=contrast` with it as encoder; "imagenet" if the
            classifier has such weights. None: random, and it is trained from the first epoch on.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, height, width, num_classes]`, which sum to 1 for each pixel.

    Raises:
        InputError: An option does not fit; there is no such run, or it is of another classifier.

    Example:
        >>> from pbl import models
        >>> model = models.unet((28, 28, 1), 2)
        >>> models.count_trainable_weights(model)
        31036546
    """
    check_encoder(encoder, encoder_options, weights)
    images = keras.Input(input_shape)
    if encoder is not None:
        maps, border = take_left(images, encoder, encoder_options, weights, num_classes)
    else:
        if min(input_shape[:2]) < 2**depth // 2:  # more than half of it would be padding
            raise InputError(
                "unet with depth={depth} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. Lower"
                " model_options.depth, or give image_size={smallest} or more.",
                depth=depth, smallest=2**depth // 2, height=input_shape[0], width=input_shape[1],
            )  # fmt: skip
        border = find_border(input_shape, 2**depth)
        x = pad(layers.Rescaling(1 / 127.5, offset=-1)(images), border)
        maps = {}  # maps by how often they were halved: [batch, h / 2^level, w / 2^level, width * 2^level]
        for level in range(depth):
            x = maps[level] = convolve_twice(x, width * 2**level, batch_norm, f"down{level + 1}")
            x = layers.MaxPooling2D(2)(x)
        maps[depth] = convolve_twice(x, width * 2**depth, batch_norm, "bottom")

    lowest = max(maps)
    x = layers.Dropout(dropout)(maps[lowest])
    for level in reversed(range(lowest)):
        x = layers.Conv2DTranspose(width * 2**level, 2, strides=2, name=f"up{level + 1}")(x)
        if skips and level in maps:
            x = layers.Concatenate()([maps[level], x])
        x = convolve_twice(x, width * 2**level, batch_norm, f"up{level + 1}")

    x = layers.Conv2D(num_classes, 1, name="classes")(x)
    if any(border):
        x = layers.Cropping2D(tuple((0, pixels) for pixels in border), name="cut_back")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(images, probabilities, name="unet")
