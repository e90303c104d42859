"""Masks: what they are worth, by references that are a few lines each."""

import numpy as np
import pytest
from scipy import stats

from pbl.evaluation.segmentation import (
    average,
    choose_threshold,
    count_regions,
    judge_masks,
    make_baselines,
    measure_boundary_distance,
    tabulate_thresholds,
)


def draw_masks(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two stacks of masks of 2 to 5 classes, blotches and single pixels, empty and full ones among them."""
    random = np.random.default_rng(seed)
    classes, shape = 2 + seed % 4, (6, int(random.integers(3, 14)), int(random.integers(3, 14)))
    truth, predicted = (np.zeros(shape, np.uint8) for _ in range(2))
    for masks in (truth, predicted):
        for mask in masks:
            for _ in range(random.integers(0, 5)):
                top, left = random.integers(0, shape[1]), random.integers(0, shape[2])
                height, width = random.integers(1, 6, 2)
                mask[top : top + height, left : left + width] = random.integers(0, classes)
    truth[0], predicted[1] = random.integers(0, 2, 2) * (classes - 1)
    predicted[2] = truth[2]
    return truth, predicted, [str(number) for number in range(classes)]


def find_regions(mask: np.ndarray) -> list[set]:
    """Flood fill, eight neighbours."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        region, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            region.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            edge += near
        regions.append(region)
    return regions


def measure_by_hand(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The 95% Hausdorff distance from all pairs of border pixels."""

    def border(mask):
        padded = np.pad(mask, 1)
        inner = padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    a, b = border(truth), border(predicted)
    if not (len(a) and len(b)):
        return float("nan")
    between = np.sqrt(np.square(a[:, None] - b[None]).sum(axis=2))
    return max(np.percentile(between.min(axis=1), 95), np.percentile(between.min(axis=0), 95))


def test_masks_are_judged_as_a_reference_judges_them():
    """200 stacks; and one image after the other gives what all at once give."""
    for seed in range(200):
        truth, predicted, names = draw_masks(seed)
        found = judge_masks(truth, predicted, names)
        assert found["pixel_accuracy"] == pytest.approx((truth == predicted).mean())
        assert found["all_background"] == pytest.approx((truth == 0).mean())
        for number, of in enumerate(found["classes"], 1):
            dice, iou, false, regions = [], [], 0, [0, 0, 0]
            both = true = guessed = 0
            for a, b in zip(truth == number, predicted == number, strict=True):
                both, true, guessed = both + (a & b).sum(), true + a.sum(), guessed + b.sum()
                if a.any():
                    dice.append(2 * (a & b).sum() / (a.sum() + b.sum()))
                    iou.append((a & b).sum() / (a | b).sum())
                else:
                    false += b.any()
                for region in find_regions(a):
                    hit = np.mean([b[place] for place in region])
                    regions[0 if hit >= 0.1 else 1] += 1
                regions[2] += sum(not any(a[place] for place in region) for region in find_regions(b))
            assert (of["images"], of["false_images"], of["empty_images"]) == (len(dice), false, len(truth) - len(dice))
            assert of["found_regions"] == regions[0] and of["regions"] == sum(regions[:2])
            assert of["false_regions"] == regions[2] and of["missed_images"] == sum(np.array(dice) < 0.1)
            for name, values in (("dice", dice), ("iou", iou)):
                assert of[name]["value"] == (pytest.approx(np.mean(values)) if values else None)
                if len(values) > 1 and np.std(values):
                    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
                    assert of[name]["low"] == pytest.approx(max(0, low)) and of[name]["high"] == pytest.approx(
                        min(1, high)
                    )
            either = true + guessed
            assert of["pooled_dice"] == (pytest.approx(2 * both / either) if either else None)
            distances = [measure_by_hand(a, b) for a, b in zip(truth == number, predicted == number, strict=True)]
            known = [distance for distance in distances if not np.isnan(distance)]
            assert of["distance_images"] == len(known)
            assert of["distance"] == (pytest.approx(np.median(known)) if known else None)


def test_what_a_single_number_hides():
    """One large lesion found, nine small ones missed: pooled pixels praise it. And who finds nothing is not perfect on empty images."""
    truth = np.zeros((20, 32, 32), np.uint8)
    truth[0, 4:28, 4:28] = 1
    truth[1:10, 3:5, 3:5] = 1
    predicted = np.zeros_like(truth)
    predicted[0] = truth[0]
    (of,) = judge_masks(truth, predicted, ["background", "lesion"])["classes"]
    assert of["dice"]["value"] == pytest.approx(0.1) and of["pooled_dice"] > 0.95
    assert (of["found_regions"], of["regions"], of["missed_images"]) == (1, 10, 9)
    assert (of["empty_images"], of["false_images"]) == (10, 0)
    nothing = judge_masks(truth, np.zeros_like(truth), ["background", "lesion"])
    assert nothing["dice"] == 0 and nothing["pixel_accuracy"] == nothing["all_background"] > 0.95


def test_patients_are_counted_once_each():
    values, patients = np.array([0.9, 0.9, 0.9, 0.9, 0.1, np.nan]), ["a", "a", "a", "a", "b", "b"]
    found = average(values, patients)
    assert found.value == pytest.approx(0.5) and found.count == 2
    assert average(values).value == pytest.approx(0.74) and average(values).count == 5
    assert average(np.array([np.nan])).value is None and average(np.array([0.3])).low is None


def test_borders_and_regions():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    moved = np.roll(mask, 3, axis=1)
    assert measure_boundary_distance(mask, moved) == 3 and measure_boundary_distance(mask, mask) == 0
    assert np.isnan(measure_boundary_distance(mask, np.zeros_like(mask)))
    hit = np.zeros_like(mask)
    hit[5, 5:7] = True  # 2 of 25 pixels: less than a tenth, and no false region either
    assert count_regions(mask, hit) == (0, 1, 0)
    hit[6, 5] = True
    assert count_regions(mask, hit) == (1, 0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_thresholds_are_those_of_brute_force(seed):
    random = np.random.default_rng(seed)
    truth = random.random((12, 7, 7)) < random.random((12, 1, 1)) / 2
    truth[:5] = False
    scores = (random.integers(0, 21, truth.shape) / 20).astype([np.float32, np.float64][seed % 2])
    table = tabulate_thresholds(truth, scores)
    for at in range(0, len(table.threshold), 7):
        called = scores.astype(np.float64) >= table.threshold[at]
        dice = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(truth, called, strict=True) if a.any()]
        assert table.dice[at] == pytest.approx(np.mean(dice))
        assert table.false_images[at] == pytest.approx(
            np.mean([b.any() for a, b in zip(truth, called, strict=True) if not a.any()])
        )
    chosen = choose_threshold(table)
    assert table.dice[np.searchsorted(table.threshold, chosen)] == table.dice.max()
    strict = choose_threshold(table, most_false=0.0)
    if strict is not None:
        assert table.false_images[np.searchsorted(table.threshold, strict)] == 0
    assert choose_threshold(tabulate_thresholds(truth[:5], scores[:5])) is None


def test_of_equal_thresholds_the_nearest_to_a_half_is_chosen():
    truth = np.zeros((2, 4, 4), bool)
    truth[0, :2] = True
    scores = np.where(truth, 0.8, 0.1)
    assert choose_threshold(tabulate_thresholds(truth, scores)) == 0.5
    assert choose_threshold(tabulate_thresholds(truth, scores), most_false=0.0) == 0.5


def test_masks_without_a_network():
    random = np.random.default_rng(0)
    masks = np.zeros((30, 16, 16), np.uint8)
    for mask in masks:
        top, left = random.integers(3, 6, 2)
        mask[top : top + 6, left : left + 6] = 1
    pixels = np.where(masks[..., None] == 1, 30, 200) + random.integers(-20, 20, (*masks.shape, 1))
    pixels = pixels.astype(np.uint8)
    found = {of.name: of for of in make_baselines(pixels[:20], masks[:20], pixels[20:], 2)}
    assert not found["background"].masks.any()
    dice = {name: judge_masks(masks[20:], of.masks, ["background", "a"])["dice"] for name, of in found.items()}
    assert dice["background"] == 0 and 0.6 < dice["mean_mask"] < 0.95 and dice["brightness"] == 1
    assert found["brightness"].settings["is_dark"]
    three = masks * (1 + (np.arange(30) % 2)[:, None, None]).astype(np.uint8)
    assert {of.name for of in make_baselines(pixels, three, pixels, 3)} == {"background", "mean_mask"}
