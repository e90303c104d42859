"""What the monitors of the tasks share: rows of measurements, one after each epoch, saved with the state of an interrupted training."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import keras

from pbl.errors import InputError
from pbl.storage.writing import Growing


class EpochMonitor(keras.callbacks.Callback):
    """Measures after each epoch. A subclass defines what, in `measure`; if it does not measure after every epoch, it defines when, in `on_epoch_end`.

    Args:
        data: The data (`pbl.load_data`).

    Attributes:
        rows: What was measured, by epoch from 1.
        seconds: How long the measuring has taken so far.
    """

    growing: tuple[str, ...] = ("rows",)  # lists that an interruption must not lose

    def __init__(self, data: Any):
        super().__init__()
        self._data = data
        for name in self.growing:
            setattr(self, name, [])
        self.seconds, self.looks_at_end = 0.0, True

    def measure(self) -> dict[str, float] | None:
        """What is written into `logs` and `rows`; None if the outputs are not numbers: the losses show it, and StopAtNaN ends the training."""
        raise NotImplementedError

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        start = time.perf_counter()
        logs = {} if logs is None else logs
        measured = self.measure()
        if measured is not None:
            logs |= measured
            self.rows.append({"epoch": epoch + 1, **measured})
        self.seconds += time.perf_counter() - start

    def judge_validation(self, measure: Callable[..., Any]) -> dict[str, Any]:
        """Measures the model as it is now on all validation images, as an evaluation does.

        Args:
            measure: `measure_masks` or `measure_boxes`.

        Returns:
            The numbers that it returns.

        Raises:
            InputError: No epoch was measured yet; the outputs are not all numbers.
        """
        if not self.rows:
            raise InputError("Nothing has been measured yet: fit the model first, with this callback.")
        findings = [asdict(finding) for finding in self._data.check("train", "val", fast=True)]
        val = self._data.images("val")
        measured = measure(self.model, self._data, val, findings, True, self._data.groups_of(val.names))
        if measured is None:
            raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
        return measured.numbers

    def get_state(self) -> dict[str, Any]:
        return {name: Growing(name, getattr(self, name)) for name in self.growing}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self.growing:
            setattr(self, name, list(state[name]))
