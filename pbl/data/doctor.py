"""The data doctor: what is wrong with a data set, found before the first training.

Every check is a function of plain arrays that returns findings; `examine` runs them all. Nothing is changed or deleted:
`write_leave_out` writes the names of images that one may leave out.

A finding's severity: "stop", a result on these data would be wrong or no training can begin; "act", look at it before you
train; "note", good to know. The thresholds stand below, each with what it was measured on
(experiments/benchmarks/planted_faults.py plants the faults and writes the table).
"""

import contextlib
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pbl.errors import Sentence
from pbl.languages.doctor import WORDS_OF_DOCTOR
from pbl.statistics import binomial_tail, hanley_mcneil_interval, wilson_interval
from pbl.storage import replacing, write_json

Severity = Literal["stop", "act", "note"]
SEVERITIES: tuple[Severity, ...] = ("stop", "act", "note")

# Conventions, not measured.
FEWEST_IN_CLASS = 5  # with fewer, neither 5 neighbours nor 5-fold cross-validation have one of the class each
FEW_IN_CLASS = 20
FEW_IN_VALIDATION = 50  # an accuracy of 90% then has a 95% interval of 17 points
IMBALANCE = 0.1  # images of the rarest class by those of the commonest
ENLARGED = 0.5  # side in the file by side of the model's input: below it an image is enlarged more than twice
SMALLER_THAN_REST = 0.25  # shorter side by the median of all shorter sides
KEPT_BY_CROP = 0.4  # share of the picture; a 16:9 photograph cut to a square keeps 56%, one of 5:2 40%
GREY_DIFFERS = 0.5  # share of grey images in one class minus that in another

# The ratio test for altered copies. Without copies at most .7% of 600 to 2,400 training images of digits, MNIST and CIFAR-10
# stood below the ratio; on 80 images 2 to 3% may, so it is compared with that of the training images among themselves.
COPY_RATIO = 0.5
COPY_IMAGES, COPY_SHARE, COPY_P = 3, 0.01, 1e-3
# Within train: nearest by tenth nearest distance. Without copies at most 2% of 600 to 2,400 images stood below, 9% of 46; the
# limit is for the lower bound of the share.
COPIES_IN_TRAIN_RATIO, COPIES_IN_TRAIN_RANK, COPIES_IN_TRAIN = 0.4, 10, 0.1
COPY_CAP = 10_000  # images of a split that are compared with all training images
COPY_NULL_CAP = 2_000  # training images that are compared with all others
COPY_SIDE = 32  # larger images are reduced to this side first
# Smoothed, 88% of copies resized to 3/4 and back are found in 2,400 MNIST images and 57% of blurred ones; else 34% and 7%. On
# digits of 8x8 pixels it hides half of the copies that were moved.
SMOOTHED_SIDE = 16

# Lower bounds of the interval: a note, and reason to act. In 160 random subsets of 300 to 3,000 images without a fault none
# came above the second; a quarter less resolution, other brightness or noise in val mostly do.
SHIFT_AUC, SHIFT_LARGE_AUC = 0.6, 0.8
SHIFT_CAP = 5_000  # images of each side

LABEL_CAP = 5_000  # training images whose labels are looked at
# Accuracy above that of guessing, as a share of what is left: below it a classifier accuses nobody. Of 2,380 clean images of
# CIFAR-10 (skill .44) 901 would be suspected; digits and MNIST with 30% wrong labels have .56 to .63, and 8 of 10 are named.
LABEL_SKILL = 0.5
# Of labels that are wrong in training alone: standard errors, and the share of what models know of validation labels that they do not
# know of those of training, since of many images a trifle is sure. Of 157 draws of ten data sets, 280 to 2,300 images, none
# exceeded 3.2; of 72 with 30% wrong labels all exceed both bounds (3.9 to 17; share .35 to .9), of 36 with 10% 17.
HARDER_Z, HARDER_SHARE = 3.5, 0.1
HARDER_CAP = 2_000  # images of either side
HARDER_LEAST = 100  # training images; of 50 digits 1 clean draw in 30 was accused
NEIGHBOURS = 5
# What `examine_closely` finds.
CLOSE_CHECKS = (
    "altered_copies",
    "altered_copies_in_train",
    "shift",
    "labels_unlike_neighbours",
    "labels_unlike_predictions",
    "labels_harder_than_validation",
    "reference_accuracy",
)
REFERENCE_CAP = 2_000


class Part(NamedTuple):
    """The images of one split."""

    pixels: np.ndarray  # uint8 [n, height, width, channels], in the model's shape
    labels: np.ndarray  # int32 [n]
    names: list[str]  # n
    hashes: list[str]  # n, SHA-256 of the decoded original pixels and their shape
    shapes: np.ndarray  # int [n, 3]: height, width, channels of the image in its file


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: The check's word, such as "copies_across".
        severity: "stop", "act" or "note".
        message: One sentence: what, where, how many, and the next step.
        items: Names of the images concerned, the worst first.
        details: Numbers and lists that can be written as JSON; they fill the fields of `template`.
        template: The sentence with `{name}` fields, so that it can be shown in another language.
    """

    check: str
    severity: Severity
    message: str
    items: list[str]
    details: dict[str, Any]
    template: str = ""


def _finding(check: str, severity: Severity, template: str, items: list[str], **details: Any) -> Finding:
    details["examples"] = ", ".join(items[:3]) + (", ..." if len(items) > 3 else "")
    details |= {name: Sentence(details[name]) for name in WORDS_OF_DOCTOR if isinstance(details.get(name), str)}
    return Finding(check, severity, Sentence(template, **details), items, details, template)


def examine(
    splits: Mapping[str, Part],
    class_names: list[str],
    broken: Mapping[str, str],
    official: bool | set[str] = False,
    fast: bool = False,
    fit: str = "crop",
    grouped: bool = False,
) -> list[Finding]:
    """Runs all checks.

    Args:
        splits: "train", "val" and, only where asked for, "test".
        class_names: Name of class 0, 1, ...
        broken: Of each image that could not be decoded, its name and the reason in one line.
        official: Whether the splits came with the data set, or the names of those that did; they are reported, not
            refused, when they share images.
        fast: Only the checks that take seconds on 60,000 images: those of counts, sizes, constant images, exact copies.
        fit: How images are brought to the model's shape: "crop", "pad" or "stretch".
        grouped: Whether images that belong together were kept on one side.

    Returns:
        Findings, "stop" first, then "act", then "note".
    """
    findings = [
        *find_broken(broken),
        *find_absent_classes(splits, class_names),
        *find_small_classes(splits, class_names),
        *find_small_validation(splits),
        *find_imbalance(splits, class_names),
        *find_small_images(splits),
        *find_long_images(splits, fit),
        *find_mixed_modes(splits, class_names),
        *find_constant_images(splits),
        *find_copies_across(splits, official),
        *find_copies_with_other_labels(splits, class_names),
        *find_copies_within(splits),
    ]
    if not fast:
        findings += examine_closely(splits, class_names, official, grouped=grouped)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def examine_closely(
    splits: Mapping[str, Part],
    class_names: list[str],
    official: bool | set[str] = False,
    most: int | None = None,
    grouped: bool = False,
) -> list[Finding]:
    """Runs the checks that take long: altered copies, shift, labels, and the reference accuracy.

    Args:
        splits, class_names, official, grouped: See `examine`.
        most: Each check but that of harder labels looks at so many images of a split at most; by itself it takes more.

    Returns:
        Findings; none where a split is empty or has one class, which `examine` has said.
    """
    if not len(splits["val"].labels) or len(set(splits["train"].labels.tolist())) < 2:
        return []
    few = {} if most is None else {"cap": most}
    findings = [
        *find_altered_copies(splits, official, **few),
        *find_shift(splits, **few),
        *find_labels_unlike_neighbours(splits, class_names, **few),
        *find_labels_unlike_predictions(splits, class_names, **few),
        *find_reference_accuracy(splits, **few),
    ]
    # Images of another kind, or of few groups, may be harder without a wrong label.
    is_other = any(
        finding.check == "altered_copies_in_train" or (finding.check == "shift" and finding.details["split"] == "val")
        for finding in findings
    )
    if not (is_other or grouped):
        copies = {name for finding in findings if finding.check == "altered_copies" for name in finding.items}
        findings += find_labels_harder_than_validation(splits, copies)
    return findings


def _choose(n: int, cap: int, seed: int) -> np.ndarray:
    """At most `cap` of the numbers 0 to n - 1, in a random order; the same each time."""
    return np.random.default_rng(seed).permutation(n)[:cap]


# Counts


def find_broken(broken: Mapping[str, str]) -> list[Finding]:
    """Images that cannot be decoded: empty, truncated, no image. "stop": nobody knows what they would have shown."""
    if not broken:
        return []
    names = sorted(broken)
    return [
        _finding(
            "broken",
            "stop",
            "Image files that cannot be decoded: {images}, such as {examples} ({reason}); copy or download them again, or leave them out.",
            names,
            images=len(names), reason=broken[names[0]], reasons=dict(broken),
        )
    ]  # fmt: skip


def _count_classes(part: Part, class_names: list[str]) -> np.ndarray:
    return np.bincount(part.labels, minlength=len(class_names))


def find_absent_classes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Classes of which a split has no image: "stop" in train and val, "act" in test."""
    findings = []
    for name, part in splits.items():
        absent = [class_names[c] for c in np.flatnonzero(_count_classes(part, class_names) == 0)]
        if absent:
            findings.append(
                _finding(
                    "absent_class",
                    "act" if name == "test" else "stop",
                    "The {split} split has no image of {classes} of its {all_classes} classes ({listed}): add images of them, or remove the classes.",
                    [],
                    split=name, classes=len(absent), all_classes=len(class_names),
                    listed=", ".join(absent[:5]) + (", ..." if len(absent) > 5 else ""), absent=absent,
                )
            )  # fmt: skip
    return findings


def find_small_classes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Classes with few training images: "stop" below 5, "act" below 20."""
    counts = _count_classes(splits["train"], class_names)
    few = {class_names[c]: int(counts[c]) for c in np.argsort(counts, kind="stable") if 0 < counts[c] < FEW_IN_CLASS}
    if not few:
        return []
    rarest = min(few, key=few.get)
    return [
        _finding(
            "small_class",
            "stop" if few[rarest] < FEWEST_IN_CLASS else "act",
            "Classes with fewer than {limit} training images: {classes}, the smallest '{rarest}' with {fewest}; collect more, or merge classes.",
            [],
            classes=len(few), limit=FEW_IN_CLASS, rarest=rarest, fewest=few[rarest], images_by_class=few,
        )
    ]  # fmt: skip


def find_small_validation(splits: Mapping[str, Part]) -> list[Finding]:
    """A validation split of fewer than 50 images: "act", since it decides between models only by chance."""
    n = len(splits["val"].labels)
    if not 0 < n < FEW_IN_VALIDATION:
        return []
    low, high = wilson_interval(round(0.9 * n), n)
    return [
        _finding(
            "small_validation",
            "act",
            "The validation split has {images} images, on which an accuracy of 90% could be anything from {low:.0%} to {high:.0%}: give it a larger share, or compare by cross-validation.",
            [],
            images=n, low=low, high=high,
        )
    ]  # fmt: skip


def find_imbalance(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """A rarest class with less than a tenth of the training images of the commonest: "act"."""
    counts = _count_classes(splits["train"], class_names)
    present = np.flatnonzero(counts)
    if len(present) < 2 or counts[present].min() >= IMBALANCE * counts.max():
        return []
    rare, common = int(present[counts[present].argmin()]), int(counts.argmax())
    return [
        _finding(
            "imbalance",
            "act",
            "The training images are unbalanced: '{common}' has {most}, '{rare}' only {fewest}; look at recall by class and macro F1 rather than accuracy, and try class weights.",
            [],
            common=class_names[common], rare=class_names[rare], most=int(counts[common]), fewest=int(counts[rare]),
            images_by_class={class_names[c]: int(counts[c]) for c in range(len(class_names))},
        )
    ]  # fmt: skip


# Sizes and modes, as they are in the files


def _all_shapes(splits: Mapping[str, Part]) -> tuple[np.ndarray, list[str]]:
    shapes = np.concatenate([np.asarray(part.shapes).reshape(-1, 3) for part in splits.values()])
    return shapes, [name for part in splits.values() for name in part.names]


def find_small_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Images much smaller than the model's input or than the rest.

    "act" where a minority is enlarged more than twice, since such images are blurred and the others are not; "note" where
    the whole data set is, and where images are less than a quarter of the usual size, such as thumbnails.
    """
    shapes, names = _all_shapes(splits)
    if not names:
        return []
    height, width = splits["train"].pixels.shape[1:3]
    scale = np.minimum(shapes[:, 0] / height, shapes[:, 1] / width)
    enlarged = scale < ENLARGED
    findings = []
    if enlarged.any():
        order = [int(i) for i in np.argsort(scale, kind="stable") if enlarged[i]]
        few = enlarged.mean() <= 0.5
        findings.append(
            _finding(
                "small_image",
                "act" if few else "note",
                "Images enlarged more than twice to the model's {height}x{width} pixels: {images} of {all_images}, such as {examples}; "
                + (
                    "replace them by larger ones, leave them out, or take a smaller image_size."
                    if few
                    else "a smaller image_size trains faster and loses nothing."
                ),
                [names[i] for i in order],
                images=len(order), all_images=len(names), height=height, width=width,
                smallest=shapes[order[0]].tolist(),
            )
        )  # fmt: skip
    side = shapes[:, :2].min(axis=1)
    small = (side < SMALLER_THAN_REST * np.median(side)) & ~enlarged
    if small.any():
        order = [int(i) for i in np.argsort(side, kind="stable") if small[i]]
        findings.append(
            _finding(
                "smaller_than_rest",
                "note",
                "Images with less than a quarter of the usual {median} pixels a side: {images}, such as {examples}; look whether they are thumbnails.",
                [names[i] for i in order],
                images=len(order), median=int(np.median(side)), smallest=shapes[order[0]].tolist(),
            )
        )  # fmt: skip
    return findings


def find_long_images(splits: Mapping[str, Part], fit: str = "crop") -> list[Finding]:
    """Images so long or so wide that the crop to the model's shape keeps less than 40% of them: "act".

    Args:
        splits: See `examine`.
        fit: "pad" and "stretch" keep the whole picture, so nothing is found.
    """
    if fit != "crop":
        return []
    shapes, names = _all_shapes(splits)
    height, width = splits["train"].pixels.shape[1:3]
    relative = shapes[:, 1] / shapes[:, 0] * height / width
    kept = np.minimum(relative, 1 / relative)
    order = [int(i) for i in np.argsort(kept, kind="stable") if kept[i] < KEPT_BY_CROP]
    if not order:
        return []
    return [
        _finding(
            "long_image",
            "act",
            "Images of which the crop to {height}x{width} pixels keeps less than {limit:.0%}: {images}, such as {examples}; take fit=pad, or cut out what matters.",
            [names[i] for i in order],
            images=len(order), height=height, width=width, limit=KEPT_BY_CROP, kept=float(kept[order[0]]),
        )
    ]  # fmt: skip


def find_mixed_modes(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Some images grey, some in colour: a "note", and "act" where it differs by class, so that it gives the class away."""
    shapes, names = _all_shapes(splits)
    grey = shapes[:, 2] == 1
    if grey.all() or not grey.any():
        return []
    labels = np.concatenate([part.labels for part in splits.values()])
    shares = {
        class_names[c]: float(grey[labels == c].mean())
        for c in range(len(class_names))
        if (labels == c).sum() >= FEWEST_IN_CLASS
    }
    tells = len(shares) > 1 and max(shares.values()) - min(shares.values()) >= GREY_DIFFERS
    rarer = grey if grey.mean() <= 0.5 else ~grey
    items = [names[i] for i in np.flatnonzero(rarer)]
    details = {"grey": int(grey.sum()), "all_images": len(grey), "grey_share_by_class": shares}
    if not tells:
        return [
            _finding(
                "mixed_modes",
                "note",
                "{grey} of {all_images} images are grey and the others in colour, in all classes alike (the rarer kind: {examples}): channels=1 makes them equal.",
                items,
                **details,
            )
        ]  # fmt: skip
    return [
        _finding(
            "mixed_modes",
            "act",
            "{grey} of {all_images} images are grey, {greyest_share:.0%} of '{greyest}' but {least_share:.0%} of '{least}', so a network can tell these classes by colour alone: take channels=1.",
            items,
            greyest=max(shares, key=shares.get), greyest_share=max(shares.values()), least=min(shares, key=shares.get),
            least_share=min(shares.values()), **details,
        )
    ]  # fmt: skip


def find_constant_images(splits: Mapping[str, Part]) -> list[Finding]:
    """Images of one colour all over: "act", since they teach nothing."""
    items = []
    for part in splits.values():
        constant = _is_constant(part.pixels)
        items += [part.names[i] for i in np.flatnonzero(constant)]
    if not items:
        return []
    return [
        _finding(
            "constant_image",
            "act",
            "Images of one colour all over: {images}, such as {examples}; leave them out, or see what went wrong when they were made.",
            items,
            images=len(items),
        )
    ]  # fmt: skip


# Copies


def _is_official(split: str, official: bool | set[str]) -> bool:
    return official if isinstance(official, bool) else split in official


def find_copies_across(splits: Mapping[str, Part], official: bool | set[str] = False) -> list[Finding]:
    """Images whose pixels stand in two splits: "stop" in a split of our own making, "act" where one is official.

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
        findings.append(
            _finding(
                "copies_across",
                "act" if _is_official(other, official) or _is_official(one, official) else "stop",
                "{images} of {all_images} {split} images ({share:.1%}) stand in {earlier} too, such as {examples}, so the {split} score is too good: leave the copies out of {earlier}.",
                [splits[other].names[i] for i in copied],
                images=len(copied), all_images=len(splits[other].names), share=len(copied) / len(splits[other].names),
                split=other, earlier=one, pairs=pairs,
            )
        )  # fmt: skip
    return findings


def _groups_of_copies(parts: list[Part]) -> list[list[tuple[str, int]]]:
    """Name and label of the images of equal content, one list for each content that occurs more than once."""
    count = Counter(content for part in parts for content in part.hashes)
    groups = defaultdict(list)
    for part in parts:
        for content, name, label in zip(part.hashes, part.names, part.labels.tolist(), strict=True):
            if count[content] > 1:
                groups[content].append((name, label))
    return list(groups.values())


def find_copies_with_other_labels(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Images of equal pixels, in any splits, that carry different labels: "act", one of the labels is wrong."""
    groups = [group for group in _groups_of_copies(list(splits.values())) if len({label for _, label in group}) > 1]
    if not groups:
        return []
    return [
        _finding(
            "copies_with_other_labels",
            "act",
            "Images that occur more than once, with different labels: {contents}, such as {examples}; look at them and keep the right one.",
            [name for group in groups for name, _ in group],
            contents=len(groups), labelled=[class_names[label] for group in groups for _, label in group],
            groups=[[name for name, _ in group] for group in groups],
        )
    ]  # fmt: skip


def find_copies_within(splits: Mapping[str, Part]) -> list[Finding]:
    """Images of equal pixels within one split: a "note", they count double."""
    findings = []
    for split, part in splits.items():
        groups = [[name for name, _ in group] for group in _groups_of_copies([part])]
        if groups:
            groups.sort(key=len, reverse=True)
            findings.append(
                _finding(
                    "copies_within",
                    "note",
                    "Images that occur more than once in {split}: {contents}, in {images} copies, such as {examples}; each counts as often as it is there, so leave out all but one.",
                    [name for group in groups for name in group],
                    split=split, contents=len(groups), images=sum(map(len, groups)), groups=groups,
                )
            )  # fmt: skip
    return findings


def find_altered_copies(
    splits: Mapping[str, Part], official: bool | set[str] = False, cap: int = COPY_CAP, seed: int = 0
) -> list[Finding]:
    """Copies that a hash misses: with noise, moved by a pixel, saved again, resized, mirrored; by the ratio test.

    For each image of val and test: its distance to the nearest training image, divided by that to the second nearest. A
    copy has one very near image, an unusual image none, a usual one many at about the same distance. The distance is that of
    grey pixels at most 32 a side, averaged over 3x3 where the image has 16 a side, mean removed, scaled to norm 1; the
    smallest over the image as it is, moved by one pixel in four directions, and mirrored, on the part that all of these
    share. An image below the ratio .5 is a candidate. What is natural for these data is found by the same test of training
    images among the other ones; candidates in that many images are chance. The verdict needs at least 3 candidates, more
    than 1% of the images, and a binomial p below .001 against the natural share: "stop" in a split of our own making, "act"
    in an official one. Else three or more candidates are a "note".

    Where many training images have another one much nearer than their tenth nearest ("altered_copies_in_train"), the data
    set itself holds altered copies, and a split by chance puts them on both sides. There the ratio test is blind, as the
    natural share is high too, and the second of several copies near. Exact copies are not counted here.

    Args:
        splits: See `examine`.
        official: See `examine`.
        cap: Images of a split that are looked at, chosen by `seed`; all training images are compared with.
        seed: Seed of the choice.
    """
    train = splits["train"]
    first_of = dict(zip(reversed(train.hashes), reversed(range(len(train.hashes))), strict=True))
    unique = np.sort(np.fromiter(first_of.values(), int))
    unique = unique[~_is_constant(train.pixels[unique])]
    if len(unique) < 3 or min(train.pixels.shape[1:3]) < 3:
        return []
    random = np.random.default_rng(seed)

    def compare(pixels: np.ndarray, k: int, own: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Distances to the `k` nearest images of `unique`, and their numbers there."""
        cosines, index = _nearest(
            _variants(_smooth(_reduce(pixels))),
            lambda some: _copy_vectors(_cut_edge(_smooth(_reduce(train.pixels[unique[some]])))),
            len(unique),
            k,
            own,
        )
        return np.sqrt(np.maximum(2 - 2 * cosines, 1e-12)), index  # of two vectors of norm 1; never 0

    chosen = np.sort(random.permutation(len(unique))[:COPY_NULL_CAP])
    distances, nearest = compare(train.pixels[unique[chosen]], min(COPIES_IN_TRAIN_RANK, len(unique) - 1), own=chosen)
    natural, looked_at = int((distances[:, 0] / distances[:, 1] < COPY_RATIO).sum()), len(chosen)
    findings = []
    ratio = distances[:, 0] / distances[:, -1]
    order = [i for i in np.argsort(ratio, kind="stable") if ratio[i] < COPIES_IN_TRAIN_RATIO]
    if wilson_interval(len(order), looked_at)[0] > COPIES_IN_TRAIN:
        findings.append(
            _finding(
                "altered_copies_in_train",
                "act" if _is_official("val", official) else "stop",
                "{share:.0%} of {looked_at} training images look like altered copies of another one, such as {examples}, so a split by chance has copies on both sides: take the originals alone, split, and augment after the split.",
                [train.names[unique[chosen[i]]] for i in order],
                images=len(order), looked_at=looked_at, share=len(order) / looked_at,
                ratios=[round(float(ratio[i]), 3) for i in order],
                pairs=[[train.names[unique[chosen[i]]], train.names[unique[nearest[i, 0]]]] for i in order],
            )
        )  # fmt: skip
    natural_share = (natural + 1) / (looked_at + 2)  # never 0, which no test could be made against
    for split in ("val", "test"):
        if split not in splits:
            continue
        part = splits[split]
        candidates = np.array([i for i, content in enumerate(part.hashes) if content not in first_of], int)
        candidates = candidates[~_is_constant(part.pixels[candidates])]
        index = np.sort(random.permutation(candidates)[:cap])
        if not len(index):
            continue
        distances, nearest = compare(part.pixels[index], 2, own=None)
        ratio = distances[:, 0] / distances[:, 1]
        order = [i for i in np.argsort(ratio, kind="stable") if ratio[i] < COPY_RATIO]
        found, n = len(order), len(index)
        if found < COPY_IMAGES:
            continue
        p = binomial_tail(found, n, natural_share)
        verdict = found / n > COPY_SHARE and p < COPY_P
        findings.append(
            _finding(
                "altered_copies",
                "note" if not verdict else "act" if _is_official(split, official) else "stop",
                "{images} of {looked_at} {split} images ({share:.1%}) look like altered copies of training images, such as {examples}; within train the share is {natural_share:.1%}: "
                + (
                    "look at the pairs, leave the copies out of train, and expect the accuracy to fall."
                    if verdict
                    else "not clearly more, so either chance or copies all over the data set; look at the pairs."
                ),
                [part.names[index[i]] for i in order],
                images=found, looked_at=n, all_images=len(part.names), cap=cap, share=found / n,
                natural_share=natural / looked_at, natural_looked_at=looked_at, p=p, split=split, earlier="train",
                ratios=[round(float(ratio[i]), 3) for i in order],
                pairs=[[train.names[unique[nearest[i, 0]]], part.names[index[i]]] for i in order],
            )
        )  # fmt: skip
    return findings


def _is_constant(pixels: np.ndarray) -> np.ndarray:
    """Whether all pixels of an image are equal, `bool [n]`; one after the other, so that memory is that of one image."""
    return np.array([bool((image == image[0, 0]).all()) for image in pixels], bool)


def _reduce(pixels: np.ndarray, grey: bool = True) -> np.ndarray:
    """Makes `uint8 [n, height, width, channels]` grey and at most 32 pixels a side: float32 of the same rank."""
    if max(pixels.shape[1:3]) > COPY_SIDE:
        from PIL import Image

        size = tuple(min(side, COPY_SIDE) for side in (pixels.shape[2], pixels.shape[1]))
        pixels = np.stack(
            [
                np.asarray(
                    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).resize(
                        size, Image.Resampling.BOX
                    )
                )
                for image in pixels
            ]
        ).reshape(len(pixels), size[1], size[0], -1)
    if grey and pixels.shape[-1] == 3:
        return (pixels.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return pixels.astype(np.float32)


def _vectors(images: np.ndarray) -> np.ndarray:
    """Removes each image's mean and scales it to norm 1: float32 [n, height * width * channels]."""
    vectors = images.reshape(len(images), -1)
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _smooth(images: np.ndarray) -> np.ndarray:
    """Averages over 3x3 pixels where the image has 16 a side: what resizing and blurring leave is then alike."""
    height, width = images.shape[1:3]
    if min(height, width) < SMOOTHED_SIDE:
        return images
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(padded[:, y : y + height] for y in range(3))
    return sum(rows[:, :, x : x + width] for x in range(3)) / 9


def _copy_vectors(images: np.ndarray) -> np.ndarray:
    """Vectors of the images; of smoothed ones every second row and column says as much, at a quarter of the work."""
    return _vectors(images[:, ::2, ::2] if min(images.shape[1:3]) >= SMOOTHED_SIDE - 2 else images)


def _cut_edge(images: np.ndarray) -> np.ndarray:
    return images[:, 1:-1, 1:-1]


def _variants(images: np.ndarray) -> np.ndarray:
    """The vectors of the images without their edge, moved by one pixel in four directions, and mirrored: [6, n, d]."""
    height, width = images.shape[1] - 2, images.shape[2] - 2
    moved = [images[:, y : y + height, x : x + width] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    return np.stack([_copy_vectors(variant) for variant in (*moved, _cut_edge(images)[:, :, ::-1])])


def _nearest(
    queries: np.ndarray, reference: Callable[[slice], np.ndarray], size: int, k: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the `k` nearest reference vectors of each query by cosine, the largest over the query's variants.

    In blocks, so that memory stays below some 200 MB and the work is that of matrix products.

    Args:
        queries: `float32 [variants, n, d]`, of norm 1.
        reference: Gives the vectors of a slice, `float32 [m, d]`, of norm 1.
        size: Their count.
        k: At most `size`, and less where `own` is given.
        own: `int [n]`, the number of each query in the reference, which is passed over.

    Returns:
        Cosines, largest first, and numbers, both `[n, k]`.
    """
    n = queries.shape[1]
    best = np.full((n, k), -np.inf, np.float32)
    best_index = np.full((n, k), -1)
    for begin in range(0, size, 4096):
        block = reference(slice(begin, begin + 4096))
        for start in range(0, n, 2048):
            rows = slice(start, start + 2048)
            cosines = queries[0, rows] @ block.T
            for variant in queries[1:, rows]:
                np.maximum(cosines, variant @ block.T, out=cosines)
            line = np.arange(len(cosines))
            if own is not None:
                inside = (own[rows] >= begin) & (own[rows] < begin + len(block))
                cosines[line[inside], own[rows][inside] - begin] = -np.inf
            for _ in range(min(k, len(block))):
                column = cosines.argmax(axis=1)
                value = cosines[line, column]
                cosines[line, column] = -np.inf
                # Takes the place of the worst so far, where it is better.
                worst = best[rows].argmin(axis=1)
                better = value > best[rows][line, worst]
                best[start + line[better], worst[better]] = value[better]
                best_index[start + line[better], worst[better]] = begin + column[better]
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(best_index, order, axis=1)


# Shift


def measure_images(pixels: np.ndarray) -> np.ndarray:
    """Twelve fixed statistics of each image, and its mean colours where it has any.

    Args:
        pixels: `uint8 [n, height, width, channels]`.

    Returns:
        `float64 [n, 12 or 15]`: mean, standard deviation, smallest, largest, five quantiles, mean absolute horizontal and
        vertical difference of neighbours, mean absolute Laplacian, then the mean of each colour.
    """
    grey = pixels.astype(np.float32).mean(axis=-1)
    flat = grey.reshape(len(grey), -1)
    horizontal, vertical = np.abs(np.diff(grey, axis=2)), np.abs(np.diff(grey, axis=1))
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner

    def mean(differences: np.ndarray) -> np.ndarray:
        return differences.mean(axis=(1, 2)) if differences[0].size else np.zeros(len(differences))

    columns = [
        flat.mean(axis=1),
        flat.std(axis=1),
        flat.min(axis=1),
        flat.max(axis=1),
        *np.quantile(flat, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1),
        mean(horizontal),
        mean(vertical),
        mean(np.abs(laplacian)),
    ]
    if pixels.shape[-1] == 3:
        columns += list(pixels.mean(axis=(1, 2)).T)
    return np.stack(columns, axis=1).astype(np.float64)


def find_shift(splits: Mapping[str, Part], cap: int = SHIFT_CAP, seed: int = 0) -> list[Finding]:
    """Whether a simple classifier tells the images of a split from those of train, by fixed statistics of the image.

    A classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"): logistic regression,
    the area under its ROC curve by 5-fold cross-validation. A lower bound of the area above .60 is a "note", since small
    differences that harm nobody are found too and no accuracy is known yet; above .80 it is "act".

    Args:
        splits: See `examine`.
        cap: Images of either side that are looked at, chosen by `seed`.
        seed: Seed of the choice and of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def statistics(part: Part) -> np.ndarray:
        index = _choose(len(part.labels), cap, seed)
        return np.concatenate(
            [measure_images(part.pixels[some]) for some in np.array_split(index, len(index) // 500 + 1)]
        )

    findings = []
    train = statistics(splits["train"])
    for split in ("val", "test"):
        if split not in splits or min(len(splits[split].labels), len(train)) < 2 * NEIGHBOURS:
            continue
        other = statistics(splits[split])
        values = np.concatenate([train, other])
        is_other = np.repeat([0, 1], [len(train), len(other)])
        with _fitting():
            probability = cross_val_predict(
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced")),
                values,
                is_other,
                cv=StratifiedKFold(5, shuffle=True, random_state=seed),
                method="predict_proba",
            )[:, 1]
        auc = float(roc_auc_score(is_other, probability))
        low, high = hanley_mcneil_interval(auc, len(other), len(train))
        if low <= SHIFT_AUC:
            continue
        # The statistic that differs most, in standard deviations of train, tells where to look.
        difference = (other.mean(axis=0) - train.mean(axis=0)) / np.maximum(train.std(axis=0), 1e-9)
        most = int(np.abs(difference).argmax())
        words = "mean brightness,contrast,darkest pixel,brightest pixel,5% quantile,25% quantile,median brightness,75% quantile,95% quantile,horizontal difference,vertical difference,sharpness,mean red,mean green,mean blue".split(
            ","
        )
        order = np.argsort(-probability[len(train) :], kind="stable")
        index = _choose(len(splits[split].labels), cap, seed)
        findings.append(
            _finding(
                "shift",
                "act" if low > SHIFT_LARGE_AUC else "note",
                "A simple classifier tells {split} images from training images with an area under the ROC curve of {auc:.2f} (at least {low:.2f}; equal ones: .50), most plainly by {statistic}: "
                "look whether both were made and read in the same way, such as 0 to 255, colour order, size.",
                [splits[split].names[index[i]] for i in order[:40]],
                split=split, auc=auc, low=low, high=high, images=len(other), train_images=len(train),
                statistic=words[most], difference=float(difference[most]),
            )
        )  # fmt: skip
    return findings


# Labels


def _skill(correct: float, labels: np.ndarray) -> float:
    """Accuracy above that of always naming the commonest class, as a share of what is left."""
    guess = np.bincount(labels).max() / len(labels)
    return float((correct - guess) / max(1 - guess, 1e-9))


def _neighbour_labels(part: Part, index: np.ndarray, train: Part, own: bool) -> np.ndarray:
    """Labels of the 5 nearest training images of `part`'s images `index`, `int [n, 5]`, an image itself passed over."""
    queries = _vectors(_reduce(part.pixels[index], grey=False))[None]
    _, nearest = _nearest(
        queries,
        lambda some: _vectors(_reduce(train.pixels[some], grey=False)),
        len(train.labels),
        NEIGHBOURS,
        index if own else None,
    )
    return train.labels[nearest]


def _majority(labels: np.ndarray, classes: int) -> np.ndarray:
    """The commonest label of each row; of two as common, that of the nearest."""
    votes = np.zeros((len(labels), classes))
    for rank, column in enumerate(labels.T):
        votes[np.arange(len(labels)), column] += 1 - 1e-3 * rank
    return votes.argmax(axis=1)


def find_labels_unlike_neighbours(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Training images whose five nearest training images all carry one other label: a "note", and pictures to look at.

    Nothing is said where neighbours know little of the classes (skill below .5), as on photographs.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`; all are compared with.
        seed: Seed of the choice.
    """
    train = splits["train"]
    if len(train.labels) <= NEIGHBOURS:
        return []
    index = np.sort(_choose(len(train.labels), cap, seed))
    neighbours = _neighbour_labels(train, index, train, own=True)
    labels = train.labels[index]
    skill = _skill(float((_majority(neighbours, len(class_names)) == labels).mean()), labels)
    agree = (neighbours == neighbours[:, :1]).all(axis=1) & (neighbours[:, 0] != labels)
    suspected = np.flatnonzero(agree)
    if skill <= LABEL_SKILL or not len(suspected):
        return []
    return [
        _finding(
            "labels_unlike_neighbours",
            "note",
            "Of {looked_at} training images {images} ({share:.1%}) have five nearest images that all belong to one other class, such as {examples}: look at their labels.",
            [train.names[index[i]] for i in suspected],
            looked_at=len(index), images=len(suspected), share=len(suspected) / len(index), skill=skill,
            labelled=[class_names[labels[i]] for i in suspected],
            suggested=[class_names[neighbours[i, 0]] for i in suspected],
        )
    ]  # fmt: skip


def rank_label_issues(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Finds probable label errors by confident learning.

    A class's threshold is the mean probability of the class over the images that carry its label. An image counts as one of
    class j if its probability of j is at least j's threshold (of several, the most probable); where j is not its label, the
    image is suspected. Source: C. Northcutt, L. Jiang, I. Chuang (2021), JAIR 70, 1373-1411, equations 1 and 2; the method
    "C: confident joint", ranked by normalised margin.

    Args:
        probabilities: `float [n, classes]`, from models that did not see the image.
        labels: `int [n]`.

    Returns:
        Numbers of the suspected images, the most suspicious first.
    """
    classes = probabilities.shape[1]
    threshold = np.array(
        [probabilities[labels == c, c].mean() if (labels == c).any() else np.inf for c in range(classes)]
    )
    confident = np.where(probabilities >= threshold, probabilities, -np.inf)
    guessed = confident.argmax(axis=1)
    suspected = np.flatnonzero(np.isfinite(confident.max(axis=1)) & (guessed != labels))
    margin = probabilities[suspected, labels[suspected]] - probabilities[suspected, guessed[suspected]]
    return suspected[np.argsort(margin, kind="stable")]


def describe_images(pixels: np.ndarray) -> np.ndarray:
    """Describes images by the directions of their edges and by their colours, in 4 x 4 cells of the picture.

    Histograms of oriented gradients (N. Dalal, B. Triggs 2005, CVPR, section 6: 9 directions without sign, each gradient
    shared by the two nearest, weighed by its size, L2-Hys normalised), here over the whole picture; and mean colours. On 1,600
    CIFAR-10 images of 16 x 16 a logistic regression on them reaches 44%, on 50 principal components 33%, 5 neighbours 26%.

    Args:
        pixels: `uint8 [n, height, width, 1 or 3]`; reduced to 32 pixels a side where larger.

    Returns:
        `float32 [n, 16 * (9 + channels)]`.
    """
    cells, directions = 4, 9
    images = _reduce(pixels, grey=False) / 255

    def sum_cells(values: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            side = values.shape[axis]
            begins = np.minimum(np.arange(cells) * side // cells, side - 1)
            values = np.add.reduceat(values, begins, axis=axis)
        return values

    grey = images.mean(axis=-1)
    y, x = np.zeros_like(grey), np.zeros_like(grey)
    y[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    x[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    size, place = np.hypot(x, y), np.arctan2(y, x) % np.pi / np.pi * directions
    lower = np.floor(place)
    share = place - lower
    histograms = [
        sum_cells(size * ((lower % directions == at) * (1 - share) + ((lower + 1) % directions == at) * share))
        for at in range(directions)
    ]

    def normalise(values: np.ndarray) -> np.ndarray:
        return values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-6)

    edges = normalise(np.minimum(normalise(np.stack(histograms, axis=-1).reshape(len(images), -1)), 0.2))
    colours = sum_cells(images) / sum_cells(np.ones_like(images[:1]))
    return np.concatenate([edges, colours.reshape(len(images), -1)], axis=1).astype(np.float32)


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Within it linear algebra runs on one thread: for products as small as these several mostly wait for each other.

    And scikit-learn gives SciPy an option that newer ones, such as Colab's, warn that they do not know.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unknown solver options")
        yield


def _simple_classifier() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=1000))


def find_labels_unlike_predictions(
    splits: Mapping[str, Part], class_names: list[str], cap: int = LABEL_CAP, seed: int = 0
) -> list[Finding]:
    """Training images that cross-validated models confidently give to another class: a "note", and pictures to look at.

    Logistic regression on `describe_images`, 5-fold; then `rank_label_issues`. Nothing is said where the models know little
    of the classes (skill below .5), as on many photographs.

    Args:
        splits: See `examine`.
        class_names: Name of each class.
        cap: Training images that are looked at, chosen by `seed`.
        seed: Seed of the choice and of the folds.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    train = splits["train"]
    index = np.sort(_choose(len(train.labels), cap, seed))
    # Each fold needs every class; a class with fewer images has been reported.
    enough = np.bincount(train.labels[index], minlength=len(class_names)) >= FEWEST_IN_CLASS
    index = index[enough[train.labels[index]]]
    if len(index) < 4 * NEIGHBOURS or enough.sum() < 2:
        return []
    labels = train.labels[index]
    classes, numbers = np.unique(labels, return_inverse=True)
    with _fitting():
        probabilities = cross_val_predict(
            _simple_classifier(),
            describe_images(train.pixels[index]),
            numbers,
            cv=StratifiedKFold(5, shuffle=True, random_state=seed),
            method="predict_proba",
        )
    skill = _skill(float((probabilities.argmax(axis=1) == numbers).mean()), numbers)
    suspected = rank_label_issues(probabilities, numbers)
    if skill <= LABEL_SKILL or not len(suspected):
        return []
    return [
        _finding(
            "labels_unlike_predictions",
            "note",
            "Of {looked_at} training images {images} ({share:.1%}) are confidently given to another class by models that did not see them, such as {examples}: look at their labels.",
            [train.names[index[i]] for i in suspected],
            looked_at=len(index), images=len(suspected), share=len(suspected) / len(index), skill=skill,
            labelled=[class_names[labels[i]] for i in suspected],
            suggested=[class_names[classes[probabilities[i].argmax()]] for i in suspected],
        )
    ]  # fmt: skip


def find_labels_harder_than_validation(
    splits: Mapping[str, Part], copies: Collection[str] = (), cap: int = HARDER_CAP, seed: int = 0
) -> list[Finding]:
    """Labels of training images that simple models find harder to tell than those of validation images: an "act".

    Five models learn from four fifths of the training images each, and from their mirror images: logistic regression on
    `describe_images` with the features of a Gaussian kernel (C. Williams, M. Seeger 2001, NIPS, "Using the Nystroem method").
    The fifth that a model did not see, and validation, which none saw, are as hard where both were drawn and labelled alike.
    Losses are compared class by class, since the shares of classes may differ.

    Args:
        splits: See `examine`.
        copies: Names of validation images that are copies of training images; those that are exact ones are known.
        cap: Images of either side that are looked at, chosen by `seed`.
        seed: Seed of the choice, of the folds and of the kernel's features.
    """
    import pandas as pd
    from sklearn.model_selection import StratifiedKFold

    folds = 5
    train, val = splits["train"], splits["val"]
    index, of_val = (_choose(len(part.labels), cap, seed) for part in (train, val))
    # As many of a class in each fold: else the models have learned from fewer images of the class that they are asked for.
    place = pd.Series(index).groupby(train.labels[index])
    index = np.sort(index[place.cumcount() < place.transform("size") // folds * folds])
    seen = set(train.hashes)
    of_val = np.sort([i for i in of_val if val.hashes[i] not in seen and val.names[i] not in copies]).astype(int)
    # Two of a class, that its losses have a variance.
    classes = np.intersect1d(train.labels[index], np.flatnonzero(np.bincount(val.labels[of_val]) >= 2))
    index, of_val = index[np.isin(train.labels[index], classes)], of_val[np.isin(val.labels[of_val], classes)]
    if len(index) < HARDER_LEAST or len(of_val) < FEW_IN_VALIDATION or len(classes) < 2:
        return []
    labels, val_labels = train.labels[index], val.labels[of_val]
    small = _reduce(train.pixels[index], grey=False)
    images, mirrored = describe_images(small), describe_images(small[:, :, ::-1])
    val_images = describe_images(val.pixels[of_val])
    losses, val_losses = np.zeros(len(index)), np.zeros(len(of_val))
    with _fitting():
        for learned, left_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(images, labels):
            model = _kernel_classifier(images.shape[1], 2 * len(learned), seed)
            model.fit(np.concatenate([images[learned], mirrored[learned]]), np.tile(labels[learned], 2))
            losses[left_out] = _losses(model, images[left_out], labels[left_out])
            val_losses += _losses(model, val_images, val_labels) / folds
    shares = np.bincount(val_labels)[classes] / len(val_labels)
    sides = [pd.Series(values).groupby(of) for values, of in ((losses, labels), (val_losses, val_labels))]
    loss, val_loss = (float(shares @ side.mean()) for side in sides)
    error = float(sum(shares**2 @ (side.var() / side.size()) for side in sides)) ** 0.5
    z, known = (loss - val_loss) / max(error, 1e-12), float(-(shares * np.log(shares)).sum()) - val_loss
    if known <= 0 or z <= HARDER_Z or loss - val_loss <= HARDER_SHARE * known:
        return []
    return [
        _finding(
            "labels_harder_than_validation",
            "act",
            "Simple models have a loss of {loss:.2f} on {images} training images that they did not learn from and of {val_loss:.2f} on {val_images} validation images, more than by chance: look at the labels of training images; some are wrong, or validation is easier.",
            [],
            loss=loss, val_loss=val_loss, images=len(index), val_images=len(of_val), z=z, share=(loss - val_loss) / known,
        )
    ]  # fmt: skip


def _kernel_classifier(features: int, images: int, seed: int) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    kernel = Nystroem(gamma=0.4 / features, n_components=min(400, images), random_state=seed)
    return make_pipeline(StandardScaler(), kernel, LogisticRegression(C=0.3, max_iter=1000))


def _losses(model: Any, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The negative logarithm of the probability that each image's label gets, of .001 at least: `float [n]`."""
    of_label = model.predict_proba(images)[np.arange(len(labels)), np.searchsorted(model.classes_, labels)]
    return -np.log(np.maximum(of_label, 1e-3))


def find_reference_accuracy(splits: Mapping[str, Part], cap: int = REFERENCE_CAP, seed: int = 0) -> list[Finding]:
    """What two simple methods reach on validation, the better of 5 nearest neighbours and a linear classifier: a "note".

    Args:
        splits: See `examine`.
        cap: Validation images that are looked at, chosen by `seed`; the neighbours are sought among all training images, the
            logistic regression on `describe_images` learns from five times as many as are looked at.
        seed: Seed of the choice.
    """
    train, val = splits["train"], splits["val"]
    if len(train.labels) < NEIGHBOURS or not len(val.labels):
        return []
    index = np.sort(_choose(len(val.labels), cap, seed))
    classes = int(max(train.labels.max(), val.labels.max())) + 1
    labels = val.labels[index]
    correct = {"5 nearest neighbours": _majority(_neighbour_labels(val, index, train, own=False), classes) == labels}
    learned = np.sort(_choose(len(train.labels), 5 * cap, seed))
    if len(set(train.labels[learned].tolist())) > 1:
        with _fitting():
            classifier = _simple_classifier().fit(describe_images(train.pixels[learned]), train.labels[learned])
        correct["a linear classifier of edges and colours"] = (
            classifier.predict(describe_images(val.pixels[index])) == labels
        )
    method = max(correct, key=lambda name: correct[name].sum())
    right = int(correct[method].sum())
    low, high = wilson_interval(right, len(index))
    return [
        _finding(
            "reference_accuracy",
            "note",
            "The better of two simple methods, {method}, reaches {accuracy:.1%} on validation ({low:.1%} to {high:.1%}, {images} images): a network below that has a fault, or needs more training.",
            [],
            method=method, accuracy=right / len(index), low=low, high=high, images=len(index),
        )
    ]  # fmt: skip


# What is written


def write_report(findings: list[Finding], splits: Mapping[str, Part], folder: str | Path) -> list[Path]:
    """Writes `data_check.json`, and for each check that names images `figures/data_check_<check>.png`.

    Args:
        findings: From `examine`.
        splits: Whose images are drawn.
        folder: Such as that of a run; made where it is not there.

    Returns:
        The files written.
    """
    from pbl.evaluation.figures import plot_gallery

    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    entries = [{key: value for key, value in asdict(finding).items() if key != "template"} for finding in findings]
    report = {"images": {split: len(part.labels) for split, part in splits.items()}, "findings": entries}
    write_json(folder / "data_check.json", report)
    files = [folder / "data_check.json"]
    place = {name: (part, i) for part in splits.values() for i, name in enumerate(part.names)}
    for check in dict.fromkeys(finding.check for finding in findings):
        captions = [caption for finding in findings if finding.check == check for caption in _captions(finding)]
        captions = [(name, text) for name, text in captions if name in place]
        if not captions:
            continue
        figure = plot_gallery(
            [place[name][0].pixels[place[name][1]] for name, _ in captions],
            [text for _, text in captions],
            check.replace("_", " "),
        )
        file = folder / "figures" / f"data_check_{check}.png"
        with replacing(file) as temporary:
            figure.savefig(temporary, dpi=120)
        files.append(file)
    return files


def _captions(finding: Finding) -> Iterator[tuple[str, str]]:
    """Name and caption of each image in a finding's gallery; the images of a pair stand side by side."""
    if "pairs" in finding.details:
        for number, pair in enumerate(finding.details["pairs"]):
            ratios = finding.details.get("ratios")
            above = f"pair {number + 1}" + (f", ratio {ratios[number]:.2f}" if ratios else "")
            yield from ((name, f"{above}\n{name}") for name in pair)
    elif "labelled" in finding.details:
        suggested = finding.details.get("suggested")
        for number, (name, label) in enumerate(zip(finding.items, finding.details["labelled"], strict=True)):
            yield name, f"{name}\nlabelled {label}" + (f"\nperhaps {suggested[number]}" if suggested else "")
    else:
        yield from ((name, name) for name in finding.items)


def find_leave_out(findings: list[Finding]) -> list[str]:
    """Returns the names of images to leave out, sorted: broken and constant ones, training images whose copies stand in val
    or test, and of exact copies within train all but the first. Suspected labels are never among them: a person decides.

    Args:
        findings: From `examine`.
    """
    names: set[str] = set()
    for finding in findings:
        if finding.check in ("broken", "constant_image"):
            names.update(finding.items)
        elif finding.check in ("copies_across", "altered_copies") and finding.details["earlier"] == "train":
            if finding.severity != "note":
                names.update(train for train, _ in finding.details["pairs"])
        elif finding.check == "copies_within" and finding.details["split"] == "train":
            names.update(name for group in finding.details["groups"] for name in group[1:])
    return sorted(names)


def write_leave_out(findings: list[Finding], file: str | Path) -> list[str]:
    """Writes what `find_leave_out` returns, one name a line, UTF-8; the images themselves are not touched.

    Args:
        findings: From `examine`.
        file: The file to write.

    Returns:
        The names.
    """
    names = find_leave_out(findings)
    with replacing(Path(file)) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return names
