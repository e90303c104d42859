"""How good the scores of anomaly detection are: how well they rank images, and whether their alarms keep the promise."""

from typing import Literal

import numpy as np

from pbl.evaluation.anomalies import measure_areas
from pbl.grading.judge import Scored
from pbl.statistics import wilson_interval

# What is reported for a team; each with a 95% interval, except the promise and the average precision.
MEASURES = (
    "roc_auc roc_auc_interval average_precision found found_interval false_alarms false_alarms_interval promise".split()
)


def score_anomalies(result: np.ndarray, labels: np.ndarray, promised: float) -> Scored:
    """Scores one submission.

    Args:
        result: `float32 [n, 2]`, as `pbl.grading.predictions.read_scores` returns it.
        labels: `int [n]`, 1 for an anomaly; there must be images of both kinds.
        promised: The share of normal images that may have an alarm.

    Returns:
        `predicted`: 1 if there is an alarm. In `metrics`, `found` is the share of the anomalies with an alarm, `false_alarms`
        that of the normal images, and `promise` what `judge_promise` returns.
    """
    scores, alarm, is_anomaly = result[:, 1], result[:, 1] > 0.5, labels == 1
    areas = measure_areas(is_anomaly, [scores])
    roc_auc, *interval = areas.interval(0)
    metrics = {"images": len(labels), "roc_auc": roc_auc, "roc_auc_interval": interval}
    metrics["average_precision"] = areas.interval(0, 1).value
    for name, of in (("found", is_anomaly), ("false_alarms", ~is_anomaly)):
        metrics[name] = float(alarm[of].mean())
        metrics[f"{name}_interval"] = list(wilson_interval(int(alarm[of].sum()), int(of.sum())))
    metrics["promise"] = judge_promise(metrics["false_alarms_interval"], promised)
    return Scored(metrics, alarm.astype(int), scores)


def judge_promise(interval: tuple[float, float], promised: float) -> Literal["kept", "too_many", "too_few"]:
    """Whether the binomial interval of the false alarms contains the promised share. "too_many" breaks the promise, "too_few" wastes it:
    a lower threshold would find more anomalies."""
    low, high = interval
    return "too_many" if low > promised else "too_few" if high < promised else "kept"


def find_anomaly_flags(scored: Scored, ceiling: float) -> list[str]:
    """The flags that one submission's own scores raise."""
    flags = []
    if np.ptp(scored.scores) == 0:
        flags.append("constant_predictions")
    elif scored.metrics["roc_auc_interval"][1] < 0.5:
        flags.append("below_chance")
    if scored.metrics["roc_auc"] > ceiling:
        flags.append("above_ceiling")
    return flags


def are_areas_tied(one: Scored, other: Scored, labels: np.ndarray) -> bool:
    """Whether these images cannot distinguish two submissions: the 95% interval of the difference of their areas under the ROC curve,
    paired over the images, contains 0 (`pbl.evaluation.anomalies.Areas.difference`)."""
    value, low, high = measure_areas(labels == 1, [one.scores, other.scores]).difference(0, 1)
    return value == 0 if low is None else low <= 0 <= high
