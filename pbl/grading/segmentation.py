"""How good submitted masks are: Dice as the mean over images or patients, and how often a class is marked that is not there."""

from collections.abc import Sequence

import numpy as np

from pbl.evaluation.segmentation import Overlap, average, average_classes, count_overlap, share_out
from pbl.grading.judge import Scored

# What is reported for a team: the mean Dice of the classes with its 95% interval; among the images that lack a class, the share in which one that
# they lack is marked; and each class separately.
MEASURES = ("dice", "dice_interval", "false_images", "classes")
MOST_COMPARED = 2**21  # pixels on which two teams are compared


def split_masks(result: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Splits the masks of all images by image.

    Args:
        result: `uint8 [pixels]`, as `pbl.grading.mask_files.read_masks` returns it.
        sizes: Height and width of each image.

    Returns:
        For each image `uint8 [height, width]`.
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
        masks, truth: For each image `uint8 [height, width]`, classes from 0, which is the background.
        class_names: The background's name first.
        groups: A group name for each image, such as its patient: then each group counts once.

    Returns:
        In `metrics`, `dice` is the mean, over the classes that some image has, of the mean over the images that have the class; `false_images` is
        None if no image lacks a class; `classes` has for each class except the background `name`, `dice`, `low` and `high` (as
        `pbl.evaluation.segmentation.average` returns them), `images` that have it, `empty_images` that do not have it, and among these
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
    table = share_out(dice, groups)
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
    """`uint8 [pixels]`: every k-th pixel of all images, with k such that there are at most `MOST_COMPARED`."""
    step, left, parts = -(-sum(mask.size for mask in masks) // MOST_COMPARED), 0, []
    for mask in masks:
        parts.append(mask.ravel()[left::step])
        left = (left - mask.size) % step
    return np.concatenate(parts)


def find_mask_flags(scored: Scored, masks: Sequence[np.ndarray], ceiling: float) -> list[str]:
    """The flags that one submission's own masks cause."""
    flags, last = [], {mask.shape: mask for mask in masks}
    if not any(mask.any() for mask in masks):
        flags.append("all_background")
    elif len(last) < len(masks) and all(np.array_equal(last[mask.shape], mask) for mask in masks):
        flags.append("constant_predictions")
    if scored.metrics["dice"] > ceiling:
        flags.append("above_ceiling")
    return flags


def are_dice_tied(one: Scored, other: Scored, labels: np.ndarray) -> bool:
    """Whether these images cannot distinguish two submissions: the 95% interval of the difference of their mean Dice, paired over the
    images or groups (`average_classes` of the differences), contains 0."""
    mean = average_classes(one.scores - other.scores)
    return mean.low <= 0 <= mean.high
