"""How good found boxes are: average precision as in COCO, with its interval; and at a threshold, whether the count is right.

Average precision goes through all thresholds. It says how well boxes are ranked, and not what a user sees, who has one threshold: a
network with .98 of it may count the objects of every fourth image wrongly. So both are reported. The threshold is chosen on validation and
judged on other images. Boxes are matched once, within their image; all numbers, and all samples of images, are computed from these
matches.

Boxes are `float32 [n, most, 5]`, rows `left, top, right, bottom, class` in pixels, class -1 if there is no box; found ones are
`[n, found, 6]`, with the score last.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pbl.errors import InputError
from pbl.evaluation.segmentation import find_reach
from pbl.statistics import wilson_interval

LEVELS = np.linspace(0.5, 0.95, 10)  # lowest IoU at which a box is right
RECALLS = np.linspace(0, 1, 101)  # recalls at which precision is read
MOST_FOUND = 100  # boxes of a class in an image; further ones, of lower score, are not looked at
DRAWS = 200  # bootstrap samples; only their mean is used
CELLS = 8  # per row and per column: how finely a baseline knows where objects are
AT_ONCE = 2**22  # elements of an array that are computed together


class Matches(NamedTuple):
    """Found boxes matched with the true ones; images in their order, and within an image by decreasing score.

    Attributes:
        image, kind, score: For each found box: the index of its image, its class, and its score as `float64`. `[m]`
        row: Its index among its image's found boxes, `[m]`.
        right: `bool [m, 10]`: whether it has a true box of its own at each IoU of `LEVELS`.
        partner: That true box at an IoU of .5, as its index among the image's; -1 if it has none. `[m]`
        truth: `int [n, classes]`: how many true boxes there are.
    """

    image: np.ndarray
    kind: np.ndarray
    score: np.ndarray
    row: np.ndarray
    right: np.ndarray
    partner: np.ndarray
    truth: np.ndarray


def is_box(boxes: np.ndarray) -> np.ndarray:
    """Returns which rows are boxes: they have a class, and true ones have an area. `bool [..., rows]`"""
    has_class = boxes[..., 4] >= 0
    return has_class if boxes.shape[-1] > 5 else has_class & (boxes[..., 2:4] > boxes[..., :2]).all(axis=-1)


def compute_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Computes how much boxes overlap: the area that both cover, divided by the area that either covers (Jaccard 1912).

    Args:
        one: `[..., m, 4 or more]`, in pixels.
        other: `[..., k, 4 or more]`.

    Returns:
        `float64 [..., m, k]`, 0 to 1.
    """
    one, other = np.asarray(one, np.float64)[..., :, None, :], np.asarray(other, np.float64)[..., None, :, :]
    sides = np.minimum(one[..., 2:4], other[..., 2:4]) - np.maximum(one[..., :2], other[..., :2])
    both = np.where((sides > 0).all(axis=-1), sides.prod(axis=-1), 0.0)
    areas = [(boxes[..., 2:4] - boxes[..., :2]).prod(axis=-1) for boxes in (one, other)]
    either = areas[0] + areas[1] - both
    return np.divide(both, either, out=np.zeros_like(both), where=both > 0)


def match(truth: np.ndarray, found: np.ndarray, num_classes: int) -> Matches:
    """Matches found boxes with true ones of their class, as COCO does (Lin et al. 2014, arXiv:1405.0312; pycocotools' `COCOeval`).

    In each image, from the highest score down, a box takes the true box that it overlaps most among those not yet taken. Among boxes
    with equal scores the first one comes first.

    Args:
        truth: `[n, most, 5]`.
        found: `[n, k, 6]`.
        num_classes: How many classes there are.

    Raises:
        InputError: The found boxes are not all numbers.
    """
    if not np.isfinite(found).all():
        raise InputError("The model's outputs are not all numbers: its training diverged. Lower learning_rate.")
    parts, at_once = [], max(1, AT_ONCE // max(1, truth.shape[1] * found.shape[1]))
    for start in range(0, len(truth), at_once):
        image, *others = _match_images(truth[start : start + at_once], found[start : start + at_once], num_classes)
        parts.append((image + start, *others))
    kinds = np.where(is_box(truth), truth[..., 4], num_classes).astype(int)
    places = np.arange(len(truth))[:, None] * (num_classes + 1) + kinds
    counts = np.bincount(places.ravel(), minlength=len(truth) * (num_classes + 1)).reshape(len(truth), -1)
    columns = (np.concatenate(of_all) for of_all in zip(*parts, strict=True))
    image, kind, score, row, right, partner = columns
    return Matches(image, kind, score, row, right, partner, counts[:, :num_classes])


def _match_images(truth: np.ndarray, found: np.ndarray, num_classes: int) -> tuple[np.ndarray, ...]:
    """The columns of `Matches` for some images, without their truth."""
    n, most = truth.shape[:2]
    valid = is_box(found)
    order = np.argsort(np.where(valid, -found[..., 5].astype(np.float64), np.inf), axis=1, kind="stable")
    found = np.take_along_axis(found, order[..., None], axis=1)
    valid = np.take_along_axis(valid, order, axis=1)
    if found.shape[1] > MOST_FOUND:
        for number in range(num_classes):
            of = valid & (found[..., 4] == number)
            valid &= ~(of & (of.cumsum(axis=1) > MOST_FOUND))
    same = (found[..., 4][:, :, None] == truth[..., 4][:, None]) & valid[..., None] & is_box(truth)[:, None]
    overlap = np.where(same, compute_iou(found, truth), -1.0)  # [n, k, most]
    levels = np.minimum(LEVELS, 1 - 1e-10)[:, None]  # a box with an IoU of 1 is right in spite of rounding

    # Boxes that overlap no true one by a half can take none: they are skipped.
    near = overlap.max(axis=2, initial=-1) >= levels[0, 0]
    first = np.argsort(~near, axis=1, kind="stable")[:, : near.sum(axis=1).max(initial=0)]
    right, partner = np.zeros((*valid.shape, len(LEVELS)), bool), np.full(valid.shape, -1)
    free, images = np.ones((n, len(LEVELS), most), bool), np.arange(n)
    for place in first.T:
        here = overlap[images, place][:, None]  # [n, 1, most]
        possible = free & (here >= levels)
        taken = (
            most - 1 - np.where(possible, here, -1.0)[..., ::-1].argmax(axis=2)
        )  # if several are equal, the last one, as COCO does
        hit = possible.any(axis=2)
        at, level = np.nonzero(hit)
        free[at, level, taken[hit]] = False
        right[images, place] |= hit
        partner[images, place] = np.where(hit[:, 0], taken[:, 0], partner[images, place])
    image, place = np.nonzero(valid)
    boxes = found[image, place]
    kind, score = boxes[:, 4].astype(int), boxes[:, 5].astype(np.float64)
    return image, kind, score, order[image, place], right[image, place], partner[image, place]


def compute_average_precision(matches: Matches) -> np.ndarray:
    """Computes average precision: for each class, at each IoU, the mean of the precision at 101 recalls from 0 to 1.

    Precision at a recall is the best that is reached at that recall or a higher one (Everingham et al. 2010; with 101 recalls as in
    pycocotools). Its mean over classes at an IoU of .5 is mAP50; over all IoUs too it is mAP.

    Returns:
        `float [classes, 10]`; NaN for a class that no image has: pycocotools leaves it out of the mean too.
    """
    ones = np.ones((1, len(matches.truth)))
    return np.stack([_resample(matches, level, ones)[0] for level in range(len(LEVELS))], axis=1)


def compute_map50(matches: Matches) -> float:
    """Computes average precision at an IoU of .5, mean over classes; NaN without true boxes."""
    return float(average_over_classes(_resample(matches, 0, np.ones((1, len(matches.truth)))))[0])


def _resample(matches: Matches, level: int, weights: np.ndarray) -> np.ndarray:
    """Average precision if each image counts as often as its weight, `[draws, n]`: `float [draws, classes]`."""
    order = np.argsort(-matches.score, kind="stable")
    table = np.full((len(weights), matches.truth.shape[1]), np.nan)
    for number in range(table.shape[1]):
        total = weights @ matches.truth[:, number]  # [draws]
        of = order[matches.kind[order] == number]
        places = np.flatnonzero(matches.right[of, level])
        of = of[: places[-1] + 1 if len(places) else 0]  # boxes after the last right one change nothing
        counted = weights[:, matches.image[of]]
        # Recall rises, and precision is highest, at right boxes: no other places are needed.
        right = counted[:, places].cumsum(axis=1)
        precision = right / (counted.cumsum(axis=1)[:, places] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        best = np.concatenate([best, np.zeros((len(weights), 1))], axis=1)  # for a recall that is not reached
        for draw in np.flatnonzero(total):
            at = np.searchsorted(right[draw] / total[draw], RECALLS)
            table[draw, number] = best[draw, at].mean()
    return table


def average_over_classes(table: np.ndarray) -> np.ndarray:
    """Returns the mean over the classes, on the last axis, that some image has; NaN if none has any."""
    known = ~np.isnan(table)
    total, count = np.where(known, table, 0).sum(axis=-1), known.sum(axis=-1)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def find_interval(
    matches: Matches,
    groups: Sequence[str] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    values: np.ndarray | None = None,
) -> tuple[float, float] | None:
    """Returns the 95% interval of mAP50: Student's interval of the jackknife's values (`split_map`), shifted by the bias that a bootstrap shows.

    Average precision takes the best precision of any higher recall, so chance raises it: by .04 for a weak detector on 100
    images. Bootstrap samples of the images repeat that step (Efron 1979), and what they are higher on average is subtracted. For three
    made-up detectors, on 50 to 300 images, such intervals contained the mAP50 of 20,000 images in 91% to 99% of 150 draws; the percentiles of
    the bootstrap in 66% to 98%, the unshifted jackknife's in 85% to 100% (experiments/benchmarks/detection.md).

    Args:
        matches: Of all images.
        groups: A group name for each image, such as its patient: then groups are drawn, each with all its images.
        draws: Bootstrap samples.
        seed: Random seed.
        values: What `split_map` returns for them, if it is known.

    Returns:
        Low and high, each from 0 to 1; mAP50 itself is between them. None with fewer than two images or groups, no true box,
        or if all images or groups contribute the same: then nothing can be said about others.
    """
    n = len(matches.truth)
    _, of = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    units = int(of.max(initial=-1)) + 1
    if units < 2 or not matches.truth.any():
        return None
    values = split_map(matches, groups) if values is None else values
    reach = find_reach(values)
    if reach is None:
        return None
    whole = float(values.mean())
    random, samples = np.random.default_rng(seed), []
    at_once = max(1, AT_ONCE // max(1, n, len(matches.image) // max(1, matches.truth.shape[1])))
    for start in range(0, draws, at_once):
        drawn = random.multinomial(units, np.full(units, 1 / units), size=min(at_once, draws - start))
        samples.append(average_over_classes(_resample(matches, 0, drawn[:, of].astype(np.float64))))
    bias = float(np.nanmean(np.concatenate(samples))) - whole
    low, high = min(whole - bias - reach, whole), max(whole - bias + reach, whole)
    return max(0.0, low), min(1.0, high)


def split_map(matches: Matches, groups: Sequence[str] | None = None) -> np.ndarray:
    """Returns what each image contributes to mAP50: the jackknife's pseudo-values (Tukey 1958), by which two networks are compared in pairs.

    mAP50 is not a mean over images. With n images, mAP50 without one of them and mAP50 of all give that image's value, n * all - (n - 1) * without;
    the values are shifted by one number, so that their mean is mAP50 itself.

    Args:
        matches: Of all images.
        groups: A group name for each image: then there is a value for each group, in the order of its name, and all its images are left out together.

    Returns:
        `float64 [n]`, or `[groups]`; not limited to 0 to 1. Empty without true boxes.
    """
    n = len(matches.truth)
    _, of = np.unique(np.arange(n) if groups is None else np.asarray(groups), return_inverse=True)
    units = int(of.max(initial=-1)) + 1
    if not matches.truth.any():
        return np.zeros(0)
    whole = compute_map50(matches)
    without, at_once = np.empty(units), max(1, AT_ONCE // max(1, n, len(matches.image)))
    for start in range(0, units, at_once):
        left_out = np.arange(start, min(units, start + at_once))
        weights = (of[None] != left_out[:, None]).astype(np.float64)
        without[left_out] = average_over_classes(_resample(matches, 0, weights))
    values = units * whole - (units - 1) * np.where(np.isnan(without), whole, without)
    return values + (whole - values.mean())


class Shown(NamedTuple):
    """The boxes that a threshold shows, compared with the true ones at an IoU of .5; each `int [n]`, by image.

    Attributes:
        right: Shown boxes that have a true box of their own.
        shown: All shown boxes.
        truth: True boxes.
        wrong_classes: Number of classes of which more or fewer boxes are shown than there are.
    """

    right: np.ndarray
    shown: np.ndarray
    truth: np.ndarray
    wrong_classes: np.ndarray


def count_shown(matches: Matches, threshold: float) -> Shown:
    """Counts the boxes whose score is at least the threshold. Matching them alone gives the same: boxes with lower scores take nothing away."""
    n, classes = matches.truth.shape
    is_shown = matches.score >= threshold
    image, kind = matches.image[is_shown], matches.kind[is_shown]
    by_class = np.bincount(image * classes + kind, minlength=n * classes).reshape(n, classes)
    right = np.bincount(image[matches.right[is_shown, 0]], minlength=n)
    return Shown(right, by_class.sum(axis=1), matches.truth.sum(axis=1), (by_class != matches.truth).sum(axis=1))


def score_images(matches: Matches, threshold: float) -> np.ndarray:
    """Scores each image by the F1 of its boxes at this threshold and an IoU of .5: used to pair the images of two runs.

    mAP is not a mean over images, so no image has a part of it.

    Returns:
        `float [n]`, 0 to 1: 2 right / (shown + true); 1 for an image without objects in which nothing is shown.
    """
    counts = count_shown(matches, threshold)
    total = counts.shown + counts.truth
    return np.divide(2 * counts.right, total, out=np.ones(len(total)), where=total > 0)


def judge_threshold(matches: Matches, threshold: float) -> dict[str, Any]:
    """Judges what a threshold shows, at an IoU of .5.

    Returns:
        A dictionary for JSON. `threshold`; `precision`, `recall`, `f1` of all boxes together (None without a denominator); `image_f1`, the mean of
        `score_images`; `right_count`, the share of images in which the number of boxes of each class is right, and its 95%
        interval `right_count_interval` (Wilson's); `count_error`, the mean over images of how far the number of boxes is off; `empty`, images without
        objects, and `empty_with_boxes`, those of them in which something is shown.
    """
    counts = count_shown(matches, threshold)
    right, shown, total = (int(values.sum()) for values in counts[:3])
    n, empty = len(counts.truth), counts.truth == 0
    is_right = int((counts.wrong_classes == 0).sum())
    return {
        "threshold": float(threshold),
        "precision": right / shown if shown else None,
        "recall": right / total if total else None,
        "f1": 2 * right / (shown + total) if shown + total else None,
        "image_f1": float(score_images(matches, threshold).mean()),
        "right_count": is_right / n,
        "right_count_interval": list(wilson_interval(is_right, n)),
        "count_error": float(np.abs(counts.shown - counts.truth).mean()),
        "empty": int(empty.sum()),
        "empty_with_boxes": int((empty & (counts.shown > 0)).sum()),
    }


class Thresholds(NamedTuple):
    """The results of thresholds, from the highest down; each `float [thresholds]`.

    Attributes:
        threshold: A box is shown if its score is at least this.
        precision: 1 if none is shown.
        recall, f1: Of all boxes, at an IoU of .5; 0 without true boxes.
        right_count: Share of images in which the number of boxes of each class is right.
    """

    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    right_count: np.ndarray


def tabulate_thresholds(matches: Matches) -> Thresholds:
    """Tries every threshold that makes a difference: above all scores, half way between two, and below the lowest."""
    order = np.argsort(-matches.score, kind="stable")
    ranked, right = matches.score[order], matches.right[order, 0].cumsum()
    ends = np.flatnonzero(np.diff(ranked, append=-np.inf))  # the last box of each score
    distinct = np.append(ranked[ends], 0.0)
    highest = (1 + distinct[0]) / 2 if distinct[0] < 1 else np.nextafter(distinct[0], 2)
    thresholds = np.concatenate([[highest], (distinct[:-1] + distinct[1:]) / 2])
    right, shown = np.concatenate([[0], right[ends]]), np.concatenate([[0], ends + 1])
    total = matches.truth.sum()
    low, high = _find_right_counts(matches)
    # Images whose count is right from above `low` to `high`: how many ranges began minus how many ended.
    counted = np.searchsorted(np.sort(low), thresholds) - np.searchsorted(np.sort(high), thresholds)
    return Thresholds(
        thresholds,
        np.where(shown > 0, right / np.maximum(shown, 1), 1.0),
        right / max(1, total),
        2 * right / np.maximum(1, shown + total),
        counted / max(1, len(matches.truth)),
    )


def _find_right_counts(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """For each image that has one, the range of thresholds (above the first, up to the second) that show as many boxes of each class as
    there are: above the score of the first box too many, up to the score of the last one wanted."""
    n, classes = matches.truth.shape
    low, high = np.full((n, classes), -np.inf), np.where(matches.truth > 0, -np.inf, np.inf)
    place = matches.image * classes + matches.kind
    order = np.argsort(place, kind="stable")  # within an image and class by decreasing score, in their order
    place, score = place[order], matches.score[order]
    starts = np.concatenate([[0], np.bincount(place, minlength=n * classes).cumsum()])[:-1]
    rank, wanted = np.arange(len(place)) - starts[place], matches.truth.ravel()[place]
    low.ravel()[place[rank == wanted]] = score[rank == wanted]
    high.ravel()[place[rank == wanted - 1]] = score[rank == wanted - 1]
    low, high = low.max(axis=1, initial=-np.inf), high.min(axis=1, initial=np.inf)
    return low[low < high], high[low < high]


def choose_threshold(matches: Matches) -> float | None:
    """Returns the threshold at which F1 over all boxes is best, at an IoU of .5; if several are best, the lowest, which finds most.

    Args:
        matches: Those of validation images: on the images that chose it a threshold looks better than it is.

    Returns:
        The threshold, half way between two scores; None if no box is right.
    """
    if not matches.right[:, 0].any():
        return None
    table = tabulate_thresholds(matches)
    return float(table.threshold[np.flatnonzero(table.f1 >= table.f1.max() - 1e-12)[-1]])


def judge_boxes(
    truth: np.ndarray,
    found: np.ndarray,
    names: Sequence[str],
    threshold: float | None,
    groups: Sequence[str] | None = None,
) -> tuple[dict[str, Any], Matches]:
    """Judges found boxes.

    Args:
        truth: `[n, most, 5]`.
        found: `[n, k, 6]`.
        names, threshold, groups: See `judge_matches`.

    Returns:
        What `judge_matches` returns, and the matches.
    """
    matches = match(truth, found, len(names))
    return judge_matches(matches, names, threshold, groups)[0], matches


def judge_matches(
    matches: Matches, names: Sequence[str], threshold: float | None, groups: Sequence[str] | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Judges found boxes that are already matched.

    Args:
        matches: Of all images.
        names: Names of the classes.
        threshold: The threshold chosen on validation; None if there is none.
        groups: A group name for each image, over which intervals are computed; or None.

    Returns:
        A dictionary for JSON, and what each image or group contributes to mAP50 (`split_map`). `map50`, `map`, `map75` (None without true boxes);
        `map50_interval`; `classes`: for each its `name`, its `boxes`, the `images` that have it, `ap50`, `ap`; `at_threshold`: what
        `judge_threshold` returns, or None.
    """
    table, values = compute_average_precision(matches), split_map(matches, groups)

    def tell(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    interval = find_interval(matches, groups, values=values)
    by_level = average_over_classes(table.T)  # [10]
    result = {
        "map50": tell(by_level[0]),
        "map75": tell(by_level[5]),
        "map": tell(by_level.mean()),
        "map50_interval": None if interval is None else list(interval),
        "classes": [
            {
                "name": name,
                "boxes": int(count.sum()),
                "images": int((count > 0).sum()),
                "ap50": tell(row[0]),
                "ap": tell(row.mean()),
            }
            for name, count, row in zip(names, matches.truth.T, table, strict=True)
        ],
        "at_threshold": None if threshold is None else judge_threshold(matches, threshold),
    }
    return result, values


def make_baselines(truth: np.ndarray, size: tuple[int, int], n: int, num_classes: int) -> dict[str, np.ndarray]:
    """Finds boxes without looking at the images: a network that is no better has learned nothing about their content.

    The positions of objects are counted on 8x8 cells of the image. A box is the mean of the training boxes of its class whose centre is in the
    cell, and its score is their number divided by the number of images.

    Args:
        truth: `[m, most, 5]`, the boxes of training images.
        size: (height, width) of the images.
        n: How many images get boxes.
        num_classes: How many classes there are.

    Returns:
        By name, `float32 [n, found, 6]`, the same for each image: "nothing"; "mean_box": one box of each class at its commonest place;
        "mean_boxes": the 100 commonest ones.
    """
    rows = truth[is_box(truth)].astype(np.float64)
    middle = (rows[:, :2] + rows[:, 2:4]) / 2 / np.array(size[::-1])
    cell = np.clip(np.floor(CELLS * middle), 0, CELLS - 1).astype(int)
    place = (rows[:, 4].astype(int) * CELLS + cell[:, 1]) * CELLS + cell[:, 0]
    count = np.bincount(place, minlength=num_classes * CELLS**2)
    boxes = np.zeros((len(count), 6))
    for side in range(4):
        boxes[:, side] = np.bincount(place, rows[:, side], minlength=len(count)) / np.maximum(count, 1)
    boxes[:, 4] = np.arange(len(count)) // CELLS**2
    # Objects per image may be above 1, with many in one cell.
    boxes[:, 5] = np.minimum(1.0, count / max(1, len(truth)))
    order = np.argsort(-count, kind="stable")
    order = order[count[order] > 0]
    _, first = np.unique(boxes[order, 4], return_index=True)
    made = {
        "nothing": np.array([[0, 0, 0, 0, -1, 0.0]]),
        "mean_box": boxes[order[np.sort(first)]],
        "mean_boxes": boxes[order[:MOST_FOUND]],
    }
    return {name: np.broadcast_to(rows.astype(np.float32), (n, *rows.shape)).copy() for name, rows in made.items()}
