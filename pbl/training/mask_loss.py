"""Losses of masks: cross-entropy of pixels, and Dice of images; and the Dice that is told after each epoch."""

from collections.abc import Sequence

import keras
from keras import ops

from pbl.errors import InputError

KINDS = ("cross_entropy", "dice", "both")
SMOOTH = 1.0  # pixels: of an image without a class that is predicted without it Dice is 1, and its loss 0


@keras.saving.register_keras_serializable("pbl")
class MaskLoss(keras.losses.Loss):
    """The loss of a batch of masks, one number an image; its mean does not depend on how images are put into batches.

    Args:
        kind: "cross_entropy": the mean over pixels. "dice": 1 minus the Dice coefficient of each class but the background, with
            probabilities for pixels (Milletari et al. 2016, V-Net, equation 3, here without squares), the mean over classes; of an
            image that has none of a class it is near 0 where none is predicted. "both": their sum.
        class_weights: How much pixels of each class count in the cross-entropy; all 1 unless given.
    """

    def __init__(
        self, kind: str = "cross_entropy", class_weights: Sequence[float] = (), name: str = "mask_loss", **kwargs
    ):
        super().__init__(name=name, **kwargs)
        self.kind, self.class_weights = kind, tuple(class_weights)

    def check(self, classes: int) -> None:
        """Raises InputError unless there is a weight for each class, or none at all."""
        if self.class_weights and len(self.class_weights) != classes:
            raise InputError(
                "task_options.class_weights has {given} {given:number|numbers}, but there are {classes} classes: one each, the background first.",
                given=len(self.class_weights),
                classes=classes,
            )

    def call(self, y_true, y_pred):
        """Labels `int [batch, height, width]`, probabilities `[batch, height, width, classes]`; returns `float32 [batch]`."""
        classes = y_pred.shape[-1]
        probabilities = ops.cast(y_pred, "float32")
        truth = ops.one_hot(ops.cast(y_true, "int32"), classes)
        self.check(classes)
        loss = 0.0
        if self.kind != "dice":
            of_true = ops.sum(truth * probabilities, axis=-1)
            of_pixels = -ops.log(ops.maximum(of_true, 1e-7))
            if self.class_weights:
                of_pixels = of_pixels * ops.sum(truth * ops.convert_to_tensor(self.class_weights, "float32"), axis=-1)
            loss += ops.mean(of_pixels, axis=(1, 2))
        if self.kind != "cross_entropy":
            both = ops.sum(truth * probabilities, axis=(1, 2))[:, 1:]
            either = ops.sum(truth + probabilities, axis=(1, 2))[:, 1:]
            loss += ops.mean(1 - (2 * both + SMOOTH) / (either + SMOOTH), axis=-1)
        return loss

    def get_config(self):
        return {**super().get_config(), "kind": self.kind, "class_weights": self.class_weights}


@keras.saving.register_keras_serializable("pbl")
class MeanDice(keras.metrics.Metric):
    """Dice of the masks by the likeliest class: the mean over all pairs of an image and a class that it has, but the background."""

    def __init__(self, name: str = "dice", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_weight(name="total", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        classes = y_pred.shape[-1]
        truth = ops.one_hot(ops.cast(y_true, "int32"), classes)[..., 1:]
        found = ops.one_hot(ops.argmax(y_pred, axis=-1), classes)[..., 1:]
        both, true, predicted = (ops.sum(masks, axis=(1, 2)) for masks in (truth * found, truth, found))
        has = ops.cast(true > 0, "float32")
        self.total.assign_add(ops.sum(has * 2 * both / ops.maximum(true + predicted, 1.0)))
        self.count.assign_add(ops.sum(has))

    def result(self):
        return self.total / ops.maximum(self.count, 1.0)
