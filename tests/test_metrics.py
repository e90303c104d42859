import json
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from pbl.errors import InputError
from pbl.evaluation.calibration import apply_temperature, compute_calibration_error, find_bins, fit_temperature
from pbl.evaluation.figures import draw, plot_confusion_matrix, plot_one_against_rest
from pbl.evaluation.metrics import (
    Ranking,
    _judge_samples,
    add_what_validation_chose,
    compute_jackknife_intervals,
    compute_metrics,
    find_metric,
    rank_worst,
)
from pbl.evaluation.thresholds import (
    choose_threshold,
    describe_aim,
    judge_threshold,
    parse_aim,
    resample_threshold,
    tabulate_thresholds,
    write_threshold,
)
from pbl.grading.judge import score
from pbl.reports.run_report import MOST_BYTES
from pbl.statistics import wilson_interval


def one_hot(predicted, classes: int, confidence: float = 0.9) -> np.ndarray:
    off = (1 - confidence) / (classes - 1)
    return np.where(np.arange(classes) == np.asarray(predicted)[:, None], confidence, off).astype(np.float32)


def test_the_table_of_the_course():
    """TP 89, FN 16, FP 4, TN 91."""
    labels = np.repeat([1, 1, 0, 0], [89, 16, 4, 91])
    predicted = np.repeat([1, 0, 1, 0], [89, 16, 4, 91])
    result = compute_metrics(labels, one_hot(predicted, 2), ["no", "yes"], positive_class="yes")
    shown = [
        f"{value:.3f}"
        for value in (result["accuracy"], *(result["positive"][k] for k in ("recall", "precision", "f1")))
    ]
    assert shown == ["0.900", "0.848", "0.957", "0.899"]
    assert result["confusion_matrix"] == [[91, 4], [16, 89]]  # rows true, columns predicted
    assert result["accuracy_interval"] == list(wilson_interval(180, 200))
    assert compute_metrics(labels, one_hot(predicted, 2), ["no", "yes"])["positive"]["class"] == "yes"
    assert compute_metrics(labels, one_hot(predicted, 2), ["no", "yes"], "no")["positive"]["recall"] == 91 / 95


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["random", "ties", "all equal", "a class is absent", "all right"])
@pytest.mark.parametrize(("n", "classes"), [(2, 2), (3, 5), (200, 2), (200, 3), (500, 12)])
@pytest.mark.filterwarnings("ignore:.*")  # scikit-learn's warnings about absent classes
def test_equal_to_scikit_learn(seed, kind, n, classes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes - (kind == "a class is absent"), n)
    probabilities = random.dirichlet(np.ones(classes), n)
    if kind == "ties":
        probabilities = random.integers(1, 4, (n, classes)).astype(float)
    if kind == "all equal":
        probabilities = np.ones((n, classes))
    if kind == "all right":
        probabilities = one_hot(labels, classes)
    probabilities = (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)
    result = compute_metrics(labels, probabilities, [str(c) for c in range(classes)])
    predicted, every = probabilities.argmax(axis=1), np.arange(classes)
    given = {"labels": every, "zero_division": 0}
    for key, function in (
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
        ("f1", sk.f1_score),
    ):
        for average in ("macro", "micro", "weighted"):
            assert result[average][key] == pytest.approx(function(labels, predicted, average=average, zero_division=0))
        by_class = function(labels, predicted, average=None, **given)
        for c in range(classes):
            value = result["by_class"][str(c)][key]
            assert value == pytest.approx(by_class[c]) or (value is None and by_class[c] == 0)
    areas = {"roc_auc": sk.roc_auc_score, "average_precision": sk.average_precision_score}
    for name, function in areas.items():
        known = [c for c in every if 0 < (labels == c).sum() < n]
        expected = [function(labels == c, probabilities[:, c]) for c in known]
        assert [result["by_class"][str(c)][name] for c in known] == pytest.approx(expected)
        assert result[name] == (pytest.approx(np.mean(expected)) if known else None)
    assert result["accuracy"] == sk.accuracy_score(labels, predicted)
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert result["log_loss"] == pytest.approx(sk.log_loss(labels, probabilities, labels=every))
    one_by_one = [sk.brier_score_loss((labels == c).astype(int), probabilities[:, c], pos_label=1) for c in every]
    assert result["brier"] == pytest.approx(sum(one_by_one), abs=1e-6)
    for k, value in result["top_k_accuracy"].items():
        if kind == "random":  # with equal probabilities scikit-learn takes the last class, and is below the accuracy
            assert value == sk.top_k_accuracy_score(labels, probabilities, k=int(k), labels=every)
        first = np.argsort(-probabilities, axis=1, kind="stable")[:, : int(k)]
        assert value == pytest.approx((first == labels[:, None]).any(axis=1).mean()) and value >= result["accuracy"]
    assert result["confusion_matrix"] == sk.confusion_matrix(labels, predicted, labels=every).tolist()
    normalised = sk.confusion_matrix(labels, predicted, labels=every, normalize="true")
    rows = [row or [0] * classes for row in result["confusion_matrix_normalised"]]
    assert np.allclose(rows, normalised)
    json.dumps(result, allow_nan=False)


def test_a_bootstrap_sample_of_each_image_once_gives_the_metrics_themselves():
    random = np.random.default_rng(0)
    is_positive, scores = random.random(400) < 0.3, random.random(400).round(1)
    area, average = Ranking(is_positive, scores).areas(np.ones((1, 400)))
    assert area == pytest.approx([sk.roc_auc_score(is_positive, scores)])
    assert average == pytest.approx([sk.average_precision_score(is_positive, scores)])
    twice = np.repeat(np.arange(400), 1 + (np.arange(400) % 2))
    area, average = Ranking(is_positive, scores).areas(1.0 + (np.arange(400) % 2)[None])
    assert area == pytest.approx([sk.roc_auc_score(is_positive[twice], scores[twice])])
    assert average == pytest.approx([sk.average_precision_score(is_positive[twice], scores[twice])])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_every_log_loss_has_one_floor(kind):
    """By hand: 992 images cost ln(8/7) each, and 8 that are surely wrong 23 ln 2, since float32's smallest step is 2^-23. The grading and the
    jackknife compute from the same costs."""
    labels, probabilities = np.arange(1000) % 2, np.full((1000, 2), 0.125, kind)
    probabilities[np.arange(1000), labels] = 0.875
    probabilities[:8] = one_hot(1 - labels[:8], 2, 1.0)
    cost = np.where(np.arange(1000) < 8, 23 * math.log(2), math.log(8 / 7))
    own = compute_metrics(labels, probabilities, ["a", "b"])
    assert own["log_loss"] == pytest.approx((992 * math.log(8 / 7) + 8 * 23 * math.log(2)) / 1000, rel=1e-12)
    add_what_validation_chose(own, labels, probabilities, 1.0)
    assert own["calibration"]["log_loss_after"] == own["log_loss"]
    assert own["calibration"]["ece_after"] == own["calibration"]["ece"]
    graded = score(probabilities.astype(np.float32), labels, ["a", "b"], has_probabilities=True)
    assert graded.metrics["log_loss"] == own["log_loss"]
    groups = [math.log(cost[np.random.default_rng(0).permutation(1000) % 100 != g].mean()) for g in range(100)]
    centre, reach = 100 * math.log(cost.mean()) - 99 * np.mean(groups), 1.96 * np.sqrt(99 * np.var(groups))
    assert own["intervals"]["log_loss"] == pytest.approx(np.exp([centre - reach, centre + reach]))


def test_the_grader_gives_the_students_own_log_loss():
    """Also where rows do not sum to exactly 1, as those of a network in a short type, and some probabilities are 0 or below the floor."""
    random = np.random.default_rng(3)
    labels, probabilities = random.integers(0, 5, 400), random.dirichlet(np.full(5, 0.02), 400).astype(np.float16)
    given = probabilities.astype(np.float32)
    own = compute_metrics(labels, given, list("abcde"))
    assert own["log_loss"] > 8 and abs(given.sum(axis=1) - 1).max() > 1e-4
    assert score(given, labels, list("abcde"), True).metrics["log_loss"] == pytest.approx(own["log_loss"], rel=1e-12)


def test_intervals_are_the_jackknifes():
    """By hand, image by image, with scikit-learn's metrics (Efron and Tibshirani 1993, equations 11.5 and 11.8)."""
    random = np.random.default_rng(0)
    n, classes = 60, 3
    probabilities = random.dirichlet(np.ones(classes), n)
    labels = (probabilities.cumsum(axis=1) > random.random((n, 1))).argmax(axis=1)

    def area(y, p):
        return np.mean([sk.average_precision_score(y == c, p[:, c]) for c in range(classes)])

    functions = {
        "macro.f1": (lambda y, p: sk.f1_score(y, p.argmax(axis=1), average="macro"), 2 / n),
        "average_precision": (area, 0.5 / n**2),
        "log_loss": (lambda y, p: sk.log_loss(y, p, labels=range(classes)), None),
    }
    intervals = compute_jackknife_intervals(labels, probabilities)
    for name, (function, added) in functions.items():
        to_scale = (lambda v, added=added: np.log((v + added) / (1 - v + added))) if added else np.log
        whole = to_scale(function(labels, probabilities))
        without = np.array([to_scale(function(np.delete(labels, i), np.delete(probabilities, i, 0))) for i in range(n)])
        centre = n * whole - (n - 1) * without.mean()
        error = np.sqrt((n - 1) * without.var())
        assert to_scale(np.array(intervals[name])) == pytest.approx([centre - 1.96 * error, centre + 1.96 * error])


@pytest.mark.parametrize(("classes", "accuracy"), [(10, 0.8), (3, 0.9)])
def test_intervals_cover(classes, accuracy):
    """In 100 samples of 100 images about 95% of each metric's intervals contain the true value, and all contain the measured one."""
    random, n, many = np.random.default_rng(1), 100, 100_000
    lead = {10: 2.45, 3: 2.25}[classes]
    labels, scores = random.integers(0, classes, many), random.normal(size=(many, classes))
    scores[np.arange(many), labels] += lead
    probabilities = np.exp(1.3 * lead * scores)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(accuracy, abs=0.02)
    every = _judge_samples(labels, probabilities, np.ones((1, many)))
    held, told = Counter(), Counter()
    for at in random.integers(0, many, (100, n)):
        measured = _judge_samples(labels[at], probabilities[at], np.ones((1, n)))
        for name, (low, high) in compute_jackknife_intervals(labels[at], probabilities[at]).items():
            assert low <= measured[name][0] <= high
            held[name] += low <= every[name][0] <= high
            told[name] += 1
    assert len(held) == 9 and all(held[name] / told[name] >= 0.88 for name in held), held


def test_no_interval_where_nothing_can_be_known():
    """Images that are all classified correctly, or a single image, say nothing about others; one mistake among many keeps the interval short."""
    labels = np.arange(100) % 4
    assert not {"macro.f1", "balanced_accuracy", "roc_auc"} & set(
        compute_jackknife_intervals(labels, one_hot(labels, 4))
    )
    assert compute_jackknife_intervals(labels[:1], one_hot(labels[:1], 4)) == {}
    predicted = np.where(np.arange(100) == 0, 1, labels)
    low, high = compute_jackknife_intervals(labels, one_hot(predicted, 4))["balanced_accuracy"]
    assert 0.93 < low < 0.99 < high <= 1  # Wilson's of 99 in 100: .946 to .998


def test_calibration():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 3000).round(3)
    correct = random.random(3000) < confidence
    ece, calibrated, high = compute_calibration_error(confidence, correct)
    assert 0 < calibrated < high and ece < high  # it is calibrated
    truth, said = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    counts = np.bincount(find_bins(confidence))
    assert ece == pytest.approx((counts * abs(truth - said)).sum() / 3000)
    assert compute_calibration_error(confidence, random.random(3000) < confidence - 0.1)[0] > 3 * high
    assert compute_calibration_error(np.full(10, 0.7), np.arange(10) < 7)[0] == pytest.approx(
        0
    )  # equal ones share a bin

    # A model that multiplies its logits by 2.5, or by 8, is corrected by that temperature, also in float32, in which many are 0 or 1.
    logits = random.normal(size=(20_000, 4)) * 2
    honest = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (honest.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    sure = apply_temperature(honest, 1 / 2.5)
    temperature = fit_temperature(labels, sure)
    assert temperature == pytest.approx(2.5, rel=0.05)
    assert apply_temperature(sure, 2.5) == pytest.approx(honest, abs=1e-6)
    surer = apply_temperature(honest[:4000], 1 / 8).astype(np.float32)
    assert (surer < np.finfo(np.float32).eps).mean() > 0.3
    assert fit_temperature(labels[:4000], surer) == pytest.approx(8, rel=0.1)
    assert apply_temperature(surer, 8) == pytest.approx(honest[:4000], abs=1e-4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("wrong", [0, 1, 10, 40])
def test_a_temperature_only_where_one_is_best(wrong, kind):
    """Of 40 images that say .6, `wrong` are wrong. By hand: the loss is lowest where .6 becomes the share p that is right, so T is
    ln(.6/.4) / ln(p / (1 - p)); that is 0 without a mistake, and below 0 if all are wrong: no temperature."""
    labels = (np.arange(40) < wrong).astype(int)
    probabilities = np.tile(np.array([0.6, 0.4], kind), (40, 1))
    right = (40 - wrong) / 40
    wanted = math.log(0.6 / 0.4) / math.log(right / (1 - right)) if wrong in (1, 10) else 1.0
    found = fit_temperature(labels, probabilities)
    assert found == pytest.approx(wanted, rel=1e-3) and (found == 1) == (wrong in (0, 40))
    assert apply_temperature(probabilities, found)[0, 0] == pytest.approx(right if found != 1 else 0.6, abs=1e-3)
    assert fit_temperature(labels, np.full((40, 2), 0.5, kind)) == 1  # each temperature is as good
    saturated = one_hot(labels, 2, 1.0).astype(kind)
    assert fit_temperature(labels, saturated) == 1


@pytest.mark.parametrize("aim", ["f1", "youden", "recall>=0.9", "precision>=0.8", "cost=1:5", "cost=1:0"])
def test_the_threshold_is_the_best_of_all(aim):
    random = np.random.default_rng(2)
    is_positive = random.random(300) < 0.4
    scores = np.clip(random.normal(0.4 + 0.2 * is_positive, 0.15), 0, 1).round(2)
    parsed = parse_aim(aim)
    assert describe_aim(parsed) == aim
    chosen = choose_threshold(is_positive, scores, parsed)

    def worth(threshold: float) -> float:
        of = judge_threshold(is_positive, scores, threshold, parsed)
        if parsed.kind in ("recall", "precision"):
            other = of["precision" if parsed.kind == "recall" else "recall"]
            return other if (of[parsed.kind] or 0) >= parsed.least and of["precision"] else -1
        return -of["cost"] if parsed.kind == "cost" else of[parsed.kind]

    assert worth(chosen) == pytest.approx(max(worth(at) for at in np.linspace(0, 1.01, 500)))
    called = scores >= chosen
    of = judge_threshold(is_positive, scores, chosen, parsed)
    assert of["f1"] == pytest.approx(sk.f1_score(is_positive, called))
    assert of["accuracy"] == pytest.approx(sk.accuracy_score(is_positive, called))
    low, high = resample_threshold(is_positive, scores, parsed, 50)
    assert low <= high
    table = tabulate_thresholds(is_positive, scores)
    precision, recall, _ = sk.precision_recall_curve(is_positive, scores)
    assert table["recall"][::-1].tolist() == pytest.approx(recall.tolist())
    assert table["precision"][::-1].tolist() == pytest.approx(precision.tolist())


def test_a_threshold_above_all_scores_calls_nothing_positive():
    """A score in float32 can be 1: then half way between it and 1 is 1."""
    scores = np.array([1.0, 1.0, 0.9, 0.4, 0.2], np.float32)
    is_positive = np.array([False, True, False, True, False])
    aim = parse_aim("cost=50:1")
    chosen = choose_threshold(is_positive, scores, aim)
    assert judge_threshold(is_positive, scores, chosen, aim)["cost"] == pytest.approx(0.4)
    assert not (scores >= chosen).any()  # in float32 too


@pytest.mark.parametrize("aim", ["f1", "youden", "recall>=0.9", "precision>=0.9", "cost=1:5", "cost=50:1"])
def test_no_threshold_is_better_than_the_chosen_one(aim):
    """500 small cases against every set of images that a threshold can call positive, some scores saturated or neighbours."""
    random, parsed = np.random.default_rng(3), parse_aim(aim)
    for case in range(500):
        n = int(random.integers(2, 12))
        is_positive = random.random(n) < 0.5
        scores = random.random(n).astype(np.float32)
        if case % 3 == 1:
            scores = np.round(4 * scores) / 4  # 0 and 1 among them, and ties
        if case % 3 == 2:
            scores = np.nextafter(scores[0], np.float32(1)) * (scores > 0.5) + scores[0] * (scores <= 0.5)
        chosen, total = choose_threshold(is_positive, scores, parsed), int(is_positive.sum())
        if total in (0, n):
            assert chosen is None
            continue

        def worth(called, is_positive=is_positive, total=total, n=n):
            found, false = int((called & is_positive).sum()), int((called & ~is_positive).sum())
            recall, precision = found / total, found / max(found + false, 1)
            if parsed.kind in ("recall", "precision"):
                mine, other = (recall, precision) if parsed.kind == "recall" else (precision, recall)
                return other if mine >= parsed.least and found else None
            if parsed.kind == "cost":
                return -(parsed.false_positive * false + parsed.false_negative * (total - found))
            return 2 * found / (found + false + total) if parsed.kind == "f1" else recall - false / (n - total)

        cuts = [scores >= score for score in scores] + [np.zeros(n, bool)]
        best = max((value for value in map(worth, cuts) if value is not None), default=None)
        if best is None:
            assert chosen is None
            continue
        for called in (scores >= chosen, scores.astype(np.float64) >= chosen):
            assert worth(called) == pytest.approx(best)


def test_a_threshold_that_cannot_be():
    assert choose_threshold(np.ones(5, bool), np.linspace(0, 1, 5)) is None
    assert choose_threshold(np.array([True, False]), np.array([0.2, 0.9]), parse_aim("precision>=0.9")) is None
    for text in ("", "accuracy", "recall>=", "recall>=2", "cost=0:0", "cost=1", "f2"):
        with pytest.raises(InputError, match="Valid: f1, youden"):
            parse_aim(text)


def test_what_has_no_denominator_is_said_to_be_undefined():
    result = compute_metrics([0, 0, 1], one_hot([0, 0, 0], 3), ["a", "b", "c"])
    of = {"b": (None, 0.0, 0.0, 1), "c": (None, None, None, 0)}
    assert {
        name: tuple(result["by_class"][name][k] for k in ("precision", "recall", "f1", "images")) for name in of
    } == of
    assert result["by_class"]["c"]["roc_auc"] is None and result["confusion_matrix_normalised"][2] is None
    assert result["macro"]["recall"] == 0.5  # over the two classes that occur
    assert find_metric(result, "by_class.a.recall") == 1.0
    with pytest.raises(InputError, match="undefined"):
        find_metric(result, "by_class.b.precision")
    with pytest.raises(InputError, match=r"Did you mean 'macro.f1'"):
        find_metric(result, "macrof1")


@pytest.mark.parametrize(
    ("probabilities", "positive", "said"),
    [
        ([[np.nan, np.nan], [0.5, 0.5]], None, "for 1 of 2 images: its training diverged"),
        ([[2.0, -1.0], [0.5, 0.5]], None, "not probabilities"),
        ([[0.5, 0.9], [0.5, 0.5]], None, "not probabilities"),
        ([[0.5, 0.5], [0.5, 0.5]], "doge", "Did you mean 'dog'?"),
    ],
)
def test_wrong_input(probabilities, positive, said):
    with pytest.raises(InputError) as error:
        compute_metrics([0, 1], np.array(probabilities, np.float32), ["cat", "dog"], positive)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("labels", "probabilities", "said"),
    [
        ([0, 1, 2], np.full((3, 2), 0.5), "whole numbers from 0 to 1, one for each image; one is 2"),
        ([0, -1, 1], np.full((3, 2), 0.5), "one is -1"),
        ([0.0, 0.5, 1.0], np.full((3, 2), 0.5), "one is 0.0"),
        ([[1, 0], [0, 1]], np.full((2, 2), 0.5), r"one is \[1, 0\]"),
        (["cat", "dog"], np.full((2, 2), 0.5), "one is cat"),
        ([0, 1], np.full((2, 3), 1 / 3), r"shape \(2, 3\), but 2 labels and 2 classes need \(2, 2\)"),
        ([0, 1], np.full((3, 2), 0.5), r"shape \(3, 2\), but 2 labels"),
    ],
)
def test_labels_that_are_no_classes(labels, probabilities, said):
    with pytest.raises(InputError, match=said):
        compute_metrics(np.array(labels), probabilities, ["cat", "dog"])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.50"), (0.4967, "0.497"), (0.50004, "0.50004"), (0.333, "0.33"), (0.9, "0.90"), (0.5 + 1e-8, "0.50000001")]
)  # fmt: skip
def test_a_threshold_is_written_so_that_it_differs_from_a_half(value, shown):
    assert write_threshold(value) == shown


@pytest.mark.parametrize("present", [0, 1])
def test_no_empty_picture_of_a_split_with_one_class(present):
    random = np.random.default_rng(0)
    labels = np.full(20, present)
    scores = random.random(20).astype(np.float32)
    probabilities = np.stack([1 - scores, scores], axis=1)
    result = compute_metrics(labels, probabilities, ["cat", "dog"])
    add_what_validation_chose(result, labels, probabilities, 1.0, None)
    images = SimpleNamespace(labels=labels, names=[str(n) for n in range(20)], pixels=np.zeros((20, 4, 4, 1), np.uint8))
    drawn = dict(draw("x/001", "val", result, images, probabilities, True))
    assert {"precision_recall", "roc", "threshold"}.isdisjoint(drawn) and {"reliability", "mistakes"} <= set(drawn)


@pytest.mark.parametrize("kind", ["precision_recall", "roc"])
def test_the_legend_covers_no_curve(kind):
    """If a network guesses, its curve is where a legend inside the axes would be."""
    random = np.random.default_rng(0)
    labels, probabilities = random.integers(0, 5, 200), random.dirichlet(np.ones(5), 200)
    figure = plot_one_against_rest(kind, labels, probabilities, list("abcde"), "title")
    FigureCanvasAgg(figure).draw()
    (legend,), (axes,) = figure.legends, figure.axes
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert len(legend.get_texts()) == 4 + (kind == "roc")


@pytest.mark.parametrize(("classes", "megabytes"), [(300, 1), pytest.param(10_000, 6, marks=pytest.mark.nightly)])
def test_of_many_classes_what_tells_most_is_kept(classes, megabytes):
    """Pairs and areas as counted by hand and by scikit-learn, in a file small enough for the report, without a matrix of zeros."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(min(classes, 300)), 2)
    probabilities = random.integers(1, 5, (len(labels), classes), np.uint8).astype(np.float32)  # with many ties
    probabilities[np.arange(len(labels)), labels] += 4
    probabilities[labels == 7, 3] = 20  # always taken for class 3
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = [f"class {c}" for c in range(classes)]
    result = compute_metrics(labels, probabilities, names)
    assert len(json.dumps(result, indent=1)) < megabytes * 10**6 < MOST_BYTES
    assert result["confusion_matrix"] is None
    of_seven = int((labels == 7).sum())
    assert result["most_confused"][0] == {"true": "class 7", "predicted": "class 3", "images": of_seven, "share": 1.0}
    counts = Counter((a, b) for a, b in zip(labels, probabilities.argmax(axis=1), strict=True) if a != b)
    assert [pair["images"] for pair in result["most_confused"]] == sorted(counts.values(), reverse=True)[:20]
    for c in (0, 7, 299):
        row = result["by_class"][names[c]]
        assert row["roc_auc"] == pytest.approx(sk.roc_auc_score(labels == c, probabilities[:, c]), abs=1e-12)
        assert row["average_precision"] == pytest.approx(
            sk.average_precision_score(labels == c, probabilities[:, c]), abs=1e-12
        )
    assert rank_worst(result["by_class"], 3)[0] == "class 7"
    if classes == 300:
        matrix = sk.confusion_matrix(labels, probabilities.argmax(axis=1))
        drawn = [
            plot_confusion_matrix(matrix, names),
            next(iter(draw("r", "val", result, SimpleNamespace(labels=labels), probabilities, False)))[1],
        ]
        for figure in drawn:
            shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
            assert len(shown) == 25 and shown[:2] == ["class 7", "class 3"]
            cells = {tuple(map(int, text.get_position())): text.get_text() for text in figure.axes[0].texts}
            assert cells[1, 0] == str(of_seven)
