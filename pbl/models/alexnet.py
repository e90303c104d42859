"""AlexNet, the network that won ImageNet in 2012, as a `keras.Sequential`.

Krizhevsky, Sutskever and Hinton (2012), ImageNet Classification with Deep Convolutional Neural Networks, section 3.5 and
figure 2. 62,378,344 trainable weights at 227x227x3 with 1000 classes.

Different from the paper: one device, so no convolution is split into two groups (with groups: 60,965,224 weights); local
response normalisation is an option, off by default, since later work (Simonyan and Zisserman 2014) found no gain; pixels
are scaled to -1 to 1, where the paper subtracts the mean image. Overlapping pooling, dropout and initialisation are kept.
"""

import keras
from keras import layers, ops

from pbl.models.card import Card, check_size

PAPER = "Krizhevsky et al. 2012, NeurIPS"
CARDS = {"alexnet": Card("Sequential", 2012, PAPER, (227, 227, 3), 1000, 62_378_344, 1_135_256_096, smallest=67)}


@keras.saving.register_keras_serializable("pbl")
class LocalResponseNormalization(layers.Layer):
    """b_i = a_i / (k + alpha * sum of a_j^2 over the `depth` neighbouring channels j)^beta (section 3.3)."""

    def __init__(self, depth: int = 5, k: float = 2.0, alpha: float = 1e-4, beta: float = 0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth, self.k, self.alpha, self.beta = depth, k, alpha, beta

    def call(self, x):
        reach = self.depth // 2
        squares = ops.pad(ops.square(x), [(0, 0), (0, 0), (0, 0), (reach, reach)])
        channels = x.shape[-1]
        sums = sum(squares[..., shift : shift + channels] for shift in range(2 * reach + 1))
        return x / (self.k + self.alpha * sums) ** self.beta

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "depth": self.depth, "k": self.k, "alpha": self.alpha, "beta": self.beta}


def alexnet(
    input_shape: tuple[int, int, int], num_classes: int, *, dropout: float = 0.5, lrn: bool = False
) -> keras.Model:
    """Builds AlexNet (Krizhevsky et al. 2012, section 3.5).

    Args:
        input_shape: (height, width, channels) of the images, at least 67x67, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        dropout: Share of the two hidden dense layers' outputs set to zero in training (section 4.2).
        lrn: Local response normalisation after the first two convolutions (section 3.3). Such a model needs
            `import pbl.models` before `keras.models.load_model`.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.alexnet((227, 227, 3), 1000)
        >>> models.count_trainable_weights(model)
        62378344
    """
    check_size("alexnet", input_shape, CARDS["alexnet"].smallest)
    model = keras.Sequential(name="alexnet")
    model.add(keras.Input(input_shape))
    model.add(layers.Rescaling(1 / 127.5, offset=-1))
    model.add(_conv(96, 11, strides=4, padding="valid", bias=0))
    if lrn:
        model.add(LocalResponseNormalization())
    model.add(layers.MaxPooling2D(3, strides=2))
    model.add(_conv(256, 5, bias=1))
    if lrn:
        model.add(LocalResponseNormalization())
    model.add(layers.MaxPooling2D(3, strides=2))
    model.add(_conv(384, 3, bias=0))
    model.add(_conv(384, 3, bias=1))
    model.add(_conv(256, 3, bias=1))
    model.add(layers.MaxPooling2D(3, strides=2))
    model.add(layers.Flatten())
    for _ in range(2):
        model.add(layers.Dense(4096, activation="relu", kernel_initializer=_normal(), bias_initializer="ones"))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_initializer=_normal()))
    return model


def _conv(filters: int, size: int, *, bias: int, strides: int = 1, padding: str = "same") -> layers.Layer:
    # Section 5: weights from a normal distribution with standard deviation 0.01; biases 1 in layers 2, 4 and 5, so that ReLUs start active.
    return layers.Conv2D(
        filters,
        size,
        strides,
        padding=padding,
        activation="relu",
        kernel_initializer=_normal(),
        bias_initializer=keras.initializers.Constant(bias),
    )


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.01)
