"""U-Net: a class for each pixel, from a path that sees what is there and a path that says where.

Ronneberger, Fischer and Brox (2015), U-Net: Convolutional Networks for Biomedical Image Segmentation, arXiv:1505.04597, figure 1: on
the left four times two 3x3 convolutions and a max pooling, on the right four times an up-convolution, the left side's map of the same
size beside it, and two 3x3 convolutions; in the end a 1x1 convolution. `task=segmentation`.

Weights with one grey channel and two classes: 31,030,658 as in the figure, 31,036,546 trainable ones with batch normalisation, which takes
the place of the convolutions' biases (31.0 million, as U-Net is quoted).

Different from the paper: `padding="same"`, so that the mask has the image's size (the paper's 572x572 pixels give 388x388); batch
normalisation (Ioffe and Szegedy 2015) after each convolution, with Keras's epsilon of 1e-3 and a momentum of .9; pixels from -1 to 1.
Images whose sides 2^depth does not divide are padded with black at the right and below, and the mask is cut back.
"""

import keras
from keras import layers

from pbl.errors import InputError
from pbl.models.card import DIGIT, Card

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

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, height, width, num_classes]`, which sum to 1 for each pixel.
    """
    if min(input_shape[:2]) < 2**depth // 2:  # more than half of it would be padding
        raise InputError(
            "unet with depth={depth} takes images of at least {smallest}x{smallest} pixels; these have {height}x{width}. Lower"
            " model_options.depth, or give image_size={smallest} or more.",
            depth=depth, smallest=2**depth // 2, height=input_shape[0], width=input_shape[1],
        )  # fmt: skip
    rows, columns = (-side % 2**depth for side in input_shape[:2])
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    if rows or columns:
        x = layers.ZeroPadding2D(((0, rows), (0, columns)), name="padding")(x)

    across = []
    for level in range(depth):
        x = _convolve_twice(
            x, width * 2**level, batch_norm, f"down{level + 1}"
        )  # [batch, h / 2^level, w / 2^level, width * 2^level]
        across.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = _convolve_twice(x, width * 2**depth, batch_norm, "bottom")
    x = layers.Dropout(dropout)(x)
    for level in reversed(range(depth)):
        x = layers.Conv2DTranspose(width * 2**level, 2, strides=2, name=f"up{level + 1}")(x)
        if skips:
            x = layers.Concatenate()([across[level], x])
        x = _convolve_twice(x, width * 2**level, batch_norm, f"up{level + 1}")

    x = layers.Conv2D(num_classes, 1, name="classes")(x)
    if rows or columns:
        x = layers.Cropping2D(((0, rows), (0, columns)), name="cut_back")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(images, probabilities, name="unet")


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
