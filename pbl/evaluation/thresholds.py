"""With two classes: the probability from which an image is called positive, and whether 0.5 is right."""

import re
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pbl.errors import InputError


class Aim(NamedTuple):
    """What a threshold is chosen for: `kind` is "f1", "youden", "recall", "precision" or "cost"."""

    kind: str
    least: float = 0.0  # for recall or precision
    false_positive: float = 1.0  # costs
    false_negative: float = 1.0


F1 = Aim("f1")


def parse_aim(text: str) -> Aim:
    """Reads "f1", "youden", "recall>=0.95", "precision>=0.9", or "cost=1:5" (a false positive : a false negative).

    Raises:
        InputError: The text is none of these.
    """
    text = text.replace(" ", "")
    if text in ("f1", "youden"):
        return Aim(text)
    if match := re.fullmatch(r"(recall|precision)>=([01]?\.?\d*)", text):
        with_least = float(match[2]) if match[2] not in ("", ".") else -1
        if 0 < with_least <= 1:
            return Aim(match[1], least=with_least)
    if (match := re.fullmatch(r"cost=(\d+\.?\d*):(\d+\.?\d*)", text)) and float(match[1]) + float(match[2]) > 0:
        return Aim("cost", false_positive=float(match[1]), false_negative=float(match[2]))
    raise InputError(
        "'{text}' is not an aim of a threshold. Valid: f1, youden, recall>=0.95, precision>=0.9, cost=1:5 (a false positive costs 1, a false "
        "negative 5).",
        text=text,
    )


def describe_aim(aim: Aim) -> str:
    """Returns the words that `parse_aim` reads."""
    if aim.kind == "cost":
        return f"cost={aim.false_positive:g}:{aim.false_negative:g}"
    return f"{aim.kind}>={aim.least:g}" if aim.kind in ("recall", "precision") else aim.kind


def write_threshold(value: float) -> str:
    """Returns a threshold with two decimals, or with as many as distinguish it from 0.50, next to which it is shown."""
    return next(
        (text for digits in range(2, 7) if float(text := f"{value:.{digits}f}") != 0.5 or value == 0.5), f"{value:.9g}"
    )


def tabulate_thresholds(is_positive: np.ndarray, scores: np.ndarray, aim: Aim = F1) -> pd.DataFrame:
    """Counts and metrics at every threshold that makes a difference.

    Args:
        is_positive: `bool [n]`.
        scores: `float [n]`, the probability of the positive class.
        aim: Its costs are used for the column `cost`.

    Returns:
        One row for each threshold, decreasing: `threshold` (an image is called positive if its score is at least that; half way
        between two scores, or the higher one if float32 has nothing between; the first is above all of them, also
        if a score is 1), `true_positives`, `false_positives`, `precision` (1 if
        nothing is called positive), `recall`, `f1`, `youden` (recall minus false positive rate; Youden 1950), `cost` (mean
        cost per image). A recall is NaN if there is no image of its class.
    """
    is_positive, scores = np.asarray(is_positive, bool), np.asarray(scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.flatnonzero(np.diff(ranked, append=-np.inf))  # the last image of each score
    positives = np.concatenate([[0], np.cumsum(is_positive[order])[ends]]).astype(float)
    called = np.concatenate([[0], ends + 1]).astype(float)
    distinct = ranked[ends]
    between = (distinct[:-1] + distinct[1:]) / 2
    # A threshold is also compared in float32, where it is rounded: never down to the score that it excludes.
    between = np.where(between.astype(np.float32) > distinct[1:], between, distinct[:-1])
    above = max((1 + distinct[0]) / 2, float(np.nextafter(np.float32(distinct[0]), np.float32(np.inf))))
    thresholds = np.concatenate([[above], between, [distinct[-1] / 2]])
    false = called - positives
    total, others = is_positive.sum(), (~is_positive).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, false_rate = np.divide(positives, total), np.divide(false, others)
        table = pd.DataFrame(
            {
                "threshold": thresholds,
                "true_positives": positives.astype(int),
                "false_positives": false.astype(int),
                "precision": np.where(called > 0, positives / np.maximum(called, 1), 1.0),
                "recall": recall,
                "f1": 2 * positives / np.maximum(called + total, 1),
                "youden": recall - false_rate,
                "cost": (aim.false_positive * false + aim.false_negative * (total - positives)) / len(scores),
            }
        )
    return table


def choose_threshold(is_positive: np.ndarray, scores: np.ndarray, aim: Aim = F1) -> float | None:
    """Returns the best threshold for an aim on these images; if several are best, the one nearest to 0.5.

    If the aim is a least recall, the threshold with the best precision is chosen among those that reach it, and the other way round.

    Args:
        is_positive: `bool [n]`, of validation images: a threshold that was chosen on test images looks too good there.
        scores: `float [n]`, the probability of the positive class.
        aim: See `parse_aim`.

    Returns:
        The threshold, or None if one of the classes has no image, or no threshold reaches the aim.
    """
    is_positive = np.asarray(is_positive, bool)
    if is_positive.all() or not is_positive.any():
        return None
    table = tabulate_thresholds(is_positive, scores, aim)
    if aim.kind in ("recall", "precision"):
        # If nothing is called positive, precision has no meaning.
        table = table[(table[aim.kind] >= aim.least) & (table["true_positives"] > 0)]
        if not len(table):
            return None
        worth = table["precision" if aim.kind == "recall" else "recall"]
    else:
        worth = -table["cost"] if aim.kind == "cost" else table[aim.kind]
    best = table[worth >= worth.max() - 1e-12]
    return float(best["threshold"].iloc[(best["threshold"] - 0.5).abs().argmin()])


def judge_threshold(is_positive: np.ndarray, scores: np.ndarray, threshold: float, aim: Aim) -> dict[str, Any]:
    """Returns precision, recall, f1, youden and cost of one threshold; None for what has no denominator."""
    is_positive, called = np.asarray(is_positive, bool), np.asarray(scores, np.float64) >= threshold
    found, false = int((is_positive & called).sum()), int((~is_positive & called).sum())
    total, others = int(is_positive.sum()), int((~is_positive).sum())

    def share(part: float, whole: float) -> float | None:
        return float(part / whole) if whole else None

    return {
        "precision": share(found, found + false),
        "recall": share(found, total),
        "f1": share(2 * found, found + false + total),
        "youden": found / total - false / others if total and others else None,
        "cost": (aim.false_positive * false + aim.false_negative * (total - found)) / len(called),
        "accuracy": (found + others - false) / len(called),
    }


def resample_threshold(is_positive: np.ndarray, scores: np.ndarray, aim: Aim, draws: int = 300) -> tuple[float, float]:
    """Returns the interval of the threshold in 95% of bootstrap samples of the images: how well they determine it."""
    is_positive, scores, random = np.asarray(is_positive, bool), np.asarray(scores), np.random.default_rng(0)
    chosen = []
    for _ in range(draws):
        at = random.integers(0, len(scores), len(scores))
        chosen.append(choose_threshold(is_positive[at], scores[at], aim))
    known = [value for value in chosen if value is not None]
    low, high = np.quantile(known, [0.025, 0.975]) if known else (0.0, 1.0)
    return float(low), float(high)
