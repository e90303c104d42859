"""Multilayer perceptron: the simplest deep network, as a `keras.Sequential`.

Rumelhart, Hinton and Williams (1986), Learning representations by back-propagating errors, Nature 323, 533-536; with
ReLU (Nair and Hinton 2010) in place of the sigmoid.
"""

from collections.abc import Sequence

import keras
from keras import layers

from pbl.models.card import DIGIT, Card

CARDS = {
    "mlp": Card(
        "Sequential",
        1986,
        "Rumelhart et al. 1986, Nature 323",
        DIGIT,
        10,
        535_818,
        535_040,
        formerly={"batch_norm_momentum": 0.99},
    ),
}


def mlp(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    widths: Sequence[int] = (512, 256),
    activation: str = "relu",
    dropout: float = 0.0,
    batch_norm: bool = False,
    batch_norm_momentum: float = 0.9,
    l2: float = 0.0,
) -> keras.Model:
    """Builds a multilayer perceptron (Rumelhart, Hinton and Williams 1986).

    Args:
        input_shape: (height, width, channels) of the images, pixels 0 to 255.
        num_classes: Number of classes, at least 2.
        widths: Units of each hidden layer, from the first to the last.
        activation: Name of the hidden layers' activation.
        dropout: Share of each hidden layer's outputs set to zero in training, 0 to below 1 (Srivastava et al. 2014).
        batch_norm: Normalise each hidden layer before its activation (Ioffe and Szegedy 2015).
        batch_norm_momentum: Share of the moving averages that a step keeps, 0 to below 1: .9 averages over about 10 steps.
            Keras's own .99 lags about 100 steps behind, which is many epochs of a small data set: after 8 epochs of Adam on 300
            digits, in batches of 32, it classified 77 to 83% of the other digits correctly, and .9 96% (three seeds each).
        l2: Factor of the squared weights of every layer added to the loss, such as 1e-4.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1.

    Example:
        >>> from pbl import models
        >>> model = models.mlp((28, 28, 1), 10)
        >>> models.count_trainable_weights(model)
        535818
    """
    model = keras.Sequential(name="mlp")
    model.add(keras.Input(input_shape))
    model.add(layers.Rescaling(1 / 255))
    model.add(layers.Flatten())
    penalty = keras.regularizers.L2(l2) if l2 else None
    for width in widths:
        # Batch normalisation would subtract a bias before it again, with the mean.
        model.add(layers.Dense(width, use_bias=not batch_norm, kernel_regularizer=penalty))
        if batch_norm:
            model.add(layers.BatchNormalization(momentum=batch_norm_momentum))
        model.add(layers.Activation(activation))
        if dropout:
            model.add(layers.Dropout(dropout))
    model.add(layers.Dense(num_classes, activation="softmax", dtype="float32", kernel_regularizer=penalty))
    return model
