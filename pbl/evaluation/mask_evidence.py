"""What distinguishes a healthy segmentation network from a faulty one, besides its Dice: training images, baselines, and doubtful masks.

`pbl.diagnosis.segmentation` judges; this measures. Needs NumPy and SciPy, and a model that predicts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from scipy import stats

from pbl.data.doctor.finding import find_leak, find_shift
from pbl.evaluation.segmentation import (
    NO_SPREAD,
    count_overlap,
    find_reach,
    judge_masks,
    make_baselines,
    share_out,
    weigh_units,
)
from pbl.models.prediction import predict_outputs
from pbl.statistics import wilson_interval

AT_ONCE = 2**22  # pixels whose probabilities are in memory together
MOST_TRAIN = 500  # training images that are looked at
UNLIKE, ALIKE = 0.5, 0.7  # Dice: below the first, two masks mark different places; from the second on they agree
SHOWN = 200  # names of doubtful masks that are kept


class Predicted(NamedTuple):
    """Masks that a model predicted.

    Attributes:
        masks: `uint8 [n, height, width]`, the likeliest class of each pixel.
        foreground: `float32 [n, height, width]`, with two classes the probability of the second one; None with more.
        confidence: `float [n]`, the mean probability of the marked pixels; NaN if nothing is marked.
    """

    masks: np.ndarray
    foreground: np.ndarray | None
    confidence: np.ndarray


def predict_masks(model: keras.Model, pixels: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields slices of the images, one after another, and their probabilities, `float32 [some, height, width, classes]`."""
    at_once = max(1, AT_ONCE // int(np.prod(pixels.shape[1:3])))
    for start in range(0, len(pixels), at_once):
        place = slice(start, min(start + at_once, len(pixels)))
        yield place, predict_outputs(model, pixels[place])


def predict_with_confidence(model: keras.Model, pixels: Any, num_classes: int) -> Predicted | None:
    """Predicts masks, and how confident the network is in them.

    Args:
        model: Images to probabilities of each class for each pixel.
        pixels: `uint8 [n, height, width, channels]`, or an object that returns them for a slice.
        num_classes: Number of classes, with the background.

    Returns:
        What was predicted; None if an output is not a number.
    """
    shape = (len(pixels), *pixels.shape[1:3])
    masks, confidence = np.zeros(shape, np.uint8), np.full(len(pixels), np.nan)
    foreground = np.zeros(shape, np.float32) if num_classes == 2 else None
    for place, probabilities in predict_masks(model, pixels):
        if not np.isfinite(probabilities).all():
            return None
        masks[place] = found = probabilities.argmax(axis=-1)
        if foreground is not None:
            foreground[place] = probabilities[..., 1]
        marked = (found > 0).sum(axis=(1, 2))
        total = (probabilities.max(axis=-1) * (found > 0)).sum(axis=(1, 2))
        confidence[place] = np.where(marked > 0, total / np.maximum(marked, 1), np.nan)
    return Predicted(masks, foreground, confidence)


def name_groups(groups: Sequence[str] | None) -> list[str] | None:
    """The group names; an image in no group, whose name is "", is a group of its own. None if there are no groups."""
    return None if groups is None else [word or f"\0{at}" for at, word in enumerate(groups)]


def describe_marked(predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """How much is marked: `share` of the pixels, `true_share`, and in how many of the images with a class (`images`) anything is marked."""
    has = truth.reshape(len(truth), -1).any(axis=1)
    found = predicted.reshape(len(predicted), -1).any(axis=1)
    return {
        "share": float((predicted > 0).mean()),
        "true_share": float((truth > 0).mean()),
        "images": int(has.sum()),
        "marked_images": int((has & found).sum()),
    }


class Units(NamedTuple):
    """A value for each image that has a class, or for each group; their mean is the mean Dice of the classes.

    Attributes:
        values: `float [units]`, as `pbl.evaluation.segmentation.weigh_units` returns them.
        kept: `int [units]`, their index among all: the image's, or that of the sorted group name.
        of_image: `int [n]`, the index of each image's unit.
    """

    values: np.ndarray
    kept: np.ndarray
    of_image: np.ndarray


def make_units(dice: np.ndarray, groups: Sequence[str] | None = None) -> Units:
    """Distributes the mean Dice of the classes over images or groups.

    Args:
        dice: `float [n, classes]`, without the background; NaN if an image does not have the class.
        groups: A group name for each image, or None.
    """
    table = share_out(dice, groups)
    kept = np.flatnonzero(~np.isnan(table).all(axis=1))
    of_image = np.arange(len(dice)) if groups is None else np.unique(groups, return_inverse=True)[1]
    return Units(weigh_units(table[kept]) if len(kept) else np.zeros(0), kept, of_image)


def measure_dice(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """`float [n, classes]` without the background: Dice of each image; NaN if it does not have the class."""
    overlap = count_overlap(truth, predicted, num_classes)
    return np.where(overlap.truth > 0, overlap.dice, np.nan)[:, 1:]


class Difference(NamedTuple):
    """A difference of two mean Dice coefficients, first minus second, with its 95% interval; None with fewer than two values, or if all are equal."""

    value: float
    low: float | None
    high: float | None


def compare_means(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares the means of different images, with Welch's interval."""
    value = float(first.mean() - second.mean())
    if min(len(first), len(second)) < 2:
        return Difference(value, None, None)
    if max(np.ptp(first), np.ptp(second)) < NO_SPREAD:
        return Difference(value, None, None)
    low, high = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return Difference(value, float(low), float(high))


def compare_pairs(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compares the means of the same images, with Student's interval of their differences."""
    difference = first - second
    value = float(difference.mean())
    reach = find_reach(difference)
    if reach is None:
        return Difference(value, None, None)
    return Difference(value, value - reach, value + reach)


def compare_baselines(
    train: tuple[np.ndarray, np.ndarray],
    pixels: np.ndarray,
    truth: np.ndarray,
    units: Units,
    class_names: Sequence[str],
    groups: Sequence[str] | None,
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Judges baselines without a network on the same images.

    Args:
        train: Pixels and masks of training images.
        pixels, truth: Those of the judged images.
        units: The network's values on these.
        class_names: Class names, the background first.
        groups: A group name for each image, or None.

    Returns:
        For each baseline `name`, `dice`, `pixel_accuracy` and its settings; and how much better the network is than the best of them:
        `baseline`, `value`, `low`, `high`, on the same images; None if no image has a class.
    """
    baselines, best = [], None
    for baseline in make_baselines(*train, pixels, len(class_names)):
        dice = measure_dice(truth, baseline.masks, len(class_names))
        theirs, has_all = make_units(dice, groups).values, (~np.isnan(dice)).any(axis=0).all()
        row = {"name": baseline.name, "dice": float(theirs.mean()) if has_all else None}
        baselines.append({**row, "pixel_accuracy": float((truth == baseline.masks).mean()), **baseline.settings})
        if len(theirs) and (best is None or theirs.mean() > best[1].mean()):
            best = baseline.name, theirs
    if best is None:
        return baselines, None
    return baselines, {"baseline": best[0], **compare_pairs(units.values, best[1])._asdict()}


def describe_training(
    predicted: Predicted,
    truth: np.ndarray,
    names: Sequence[str],
    groups: Sequence[str] | None,
    val: Units,
    num_classes: int,
) -> dict[str, Any]:
    """How good the network is on training images, compared with validation: `dice`, `images`, and the `gap` with its interval.

    Args:
        predicted, truth, names, groups: Those of training images, which were not augmented.
        val: Its values on validation images.
        num_classes: Number of classes, with the background.
    """
    dice = measure_dice(truth, predicted.masks, num_classes)
    units = make_units(dice, groups)
    gap = compare_means(units.values, val.values) if len(units.values) and len(val.values) else None
    return {
        "images": len(truth),
        "dice": float(units.values.mean()) if len(units.values) else None,
        "gap": None if gap is None else gap._asdict(),
        "doubtful": find_doubtful(truth, predicted, names),
    }


def average_within(dice: np.ndarray) -> np.ndarray:
    """`float [n]`, the mean Dice of the classes that an image has; NaN if it has none."""
    known = ~np.isnan(dice)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, dice, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def find_doubtful(truth: np.ndarray, predicted: Predicted, names: Sequence[str]) -> dict[str, Any]:
    """Finds masks that mark another place than the network does, among the half of the images on which it is most confident.

    If a network errs by itself, it is mostly less confident than where it is right: in the more confident half it hardly errs. If some masks are
    wrong, it cannot tell which: what the correct ones have in common it marks on these images as confidently as on all others. A network that
    has memorised wrong masks shows no sign of this on training images. Which class the network names there does not matter: one that has not yet learned
    to distinguish two classes is as confident of the wrong one.

    Args:
        truth: `int [n, height, width]`, 0 for the background.
        predicted: What the network predicts for these images.
        names: Their names.

    Returns:
        `images` in the more confident half; `found`, how many of them have another place marked (Dice below .5), with `share`, `low` and `high` (Wilson's 95%
        interval), and their `names`, the most confident first; `agreeing`, the share of the half with a Dice of .7 and more.
    """
    dice, confidence = measure_dice(truth > 0, predicted.masks > 0, 2)[:, 0], predicted.confidence
    known = np.flatnonzero(~np.isnan(dice) & ~np.isnan(confidence))
    surer = known[np.argsort(-confidence[known], kind="stable")][: -(-len(known) // 2)]
    found = surer[dice[surer] < UNLIKE]
    low, high = wilson_interval(len(found), len(surer)) if len(surer) else (0.0, 1.0)
    return {
        "images": len(surer),
        "found": len(found),
        "share": len(found) / max(len(surer), 1),
        "low": low,
        "high": high,
        "agreeing": float((dice[surer] >= ALIKE).sum() / max(len(surer), 1)),
        "names": [str(names[at]) for at in found[:SHOWN]],
    }


class Measured(NamedTuple):
    """How good a model is on images with masks.

    Attributes:
        numbers: Ready for JSON: what `pbl.diagnosis.segmentation` reads.
        predicted: Its masks.
        dice: `float [n, classes]` without the background; NaN if an image does not have the class.
        units: The values by image or group.
    """

    numbers: dict[str, Any]
    predicted: Predicted
    dice: np.ndarray
    units: Units


def measure_masks(
    model: keras.Model,
    data: Any,
    images: Any,
    findings: Iterable[Mapping[str, Any]],
    is_validation: bool,
    groups: Sequence[str] | None = None,
) -> Measured | None:
    """Measures everything that is reported about a segmentation network, except its threshold.

    Args:
        model: Images to probabilities of each class for each pixel.
        data: Data with masks (`pbl.load_data`).
        images: The judged images.
        findings: What the data doctor found, as dictionaries.
        is_validation: Whether they are validation images: then training images are measured too.
        groups: A group name for each image, "" if it is in none; None if there are no groups.

    Returns:
        What was measured; None if the model's outputs are not all numbers.
    """
    names, truth, groups = data.class_names, images.masks, name_groups(groups)
    predicted = predict_with_confidence(model, images.view, len(names))
    if predicted is None:
        return None
    dice = measure_dice(truth, predicted.masks, len(names))
    units = make_units(dice, groups)
    train = data.sample("train", MOST_TRAIN)
    baselines, difference = compare_baselines((train.pixels, train.masks), images.pixels, truth, units, names, groups)
    training = None
    if is_validation and (of_train := predict_with_confidence(model, train.view, len(names))) is not None:
        of_groups = name_groups(data.groups_of(train.names))
        training = describe_training(of_train, train.masks, train.names, of_groups, units, len(names))
    numbers = {
        "images": len(truth),
        "masks": judge_masks(truth, predicted.masks, names, groups),
        "without_network": baselines,
        "doubtful": find_doubtful(truth, predicted, images.names),
        "difference": difference,
        "marked": describe_marked(predicted.masks, truth),
        "training": training,
        "leak": find_leak(findings),
        "shift": find_shift(findings),
    }
    return Measured(numbers, predicted, dice, units)
