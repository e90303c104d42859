"""Residual networks, with the Functional API: an identity shortcut around every two or three layers.

He, Zhang, Ren and Sun (2015), Deep Residual Learning for Image Recognition, arXiv:1512.03385.

For small images (section 4.2): a 3x3 convolution, then three stages of n blocks with 16, 32 and 64 filters, 6n + 2 weighted
layers in all; the first block of a stage halves the map. Shortcuts have no weights (option A): if the shape changes, every
second pixel is taken and the new channels are zeros. Trainable weights at 32x32x3 with 10 classes (the paper's table 6:
0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million):

| builder    | n   | weights    |
|------------|-----|------------|
| resnet20   | 3   | 269,722    |
| resnet32   | 5   | 464,154    |
| resnet44   | 7   | 658,586    |
| resnet56   | 9   | 853,018    |
| resnet110  | 18  | 1,727,962  |
| resnet1202 | 200 | 19,421,274 |

For ImageNet (section 4.1, table 1): a 7x7 convolution and max pooling, then four stages; blocks of two 3x3 convolutions, or
from 50 layers on bottlenecks of 1x1, 3x3, 1x1. If the shape changes, the shortcut is a 1x1 convolution (option B).
Trainable weights at 224x224x3 with 1000 classes:

| builder   | blocks       | weights    |
|-----------|--------------|------------|
| resnet18  | 2, 2, 2, 2   | 11,689,512 |
| resnet34  | 3, 4, 6, 3   | 21,797,672 |
| resnet50  | 3, 4, 6, 3   | 25,557,032 |
| resnet101 | 3, 4, 23, 3  | 44,549,160 |
| resnet152 | 3, 8, 36, 3  | 60,192,808 |

(`keras.models.load_model` of a saved ResNet-1202 needs `sys.setrecursionlimit(20_000)` before it.)

`shortcut=False` leaves all shortcuts out: the plain network that the paper compares with.

The moving averages of batch normalisation have momentum 0.9, as in the Torch code that the authors compared with; Keras's
own 0.99 would lag about 100 steps behind, which is many epochs of a small data set.

Different from the paper: pixels are scaled to -1 to 1 by a constant layer, where the paper subtracts the mean of the
training images; batch normalisation's epsilon is Keras's 1e-3, where the authors' code has 1e-5 (this alone changes the outputs of an
untrained network by up to a few percent; weights of other libraries need their own value); padding is TensorFlow's: for a map of even
size, a 3x3 convolution of stride 2 has no border on the left and at the top. So the shortcut of option A, which takes the first of every
two pixels, is one pixel away from the centre of what the branch has seen (for odd sizes both are as in the paper; in eight
trainings no effect on the accuracy was found).

Weight decay is set in the optimizer, and applies to every weight. The paper's 1e-4 is a part of the gradient, which the momentum of 0.9
accumulates: it shrinks the weights by rate * 1e-4 / (1 - 0.9) per step. Keras's `weight_decay` is not accumulated by the momentum, so the
same effect needs `weight_decay=1e-3` (`experiments/cifar10_he.py`). Stochastic depth and `zero_gamma`, of later papers, are options.
"""

import sys

import keras
from keras import layers, ops

from pbl.models.card import LARGE, SMALL, Card, check_size

PAPER = "He et al. 2015, arXiv:1512.03385"
CARDS = {
    "resnet20": Card("Functional", 2015, PAPER, SMALL, 10, 269_722, 40_551_040),
    "resnet32": Card("Functional", 2015, PAPER, SMALL, 10, 464_154, 68_862_592),
    "resnet44": Card("Functional", 2015, PAPER, SMALL, 10, 658_586, 97_174_144),
    "resnet56": Card("Functional", 2015, PAPER, SMALL, 10, 853_018, 125_485_696),
    "resnet110": Card("Functional", 2015, PAPER, SMALL, 10, 1_727_962, 252_887_680),
    "resnet1202": Card("Functional", 2015, PAPER, SMALL, 10, 19_421_274, 2_829_238_912),
    "resnet18": Card("Functional", 2015, PAPER, LARGE, 1000, 11_689_512, 1_814_073_344, smallest=32),
    "resnet34": Card("Functional", 2015, PAPER, LARGE, 1000, 21_797_672, 3_663_761_408, smallest=32),
    "resnet50": Card("Functional", 2015, PAPER, LARGE, 1000, 25_557_032, 3_857_973_248, smallest=32),
    "resnet101": Card("Functional", 2015, PAPER, LARGE, 1000, 44_549_160, 7_570_194_432, smallest=32),
    "resnet152": Card("Functional", 2015, PAPER, LARGE, 1000, 60_192_808, 11_282_415_616, smallest=32),
}


def resnet20(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-20 for small images (He et al. 2015, section 4.2).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        shortcut: False gives the plain network, without shortcuts.
        stochastic_depth: Share of the images for which the last block's residual branch is left out in training; less
            for earlier ones, in proportion (Huang et al. 2016, arXiv:1603.09382, where it is 0.5).
        zero_gamma: Let each block begin as the identity: the factor of its last batch normalisation starts at 0, not 1 (Goyal
            et al. 2017, arXiv:1706.02677, section 5.1).

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Example:
        >>> from pbl import models
        >>> model = models.resnet20((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        269722
    """
    return _build_small("resnet20", input_shape, num_classes, 3, shortcut, stochastic_depth, zero_gamma)


def resnet32(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-32 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet32((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        464154
    """
    return _build_small("resnet32", input_shape, num_classes, 5, shortcut, stochastic_depth, zero_gamma)


def resnet44(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-44 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet44((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        658586
    """
    return _build_small("resnet44", input_shape, num_classes, 7, shortcut, stochastic_depth, zero_gamma)


def resnet56(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-56 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet56((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        853018
    """
    return _build_small("resnet56", input_shape, num_classes, 9, shortcut, stochastic_depth, zero_gamma)


def resnet110(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-110 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet110((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        1727962
    """
    return _build_small("resnet110", input_shape, num_classes, 18, shortcut, stochastic_depth, zero_gamma)


def resnet1202(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-1202 for small images (He et al. 2015, section 4.2); arguments as for `resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet1202((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        19421274
    """
    return _build_small("resnet1202", input_shape, num_classes, 200, shortcut, stochastic_depth, zero_gamma)


def resnet18(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-18 for ImageNet (He et al. 2015, table 1).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        shortcut: False gives the plain network, without shortcuts.
        stochastic_depth: Share of the images for which the last block's residual branch is left out in training; less
            for earlier ones, in proportion (Huang et al. 2016, arXiv:1603.09382, where it is 0.5).
        zero_gamma: Let each block begin as the identity: the factor of its last batch normalisation starts at 0, not 1 (Goyal
            et al. 2017, arXiv:1706.02677, section 5.1).

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.resnet18((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        11689512
    """
    return _build_large(
        "resnet18", input_shape, num_classes, (2, 2, 2, 2), False, shortcut, stochastic_depth, zero_gamma
    )


def resnet34(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-34 for ImageNet (He et al. 2015, table 1); arguments as for `resnet18`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet34((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        21797672
    """
    return _build_large(
        "resnet34", input_shape, num_classes, (3, 4, 6, 3), False, shortcut, stochastic_depth, zero_gamma
    )


def resnet50(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-50 for ImageNet (He et al. 2015, table 1); arguments as for `resnet18`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet50((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        25557032
    """
    return _build_large(
        "resnet50", input_shape, num_classes, (3, 4, 6, 3), True, shortcut, stochastic_depth, zero_gamma
    )


def resnet101(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-101 for ImageNet (He et al. 2015, table 1); arguments as for `resnet18`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet101((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        44549160
    """
    return _build_large(
        "resnet101", input_shape, num_classes, (3, 4, 23, 3), True, shortcut, stochastic_depth, zero_gamma
    )


def resnet152(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    shortcut: bool = True,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds ResNet-152 for ImageNet (He et al. 2015, table 1); arguments as for `resnet18`.

    Example:
        >>> from pbl import models
        >>> model = models.resnet152((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        60192808
    """
    return _build_large(
        "resnet152", input_shape, num_classes, (3, 8, 36, 3), True, shortcut, stochastic_depth, zero_gamma
    )


def _build_small(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    blocks_per_stage: int,
    shortcut: bool,
    stochastic_depth: float,
    zero_gamma: bool,
) -> keras.Model:
    rates = _rates(3 * blocks_per_stage, shortcut, stochastic_depth, zero_gamma)
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.ReLU()(_conv_bn(x, 16, 3))
    for filters in (16, 32, 64):
        for block in range(blocks_per_stage):
            strides = 2 if filters > 16 and block == 0 else 1
            residual = _drop_branch(_two_convolutions(x, filters, strides, zero_gamma), rates.pop(0))
            x = _add(residual, _pad_channels(x, filters, strides) if shortcut else None)
    return _classify(name, images, x, num_classes)


def _build_large(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    blocks: tuple[int, ...],
    bottleneck: bool,
    shortcut: bool,
    stochastic_depth: float,
    zero_gamma: bool,
) -> keras.Model:
    check_size(name, input_shape, CARDS[name].smallest)
    rates = _rates(sum(blocks), shortcut, stochastic_depth, zero_gamma)
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(images)
    x = layers.ReLU()(_conv_bn(x, 64, 7, strides=2))
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for stage, count in enumerate(blocks):
        filters = 64 * 2**stage
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            branch = _bottleneck if bottleneck else _two_convolutions
            residual = _drop_branch(branch(x, filters, strides, zero_gamma), rates.pop(0))
            x = _add(residual, _project(x, residual.shape[-1], strides) if shortcut else None)
    return _classify(name, images, x, num_classes)


def _classify(name: str, images, x, num_classes: int) -> keras.Model:
    x = layers.GlobalAveragePooling2D()(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_initializer="he_normal")(x)
    limit = sys.getrecursionlimit()
    try:
        # Keras walks the graph by recursion, one call for each layer; the 6,000 layers of ResNet-1202 exceed Python's limit.
        sys.setrecursionlimit(max(limit, 20_000))
        return keras.Model(images, probabilities, name=name)
    finally:
        sys.setrecursionlimit(limit)


def _rates(blocks: int, shortcut: bool, stochastic_depth: float, zero_gamma: bool) -> list[float]:
    """How often each block's branch is left out: the deeper the block, the more often (Huang et al. 2016, equation 4)."""
    if stochastic_depth and not shortcut:
        raise ValueError("stochastic_depth leaves out branches, and without shortcuts nothing is left beside them")
    if zero_gamma and not shortcut:
        raise ValueError(
            "zero_gamma begins with branches that give 0, and without shortcuts nothing is left beside them"
        )
    return [stochastic_depth * block / blocks for block in range(1, blocks + 1)]


def _drop_branch(residual, rate: float):
    """Dropout of the complete branch, for each image separately."""
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1))(residual) if rate else residual


def _add(residual, shortcut):
    """y = ReLU(F(x) + x) (equation 1); without a shortcut y = ReLU(F(x))."""
    return layers.ReLU()(residual if shortcut is None else layers.Add()([residual, shortcut]))


def _two_convolutions(x, filters: int, strides: int, zero_gamma: bool = False):
    """F(x) of figure 5, left: two 3x3 convolutions."""
    x = layers.ReLU()(_conv_bn(x, filters, 3, strides))
    return _conv_bn(x, filters, 3, zero_gamma=zero_gamma)


def _bottleneck(x, filters: int, strides: int, zero_gamma: bool):
    """F(x) of figure 5, right: 1x1 to fewer channels, 3x3, 1x1 to four times as many. The stride is in the first."""
    x = layers.ReLU()(_conv_bn(x, filters, 1, strides))
    x = layers.ReLU()(_conv_bn(x, filters, 3))
    return _conv_bn(x, 4 * filters, 1, zero_gamma=zero_gamma)


def _pad_channels(x, filters: int, strides: int):
    """Option A: every second pixel, and zeros for the new channels."""
    if strides == 1:
        return x
    x = layers.AveragePooling2D(pool_size=1, strides=strides)(x)
    new = filters - x.shape[-1]
    return ops.pad(x, [(0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)])


def _project(x, filters: int, strides: int):
    """Option B: a 1x1 convolution if the shape changes."""
    return x if strides == 1 and x.shape[-1] == filters else _conv_bn(x, filters, 1, strides)


def _conv_bn(x, filters: int, size: int, strides: int = 1, zero_gamma: bool = False):
    # Batch normalisation has its own shift, so the convolution needs no bias.
    x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.BatchNormalization(momentum=0.9, gamma_initializer="zeros" if zero_gamma else "ones")(x)
