"""ResNets for small images, with the Functional API.

He, Zhang, Ren and Sun (2015), Deep Residual Learning for Image Recognition, arXiv:1512.03385, section 4.2: a 3x3
convolution, then three stages of n blocks with 16, 32 and 64 filters, 6n + 2 weighted layers in all. A stage's first block
halves the map. Shortcuts carry no weights (option A): where the shape changes, every second pixel is taken and the new
channels are zeros.

Trainable weights at 32x32x3 with 10 classes (the paper's table 6 says 0.27, 0.46, 0.66, 0.85 and 1.7 million):

| builder    | n  | weights   |
|------------|----|-----------|
| resnet20   | 3  | 269,722   |
| resnet32   | 5  | 464,154   |
| resnet44   | 7  | 658,586   |
| resnet56   | 9  | 853,018   |
| resnet110  | 18 | 1,727,962 |

The moving averages of batch normalisation have momentum 0.9, as in the Torch code that the authors compared with; Keras's
own 0.99 would lag some 100 steps behind, which is many epochs of a small data set.

Different from the paper: pixels are scaled to -1 to 1 by a constant layer, where the paper subtracts the mean of the
training images; weight decay and augmentation belong to training, not to the model.
"""

import keras
from keras import layers, ops


def resnet20(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds ResNet-20 for small images (He et al. 2015, section 4.2).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, at least 2.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.
    """
    return _build("resnet20", input_shape, num_classes, blocks_per_stage=3)


def resnet32(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds ResNet-32 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`."""
    return _build("resnet32", input_shape, num_classes, blocks_per_stage=5)


def resnet44(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds ResNet-44 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`."""
    return _build("resnet44", input_shape, num_classes, blocks_per_stage=7)


def resnet56(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds ResNet-56 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`."""
    return _build("resnet56", input_shape, num_classes, blocks_per_stage=9)


def resnet110(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Builds ResNet-110 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`."""
    return _build("resnet110", input_shape, num_classes, blocks_per_stage=18)


def _build(name: str, input_shape: tuple[int, int, int], num_classes: int, blocks_per_stage: int) -> keras.Model:
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = _conv_bn(x, 16)
    x = layers.ReLU()(x)
    for filters in (16, 32, 64):
        for block in range(blocks_per_stage):
            x = _residual_block(x, filters, strides=2 if filters > 16 and block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_initializer="he_normal")(x)
    return keras.Model(images, probabilities, name=name)


def _residual_block(x, filters: int, strides: int):
    """y = ReLU(F(x) + x), F two 3x3 convolutions (figure 2, equation 1)."""
    shortcut = x
    if strides == 2:
        shortcut = layers.AveragePooling2D(pool_size=1, strides=2)(x)  # takes every second pixel
        new = filters - x.shape[-1]
        shortcut = ops.pad(shortcut, [(0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)])
    x = _conv_bn(x, filters, strides)
    x = layers.ReLU()(x)
    x = _conv_bn(x, filters)
    return layers.ReLU()(layers.Add()([x, shortcut]))


def _conv_bn(x, filters: int, strides: int = 1):
    # Batch normalisation has a shift of its own, so the convolution needs no bias.
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.BatchNormalization(momentum=0.9)(x)
