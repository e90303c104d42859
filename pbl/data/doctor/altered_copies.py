"""Altered copies: the same picture saved again, with noise, resized, brighter, moved, mirrored, turned, cropped, with a caption."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pbl.data.doctor.alignment import Alike, find_alike
from pbl.data.doctor.finding import Finding, Part, is_official, one_finding
from pbl.data.doctor.vectors import is_constant, shrink
from pbl.statistics import binomial_tail, wilson_interval

# Distances are those of `find_alike`. The limits are tried from the largest to the smallest. planted_faults.md lists the distances of copies
# and of the nearest images that are not copies.
LIMITS = (0.2, 0.16, 0.13, 0.1, 0.08, 0.065, 0.05, 0.04, 0.03)
# If images of one class are near each other and those of another class far apart, as with digits, a copy is recognised by how much nearer it is
# than the third nearest image. It must be near by `LIMITS` too, since images that differ in few ways often have one much nearer than the others.
RATIOS, RANK = (0.5, 0.45, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1), 3
# How many pairs are this near by chance is estimated from those just beyond: if images differ in d ways, the pairs within twice a
# distance are 2^d times those within it. d is measured still farther out, at least 1, at most 6; 4 if there are no pairs.
FEWEST_WAYS, MOST_WAYS, WAYS_BY_DEFAULT = 1, 6, 4
MOST_WAYS_OF_RATIOS = 10
CHANCE_P, MOST_BY_CHANCE = 1e-5, 0.25  # largest p value; largest share of the pairs taken for copies that may be chance
# If chains of neighbours tie more than this share of the images together, they are not copies but images that differ little, such as cells.
CHAINED = 0.5
COPY_IMAGES, COPY_SHARE, COPY_P = 3, 0.01, 1e-3
# Photographs have twins by nature, and larger collections have more: 3.3% of CIFAR-10's test images have one among 50,000 training
# images (B. Barz, J. Denzler 2020, J. Imaging 6(6), 41). That many are a note. The share is never measured on the data in question.
TWINS, TWINS_OF, FEWEST_TWINS = 0.033, 50_000, 0.001
TWINS_WITH_OTHER_LABELS = 0.1  # share of such twins that carry another label; a convention
COPIES_IN_TRAIN = 0.1  # share of the training images, above which the lower bound of its interval must be
COPY_CAP = 10_000  # images of a split that are compared with all others
# Training images are looked at until all splits have ALL_CAP, but at least TRAIN_CAP of them; these too are compared with all images.
ALL_CAP, TRAIN_CAP = 6_000, 2_000
# Where the word of a group may be in a name: up to the last or the first hyphen or underscore, the folder, up to the first number, and
# before the last number. The first pattern is taken that joins these many of the pairs in at least so many groups of at most that size.
GROUPS = (r"(.+)[_-]", r"([^_-]+)[_-]", r"(.+/.+)/", r"(\D*[0-9]+)[^0-9]", r"(.*[^0-9])[0-9]+[^0-9]*$")
JOINED, FEWEST_GROUPS, LARGEST_GROUP = 0.9, 8, 0.2


class _Pool(NamedTuple):
    """The images of all splits, each content once, without those of one colour."""

    pixels: np.ndarray  # uint8 [n, at most 32, at most 32, channels]
    labels: np.ndarray
    names: np.ndarray
    split: np.ndarray  # str [n]
    groups: np.ndarray  # str [n]; "" if an image is in no group


class _Pairs(NamedTuple):
    """Pairs of images, the nearest first; numbers in the pool, the image of the earlier split first."""

    one: np.ndarray
    other: np.ndarray
    distance: np.ndarray

    def of(self, chosen: np.ndarray) -> "_Pairs":
        return _Pairs(*(column[chosen] for column in self))


def find_altered_copies(
    splits: Mapping[str, Part], official: bool | set[str] = False, cap: int = COPY_CAP, seed: int = 0
) -> list[Finding]:
    """Copies that a hash misses, between splits, within train, and with other labels.

    Each image is compared with all others by `alignment.find_alike`. Which distances mean a copy is decided for each kind of pair:
    train and val, train and test, val and test, within train, and pairs with different labels. The limit is the largest of some
    fixed ones within which there are clearly more pairs (binomial p below .00001) than the pairs just beyond it let one expect by
    chance. So images that differ in few ways, such as cells or coins, are not copies although each has a near neighbour. If no
    distance gives a limit, the same is tried with the distance of each pair divided by the distance to the third nearest image. Its
    chance level is that of points in a space of as many dimensions as images differ in ways.

    "altered_copies": at least 3 images of a split, more than 1% of it, and by a binomial test (p below .001) more than large
    collections of photographs hold by nature: "stop" in a split that we made, "act" in an official one. Otherwise a "note".
    "altered_copies_in_train": the lower bound is above 10% of the training images: "stop", since a random split puts copies on both
    sides; "act" if the splits are official; a "note" if groups are kept on one side.
    "altered_copies_with_other_labels": in any splits, more than by nature: "act", one of the labels is wrong.

    Pairs within a group are not copies. Exact copies are not counted here.

    Args:
        splits: See `examine`.
        official: See `examine`.
        cap: Images of a split that are looked at, chosen by `seed`; they are compared with all.
        seed: Seed of the choice.
    """
    pool = _gather(splits)
    if len(pool.names) < 3 or min(pool.pixels.shape[1:3]) < 3:
        return []
    queries = _choose_queries(pool.split, list(splits), cap, seed)
    pairs = _order_pairs(find_alike(pool.pixels, queries), pool.groups)
    limits = _find_limits(pairs, len(pool.names))
    ratios, ways = _measure_ratios(pairs, len(pool.names))
    kinds = pool.split[pairs.one] + "/" + pool.split[pairs.other]
    findings = []
    for earlier, split in (("train", "val"), ("train", "test"), ("val", "test")):
        near = _choose_copies(pairs, ratios, ways, kinds == f"{earlier}/{split}", limits)
        findings += _judge_split(pool, near, earlier, split, queries[pool.split[queries] == split], official)
    findings += _judge_train(
        pool, _choose_copies(pairs, ratios, ways, kinds == "train/train", limits), queries, official
    )
    differ = pool.labels[pairs.one] != pool.labels[pairs.other]
    return findings + _judge_labels(pool, _choose_copies(pairs, ratios, ways, differ, limits), len(queries))


def _gather(splits: Mapping[str, Part]) -> _Pool:
    seen: set[str] = set()
    columns = []
    for split, part in splits.items():
        keep = [i for i, content in enumerate(part.hashes) if not (content in seen or seen.add(content))]
        keep = np.array(keep, int)
        keep = keep[~is_constant(part.pixels[keep])]
        groups = np.array(part.groups or [""] * len(part.names), object)
        names = np.array(part.names, object)
        is_in = np.full(len(keep), split, object)
        columns.append((shrink(part.pixels[keep]), part.labels[keep], names[keep], is_in, groups[keep]))
    return _Pool(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def _choose_queries(split: np.ndarray, splits: list[str], cap: int, seed: int) -> np.ndarray:
    """Numbers of the images that are looked at, sorted: at most `cap` from each split, fewer from train if there are many."""
    random = np.random.default_rng(seed)
    chosen: list[np.ndarray] = []
    for name in sorted(splits, key=lambda name: name == "train"):
        most = cap if name != "train" else min(cap, max(ALL_CAP - sum(map(len, chosen)), TRAIN_CAP))
        chosen.append(random.permutation(np.flatnonzero(split == name))[:most])
    return np.sort(np.concatenate(chosen))


def _order_pairs(alike: Alike, groups: np.ndarray) -> _Pairs:
    """The pairs, nearest first, without those within a group."""
    one, other = np.minimum(alike.one, alike.other), np.maximum(alike.one, alike.other)
    pairs = _Pairs(one, other, alike.distance).of(np.argsort(alike.distance, kind="stable"))
    return pairs.of((groups[pairs.one] != groups[pairs.other]) | (groups[pairs.one] == ""))


def _find_limits(pairs: _Pairs, images: int) -> list[float]:
    """The `LIMITS` within which the pairs do not tie half of the images together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    limits = []
    for limit in LIMITS:
        near = pairs.of(pairs.distance < limit)
        links = coo_array((np.ones(len(near.one)), (near.one, near.other)), shape=(images, images))
        _, component = connected_components(links, directed=False)
        if np.bincount(component).max() <= max(CHAINED * images, 2):
            limits.append(limit)
    return limits


def _measure_ratios(pairs: _Pairs, images: int) -> tuple[np.ndarray, float]:
    """The distance of each pair divided by the distance to the third nearest image, of either image the smaller one; and in how many ways
    images differ, from the distances to the second and the third nearest (E. Levina, P. Bickel 2004, NIPS, equation 8, for k = 3)."""
    image, distance = np.concatenate([pairs.one, pairs.other]), np.tile(pairs.distance, 2)
    order = np.lexsort((distance, image))
    begins, ends = (np.searchsorted(image[order], np.arange(images), side) for side in ("left", "right"))
    enough = ends - begins >= RANK
    second, third = (distance[order][begins[enough] + rank] for rank in (RANK - 2, RANK - 1))
    of_image = np.full(images, np.inf)
    of_image[enough] = third
    nearer = np.minimum(of_image[pairs.one], of_image[pairs.other])
    ratios = np.where(np.isfinite(nearer), pairs.distance / np.maximum(nearer, 1e-6), np.inf)
    logarithm = np.log(np.maximum(third, 1e-6) / np.maximum(second, 1e-6)).mean() if enough.any() else np.inf
    return ratios, float(np.clip(1 / (2 * max(logarithm, 1e-6)), FEWEST_WAYS, MOST_WAYS_OF_RATIOS))


def _choose_copies(pairs: _Pairs, ratios: np.ndarray, ways: float, chosen: np.ndarray, limits: list[float]) -> _Pairs:
    """Those of the chosen pairs that are copies rather than similar by chance: by distance, or by ratio if no distance gives a limit."""
    near = pairs.distance < LIMITS[0]
    limit = _find_limit(pairs.distance[chosen], limits, near[chosen], ways)
    if limit:
        return pairs.of(chosen & (pairs.distance < limit))
    limit = _find_limit(ratios[chosen], RATIOS, near[chosen], ways, are_ratios=True)
    return pairs.of(chosen & near & (ratios < limit))


def _find_limit(
    values: np.ndarray, limits: Sequence[float], is_near: np.ndarray, ways: float, are_ratios: bool = False
) -> float:
    """The largest limit within which there are more near pairs than those beyond it let one expect; 0 if there is none.

    Args:
        values: Distances or ratios of pairs.
        limits: The limits that are tried, the largest first.
        is_near: Whether a pair may be a copy.
        ways: In how many ways images differ (the dimension), at most.
        are_ratios: Whether the values are ratios.
    """
    for limit in limits:
        inside = int((values[is_near] < limit).sum())
        beyond, far = (int((values < limit * times).sum()) for times in (2, 4))
        beyond, far = beyond - inside, far - beyond
        if are_ratios:  # chance that the nearest of three random images is within a share of the third one's distance
            within, within_twice = (1 - (1 - min(share, 1) ** ways) ** 2 for share in (limit, 2 * limit))
            chance = within / within_twice
        else:
            told = np.log2((far + 2**WAYS_BY_DEFAULT) / (beyond + 1))
            chance = 0.5 ** float(np.clip(told, FEWEST_WAYS, min(ways, MOST_WAYS)))
        is_pure = beyond * chance / (1 - chance) <= MOST_BY_CHANCE * inside
        if inside >= COPY_IMAGES and is_pure and binomial_tail(inside, inside + beyond, chance) < CHANCE_P:
            return limit
    return 0.0


def _measure_twins(images: int) -> float:
    """The share of photographs that have a twin by nature in a collection of this size."""
    return max(FEWEST_TWINS, TWINS * min(1, images / TWINS_OF))


def _describe_pairs(pool: _Pool, pairs: _Pairs) -> dict[str, Any]:
    return {
        "distances": [round(float(value), 3) for value in pairs.distance],
        "pairs": [list(pair) for pair in zip(pool.names[pairs.one], pool.names[pairs.other], strict=True)],
    }


def _judge_split(
    pool: _Pool, pairs: _Pairs, earlier: str, split: str, looked_at: np.ndarray, official: bool | set[str]
) -> list[Finding]:
    """Whether images of a split are copies of an earlier split's; `looked_at`: numbers, in the pool, of those that were looked at."""
    found = list(dict.fromkeys(pool.names[pairs.other]))
    if len(found) < COPY_IMAGES:
        return []
    # Some were found from the earlier split's side and were not looked at themselves: they are not part of the share that is reported.
    of_looked_at = len(np.intersect1d(pairs.other, looked_at))
    twins = _measure_twins(len(pool.names))
    p = binomial_tail(of_looked_at, len(looked_at), twins)
    is_more = of_looked_at / len(looked_at) > COPY_SHARE and p < COPY_P
    groups = suggest_groups(pool, pairs) if is_more and not pool.groups.any() else None
    return one_finding(
        "altered_copies",
        "note" if not is_more else "act" if is_official(split, official) or is_official(earlier, official) else "stop",
        "Altered copies: {found} of {looked_at} {split} images ({share:.1%}; exact copies are not counted) look like {earlier} images, such as {examples}: "
        + (
            "not clearly more than large collections of photographs naturally contain ({twins:.1%}); look at the pairs."
            if not is_more and of_looked_at / len(looked_at) > COPY_SHARE
            else "too few to change the accuracy much; look at the pairs."
            if not is_more
            else "their names suggest that these images belong together; keep such images on one side with groups='{groups}'."
            if groups
            else "look at the pairs, leave the copies out of {earlier} (check --leave-out FILE), and expect the accuracy to fall."
        ),
        found,
        images=len(found),
        found=of_looked_at,
        looked_at=len(looked_at),
        all_images=int((pool.split == split).sum()),
        share=of_looked_at / len(looked_at),
        twins=twins,
        p=p,
        split=split,
        earlier=earlier,
        groups=groups,
        **_describe_pairs(pool, pairs),
    )


def _judge_train(pool: _Pool, pairs: _Pairs, queries: np.ndarray, official: bool | set[str]) -> list[Finding]:
    """Whether the training images hold altered copies of one another."""
    looked_at = queries[pool.split[queries] == "train"]
    found = np.intersect1d(np.concatenate([pairs.one, pairs.other]), looked_at)
    if not len(looked_at) or wilson_interval(len(found), len(looked_at))[0] <= COPIES_IN_TRAIN:
        return []
    is_grouped = pool.groups.any()
    groups = None if is_grouped else suggest_groups(pool, pairs)
    return one_finding(
        "altered_copies_in_train",
        "note" if is_grouped else "act" if is_official("val", official) else "stop",
        "Altered copies: {images} of {looked_at} training images ({share:.1%}; exact copies are not counted) look like another one, such as {examples}"
        + (
            ", from another group: check whether groups='...' names what belongs together."
            if is_grouped
            else ", so a random split has copies on both sides: their names suggest that these images belong together; keep such images on one side with groups='{groups}'."
            if groups
            else ", so a random split has copies on both sides: keep on one side what belongs together (groups=look_alike); or use only the originals, split, and augment after the split."
        ),
        list(dict.fromkeys(pool.names[pairs.one])),
        images=len(found),
        looked_at=len(looked_at),
        share=len(found) / len(looked_at),
        groups=groups,
        **_describe_pairs(pool, pairs),
    )


def _judge_labels(pool: _Pool, pairs: _Pairs, looked_at: int) -> list[Finding]:
    """Whether one picture carries two labels."""
    found = len(pairs.one)
    twins = _measure_twins(len(pool.names)) * TWINS_WITH_OTHER_LABELS
    if found < COPY_IMAGES:
        return []
    return one_finding(
        "altered_copies_with_other_labels",
        "act" if binomial_tail(min(found, looked_at), looked_at, twins) < COPY_P else "note",
        "{images} pairs of images look like one picture with two labels, such as {examples}; look at them and keep the right label.",
        list(dict.fromkeys(np.stack([pool.names[pairs.one], pool.names[pairs.other]], axis=1).ravel())),
        images=found,
        looked_at=looked_at,
        **_describe_pairs(pool, pairs),
    )


def suggest_groups(pool: _Pool, pairs: _Pairs) -> str | None:
    """The pattern, for the setting `groups`, of a word in the names that both images of a pair share; None if there is none."""
    for pattern in GROUPS:
        found = [re.search(pattern, name) for name in pool.names]
        if not all(found):
            continue
        words = np.array([match.group(1) for match in found], object)
        count = Counter(words)
        joined = (words[pairs.one] == words[pairs.other]).mean()
        if joined >= JOINED and len(count) >= FEWEST_GROUPS and max(count.values()) <= LARGEST_GROUP * len(words):
            return pattern
    return None
