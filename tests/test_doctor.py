"""The data doctor on scikit-learn's digits and on made pictures: each planted fault is found by its check; clean data passes."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from sklearn.datasets import load_digits

from pbl.data import decode_image, hash_image
from pbl.data.doctor import (
    Part,
    examine,
    examine_closely,
    find_altered_copies,
    find_copies_across,
    find_labels_harder_than_validation,
    find_labels_unlike_neighbours,
    find_labels_unlike_predictions,
    find_leave_out,
    find_shift,
    find_strangers,
    write_leave_out,
    write_report,
)
from pbl.data.split import hold_out
from pbl.statistics import binomial_tail, wilson_interval

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


def copy_into(split, alter=lambda pixels: pixels, count=19):
    """The first 19 training images, altered, instead of the split's last 19."""

    def plant(splits):
        part, train = splits[split], splits["train"]
        changed = put(part, slice(-count, None), alter(train.pixels[:count]), train.labels[:count])
        return {**splits, split: changed}, part.names[-count:]

    return plant


def noise(pixels):
    return (pixels + np.random.default_rng(0).normal(0, 10, pixels.shape)).clip(0, 255).astype(np.uint8)


def save_all_again(pixels):
    return np.stack([save_again(image.squeeze(-1))[..., None] for image in pixels])


def twelve_bits(splits):
    """Pixels of a scanner with 12 bits in a file of 16: divided by 257, as `decode_image` does with Pillow's 16 bits."""
    dark = {}
    for name, part in splits.items():
        of_12_bits = np.stack(
            [decode_image(as_png_of_16_bits(image.astype(np.uint16) * 16), "") for image in part.pixels]
        )
        dark[name] = make_part(of_12_bits, part.labels, part.names)
    return dark, None


def as_png_of_16_bits(image):
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1)).save(file, "PNG")
    return file.getvalue()


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


def few_films_in_validation(splits):
    val = splits["val"]
    return {**splits, "val": val._replace(groups=[str(i % 20) for i in range(len(val.names))])}, None


def two_validation_images_a_class(splits):
    val = splits["val"]
    index = np.concatenate([np.flatnonzero(val.labels == digit)[:2] for digit in range(10)])
    return {**splits, "val": take(val, index)}, None


# The fault; the check and the severity that must be among the findings. If images are named, all planted ones must be
# among them, except for the tolerated share.
FAULTS = [
    ("copies in val", copy_into("val"), "copies_across", "stop", 0),
    ("copies in test", copy_into("test"), "copies_across", "stop", 0),
    ("copies with noise in val", copy_into("val", noise), "altered_copies", "stop", 0),
    ("four copies with noise in val", copy_into("val", noise, 4), "altered_copies", "stop", 0),
    ("copies saved again in val", copy_into("val", save_all_again), "altered_copies", "stop", 0.5),
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
    ("films in validation", few_films_in_validation, "small_validation", "act", 0),
    ("12 bits in files of 16", twelve_bits, "dark_images", "act", 0),
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


def draw_scene(seed, size=32):
    """A rich picture: coarse colours, finer greys."""
    random = np.random.default_rng(seed)
    picture = np.zeros((size, size, 3))
    for side, channels, weight in ((4, 3, 0.6), (9, 1, 0.5), (16, 1, 0.3)):
        layer = random.integers(0, 256, (side, side, channels), dtype=np.uint8).repeat(3 // channels, axis=2)
        layer = Image.fromarray(layer).resize((size, size), Image.Resampling.BICUBIC)
        picture += weight * (np.asarray(layer, float) - 128)
    return (picture + 128).clip(0, 255).astype(np.uint8)


def draw_cell(seed):
    """One ellipse on an even background: no two are copies, but each has a near neighbour."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    (left, top), turn = random.uniform(12, 20, 2), random.uniform(0, np.pi)
    long = random.uniform(5, 8)
    wide = long * random.uniform(0.5, 1)
    along, across = ((x - left) * np.cos(turn + q) + (y - top) * np.sin(turn + q) for q in (0, np.pi / 2))
    picture = np.tile(random.uniform((180, 150, 170), (230, 190, 220)), (32, 32, 1))
    picture[(along / long) ** 2 + (across / wide) ** 2 < 1] -= random.uniform(30, 80)
    return (picture + random.normal(0, 2, picture.shape)).clip(0, 255).astype(np.uint8)


def split_by_us(pixels, labels, names, groups=None):
    part = make_part(pixels, labels, names)._replace(groups=groups)
    is_test = hold_out(part.hashes, part.labels, 0.3, 0, "test", groups)
    rest = part.take(np.flatnonzero(~is_test))
    is_val = hold_out(rest.hashes, rest.labels, 0.15, 0, "val", rest.groups)
    return {
        "train": rest.take(np.flatnonzero(~is_val)),
        "val": rest.take(np.flatnonzero(is_val)),
        "test": part.take(np.flatnonzero(is_test)),
    }


def save_again(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def caption(image):
    image = Image.fromarray(image)
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 27, 32, 32], fill=0)
    draw.text((3, 25), "photo", fill="white", font_size=6)
    return np.asarray(image)


# Changes to a copy, 32 x 32 pixels.
ALTERED = {
    "saved again": save_again,
    "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1))),
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "cropped by 5%": lambda image: np.asarray(Image.fromarray(image).crop((2, 2, 30, 30)).resize((32, 32))),
    "turned by 5 degrees": lambda image: np.asarray(Image.fromarray(image).rotate(5, Image.Resampling.BICUBIC)),
    "captioned": caption,
}


@pytest.fixture(scope="module")
def scenes():
    return np.stack([draw_scene(seed) for seed in range(300)])


@pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
def test_altered_copies_all_over_the_data_are_no_excuse(scenes, alter):
    # 49 images were doubled before the split: train has as many copies as validation, so this explains nothing.
    names = [f"{i}.png" for i in range(300)] + [f"{i} again.png" for i in range(49)]
    copied = np.stack([alter(image) for image in scenes[:49]])
    splits = split_by_us(np.concatenate([scenes, copied]), np.r_[np.arange(300), np.arange(49) + 1] % 2, names)
    findings = find_altered_copies(splits)
    pairs = {frozenset(pair) for finding in findings for pair in finding.details["pairs"]}
    planted = {frozenset((f"{i}.png", f"{i} again.png")) for i in range(49)}
    assert len(pairs & planted) >= 45 and not pairs - planted
    severities = {(finding.check, finding.details.get("split")): finding.severity for finding in findings}
    assert severities["altered_copies", "test"] == "stop"
    assert severities["altered_copies_with_other_labels", None] == "act"
    # Without the images to leave out, no copy is on two sides.
    left_out = set(find_leave_out(findings))
    side = {name: split for split, part in splits.items() for name in part.names}
    across = [pair for pair in planted if len({side[name] for name in pair}) == 2]
    assert len(across) > 20 and sum(not pair & left_out for pair in across) <= 4


def test_the_share_of_copies_is_of_the_images_that_were_looked_at(scenes):
    """In a large split only some images are looked at; copies of training images are found among the others too, from the training side."""
    again = (scenes + np.random.default_rng(0).normal(0, 3, scenes.shape)).clip(0, 255).astype(np.uint8)
    labels = np.arange(300) % 2
    splits = {
        "train": make_part(scenes, labels, [f"{i}.png" for i in range(300)]),
        "val": make_part(again, labels, [f"{i} again.png" for i in range(300)]),
    }
    (found,) = (finding for finding in find_altered_copies(splits, cap=100) if finding.check == "altered_copies")
    assert found.details["share"] == 1 and len(found.items) > 100  # the share does not show that others are copies too
    assert "Altered copies: 100 of 100 val images (100.0%; exact copies are not counted)" in found.message
    # Whether they are many is judged on the same images, not on others that were found besides.
    half = again.copy()
    half[150:] = np.random.default_rng(1).integers(0, 256, half[150:].shape)
    splits["val"] = make_part(half, labels, [f"{i} again.png" for i in range(300)])
    (found,) = (finding for finding in find_altered_copies(splits, cap=100) if finding.check == "altered_copies")
    count, looked_at = found.details["found"], found.details["looked_at"]
    assert count < len(found.items) and found.details["p"] == binomial_tail(count, looked_at, found.details["twins"])


def test_a_few_copies_are_said_to_be_few(scenes):
    """3 of 400 are many times what large collections naturally contain, but not a reason to stop."""
    pixels = np.stack([draw_scene(seed) for seed in range(1000, 1500)])
    pixels[:3] = np.stack([save_again(image) for image in scenes[:3]])
    splits = {
        "train": make_part(scenes, np.arange(300) % 2, [f"{i}.png" for i in range(300)]),
        "val": make_part(pixels, np.arange(500) % 2, [f"{i}" for i in range(300, 800)]),
    }
    (found,) = find_altered_copies(splits)
    assert found.severity == "note" and found.details["share"] == 3 / 500 > 5 * found.details["twins"]
    assert "too few to change the accuracy much" in found.message


def test_simple_images_and_clean_ones_have_no_copies(scenes):
    for pixels in (scenes, np.stack([draw_cell(seed) for seed in range(200)])):
        for size in (100, len(pixels)):
            names = [f"{i}.png" for i in range(size)]
            assert find_altered_copies(split_by_us(pixels[:size], np.arange(size) % 2, names)) == []


def draw_film(seed, frames=12):
    """One object that moves over one background, with a camera's noise."""
    random = np.random.default_rng(seed)
    ground, (x, y) = draw_scene(seed), random.integers(4, 14, 2)
    colour = tuple(int(value) for value in random.integers(0, 256, 3))
    for frame in range(frames):
        picture = Image.fromarray(ground)
        corner = int(x + frame / 4), int(y + frame / 6)
        ImageDraw.Draw(picture).ellipse([*corner, corner[0] + 9, corner[1] + 9], fill=colour)
        yield (np.asarray(picture) + random.normal(0, 3, (32, 32, 3))).clip(0, 255).astype(np.uint8)


def test_groups_are_named_and_known():
    pixels = np.stack([frame for seed in range(20) for frame in draw_film(seed)])
    names = [f"{'ab'[film % 2]}/{film:02}_{frame:02}.png" for film in range(20) for frame in range(12)]
    labels = np.repeat(np.arange(20) % 2, 12)
    stops = [
        finding for finding in find_altered_copies(split_by_us(pixels, labels, names)) if finding.severity == "stop"
    ]
    assert {finding.details["groups"] for finding in stops} == {"(.+)[_-]"}
    assert all("groups='(.+)[_-]'" in finding.message for finding in stops)
    # With groups each film is on one side: nothing stops the training, and no interval counts frames.
    splits = split_by_us(pixels, labels, names, [name[:4] for name in names])
    findings = examine(splits, ["a", "b"], {})
    assert not [finding.check for finding in findings if finding.severity == "stop"]
    assert "shift" not in {finding.check for finding in findings}
    (reference,) = [finding.details for finding in findings if finding.check == "reference_accuracy"]
    films = len(set(splits["val"].groups))
    low, high = wilson_interval(round(reference["accuracy"] * films), films)
    assert (reference["low"], reference["high"]) == (low, high)


def test_strangers_are_named(scenes):
    white = np.random.default_rng(0).integers(250, 256, (3, 32, 32, 3), dtype=np.uint8)
    blurred = [np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(3))) for image in scenes[:3]]
    drawing = Image.new("RGB", (32, 32), (235, 235, 235))
    ImageDraw.Draw(drawing).text((2, 8), "no image", fill=(150, 150, 150), font_size=7)
    names = [*map(str, range(290)), "white 1", "white 2", "white 3", "blurred 1", "blurred 2", "blurred 3", "drawing"]
    pixels = np.concatenate([scenes[10:], white, np.stack([*blurred, np.asarray(drawing)])])
    found = {finding.check: finding for finding in find_strangers(split_by_us(pixels, np.arange(297) % 2, names))}
    assert {finding.severity for finding in found.values()} == {"note"}
    assert set(found["faint_image"].items) == {"white 1", "white 2", "white 3"}
    assert set(found["blurred_image"].items) >= {"blurred 1", "blurred 2", "blurred 3"}
    assert "drawing" in found["stranger"].items and len(found["stranger"].items) <= 12
    clean = find_strangers(split_by_us(scenes, np.arange(300) % 2, [*map(str, range(300))]))
    assert sum(len(finding.items) for finding in clean) <= 9  # 3% of 300; in real sets under 1% for each check


def test_wrong_labels_are_suspected(digits, monkeypatch):
    train = digits["train"]
    random = np.random.default_rng(0)
    wrong = random.permutation(len(train.labels))[:107]
    labels = train.labels.copy()
    labels[wrong] = (labels[wrong] + random.integers(1, 10, 107)) % 10
    splits = {**digits, "train": train._replace(labels=labels)}
    planted = {train.names[i] for i in wrong}
    findings = examine(splits, CLASS_NAMES, {})
    assert [finding.check for finding in findings if finding.severity == "act"] == ["labels_harder_than_validation"]
    found = {finding.check: finding for finding in findings}
    place = {name: i for i, name in enumerate(train.names)}
    for check, least in (("labels_unlike_neighbours", 40), ("labels_unlike_predictions", 30)):
        named, suggested = found[check].items, found[check].details["suggested"]
        assert found[check].severity == "note" and len(planted & set(named)) >= max(least, len(named) - 8)
        right = [s == CLASS_NAMES[train.labels[place[n]]] for n, s in zip(named, suggested, strict=True)]
        assert np.mean(right) > 0.9
    assert found["labels_unlike_neighbours"].details["repeated"] < 2  # random changes; 1 is expected
    # A fifth of the fours are labelled nine, and of the nines four: the same two changes return.
    between = train.labels.copy()
    for one, other in ((4, 9), (9, 4)):
        between[np.flatnonzero(train.labels == one)[::5]] = other
    (looked,) = find_labels_unlike_neighbours({**digits, "train": train._replace(labels=between)}, CLASS_NAMES)
    assert looked.details["repeated"] > 20  # 45 if both are equally frequent
    told = found["labels_unlike_predictions"].details
    assert 0.04 < told["low"] <= 107 / 1069 <= told["high"] < 0.2
    assert told["changed"] > 3 * told["tried"] * told["first"]  # three times the chance level
    assert find_labels_unlike_neighbours(digits, CLASS_NAMES) == []
    (clean,) = find_labels_unlike_predictions(digits, CLASS_NAMES)
    assert clean.details["low"] == 0 and clean.details["high"] < 0.1
    (few,) = find_labels_unlike_predictions({"train": train.take(np.arange(300))}, CLASS_NAMES)
    assert few.details["changed"] <= few.details["first"] == 15  # more were not changed
    # Where a class has too few images to try it, nothing is told of a trial.
    assert "Test with 5% of the labels changed at random" in clean.message
    monkeypatch.setattr("pbl.data.doctor.labels._try_out", lambda *_: (0, 0))
    (untried, *_) = find_labels_unlike_predictions(splits, CLASS_NAMES)
    assert "of all labels are wrong" in untried.message and "Test with" not in untried.message


def test_mixed_classes_are_named(digits):
    train = digits["train"]
    labels = train.labels.copy()
    labels[np.flatnonzero(labels == 6)[::3]] = 1
    found = find_labels_unlike_predictions({"train": train._replace(labels=labels)}, CLASS_NAMES)
    (mixed,) = (finding.details for finding in found if finding.check == "mixed_classes")
    assert mixed["classes"] == [["1", "6"]]


def spoil(part, classes, share):
    """Changes this share of the labels of these classes to 9 minus the label."""
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
    # Hard classes are equally hard in validation, which has few of their images.
    hard = np.arange(1, 9)
    few = take(val, ~np.isin(val.labels, hard) | (np.arange(189) % 4 == 0))
    assert find(spoil(train, hard, 0.5), spoil(few, hard, 0.5)) == []
    assert find(wrong, take(val, slice(0, 40))) == []  # too few
    # With few images of each of many classes the folds must not differ: a class's share in training is nearly all that a model knows.
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


def test_report_and_leave_out(digits, tmp_path):
    splits, _ = copy_into("val")(digits)
    splits = {**splits, "train": put(splits["train"], 30, splits["train"].pixels[31], splits["train"].labels[31])}
    splits = {**splits, "train": put(splits["train"], 40, np.uint8(9))}
    # A suspected label is never a reason to leave out an image.
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
    # Large colour images, which the doctor shrinks.
    large = {
        split: make_part(np.kron(part.pixels, np.ones((1, 9, 5, 3), np.uint8)), part.labels, part.names)
        for split, part in (
            (split, take(part, slice(0, None, len(part.labels) // 150))) for split, part in digits.items()
        )
    }
    assert "stop" not in {finding.severity for finding in examine(large, CLASS_NAMES, {})}
