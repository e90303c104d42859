"""A team's own experiment: copy this file, rename it, and change what you like.

It has its own model, data set and callback, each in a few lines. The run keeps a copy of this file, so that
`evaluate` and `predict` find them again.

Command:  python -m pbl train experiments/my_team.py
"""

import keras
from keras import layers
from sklearn.datasets import load_digits

from pbl import Config
from pbl.callbacks import CALLBACKS
from pbl.data import DATASETS, Source, from_arrays
from pbl.models import MODELS


def my_cnn(input_shape, num_classes, filters=32):
    """A small convolutional network: two convolutions, pooling, one dense layer."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Rescaling(1 / 255),  # the input is raw pixels, so that training and prediction cannot differ
            layers.Conv2D(filters, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(2 * filters, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            # Probabilities in float32, also if the rest is computed in 16 bits, which are too coarse for them.
            layers.Dense(num_classes, activation="softmax", dtype="float32"),
        ]
    )


def odd_or_even() -> Source:
    """Is a handwritten digit odd or even? Replace it by your own images: uint8 arrays, 0 to 255, and their classes."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype("uint8")
    return from_arrays(images, digits.target % 2, class_names=["even", "odd"])


class WeightNorm(keras.callbacks.Callback):
    """Logs the length of the vector of all trainable weights after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        squares = [float(keras.ops.sum(keras.ops.square(weight))) for weight in self.model.trainable_weights]
        logs["weight_norm"] = sum(squares) ** 0.5  # each entry in logs becomes a column in history.csv


MODELS["my_cnn"] = my_cnn
DATASETS["odd_or_even"] = odd_or_even
CALLBACKS["weight_norm"] = WeightNorm

config = Config(
    dataset="odd_or_even",
    positive_class="odd",
    model="my_cnn",
    model_options={"filters": 32},
    callbacks=["weight_norm"],
    epochs=20,
)
