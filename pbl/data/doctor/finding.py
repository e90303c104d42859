"""What a check gets, and what it returns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from pbl.errors import Sentence
from pbl.languages import WORDS_OF_DOCTOR

Severity = Literal["stop", "act", "note"]
SEVERITIES: tuple[Severity, ...] = ("stop", "act", "note")


class Part(NamedTuple):
    """The images of one split."""

    pixels: np.ndarray  # uint8 [n, height, width, channels], in the model's shape
    labels: np.ndarray  # int32 [n]
    names: list[str]  # n
    hashes: list[str]  # n, SHA-256 of the decoded original pixels and their shape
    shapes: np.ndarray  # int [n, 3]: height, width, channels of the image in its file
    groups: list[str] | None = (
        None  # n, the word of each image's group, "" for one that is in none; None where none are set
    )
    masks: np.ndarray | None = None  # uint8 [n, height, width], the class of each pixel; None where images have classes
    boxes: np.ndarray | None = None  # float32 [n, most, 5], see `pbl.data.boxes`; None where images have none
    box_faults: np.ndarray | None = None  # int32 [n, 5], how many of them were cut or left out; None likewise

    def take(self, index: np.ndarray) -> "Part":
        """The images of these numbers."""
        names, hashes = ([words[i] for i in index] for words in (self.names, self.hashes))
        groups = None if self.groups is None else [self.groups[i] for i in index]
        masks, boxes, faults = (None if of is None else of[index] for of in (self.masks, self.boxes, self.box_faults))
        pixels, labels, shapes = self.pixels[index], self.labels[index], self.shapes[index]
        return Part(pixels, labels, names, hashes, shapes, groups, masks, boxes, faults)

    @property
    def units(self) -> np.ndarray:
        """The number of each image's group, `int [n]`; an image in no group has a number of its own. Different units are independent."""
        own = range(len(self.names))
        words = [group or number for group, number in zip(self.groups or [""] * len(self.names), own, strict=True)]
        number_of = {word: number for number, word in enumerate(dict.fromkeys(words))}
        return np.array([number_of[word] for word in words], int)


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: The check's word, such as "copies_across".
        severity: "stop", "act" or "note".
        message: One sentence: what, where, how many, and the next step.
        items: Names of the images concerned, the worst first.
        details: Numbers and lists that can be written as JSON; they fill in the fields of `template`.
        template: The sentence with `{name}` fields, so that it can be shown in another language.
    """

    check: str
    severity: Severity
    message: str
    items: list[str]
    details: dict[str, Any]
    template: str = ""


def list_names(names: Sequence[str], most: int = 5) -> str:
    """The first names, followed by three dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def one_finding(
    check: str, severity: Severity, template: str, items: Sequence[str] = (), **details: Any
) -> list[Finding]:
    """Returns a list of one finding; a check that finds nothing returns an empty one.

    Args:
        check, severity, template: See `Finding`.
        items: Names of the images concerned, the worst first; the first three fill the field `examples`.
        **details: The other fields of `template`, and anything else that the file contains.
    """
    details["examples"] = list_names(items, 3)
    details |= {name: Sentence(details[name]) for name in WORDS_OF_DOCTOR if isinstance(details.get(name), str)}
    return [Finding(check, severity, Sentence(template, **details), list(items), details, template)]


def is_official(split: str, official: bool | set[str]) -> bool:
    """Whether a split came with the data set; for `official` see `examine`."""
    return official if isinstance(official, bool) else split in official


def find_leak(findings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the data doctor found about altered copies on both sides of the split: then no score can be trusted."""
    for finding in findings:
        if (
            finding["check"] in ("altered_copies", "altered_copies_in_train", "copies_across")
            and finding["severity"] != "note"
        ):
            return {"check": finding["check"], "items": len(finding["items"])}
    return None


def find_shift(findings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How validation images can be told from training images, if the data doctor found that: `auc`, and its `statistic`."""
    for finding in findings:
        if finding["check"] == "shift" and finding["details"]["split"] == "val":
            return {name: finding["details"][name] for name in ("auc", "statistic")}
    return None
