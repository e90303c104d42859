"""Vision transformer, subclassed: an image as a sequence of patches.

Dosovitskiy et al. (2020), An Image is Worth 16x16 Words, arXiv:2010.11929, section 3.1 and figure 1. The sizes tiny and small
come from Touvron et al. (2020), Training data-efficient image transformers, arXiv:2012.12877, table 1.

Trainable weights at 224x224x3, patches of 16x16, 1000 classes:

| builder   | width | depth | heads | weights    |
|-----------|-------|-------|-------|------------|
| vit_tiny  | 192   | 12    | 3     | 5,717,416  |
| vit_small | 384   | 12    | 6     | 22,050,664 |
| vit_base  | 768   | 12    | 12    | 86,567,656 |

Different from the paper: small images get smaller patches (see `vit_tiny`); dropout is 0 unless given.
"""

import keras
from keras import layers, ops

from pbl.errors import InputError
from pbl.models.card import LARGE, Card

TOUVRON = "Touvron et al. 2020, arXiv:2012.12877"
DOSOVITSKIY = "Dosovitskiy et al. 2020, arXiv:2010.11929"
CARDS = {
    "vit_tiny": Card("subclassed", 2020, TOUVRON, LARGE, 1000, 5_717_416, 1_074_851_328),
    "vit_small": Card("subclassed", 2020, TOUVRON, LARGE, 1000, 22_050_664, 4_241_218_560),
    "vit_base": Card("subclassed", 2020, DOSOVITSKIY, LARGE, 1000, 86_567_656, 16_848_500_736),
}


@keras.saving.register_keras_serializable("pbl")
class ClassTokenAndPosition(layers.Layer):
    """Puts the class token in front of the patches, and adds the learned position embeddings (equation 1)."""

    def build(self, input_shape):
        _, patches, width = input_shape
        normal = keras.initializers.TruncatedNormal(stddev=0.02)
        self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="class_token")
        self.position = self.add_weight(shape=(1, patches + 1, width), initializer=normal, name="position")

    def call(self, x):
        token = ops.broadcast_to(ops.cast(self.token, x.dtype), (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + ops.cast(self.position, x.dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[1] + 1, input_shape[2])


@keras.saving.register_keras_serializable("pbl")
class StochasticDepth(layers.Layer):
    """Leaves out the complete branch for a share `rate` of the images in training (Huang et al. 2016)."""

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        # One random number for each image: dropout whose noise is the same along all axes but the first.
        self.rate, self.drop = rate, layers.Dropout(rate, noise_shape=(None, 1, 1))

    def call(self, x, training=None):
        return self.drop(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("pbl")
class EncoderBlock(layers.Layer):
    """x + MSA(LN(x)), then x + MLP(LN(x)) (equations 2 and 3; figure 1, right)."""

    def __init__(self, width: int, heads: int, dropout: float, stochastic_depth: float, **kwargs):
        super().__init__(**kwargs)
        self.settings = {"width": width, "heads": heads, "dropout": dropout, "stochastic_depth": stochastic_depth}
        self.norm_1 = layers.LayerNormalization(epsilon=1e-6)
        self.attention = layers.MultiHeadAttention(heads, key_dim=width // heads, dropout=dropout)
        self.norm_2 = layers.LayerNormalization(epsilon=1e-6)
        self.hidden = layers.Dense(4 * width, activation="gelu")
        self.output_layer = layers.Dense(width)
        self.dropout = layers.Dropout(dropout)
        self.skip = StochasticDepth(stochastic_depth)

    def build(self, input_shape):
        width = input_shape[-1]
        for norm in (self.norm_1, self.norm_2):
            norm.build(input_shape)
        self.attention.build(input_shape, input_shape)
        self.hidden.build(input_shape)
        self.output_layer.build((*input_shape[:-1], 4 * width))

    def call(self, x, training=None):
        y = self.norm_1(x)
        y = self.attention(y, y, training=training)
        x = x + self.skip(self.dropout(y, training=training), training=training)
        y = self.dropout(self.hidden(self.norm_2(x)), training=training)
        y = self.dropout(self.output_layer(y), training=training)
        return x + self.skip(y, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), **self.settings}


@keras.saving.register_keras_serializable("pbl")
class VisionTransformer(keras.Model):
    """Patches, encoder blocks, and softmax of the class token (figure 1)."""

    def __init__(
        self,
        num_classes: int,
        patch: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.settings = {
            "num_classes": num_classes,
            "patch": patch,
            "width": width,
            "depth": depth,
            "heads": heads,
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
        }
        self.rescale = layers.Rescaling(1 / 127.5, offset=-1)
        # A convolution whose stride is its size: one linear map for each patch.
        self.embed = layers.Conv2D(width, patch, strides=patch)
        self.flatten = layers.Reshape((-1, width))
        self.position = ClassTokenAndPosition()
        self.dropout = layers.Dropout(dropout)
        # The deeper the block, the more often it is left out (Huang et al. 2016, linear decay).
        rates = [stochastic_depth * block / max(1, depth - 1) for block in range(depth)]
        self.encoder = [EncoderBlock(width, heads, dropout, rate) for rate in rates]
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.classify = layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_initializer="zeros")

    def call(self, images, training=None):
        x = self.flatten(self.embed(self.rescale(images)))  # [batch, patches, width]
        x = self.dropout(self.position(x), training=training)  # [batch, 1 + patches, width]
        for block in self.encoder:
            x = block(x, training=training)
        return self.classify(self.norm(x)[:, 0])

    def get_config(self):
        return {**super().get_config(), **self.settings}


def vit_tiny(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int | None = None,
    depth: int = 12,
    heads: int = 3,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> keras.Model:
    """Builds ViT-Tiny (Dosovitskiy et al. 2020; its size by Touvron et al. 2020).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255; both sides multiples of `patch`.
        num_classes: Number of classes, at least 2.
        patch: Side of a patch in pixels. Unless given, the largest of 16, 8, 4, 2, 1 that divides both sides and gives
            at least 49 patches: 16 at 224x224, 4 at 32x32 and 28x28.
        depth: Number of encoder blocks.
        heads: Number of attention heads; divides the width of 192.
        dropout: Share of activations set to zero in training, 0 to below 1.
        stochastic_depth: Share of the images for which the last block is left out in training; less for earlier ones.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Import
        `pbl.models` before `keras.models.load_model`.

    Raises:
        InputError: The sides are not multiples of `patch`, or `heads` does not divide the width.

    Example:
        >>> from pbl import models
        >>> model = models.vit_tiny((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        5717416
    """
    return _build("vit_tiny", input_shape, num_classes, 192, patch, depth, heads, dropout, stochastic_depth)


def vit_small(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int | None = None,
    depth: int = 12,
    heads: int = 6,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> keras.Model:
    """Builds ViT-Small (Touvron et al. 2020), of width 384; arguments as for `vit_tiny`.

    Example:
        >>> from pbl import models
        >>> model = models.vit_small((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        22050664
    """
    return _build("vit_small", input_shape, num_classes, 384, patch, depth, heads, dropout, stochastic_depth)


def vit_base(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    patch: int | None = None,
    depth: int = 12,
    heads: int = 12,
    dropout: float = 0.0,
    stochastic_depth: float = 0.0,
) -> keras.Model:
    """Builds ViT-Base (Dosovitskiy et al. 2020, table 1), of width 768; arguments as for `vit_tiny`.

    Example:
        >>> from pbl import models
        >>> model = models.vit_base((224, 224, 3), 1000)
        >>> models.count_trainable_weights(model)
        86567656
    """
    return _build("vit_base", input_shape, num_classes, 768, patch, depth, heads, dropout, stochastic_depth)


def _build(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    width: int,
    patch: int | None,
    depth: int,
    heads: int,
    dropout: float,
    stochastic_depth: float,
) -> keras.Model:
    sides = input_shape[:2]
    patch = patch or choose_patch(*sides)
    if any(side % patch for side in sides):
        raise InputError(
            "{name}: the sides {height} and {width} are not multiples of patch={patch}. Give another patch or image_size.",
            name=name,
            height=sides[0],
            width=sides[1],
            patch=patch,
        )
    if width % heads:
        raise InputError(
            "{name}: heads={heads} does not divide the width {width}.", name=name, heads=heads, width=width
        )
    model = VisionTransformer(num_classes, patch, width, depth, heads, dropout, stochastic_depth, name=name)
    model(keras.Input(input_shape))  # makes the weights
    return model


def choose_patch(height: int, width: int) -> int:
    """Returns the largest of 16, 8, 4, 2, 1 that divides both sides and gives at least 49 patches, else 1."""
    for patch in (16, 8, 4, 2):
        if height % patch == 0 and width % patch == 0 and (height // patch) * (width // patch) >= 49:
            return patch
    return 1
