"""Squeeze-and-excitation networks, subclassed: each channel has a gate that depends on the complete image.

Hu, Shen and Sun (2017), Squeeze-and-Excitation Networks, arXiv:1709.01507: the `SqueezeExcite` layer at the end of every
residual branch, before the sum, reduction ratio 16.

Trainable weights at 224x224x3 with 1000 classes: `se_resnet50` 28,088,024, `senet154` 115,088,984 (SE-ResNeXt-152 (64x4d)
with half the width in each bottleneck's first convolution, three 3x3 convolutions as stem, and 3x3 convolutions as
projections).

The `se_resnet20` to `se_resnet110` are the CIFAR networks of `resnet.py` with gates. Of these depths, Hu et al. report only 110
(and 164, with bottlenecks): 5.21% errors on CIFAR-10 in place of 6.37%. There the network is in the pre-activation form of He et al.
(2016), from which the errors without gates are; the networks here are in the form of 2015.

Different from the papers: as in `resnet.py`, including batch normalisation's epsilon of 1e-3 (1e-5 there) and TensorFlow's padding of
stride-2 layers. `senet154` downsamples in the 3x3 convolution, as in its authors' code.
"""

from collections.abc import Sequence

import keras
from keras import layers, ops

from pbl.models.card import LARGE, SMALL, Card, check_size

PAPER = "Hu et al. 2017, arXiv:1709.01507"
CARDS = {
    "se_resnet20": Card("subclassed", 2017, PAPER, SMALL, 10, 272_095, 40_553_056),
    "se_resnet32": Card("subclassed", 2017, PAPER, SMALL, 10, 468_109, 68_865_952),
    "se_resnet44": Card("subclassed", 2017, PAPER, SMALL, 10, 664_123, 97_178_848),
    "se_resnet56": Card("subclassed", 2017, PAPER, SMALL, 10, 860_137, 125_491_744),
    "se_resnet110": Card("subclassed", 2017, PAPER, SMALL, 10, 1_742_200, 252_899_776),
    "se_resnet50": Card("subclassed", 2017, PAPER, LARGE, 1000, 28_088_024, 3_860_488_192, smallest=32),
    "senet154": Card("subclassed", 2017, PAPER, LARGE, 1000, 115_088_984, 20_688_363_520, smallest=32),
}


@keras.saving.register_keras_serializable("pbl")
class SqueezeExcite(layers.Layer):
    """Multiplies each channel by a gate between 0 and 1 that depends on all channels' means.

    Args:
        ratio: The bottleneck between the two dense layers has channels / ratio units, at least one.
    """

    def __init__(self, ratio: int = 16, **kwargs):
        super().__init__(**kwargs)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.squeeze = layers.GlobalAveragePooling2D(keepdims=True)
        self.reduce = layers.Dense(max(1, channels // self.ratio), activation="relu", kernel_initializer="he_normal")
        self.excite = layers.Dense(channels, activation="sigmoid")
        self.reduce.build((None, 1, 1, channels))
        self.excite.build((None, 1, 1, self.reduce.units))

    def call(self, x):
        return x * self.excite(self.reduce(self.squeeze(x)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "ratio": self.ratio}


@keras.saving.register_keras_serializable("pbl")
class ConvBN(layers.Layer):
    """A convolution without bias, batch normalisation (its factor starts at 0 with `zero_gamma`), and ReLU if `relu` is true."""

    def __init__(
        self,
        filters: int,
        size: int,
        strides: int = 1,
        groups: int = 1,
        relu: bool = True,
        zero_gamma: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "filters": filters,
            "size": size,
            "strides": strides,
            "groups": groups,
            "relu": relu,
            "zero_gamma": zero_gamma,
        }
        self.convolution = layers.Conv2D(
            filters, size, strides, "same", groups=groups, use_bias=False, kernel_initializer="he_normal"
        )
        self.normalization = layers.BatchNormalization(
            momentum=0.9, gamma_initializer="zeros" if zero_gamma else "ones"
        )

    def build(self, input_shape):
        self.convolution.build(input_shape)
        self.normalization.build(self.convolution.compute_output_shape(input_shape))

    def call(self, x, training=None):
        x = self.normalization(self.convolution(x), training=training)
        return ops.relu(x) if self.settings["relu"] else x

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("pbl")
class SEBlock(layers.Layer):
    """y = ReLU(SE(F(x)) + shortcut(x)) (figure 3); F: the given convolutions.

    Args:
        convolutions: One (filters, size, strides, groups) for each convolution of the branch.
        projection: Size of the convolution that brings the shortcut to the branch's shape, if the shapes differ; 0
            for shortcuts without weights: every second pixel, and zeros for the new channels.
        ratio: See `SqueezeExcite`.
        stochastic_depth: Share of the images for which the branch is left out in training (Huang et al. 2016).
        zero_gamma: Begin as the identity: the factor of the branch's last batch normalisation starts at 0 (Goyal et al. 2017).
    """

    def __init__(
        self,
        convolutions: list[tuple[int, int, int, int]],
        projection: int,
        ratio: int = 16,
        stochastic_depth: float = 0.0,
        zero_gamma: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "convolutions": [list(c) for c in convolutions],
            "projection": projection,
            "ratio": ratio,
            "stochastic_depth": stochastic_depth,
            "zero_gamma": zero_gamma,
        }
        last = len(convolutions) - 1
        self.branch = [
            ConvBN(filters, size, strides, groups, relu=number < last, zero_gamma=zero_gamma and number == last)
            for number, (filters, size, strides, groups) in enumerate(convolutions)
        ]
        self.gate = SqueezeExcite(ratio)
        self.drop = layers.Dropout(stochastic_depth, noise_shape=(None, 1, 1, 1))
        self.filters = convolutions[-1][0]
        self.strides = max(strides for _, _, strides, _ in convolutions)
        self.project = None

    def build(self, input_shape):
        if self.settings["projection"] and (self.strides > 1 or input_shape[-1] != self.filters):
            self.project = ConvBN(self.filters, self.settings["projection"], self.strides, relu=False)
            self.project.build(input_shape)
        shape = input_shape
        for convolution in self.branch:
            convolution.build(shape)
            shape = convolution.compute_output_shape(shape)
        self.gate.build(shape)

    def call(self, x, training=None):
        shortcut = self.project(x, training=training) if self.project else self._take_and_pad(x)
        for convolution in self.branch:
            x = convolution(x, training=training)
        return ops.relu(self.drop(self.gate(x), training=training) + shortcut)

    def _take_and_pad(self, x):
        if self.strides == 1:
            return x
        new = self.filters - x.shape[-1]
        return ops.pad(x[:, :: self.strides, :: self.strides], [(0, 0), (0, 0), (0, 0), (new // 2, new - new // 2)])

    def compute_output_shape(self, input_shape):
        for convolution in self.branch:
            input_shape = convolution.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("pbl")
class SENet(keras.Model):
    """A stem, stages of `SEBlock`, global average pooling, and softmax.

    Args:
        num_classes: Number of classes.
        stem: One (filters, size, strides) for each convolution before the first block.
        pool: Whether max pooling follows the stem.
        blocks: One (convolutions, projection) for each block; see `SEBlock`.
        dropout: Share of the pooled features set to zero in training.
        stochastic_depth: Rate for the last block's branch; less for earlier ones, in proportion.
        zero_gamma: See `SEBlock`.
    """

    def __init__(
        self,
        num_classes: int,
        stem: list,
        pool: bool,
        blocks: list,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        zero_gamma: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_classes": num_classes,
            "stem": stem,
            "pool": pool,
            "blocks": blocks,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
            "zero_gamma": zero_gamma,
        }
        self.rescale = layers.Rescaling(1 / 127.5, offset=-1)
        self.stem = [ConvBN(filters, size, strides) for filters, size, strides in stem]
        self.pool = layers.MaxPooling2D(3, strides=2, padding="same") if pool else None
        self.blocks = [
            SEBlock(
                convolutions,
                projection,
                stochastic_depth=stochastic_depth * number / len(blocks),
                zero_gamma=zero_gamma,
            )
            for number, (convolutions, projection) in enumerate(blocks, start=1)
        ]
        self.average = layers.GlobalAveragePooling2D()
        self.dropout = layers.Dropout(dropout)
        self.classify = layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_initializer="he_normal")

    def call(self, images, training=None):
        x = self.rescale(images)
        for convolution in self.stem:
            x = convolution(x, training=training)
        if self.pool:
            x = self.pool(x)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.dropout(self.average(x), training=training)
        return self.classify(x)

    def get_config(self):
        return {**super().get_config(), **self.settings}


def se_resnet20(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-20 for small images: `resnet20` with the gates of Hu et al. 2017.

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        stochastic_depth: Share of the images for which the last block's branch is left out in training; less for
            earlier ones, in proportion (Huang et al. 2016, arXiv:1603.09382, where it is 0.5).
        zero_gamma: Let each block begin as the identity: the factor of its last batch normalisation starts at 0, not 1 (Goyal
            et al. 2017, arXiv:1706.02677, section 5.1).

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Import
        `pbl.models` before `keras.models.load_model`.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet20((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        272095
    """
    return _build_small("se_resnet20", input_shape, num_classes, 3, stochastic_depth, zero_gamma)


def se_resnet32(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-32 for small images (Hu et al. 2017); arguments as for `se_resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet32((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        468109
    """
    return _build_small("se_resnet32", input_shape, num_classes, 5, stochastic_depth, zero_gamma)


def se_resnet44(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-44 for small images (Hu et al. 2017); arguments as for `se_resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet44((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        664123
    """
    return _build_small("se_resnet44", input_shape, num_classes, 7, stochastic_depth, zero_gamma)


def se_resnet56(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-56 for small images (Hu et al. 2017); arguments as for `se_resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet56((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        860137
    """
    return _build_small("se_resnet56", input_shape, num_classes, 9, stochastic_depth, zero_gamma)


def se_resnet110(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-110 for small images (Hu et al. 2017); arguments as for `se_resnet20`.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet110((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        1742200
    """
    return _build_small("se_resnet110", input_shape, num_classes, 18, stochastic_depth, zero_gamma)


def se_resnet50(
    input_shape: tuple[int, int, int], num_classes: int, *, stochastic_depth: float = 0.0, zero_gamma: bool = False
) -> keras.Model:
    """Builds SE-ResNet-50 for ImageNet (Hu et al. 2017).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        stochastic_depth: Share of the images for which the last block's branch is left out in training; less for
            earlier ones, in proportion (Huang et al. 2016, arXiv:1603.09382, where it is 0.5).
        zero_gamma: Let each block begin as the identity: the factor of its last batch normalisation starts at 0, not 1 (Goyal
            et al. 2017, arXiv:1706.02677, section 5.1).

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Import
        `pbl.models` before `keras.models.load_model`.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.se_resnet50((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        28088024
    """
    check_size("se_resnet50", input_shape, CARDS["se_resnet50"].smallest)
    blocks = []
    for stage, count in enumerate((3, 4, 6, 3)):
        filters = 64 * 2**stage
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            blocks.append(([(filters, 1, strides, 1), (filters, 3, 1, 1), (4 * filters, 1, 1, 1)], 1))
    return _built(
        SENet(
            num_classes,
            [(64, 7, 2)],
            True,
            blocks,
            stochastic_depth=stochastic_depth,
            zero_gamma=zero_gamma,
            name="se_resnet50",
        ),
        input_shape,
    )


def senet154(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    blocks_per_stage: Sequence[int] = (3, 8, 36, 3),
    dropout: float = 0.2,
    stochastic_depth: float = 0.0,
    zero_gamma: bool = False,
) -> keras.Model:
    """Builds SENet-154 (Hu et al. 2017).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        blocks_per_stage: Blocks of each stage; fewer make a smaller network of the same kind.
        dropout: Share of the pooled features set to zero in training.
        stochastic_depth, zero_gamma: As for `se_resnet20`.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Import
        `pbl.models` before `keras.models.load_model`.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.senet154((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        115088984
    """
    check_size("senet154", input_shape, CARDS["senet154"].smallest)
    blocks = []
    for stage, count in enumerate(blocks_per_stage):
        filters = 64 * 2**stage
        for block in range(count):
            strides = 2 if stage > 0 and block == 0 else 1
            convolutions = [(2 * filters, 1, 1, 1), (4 * filters, 3, strides, 64), (4 * filters, 1, 1, 1)]
            blocks.append((convolutions, 1 if stage == 0 else 3))
    stem = [(64, 3, 2), (64, 3, 1), (128, 3, 1)]
    return _built(
        SENet(num_classes, stem, True, blocks, dropout, stochastic_depth, zero_gamma, name="senet154"), input_shape
    )


def _build_small(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    blocks_per_stage: int,
    stochastic_depth: float,
    zero_gamma: bool,
) -> keras.Model:
    blocks = []
    for filters in (16, 32, 64):
        for block in range(blocks_per_stage):
            strides = 2 if filters > 16 and block == 0 else 1
            blocks.append(([(filters, 3, strides, 1), (filters, 3, 1, 1)], 0))
    return _built(
        SENet(
            num_classes,
            [(16, 3, 1)],
            False,
            blocks,
            stochastic_depth=stochastic_depth,
            zero_gamma=zero_gamma,
            name=name,
        ),
        input_shape,
    )


def _built(model: keras.Model, input_shape: tuple[int, int, int]) -> keras.Model:
    model(keras.Input(input_shape))  # makes the weights
    return model
