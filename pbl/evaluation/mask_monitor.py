"""`MaskMonitor`: the gap in Dice between training and validation images after each epoch; `pbl.diagnosis.segmentation` judges."""

from typing import Any

import numpy as np

from pbl.diagnosis.rules import Diagnosis
from pbl.errors import InputError
from pbl.evaluation.epoch_monitor import EpochMonitor
from pbl.evaluation.mask_evidence import (
    compare_means,
    make_units,
    measure_dice,
    measure_masks,
    name_groups,
    predict_with_confidence,
)

# A tenth of the training images costs about 3% of an epoch: the forward pass is a third of a step.
FEWEST, MOST, ONE_IN = 50, 300, 10


class MaskMonitor(EpochMonitor):
    """Measures after each epoch how good a segmentation network is on training images and on validation images.

    Keras's own `dice` of training is a mean over an epoch in which the weights changed, with dropout and augmentation. Here the same
    images are looked at after each epoch, not augmented. The monitor comes first in the list: then the other callbacks see what it writes into
    `logs`: `probe_dice`, `val_probe_dice` (means over images, or over groups), and `gap` with `gap_low` and `gap_high` (the first minus
    the second, Welch's 95% interval). The training itself is not changed.

    Args:
        data: The data (`pbl.load_data` with `masks=True`).

    Attributes:
        rows: What was measured, by epoch from 1.
        seconds: How long the measuring has taken so far.

    Raises:
        InputError: The data has no masks.

    Example:
        >>> import pbl
        >>> from sklearn.datasets import load_digits
        >>> pixels = (load_digits().images[:100] * 15).astype("uint8")
        >>> source = pbl.data.from_masked_arrays(pixels, (pixels > 100).astype("uint8"))  # what is bright is marked
        >>> data = pbl.load_data(source, masks=True)
        >>> model = pbl.models.unet(data.input_shape, data.num_classes, width=4, depth=1)
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        >>> monitor = pbl.MaskMonitor(data)
        >>> history = model.fit(data.train, validation_data=data.val, epochs=1, verbose=0, callbacks=[monitor])
        >>> sorted(name for name in history.history if "dice" in name)
        ['probe_dice', 'val_probe_dice']
    """

    def __init__(self, data: Any):
        if not getattr(data, "has_masks", False):
            raise InputError("MaskMonitor takes data with masks: pbl.load_data(..., masks=True).")
        super().__init__(data)
        most = min(MOST, max(FEWEST, len(data.images("train").names) // ONE_IN))
        self._sides = {"probe": data.sample("train", most), "val_probe": data.sample("val", most)}

    @property
    def diagnosis(self) -> Diagnosis:
        """A `pbl.diagnosis.rules.Diagnosis` of the model as it is now: up to 500 training images and all validation images are looked at."""
        from pbl.diagnosis.segmentation import diagnose_masks

        numbers = self.judge_validation(measure_masks)
        return diagnose_masks(
            numbers, [{"epoch": row["epoch"], "val_dice": row["val_probe_dice"]} for row in self.rows]
        )

    def measure(self) -> dict[str, float] | None:
        values = {}
        for side, images in self._sides.items():
            classes = self._data.num_classes
            predicted = predict_with_confidence(self.model, images.view, classes)
            if predicted is None:
                return None
            dice = measure_dice(images.masks, predicted.masks, classes)
            values[side] = make_units(dice, name_groups(self._data.groups_of(images.names))).values
        measured = {f"{side}_dice": float(of.mean()) if len(of) else np.nan for side, of in values.items()}
        if all(map(len, values.values())):
            gap = compare_means(*values.values())
            missing = float("nan")
            measured |= {"gap": gap.value, "gap_low": missing if gap.low is None else gap.low}
            measured |= {"gap_high": missing if gap.high is None else gap.high}
        return measured
