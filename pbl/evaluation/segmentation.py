"""How good predicted masks are: by class, as a mean over images or patients, and also pooled; empty masks are counted separately.

A single number over all pixels hides what matters. "All background" has most pixels right if lesions are small; pooled pixels count a large
organ more than ten small ones; and a mean in which an empty mask counts as perfect rewards a network that finds nothing. So Dice and IoU are means
over the images that have the class. Images without it are counted separately, by what is falsely found in them, and connected regions are
counted one by one. Every number is computed from single images, whatever the batch. Needs NumPy and SciPy alone.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage, stats

FOUND = 0.1  # share of a region's pixels: with less, nobody would say that the region was found
LEVELS = 200  # thresholds that are tried
NEIGHBOURS = np.ones((3, 3), bool)  # pixels that touch at a corner are one region
AT_ONCE = 2**24  # pixels that are counted together
NO_SPREAD = 1e-9  # values nearer to each other are equal but for rounding


class Overlap(NamedTuple):
    """Pixels of each image and class, `int64 [n, classes]`.

    Attributes:
        both: In the true mask and in the predicted one.
        truth: In the true mask.
        predicted: In the predicted one.
    """

    both: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def dice(self) -> np.ndarray:
        """`float [n, classes]`: 2 both / (truth + predicted) (Dice 1945); NaN if the class is in neither mask."""
        return _divide(2 * self.both, self.truth + self.predicted)

    @property
    def iou(self) -> np.ndarray:
        """`float [n, classes]`: both / either (Jaccard 1912); NaN if the class is in neither mask."""
        return _divide(self.both, self.truth + self.predicted - self.both)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def count_overlap(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> Overlap:
    """Counts the pixels of each class.

    Args:
        truth, predicted: `int [n, height, width]`, classes from 0.
        num_classes: How many classes there are.
    """
    parts, at_once = [], max(1, AT_ONCE // max(1, truth[:1].size))
    for start in range(0, len(truth), at_once):
        true, found = (masks[start : start + at_once].reshape(-1, truth[0].size) for masks in (truth, predicted))
        pairs = true.astype(np.int64) * num_classes + found
        pairs += np.arange(len(pairs))[:, None] * num_classes**2
        counted = np.bincount(pairs.ravel(), minlength=len(pairs) * num_classes**2)
        parts.append(counted.reshape(-1, num_classes, num_classes))
    pairs = np.concatenate(parts) if parts else np.zeros((0, num_classes, num_classes), np.int64)
    return Overlap(np.einsum("nkk->nk", pairs).copy(), pairs.sum(axis=2), pairs.sum(axis=1))


class Average(NamedTuple):
    """A mean over images, or over patients.

    Attributes:
        value: The mean; None if there is nothing to average.
        low, high: Ends of its 95% interval, within 0 and 1; None with fewer than two, or if all are equal.
        count: Number of images, or patients, in the mean.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody asks for here


def find_reach(values: np.ndarray) -> float | None:
    """Half of the width of Student's 95% interval of a mean; None with fewer than two values, or if all are equal.

    Of equal values the width would be 0, as if other images could not differ: five perfect masks do not show that all are.
    """
    if len(values) < 2 or np.ptp(values) < NO_SPREAD:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def average(values: np.ndarray, groups: Sequence[str] | None = None) -> Average:
    """Averages over images; with groups over groups, where each group counts once, with the mean of its images.

    The interval is Student's, over images or groups: these are drawn at random, not the pixels, which are alike within an image. There is none
    with fewer than two values, or if all are equal.

    Args:
        values: `float [n]`, from 0 to 1; NaN is left out.
        groups: A group name for each image, such as its patient.

    Example: `average(np.array([0.8, np.nan, 0.6]))` averages 2 images and returns 0.7.
    """
    known = ~np.isnan(values)
    values = np.asarray(values, float)[known]
    if groups is not None and len(values):
        _, of = np.unique(np.asarray(groups)[known], return_inverse=True)
        values = np.bincount(of, values) / np.bincount(of)
    if not len(values):
        return Average(None, None, None, 0)
    mean = float(values.mean())
    reach = find_reach(values)
    if reach is None:
        return Average(mean, None, None, len(values))
    return Average(mean, max(0.0, mean - reach), min(1.0, mean + reach), len(values))


def share_out(dice: np.ndarray, groups: Sequence[str] | None = None) -> np.ndarray:
    """Returns the Dice of each class by image, or by group: the mean of its images that have the class, NaN if none has.

    Args:
        dice: `float [n, classes]`, without the background; NaN if an image does not have the class.
        groups: A group name for each image, or None.

    Returns:
        `float [units, classes]`; groups in the order of their names.
    """
    if groups is None:
        return dice
    words, of = np.unique(groups, return_inverse=True)
    known = ~np.isnan(dice)
    total, count = (np.zeros((len(words), dice.shape[1])) for _ in range(2))
    np.add.at(total, of, np.where(known, dice, 0))
    np.add.at(count, of, known)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def weigh_units(table: np.ndarray) -> np.ndarray:
    """Returns a value for each image or group whose mean is the mean over classes of the mean over those that have the class.

    With one class it is the Dice. With several classes it is that mean plus, for each class that a unit has, the unit's deviation from the class's mean, weighted
    by the unit's part of that mean. Then the spread of the values is that of the mean (the linearised variance of a ratio; Cochran 1977,
    Sampling Techniques, 3rd edition, section 6.4), and does not depend on which unit has which class.

    Args:
        table: `float [units, classes]`, as `share_out` returns it, or a difference of two; each unit has a class. A class that no unit has
            does not count.
    """
    table = table[:, ~np.isnan(table).all(axis=0)]
    known = ~np.isnan(table)
    count = known.sum(axis=0)
    means = np.where(known, table, 0).sum(axis=0) / count
    return means.mean() + (np.where(known, table - means, 0) * len(table) / count).mean(axis=1)


class Mean(NamedTuple):
    """A mean over classes of means over images or groups, with its 95% interval, which may extend beyond the possible values."""

    value: float
    low: float
    high: float


def average_classes(table: np.ndarray) -> Mean:
    """Averages over the images that have a class, then over the classes; the interval is Student's, of `weigh_units`.

    With fewer than two units, or if all are equal, it is the widest possible interval, since nothing is known about others.

    Args:
        table: `float [images or groups, classes]`, from -1 to 1; NaN if it does not have the class. At least one image has one.
    """
    values = weigh_units(table[~np.isnan(table).all(axis=1)])
    value = float(values.mean())
    reach = find_reach(values)
    if reach is None:
        return Mean(value, min(value, -1.0), max(value, 1.0))
    return Mean(value, value - reach, value + reach)


class Regions(NamedTuple):
    """Connected regions of a class in an image.

    Attributes:
        found, missed: Regions of the true mask in which the class was predicted for at least a tenth of the pixels, and the others.
        false: Regions of the predicted mask that touch no pixel of the class.
    """

    found: int
    missed: int
    false: int


def count_regions(truth: np.ndarray, predicted: np.ndarray) -> Regions:
    """Counts regions, so that a small lesion counts as one, like a large one.

    Args:
        truth, predicted: `bool [height, width]`.
    """
    true_regions, count = ndimage.label(truth, NEIGHBOURS)
    predicted_regions, predicted_count = ndimage.label(predicted, NEIGHBOURS)
    numbers = np.arange(1, count + 1)
    hit = ndimage.mean(predicted, true_regions, numbers) if count else np.zeros(0)
    touched = ndimage.maximum(truth, predicted_regions, np.arange(1, predicted_count + 1)) if predicted_count else ()
    found = int((np.asarray(hit) >= FOUND).sum())
    return Regions(found, count - found, predicted_count - int(np.sum(touched)))


def measure_boundary_distance(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Returns how far apart the borders of two masks are, in pixels: the 95% Hausdorff distance; NaN if one is empty.

    For each border, the distances of its pixels to the other border, and their 95th percentile; the larger of the two directions counts (Maier-Hein,
    Reinke et al. 2024, Metrics reloaded, Nature Methods 21).

    Args:
        truth, predicted: `bool [height, width]`.
    """
    if not (truth.any() and predicted.any()):
        return float("nan")
    borders = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, predicted)]
    ways = [np.percentile(ndimage.distance_transform_edt(~other)[one], 95) for one, other in (borders, borders[::-1])]
    return float(max(ways))


def judge_masks(
    truth: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Judges predicted masks.

    Args:
        truth, predicted: `int [n, height, width]`, classes from 0, of which 0 is the background.
        class_names: The background's name first.
        groups: A group name for each image, such as its patient: then means and intervals are over groups.

    Returns:
        `pixel_accuracy` and that of `all_background`; `unit`, "image" or "group"; `classes`, for each class but the background `name`,
        `images` (that have it), `dice` and `iou` (each `value`, `low`, `high`, `count`, as `average` returns them), `pooled_dice`,
        `pooled_iou`, `missed_images` (with a Dice below .1), `empty_images` (that do not have it), `false_images` (those of them in which it was
        predicted), `regions`, `found_regions`, `false_regions`, `distance` (median of the boundary distances, over
        `distance_images` images); and `dice`, the mean of the classes' Dice, None if one class has no image.
    """
    overlap = count_overlap(truth, predicted, len(class_names))
    total = max(1, int(overlap.truth.sum()))
    classes: list[dict[str, Any]] = []
    means: list[float | None] = []
    for number, name in enumerate(class_names[1:], 1):
        both, true, found = (counts[:, number] for counts in overlap)
        has = true > 0
        dice, iou = (np.where(has, of[:, number], np.nan) for of in (overlap.dice, overlap.iou))
        regions, distances = np.zeros(3, int), []
        of_images = average(dice, groups)
        means.append(of_images.value)
        for at in np.flatnonzero(has | (found > 0)):
            masks = truth[at] == number, predicted[at] == number
            regions += count_regions(*masks)
            distances.append(measure_boundary_distance(*masks))
        known = [distance for distance in distances if not np.isnan(distance)]
        classes.append(
            {
                "name": name,
                "images": int(has.sum()),
                "dice": of_images._asdict(),
                "iou": average(iou, groups)._asdict(),
                "pooled_dice": _ratio(2 * both.sum(), true.sum() + found.sum()),
                "pooled_iou": _ratio(both.sum(), true.sum() + found.sum() - both.sum()),
                "missed_images": int((dice < FOUND).sum()),
                "empty_images": int((~has).sum()),
                "false_images": int((~has & (found > 0)).sum()),
                "regions": int(regions[:2].sum()),
                "found_regions": int(regions[0]),
                "false_regions": int(regions[2]),
                "distance": float(np.median(known)) if known else None,
                "distance_images": len(known),
            }
        )
    of_classes = [value for value in means if value is not None]
    return {
        "pixel_accuracy": float(overlap.both.sum() / total),
        "all_background": float(overlap.truth[:, 0].sum() / total),
        "unit": "image" if groups is None else "group",
        "dice": float(np.mean(of_classes)) if of_classes and len(of_classes) == len(means) else None,
        "classes": classes,
    }


def _ratio(numerator: int, denominator: int) -> float | None:
    return float(numerator / denominator) if denominator else None


class Thresholds(NamedTuple):
    """The results of thresholds of a probability, `float [thresholds]` each.

    Attributes:
        threshold: From low to high; a pixel is of the class if its probability is at least this.
        dice: Mean over the images that have the class.
        false_images: Share of the images without the class in which a pixel is called so; NaN if there are none.
    """

    threshold: np.ndarray
    dice: np.ndarray
    false_images: np.ndarray


def tabulate_thresholds(truth: np.ndarray, probabilities: np.ndarray) -> Thresholds:
    """Judges thresholds from 1/200 to 1, including .5.

    Args:
        truth: `bool [n, height, width]`.
        probabilities: `float [n, height, width]`, from 0 to 1.
    """
    thresholds = np.arange(1, LEVELS + 1) / LEVELS
    both, found = (np.zeros((len(truth), LEVELS + 1)) for _ in range(2))
    for at, (mask, scores) in enumerate(zip(truth, probabilities, strict=True)):
        level = np.searchsorted(thresholds, scores.astype(np.float64), side="right")  # how many thresholds it reaches
        found[at] = np.bincount(level.ravel(), minlength=LEVELS + 1)
        both[at] = np.bincount(level[mask], minlength=LEVELS + 1)
    # Pixels whose probability is at least the threshold; 0 would call all pixels so and is not a threshold.
    both, found = (counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:] for counts in (both, found))
    true = truth.reshape(len(truth), -1).sum(axis=1)
    has = true > 0
    dice = 2 * both[has] / (found[has] + true[has, None])
    false = found[~has] > 0
    of_none = np.full(LEVELS, np.nan)
    return Thresholds(
        thresholds,
        dice.mean(axis=0) if has.any() else of_none,
        false.mean(axis=0) if len(false) else of_none,
    )


def choose_threshold(table: Thresholds, most_false: float | None = None) -> float | None:
    """Chooses the threshold with the best mean Dice; if several are best, the one nearest to .5.

    Args:
        table: The table of validation images, never of those that are judged with it.
        most_false: Consider only thresholds with which at most this share of the images without a region gets a false one, from 0 to 1.

    Returns:
        The threshold; None if no image has a region, or no threshold has so few false ones.
    """
    allowed = ~np.isnan(table.dice)
    if most_false is not None:
        allowed &= table.false_images <= most_false
    if not allowed.any():
        return None
    best = allowed & (table.dice >= table.dice[allowed].max() - 1e-12)
    chosen = min(np.flatnonzero(best), key=lambda at: (abs(table.threshold[at] - 0.5), at))
    return float(table.threshold[chosen])


class Baseline(NamedTuple):
    """A way to make masks without a network.

    Attributes:
        name: "background", "mean_mask" or "brightness".
        masks: `uint8 [n, height, width]`: its masks for the judged images.
        settings: How it was made: for brightness `threshold`, 0 to 1, and whether dark pixels are marked (`is_dark`).
    """

    name: str
    masks: np.ndarray
    settings: dict[str, Any]


def make_baselines(pixels: np.ndarray, masks: np.ndarray, judged: np.ndarray, num_classes: int) -> list[Baseline]:
    """Makes masks that need no network: all background; the mean mask of training; brightness with a threshold.

    A network that is no better than these has learned nothing about the content of the image.

    Args:
        pixels: `uint8 [m, height, width, channels]`, training images.
        masks: `uint8 [m, height, width]`, their masks.
        judged: `uint8 [n, height, width, channels]`, the images that get masks.
        num_classes: Number of classes, with the background.
    """
    shape = judged.shape[:3]
    baselines = [Baseline("background", np.zeros(shape, np.uint8), {})]
    share = np.stack([(masks == number).mean(axis=0) for number in range(num_classes)])
    place = np.zeros(shape[1:], np.uint8)
    levels = np.zeros(num_classes)
    for number in range(1, num_classes):
        # The part of the image in which the class is most frequent, in the size that gives the best mean Dice with the training masks.
        tried = np.unique(share[number][share[number] > 0])
        tried = tried[np.linspace(0, len(tried) - 1, min(64, len(tried))).astype(int)] if len(tried) else np.ones(1)
        true = masks == number
        has = true.any(axis=(1, 2))
        dice = [_mean_dice(true[has], share[number] >= level) for level in tried]
        levels[number] = tried[int(np.argmax(dice))]
    for number in (
        np.argsort(share[1:].sum(axis=(1, 2)))[::-1] + 1
    ):  # if two classes claim a pixel, the rarer class gets it
        place[share[number] >= levels[number]] = number
    baselines.append(Baseline("mean_mask", np.broadcast_to(place, shape).copy(), {}))
    if num_classes == 2:
        brightness = [_brightness(images) for images in (pixels, judged)]
        true = masks == 1
        up, down = (tabulate_thresholds(true, values) for values in (brightness[0], 1 - brightness[0]))
        is_dark = np.nanmax(down.dice, initial=0) > np.nanmax(up.dice, initial=0)
        threshold = choose_threshold(down if is_dark else up) or 1.0
        scores = 1 - brightness[1] if is_dark else brightness[1]
        found = scores >= threshold
        baselines.append(
            Baseline("brightness", found.astype(np.uint8), {"is_dark": bool(is_dark), "threshold": threshold})
        )
    return baselines


def _brightness(pixels: np.ndarray) -> np.ndarray:
    """Brightness of each pixel, `float [n, height, width]`, 0 to 1."""
    return pixels.mean(axis=-1) / 255


def _mean_dice(truth: np.ndarray, place: np.ndarray) -> float:
    """The mean Dice of one mask with many masks, `bool [n, height, width]`."""
    if not len(truth):
        return 0.0
    both = (truth & place).sum(axis=(1, 2))
    return float((2 * both / (truth.sum(axis=(1, 2)) + place.sum())).mean())
