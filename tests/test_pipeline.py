"""Batches: which images they have, in which order, and how they are altered; the same whenever they are made again."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.class_weight import compute_class_weight

import pbl
from pbl.config import Augmentation
from pbl.data import DATASETS, augment, from_arrays, hash_image, hold_out
from pbl.data.augmentation import PARTNER, SHARE, WHICH, draw
from pbl.data.split import choose_fold, read_made_by, say_made_by
from pbl.errors import InputError

ALL = {"flip": True, "crop": 1, "rotation": 10, "zoom": 0.1, "brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "cutout": 3, "mixup": 0.2, "cutmix": 1}  # fmt: skip


def batches(dataset, count: int | None = None) -> list[tuple[np.ndarray, ...]]:
    return [tuple(part.numpy() for part in batch) for batch in itertools.islice(dataset, count)]


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("augmentation", [{"flip": True}, {"crop": 1}, {"flip": True, "crop": 1}])
def test_held_out_images_never_appear_in_training(augmentation):
    """By content, through five epochs of the real pipeline; the augmentation of each image is undone first."""
    data = pbl.load_data("digits", augmentation=augmentation)

    def versions(image: np.ndarray) -> set[str]:
        sides = [image, image[:, ::-1]] if "flip" in augmentation else [image]
        places = itertools.product((0, 1, 2), repeat=2) if "crop" in augmentation else [(1, 1)]
        padded = [np.pad(side, [(1, 1), (1, 1), (0, 0)]) for side in sides]
        return {hash_image(p[y : y + 8, x : x + 8]) for y, x in places for p in padded}

    of_train = [versions(image) for image in data.images("train").pixels]
    held_out = set().union(*(versions(image) for split in ("val", "test") for image in data.images(split).pixels))
    possible = set().union(*of_train)
    assert not held_out & {hash_image(image) for image in data.images("train").pixels}
    seen = []
    for _ in range(5):
        epoch = [hash_image(image) for pixels, _ in batches(data.train) for image in pixels]
        assert len(epoch) == 1069 and set(epoch) <= possible
        # Two digits shifted differently may look alike; but none looks like a held-out image unless a training image does too.
        assert not set(epoch) & (held_out - possible)
        seen.append(epoch)
    assert seen[0] != seen[1] and len({content for epoch in seen for content in epoch}) > 1069


def test_every_epoch_holds_every_training_image_once():
    """With all augmentation on, checked by a mark that it does not change: the place in the order, with its label."""
    data = pbl.load_data("digits", labels="one_hot", augmentation={"flip": True, "cutout": 2})
    images = data.images("train")
    for epoch in range(5):
        order = pbl.data.order_of_epoch(1069, 0, epoch)
        assert sorted(order) == list(range(1069))
        labels = np.concatenate([labels for _, labels in batches(data.train)])
        np.testing.assert_array_equal(labels.argmax(axis=1), images.labels[order])


def test_augmentation_is_for_training_alone():
    plain, augmented = pbl.load_data("digits"), pbl.load_data("digits", labels="one_hot", augmentation=ALL)
    for split in ("val", "test", "probe"):
        pixels = [[pixels for pixels, _ in batches(getattr(data, split))] for data in (plain, augmented)]
        assert_equal(pixels[0], pixels[1])
    assert plain.split == augmented.split
    one, other = batches(plain.train), batches(augmented.train)
    assert all((a[0] != b[0]).mean() > 0.3 for a, b in zip(one, other, strict=True))
    assert other[0][0].dtype == np.uint8


@pytest.mark.parametrize("augmentation", [{}, ALL])
def test_the_stream_gives_the_batches_of_train_from_anywhere(augmentation):
    def load():
        return pbl.load_data("digits", batch_size=100, seed=3, labels="one_hot", augmentation=augmentation)

    data = load()
    epochs = [batches(data.train) for _ in range(3)]
    assert [len(epoch) for epoch in epochs] == [data.steps_per_epoch] * 3 == [11] * 3
    tf.random.set_seed(5)
    again = load()
    assert_equal(batches(again.stream(), 33), [batch for epoch in epochs for batch in epoch])
    assert_equal(batches(again.stream(1, 7), 9), [*epochs[1][7:], *epochs[2][:5]])
    assert_equal(batches(again.stream(2, 10), 1), epochs[2][10:])


def test_the_probe_is_a_fixed_stratified_slice_of_train(monkeypatch):
    monkeypatch.setattr(pbl.data.pipeline, "PROBE_SIZE", 200)
    data = pbl.load_data("digits", seed=1)
    labels = np.concatenate([labels for _, labels in batches(data.probe)])
    assert 190 <= len(labels) <= 210 and np.bincount(labels).min() >= 18
    probed = {hash_image(image) for pixels, _ in batches(data.probe) for image in pixels}
    assert probed <= set(data.images("train").hashes)
    assert_equal(batches(data.probe), batches(pbl.load_data("digits", seed=2).probe))


def one_batch(n: int = 64, side: int = 12, channels: int = 3, classes: int = 4):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, side, side, channels), np.uint8)
    return images, np.eye(classes, dtype=np.float32)[random.integers(0, classes, n)]


def augmented(settings: dict, **shape) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    images, labels = one_batch(**shape)
    augmentation = Augmentation(**settings)
    numbers = draw(len(images), augmentation, 0, 0)
    x, y = augment(tf.constant(images), tf.constant(labels), tf.constant(numbers), augmentation)
    return images, labels, numbers, x.numpy(), y.numpy()


def test_flip():
    images, labels, _, x, y = augmented({"flip": True})
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(x, images, strict=True)]
    same = [np.array_equal(a, b) for a, b in zip(x, images, strict=True)]
    assert all(np.logical_xor(mirrored, same)) and 20 < sum(mirrored) < 44
    np.testing.assert_array_equal(labels, y)


def test_crop_with_padding():
    images, _, _, x, _ = augmented({"crop": 2}, n=500)
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)])
    places = [
        next(
            place
            for place in itertools.product(range(5), repeat=2)
            if np.array_equal(out, p[place[0] :, place[1] :][:12, :12])
        )
        for p, out in zip(padded, x, strict=True)
    ]
    assert len(set(places)) == 25  # all shifts, none beyond


def test_rotation_by_a_quarter_turns_the_image():
    """At the end of its range, 90 degrees, and about the centre; a zoom of 0 changes nothing."""
    from pbl.data.augmentation import _turn_and_zoom

    images = one_batch()[0].astype(np.float32)
    n = len(images)
    turned = _turn_and_zoom(tf.constant(images), tf.fill([n], np.float32(np.pi / 2)), tf.ones([n]))
    quarter = [np.rot90(images, k, axes=(1, 2)) for k in (1, 3)]
    assert min(abs(turned.numpy() - q).max() for q in quarter) < 0.01
    still = _turn_and_zoom(tf.constant(images), tf.zeros([n]), tf.ones([n]))
    np.testing.assert_allclose(still, images, atol=1e-3)
    ramp = np.tile(np.arange(12, dtype=np.float32)[None, None, :, None], (1, 12, 1, 1))
    larger = _turn_and_zoom(tf.constant(ramp), tf.zeros([1]), tf.constant([2.0])).numpy()[0, 5, :, 0]
    np.testing.assert_allclose(np.diff(larger), 0.5, atol=1e-4)  # twice as large: half the slope


def test_colours():
    images, _, _, x, _ = augmented({"brightness": 0.2})
    shift = x.astype(int) - images
    assert shift.min() >= -51 and shift.max() <= 51 and len(np.unique(shift)) > 50
    flat = np.full((8, 4, 4, 3), 100, np.uint8)
    labels = np.eye(8, dtype=np.float32)
    for settings in ({"contrast": 0.9}, {"saturation": 0.9}):  # no contrast and no colour to stretch
        a = Augmentation(**settings)
        out, _ = augment(tf.constant(flat), tf.constant(labels), tf.constant(draw(8, a, 0, 0)), a)
        np.testing.assert_array_equal(out, flat)
    images, _, _, x, _ = augmented({"saturation": 0.5}, channels=1)
    np.testing.assert_array_equal(images, x)


def test_cutout_greys_a_square():
    images, _, _, x, _ = augmented({"cutout": 4}, n=300)
    changed = (x != images).any(axis=3)
    sizes = changed.sum(axis=(1, 2))
    assert sizes.max() == 16 and sizes.min() >= 4 and (x[changed] == 128).all()  # smaller at the border


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_mixes_labels_in_the_proportion_of_pixels(kind):
    images, labels, numbers, x, y = augmented({kind: 1.0})
    partner = np.argsort(numbers[:, PARTNER])
    np.testing.assert_allclose(y.sum(axis=1), 1, atol=1e-6)
    if kind == "mixup":
        share = numbers[:, SHARE, None]
        mixed = share[..., None, None] * images + (1 - share[..., None, None]) * images[partner]
        assert abs(x - mixed).max() <= 0.51
    else:
        taken = (x == images[partner]).all(axis=3) & (x != images).any(axis=3)
        own = (x == images).all(axis=3)
        assert (taken | own).all()
        share = 1 - taken.mean(axis=(1, 2))[:, None]
        others = partner != np.arange(len(images))
        np.testing.assert_allclose(y[others], (share * labels + (1 - share) * labels[partner])[others], atol=1e-6)
        y, labels, partner, share = y[others], labels[others], labels[partner][others], share[others]
        return
    np.testing.assert_allclose(y, share * labels + (1 - share) * labels[partner], atol=1e-5)


def test_mixup_or_cutmix_where_both_are_on():
    images, _, numbers, x, _ = augmented({"mixup": 1.0, "cutmix": 1.0}, n=400)
    whole = ((x == images).all(axis=3) | (x == images[np.argsort(numbers[:, PARTNER])]).all(axis=3)).all(axis=(1, 2))
    assert whole[numbers[:, WHICH] >= 0.5].all() and whole[numbers[:, WHICH] < 0.5].mean() < 0.1


def test_mixing_needs_one_hot_labels(tmp_path):
    with pytest.raises(InputError, match="loss=categorical_crossentropy"):
        pbl.load_data("digits", augmentation={"mixup": 0.2})
    config = pbl.Config(
        model="mlp", epochs=1, loss="categorical_crossentropy", augmentation={"mixup": 0.2, "flip": True}
    )
    assert pbl.train(config, folder=tmp_path).environment["status"] == "finished"


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        ({"flipp": True}, "there is no 'flipp'. Did you mean 'flip'"),
        ({"crop": -1}, "crop=-1"),
        ({"rotation": 200}, "rotation=200"),
        ({"mixup": "much"}, "mixup='much'"),
    ],
)
def test_wrong_augmentation(augmentation, said):
    with pytest.raises(InputError) as error:
        pbl.Config(augmentation=augmentation)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_groups_stay_on_one_side():
    """By a pattern in the name or by a function; groups that share a picture are kept together; the shares stay close."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (300, 6, 6), np.uint8)
    images[299] = images[0]  # patient 0 and patient 99 share a picture
    names = [f"patient{number // 3:03}/{number}.png" for number in range(300)]
    labels = (np.arange(300) // 3) % 2
    source = pbl.data.Source(
        ["a", "b"], lambda: ((i[..., None], int(y), n) for i, y, n in zip(images, labels, names, strict=True))
    )
    by_pattern = pbl.load_data(source, groups=r"patient(\d+)")
    by_function = pbl.load_data(source, groups=lambda name: name.split("/")[0].removeprefix("patient"))
    assert by_pattern.split == by_function.split
    sides = [{name.split("/")[0] for name in by_pattern.images(split).names} for split in ("train", "val", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert any({"patient000", "patient099"} <= side for side in sides)
    counts = by_pattern.split["images"]
    assert 80 <= counts["test"] <= 96 and 24 <= counts["val"] <= 36
    assert (
        len({name.split("/")[0] for name in pbl.load_data(source).images("val").names} & sides[0]) > 0
    )  # without groups: they are separated
    with pytest.raises(InputError, match="is not found in the names of 300 of 300 images"):
        pbl.load_data(source, groups="nurse")
    with pytest.raises(InputError, match="not a regular expression"):
        pbl.load_data(source, groups="(")


def test_folds_are_those_of_a_cross_validation():
    """Each image is validation once; the class counts of scikit-learn's StratifiedKFold."""
    folds = [pbl.load_data("digits", folds=5, fold=fold) for fold in range(5)]
    validated = [content for data in folds for content in data.images("val").hashes]
    first = folds[0]
    everything = [*first.images("train").hashes, *first.images("val").hashes]
    assert sorted(validated) == sorted(everything)
    assert len({str(data.split["hashes"]["test"]) for data in folds}) == 1
    labels = np.concatenate([first.images("train").labels, first.images("val").labels])
    expected = [np.bincount(labels[at]) for _, at in StratifiedKFold(5).split(labels, labels)]
    found = [np.bincount(data.images("val").labels) for data in folds]
    np.testing.assert_allclose(sorted(map(sum, found)), sorted(map(sum, expected)), atol=6)
    assert max(abs(np.array(found) - np.mean(expected, axis=0)).max(axis=1)) <= 1
    with pytest.raises(InputError, match="fold=5 of folds=5"):
        pbl.load_data("digits", folds=5, fold=5)
    groups = [f"{n // 4}" for n in range(100)]
    sides = [choose_fold([f"{n:03}" for n in range(100)], np.zeros(100, int), 4, fold, 0, groups) for fold in range(4)]
    assert np.sum(sides, axis=0).tolist() == [1] * 100
    assert all(
        len({*side.reshape(25, 4).sum(axis=1)}) == 2 for side in sides
    )  # a group is in it completely or not at all


def test_folds_are_of_one_size_though_the_classes_are_small():
    labels, hashes = np.repeat(np.arange(40), 9), [f"{n:04}" for n in range(360)]
    assert [choose_fold(hashes, labels, 5, fold, 0).sum() for fold in range(5)] == [72] * 5


REST = "of the images that are not test, by content"
PART, WHOLE = {"kind": "share", "of": "rest", "groups": False}, {"kind": "share", "of": "all", "fraction": 0.3}
OFFICIAL = {"kind": "official", "groups": False}


@pytest.mark.parametrize(
    ("settings", "official", "made_by", "sentences"),
    [
        (
            {},
            (),
            ({**WHOLE, "groups": False}, {**PART, "fraction": 0.15}),
            ("30% of all images, by content", f"15% {REST}"),
        ),
        ({}, ("test",), (OFFICIAL, {**PART, "fraction": 0.1}), ("official", f"10% {REST}")),
        (
            {"validation_fraction": 0.125},
            ("test",),
            (OFFICIAL, {**PART, "fraction": 0.125}),
            ("official", f"12% {REST}"),
        ),
        (
            {},
            ("val",),
            ({**WHOLE, "of": "not_val", "groups": False}, OFFICIAL),
            ("30% of the images that are not validation, by content", "official"),
        ),
        (
            {"folds": 4, "fold": 3, "groups": r"\d\b"},
            (),
            ({**WHOLE, "groups": True}, {"kind": "fold", "of": "rest", "fold": 3, "folds": 4, "groups": True}),
            ("30% of all images, by content, groups together", f"fold 3 of 4 {REST}, groups together"),
        ),
    ],
)
def test_how_a_split_was_made_is_stored_as_facts(settings, official, made_by, sentences):
    """Sentences in runs of earlier versions say the same; both are shown in these words."""
    images, labels = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8), np.arange(90) % 2
    source = from_arrays(images, labels, **dict.fromkeys(official, (images[:20], labels[:20])))
    held = pbl.load_data(source, **settings).split["made_by"]
    assert (held["test"], held["val"]) == made_by and json.loads(json.dumps(held)) == held
    for facts, sentence in zip(made_by, sentences, strict=True):
        rounded = {**facts, "fraction": round(facts["fraction"], 2)} if "fraction" in facts else facts
        assert read_made_by(facts) == facts and read_made_by(sentence) == rounded
        assert say_made_by(facts, "en", in_full=False) == say_made_by(sentence, "en", in_full=False) == sentence
        for language in ("en", "ja"):
            assert say_made_by(facts, language) == say_made_by(sentence, language)


NINES = "9" * 5000


@pytest.mark.parametrize(
    "strange",
    [
        None, 7, [], {}, "", "official ", f"{NINES}% of all images, by content", f"fold {NINES} of {NINES} {REST}", "{percent}",
        "150% of all images, by content", f"fold 4 of 4 {REST}", f"fold 0 of 4 {REST}, groups together, groups together",
        {"kind": ["official"]}, {"kind": "share", "of": "all"}, {"kind": "share", "of": {}, "fraction": 0.1},
        {"kind": "share", "of": "all", "fraction": float("nan")}, {"kind": "share", "of": "all", "fraction": "<b>"},
        {"kind": "share", "of": "rest", "fraction": 1e400}, {"kind": "fold", "of": "rest", "fold": 1, "folds": int("9" * 400)},
        {"kind": "fold", "of": "rest", "fold": -1, "folds": 4}, {"kind": "fold", "of": "rest", "fold": 0.5, "folds": 4},
    ],
    ids=lambda strange: str(strange)[:40],
)  # fmt: skip
def test_what_says_nothing_of_a_split_is_not_read(strange):
    assert read_made_by(strange) is None and say_made_by(strange, "ja") is None
    assert read_made_by({"kind": "official", "groups": "<b>", "more": strange}) == OFFICIAL


@pytest.mark.parametrize("seed", range(4))
def test_a_large_group_does_not_become_the_test_split(seed):
    labels = np.repeat([0, 1], 60)
    groups = [f"{label}{max(0, n - 55) // 3}" for label in (0, 1) for n in range(60)]  # groups of about 57, and of few
    held = hold_out([f"{n:03}" for n in range(120)], labels, 0.3, seed, "test", groups)
    assert 0 < held.sum() <= 10


def test_settings_that_have_nothing_to_do_are_said():
    images, labels = np.random.default_rng(0).integers(0, 256, (90, 4, 4), np.uint8), np.arange(90) % 2
    pair = (images[:20], labels[:20])
    official = from_arrays(images[40:], labels[40:], test=pair, val=pair)
    for settings, said in [
        ({"groups": "train"}, "nothing to divide by groups"),
        ({"folds": 3}, "nothing to divide for folds=3"),
        ({"fold": 1}, "needs folds"),
        ({"validation_fraction": 0.2}, "nothing to divide"),
    ]:
        with pytest.raises(InputError, match=said):
            pbl.load_data(official, **settings)
    with pytest.raises(InputError, match=r"too small: no image is left for test \(images of a group stay together"):
        pbl.load_data(from_arrays(images, labels), groups="train")
    for start in [(0, 99), (0, -1), (-1, 0)]:
        with pytest.raises(InputError, match="there is no such batch"):
            pbl.load_data(official).stream(*start)


def test_groups_of_hold_out_by_hand():
    held = hold_out(["a", "b", "c", "c", "d", "e"], np.zeros(6, int), 0.5, 0, "test", ["1", "1", "2", "3", "4", "5"])
    assert held[0] == held[1] and held[2] == held[3]


def test_balanced_classes_and_weights_of_images(tmp_path, monkeypatch):
    from sklearn.datasets import load_digits

    def rare() -> pbl.data.Source:
        digits = load_digits()
        keep = (digits.target == 0) | ((digits.target == 1) & (np.arange(1797) % 10 == 0))
        return from_arrays((digits.images[keep] * 15).astype(np.uint8), digits.target[keep], ["zero", "one"])

    monkeypatch.setitem(DATASETS, "rare", rare)
    data = pbl.load_data("rare")
    labels = data.images("train").labels
    _, given_labels, given = (
        np.concatenate(part)
        for part in zip(*batches(pbl.load_data("rare", class_weight="balanced").train), strict=True)
    )
    expected = compute_class_weight("balanced", classes=np.arange(2), y=labels)
    np.testing.assert_allclose(given, expected[given_labels], rtol=1e-6)
    assert given[given_labels == 0].sum() == pytest.approx(given[given_labels == 1].sum(), rel=1e-5)

    names = data.images("train").names
    (tmp_path / "weights.csv").write_text(f"name,weight\n{names[0]},3\n{names[1]},0.5\n", encoding="utf-8")
    weighted = pbl.load_data("rare", sample_weights=str(tmp_path / "weights.csv"))
    pixels, _, given = (np.concatenate(part) for part in zip(*batches(weighted.train), strict=True))
    of_hash = {hash_image(image): weight for image, weight in zip(pixels, given, strict=True)}
    assert of_hash[data.images("train").hashes[0]] == 3 and of_hash[data.images("train").hashes[1]] == 0.5
    assert sorted(given)[1:-1] == [1.0] * (len(given) - 2) and len(batches(weighted.val)[0]) == 2

    config = pbl.Config(
        dataset="rare", model="mlp", epochs=1, class_weight="balanced", sample_weights=str(tmp_path / "weights.csv")
    )
    assert pbl.train(config, folder=tmp_path).environment["status"] == "finished"
    for content, said in [
        ("name,weight\nx,1\n", "names x, which is not an image"),
        ("a,b\n1,2\n", "columns name and weight"),
        (f"name,weight\n{names[0]},1\n{names[0]},2\n", "twice"),
        (f"name,weight\n{names[0]},1\nx,2\n", "names x, which is not an image"),
        (f"name,weight\n{names[0]},-1\n", "must be 0 or more"),
    ]:
        (tmp_path / "weights.csv").write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            pbl.load_data("rare", sample_weights=str(tmp_path / "weights.csv"))


def test_weights_enter_the_loss(tmp_path):
    """One step at a rate of almost 0 logs the weighted mean loss of the untrained model."""
    names = pbl.load_data("digits").images("train").names
    (tmp_path / "w.csv").write_text("name,weight\n" + "".join(f"{name},0\n" for name in names[1:]), encoding="utf-8")
    config = pbl.Config(
        model="mlp", epochs=1, sample_weights=str(tmp_path / "w.csv"), learning_rate=1e-12, batch_size=2000
    )
    run = pbl.train(config, folder=tmp_path)
    images = pbl.load_data("digits").images("train")
    probability = pbl.load_model(run).predict(images.pixels[:1], verbose=0)[0, images.labels[0]]
    assert pd.read_csv(run.path / "history.csv")["loss"][0] == pytest.approx(-np.log(probability) / 1069, rel=1e-3)
