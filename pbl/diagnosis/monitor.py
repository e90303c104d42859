"""`OverfittingMonitor` measures what the diagnosis of a training needs; `pbl.diagnosis` judges it.

Keras's own `loss` and `accuracy` are means over an epoch in which the weights changed, with dropout, augmentation, class
weights and penalties: they can hide a gap or show one that does not exist. Here the same images are looked at after each epoch, in
inference mode and not augmented.
"""

import contextlib
import functools
import inspect
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from pbl.diagnosis.arrays import examine_arrays
from pbl.diagnosis.data import share_of_ones
from pbl.diagnosis.live import LiveCurves, is_watched
from pbl.diagnosis.rules import Diagnosis, diagnose
from pbl.diagnosis.signals import Side, Signals, count_pairs
from pbl.errors import InputError
from pbl.evaluation.calibration import LEAST_PROBABILITY
from pbl.models.calls import replaced_calls
from pbl.models.cost import counted_outputs
from pbl.models.keras_private import find_callbacks, find_logits, flatten_layers

# How many images of each side. A twentieth of the training images costs about 2% of an epoch of a network with large
# steps. With fewer than 500 images no gap below 6 points could be told from chance: with 1,600 training images 500 cost 15%, half a
# second, for ResNet-20.
FEWEST, MOST, ONE_IN = 500, 1_500, 20
MOST_AT_END = 5_000  # images of each side, once, when the training has ended
MOST_BYTES = 128 * 2**20
LOOKED_AT = 256  # images for a look into the network
BATCH = 128
# Bytes of all layers' outputs that are held at once where nothing frees them: for gradients, and where nothing is traced. What TensorFlow
# needs then is some two times as much. A network with larger outputs judges its images in smaller parts.
AT_ONCE = 5 * 2**28
HALF_A_BATCH = 32  # at most: a training may have fewer steps than its images fill
FEW_EPOCHS = 5  # with fewer epochs nothing is traced
EAGERLY = 2**21  # pixels in a batch that is not traced; at least one batch of BATCH
REST = 40  # pause before the signals are written again, in times of how long writing took: the file holds all epochs


class OverfittingMonitor(keras.callbacks.Callback):
    """Measures, before training and after each epoch, how good a classifier is on training images and on validation images.

    It comes first in the list: then the other callbacks and Keras's progress bar see what it writes into `logs`: `probe_loss`,
    `probe_accuracy`, `val_probe_loss`, `val_probe_accuracy` (losses in nats without penalties, and shares; on fixed images), `gap` with
    `gap_low` and `gap_high` (accuracy on the probe minus on validation, Newcombe's 95% interval), `images_per_second`, with the
    data of `pbl.load_data` `data_share` (how long its batches alone take, divided by the epoch's time: near 1 the training waits for
    them), on a GPU `device_memory` (bytes, the highest so far) and, if it can be read, `gpu_busy` (share). The training itself is not changed:
    batch normalisation's averages and the states of random layers are restored. When the training has ended, up to 5,000 images
    of each side are looked at once: the diagnosis takes its gap and accuracies from these (not if a head is trained on features).

    Args:
        train: The data (`pbl.load_data`), or a pair of arrays: images, and labels (`[n]`, or one-hot `[n, classes]`).
        val: A pair of arrays; None if `train` is the data, or if there is no validation.
        every: A look into the network (gradients, dead units, batch normalisation) is taken before training, after every `every`
            epochs, and after the last; with 0 never.
        file: Where the signals are written, an `.npz`; by default nowhere.
        live: In a notebook: show the gap in one line that changes with each epoch, and the curves below it, redrawn in place.

    Attributes:
        signals: What was measured.
        seconds: How long the measuring has taken so far.
        looks_at_end: Whether more images are looked at when a `fit` has ended; false if another one follows.

    Raises:
        InputError: The model is not a classifier with one output that has a number for each class of the labels (with two classes a single
            number is enough); the labels do not fit the images or the loss, or the images the model; another callback comes before this one.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.mlp(data.input_shape, data.num_classes)
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> monitor = pbl.OverfittingMonitor(data)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=2, verbose=0, callbacks=[monitor])
        >>> len(history.history["gap"])
        2
        >>> monitor.diagnosis.headline.name in pbl.diagnosis.NAMES
        True
    """

    def __init__(
        self,
        train: Any,
        val: tuple | None = None,
        *,
        every: int = 5,
        file: str | Path | None = None,
        live: bool = True,
    ):
        super().__init__()
        self._every, self._file = every, None if file is None else Path(file)
        self._live = LiveCurves() if live and is_watched() else None
        self._source = train if hasattr(train, "batches") else None
        self._train, self._val = train, val
        if hasattr(train, "sample"):
            sizes = [train.images(split).labels for split in ("train", "val")]
            classes, steps = train.num_classes, train.steps_per_epoch
        else:
            of_train, of_val = _as_pair(train), None if val is None else _as_pair(val)
            sizes = [pair[1] if pair else np.empty(0, np.int32) for pair in (of_train, of_val)]
            classes, steps = 1 + max(int(of_side.max(initial=0)) for of_side in sizes), None
            if of_val and of_val[0].shape[1:] != of_train[0].shape[1:]:
                raise InputError(
                    "OverfittingMonitor: training images have the shape {train}, validation images {val}. Bring them to one shape.",
                    train=of_train[0].shape[1:],
                    val=of_val[0].shape[1:],
                )
            self._train, self._val = of_train, of_val
        self._pixels, self._labels, val_items = self._take(MOST, max(FEWEST, len(sizes[0]) // ONE_IN))
        self._about = {
            "num_classes": classes,
            "train_counts": np.bincount(sizes[0], minlength=classes).tolist(),
            "val_counts": np.bincount(sizes[1], minlength=classes).tolist(),
            "steps_per_epoch": steps,
            "val_items": val_items,
            "inputs": {
                name: [float(pixels.min()), float(pixels.max())]
                for name, pixels in zip(("train", "val"), self._pixels, strict=True)
                if pixels.size
            }
            | {"ones": share_of_ones(self._pixels[0])},
        }
        groups = train.groups_of(val_items) if hasattr(train, "groups_of") else None
        if groups is not None:
            self._about["val_groups"] = groups
        self._findings: list[dict] | None = None
        self.signals = self._begin_signals()
        self._inputs, self._head = self._pixels, None
        self.seconds, self.looks_at_end = 0.0, True
        self._next_save = 0.0

    def _begin_signals(self) -> Signals:
        """Signals of which nothing is measured yet."""
        probe, val = map(Side.of, self._labels)
        return Signals(dict(self._about), probe, val)

    def look_through(self, extractor: keras.Model | None, head: keras.Model | None) -> None:
        """Judges `head` on what `extractor` computes from the images, once; with None the complete model again.

        Args:
            extractor: From images to features that do not change in the training.
            head: From features to classes; it holds all weights that are trained.
        """
        self._head = head
        self._inputs = self._pixels
        if extractor is not None:
            self._inputs = [extractor.predict(pixels, verbose=0) if len(pixels) else pixels for pixels in self._pixels]

    @property
    def diagnosis(self) -> Diagnosis:
        """The diagnosis of the signals so far. For arrays the data doctor's findings are included, which takes seconds, once. For the data of
        a run `pbl.diagnose_run` includes them."""
        if not self.signals.epochs:
            raise InputError(
                "OverfittingMonitor has measured nothing yet. Pass it to the training: model.fit(images, labels, callbacks=[monitor])."
            )
        if self._findings is None:
            self._findings = [] if hasattr(self._train, "sample") else examine_arrays(self._train, self._val)
        return diagnose(self.signals, self._findings)

    @property
    def _judged(self) -> keras.Model:
        return self._head or self.model

    # Methods that Keras calls.

    def on_train_begin(self, logs: dict | None = None) -> None:
        callbacks = find_callbacks("OverfittingMonitor")
        # A callback that puts averaged weights into the model must come before, so that these are measured.
        harmless = (OverfittingMonitor, keras.callbacks.SwapEMAWeights)
        self._stoppers = [
            other
            for other in callbacks
            if isinstance(other, keras.callbacks.EarlyStopping) and other.restore_best_weights
        ]
        before = [other for other in callbacks[: callbacks.index(self)] if not isinstance(other, harmless)]
        if before:
            raise InputError(
                "The callback {other} is before OverfittingMonitor: it would not see what is measured, or would change it. Put OverfittingMonitor "
                "first.",
                other=type(before[0]).__name__,
            )
        self._check()
        self._measure: dict[str, Callable] = {}  # traced again: the model may have been compiled again
        self._batches = _in_batches(self._inputs, self._labels, at_once=self._at_once)
        self._before: list | None = None  # kernels before an epoch whose network is looked at
        self._begins, self._is_restored = True, False
        self._batch_seconds = None if self._source is None or self._head is not None else _time_batches(self._source)
        _watch_labels(self.model)
        if self._live is not None:
            self._live.begin()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        # Not in `on_train_begin`: it is not known there whether ExactResume will restore another state.
        if self._begins:
            self._begins = False
            self.signals.cut(epoch)
            goes_on = self.signals.epochs and self.signals.epochs[-1]["epoch"] == epoch
            if not goes_on or (epoch == 0 and not self._is_restored):
                self.signals = self._begin_signals()
                self._record(epoch, {}, looks=self._every > 0)
        self._start = time.perf_counter()
        if self._is_looked_at(epoch + 1):
            self._before = self._copy_kernels()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = time.perf_counter() - self._start
        self._record(epoch + 1, {} if logs is None else logs, self._is_looked_at(epoch + 1), seconds)

    def on_train_end(self, logs: dict | None = None) -> None:
        self.model.__dict__.pop("compute_loss", None)
        epoch = int(self.signals.epochs[-1]["epoch"]) if self.signals.epochs else 0
        with self._kept_weights() as kept:
            if kept is not None:
                self.signals.about["kept_epoch"] = epoch = kept
            looked_at = {look["epoch"] for look in self.signals.network}
            if looked_at and epoch not in looked_at:  # stopped early
                self._look(epoch, self._run(looks=True)[1])
            # The features of more images would take too long.
            if self.looks_at_end and self.signals.epochs and self._inputs is self._pixels:
                self._look_at_more()
                if self._live is not None:
                    self._live.show(self.signals, has_ended=True)
        self.save()

    @contextlib.contextmanager
    def _kept_weights(self) -> Iterator[int | None]:
        """Within it the model has the weights that early stopping is about to restore; gives their epoch, or None for the last."""
        last = self.signals.epochs[-1]["epoch"] if self.signals.epochs else 0
        kept = [other for other in self._stoppers if other.best_weights is not None and other.best_epoch + 1 < last]
        if not kept:
            yield None
            return
        before = self.model.get_weights()
        self.model.set_weights(kept[-1].best_weights)
        yield int(kept[-1].best_epoch) + 1
        self.model.set_weights(before)

    def get_state(self) -> dict:
        before = None if self._before is None else [ops.convert_to_numpy(kernel) for kernel in self._before]
        return {**self.signals.to_state(), "before": before}

    def set_state(self, state: dict) -> None:
        sides = [state[name]["labels"] for name in ("probe", "val")]
        if not all(np.array_equal(one, other) for one, other in zip(sides, self._labels, strict=True)):
            return  # from an earlier version, which looked at other images: the signals start again
        before = state["before"]
        self._before = None if before is None else [ops.convert_to_tensor(kernel) for kernel in before]
        self.signals, self._is_restored = Signals.from_dict(state), True
        self.signals.about = self._about | self.signals.about  # an earlier version kept less

    def save(self) -> None:
        """Writes the signals so far to `file`."""
        if self._file is not None and self.signals.epochs:
            self.signals.save(self._file)

    # The measuring itself.

    def _take(self, *most: int) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
        """Images of train and of validation, stratified, of each at most the smallest of `most`; their labels; and the names
        of the validation images, or their indices in arrays."""
        if hasattr(self._train, "sample"):
            parts = []
            for split in ("train", "val"):
                whole = self._train.images(split)
                count = _how_many(len(whole.labels), math.prod(whole.store.shape[1:]), *most)
                parts.append(self._train.sample(split, count))
            return [part.pixels for part in parts], [part.labels for part in parts], parts[1].names
        nothing = np.empty((0, *self._train[0].shape[1:])), np.empty(0, np.int32)
        pairs = [pair or nothing for pair in (self._train, self._val)]
        places = [_choose(*pair, *most) for pair in pairs]
        chosen = [[array[at] for array in pair] for pair, at in zip(pairs, places, strict=True)]
        pixels, labels = map(list, zip(*chosen, strict=True))
        return pixels, labels, [str(place) for place in places[1]]

    def _look_at_more(self) -> None:
        pixels, labels, _ = self._take(MOST_AT_END)
        if [len(part) for part in labels] == [len(part) for part in self._labels]:
            return
        rows = self._run(False, _in_batches(pixels, labels, at_once=self._at_once))[0]
        self.signals.end = {"epoch": self.signals.epochs[-1]["epoch"]}
        begin = 0
        for name, of_side in zip(("probe", "val"), labels, strict=True):
            predicted = rows[begin : begin + len(of_side), 1]
            begin += len(of_side)
            self.signals.end |= {
                f"{name}_images": len(of_side),
                f"{name}_correct": int((predicted == of_side).sum()),
                f"{name}_confusion": count_pairs(of_side, predicted).tolist(),
            }

    def _copy_kernels(self) -> list:
        return [ops.copy(kernel.value) for kernel in self._kernels]

    def _is_looked_at(self, epoch: int) -> bool:
        return self._every > 0 and (epoch % self._every == 0 or epoch == self.params["epochs"])

    def _check(self) -> None:
        model = self._judged
        _check_shape(model, self._inputs[0].shape[1:])
        if self.model.weights and not (self.model.trainable_weights or model.trainable_weights):
            raise InputError(
                "The model has no weight to train: all its layers are frozen. Set layer.trainable = True for at least one, and compile it again."
            )
        outputs = getattr(model, "outputs", None) or ()
        if len(outputs) != 1:  # a subclassed model; or one that gives more outputs in training only
            outputs = keras.tree.flatten(model(self._inputs[0][:1], training=False))
        shapes = [["images", *output.shape[1:]] for output in outputs]
        if len(shapes) != 1 or len(shapes[0]) != 2:
            raise InputError(
                "OverfittingMonitor evaluates a classifier with one output [images, classes]; this model gives {shapes}. Leave it out, or monitor "
                "a model of the output that matters.",
                shapes=" and ".join(map(str, shapes)),
            )
        width, classes = shapes[0][1], self._about["num_classes"]
        self._is_binary = width == 1
        counts = np.add(self._about["train_counts"], self._about["val_counts"])
        first = int(np.flatnonzero(counts)[0])
        if first and width < max(classes, 3) and width in (1, classes - first):
            raise InputError(
                "The labels go from {first} to {last}, but classes are counted from 0. Subtract {first} before the training: labels = labels - "
                "{first}.",
                first=first,
                last=classes - 1,
            )
        if self._is_binary and classes > 2:
            raise InputError(
                "The model has one output, which distinguishes two classes, but the labels have {classes}. End it with one output for each class, "
                "or leave OverfittingMonitor out.",
                classes=classes,
            )
        if not self._is_binary and width < classes:
            raise InputError(
                "The labels go up to {last}, but the model has {width} outputs. It needs one output for each class.",
                last=classes - 1,
                width=width,
            )
        self._check_labels()
        # Called eagerly, so that the input of the last softmax is known.
        with counted_outputs(model) as counts:
            outputs = keras.tree.flatten(model(self._inputs[0][:8], training=False))[0]
        self._at_once = self._find_at_once(4 * sum(counts) // len(outputs))
        squashes = _count_squashes(outputs)
        self._is_logits = self._finds_logits(width, outputs, squashes)
        flat = flatten_layers(model)
        self._kernels = [weight for weight in model.trainable_weights if len(weight.shape) >= 2]
        self._rectified = [layer for layer in flat if _is_rectified(layer)]
        self._normalising = [
            layer for layer in flat if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        self._about["model"] = model.name
        scales = [
            layer.scale
            for layer in flat
            if isinstance(layer, keras.layers.Rescaling) and isinstance(layer.scale, (int, float))
        ]
        kinds = (keras.layers.Normalization, keras.layers.BatchNormalization, keras.layers.LayerNormalization)
        self._about["inputs"] |= {
            "width": width,
            "scale": math.prod(scales),
            "normalises": any(isinstance(layer, kinds) for layer in flat),
            "squashes": squashes,
            # Otherwise Keras's accuracy may be that of each output by itself.
            "counts_images": self._is_binary or "categorical" in _name_loss(self.model.loss),
        }

    def _find_at_once(self, image_bytes: int) -> int:
        """How many images are judged at once: as many as AT_ONCE allows, or else half a training batch, which is known to fit."""
        steps = self.params.get("steps") or math.inf
        half = int(sum(self._about["train_counts"]) / steps / 2)
        return max(1, min(half, HALF_A_BATCH), AT_ONCE // max(image_bytes, 1))

    def _check_labels(self) -> None:
        """Raises InputError if the loss takes another kind of labels than the data give; Keras's message speaks of ranks only."""
        name = _name_loss(self.model.loss).replace("_", "")
        if self._source is None or "categorical" not in name or "crossentropy" not in name:
            return
        are_one_hot, takes_numbers = len(self._source.train.element_spec[1].shape) == 2, "sparse" in name
        if are_one_hot and takes_numbers:
            raise InputError(
                "The loss takes class numbers, but the labels are one-hot. Compile with 'categorical_crossentropy', or load the data with "
                "labels='int' (loss=sparse_categorical_crossentropy in the settings)."
            )
        if not are_one_hot and not takes_numbers:
            raise InputError(
                "The loss takes one-hot labels, but the labels are class numbers. Compile with 'sparse_categorical_crossentropy', or load the data "
                "with labels='one_hot' (loss=categorical_crossentropy in the settings)."
            )

    def _finds_logits(self, width: int, given: Any, squashes: int) -> bool:
        """Whether the outputs are logits: judged by what the model gave, and otherwise by the loss."""
        loss, classes = self.model.loss, self._about["num_classes"]
        name = _name_loss(loss)
        is_categorical = "categorical" in name and "crossentropy" in name
        # Binary cross-entropy with more outputs than classes belongs to an autoencoder's pixels.
        is_binary = ("binary" in name or name == "bce") and width <= max(classes, 2)
        outputs = ops.convert_to_numpy(ops.cast(given, "float32"))
        sums = outputs if self._is_binary else outputs.sum(axis=1)
        is_positive = outputs.min() >= 0 or not np.isfinite(outputs).all()
        are_probabilities = is_positive and not sums.max() > 1.01 and (self._is_binary or not sums.min() < 0.99)
        is_one = self._is_binary and squashes and (outputs > 0.999).all()
        if is_one and float(ops.min(ops.sigmoid(find_logits(given)))) < 0.99:
            raise InputError(
                "The model ends with a softmax over a single output, which is always 1. End it with"
                " Dense(1, activation='sigmoid')."
            )
        if (is_categorical or is_binary) and (isinstance(loss, str) or hasattr(loss, "from_logits")):
            takes_logits = bool(getattr(loss, "from_logits", False))
            # The outputs of a ReLU may be between 0 and 1 at first.
            is_squashed = is_positive and not outputs.max() > 1.01 and (are_probabilities or squashes)
            if not takes_logits and not is_squashed:
                raise InputError(
                    "The model ends without {activation}, but the loss {loss} takes probabilities: the model learns little and its losses are "
                    "wrong. End it with {code}, or compile with keras.losses.{own}(from_logits=True).",
                    activation="sigmoid" if self._is_binary or is_binary else "softmax",
                    loss=name,
                    code=f"Dense({width}, activation='{'sigmoid' if self._is_binary or is_binary else 'softmax'}')",
                    own="BinaryCrossentropy" if is_binary else _write_loss(name),
                )
            # Keras uses the logits of its own softmax in any case.
            return takes_logits and not are_probabilities
        if are_probabilities:
            return False
        # Whether one of Keras's own losses takes logits is known; a user's own loss or training step may.
        is_own = not (isinstance(loss, str) or getattr(loss, "__module__", "").startswith("keras"))
        if is_categorical or (is_own and width in (1, classes)):
            return True
        raise InputError(
            "OverfittingMonitor evaluates a classifier, but this model's outputs are not probabilities of classes: {width} {width:number|numbers} "
            "for each image, and the labels have {classes} classes. End the model with softmax over the classes, or leave OverfittingMonitor out.",
            width=width,
            classes=classes,
        )

    def _call(self, images: Any, training: bool = False) -> Any:
        """The outputs, `float32 [n, classes]` or `[n, 1]`."""
        # The first output: in training a model may give auxiliary outputs after it.
        return ops.cast(keras.tree.flatten(self._judged(images, training=training))[0], "float32")

    def _record(self, epoch: int, logs: dict, looks: bool, seconds: float = math.nan) -> None:
        rows, look = self._run(looks)
        signals, n = self.signals, len(self.signals.probe.labels)
        rows = rows[: n + len(signals.val.labels)]  # the last batch is padded
        signals.probe.append(rows[:n])
        signals.val.append(rows[n:])
        if looks:
            self._look(epoch, look)
        measured = {}
        for name, side, of_side in (("probe", signals.probe, rows[:n]), ("val_probe", signals.val, rows[n:])):
            if len(of_side):
                measured[f"{name}_loss"] = float(of_side[:, 0].mean())
                measured[f"{name}_accuracy"] = float(side.correct_now.mean())
        if len(signals.val.labels):
            measured |= dict(zip(("gap", "gap_low", "gap_high"), signals.gap, strict=True))
        images = sum(signals.about["train_counts"])
        if not math.isnan(seconds):
            logs |= measured | {"images_per_second": images / seconds, **_read_gpu()}
            if self._batch_seconds is not None and self._source is not None:
                logs["data_share"] = self._batch_seconds * self._source.steps_per_epoch / seconds
        rate = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}, **measured}
        signals.epochs.append({**row, "learning_rate": rate, "penalty": float(look[-1])})
        if self._live is not None and not math.isnan(seconds):
            self._live.show(signals)
        if looks and time.perf_counter() > self._next_save:
            begin = time.perf_counter()
            self.save()
            now = time.perf_counter()
            self._next_save = now + REST * (now - begin)

    def _look(self, epoch: int, numbers: np.ndarray) -> None:
        """Appends what a look into the network gave, a vector in the order of `_look_into`."""
        k, r = len(self._kernels), len(self._rectified)
        norms, weights, changes, dead, (in_training, stored, anew, _) = np.split(numbers, np.cumsum([k, k, k, r]))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = changes / weights if self._before is not None else np.full(k, math.nan)
        self.signals.network.append(
            {
                "epoch": epoch,
                "kernels": [kernel.path for kernel in self._kernels],
                "rectified": [layer.name for layer in self._rectified],
                "gradient_norms": norms.tolist(),
                "weight_norms": weights.tolist(),
                "update_ratios": ratios.tolist(),
                "dead": dead.tolist(),
                "loss_in_training": float(in_training),
                "loss_stored": float(stored),
                "loss_anew": float(anew),
            }
        )
        self._before = None

    def _run(self, looks: bool, batches: tuple | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Loss, predicted class and confidence of each image, `[n, 3]`; and what the look into the network gave, or the penalty alone."""
        batches = batches or self._batches
        begin = time.perf_counter()
        if not self._measure:
            self._measure = self._make_functions()
        parts = [self._measure["rows"](*batches)]
        if looks:
            parts.append(self._measure["look"](self._before or self._copy_kernels(), parts[0]))
        parts.append(self._measure["penalty"]())
        numbers = _to_host(ops.concatenate(parts))
        n = math.prod(batches[1].shape)
        self.seconds += time.perf_counter() - begin
        return numbers[: 3 * n].reshape(n, 3), numbers[3 * n :]

    def _make_functions(self) -> dict[str, Callable]:
        """The functions that measure on the device; each returns a vector.

        Tracing the function for the images costs as much as some epochs with few images. Tracing the look, with its gradients, costs more than all
        looks of most trainings. So what is seldom called is not traced.
        """
        at = _spread(0, len(self._labels[0]))
        parts = _in_parts(self._inputs[0][at], self._labels[0][at], self._at_once)

        def judge_all(images: Any, labels: Any) -> Any:
            return ops.reshape(_map(lambda batch: self._judge(*batch), (images, labels), self._at_once), (-1,))

        def judge_anew() -> Any:
            return self._judge_anew(parts)

        def conclude(learned: list, rows: Any, anew: Any, before: list) -> Any:
            stored = ops.mean(ops.take(ops.reshape(rows, (-1, 3))[:, 0], at))
            return ops.concatenate(self._conclude(learned, stored, stored if anew is None else anew, before))

        learn, judge_anew, conclude = [
            _compile(self._judged, function, is_seldom=True) for function in (self._learn, judge_anew, conclude)
        ]

        def look(before: list, rows: Any) -> Any:
            learned: list = []
            for part in parts:
                learned = _add_up(learned, learn(*part))
            return conclude(learned, rows, judge_anew() if self._normalising else None, before)

        def penalise() -> Any:
            # From the weights alone: what a layer adds for its outputs is known only during its call.
            weights = [weight for weight in self._judged.trainable_weights if getattr(weight, "regularizer", None)]
            penalty = sum((weight.regularizer(weight) for weight in weights), start=0.0)
            return ops.reshape(ops.cast(penalty, "float32"), (1,))

        # Judged by all epochs of the training, not by those that are left: traced and untraced code round differently, and a resumed training must give the same numbers.
        is_short = self.params["epochs"] < FEW_EPOCHS
        return {
            "rows": _compile(self._judged, judge_all, is_seldom=is_short),
            "look": look,
            "penalty": _compile(self._judged, penalise, is_seldom=True),
        }

    def _judge(self, images: Any, labels: Any, training: bool = False) -> Any:
        """`float32 [n, 3]`: loss, predicted class and confidence."""
        outputs = self._call(images, training)
        labels = ops.cast(labels, "int32")
        if self._is_binary:
            right = ops.sigmoid(outputs) if self._is_logits else outputs
            probabilities = ops.concatenate([1 - right, right], axis=-1)
        else:
            # Sigmoids do not sum to 1; Keras's categorical cross-entropies also divide by the sum.
            probabilities = (
                ops.softmax(outputs)
                if self._is_logits
                else outputs / ops.maximum(ops.sum(outputs, axis=-1, keepdims=True), LEAST_PROBABILITY)
            )
        of_true = ops.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
        # Not clipped to 1, and NaN stays NaN.
        loss = -ops.log(ops.where(of_true < LEAST_PROBABILITY, LEAST_PROBABILITY, of_true))
        no_class = ops.cast(ops.shape(probabilities)[-1], "float32")  # if the probabilities are NaN
        predicted = ops.where(ops.isnan(of_true), no_class, ops.cast(ops.argmax(probabilities, axis=-1), "float32"))
        return ops.stack([loss, predicted, ops.max(probabilities, axis=-1)], axis=-1)

    def _learn(self, images: Any, labels: Any, share: float) -> list:
        """A look at some images in training mode: their loss, and the gradients, both times their share of all; and each unit's highest output."""
        highest: dict[str, Any] = {}  # over all images and places

        def watch(layer: keras.Layer, original: Callable) -> Callable:
            def call(*arguments: Any, **options: Any) -> Any:
                outputs = original(*arguments, **options)
                units = ops.max(ops.cast(outputs, "float32"), axis=tuple(range(len(outputs.shape) - 1)))
                highest[layer.name] = ops.maximum(units, highest[layer.name]) if layer.name in highest else units
                return outputs

            return call

        def learn() -> tuple:
            loss = share * ops.mean(self._judge(images, labels, training=True)[:, 0])
            return loss, (loss, highest)

        with _put_back(self._judged), replaced_calls(self._rectified, watch):
            gradients, (loss, highest) = _gradients(self._judged, self._kernels, learn)
        return [loss, gradients, highest]

    def _judge_anew(self, parts: list[tuple]) -> Any:
        """The loss with batch normalisation's statistics computed anew from these images: over several parts their mean."""
        with _put_back(self._judged):
            for number, (images, _, _) in enumerate(parts):
                take = functools.partial(take_statistics, momentum=number / (number + 1))
                with replaced_calls(self._normalising, take):
                    self._judged(images, training=False)
            return sum(share * ops.mean(self._judge(images, labels)[:, 0]) for images, labels, share in parts)

    def _conclude(self, learned: list, stored: Any, anew: Any, before: list) -> list:
        """The norms of gradients, weights and changes, the share of dead units, and the losses: in training mode, `stored` and `anew`."""
        in_training, gradients, highest = learned
        weights = [kernel.value for kernel in self._kernels]
        changes = [a - b for a, b in zip(weights, before, strict=True)]
        dead = [
            ops.mean(ops.cast(highest[layer.name] <= 0, "float32")) if layer.name in highest else math.nan
            for layer in self._rectified
        ]
        norms = [[_norm(array) for array in arrays] for arrays in (gradients, weights, changes)]
        return [
            ops.stack([ops.cast(number, "float32") for number in numbers])
            for numbers in (*norms, dead, [in_training, stored, anew])
            if numbers
        ]


def _time_batches(source: Any) -> float | None:
    """Seconds that one training batch takes alone: a mean of an eighth of the epoch's batches, at most ten; None if there are too few."""
    count = min(10, source.steps_per_epoch // 8)
    if count < 2:
        return None
    batches = iter(source.batches("train"))
    next(batches)  # this draws the order and starts the pipeline
    begin = time.perf_counter()
    for _ in range(count):
        next(batches)
    return (time.perf_counter() - begin) / count


def _how_many(images: int, image_bytes: int, *most: int) -> int:
    """How many of a split's images are looked at."""
    return max(1, min(images, *most, MOST_BYTES // image_bytes))


def _check_shape(model: keras.Model, shape: tuple[int, ...]) -> None:
    """Raises InputError if images have another shape than the model takes."""
    taken = getattr(model, "input_shape", None)
    if not isinstance(taken, tuple) or not all(isinstance(side, int) for side in taken[1:] if side is not None):
        return  # several inputs, or a subclassed model
    taken = taken[1:]
    does_fit = len(taken) == len(shape) and all(a in (None, b) for a, b in zip(taken, shape, strict=True))
    # Keras adds or removes a last axis of 1.
    if does_fit or (*shape, 1) == taken or shape == (*taken, 1):
        return
    channels_first = len(shape) == 3 and all(
        a in (None, b) for a, b in zip(taken, (*shape[1:], shape[0]), strict=False)
    )
    if channels_first:
        raise InputError(
            "The images have the shape {shape}, but the model takes {taken}: the channels come last. Move them there: images = images.transpose(0, "
            "2, 3, 1).",
            shape=shape,
            taken=taken,
        )
    raise InputError(
        "The images have the shape {shape}, but the model takes {taken}. Bring the images to that shape, or begin the model with "
        "keras.Input({shape}).",
        shape=shape,
        taken=taken,
    )


def _watch_labels(model: keras.Model) -> None:
    """Makes a `fit` fail with one clear line if its labels are of another kind than the loss takes; Keras speaks of ranks, or learns nonsense."""
    compute, name = type(model).compute_loss, _name_loss(model.loss)
    signature = inspect.signature(compute)  # a user's own model may have another order

    def compute_loss(*arguments: Any, **options: Any) -> Any:
        given = signature.bind(model, *arguments, **options).arguments
        of_batch: list[Any] = [given.get(of) for of in ("y", "y_pred")]
        if all(hasattr(array, "shape") for array in of_batch):
            _check_kind(name, *(tuple(array.shape) for array in of_batch))
        return compute(model, *arguments, **options)

    if isinstance(model.loss, str) or getattr(type(model.loss), "__module__", "").startswith("keras"):
        vars(model)["compute_loss"] = compute_loss


def _check_kind(loss: str, labels: tuple, outputs: tuple) -> None:
    """Raises InputError if labels of this shape do not go with a loss of that name and outputs of that shape."""
    if len(outputs) != 2 or (outputs[1] or 1) < 2:
        return
    are_numbers, are_one_hot = len(labels) == 1 or labels[1:] == (1,), labels[1:] == outputs[1:]
    name = loss.replace("_", "")
    if "sparse" in name and are_one_hot:
        raise InputError(
            "The loss {loss} takes class numbers, but the labels of fit are one-hot. Compile with 'categorical_crossentropy', or give fit "
            "labels.argmax(axis=1).",
            loss=loss,
        )
    if "sparse" not in name and are_numbers:
        raise InputError(
            "The loss {loss} compares each of the {outputs} outputs with a label of its own, but the labels of fit are class numbers. Compile with "
            "'sparse_categorical_crossentropy' (and end the model with softmax), or give fit keras.utils.to_categorical(labels, {outputs}).",
            loss=loss,
            outputs=outputs[1],
        )


def _count_squashes(outputs: Any) -> int:
    """How many softmaxes or sigmoids, one after the other, gave these outputs of an eager call."""
    count = 0
    while (outputs := find_logits(outputs)) is not None:
        count += 1
    return count


def _name_loss(loss: Any) -> str:
    return (loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)).lower()


def _write_loss(name: str) -> str:
    """The name of the loss's class in Keras."""
    return "SparseCategoricalCrossentropy" if "sparse" in name else "CategoricalCrossentropy"


def _as_pair(pair: tuple) -> tuple[np.ndarray, np.ndarray]:
    try:
        images, labels = (np.asarray(array) for array in pair)
    except (TypeError, ValueError):
        raise InputError(
            "OverfittingMonitor takes the data of pbl.load_data, or arrays: OverfittingMonitor((images, labels), (images,"
            " labels))."
        ) from None
    if labels.dtype.kind not in "iubf":
        raise InputError(
            "OverfittingMonitor: the labels are words or objects, such as {label!r}. Give numbers from 0 on:"
            " names, labels = np.unique(labels, return_inverse=True).",
            label=labels.ravel().tolist()[0] if labels.size else "",
        )
    if labels.ndim == 2:
        labels = labels.argmax(axis=1) if labels.shape[1] > 1 else labels[:, 0]
    if labels.ndim == 1 and not np.array_equal(labels, np.round(labels)):
        raise InputError(
            "OverfittingMonitor: the labels must be whole numbers from 0 on; one is {label:g}.",
            label=labels[labels != np.round(labels)][0],
        )
    if labels.ndim == 1 and not len(labels) and not len(images):
        raise InputError("OverfittingMonitor: there is no image in this split. Check how it was made.")
    if labels.ndim == 1 and len(labels) and labels.min() < 0:
        raise InputError(
            "OverfittingMonitor: classes are counted from 0, and one label is {label:g}. Give numbers from 0 on:"
            " names, labels = np.unique(labels, return_inverse=True).",
            label=labels.min(),
        )
    if images.dtype.kind not in "iufb":
        raise InputError(
            "OverfittingMonitor: the images are not an array of numbers ({kind}). This happens if they differ in size. Bring all to one shape, and "
            "stack them: np.stack(images).",
            kind=images.dtype,
        )
    if labels.ndim != 1 or images.ndim < 2 or len(labels) != len(images) or not len(labels):
        raise InputError(
            "OverfittingMonitor: {images} images and labels of the shape {shape} do not match: each image needs one label, from 0 on.",
            images=len(images),
            shape=labels.shape,
        )
    wrong = ~np.isfinite(images).reshape(len(images), -1).all(axis=1) if images.dtype.kind == "f" else np.zeros(1, bool)
    if wrong.any():
        raise InputError(
            "OverfittingMonitor: {wrong} of {images} images have pixels that are not finite numbers (NaN or infinite), the first is number "
            "{first}. One of them makes all weights NaN: leave them out, or check how they were made.",
            wrong=int(wrong.sum()),
            images=len(images),
            first=int(wrong.argmax()),
        )
    return images, labels.astype(np.int32)


def _choose(images: np.ndarray, labels: np.ndarray, *most: int) -> np.ndarray:
    """The indices of a fixed part of the images, each class in its share."""
    if not len(labels):
        return np.empty(0, np.int64)
    count = _how_many(len(labels), math.prod(images.shape[1:]) * images.itemsize, *most)
    random = np.random.default_rng(0)
    shuffled = random.permutation(len(labels))
    classes = random.permutation(
        int(labels.max()) + 1
    )  # a random order, so that the share of a class does not depend on it
    by_class = shuffled[np.argsort(classes[labels[shuffled]], kind="stable")]
    place = np.arange(len(labels))
    return np.sort(by_class[(place + 1) * count // len(labels) > place * count // len(labels)])


def _spread(begin: int, end: int) -> np.ndarray:
    """Indices of images from `begin` to before `end`, evenly spread: the first ones may be of one class."""
    return np.linspace(begin, end - 1, min(end - begin, LOOKED_AT)).round().astype(np.int32)


def _in_parts(images: np.ndarray, labels: np.ndarray, at_once: int) -> list[tuple]:
    """Images, labels and share of all, in parts of nearly the same size, of at most `at_once` images."""
    count = -(-len(labels) // at_once)
    split = zip(np.array_split(images, count), np.array_split(labels, count), strict=True)
    return [(*part, len(part[1]) / len(labels)) for part in split]


def _add_up(one: list, other: list) -> list:
    """The looks at two parts as one: losses and gradients are added, of the highest outputs the higher is taken."""
    if not one:
        return other
    highest = {name: ops.maximum(value, one[2][name]) for name, value in other[2].items()}
    return [one[0] + other[0], [a + b for a, b in zip(one[1], other[1], strict=True)], highest]


def _in_batches(*sides: list[np.ndarray], at_once: int) -> tuple:
    """The images, and the labels, of both sides as `[batches, size, ...]`, on the device, padded with the last one; size is BATCH or less."""
    return tuple(_join_in_batches(parts, min(BATCH, at_once)) for parts in sides)


def _join_in_batches(parts: list[np.ndarray], most: int) -> Any:
    parts = [part for part in parts if len(part)]
    count = sum(map(len, parts))
    size = min(most, count)  # few images make a single, smaller batch
    filled = np.concatenate([*parts, np.repeat(parts[-1][-1:], -count % size, axis=0)])
    return ops.convert_to_tensor(filled.reshape(-1, size, *filled.shape[1:]))


def _is_rectified(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.ReLU) or getattr(layer, "activation", None) is keras.activations.relu


def take_statistics(layer: keras.layers.BatchNormalization, original: Callable, momentum: float = 0.0) -> Callable:
    """Batch normalisation that stores this batch's statistics as those of all images; `momentum` is the share of those stored before."""

    def call(inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        own, layer.momentum = layer.momentum, momentum
        try:
            return original(inputs, training=True, mask=mask)
        finally:
            layer.momentum = own

    return call


def _norm(array: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(ops.cast(array, "float32"))))


def _read_gpu() -> dict[str, float]:
    """Memory and use of the GPU; empty if there is none."""
    if keras.backend.backend() != "tensorflow":
        return {}
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return {}
    read = {"device_memory": float(tf.config.experimental.get_memory_info("GPU:0")["peak"])}
    if shutil.which("nvidia-smi"):
        words = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            said = subprocess.run(words, capture_output=True, text=True, timeout=5, check=True).stdout
            read["gpu_busy"] = float(said.split()[0]) / 100
    return read


# Code that differs between backends.


def _to_host(numbers: Any) -> np.ndarray:
    """The one transfer from the device."""
    return ops.convert_to_numpy(numbers)


def _compile(model: keras.Model, function: Callable, is_seldom: bool) -> Callable:
    """The function, traced once, or untraced if it is called too seldom to be worth it. On JAX the model's variables stay as they are."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if is_seldom:
            return function
        traced = tf.function(function, autograph=False)
        concrete: Callable | None = None

        def call(*batches: Any) -> Any:
            nonlocal concrete
            # `traced` itself is not called: with many models one after another TensorFlow would warn, as if one were traced too often.
            if concrete is None:
                any_number = [tf.TensorSpec([None, None, *array.shape[2:]], array.dtype) for array in batches]
                concrete = traced.get_concrete_function(*any_number)
            return concrete(*batches)

        return call
    if keras.backend.backend() == "jax":
        import jax

        def pure(values: list, *arguments: Any) -> Any:
            with keras.StatelessScope(list(zip(model.variables, values, strict=True))):
                return function(*arguments)

        traced = jax.jit(pure)
        return lambda *arguments: traced([variable.value for variable in model.variables], *arguments)
    return function


def _map(function: Callable, batches: tuple, at_once: int) -> Any:
    """The results of the function for each batch, one after another; untraced for at most `at_once` images, if a batch has no more."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if tf.executing_eagerly():  # each call of a layer has a cost: as many images at once as memory easily holds
            images, labels = batches
            together = max(1, min(EAGERLY // max(math.prod(images.shape[1:]), 1), at_once // images.shape[1]))
            joined = [
                [ops.reshape(array[begin : begin + together], (-1, *array.shape[2:])) for array in (images, labels)]
                for begin in range(0, images.shape[0], together)
            ]
            return ops.concatenate([function(pair) for pair in joined])
        return tf.map_fn(function, batches, fn_output_signature=tf.float32, parallel_iterations=1)
    return ops.map(function, batches)


@contextlib.contextmanager
def _put_back(model: keras.Model) -> Iterator[None]:
    """Within it the model may change its non-trainable variables; afterwards they are as before."""
    variables = [variable for variable in model.variables if not variable.trainable]
    before = [ops.copy(variable.value) for variable in variables]
    yield
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)


def _gradients(model: keras.Model, kernels: list, function: Callable) -> tuple[list, Any]:
    """Gradients of the first of the two values that a function returns, NaN on an unknown backend; and the second value."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value, more = function()
        return tape.gradient(value, [kernel.value for kernel in kernels], unconnected_gradients="zero"), more
    if keras.backend.backend() == "jax":
        import jax

        others = [(variable, variable.value) for variable in model.variables]

        def of_kernels(values: list) -> Any:
            with keras.StatelessScope([*others, *zip(kernels, values, strict=True)]):
                return function()

        return jax.grad(of_kernels, has_aux=True)([kernel.value for kernel in kernels])
    return [ops.full((1,), math.nan) for _ in kernels], function()[1]
