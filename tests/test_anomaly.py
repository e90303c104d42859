"""Anomaly detection: areas and thresholds against independent values, the split, planted detectors, a complete run."""

import json

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from scipy.stats import beta, norm
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, roc_auc_score
from test_checkpoint import Cut, PowerCut

import pbl
from pbl.callbacks import CALLBACKS
from pbl.data import from_arrays
from pbl.diagnosis.anomalies import diagnose_anomalies
from pbl.errors import InputError
from pbl.evaluation.anomalies import (
    Baselines,
    choose_threshold,
    judge_pixels,
    map_errors,
    measure_areas,
    score_errors,
)
from pbl.reports.run_report import INTERVALS
from pbl.statistics import newcombe_auc_interval
from pbl.tasks import find_task

SETTINGS = {
    "task": "anomaly",
    "task_options": {"normal": ["8"]},
    "model": "autoencoder",
    "model_options": {"code_size": 8, "widths": [32]},
    "optimizer": "adam",
    "learning_rate": 0.01,
    "batch_size": 16,
    "epochs": 12,
    "validation_fraction": 0.4,
    "experiment": "x",
}


def draw_digits() -> tuple[np.ndarray, np.ndarray]:
    bunch = load_digits()
    return (bunch.images * (255 / 16)).round().astype(np.uint8), bunch.target


# Numbers


def test_areas_equal_scikit_learn_and_their_intervals_hold():
    random, true, held, paired = np.random.default_rng(0), norm.cdf(1 / np.sqrt(2)), 0, 0
    is_anomaly = np.arange(160) < 40
    for _ in range(150):
        noise = random.normal(size=160)
        one = (noise + is_anomaly).round(1)  # with ties
        other = 0.7 * noise + 0.7 * random.normal(size=160) + is_anomaly
        areas = measure_areas(is_anomaly, [one, other])
        assert areas.values[0, 0] == pytest.approx(roc_auc_score(is_anomaly, one))
        assert areas.values[1, 1] == pytest.approx(average_precision_score(is_anomaly, other))
        interval, difference = areas.interval(0), areas.difference(0, 1)
        held += interval.low <= true <= interval.high
        paired += difference.low <= true - norm.cdf(1 / np.sqrt(2 * 0.98)) <= difference.high
    assert held >= 0.89 * 150 and paired >= 0.89 * 150  # 95% of 150, minus two and a half standard errors


def test_images_of_a_group_widen_the_interval():
    random = np.random.default_rng(1)
    is_anomaly = np.arange(60) < 20
    scores = random.normal(size=60) + is_anomaly
    groups = [f"g{number}" for number in range(60)]
    alone = measure_areas(is_anomaly, [scores], groups).interval(0)
    sixfold = measure_areas(np.repeat(is_anomaly, 6), [np.repeat(scores, 6)], np.repeat(groups, 6)).interval(0)
    blind = measure_areas(np.repeat(is_anomaly, 6), [np.repeat(scores, 6)]).interval(0)
    assert sixfold.high - sixfold.low == pytest.approx(alone.high - alone.low, rel=0.02)
    assert blind.high - blind.low < 0.6 * (alone.high - alone.low)


def test_newcombe_interval_published():
    """R. G. Newcombe 2006, part 2: the bounds are their own standard errors away; for a perfect separation it is not empty."""
    low, high = newcombe_auc_interval(0.9, 30, 40)
    for area in (low, high):
        spread = 1 + 34 * (1 - area) / (2 - area) + 34 * area / (1 + area)
        assert abs(0.9 - area) == pytest.approx(1.959964 * np.sqrt(area * (1 - area) * spread / 1200), rel=1e-6)
    assert newcombe_auc_interval(1.0, 50, 50)[1] == 1.0 and 0.9 < newcombe_auc_interval(1.0, 50, 50)[0] < 1


@pytest.mark.parametrize("images", [19, 50, 500])
def test_the_promise_of_a_threshold_is_kept(images):
    """Vovk 2012: over draws of the normal images the mean share above it is the one asked for, and each share is in its interval."""
    random, shares, inside = np.random.default_rng(2), [], 0
    for _ in range(400):
        promise = choose_threshold(random.exponential(size=images), 0.05)
        share = float(np.exp(-promise.threshold))
        found = random.binomial(300, share) / 300
        low, high = promise.predict_found(300)
        shares.append(share)
        inside += low <= found <= high
    assert np.mean(shares) == pytest.approx(promise.kept, abs=4 * np.std(shares) / 20) and promise.kept <= 0.05
    assert inside >= 0.93 * 400
    above = images + 1 - promise.rank
    assert (promise.low, promise.high) == pytest.approx(beta(above, promise.rank).ppf([0.025, 0.975]))


def test_too_few_normal_images_promise_nothing():
    assert choose_threshold(np.arange(18.0)).threshold == np.inf and choose_threshold(np.arange(19.0)).threshold == 18


def test_a_small_defect_is_found_by_the_largest_patch():
    """A scratch of 3x3 pixels on noise: it is lost in the mean, not in the patch; the map is highest at its place."""
    random = np.random.default_rng(3)
    images = random.normal(128, 25, (200, 28, 28, 1))
    masks = np.zeros((200, 28, 28), bool)
    for at in range(100):
        row, column = random.integers(0, 25, 2)
        masks[at, row : row + 3, column : column + 3] = True
    back = np.full_like(images, 128)
    images[masks] += 60
    is_anomaly = masks.any(axis=(1, 2))
    found, where = {}, {}
    for score in ("mean", "max_patch"):
        errors = map_errors(images, back, score)
        found[score] = roc_auc_score(is_anomaly, score_errors(errors, score))
        where[score] = judge_pixels(errors, masks)
    assert found["max_patch"] > 0.97 and found["mean"] < found["max_patch"] - 0.1
    assert where["max_patch"]["pixel_roc_auc"] > 0.95 and where["max_patch"]["pro"] > 0.9
    assert where["mean"]["pixel_roc_auc"] == pytest.approx(
        roc_auc_score(masks.ravel(), map_errors(images, back).ravel())
    )
    assert judge_pixels(masks.astype(float), masks) == pytest.approx({"pixel_roc_auc": 1.0, "pro": 1.0})


def test_each_region_counts_alike_in_pro():
    """Two defects, of 4 and 64 pixels; the map has only the large one: half of the regions."""
    masks = np.zeros((1, 20, 20), bool)
    masks[0, 0:2, 0:2] = masks[0, 8:16, 8:16] = True
    errors = np.zeros((1, 20, 20))
    errors[0, 8:16, 8:16] = 1
    # The small one is found only together with everything else: from there the curve is a line to 1 at all normal pixels.
    expected = (0.5 + np.interp(0.3, [0, 1], [0.5, 1])) / 2
    assert judge_pixels(errors, masks)["pro"] == pytest.approx(expected)


def test_baselines():
    images, labels = draw_digits()
    known, other = images[labels == 8][..., None], images[labels == 0][..., None]
    scores = Baselines(known[:100], 8).score(np.concatenate([known[100:], other]))
    flat = known.reshape(len(known), -1) / 255
    expected = np.square(flat[100:] - flat[:100].mean(axis=0)).mean(axis=1)
    np.testing.assert_allclose(scores["mean_image"][: len(known) - 100], expected, rtol=1e-5)
    is_anomaly = np.arange(len(scores["pca"])) >= len(known) - 100
    assert roc_auc_score(is_anomaly, scores["pca"]) > 0.85 < roc_auc_score(is_anomaly, scores["nearest_neighbours"])


# Data


def test_normal_images_are_split_as_if_there_were_no_others():
    images, labels = draw_digits()
    both = pbl.load_data(from_arrays(images, labels), normal=["8"])
    alone = pbl.load_data(from_arrays(images[labels == 8], np.zeros((labels == 8).sum(), int), ["8"]), normal=["8"])
    for split in ("train", "val", "test"):
        of = both.images(split).take(both.is_normal(split))
        assert of.hashes == alone.images(split).hashes
    assert both.is_normal("train").all() and sum(len(batch) for batch, _ in both.val) == both.is_normal("val").sum()
    anomalies = sum((~both.is_normal(split)).sum() for split in ("val", "test"))
    assert anomalies == (labels != 8).sum()  # none is lost


def save(folder, name: str, count: int, value: int) -> None:
    (folder / name).mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng([value, number]).integers(0, 40, (12, 12, 1)) + value
        Image.fromarray(pixels[..., 0].astype(np.uint8)).save(folder / name / f"{number}.png")


def test_folders_as_industry_has_them(tmp_path):
    """MVTec's: train has only good images, test has kinds of defects, and the masks are next to them."""
    save(tmp_path, "train/good", 30, 50)
    save(tmp_path, "test/good", 8, 50)
    save(tmp_path, "test/crack", 7, 150)
    (tmp_path / "ground_truth/crack").mkdir(parents=True)
    mask = np.zeros((12, 12), np.uint8)
    mask[:4] = 255
    for number in range(7):
        Image.fromarray(mask).save(tmp_path / f"ground_truth/crack/{number}_mask.png")
    data = pbl.load_data(tmp_path, normal=["good"])
    assert data.class_names == ["crack", "good"] and data.masks.name == "ground_truth"
    assert [len(data.images(split).labels) for split in ("train", "val", "test")] == [27, 3, 15]
    from pbl.data.masks import find_masks

    at, exact = find_masks(data, data.images("test"), ~data.is_normal("test"))
    assert len(at) == 7 and exact.shape == (7, 12, 12) and exact[:, :4].all() and not exact[:, 4:].any()
    with pytest.raises(InputError, match="class folder"):  # classification needs two
        pbl.load_data(tmp_path)


def test_images_and_masks_side_by_side(tmp_path):
    save(tmp_path, "images/free", 30, 50)
    save(tmp_path, "images/blowhole", 9, 150)
    save(tmp_path, "masks/blowhole", 9, 200)
    data = pbl.load_data(tmp_path, normal=["free"])
    assert data.class_names == ["blowhole", "free"] and data.masks == tmp_path / "masks"
    assert len(data.images("train").labels) + len(data.images("val").labels) + len(data.images("test").labels) == 39


# A run


def test_a_run_from_training_to_prediction(tmp_path, command):
    """Interrupted within an epoch and resumed bit for bit, judged against baselines, then every command opens the run."""
    CALLBACKS["cut"] = Cut
    config = pbl.Config(**SETTINGS, callbacks=["cut"])
    whole = pbl.train(config, folder=tmp_path / "whole")
    Cut.at = ("step", 1, 2)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    for one, other in zip(pbl.load_model(run).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    metrics = run.read_json("metrics_val.json")
    scores, is_normal = run.read_scores("val")
    assert metrics["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(~is_normal, scores))
    assert metrics["promise"]["threshold"] == np.sort(scores[is_normal])[metrics["promise"]["rank"] - 1]
    assert {kind["name"] for kind in metrics["kinds"]} == set("012345679")
    assert [of["name"] for of in metrics["baselines"]] == [
        "pca",
        "nearest_neighbours",
        "nearest_evened",
        "mean_image",
        "brightness",
    ]

    status, out, _ = command("evaluate", run.path, "--split", "test", "--json")
    tested = json.loads(out)
    assert status == 0 and tested["promise"]["threshold"] == metrics["promise"]["threshold"]
    status, out, _ = command("evaluate", run.path, "--split", "test", "--require", "roc_auc>0.2")
    assert status == 0 and "Area under the ROC curve" in out
    status, out, _ = command("evaluate", run.path)
    assert (
        status == 0 and "nearest neighbours" in out and "On average at most 5% of normal images are false alarms" in out
    )
    figures = {file.stem for file in (run.path / "figures").glob("*.png")}
    assert figures >= {"scores_test", "reconstructions_test", "roc_test", "kinds_test", "learning_curves"}

    images, labels = draw_digits()
    for number in (0, 8):
        Image.fromarray(images[labels == number][0]).save(tmp_path / f"{number}.png")
    words = ["predict", run.path, tmp_path / "0.png", tmp_path / "8.png"]
    status, out, _ = command(*words, "--maps", tmp_path / "maps", "--json")
    rows = json.loads(out)
    assert status == 0 and rows[0]["score"] > rows[1]["score"] and set(rows[0]) == {"file", "score", "above", "alarm"}
    assert sorted(file.name for file in (tmp_path / "maps").iterdir()) == ["0_map.png", "8_map.png"]
    assert command(*words)[0] == 0
    status, out, _ = command("diagnose", run.path)
    assert status == 0 and out
    assert command("inspect", run.path)[0] == 0
    codes = pd.read_csv(run.path / "figures" / "codes.csv", dtype={"class": str})
    assert set(codes["class"]) == set("0123456789") and codes["is_normal"].sum() == is_normal.sum()
    assert command("report", run.path)[0] == command("log", tmp_path)[0] == 0
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert f"{metrics['metrics']['roc_auc']:.4f}" in page


@pytest.mark.slow
def test_the_threshold_is_the_same_with_anomalies_in_the_folder_or_not(tmp_path):
    images, labels = draw_digits()
    of = labels == 8
    pbl.DATASETS["both"] = lambda: from_arrays(images, labels)
    pbl.DATASETS["alone"] = lambda: from_arrays(images[of], np.zeros(of.sum(), int), ["8"])
    found = {}
    for name in ("both", "alone"):
        run = pbl.train(pbl.Config(**SETTINGS).replace(dataset=name, experiment=name), folder=tmp_path)
        found[name] = run.read_json("metrics_val.json")
    assert found["both"]["promise"]["threshold"] == found["alone"]["promise"]["threshold"]
    assert found["alone"]["metrics"]["roc_auc"] is None and found["alone"]["headline"] == "false_alarms"
    assert diagnose_anomalies(found["alone"], pbl.Config(**SETTINGS)).findings[-1].name == "no_anomalies"


@pytest.mark.nightly
@pytest.mark.slow
def test_detectors_are_compared_by_their_areas(tmp_path, command):
    """Paired, over the images and, with three seeds, over these too; a run with another measure is refused."""
    small = pbl.Config(**SETTINGS).replace(epochs=1)
    runs = [
        pbl.train(small.replace(seed=seed, model=model, experiment=model, model_options={}), folder=tmp_path)
        for seed in range(3)
        for model in ("autoencoder", "conv_autoencoder")
    ]
    status, out, _ = command("compare", *(run.path for run in runs), "--out", tmp_path / "c", "--json")
    told = json.loads(out)
    areas = {run.config.model: [] for run in runs}
    for run in runs:
        scores, is_normal = run.read_scores("val")
        areas[run.config.model].append(roc_auc_score(~is_normal, scores))
    assert status == 0 and told["measure"] == "roc_auc"
    for row in told["architectures"]:
        assert (
            row["roc_auc"] == pytest.approx(np.mean(areas[row["architecture"]]))
            and row["low"] < row["roc_auc"] < row["high"]
        )
    (pair,) = told["pairs"]
    assert pair["difference"] == pytest.approx(np.mean(areas[pair["first"]]) - np.mean(areas[pair["second"]]))
    assert pair["low"] < pair["difference"] < pair["high"] and (tmp_path / "c" / "results.png").is_file()
    classifier = pbl.train(
        pbl.Config(dataset="digits", model="mlp", epochs=1, experiment="of_classes"), folder=tmp_path
    )
    status, _, said = command("compare", runs[0].path, classifier.path)
    assert status == 2 and "compare runs of one task" in said and said.count("\n") == 1
    with np.load(runs[0].path / "predictions_val.npz") as saved:
        arrays = dict(saved)
    whole = runs[0].read_json("metrics_val.json")
    np.savez(runs[0].path / "predictions_val.npz", **{**arrays, "values": np.zeros(len(arrays["values"]))})
    runs[0].write_json("metrics_val.json", {**whole, "metrics": {"roc_auc": 0.0}, "intervals": {"roc_auc": [0.0, 0.1]}})
    status, out, _ = command("compare", runs[0].path, runs[1].path, "--out", tmp_path / "c")
    assert status == 0 and "not compared" not in out  # getting everything wrong is a result too
    np.savez(runs[0].path / "predictions_val.npz", **arrays)
    for damage in (
        {"metrics": []},
        {"headline": None},
        {"metrics": {"roc_auc": None}},
        {"intervals": {"roc_auc": [1]}},
    ):
        runs[0].write_json("metrics_val.json", {**whole, **damage})
        status, out, _ = command("compare", runs[0].path, runs[1].path, "--out", tmp_path / "c")
        assert status == 0 and "1 run is not compared" in out, damage


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task_options": {}}, "needs the classes that are normal"),
        ({"task_options": {"normal": ["eight"]}}, "'eight' is not a class"),
        ({"task_options": {"normal": "8", "score": "max"}}, "Valid: mean, max_patch"),
        ({"task_options": {"normal": "8", "false_alarms": 5}}, "above 0 and below 0.5"),
        ({"task_options": {"normal": "8", "normel": "9"}}, "Did you mean 'normal'"),
        ({"model": "resnet20", "model_options": {}}, "model=autoencoder, conv_autoencoder, vae"),
        ({"task": "classification", "task_options": {}}, "autoencoder learns task=anomaly"),
    ],
    ids=str,
)
def test_wrong_settings_are_told_in_one_line(tmp_path, values, said):
    with pytest.raises(InputError, match=said):
        pbl.train(pbl.Config(**{**SETTINGS, **values}), folder=tmp_path)
    assert not list(tmp_path.iterdir())


# The diagnosis of planted detectors


class Planted(keras.Model):
    """Returns what `back` computes from the pixels."""

    def __init__(self, back):
        super().__init__()
        self.back = back

    def call(self, images):
        return keras.ops.convert_to_tensor(self.back(np.asarray(images)))


def judge_planted(back, data, findings=()) -> tuple[dict, str]:
    from pbl.tasks.task import Question

    config = pbl.Config(**SETTINGS)
    task = find_task(config)
    model = Planted(back)
    model.run_eagerly = True
    model.compile(run_eagerly=True)
    question = Question("x", "val", is_validation=True, options=task.options, findings=findings, all_figures=False)
    metrics = task.judge(model, data, data.images("val"), question).metrics
    return metrics, diagnose_anomalies(json.loads(json.dumps(metrics)), config).headline.name


@pytest.fixture(scope="module")
def eights():
    return pbl.load_data("digits", normal=["8"], validation_fraction=0.5)


def test_planted_detectors_get_their_names(eights):
    mean = eights.images("train").pixels.mean(axis=0)
    known = eights.images("train").pixels.astype(np.float32)

    def nearest(images):  # what a network that memorised its training images returns
        flat = images.reshape(len(images), -1).astype(np.float32)
        distances = ((flat[:, None] - known.reshape(1, len(known), -1)) ** 2).sum(axis=2)
        return known[distances.argmin(axis=1)]

    planted = {
        "reconstructs_nothing": lambda images: np.broadcast_to(mean, images.shape).astype(np.float32),
        "reconstructs_everything": lambda images: images.astype(np.float32) + 1,
        "overfits_normal_images": nearest,
    }
    for name, back in planted.items():
        assert judge_planted(back, eights)[1] == name
    leak = {"check": "altered_copies", "severity": "stop", "items": ["a", "b"], "details": {}}
    metrics, name = judge_planted(nearest, eights, [leak])
    assert name == "leak_suspected" and metrics["leak"]["items"] == 2


def test_sentences_are_true_of_their_numbers(eights):
    metrics, _ = judge_planted(lambda images: images.astype(np.float32) * 0.9, eights)
    for finding in diagnose_anomalies(metrics, pbl.Config(**SETTINGS)).findings:
        assert finding.message and finding.severity in ("stop", "act", "note")


def planted_metrics(**changes) -> dict:
    """`metrics_val.json` of a detector in which nothing is wrong, except what is planted."""
    sound = {
        "images": 200, "normal_images": 100, "metrics": {"roc_auc": 0.9}, "intervals": {"roc_auc": [0.85, 0.94]},
        "kinds": [{"name": "crack", "images": 50, "roc_auc": 0.9, "low": 0.8, "high": 0.95}], "leak": None,
        "difference": {"baseline": "pca", "value": 0.1, "low": 0.05, "high": 0.15},
        "promise": {"threshold": 0.1, "asked": 0.05, "low": 0.02, "high": 0.1, "images": 100},
        "reconstruction": {"train": 0.01, "normal": 0.01, "kept_normal": 0.8, "kept_anomalies": 0.5, "p_above_train": 0.4, "contrast": {"crack": 0.2}},
    }  # fmt: skip
    return {**sound, **changes}


SLIGHTLY = {"train": 0.0, "normal": 0.01, "kept_normal": -0.2, "p_above_train": 1e-9, "contrast": {}}
DIFFERENCE = {"baseline": "pca", "value": 0.03, "low": -0.01, "high": 0.07}


@pytest.mark.parametrize(
    ("changes", "said", "unsaid"),
    [
        ({}, "Anomalies are distinguished from normal images: AUROC 0.900 (95% interval 0.850 to 0.940), +0.100 compared with PCA", "not certain"),
        ({"intervals": {"roc_auc": [0.42, 0.7]}, "metrics": {"roc_auc": 0.55}}, "it is not certain that anomalies are distinguished", "Anomalies are distinguished"),
        ({"intervals": {}, "difference": {**DIFFERENCE, "value": -0.0, "low": None}}, "+0.000 compared with PCA", "95% interval"),
        ({"leak": {"check": "altered_copies_in_train", "items": 40}}, "Training images that look like altered copies of others: at least 40", "Validation images"),
        ({"leak": {"check": "copies_across", "items": 3}}, "Validation images that are in training too: 3", "altered"),
        ({"leak": {"items": 3}}, "look like altered copies of training images: 3", "Training images that"),  # of an earlier version
        # Better by 0.03, which may be chance.
        ({"difference": DIFFERENCE}, "not clearly better than PCA, the best of five baselines: its AUROC is 0.900, a difference of +0.030", "no better"),
        ({"reconstruction": SLIGHTLY}, "no better than by their mean image", "little better"),
        ({"reconstruction": {**SLIGHTLY, "kept_normal": 0.8}}, "mean score of 0.01, those that were trained on 0:", "times"),
        ({"reconstruction": {**SLIGHTLY, "kept_normal": 0.999, "kept_anomalies": 0.951}}, "95.1% of their difference", "as well as"),
        ({"kinds": [{"name": str(at), "images": 9, "roc_auc": 0.3, "low": 0.1, "high": 0.6} for at in range(8)], "reconstruction": {"train": 0.1, "contrast": dict.fromkeys(map(str, range(8)), 0.1)}}, "5 (0.30, 0.10-0.60), ...; in brackets", "6 (0.30"),
        ({"metrics": {"roc_auc": None}, "difference": None, "kinds": [], "normal_images": 200}, "only false alarms can be evaluated. To see", "Anomalies are distinguished"),
    ],
)  # fmt: skip
def test_what_is_said_is_true_at_the_edges(changes, said, unsaid):
    messages = [
        finding.message for finding in diagnose_anomalies(planted_metrics(**changes), pbl.Config(**SETTINGS)).findings
    ]
    (message,) = (message for message in messages if said in message)
    assert unsaid not in message


@pytest.mark.parametrize("asked", [0.3, 0.25, 0.1, 0.07, 0.05, 0.01, 0.003, 0.0004])
def test_as_many_normal_images_as_are_said_to_be_needed_give_a_threshold(asked):
    promise = {"threshold": None, "asked": asked, "low": 0.0, "high": 0.0, "images": 1}
    finding = diagnose_anomalies(planted_metrics(promise=promise), pbl.Config(**SETTINGS)).headline
    needed = finding.details["needed"]
    assert choose_threshold(np.arange(needed, dtype=float), asked).threshold < np.inf
    assert choose_threshold(np.arange(needed - 1, dtype=float), asked).threshold == np.inf
    assert f"To promise {100 * asked:g}% false alarms" in finding.message


def test_nothing_is_advised_that_the_run_has_or_its_model_cannot():
    """An own model has no code to make smaller; a patch was already used; a code of one number is the smallest."""

    def advised(difference, kept, options, **task_options) -> dict[str, dict]:
        metrics = planted_metrics(
            difference=difference, reconstruction={**SLIGHTLY, "kept_normal": kept, "kept_anomalies": kept}
        )
        config = pbl.Config(**{**SETTINGS, "task_options": {"normal": "8", **task_options}})
        return {of.name: of.settings for of in diagnose_anomalies(metrics, config, options=options).experiments}

    everything = (None, 0.99)
    assert advised(*everything, {"code_size": 8, "noise": 0.0}) == {"smaller_code": {"model_options.code_size": 2}, "denoise": {"model_options.noise": 0.2}}  # fmt: skip
    assert advised(*everything, {}) == advised(*everything, {"code_size": 1, "noise": 0.3}) == {}
    sound = {"baseline": "pca", "value": -0.1, "low": -0.2, "high": -0.05}
    with_patch = planted_metrics(difference=sound)
    for score, names in (("mean", ["simple", "patch"]), ("max_patch", ["simple"])):
        config = pbl.Config(**{**SETTINGS, "task_options": {"normal": "8", "score": score}})
        assert [of.name for of in diagnose_anomalies(with_patch, config).experiments] == names


def test_a_perfect_detector_on_groups_has_no_interval_and_is_shown(capsys):
    """With AUROC 1 no group's absence changes anything: nothing is known about other images, and the table has a gap."""
    from pbl.cli.evaluation import _show_anomalies

    of = planted_metrics(metrics={"roc_auc": 1.0, "average_precision": 1.0, "false_alarms": 0.0}, intervals={})
    of["baselines"] = [{"name": "pca", "roc_auc": 1.0, "low": None, "high": None}]
    of["promise"] |= {"expected_low": 0.01, "expected_high": 0.09, "is_kept": False}
    _show_anomalies(of)
    shown = " ".join(capsys.readouterr().out.split())
    assert "this network" in shown and "were expected: fewer than that" in shown


def test_models_are_saved_and_scored_alike(tmp_path):
    """Each autoencoder gives the same after it is read back from the disk; its loss falls."""
    images, labels = draw_digits()
    pixels = images[labels == 8][..., None]
    for name in ("autoencoder", "conv_autoencoder", "vae"):
        keras.utils.set_random_seed(0)
        model = pbl.models.build(name, (8, 8, 1), 2, code_size=4)
        model.compile(optimizer=keras.optimizers.Adam(0.01))
        history = model.fit(pixels, np.zeros(len(pixels)), epochs=3, verbose=0).history
        assert history["loss"][-1] < history["loss"][0]
        model.save(tmp_path / f"{name}.keras")
        again = keras.models.load_model(tmp_path / f"{name}.keras")
        outputs = model.predict(pixels, verbose=0)
        np.testing.assert_array_equal(again.predict(pixels, verbose=0), outputs)
        assert outputs.dtype == np.float32 and outputs.min() >= 0 and outputs.max() <= 255


def test_vae_loss_is_what_the_paper_writes():
    """Kingma and Welling 2013, appendices B and C, computed with NumPy."""
    model = pbl.models.build("vae", (4, 4, 1), 1, code_size=3, widths=[8])
    model.compile(optimizer="sgd")
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1)).astype(np.uint8)
    parts = keras.Model(
        model.inputs, [model.get_layer("mean").output, model.get_layer("log_variance").output, model.outputs[0]]
    )
    mean, log_variance, back = (np.asarray(part, np.float64) for part in parts(images, training=False))
    x, p = images / 255.0, np.clip(back / 255, 1e-7, 1 - 1e-7)
    nats = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=(1, 2, 3))
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
    assert model.evaluate(images, np.zeros(5), verbose=0) == pytest.approx((nats + divergence).mean(), rel=1e-5)


def test_what_means_nothing_here_is_not_said(tmp_path):
    """With several normal classes the data doctor could say which accuracy can be reached: here there is none."""
    config = pbl.Config(**SETTINGS).replace(task_options={"normal": ["3", "8"]}, epochs=1)
    run = pbl.train(config, folder=tmp_path)
    found = {finding["check"] for finding in run.read_json("data_check.json")["findings"]}
    assert not found & {"reference_accuracy", "small_validation"}


# Groups that the names do not show


def test_look_alikes_stay_on_one_side(tmp_path):
    """Forty places with six exposures each, and single images among them. No place is on both sides of the split."""
    random, places = np.random.default_rng(0), {}
    for number in range(40):
        smooth = random.normal(size=(6, 6))
        picture = np.kron(smooth, np.ones((4, 4)))
        for exposure in range(6):
            image = np.clip(128 + 40 * picture * random.uniform(0.5, 1.2) + random.normal(0, 2, picture.shape), 0, 255)
            places[f"{number}_{exposure}"] = image.astype(np.uint8)
    order = random.permutation(list(places))
    images, labels = np.stack([places[name] for name in order]), np.arange(240) % 2
    data = pbl.load_data(from_arrays(images, labels), groups="look_alike")
    sides: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        for name in data.images(split).names:
            sides.setdefault(order[int(name.rpartition("/")[2])].partition("_")[0], set()).add(split)
    assert len(sides) == 40 and all(len(of) == 1 for of in sides.values())
    with pytest.raises(InputError, match="into one group: they differ too little"):
        step = np.linspace(0, 1, 240)[:, None, None]  # each a little nearer to another picture
        film = ((1 - step) * images[:1] + step * images[1:2]).astype(np.uint8)
        pbl.load_data(from_arrays(film, labels), groups="look_alike")


def test_groups_from_a_table(tmp_path):
    images, labels = draw_digits()
    table = tmp_path / "groups.csv"
    table.write_text("name,group\n" + "".join(f"train/{at},g{at // 10}\n" for at in range(len(images))))
    data = pbl.load_data(from_arrays(images, labels), groups=str(table))
    sides: dict[int, set[str]] = {}
    for split in ("train", "val", "test"):
        for name in data.images(split).names:
            sides.setdefault(int(name.rpartition("/")[2]) // 10, set()).add(split)
    assert all(len(of) == 1 for of in sides.values())
    rest = "".join(f"train/{at},b\n" for at in range(1, len(images)))
    for rows, said in (
        (
            "train/0,a\n",
            f"does not contain the image train/1; {len(images) - 1} of {len(images)} images are missing",
        ),
        (f"train/0,a\ntrain/0,b\n{rest}", "names the image train/0 more than once"),
        (f"train/0,\n{rest}", "gives no group for the image train/0"),
    ):
        table.write_text(f"name,group\n{rows}")
        with pytest.raises(InputError, match=said):
            pbl.load_data(from_arrays(images, labels), groups=str(table))
    with pytest.raises(InputError, match="columns name and group"):
        pbl.load_data(from_arrays(images, labels), groups=str(tmp_path / "none.csv"))


@pytest.mark.parametrize("planted", [0, 30], ids=["clean", "planted"])
def test_anomalies_among_the_training_images_are_named(planted):
    """Thirty other digits among the eights, called eights: most of the first ten images that the report names are these."""
    images, labels = draw_digits()
    others = np.flatnonzero(labels != 8)
    called = labels.copy()
    called[others[::37][:planted]] = 8
    data = pbl.load_data(from_arrays(images, called), normal=["8"])
    metrics, _ = judge_planted(lambda images: images.astype(np.float32) * 0.9, data)
    found = {finding.name for finding in diagnose_anomalies(metrics, pbl.Config(**SETTINGS)).findings}
    assert ("contaminated_training" in found) == bool(planted)
    wrong = {f"train/{at}" for at in others[::37][:planted]} & set(data.images("train").names)
    if planted:
        assert len(wrong & set(metrics["contamination"]["names"][:10])) >= 7
        share = len(wrong) / len(data.images("train").labels)
        assert metrics["contamination"]["low"] <= share <= metrics["contamination"]["high"]


def test_the_report_names_the_method_of_each_interval():
    """Newcombe's for an AUROC without groups; with groups, and for average precision, the jackknife: by hand, on the logit scale."""
    random = np.random.default_rng(5)
    is_anomaly, scores = np.arange(40) % 2 == 1, random.normal(size=40) + np.arange(40) % 2
    groups = [f"g{at // 4}" for at in range(40)]

    def leave_out(score, of):
        parts = np.unique(of)
        logit = np.array(
            [
                np.log((1600 * v + 0.5) / (1600 - 1600 * v + 0.5))
                for v in [score(is_anomaly, scores), *(score(is_anomaly[of != g], scores[of != g]) for g in parts)]
            ]
        )
        g, without = len(parts), logit[1:]
        centre = g * logit[0] - (g - 1) * without.mean()
        reach = stats.t.ppf(0.975, g - 1) * np.sqrt((g - 1) / g * ((without - without.mean()) ** 2).sum())
        return (1601 / (1 + np.exp(-np.array([centre - reach, centre + reach]))) - 0.5) / 1600

    alone, grouped = (measure_areas(is_anomaly, [scores], of) for of in (None, groups))
    assert alone.interval(0)[1:] == pytest.approx(newcombe_auc_interval(roc_auc_score(is_anomaly, scores), 20, 20))
    assert grouped.interval(0)[1:] == pytest.approx(leave_out(roc_auc_score, np.array(groups)))
    assert alone.interval(0, 1)[1:] == pytest.approx(leave_out(average_precision_score, np.arange(40)))
    told = INTERVALS["anomaly"].split(". ")
    assert "ROC curve is Newcombe's; with groups" in told[0] and "(jackknife)" in told[0]
    assert "average precision comes from leaving out" in told[1] and "Wilson's" in told[2] and len(told) == 3
    assert set(INTERVALS) == {"classification", "anomaly", "contrast", "segmentation", "detection", "generation"}
