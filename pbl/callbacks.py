"""Callbacks: what happens at the end of an epoch. All are plain `keras.callbacks.Callback`, usable in any `fit`.

A callback of your own is a function without arguments (or a class) that gives one, entered by
`CALLBACKS["mine"] = Mine` and named in the configuration: `callbacks=["mine"]`.
"""

import errno
import math
import os
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from pbl.runs import replacing


def early_stopping() -> keras.callbacks.Callback:
    """Stops when the validation loss has not fallen for 10 epochs; 1 or 3 stop healthy runs too early."""
    return keras.callbacks.EarlyStopping(monitor="val_loss", patience=10, restore_best_weights=True)


CALLBACKS: dict[str, Callable[[], keras.callbacks.Callback]] = {"early_stopping": early_stopping}


def save_model(model: keras.Model, folder: Path, name: str, weights: bool = True) -> None:
    """Saves `<name>.keras` and, with `weights`, `<name>.weights.h5`, each complete or not at all.

    The weights are what `pbl` loads: they can be read by an older Keras too. A model that Keras cannot describe (a
    layer without `get_config`) is kept as weights alone, with a warning.

    Raises:
        InputError: The disk is full or the folder cannot be written; the files that were there stay.
    """
    weights_file = folder / f"{name}.weights.h5"
    try:
        with replacing(folder / f"{name}.keras") as temporary:
            model.save(temporary)
            if weights:
                # Copied out of the archive: HDF5 itself must never meet a full disk, on which it crashes the process.
                with zipfile.ZipFile(temporary) as archive, replacing(weights_file) as copy:
                    copy.write_bytes(archive.read("model.weights.h5"))
    except (NotImplementedError, TypeError) as error:
        warnings.warn(f"{name}.keras was not written, since Keras cannot describe this model: {error}", stacklevel=2)
        if weights:
            variables = [*model.variables, *(model.optimizer.variables if model.optimizer else [])]
            needed = 1_000_000 + 5 * sum(
                math.prod(variable.shape) for variable in variables
            )  # 4 bytes each, and a margin
            with replacing(weights_file) as temporary:
                if shutil.disk_usage(folder).free < needed:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
                model.save_weights(temporary)


class BestModel(keras.callbacks.Callback):
    """Keeps the model with the lowest validation loss as `best.keras` and `best.weights.h5`.

    Unlike `ModelCheckpoint` it never leaves a half-written file.

    Args:
        folder: Where to save.

    Attributes:
        best_epoch: The epoch of the model that is kept, from 1; None before the first.
    """

    def __init__(self, folder: str | Path):
        super().__init__()
        self.folder = Path(folder)
        self.best_loss, self.best_epoch = np.inf, None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs["val_loss"] < self.best_loss:  # never true for NaN
            save_model(self.model, self.folder, "best")
            self.best_loss, self.best_epoch = logs["val_loss"], epoch + 1


class HistoryFile(keras.callbacks.Callback):
    """Writes what Keras logs to a CSV file after each epoch: epoch (from 1), losses, metrics, learning rate, seconds.

    Args:
        file: The CSV file.

    Attributes:
        rows: One dictionary an epoch.
    """

    def __init__(self, file: str | Path):
        super().__init__()
        self.file = Path(file)
        self.rows: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rate = float(
            f"{float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)):.6g}"
        )  # 0.001, not float32's
        seconds = round(time.perf_counter() - self._start, 3)
        self.rows.append({"epoch": epoch + 1, **logs, "learning_rate": rate, "seconds": seconds})
        with replacing(self.file) as temporary:
            pd.DataFrame(self.rows).to_csv(temporary, index=False, lineterminator="\n")
