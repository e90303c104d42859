"""Generation: distances against independent ones, planted generators, a complete run, and what a GAN's training must keep."""

import json
import shutil

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import polynomial_kernel
from sklearn.neighbors import NearestNeighbors
from test_checkpoint import Cut, PowerCut

import pbl
from experiments.benchmarks.generation import NAMES, plant
from pbl import models
from pbl.callbacks import CALLBACKS
from pbl.data import from_arrays
from pbl.diagnosis.generation import diagnose_samples
from pbl.errors import InputError
from pbl.evaluation.gan_monitor import describe
from pbl.evaluation.generation import (
    MEAN_SQUARE,
    Reference,
    find_nearest,
    measure_kernel_distance,
    measure_precision_recall,
    measure_samples,
)
from pbl.evaluation.image_judge import open_judge
from pbl.evaluation.samples import generate_images

SETTINGS = {
    "task": "generation",
    "dataset": "digits",
    "validation_fraction": 0.4,
    "model": "dcgan",
    "model_options": {"noise_size": 8, "width": 8, "kernel_size": 3},
    "optimizer": "adam",
    "learning_rate": 0.001,
    "optimizer_options": {"beta_1": 0.5},
    "batch_size": 64,
    "epochs": 2,
    "experiment": "x",
}


# Numbers


def test_kernel_distance_is_the_unbiased_estimator():
    """Against scikit-learn's polynomial kernel and the sums of Gretton et al. 2012, lemma 6."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 6)), random.normal(0.5, 1, (30, 6))
    found = measure_kernel_distance(x, y)
    scale = np.sqrt((x**2).mean() / MEAN_SQUARE)
    of = lambda a, b: polynomial_kernel(a / scale, b / scale, degree=3, gamma=1 / 6, coef0=1)  # noqa: E731
    xx, yy = of(x, x), of(y, y)
    expected = (xx.sum() - np.trace(xx)) / (40 * 39) + (yy.sum() - np.trace(yy)) / (30 * 29) - 2 * of(x, y).mean()
    assert found.value == pytest.approx(1_000 * expected, rel=1e-9)
    assert found.by_real.mean() == pytest.approx(found.value) and len(found.by_real) == 40


def test_the_standard_error_of_the_distance_holds():
    random = np.random.default_rng(0)
    draws = [measure_kernel_distance(random.normal(size=(150, 4)), random.normal(0.6, 1, (150, 4))) for _ in range(150)]
    spread = np.std([found.value for found in draws])
    assert np.median([found.error for found in draws]) == pytest.approx(spread, rel=0.15)


def test_precision_and_recall_by_nearest_neighbours():
    random = np.random.default_rng(1)
    real, generated = random.normal(size=(60, 5)), random.normal(0.7, 0.6, (50, 5))

    def covered(points, by):
        radii = NearestNeighbors(n_neighbors=4).fit(by).kneighbors(by)[0][:, -1]
        distances = np.linalg.norm(points[:, None] - by[None], axis=2)
        return (distances <= radii[None]).any(axis=1).mean()

    assert measure_precision_recall(real, generated) == (covered(generated, real), covered(real, generated))


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (-2, 1)])
def test_a_shifted_copy_is_found(shift):
    random = np.random.default_rng(0)
    train = np.kron(random.integers(0, 256, (200, 7, 7, 1)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    image = np.roll(train[17:18], shift, (1, 2))
    found = find_nearest(np.concatenate([image, 255 - image]), train)
    assert found.number[0] == 17 and found.distance[0] == 0 and found.distance[1] > 30


# Planted generators


def load(kind: str) -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.target))
    pixels = (bunch.images * (255 / 16)).round().astype(np.uint8)[order, ..., None]
    return pixels, bunch.target[order]


@pytest.fixture(scope="module")
def planted():
    """Digits: 700 training images, 500 from which samples are planted, 300 that train the judge, 297 for comparison."""
    pixels, labels = load("digits")
    judge = open_judge(pixels[1200:1500], labels[1200:1500], 10)
    reference = Reference(pixels[1500:], labels[1500:], pixels[:700], judge, 297)
    return pixels[:700], pixels[700:1200], labels[700:1200], reference


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_planted_generators_get_their_names(planted, kind):
    train, others, labels, reference = planted
    for seed in range(2):
        samples = plant(kind, train, others, labels, seed, 297)
        measured = describe(measure_samples(samples, reference).numbers, reference, list("0123456789"))
        found = diagnose_samples(measured)
        assert found.headline.name == NAMES[kind], (seed, [finding.name for finding in found.findings], measured)


def test_classes_in_wrong_shares_are_a_collapse(planted):
    """With good images, none of whose classes is missing."""
    train, others, labels, reference = planted
    samples = plant("real", train, others, labels, 0, 297)
    measured = describe(measure_samples(samples, reference).numbers, reference, list("0123456789"))
    assert diagnose_samples(measured).headline.name == "healthy"
    random = np.random.default_rng(0)
    chosen = np.concatenate([random.choice(np.flatnonzero(labels == 3), 130), random.choice(len(labels), 167)])
    measured = describe(measure_samples(others[chosen], reference).numbers, reference, list("0123456789"))
    found = next(of for of in diagnose_samples(measured).findings if "shares of the classes differ" in of.message)
    expected = (130 + (labels[chosen[130:]] == 3).sum()) / 297
    assert found.name == "mode_collapse" and "3 exceeds its share most" in found.message
    assert found.details["share"] == pytest.approx(expected, abs=0.06)


def test_shares_are_estimated_through_a_judge_that_errs():
    """A judge that is right on 43%: its answers for images of five classes are spread over all ten; the estimate finds the five."""
    random = np.random.default_rng(1)
    telling = random.dirichlet(np.full(10, 0.5), 10) * 0.62 + 0.38 * np.eye(10)  # what the judge says for each class

    def say(labels):
        return np.stack([random.dirichlet(20 * telling[label] + 0.05) for label in labels])

    class Judged(Reference):
        def __init__(self, labels):
            self.labels = labels
            said = say(labels)
            self.told_as = np.stack([said[labels == number].mean(axis=0) for number in range(10)], axis=1)

    reference = Judged(np.arange(2000) % 10)
    wanted = np.array([0.3, 0, 0.2, 0, 0.1, 0, 0.25, 0, 0.15, 0])
    said = say(random.choice(10, 2000, p=wanted))
    shares, apart = reference.measure_shares(said)
    assert np.abs(shares - wanted).max() < 0.04 and apart == pytest.approx(np.abs(wanted - 0.1).sum() / 2, abs=0.04)
    assert np.abs(said.mean(axis=0) - wanted).sum() / 2 > 0.2  # the judge's answers without a correction
    assert reference.measure_shares(say(np.arange(2000) % 10))[1] < 0.15
    for _ in range(100):  # all of one class, which no real image has: rounding must not make a share above 1
        reference.told_as, reference.labels = random.dirichlet(np.full(10, 0.05), 10).T, random.integers(0, 9, 94)
        shares, apart = reference.measure_shares(np.tile(reference.told_as[:, 9], (50, 1)).astype(np.float32))
        assert shares.min() >= 0 and max(*shares, apart) <= 1


# Trainings, diagnosed from their course


@pytest.mark.slow
@pytest.mark.parametrize(
    ("course", "name"),
    [
        ([(40, 0.99, 0.02)] * 6, "discriminator_wins"),
        ([(40, 0.52, 0.49)] * 6, "generator_wins"),
        (
            [(300, 0.73, 0.95), (255, 0.73, 0.97)],
            "generator_wins",
        ),  # it takes the generated images for real, and fewer of the real ones
        (
            [(90, 0.7, 0.3), (80, 0.7, 0.3), (70, 0.7, 0.3), (60, 0.7, 0.3), (50, 0.7, 0.3), (40, 0.7, 0.3)],
            "still_learning",
        ),
        ([(40, 0.7, 0.3)] * 6, "unlike_real_images"),
        ([(40, float("nan"), 0.3)] * 6, "diverged"),
    ],
)
def test_bad_images_are_explained_by_the_course(planted, course, name):
    train, others, labels, reference = planted
    samples = plant("noise", train, others, labels, 0, 297)
    measured = describe(measure_samples(samples, reference).numbers, reference, list("0123456789"))
    history = [
        {"epoch": at, "val_kid": kid, "d_real": real, "d_generated": generated, "d_loss": real, "g_loss": 1.0}
        for at, (kid, real, generated) in enumerate(course, 1)
    ]
    assert diagnose_samples(measured, history).headline.name == name
    healthy = plant("real", train, others, labels, 0, 297)
    measured = describe(measure_samples(healthy, reference).numbers, reference, list("0123456789"))
    if name != "diverged":  # good images are not called bad because of the losses
        assert diagnose_samples(measured, history).headline.name == "healthy"


# A run


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "precision"),
    [({"conditional": True}, "mixed_float16"), ({"loss": "wgan_gp"}, "float32")],
)
def test_a_gan_is_resumed_to_the_bit(tmp_path, options, precision):
    """Interrupted within an epoch: both networks, both optimizers with their loss scales, the noise, and what the monitor measured."""
    CALLBACKS["cut"] = Cut
    config = pbl.Config(**SETTINGS).replace(
        callbacks=["cut"],
        precision=precision,
        checkpoint_minutes=1e-6,
        model_options={**SETTINGS["model_options"], **options},
    )
    whole = pbl.train(config, folder=tmp_path / "whole")
    Cut.at = ("step", 1, 5)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["resumed"][0]["step"] == 4
    for one, other in zip(pbl.load_model(run).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    final, of_whole = (keras.saving.load_model(of.path / "final.keras") for of in (run, whole))
    for name in ("optimizer", "discriminator_optimizer"):
        ours, theirs = (getattr(model, name) for model in (final, of_whole))
        assert (precision == "mixed_float16") == isinstance(ours, keras.optimizers.LossScaleOptimizer)
        for one, other in zip(ours.variables, theirs.variables, strict=True):
            np.testing.assert_array_equal(one, other)
    with np.load(run.path / "samples.npz") as one, np.load(whole.path / "samples.npz") as other:
        np.testing.assert_array_equal(one["grids"], other["grids"])
        assert one["grids"].shape == (2, 16, 8, 8, 1)
    assert run.read_json("metrics_val.json")["samples"] == whole.read_json("metrics_val.json")["samples"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = pbl.Config(**SETTINGS).replace(model_options={**SETTINGS["model_options"], "conditional": True})
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


@pytest.mark.slow
def test_a_run_from_training_to_images(trained, tmp_path, command):
    run = trained
    metrics = run.read_json("metrics_val.json")
    assert metrics["headline"] == "kid" and metrics["better"] == "lower" and metrics["metrics"]["right_class"] < 1
    assert metrics["real_images"] == 252
    with np.load(run.path / "predictions_val.npz") as saved:
        assert saved["values"].mean() == pytest.approx(metrics["metrics"]["kid"]) and len(saved["names"]) == 252
    status, out, _ = command("evaluate", run.path, "--split", "test", "--json")
    assert status == 0 and json.loads(out)["real_images"] == 539
    assert command("evaluate", run.path, "--require", "kid<1e6")[0] == 0
    figures = {file.stem for file in (run.path / "figures").glob("*.png")}
    assert figures >= {"samples_val", "course_val", "nearest_val", "classes_val", "learning_curves"}

    status, out, _ = command("generate", run.path, "--count", "9", "--label", "7", "--out", tmp_path / "seven.npz")
    assert status == 0
    images = np.load(tmp_path / "seven.npz")["images"]
    assert images.shape == (9, 8, 8, 1) and images.dtype == np.uint8
    command("generate", run.path, "--count", "200", "--label", "7", "--out", tmp_path / "more.npz")
    np.testing.assert_array_equal(np.load(tmp_path / "more.npz")["images"][:9], images)
    assert command("generate", run.path, "--count", "5", "--out", tmp_path / "folder", "--json")[0] == 0
    assert len(list((tmp_path / "folder").glob("*.png"))) == 5
    assert command("generate", run.path, "--out", tmp_path / "grid.png")[0] == 0
    for words, said in (
        (["--label", "seven"], "'seven' is not a class"),
        (["--count", "0"], "1 to 100000"),
        (["--seed", "-1"], "0 or more"),
        (["--count", "401", "--out", tmp_path / "a.png"], "at most 400"),
        (["--out", tmp_path / "none" / "a.png"], "does not exist"),
    ):
        status, _, told = command("generate", run.path, *words)
        assert status == 2 and said in told and told.count("\n") == 1, told

    assert command("inspect", run.path)[0] == 0
    assert {"walk", "neighbours"} <= {file.stem for file in (run.path / "figures").glob("*.csv")}
    status, out, _ = command("diagnose", run.path)
    assert status == 0 and "python -m pbl train" in out
    assert command("report", run.path)[0] == command("log", run.path.parent)[0] == 0
    assert "Kernel distance to real images" in (run.path / "report.html").read_text(encoding="utf-8")
    status, _, told = command("predict", run.path, tmp_path / "grid.png")
    assert status == 2 and "generate" in told


@pytest.mark.slow
def test_gans_are_compared_by_their_distance(trained, tmp_path, command):
    """Less is better: among copies of one run, whose distances are changed, the nearer ones come first."""
    with np.load(trained.path / "predictions_val.npz") as saved:
        arrays = dict(saved)
    metrics, random, kids = trained.read_json("metrics_val.json"), np.random.default_rng(0), {"near": [], "far": []}
    for name, distance in (("near", 3.0), ("far", 40.0)):
        for seed in range(3):
            folder = tmp_path / name / f"{seed:03d}"
            shutil.copytree(trained.path, folder)
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            rate = {"near": 0.002, "far": 0.001}[name]
            (folder / "config.json").write_text(json.dumps({**config, "seed": seed, "learning_rate": rate}))
            values = random.normal(distance + seed / 10, 5.0, len(arrays["values"]))
            np.savez(folder / "predictions_val.npz", **{**arrays, "values": values})
            kid = float(values.mean())
            of_run = {"metrics": {**metrics["metrics"], "kid": kid}, "intervals": {"kid": [kid - 1, kid + 1]}}
            (folder / "metrics_val.json").write_text(json.dumps({**metrics, **of_run}))
            kids[name].append(kid)
    folders = sorted(tmp_path.glob("*/0*"))
    status, out, _ = command("compare", *folders, "--out", tmp_path / "c", "--json")
    told = json.loads(out)
    assert status == 0 and told["measure"] == "kid"
    first, second = told["architectures"]
    assert first["kid"] == pytest.approx(np.mean(kids["near"]))
    assert second["kid"] == pytest.approx(np.mean(kids["far"]))
    for row in (first, second):
        assert row["low"] < row["kid"] < row["high"] < row["kid"] + 10
    assert first["best_with_probability"] > 0.99
    (pair,) = told["pairs"]
    difference = np.mean(kids["near"]) - np.mean(kids["far"])
    sign = 1 if pair["first"] == first["architecture"] else -1
    assert pair["difference"] == pytest.approx(sign * difference) and pair["low"] < pair["difference"] < pair["high"]
    assert pair["verdict"].startswith("first better" if sign == 1 else "second better")
    status, out, _ = command("compare", *folders, "--out", tmp_path / "c")
    assert status == 0 and "KID x 1000" in out and "KID x 1000 %" not in out


@pytest.mark.slow
def test_in_a_fit_of_ones_own(capsys):
    data = pbl.load_data("digits", batch_size=64, validation_fraction=0.4)
    keras.utils.set_random_seed(0)
    model = models.build("mlp_gan", data.input_shape, data.num_classes, noise_size=8, widths=[32])
    model.compile(keras.optimizers.Adam(1e-3, beta_1=0.5))
    monitor = pbl.GanMonitor(data)
    history = model.fit(data.train, validation_data=data.val, epochs=2, verbose=0, callbacks=[monitor])
    assert set(history.history) >= {"d_loss", "g_loss", "val_kid", "val_recall"} and "loss" not in history.history
    assert monitor.diagnosis.headline.name in (
        "still_learning",
        "unlike_real_images",
        "mode_collapse",
        "generator_wins",
        "discriminator_wins",
    )
    assert len(monitor.grids) == 2
    state = np.random.get_state()[1][:3].tolist()
    monitor.reference.judge.look_at(data.images("val").pixels[:3])
    assert np.random.get_state()[1][:3].tolist() == state


@pytest.mark.nightly
def test_images_without_labels(tmp_path):
    """One class: the judge learns turns, and nothing is said about classes."""
    images = load("digits")[0][:500]
    pbl.DATASETS["unlabelled"] = lambda: from_arrays(images, np.zeros(500, int), ["digit"])
    run = pbl.train(pbl.Config(**SETTINGS).replace(dataset="unlabelled", epochs=1), folder=tmp_path)
    metrics = run.read_json("metrics_val.json")
    assert metrics["classes"] == [] and metrics["floor"]["right"] is None and len(metrics["samples"]["counts"]) == 4


# Models


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (64, 48, 3)])
def test_images_have_the_datas_size(shape):
    model = models.build("dcgan", shape, 10, width=4, noise_size=8)
    assert model.generator.output_shape == (None, *shape) and model.discriminator.input_shape == (None, *shape)
    pixels = generate_images(model, 3)
    assert pixels.shape == (3, *shape) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(generate_images(model, 120)[:3], pixels)


def test_the_papers_generator_at_its_size():
    """Radford et al. 2015, figure 1: 100 numbers, 4x4x1024, 8x8x512, 16x16x256, 32x32x128, 64x64x3."""
    model = models.build("dcgan", (64, 64, 3), 10, width=128)
    shapes = [
        layer.output.shape[1:]
        for layer in model.generator.layers
        if isinstance(layer, (keras.layers.Reshape, keras.layers.Conv2DTranspose))
    ]
    assert shapes == [(4, 4, 1024), (8, 8, 512), (16, 16, 256), (32, 32, 128), (64, 64, 3)]


def test_losses_are_what_the_papers_write():
    model = models.build("mlp_gan", (4, 4, 1), 2, widths=[4], noise_size=2)
    real, generated = np.array([[2.0], [0.5]]), np.array([[-1.0], [0.25]])
    d = lambda values: 1 / (1 + np.exp(-values))  # noqa: E731
    expected = -np.log(d(real)).mean() - np.log(1 - d(generated)).mean()
    assert float(model._discriminator_loss(real, generated)) == pytest.approx(expected, rel=1e-6)
    assert float(model._generator_loss(generated)) == pytest.approx(-np.log(d(generated)).mean(), rel=1e-6)


def test_the_gradient_penalty_of_a_linear_critic():
    """D(x) = w x has the slope w everywhere: the penalty is (|w| - 1)^2, in the scale -1 to 1."""
    images = keras.Input((2, 2, 1))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(images)
    critic = keras.Model(images, keras.layers.Dense(1)(keras.layers.Flatten()(scaled)))
    critic.layers[-1].kernel.assign([[3.0], [0.0], [4.0], [0.0]])
    generator = models.build("mlp_gan", (2, 2, 1), 2, widths=[2], noise_size=2).generator
    model = models.gan.GAN(generator, critic, 2, loss="wgan_gp")
    real = keras.random.uniform((5, 2, 2, 1), 0, 255)
    assert float(model._penalise_slopes(real, 255 - real, None)) == pytest.approx(16.0, rel=1e-4)


def test_one_rate_for_both_optimizers():
    model = models.build("mlp_gan", (4, 4, 1), 2, widths=[4], noise_size=2, discriminator_rate=2.0)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)))
    images = np.zeros((8, 4, 4, 1), np.uint8)
    for expected in (0.2, 0.1, 0.05):
        model.train_on_batch(images, np.zeros(8, int))
        assert float(model.discriminator_optimizer.learning_rate) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "mlp", "model_options": {}}, "has no generator"),
        ({"model_options": {"loss": "hinge"}}, "Valid: non_saturating, wgan_gp"),
        ({"image_size": (9, 9)}, "cannot be halved"),
        ({"validation_fraction": 0.03}, "too few"),
        ({"task": "classification"}, "dcgan learns task=generation"),
        ({"task_options": {"every": 2}}, "no option 'every'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(tmp_path, values, said):
    with pytest.raises(InputError) as error:
        pbl.train(pbl.Config(**SETTINGS).replace(**values), folder=tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)
