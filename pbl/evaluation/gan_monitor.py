"""`GanMonitor`: what a GAN generates after each epoch, in pictures and in numbers; `pbl.diagnosis.generation` judges."""

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pbl.diagnosis.rules import Diagnosis
from pbl.errors import InputError, Sentence
from pbl.evaluation.epoch_monitor import EpochMonitor
from pbl.evaluation.generation import Reference, measure_samples
from pbl.evaluation.samples import draw_labels, generate_images, make_reference, takes_labels
from pbl.storage.writing import replacing

SAMPLES = 500  # images that are measured after an epoch
NEAREST_OF = 100  # how many of them are compared with the nearest training image
MEASURED = 10  # how often it measures in a training, besides the first and the last epoch
SHOWN = 16  # images of the grid, always from the same noise
ENTERED = {"kid": "kid", "kid_error": "error", "precision": "precision", "recall": "recall"}


class GanMonitor(EpochMonitor):
    """Measures after each epoch what a GAN generates.

    It comes first in the list: then the other callbacks see what it writes into `logs`: `val_kid` (the kernel distance to real images,
    times 1,000; `pbl.evaluation.generation`), `val_kid_error` (its standard error; NaN if this epoch was not measured),
    `val_precision` and `val_recall`. The losses do not say whether the images are good: in
    a game between two networks both may be in balance while the images are bad. The training itself is not changed.

    Args:
        data: The data (`pbl.load_data`): half of its validation images train a small judge, the other half are used for comparison. It needs no
            labels: with one class the judge learns how images are turned.
        every: Measures after the first epoch, after every `every` epochs, and after the last; in between, the newest values are kept. By default a tenth
            of the epochs.
        samples: How many images are measured.
        file: Where the pictures are written, an `.npz`; by default nowhere.

    Attributes:
        rows: What was measured, by epoch from 1.
        grids: `uint8 [16, height, width, channels]` of each epoch, from the same noise.
        seconds: How long the measuring has taken so far.

    Raises:
        InputError: The model has no generator that makes images of the data's shape with pixels 0 to 255; too few images.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.mlp_gan(data.input_shape, data.num_classes, noise_size=8, widths=[32])
        >>> model.compile(optimizer="adam")
        >>> monitor = pbl.GanMonitor(data, samples=100)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=1, verbose=0, callbacks=[monitor])
        >>> history.history["val_kid"][0] > 0
        True
    """

    growing = ("rows", "grids", "history")

    def __init__(self, data: Any, *, every: int | None = None, samples: int = SAMPLES, file: str | Path | None = None):
        if not hasattr(data, "sample"):
            raise InputError(
                "GanMonitor takes the data of pbl.load_data: from arrays, pbl.data.from_arrays makes them."
            )
        super().__init__(data)
        self._every, self._samples = every, samples
        self._file = None if file is None else Path(file)
        self._reference: Reference | None = None

    @property
    def reference(self) -> Reference:
        """The real images and the judge, made on first use."""
        if self._reference is None:
            self._reference, _ = make_reference(self._data, self._data.images("val"), self._samples, True)
        return self._reference

    @property
    def diagnosis(self) -> Diagnosis:
        """A `pbl.diagnosis.rules.Diagnosis` of what was measured last."""
        from pbl.diagnosis.generation import diagnose_samples

        if not self.rows:
            raise InputError("Nothing has been measured yet: fit the model first, with this callback.")
        return diagnose_samples(describe(self.rows[-1], self.reference, self._data.class_names), self.history)

    def on_train_begin(self, logs: dict | None = None) -> None:
        start = time.perf_counter()
        check_generator(self.model, self._data)
        _ = self.reference
        self.seconds += time.perf_counter() - start

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        start = time.perf_counter()
        logs = {} if logs is None else logs
        is_last = epoch + 1 >= self.params.get("epochs", 0) or self.model.stop_training
        shown = draw_labels(np.arange(self._data.num_classes), SHOWN) if takes_labels(self.model) else None
        try:
            self.grids.append(
                generate_images(self.model, SHOWN, seed=1, labels=None if shown is None else np.sort(shown))
            )
        except InputError:  # not numbers: the losses show it, and StopAtNaN ends the training
            logs |= {f"val_{name}": float("nan") for name in ENTERED}
            return
        every = self._every or max(1, self.params.get("epochs", 0) // MEASURED)
        measures = epoch % every == 0 or is_last or not self.rows
        if measures:
            count = self.reference.count
            labels = draw_labels(self.reference.labels, count) if takes_labels(self.model) else None
            samples = generate_images(self.model, count, labels=labels)
            measured = measure_samples(samples, self.reference, NEAREST_OF)
            self.rows.append({"epoch": epoch + 1, **measured.numbers})
        logs |= {f"val_{name}": self.rows[-1][key] for name, key in ENTERED.items()}
        if not measures:
            logs["val_kid_error"] = float("nan")
        self.history.append({"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}})
        self.seconds += time.perf_counter() - start

    def on_train_end(self, logs: dict | None = None) -> None:
        self.save()

    def save(self) -> None:
        """Writes the pictures so far."""
        if self._file is not None and self.grids:
            with replacing(self._file) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, grids=np.stack(self.grids))


def check_generator(model: keras.Model, data: Any) -> None:
    """Raises InputError unless a model has a generator of images like the data's, with pixels 0 to 255."""
    told = "task=generation: {model} {fault}. It takes model=dcgan or mlp_gan, or your own: a keras.Model with a generator (noise to pixels 0 to 255) and a discriminator, such as pbl.models.gan.GAN(generator, discriminator, noise_size)."
    generator = getattr(model, "generator", None)
    if not isinstance(generator, keras.Model) or not generator.inputs:
        raise InputError(told, model=model.name, fault=Sentence("has no generator"))
    if len(generator.inputs) > 2 or len(generator.inputs[0].shape) != 2:
        raise InputError(
            told, model=model.name, fault=Sentence("has a generator that takes something other than noise [n, size]")
        )
    found = tuple(generator.outputs[0].shape[1:])
    if found != tuple(data.input_shape):
        fault = Sentence(
            "generates images of {found}; these are {shape}",
            found="x".join(map(str, found)),
            shape="x".join(map(str, data.input_shape)),
        )
        raise InputError(told, model=model.name, fault=fault)
    labels = np.zeros(4, np.int32) if takes_labels(model) else None
    noise = np.random.default_rng(0).normal(size=(4, int(generator.inputs[0].shape[-1]))).astype(np.float32)
    pixels = keras.ops.convert_to_numpy(generator([noise, labels] if labels is not None else noise, training=False))
    if np.nanmax(pixels) <= 1.5:
        fault = Sentence("generates values up to {most:.2g}, but pixels are 0 to 255", most=float(np.nanmax(pixels)))
        raise InputError(told, model=model.name, fault=fault)


def describe(numbers: dict[str, Any], reference: Reference, class_names: list[str]) -> dict[str, Any]:
    """What was measured and what it is compared with, ready for JSON: what the diagnosis reads."""
    has_classes = reference.judge.has_classes
    return {
        "samples": numbers,
        "floor": reference.floor,
        "baselines": reference.baselines,
        "real_images": len(reference.real),
        "classes": list(class_names) if has_classes else [],
        "judge": reference.judge.digest,
    }
