"""From labels and probabilities to numbers, by scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import metrics as sklearn_metrics

from pbl.errors import InputError, name_nearest
from pbl.statistics import wilson_interval


def compute_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], positive_class: str | None = None
) -> dict[str, Any]:
    """Computes what an evaluation reports.

    Args:
        labels: `int [n]`, the true classes.
        probabilities: `float [n, classes]`, rows that sum to 1.
        class_names: Name of each class.
        positive_class: With two classes, the one that precision, recall and F1 are about; the second unless given.

    Returns:
        A dictionary ready for JSON. `accuracy` with `accuracy_interval` (Wilson, 95%); with two classes `positive` with
        `class`, `precision`, `recall`, `f1`; `macro` and `by_class` with the same three and, by class, `images`;
        `log_loss` in nats, probabilities below the smallest step of their type (1.2e-7 in float32) taken as
        that, as in scikit-learn; `confusion_matrix`, rows true and columns predicted classes. A precision or recall that has
        no denominator is 0 in the macro mean, as in scikit-learn, and None by class. Macro means are over the classes
        that occur among the labels or the predictions, as scikit-learn's are.

    Raises:
        InputError: The probabilities are not finite or do not sum to 1; `positive_class` is not one of two classes.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    broken = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if broken:
        raise InputError(
            "The model gives no finite probabilities for {broken} of {n} images: its training diverged. Lower learning_rate.",
            broken=broken,
            n=len(labels),
        )
    if probabilities.min(initial=0) < 0 or abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-2:
        raise InputError("The model's outputs are no probabilities: rows do not sum to 1. End the model with softmax.")
    predicted = probabilities.argmax(axis=1)
    classes = list(range(len(class_names)))
    correct, n = int((predicted == labels).sum()), len(labels)

    def report(average: str | None, labels_used: list[int] | None):
        return sklearn_metrics.precision_recall_fscore_support(
            labels, predicted, labels=labels_used, average=average, zero_division=0
        )

    precision, recall, f1, support = report(None, classes)
    is_predicted = np.bincount(predicted, minlength=len(classes)) > 0
    by_class = {
        name: {
            "precision": float(precision[c]) if is_predicted[c] else None,
            "recall": float(recall[c]) if support[c] else None,
            "f1": float(f1[c]) if is_predicted[c] or support[c] else None,
            "images": int(support[c]),
        }
        for c, name in enumerate(class_names)
    }
    result: dict[str, Any] = {
        "images": n,
        "accuracy": correct / n,
        "accuracy_interval": list(wilson_interval(correct, n)),
    }
    check_positive_class(positive_class, class_names)
    if len(class_names) == 2:
        positive_class = positive_class or class_names[1]
        positive = {key: by_class[positive_class][key] for key in ("precision", "recall", "f1")}
        result["positive"] = {"class": positive_class, **positive}
    macro = report("macro", None)
    result["macro"] = {"precision": float(macro[0]), "recall": float(macro[1]), "f1": float(macro[2])}
    result["by_class"] = by_class
    result["log_loss"] = float(sklearn_metrics.log_loss(labels, probabilities, labels=classes))
    result["class_names"] = list(class_names)
    result["confusion_matrix"] = sklearn_metrics.confusion_matrix(labels, predicted, labels=classes).tolist()
    return result


def check_positive_class(name: str | None, class_names: Sequence[str]) -> None:
    """Raises InputError unless `name` is None or one of two classes."""
    if name is None:
        return
    if len(class_names) != 2:
        raise InputError(
            "positive_class='{name}' is for two classes; the data have {n}.", name=name, n=len(class_names)
        )
    if name not in class_names:
        raise InputError(
            "positive_class='{name}' is no class. {nearest}", name=name, nearest=name_nearest(name, class_names)
        )


def find_metric(result: dict[str, Any], name: str) -> float:
    """Returns a metric by its dotted name, such as "accuracy", "macro.f1" or "by_class.cat.recall".

    Raises:
        InputError: There is no number of this name (the nearest name is given), or it is undefined.
    """
    numbers = dict(_flatten(result))
    if name not in numbers:
        raise InputError("No metric is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, numbers))
    if numbers[name] is None:
        raise InputError("'{name}' is undefined here: no image of this class, or none predicted as it.", name=name)
    return numbers[name]


def check_metric_name(name: str, class_names: Sequence[str]) -> None:
    """Raises InputError unless `compute_metrics` gives a number of this name; before anything is evaluated for it."""
    classes = np.arange(len(class_names))
    find_metric(compute_metrics(classes, np.eye(len(class_names)), class_names), name)


def _flatten(result: dict[str, Any], prefix: str = ""):
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield prefix + key, value
