"""Boxes as data: their sources, the effect of fitting and augmentation, what the doctor finds in them, and broken ones."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import pbl
from pbl.config import Augmentation
from pbl.data import (
    box_formats,
    box_reading,
    canvases,
    digit_canvases,
    fit_boxes,
    fit_image,
    from_boxed_arrays,
    from_masked_arrays,
    store,
    unfit_boxes,
    write_coco,
    write_voc,
    write_yolo,
)
from pbl.data.augmentation import augment, draw
from pbl.data.box_formats import parse_coco, parse_voc, parse_yolo
from pbl.errors import InputError

pytestmark = pytest.mark.slow  # little of it depends on versions

NAMES = ["cat", "dog", "owl"]
HEIGHT, WIDTH = 20, 24


def draw_scenes(count: int = 12, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Images `[count, 20, 24]` of dark noise with up to three bright rectangles of two classes, none on every fourth, and their boxes."""
    random = np.random.default_rng(seed)
    images, boxes = random.integers(0, 40, (count, HEIGHT, WIDTH), np.uint8), []
    for number, image in enumerate(images):
        rows = []
        for at in range(number % 4):
            left, top = 8 * at + int(random.integers(0, 3)), int(random.integers(0, 10))
            right, bottom = left + int(random.integers(2, 6)), top + int(random.integers(2, 10))
            image[top:bottom, left:right] = 100 + 50 * (at % 2)
            rows.append([left, top, right, bottom, at % 2])
        boxes.append(np.array(rows, np.float32).reshape(-1, 5))
    return images, boxes


def save(file: Path, image: np.ndarray, **options) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, **options)


WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}


def write_set(
    folder: Path, kind: str, images_at: str = "images", boxes_at: str | None = None, seed: int = 0, count: int = 12
) -> Path:
    """Writes a folder of images and their boxes in one format, at these places in it."""
    images, boxes = draw_scenes(count, seed)
    names = [f"{seed or ''}{number}.png" for number in range(count)]
    for name, image in zip(names, images, strict=True):
        save(folder / images_at / name, image)
    boxes_at = (
        {"coco": "annotations/instances.json", "voc": "annotations", "yolo": "labels"}[kind]
        if boxes_at is None
        else boxes_at
    )
    WRITERS[kind](folder / boxes_at, names, [image.shape for image in images], boxes, NAMES[:2])
    return folder


def boxes_by_name(images) -> dict[str, np.ndarray]:
    return {
        name.rpartition("/")[2]: rows[rows[:, 4] >= 0] for name, rows in zip(images.names, images.boxes, strict=True)
    }


# --- the contract


def test_what_fit_gets_and_what_is_kept():
    images, boxes = draw_scenes(60)
    source = from_boxed_arrays(images, boxes, NAMES, test=draw_scenes(9, seed=5))
    data = pbl.load_data(lambda: source, boxes=True, batch_size=8)
    assert (data.has_boxes, data.most_boxes, data.class_names, data.num_classes) == (True, 3, NAMES, 3)
    for split in (data.train, data.val, data.test, data.probe):
        for pixels, rows in split:
            assert (pixels.dtype, rows.dtype, rows.shape[1:]) == (tf.uint8, tf.float32, (3, 5))
    assert data.test.element_spec[1].shape.as_list() == [None, 3, 5]
    whole = data.everything
    assert whole.boxes.shape == (60, 3, 5) and whole.boxes.dtype == np.float32
    for number, name in enumerate(whole.names):
        expected = np.tile(np.array([0, 0, 0, 0, -1], np.float32), (3, 1))
        of = boxes[int(name.split("/")[1])]
        expected[: len(of)] = of
        np.testing.assert_array_equal(whole.boxes[number], expected)
        assert whole.labels[number] == (3 if not len(of) else np.bincount(of[:, 4].astype(int)).argmax())
    some = whole.take(whole.labels == 0).join(whole.take(whole.labels != 0))
    np.testing.assert_array_equal(some.boxes, whole.boxes)
    padded = np.array([np.vstack([of, np.tile([0, 0, 0, 0, -1], (3 - len(of), 1))]) for of in boxes])
    other = from_boxed_arrays(images, padded, NAMES, test=draw_scenes(9, seed=5))
    assert pbl.load_data(lambda: other, boxes=True, batch_size=8).fingerprint == data.fingerprint


def test_the_split_counts_images_and_boxes_and_shares_out_images_without_boxes():
    data = pbl.load_data(lambda: from_boxed_arrays(*draw_scenes(200), NAMES), boxes=True)
    for split in ("train", "val", "test"):
        images = data.images(split)
        has = [{int(label) for label in rows[:, 4] if label >= 0} for rows in images.boxes]
        assert data.split["images_by_class"][split] == {NAMES[at]: sum(at in of for of in has) for at in range(2)}
        assert sum(data.split["boxes_by_class"][split].values()) == (images.boxes[..., 4] >= 0).sum()
        assert data.split["without_boxes"][split] == sum(not of for of in has)
        assert data.split["without_boxes"][split] / len(has) == pytest.approx(0.25, abs=0.02)
    for settings in ({"folds": 4, "fold": 1}, {"train_fraction": 0.5}, {"groups": "look_alike"}, {"seed": 3}):
        other = pbl.load_data(lambda: from_boxed_arrays(*draw_scenes(200), NAMES), boxes=True, **settings)
        np.testing.assert_array_equal(other.everything.boxes, data.everything.boxes)
        assert len(other.images("train").boxes) == len(other.images("train").names)
    before = data.images_hash
    data.shrink(10)
    assert data.images_hash != before and len(data.images("train").boxes) == 10
    assert {len(rows[rows[:, 4] >= 0]) for rows in data.images("train").boxes} == {0, 1, 2, 3}


@pytest.mark.parametrize("change", ["position", "class"])
def test_other_boxes_are_other_data(change):
    images, boxes = draw_scenes(40)
    first = pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES), boxes=True)
    at = int(first.images("train").names[0].split("/")[1])
    boxes[at] = np.array([[1, 1, 5, 5, 0]]) if not len(boxes[at]) else boxes[at] + (0, 0, 0, 1, 0) if change == "position" else boxes[at] + (0, 0, 0, 0, 1)  # fmt: skip
    other = pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES), boxes=True)
    assert other.fingerprint != first.fingerprint and other.images_hash != first.images_hash


def test_the_second_start_reads_boxes_from_the_cache(tmp_path, monkeypatch):
    """Until an annotation changes, or the cached boxes are damaged; then they are read again."""
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "KEPT_FROM", -1)
    monkeypatch.setattr(box_reading, "KEPT_FROM", -1)
    folder = write_set(tmp_path / "photos", "yolo")
    first = pbl.load_data(str(folder), boxes=True)
    with monkeypatch.context() as blind:
        blind.setattr(box_formats, "_to_number", lambda *_: pytest.fail("read again"))
        blind.setattr(store, "fit_boxes", lambda *_: pytest.fail("fitted again"))
        again = pbl.load_data(str(folder), boxes=True)
    assert again.images_hash == first.images_hash
    np.testing.assert_array_equal(again.everything.boxes, first.everything.boxes)
    np.testing.assert_array_equal(again.everything.box_faults, first.everything.box_faults)
    for kept in list((tmp_path / "cache").iterdir()):
        whole = kept.read_bytes()
        for damage in (
            b"",
            b"[]",
            whole[:-9],
            whole.replace(b"0.", b"1."),
            bytes([*whole[:60], whole[60] ^ 1, *whole[61:]]),
        ):
            kept.write_bytes(damage)
            np.testing.assert_array_equal(
                pbl.load_data(str(folder), boxes=True).everything.boxes, first.everything.boxes
            )
    (folder / "labels" / "3.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    changed = boxes_by_name(pbl.load_data(str(folder), boxes=True).everything)
    np.testing.assert_allclose(changed["3.png"], [[9, 5, 15, 15, 1]], atol=1e-4)


# --- fitting


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(
    ("size", "target"), [((90, 160), (64, 64)), ((161, 90), (48, 96)), ((37, 41), (64, 50)), ((64, 64), (64, 64))]
)
def test_boxes_move_as_the_pixels_do(fit, size, target):
    """A bright rectangle: the box of its pixels, where they are more than half bright, equals the moved box."""
    random = np.random.default_rng(0)
    for _ in range(20):
        left, top = (int(random.integers(0, side - 12)) for side in size[::-1])
        right, bottom = (
            int(random.integers(begin + 8, side + 1)) for begin, side in zip((left, top), size[::-1], strict=True)
        )
        image = np.zeros((*size, 1), np.uint8)
        image[top:bottom, left:right] = 255
        box = np.array([[left, top, right, bottom, 2]], np.float64)
        fitted = fit_boxes(box, size, fit, target)
        bright = fit_image(image, target, 1, fit)[..., 0] > 127
        if not len(fitted):  # less than a third is left
            scale = max(target[0] / size[0], target[1] / size[1])
            assert fit == "crop" and bright.sum() < (0.34 * (right - left) * (bottom - top) * scale**2) + 40
            continue
        rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        np.testing.assert_allclose(fitted[0], [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1, 2], atol=0.7)
        back = unfit_boxes(fitted, size, fit, target)
        if fit != "crop":
            np.testing.assert_allclose(back, box, atol=1e-9)
        else:
            assert (back[0, :2] >= box[0, :2] - 1e-9).all() and (back[0, 2:4] <= box[0, 2:4] + 1e-9).all()


def test_a_crop_cuts_boxes_and_drops_what_is_hardly_left():
    """100 wide, 50 high, cut to the middle 50 and doubled: 10 of 27 columns of the third are left, 10 of 31 of the fourth."""
    boxes = np.array([[30, 10, 50, 20, 0], [15, 0, 45, 30, 1], [8, 0, 35, 10, 0], [4, 0, 35, 10, 0], [0, 0, 20, 50, 1]], float)  # fmt: skip
    found = fit_boxes(boxes, (50, 100), "crop", (100, 100))
    np.testing.assert_allclose(found, [[10, 20, 50, 40, 0], [0, 0, 40, 60, 1], [0, 0, 20, 20, 0]])
    images = np.zeros((40, 50, 100), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None]
    source = from_boxed_arrays(images, [boxes] * 40)
    data = pbl.load_data(lambda: source, boxes=True, image_size=100, fit="crop")
    np.testing.assert_allclose(data.everything.boxes[0], [*found, [0, 0, 0, 0, -1], [0, 0, 0, 0, -1]])
    assert data.everything.box_faults[0].tolist() == [0, 0, 0, 0, 2] and data.most_boxes == 5
    (told,) = (f for f in data.check("train", "val", fast=True) if f.check == "lost_boxes")
    images = len(data.images("train").names) + len(data.images("val").names)
    assert (told.severity, told.details["images"], told.details["boxes"]) == ("act", images, 2 * images)
    padded = pbl.load_data(lambda: source, boxes=True, image_size=100, fit="pad")
    np.testing.assert_allclose(padded.everything.boxes[0], np.add(boxes, [0, 25, 0, 25, 0]))


def test_predictions_keep_their_scores_and_rows_of_no_box():
    rows = np.array([[[0, 0, 32, 32, 1, 0.9], [10, 10, 20, 20, 0, 0.5], [0, 0, 0, 0, -1, 0]]], np.float32)
    back = unfit_boxes(rows, (100, 200), "pad", (64, 64))  # 64 wide, 32 high, 16 down
    np.testing.assert_allclose(back[0, 0], [0, 0, 100, 50, 1, 0.9], rtol=1e-6)
    np.testing.assert_array_equal(back[0, 2], rows[0, 2])
    assert back.shape == rows.shape and unfit_boxes(rows[0, :2, :4], (100, 200), "pad", (64, 64)).shape == (2, 4)


# --- augmentation


def box_of(pixels: np.ndarray) -> list[int] | None:
    if not pixels.any():
        return None
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def make_rectangles(n: int, low: int, high: int, side: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Two rectangles an image, of brightness 120 and 240, inside a window; their boxes, with an empty row between them."""
    random = np.random.default_rng(0)
    images, boxes = np.zeros((n, side, side, 1), np.uint8), np.zeros((n, 3, 5), np.float32)
    middle = (low + high) // 2
    for image, rows in zip(images, boxes, strict=True):
        for row, (begin, end), value in ((0, (low, middle), 120), (2, (middle, high), 240)):
            left, right = np.sort(random.choice(np.arange(begin, end + 1, 4), 2, replace=False))
            top, bottom = np.sort(random.choice(np.arange(low, high + 1, 4), 2, replace=False))
            image[top:bottom, left:right] = value
            rows[row] = left, top, right, bottom, value // 240
        rows[1] = 0, 0, 0, 0, -1
    return images, boxes


@pytest.mark.parametrize(
    ("settings", "within", "low", "high"),
    [
        ({"flip": True}, 0, 0, 64),
        ({"crop": 9, "flip": True}, 0, 0, 64),
        ({"zoom": 0.3}, 1, 22, 42),  # so far inside that the border mirrors nothing of it
        ({"rotation": 25}, 1.5, 22, 42),  # the tip of a rotated corner fills no pixel
        ({"rotation": 180}, 1.5, 24, 40),
        ({"crop": 4, "flip": True, "rotation": 20, "zoom": 0.2}, 1.5, 24, 40),
    ],
)
def test_augmented_boxes_are_those_of_the_augmented_pixels(settings, within, low, high):
    images, boxes = make_rectangles(200, low, high)
    how = Augmentation(**settings)
    numbers = draw(200, how, seed=1, epoch=2)
    pixels, moved = (of.numpy() for of in augment(tf.constant(images), tf.constant(boxes), tf.constant(numbers), how))
    assert moved.dtype == np.float32 and moved.shape == boxes.shape and (moved[:, 1] == [0, 0, 0, 0, -1]).all()
    dropped, differences = 0, []
    for image, rows, before, given in zip(pixels[..., 0], moved, images[..., 0], boxes, strict=True):
        for row, (least, most) in ((0, (60, 150)), (2, (180, 255))):
            seen = (image >= least) & (image <= most)
            was = (before >= least) & (before <= most)
            if rows[row, 4] < 0:
                dropped += 1
                assert "crop" in settings and seen.sum() < was.sum() / 3
                continue
            assert rows[row, 4] == given[row, 4]
            if row == 0 and within:  # the edge of the brighter rectangle has these values too
                continue
            np.testing.assert_allclose(rows[row, :4], box_of(seen), atol=within)
            differences.append(rows[row, :4] - box_of(seen))
    left, top, right, bottom = np.mean(differences, axis=0)
    assert abs(left + right) < 0.15 and abs(top + bottom) < 0.15  # not shifted by half a pixel
    assert (dropped > 0) == (settings.get("crop") == 9)


def test_what_a_turn_cuts_off():
    """By hand: a quarter turn, and an enlargement by half, of a square of 8 by 8."""
    boxes = tf.constant([[[0, 0, 4, 2, 0], [0, 0, 1, 1, 1], [2, 2, 6, 6, 2]]], tf.float32)
    images = tf.zeros((1, 8, 8, 1), tf.uint8)
    numbers = np.full((1, 13), 0.5, np.float32)
    numbers[0, 3] = 1.0  # by +90 degrees
    turned = augment(images, boxes, tf.constant(numbers), Augmentation(rotation=90))[1].numpy()[0]
    np.testing.assert_allclose(turned, [[0, 4, 2, 8, 0], [0, 7, 1, 8, 1], [2, 2, 6, 6, 2]], atol=1e-5)
    numbers[0, 3:5] = 0.5, 1.0  # enlarged by a half: x becomes 1.5 x - 2
    large = augment(images, boxes, tf.constant(numbers), Augmentation(zoom=0.5))[1].numpy()[0]
    np.testing.assert_allclose(large, [[0, 0, 0, 0, -1], [0, 0, 0, 0, -1], [1, 1, 7, 7, 2]], atol=1e-5)  # 4 of 18 stay


def test_batches_are_a_function_of_seed_epoch_and_image_and_cutout_leaves_boxes():
    images, boxes = draw_scenes(60)
    settings = {"augmentation": {"flip": True, "crop": 3, "rotation": 10, "zoom": 0.1}, "batch_size": 16, "seed": 4}
    data, again = (
        pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES), boxes=True, **settings) for _ in range(2)
    )
    of_two = [[rows.numpy() for _, rows in data.train] for _ in range(2)]
    np.testing.assert_array_equal(of_two[1][1], next(iter(again.stream(1, 1)))[1].numpy())
    assert not np.array_equal(of_two[0][0], of_two[1][0])
    plain = {**settings, "augmentation": {}}
    bare, cut = (
        pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES), boxes=True, **{**plain, "augmentation": how})
        for how in ({}, {"cutout": 5, "brightness": 0.2})
    )
    np.testing.assert_array_equal(*(np.concatenate([rows for _, rows in of.train]) for of in (bare, cut)))


# --- files


@pytest.mark.parametrize("kind", WRITERS)
def test_formats_read_what_they_wrote(tmp_path, kind):
    """Real-valued boxes exactly; YOLO to a millionth of the sides."""
    random = np.random.default_rng(0)
    begin = random.uniform(0, 900, (300, 2))
    rows = np.column_stack([begin, begin + random.uniform(0.1, 99, (300, 2)), random.integers(0, 3, 300)])
    rows = rows.astype(np.float32)
    written = WRITERS[kind](tmp_path / "out.json", ["a/1.jpg"], [(1000, 1100, 3)], [rows], NAMES)
    if kind == "coco":
        coco = parse_coco(written.read_bytes(), "x")
        found, names = coco.images["a/1.jpg"], coco.class_names
        assert names == NAMES and found.size == (1000, 1100)
    else:
        assert written[0] == tmp_path / "out.json" / "a" / ("1.xml" if kind == "voc" else "1.txt")
        found = (parse_voc if kind == "voc" else parse_yolo)(written[0].read_bytes(), "x")
    corners = np.array(found.rows) * ([1100, 1000, 1100, 1000] if kind == "yolo" else 1)
    labels = [label if kind == "yolo" else NAMES.index(label) for label in found.classes]
    assert labels == rows[:, 4].astype(int).tolist()
    np.testing.assert_allclose(corners, rows[:, :4], atol=1.2e-3 if kind == "yolo" else 0, rtol=0)


def test_voc_counts_pixels_from_one():
    """The first pixel alone is xmin = xmax = 1; `truncated` and unknown fields are skipped."""
    box = "<bndbox><xmin>1</xmin><ymin>{}</ymin><xmax>1</xmax><ymax>4</ymax></bndbox>"
    one = (
        "<object><name>cat</name><truncated>1</truncated><part><name>head</name>"
        + box.format(1)
        + "</part>"
        + box.format(3)
        + "</object>"
    )
    found = parse_voc(f"<annotation><size><width>0</width><height>0</height></size>{one}</annotation>".encode(), "x")
    assert found.rows == [[0, 2, 1, 4]] and found.classes == ["cat"] and found.size is None


LAYOUTS = {
    "coco, a file a split": ("coco", [("train", "images/train2017", "annotations/instances_train2017.json"), ("val", "images/val2017", "annotations/instances_val2017.json")]),
    "coco, images beside": ("coco", [("train", "train2017", "annotations/instances_train2017.json"), ("val", "val2017", "annotations/instances_val2017.json")]),
    "coco, Roboflow": ("coco", [("train", "train", "train/_annotations.coco.json"), ("val", "valid", "valid/_annotations.coco.json"), ("test", "test", "test/_annotations.coco.json")]),
    "coco, one file": ("coco", [("all", "images", "annotations.json")]),
    "voc": ("voc", [("all", "JPEGImages", "Annotations")]),
    "voc, labelImg": ("voc", [("all", ".", ".")]),
    "voc, splits": ("voc", [("train", "train", "train"), ("test", "test", "test")]),
    "voc, folders in splits": ("voc", [("train", "train/images", "train/annotations"), ("val", "val/images", "val/annotations")]),
    "yolo, splits inside": ("yolo", [("train", "images/train", "labels/train"), ("val", "images/val", "labels/val"), ("test", "images/test", "labels/test")]),
    "yolo, splits outside": ("yolo", [("train", "train/images", "train/labels"), ("val", "valid/images", "valid/labels")]),
    "yolo, beside": ("yolo", [("all", "data", "data")]),
    "yolo, folders of folders": ("yolo", [("all", "images/a/b", "labels/a/b")]),
    "yolo, in one folder": ("yolo", [("all", "photos/my/images", "photos/my/labels")]),
}  # fmt: skip


@pytest.mark.parametrize("as_zip", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, monkeypatch, layout, as_zip):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    kind, splits = LAYOUTS[layout]
    folder, expected = tmp_path / "photos", {}
    for seed, (split, images_at, boxes_at) in enumerate(splits):
        write_set(folder, kind, images_at, boxes_at, seed, 40)
        expected[split] = {f"{seed or ''}{at}.png": rows for at, rows in enumerate(draw_scenes(40, seed)[1])}
    place = folder
    if as_zip:
        place = tmp_path / "photos.zip"
        with zipfile.ZipFile(place, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(tmp_path))
    data = pbl.load_data(str(place), boxes=True)
    assert data.class_names == NAMES[:2]
    found = {split: boxes_by_name(data.images(split)) for split in ("train", "val", "test")}
    if "all" in expected:
        found = {"all": found["train"] | found["val"] | found["test"]}
    assert {split for split, by in data.split["made_by"].items() if by["kind"] == "official"} == set(expected) - {
        "all",
        "train",
    }
    for split, of in expected.items():
        assert set(found[split]) <= set(of) and (split == "train" or set(found[split]) == set(of))
        for name, rows in found[split].items():
            np.testing.assert_allclose(rows, of[name], atol=1e-4 if kind == "yolo" else 0)


@pytest.mark.parametrize(
    "names",
    [
        {"data.yaml": "names: [cat, dog]\nnc: 2\n"},
        {"data.yaml": "path: ../x\ntrain: images\nval: images\nnames:\n  0: cat\n  1: dog\n"},
        {"data.yaml": "names: {1: dog, 0: cat}"},
        {"my.yaml": 'names: ["no", "2"]', "other.yaml": "a: 1"},
        {"obj.names": "cat\ndog\n"},
        {"labels/classes.txt": "\ufeffcat\r\ndog\r\n\r\n"},
        {"data.yaml": "names: [cat, dog]", "classes.txt": "old\nnames\n"},
    ],
)
def test_names_of_yolo_classes(tmp_path, names):
    folder = write_set(tmp_path, "yolo")
    (folder / "labels" / "classes.txt").unlink()
    for name, text in names.items():
        (folder / name).write_text(text, encoding="utf-8")
    expected = ["no", "2"] if "my.yaml" in names else ["cat", "dog"]
    assert pbl.load_data(str(folder), boxes=True).class_names == expected


def test_official_splits_by_lists(tmp_path):
    """`ImageSets/Main` of Pascal VOC, lists of darknet, and folders that `data.yaml` names."""
    for kind, lists in (("voc", "ImageSets/Main/{}.txt"), ("yolo", "{}.txt")):
        folder = write_set(tmp_path / kind, kind, count=40)
        for split, numbers in (("train", range(20)), ("val", range(20, 30)), ("test", range(30, 40))):
            file = folder / lists.format(split)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(
                "".join(f"{number}\n" if kind == "voc" else f"data/images/{number}.png\n" for number in numbers)
            )
        if kind == "voc":
            (folder / "ImageSets" / "Main" / "cat_train.txt").write_text("0 -1\n1 1\n")
        data = pbl.load_data(str(folder), boxes=True)
        for split, numbers in (("train", range(20)), ("val", range(20, 30)), ("test", range(30, 40))):
            assert {name.rpartition("/")[2] for name in data.images(split).names} == {f"{at}.png" for at in numbers}
    folder = write_set(tmp_path / "named", "yolo", "images/one", "labels/one", 0, 30)
    write_set(folder, "yolo", "images/two", "labels/two", 1, 30)
    (folder / "data.yaml").write_text(
        "train: ../named/images/one\nval: images/two\nnames: [cat, dog]\n".replace("../named/", "../")
    )
    data = pbl.load_data(str(folder), boxes=True)
    assert data.split["made_by"]["val"]["kind"] == "official" and len(data.images("val").names) == 30


def change_json(change, name: str = "annotations/instances.json"):
    def go(folder: Path) -> None:
        held = json.loads((folder / name).read_text())
        changed = change(held)
        (folder / name).write_text(json.dumps(held if changed is None else changed))

    return go


def test_what_coco_says_beside_boxes(tmp_path):
    """Crowds are left out and reported; a polygon gives its box; the heading of Roboflow's classes is not a class; images may be in subfolders."""
    folder = write_set(tmp_path, "coco")

    def change(held):
        held["annotations"][0]["iscrowd"] = 1
        held["annotations"][1].update(segmentation=[[3, 4, 9.5, 4, 9.5, 7, 3, 7], [1, 5, 2, 5, 2, 6]], bbox=[])
        held["categories"] = [
            {"id": 0, "name": "animals"},
            *({**one, "supercategory": "animals"} for one in held["categories"]),
        ]
        for one in held["images"]:
            one["file_name"] = "C:\\Users\\me\\images\\" + one["file_name"]

    change_json(change)(folder)
    shutil.copy(folder / "annotations" / "instances.json", folder / "annotations" / "person_keypoints.json")
    (folder / "annotations" / "captions.json").write_text('{"images": [{"id": 1, "file_name": "x"}], "annotations": [{"image_id": 1, "caption": "a"}]}')  # fmt: skip
    data = pbl.load_data(str(folder), boxes=True)
    found = boxes_by_name(data.everything)
    assert data.class_names == ["cat", "dog"] and len(found["1.png"]) == 0
    np.testing.assert_array_equal(found["2.png"][0], [1, 4, 9.5, 7, 0])
    (told,) = (f for f in data.check("train", "val", fast=True) if f.check == "boxes_left_out")
    assert told.details["boxes"] == 1 and told.severity == "note"


def test_what_voc_says_beside_boxes(tmp_path):
    folder = write_set(tmp_path, "voc")
    file = folder / "annotations" / "3.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1", 1))
    (folder / "annotations" / "4.xml").unlink()
    (folder / "annotations" / "other.xml").write_text("<annotation/>")
    data = pbl.load_data(str(folder), boxes=True)
    assert len(boxes_by_name(data.everything)["3.png"]) == 2
    found = {f.check: (f.severity, f.items) for f in data.check("train", "val", "test", fast=True)}
    assert found["boxes_left_out"] == ("note", ["images/3.png"])
    assert found["images_without_annotation"] == ("act", ["images/4.png"])
    assert found["annotations_without_image"] == ("act", ["annotations/other.xml"])
    file.write_text(file.read_text().replace("<xmin>", "<xmin>0<!-- ").replace("</xmin>", " --></xmin>"))
    data = pbl.load_data(str(folder), boxes=True)
    assert "corners_from_zero" in {f.check for f in data.check("train", "val", fast=True)}
    whole, plain = boxes_by_name(data.everything)["2.png"], draw_scenes()[1][2]
    np.testing.assert_array_equal(whole, np.add(plain, [1, 1, 0, 0, 0]))
    file.write_text(file.read_text().replace("<ymin>", "<ymin>-3<!-- ").replace("</ymin>", " --></ymin>"))
    data = pbl.load_data(
        str(folder), boxes=True
    )  # a box that starts above its image: now 0 may be one that starts left of it
    np.testing.assert_array_equal(boxes_by_name(data.everything)["2.png"], plain)


def test_competitions_hand_out_test_images_without_boxes(tmp_path):
    for split, kind in (("train", "yolo"), ("val", "yolo")):
        write_set(tmp_path / "a" / split, kind, seed=("train", "val").index(split))
    write_set(tmp_path / "a" / "test", "yolo", seed=2)
    shutil.rmtree(tmp_path / "a" / "test" / "labels")
    write_set(tmp_path / "b", "coco", "train", "annotations/instances_train.json")
    write_set(tmp_path / "b", "coco", "test", "annotations/image_info_test.json", seed=2)
    change_json(lambda held: held.pop("annotations") and None, "annotations/image_info_test.json")(tmp_path / "b")
    for folder in (tmp_path / "a", tmp_path / "b"):
        data = pbl.load_data(str(folder), boxes=True)
        assert data.split["made_by"]["test"]["kind"] == "share"
        (told,) = (f for f in data.check("train", "val", fast=True) if f.check == "set_aside")
        assert told.severity == "act" and "they have no boxes" in told.message


def test_names_are_matched_however_they_are_spelled_and_images_may_lie_on_the_disk(tmp_path, monkeypatch):
    """macOS writes が as two letters; folders of folders, a link to one, and an image without boxes."""
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    images, boxes = draw_scenes(30)
    names = [f"病院/画像が{number}.png" for number in range(30)]
    for name, image in zip(names, images, strict=True):
        save(tmp_path / "elsewhere" / name, image)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "images").symlink_to(tmp_path / "elsewhere")
    apart = [name.replace("が", "か\u3099") for name in names]
    write_voc(tmp_path / "photos" / "Annotations", apart, [(HEIGHT, WIDTH)] * 30, boxes, NAMES[:2])
    (tmp_path / "photos" / "notes.docx").write_text("x")
    data = pbl.load_data(str(tmp_path / "photos"), boxes=True, memory_budget=1e-6, batch_size=30, groups="([0-9])")
    assert isinstance(data.everything.store, np.memmap) and "passed_over" in {
        f.check for f in data.check("train", "val", fast=True)
    }
    for images_of, rows_of in data.probe:
        for image, rows in zip(images_of.numpy(), rows_of.numpy(), strict=True):
            at = int(np.flatnonzero((images == image[..., 0]).all(axis=(1, 2)))[0])
            np.testing.assert_array_equal(rows[rows[:, 4] >= 0], boxes[at])


def test_npz(tmp_path):
    images, boxes = draw_scenes(40)
    padded = np.full((40, 4, 5), -1.0)
    for rows, of in zip(padded, boxes, strict=True):
        rows[: len(of)] = of
    np.savez(
        tmp_path / "a.npz", x_train=images, b_train=padded, x_val=images[:9] + 1, b_val=padded[:9], class_names=NAMES
    )
    data = pbl.load_data(str(tmp_path / "a.npz"), boxes=True)
    same = pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES, val=(images[:9] + 1, boxes[:9])), boxes=True)
    assert data.images_hash == same.images_hash and data.class_names == NAMES


def make_set(name: str, folder: Path, images, boxes, **of_objects):
    """Writes a set of TensorFlow Datasets with a sequence of objects."""
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    import tensorflow_datasets as tfds

    def make(numbers):
        for at in numbers:
            objects = [
                {
                    "bbox": tfds.features.BBox(row[1] / HEIGHT, row[0] / WIDTH, row[3] / HEIGHT, row[2] / WIDTH),
                    "label": int(row[4]), "is_crowd": at == 3, "id": at,
                }
                for row in boxes[at].tolist()
            ]  # fmt: skip
            yield at, {"image": images[at, ..., None], "objects": objects, "image/id": at}

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "image/id": np.int64,
            "objects": tfds.features.Sequence(
                {
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=NAMES),
                    "is_crowd": np.bool_,
                    "id": np.int64,
                }
            ),
        }
    )
    splits = {"train": list(make(range(30))), "validation": list(make(range(30, 39))), "test": list(make([36, 40]))}
    tfds.dataset_builders.store_as_tfds_dataset(
        name, "1.0.0", features, splits, data_dir=folder, disable_shuffling=True
    )


def test_tensorflow_datasets_with_objects(tmp_path):
    images, boxes = draw_scenes(41)
    boxes[40] = boxes[40][:0]
    boxes[36] = boxes[36][:0]
    make_set("my_boxes", tmp_path, images, boxes)
    data = pbl.load_data("my_boxes", boxes=True, data_dir=str(tmp_path))
    assert data.class_names == NAMES and data.most_boxes == 3 and len(data.images("val").names) == 9
    for name, rows in zip(data.everything.names, data.everything.boxes, strict=True):
        at = int(name.split("/")[-1])
        np.testing.assert_allclose(rows[rows[:, 4] >= 0], boxes[at] if at != 3 else boxes[at][:0], atol=1e-4)
    found = {f.check: f for f in data.check("train", "val", fast=True)}
    assert found["boxes_left_out"].details["boxes"] == 3 and found["boxes_left_out"].items == ["my_boxes/train/3"]
    assert found["set_aside"].details["folders"] == "test" and data.split["made_by"]["test"]["kind"] == "share"
    with pytest.raises(InputError, match=r"no image with one sequence of objects.*it gives image, label"):
        pbl.load_data("mnist", boxes=True, data_dir=str(tmp_path))


# --- digits on canvases


def test_canvases_have_exact_boxes_and_no_digit_on_both_sides(monkeypatch):
    drawn = []
    plain = canvases._draw
    monkeypatch.setattr(canvases, "_draw", lambda *of: drawn.append(of[3]) or plain(*of))
    source = digit_canvases(count=400, seed=3)
    train, val, test = ({digit.tobytes() for digit in of} for of in drawn)
    assert not (train & test or train & val or val & test)
    assert [len(of) for of in drawn] == [1078, 270, 449] and sum(
        map(len, (train, val, test))
    ) > 1700  # some are drawn twice
    data = pbl.load_data(lambda: source, boxes=True)
    assert data.num_classes == 10 and {of["kind"] for of in data.split["made_by"].values()} == {"official"}
    assert [len(data.images(split).names) for split in ("train", "val", "test")] == [240, 60, 100]
    assert data.input_shape == (64, 64, 1) and data.most_boxes <= 5
    counts = np.bincount((data.everything.boxes[..., 4] >= 0).sum(axis=1), minlength=6)
    assert (counts[:5] > 20).all()
    for image, rows in zip(data.everything.pixels[..., 0], data.everything.boxes, strict=True):
        left = image > canvases.PAPER
        for x0, y0, x1, y1 in rows[rows[:, 4] >= 0, :4].astype(int):
            inside = left[y0:y1, x0:x1]
            assert box_of(inside) == [0, 0, x1 - x0, y1 - y0] and inside.sum() > 20
            inside[:] = False
        assert not left.any()
    same = digit_canvases(count=400, seed=3)
    for (one, _, _), (other, _, _) in zip(source.train(), same.train(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(InputError, match="side=8"):
        digit_canvases(side=8)


# --- the doctor


def plant(change):
    images, boxes = draw_scenes(160)
    images, boxes = change(images, boxes) or (images, boxes)
    return pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES[:2]), boxes=True)


def keep_one_class(images, boxes):
    for rows in boxes:
        rows[:, 4] = 0


def make_rare(images, boxes):
    """Only one training image, or three, has a dog."""
    keep_one_class(images, boxes)
    data = pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES[:2]), boxes=True)
    chosen = [
        name
        for name, rows in zip(data.images("train").names, data.images("train").boxes, strict=True)
        if rows[1, 4] >= 0
    ]
    for name in chosen[:3]:
        boxes[int(name.split("/")[1])][1, 4] = 1


def reach_over(images, boxes):
    boxes[1][0, 0] = -0.5


def lie_outside(images, boxes):
    boxes[1][0, :4] = 30, 3, 40, 9


def flatten(images, boxes):
    boxes[1][0, 2] = boxes[1][0, 0]


def double(images, boxes):
    boxes[1] = np.repeat(boxes[1], 2, axis=0)


def make_tiny(images, boxes):
    for rows in boxes:
        rows[:, 2] = rows[:, 0] + 2


def cover_all(images, boxes):
    for rows in boxes:
        rows[:, :4] = 0, 0, WIDTH, HEIGHT
        rows[1:, :4] = 4, 4, 9, 9
        rows[2:, :4] = 12, 12, 19, 19


def share_centres(images, boxes):
    for rows in boxes[:80]:
        rows[1:2, :4] = rows[:1, :4] if len(rows) > 1 else rows[1:2, :4]


def mark_again(images, boxes):
    images[10], boxes[10] = images[11], boxes[11] + np.array([0, 0, 0, 3, 0], np.float32)


def mark_alike(images, boxes):
    images[10], boxes[10] = images[11], boxes[11][::-1]


def leave_few(images, boxes):
    for at in range(len(boxes)):
        if at % 40 != 1:
            boxes[at] = boxes[at][:0]


ALWAYS = {"class_boxes": "note", "empty_images": "note", "tiny_boxes": "act"}  # findings for unchanged scenes
PLANTED = [
    (lambda *_: None, {}),
    (keep_one_class, {"absent_objects": "act"}),
    (make_rare, {"seldom_objects": "act", "dominant_class": "note", "absent_objects": "act"}),
    (reach_over, {"boxes_outside": "note"}),
    (lie_outside, {"boxes_outside": "act"}),
    (flatten, {"flat_boxes": "note"}),
    (double, {"double_boxes": "note"}),
    (cover_all, {"whole_image_boxes": "act"}),
    (share_centres, {"shared_centres": "act"}),
    (mark_again, {"copies_with_other_boxes": "act"}),
    (mark_alike, {}),
]


@pytest.mark.parametrize(("change", "said"), PLANTED, ids=lambda value: getattr(value, "__name__", None))
def test_each_planted_fault_is_found_by_its_check_alone(change, said):
    found = {f.check: f.severity for f in plant(change).check("train", "val", "test", fast=True)}
    found.pop("copies_across", None), found.pop("copies_within", None)
    if change is cover_all:
        found.pop("shared_centres", None)
    assert {check: of for check, of in found.items() if ALWAYS.get(check) != of} == said


def test_numbers_of_findings_are_those_of_the_boxes():
    data = plant(make_tiny)
    found = {f.check: f for f in data.check("train", "val", "test", fast=True)}
    boxes = np.concatenate([data.images(split).boxes for split in ("train", "val", "test")])
    is_box = boxes[..., 4] >= 0
    assert found["tiny_boxes"].details["boxes"] == found["tiny_boxes"].details["all_boxes"] == is_box.sum()
    assert found["tiny_boxes"].details["larger"] == 64 and found["tiny_boxes"].severity == "act"  # 24 * 4 / 2 = 48
    assert found["empty_images"].details["images"] == 40 and found["empty_images"].details["all_images"] == 160
    train = data.images("train").boxes
    assert found["class_boxes"].details["boxes"] == (train[..., 4] >= 0).sum()
    assert found["class_boxes"].details["by_split"]["train"] == {name: int((train[..., 4] == at).sum()) for at, name in enumerate(NAMES[:2])}  # fmt: skip
    nearly = {f.check: f for f in plant(leave_few).check("train", "val", "test", fast=True)}
    assert nearly["empty_images"].severity == "act" and nearly["empty_images"].details["images"] == 156


@pytest.mark.parametrize(
    ("of_train", "of_val", "said"),
    [
        ((0,), (0, 1), ("stop", "No train image has a box of dog (1 of 3 classes), but val images do")),
        ((0, 1), (0,), ("act", "No val image has a box of dog (1 of 3 classes), but train images do")),
        ((0, 1), (), ("stop", "No val image has a box of cat, dog (2 of 3 classes), but train images do")),
    ],
)
def test_classes_without_an_object(of_train, of_val, said):
    def make(classes, seed):
        images, boxes = draw_scenes(40, seed)
        return images, [rows[np.isin(rows[:, 4], classes)] for rows in boxes]

    source = from_boxed_arrays(*make(of_train, 0), NAMES, val=make(of_val, 1), test=make((0, 1), 2))
    findings = pbl.load_data(lambda: source, boxes=True).check("train", "val", fast=True)
    found = [(f.severity, f.message) for f in findings if f.check == "absent_objects"]
    assert any(severity == said[0] and message.startswith(said[1]) for severity, message in found) and len(found) == 2
    assert found[said[0] == "stop"] == ("act", "No image has a box of owl (1 of 3 classes): a network cannot learn it. Give images of it, or remove it from the list of classes.")  # fmt: skip


def test_boxes_that_are_mended_are_learned_rightly():
    images, boxes = draw_scenes(40)
    for at in (1, 5, 9, 13, 17, 21, 25, 29, 33, 37):
        boxes[at] = np.array(
            [[-3, 2, 9, 30, 1], [2, 2, 2, 9, 0], [3, 3, 9, 9, 0], [3, 3, 9, 9, 0], [50, 1, 60, 9, 0]], np.float32
        )
    data = pbl.load_data(lambda: from_boxed_arrays(images, boxes, NAMES), boxes=True)
    rows = boxes_by_name(data.everything)["5"]
    np.testing.assert_array_equal(rows, [[0, 2, 9, 20, 1], [3, 3, 9, 9, 0]])
    at = data.everything.names.index("train/5")
    assert data.everything.box_faults[at].tolist() == [1, 1, 1, 1, 0] and data.everything.labels[at] == 0


def test_checks_of_labels_are_not_made_and_pictures_show_the_boxes(tmp_path):
    data = plant(lie_outside)
    findings = data.check("train", "val", "test")
    of_labels = ("labels_unlike_neighbours", "labels_unlike_predictions", "mixed_classes", "reference_accuracy", "small_class", "imbalance", "absent_class")  # fmt: skip
    assert not {f.check for f in findings} & set(of_labels)
    files = {file.name for file in pbl.data.doctor.write_report(findings, data.parts("train", "val", "test"), tmp_path)}
    assert {"data_check_boxes_outside.png", "data_check_tiny_boxes.png"} <= files
    drawn = pbl.data.doctor.boxes.outline(
        np.zeros((20, 24, 1), np.uint8), np.array([[2, 3, 5, 9, 1], [0, 0, 0, 0, -1]])
    )
    assert drawn.shape == (160, 192, 3) and box_of(drawn.any(axis=-1)) == [16, 24, 40, 72]


# --- broken data: one line each


def text(name: str, change):
    """Changes the content of a file."""

    def go(folder: Path) -> None:
        file = folder / name
        content = change(file.read_bytes().decode()) if callable(change) else change
        file.write_bytes(content if isinstance(content, bytes) else content.encode())

    return go


def first_annotation(**values):
    return change_json(lambda held: held["annotations"][0].update(values))


def of_json(where: str, value):
    return change_json(lambda held: held.update({where: value}))


def without_key(where: str, key: str):
    return change_json(lambda held: [held[where][0].pop(key), None][1])


def voc(old: str, new: str):
    return text("annotations/3.xml", lambda content: content.replace(old, new, 1))


def xml(tag: str, value: str):
    def change(content: str) -> str:
        begin = content.index(f"<{tag}>") + len(tag) + 2
        return content[:begin] + value + content[content.index(f"</{tag}>") :]

    return text("annotations/3.xml", change)


def yolo(line: str):
    return text("labels/3.txt", line)


def also(*changes):
    return lambda folder: [change(folder) for change in changes]


def write(name: str, content: str = ""):
    def go(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)

    return go


def remove(*names: str):
    return lambda folder: [
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink() for name in names
    ]


def rename(one: str, other: str):
    def go(folder: Path) -> None:
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).rename(folder / other)

    return go


LAUGHS = '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">' + "".join(f'<!ENTITY l{at} "{f"&l{at - 1};" * 10}">' if at else '<!ENTITY l0 "&lol;&lol;">' for at in range(12)) + "]><annotation>&l11;</annotation>"  # fmt: skip
NO_BOXES = "contains 12 images, but no boxes"
VALID = "Valid: COCO (.json), Pascal VOC (.xml) or YOLO (.txt)"
FOLDERS = {
    "nothing in it": ("coco", lambda folder: [shutil.rmtree(folder), folder.mkdir()], "contains no image. Put the images there, with their boxes: COCO"),
    "no annotation": ("coco", remove("annotations"), f"{NO_BOXES}. {VALID}"),
    "annotations of another kind": ("coco", also(remove("annotations"), write("a.json", '{"shapes": [], "imagePath": "1.png"}')), f"{NO_BOXES}: a.json are not annotations"),
    "COCO cut off": ("coco", text("annotations/instances.json", lambda content: content[:-99]), "annotations/instances.json is not JSON, or it is damaged"),
    "COCO empty": ("coco", text("annotations/instances.json", ""), "is not JSON, or it is damaged: it is empty (0 bytes)"),
    "COCO nested without end": ("coco", text("annotations/instances.json", '{"images": [], "annotations": ' + "[" * 99_999), "is not JSON, or it is damaged"),
    "COCO of another encoding": ("coco", text("annotations/instances.json", '{"images": [], "annotations": [], "x": "猫"}'.encode("cp932")), "is not JSON, or it is damaged"),
    "COCO without images": ("coco", of_json("images", 3), "lacks the list 'images'"),
    "COCO's annotations by number": ("coco", of_json("annotations", {"1": 2}), "'annotations' is not a list"),
    "COCO's annotations of numbers": ("coco", of_json("annotations", [1, 2]), "'annotations' is not a list of dictionaries"),
    "COCO without categories": ("coco", of_json("categories", []), "names no class: 'categories' is missing"),
    "COCO of captions": ("coco", change_json(lambda held: held.update(annotations=[{"image_id": 1, "caption": "a cat"}])), "has annotations without boxes (bbox)"),
    "an image that is missing": ("coco", remove("images/3.png"), "annotations/instances.json lists 1 image that is not there, such as 3.png"),
    "a category that is missing": ("coco", first_annotation(category_id=9), "annotations[0] has the category 9, which 'categories' does not contain. Valid: 1, 2"),
    "a category of another type": ("coco", first_annotation(category_id="1"), "has the category '1'"),
    "an image id that is missing": ("coco", first_annotation(image_id=99), "annotations[0] belongs to the image 99, which 'images' does not contain"),
    "NaN": ("coco", first_annotation(bbox=[1, 2, float("nan"), 4]), "annotations[0] has a number that is not finite (1, 2, nan, 6)"),
    "infinity": ("coco", text("annotations/instances.json", lambda content: content.replace('"bbox": [', '"bbox": [1e999, ', 1).replace('"bbox":[', '"bbox":[1e999,', 1)), ("not finite", "has no bbox")),
    "a width below 0": ("coco", first_annotation(bbox=[9, 2, -3, 4]), "has a bbox of width -3 and height 4. Valid: left, top, width, height"),
    "a bbox of three": ("coco", first_annotation(bbox=[9, 2, 3]), "annotations[0] has no bbox (found: [9, 2, 3])"),
    "a bbox of words": ("coco", first_annotation(bbox=["a", 2, 3, 4]), "annotations[0], bbox is 'a': a number is needed"),
    "a bbox of truth": ("coco", first_annotation(bbox=[True, 2, 3, 4]), "bbox is True: a number is needed"),
    "a mask without a bbox": ("coco", first_annotation(bbox=None, segmentation={"counts": [1, 2], "size": [20, 24]}), "annotations[0] has no bbox (found: None)"),
    "a polygon of two points": ("coco", first_annotation(bbox=None, segmentation=[[1, 2, 3, 4]]), "has no bbox"),
    "an image without an id": ("coco", without_key("images", "id"), "images[0] has no id or no file_name"),
    "an image twice": ("coco", change_json(lambda held: held["images"].append({**held["images"][0], "id": 99})), "has the image 99, 0.png twice"),
    "a category twice": ("coco", change_json(lambda held: held["categories"].append(held["categories"][0])), "has the category {'id': 1, 'name': 'cat'} twice"),
    "a category without a name": ("coco", without_key("categories", "name"), "has no id or no name"),
    "two files for train": ("coco", lambda folder: [shutil.copy(folder / "annotations" / "instances.json", folder / "annotations" / f"instances_train_{at}.json") for at in "ab"] and (folder / "annotations" / "instances.json").unlink(), "instances_train_a.json and annotations/instances_train_b.json: which is train?"),
    "two files without a split": ("coco", lambda folder: shutil.copy(folder / "annotations" / "instances.json", folder / "annotations" / "instances_b.json"), "which split is annotations/instances.json?"),
    "val alone": ("coco", rename("annotations/instances.json", "annotations/instances_val.json"), "contains boxes for val but none for train"),
    "an image in two splits": ("coco", lambda folder: [shutil.copy(folder / "annotations" / "instances.json", folder / "annotations" / f"instances_{at}.json") for at in ("train", "val")] and (folder / "annotations" / "instances.json").unlink(), "images/0.png is in annotations/instances_train.json and in annotations/instances_val.json"),
    "a name that two images have": ("coco", lambda folder: [shutil.copytree(folder / "images", folder / "more" / at) for at in "ab"] and shutil.rmtree(folder / "images"), "'0.png' may be more/a/0.png or more/b/0.png. Give its folder in file_name"),
    "boxes of a larger image": ("coco", change_json(lambda held: held["images"][3].update(width=48, height=40)), "The boxes of images/3.png are for 40x48 pixels (annotations/instances.json), and the image has 20x24 (height x width): draw them on this image"),
    "boxes of a turned image": ("coco", change_json(lambda held: held["images"][3].update(width=20, height=24)), "the image is rotated by its EXIF"),
    "no box at all": ("coco", of_json("annotations", []), "none of 12 images has a box"),
    "too many boxes": ("coco", change_json(lambda held: held["annotations"].extend({**held["annotations"][0], "id": 99 + at} for at in range(1001))), "images/1.png has 1002 boxes; at most 1000 boxes of an image"),
    "two formats": ("coco", lambda folder: write_set(folder, "voc"), "contains boxes in several formats: COCO, annotations/instances.json; Pascal VOC, annotations/0.xml"),
    "XML cut off": ("voc", text("annotations/3.xml", lambda content: content[:99]), "1 annotation file cannot be used: annotations/3.xml is not XML, or it is damaged"),
    "XML empty": ("voc", text("annotations/3.xml", ""), "annotations/3.xml is not XML, or it is damaged: it is empty (0 bytes)"),
    "XML of Japanese Windows": ("voc", text("annotations/3.xml", '<?xml version="1.0" encoding="cp932"?><annotation/>'), "is not XML, or it is damaged: "),
    "a billion laughs": ("voc", text("annotations/3.xml", LAUGHS), "annotations/3.xml declares a document type (DOCTYPE)"),
    "a file of the machine": ("voc", text("annotations/3.xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><object><name>&x;</name></object></annotation>'), "declares a document type"),
    "a page of the web": ("voc", text("annotations/3.xml", "<html></html>"), "is not a Pascal VOC annotation: it begins with <html>"),
    "an object without a name": ("voc", xml("name", " "), "Object 1 of annotations/3.xml has no <name>"),
    "an object without a box": ("voc", text("annotations/3.xml", lambda content: content.replace("bndbox", "polygon", 2)), "Object 1 of annotations/3.xml has no <bndbox>"),
    "a corner that is missing": ("voc", text("annotations/3.xml", lambda content: content.replace("xmax>", "max>", 2)), "Object 1 of annotations/3.xml, xmax is missing: a number is needed"),
    "a corner of words": ("voc", xml("xmin", "left"), "Object 1 of annotations/3.xml, xmin is 'left': a number is needed"),
    "a corner of NaN": ("voc", xml("ymax", "nan"), "not finite"),
    "corners in the wrong order": ("voc", xml("xmax", "-7"), "The box annotations/3.xml, 1 ends before it begins"),
    "VOC of another size": ("voc", xml("width", "99"), "are for 20x99 pixels (annotations/3.xml)"),
    "all XML broken": ("voc", lambda folder: [file.write_text("<") for file in (folder / "annotations").iterdir()], "12 annotation files cannot be used"),
    "a class without a name": ("voc", also(xml("name", "cow"), write("classes.txt", "cat\ndog\n")), "annotations/3.xml has the class 'cow', but classes.txt does not name it: cat, dog"),
    "annotations of other images": ("voc", lambda folder: [file.rename(file.with_name(f"x{file.name}")) for file in (folder / "annotations").iterdir()], "no annotation belongs to an image: annotations/x0.xml has no image with the name x0"),
    "a list of images that are missing": ("voc", write("ImageSets/Main/train.txt", "1\n77\n"), "ImageSets/Main/train.txt lists the image 77, which is not there"),
    "an image in two lists": ("voc", also(write("ImageSets/Main/train.txt", "1\n2\n"), write("ImageSets/Main/val.txt", "1\n")), "images/1.png is in ImageSets/Main/val.txt and in ImageSets/Main/train.txt"),
    "no names": ("yolo", remove("labels/classes.txt"), "does not name its classes, and labels/"),
    "a number above the names": ("yolo", yolo("7 0.5 0.5 0.1 0.1"), "labels/3.txt has the class 7, but labels/classes.txt names 2, from 0 to 1: cat, dog"),
    "pixels in place of shares": ("yolo", yolo("0 12 10 4 5"), "Line 1 of labels/3.txt contains 12. YOLO's numbers are shares of the image's width and height, from 0 to 1: are these pixels?"),
    "a share below 0": ("yolo", yolo("0 0.5 -0.5 0.1 0.1"), "contains -0.5. YOLO's numbers are shares of the image's width and height, from 0 to 1."),
    "a line of four": ("yolo", yolo("0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1"), "Line 2 of labels/3.txt has 4 words. Valid: class, centre x"),
    "predictions": ("yolo", yolo("0 0.5 0.5 0.1 0.1 0.98"), "has 6 words. Valid: class, centre x, centre y, width, height, as shares from 0 to 1, without a confidence"),
    "a class by its name": ("yolo", yolo("cat 0.5 0.5 0.1 0.1"), "Line 1 of labels/3.txt is 'cat': a number is needed"),
    "half a class": ("yolo", yolo("0.5 0.5 0.5 0.1 0.1"), "has the class 0.5. Valid: its number, from 0 on"),
    "a class below 0": ("yolo", yolo("-1 0.5 0.5 0.1 0.1"), "has the class -1"),
    "a share of NaN": ("yolo", yolo("0 nan 0.5 0.1 0.1"), "Line 1 of labels/3.txt has a number that is not finite"),
    "numbers with commas": ("yolo", yolo("0 0,5 0,5 0,1 0,1"), "Line 1 of labels/3.txt is '0,5': a number is needed"),
    "labels that are no text": ("yolo", text("labels/3.txt", b"\xff\xfe\x00"), "labels/3.txt is not text in UTF-8"),
    "YAML damaged": ("yolo", write("data.yaml", "names: [cat, dog"), "data.yaml is not YAML, or it is damaged"),
    "a gap in the names": ("yolo", write("data.yaml", "names: {0: cat, 2: dog}"), "data.yaml: 'names' has no class 1"),
    "names by words": ("yolo", write("data.yaml", "names: {a: cat}"), "data.yaml: 'names' has no class 0"),
    "nc of another count": ("yolo", write("data.yaml", "nc: 3\nnames: [cat, dog]"), "data.yaml: nc is 3, but 'names' has 2 class(es)"),
    "names of a number": ("yolo", write("data.yaml", "names: 2"), "data.yaml: 'names' is '2'. Valid: a list of names"),
    "a name twice": ("yolo", write("data.yaml", "names: [cat, cat]"), "two classes have the same name: cat"),
    "two lists of names": ("yolo", write("classes.txt", "dog\ncat\n"), "classes.txt and labels/classes.txt name the classes differently"),
    "names of another encoding": ("yolo", text("labels/classes.txt", "猫\n犬\n".encode("cp932")), "Write one class a line, in UTF-8"),
    "two images of one name": ("yolo", lambda folder: save(folder / "images" / "3.bmp", np.zeros((20, 24), np.uint8)), "images/3.bmp and images/3.png have the same annotation file"),
    "two files of one image": ("yolo", lambda folder: shutil.copy(folder / "labels" / "3.txt", folder / "images" / "3.txt"), "images/3.txt and labels/3.txt belong to the same image"),
    "a test split alone": ("yolo", also(rename("images", "test/images"), rename("labels", "test/labels")), "contains images for test but none for train"),
    "no labels of train": ("yolo", lambda folder: [write_set(folder / at, "yolo", seed=seed) for seed, at in enumerate(("train", "val"), 1)] and [shutil.rmtree(folder / at) for at in ("images", "labels", "train/labels")] and write("classes.txt", "cat\ndog\n")(folder), "no image of train has an annotation"),
    "a link to nowhere": ("yolo", lambda folder: [(folder / "labels" / "3.txt").unlink(), (folder / "labels" / "3.txt").symlink_to("gone")], "labels/3.txt: No such file or directory"),
    "images of two sizes": ("yolo", lambda folder: save(folder / "images" / "3.png", np.zeros((30, 30), np.uint8)), "differ in size (20x24 and 30x30 pixels)"),
    "an empty image": ("yolo", text("images/3.png", b""), "images/3.png is empty (0 bytes)"),
}  # fmt: skip


def refuse(said, source, **settings) -> None:
    with pytest.raises(InputError) as error:
        pbl.load_data(source, boxes=True, **settings)
    line = str(error.value)
    assert any(one in line for one in ([said] if isinstance(said, str) else said)) and "\n" not in line, line
    assert " at 0x" not in line


@pytest.mark.parametrize("how", FOLDERS)
def test_broken_folders_are_told_in_one_line(tmp_path, monkeypatch, how):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    kind, break_it, said = FOLDERS[how]
    write_set(tmp_path / "photos", kind)
    if how == "two formats":
        write_set(tmp_path / "photos", "coco")
    break_it(tmp_path / "photos")
    refuse(said, str(tmp_path / "photos"))
    assert not [file for file in (tmp_path / "cache").glob("*") if file.name.startswith(".")]


IMAGES, BOXES = draw_scenes(12)
PADDED = np.full((12, 3, 5), [0.0, 0, 0, 0, -1])
for padded, of in zip(PADDED, BOXES, strict=True):
    padded[: len(of)] = of


def with_box(*row):
    changed = PADDED.copy()
    changed[3, 1] = row
    return changed


ARRAYS = {
    "labels": ({"y_train": np.arange(12)}, "lacks b_train"),
    "no boxes of test": ({"b_train": PADDED, "x_test": IMAGES}, "lacks b_test"),
    "boxes without a class": ({"b_train": PADDED[..., :4]}, "The boxes of train/0 are float64 of shape (3, 4). Valid: numbers [k, 5]"),
    "a box an image": ({"b_train": PADDED[:, 0]}, "of shape (5,)"),
    "words": ({"b_train": np.full((12, 3, 5), "a")}, "Valid: numbers [k, 5]"),
    "Python objects": ({"b_train": np.array([None] * 12)}, "contains Python objects"),
    "fewer": ({"b_train": PADDED[:9]}, "train: 12 images but boxes of 9"),
    "one number": ({"b_train": np.array(3)}, "the boxes are a single number"),
    "NaN": ({"b_train": with_box(1, 2, np.nan, 4, 0)}, "The box train/3, 1 has a number that is not finite (1, 2, nan, 4)"),
    "width and height": ({"b_train": with_box(9, 9, 4, 4, 0)}, "The box train/3, 1 ends before it begins (9, 9, 4, 4)"),
    "half a class": ({"b_train": with_box(1, 1, 4, 4, 0.5)}, "The box train/3, 1 has the class 0.5"),
    "a class below -1": ({"b_train": with_box(1, 1, 4, 4, -2)}, "has the class -2"),
    "a class above the names": ({"b_train": with_box(1, 1, 4, 4, 2), "class_names": np.array(["a", "b"])}, "has the class 2. Valid: a whole number from 0 to 1"),
    "images of floats": ({"x_train": IMAGES / 255, "b_train": PADDED}, "x_train is float64"),
    "no images": ({"x_train": IMAGES[:0], "b_train": PADDED[:0]}, "train contains no image"),
}  # fmt: skip


@pytest.mark.parametrize("how", ARRAYS)
def test_broken_arrays_are_told_in_one_line(tmp_path, how):
    arrays, said = ARRAYS[how]
    np.savez(tmp_path / "photos.npz", **{"x_train": IMAGES, **arrays})
    refuse(said, str(tmp_path / "photos.npz"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: from_boxed_arrays(None, None), "train: the images are NoneType"),
        (lambda: from_boxed_arrays(IMAGES, BOXES, "ab"), "class_names is one word, 'ab'"),
        (
            lambda: from_boxed_arrays(IMAGES, BOXES, NAMES, test=(IMAGES,)),
            "test is a tuple. Give a pair: (images, boxes)",
        ),
        (lambda: from_boxed_arrays(IMAGES, [[[1, 2, 3, 4, 0], [1, 2]]] * 12), "Valid: numbers [k, 5]"),
        (lambda: from_boxed_arrays(IMAGES, [np.tile([1, 2, 3, 4, 0], (1001, 1))] * 12), "train/0 has 1001 boxes"),
        (
            lambda: pbl.data.from_arrays(IMAGES, np.arange(12) % 2),
            "has classes but no boxes. task=detection needs boxes",
        ),
        (lambda: from_masked_arrays(IMAGES, IMAGES > 90), "has masks but no boxes"),
    ],
)
def test_wrong_sources_are_told_in_one_line(make, said):
    refuse(said, make)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"augmentation": {"mixup": 0.2}}, "MixUp and CutMix also mix labels, but boxes cannot be mixed"),
        ({"augmentation": {"cutmix": 1}, "labels": "one_hot"}, "boxes cannot be mixed: leave them out"),
        ({"masks": True}, "with masks or with boxes"),
        ({"views": 2}, "one view of each image"),
        ({"normal": ["cat"]}, "without normal classes"),
        ({"boxes": False}, "has boxes: train with task=detection (load_data: boxes=True)"),
        ({"boxes": False, "masks": True}, "has boxes: train with task=detection"),
    ],
)
def test_settings_that_do_not_fit_boxes(settings, said):
    with pytest.raises(InputError) as error:
        pbl.load_data(lambda: from_boxed_arrays(IMAGES, BOXES, NAMES), **{"boxes": True, **settings})
    assert said in str(error.value)


def test_broken_boxes_may_be_passed_over_one_image_at_a_time(tmp_path):
    folder = write_set(tmp_path, "coco", count=24)
    change_json(lambda held: held["images"][3].update(width=48, height=40))(folder)
    data = pbl.load_data(str(folder), boxes=True, on_bad_image="skip")
    assert list(data.broken) == ["images/3.png"] and len(data.everything.names) == 23


def test_an_archive_is_named_where_its_boxes_are_broken(tmp_path, monkeypatch):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    folder = write_set(tmp_path / "photos", "yolo")
    (folder / "labels" / "classes.txt").unlink()
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    refuse("photos.zip does not name its classes", str(tmp_path / "photos.zip"))
    (tmp_path / "broken.zip").write_bytes((tmp_path / "photos.zip").read_bytes()[:900])
    refuse("is not an archive, or it is damaged", str(tmp_path / "broken.zip"))
    refuse("No folder", str(tmp_path / "phots"))
