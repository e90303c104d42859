"""Metrics from labels and probabilities, by scikit-learn."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from sklearn import metrics as sklearn_metrics

from pbl.errors import InputError, name_nearest
from pbl.evaluation.calibration import (
    apply_temperature,
    compute_calibration_error,
    find_log_losses,
    fit_temperature,
)
from pbl.evaluation.mistakes import count_confusions
from pbl.evaluation.thresholds import F1, Aim, choose_threshold, describe_aim, judge_threshold, resample_threshold
from pbl.statistics import wilson_interval

TOP = (3, 5)
GROUPS = 100  # groups of images, left out in turn
MOST_RANKED = 20  # classes; each has its own areas, which take longest
MOST_IN_MATRIX = 100  # classes; with 1,000 a matrix is 14 MB of zeros
MOST_PAIRS = 20


def compute_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], positive_class: str | None = None
) -> dict[str, Any]:
    """Computes the metrics that an evaluation reports.

    Args:
        labels: `int [n]`, the true classes.
        probabilities: `float [n, classes]`, rows that sum to 1.
        class_names: Name of each class.
        positive_class: With two classes, the one that precision, recall and F1 are about; by default the second.

    Returns:
        A dictionary ready for JSON; what cannot be computed is None.

        - `images`; `accuracy` with `accuracy_interval` (Wilson, 95%); with two classes `positive` with `class`,
          `precision`, `recall`, `f1`.
        - `balanced_accuracy`: the mean recall of the classes that occur among the labels. `macro`, `weighted` (by images)
          and `micro` with `precision`, `recall`, `f1`; the micro ones equal the accuracy, since each image has one class. A
          precision or recall without a denominator counts as 0 in a mean, as in scikit-learn, and is None by class. Macro
          means are over the classes that occur among the labels or the predictions, as scikit-learn's are.
        - `by_class`: the same three for each class, `images`, `roc_auc` and `average_precision` of this class against the rest.
        - `top_k_accuracy`: {"3": ..., "5": ...}, if there are more classes: the share of images whose class is among the
          k most probable. With equal probabilities the class that comes first counts as the more probable, here as in the
          accuracy: top 1 is the accuracy. (scikit-learn's `top_k_accuracy_score` takes the last, and can be below the accuracy.)
        - `log_loss` in nats; see `pbl.evaluation.calibration.find_log_losses`: an image costs at most 15.9; `brier`: mean squared distance from the one-hot label, summed over classes, 0 to 2 (Brier 1950).
        - `roc_auc`, `average_precision`: means over the classes for which there are images of the class and of others.
        - `calibration`: `ece`, `ece_if_calibrated`, `ece_if_calibrated_high`: see `pbl.evaluation.calibration`.
        - `intervals`: 95% intervals over the images, by dotted name, such as "macro.f1"; see `compute_jackknife_intervals`.
        - `most_confused`: the 20 pairs of classes that are taken for each other most often, the most frequent first: `true`,
          `predicted`, `images`, and their `share` among the true class's images.
        - `class_names`, `confusion_matrix` with true classes as rows and predicted classes as columns, and
          `confusion_matrix_normalised`, divided by the true class's images (a row without images is None); both are None with more than 100
          classes: then `predictions_<split>.npz` has what is needed for one.

    Raises:
        InputError: There are no images; a label is not a class; there is not a probability for each class; the probabilities are not finite or do not sum to 1; `positive_class` is not one of
            two classes.

    Example:
        >>> import numpy as np
        >>> from pbl.evaluation import compute_metrics
        >>> labels = np.array([0, 0, 1, 1])
        >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
        >>> metrics = compute_metrics(labels, probabilities, ["cat", "dog"])
        >>> metrics["accuracy"], metrics["positive"]["recall"]
        (0.75, 1.0)
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    _check_arrays(labels, probabilities, len(class_names))
    check_positive_class(positive_class, class_names)
    predicted, classes = probabilities.argmax(axis=1), list(range(len(class_names)))
    is_correct, rank = predicted == labels, _rank_of_label(labels, probabilities)
    correct, n = int(is_correct.sum()), len(labels)
    by_class = _measure_by_class(labels, predicted, probabilities, class_names)
    rows = list(by_class.values())
    result: dict[str, Any] = {
        "images": n,
        "accuracy": correct / n,
        "accuracy_interval": list(wilson_interval(correct, n)),
    }
    if len(class_names) == 2:
        positive_class = positive_class or class_names[1]
        positive = {key: by_class[positive_class][key] for key in ("precision", "recall", "f1")}
        result["positive"] = {"class": positive_class, **positive}
    images = np.bincount(labels.astype(int)).tolist()
    result["most_confused"] = [
        {"true": class_names[a], "predicted": class_names[b], "images": n_of, "share": n_of / images[a]}
        for a, b, n_of in count_confusions(labels, predicted)[:MOST_PAIRS]
    ]
    result["balanced_accuracy"] = float(np.mean([row["recall"] for row in rows if row["images"]]))
    for average in ("macro", "weighted", "micro"):
        means = sklearn_metrics.precision_recall_fscore_support(labels, predicted, average=average, zero_division=0)
        result[average] = dict(zip(("precision", "recall", "f1"), map(float, means[:3]), strict=True))
    result["by_class"] = by_class
    result["top_k_accuracy"] = {str(k): float((rank < k).mean()) for k in TOP if k < len(classes)}
    result["log_loss"] = float(find_log_losses(labels, probabilities).mean())
    result["brier"] = float(_squared_distances(labels, probabilities).mean())
    for name in ("roc_auc", "average_precision"):
        known = [area for row in rows if (area := row[name]) is not None]
        result[name] = float(np.mean(known)) if known else None
    ece = compute_calibration_error(probabilities.max(axis=1), is_correct)
    result["calibration"] = dict(zip(("ece", "ece_if_calibrated", "ece_if_calibrated_high"), ece, strict=True))
    result["intervals"] = compute_jackknife_intervals(labels, probabilities)
    result["class_names"] = list(class_names)
    matrix = None
    if len(classes) <= MOST_IN_MATRIX:
        matrix = sklearn_metrics.confusion_matrix(labels, predicted, labels=classes)
    result["confusion_matrix"] = matrix if matrix is None else matrix.tolist()
    result["confusion_matrix_normalised"] = (
        matrix if matrix is None else [(row / row.sum()).tolist() if row.sum() else None for row in matrix]
    )
    return result


def _check_arrays(labels: np.ndarray, probabilities: np.ndarray, classes: int) -> None:
    if not len(labels):
        raise InputError("There are no images to evaluate on.")
    if probabilities.shape != (len(labels), classes):
        raise InputError(
            "The probabilities have the shape {shape}, but {n} labels and {classes} classes need ({n}, {classes}).",
            shape=probabilities.shape,
            n=len(labels),
            classes=classes,
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iub" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            "The labels must be whole numbers from 0 to {last}, one for each image; one is {wrong}.",
            last=classes - 1,
            wrong=_find_wrong_label(labels, classes),
        )
    broken = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if broken:
        raise InputError(
            "The model gives no finite probabilities for {broken} of {n} images: its training diverged. Lower learning_rate.",
            broken=broken,
            n=len(labels),
        )
    if probabilities.min(initial=0) < 0 or abs(probabilities.sum(axis=1) - 1).max(initial=0) > 1e-2:
        raise InputError("The model's outputs are not probabilities: rows do not sum to 1. End the model with softmax.")


def _measure_by_class(
    labels: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What `by_class` of `compute_metrics` has."""
    numbers = list(range(len(class_names)))
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, average=None, zero_division=0
    )
    is_predicted = np.bincount(predicted, minlength=len(numbers)) > 0
    return {
        name: {
            "precision": float(precision[c]) if is_predicted[c] else None,
            "recall": float(recall[c]) if support[c] else None,
            "f1": float(f1[c]) if is_predicted[c] or support[c] else None,
            "images": int(support[c]),
            **rank_one_against_rest(labels == c, probabilities[:, c]),
        }
        for c, name in enumerate(class_names)
    }


def rank_worst(by_class: dict[str, dict[str, Any]], most: int) -> list[str]:
    """Returns the names of the classes with the lowest F1, the lowest first; only classes that have images and an F1."""
    known = [name for name, row in by_class.items() if isinstance(row.get("f1"), (int, float)) and row.get("images")]
    return sorted(known, key=lambda name: by_class[name]["f1"])[:most]


def add_what_validation_chose(
    result: dict[str, Any],
    labels: np.ndarray,
    probabilities: np.ndarray,
    temperature: float,
    threshold: float | None = None,
    aim: Aim = F1,
) -> None:
    """Adds to the result of `compute_metrics` the effect of a temperature and a threshold that were chosen on validation images.

    Args:
        result: Gets `temperature`, `ece_after` and `log_loss_after` in `calibration`, and with two classes `threshold`: the
            `aim`, the `value`, and the metrics `at_threshold` and `at_half` (0.5).
        labels, probabilities: As for `compute_metrics`.
        temperature: See `pbl.evaluation.calibration.fit_temperature`.
        threshold: See `pbl.evaluation.thresholds.choose_threshold`; None if there is none.
        aim: What it was chosen for.
    """
    mended = apply_temperature(probabilities, temperature)
    predicted = probabilities.argmax(axis=1)
    result["calibration"] |= {
        "temperature": temperature,
        "ece_after": compute_calibration_error(mended[np.arange(len(labels)), predicted], predicted == labels)[0],
        "log_loss_after": float(find_log_losses(labels, mended).mean()),
    }
    if "positive" in result:
        positive = result["class_names"].index(result["positive"]["class"])
        given = labels == positive, probabilities[:, positive]
        result["threshold"] = {
            "aim": describe_aim(aim),
            "value": threshold,
            "at_threshold": judge_threshold(*given, threshold, aim) if threshold is not None else None,
            "at_half": judge_threshold(*given, 0.5, aim),
        }


def keep_what_some_classes_tell(result: dict[str, Any]) -> None:
    """Removes from the result of `compute_metrics` what data without some classes cannot show, and names those classes.

    No image of an absent class can be called another class by mistake: every precision, and what is computed from it,
    would be too high; and an area under a curve depends on the images of all other classes. Accuracy, recall and the log
    loss concern only the images that exist.

    Args:
        result: Gets `missing_classes`. What is removed becomes None; intervals are deleted.
    """
    result["missing_classes"] = [name for name, row in result["by_class"].items() if not row["images"]]
    undefined = ("precision", "f1", "roc_auc", "average_precision")
    for row in (*result["by_class"].values(), result.get("positive", {}), result):
        row |= {name: None for name in undefined if name in row}
    for average in ("macro", "weighted", "micro"):  # for absent classes that are predicted, the recall counts as 0
        result[average] = dict.fromkeys(result[average])
    kept = ("balanced_accuracy", "log_loss", "brier")
    result["intervals"] = {name: ends for name, ends in result["intervals"].items() if name in kept}
    result.pop("threshold", None)


def choose_by_validation(
    labels: np.ndarray, probabilities: np.ndarray, positive: int | None, aim: Aim = F1
) -> tuple[float, float | None, tuple[float, float] | None]:
    """Chooses temperature and, for two classes, threshold on validation images.

    Returns:
        The temperature; the threshold, or None; and the threshold's 95% bootstrap interval.
    """
    temperature = fit_temperature(labels, probabilities)
    if positive is None:
        return temperature, None, None
    given = labels == positive, probabilities[:, positive]
    threshold = choose_threshold(*given, aim)
    return temperature, threshold, resample_threshold(*given, aim) if threshold is not None else None


def _find_wrong_label(labels: np.ndarray, classes: int) -> Any:
    if labels.ndim != 1:
        return labels[0].tolist()
    return next(
        (label for label in labels.tolist() if not (isinstance(label, (int, bool)) and 0 <= label < classes)), labels[0]
    )


def _rank_of_label(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """How many classes are ranked as more probable than the true one, `int [n]`: with equal probabilities those that come first."""
    own = probabilities[np.arange(len(labels)), labels][:, None]
    is_before = np.arange(probabilities.shape[1]) < labels[:, None]
    return ((probabilities > own) | ((probabilities == own) & is_before)).sum(axis=1)


def rank_one_against_rest(is_of_class: np.ndarray, scores: np.ndarray) -> dict[str, float | None]:
    """The same as scikit-learn's `roc_auc_score` and `average_precision_score`, in a tenth of the time, which matters with many classes."""
    ranking = Ranking(is_of_class, scores)
    areas = ranking.areas(np.ones((1, len(scores))))[:, 0] if ranking.has_both else (None, None)
    return {
        name: None if area is None else float(area)
        for name, area in zip(("roc_auc", "average_precision"), areas, strict=True)
    }


def _squared_distances(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    squares = np.einsum("ij,ij->i", probabilities, probabilities, dtype=np.float64)
    of_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return squares - of_true**2 + (1 - of_true) ** 2


def compute_jackknife_intervals(
    labels: np.ndarray, probabilities: np.ndarray, groups: int = GROUPS
) -> dict[str, list[float]]:
    """95% intervals over the images for metrics without an interval in closed form, by leaving out a part of the images at a time.

    The images are divided into groups, of one image each if there are no more. The metric without each of the
    groups gives its bias and its standard error, on an unbounded scale: log(m) for a loss, and log(m / (1 - m)) for a metric m
    from 0 to 1. So that m is never 0 or 1, two images are added on either side, or half a pair of images if pairs are
    counted, as for areas. The interval is the normal one on this scale. `experiments/benchmarks/intervals.md` shows how often it contains the
    true value, compared with a bootstrap's percentiles and BCa: a bootstrap's samples have fewer different images than the data, which
    harms areas.

    Args:
        labels: `int [n]`.
        probabilities: `float [n, classes]`.
        groups: How many groups at most.

    Returns:
        Low and high for `balanced_accuracy`, `macro.precision`, `macro.recall`, `macro.f1`, `weighted.f1`, `log_loss`,
        `brier`, `roc_auc`, `average_precision`; for the last two if there are at most 20 classes; none if leaving images
        out changes nothing, for example if all are right: then nothing can be said about other images.

    Source: J. W. Tukey (1958), Annals of Mathematical Statistics 29, 614; B. Efron and R. Tibshirani (1993), An Introduction to
    the Bootstrap, chapter 11; two images as in A. Agresti and B. A. Coull (1998), The American Statistician 52, 119-126.
    """
    n = len(labels)
    groups = min(n, groups)
    if groups < 2:
        return {}
    group_of = np.random.default_rng(0).permutation(n) % groups
    kept = np.concatenate(
        [np.ones((1, n), bool), group_of != np.arange(groups)[:, None]]
    )  # all images, then all but one group
    step = max(1, 2_000_000 // n)  # how many samples at once fit into memory
    parts = [_judge_samples(labels, probabilities, kept[at : at + step]) for at in range(0, len(kept), step)]
    intervals = {}
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        value, without = values[0], values[1:][np.isfinite(values[1:])]
        if not np.isfinite(value) or len(without) < groups or np.ptp(without) < 1e-9:
            continue
        is_loss = name in ("log_loss", "brier")
        many, added = (n**2, 0.5) if name in ("roc_auc", "average_precision") else (n, 2)
        on_scale, others = (
            np.log(np.maximum(v, 1e-300)) if is_loss else np.log((many * v + added) / (many - many * v + added))
            for v in (value, without)
        )
        centre = on_scale - (groups - 1) * (others.mean() - on_scale)
        reach = 1.96 * np.sqrt((groups - 1) / groups * ((others - others.mean()) ** 2).sum())
        ends = np.array([centre - reach, centre + reach])
        low, high = np.exp(ends) if is_loss else ((many + 2 * added) / (1 + np.exp(-ends)) - added) / many
        # The measured value is always inside the interval.
        intervals[name] = [float(min(max(0.0, low), value)), float(max(min(high, np.inf if is_loss else 1.0), value))]
    return intervals


def _judge_samples(labels: np.ndarray, probabilities: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of `compute_jackknife_intervals` for samples in which image i occurs `counts[:, i]` times."""
    (n, classes), counts = probabilities.shape, counts.astype(np.float64)
    size, predicted = counts.sum(axis=1), probabilities.argmax(axis=1)
    by_image = np.stack([find_log_losses(labels, probabilities), _squared_distances(labels, probabilities)], axis=1)
    by_label, by_prediction = (
        csr_array((np.ones(n), (np.arange(n), of)), shape=(n, classes)) for of in (labels, predicted)
    )
    support, called = counts @ by_label, counts @ by_prediction
    right = (counts * (predicted == labels)) @ by_label
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, precision = np.nan_to_num(right / support), np.nan_to_num(right / called)
        f1 = np.nan_to_num(2 * right / (support + called))
        occurs, has_labels = support + called > 0, support > 0
        found = {
            "balanced_accuracy": (recall * has_labels).sum(axis=1) / has_labels.sum(axis=1),
            **{
                f"macro.{name}": (values * occurs).sum(axis=1) / occurs.sum(axis=1)
                for name, values in (("precision", precision), ("recall", recall), ("f1", f1))
            },
            "weighted.f1": (f1 * support).sum(axis=1) / size,
        }
    found["log_loss"], found["brier"] = (counts @ by_image).T / size
    rankings = [Ranking(labels == c, probabilities[:, c]) for c in range(classes)] if classes <= MOST_RANKED else []
    rankings = [ranking for ranking in rankings if ranking.has_both]
    if rankings:
        areas = np.array([ranking.areas(counts) for ranking in rankings])  # [classes, 2, samples]
        found["roc_auc"], found["average_precision"] = np.ma.masked_invalid(areas).mean(axis=0).filled(np.nan)
    return found


class Ranking:
    """Images by decreasing score, so that areas under curves of many weighted samples are sums."""

    def __init__(self, is_positive: np.ndarray, scores: np.ndarray):
        self.order = np.argsort(-scores, kind="stable")
        self.is_positive = is_positive[self.order]
        self.starts = np.flatnonzero(np.diff(scores[self.order], prepend=np.inf))  # equal scores count as one step
        self.has_both = bool(is_positive.any() and not is_positive.all())

    def areas(self, counts: np.ndarray) -> np.ndarray:
        """ROC-AUC and average precision `[2, draws]` of samples in which image i occurs `counts[:, i]` times."""
        ranked = counts[:, self.order]
        positive = np.add.reduceat(ranked * self.is_positive, self.starts, axis=1)
        every = np.add.reduceat(ranked, self.starts, axis=1)
        above, called = positive.cumsum(axis=1), every.cumsum(axis=1)
        total = above[:, -1:]
        others = called[:, -1:] - total
        with np.errstate(invalid="ignore", divide="ignore"):
            roc = ((every - positive) * (above - positive / 2)).sum(axis=1) / (total * others)[:, 0]
            average = (positive / total * np.nan_to_num(above / called)).sum(axis=1)
        return np.stack([np.where(others[:, 0] > 0, roc, np.nan), average])


def check_positive_class(name: str | None, class_names: Sequence[str]) -> None:
    """Raises InputError unless `name` is None or one of two classes."""
    if name is None:
        return
    if len(class_names) != 2:
        raise InputError(
            "positive_class='{name}' is for two classes, but the data have {n}.", name=name, n=len(class_names)
        )
    if name not in class_names:
        raise InputError(
            "positive_class='{name}' is not a class. {nearest}", name=name, nearest=name_nearest(name, class_names)
        )


def find_metric(result: dict[str, Any], name: str) -> float:
    """Returns a metric by its dotted name, such as "accuracy", "macro.f1" or "by_class.cat.recall".

    Raises:
        InputError: There is no number of this name (the message gives the nearest name), or it is undefined.
    """
    numbers = dict(_flatten(result))
    if name not in numbers:
        raise InputError("No metric is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, numbers))
    value = numbers[name]
    if value is None:
        raise InputError("'{name}' is undefined here: no image of this class, or none predicted as it.", name=name)
    return value


def check_metric_name(name: str, class_names: Sequence[str]) -> None:
    """Raises InputError unless `compute_metrics` returns a number of this name; called before anything is evaluated for it."""
    classes, one_hot = np.arange(len(class_names)), np.eye(len(class_names))
    result = compute_metrics(classes, one_hot, class_names)
    add_what_validation_chose(result, classes, one_hot, 1.0, 0.5)
    find_metric(result, name)


def _flatten(result: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float | None]]:
    for key, value in result.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            yield prefix + key, value
