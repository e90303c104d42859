"""Who trains and who judges: a stratified split by content, the same on every machine."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def hash_image(image: np.ndarray) -> str:
    """Returns the SHA-256 of an image's shape and decoded `uint8` pixels, 64 hexadecimal digits."""
    return hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def hold_out(
    hashes: Sequence[str],
    labels: np.ndarray,
    fraction: float,
    seed: int,
    purpose: str,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Chooses the images to hold out: `fraction` of each class, at least one of each class that has two.

    The order within a class is that of SHA-256(purpose, seed, content hash), so the choice depends on the images alone,
    not on file names, their order or the machine; an image added later moves hardly any other. Images of equal content
    stay on one side, also where their labels differ; a group of copies that is larger than what is still wanted stays
    with the rest.

    Args:
        hashes: Content hash of each image.
        labels: `int [n]`, class of each image.
        fraction: Share to hold out, between 0 and 1.
        seed: Another seed, another choice.
        purpose: Such as "test"; makes the choices for two purposes independent.
        groups: A word for each image, such as a patient: images of one group stay on one side too. The group counts for the
            class that most of its images have, and its word takes the place of the content hash.

    Returns:
        `bool [n]`, true for an image held out.
    """
    items = _bind(hashes, labels, groups)
    held_out = np.zeros(len(hashes), bool)
    for of_class in _in_order(items, seed, purpose):
        total = sum(len(item.images) for item in of_class)
        wanted = max(1, round(fraction * total)) if len(of_class) > 1 else 0
        chosen: list[_Item] = []
        for item in of_class[:-1]:  # one item of each class always stays for training
            if len(item.images) <= wanted:
                chosen.append(item)
                wanted -= len(item.images)
        if not chosen and wanted:  # nothing but many copies of each image, or large groups
            chosen = [min(of_class, key=lambda item: len(item.images))]
        for item in chosen:
            held_out[item.images] = True
    return held_out


def choose_fold(
    hashes: Sequence[str],
    labels: np.ndarray,
    folds: int,
    fold: int,
    seed: int,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Chooses the images of one fold of a cross-validation, stratified, by content and by groups as in `hold_out`.

    Args:
        folds: How many folds there are.
        fold: Which of them, from 0. Every image is in exactly one.

    Returns:
        `bool [n]`, true for an image of this fold.
    """
    chosen, sizes = np.zeros(len(hashes), bool), [0] * folds
    for of_class in _in_order(_bind(hashes, labels, groups), seed, "fold"):
        of_this_class = [0] * folds
        for item in sorted(of_class, key=lambda item: -len(item.images)):  # stable: equal ones keep their order
            smallest = min(range(folds), key=lambda at: (of_this_class[at], sizes[at]))
            of_this_class[smallest] += len(item.images)
            sizes[smallest] += len(item.images)
            if smallest == fold:
                chosen[item.images] = True
    return chosen


class _Item(NamedTuple):
    """Images that stay together."""

    key: str
    label: int
    images: list[int]


def _bind(hashes: Sequence[str], labels: np.ndarray, groups: Sequence[str] | None) -> list[_Item]:
    """Binds images of equal content, and those of one group, and groups that share a content."""
    if groups is None:
        keys = list(hashes)
    else:
        first_of: dict[str, str] = {}  # the group that stands for a group bound to it
        for content, group in sorted(zip(hashes, groups, strict=True)):
            a, b = (_find(first_of, word) for word in (f"group {group}", first_of.get(content, f"group {group}")))
            first_of[max(a, b)] = first_of[content] = min(a, b)
        keys = [_find(first_of, f"group {group}") for group in groups]
    images_of: dict[str, list[int]] = {}
    for number, key in enumerate(keys):
        images_of.setdefault(key, []).append(number)
    return [
        _Item(key, Counter(sorted(labels[images].tolist())).most_common(1)[0][0], images)
        for key, images in images_of.items()
    ]


def _find(first_of: dict[str, str], word: str) -> str:
    while first_of.get(word, word) != word:
        word = first_of[word]
    return word


def _in_order(items: list[_Item], seed: int, purpose: str) -> list[list[_Item]]:
    """The items of each class, in the order in which they are chosen."""
    of_class: dict[int, list[_Item]] = {}
    for item in sorted(items, key=lambda item: hashlib.sha256(f"{purpose} {seed} {item.key}".encode()).digest()):
        of_class.setdefault(item.label, []).append(item)
    return [of_class[label] for label in sorted(of_class)]
