"""Masks as data: what the doctor finds in them, what is cached, their sources, and broken ones."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_segmentation import SETTINGS, draw_shapes, save, write_pairs

import pbl
from pbl.data import from_masked_arrays, mask_files, mask_values, store
from pbl.data.cache import cache_folder
from pbl.errors import InputError

pytestmark = pytest.mark.slow  # little of it depends on versions

# --- the doctor


def read_findings(folder):
    return json.loads((folder / "data_check.json").read_text(encoding="utf-8"))["findings"]


def draw_clean(count: int = 200, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Squares and, as class 2, bars on noise that is partly as bright; on a fifth of the images nothing."""
    random = np.random.default_rng(0)
    images = random.integers(0, 200, (count, side, side), np.uint8)
    masks = np.zeros_like(images)
    for number, mask in enumerate(masks):
        top, left = random.integers(1, 8, 2)
        if number % 5:
            mask[top : top + 6, left : left + 4] = 1
        if number % 5 > 2:
            mask[13:15, left : left + 4] = 2
    images[masks > 0] += 40
    return images, masks


def of_two(images, masks):
    return images, (masks == 1).astype(np.uint8)


def make_white(images, masks):
    return images, (masks == 0).astype(np.uint8)


def make_images_of_masks(images, masks):
    return masks * 110 + images // 40, masks


def mark_by_brightness(images, masks):
    """Marks the brighter half of a coarse picture, with a separate limit for each image."""
    coarse = np.kron(images[:, ::4, ::4], np.ones((1, 4, 4), np.uint8))
    return coarse // 2 + images // 25, (coarse > coarse.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)


def leave_few(images, masks):
    masks[:195][masks[:195] == 2] = 0
    return images, masks


def make_one_pixel(images, masks):
    masks[masks == 2] = 0
    masks[::5, 15, 0] = 2
    return images, masks


def mark_again(images, masks):
    images[10], masks[10], masks[11] = images[11], 0, 0
    masks[11, :4, :4] = 1
    return images, masks


def keep_marks_of(*numbers):
    def keep(images, masks):
        masks[[at for at in range(len(masks)) if at not in numbers]] = 0
        return images, masks

    return keep


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda *data: data, {}),
        (of_two, {}),
        (make_white, {"inverted_masks": "act"}),
        (make_images_of_masks, {"masks_are_images": "act"}),
        (mark_by_brightness, {"masks_by_brightness": "note"}),
        (leave_few, {"seldom_marks": "act", "rare_class": "note"}),
        (make_one_pixel, {"rare_class": "note"}),
        (mark_again, {"copies_with_other_masks": "act"}),
        (keep_marks_of(*range(9)), {"empty_masks": "act"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_each_planted_fault_is_found_by_its_check_alone(plant, said):
    images, masks = plant(*draw_clean())
    data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    found = {finding.check: finding.severity for finding in data.check("train", "val", "test", fast=True)}
    always = {"class_shares": "note", "empty_masks": "note", "copies_within": "note"}
    for check in ("absent_marks", "seldom_marks", "rare_class"):  # with few marks it is chance in which split they are
        if plant.__name__ in ("keep", "leave_few"):
            found.pop(check, None), said.pop(check, None)
    assert {check: of for check, of in found.items() if always.get(check) != of} == said


def test_the_pictures_of_findings_show_the_masks(tmp_path):
    images, masks = mark_again(*draw_clean())
    data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    findings = data.check("train", "val", "test")
    files = {file.name for file in pbl.data.doctor.write_report(findings, data.parts("train", "val", "test"), tmp_path)}
    assert "data_check_copies_with_other_masks.png" in files
    (finding,) = (finding for finding in findings if finding.check == "copies_with_other_masks")
    assert set(finding.items) == {"train/10", "train/11"}


def test_shares_of_pixels_are_those_of_the_masks():
    images, masks = draw_clean()
    data = pbl.load_data(lambda: from_masked_arrays(images, masks, ["ground", "square", "bar"]), masks=True)
    (finding,) = (finding for finding in data.check("train", "val") if finding.check == "class_shares")
    for split, shares in finding.details["shares"].items():
        of_split = data.images(split).masks
        assert list(shares.values()) == pytest.approx([(of_split == number).mean() for number in range(3)])
    assert "ground 9" in finding.message or "ground 8" in finding.message


@pytest.mark.parametrize(
    ("of_train", "of_val", "of_test", "said"),
    [
        ((0, 1), (0, 1, 2), (0, 1), ("stop", "No train mask marks b (1 of 2 classes), but val masks do")),
        ((0, 1, 2), (0, 1), (0, 1, 2), ("act", "No val mask marks b (1 of 2 classes), but train masks do")),
        ((0, 1, 2), (0,), (0, 1, 2), ("stop", "No val mask marks a, b (2 of 2 classes), but train masks do")),
        ((0, 1), (0, 1), (0, 1), ("act", "No mask marks b (1 of 2 classes): a network cannot learn it")),
        ((1, 2), (1, 2), (1, 2), None),  # complete pictures are marked: the background is not a class to be found
    ],
)
def test_classes_that_are_not_marked(of_train, of_val, of_test, said):
    def make(classes, seed):
        random = np.random.default_rng(seed)
        return random.integers(0, 255, (60, 8, 8), np.uint8), random.choice(classes, (60, 8, 8)).astype(np.uint8)

    source = from_masked_arrays(*make(of_train, 0), ["ground", "a", "b"], val=make(of_val, 1), test=make(of_test, 2))
    findings = pbl.load_data(lambda: source, masks=True).check("train", "val", "test", fast=True)
    found = [(finding.severity, finding.message) for finding in findings if finding.check == "absent_marks"]
    assert len(found) == (said is not None)
    if said:
        assert found[0][0] == said[0] and found[0][1].startswith(said[1])


def test_every_image_may_hold_something(tmp_path):
    """It is not a fault if no image is only background: a training starts."""
    images, masks = of_two(*draw_clean())
    images, masks = (array[masks.any(axis=(1, 2))] for array in (images, masks))
    data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    assert not [finding for finding in data.check("train", "val", "test") if finding.severity == "stop"]


def test_marks_that_the_crop_cuts_off_are_told():
    images, masks = draw_clean(60)
    images, masks = (np.pad(array, ((0, 0), (0, 0), (16, 16))) for array in (images, masks))
    masks[3] = 0
    masks[3, 2:5, 2:5] = 1
    found = {}
    for fit in ("crop", "pad"):
        data = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True, image_size=16, fit=fit)
        found[fit] = {finding.check: finding.items for finding in data.check("train", "val", "test", fast=True)}
    assert found["crop"]["lost_marks"] == ["train/3"] and "lost_marks" not in found["pad"]


def test_copies_and_groups_of_masked_images():
    """Exact and altered copies across splits are found, and none where the copies are one group."""
    images, masks = draw_clean()
    noise = np.random.default_rng(1).integers(-6, 7, images.shape)
    copies = (images.astype(int) + noise).clip(0, 255).astype(np.uint8)
    both = np.concatenate([images, copies]), np.concatenate([masks, masks])
    for groups, said in ((None, "stop"), ("look_alike", None)):
        data = pbl.load_data(lambda: from_masked_arrays(*both), masks=True, groups=groups)
        found = {f.severity for f in data.check("train", "val", "test") if f.check.startswith("altered_copies")}
        assert (said in found) == (said is not None) and not (groups and found)
    exact = from_masked_arrays(images, masks, val=(images[:40], masks[:40]))
    checks = {finding.check for finding in pbl.load_data(lambda: exact, masks=True).check("train", "val", fast=True)}
    assert "copies_across" in checks


@pytest.mark.nightly
@pytest.mark.slow
def test_ultrasound_images_look_alike(shared_data, command, tmp_path):
    """A random split is reported; a split by look-alikes has none on both sides. One image occurs twice, with two masks."""
    words = [
        "check",
        shared_data / "breast_ultrasound.zip",
        "task=segmentation",
        "image_size=64",
        "channels=1",
        "--json",
    ]
    assert command(*words, "--out", tmp_path / "a")[0] == 1
    found = read_findings(tmp_path / "a")
    severities = {(finding["check"], finding["severity"]) for finding in found}
    assert {("altered_copies", "stop"), ("altered_copies_in_train", "stop")} <= severities
    (twice,) = (finding for finding in found if finding["check"] == "copies_with_other_masks")
    assert set(twice["items"]) == {"images/benign/benign_433.jpg", "images/malignant/malignant_145.jpg"}
    assert not {check for check, _ in severities} & {"masks_are_images", "masks_by_brightness", "inverted_masks"}
    assert command(*words, "--out", tmp_path / "b", "groups=look_alike")[0] == 0
    found = read_findings(tmp_path / "b")
    assert not [finding for finding in found if finding["severity"] == "stop" or "altered" in finding["check"]]


# --- the cache, and other sources


def test_masks_are_looked_through_once(tmp_path, monkeypatch):
    """Until one changes, or the cache is damaged; then again."""
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "KEPT_FROM", -1)
    monkeypatch.setattr(mask_values, "KEPT_FROM", -1)
    folder = write_pairs(tmp_path / "photos")
    first = pbl.load_data(str(folder), masks=True)
    with monkeypatch.context() as blind:
        for module in (mask_values, mask_files):
            blind.setattr(module, "decode_values", lambda *_: pytest.fail("decoded again"))
        again = pbl.load_data(str(folder), masks=True)
    assert again.images_hash == first.images_hash and again.class_names == first.class_names
    (kept,) = (tmp_path / "cache").glob("*.json")
    for damage in (b"", b"[]", b'{"listing": 1}', kept.read_bytes().replace(b'"grey"', b'"gray"')):
        kept.write_bytes(damage)
        assert pbl.load_data(str(folder), masks=True).images_hash == first.images_hash
    mask = folder / "masks" / "4.png"
    save(mask, np.full((16, 16), 7, np.uint8))
    assert pbl.load_data(str(folder), masks=True).class_names == ["background", "7", "255"]


def test_small_folders_leave_nothing_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    pbl.load_data(str(write_pairs(tmp_path / "photos")), masks=True)
    assert not (tmp_path / "cache").exists() or not list(cache_folder().iterdir())


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (None, ["background", "1", "3"]),
        ("2 ground\n1 pet\n3 border\n", ["ground", "pet", "border"]),
        ("pet\nground\nborder\n", ["pet", "ground", "border"]),
    ],
)
def test_without_a_value_0_the_commonest_is_the_background(tmp_path, classes, names):
    """This is reported; `classes.txt` can change it, with values or in their order."""
    coding = np.array([2, 1], np.uint8)
    folder = write_pairs(
        tmp_path / "photos", coding=lambda mask: np.where(np.arange(16) < 1, np.uint8(3), coding[mask])
    )
    if classes:
        (folder / "classes.txt").write_text(classes)
    data = pbl.load_data(str(folder), masks=True)
    assert data.class_names == names
    told = [finding for finding in data.check("train", "val", fast=True) if finding.check == "background_chosen"]
    assert len(told) == (classes is None)
    if told:
        assert "The most common value, 2, is used as the background: 8" in told[0].message and told[0].severity == "act"
    first = {"ground": 2, "pet": 1}.get(names[0], 2)
    expected = {first: 0, **{value: at for at, value in enumerate(sorted({1, 2, 3} - {first}), 1)}}
    masks = draw_shapes(30)[1]
    for mask, name in zip(data.everything.masks, data.everything.names, strict=True):
        values = np.where(np.arange(16) < 1, 3, coding[masks[int(name.split("/")[-1][:-4])]])
        np.testing.assert_array_equal(mask, np.vectorize(expected.get)(values))


def test_arrays_are_read_by_their_values_too():
    images, masks = draw_shapes(30)
    plain = pbl.load_data(lambda: from_masked_arrays(images, masks), masks=True)
    for other in (masks * 255, masks.astype(bool), masks.astype(np.int64)[..., None], list(masks * np.uint16(999))):
        data = pbl.load_data(lambda other=other: from_masked_arrays(images, other), masks=True)
        assert data.class_names == ["background", "foreground"] and data.images_hash == plain.images_hash


def make_set(name: str, folder, map_feature, values: list[int], count: int = 40):
    """Writes a set of TensorFlow Datasets with classes, boxes, and maps of squares, of images of many sizes."""
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    import tensorflow_datasets as tfds

    images, masks = draw_shapes(count)

    def make(numbers):
        for at in numbers:
            high = 14 + at % 3
            values_of = np.array(values, np.uint8)[masks[at, :high]]
            values_of[0] = values[-1]
            box = tfds.features.BBox(0.0, 0.0, 0.5, 0.5 + at / 100)
            yield at, {"image": images[at, :high, :, None], "segmentation_mask": values_of[..., None], "label": at % 2, "boxes": [box] * (at % 3)}  # fmt: skip

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 1)),
            "segmentation_mask": map_feature(tfds),
            "label": tfds.features.ClassLabel(num_classes=2),
            "boxes": tfds.features.Sequence(tfds.features.BBoxFeature()),
        }
    )
    splits = {"train": list(make(range(count - 9))), "test": list(make(range(count - 9, count)))}
    tfds.dataset_builders.store_as_tfds_dataset(
        name, "4.0.0", features, splits, data_dir=folder, disable_shuffling=True
    )
    return images, masks


def plain_map(tfds):
    return tfds.features.Image(shape=(None, None, 1), dtype=np.uint8)


def named_map(tfds):
    return tfds.features.LabeledImage(labels=["ground", "square", "sky"], shape=(None, None, 1))


@pytest.mark.parametrize(
    ("name", "map_feature", "values", "names"),
    [
        ("oxford_iiit_pet", plain_map, [2, 1, 3], ["background", "pet", "border"]),
        ("my_maps", plain_map, [0, 255], ["background", "foreground"]),
        ("my_maps", named_map, [0, 1, 2], ["ground", "square", "sky"]),
    ],
)
def test_tensorflow_datasets_with_a_segmentation_map(tmp_path, name, map_feature, values, names):
    images, masks = make_set(name, tmp_path, map_feature, values)
    settings = {"data_dir": str(tmp_path), "image_size": (14, 16), "fit": "stretch"}
    data = pbl.load_data(name, masks=True, **settings)
    assert data.class_names == names and len(data.images("test").names) == 9
    assert data.split["made_by"]["test"]["kind"] == "official"
    everything = data.everything
    for at, image_name in enumerate(everything.names):
        number = int(image_name.split("/")[-1])
        if number % 3 == 0:  # 14 pixels high
            np.testing.assert_array_equal(everything.pixels[at, ..., 0], images[number, :14])
            expected = masks[number, :14].copy()
            expected[0] = len(names) - 1
            np.testing.assert_array_equal(everything.masks[at], expected)
    if name == "oxford_iiit_pet":  # which has classes too; maps and boxes of many sizes make no batch, and are not read
        of_classes = pbl.load_data(name, **settings)
        assert of_classes.num_classes == 37 and set(of_classes.images("test").labels) == {0, 1}


def test_tensorflow_datasets_without_a_map_or_with_one_more_value(tmp_path):
    make_set("my_maps", tmp_path, named_map, [0, 7])
    with pytest.raises(InputError, match=r"has the value 7 in 1[0-9]+ pixel"):
        pbl.load_data("my_maps", masks=True, data_dir=str(tmp_path), image_size=14)
    with pytest.raises(InputError, match=r"no image with one segmentation map.*it gives image, label"):
        pbl.load_data("mnist", masks=True, data_dir=str(tmp_path))


# --- broken data and settings: one line each, and nothing half-written


def of_masks(change, end=".png", **options):
    """Changes the content of each mask, and possibly the kind of its file."""

    def go(folder: Path) -> None:
        for file in sorted((folder / "masks").iterdir()):
            values = np.asarray(Image.open(file))
            file.unlink()
            save(file.with_suffix(end), change(values), **options)

    return go


def one_mask(change):
    return lambda folder: change(folder / "masks" / "3.png")


def one_image(change):
    return lambda folder: change(folder / "images" / "3.png")


def in_place_of(make):
    def go(file: Path) -> None:
        file.unlink()
        make(file)

    return go


def classes(text: str, encoding: str = "utf-8"):
    return lambda folder: (folder / "classes.txt").write_text(text, encoding=encoding)


def move(*pairs):
    def go(folder: Path) -> None:
        for one, other in pairs:
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(folder / one, folder / other)

    return go


def keep(*stems):
    def go(folder: Path) -> None:
        for file in folder.glob("*/*.png"):
            if file.stem not in stems:
                file.unlink()

    return go


NOT_WHOLE = "cannot be decoded: its values are not whole numbers from 0 to 65535"
NO_FORM = "Valid: images/ and masks/ with the same stems, or train/images/ and train/masks/"
FOLDERS = {
    "nothing in it": (lambda folder: [shutil.rmtree(folder), folder.mkdir()], "contains no folder"),
    "images are a file": (lambda folder: [shutil.rmtree(folder / "images"), (folder / "images").write_text("x")], NO_FORM),
    "masks without a file": (keep(), "images contains no image"),
    "masks of text": (lambda folder: [[file.rename(file.with_suffix(".txt")) for file in (folder / "masks").iterdir()]], "30 images have no mask"),
    "class folders": (move(("images", "cat"), ("masks", "dog")), "contains cat, dog"),
    "train without masks": (lambda folder: [move(("images", "train/images"))(folder), shutil.rmtree(folder / "masks")], "contains train. Valid"),
    "a test split alone": (move(("images", "test/images"), ("masks", "test/masks")), "contains test. Valid"),
    "two folders for train": (lambda folder: [shutil.copytree(folder, folder / "training"), move(("images", "train/images"), ("masks", "train/masks"))(folder)], "contains train and training: which are the train?"),
    "splits of the images alone": (move(("images", "x/train"), ("x", "images")), "30 images have no mask, such as images/train/0.png"),
    "two images of one stem": (lambda folder: save(folder / "images" / "3.bmp", np.zeros((16, 16), np.uint8)), "images/3.bmp and images/3.png have one mask, masks/3.png"),
    "names that begin with mask": (lambda folder: [file.rename(file.with_name(f"mask_{file.name}")) for file in (folder / "masks").iterdir()], "30 images have no mask"),
    "a name in Japanese": (move(("images/3.png", "images/画像.png")), "no mask, such as images/画像.png. A mask has the same stem, 画像.png or 画像_mask.png"),
    "a line break in a name": (move(("images/3.png", "images/a\nb.png")), "1 image has no mask"),
    "a folder called 3.png": (one_mask(in_place_of(Path.mkdir)), "1 image has no mask, such as images/3.png"),
    "a pipe": (one_mask(in_place_of(os.mkfifo)), "1 image has no mask, such as images/3.png"),
    "a link to nowhere": (one_mask(in_place_of(lambda file: file.symlink_to("gone.png"))), "masks/3.png: No such file or directory"),
    "a link to nowhere, of an image": (one_image(in_place_of(lambda file: file.symlink_to("gone.png"))), "images/3.png: No such file or directory"),
    "a link to itself": (one_mask(in_place_of(lambda file: file.symlink_to("3.png"))), "Too many levels of symbolic links"),
    "an empty mask": (one_mask(lambda file: file.write_bytes(b"")), "masks/3.png cannot be decoded: it is empty (0 bytes)"),
    "a mask of text": (one_mask(lambda file: file.write_text("<html>")), "masks/3.png cannot be decoded: it is not an image that can be read"),
    "all masks cut off": (lambda folder: [file.write_bytes(file.read_bytes()[:40]) for file in (folder / "masks").iterdir()], "30 masks cannot be read"),
    "an empty image": (one_image(lambda file: file.write_bytes(b"")), "images/3.png is empty (0 bytes)"),
    "an image of text": (one_image(lambda file: file.write_text("<html>")), "images/3.png is not an image that can be read"),
    "a huge mask": (one_mask(lambda file: save(file, np.zeros((10_001, 10_001), np.uint8))), "it has more than 100 million pixels"),
    "a turned mask": (lambda folder: [one_image(lambda file: save(file, np.zeros((12, 16), np.uint8)))(folder), one_mask(lambda file: save(file, np.zeros((16, 12), np.uint8)))(folder)], "has 16x12 pixels, but its image images/3.png has 12x16"),
    "images of two sizes": (lambda folder: [change(lambda file: save(file, np.zeros((20, 20), np.uint8)))(folder) for change in (one_image, one_mask)], "differ in size (16x16 and 20x20 pixels)"),
    "images and masks swapped": (move(("images", "x"), ("masks", "images"), ("x", "masks")), "different values, such as"),
    "JPEG": (of_masks(lambda values: values, ".jpg"), "JPEG"),
    "JPEG of high quality": (of_masks(lambda values: values, ".jpg", quality=95), "The masks have 12 different values"),
    "resizing with smoothing": (of_masks(lambda values: (values * np.linspace(0.3, 1, 16 * 16).reshape(16, 16)).astype(np.uint8)), "save masks as PNG, and resize them with nearest neighbour"),
    "16 bits of many values": (of_masks(lambda values: values.astype(np.uint16) + np.arange(256, dtype=np.uint16).reshape(16, 16)), "different values"),
    "negative numbers": (of_masks(lambda values: -(values > 0).astype(np.int32), ".tif"), NOT_WHOLE),
    "numbers above 65535": (of_masks(lambda values: 70_000 * (values > 0).astype(np.int32), ".tif"), NOT_WHOLE),
    "floats between 0 and 1": (of_masks(lambda values: (values > 0).astype(np.float32) / 2, ".tif"), NOT_WHOLE),
    "NaN": (of_masks(lambda values: np.where(values > 0, np.nan, 0).astype(np.float32), ".tif"), NOT_WHOLE),
    "all transparent": (of_masks(lambda values: np.dstack([values, values, values, 0 * values])), "no value except 0"),
    "all white": (of_masks(lambda values: 0 * values + 255), "no value except 255"),
    "all of one colour": (of_masks(lambda values: np.full((16, 16, 3), [255, 0, 0], np.uint8)), "no value except 255 0 0"),
    "a class without a value": (classes("0 ground\nlesion\n"), "the line 'lesion' has no value, but others have one"),
    "a value below 0": (classes("-1 nothing\n0 ground\n255 lesion\n"), "the line '-1 nothing' has no value"),
    "a value twice": (classes("0 ground\n255 a\n255 b\n"), "the value of 'b' occurs twice"),
    "a name twice": (classes("0 ground\n255 ground\n"), "two classes have the same name: ground"),
    "the background last": (classes("255 lesion\n0 background\n"), "'background' is not the first line"),
    "no background": (classes("255 lesion\n"), "has no name for the value 0"),
    "a colour above 255": (classes("0 0 0 ground\n300 0 0 lesion\n"), "has no name for the value 255"),
    "classes of another encoding": (classes("背景\n病変\n", "cp932"), "Write one class a line, in UTF-8"),
    "300 classes": (classes("".join(f"{number} class {number}\n" for number in range(300))), "names 300 classes. At most 256 are learned"),
    "two images": (keep("1", "2"), "is too small: no image is left for val"),
}  # fmt: skip


def refuse(tmp_path, monkeypatch, said: str, **values) -> None:
    """A training is refused in one line; no run is left, and in the cache only complete archives."""
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "KEPT_FROM", -1)
    monkeypatch.setattr(mask_values, "KEPT_FROM", -1)
    monkeypatch.setitem(pbl.DATASETS, "squares", lambda: from_masked_arrays(*draw_shapes(60)))
    with pytest.raises(InputError) as error:
        pbl.train(pbl.Config(**SETTINGS).replace(**values), folder=tmp_path / "runs")
    line = str(error.value)
    assert said in line and "\n" not in line and " at 0x" not in line
    assert not [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    begun = [file.name for file in (tmp_path / "cache").glob("*") if file.name.startswith(".")]
    assert not begun


@pytest.mark.parametrize("how", FOLDERS)
def test_broken_folders_are_told_in_one_line(tmp_path, monkeypatch, how):
    break_it, said = FOLDERS[how]
    folder = write_pairs(tmp_path / "photos")
    break_it(folder)
    refuse(tmp_path, monkeypatch, said, dataset=str(folder))


def write_archive(file: Path, name_of=lambda name: name) -> Path:
    folder = write_pairs(file.parent / "photos")
    with zipfile.ZipFile(file, "w") as archive:
        for one in sorted(folder.rglob("*.png")):
            if name := name_of(one.relative_to(folder).as_posix()):
                archive.write(one, name)
    return file


IMAGES, MASKS = draw_shapes(30)
ARCHIVES = {
    "cut off": (lambda file: file.write_bytes(write_archive(file).read_bytes()[:900]), "is not an archive, or it is damaged"),
    "empty": (lambda file: file.write_bytes(b""), "is not an archive, or it is damaged"),
    "without masks": (lambda file: write_archive(file, lambda name: name if "images" in name else None), "contains images. Valid"),
    "without one mask": (lambda file: write_archive(file, lambda name: name.replace("masks/3.", "masks/x.")), "photos.zip: 1 image has no mask, such as images/3.png"),
    "a path that leads out": (lambda file: write_archive(file, lambda name: "../" + name), "which leads outside the archive"),
}  # fmt: skip


@pytest.mark.parametrize("how", ARCHIVES)
def test_broken_archives_of_masks_are_told_in_one_line(tmp_path, monkeypatch, how):
    break_it, said = ARCHIVES[how]
    break_it(tmp_path / "photos.zip")
    refuse(tmp_path, monkeypatch, said, dataset=str(tmp_path / "photos.zip"))


def test_an_archive_brings_the_names_of_its_classes(tmp_path):
    file = write_archive(tmp_path / "photos.zip")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("classes.txt", "ground\nlesion\n")
    assert pbl.load_data(str(file), masks=True).class_names == ["ground", "lesion"]


NO_MASK = "Valid: whole numbers [height, width], 0 for the background"
ARRAYS = {
    "labels": ({"y_train": np.arange(30) % 2}, "lacks m_train"),
    "no masks of the test split": ({"m_train": MASKS, "x_test": IMAGES}, "lacks m_test"),
    "images of floats": ({"x_train": IMAGES / 255, "m_train": MASKS}, "x_train is float64 from 0 to 0.8"),
    "masks of floats": ({"m_train": MASKS / 2}, "The mask train/0 is float64 of shape (16, 16). " + NO_MASK),
    "NaN": ({"m_train": np.where(MASKS, np.nan, 0)}, NO_MASK),
    "a channel for each class": ({"m_train": np.stack([1 - MASKS, MASKS], axis=-1)}, "of shape (16, 16, 2)"),
    "another size": ({"m_train": MASKS[:, :8]}, "The mask train/0 has 8x16 pixels, but its image train/0 has 16x16"),
    "no pixels": ({"m_train": MASKS[:, :0]}, "of shape (0, 16)"),
    "fewer masks": ({"m_train": MASKS[:9]}, "train: 30 images but 9 masks"),
    "no images": ({"x_train": IMAGES[:0], "m_train": MASKS[:0]}, "train contains no image"),
    "one number": ({"m_train": np.array(3)}, "the masks are a single number"),
    "words": ({"m_train": np.full((30, 16, 16), "a")}, NO_MASK),
    "Python objects": ({"m_train": np.array([None] * 30)}, "contains Python objects"),
    "below 0": ({"m_train": -MASKS.astype(int)}, "has values from -1 to 0"),
    "above 65535": ({"m_train": MASKS.astype(int) * 70_000}, "has values from 0 to 70000"),
    "300 values": ({"m_train": np.arange(30 * 256).reshape(30, 16, 16) % 300}, "300 different values"),
    "nothing marked": ({"m_train": 0 * MASKS}, "no value except 0"),
    "too few names": ({"m_train": MASKS, "class_names": np.array(["a"])}, "names 1 class(es), but the masks have 2 values"),
}  # fmt: skip


@pytest.mark.parametrize("how", ARRAYS)
def test_broken_arrays_of_masks_are_told_in_one_line(tmp_path, monkeypatch, how):
    arrays, said = ARRAYS[how]
    np.savez(tmp_path / "photos.npz", **{"x_train": IMAGES, **arrays})
    refuse(tmp_path, monkeypatch, said, dataset=str(tmp_path / "photos.npz"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((None, None), "train: the images are NoneType"),
        ((IMAGES, MASKS, "ab"), "class_names is one word, 'ab'"),
        ((IMAGES, MASKS, [None, "a"]), "class names are words"),
        ((IMAGES, MASKS, None, (IMAGES,)), "test is a tuple. Give a pair"),
        ((np.repeat(IMAGES[..., None], 4, axis=-1), MASKS), "has the shape (16, 16, 4)"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(tmp_path, monkeypatch, arguments, said):
    monkeypatch.setitem(pbl.DATASETS, "mine", lambda: from_masked_arrays(*arguments))
    refuse(tmp_path, monkeypatch, said, dataset="mine")


WRONG = {
    "a classifier": ({"model": "resnet20", "model_options": {}}, "a probability of each class for each pixel"),
    "no task": ({"task": "classification"}, "'squares' has masks: train with task=segmentation"),
    "a U-Net for classes": ({"task": "classification", "dataset": "digits"}, "unet learns task=segmentation, but no classes"),
    "too deep": ({"model_options": {"depth": 6}}, "unet with depth=6 takes images of at least 32x32 pixels; these have 16x16. Lower model_options.depth"),
    "no depth": ({"model_options": {"depth": 0}}, "it must be a whole number, 1 or more"),
    "images too small": ({"image_size": 3, "model_options": {}}, "unet with depth=4 takes images of at least 8x8 pixels; these have 3x3"),
    "weights of wrong length": ({"task_options": {"class_weights": [1, 2, 3]}}, "has 3 numbers, but there are 2 classes"),
    "weights of 0": ({"task_options": {"class_weights": [0, 0]}}, "and not all 0"),
    "weights below 0": ({"task_options": {"class_weights": [1, -1]}}, "a number, 0 or more, for each class"),
    "weights that do nothing": ({"task_options": {"class_weights": [1, 2], "loss": "dice"}}, "task_options.loss=dice has none"),
    "weights of images": ({"class_weight": "balanced"}, "class_weight=balanced weights whole images"),
    "an unknown option": ({"task_options": {"weights": [1, 2]}}, "Did you mean 'class_weights'?"),
    "an unknown loss": ({"task_options": {"loss": ["dice"]}}, "Valid: cross_entropy, dice, both"),
    "a wrong share": ({"task_options": {"false_images": "x"}}, "from 0 to below 1"),
}  # fmt: skip


@pytest.mark.parametrize("how", WRONG)
def test_settings_that_do_not_fit_masks_leave_nothing(tmp_path, monkeypatch, how):
    values, said = WRONG[how]
    refuse(tmp_path, monkeypatch, said, **values)


@pytest.mark.parametrize(
    "how", ["two images of one stem", "a pipe", "NaN", "a value twice", "an empty image", "a turned mask"]
)
def test_the_command_line_says_it_in_one_line(tmp_path, monkeypatch, command, how):
    monkeypatch.chdir(tmp_path)
    break_it, said = FOLDERS[how]
    break_it(write_pairs(tmp_path / "photos"))
    status, _, told = command("train", "dataset=photos/", "task=segmentation", "model=unet")
    assert (status, told.count("\n")) == (2, 1) and said in told
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and "photos" not in file.parts]


def test_names_are_matched_however_they_are_spelled(tmp_path):
    """macOS writes が as two letters, and masks may come from elsewhere; other files next to images are reported."""
    images, masks = draw_shapes(30)
    for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
        save(tmp_path / "images" / f"画像が{number}.png", image)
        save(tmp_path / "masks" / f"画像か\u3099{number}.png", mask * 255)
    (tmp_path / "images" / "notes.txt").write_text("x")
    (tmp_path / "test" / "images").mkdir(parents=True)
    data = pbl.load_data(str(tmp_path), masks=True)
    assert len(data.everything.names) == 30
    assert "passed_over" in {finding.check for finding in data.check("train", "val", fast=True)}


def test_a_split_without_masks_is_told(tmp_path):
    """As competitions publish their test images."""
    for split in ("train", "val"):
        write_pairs(tmp_path / split)
    shutil.copytree(tmp_path / "val" / "images", tmp_path / "test" / "images")
    data = pbl.load_data(str(tmp_path), masks=True)
    (finding,) = (finding for finding in data.check("train", "val", fast=True) if finding.check == "set_aside")
    assert finding.severity == "act" and "their images have no masks: test" in finding.message
