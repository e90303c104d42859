"""Each rule of the diagnosis on signals made for it, and on signals that just miss it."""

import ast
import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pbl.config import Config, load_experiment
from pbl.diagnosis import (
    RULES,
    Remedy,
    Rule,
    Threshold,
    advice,
    make_finding,
)
from pbl.diagnosis.advice import Experiment
from pbl.diagnosis.evidence import Evidence
from pbl.diagnosis.rules import COLOURS, NAMES, collect_limits, diagnose, find_changed_limits
from pbl.diagnosis.signals import Side, Signals
from pbl.errors import InputError


def side(labels: np.ndarray, losses: list[float], accuracies: list[float], seed: int) -> Side:
    """Images with these mean losses and accuracies, epoch by epoch."""
    random = np.random.default_rng(seed)
    made = Side.of(labels)
    of_image = random.gamma(2, 0.5, max(1, len(labels)))[: len(labels)]  # the same images are hard in each epoch
    for loss, accuracy in zip(losses, accuracies, strict=True):
        right = np.argsort(of_image, kind="stable").argsort() < round(accuracy * len(labels))
        wrong_class = np.where(labels == 0, 1, 0)
        rows = np.stack(
            [
                loss * of_image / max(of_image.sum() / max(1, len(labels)), 1e-9),
                np.where(right, labels, wrong_class),
                np.full(len(labels), 0.9),
            ],
            1,
        )
        made.append(rows.astype(np.float32))
    return made


def signals(
    probe=(2.3, 1.0, 0.5, 0.3, 0.2, 0.16, 0.14, 0.13, 0.125, 0.12, 0.12),
    val=(2.3, 1.0, 0.5, 0.35, 0.25, 0.2, 0.18, 0.17, 0.17, 0.17, 0.17),
    accuracy=0.98,
    val_accuracy=0.97,
    images=(400, 400),
    network=None,
    counts=None,
    penalty=0.0,
    keras_loss=0.2,
    labels=None,
    correct=None,
    end=None,
) -> Signals:
    labels = np.arange(10_000) % 10 if labels is None else labels
    n, val_n = images
    accuracies = np.linspace(0.1, accuracy, len(probe)), np.linspace(0.1, val_accuracy, len(val))
    look = {
        "epoch": 0, "kernels": ["a", "b"], "rectified": ["relu"], "gradient_norms": [1.0, 1.0], "weight_norms": [1.0, 1.0],
        "update_ratios": [0.01, 0.01], "dead": [0.0], "loss_in_training": 2.4, "loss_stored": 1.0, "loss_anew": 1.0,
    }  # fmt: skip
    looks = [{**look, **changes} for changes in (network or ({}, {"epoch": len(probe) - 1}))]
    made = Signals(
        {
            "num_classes": len(counts or [100] * 10),
            "train_counts": counts or [100] * 10,
            "val_counts": [40] * len(counts or [0] * 10),
            "steps_per_epoch": 16,
            "model": "x",
        },
        side(labels[:n], list(probe), list(accuracies[0]), 0),
        side(labels[:val_n], list(val)[: len(probe)], list(accuracies[1])[: len(probe)], 1),
        [
            {"epoch": epoch, "loss": keras_loss if np.isscalar(keras_loss) else keras_loss[epoch], "penalty": penalty}
            for epoch in range(len(probe))
        ],
        looks,
    )
    if end is not None:
        right, val_right = (round(2000 * share) for share in end)
        made.end = {
            "epoch": len(probe) - 1,
            "probe_images": 2000,
            "probe_correct": right,
            "val_images": 2000,
            "val_correct": val_right,
        }
    if correct is not None:
        made.val.predicted[-1] = np.where(correct(made.val.labels), made.val.labels, (made.val.labels + 1) % 10)
    return made


def doctor(check: str, severity: str = "act", **details) -> dict:
    return {"check": check, "severity": severity, "items": [], "message": "", "details": details}


FLAT = [2.3] * 11
HARD = (2.3, 1.5, 1.2, 1.1, 1.05, 1.0, 1.0, 0.99, 0.99, 0.98, 0.98)
RISING = (2.3, 1.0, 0.5, 0.35, 0.25, 0.2, 0.25, 0.35, 0.45, 0.55, 0.7)
UP_AND_DOWN = (2.3, 1.0, 0.5, *[0.2, 1.2] * 8, 0.6)


@pytest.mark.parametrize(
    ("given", "data", "name", "cause"),
    [
        ({}, [], "healthy", ""),
        ({"probe": [2.3, np.nan, np.nan], "val": [2.3, np.nan, np.nan]}, [], "diverged", ""),
        ({"keras_loss": np.inf}, [], "diverged", ""),
        ({"network": [{"loss_in_training": 12.0}]}, [], "diverged", ""),
        ({"network": [{"loss_in_training": 11.0}]}, [], "healthy", ""),
        # With two classes, and few images of one of them, guessing has a small loss: this start is not far above it.
        ({"network": [{"loss_in_training": 3.0}], "counts": [1000, 50], "accuracy": 1.0, "val_accuracy": 0.99, "labels": (np.arange(10_000) % 20 == 0).astype(int)}, [], "healthy", ""),
        ({"probe": (2.3, 1.0, 0.5, 1.0, 2.2, 2.3, 2.3, 2.3, 2.3, 2.3, 2.3), "accuracy": 0.1, "val_accuracy": 0.1}, [], "diverged", ""),
        ({"probe": (2.3, 0.5, 0.1, 0.1, 0.1, 0.1, 0.9, 1.0, 1.0, 1.0, 1.0), "val": (2.3, 0.6, 0.5, 0.5, 0.5, 0.5, 1.3, 1.5, 1.5, 1.5, 1.5), "val_accuracy": 0.8}, [], "overfitting", "gap"),  # most images are still classified correctly
        ({"probe": (2.3, 0.5, 0.1, 0.1, 0.1, 0.1, 1.0, 1.1, 1.1, 1.1, 1.1), "val": (2.3, 0.6, 0.5, 0.5, 0.5, 0.5, 1.3, 1.5, 1.5, 1.5, 1.5), "accuracy": 0.65, "val_accuracy": 0.65}, [], "diverged", ""),
        ({"probe": UP_AND_DOWN, "val": UP_AND_DOWN, "keras_loss": UP_AND_DOWN}, [], "diverged", ""),
        ({"probe": UP_AND_DOWN, "val": UP_AND_DOWN}, [], "healthy", ""),  # Keras's own loss does not move: averages, or augmentation
        ({"network": [{"loss_stored": 2.1}]}, [], "batch_norm_mismatch", ""),
        ({"network": [{"loss_stored": 1.45}]}, [], "healthy", ""),
        ({"network": [{"loss_stored": 2.1}], "val_accuracy": 0.8}, [], "overfitting", "gap"),  # the averages cost at most 1 point
        ({"network": [{"loss_stored": 2.1}], "accuracy": 0.7, "val_accuracy": 0.5}, [], "batch_norm_mismatch", ""),
        ({"counts": [5] + [100] * 9, "correct": lambda labels: labels != 0}, [], "class_imbalance", ""),
        ({"counts": [11] + [100] * 9, "correct": lambda labels: labels != 0}, [], "overfitting", "gap"),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"dead": [0.95]}]}, [], "dead_units", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"dead": [0.0]}, {"dead": [1.0]}]}, [], "diverged", ""),
        ({"network": [{"dead": [0.95]}]}, [], "healthy", ""),  # it has learned nevertheless
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"gradient_norms": [1e-6, 1.0]}]}, [], "vanishing_gradients", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.17, "val_accuracy": 0.16, "network": [{"gradient_norms": [1e-3, 1e-3]}]}, [], "vanishing_gradients", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1}, [], "unknown", ""),
        ({"probe": FLAT[:5], "val": FLAT[:5], "accuracy": 0.1, "val_accuracy": 0.1}, [], "underfitting", "train_longer"),  # too early
        ({"probe": FLAT[:1], "val": FLAT[:1], "accuracy": 0.1, "val_accuracy": 0.1}, [], "underfitting", "train_longer"),  # interrupted in the first epoch
        ({"probe": (2.3, 0.4, 2.3, 2.3), "val": (2.3, 0.4, 2.3, 2.3), "accuracy": 0.1, "val_accuracy": 0.1}, [], "diverged", ""),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "end": (0.125, 0.12)}, [], "unknown", ""),  # a trace of skill
        ({}, [doctor("altered_copies", "stop", split="val", images=30, examples="a")], "leak_suspected", ""),
        ({}, [doctor("altered_copies", "note", split="val", images=3, examples="a")], "healthy", ""),
        ({}, [doctor("altered_copies", "stop", split="val", images=6, examples="a", p=5e-4)], "healthy", ""),
        ({}, [doctor("altered_copies", "stop", split="test", images=30, examples="a")], "healthy", ""),
        ({"end": (0.98, 0.95)}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "healthy", ""),  # the shift costs little
        ({"val_accuracy": 0.8}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "shift_suspected", ""),
        ({}, [doctor("shift", split="val", auc=0.9, statistic="contrast")], "healthy", ""),  # the shift does no harm
        ({"val": FLAT, "val_accuracy": 0.1}, [], "label_noise_suspected", ""),
        ({"val": FLAT, "val_accuracy": 0.1, "counts": [16] * 10}, [], "overfitting", "gap"),  # too few images to learn anything that generalises
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.13, images=300)], "label_noise_suspected", ""),
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.4, images=300)], "shift_suspected", ""),  # another method learned it
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.4, images=10**12)], "label_noise_suspected", ""),  # there are only 400 images
        ({"val": FLAT, "val_accuracy": 0.1}, [doctor("reference_accuracy", "note", accuracy=0.155, images=400)], "overfitting", "gap"),  # more than guessing, but hardly
        ({"probe": HARD, "val": [0.7 * loss for loss in HARD], "accuracy": 0.6, "val_accuracy": 0.7}, [], "label_noise_suspected", ""),
        ({"probe": HARD, "val": [0.95 * loss for loss in HARD], "accuracy": 0.97}, [], "healthy", ""),
        ({}, [doctor("labels_harder_than_validation", loss=1.9, images=900, val_loss=1.2, val_images=400)], "label_noise_suspected", ""),
        ({}, [doctor("labels_unlike_predictions", "note", images=200, looked_at=900)], "healthy", ""),  # these are the classifier's own errors
        ({"images": (400, 15)}, [], "too_noisy_to_say", ""),
        ({"images": (400, 0)}, [], "too_noisy_to_say", ""),
        ({"images": (400, 60), "accuracy": 0.75, "val_accuracy": 0.75}, [], "too_noisy_to_say", ""),
        ({"images": (400, 60), "accuracy": 1.0, "val_accuracy": 0.6}, [], "overfitting", "gap"),  # few, but clear
        ({"probe": np.linspace(2.3, 1.0, 11), "val": np.linspace(2.3, 1.0, 11), "accuracy": 0.7, "val_accuracy": 0.69}, [], "underfitting", "train_longer"),
        ({"accuracy": 0.9, "val_accuracy": 0.9, "keras_loss": 0.13}, [doctor("reference_accuracy", "note", accuracy=0.97, images=300)], "underfitting", "capacity"),
        ({"accuracy": 0.9, "val_accuracy": 0.9, "penalty": 0.3}, [doctor("reference_accuracy", "note", accuracy=0.97, images=300)], "underfitting", "over_regularised"),
        ({"accuracy": 0.9, "val_accuracy": 0.9}, [doctor("reference_accuracy", "note", accuracy=0.92, images=300)], "healthy", ""),
        ({"accuracy": 1.0, "val_accuracy": 0.84}, [], "overfitting", "gap"),
        ({"accuracy": 1.0, "val_accuracy": 0.92}, [], "overfitting", "gap"),
        ({"accuracy": 1.0, "val_accuracy": 0.94}, [], "healthy", "or_small_gap"),
        ({"end": (0.99, 0.90)}, [], "overfitting", "gap"),  # judged by the many images at the end
        ({"val_accuracy": 0.8, "end": (0.98, 0.96)}, [], "healthy", ""),
        ({"accuracy": 0.9, "val_accuracy": 0.2}, [], "overfitting", "gap"),  # twice as often right as by chance: not random labels
        ({"val": RISING}, [], "overfitting", "over_confident"),
        ({"probe": (*RISING[:6], 0.2, 0.21, 0.22, 0.23, 0.25), "val": RISING}, [], "overfitting", "over_confident"),  # more than on training images
        ({"probe": (*RISING[:6], 0.2, 0.3, 0.3, 0.3, 0.3), "val": (*RISING[:6], 0.2, 0.3, 0.3, 0.3, 0.3)}, [], "healthy", ""),  # as much as on training images
        ({"probe": [0.01 * loss for loss in RISING[:6]] + [0.002] * 5, "val": [0.01 * loss for loss in RISING]}, [], "healthy", ""),  # of a tiny loss
        ({"images": (400, 10), "accuracy": 1.0, "val_accuracy": 0.2}, [], "too_noisy_to_say", ""),  # not random labels
        ({"probe": FLAT, "val": FLAT, "images": (400, 30), "accuracy": 0.1, "val_accuracy": 0.1}, [], "unknown", ""),
        ({"counts": [100], "labels": np.zeros(1000, int)}, [], "unknown", ""),
        ({"probe": [4.0, *FLAT[1:]], "val": FLAT, "network": [{"loss_in_training": 15.4}], "counts": [10] * 100}, [], "diverged", ""),
        ({"network": [{"dead": [np.nan, 0.97], "rectified": ["a", "b"]}], "probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1}, [], "dead_units", ""),
        ({}, [doctor("copies_across", split="val", images=1, examples="a")], "healthy", ""),  # 1 of 400
        ({"probe": np.linspace(2.9, 2.45, 11), "val": np.linspace(2.9, 2.45, 11), "accuracy": 0.2, "val_accuracy": 0.2}, [], "underfitting", "train_longer"),
    ],
)  # fmt: skip
def test_each_rule(given, data, name, cause):
    headline = diagnose(signals(**given), data).headline
    assert (headline.name, headline.cause) == (name, cause), headline.message
    assert name in NAMES and "{" not in headline.message


# What each sentence claims about its own numbers, by its beginning.
CLAIMS = {
    "Judged with changed thresholds": lambda d: "=" in d["limits"],
    "The training loss is not a finite number": lambda d: d["epoch"] >= 1,
    "The loss is not a finite number": lambda d: True,
    "All pixels of training images are 0 or 1": lambda d: 0 <= d["ones"] <= 0.1,
    "Before training the loss was {loss:.3g}, and guessing has a loss of {guessing:.2f}: pixels": lambda d: d["loss"] > d["guessing"] and 1 < d["largest"] <= d["range"],
    "Before training the loss was {loss:.3g}, and guessing has a loss of {guessing:.2f}. Usually the reason": lambda d: d["loss"] > d["guessing"],
    "The loss of training images fell to": lambda d: d["lowest"] < min(d["loss"], d["guessing"]) and d["epoch"] > 0,
    "Before this training the loss": lambda d: d["lowest"] < min(d["loss"], d["guessing"]),
    "The network no longer learns": lambda d: d["share"] > d["before"],
    "With the same weights the loss": lambda d: d["stored"] > d["anew"],
    "Before training {share": lambda d: d["share"] >= 0.9,
    "Before training the gradient of the first": lambda d: d["ratio"] < 1e-3,
    "Before training the largest gradient": lambda d: d["norm"] < 0.01,
    "In the second half": lambda d: d["rises"] > d["guessing"] - d["lowest"],
    "The network classifies {accuracy:.1%} of its own": lambda d: d["accuracy"] <= d["high"] < d["reference"],
    "In the last {epochs} {epochs:epoch|epochs} the loss of training images still fell, from {before:.4g} to {loss:.4g}, and": lambda d: d["loss"] < d["before"] and d["epochs"] >= 1,
    "In the last {epochs} {epochs:epoch|epochs} the loss of training images still fell, from {before:.4g} to {loss:.4g}:": lambda d: d["loss"] < d["before"] and d["epochs"] >= 1,
    "The network classifies {accuracy:.1%} of the validation": lambda d: d["accuracy"] < d["reference"] and d["train_accuracy"] - d["accuracy"] < 0.25,
    "After {epochs} {epochs:epoch|epochs} the accuracy": lambda d: d["accuracy"] - d["majority"] < 0.25,
    "The accuracy on training images, {accuracy:.1%}, is not clearly above guessing ({majority:.1%}), and": lambda d: d["accuracy"] - d["majority"] < 0.25,
    "The accuracy on training images, {accuracy:.1%}, is not clearly above guessing ({majority:.1%}). Pixels": lambda d: d["accuracy"] - d["majority"] < 0.25 and d["largest"] > 1,
    "No examined training image has a confidence above": lambda d: d["confidence"] <= d["highest"] + 0.005,
    "The model ends with two softmaxes": lambda d: 0 < d["highest"] < 1,
    "The network classifies {accuracy:.1%} of the training images": lambda d: abs(d["accuracy"] - d["val_accuracy"] - d["gap"]) < 1e-9 and 0 < d["low"] <= d["gap"] <= d["high"],
    "The validation loss was lowest": lambda d: 0 < d["lowest"] < d["loss"],
    "The accuracy is {accuracy:.1%} on training images": lambda d: d["low"] <= d["gap"] <= d["high"],
    "There are no validation images": lambda d: d["images"] == 0,
    "The accuracy on training images minus the accuracy": lambda d: d["low"] < d["high"],
    "All training images are of one class": lambda d: True,
    "Among the validation images of rare classes": lambda d: d["recall"] < d["others"] and 0 < d["low"] <= d["high"],
    "Validation images of a class": lambda d: 0 < d["images"] <= d["all_images"],
    "The labels go from": lambda d: 0 < d["first"] < d["last"],
    "Among {images} validation images of {classes} classes": lambda d: d["own"] < d["other"] and d["one"] != d["two"],
    "Among the validation images of class": lambda d: d["taken"] / d["images"] > d["back"] / d["other_images"] and d["train_share"] < d["val_share"],
    "Class {most} (numbered": lambda d: d["train_share"] != d["val_share"] and d["val_accuracy"] < d["alike"],
    "Among the training and validation images of class": lambda d: d["right"] / d["images"] < d["others"],
    "Pixels of training images only go up to {largest": lambda d: d["largest"] < 0.01,
    "Keras measured a validation accuracy": lambda d: abs(d["logged"] - d["measured"]) > 0.2,
    "Pixels of training images go up to {train": lambda d: not 0.05 < d["train_largest"] / d["val_largest"] < 20,
    "Pixels go up to": lambda d: d["reached"] < 0.05,
    "Validation images of a single colour": lambda d: 0 < d["images"] <= d["all_images"],
    "Training images of a single colour": lambda d: 0 < d["images"] <= d["all_images"],
    "Validation images that are copies": lambda d: d["images"] > 0,
    "Validation images that look like altered copies": lambda d: d["images"] > 0,
    "Validation images that look like copies": lambda d: d["images"] > 0,
    "A simple classifier distinguishes": lambda d: d["auc"] > 0.5 and d["gap"] > 0,
    "The network classifies {accuracy:.1%} of its training images correctly, but validation images not clearly better than guessing: {right} of {images}. A": lambda d: d["right"] / d["images"] < min(d["reference"], d["accuracy"]),
    "The network classifies {accuracy:.1%} of its training images correctly, but validation images not clearly better than guessing: {right} of {images}. It": lambda d: d["right"] / d["images"] < d["accuracy"],
    "Simple models have a loss of": lambda d: d["loss"] > d["val_loss"],
    "After epoch {epoch} the loss was": lambda d: round(d["loss"], 2) > round(d["val_loss"], 2),
    "Among {looked_at} training images, {share:.1%} have": lambda d: 0.01 < d["share"] <= 1,
    "Simple models estimate": lambda d: 0 < d["low"] <= 1,
}  # fmt: skip


def draw_signals(random: np.random.Generator) -> tuple[Signals, list[dict], float | None]:
    """Signals of any training, healthy or not, with what a data doctor may have found."""
    epochs, classes = int(random.integers(2, 14)), int(random.choice([2, 3, 10]))

    def curve() -> np.ndarray:
        walk = (
            np.log(classes) * np.exp(-random.choice([0, 0.05, 0.5]) * np.arange(epochs)) * random.choice([0.3, 1, 1.3])
        )
        return np.abs(walk + random.choice([0, 0.02, 0.8]) * random.normal(size=epochs)) + 1e-3

    probe, n = curve(), int(random.choice([60, 400]))
    val = probe * random.choice([0.5, 0.9, 1, 1.5, 4]) if random.random() < 0.6 else curve()
    accuracy = float(random.uniform(1 / classes, 1))
    counts = [int(100 * random.choice([1, 1, 1, 0.04, 0])) for _ in range(classes - 1)] + [100]
    look = {
        "loss_in_training": float(random.choice([1, 30])), "loss_stored": float(random.choice([1, 3])), "dead": [float(random.choice([0, 0.95]))],
        "gradient_norms": [float(random.choice([1, 1e-5])), float(random.choice([1, 1e-3]))],
    }  # fmt: skip
    made = signals(
        probe, val, accuracy, accuracy * float(random.choice([0, 0.3, 0.9, 1])), (n, int(random.choice([20, n]))), [look, {"epoch": epochs - 1}],
        counts, keras_loss=curve().tolist(), labels=random.integers(0, classes, 10_000),
    )  # fmt: skip
    if random.random() < 0.5:  # each class, or some of them, is taken for another one
        moved = np.where(
            random.random(classes) < random.choice([0.3, 1]), random.permutation(classes), np.arange(classes)
        )
        made.val.predicted[-1] = moved[made.val.labels]
    made.val.confidence[:] = made.probe.confidence[:] = random.choice([0.9, np.e / (np.e + classes - 1)])
    made.about["val_counts"] = [int(100 * random.choice([1, 1, 0.1])) for _ in range(classes)]
    high = float(random.choice([1, 255, 0.004]))
    made.epochs[-1]["val_accuracy"] = float(random.choice([np.nan, np.nan, random.uniform()]))
    made.about["inputs"] = {
        "train": [0.0, high], "val": [0.0, float(random.choice([high, 1]))], "width": classes, "scale": float(random.choice([1, 1 / 255])), "normalises": False,
        "squashes": int(random.choice([0, 1, 1, 2])), "counts_images": True,
    }  # fmt: skip
    found = [
        doctor("copies_across", "stop", split="val", images=30, examples="a"),
        doctor("shift", split="val", auc=0.9, statistic="contrast"),
        doctor("reference_accuracy", "note", accuracy=float(random.uniform(0, 1)), images=n),
        doctor("labels_harder_than_validation", loss=1.9, images=900, val_loss=1.2, val_images=400),
        doctor("labels_unlike_predictions", "note", low=0.16, high=0.3, images=30, looked_at=900),
        doctor("labels_unlike_neighbours", "note", share=0.06, images=30, looked_at=900),
        doctor("constant_image", images=30, of_train=int(random.integers(0, 30)), of_val=int(random.integers(0, 19))),
    ]
    return made, [one for one in found if random.random() < 0.1], random.choice([None, 0.9])


IN_TRAIN = doctor("altered_copies_in_train", "stop", images=60, looked_at=400, share=0.15)
SHIFTED = doctor("shift", split="val", auc=0.9, statistic="contrast")


@pytest.mark.parametrize(
    ("given", "data", "names"),
    [
        # Frames of films, split at random; the data doctor's note on validation is only a note by itself.
        ({}, [IN_TRAIN, doctor("altered_copies", "note", split="val", images=30, examples="a", p=0.1)], ["leak_suspected"]),
        ({"accuracy": 0.9, "val_accuracy": 0.9}, [IN_TRAIN, doctor("altered_copies", "note", split="val", images=30, examples="a", p=0.1), doctor("reference_accuracy", "note", accuracy=0.97, images=300)], ["leak_suspected"]),
        # Altered copies made after the split: other pixels, harder than validation, and not a fault.
        ({"end": (0.99, 0.945)}, [IN_TRAIN, SHIFTED, doctor("labels_harder_than_validation", loss=1.9, images=900, val_loss=1.2, val_images=400)], ["healthy"]),
        ({}, [doctor("constant_image", images=40, of_train=0, of_val=40)], ["blank_images"]),
        ({"val_accuracy": 0.8}, [doctor("constant_image", images=40, of_train=0, of_val=40)], ["blank_images"]),
        ({}, [doctor("constant_image", images=1, of_train=0, of_val=1)], ["healthy"]),
        ({"probe": HARD, "val": [0.7 * loss for loss in HARD], "accuracy": 0.6, "val_accuracy": 0.7}, [doctor("constant_image", images=150, of_train=150, of_val=0)], ["blank_images"]),
        ({}, [doctor("labels_unlike_neighbours", "note", share=0.06, images=30, looked_at=500)], ["label_noise_suspected"]),
        # Of classes that merely look alike, the same pairs return.
        ({}, [doctor("labels_unlike_neighbours", "note", share=0.06, images=30, looked_at=500, repeated=1.9)], ["label_noise_suspected"]),
        ({}, [doctor("labels_unlike_neighbours", "note", share=0.06, images=30, looked_at=500, repeated=5.2)], ["healthy"]),
        ({}, [doctor("labels_unlike_predictions", "note", low=0.16, high=0.3, images=30, looked_at=500)], ["label_noise_suspected"]),
        ({"counts": [100] * 9 + [0]}, [], ["class_absent"]),
        ({"correct": lambda labels: labels > 1}, [], ["overfitting"]),  # class 0 is taken for 1, and 1 for 2, which is also found: not one to one
        # A consequence of a named cause is not a further finding.
        ({"val_accuracy": 0.8}, [SHIFTED], ["shift_suspected"]),
        ({"probe": FLAT, "val": FLAT, "accuracy": 0.1, "val_accuracy": 0.1, "network": [{"loss_in_training": 12.0}]}, [], ["diverged"]),
        ({"accuracy": 0.9, "val_accuracy": 0.2}, [doctor("labels_harder_than_validation", loss=1.9, images=900, val_loss=1.2, val_images=400)], ["label_noise_suspected"]),
    ],
)  # fmt: skip
def test_what_the_data_doctor_knows_and_what_follows_from_it(given, data, names):
    found = diagnose(signals(**given), data).findings
    assert [finding.name for finding in found] == names, [finding.message for finding in found]


def test_classes_brought_to_one_number_do_not_make_training_images_harder():
    """Rare classes are harder, on both sides alike: of training images they are half, of validation images a seventh."""
    random = np.random.default_rng(0)
    labels, val_labels = (np.repeat(np.arange(10), of) for of in ([40] * 10, [60] * 5 + [10] * 5))
    looked = [Side.of(labels), Side.of(val_labels)]
    for epoch in range(11):
        for of in looked:
            loss = np.where(of.labels < 5, 0.2, 1.2) * random.gamma(4, 0.25, len(of.labels)) + (epoch == 0)
            of.append(np.stack([loss, of.labels, np.full(len(loss), 0.9)], 1).astype(np.float32))
    made = replace(signals(), probe=looked[0], val=looked[1])
    limits = collect_limits()
    made.about.update(train_counts=[40] * 10, val_counts=[60] * 5 + [10] * 5)
    assert Evidence(made, [], None, limits).harder[1] < 1
    wrong = replace(
        made, probe=Side(labels, looked[0].loss + (np.arange(400) % 4 == 0), looked[0].predicted, looked[0].confidence)
    )
    assert Evidence(wrong, [], None, limits).harder[1] > 2.5  # a quarter of the labels is wrong


@pytest.mark.parametrize("loss", [0.2, np.nan])
def test_a_network_that_ends_in_nan_was_not_given_other_arrays(loss):
    """Keras's accuracy in such an epoch is that of the batches before, and the monitor's is that of guessing."""
    made = signals(val_accuracy=0.3)
    made.about["inputs"] = {"counts_images": True}
    made.epochs[-1]["val_accuracy"] = 0.97
    made.val.loss[-1] = made.probe.loss[-1] = made.epochs[-1]["loss"] = loss
    names = [finding.name for finding in diagnose(made).findings]
    assert ("other_arrays" in names) == np.isfinite(loss), names
    assert ("diverged" in names) != np.isfinite(loss), names


def classes(val: np.ndarray, train_counts=(100,) * 10, val_counts=(40,) * 10) -> Signals:
    """Signals in which the class of each index is taken for the class `val` has at that index in validation."""
    made = signals()
    made.about |= {"train_counts": list(train_counts), "val_counts": list(val_counts)}
    made.val.predicted[-1] = np.asarray(val)[made.val.labels]
    return made


def test_classes_are_looked_at_one_by_one():
    swapped, off_by_one = np.array([1, 0, *range(2, 10)]), (np.arange(10) + 1) % 10
    for order in (swapped, off_by_one):
        found = diagnose(classes(order)).findings
        assert [finding.name for finding in found] == ["label_order_suspected"], found
        # Frames of four films for each class, which are wrong together, prove nothing.
        films = classes(order)
        films.about["val_groups"] = [f"{label} {at // 10 % 4}" for at, label in enumerate(films.val.labels)]
        assert "label_order_suspected" not in [finding.name for finding in diagnose(films).findings]
    # With forty classes of five images, a quarter of them taken for random others, two classes happen to be always taken for the same one.
    many, random = np.arange(40), np.random.default_rng(0)
    for order in (np.array([1, 0, *range(2, 40)]), (many + 1) % 40, many):
        made = signals(counts=[100] * 40, labels=np.arange(10_000) % 40, images=(400, 200))
        made.about |= {"val_counts": [5] * 40}
        made.val.predicted[-1] = order[made.val.labels]
        wrong = random.random(len(made.val.labels)) < 0.27
        made.val.predicted[-1, wrong] = random.integers(0, 40, wrong.sum())
        told = "label_order_suspected" in [finding.name for finding in diagnose(made).findings]
        assert told == (order is not many)
    # 45% of the training images of class 9 are labelled class 0, and half of its validation images are taken for it.
    swallowed = classes(np.arange(10), [145, *[100] * 8, 55], [60] * 10)
    nines = np.flatnonzero(swallowed.val.labels == 9)
    swallowed.val.predicted[-1, nines[::2]] = 0
    found = diagnose(swallowed).headline
    assert found.name == "label_noise_suspected" and (found.details["one"], found.details["other"]) == (9, 0)
    # With 40 validation images of each of ten classes chance makes two of them differ so in one data set of 135.
    swallowed.about["val_counts"] = [40] * 10
    assert "label_noise_suspected" not in [finding.name for finding in diagnose(swallowed).findings]
    swallowed.about["val_counts"] = [60] * 10
    swallowed.about["val_groups"] = [f"{label} {at // 10 % 8}" for at, label in enumerate(swallowed.val.labels)]
    assert "label_noise_suspected" not in [finding.name for finding in diagnose(swallowed).findings]
    alike = classes(np.arange(10))
    alike.val.predicted[-1, nines[::2]] = (
        0  # the same share of labels as in validation: just two classes that look alike
    )
    assert diagnose(alike).headline.name != "label_noise_suspected"
    # A class that is never found on either side.
    never = classes(np.array([1, *range(1, 10)]))
    never.probe.predicted[-1] = np.where(never.probe.labels == 0, 1, never.probe.labels)
    never.probe.predicted[-1, 200:240] = 5
    assert diagnose(never).headline.name == "class_never_found"
    # Validation has more images of a hard class: with training's shares there is no gap.
    shares = classes(np.arange(10), [10, *[110] * 9], [200, *[22] * 9])
    shares.val.labels[:200] = 0
    shares.val.predicted[-1] = np.where((shares.val.labels == 0) & (np.arange(400) % 3 == 0), 1, shares.val.labels)
    assert "class_shares_differ" in [finding.name for finding in diagnose(shares).findings] or (
        diagnose(shares).headline.name == "class_imbalance"
    )


def test_what_came_after_the_weights_that_were_put_back_is_no_fault_of_theirs():
    made = signals(val=RISING, accuracy=1.0, val_accuracy=0.8)
    assert diagnose(made).headline.name == "overfitting"
    made.about["kept_epoch"] = 5
    made.val.predicted[5] = made.val.labels
    assert diagnose(made).headline.name != "overfitting" and made.kept.epochs[-1]["epoch"] == 5


def test_a_gap_is_overfitting_whatever_the_team_has_reached():
    assert diagnose(signals(accuracy=0.85, val_accuracy=0.62), best_accuracy=0.95).headline.name == "overfitting"


def test_more_may_be_missing_on_training_images_than_the_gap():
    """Then it has learned too little, although it does worse on other images than on training images."""
    assert diagnose(signals(accuracy=0.6, val_accuracy=0.48), best_accuracy=0.8).headline.name == "underfitting"
    falls = np.linspace(2.3, 1.0, 11)
    found = diagnose(signals(falls, np.linspace(2.3, 1.3, 11), accuracy=0.7, val_accuracy=0.58)).findings
    assert [(of.name, of.cause) for of in found] == [("underfitting", "train_longer"), ("overfitting", "gap")]
    # If validation no longer falls while training does, it overfits.
    made = signals(falls, [*falls[:6], *[falls[5]] * 5], accuracy=0.7, val_accuracy=0.58)
    assert [of.name for of in diagnose(made).findings] == ["overfitting"]


def test_one_class_of_a_hundred():
    """A class without training images is not a rare class, and a class that is never found does not hide a gap."""
    labels = np.arange(10_000) % 100
    absent = signals(counts=[30] * 99 + [0], labels=labels, images=(400, 800), val_accuracy=0.96)
    absent.about |= {"val_counts": [8] * 100}
    absent.val.predicted[-1] = np.where(absent.val.labels == 99, 0, absent.val.labels)
    assert [of.name for of in diagnose(absent).findings] == ["class_absent"]
    never = signals(counts=[30] * 100, labels=labels, images=(1500, 800))
    never.about |= {"val_counts": [8] * 100}
    never.probe.predicted[-1] = np.where(never.probe.labels == 99, 0, never.probe.labels)
    never.val.predicted[-1] = np.where((never.val.labels == 99) | (np.arange(800) % 6 == 0), 0, never.val.labels)
    assert [of.name for of in diagnose(never).findings] == ["overfitting", "class_never_found"]


def test_two_softmaxes_that_the_model_shows_are_named_though_nothing_was_learned():
    made = signals(FLAT, FLAT, accuracy=0.1, val_accuracy=0.1, network=[{"gradient_norms": [1e-3, 1e-3]}])
    made.about["inputs"] = {"train": [0.0, 255.0], "val": [0.0, 255.0], "width": 10, "scale": 1 / 255, "squashes": 2}
    assert [of.name for of in diagnose(made).findings] == ["double_softmax"]
    made.about["inputs"]["squashes"] = 1
    assert diagnose(made).headline.name == "vanishing_gradients"


def test_every_sentence_is_true_of_its_own_numbers():
    """Whatever is measured; and no sentence is left out, if its rule can be reached by random signals."""
    random, seen = np.random.default_rng(0), set()
    for _ in range(400):
        for finding in diagnose(*draw_signals(random)).findings:
            begins = [begin for begin in CLAIMS if finding.template.startswith(begin)]
            assert len(begins) == 1, finding.template
            assert CLAIMS[begins[0]](finding.details), finding.message
            seen.add(begins[0])
    said = set().union(
        *(
            sentences_of(Path(advice.__file__).parent / f"{name}.py")
            for name in ("classes", "data", "generalisation", "learning", "rules")
        )
    )
    assert all(any(template.startswith(begin) for begin in CLAIMS) for template in said)
    assert len(seen) > 25


FAST_FIRST = (5.0, 2.4, 2.35, 2.34, 2.33, 2.325, 2.32, 2.31, 2.3, 2.0, 1.7)


@pytest.mark.parametrize(
    ("given", "about", "data", "best", "said", "unsaid"),
    [
        # If the loss was infinite before any step, the rate is not the reason.
        ({"probe": [np.nan] * 3, "val": [np.nan] * 3}, {}, [], None, "even before training", "rate"),
        ({"probe": [2.3, 1.0, np.nan], "val": [2.3, 1.0, np.nan]}, {}, [], None, "for the first time in epoch 2", "before training"),
        # A second `fit`, whose lowest loss is the one before it.
        ({"probe": [0.1, *[2.3] * 10], "val": [0.1, *[2.3] * 10], "accuracy": 0.1, "val_accuracy": 0.1}, {}, [], None, "Before this training the loss of training images was 0.1,", "epoch 0"),
        # It came down from 5 to 2.4 in the first epoch: that most came in the last two is not so.
        ({"probe": FAST_FIRST, "val": FAST_FIRST, "accuracy": 0.5, "val_accuracy": 0.5}, {}, [], None, ", and the loss of validation images fell too: the network is still learning", "%"),
        ({"probe": FAST_FIRST, "images": (400, 0), "accuracy": 0.5}, {}, [], None, "1.7: the network is still learning", "validation images fell"),
        # Numbers of 12 bits.
        ({"network": [{"loss_in_training": 12.0}]}, {"inputs": {"train": [0.0, 4095.0], "scale": 1, "normalises": False}}, [], None, r"Rescaling(1 / 4095) first", "255"),
        ({}, {"inputs": {"train": [-1.0, 1.0], "val": [-1.0, 1.0], "scale": 1 / 127.5, "normalises": False}}, [], None, "divides them by 127.5 again: then black and white differ by 0.0157", "128"),
        # A small gap is no overfitting; who is right on all training images is not told that they are not learned.
        ({"end": (1.0, 0.94)}, {}, [], 0.99, "On training images it is 100.0%, which is not clearly more: this is not called overfitting", "learned too little"),
        # Few images, and yet the interval excludes 0.
        ({"images": (400, 10), "accuracy": 1.0, "val_accuracy": 0.1}, {}, [], None, "(10) the size of the gap is not known", "too wide"),
        ({"images": (400, 60), "accuracy": 0.75, "val_accuracy": 0.75}, {}, [], None, "between -10 and +13 points", "-0"),
        ({}, {"train_counts": [0] * 6 + [100] * 4}, [], None, "(class 0, 1, 2, 3, 4, ...; numbered from 0): 240 of 400", "are of"),
        ({}, {"train_counts": [0, *[100] * 8, 0], "val_counts": [0, *[40] * 8, 0]}, [], None, "from 1 to 8, but classes are numbered from 0: 1 output", "9"),
        # Frames of films: to leave copies out would leave nothing.
        ({}, {}, [IN_TRAIN, doctor("altered_copies", "note", split="val", images=30, examples="a", p=0.1)], None, "groups=look_alike", "leave the copies out"),
        ({}, {}, [doctor("altered_copies", "stop", split="val", images=30, examples="a")], None, "look like altered copies", "are copies"),
    ],
)  # fmt: skip
def test_what_is_said_is_true_at_the_edges(given, about, data, best, said, unsaid):
    made = signals(**given)
    made.about |= about
    messages = [finding.message for finding in diagnose(made, data, best).findings]
    (message,) = (message for message in messages if said in message)
    assert unsaid not in message


def test_a_finding_is_as_severe_as_its_rule():
    """Rules that share a name differ: labels from 1 do little harm, validation images of an absent class do."""
    from_one, absent = signals(), signals()
    from_one.about |= {"train_counts": [0, *[100] * 8, 0], "val_counts": [0, *[40] * 8, 0]}
    absent.about |= {"train_counts": [0] * 6 + [100] * 4}
    severities = [
        [finding.severity for finding in diagnose(made).findings if finding.name == "class_absent"]
        for made in (from_one, absent)
    ]
    assert severities == [["note"], ["stop"]]
    assert all(finding.severity for finding in diagnose(signals(accuracy=1.0, val_accuracy=0.8)).findings)


def test_what_belongs_together_is_not_to_be_left_out():
    data = [IN_TRAIN, doctor("altered_copies", "note", split="val", images=30, examples="a", p=0.1)]
    finding = diagnose(signals(), data).headline
    first, second = advice.advise(finding, Config(), {}, 8)
    assert first.settings == {"groups": "look_alike"} and second.name == "leave_out_copies"
    assert [of.name for of in advice.advise(finding, Config(groups="(.+)_"), {}, 8)] == ["leave_out_copies"]


def test_training_scaled_and_validation_not_is_no_wrong_label():
    """Two tests disagree: the mean loss of validation is far higher, although many of its images are easier."""
    made = signals(HARD, HARD, accuracy=0.6, val_accuracy=0.6)
    made.val.loss[1:] = np.where(np.arange(400) % 4 > 0, 0.01, 5.0)
    assert made.val.loss[-1].mean() > made.probe.loss[-1].mean()
    assert "label_noise_suspected" not in [finding.name for finding in diagnose(made).findings]
    made.about["inputs"] = {"train": [0.0, 1.0], "val": [0.0, 255.0], "width": 10, "scale": 1.0, "normalises": False}
    found = diagnose(made).findings
    assert [finding.name for finding in found] == ["shift_suspected"] and "Rescaling(1 / 255)" in found[0].message


def test_all_that_holds_is_listed():
    found = diagnose(
        signals(accuracy=1.0, val_accuracy=0.8, network=[{"loss_stored": 3.0}]),
        [doctor("copies_across", "stop", split="val", images=9, examples="a")],
    ).findings
    assert [finding.name for finding in found] == ["leak_suspected", "overfitting", "batch_norm_mismatch"]


def test_what_a_better_run_has_learned_is_no_random_label():
    lost = signals(val=FLAT, val_accuracy=0.1)
    weak = doctor("reference_accuracy", "note", accuracy=0.13, images=300)
    assert diagnose(lost, [weak]).headline.name == "label_noise_suspected"
    assert diagnose(lost, [weak], best_accuracy=0.6).headline.name == "overfitting"


def test_frames_of_one_film_are_no_independent_images():
    """400 validation images that the network gets right as often as by guessing prove nothing if they are frames of 8 films."""
    reference = doctor("reference_accuracy", "note", accuracy=0.4, images=300)
    apart, films = signals(val=FLAT, val_accuracy=0.1), signals(val=FLAT, val_accuracy=0.1)
    films.about["val_groups"] = [f"film {i % 8}" for i in range(400)]
    assert diagnose(apart, [reference]).headline.name == "shift_suspected"
    assert "shift_suspected" not in [finding.name for finding in diagnose(films, [reference]).findings]
    of_films = doctor("reference_accuracy", "note", accuracy=0.4, images=300, independent=8)
    assert "shift_suspected" not in [finding.name for finding in diagnose(apart, [of_films]).findings]
    films.about["val_groups"] = [""] * 400  # images in no group
    assert diagnose(films, [reference]).headline.name == "shift_suspected"


def test_copies_in_validation_do_not_hide_wrong_labels():
    """With copies of training images, half of them with wrong labels, validation looks as hard as training."""
    made = signals(HARD, HARD, accuracy=0.6, val_accuracy=0.6)
    copies = np.arange(400) < 280
    made.val.loss[1:] *= np.where(copies, 1.0, 0.7).astype(np.float16)
    leak = doctor("copies_across", "stop", split="val", images=280, examples="0") | {
        "items": [str(i) for i in range(280)]
    }
    unnamed = [finding.name for finding in diagnose(made, [leak]).findings]
    made.about["val_items"] = [str(i) for i in range(400)]
    named = diagnose(made, [leak]).findings
    assert "label_noise_suspected" not in unnamed
    assert [finding.name for finding in named][:2] == ["leak_suspected", "label_noise_suspected"]
    assert abs(named[1].details["val_loss"] / named[1].details["loss"] - 0.66) < 0.05


def test_the_best_run_is_a_reference_and_thresholds_have_sources():
    weak = signals(accuracy=0.9, val_accuracy=0.9)
    assert diagnose(weak).headline.name == "healthy"
    assert diagnose(weak, best_accuracy=0.96).headline.name == "underfitting"
    assert all(limit.source for rule in RULES.values() for limit in rule.thresholds.values()) and len(RULES) == 33


def test_a_rule_and_a_threshold_of_ones_own(monkeypatch):
    """As an experiment file enters them: found after the package's rules and before "healthy", with what may help."""
    for key in RULES:
        monkeypatch.setitem(RULES, key, replace(RULES[key], thresholds=dict(RULES[key].thresholds)))

    def find_slow_epochs(run):
        seconds = 1 / run.signals.epochs[-1].get("images_per_second", np.inf)
        return make_finding("slow", "{seconds:.2f} s an image.", seconds=seconds) if run.over("slow", seconds) else None

    buy = Remedy(
        "buy", "A faster machine, for {settings}.", lambda config, options, side: {"epochs": 2 * config.epochs}
    )
    limit = {"slow": Threshold(0.1, "seconds an image; our laptop")}
    monkeypatch.setitem(RULES, "mine", Rule("mine", "slow", "note", limit, find_slow_epochs, {"": ((buy, None),)}))
    quick, slow, overfitted = signals(), signals(), signals(accuracy=1.0, val_accuracy=0.8)
    slow.epochs[-1]["images_per_second"] = overfitted.epochs[-1]["images_per_second"] = 4.0
    assert diagnose(quick).headline.name == "healthy"
    assert [finding.name for finding in diagnose(overfitted).findings] == ["overfitting", "slow"]
    found = diagnose(slow)
    found = replace(found, experiments=advice.advise(found.headline, Config(epochs=30), {}, side=8))
    shown = ["slow", "0.25 s an image.", "Try 1: A faster machine, for epochs=60. Cost: 60 epochs."]
    assert [text for _, text in found.paragraphs("en")][:3] == shown and found.severity == "note"
    in_japanese = found.paragraphs("ja")
    assert in_japanese[:2] == found.paragraphs("en")[:2] and "A faster machine, for epochs=60." in in_japanese[2][1]
    assert diagnose(signals(accuracy=1.0, val_accuracy=0.94)).headline.name == "healthy"
    RULES["overfitting"].thresholds["gap"] = Threshold(0.05, "points by 100; ours")
    found = diagnose(signals(accuracy=1.0, val_accuracy=0.94))
    assert [finding.name for finding in found.findings] == ["overfitting", "thresholds_changed"]
    assert found.findings[-1].details == {"limits": "gap = 0.05 (0.07)"}


def test_a_changed_threshold_goes_with_the_run(monkeypatch):
    """A command that does not execute the experiment file judges by what the run recorded; a wrong name is told before the training."""
    made = signals(accuracy=1.0, val_accuracy=0.94)
    recorded = {"gap": 0.05, "of_a_rule_of_ones_own": 3.0}
    assert [found.name for found in diagnose(made, limits=recorded).findings] == ["overfitting", "thresholds_changed"]
    assert diagnose(made, limits={"gap": 0.07}) == diagnose(made) and find_changed_limits() == {}
    thresholds = {**RULES["overfitting"].thresholds, "gap": Threshold(0.08, "ours")}
    monkeypatch.setitem(RULES, "overfitting", replace(RULES["overfitting"], thresholds=thresholds))
    assert find_changed_limits() == {"gap": 0.08} and diagnose(made, limits=recorded).headline.name == "healthy"
    thresholds["gpa"] = Threshold(0.05, "ours")
    with pytest.raises(InputError, match=r"RULES\['overfitting'\] has no threshold 'gpa'. Did you mean 'gap'"):
        collect_limits()
    del thresholds["gpa"]
    limit = {"gap": Threshold(3, "ours")}
    monkeypatch.setitem(RULES, "mine", Rule("mine", "slow", "note", limit, lambda run: None))
    with pytest.raises(InputError, match="Two rules, overfitting and mine, have a threshold 'gap' of different values"):
        diagnose(made)
    monkeypatch.delitem(RULES, "mine")
    monkeypatch.delitem(RULES, "overfitting")  # other rules read its thresholds too
    assert diagnose(made).findings


def test_an_experiment_file_changes_thresholds_for_its_own_runs_alone(tmp_path):
    """Not for those of the next file, nor for a run that recorded its own; what a notebook changes by hand counts for all."""
    ours, plain = tmp_path / "ours.py", tmp_path / "plain.py"
    text = "from pbl import Config\nfrom pbl.diagnosis import RULES, Threshold\n"
    change = 'RULES["overfitting"].thresholds["gap"] = Threshold(0.05, "ours")\n'
    ours.write_text(f"{text}{change}config = Config()\n")
    plain.write_text(f"{text}config = Config()\n")
    made, rise = signals(accuracy=1.0, val_accuracy=0.94), RULES["overfitting"].thresholds["rise"]
    load_experiment(ours)
    assert find_changed_limits(ours) == {"gap": 0.05} and find_changed_limits(plain) == {}
    assert diagnose(made).headline.name == "overfitting" and diagnose(made, limits={}).headline.name == "healthy"
    load_experiment(plain)
    assert find_changed_limits() == find_changed_limits(plain) == {} and find_changed_limits(ours) == {"gap": 0.05}
    RULES["overfitting"].thresholds["rise"] = Threshold(0.2, "by hand")
    try:
        assert find_changed_limits(plain) == {"rise": 0.2} and find_changed_limits(ours) == {"gap": 0.05, "rise": 0.2}
        load_experiment(ours)
        load_experiment(plain)
        assert find_changed_limits() == {"rise": 0.2}
    finally:
        RULES["overfitting"].thresholds["rise"] = rise


def test_a_rise_is_judged_on_images_that_did_not_choose_its_beginning():
    """Losses that jitter around a plateau: the lowest epoch looks lower than it is, but no rise is reported."""
    random, rises = np.random.default_rng(0), 0
    for _ in range(200):
        made = signals()
        made.val.loss[1:] = (
            0.3
            + 0.05 * random.normal(size=(10, 1)) * random.normal(size=(1, 400)) ** 2
            + random.normal(0, 0.2, (10, 400))
        ).clip(0.001)
        rises += diagnose(made).headline.name == "overfitting"
    assert rises <= 14  # 5%, with a margin for chance


def test_signals_come_back_from_the_disk_with_the_same_verdict(tmp_path):
    made = signals(accuracy=1.0, val_accuracy=0.8)
    made.save(tmp_path / "signals.npz")
    assert diagnose(Signals.load(tmp_path / "signals.npz")) == diagnose(made)


def sentences_of(file: Path) -> set[str]:
    """What a file can say: the second argument of each finding and each remedy."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    return {ast.literal_eval(call.args[1]) for call in calls if call.func.id in ("make_finding", "Remedy")}


def test_a_verdict_is_said_in_japanese():
    shown = dict(diagnose(signals(accuracy=1.0, val_accuracy=0.84)).paragraphs("ja"))
    assert shown["headline"] == "過学習（訓練と検証の差）"
    assert shown["evidence"].startswith("正解率は訓練 100.0%、検証 84.0%、差は 16.0 ポイント")


def test_a_command_in_a_notebook_can_be_pasted_into_a_cell():
    nothing = (None, None, None, 0, 0, (), 0)
    told = Experiment(
        "longer", "Train longer.", {"epochs": 9}, 9, *nothing, "python -m pbl train x epochs=9", {}, "Train longer."
    )
    advised = dataclasses.replace(diagnose(signals()), experiments=(told,))
    assert ">!python -m pbl train x epochs=9<" in advised._repr_html_() and "!python" not in str(advised)


def test_a_notebook_shows_it_in_colour_and_without_its_markup():
    found = diagnose(signals(), [doctor("copies_across", "stop", split="val", images=9, examples="<b>.png")])
    assert COLOURS["stop"] in found._repr_html_() and "&lt;b&gt;.png" in found._repr_html_()
    assert str(found).startswith(
        "leak suspected\n  Validation images that are copies of training images: 9, such as <b>.png:"
    )


@pytest.mark.parametrize(
    "end",
    [
        {"epoch": 10},
        {"epoch": 10, "probe_images": 10**15, "probe_correct": 3, "val_images": 400, "val_correct": 4},
        {"epoch": 10, "probe_images": 400, "probe_correct": 401, "val_images": 400, "val_correct": 4},
        {"epoch": 10, "probe_images": 400, "probe_correct": 4, "val_images": 0, "val_correct": 0},
    ],
)
def test_counts_that_cannot_be_are_not_believed(end, tmp_path):
    """A file may come from a stranger; counting 10**15 images would never end."""
    made = signals()
    made.end = end
    made.save(tmp_path / "signals.npz")
    with pytest.raises(InputError, match="damaged"):
        Signals.load(tmp_path / "signals.npz")
