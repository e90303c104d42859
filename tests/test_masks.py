"""Masks as data: what the doctor finds in them, what is kept of them, where they come from, and broken ones."""

import shutil

import numpy as np
import pytest
from test_segmentation import draw_shapes, save

import pbl
from pbl.data import from_masked_arrays

# --- the doctor


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
    found = pbl.storage.reading.read_json(tmp_path / "a" / "data_check.json")["findings"]
    severities = {(finding["check"], finding["severity"]) for finding in found}
    assert {("altered_copies", "stop"), ("altered_copies_in_train", "stop")} <= severities
    (twice,) = (finding for finding in found if finding["check"] == "copies_with_other_masks")
    assert set(twice["items"]) == {"images/benign/benign_433.jpg", "images/malignant/malignant_145.jpg"}
    assert not {check for check, _ in severities} & {"masks_are_images", "masks_by_brightness", "inverted_masks"}
    assert command(*words, "--out", tmp_path / "b", "groups=look_alike")[0] == 0
    found = pbl.storage.reading.read_json(tmp_path / "b" / "data_check.json")["findings"]
    assert not [finding for finding in found if finding["severity"] == "stop" or "altered" in finding["check"]]
