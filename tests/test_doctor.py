"""The data doctor on scikit-learn's digits: faults planted one at a time, each found by its check; clean data pass."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pbl.data import hash_image
from pbl.data.doctor import (
    Part,
    examine,
    examine_closely,
    find_altered_copies,
    find_copies_across,
    find_labels_harder_than_validation,
    find_labels_unlike_neighbours,
    find_shift,
    rank_label_issues,
    write_leave_out,
    write_report,
)
from pbl.data.split import hold_out

CLASS_NAMES = [str(digit) for digit in range(10)]


def make_part(pixels, labels, names) -> Part:
    pixels = np.ascontiguousarray(pixels)
    shapes = np.tile(pixels.shape[1:], (len(pixels), 1))
    return Part(pixels, np.asarray(labels, np.int32), list(names), [hash_image(image) for image in pixels], shapes)


def take(part: Part, index) -> Part:
    names, hashes = np.array(part.names, object)[index].tolist(), np.array(part.hashes, object)[index].tolist()
    return Part(part.pixels[index], part.labels[index], names, hashes, part.shapes[index])


def put(part: Part, index, pixels, labels=None) -> Part:
    """The part with other pixels, and labels, at `index`."""
    new, new_labels = part.pixels.copy(), part.labels.copy()
    new[index] = pixels
    if labels is not None:
        new_labels[index] = labels
    return make_part(new, new_labels, part.names)._replace(shapes=part.shapes)


@pytest.fixture(scope="module")
def digits() -> dict[str, Part]:
    bunch = load_digits()
    everything = make_part(
        (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None], bunch.target, [f"train/{i}" for i in range(1797)]
    )  # fmt: skip
    is_test = hold_out(everything.hashes, everything.labels, 0.3, 0, "test")
    rest = take(everything, ~is_test)
    is_val = hold_out(rest.hashes, rest.labels, 0.15, 0, "val")
    return {"train": take(rest, ~is_val), "val": take(rest, is_val), "test": take(everything, is_test)}


def copy_into(split, alter=lambda pixels: pixels):
    """The first 19 training images, altered, in place of the split's last 19."""

    def plant(splits):
        part, train = splits[split], splits["train"]
        changed = put(part, slice(-19, None), alter(train.pixels[:19]), train.labels[:19])
        return {**splits, split: changed}, part.names[-19:]

    return plant


def noise(pixels):
    return (pixels + np.random.default_rng(0).normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8)


def move(pixels):
    return np.pad(pixels, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1]


def change_val(alter):
    return lambda splits: (
        {**splits, "val": make_part(alter(splits["val"].pixels), splits["val"].labels, splits["val"].names)}, None
    )  # fmt: skip


def keep_of_class_0(split, count):
    def plant(splits):
        part = splits[split]
        drop = np.flatnonzero(part.labels == 0)[count:]
        return {**splits, split: take(part, np.delete(np.arange(len(part.labels)), drop))}, None

    return plant


def shapes_of(share, shape):
    def plant(splits):
        shapes = splits["train"].shapes.copy()
        index = slice(0, round(share * len(shapes)))
        shapes[index] = shape
        return {**splits, "train": splits["train"]._replace(shapes=shapes)}, splits["train"].names[index]

    return plant


def colour_of_class_0(splits):
    shapes = {name: part.shapes.copy() for name, part in splits.items()}
    for name, part in splits.items():
        shapes[name][part.labels == 0, 2] = 3
    names = [
        name for part in splits.values() for name, label in zip(part.names, part.labels, strict=True) if label == 0
    ]
    return {name: part._replace(shapes=shapes[name]) for name, part in splits.items()}, names


def twice_in_train(label_step):
    def plant(splits):
        train = splits["train"]
        again = put(take(train, slice(20, 25)), slice(None), train.pixels[:5], (train.labels[:5] + label_step) % 10)
        parts = [take(train, slice(0, 20)), again, take(train, slice(25, None))]
        joined = make_part(
            np.concatenate([part.pixels for part in parts]),
            np.concatenate([part.labels for part in parts]),
            train.names,
        )
        return {**splits, "train": joined}, train.names[:5] + train.names[20:25]

    return plant


def constant(splits):
    train = splits["train"]
    return {**splits, "train": put(train, [3, 5], np.uint8([[[[7]]], [[[255]]]]))}, [train.names[3], train.names[5]]


def enlarged_by_copies(splits):
    everything = Part(*(np.concatenate([part[field] for part in splits.values()]) for field in range(5)))
    pixels = np.concatenate([everything.pixels, *(noise(everything.pixels + shade) for shade in (0, 5, 10))])
    labels = np.tile(everything.labels, 4)
    order = np.random.default_rng(0).permutation(len(labels))
    whole = make_part(pixels[order], labels[order], [f"{number}" for number in order])
    return {"train": take(whole, slice(0, 3000)), "val": take(whole, slice(3000, 3500))}, None


def two_validation_images_a_class(splits):
    val = splits["val"]
    index = np.concatenate([np.flatnonzero(val.labels == digit)[:2] for digit in range(10)])
    return {**splits, "val": take(val, index)}, None


# The fault; the check and the severity that must be among the findings; where images are named, all planted ones must be
# among them, but for the share that is tolerated.
FAULTS = [
    ("copies in val", copy_into("val"), "copies_across", "stop", 0),
    ("copies in test", copy_into("test"), "copies_across", "stop", 0),
    ("copies with noise in val", copy_into("val", noise), "altered_copies", "stop", 0),
    ("moved copies in val", copy_into("val", move), "altered_copies", "stop", 0.1),
    ("mirrored copies in test", copy_into("test", lambda pixels: pixels[:, :, ::-1]), "altered_copies", "stop", 0),
    ("four copies of each before the split", enlarged_by_copies, "altered_copies_in_train", "stop", 0),
    ("copies in train", twice_in_train(0), "copies_within", "note", 0),
    ("copies with other labels", twice_in_train(1), "copies_with_other_labels", "act", 0),
    ("constant images", constant, "constant_image", "act", 0),
    ("val inverted", change_val(lambda pixels: 255 - pixels), "shift", "act", 0),
    ("val divided by 255 twice", change_val(lambda pixels: pixels // 255), "shift", "act", 0),
    ("class absent from train", keep_of_class_0("train", 0), "absent_class", "stop", 0),
    ("class absent from val", keep_of_class_0("val", 0), "absent_class", "stop", 0),
    ("class absent from test", keep_of_class_0("test", 0), "absent_class", "act", 0),
    ("class of 4 training images", keep_of_class_0("train", 4), "small_class", "stop", 0),
    ("class of 10 training images", keep_of_class_0("train", 10), "small_class", "act", 0),
    ("unbalanced", keep_of_class_0("train", 10), "imbalance", "act", 0),
    ("small validation", two_validation_images_a_class, "small_validation", "act", 0),
    ("thumbnails", shapes_of(0.02, (3, 3, 1)), "small_image", "act", 0),
    ("all enlarged", shapes_of(1, (3, 3, 1)), "small_image", "note", 0),
    ("panoramas", shapes_of(0.02, (8, 30, 1)), "long_image", "act", 0),
    ("one class in colour", colour_of_class_0, "mixed_modes", "act", 0),
    ("a few in colour", shapes_of(0.02, (8, 8, 3)), "mixed_modes", "note", 0),
]  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "check", "severity", "tolerated"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_planted_fault_is_found(digits, plant, check, severity, tolerated):
    splits, names = plant(digits)
    slow = find_altered_copies if check.startswith("altered_copies") else find_shift if check == "shift" else None
    findings = slow(splits) if slow else examine(splits, CLASS_NAMES, {}, fast=True)
    found = [finding for finding in findings if finding.check == check]
    assert [finding.severity for finding in found] == [severity]
    assert "{" not in found[0].message
    if names is not None:
        assert len(set(names) - set(found[0].items)) <= tolerated * len(names)
        assert len(set(found[0].items) - set(names)) <= 1  # in clean digits the ratio test names one test image


def test_clean_digits_have_no_fault(digits):
    findings = examine(digits, CLASS_NAMES, {})
    assert {finding.severity for finding in findings} == {"note"}
    (reference,) = (finding for finding in findings if finding.check == "reference_accuracy")
    assert reference.details["accuracy"] > 0.97
    assert examine(digits, CLASS_NAMES, {}, fast=True) == []


def test_official_splits_are_reported_not_refused(digits):
    for plant, check in ((copy_into("test"), find_copies_across), (copy_into("test", noise), find_altered_copies)):
        splits, _ = plant(digits)
        for official, severity in ((True, "act"), ({"test"}, "act"), ({"val"}, "stop")):
            assert [finding.severity for finding in check(splits, official)] == [severity]


def test_copies_that_are_natural_are_no_verdict(digits):
    # Training images that come in pairs: validation has as many as train among itself, and chance explains them.
    train = digits["train"]
    paired = make_part(
        np.concatenate([train.pixels[:400], noise(train.pixels[:400])]),
        np.tile(train.labels[:400], 2),
        [f"pair/{i}" for i in range(800)],
    )
    index = np.random.default_rng(0).permutation(800)
    splits = {"train": take(paired, index[:500]), "val": take(paired, index[500:])}
    severities = {finding.check: finding.severity for finding in find_altered_copies(splits)}
    assert severities == {"altered_copies_in_train": "stop", "altered_copies": "note"}


def test_wrong_labels_are_suspected(digits):
    train = digits["train"]
    random = np.random.default_rng(0)
    wrong = random.permutation(len(train.labels))[:107]
    labels = train.labels.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, 10, 107)) % 10
    splits = {**digits, "train": train._replace(labels=labels)}
    planted = {train.names[i] for i in wrong}
    findings = examine(splits, CLASS_NAMES, {})
    assert [finding.check for finding in findings if finding.severity == "act"] == ["labels_harder_than_validation"]
    for finding in findings:
        if finding.check.startswith("labels_unlike"):
            assert finding.severity == "note"
            named = set(finding.items)
            assert len(named & planted) >= (60 if finding.check == "labels_unlike_predictions" else 40)
            assert len(named - planted) <= 5
            place = {name: i for i, name in enumerate(train.names)}
            right = [
                s == CLASS_NAMES[train.labels[place[n]]]
                for n, s in zip(finding.items, finding.details["suggested"], strict=True)
            ]
            assert np.mean(right) > 0.9
    assert find_labels_unlike_neighbours(digits, CLASS_NAMES) == []


def spoil(part, classes, share):
    """So many labels of these classes changed to 9 minus the label."""
    is_wrong = np.isin(part.labels, classes) & (
        np.random.default_rng(len(part.labels)).random(len(part.labels)) < share
    )
    return part._replace(labels=np.where(is_wrong, 9 - part.labels, part.labels))


def test_harder_labels_are_no_matter_of_copies_or_of_shares(digits):
    def find(train, val, copies=()):
        return [finding.details for finding in find_labels_harder_than_validation({"train": train, "val": val}, copies)]

    train, val = digits["train"], digits["val"]
    wrong = spoil(train, range(10), 0.25)
    (found,) = find(wrong, val)
    assert found["loss"] > found["val_loss"] + 0.1 and found["z"] > 5 and found["val_images"] == 189
    # Copies of training images are left out, exact ones and those that are named.
    for alter, named in ((lambda pixels: pixels, 0), (noise, 90)):
        copied = put(val, slice(0, 90), alter(train.pixels[:90]), wrong.labels[:90])
        assert [of["val_images"] for of in find(wrong, copied, copied.names[:named])] == [99]
    # Hard classes are as hard in validation, which has few of their images.
    hard = np.arange(1, 9)
    few = take(val, ~np.isin(val.labels, hard) | (np.arange(189) % 4 == 0))
    assert find(spoil(train, hard, 0.5), spoil(few, hard, 0.5)) == []
    assert find(wrong, take(val, slice(0, 40))) == []  # too few
    # Of few images of each of many classes the folds must not differ: a model's own share of a class is nearly all that it knows.
    random = np.random.default_rng(0)
    pictures = random.integers(60, 200, (100, 4, 4, 3))

    def draw(of_each):
        labels = random.permutation(np.repeat(np.arange(100), of_each))
        coarse = pictures[labels] + random.normal(0, 60, (len(labels), 4, 4, 3))
        pixels = coarse.repeat(4, axis=1).repeat(4, axis=2) + random.normal(0, 55, (len(labels), 16, 16, 3))
        return make_part(pixels.clip(0, 255).astype(np.uint8), labels, [f"{of_each}/{i}" for i in range(len(labels))])

    many = draw(8), draw(2)
    assert find(*many) == []


def test_harder_labels_need_images_of_one_kind(digits):
    """Photographs of one object, copies made before the split, or a shift may make training harder too."""
    wrong = {**digits, "train": spoil(digits["train"], range(10), 0.25)}
    bright = change_val(lambda pixels: 128 + pixels // 2)(wrong)[0]
    grouped = {split: part._replace(groups=part.names) for split, part in wrong.items()}
    for splits, is_told in ((wrong, True), (grouped, False), (bright, False)):
        checks = {finding.check for finding in examine_closely(splits, CLASS_NAMES)}
        assert ("labels_harder_than_validation" in checks) == is_told


def test_confident_learning_by_hand():
    # Mean probability of the own class: (.9 + .8 + .2) / 3 = .63 and (.7 + .9) / 2 = .8. Image 2 reaches class 1's .8; no
    # other one reaches the threshold of a class that is not its own.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.1, 0.9]])
    assert rank_label_issues(probabilities, np.array([0, 0, 0, 1, 1])).tolist() == [2]


def test_report_and_leave_out(digits, tmp_path):
    splits, _ = copy_into("val")(digits)
    splits = {**splits, "train": put(splits["train"], 30, splits["train"].pixels[31], splits["train"].labels[31])}
    splits = {**splits, "train": put(splits["train"], 40, np.uint8(9))}
    # A suspected label is never a reason to leave an image out.
    labels = splits["train"].labels.copy()
    labels[50] = (labels[50] + 1) % 10
    splits["train"] = splits["train"]._replace(labels=labels)
    findings = examine(splits, CLASS_NAMES, {"花/壊れた.jpg": "empty (0 bytes)"})
    assert [finding.severity for finding in findings] == sorted(
        (finding.severity for finding in findings), key=("stop", "act", "note").index
    )

    files = write_report(findings, splits, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "data_check.json").read_text(encoding="utf-8"))
    assert report["images"] == {"train": 1069, "val": 189, "test": 539}
    assert "labels_unlike_predictions" in {finding.check for finding in findings}
    fields = ("check", "severity", "message", "items", "details")
    assert report["findings"] == [{field: getattr(finding, field) for field in fields} for finding in findings]
    assert findings[0].template.format(**report["findings"][0]["details"]) == findings[0].message
    figure = tmp_path / "run" / "figures" / "data_check_copies_across.png"
    assert (
        figure in files and figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size > 30_000
    )  # empty panels: 12,134
    assert not (tmp_path / "run" / "figures" / "data_check_broken.png").exists()  # nothing can be drawn

    names = write_leave_out(findings, tmp_path / "leave_out.txt")
    train = digits["train"].names
    assert names == sorted(["花/壊れた.jpg", *train[:19], train[31], train[40]])
    assert (tmp_path / "leave_out.txt").read_text(encoding="utf-8").splitlines() == names


def test_small_and_odd_data_are_examined(digits):
    few = {"train": take(digits["train"], slice(0, 4)), "val": take(digits["val"], slice(0, 2))}
    assert {finding.check for finding in examine(few, CLASS_NAMES, {})} >= {"absent_class", "small_class"}
    nothing = {"train": take(digits["train"], slice(0, 0)), "val": take(digits["val"], slice(0, 0))}
    assert examine(nothing, CLASS_NAMES, {})[0].severity == "stop"
    # Large colour images of which the doctor makes small ones.
    large = {
        split: make_part(np.kron(part.pixels, np.ones((1, 9, 5, 3), np.uint8)), part.labels, part.names)
        for split, part in (
            (split, take(part, slice(0, None, len(part.labels) // 150))) for split, part in digits.items()
        )
    }
    assert "stop" not in {finding.severity for finding in examine(large, CLASS_NAMES, {})}
