"""Copies of equal pixels."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

from pbl.data.doctor.finding import Finding, Part, is_official, one_finding


def find_copies_across(splits: Mapping[str, Part], official: bool | set[str] = False) -> list[Finding]:
    """Images whose pixels are in two splits: "stop" if we made the split, "act" if one of them is official.

    Args:
        splits: See `examine`.
        official: See `examine`.
    """
    findings = []
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if one not in splits or other not in splits:
            continue
        names_of = defaultdict(list)
        for content, name in zip(splits[one].hashes, splits[one].names, strict=True):
            names_of[content].append(name)
        copied = [i for i, content in enumerate(splits[other].hashes) if content in names_of]
        if not copied:
            continue
        pairs = [[name, splits[other].names[i]] for i in copied for name in names_of[splits[other].hashes[i]]]
        findings += one_finding(
            "copies_across",
            "act" if is_official(other, official) or is_official(one, official) else "stop",
            "Exact copies: {images} of {all_images} {split} images ({share:.2%}) are in {earlier} too, such as {examples}: the {split} score is likely too good, so leave the copies out of {earlier} (check --leave-out FILE).",
            [splits[other].names[i] for i in copied],
            images=len(copied),
            all_images=len(splits[other].names),
            share=len(copied) / len(splits[other].names),
            split=other,
            earlier=one,
            pairs=pairs,
        )
    return findings


def _groups_of_copies(parts: list[Part]) -> list[list[tuple[str, int]]]:
    """Name and label of images of equal content: one list for each content that occurs more than once."""
    count = Counter(content for part in parts for content in part.hashes)
    groups = defaultdict(list)
    for part in parts:
        for content, name, label in zip(part.hashes, part.names, part.labels.tolist(), strict=True):
            if count[content] > 1:
                groups[content].append((name, label))
    return list(groups.values())


def find_differing(splits: Mapping[str, Part], differ: Callable[[Part, int, Part, int], bool]) -> list[list[str]]:
    """Names of images of equal pixels, in any splits, of which one has other masks or boxes than the first: a list for each content.

    Args:
        splits: See `examine`.
        differ: Whether two images differ; each is given as a part and its place in it.
    """
    places = defaultdict(list)
    for part in splits.values():
        for at, content in enumerate(part.hashes):
            places[content].append((part, at))
    return [
        [part.names[at] for part, at in copies]
        for copies in places.values()
        if any(differ(*copies[0], *other) for other in copies[1:])
    ]


def find_copies_with_other_labels(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Images of equal pixels, in any splits, that carry different labels: "act", one of the labels is wrong."""
    groups = [group for group in _groups_of_copies(list(splits.values())) if len({label for _, label in group}) > 1]
    if not groups:
        return []
    return one_finding(
        "copies_with_other_labels",
        "act",
        "Images that occur more than once, with different labels: {contents}, such as {examples}; look at them and keep the right label.",
        [name for group in groups for name, _ in group],
        contents=len(groups),
        labelled=[class_names[label] for group in groups for _, label in group],
        groups=[[name for name, _ in group] for group in groups],
    )


def find_copies_within(splits: Mapping[str, Part]) -> list[Finding]:
    """Images of equal pixels within one split: a "note", they count double."""
    findings = []
    for split, part in splits.items():
        groups = [[name for name, _ in group] for group in _groups_of_copies([part])]
        if groups:
            groups.sort(key=len, reverse=True)
            findings += one_finding(
                "copies_within",
                "note",
                "Images that occur more than once in {split}: {contents}, in {images} copies, such as {examples}; each counts as often as it occurs, so leave out all but one.",
                [name for group in groups for name in group],
                split=split,
                contents=len(groups),
                images=sum(map(len, groups)),
                groups=groups,
            )
    return findings
