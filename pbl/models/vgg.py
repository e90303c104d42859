"""VGG: depth from small filters, as a `keras.Sequential`.

Simonyan and Zisserman (2014), Very Deep Convolutional Networks for Large-Scale Image Recognition, arXiv:1409.1556, table 1:
only 3x3 convolutions, five times halved by max pooling, then three dense layers.

Trainable weights at 224x224x3 with 1000 classes (the paper's table 2: 133, 133, 138, 144 million):

| builder | configuration | weights     |
|---------|---------------|-------------|
| vgg11   | A             | 132,863,336 |
| vgg13   | B             | 133,047,848 |
| vgg16   | D             | 138,357,544 |
| vgg19   | E             | 143,667,240 |

Different from the paper: pixels are divided by 58 after ImageNet's mean colour is subtracted, so that the untrained
network's loss is that of guessing. Initial weights follow Glorot and Bengio's rule, which the paper names as the way to train
without pre-training. `vgg16_bn` adds batch normalisation (Ioffe and Szegedy 2015) after every convolution; `vgg_small` is
this package's own, in the paper's pattern, for images of 32x32. Both have Keras's epsilon of 1e-3 and a momentum of .9;
torchvision's `vgg16_bn` has 1e-5, and biases before the normalisation, which removes them again.
"""

import keras
from keras import layers

from pbl.models.card import LARGE, SMALL, Card, check_size

PAPER = "Simonyan and Zisserman 2014, arXiv:1409.1556"
CARDS = {
    "vgg11": Card("Sequential", 2014, PAPER, LARGE, 1000, 132_863_336, 7_609_090_048, smallest=32),
    "vgg13": Card("Sequential", 2014, PAPER, LARGE, 1000, 133_047_848, 11_308_466_176, smallest=32),
    "vgg16": Card("Sequential", 2014, PAPER, LARGE, 1000, 138_357_544, 15_470_264_320, smallest=32),
    "vgg19": Card("Sequential", 2014, PAPER, LARGE, 1000, 143_667_240, 19_632_062_464, smallest=32),
    "vgg16_bn": Card("Sequential", 2014, PAPER, LARGE, 1000, 138_361_768, 15_470_264_320, smallest=32),
    "vgg_small": Card("Sequential", 2014, PAPER, SMALL, 10, 551_018, 38_896_896, smallest=8),
}

# Filters of each convolution, stage by stage; a stage ends in max pooling.
CONFIGURATIONS = {
    "vgg11": [[64], [128], [256, 256], [512, 512], [512, 512]],
    "vgg13": [[64, 64], [128, 128], [256, 256], [512, 512], [512, 512]],
    "vgg16": [[64, 64], [128, 128], [256, 256, 256], [512, 512, 512], [512, 512, 512]],
    "vgg19": [[64, 64], [128, 128], [256, 256, 256, 256], [512, 512, 512, 512], [512, 512, 512, 512]],
}
IMAGENET_MEAN = (123.68, 116.779, 103.939)  # red, green, blue


def vgg16(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense_units: int = 4096,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Builds VGG16 (Simonyan and Zisserman 2014, configuration D).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        dense_units: Units of each of the two hidden dense layers.
        dropout: Share of the hidden dense layers' outputs set to zero in training.
        l2: Factor of the squared weights added to the loss. The paper's weight decay of 5e-4 is a factor of 2.5e-4; as the
            optimizer's `weight_decay`, which the momentum of .9 does not accumulate, it is 5e-3.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.vgg16((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        138357544
    """
    return _build("vgg16", "vgg16", input_shape, num_classes, dense_units, dropout, l2)


def vgg11(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense_units: int = 4096,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Builds VGG11 (Simonyan and Zisserman 2014, configuration A); arguments as for `vgg16`.

    Example:
        >>> from pbl import models
        >>> model = models.vgg11((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        132863336
    """
    return _build("vgg11", "vgg11", input_shape, num_classes, dense_units, dropout, l2)


def vgg13(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense_units: int = 4096,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Builds VGG13 (Simonyan and Zisserman 2014, configuration B); arguments as for `vgg16`.

    Example:
        >>> from pbl import models
        >>> model = models.vgg13((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        133047848
    """
    return _build("vgg13", "vgg13", input_shape, num_classes, dense_units, dropout, l2)


def vgg19(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense_units: int = 4096,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Builds VGG19 (Simonyan and Zisserman 2014, configuration E); arguments as for `vgg16`.

    Example:
        >>> from pbl import models
        >>> model = models.vgg19((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        143667240
    """
    return _build("vgg19", "vgg19", input_shape, num_classes, dense_units, dropout, l2)


def vgg16_bn(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    dense_units: int = 4096,
    dropout: float = 0.5,
    l2: float = 0.0,
) -> keras.Model:
    """Builds VGG16 with batch normalisation after every convolution; arguments as for `vgg16`.

    Example:
        >>> from pbl import models
        >>> model = models.vgg16_bn((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        138361768
    """
    return _build("vgg16_bn", "vgg16", input_shape, num_classes, dense_units, dropout, l2, batch_norm=True)


def _build(
    name: str,
    configuration: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    dense_units: int,
    dropout: float,
    l2: float,
    batch_norm: bool = False,
) -> keras.Model:
    check_size(name, input_shape, CARDS[name].smallest)
    mean = IMAGENET_MEAN if input_shape[-1] == 3 else [sum(IMAGENET_MEAN) / 3] * input_shape[-1]
    model = keras.Sequential(name=name)
    model.add(keras.Input(input_shape))
    model.add(layers.Normalization(mean=list(mean), variance=[58.0**2] * input_shape[-1]))
    for stage in CONFIGURATIONS[configuration]:
        for filters in stage:
            _add_convolution(model, filters, l2, batch_norm)
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    for _ in range(2):
        model.add(layers.Dense(dense_units, activation="relu", kernel_regularizer=_penalty(l2)))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_regularizer=_penalty(l2)))
    return model


def vgg_small(
    input_shape: tuple[int, int, int], num_classes: int, *, dropout: float = 0.5, l2: float = 0.0
) -> keras.Model:
    """Builds a small VGG with batch normalisation: conv3-32 twice, conv3-64 twice, conv3-128 twice, one dense layer of 128.

    Args:
        input_shape: (height, width, channels) of the images, at least 8x8, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        dropout: Share of the hidden dense layer's outputs set to zero in training.
        l2: Factor of the squared weights added to the loss.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.vgg_small((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        551018
    """
    check_size("vgg_small", input_shape, CARDS["vgg_small"].smallest)
    model = keras.Sequential(name="vgg_small")
    model.add(keras.Input(input_shape))
    model.add(layers.Rescaling(1 / 127.5, offset=-1))
    for filters in (32, 64, 128):
        for _ in range(2):
            _add_convolution(model, filters, l2, batch_norm=True)
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(128, activation="relu", kernel_regularizer=_penalty(l2)))
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_regularizer=_penalty(l2)))
    return model


def _add_convolution(model: keras.Sequential, filters: int, l2: float, batch_norm: bool) -> None:
    # Batch normalisation has its own shift, so the convolution before it needs no bias.
    model.add(layers.Conv2D(filters, 3, padding="same", use_bias=not batch_norm, kernel_regularizer=_penalty(l2)))
    if batch_norm:
        model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.ReLU())


def _penalty(l2: float) -> keras.regularizers.Regularizer | None:
    return keras.regularizers.L2(l2) if l2 else None
