"""Masks as data: what the doctor finds in them, what is kept of them, where they come from, and broken ones."""

import json
import os

import numpy as np
import pytest
from test_segmentation import draw_shapes, save, write_pairs

import pbl
from pbl.data import from_masked_arrays, mask_files, mask_values, store
from pbl.data.cache import cache_folder
from pbl.errors import InputError

# --- the doctor


def read_findings(folder):
    return json.loads((folder / "data_check.json").read_text(encoding="utf-8"))["findings"]


def draw_clean(count: int = 200, side: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Squares and, of class 2, bars on noise that is as bright in places; on a fifth of the images nothing."""
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
    """The brighter half of a coarse picture, of which each image has its own limit."""
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
    for check in ("absent_marks", "seldom_marks", "rare_class"):  # of few marks it is chance in which split they are
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
        ((0, 1), (0, 1, 2), (0, 1), ("stop", "No train mask marks b (1 of 3 classes), and val masks do")),
        ((0, 1, 2), (0, 1), (0, 1, 2), ("act", "No val mask marks b (1 of 3 classes), and train masks do")),
        ((0, 1, 2), (0,), (0, 1, 2), ("stop", "No val mask marks a, b (2 of 3 classes), and train masks do")),
        ((0, 1), (0, 1), (0, 1), ("act", "No mask marks b (1 of 3 classes): a network cannot learn it")),
        ((1, 2), (1, 2), (1, 2), None),  # whole pictures are marked: the background is no class to be found
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
    """That no image is of the background alone is no fault: a training begins."""
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


@pytest.mark.slow
def test_ultrasound_images_look_alike(shared_data, command, tmp_path):
    """A random split is marked; one by look-alikes has none on both sides. One image is there twice, with two masks."""
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


# --- what is kept, and other sources


def test_masks_are_looked_through_once(tmp_path, monkeypatch):
    """Until one changes, or what was kept is damaged; then anew."""
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
    """Which is told; `classes.txt` says otherwise, with values or in their order."""
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
        assert "The commonest value, 2, is taken for it: 8" in told[0].message and told[0].severity == "act"
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
