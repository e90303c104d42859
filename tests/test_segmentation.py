"""Masks: how they are read and moved, how they are scored (against references of a few lines each), and the networks that learn them."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from test_checkpoint import Cut, PowerCut

import pbl
from pbl.data import fit_image, from_masked_arrays
from pbl.data.images import unfit_mask
from pbl.data.pipeline import order_of_epoch
from pbl.diagnosis.segmentation import diagnose_masks
from pbl.errors import InputError
from pbl.evaluation.mask_evidence import compare_means, compare_pairs, make_units, measure_masks
from pbl.evaluation.mask_figures import draw_classes
from pbl.evaluation.segmentation import (
    average,
    average_classes,
    choose_threshold,
    count_regions,
    judge_masks,
    make_baselines,
    measure_boundary_distance,
    tabulate_thresholds,
)
from pbl.models.cost import count_trainable_weights
from pbl.models.unet import unet
from pbl.storage.schemas import SegmentationMetrics
from pbl.training.callbacks import CALLBACKS
from pbl.training.mask_loss import MaskLoss, MeanDice
from pbl.training.trials import find_learning_rate, memorise


def draw_masks(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Two stacks of masks of 2 to 5 classes, with blotches and single pixels, also empty and full ones."""
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
    """200 stacks; and judging one image after another gives the same as all at once."""
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
    """One large lesion found, nine small ones missed: pooled pixels look good. And a network that finds nothing is not perfect on empty images."""
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


@pytest.mark.parametrize("value", [1.0, 0.0, 0.7])
@pytest.mark.parametrize("n", [5, 10])
def test_equal_values_say_nothing_about_other_images(value, n):
    """If each image is perfect with a probability of p, ten perfect ones have p^10, which is above 5% down to p = .74: no interval of no width."""
    same = np.full(n, value)
    assert average(same) == (pytest.approx(value), None, None, n)
    assert average_classes(same[:, None]) == (pytest.approx(value), -1, 1)
    assert compare_pairs(same, same - 0.25) == (pytest.approx(0.25), None, None)
    assert compare_means(same, np.full(3, 0.2)) == (pytest.approx(value - 0.2), None, None)
    masks = np.zeros((n, 8, 8), int)
    masks[:, 2:5, 2:5] = 1
    (judged,) = judge_masks(masks, masks, ["background", "object"])["classes"]
    assert judged["dice"]["value"] == 1 and judged["dice"]["low"] is None and judged["iou"]["high"] is None
    low, high = average(np.append(same, 0.5))[1:3]  # one image differs: Student's interval, by SciPy
    expected = stats.t.interval(0.95, n, np.append(same, 0.5).mean(), stats.sem(np.append(same, 0.5)))
    assert (low, high) == pytest.approx(np.clip(expected, 0, 1))


def test_the_interval_of_several_classes_holds_their_mean():
    """Drawn 300 times: with two classes, each on some of the images, the interval contains the true mean in about 95%."""
    random, held = np.random.default_rng(3), 0
    for _ in range(300):
        dice = np.stack([random.beta(4, 2, 40), random.beta(2, 3, 40)], axis=1)
        dice[random.random((40, 2)) < (0.2, 0.6)] = np.nan
        units = make_units(dice)
        assert units.values.mean() == pytest.approx(np.nanmean(dice, axis=0).mean())
        _, low, high = average_classes(dice)
        held += low <= (4 / 6 + 2 / 5) / 2 <= high
        assert average(units.values)[:3] == pytest.approx(average_classes(dice))
        assert make_units(dice[:, :1]).values == pytest.approx(dice[~np.isnan(dice[:, 0]), 0])
    assert 0.91 * 300 <= held <= 0.985 * 300


def test_borders_and_regions():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    moved = np.roll(mask, 3, axis=1)
    assert measure_boundary_distance(mask, moved) == 3 and measure_boundary_distance(mask, mask) == 0
    assert np.isnan(measure_boundary_distance(mask, np.zeros_like(mask)))
    hit = np.zeros_like(mask)
    hit[5, 5:7] = True  # 2 of 25 pixels: less than a tenth, but not a false region either
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


# --- data


def draw_shapes(count: int, side: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright squares on dark noise, on a third of the images none; and their masks."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (count, side, side), np.uint8)
    masks = np.zeros((count, side, side), np.uint8)
    for number in range(count):
        if number % 3:
            top, left = random.integers(0, side - 6, 2)
            masks[number, top : top + 6, left : left + 6] = 1
    images[masks == 1] += 150
    return images, masks


def save(file: Path, values: np.ndarray, **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file, **options)


def write_pairs(folder: Path, images="images", masks="masks", coding=lambda mask: mask * 255, end="", count=30) -> Path:
    for number, (image, mask) in enumerate(zip(*draw_shapes(count), strict=True)):
        save(folder / images / f"{number}.png", image)
        save(folder / masks / f"{number}{end}.png", coding(mask))
    return folder


COLOURS = np.array([[0, 0, 0], [128, 0, 0]], np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"end": "_mask"},
        {"coding": lambda mask: mask},
        {"coding": lambda mask: mask.astype(np.uint16) * 3},
        {"coding": lambda mask: mask.astype(bool)},
        {"coding": lambda mask: COLOURS[mask]},
        {
            "coding": lambda mask: np.dstack([COLOURS[1] * np.ones((*mask.shape, 1), np.uint8), mask * 255])
        },  # transparent
        {"images": "images/cat", "masks": "masks/cat"},
        {"images": "x/Images", "masks": "x/labels"},
    ],
)
def test_masks_are_read_as_people_save_them(tmp_path, options):
    write_pairs(tmp_path / "photos", **options)
    data = pbl.load_data(str(tmp_path / "photos"), masks=True)
    assert data.class_names == ["background", "foreground"] and data.input_shape == (16, 16, 1)
    images, masks = draw_shapes(30)
    everything = data.everything
    for at, name in enumerate(everything.names):
        number = int(Path(name).stem)
        np.testing.assert_array_equal(everything.masks[at], masks[number])
        np.testing.assert_array_equal(everything.pixels[at, ..., 0], images[number])
        assert everything.labels[at] == masks[number].max()
    batch = next(iter(data.val))
    np.testing.assert_array_equal(batch[0], data.images("val").pixels[: len(batch[0])])
    np.testing.assert_array_equal(batch[1], data.images("val").masks[: len(batch[0])])


def test_official_splits_archives_and_arrays_with_masks(tmp_path):
    for split, images, masks in (("train", "train/images", "train/masks"), ("test", "test/images", "test/masks")):
        write_pairs(tmp_path / "a", images, masks, count={"train": 30, "test": 9}[split])
        write_pairs(tmp_path / "b", f"images/{split}", f"masks/{split}", count={"train": 30, "test": 9}[split])
    shutil.make_archive(str(tmp_path / "c"), "zip", tmp_path / "a")
    images, masks = draw_shapes(30)
    np.savez(tmp_path / "d.npz", x_train=images, m_train=masks, x_test=images[:9], m_test=masks[:9])
    hashes = set()
    for source in ("a", "b", "c.zip", "d.npz"):
        data = pbl.load_data(str(tmp_path / source), masks=True)
        assert len(data.images("test").names) == 9 and data.split["made_by"]["test"]["kind"] == "official"
        hashes.add(data.images_hash)
    assert len(hashes) == 1
    other = pbl.load_data(lambda: from_masked_arrays(images, 1 - masks, test=(images, masks)), masks=True)
    assert other.images_hash not in hashes  # other masks for the same images are other data


def test_classes_have_names_and_several_masks_are_united(tmp_path):
    images, masks = draw_shapes(30)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(tmp_path / "images" / f"{number}.png", image)
        halves = mask.copy(), mask.copy()
        halves[0][:, 8:], halves[1][:, :8] = 0, 0
        for part, half in enumerate(halves):
            save(tmp_path / "masks" / f"{number}_mask_{part}.png", half * np.uint8(100 * (part + 1)))
    (tmp_path / "classes.txt").write_text("0 ground\n100 left\n200 right\n")
    data = pbl.load_data(str(tmp_path), masks=True)
    assert data.class_names == ["ground", "left", "right"]
    for mask, name in zip(data.everything.masks, data.everything.names, strict=True):
        whole = masks[int(Path(name).stem)]
        expected = np.where(np.arange(16) < 8, whole, 2 * whole)
        np.testing.assert_array_equal(mask, expected)
    assert "several_masks" in {finding.check for finding in data.check("train", "val")}


def break_folder(folder: Path, how: str) -> None:
    one, mask = folder / "images" / "3.png", folder / "masks" / "3.png"
    steps = {
        "no mask": lambda: mask.unlink(),
        "no masks": lambda: shutil.rmtree(folder / "masks"),
        "no images": lambda: [file.unlink() for file in (folder / "images").iterdir()],
        "no folder": lambda: shutil.rmtree(folder),
        "two folders of masks": lambda: shutil.copytree(folder / "masks", folder / "labels"),
        "another size": lambda: save(mask, np.zeros((16, 15), np.uint8)),
        "empty file": lambda: mask.write_bytes(b""),
        "no picture": lambda: mask.write_bytes(b"mask"),
        "cut off": lambda: mask.write_bytes(mask.read_bytes()[:-30]),
        "photographs": lambda: [save(file, np.arange(256, dtype=np.uint8).reshape(16, 16)) for file in (folder / "masks").iterdir()],
        "nothing marked": lambda: [save(file, np.zeros((16, 16), np.uint8)) for file in (folder / "masks").iterdir()],
        "too few names": lambda: (folder / "classes.txt").write_text("ground\n"),
        "too many names": lambda: (folder / "classes.txt").write_text("ground\na\nb\n"),
        "a value without a name": lambda: (folder / "classes.txt").write_text("0 ground\n7 a\n"),
        "names that are no text": lambda: (folder / "classes.txt").write_bytes(b"\xff\xfe\xff"),
        "broken image": lambda: one.write_bytes(one.read_bytes()[:-30]),
    }  # fmt: skip
    steps[how]()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no mask", "1 image has no mask, such as images/3.png"),
        ("no masks", "contains images. Valid: images/ and masks/"),
        ("no images", "contains no image"),
        ("no folder", "No folder"),
        ("two folders of masks", "which are the masks?"),
        ("another size", "The mask masks/3.png has 16x15 pixels, but its image images/3.png has 16x16"),
        ("empty file", "The mask masks/3.png cannot be decoded"),
        ("no picture", "1 mask cannot be read"),
        ("cut off", "The mask masks/3.png cannot be decoded"),
        ("photographs", "256 different values"),
        ("nothing marked", "no value except 0: nothing is marked in any of 30 masks"),
        ("too few names", "names 1 class(es), but the masks have 2 values: 0, 255"),
        ("too many names", "Begin each line with its value"),
        ("a value without a name", "has no name for the value 255"),
        ("names that are no text", "classes.txt cannot be read"),
        ("broken image", "images/3.png cannot be decoded"),
    ],
)
def test_broken_masks_are_told_in_one_line(tmp_path, how, said):
    folder = write_pairs(tmp_path / "photos")
    break_folder(folder, how)
    with pytest.raises(InputError) as error:
        pbl.load_data(str(folder), masks=True)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_masks_where_none_are_wanted_and_the_reverse(tmp_path):
    images, masks = draw_shapes(30)
    for make, said in (
        (lambda: pbl.load_data(lambda: from_masked_arrays(images, masks)), "train with task=segmentation"),
        (lambda: pbl.load_data("digits", masks=True), "has classes but no masks"),
        (lambda: from_masked_arrays(images, masks[:-1]), "30 images but 29 masks"),
        (lambda: from_masked_arrays(images, masks - 0.5), "is float64"),
        (
            lambda: from_masked_arrays(images, np.where(images > 40, masks * 2, 1), ["a", "b"]),
            "names 2 class(es), but the masks have 3 values: 0, 1, 2",
        ),
        (lambda: pbl.load_data(lambda: from_masked_arrays(images, masks[:, :8]), masks=True), "has 8x16 pixels"),
    ):
        with pytest.raises(InputError) as error:
            make()
        assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "how", [{"flip": True}, {"crop": 3}, {"rotation": 30, "zoom": 0.2}, {"flip": True, "crop": 2, "rotation": 20}]
)
def test_a_mask_moves_as_its_image_does(how):
    """If the image is its own mask, the mask of the augmented image is where it is bright; each pass gives the same."""
    masks = np.zeros((64, 24, 24), np.uint8)
    random = np.random.default_rng(0)
    for mask in masks:
        top, left = random.integers(4, 12, 2)
        mask[top : top + 8, left : left + 7] = 1
    data = pbl.load_data(lambda: from_masked_arrays(masks * 255, masks), masks=True, augmentation=how, batch_size=16)
    agree, moved = [], []
    for (x, m), (again, m_again) in zip(data.stream(0, 0).take(2), data.stream(0, 0).take(2), strict=True):
        np.testing.assert_array_equal(x, again), np.testing.assert_array_equal(m, m_again)
        bright = x.numpy()[..., 0] > 127
        agree.append((bright == (m.numpy() == 1)).mean())
        moved.append(m.numpy())
        assert set(np.unique(m)) <= {0, 1}
    assert np.mean(agree) > (0.99 if "rotation" in how else 0.999999)
    plain = data.images("train").masks[order_of_epoch(len(data.images("train").labels), 0, 0)[:16]]
    assert (moved[0] != plain).any()


def test_a_mask_is_made_smaller_without_classes_between_two():
    images, masks = draw_shapes(30, side=32)
    data = pbl.load_data(
        lambda: from_masked_arrays(images, masks * 2, ["a", "b", "c"]), masks=True, image_size=(11, 13)
    )
    assert set(np.unique(data.everything.masks)) == {0, 2} and data.everything.masks.shape[1:] == (11, 13)


# --- learning


def test_losses_of_masks_are_those_of_numpy():
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, (4, 5, 6))
    scores = np.exp(random.normal(size=(4, 5, 6, 3)))
    p = (scores / scores.sum(axis=-1, keepdims=True)).astype(np.float32)
    one_hot = np.eye(3)[truth]
    weights = np.array([1.0, 2.0, 5.0])
    entropy = (-np.log((one_hot * p).sum(-1)) * (one_hot * weights).sum(-1)).mean(axis=(1, 2))
    both, either = (one_hot * p).sum(axis=(1, 2))[:, 1:], (one_hot + p).sum(axis=(1, 2))[:, 1:]
    dice = (1 - (2 * both + 1) / (either + 1)).mean(axis=1)
    for kind, expected in (("cross_entropy", entropy), ("dice", dice), ("both", entropy + dice)):
        found = MaskLoss(kind, weights.tolist(), reduction="none")(truth, p)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    nothing = np.zeros((1, 5, 6), int)
    sure = np.eye(3, dtype=np.float32)[nothing]
    assert float(MaskLoss("both")(nothing, sure)) == pytest.approx(0, abs=1e-6)
    metric = MeanDice()
    for at in range(4):  # whatever the batches
        metric.update_state(truth[at : at + 1], p[at : at + 1])
    found = p.argmax(-1)
    pairs = [
        2 * ((a == k) & (b == k)).sum() / ((a == k).sum() + (b == k).sum())
        for a, b in zip(truth, found, strict=True) for k in (1, 2) if (a == k).any()
    ]  # fmt: skip
    assert float(metric.result()) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_the_published_size_of_u_net():
    """31,037,633 with three channels and one output is what the widely used PyTorch form with batch normalisation has."""
    assert count_trainable_weights(unet((64, 64, 3), 1)) == 31_037_633
    assert count_trainable_weights(unet((64, 64, 1), 2, batch_norm=False)) == 31_030_658
    small = unet((30, 21, 3), 4, width=4, depth=3)
    assert small.output_shape == (None, 30, 21, 4)
    assert not any(
        isinstance(layer, keras.layers.Concatenate) for layer in unet((16, 16, 1), 2, width=2, skips=False).layers
    )


# --- the diagnosis


class Planted:
    """A network that returns what was planted for each image, which it recognises by its pixels."""

    def __init__(self, pixels: np.ndarray, probabilities: np.ndarray):
        self.of = {image.tobytes(): given for image, given in zip(pixels, probabilities, strict=True)}
        self.nothing = np.full_like(probabilities[0], 1 / probabilities.shape[-1])

    def predict(self, images: np.ndarray, **_) -> np.ndarray:
        return np.stack([self.of.get(image.tobytes(), self.nothing) for image in images])


def plant(masks: np.ndarray, classes: int, sure: float | np.ndarray = 0.95) -> np.ndarray:
    """Probabilities that mark these masks, with the given confidence for each."""
    sure = np.broadcast_to(sure, len(masks))[:, None, None, None]
    chosen = np.eye(classes)[masks]
    return (chosen * sure + (1 - chosen) * (1 - sure) / (classes - 1)).astype(np.float32)


def roll(masks: np.ndarray, at: np.ndarray) -> np.ndarray:
    moved = masks.copy()
    moved[at] = np.roll(moved[at], 8, axis=1)
    return moved


def tell(data, found: dict[str, np.ndarray], findings=(), groups=None) -> tuple[list[str], dict[str, dict]]:
    """The verdict on masks planted for training and validation: names of what is found, and the numbers of each."""
    sides = {split: data.images(split) for split in ("train", "val")}
    pixels = np.concatenate([images.pixels for images in sides.values()])
    network = Planted(pixels, np.concatenate([found[split] for split in sides]))
    measured = measure_masks(network, data, sides["val"], findings, True, groups)
    verdict = diagnose_masks(SegmentationMetrics.model_validate(json.loads(json.dumps(measured.numbers))).model_dump())
    return [finding.name for finding in verdict.findings], {of.name: of.details for of in verdict.findings}


def test_a_class_that_is_taken_for_another_is_no_wrong_mask():
    """A network that cannot yet distinguish two classes marks the right places, and is as confident of the wrong class."""
    images, masks = draw_shapes(300, seed=4)
    masks = masks * (1 + np.arange(300) % 2)[:, None, None]
    data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    one = {split: plant(np.minimum(data.images(split).masks, 1), 3) for split in ("train", "val")}
    assert "label_noise_suspected" not in tell(data, one)[0]


def test_what_the_verdict_says_of_planted_masks():
    images, masks = draw_shapes(300, seed=4)
    images[::2] = 255 - images[::2]  # brightness alone does not show the mask
    data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    truth = {split: data.images(split).masks.copy() for split in ("train", "val")}
    random = np.random.default_rng(0)
    no, third = {split: np.zeros(len(of), bool) for split, of in truth.items()}, {}
    for split, of in truth.items():
        third[split] = random.random(len(of)) < 0.3

    def network(moved=no, less_sure=no, change=lambda split, masks: masks):
        return {
            split: plant(change(split, roll(of, moved[split])), 2, np.where(less_sure[split], 0.6, 0.95))
            for split, of in truth.items()
        }

    assert tell(data, network())[0] == ["healthy"]
    names, of = tell(data, network(), groups=["patient1"] * len(truth["val"]))  # of one patient there is no interval
    assert names == ["healthy"] and of["healthy"]["low"] is None and of["healthy"]["dice"] == 1
    names, of = tell(data, network(change=lambda split, masks: 0 * masks))
    assert (
        names == ["learned_nothing"]
        and of[names[0]]["found"] == 0
        and of[names[0]]["right"] == of[names[0]]["background"]
    )
    assert tell(data, network(change=lambda split, masks: np.roll(masks, 8, axis=1)))[0][0] == "learned_nothing"
    names, of = tell(data, network(moved=third))  # as if these masks were moved: the network marks the true place
    has = truth["train"].any(axis=(1, 2))
    assert names[0] == "label_noise_suspected" and of[names[0]]["images"] == -(-int(has.sum()) // 2)
    assert of[names[0]]["share"] == pytest.approx(0.3, abs=0.12) and of[names[0]]["agreeing"] == pytest.approx(
        1 - of[names[0]]["share"]
    )
    assert (
        "label_noise_suspected" not in tell(data, network(moved=third, less_sure=third))[0]
    )  # these are the network's own errors
    names, of = tell(data, network(moved={"train": no["train"], "val": third["val"]}))
    assert names[0] == "overfitting" and of["overfitting"]["train"] == 1
    assert of["overfitting"]["val"] == pytest.approx(1 - of["overfitting"]["value"])
    shift = {
        "check": "shift",
        "severity": "note",
        "items": [],
        "details": {"split": "val", "auc": 0.9, "statistic": "brightness"},
    }
    assert tell(data, network(moved={"train": no["train"], "val": third["val"]}), [shift])[0][0] == "shift_suspected"
    assert tell(data, network(), [shift])[0] == ["healthy"]  # the shift is seen, but does no harm
    leak = {"check": "altered_copies", "severity": "stop", "items": ["a", "b"], "details": {}}
    assert tell(data, network(), [leak])[0][0] == "leak_suspected"

    def mark_empty(split, masks):
        masks[~masks.any(axis=(1, 2)), :3, :3] = 1
        return masks

    names, of = tell(data, network(change=mark_empty))
    empty = int((~truth["val"].any(axis=(1, 2))).sum())
    assert names == ["false_regions"] and (of[names[0]]["false"], of[names[0]]["empty"]) == (empty, empty)

    def mark_less(split, masks):  # half of each square: a Dice of two thirds, on both sides
        masks[:, ::2] = 0
        return masks

    assert tell(data, network(change=mark_less))[0][0] == "underfitting"


def test_a_class_that_is_never_found_is_named():
    images, masks = draw_shapes(300, seed=5)
    masks *= 1 + (np.arange(300) % 2)[:, None, None].astype(np.uint8)
    data = pbl.load_data(lambda: from_masked_arrays(images, masks, ["ground", "left", "right"]), masks=True)
    found = {
        split: plant(np.where(of == 2, 0, of), 3) for split, of in ((s, data.images(s).masks) for s in ("train", "val"))
    }
    names, of = tell(data, found)
    count = int((data.images("val").masks == 2).any(axis=(1, 2)).sum())
    assert "class_never_found" in names and of["class_never_found"]["classes"] == f"right ({count})"


@pytest.mark.nightly
@pytest.mark.slow
def test_the_monitor_measures_the_gap_and_changes_nothing():
    """Its numbers are those of the model at the end; the weights are those of a training without it."""
    data = pbl.load_data("squares", masks=True, batch_size=16, split_seed=1)
    weights = []
    for callbacks in ([], [pbl.MaskMonitor(data)]):
        keras.utils.set_random_seed(0)
        model = unet(data.input_shape, data.num_classes, width=4, depth=2)
        model.compile(optimizer=keras.optimizers.Adam(0.01), loss=MaskLoss(), metrics=[MeanDice()])
        data.seek(0)
        history = model.fit(data.train, validation_data=data.val, epochs=2, callbacks=callbacks, verbose=0).history
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    (monitor,) = callbacks
    val = data.images("val")
    predicted = model.predict(val.pixels, verbose=0).argmax(axis=-1)
    expected = judge_masks(val.masks, predicted, data.class_names)["dice"]
    assert history["val_probe_dice"][-1] == pytest.approx(expected, abs=1e-5) == monitor.rows[-1]["val_probe_dice"]
    assert history["gap"][-1] == pytest.approx(history["probe_dice"][-1] - history["val_probe_dice"][-1])
    assert history["gap_low"][-1] <= history["gap"][-1] <= history["gap_high"][-1]
    assert monitor.diagnosis.headline.name in ("learned_nothing", "underfitting", "no_better_than_baseline")
    with pytest.raises(InputError, match="data with masks"):
        pbl.MaskMonitor(pbl.load_data("digits"))


@pytest.mark.parametrize(
    ("encoder", "scales", "depth"),
    [("resnet20", [1, 2, 4], 2), ("vgg_small", [1, 2, 4, 8], 3), ("efficientnetv2_transfer", [2, 4, 8, 16, 32], 5)],
)
def test_a_classifier_is_the_left_side(encoder, scales, depth):
    """Its maps of each size are passed across; the mask always has the image's size; with `weights=None` everything is trained."""
    model = unet((40, 52, 1), 3, width=4, encoder=encoder)
    assert model.output_shape == (None, 40, 52, 3)
    left = model.get_layer("encoder")
    height = left.inputs[0].shape[1]
    assert {height // output.shape[1] for output in left.outputs} >= set(scales) and left.trainable_weights
    assert height % 2**depth == 0 and height - 40 < 2**depth
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 52, 1))
    assert np.asarray(model(images)).sum(axis=-1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("encoder", ["vgg16_transfer", "resnet50_transfer", "efficientnet_transfer"])
def test_a_backbone_gets_the_pixels_that_it_learned_on(encoder):
    """The lowest map of the left side equals the classifier's, whose preprocessing may be a separate layer."""
    classifier = pbl.models.build(encoder, (64, 64, 1), 2, weights=None)
    (backbone,) = [layer for layer in classifier.layers if isinstance(layer, keras.Model)]
    model = unet((64, 64, 1), 2, width=4, encoder=encoder)
    left = model.get_layer("encoder")
    left.set_weights(backbone.get_weights()[: len(left.get_weights())])
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype(np.float32)
    features = keras.Model(classifier.inputs[0], classifier.get_layer("features").output)(images)
    x = images
    for layer in model.layers[1 : model.layers.index(left)]:
        x = layer([x] * 3) if isinstance(layer, keras.layers.Concatenate) else layer(x)
    lowest = np.asarray(left(x)[-1])
    assert lowest.mean(axis=(1, 2)) == pytest.approx(np.asarray(features), rel=1e-3, abs=1e-4)


@pytest.mark.nightly
@pytest.mark.slow
def test_a_run_is_the_left_side(tmp_path, command):
    """A classifier's weights are those of the left side, frozen, then fine-tuned; the run is loaded without the classifier's."""
    images, masks = draw_shapes(150)
    pbl.DATASETS["kinds"] = lambda: pbl.data.from_arrays(images, masks.any(axis=(1, 2)).astype(int))
    small = {"model": "small_cnn", "epochs": 1, "precision": "float32"}
    donor = pbl.train(pbl.Config(dataset="kinds", experiment="donor", **small), folder=tmp_path)
    options = {"width": 4, "encoder": "small_cnn", "weights": str(donor.path)}
    config = pbl.Config(**SETTINGS).replace(model_options=options, epochs=1)
    model = pbl.models.build("unet", (16, 16, 1), 2, **options)
    left, kernels = model.get_layer("encoder"), [w for w in pbl.load_model(donor).weights if len(w.shape) == 4]
    assert not left.trainable_weights
    for weight, given in zip([w for w in left.weights if len(w.shape) == 4], kernels, strict=True):
        np.testing.assert_array_equal(weight, given)
    run = pbl.train(config.replace(fine_tune_epochs=1, fine_tune_learning_rate=1e-3, unfreeze=1), folder=tmp_path)
    donor.path.rename(tmp_path / "gone")
    predicted = pbl.load_model(run).predict(images[:4, ..., None], verbose=0)
    assert predicted.shape == (4, 16, 16, 2) and run.environment["fine_tune_from_epoch"] == 2
    for options, said in (
        ({"encoder": "mlp"}, "no maps that halve"),
        ({"encoder": "resnet2"}, "resnet20"),
        ({"weights": "imagenet"}, "model_options.encoder too"),
        ({"encoder": "resnet20", "weights": "imagenet"}, "efficientnet_transfer"),
        ({"encoder": "resnet20", "weights": str(tmp_path / "gone")}, "requested is resnet20"),
        ({"encoder": "resnet20", "weights": str(tmp_path / "no")}, "no"),
    ):
        with pytest.raises(InputError) as error:
            pbl.models.build("unet", (16, 16, 1), 2, **options)
        assert said in str(error.value) and "\n" not in str(error.value)


SETTINGS = {
    "task": "segmentation", "dataset": "squares", "model": "unet", "model_options": {"width": 4, "depth": 2, "dropout": 0.0},
    "epochs": 3, "learning_rate": 0.02, "batch_size": 16, "augmentation": {"flip": True, "crop": 2}, "precision": "float32",
}  # fmt: skip


@pytest.fixture(autouse=True)
def squares():
    pbl.DATASETS["squares"] = lambda: from_masked_arrays(*draw_shapes(150))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:  # an entry made for a whole file would remain for later files
        patch.setitem(pbl.DATASETS, "squares", lambda: from_masked_arrays(*draw_shapes(150)))
        return pbl.train(pbl.Config(**SETTINGS).replace(epochs=15), folder=tmp_path_factory.mktemp("runs"))


def test_a_run_from_training_to_prediction(trained, tmp_path, command):
    metrics = trained.read_json("metrics_val.json")
    model, data = pbl.load_model(trained), pbl.load_data("squares", masks=True)
    images = data.images("val")
    for size in (1, 64):
        predicted = np.concatenate(
            [model.predict(images.pixels[at : at + size], verbose=0) for at in range(0, len(images.names), size)]
        )
        alone = judge_masks(images.masks, predicted.argmax(axis=-1), data.class_names)
        assert metrics["metrics"]["dice"] == pytest.approx(alone["dice"], abs=1e-6)
        assert metrics["masks"]["classes"][0]["regions"] == alone["classes"][0]["regions"]
    table = tabulate_thresholds(images.masks == 1, predicted[..., 1])
    assert metrics["threshold"]["value"] == choose_threshold(table)
    with np.load(trained.path / "predictions_val.npz") as saved:
        assert saved["values"].mean() == pytest.approx(metrics["metrics"]["dice"])
    history = pd.read_csv(trained.path / "history.csv")
    assert history["val_dice"].max() > 0.3 and trained.environment["best_epoch"] == history["val_dice"].idxmax() + 1

    assert command("check", trained.path, "--out", tmp_path / "check")[0] == 0
    status, out, _ = command("evaluate", trained.path, "--split", "test", "--json")
    of_test = json.loads(out)
    assert status == 0 and of_test["threshold"]["value"] == metrics["threshold"]["value"]
    assert command("evaluate", trained.path)[0] == command("report", trained.path)[0] == 0
    drawn = {file.stem for file in (trained.path / "figures").glob("*.png")}
    assert {"masks_val", "sizes_val", "thresholds_val"} <= drawn
    assert {"masks_val", "sizes_val", "thresholds_val"} <= {
        file.stem for file in (trained.path / "figures").glob("*.png")
    }
    save(tmp_path / "one.png", images.pixels[0, ..., 0])
    status, out, _ = command("predict", trained.path, tmp_path / "one.png", "--maps", tmp_path / "maps", "--json")
    assert status == 0 and (tmp_path / "maps" / "one_map.png").is_file()
    with Image.open(tmp_path / "maps" / "one_mask.png") as picture:
        assert (
            picture.size == (16, 16)
            and int((np.asarray(picture) > 0).sum()) == json.loads(out)[0]["foreground: pixels"]
        )
    assert (tmp_path / "maps" / "classes.txt").read_text() == "0 background\n1 foreground\n"
    assert "foreground: share" in command("predict", trained.path, tmp_path / "one.png")[1]
    marked = int((predicted[0, ..., 1].astype(np.float64) >= metrics["threshold"]["value"]).sum())
    assert str(marked) in out


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(40, 60), (90, 30), (64, 64), (17, 31)])
def test_a_mask_goes_back_to_where_its_image_was(fit, shape):
    """A block in an image, fitted to a model's input, marked there, and mapped back, is where it was, except for its border."""
    image = np.zeros((*shape, 1), np.uint8)
    rows, columns = (slice(side // 3, side // 3 + side // 2) for side in shape)
    image[rows, columns] = 255
    fitted = fit_image(image, (64, 48), 1, fit)[..., 0] > 127
    own = unfit_mask(fitted.astype(np.uint8), shape, fit) > 0
    expected = image[..., 0] > 0
    assert own.shape == shape
    if fit == "crop":  # the part that was cut off is not known
        seen = unfit_mask(np.ones((64, 48), np.uint8), shape, fit) > 0
        assert 0.2 < seen.mean() <= 1 and not own[~seen].any()
        expected &= seen
    dice = 2 * (own & expected).sum() / (own.sum() + expected.sum())
    assert dice > 0.9, dice


@pytest.mark.slow
def test_with_groups_each_counts_once(tmp_path):
    images, masks = draw_shapes(60)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(tmp_path / "images" / f"p{number // 4}_{number}.png", image)
        save(tmp_path / "masks" / f"p{number // 4}_{number}.png", mask)
    config = pbl.Config(**SETTINGS).replace(dataset=str(tmp_path), groups=r"p(\d+)_", epochs=1)
    run = pbl.train(config, folder=tmp_path / "runs")
    metrics = run.read_json("metrics_val.json")
    assert metrics["masks"]["unit"] == "group"
    with np.load(run.path / "predictions_val.npz") as saved:
        assert len(saved["values"]) == metrics["masks"]["classes"][0]["dice"]["count"] < metrics["images"]
        assert saved["values"].mean() == pytest.approx(metrics["metrics"]["dice"])


@pytest.mark.nightly
@pytest.mark.slow
def test_trials_of_masks():
    """A rate is suggested that trains, and a few masks are memorised; with a useless rate they are not."""
    config = pbl.Config(**SETTINGS)
    assert memorise(config, count=8, steps=200)[0] > 0.95
    assert memorise(config.replace(learning_rate=1e-7), count=8, steps=20)[0] < 0.8
    data = pbl.load_data("squares", masks=True)
    model = unet(data.input_shape, data.num_classes, width=4, depth=2)
    model.compile(optimizer="adam", loss=MaskLoss())
    assert 1e-4 < find_learning_rate(model, data).suggestion < 0.1


@pytest.mark.nightly
def test_cut_off_and_resumed_to_the_bit(tmp_path):
    CALLBACKS["cut"] = Cut
    config = pbl.Config(**SETTINGS).replace(callbacks=["cut"], checkpoint_minutes=1e-6)
    whole = pbl.train(config, folder=tmp_path / "whole")
    Cut.at = ("step", 1, 3)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    for one, other in zip(pbl.load_model(run).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.read_json("metrics_val.json")["masks"] == whole.read_json("metrics_val.json")["masks"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "small_cnn", "model_options": {}}, "a probability of each class for each pixel"),
        ({"task_options": {"loss": "focal"}}, "Valid: cross_entropy, dice, both"),
        ({"task_options": {"class_weights": "5"}}, "a number, 0 or more, for each class"),
        ({"task_options": {"false_images": 2}}, "from 0 to below 1"),
        ({"task_options": {"class_weights": [1, 2, 3]}}, "has 3 numbers, but there are 2 classes"),
        ({"label_smoothing": 0.1}, "Valid: task_options.loss=cross_entropy, dice, both"),
        ({"augmentation": {"mixup": 0.2}}, "MixUp and CutMix also mix labels"),
        ({"dataset": "digits"}, "has classes but no masks"),
        ({"task": "classification", "task_options": {}}, "task=segmentation"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, values, said):
    with pytest.raises(InputError) as error:
        pbl.train(pbl.Config(**SETTINGS).replace(**values), folder=tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_each_class_of_a_predicted_mask_has_its_own_colour():
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 2:4], mask[:, 4:] = 1, 3
    for names, colours, said in (
        (["ground", "a", "b", "c"], 3, ["a", "c"]),  # b is not marked
        (["ground", "a"], 2, []),
    ):
        figure = draw_classes(np.full((4, 6, 1), 100, np.uint8), np.minimum(mask, len(names) - 1), names)
        (shown,) = figure.axes[0].images
        assert len(np.unique(np.asarray(shown.get_array()).reshape(-1, 3), axis=0)) == colours
        assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == said
