"""Contrastive learning: the loss against a direct form, probes and pairs against independent ones, planted faults, a complete run."""

import json
import math
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.metrics import roc_curve
from test_checkpoint import Cut, PowerCut

import pbl
from pbl import models
from pbl.callbacks import CALLBACKS
from pbl.data import from_arrays
from pbl.diagnosis.contrast import diagnose_features
from pbl.errors import InputError
from pbl.evaluation.contrast import (
    Probe,
    choose_labelled,
    compare_arms,
    find_nearest,
    judge_pairs,
    judge_probes,
    list_shares,
    make_pairs,
    measure_spread,
    scale_rows,
)
from pbl.models.contrastive import contrastive_loss, list_body_weights, list_encoder_weights
from pbl.models.prediction import predict_outputs
from pbl.tasks.contrast import choose_paired, make_untrained, shrink_pixels

SETTINGS = {
    "task": "contrast",
    "dataset": "digits",
    "validation_fraction": 0.4,
    "model": "simclr",
    "model_options": {"encoder": "small_cnn", "encoder_options": {"filters": 4}, "hidden": 16, "projection": 8},
    "augmentation": {"crop": 1, "rotation": 20, "zoom": 0.2},
    "batch_size": 64,
    "epochs": 2,
    "experiment": "x",
}


# The loss


def compute_directly(z: np.ndarray, alike: np.ndarray, temperature: float) -> float:
    """Khosla et al. 2020, equation 2, sum by sum; with two of each kind Chen et al. 2020, equation 1."""
    total = 0.0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        below = sum(math.exp(z[i] @ z[a] / temperature) for a in others)
        positives = [p for p in others if alike[p] == alike[i]]
        total -= sum(math.log(math.exp(z[i] @ z[p] / temperature) / below) for p in positives) / len(positives)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.07, 0.5, 5.0])
@pytest.mark.parametrize("alike", [np.r_[np.arange(7), np.arange(7)], np.array([0, 1, 1, 2, 0, 0, 2] * 2)])
def test_the_loss_is_what_the_papers_write(alike, temperature):
    z = np.random.default_rng(0).normal(size=(14, 5))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    found = float(contrastive_loss(keras.ops.cast(z, "float32"), keras.ops.convert_to_tensor(alike), temperature))
    assert found == pytest.approx(compute_directly(z, alike, temperature), rel=1e-6)
    one_point = keras.ops.ones((14, 1))  # nothing can be distinguished
    assert float(contrastive_loss(one_point, keras.ops.convert_to_tensor(alike), temperature)) == pytest.approx(
        math.log(13)
    )


def test_its_gradient_is_that_of_finite_differences():
    z = np.random.default_rng(1).normal(size=(6, 3)) / 2
    alike = np.array([0, 1, 2] * 2)
    variable = keras.Variable(z, dtype="float32")
    with models.keras_private.open_tape() as tape:
        loss = contrastive_loss(variable.value, keras.ops.convert_to_tensor(alike), 0.5)
    gradient = keras.ops.convert_to_numpy(tape.gradient(loss, variable.value))
    step = 1e-6
    for place in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[place] += step
        down[place] -= step
        expected = (compute_directly(up, alike, 0.5) - compute_directly(down, alike, 0.5)) / (2 * step)
        assert gradient[place] == pytest.approx(expected, abs=2e-6)


# Models

ENCODERS = (
    "lenet5",
    "mlp",
    "small_cnn",
    "resnet20",
    "se_resnet20",
    "mlp_subclassed",
    "small_cnn_subclassed",
    "vgg_small",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ENCODERS, pytest.param("vit_tiny", marks=pytest.mark.nightly), pytest.param("googlenet", marks=pytest.mark.nightly)])  # fmt: skip
def test_any_classifier_is_cut_before_its_last_layer(name, tmp_path):
    """The features, passed through the classifier's own last layer, give exactly its outputs; and the model is read back."""
    options = {"encoder_options": {"depth": 2}} if name == "vit_tiny" else {}
    model = models.build("simclr", (32, 32, 3), 5, encoder=name, **options)
    classifier = models.build(name, (32, 32, 3), 5, **options.get("encoder_options", {}))
    for weight, given in zip(list_body_weights(classifier), list_encoder_weights(model.encoder), strict=True):
        weight.assign(given)
    head = classifier.layers[-1]
    head.kernel.assign(np.random.default_rng(0).normal(size=head.kernel.shape))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    expected = keras.ops.convert_to_numpy(classifier(pixels))
    features = keras.ops.convert_to_numpy(model(pixels))
    logits = features @ keras.ops.convert_to_numpy(head.kernel)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), expected, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(again(pixels)), features)
    assert len(again.trainable_weights) == len(model.trainable_weights)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", ["simclr", "supcon"])
def test_odd_batches_in_any_precision(name, precision):
    """Seven images, and a single one; the loss is a finite float32."""
    with pbl.training.performance.precision(precision):
        model = models.build(name, (8, 8, 1), 3, encoder="small_cnn", encoder_options={"filters": 4}, hidden=8)
    model.compile(keras.optimizers.Adam(1e-3))
    random = np.random.default_rng(0)
    for count in (7, 1):
        views = random.integers(0, 256, (count, 2, 8, 8, 1)).astype(np.uint8)
        logs = model.train_on_batch(views, np.arange(count) % 3, return_dict=True)
        assert np.isfinite(logs["loss"])
    embeddings = model.embed(views[:, 0])
    assert keras.backend.standardize_dtype(embeddings.dtype) == "float32"
    np.testing.assert_allclose(np.linalg.norm(keras.ops.convert_to_numpy(embeddings), axis=1), 1, rtol=1e-5)


def test_an_untrained_encoder_is_always_the_same_and_leaves_chance_as_it_is():
    model = models.build("simclr", (8, 8, 1), 3, encoder="small_cnn")
    state = np.random.get_state()[1][:3].tolist()
    one, other = make_untrained(model.encoder), make_untrained(model.encoder)
    assert np.random.get_state()[1][:3].tolist() == state
    for first, second, trained in zip(one.get_weights(), other.get_weights(), model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
        assert not trained.any() or not np.array_equal(first, trained)


# Two views


def test_views_are_a_function_of_seed_epoch_and_image():
    settings = {"batch_size": 50, "seed": 3, "augmentation": {"crop": 1, "rotation": 20}, "views": 2}
    data = pbl.load_data("digits", **settings)
    first = [pair[0].numpy() for pair in data.stream(2, 0).take(4)]
    np.testing.assert_array_equal(first[3], next(iter(data.stream(2, 3)))[0].numpy())
    again = pbl.load_data("digits", **settings)
    np.testing.assert_array_equal(first[1], next(iter(again.stream(2, 1)))[0].numpy())
    assert first[0].shape == (50, 2, 8, 8, 1) and (first[0][:, 0] != first[0][:, 1]).any(axis=(1, 2, 3)).mean() > 0.9
    # The first view is the augmented image of a classifier's training.
    plain = pbl.load_data("digits", **{**settings, "views": 1})
    np.testing.assert_array_equal(first[0][:, 0], next(iter(plain.stream(2, 0)))[0].numpy())
    val = [np.concatenate([views.numpy() for views, _ in data.val]) for _ in range(2)]
    np.testing.assert_array_equal(*val)
    assert val[0].shape[1:] == (2, 8, 8, 1)


def load_persons(name: str = "persons", persons: int = 12, each: int = 20) -> str:
    """A data set of identities: each has its own pattern, changed by noise."""
    random = np.random.default_rng(0)
    patterns = random.integers(40, 216, (persons, 8, 8, 1))
    labels = np.repeat(np.arange(persons), each)
    pixels = np.clip(patterns[labels] + random.normal(0, 45, (len(labels), 8, 8, 1)), 0, 255).astype(np.uint8)
    pbl.DATASETS[name] = lambda: from_arrays(pixels, labels, [f"person {number}" for number in range(persons)])
    return name


def test_identities_stay_on_one_side():
    data = pbl.load_data(load_persons(), identities=True, views=2, batch_size=16)
    of = {split: set(data.images(split).labels.tolist()) for split in ("train", "val", "test")}
    assert all(of.values()) and sum(map(len, of.values())) == len(set.union(*of.values())) == 12
    folds = [pbl.load_data("persons", identities=True, folds=3, fold=fold) for fold in range(3)]
    sides = [set(one.images("val").labels.tolist()) for one in folds]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 12 - len(of["test"])
    with pytest.raises(InputError, match="at least 6"):
        pbl.load_data(load_persons("few", 5), identities=True)


# Judging


def test_spread_neighbours_and_labels():
    random = np.random.default_rng(0)
    rows = scale_rows(random.normal(size=(4000, 50)))
    assert measure_spread(rows) > 0.99 and measure_spread(np.ones((9, 4)) / 2) == 0
    number, cosine = find_nearest(rows[:50], rows)
    np.testing.assert_array_equal(number, np.arange(50))
    number, cosine = find_nearest(rows[:50], rows[:50], itself=True)
    full = rows[:50] @ rows[:50].T - 2 * np.eye(50)
    np.testing.assert_array_equal(number, full.argmax(axis=1))
    np.testing.assert_allclose(cosine, full.max(axis=1), rtol=1e-5)
    labels, hashes = random.integers(0, 7, 500), [str(at) for at in range(500)]
    few, more = (choose_labelled(hashes, labels, share) for share in (0.02, 0.3))
    assert not (few & ~more).any() and set(labels[few]) == set(range(7)) and 0.25 < more.mean() < 0.35
    assert (choose_labelled(hashes, labels, 0.3, 1) != more).any()
    assert list_shares(54_000, 10_000, 10) == [0.01, 0.05, 10_000 / 54_000]
    assert list_shares(1_000, 1_000, 10) == [0.05, 0.1, 1.0]
    assert list_shares(30, 30, 10) == [1.0]


def test_a_probe_does_not_depend_on_the_scale():
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 6)) + 3 * np.eye(6)[np.arange(200) % 3]
    labels = np.arange(200) % 3
    found = []
    for factor in (1e-3, 1.0, 1e4):
        probe = Probe(factor * features)
        scaled = probe.scale(factor * features)
        assert np.square(scaled).sum(axis=1).mean() == pytest.approx(10, rel=1e-4)
        found.append(probe.predict(scaled[:60], labels[:60], scaled[60:]))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[1], found[2])
    assert (found[0] == labels[60:]).mean() > 0.9


def test_rates_of_pairs():
    """Against scikit-learn's ROC curve."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 12)
    features = random.normal(size=(12, 8))[labels] + random.normal(0, 0.9, (144, 8))
    pairs = make_pairs(features, labels)
    judged, samples = judge_pairs(pairs)
    false, true, _ = roc_curve(pairs.same, pairs.cosine, drop_intermediate=False)
    assert judged["metrics"]["eer"] == pytest.approx(np.interp(0, false - (1 - true), false), abs=1e-3)
    assert judged["metrics"]["true_at_1"] == pytest.approx(true[false <= 0.01].max())
    assert judged["metrics"]["true_at_01"] is None or judged["different"] >= 10_000
    for name, of in judged["at_thresholds"].items():
        assert of["false"] <= {"true_at_1": 0.01, "true_at_01": 0.001}.get(name, 1)
    low, high = judged["intervals"]["eer"]
    assert low < judged["metrics"]["eer"] < high and len(samples) > 150
    assert judge_pairs(make_pairs(features, np.zeros(144, int))) == (None, None)


@pytest.mark.parametrize(("kind", "expected"), [("equal", 0.5), ("half zero", None), ("steps", None)])
@pytest.mark.parametrize("order", ["sorted", "reversed", "mixed"])
def test_the_order_of_pairs_that_are_equally_alike_changes_no_rate(kind, expected, order):
    """Against scikit-learn's ROC curve, which has one point for each distinct cosine."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(12), 12)
    features = {
        "equal": np.tile(random.normal(size=37), (144, 1)),
        "half zero": random.normal(size=(12, 8))[labels] * (np.arange(144) % 12 < 6)[:, None],
        "steps": np.round(random.normal(size=(12, 2))[labels] + random.normal(0, 0.9, (144, 2))),
    }[kind]
    places = {"sorted": np.arange(144), "reversed": np.arange(144)[::-1], "mixed": random.permutation(144)}[order]
    pairs = make_pairs(features[places], labels[places])
    judged, _ = judge_pairs(pairs, samples=20)
    false, true, _ = roc_curve(pairs.same, pairs.cosine, drop_intermediate=False)
    crossing = brentq(lambda rate: 1 - rate - np.interp(rate, false, true), 0, 1)
    assert judged["metrics"]["eer"] == pytest.approx(crossing, abs=1e-6)
    assert expected is None or crossing == pytest.approx(expected)
    assert judged["metrics"]["true_at_1"] == pytest.approx(true[false <= 0.01].max())
    at = judged["at_thresholds"]["true_at_1"]
    assert at["true"] == pytest.approx(judged["metrics"]["true_at_1"]) and at["false"] <= 0.01


@pytest.mark.nightly
def test_the_interval_over_identities_holds():
    """Twenty identities, drawn again: the interval contains the rate of very many in about nine of ten cases; an interval over pairs would not."""

    def draw(random, persons):
        labels = np.repeat(np.arange(persons), 8)
        noise = random.uniform(0.3, 1.5, persons)[labels, None]  # some identities are easy
        return random.normal(size=(persons, 6))[labels] + noise * random.normal(size=(len(labels), 6)), labels

    truth = np.mean([judge_pairs(make_pairs(*draw(np.random.default_rng(99 + at), 250)), samples=0)[0]["metrics"]["eer"] for at in range(4)])  # fmt: skip
    held = 0
    for seed in range(60):
        judged, _ = judge_pairs(make_pairs(*draw(np.random.default_rng(seed), 20)))
        low, high = judged["intervals"]["eer"]
        held += low <= truth <= high
    assert held >= 48


def test_paired_images_are_of_as_many_classes():
    labels = np.r_[np.zeros(900, int), np.ones(60, int), np.full(5, 2)]
    at = choose_paired([str(n * 7919 % 965) for n in range(965)], labels)
    assert np.bincount(labels[at]).tolist() == [200, 60, 5] and (np.diff(at) > 0).all()
    many = np.repeat(np.arange(400), 5)
    at = choose_paired([str(n * 7919 % 2000) for n in range(2000)], many)
    assert len(at) == 600 and np.bincount(np.bincount(many[at])).tolist()[4] == 150


def test_pixels_are_shrunk_by_blocks():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 50, 3)).astype(np.uint8)
    small = shrink_pixels(pixels).reshape(3, 32, 25, 3)
    assert small[1, 3, 4, 2] == int(pixels[1, 6:8, 8:10, 2].mean())
    assert shrink_pixels(pixels[:, :28, :28]).shape == (3, 28 * 28 * 3)


# Findings


def plant(kind: str, seed: int = 0) -> dict:
    """Metrics of features of known quality: of 4,000 training images and 2,000 others, with 5 classes."""
    random = np.random.default_rng(seed)
    labels = np.arange(6_000) % 5
    centres = random.normal(size=(5, 20))
    noise = random.normal(size=(6_000, 20))
    pixels = centres[labels] + 3.0 * noise
    encoder = {
        "better": centres[labels] + 0.8 * noise,
        "as_good": pixels @ np.linalg.qr(random.normal(size=(20, 20)))[0],
        "nothing": centres[labels] + 4.5 * random.normal(size=(6_000, 20)),
    }[kind]
    untrained = centres[labels] + 4.5 * random.normal(size=(6_000, 20))
    arms = {name: (of[:4_000], of[4_000:]) for name, of in zip(("encoder", "untrained", "pixels"), (encoder, untrained, pixels), strict=True)}  # fmt: skip
    judged = judge_probes(arms, [str(at) for at in range(4_000)], labels[:4_000], labels[4_000:], 4_000)
    found = {
        "identities": False, "supervised": False, "temperature": 0.2, "spread": 0.97, "levels": judged["levels"], "pairs": None,
        "pair_controls": [],
    }  # fmt: skip
    return {"images": 2_000, "contrast": found}


def end(loss: float, guessing: float = 6.0) -> list[dict[str, float]]:
    return [{"epoch": 1.0, "loss": loss, "val_loss": loss, "val_guessing": guessing}]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "change", "loss", "name"),
    [
        ("better", {}, 3.5, "healthy"),
        ("as_good", {}, 3.5, "no_gain"),
        ("nothing", {}, 5.7, "learned_nothing"),
        ("better", {"spread": 0.02}, 3.5, "representation_collapse"),
        ("better", {"temperature": 50.0}, 5.99, "representation_collapse"),
        ("better", {}, 5.99, "representation_collapse"),
        ("better", {"spread": 0.02}, float("nan"), "diverged"),
    ],
)
def test_verdicts(kind, change, loss, name):
    metrics = plant(kind)
    metrics["contrast"] |= change
    found = diagnose_features(metrics, end(loss))
    assert found.headline.name == name, [(of.name, of.message) for of in found.findings]


def test_too_few_images_are_not_called_no_gain():
    metrics = plant("as_good")
    for level in metrics["contrast"]["levels"]:
        for of in level["differences"]:
            of["low"], of["high"] = of["low"] - 0.1, of["high"] + 0.1
    assert diagnose_features(metrics, end(3.5)).headline.name == "too_noisy_to_say"


def test_the_interval_of_few_labels_is_over_their_draws_too():
    """The mean of other three draws of the labels is inside it; Wilson's interval over the images alone is much too narrow."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 6_000)
    features = random.normal(size=(4, 10))[labels] + 1.5 * random.normal(size=(6_000, 10))
    known, unknown, truth = features[:2_000], features[2_000:], labels[2_000:]
    arms = {"encoder": (known, unknown)}
    few = []
    for start in range(10):  # other hashes, so other draws of the labels
        hashes = [f"{start} {at}" for at in range(2_000)]
        level = judge_probes(arms, hashes, labels[:2_000], truth, 2_000)["levels"][0]
        assert level["labels"] == 20 and level["draws"] == 3
        (arm,) = (of for of in level["arms"] if of["way"] == "probe")
        few.append((arm["accuracy"], arm["low"], arm["high"]))
    mean, low, high = np.array(few).T
    expected = mean.mean()  # of 30 draws
    by_images = 1.96 * np.sqrt(expected * (1 - expected) / len(truth))
    assert mean.std(ddof=1) > by_images / 1.96  # the draws matter more than the images
    assert ((low <= expected) & (expected <= high)).sum() >= 9
    assert (abs(mean - expected) <= by_images).sum() <= 7
    # One level by hand: Student's t with 2 degrees of freedom, if the images had no part.
    draws = [_probe_by_hand(known, labels[:2_000], unknown, truth, [f"0 {at}" for at in range(2_000)], draw) for draw in range(3)]  # fmt: skip
    assert np.mean(draws) == pytest.approx(few[0][0])
    assert (few[0][2] - few[0][1]) / 2 > 1.96 * np.std(draws, ddof=1) / np.sqrt(3)


def _probe_by_hand(known, labels, unknown, truth, hashes, draw):
    probe, chosen = Probe(known), choose_labelled(hashes, labels, 0.01, draw)
    return (probe.predict(probe.scale(known)[chosen], labels[chosen], probe.scale(unknown)) == truth).mean()


def test_differences_are_paired():
    random = np.random.default_rng(0)
    base = random.random(1_000) < 0.8
    better = base.copy()
    better[np.flatnonzero(~base)[:25]] = True
    found = compare_arms(better[None], base[None])
    assert found["value"] == pytest.approx(0.025) and found["low"] > 0.01
    assert compare_arms(better[None], base[None][:, ::-1])["low"] < 0  # not on the same images: hardly distinguished


# Runs


@pytest.mark.nightly
@pytest.mark.parametrize(("model", "precision"), [("simclr", "mixed_float16"), ("supcon", "float32")])
def test_a_training_is_resumed_to_the_bit(tmp_path, model, precision):
    """Interrupted within an epoch: both views, weights, optimizer, what the monitor measured, the evaluation."""
    CALLBACKS["cut"] = Cut
    config = pbl.Config(**SETTINGS).replace(
        callbacks=["cut"], model=model, precision=precision, checkpoint_minutes=1e-6
    )
    whole = pbl.train(config, folder=tmp_path / "whole")
    Cut.at = ("step", 1, 5)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["resumed"][0]["step"] == 4
    for one, other in zip(pbl.load_model(run).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.read_json("metrics_val.json")["contrast"] == whole.read_json("metrics_val.json")["contrast"]
    columns = ("loss", "val_loss", "val_probe", "val_embedding_spread")
    assert [[row[name] for name in columns] for row in run.read_table("history.csv", *columns)] == [
        [row[name] for name in columns] for row in whole.read_table("history.csv", *columns)
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return pbl.train(pbl.Config(**SETTINGS), folder=tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
def test_a_run_from_training_to_pairs(trained, tmp_path, command):
    run = trained
    metrics = run.read_json("metrics_val.json")
    assert metrics["headline"] == "probe" and set(metrics["metrics"]) >= {"probe", "nearest", "few_labels", "eer"}
    with np.load(run.path / "predictions_val.npz") as saved:
        assert saved["values"].mean() == pytest.approx(metrics["metrics"]["probe"])
    status, out, _ = command("evaluate", run.path, "--split", "test", "--json")
    assert status == 0 and json.loads(out)["contrast"]["pairs"]["is_chosen_here"] is False
    status, out, _ = command("evaluate", run.path)
    assert status == 0 and "pixels, nearest neighbour" in out
    figures = {file.stem for file in (run.path / "figures").glob("*.png")}
    assert figures >= {"probes_val", "pairs_val", "neighbours_val", "embeddings_val", "learning_curves"}
    assert command("inspect", run.path)[0] == 0
    assert {"embeddings", "nearest_images"} <= {file.stem for file in (run.path / "figures").glob("*.png")}
    status, out, _ = command("diagnose", run.path)
    assert status == 0
    assert command("report", run.path)[0] == command("log", run.path.parent)[0] == 0
    assert "Equal error rate of pairs" in (run.path / "report.html").read_text(encoding="utf-8")

    from PIL import Image

    pixels = pbl.load_data("digits").images("val").pixels[:3, ..., 0]
    for number, image in enumerate((*pixels, pixels[0])):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    status, out, _ = command("predict", run.path, tmp_path / "0.png", tmp_path / "3.png", "--json")
    rows = json.loads(out)
    assert status == 0 and rows[0]["cosine"] == pytest.approx(1, abs=1e-5) and rows[0]["same"] is True
    assert rows[0]["other"].endswith("3.png")
    status, out, _ = command("predict", run.path, tmp_path)
    assert status == 0 and "most like it" in out
    status, _, told = command("predict", run.path, tmp_path / "0.png")
    assert status == 2 and "two or more" in told and told.count("\n") == 1

    # The same file is not found for itself, the same pixels in another file are; the order is that of cosines computed here.
    words = ("search", run.path, tmp_path / "0.png", "--in", tmp_path)
    status, out, _ = command(
        *words, "--most", "2", "--csv", tmp_path / "found.csv", "--out", tmp_path / "out" / ".." / "found.png", "--json"
    )
    assert status == 2  # a folder that does not exist
    status, out, _ = command(
        *words, "--most", "2", "--csv", tmp_path / "found.csv", "--out", tmp_path / "pair.png", "--json"
    )
    rows, model = json.loads(out), pbl.load_model(run)
    features = scale_rows(predict_outputs(model, pbl.load_data("digits").images("val").pixels[:3]))
    likeness = features @ features[0]
    nearest = max((1, 2), key=lambda number: likeness[number])
    assert status == 0 and [Path(row["found"]).stem for row in rows] == ["3", str(nearest)]
    assert [row["rank"] for row in rows] == [1, 2] and rows[0]["cosine"] == pytest.approx(1, abs=1e-5)
    assert rows[1]["cosine"] == pytest.approx(likeness[nearest], abs=1e-5)
    assert Image.open(tmp_path / "pair.png").size[0] > 100 and (tmp_path / "found.csv").read_bytes().count(b"\n") == 3
    for words, said in (
        (("--in", tmp_path / "0.png"), "nothing to find"),
        (("--in", tmp_path / "none"), "none"),
        (("--in", tmp_path, "--most", "0"), "1 or more"),
    ):
        status, _, told = command("search", run.path, tmp_path / "0.png", *words)
        assert status == 2 and said in told and told.count("\n") == 1, told


@pytest.mark.slow
def test_the_encoder_goes_to_a_classifier(trained, tmp_path):
    """Frozen, fine-tuned, and from the first epoch on; the weights are those of the run."""
    theirs = [weight.numpy() for weight in list_encoder_weights(pbl.load_model(trained).encoder)]
    encoder = SETTINGS["model_options"]["encoder_options"]
    settings = {"dataset": "digits", "epochs": 1, "experiment": "y"}
    frozen = pbl.Config(
        **settings, model="encoder_transfer",
        model_options={"encoder": "small_cnn", "encoder_options": encoder, "weights": str(trained.path)},
    )  # fmt: skip
    run = pbl.train(frozen, folder=tmp_path)
    backbone = models.efficientnet.find_backbone(pbl.load_model(run))
    for weight, given in zip(list_encoder_weights(backbone), theirs, strict=True):
        np.testing.assert_array_equal(weight.numpy(), given)
    tuned = pbl.train(frozen.replace(fine_tune_epochs=1), folder=tmp_path)
    backbone = models.efficientnet.find_backbone(pbl.load_model(tuned))
    moved = [not np.array_equal(weight.numpy(), given) for weight, given in zip(backbone.weights, theirs, strict=True)]
    assert any(moved) and tuned.environment["best_epoch"] == 2
    whole = pbl.Config(**settings, model="small_cnn", model_options=encoder, initial_weights=str(trained.path))
    data = pbl.load_data("digits")
    model, _ = pbl.training.build.build_and_compile(whole, data)
    for weight, given in zip(list_body_weights(model), theirs, strict=True):
        np.testing.assert_array_equal(weight.numpy(), given)
    # In a folder that was copied in part the weights are older than the run says: they are not used.
    shutil.copytree(trained.path, tmp_path / "half")
    half = pbl.load_run(tmp_path / "half")
    half.update_environment(best_epoch=99)
    with pytest.raises(InputError, match="was not copied"):
        pbl.training.build.build_and_compile(whole.replace(initial_weights=str(half.path)), data)
    with pytest.raises(InputError, match="was not copied"):
        models.build(
            "encoder_transfer", (8, 8, 1), 10, encoder="small_cnn", encoder_options=encoder, weights=str(half.path)
        )


@pytest.mark.slow
def test_identities_are_judged_by_pairs(tmp_path):
    config = pbl.Config(**SETTINGS).replace(
        dataset=load_persons(persons=20), model="supcon", task_options={"identities": True}, epochs=2
    )
    run = pbl.train(config, folder=tmp_path)
    metrics = run.read_json("metrics_val.json")
    assert metrics["headline"] == "eer" and metrics["better"] == "lower" and not metrics["contrast"]["levels"]
    assert {of["name"] for of in metrics["contrast"]["pair_controls"]} == {"pixels", "untrained"}
    found = pbl.evaluate(run, "test")["contrast"]["pairs"]
    assert found["thresholds"] == metrics["contrast"]["pairs"]["thresholds"] and not found["is_chosen_here"]
    assert pbl.diagnose_run(run).headline.name in ("healthy", "too_noisy_to_say", "no_gain")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"augmentation": {}}, "made by augmentation"),
        ({"augmentation": {"mixup": 0.2}}, "a view is made from one"),
        ({"model": "mlp", "model_options": {}}, "has no encoder"),
        ({"model_options": {"encoder": "resnet"}}, "Did you mean 'resnet"),
        ({"model_options": {"encoder": "dcgan"}}, "ends in one dense layer"),
        ({"model_options": {"encoder": "small_cnn", "encoder_options": {"width": 3}}}, "do not fit 'small_cnn'"),
        ({"model_options": {"encoder": "small_cnn", "encoder_options": 3}}, "by their names"),
        ({"model_options": {"encoder": "small_cnn", "temperature": 0}}, "above 0"),
        ({"batch_size": 1}, "no other images"),
        ({"class_weight": "balanced"}, "omit class_weight"),
        ({"loss": "categorical_crossentropy"}, "own loss"),
        ({"task": "classification"}, "simclr learns task=contrast"),
        ({"task_options": {"identities": 1}}, "Valid: true, false"),
        ({"task_options": {"identities": True}, "groups": "(.)"}, "Omit groups"),
        ({"task": "classification", "model": "encoder_transfer", "model_options": {"weights": "nowhere"}}, "not a run of task=contrast"),
        ({"task": "classification", "model": "mlp", "model_options": {}, "initial_weights": "RUN"}, "requested is mlp"),
        ({"task": "classification", "model": "encoder_transfer", "model_options": {"encoder": "mlp", "weights": "RUN"}}, "requested is mlp"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told_in_one_line(tmp_path, request, values, said):
    def fill(value):
        return str(request.getfixturevalue("trained").path) if value == "RUN" else value

    values = {key: {k: fill(v) for k, v in value.items()} if isinstance(value, dict) else fill(value) for key, value in values.items()}  # fmt: skip
    if values.get("task") == "classification":
        values.setdefault("augmentation", {})
    with pytest.raises(InputError) as error:
        pbl.train(pbl.Config(**SETTINGS).replace(**values), folder=tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value), error.value


@pytest.mark.nightly
def test_all_arms_in_one_curve(tmp_path, command, monkeypatch):
    monkeypatch.setattr("pbl.training.contrast_curve.STEPS", 20)
    words = [f"{key}={json.dumps(value) if isinstance(value, dict) else value}" for key, value in SETTINGS.items()]
    status, out, _ = command("train", *words, "epochs=1", "--learning-curve", "--seeds", "2", "--runs", tmp_path)
    assert status == 0 and "training from scratch" in out
    assert len(list(tmp_path.glob("x/learning_curve.png"))) == 1
    status, _, told = command("train", *words, "model=supcon", "--learning-curve", "--runs", tmp_path)
    assert status == 2 and "uses none" in told
