"""Copies: of equal pixels, and altered ones."""

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from pbl.data.doctor.finding import Finding, Part, is_official, one_finding
from pbl.data.doctor.vectors import find_nearest, is_constant, reduce, vectors
from pbl.statistics import binomial_tail, wilson_interval

# The ratio test for altered copies. Without copies, at most .7% of 600 to 2,400 training images of digits, MNIST and CIFAR-10
# were below the ratio, but 2 to 3% of 80 images; so the share is compared with that of the training images among themselves.
COPY_RATIO = 0.5
COPY_IMAGES, COPY_SHARE, COPY_P = 3, 0.01, 1e-3
# Within train: the nearest distance divided by the tenth nearest. Without copies, at most 2% of 600 to 2,400 images were below,
# and 9% of 46. The limit is for the lower bound of the share.
COPIES_IN_TRAIN_RATIO, COPIES_IN_TRAIN_RANK, COPIES_IN_TRAIN = 0.4, 10, 0.1
COPY_CAP = 10_000  # images of a split that are compared with all training images
COPY_NULL_CAP = 2_000  # training images that are compared with all others
# With smoothing, 88% of copies that were resized to 3/4 and back are found in 2,400 MNIST images, and 57% of blurred ones;
# without it 34% and 7%. On digits of 8x8 pixels, smoothing hides half of the shifted copies.
SMOOTHED_SIDE = 16


def find_copies_across(splits: Mapping[str, Part], official: bool | set[str] = False) -> list[Finding]:
    """Images whose pixels are in two splits: "stop" where we made the split, "act" where one of them is official.

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
            "{images} of {all_images} {split} images ({share:.1%}) stand in {earlier} too, such as {examples}, so the {split} score is too good: leave the copies out of {earlier}.",
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


def find_copies_with_other_labels(splits: Mapping[str, Part], class_names: list[str]) -> list[Finding]:
    """Images of equal pixels, in any splits, that carry different labels: "act", one of the labels is wrong."""
    groups = [group for group in _groups_of_copies(list(splits.values())) if len({label for _, label in group}) > 1]
    if not groups:
        return []
    return one_finding(
        "copies_with_other_labels",
        "act",
        "Images that occur more than once, with different labels: {contents}, such as {examples}; look at them and keep the right one.",
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
                "Images that occur more than once in {split}: {contents}, in {images} copies, such as {examples}; each counts as often as it is there, so leave out all but one.",
                [name for group in groups for name in group],
                split=split,
                contents=len(groups),
                images=sum(map(len, groups)),
                groups=groups,
            )
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
    unique = unique[~is_constant(train.pixels[unique])]
    if len(unique) < 3 or min(train.pixels.shape[1:3]) < 3:
        return []
    random = np.random.default_rng(seed)
    chosen = np.sort(random.permutation(len(unique))[:COPY_NULL_CAP])
    rank = min(COPIES_IN_TRAIN_RANK, len(unique) - 1)
    distances, nearest = _compare(train.pixels[unique[chosen]], train, unique, rank, own=chosen)
    findings = _judge_train(train, unique[chosen], unique[nearest[:, 0]], distances, official)
    natural = int((distances[:, 0] / distances[:, 1] < COPY_RATIO).sum())
    for split in ("val", "test"):
        if split not in splits:
            continue
        part = splits[split]
        candidates = np.array([i for i, content in enumerate(part.hashes) if content not in first_of], int)
        candidates = candidates[~is_constant(part.pixels[candidates])]
        index = np.sort(random.permutation(candidates)[:cap])
        if not len(index):
            continue
        distances, nearest = _compare(part.pixels[index], train, unique, 2)
        ratio = distances[:, 0] / distances[:, 1]
        order = [i for i in np.argsort(ratio, kind="stable") if ratio[i] < COPY_RATIO]
        found, n = len(order), len(index)
        if found < COPY_IMAGES:
            continue
        p = binomial_tail(
            found, n, (natural + 1) / (len(chosen) + 2)
        )  # a share never 0, against which there is no test
        verdict = found / n > COPY_SHARE and p < COPY_P
        findings += one_finding(
            "altered_copies",
            "note" if not verdict else "act" if is_official(split, official) else "stop",
            "{images} of {looked_at} {split} images ({share:.1%}) look like altered copies of training images, such as {examples}; within train the share is {natural_share:.1%}: "
            + (
                "look at the pairs, leave the copies out of train, and expect the accuracy to fall."
                if verdict
                else "not clearly more, so either chance or copies all over the data set; look at the pairs."
            ),
            [part.names[index[i]] for i in order],
            images=found,
            looked_at=n,
            all_images=len(part.names),
            cap=cap,
            share=found / n,
            natural_share=natural / len(chosen),
            natural_looked_at=len(chosen),
            p=p,
            split=split,
            earlier="train",
            ratios=[round(float(ratio[i]), 3) for i in order],
            pairs=[[train.names[unique[nearest[i, 0]]], part.names[index[i]]] for i in order],
        )
    return findings


def _compare(
    pixels: np.ndarray, train: Part, unique: np.ndarray, k: int, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of images to the `k` nearest of train's images `unique`, and the places of these among them, `[n, k]`."""
    cosines, index = find_nearest(
        _variants(_smooth(reduce(pixels))),
        lambda some: _copy_vectors(_cut_edge(_smooth(reduce(train.pixels[unique[some]])))),
        len(unique),
        k,
        own,
    )
    return np.sqrt(np.maximum(2 - 2 * cosines, 1e-12)), index  # of two vectors of norm 1; never 0


def _judge_train(
    train: Part, looked_at: np.ndarray, nearest: np.ndarray, distances: np.ndarray, official: bool | set[str]
) -> list[Finding]:
    """Whether the training images hold altered copies of one another; `distances` are to the ten nearest."""
    ratio = distances[:, 0] / distances[:, -1]
    order = [i for i in np.argsort(ratio, kind="stable") if ratio[i] < COPIES_IN_TRAIN_RATIO]
    if wilson_interval(len(order), len(looked_at))[0] <= COPIES_IN_TRAIN:
        return []
    pairs = [[train.names[looked_at[i]], train.names[nearest[i]]] for i in order]
    return one_finding(
        "altered_copies_in_train",
        "act" if is_official("val", official) else "stop",
        "{share:.0%} of {looked_at} training images look like altered copies of another one, such as {examples}, so a split by chance has copies on both sides: take the originals alone, split, and augment after the split.",
        [image for image, _ in pairs],
        images=len(order),
        looked_at=len(looked_at),
        share=len(order) / len(looked_at),
        ratios=[round(float(ratio[i]), 3) for i in order],
        pairs=pairs,
    )


def _smooth(images: np.ndarray) -> np.ndarray:
    """Averages over 3x3 pixels where the image has 16 a side: then resized and blurred copies resemble the original."""
    height, width = images.shape[1:3]
    if min(height, width) < SMOOTHED_SIDE:
        return images
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = sum(padded[:, y : y + height] for y in range(3))
    return sum(rows[:, :, x : x + width] for x in range(3)) / 9


def _copy_vectors(images: np.ndarray) -> np.ndarray:
    """Vectors of the images; of smoothed images every second row and column is enough, at a quarter of the work."""
    return vectors(images[:, ::2, ::2] if min(images.shape[1:3]) >= SMOOTHED_SIDE - 2 else images)


def _cut_edge(images: np.ndarray) -> np.ndarray:
    return images[:, 1:-1, 1:-1]


def _variants(images: np.ndarray) -> np.ndarray:
    """The vectors of the images without their edge, moved by one pixel in four directions, and mirrored: [6, n, d]."""
    height, width = images.shape[1] - 2, images.shape[2] - 2
    moved = [images[:, y : y + height, x : x + width] for y, x in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    return np.stack([_copy_vectors(variant) for variant in (*moved, _cut_edge(images)[:, :, ::-1])])
