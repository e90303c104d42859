"""The loss on the straight line from the first to the last weights of a training."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers, ops

from pbl.diagnosis.monitor import take_statistics
from pbl.errors import InputError
from pbl.evaluation.calibration import find_log_losses
from pbl.models.calls import replaced_calls
from pbl.models.keras_private import flatten_layers
from pbl.models.prediction import predict_probabilities

POSITIONS = np.linspace(-0.25, 1.25, 25)  # steps of a sixteenth, so 0 and 1 are among them


def renew_statistics(model: keras.Model, pixels: np.ndarray, batch_size: int = 100) -> None:
    """Measures the statistics of a model's batch normalisation again, for its present weights.

    The moving averages of a training fit its last weights; with other weights the network would not be the one that training
    sees. As in stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407, section 3.2) they become the mean over
    batches of images. Frozen layers keep their statistics.

    Args:
        model: The model; its `moving_mean` and `moving_variance` are changed.
        pixels: `[n, height, width, channels]`.
        batch_size: Number of images that are normalised together.
    """
    next(_renewals(model, pixels, batch_size))


def find_normalising(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    flat = flatten_layers(model)
    return [layer for layer in flat if isinstance(layer, layers.BatchNormalization) and layer.trainable]


def _renewals(model: keras.Model, pixels: np.ndarray, batch_size: int = 100) -> Iterator[None]:
    """Renews the statistics at each `next`; the model is traced once."""
    normalising = find_normalising(model)
    statistics = [weight for layer in normalising for weight in (layer.moving_mean, layer.moving_variance)]
    batches = [pixels[begin : begin + batch_size] for begin in range(0, len(pixels), batch_size)]

    def normalise(batch: tf.Tensor) -> None:
        with replaced_calls(normalising, take_statistics):
            model(batch, training=False)

    signature = tf.TensorSpec([None, *pixels.shape[1:]], pixels.dtype)
    traced = tf.function(normalise, autograph=False).get_concrete_function(signature) if normalising else None
    while True:
        if traced is not None:
            means = [0.0] * len(statistics)
            for batch in batches:
                traced(tf.constant(batch))  # the layers now have the statistics of this batch
                share = len(batch) / len(pixels)
                means = [mean + share * ops.convert_to_numpy(of) for mean, of in zip(means, statistics, strict=True)]
            for of, mean in zip(statistics, means, strict=True):
                of.assign(mean)
        yield


def loss_line(
    model: keras.Model,
    first: Sequence[np.ndarray],
    last: Sequence[np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    positions: Iterable[float] = POSITIONS,
) -> pd.DataFrame:
    """Measures the loss along the straight line from the first to the last weights of a training.

    Goodfellow et al. (2015), Qualitatively characterizing neural network optimization problems, arXiv:1412.6544, section 3:
    weights (1 - a) first + a last, for each position a. The line is one cut through a space with as many dimensions as there are
    weights, and the training did not follow it. The statistics of batch normalisation are measured again at every position
    (`renew_statistics`), on the training images: with those of `last` the loss would show a barrier that does not exist.

    Args:
        model: The model as it was built for the training, with the same layers frozen; it gets its weights back.
        first, last: As `model.get_weights()` returns them.
        train, val: Images `[n, height, width, channels]` and their labels `int [n]`.
        positions: 0 is `first`, 1 is `last`.

    Returns:
        One row for each position: `position`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`. Losses are in nats, at
        most 15.9 for an image, without penalties.

    Raises:
        InputError: The weights are not the model's.
    """
    shapes = [tuple(weight.shape) for weight in model.weights]
    for weights in (first, last):
        if [weight.shape for weight in weights] != shapes:
            raise InputError("loss_line: the weights do not belong to {model}.", model=model.name)
    rows, renewals = [], _renewals(model, train[0])
    before = model.get_weights()
    try:
        for position in map(float, positions):
            model.set_weights(
                [
                    (1 - position) * a + position * b if np.issubdtype(a.dtype, np.floating) else b
                    for a, b in zip(first, last, strict=True)
                ]
            )
            next(renewals)
            row = {"position": position}
            for side, (pixels, labels) in (("train", train), ("val", val)):
                row[f"{side}_loss"], row[f"{side}_accuracy"] = measure_loss(model, pixels, labels)
            rows.append(row)
    finally:
        model.set_weights(before)
    return pd.DataFrame(rows)


def measure_loss(model: keras.Model, pixels: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns a classifier's mean loss in nats (`pbl.evaluation.calibration.find_log_losses`), and its accuracy.

    Args:
        model: A model with one softmax output.
        pixels: `[n, height, width, channels]`.
        labels: `int [n]`.
    """
    probabilities = predict_probabilities(model, pixels)
    of_true = probabilities[np.arange(len(labels)), labels]
    # A loss of NaN stays NaN, and such a prediction counts as wrong.
    is_right = (probabilities.argmax(axis=1) == labels) & np.isfinite(of_true)
    return float(find_log_losses(labels, probabilities).mean()), float(is_right.mean())
