"""What masks that were handed in are worth: Dice as the mean over images or patients, and where a class is marked that is not there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from pbl.evaluation.segmentation import Overlap, average, count_overlap
from pbl.grading.judge import Scored

# What is told of a team: the mean Dice of the classes with its 95% interval; of the images that lack a class, the share in which one that
# they lack is marked; and each class for itself.
MEASURES = ("dice", "dice_interval", "false_images", "classes")
MOST_COMPARED = 2**21  # pixels by which two teams are compared


def split_masks(result: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Takes the masks of all images apart.

    Args:
        result: `uint8 [pixels]`, as `pbl.grading.mask_files.read_masks` gives it.
        sizes: Height and width of each image.

    Returns:
        Of each image `uint8 [height, width]`.
    """
    ends = np.cumsum([height * width for height, width in sizes])
    return [part.reshape(size) for part, size in zip(np.split(result, ends[:-1]), sizes, strict=True)]


def score_masks(
    masks: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
) -> Scored:
    """Scores one submission.

    Args:
        masks, truth: Of each image `uint8 [height, width]`, classes from 0, which is the background.
        class_names: The background's name first.
        groups: A word for each image, such as its patient: then each group counts once.

    Returns:
        Of `metrics`, `dice` is the mean over the classes that an image has of the mean over the images that have it; `false_images` is
        None where no image lacks a class; `classes` holds for each class but the background `name`, `dice`, `low` and `high` (as
        `pbl.evaluation.segmentation.average` gives them), `images` that have it, `empty_images` that have it not, and of these
        `false_images`. `scores` has a row for each image or group.
    """
    counted = [count_overlap(true[None], mask[None], len(class_names)) for true, mask in zip(truth, masks, strict=True)]
    overlap = Overlap(*(np.concatenate(counts)[:, 1:] for counts in zip(*counted, strict=True)))
    has, is_marked = overlap.truth > 0, overlap.predicted > 0
    dice = np.where(has, overlap.dice, np.nan)
    classes = []
    for number, name in enumerate(class_names[1:]):
        of = average(dice[:, number], groups)
        told = {"name": name, "dice": of.value, "low": of.low, "high": of.high, "images": int(has[:, number].sum())}
        told["empty_images"] = int((~has[:, number]).sum())
        classes.append(told | {"false_images": int((~has & is_marked)[:, number].sum())})
    lacks, is_false = (~has).any(axis=1), (~has & is_marked).any(axis=1)
    table = _share_out(dice, groups)
    mean = average_classes(table)
    metrics = {
        "images": len(truth),
        "dice": mean.value,
        "dice_interval": [max(0.0, mean.low), min(1.0, mean.high)],
        "false_images": float(is_false.sum() / lacks.sum()) if lacks.any() else None,
        "classes": classes,
    }
    return Scored(metrics, list_pixels(masks), table)


def list_pixels(masks: Sequence[np.ndarray]) -> np.ndarray:
    """`uint8 [pixels]`: of all images one pixel in so many that they are no more than `MOST_COMPARED`."""
    step, left, parts = -(-sum(mask.size for mask in masks) // MOST_COMPARED), 0, []
    for mask in masks:
        parts.append(mask.ravel()[left::step])
        left = (left - mask.size) % step
    return np.concatenate(parts)


def _share_out(dice: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """`float [images or groups, classes]`: of each group the mean of its images that have the class, NaN where none has."""
    if groups is None:
        return dice
    words, of = np.unique(groups, return_inverse=True)
    known = ~np.isnan(dice)
    total, count = (np.zeros((len(words), dice.shape[1])) for _ in range(2))
    np.add.at(total, of, np.where(known, dice, 0))
    np.add.at(count, of, known)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


class Mean(NamedTuple):
    """A mean over classes of means over images or groups, with its 95% interval, which may reach beyond what is possible."""

    value: float
    low: float
    high: float


def average_classes(table: np.ndarray) -> Mean:
    """Averages over the images that have a class, then over the classes that an image has.

    The interval is Student's, of what each image or group adds to the mean: its distance from the mean of each class that it has, times
    the part that it is of that mean (the linearised variance of a ratio; Cochran 1977, Sampling Techniques, 3rd edition, section 6.4).
    With one class it is that of the mean. Of fewer than two it is the widest that there is, since nothing is known.

    Args:
        table: `float [images or groups, classes]`, from -1 to 1; NaN where it has not the class. Some image has one.
    """
    table = table[:, ~np.isnan(table).all(axis=0)]
    known = ~np.isnan(table)
    count, units = known.sum(axis=0), int(known.any(axis=1).sum())
    means = np.where(known, table, 0).sum(axis=0) / count
    value = float(means.mean())
    if units < 2:
        return Mean(value, min(value, -1.0), max(value, 1.0))
    added = (np.where(known, table - means, 0) * units / count).mean(axis=1)
    reach = float(stats.t.ppf(0.975, units - 1) * np.sqrt(np.square(added).sum() / (units - 1) / units))
    return Mean(value, value - reach, value + reach)


def find_mask_flags(scored: Scored, masks: Sequence[np.ndarray], ceiling: float) -> list[str]:
    """The flags that one submission's own masks raise."""
    flags, last = [], {mask.shape: mask for mask in masks}
    if not any(mask.any() for mask in masks):
        flags.append("all_background")
    elif len(last) < len(masks) and all(np.array_equal(last[mask.shape], mask) for mask in masks):
        flags.append("constant_predictions")
    if scored.metrics["dice"] > ceiling:
        flags.append("above_ceiling")
    return flags


def are_dice_tied(one: Scored, other: Scored, labels: np.ndarray) -> bool:
    """Whether these images cannot tell two submissions apart: the 95% interval of the difference of their mean Dice, paired over the
    images or groups (`average_classes` of the differences), holds 0."""
    mean = average_classes(one.scores - other.scores)
    return mean.low <= 0 <= mean.high
