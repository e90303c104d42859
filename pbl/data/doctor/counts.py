"""How many images there are: files that are broken, classes without images or with few, a small validation split."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pbl.data.doctor.finding import Finding, Part, list_names, one_finding
from pbl.statistics import wilson_interval

# Conventions, not measured.
FEWEST_IN_CLASS = 5  # images; with fewer, some of the 5 folds of a cross-validation have none of the class
FEW_IN_CLASS = 20
FEW_IN_VALIDATION = 50  # an accuracy of 90% then has a 95% interval of 17 points
IMBALANCE = 0.1  # images of the smallest class divided by those of the largest


def find_broken(broken: Mapping[str, str]) -> list[Finding]:
    """Images that cannot be decoded: empty, truncated, or not an image. "stop": nobody knows what they show."""
    if not broken:
        return []
    names = sorted(broken)
    return one_finding(
        "broken",
        "stop",
        "Image files that cannot be decoded: {images}, such as {examples}; copy or download them again, or leave them out. The first one: {reason}",
        names,
        images=len(names),
        reason=broken[names[0]],
        reasons=dict(broken),
    )


def find_damaged_metadata(names: Sequence[str]) -> list[Finding]:
    """Images whose EXIF, colour profile or comments are damaged: a "note", since their pixels are complete."""
    if not names:
        return []
    return one_finding(
        "damaged_metadata",
        "note",
        "Images with damaged metadata (EXIF, colour profile), which was ignored: {images}, such as {examples}; if one is rotated, save it again.",
        sorted(names),
        images=len(names),
    )


def _count_classes(part: Part, class_names: list[str]) -> np.ndarray:
    return np.bincount(part.labels, minlength=len(class_names))


def find_few(counts: np.ndarray, class_names: Sequence[str], limit: int) -> dict[str, int]:
    """How many images each class with some, but fewer than `limit`, has; the rarest class first."""
    return {class_names[c]: int(counts[c]) for c in np.argsort(counts, kind="stable") if 0 < counts[c] < limit}


class Absent(NamedTuple):
    """Classes that a split lacks and another has.

    Attributes:
        split, other: The split that lacks them, and the one that has them.
        classes: Their names.
        is_blind: Whether nothing can be learned or judged without them: train lacks them, or val has no class at all.
    """

    split: str
    other: str
    classes: list[str]
    is_blind: bool


def list_absent(has: Mapping[str, np.ndarray], class_names: Sequence[str]) -> tuple[list[str], list[Absent]]:
    """Finds classes that no split has, and those that a split lacks and another has: train is compared with each, the others with train.

    Args:
        has: Whether each split has each class, `bool [classes]`.
        class_names: Name of class 0, 1, ...
    """
    nowhere = [class_names[at] for at in np.flatnonzero(~np.any(list(has.values()), axis=0))]
    absent = []
    for split, of_split in has.items():
        for other in has if split == "train" else ("train",):
            names = [class_names[at] for at in np.flatnonzero(~of_split & has[other])]
            if names:
                is_blind = split == "train" or (split == "val" and not of_split.any())
                absent.append(Absent(split, other, names, is_blind))
    return nowhere, absent


def find_absent_classes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Classes without an image in a split: "stop" in train and val, "act" in test."""
    findings = []
    for name, part in splits.items():
        absent = [class_names[c] for c in np.flatnonzero(_count_classes(part, class_names) == 0)]
        if absent:
            findings += one_finding(
                "absent_class",
                "act" if name == "test" else "stop",
                "The {split} split has no image of {classes} of its {all_classes} classes ({listed}): add images of them, or remove the classes.",
                split=name,
                classes=len(absent),
                all_classes=len(class_names),
                listed=list_names(absent),
                absent=absent,
            )
    return findings


def find_small_classes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Classes with few training images: "stop" below 5, "act" below 20."""
    counts = _count_classes(splits["train"], class_names)
    few = find_few(counts, class_names, FEW_IN_CLASS)
    if not few:
        return []
    rarest = min(few, key=few.get)
    return one_finding(
        "small_class",
        "stop" if few[rarest] < FEWEST_IN_CLASS else "act",
        "Classes with fewer than {limit} training images: {classes}, the smallest '{rarest}' with {fewest}; collect more, or merge classes.",
        classes=len(few),
        limit=FEW_IN_CLASS,
        rarest=rarest,
        fewest=few[rarest],
        images_by_class=few,
    )


def find_small_validation(splits: Mapping[str, Part]) -> list[Finding]:
    """A validation split of fewer than 50 images: "act", since it decides between models only by chance.

    Images of one group, such as frames of a film, count as one.
    """
    images, independent = len(splits["val"].labels), len(set(splits["val"].units.tolist()))
    if not 0 < independent < FEW_IN_VALIDATION:
        return []
    low, high = wilson_interval(round(0.9 * independent), independent)
    return one_finding(
        "small_validation",
        "act",
        "Images in the validation split: only {images}. An accuracy of about 90% on so few images has a 95% interval from {low:.0%} to {high:.0%}: give it a larger share (validation_fraction=0.3), or compare by cross-validation (compare --train ... --folds 5)."
        if independent == images
        else "Images in the validation split: {images}, but of only {groups} {groups:group|groups}. An accuracy of about 90% on so few groups has a 95% interval from {low:.0%} to {high:.0%}: give it more groups (validation_fraction=0.3), or compare by cross-validation (compare --train ... --folds 5).",
        images=images,
        groups=independent,
        low=low,
        high=high,
    )


def find_imbalance(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """The smallest class has less than a tenth of the training images of the largest: "act"."""
    counts = _count_classes(splits["train"], class_names)
    present = np.flatnonzero(counts)
    if len(present) < 2 or counts[present].min() >= IMBALANCE * counts.max():
        return []
    rare, common = int(present[counts[present].argmin()]), int(counts.argmax())
    return one_finding(
        "imbalance",
        "act",
        "The training images are unbalanced: '{common}' has {most}, '{rare}' only {fewest}; look at recall by class and macro F1 rather than accuracy, and try class weights (class_weight=balanced).",
        common=class_names[common],
        rare=class_names[rare],
        most=int(counts[common]),
        fewest=int(counts[rare]),
        images_by_class={class_names[c]: int(counts[c]) for c in range(len(class_names))},
    )
