"""What is measured for a network that finds boxes: on the judged images, on training images, and for baselines without a network."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from pbl.data.doctor.finding import find_leak
from pbl.evaluation.detection import (
    Matches,
    choose_threshold,
    judge_boxes,
    judge_matches,
    make_baselines,
    match,
    split_map,
)
from pbl.evaluation.mask_evidence import compare_pairs, name_groups
from pbl.models.prediction import predict_outputs

MOST_TRAINING = 500  # training images that are looked at


@dataclass(frozen=True)
class Measured:
    """How good a network's boxes are.

    Attributes:
        numbers: The part of `metrics_<split>.json`: `images`, `boxes` (see `judge_matches`), `threshold`, `without_network`, `difference`,
            `training`, `leak`.
        found: `float32 [n, 100, 6]`.
        matches: How they match the true boxes.
        values: What each image, or group, contributes to mAP50; see `split_map`.
    """

    numbers: dict[str, Any]
    found: np.ndarray
    matches: Matches
    values: np.ndarray


def measure_boxes(
    model: keras.Model,
    data: Any,
    images: Any,
    findings: Collection[Mapping[str, Any]],
    is_validation: bool,
    groups: Sequence[str] | None,
    threshold: float | None = None,
) -> Measured | None:
    """Measures a network on images with boxes.

    Args:
        model: Gives boxes by `predict`.
        data: The `Data` to which the images belong.
        images: The images.
        findings: What the data doctor found.
        is_validation: Whether these are the run's own validation images: then the threshold is chosen on them.
        groups: A group name for each image; see `pbl.evaluation.mask_evidence.name_groups`.
        threshold: Otherwise the threshold chosen on validation; None if there is none.

    Returns:
        What was measured; None if the outputs are not all numbers.
    """
    found = predict_outputs(model, images.pixels)
    if not np.isfinite(found).all():
        return None
    groups, names = name_groups(groups), data.class_names
    matches = match(images.boxes, found, len(names))
    if is_validation:
        threshold = choose_threshold(matches)
    judged, values = judge_matches(matches, names, threshold, groups)
    baselines, difference = _compare_baselines(data, images, values, groups)
    numbers = {
        "images": len(images.names),
        "threshold": threshold,
        "boxes": judged,
        "without_network": baselines,
        "difference": difference,
        "training": _measure_training(model, data, judged) if is_validation else None,
        "leak": find_leak(findings),
    }
    return Measured(numbers, found, matches, values)


def _compare_baselines(
    data: Any, images: Any, values: np.ndarray, groups: Sequence[str] | None
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """mAP50 of the baselines without a network, and the network's difference from the best of them on the same images, with Student's 95% interval."""
    made = make_baselines(data.images("train").boxes, data.input_shape[:2], len(images.names), data.num_classes)
    theirs = {name: split_map(match(images.boxes, found, data.num_classes), groups) for name, found in made.items()}
    baselines = [{"name": name, "map50": float(of.mean()) if len(of) else None} for name, of in theirs.items()]
    if not len(values):
        return baselines, None
    best = max(theirs, key=lambda name: theirs[name].mean())
    return baselines, {"baseline": best, **compare_pairs(values, theirs[best])._asdict()}


def _measure_training(model: keras.Model, data: Any, judged: Mapping[str, Any]) -> dict[str, Any]:
    """mAP50 on training images, not augmented, and how much higher it is than on validation images (95% interval for two sets of images)."""
    train = data.sample("train", MOST_TRAINING)
    theirs, _ = judge_boxes(train.boxes, predict_outputs(model, train.pixels), data.class_names, None)
    gap = None
    if judged["map50_interval"] is not None and theirs["map50"] is not None:
        # Training images that are all alike, mostly all right, have no interval; then the validation images' own is left.
        ends = theirs["map50_interval"] or [theirs["map50"]] * 2, judged["map50_interval"]
        value = theirs["map50"] - judged["map50"]
        reach = float(np.hypot(*((high - low) / 2 for low, high in ends)))
        gap = {"value": value, "low": value - reach, "high": value + reach}
    return {"images": len(train.names), "map50": theirs["map50"], "gap": gap}
