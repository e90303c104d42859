"""The checks of the data doctor, and the functions that run them.

A new check is a function that returns findings, in a file next to this one, and one line in `CHECKS` or `CLOSE`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from pbl.data.doctor import altered_copies, boxes, copies, counts, labels, masks, reference, shift, sizes, strangers
from pbl.data.doctor.finding import SEVERITIES, Finding, Part
from pbl.data.doctor.vectors import shrink


class Examined(NamedTuple):
    """What is examined; all but the last three fields are arguments of `examine`."""

    splits: Mapping[str, Part]
    class_names: list[str]
    broken: Mapping[str, str]
    official: bool | set[str]
    fit: str
    cap: dict[str, int]  # {"cap": n}: slow checks look at no more than n images; {}: each check's own default
    small: Mapping[str, Part]  # `splits`; for the slow checks with images of at most 32 pixels a side
    marked: Mapping[str, np.ndarray]  # for masks from `masks.count_marked`, for boxes from `boxes.count_objects`


Check = Callable[[Examined], list[Finding]]

# Checks that take seconds on 60,000 images.
CHECKS: tuple[Check, ...] = (
    lambda data: counts.find_broken(data.broken),
    lambda data: sizes.find_small_images(data.splits),
    lambda data: sizes.find_long_images(data.splits, data.fit),
    lambda data: sizes.find_mixed_modes(data.splits, data.class_names),
    lambda data: sizes.find_constant_images(data.splits),
    lambda data: sizes.find_dark_images(data.splits),
    lambda data: copies.find_copies_across(data.splits, data.official),
    lambda data: copies.find_copies_within(data.splits),
)
# Likewise, for data with classes.
OF_CLASSES: tuple[Check, ...] = (
    lambda data: counts.find_absent_classes(data.splits, data.class_names),
    lambda data: counts.find_small_classes(data.splits, data.class_names),
    lambda data: counts.find_small_validation(data.splits),
    lambda data: counts.find_imbalance(data.splits, data.class_names),
    lambda data: copies.find_copies_with_other_labels(data.splits, data.class_names),
)
# Likewise, for data with masks.
OF_MASKS: tuple[Check, ...] = (
    lambda data: masks.find_absent_marks(data.marked, data.class_names),
    lambda data: masks.find_seldom_marks(data.marked, data.class_names),
    lambda data: masks.find_class_shares(data.marked, data.class_names),
    lambda data: masks.find_empty_masks(data.splits, data.marked),
    lambda data: masks.find_lost_marks(data.splits, data.marked),
    lambda data: masks.find_inverted_masks(data.splits, data.marked),
    lambda data: masks.find_masks_like_images(data.splits, data.marked),
    lambda data: masks.find_copies_with_other_masks(data.splits),
)
# Likewise, for data with boxes.
OF_BOXES: tuple[Check, ...] = (
    lambda data: boxes.find_absent_objects(data.marked, data.class_names),
    lambda data: boxes.find_seldom_objects(data.splits, data.marked, data.class_names),
    lambda data: boxes.find_class_shares(data.marked, data.class_names),
    lambda data: boxes.find_empty_images(data.splits),
    lambda data: boxes.find_faulty_boxes(data.splits),
    lambda data: boxes.find_tiny_boxes(data.splits),
    lambda data: boxes.find_whole_image_boxes(data.splits, data.fit),
    lambda data: boxes.find_shared_centres(data.splits),
    lambda data: boxes.find_copies_with_other_boxes(data.splits),
)
# Checks that take long.
CLOSE: tuple[Check, ...] = (
    lambda data: altered_copies.find_altered_copies(data.small, data.official, **data.cap),
    lambda data: shift.find_shift(data.splits, **data.cap),
    lambda data: strangers.find_strangers(data.splits, **data.cap),
)
# Likewise, for data with classes.
OF_LABELS: tuple[Check, ...] = (
    lambda data: labels.find_labels_unlike_neighbours(data.small, data.class_names, **data.cap),
    lambda data: labels.find_labels_unlike_predictions(data.small, data.class_names, **data.cap),
    lambda data: reference.find_reference_accuracy(data.small, **data.cap),
)
# The names of the checks whose findings `examine_closely` returns.
CLOSE_CHECKS = (
    "altered_copies",
    "altered_copies_in_train",
    "altered_copies_with_other_labels",
    "shift",
    "stranger",
    "faint_image",
    "blurred_image",
    "labels_unlike_neighbours",
    "labels_unlike_predictions",
    "mixed_classes",
    "labels_harder_than_validation",
    "reference_accuracy",
)


def examine(
    splits: Mapping[str, Part],
    class_names: list[str],
    broken: Mapping[str, str],
    official: bool | set[str] = False,
    fast: bool = False,
    fit: str = "crop",
) -> list[Finding]:
    """Runs all checks.

    Args:
        splits: "train", "val" and, only if asked for, "test".
        class_names: Name of class 0, 1, ...
        broken: Name of each image that could not be decoded, and the reason in one line.
        official: Whether the splits came with the data set, or the names of those that did; they are reported, not
            refused, when they share images.
        fast: Only the checks that take seconds on 60,000 images: counts, sizes, constant images, exact copies.
        fit: How images are brought to the model's shape: "crop", "pad" or "stretch".

    Returns:
        Findings, "stop" first, then "act", then "note".
    """
    has_masks, has_boxes = splits["train"].masks is not None, splits["train"].boxes is not None
    count = masks.count_marked if has_masks else boxes.count_objects
    marked = count(splits, len(class_names)) if has_masks or has_boxes else {}
    data = Examined(splits, class_names, broken, official, fit, {}, splits, marked)
    of_kind = OF_MASKS if has_masks else OF_BOXES if has_boxes else OF_CLASSES
    findings = [finding for check in CHECKS + of_kind for finding in check(data)]
    if not fast:
        findings += examine_closely(splits, class_names, official)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def examine_closely(
    splits: Mapping[str, Part],
    class_names: list[str],
    official: bool | set[str] = False,
    most: int | None = None,
) -> list[Finding]:
    """Runs the checks that take long: altered copies, shift, labels, and the reference accuracy.

    Args:
        splits, class_names, official: See `examine`.
        most: Each check, except that of harder labels, looks at no more than so many images of a split; None: each check's own limit.

    Returns:
        Findings; none if a split is empty, which `examine` has reported. With one class, as in anomaly detection, and with masks
        or boxes, no label is looked at.
    """
    if not len(splits["val"].labels) or not len(splits["train"].labels):
        return []
    # Most checks look at images of at most 32 pixels a side: they are made small once.
    small = {name: part._replace(pixels=shrink(part.pixels)) for name, part in splits.items()}
    has_classes = splits["train"].masks is None and splits["train"].boxes is None
    if not has_classes:  # the class that is marked most in an image is not its label
        small = {name: part._replace(labels=np.zeros_like(part.labels)) for name, part in small.items()}
    data = Examined(splits, class_names, {}, official, "crop", {} if most is None else {"cap": most}, small, {})
    has_classes = has_classes and len(set(splits["train"].labels.tolist())) > 1
    findings = [finding for check in CLOSE + OF_LABELS * has_classes for finding in check(data)]
    if not has_classes:
        return findings
    # Images of another kind, or of few groups, may be harder although no label is wrong.
    is_other = any(
        finding.check == "altered_copies_in_train" or (finding.check == "shift" and finding.details["split"] == "val")
        for finding in findings
    )
    is_grouped = any(part.groups is not None for part in splits.values())
    if not (is_other or is_grouped):
        copied = {name for finding in findings if finding.check == "altered_copies" for name in finding.items}
        findings += labels.find_labels_harder_than_validation(small, copied)
    return findings
