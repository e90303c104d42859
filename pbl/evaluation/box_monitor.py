"""`BoxMonitor`: mAP50 on training and validation images after each epoch; `pbl.diagnosis.detection` judges."""

import time
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from pbl.errors import InputError
from pbl.evaluation.box_evidence import measure_boxes
from pbl.evaluation.detection import average_over_classes, compute_average_precision, match
from pbl.models.prediction import predict_outputs
from pbl.storage.writing import Growing

MOST_TRAINING, MOST_VALIDATION = 200, 1000  # images that are looked at after each epoch


class BoxMonitor(keras.callbacks.Callback):
    """Measures after each epoch how well a network finds boxes on training images and on validation images.

    ```python
    monitor = pbl.BoxMonitor(data)                         # data = pbl.load_data(..., boxes=True)
    model.fit(data.train, validation_data=data.val, epochs=20, callbacks=[monitor])
    print(monitor.diagnosis)
    ```

    The loss says little of the boxes: it is lowest where the heat is right everywhere, and boxes are made of its peaks alone. Here the same
    images are looked at after each epoch, as they are. The monitor stands first in the list: then the others see what it enters into
    `logs`: `probe_map50` of training images, and `val_map50` (average precision at an IoU of .5, mean over classes). The training itself
    is not changed.

    Args:
        data: The data (`pbl.load_data` with `boxes=True`).

    Attributes:
        rows: What was measured: by epoch, from 1.
        seconds: How long the measuring took so far.

    Raises:
        InputError: The data have no boxes.
    """

    def __init__(self, data: Any):
        super().__init__()
        if not getattr(data, "has_boxes", False):
            raise InputError("BoxMonitor takes data with boxes: pbl.load_data(..., boxes=True).")
        self._data = data
        self._sides = {"probe": data.sample("train", MOST_TRAINING), "val": data.sample("val", MOST_VALIDATION)}
        self.rows: list[dict[str, float]] = []
        self.seconds, self.looks_at_end = 0.0, True

    @property
    def diagnosis(self):
        """A `pbl.diagnosis.rules.Diagnosis` of the model as it is now: up to 500 training images and all validation images are looked at."""
        from pbl.diagnosis.detection import diagnose_boxes

        if not self.rows:
            raise InputError("Nothing was measured yet: fit the model first, with this callback.")
        findings = [asdict(finding) for finding in self._data.check("train", "val", fast=True)]
        val = self._data.images("val")
        measured = measure_boxes(self.model, self._data, val, findings, True, self._data.groups_of(val.names))
        if measured is None:
            raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
        return diagnose_boxes(measured.numbers, self.rows)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        start = time.perf_counter()
        logs = {} if logs is None else logs
        measured = {}
        for side, images in self._sides.items():
            found = predict_outputs(self.model, images.pixels)
            if not np.isfinite(found).all():  # the losses show it, and StopAtNaN ends the training
                return
            table = compute_average_precision(match(images.boxes, found, self._data.num_classes))
            measured[f"{side}_map50"] = float(average_over_classes(table[:, 0]))
        logs |= measured
        self.rows.append({"epoch": epoch + 1, **measured})
        self.seconds += time.perf_counter() - start

    def get_state(self) -> dict[str, Any]:
        return {"rows": Growing("rows", self.rows)}

    def set_state(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
