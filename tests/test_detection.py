"""Detection: average precision compared with pycocotools, counts by plain loops, and the centre network with its loss in NumPy."""

import contextlib
import io

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

import pbl
from pbl.diagnosis.detection import _find_baseline as find_baseline
from pbl.errors import InputError
from pbl.evaluation.detection import (
    average_over_classes,
    choose_threshold,
    compute_average_precision,
    compute_iou,
    count_shown,
    find_interval,
    judge_boxes,
    judge_matches,
    judge_threshold,
    make_baselines,
    match,
    score_images,
    split_map,
    tabulate_thresholds,
)
from pbl.models.center_net import center_net, decode
from pbl.models.prediction import predict_outputs
from pbl.training.box_loss import CenterLoss, find_radius

NOTHING = [0, 0, 0, 0, -1]


def draw_case(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Images with crowds and with nothing, boxes next to the true ones and of other classes, equal scores, absent classes, more than 100 boxes."""
    random = np.random.default_rng(seed)
    n, classes, most = int(random.integers(1, 9)), int(random.integers(1, 5)), int(random.integers(1, 12))
    most_found = 260 if seed % 10 == 0 else int(random.integers(1, 30))
    side = 14 if seed % 3 == 0 else 40

    def draw(count: int) -> np.ndarray:
        corner, sides = random.integers(0, side - 4, (n, count, 2)).astype(float), random.integers(2, 16, (n, count, 2))
        if seed % 4 == 1:
            corner, sides = corner + random.random((n, count, 2)), sides + random.random((n, count, 2))
        boxes = np.concatenate([corner, corner + sides, random.integers(0, classes, (n, count, 1))], axis=-1)
        boxes[random.random((n, count)) < 0.3] = NOTHING
        return boxes

    truth, found = draw(most), draw(most_found)
    near = random.random((n, most_found)) < 0.7
    for at, row in zip(*np.nonzero(near), strict=True):
        if row < most and truth[at, row, 4] >= 0:
            found[at, row] = truth[at, row]
            found[at, row, :4] += random.integers(-1, 2, 4) * (random.random() < 0.7)
            if random.random() < 0.15:
                found[at, row, 4] = random.integers(0, classes)
    scores = random.integers(1, 6, (n, most_found, 1)) / 7 if seed % 2 else random.random((n, most_found, 1))
    found = np.concatenate([found, np.where(found[..., 4:] < 0, 0, scores)], axis=-1)
    if n > 2:
        truth[0], found[1] = NOTHING, [*NOTHING, 0]
    if n > 4:
        truth[2], found[2] = NOTHING, [*NOTHING, 0]
    if seed % 7 == 0 and classes > 1:
        truth[truth[..., 4] == classes - 1] = NOTHING
    return truth.astype(np.float32), found.astype(np.float32), classes


def ask_coco(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """`float [classes, 10]` by pycocotools; NaN for its -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def tell(box: np.ndarray) -> dict:
        left, top, right, bottom, kind = box[:5].tolist()
        return {"bbox": [left, top, right - left, bottom - top], "category_id": int(kind) + 1, "iscrowd": 0, "area": (right - left) * (bottom - top)}  # fmt: skip

    true = [{"image_id": at + 1, **tell(box)} for at, boxes in enumerate(truth) for box in boxes if box[4] >= 0]
    rows = [{"image_id": at + 1, **tell(box), "score": float(box[5])} for at, boxes in enumerate(found) for box in boxes if box[4] >= 0]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        of = COCO()
        of.dataset = {
            "images": [{"id": at + 1} for at in range(len(truth))], "categories": [{"id": number + 1} for number in range(classes)],
            "annotations": [{"id": number + 1, **one} for number, one in enumerate(true)],
        }  # fmt: skip
        of.createIndex()
        judged = COCOeval(of, of.loadRes(rows), "bbox")
        judged.evaluate()
        judged.accumulate()
    precision = judged.eval["precision"][:, :, :, 0, 2].mean(axis=1)  # [10, classes]
    return np.where(precision > -1, precision, np.nan).T


def test_average_precision_is_that_of_pycocotools():
    pytest.importorskip("pycocotools")
    absent = cut = 0
    for seed in range(200):
        truth, found, classes = draw_case(seed)
        if not (found[..., 4] >= 0).any():
            continue  # pycocotools does not read an empty list
        expected = ask_coco(truth, found, classes)
        matches = match(truth, found, classes)
        np.testing.assert_allclose(compute_average_precision(matches), expected, atol=1e-12, err_msg=str(seed))
        absent += np.isnan(expected).any()
        cut += len(matches.image) < (found[..., 4] >= 0).sum()
    assert absent > 20 and cut > 2  # both cases occurred


def test_average_precision_by_hand():
    """Right, false, right of three true boxes: precision 1 up to a recall of 1/3, 2/3 up to 2/3, then 0; 34 and 33 recalls of 101."""
    truth = np.array([[[0, 0, 10, 10, 0], [20, 0, 30, 10, 0], [40, 0, 50, 10, 0], NOTHING]], np.float32)
    found = np.array([[[0, 0, 10, 10, 0, 0.9], [60, 0, 70, 10, 0, 0.8], [20, 0, 30, 8, 0, 0.7]]], np.float32)
    table = compute_average_precision(match(truth, found, 2))
    assert table[0, 0] == pytest.approx((34 + 33 * 2 / 3) / 101)
    assert table[0, 6] == table[0, 0] and table[0, 7] == pytest.approx(34 / 101)  # the last has an IoU of .8
    assert np.isnan(table[1]).all()  # a class that no image has
    judged, _ = judge_boxes(truth, found, ["a", "b"], 0.75)
    assert judged["map50"] == table[0, 0] and judged["classes"][1]["ap50"] is None
    assert judged["map50_interval"] is None  # with one image nothing is known
    nothing, _ = judge_boxes(truth[:, 3:], found[:, :0], ["a", "b"], 0.5)
    assert nothing["map50"] is None and nothing["at_threshold"]["right_count"] == 1
    assert judge_boxes(truth, found[:, :0], ["a", "b"], None)[0]["map50"] == 0
    with pytest.raises(InputError, match="diverged"):
        match(truth, found * np.nan, 2)


def test_the_interval_is_that_of_images_left_out_and_drawn_anew():
    """Each image is left out, and each sample drawn, by matching exactly these images again."""
    truth, classes = np.concatenate([draw_case(seed)[0][:, :1] for seed in range(2, 40, 4)]), 4
    random = np.random.default_rng(0)
    found = np.concatenate([truth, random.random((*truth.shape[:2], 1))], axis=-1).astype(np.float32)
    found[..., :4] += random.integers(-2, 3, found[..., :4].shape)

    def measure(at: np.ndarray) -> float:
        return average_over_classes(compute_average_precision(match(truth[at], found[at], classes)).T)[0]

    matches, n = match(truth, found, classes), len(truth)
    whole, everything = measure(np.arange(n)), np.arange(n)
    without = np.array([measure(np.delete(everything, at)) for at in range(n)])
    values = split_map(matches)
    assert values.mean() == pytest.approx(whole) and np.diff(values) == pytest.approx(-(n - 1) * np.diff(without))
    # The jackknife's standard error (Efron and Stein 1981), Student's quantile, and the mean of the drawn samples.
    error = np.sqrt((n - 1) / n * ((without - without.mean()) ** 2).sum())
    drawn = np.random.default_rng(3).multinomial(n, np.full(n, 1 / n), size=60)
    bias = np.mean([measure(np.repeat(everything, counts)) for counts in drawn]) - whole
    reach = stats.t.ppf(0.975, n - 1) * error
    wanted = max(0, min(whole - bias - reach, whole)), min(1, max(whole - bias + reach, whole))
    assert find_interval(matches, draws=60, seed=3) == pytest.approx(wanted)
    groups = [str(at // 10) for at in range(n)]
    low, high = find_interval(matches, groups)
    assert 0 <= low < high <= 1 and (low, high) == find_interval(matches, groups) != find_interval(matches)
    assert find_interval(matches, ["one"] * n) is None
    of_groups = np.array([measure(np.flatnonzero(np.array(groups) != word)) for word in sorted(set(groups))])
    assert np.diff(split_map(matches, groups)) == pytest.approx(-(len(of_groups) - 1) * np.diff(of_groups))


@pytest.mark.parametrize("is_right", [True, False])
def test_equal_images_have_no_interval(is_right):
    """All boxes found in each of five images, or none in any: without any one of them mAP50 is the same."""
    truth = np.tile(np.array([[[4, 4, 12, 12, 0]]], np.float32), (5, 1, 1))
    found = np.concatenate(
        [truth + (0 if is_right else np.array([40, 40, 40, 40, 0])), np.full((5, 1, 1), 0.9)], axis=-1
    )
    matches = match(truth, found.astype(np.float32), 1)
    judged, values = judge_matches(matches, ["one"], None)
    assert judged["map50"] == pytest.approx(float(is_right)) and np.ptp(values) < 1e-9
    assert find_interval(matches) is None is judged["map50_interval"]
    found[0, 0, :4] += 20 if is_right else -40  # one image differs: the interval is not empty
    low, high = find_interval(match(truth, found.astype(np.float32), 1))
    assert 0 <= low < high <= 1


def count_by_loops(truth: np.ndarray, found: np.ndarray, classes: int, threshold: float) -> dict:
    """Match what the threshold shows, box by box; count classes in each image."""
    values, right_counts, errors, total = [], [], [], np.zeros(3)
    for true, boxes in zip(truth, found, strict=True):
        true = [list(box) for box in true if box[4] >= 0]
        shown = sorted((box for box in boxes if box[4] >= 0 and box[5] >= threshold), key=lambda box: -box[5])
        shown = [box for at, box in enumerate(shown) if sum(one[4] == box[4] for one in shown[:at]) < 100]
        left, right = list(range(len(true))), 0
        for box in shown:
            near = [
                (compute_iou(box[None], np.array(true[at])[None])[0, 0], at) for at in left if true[at][4] == box[4]
            ]
            near = [pair for pair in near if pair[0] >= 0.5]
            if near:
                left.remove(max(near)[1])
                right += 1
        total += right, len(shown), len(true)
        values.append(2 * right / (len(shown) + len(true)) if shown or true else 1.0)
        right_counts.append(all(sum(b[4] == c for b in shown) == sum(b[4] == c for b in true) for c in range(classes)))
        errors.append(abs(len(shown) - len(true)))
    f1 = 2 * total[0] / (total[1] + total[2]) if total[1:].any() else None
    return {"values": values, "right_count": np.mean(right_counts), "count_error": np.mean(errors), "f1": f1}


@pytest.mark.parametrize("seed", range(1, 25, 3))
def test_what_a_threshold_shows_is_what_plain_loops_count(seed):
    truth, found, classes = draw_case(seed)
    matches = match(truth, found, classes)
    table = tabulate_thresholds(matches)
    for place in range(0, len(table.threshold), 1 + len(table.threshold) // 8):
        threshold = table.threshold[place]
        expected, judged = count_by_loops(truth, found, classes, threshold), judge_threshold(matches, threshold)
        np.testing.assert_allclose(score_images(matches, threshold), expected["values"])
        assert judged["image_f1"] == pytest.approx(np.mean(expected["values"]))
        for name in ("right_count", "count_error", "f1"):
            assert judged[name] == (None if expected[name] is None else pytest.approx(expected[name])), name
        assert table.right_count[place] == pytest.approx(expected["right_count"])
        assert table.f1[place] == pytest.approx(expected["f1"] or 0)
    low, high = judge_threshold(matches, 0.5)["right_count_interval"]
    assert low <= judge_threshold(matches, 0.5)["right_count"] <= high
    chosen = choose_threshold(matches)
    if chosen is not None:  # the lowest of the best
        best = table.threshold[np.isclose(table.f1, table.f1.max())]
        assert chosen == best.min() and judge_threshold(matches, chosen)["f1"] == pytest.approx(table.f1.max())


def test_images_without_objects_are_counted_apart():
    truth = np.array([[NOTHING], [NOTHING], [[0, 0, 9, 9, 1]]], np.float32)
    found = np.array([[[0, 0, 9, 9, 1, 0.8]], [[0, 0, 9, 9, 0, 0.2]], [[0, 0, 9, 9, 1, 0.9]]], np.float32)
    matches = match(truth, found, 2)
    judged = judge_threshold(matches, 0.5)
    assert (judged["empty"], judged["empty_with_boxes"]) == (2, 1)
    assert score_images(matches, 0.5).tolist() == [0, 1, 1] and count_shown(matches, 0.1).shown.tolist() == [1, 1, 1]
    assert choose_threshold(matches) == pytest.approx(0.85)
    assert choose_threshold(match(truth[:2], found[:2], 2)) is None


def test_finders_that_see_no_image():
    """With three digits at one place and one elsewhere: the mean of the three, and also the single one below it."""
    boxes = [[0, 0, 8, 8, 1], [2, 0, 8, 8, 1], [1, 0, 8, 8, 1], [40, 40, 60, 60, 1]]
    truth = np.array([[box] for box in boxes], np.float32)
    made = make_baselines(truth, (64, 64), 2, 3)
    assert made["mean_box"].shape == (2, 1, 6) and made["mean_box"][1, 0].tolist() == [1, 0, 8, 8, 1, 0.75]
    assert made["mean_boxes"][0].tolist() == [[1, 0, 8, 8, 1, 0.75], [40, 40, 60, 60, 1, 0.25]]
    assert (made["nothing"][..., 4] == -1).all()
    table = compute_average_precision(match(truth[:2], made["mean_box"], 3))
    assert table[1, 0] == 1 and np.isnan(table[0, 0])
    empty = make_baselines(truth[:0], (64, 64), 2, 3)
    assert all(match(truth[:2], found, 3).truth.sum() == 2 for found in empty.values())


def decode_by_loops(maps: np.ndarray, size: tuple[int, int]) -> list[tuple]:
    """All peaks of an image, by decreasing score."""
    rows, columns, channels = maps.shape
    found = []
    for row in range(rows):
        for column in range(columns):
            for kind in range(channels - 4):
                heat = maps[row, column, kind]
                if heat > 0 and heat >= maps[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2, kind].max():
                    width, height, right, down = maps[row, column, -4:]
                    x, y = 4 * (column + right), 4 * (row + down)
                    sides = x - 2 * max(width, 0), y - 2 * max(height, 0), x + 2 * max(width, 0), y + 2 * max(height, 0)
                    cut = [min(max(side, 0), size[1 - at % 2]) for at, side in enumerate(sides)]
                    found.append((*cut, kind, heat))
    return sorted(found, key=lambda box: -box[5])  # stable: among equal ones the first cell, then the first class


@pytest.mark.parametrize(("rows", "columns", "classes"), [(5, 7, 2), (16, 16, 10), (30, 20, 3)])
def test_boxes_are_the_peaks_of_the_heat(rows, columns, classes):
    """Also equal heat side by side; fewer than 100 are padded with empty rows; boxes are cut at the image."""
    random = np.random.default_rng(rows)
    maps = random.random((3, rows, columns, classes + 4)).astype(np.float32)
    maps[..., :classes] = maps[..., :classes].round(2)  # so many values are equal
    maps[1, ..., :classes] = 0.0
    maps[..., classes : classes + 2] = 8 * maps[..., classes : classes + 2] - 1
    size = 4 * rows - 1, 4 * columns - 2
    found = np.asarray(decode(maps, size))
    assert found.shape == (3, 100, 6) and found.dtype == np.float32
    assert found[1].tolist() == [[0, 0, 0, 0, -1, 0]] * 100
    for image in (0, 2):
        expected = decode_by_loops(maps[image], size)[:100]
        np.testing.assert_allclose(found[image, : len(expected)], expected, atol=1e-4)
        assert (found[image, len(expected) :] == [0, 0, 0, 0, -1, 0]).all()
        assert (np.diff(found[image, :, 5]) <= 0).all()


def draw_boxes(seed: int, n: int = 3, most: int = 6, classes: int = 3) -> np.ndarray:
    """Boxes within 32x24 pixels: an empty image, boxes without area, two centres in one cell, two of a class next to each other."""
    random = np.random.default_rng(seed)
    corner = random.random((n, most, 2)) * (10, 16)
    boxes = np.concatenate([corner, corner + 1 + 12 * random.random((n, most, 2)), random.integers(0, classes, (n, most, 1))], axis=-1)  # fmt: skip
    boxes[random.random((n, most)) < 0.3] = NOTHING
    boxes[0] = NOTHING
    boxes[0, 0] = [3, 3, 3, 9, 1]  # of no width
    boxes[1, :4] = [[4, 4, 12, 12, 0], [5, 3, 12, 12, 2], [8, 4, 18, 12, 0], [5, 5, 11, 12, 0]]
    return boxes


def compute_loss_by_loops(boxes: np.ndarray, maps: np.ndarray, overlap: float) -> np.ndarray:
    """Equations 1 to 4 of Zhou et al., cell by cell; the radius by bisection of CornerNet's three cases."""
    values = []
    for rows_of_image, of_image in zip(boxes, maps, strict=True):
        rows, columns, channels = of_image.shape
        heat, true = of_image[..., : channels - 4], np.zeros((rows, columns, channels - 4))
        count, rest = 0, 0.0
        for left, top, right, bottom, kind in rows_of_image:
            if kind < 0 or right <= left or bottom <= top:
                continue
            count += 1
            x, y, width, height = (left + right) / 8, (top + bottom) / 8, (right - left) / 4, (bottom - top) / 4
            sigma = (2 * search_radius(width, height, overlap) + 1) / 6
            for row in range(rows):
                for column in range(columns):
                    distance = (row - int(y)) ** 2 + (column - int(x)) ** 2
                    true[row, column, int(kind)] = max(true[row, column, int(kind)], np.exp(-distance / (2 * sigma**2)))
            here = of_image[int(y), int(x), -4:]
            rest += 0.1 * (abs(here[0] - width) + abs(here[1] - height))
            rest += abs(here[2] - x % 1) + abs(here[3] - y % 1)
        focal = 0.0
        for p, t in zip(heat.ravel(), true.ravel(), strict=True):
            focal -= (1 - p) ** 2 * np.log(p) if t == 1 else (1 - t) ** 4 * p**2 * np.log(1 - p)
        values.append((focal + rest) / max(1, count))
    return np.array(values)


def search_radius(width: float, height: float, overlap: float) -> float:
    """The largest r for which every way of moving both corners by r keeps that IoU."""

    def worst(r: float) -> float:
        least = 1.0
        box = np.array([[0, 0, width, height]])
        for signs in np.ndindex(2, 2, 2, 2):
            moved = box + r * (2 * np.array(signs) - 1)
            is_there = (moved[0, 2:] > moved[0, :2]).all()
            least = min(least, compute_iou(box, moved)[0, 0] if is_there else 0.0)
        return least

    low, high = 0.0, float(width + height)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if worst(middle) >= overlap else (low, middle)
    return low


@pytest.mark.parametrize("overlap", [0.3, 0.7])
def test_the_radius_is_as_far_as_corners_may_move(overlap):
    for width, height in ((5, 5), (1, 8), (20, 3), (0.5, 0.5)):
        found = float(find_radius(np.float64(width), np.float64(height), overlap))
        assert found == pytest.approx(search_radius(width, height, overlap), rel=1e-5)
    assert float(find_radius(np.float32(0), np.float32(0))) == 0


def test_the_loss_is_that_of_the_paper(overlap=0.5):
    boxes, maps = draw_boxes(0), np.random.default_rng(1).random((3, 8, 6, 7)) * 0.9 + 0.05
    maps[..., 3:5] *= 4
    expected = compute_loss_by_loops(boxes, maps, overlap)
    assert np.asarray(CenterLoss(overlap, reduction=None, dtype="float64")(boxes, maps)) == pytest.approx(expected, abs=1e-6)  # fmt: skip
    of_batch = CenterLoss(overlap)(boxes, maps.astype(np.float32))
    assert float(of_batch) == pytest.approx(expected.mean(), rel=1e-5)  # an image's share is the same in any batch
    assert CenterLoss.from_config(CenterLoss(overlap).get_config()).overlap == overlap


def find_slopes(boxes, maps) -> np.ndarray:
    import tensorflow as tf

    maps = tf.Variable(maps)
    with tf.GradientTape() as tape:
        loss = CenterLoss(dtype=maps.dtype.name)(boxes, maps)
    return np.asarray(tape.gradient(loss, maps))


def test_the_slopes_of_the_loss_are_those_of_small_steps():
    boxes, random = draw_boxes(3), np.random.default_rng(2)
    maps = random.random((3, 8, 6, 7)) * 0.9 + 0.05
    slopes, loss = find_slopes(boxes, maps), CenterLoss(dtype="float64")
    for place in zip(*(random.integers(0, side, 60) for side in maps.shape), strict=True):
        there, back = maps.copy(), maps.copy()
        there[place] += 1e-6
        back[place] -= 1e-6
        assert slopes[place] == pytest.approx((float(loss(boxes, there)) - float(loss(boxes, back))) / 2e-6, abs=1e-6)
    for heat in (0.0, 1.0, 1e-20):  # values that sigmoids have in float32
        maps[..., :3] = heat
        assert np.isfinite(find_slopes(boxes, maps.astype(np.float32))).all()
        assert np.isfinite(float(CenterLoss()(boxes, maps.astype(np.float32))))


def draw_squares(n: int, most: int = 3, side: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright squares (class 0) and bars (class 1) on grey noise."""
    random = np.random.default_rng(seed)
    images, boxes = random.integers(0, 60, (n, side, side, 1), np.uint8), np.tile(np.float32(NOTHING), (n, most, 1))
    for at in range(n):
        for row in range(random.integers(0, most + 1)):
            kind = int(random.integers(0, 2))
            width, height = (8, 8) if kind == 0 else (14, 4)
            left, top = random.integers(0, side - width + 1), random.integers(0, side - height + 1)
            images[at, top : top + height, left : left + width] = 220
            boxes[at, row] = left, top, left + width, top + height, kind
    return images, boxes


@pytest.mark.parametrize(
    "policy",
    ["float32", *(pytest.param(name, marks=pytest.mark.nightly) for name in ("mixed_bfloat16", "mixed_float16"))],
)
def test_images_without_boxes_leave_finite_weights(policy):
    """200 steps with images that show nothing."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = center_net((16, 16, 1), 2, width=4, depth=3, head=8)
        model.compile("adam", CenterLoss())
        images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 1), np.uint8)
        history = model.fit(images, np.tile(np.float32(NOTHING), (32, 2, 1)), batch_size=8, epochs=50, verbose=0)
    finally:
        keras.config.set_dtype_policy(before)
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert model.output.dtype == "float32" and np.isfinite(model.predict(images, verbose=0)).all()
    assert all(np.isfinite(np.asarray(weight)).all() for weight in model.weights)


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = center_net((32, 32, 1), 2, width=8, depth=3, head=16)
    model.compile(keras.optimizers.Adam(5e-3), CenterLoss())
    model.fit(*draw_squares(1500), batch_size=16, epochs=4, verbose=0)
    return model


def test_it_learns_where_what_and_how_many(trained):
    images, boxes = draw_squares(300, seed=1)
    judged, matches = judge_boxes(boxes, trained.predict(images, verbose=0), ["square", "bar"], 0.4)
    assert judged["map50"] > 0.85 and judged["map"] > 0.35
    low, high = judged["map50_interval"]
    assert low < judged["map50"] < high
    best = max(judge_boxes(boxes, found, ["square", "bar"], None)[0]["map50"] for found in make_baselines(boxes, (32, 32), 300, 2).values())  # fmt: skip
    assert best < 0.3 and choose_threshold(matches) is not None


def test_an_image_has_the_same_boxes_alone_and_among_others(trained):
    images, _ = draw_squares(40, seed=2)
    together = predict_outputs(trained, images)
    for at in (0, 7, 39):
        np.testing.assert_array_equal(predict_outputs(trained, images[at : at + 1])[0], together[at])


@pytest.mark.slow
def test_plain_keras_saves_loads_fits_and_predicts_it(trained, tmp_path):
    images, boxes = draw_squares(20, seed=3)
    expected = trained.predict(images, verbose=0)
    trained.save(tmp_path / "model.keras")
    trained.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded).__name__ == "CenterNet" and isinstance(loaded.loss, CenterLoss)
    np.testing.assert_allclose(loaded.predict(images, verbose=0), expected, atol=1e-4)
    again = center_net((32, 32, 1), 2, width=8, depth=3, head=16)
    again.load_weights(tmp_path / "model.weights.h5")
    of_loss = trained.evaluate(images, boxes, verbose=0)
    for how in ({"run_eagerly": True}, {"jit_compile": True}):
        again.compile("adam", CenterLoss(), **how)
        np.testing.assert_allclose(again.predict(images, verbose=0), expected, atol=1e-3)
        assert again.evaluate(images, boxes, verbose=0) == pytest.approx(of_loss, rel=1e-4)
    assert np.isfinite(again.fit(images, boxes, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("shape", "options"),
    [((37, 50, 3), {}), ((20, 16, 1), {"depth": 2}), ((50, 37, 3), {"encoder": "resnet20"}), pytest.param((40, 70, 1), {"encoder": "efficientnetv2_transfer"}, marks=pytest.mark.nightly)],
)  # fmt: skip
def test_images_of_any_shape_and_borrowed_left_sides(shape, options):
    """The maps have one cell for every 4x4 pixels, rounded up; the heat starts at .1."""
    model = pbl.models.build("center_net", shape, 3, width=4, **options)
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    maps = np.asarray(model(images))
    assert maps.shape == (2, -(-shape[0] // 4), -(-shape[1] // 4), 7)
    assert maps[..., :3] == pytest.approx(0.1, abs=0.08)
    found = model.predict(images, verbose=0)
    assert found.shape == (2, 100, 6) and found[..., 2].max() <= shape[1] and found[..., 3].max() <= shape[0]
    assert ops.shape(model.output)[-1] == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 1}, "at least twice"),
        ({"weights": "imagenet"}, "model_options.encoder too"),
        ({"encoder": "mlp"}, "no maps that halve"),
        ({"encoder": "resnet20", "weights": "imagenet"}, "has none"),
        ({"width": 0}, "a whole number, 1 or more"),
    ],
)
def test_wrong_options_are_told_in_one_line(options, said):
    with pytest.raises(InputError) as error:
        pbl.models.build("center_net", (32, 32, 3), 2, **options)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("value", "is_told"), [(-0.1, True), (0.0, True), (0.1, False)])
def test_a_network_like_its_baseline_on_every_image_is_told_without_an_interval(value, is_told):
    """The same difference on all images has no interval, but a network that is never better is not called healthy for that."""
    difference = {"baseline": "mean_box", "value": value, "low": None, "high": None}
    finding = find_baseline({"boxes": {"map50": 0.3}, "difference": difference})
    assert (finding is not None and "no interval" in finding.message) == is_told
