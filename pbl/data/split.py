"""How images are chosen for a split: stratified and by content, the same on every machine.

Which splits there are, and how large they are, stands in `pbl.data.pipeline.Data`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pbl.errors import InputError
from pbl.languages import say


def hash_image(image: np.ndarray) -> str:
    """Returns the SHA-256 of an image's shape and decoded `uint8` pixels, 64 hexadecimal digits.

    The pixels are those of the complete image, before it is resized. So copies are found whatever image size is used, and the
    split does not depend on `image_size`. For this an image must be decoded in full, never at the reduced scale that JPEG offers.

    Example:
        >>> import numpy as np
        >>> from pbl.data import hash_image
        >>> image = np.zeros((8, 8, 1), np.uint8)
        >>> len(hash_image(image)), hash_image(image) == hash_image(image.copy())
        (64, True)
    """
    return hash_pixels(image.shape, [np.ascontiguousarray(image).data])


def hash_pixels(shape: tuple[int, int, int], strips: Iterable[bytes | memoryview]) -> str:
    """Returns the same hash for pixels that come strip by strip."""
    digest = hashlib.sha256(str(tuple(shape)).encode())
    for strip in strips:
        digest.update(strip)
    return digest.hexdigest()


def hold_out(
    hashes: Sequence[str],
    labels: np.ndarray,
    fraction: float,
    seed: int,
    purpose: str,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Chooses the images to hold out: `fraction` of each class, at least one from each class that has two.

    The order within a class is that of SHA-256(purpose, seed, content hash). So the choice depends only on the images,
    not on file names, their order or the machine; an image added later moves hardly any other image. Images of equal content
    stay on one side, even if their labels differ. A group of copies that is larger than the number still wanted stays
    with the rest.

    Args:
        hashes: Content hash of each image.
        labels: `int [n]`, class of each image.
        fraction: Share to hold out, between 0 and 1.
        seed: Another seed gives another choice.
        purpose: For example "test"; it makes the choices for two purposes independent.
        groups: A word for each image, such as a patient: images of one group stay on one side too. The group counts for the
            class that most of its images have, and its word replaces the content hash.

    Returns:
        `bool [n]`, true for an image held out.

    Example:
        >>> import numpy as np
        >>> from pbl.data import hash_image, hold_out
        >>> hashes = [hash_image(np.full((8, 8, 1), number, np.uint8)) for number in range(100)]
        >>> held_out = hold_out(hashes, np.arange(100) % 2, fraction=0.3, seed=0, purpose="test")
        >>> int(held_out.sum())
        30
    """
    return _hold_out(_in_order(_bind(hashes, groups), labels, seed, purpose), len(hashes), fraction)


# Numbers of the images that stay together. Plain lists, since of a hundred thousand objects more Python's garbage collector takes a second.
_Item = list[int]


def _hold_out(classes: list[list[_Item]], n: int, fraction: float) -> np.ndarray:
    held_out = np.zeros(n, bool)
    for of_class in classes:
        wanted = max(1, round(fraction * sum(map(len, of_class)))) if len(of_class) > 1 else 0
        chosen: list[int] = []
        for item in of_class[:-1]:  # one item of each class always stays for training
            if len(item) <= wanted:
                chosen += item
                wanted -= len(item)
        if not chosen and wanted:  # every image has many copies, or all groups are large: none is small enough
            chosen = min(of_class, key=len)
        held_out[chosen] = True
    return held_out


class Sampler:
    """Chooses some of the images, with each class in proportion, also if classes have only one or two images; some then have none.

    As in `hold_out` the choice depends only on the images. Their order is found once, for all numbers of images.

    Args:
        hashes, labels, seed, purpose: As for `hold_out`.
    """

    def __init__(self, hashes: Sequence[str], labels: np.ndarray, seed: int, purpose: str):
        self._hashes, self._labels, self._seed, self._purpose = hashes, labels, seed, purpose

    @cached_property
    def _classes(self) -> list[list[_Item]]:
        return _in_order(_bind(self._hashes, None), self._labels, self._seed, self._purpose)

    @cached_property
    def _order(self) -> np.ndarray:
        """The order of all images, class by class; the order of the classes is random too."""
        rank = {
            content: hashlib.sha256(f"{self._purpose} {self._seed} {content}".encode()).digest()
            for content in self._hashes
        }
        first_of = {}
        for content, label in zip(self._hashes, self._labels.tolist(), strict=True):
            first_of[label] = min(first_of.get(label, rank[content]), rank[content])
        n = len(self._hashes)
        return np.array(sorted(range(n), key=lambda at: (first_of[int(self._labels[at])], rank[self._hashes[at]], at)))

    def choose(self, most: int) -> np.ndarray:
        """Returns `bool [n]`, true for each of `most` images chosen; all where there are no more."""
        n = len(self._hashes)
        share = most / max(n, most)
        counts = np.bincount(self._labels)
        is_even = (
            share < 1 and counts[counts > 0].min() * share >= 5
        )  # rounding changes a class's share by a tenth at most
        if is_even:
            return _hold_out(self._classes, n, share)
        chosen = np.zeros(n, bool)
        # Every n/most-th image. So a class with a share of the images has the same share of the chosen ones, up to one image.
        place, most = np.arange(n), min(n, most)
        chosen[self._order[(place + 1) * most // n > place * most // n]] = True
        return chosen


def choose_fold(
    hashes: Sequence[str], labels: np.ndarray, folds: int, fold: int, seed: int, groups: Sequence[str] | None = None
) -> np.ndarray:
    """Chooses the images of one fold of a cross-validation, stratified, by content and by groups as in `hold_out`.

    Args:
        folds: How many folds there are.
        fold: Which of them, from 0. Every image is in exactly one.

    Returns:
        `bool [n]`, true for an image of this fold.

    Example:
        >>> import numpy as np
        >>> from pbl.data import choose_fold, hash_image
        >>> hashes = [hash_image(np.full((8, 8, 1), number, np.uint8)) for number in range(100)]
        >>> folds = [choose_fold(hashes, np.arange(100) % 2, folds=5, fold=fold, seed=0) for fold in range(5)]
        >>> np.sum(folds, axis=0).tolist() == [1] * 100
        True
    """
    chosen, sizes = np.zeros(len(hashes), bool), [0] * folds
    for of_class in _in_order(_bind(hashes, groups), labels, seed, "fold"):
        of_this_class = [0] * folds
        for item in sorted(of_class, key=lambda item: -len(item)):  # stable: items of equal size keep their order
            smallest = min(range(folds), key=lambda at: (of_this_class[at], sizes[at]))
            of_this_class[smallest] += len(item)
            sizes[smallest] += len(item)
            if smallest == fold:
                chosen[item] = True
    return chosen


def find_groups(
    names: list[str], pattern: str | None, group_of: Callable[[str], str] | None = None
) -> list[str] | None:
    """Returns the word of each image's group, by the setting `groups` or a function; None if there are no groups."""
    if group_of is not None:
        return [str(group_of(name)) for name in names]
    if pattern is None:
        return None
    try:
        found = [re.search(pattern, name) for name in names]
    except re.error as error:
        raise InputError(
            "groups='{pattern}' is not a regular expression: {error}.", pattern=pattern, error=error
        ) from None
    words = [match and (match.group(1) if match.re.groups else match.group()) for match in found]
    without = [name for name, word in zip(names, words, strict=True) if not word]
    if without:
        raise InputError(
            "groups='{pattern}' is not found in the names of {n} of {all} images, such as {name}.",
            pattern=pattern,
            n=len(without),
            all=len(names),
            name=without[0],
        )
    return words


def _bind(hashes: Sequence[str], groups: Sequence[str] | None) -> dict[str, _Item]:
    """Puts together images of equal content, images of one group, and groups that share a content."""
    if groups is None:
        keys = list(hashes)
    else:
        first_of: dict[str, str] = {}  # for a group or a content: the first of the groups joined with it
        for content, group in sorted(zip(hashes, groups, strict=True)):
            a, b = (_find(first_of, word) for word in (f"group {group}", first_of.get(content, f"group {group}")))
            first_of[max(a, b)] = first_of[content] = min(a, b)
        keys = [_find(first_of, f"group {group}") for group in groups]
    images_of: dict[str, _Item] = {}
    for number, key in enumerate(keys):
        images_of.setdefault(key, []).append(number)
    return images_of


def _find(first_of: dict[str, str], word: str) -> str:
    while first_of.get(word, word) != word:
        word = first_of[word]
    return word


def _in_order(images_of: dict[str, _Item], labels: np.ndarray, seed: int, purpose: str) -> list[list[_Item]]:
    """What stays together, for each class of its images, in the order in which it is chosen; of several classes the most frequent one."""
    of_image = labels.tolist()
    of_class: dict[int, list[_Item]] = {}
    for key in sorted(images_of, key=lambda key: hashlib.sha256(f"{purpose} {seed} {key}".encode()).digest()):
        item = images_of[key]
        label = of_image[item[0]] if len(item) == 1 else Counter(sorted(of_image[i] for i in item)).most_common(1)[0][0]
        of_class.setdefault(label, []).append(item)
    return [of_class[label] for label in sorted(of_class)]


# The sentences of reports about how a split was made: in full, and in short. Runs of earlier versions store the short sentence, in English.
SAID = {
    ("official", None): ("official, of the data set itself", "official"),
    ("share", "all"): ("{first} of all images, chosen by their content", "{percent}% of all images, by content"),
    ("share", "not_val"): (
        "{first} of the images that are not validation, chosen by their content",
        "{percent}% of the images that are not validation, by content",
    ),
    ("share", "rest"): (
        "{first} of the images that are not test, chosen by their content",
        "{percent}% of the images that are not test, by content",
    ),
    ("fold", "rest"): (
        "fold {first} (from 0) of {second}, chosen by their content",
        "fold {fold} of {folds} of the images that are not test, by content",
    ),
}
SAID_OF_GROUPS = ("; groups stay together", ", groups together")
_FIELDS = {"percent": "[0-9]{1,3}", "fold": "[0-9]{1,6}", "folds": "[0-9]{1,6}"}


def read_made_by(made_by: Any) -> dict[str, Any] | None:
    """Reads how a split was made, from `made_by` in `split.json`, which a stranger may have written.

    Args:
        made_by: The facts, or the sentence that runs of earlier versions store.

    Returns:
        `kind`: "official", a split of the data set itself; "share", with its `fraction`; or "fold", number `fold` (from 0)
        of `folds`. A share has `of`: "all" images; "not_val", those that are not in an official validation split; or the "rest",
        those that are not test. A fold is always `of` the "rest". `groups`: whether images of a group stay together. None if `made_by` is
        none of these.
    """
    if isinstance(made_by, str):
        made_by = _read_sentence(made_by)
    match made_by:
        case {"kind": "official"}:
            facts = {"kind": "official"}
        case {"kind": "share", "of": "all" | "not_val" | "rest" as of, "fraction": int() | float() as fraction}:
            facts = {"kind": "share", "of": of, "fraction": fraction} if 0 <= fraction <= 1 else None
        case {"kind": "fold", "of": "rest", "fold": int() as fold, "folds": int() as folds}:
            facts = {"kind": "fold", "of": "rest", "fold": fold, "folds": folds} if 0 <= fold < folds < 10**6 else None
        case _:
            facts = None
    return facts and {**facts, "groups": made_by.get("groups") is True}


def _read_sentence(sentence: str) -> dict[str, Any] | None:
    alone = sentence.removesuffix(SAID_OF_GROUPS[1])
    for (kind, of), (_, template) in SAID.items():
        pattern = re.sub(r"{(\w+)}", lambda field: f"(?P<{field[1]}>{_FIELDS[field[1]]})", template)
        if found := re.fullmatch(pattern, alone):
            numbers = {name: int(number) for name, number in found.groupdict().items()}
            fraction = {"fraction": numbers["percent"] / 100} if "percent" in numbers else {}
            return {"kind": kind, "of": of, "groups": alone != sentence, **numbers, **fraction}
    return None


def say_made_by(made_by: Any, language: str, in_full: bool = True) -> str | None:
    """The sentence about how a split was made, in the reader's language.

    Args:
        made_by: See `read_made_by`.
        language: Such as "en" or "ja".
        in_full: Else in short, for a page with little room.

    Returns:
        The sentence; None where `made_by` makes no sense.
    """
    facts = read_made_by(made_by)
    if facts is None:
        return None
    form, share = 0 if in_full else 1, f"{facts.get('fraction', 0):.0%}"
    fields = {"first": facts.get("fold", share), "second": facts.get("folds"), "percent": share[:-1], **facts}
    sentence = say(SAID[facts["kind"], facts.get("of")][form], language, **fields)
    return sentence + (say(SAID_OF_GROUPS[form], language) if facts["groups"] else "")


def find_number(name: str) -> str | None:
    """Returns the number in the name of an image of a numbered set, "1729" for "train/1729"; None for any other name.

    The split in such a name is that of the source. It says nothing about the split that a run has made from it, so people are shown
    only the number.
    """
    numbered = re.fullmatch(r"(?:.*/)?(?:train|val|validation|test)/(\d+)", name)
    return numbered[1] if numbered else None
