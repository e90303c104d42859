"""A small convolutional network that reaches 99% on MNIST in two epochs, by its recipe.

Papers:   batch normalisation (Ioffe and Szegedy 2015), He's initialisation (He et al. 2015), and a learning rate that rises,
          then falls, within those two epochs (Smith and Topin 2018, Super-Convergence, arXiv:1708.07120)
Data:     MNIST by TensorFlow Datasets (11 MB, downloaded once), its official 10,000 test images
Command:  python -m pbl train experiments/mnist_fast.py
Cost:     about 14 seconds of a processor with bfloat16 (experiments/benchmarks/time_to_accuracy.md)
Expected: 99.1 to 99.2% of the test images correct
"""

import keras
from keras import layers

from pbl import Config
from pbl.models import MODELS


def fast_cnn(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Three 3x3 convolutions, the map halved after each: 28, 14, 7, 3 pixels wide."""
    model = keras.Sequential(name="fast_cnn")
    model.add(keras.Input(input_shape))
    model.add(layers.Rescaling(1 / 127.5, offset=-1))
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal"))
        model.add(
            layers.MaxPooling2D()
        )  # before normalisation and ReLU: a quarter of the pixels, the same result for ReLU
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(num_classes, activation="softmax", dtype="float32"))
    return model


MODELS["fast_cnn"] = fast_cnn

config = Config(
    dataset="mnist",
    model="fast_cnn",
    optimizer="sgd",
    optimizer_options={"momentum": 0.9},
    learning_rate=0.1,
    learning_rate_schedule="one_cycle",
    batch_size=128,
    epochs=2,
)
