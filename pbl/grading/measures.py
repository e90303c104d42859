"""How submissions of each task are scored, and what the tables show about them: one row for each task.

A task's feedback is in `pbl.grading.feedback`, and what may be handed in is in `pbl.grading.worker`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pbl.data.boxes import pad_boxes
from pbl.errors import InputError
from pbl.grading import anomalies, detection, judge, segmentation
from pbl.grading.box_rows import split_rows
from pbl.grading.hidden import Hidden, Labels


class Scoring(NamedTuple):
    """What is measured for a task's submissions.

    Attributes:
        called: The headline's name in tables.
        measures: The keys that a row gets besides the headline's.
        with_intervals: The ones that `grades.csv` shows with an interval, in three columns.
        others: The other ones that it shows.
        by_class: The key of a value for each class, which `grades.csv` shows as `KEY(CLASS)`; or None.
        score: (result, counts, labels, hidden, facts) -> `Scored`, for the images that count.
        is_tied: (one, other, truth) -> whether the images cannot distinguish two submissions.
        find_flags: (scored, result, counts, hidden, ceiling, facts) -> the flags of one submission.
        find_truth: (labels, counts, hidden) -> `int [n]`, with which `Scored.predicted` is compared.
        has_ceiling: Whether the references move the ceiling: if a simple method is as good, a good score is not suspicious.
    """

    called: str
    measures: tuple[str, ...]
    with_intervals: tuple[str, ...]
    others: tuple[str, ...]
    by_class: str | None
    score: Callable[..., judge.Scored]
    is_tied: Callable[[judge.Scored, judge.Scored, np.ndarray], bool]
    find_flags: Callable[..., list[str]]
    find_truth: Callable[[Labels, np.ndarray, Hidden], np.ndarray]
    has_ceiling: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The numbers of `grades.csv`, which `--require` may name."""
        return (*self.with_intervals, *self.others)


def _find_classes(labels: Labels, counts: np.ndarray, hidden: Hidden) -> np.ndarray:
    return labels.classes[counts]


def _score_classes(result: np.ndarray, counts: np.ndarray, labels: Labels, hidden: Hidden, facts: Mapping[str, Any]):
    has_probabilities = facts.get("has_probabilities", True)
    scored = judge.score(result[counts], labels.classes[counts], hidden.class_names, has_probabilities)
    scored.metrics["macro_f1"] = scored.metrics["macro"]["f1"]
    scored.metrics["recall"] = {name: of["recall"] for name, of in scored.metrics["by_class"].items()}
    return scored


def _flag_classes(scored, result, counts, hidden: Hidden, ceiling: float, facts: Mapping[str, Any]) -> list[str]:
    return judge.find_flags(scored, len(hidden.class_names), ceiling, facts)


def _score_anomalies(result: np.ndarray, counts: np.ndarray, labels: Labels, hidden: Hidden, facts: Mapping[str, Any]):
    truth = labels.classes[counts]
    if len(set(truth.tolist())) < 2:
        raise InputError(
            "By the labels, the hidden images that count are all of one kind, normal or anomalies. Use --half all."
        )
    return anomalies.score_anomalies(result[counts], truth, hidden.false_alarms)


def _flag_anomalies(scored, result, counts, hidden: Hidden, ceiling: float, facts: Mapping[str, Any]) -> list[str]:
    return anomalies.find_anomaly_flags(scored, ceiling)


def _choose_masks(masks: list[np.ndarray], counts: np.ndarray) -> list[np.ndarray]:
    return [masks[at] for at in np.flatnonzero(counts)]


def _score_masks(result: np.ndarray, counts: np.ndarray, labels: Labels, hidden: Hidden, facts: Mapping[str, Any]):
    truth = _choose_masks(labels.masks, counts)
    if not any(mask.any() for mask in truth):
        raise InputError("By the masks, nothing is marked in any of the hidden images that count. Use --half all.")
    groups = None if labels.groups is None else [labels.groups[at] for at in np.flatnonzero(counts)]
    masks = _choose_masks(segmentation.split_masks(result, hidden.sizes), counts)
    scored = segmentation.score_masks(masks, truth, hidden.class_names, groups)
    scored.metrics["dice_of"] = {of["name"]: of["dice"] for of in scored.metrics["classes"]}
    return scored


def _flag_masks(scored, result, counts, hidden: Hidden, ceiling: float, facts: Mapping[str, Any]) -> list[str]:
    masks = _choose_masks(segmentation.split_masks(result, hidden.sizes), counts)
    return segmentation.find_mask_flags(scored, masks, ceiling)


def _find_pixels(labels: Labels, counts: np.ndarray, hidden: Hidden) -> np.ndarray:
    return segmentation.list_pixels(_choose_masks(labels.masks, counts))


def _choose_boxes(labels: Labels, counts: np.ndarray) -> np.ndarray:
    boxes = [rows for rows, does_count in zip(labels.boxes, counts, strict=True) if does_count]
    return pad_boxes(boxes, max(1, *map(len, boxes)))


def _score_boxes(result: np.ndarray, counts: np.ndarray, labels: Labels, hidden: Hidden, facts: Mapping[str, Any]):
    truth = _choose_boxes(labels, counts)
    if not (truth[..., 4] >= 0).any():
        raise InputError("None of the hidden images that count has a box. Use --half all.")
    groups = None if labels.groups is None else [labels.groups[at] for at in np.flatnonzero(counts)]
    found = split_rows(result, hidden.sizes)[counts]
    scored = detection.score_boxes(found, truth, hidden.class_names, facts["threshold"], groups)
    scored.metrics["ap50"] = {of["name"]: of["ap50"] for of in scored.metrics["classes"]}
    return scored


def _flag_boxes(scored, result, counts, hidden: Hidden, ceiling: float, facts: Mapping[str, Any]) -> list[str]:
    found, sizes = split_rows(result, hidden.sizes)[counts], np.array(hidden.sizes)[counts]
    return detection.find_box_flags(scored, found, sizes, facts["threshold"], ceiling)


def _find_answers(labels: Labels, counts: np.ndarray, hidden: Hidden) -> np.ndarray:
    boxes = int((_choose_boxes(labels, counts)[..., 4] >= 0).sum())
    return np.repeat([1, 0], [boxes, int(counts.sum()) * len(hidden.class_names)])


SCORINGS = {
    "classification": Scoring(
        "accuracy",
        ("accuracy", "accuracy_interval", "macro_f1", "log_loss", "recall"),
        ("accuracy",),
        ("macro_f1", "log_loss"),
        "recall",
        _score_classes,
        judge.are_answers_tied,
        _flag_classes,
        _find_classes,
        has_ceiling=False,
    ),
    "anomaly": Scoring(
        "AUROC",
        tuple(anomalies.MEASURES),
        ("roc_auc", "found", "false_alarms"),
        ("promise", "average_precision"),
        None,
        _score_anomalies,
        anomalies.are_areas_tied,
        _flag_anomalies,
        _find_classes,
        has_ceiling=True,
    ),
    "segmentation": Scoring(
        "Dice",
        (*segmentation.MEASURES, "dice_of"),
        ("dice",),
        ("false_images",),
        "dice_of",
        _score_masks,
        segmentation.are_dice_tied,
        _flag_masks,
        _find_pixels,
        has_ceiling=True,
    ),
    "detection": Scoring(
        "mAP50",
        (*detection.MEASURES, "ap50"),
        ("map50", "right_count"),
        ("map", "precision", "recall", "threshold"),
        "ap50",
        _score_boxes,
        segmentation.are_dice_tied,  # paired over images, whatever each contributes to the mean
        _flag_boxes,
        _find_answers,
        has_ceiling=True,
    ),
}
