"""Losses for masks: cross-entropy of pixels, and Dice of images; and the Dice that is logged after each epoch."""

from collections.abc import Sequence

import keras
from keras import ops

from pbl.errors import InputError

KINDS = ("cross_entropy", "dice", "both")
SMOOTH = 1.0  # pixels: if an image lacks a class and it is not predicted, Dice is 1 and the loss 0


@keras.saving.register_keras_serializable("pbl")
class MaskLoss(keras.losses.Loss):
    """The loss of a batch of masks, one number for each image; its mean does not depend on how images are put into batches.

    Args:
        kind: "cross_entropy": the mean over pixels. "dice": 1 minus the Dice coefficient of each class except the background, with
            probabilities for pixels (Milletari et al. 2016, V-Net, equation 3, here without squares), averaged over classes; if an image
            does not have a class, it is near 0 if none is predicted. "both": their sum.
        class_weights: Weight of the pixels of each class in the cross-entropy; all 1 unless given.
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
        """Takes labels `int [batch, height, width]` and probabilities `[batch, height, width, classes]`; returns `float32 [batch]`."""
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
    """Dice of the masks by the most probable class: the mean over all pairs of an image and a class that it has, except the background."""

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
