"""`ContrastMonitor`: how good an encoder's features are after each epoch; `pbl.diagnosis.contrast` judges."""

import time
from typing import Any

import keras
import numpy as np

from pbl.errors import InputError, Sentence
from pbl.evaluation.contrast import (
    Probe,
    find_nearest,
    judge_pairs,
    make_pairs,
    measure_spread,
    scale_rows,
)
from pbl.evaluation.epoch_monitor import EpochMonitor
from pbl.models.calls import is_overridden
from pbl.models.prediction import predict_outputs

LABELLED, JUDGED = 1_000, 1_000  # training images with labels, and validation images
MEASURED = 10  # how often it measures in a training, besides the first and the last epoch


class ContrastMonitor(EpochMonitor):
    """Measures after each epoch how good the features of an encoder are.

    It comes first in the list: then the other callbacks see what it writes into `logs`: `val_probe` (the accuracy of a logistic regression on the
    features of 1,000 training images, on at most 1,000 validation images; `val_probe_error` is its standard error, NaN if this epoch was
    not measured), `val_nearest` (accuracy of the nearest neighbour among them) and `val_embedding_spread` (1: all directions; 0: all images at
    one point). For identities, whose classes validation does not share, there is `val_eer` instead of the first two: the equal error rate of pairs.
    The loss does not say whether the features are useful: it depends on the batch and the temperature. The training itself is not changed.

    Args:
        data: The data (`pbl.load_data` with `views=2`).
        every: Measures after the first epoch, after every `every` epochs, and after the last; in between, the newest values are kept. By default a tenth
            of the epochs.

    Attributes:
        rows: What was measured, by epoch from 1.
        seconds: How long the measuring has taken so far.

    Raises:
        InputError: The model is not one that learns by contrast.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits", views=2)
        >>> model = pbl.models.simclr(data.input_shape, data.num_classes, encoder="small_cnn", hidden=16, projection=8)
        >>> model.compile(optimizer="adam")
        >>> monitor = pbl.ContrastMonitor(data)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=1, verbose=0, callbacks=[monitor])
        >>> 0 <= history.history["val_probe"][0] <= 1
        True
    """

    def __init__(self, data: Any, *, every: int | None = None):
        super().__init__(data)
        self._every = every

    def on_train_begin(self, logs: dict | None = None) -> None:
        check_encoder(self.model, self._data)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        start = time.perf_counter()
        logs = {} if logs is None else logs
        is_last = epoch + 1 >= self.params.get("epochs", 0) or self.model.stop_training
        every = self._every or max(1, self.params.get("epochs", 0) // MEASURED)
        measures = epoch % every == 0 or is_last or not self.rows
        if measures:
            self.rows.append({"epoch": epoch + 1, **self.measure()})
        logs |= {name: value for name, value in self.rows[-1].items() if name != "epoch"}
        if not measures and "val_probe_error" in logs:
            logs["val_probe_error"] = float("nan")
        self.seconds += time.perf_counter() - start

    def measure(self) -> dict[str, float]:
        val = self._data.sample("val", JUDGED)
        features = predict_outputs(self.model, val.pixels)
        spread = {"val_embedding_spread": measure_spread(embed(self.model, features))}
        if not np.isfinite(features).all():  # the loss shows it, and StopAtNaN ends the training
            names = ("val_eer",) if self._data.identities else ("val_probe", "val_probe_error", "val_nearest")
            return dict.fromkeys((*names, *spread), float("nan"))
        if self._data.identities:
            judged, _ = judge_pairs(make_pairs(features, val.labels), samples=0)
            return {"val_eer": judged["metrics"]["eer"] if judged else float("nan"), **spread}
        train = self._data.sample("train", LABELLED)
        known = predict_outputs(self.model, train.pixels)
        probe = Probe(known)
        right = probe.predict(probe.scale(known), train.labels, probe.scale(features)) == val.labels
        number, _ = find_nearest(scale_rows(features), scale_rows(known))
        share = float(right.mean())
        return {
            "val_probe": share,
            "val_probe_error": float(np.sqrt(share * (1 - share) / len(right))),
            "val_nearest": float((train.labels[number] == val.labels).mean()),
            **spread,
        }


def embed(model: keras.Model, features: np.ndarray) -> np.ndarray:
    """The vectors that the loss compares, computed from known features, each of length 1: `float32 [n, size]`; for a model without projection the features."""
    projection = getattr(model, "projection", None)
    if not isinstance(projection, keras.Model):
        return scale_rows(features)
    return scale_rows(predict_outputs(projection, features.astype(np.float32)))


def check_encoder(model: keras.Model, data: Any) -> None:
    """Raises InputError unless a model has an encoder and a training step for two views, and returns features of images."""
    told = "task=contrast: {model} {fault}. It takes model=simclr or supcon, or your own: a keras.Model with an encoder, a train_step for two views of each image ([batch, 2, height, width, channels]) and a call from images to features [batch, features]."
    if not isinstance(getattr(model, "encoder", None), keras.Model):
        raise InputError(told, model=model.name, fault=Sentence("has no encoder"))
    if not is_overridden(model, "train_step"):
        raise InputError(told, model=model.name, fault=Sentence("has no training step of its own"))
    shape = tuple(model(np.zeros((2, *data.input_shape), np.uint8), training=False).shape)
    if len(shape) != 2 or shape[0] != 2:
        raise InputError(told, model=model.name, fault=Sentence("gives {shape} for two images", shape=shape))
