"""Callbacks: what happens at the end of an epoch. All are ordinary `keras.callbacks.Callback`s, usable in any `fit`.

Your own callback is a function without arguments (or a class) that returns one. Enter it with
`CALLBACKS["mine"] = Mine` and name it in the configuration: `callbacks=["mine"]`. A function that takes `monitor` and `mode`
receives the quantity that the run's task is judged by, such as "val_loss" and "min". `pbl.training.checkpoint` keeps what a callback has to
remember when a training is interrupted and resumed.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from pbl.errors import InputError, Sentence
from pbl.languages import say
from pbl.models.calls import list_variables
from pbl.models.keras_private import find_averages
from pbl.models.saving import is_unsealed, mend_weights, save_model
from pbl.storage.writing import Growing, append_line, is_there, replacing

REST = 40  # the best model is saved again after at least so many times as long as saving took
FIRST_REST = 10.0  # seconds before it is saved for the first time


def early_stopping(monitor: str = "val_loss", mode: str = "min") -> keras.callbacks.Callback:
    """Stops when the validation loss has not fallen for 10 epochs; 1 or 3 stop healthy runs too early."""
    return keras.callbacks.EarlyStopping(monitor=monitor, mode=mode, patience=10, restore_best_weights=True)


def reduce_on_plateau(monitor: str = "val_loss", mode: str = "min") -> keras.callbacks.Callback:
    """Divides the learning rate by 10 when the validation loss has not fallen for 5 epochs; needs a constant schedule."""
    return keras.callbacks.ReduceLROnPlateau(monitor=monitor, mode=mode, factor=0.1, patience=5, min_lr=1e-6)


CALLBACKS: dict[str, Callable[..., keras.callbacks.Callback]] = {
    "early_stopping": early_stopping,
    "reduce_on_plateau": reduce_on_plateau,
}


class BestModel(keras.callbacks.Callback):
    """Keeps the best model, the one with the lowest validation loss, as `best.keras` and `best.weights.h5`.

    If a standard error is logged too, as `<monitor>_error` (for example for the distance of a few hundred samples), chance would decide between
    epochs that are equally good: then the newest epoch is the best that is not worse than the lowest by more than two standard errors of their difference.

    Unlike `ModelCheckpoint` it never leaves a half-written file. In the first ten seconds, and if saving would take more
    than a fortieth of the time, as for small models that learn fast, the best model waits in memory until it may be saved, at
    the latest until the end.

    Args:
        folder: Where to save.
        monitor: The logged quantity that decides which model is the best; None: the newest one is.
        mode: "min" if lower is better, "max" if higher is better.

    Attributes:
        best_epoch: The epoch of the best model, from 1; None before the first.
        lost_epoch: Epoch of a best model that no longer exists when the training is resumed; else None.

    Raises:
        InputError: An epoch does not log this quantity.
    """

    def __init__(self, folder: str | Path, monitor: str | None = "val_loss", mode: str = "min"):
        super().__init__()
        self.folder = Path(folder)
        self.best_loss, self.best_epoch = np.inf, None  # the loss, or the monitored value; times -1 in mode "max"
        self._lowest = (np.inf, 0.0)  # the lowest loss and its standard error
        self._monitor, self._sign = monitor, 1 if mode == "min" else -1
        self.lost_epoch: int | None = None
        self._waiting: list[list] | None = None  # each variable, and the value that waits
        self._next_save = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._next_save = time.perf_counter() + FIRST_REST

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        loss, error = self._find_loss(epoch, logs), logs.get(f"{self._monitor}_error", np.nan)
        lowest, error_of_lowest = self._lowest
        if loss < lowest:
            self._lowest = (loss, error)
        # False for NaN.
        if loss < self.best_loss or loss <= lowest + 2 * np.hypot(error, error_of_lowest):
            self.best_loss, self.best_epoch = loss, epoch + 1
            if time.perf_counter() >= self._next_save:
                self._save()
            else:
                self._waiting = [[variable, variable.numpy()] for variable in self._variables()]
        elif time.perf_counter() >= self._next_save:
            self.flush()

    def _find_loss(self, epoch: int, logs: dict) -> float:
        if self._monitor is None:
            return -epoch
        if self._monitor not in logs:
            raise InputError(
                "The best model is chosen by {monitor}, which is not logged. Logged are: {names}. Set task_options.monitor.",
                monitor=self._monitor,
                names=", ".join(sorted(logs)),
            )
        return self._sign * logs[self._monitor]

    def on_train_end(self, logs: dict | None = None) -> None:
        self.flush()

    def flush(self) -> None:
        """Writes the best model if it waits in memory."""
        if self._waiting is None:
            return
        self._swap()
        now = self._waiting
        self._save()
        self._waiting = now
        self._swap()
        self._waiting = None

    def _swap(self) -> None:
        """Exchanges the model's variables with those that wait: one by one, so that there are never three copies of all."""
        # The variables that waited, by themselves: an optimizer that nothing trains with may have been built since.
        for pair in self._waiting:
            variable, waiting = pair
            pair[1] = variable.numpy()
            variable.assign(waiting)

    def _variables(self) -> list:
        return list_variables(self.model)

    def _save(self) -> None:
        start = time.perf_counter()
        save_model(self.model, self.folder, "best", comment={"epoch": self.best_epoch, "val_loss": self.best_loss})
        self._waiting = None
        self._next_save = time.perf_counter() + REST * (time.perf_counter() - start)

    def get_state(self) -> dict:
        self.flush()  # otherwise the state would contain the model twice
        return {"best_loss": self.best_loss, "best_epoch": self.best_epoch, "lowest": self._lowest}

    def set_state(self, state: dict) -> None:
        self.best_loss, self.best_epoch = state["best_loss"], state["best_epoch"]
        self._lowest = tuple(state.get("lowest", (self.best_loss, np.nan)))
        waiting = state.get("waiting")  # from an earlier version
        self._waiting = (
            None if waiting is None else [list(pair) for pair in zip(self._variables(), waiting, strict=True)]
        )
        kept, expected = mend_weights(self.folder, "best", self.model, self.best_epoch or 0), self.best_epoch
        if kept is not None and kept["epoch"] >= (expected or 0):
            # A process that was killed wrote this model after the state: it is the best one so far. Its epoch comes again,
            # and on the same machine it gives the same model.
            self.best_loss, self.best_epoch, self._waiting = kept["val_loss"], kept["epoch"], None
        elif expected is not None and self._waiting is None and not is_unsealed(self.folder / "best.weights.h5"):
            # For example, a Drive kept one file and not the other: coming epochs are compared with the model that is there.
            self.lost_epoch = expected
            self.best_loss, self.best_epoch = (kept["val_loss"], kept["epoch"]) if kept else (np.inf, None)
            self._lowest = (self.best_loss, np.nan)
            told = "The best model so far, of epoch {expected}, is missing: {folder} contains {found}. The best one is chosen from that and the epochs to come. If you have a copy, stop now and restore it."
            found = Sentence("that of epoch {epoch}", epoch=kept["epoch"]) if kept else Sentence("none")
            print(say(told, expected=expected, folder=self.folder, found=found), file=sys.stderr, flush=True)


class AveragesIn(keras.callbacks.Callback):
    """With an optimizer's `use_ema`: validation, and the callbacks at the end of an epoch, see the averaged weights.

    Keras's `SwapEMAWeights` puts the training weights back before the end of an epoch, where the best model is kept. So another
    model would be kept than was validated (keras-team/keras#18978). Here `AveragesOut` puts them back, exactly, after all
    callbacks have seen the averages. So the end of `fit`, where Keras puts the averages into the model, finds the weights that it expects.
    """

    def __init__(self):
        super().__init__()
        self._trained: list[tuple] = []

    def on_test_begin(self, logs: dict | None = None) -> None:
        if self._trained:
            return
        optimizer = self.model.optimizer
        pairs = find_averages(getattr(optimizer, "inner_optimizer", optimizer))
        self._trained = [(variable, keras.ops.copy(variable.value)) for variable, _ in pairs]
        for variable, average in pairs:
            variable.assign(average.value)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.on_test_begin()  # in case there was no validation

    def put_back(self) -> None:
        """Puts the weights back into the model with which the training continues."""
        for variable, value in self._trained:
            variable.assign(value)
        self._trained = []


class AveragesOut(keras.callbacks.Callback):
    """The second part of `AveragesIn`: it comes after all callbacks that look at the model, and before the one that keeps the training's state."""

    def __init__(self, averages: AveragesIn):
        super().__init__()
        self._averages = averages

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._averages.put_back()


class HistoryFile(keras.callbacks.Callback):
    """Appends what Keras logs to a CSV file after each epoch: epoch (from 1), losses, metrics, learning rate, seconds.

    The seconds count from the end of the previous epoch: so they include what was done between the two, such as keeping the
    training's state.

    Args:
        file: The CSV file.

    Attributes:
        rows: One dictionary for each epoch.
    """

    def __init__(self, file: str | Path):
        super().__init__()
        self.file = Path(file)
        self.rows: list[dict[str, float]] = []
        self._columns: list[str] = []
        self._start: float | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._start = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._start is None:
            self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rate = float(
            f"{float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)):.6g}"
        )  # 0.001, not the digits of its float32
        now = time.perf_counter()
        row = {"epoch": epoch + 1, **logs, "learning_rate": rate, "seconds": round(now - self._start, 3)}
        self._start = now
        self.rows.append(row)
        if len(self.rows) > 1 and list(row) == self._columns and is_there(self.file):
            append_line(self.file, _write_csv([row], self._columns, header=False).rstrip("\n"))
        else:
            self._write()

    def get_state(self) -> dict:
        return {"rows": Growing("rows", self.rows), "seconds": time.perf_counter() - self._start}

    def set_state(self, state: dict) -> None:
        self.rows, self._start = state["rows"], time.perf_counter() - state["seconds"]
        if self.rows:
            self._write()  # removes rows that a killed process wrote after the state: their epochs come again

    def _write(self) -> None:
        self._columns = list(dict.fromkeys(name for row in self.rows for name in row))
        with replacing(self.file) as temporary:
            temporary.write_text(_write_csv(self.rows, self._columns), encoding="utf-8")


def _write_csv(rows: list[dict], columns: list[str], header: bool = True) -> str:
    return pd.DataFrame(rows, columns=columns).to_csv(index=False, header=header, lineterminator="\n")
