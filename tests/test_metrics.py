import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from pbl.errors import InputError
from pbl.metrics import compute_metrics, find_metric
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


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "classes"), [(2, 2), (3, 5), (200, 3), (500, 12)])
def test_equal_to_scikit_learn(seed, n, classes):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    probabilities = random.dirichlet(np.ones(classes), n).astype(np.float32)
    result = compute_metrics(labels, probabilities, [str(c) for c in range(classes)])
    predicted = probabilities.argmax(axis=1)
    for key, function in (
        ("precision", sklearn_metrics.precision_score),
        ("recall", sklearn_metrics.recall_score),
        ("f1", sklearn_metrics.f1_score),
    ):
        assert result["macro"][key] == pytest.approx(function(labels, predicted, average="macro", zero_division=0))
        by_class = function(labels, predicted, average=None, labels=range(classes), zero_division=0)
        for c in range(classes):
            value = result["by_class"][str(c)][key]
            assert value == pytest.approx(by_class[c]) or (value is None and by_class[c] == 0)
    assert result["accuracy"] == sklearn_metrics.accuracy_score(labels, predicted)
    assert result["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=range(classes)))
    assert (
        result["confusion_matrix"]
        == sklearn_metrics.confusion_matrix(labels, predicted, labels=range(classes)).tolist()
    )
    json.dumps(result, allow_nan=False)


def test_what_has_no_denominator_is_said_to_be_undefined():
    result = compute_metrics([0, 0, 1], one_hot([0, 0, 0], 3), ["a", "b", "c"])
    assert result["by_class"]["b"] == {"precision": None, "recall": 0.0, "f1": 0.0, "images": 1}
    assert result["by_class"]["c"] == {"precision": None, "recall": None, "f1": None, "images": 0}
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
        ([[2.0, -1.0], [0.5, 0.5]], None, "no probabilities"),
        ([[0.5, 0.9], [0.5, 0.5]], None, "no probabilities"),
        ([[0.5, 0.5], [0.5, 0.5]], "doge", "Did you mean 'dog'?"),
    ],
)
def test_wrong_input(probabilities, positive, said):
    with pytest.raises(InputError) as error:
        compute_metrics([0, 1], np.array(probabilities, np.float32), ["cat", "dog"], positive)
    assert said in str(error.value)
