"""`BoxMonitor`: mAP50 on training and validation images after each epoch; `pbl.diagnosis.detection` judges."""

from typing import Any

import numpy as np

from pbl.diagnosis.rules import Diagnosis
from pbl.errors import InputError
from pbl.evaluation.box_evidence import measure_boxes
from pbl.evaluation.detection import compute_map50, match
from pbl.evaluation.epoch_monitor import EpochMonitor
from pbl.models.prediction import predict_outputs

MOST_TRAINING, MOST_VALIDATION = 200, 1000  # images that are looked at after each epoch


class BoxMonitor(EpochMonitor):
    """Measures after each epoch how well a network finds boxes in training images and in validation images.

    The loss says little about the boxes: it is lowest if the heatmap is right everywhere, but boxes are made from its peaks alone. Here the same
    images are looked at after each epoch, not augmented. The monitor comes first in the list: then the other callbacks see what it writes into
    `logs`: `probe_map50` on training images, and `val_map50` (average precision at an IoU of .5, mean over classes). The training itself
    is not changed.

    Args:
        data: The data (`pbl.load_data` with `boxes=True`).

    Attributes:
        rows: What was measured, by epoch from 1.
        seconds: How long the measuring has taken so far.

    Raises:
        InputError: The data has no boxes.

    Example:
        >>> import pbl
        >>> from pbl.training.box_loss import CenterLoss
        >>> data = pbl.load_data(pbl.data.digit_canvases(100), boxes=True)
        >>> model = pbl.models.center_net(data.input_shape, data.num_classes, width=4, depth=2)
        >>> model.compile(optimizer="adam", loss=CenterLoss())
        >>> monitor = pbl.BoxMonitor(data)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=1, verbose=0, callbacks=[monitor])
        >>> sorted(name for name in history.history if "map50" in name)
        ['probe_map50', 'val_map50']
    """

    def __init__(self, data: Any):
        if not getattr(data, "has_boxes", False):
            raise InputError("BoxMonitor takes data with boxes: pbl.load_data(..., boxes=True).")
        super().__init__(data)
        self._sides = {"probe": data.sample("train", MOST_TRAINING), "val": data.sample("val", MOST_VALIDATION)}

    @property
    def diagnosis(self) -> Diagnosis:
        """A `pbl.diagnosis.rules.Diagnosis` of the model as it is now: up to 500 training images and all validation images are looked at."""
        from pbl.diagnosis.detection import diagnose_boxes

        return diagnose_boxes(self.judge_validation(measure_boxes), self.rows)

    def measure(self) -> dict[str, float] | None:
        measured = {}
        for side, images in self._sides.items():
            found = predict_outputs(self.model, images.pixels)
            if not np.isfinite(found).all():
                return None
            measured[f"{side}_map50"] = compute_map50(match(images.boxes, found, self._data.num_classes))
        return measured
