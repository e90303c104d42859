"""One network in Keras's three styles, so that they can be compared line by line.

Sequential: a list of layers. Functional: layers called on the outputs of other layers, so that a network can branch. Subclassed:
`__init__` makes the layers, `call` says in Python how they are used. All three compute the same; a test copies the weights from
one to the others and finds equal outputs. `mlp_functional` and `mlp_subclassed` correspond to `mlp` in `mlp.py`.
"""

from collections.abc import Sequence

import keras
from keras import layers

from pbl.errors import Sentence
from pbl.models.card import DIGIT, SMALL, Card, check_size

RUMELHART = "Rumelhart et al. 1986, Nature 323"
THIS = Sentence("a lesson's example")
CARDS = {
    "mlp_functional": Card("Functional", 1986, RUMELHART, DIGIT, 10, 535_818, 535_040),
    "mlp_subclassed": Card("subclassed", 1986, RUMELHART, DIGIT, 10, 535_818, 535_040),
    "small_cnn": Card("Sequential", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
    "small_cnn_functional": Card("Functional", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
    "small_cnn_subclassed": Card("subclassed", 2026, THIS, SMALL, 10, 60_362, 5_644_288, smallest=4),
}


def small_cnn(input_shape: tuple[int, int, int], num_classes: int, *, filters: int = 32) -> keras.Model:
    """Builds a small convolutional network, Sequential: conv3, pooling, conv3, pooling, softmax.

    Args:
        input_shape: (height, width, channels) of the images, at least 4x4, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        filters: Filters of the first convolution; the second has twice as many.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Raises:
        InputError: The images are smaller.

    Example:
        >>> from pbl import models
        >>> model = models.small_cnn((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        60362
    """
    check_size("small_cnn", input_shape, CARDS["small_cnn"].smallest)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Rescaling(1 / 255),
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(2 * filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(num_classes, activation="softmax", dtype="float32"),
        ],
        name="small_cnn",
    )


def small_cnn_functional(input_shape: tuple[int, int, int], num_classes: int, *, filters: int = 32) -> keras.Model:
    """Builds `small_cnn` with the Functional API; arguments as for `small_cnn`.

    Example:
        >>> from pbl import models
        >>> model = models.small_cnn_functional((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        60362
    """
    check_size("small_cnn_functional", input_shape, CARDS["small_cnn_functional"].smallest)
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(2 * filters, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
    return keras.Model(images, probabilities, name="small_cnn_functional")


@keras.saving.register_keras_serializable("pbl")
class SmallCNN(keras.Model):
    """`small_cnn` as its own class."""

    def __init__(self, num_classes: int, filters: int = 32, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.filters = num_classes, filters
        self.rescale = layers.Rescaling(1 / 255)
        self.convolution_1 = layers.Conv2D(filters, 3, padding="same", activation="relu")
        self.convolution_2 = layers.Conv2D(2 * filters, 3, padding="same", activation="relu")
        self.pool = layers.MaxPooling2D()  # has no weights, so one layer can be used twice
        self.flatten = layers.Flatten()
        self.classify = layers.Dense(num_classes, activation="softmax", dtype="float32")

    def call(self, images):
        x = self.rescale(images)
        x = self.pool(self.convolution_1(x))
        x = self.pool(self.convolution_2(x))
        return self.classify(self.flatten(x))

    def get_config(self):  # what `keras.models.load_model` needs to make the object again
        return {**super().get_config(), "num_classes": self.num_classes, "filters": self.filters}


def small_cnn_subclassed(input_shape: tuple[int, int, int], num_classes: int, *, filters: int = 32) -> keras.Model:
    """Builds `small_cnn` as a subclass of `keras.Model`; arguments as for `small_cnn`.

    Example:
        >>> from pbl import models
        >>> model = models.small_cnn_subclassed((32, 32, 3), 10)
        >>> models.count_trainable_weights(model)
        60362
    """
    check_size("small_cnn_subclassed", input_shape, CARDS["small_cnn_subclassed"].smallest)
    model = SmallCNN(num_classes, filters, name="small_cnn_subclassed")
    model(keras.Input(input_shape))  # makes the weights
    return model


def mlp_functional(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: Sequence[int] = (512, 256),
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Builds `mlp` with the Functional API; arguments as for `mlp`.

    Example:
        >>> from pbl import models
        >>> model = models.mlp_functional((28, 28, 1), 10)
        >>> models.count_trainable_weights(model)
        535818
    """
    images = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(images)
    x = layers.Flatten()(x)
    for width in widths:
        x = layers.Dense(width, activation=activation)(x)
        x = layers.Dropout(dropout)(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32")(x)
    return keras.Model(images, probabilities, name="mlp_functional")


@keras.saving.register_keras_serializable("pbl")
class MLP(keras.Model):
    """`mlp` as its own class."""

    def __init__(self, num_classes: int, widths: Sequence[int], activation: str, dropout: float, **kwargs):
        super().__init__(**kwargs)
        self.settings = {
            "num_classes": num_classes,
            "widths": list(widths),
            "activation": activation,
            "dropout": dropout,
        }
        self.rescale = layers.Rescaling(1 / 255)
        self.flatten = layers.Flatten()
        self.hidden = [layers.Dense(width, activation=activation) for width in widths]
        self.dropout = layers.Dropout(dropout)
        self.classify = layers.Dense(num_classes, activation="softmax", dtype="float32")

    def call(self, images, training=None):
        x = self.flatten(self.rescale(images))
        for dense in self.hidden:
            x = self.dropout(dense(x), training=training)
        return self.classify(x)

    def get_config(self):
        return {**super().get_config(), **self.settings}


def mlp_subclassed(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: Sequence[int] = (512, 256),
    activation: str = "relu",
    dropout: float = 0.0,
) -> keras.Model:
    """Builds `mlp` as a subclass of `keras.Model`; arguments as for `mlp`.

    Example:
        >>> from pbl import models
        >>> model = models.mlp_subclassed((28, 28, 1), 10)
        >>> models.count_trainable_weights(model)
        535818
    """
    model = MLP(num_classes, widths, activation, dropout, name="mlp_subclassed")
    model(keras.Input(input_shape))
    return model
