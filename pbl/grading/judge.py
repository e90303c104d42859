"""Reads what a worker left behind, as a stranger's data, and scores it. No Keras, no HDF5, no archive, no pickle is opened here."""

import json
import math
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pbl.evaluation.metrics import compute_metrics
from pbl.grading.box_rows import ROW, find_problem
from pbl.grading.formats import BOXES_LIMIT
from pbl.grading.jobs import RESULT, STATUS
from pbl.grading.outcomes import CAUSES, REASONS
from pbl.grading.refusals import clean
from pbl.statistics import mcnemar_test, wilson_interval

STATUS_LIMIT = 16 * 1024  # bytes of a worker's status
SUM_TOLERANCE = 1e-2  # for the sum of the probabilities of an image
# Reasons that only the grader itself may give.
_OURS = frozenset(
    "slow busy memory signal ended no_result printed wrote threads interrupted grader result_changed two_submissions"
    " builder_unisolated".split()
)
# Two networks, trained separately on the same images, share about this part of the images that either gets wrong; measured by
# experiments/benchmarks/agreement.py.
CHANCE = 0.5
# Two teams are reported if the part that they share is beyond this point on the way from chance to 1, with at least so many equal mistakes.
AGREEMENT, FEWEST_ERRORS = 0.75, 10
FEWEST_OTHERS = (
    3  # other teams from which chance in this class is estimated; with fewer it is not known, and no pair is reported
)


@dataclass
class Outcome:
    """How a submission ended.

    Attributes:
        reason: One of `REASONS`, or "needs_pixels".
        fields: The values of the reason's sentence.
        facts: What else the worker said, limited to what the grader's own program can say.
        result: `float32 [n, classes]` if the reason is "ok"; in segmentation `uint8 [pixels]`, the class of each pixel; in detection
            `float64 [boxes, 7]` (see `pbl.grading.box_rows`).
        folder: The folder of its last job; None if it no longer exists.
    """

    reason: str
    fields: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    result: np.ndarray | None = None
    folder: Path | None = None


def read_left(
    folder: Path,
    count: int,
    num_classes: int,
    sizes: Sequence[tuple[int, int]] | None = None,
    ids: Sequence[str] | None = None,
) -> Outcome:
    """Reads what a worker left in its folder: only a short JSON object and an array of known length, or of boxes.

    Args:
        folder: The worker's output folder.
        count: Number of images that were to be predicted.
        num_classes: Number of classes of the task.
        sizes: In segmentation and detection, height and width of each image.
        ids: In detection, the ids of the images.
    """
    content = read_regular(folder, STATUS, STATUS_LIMIT)
    if content is None:
        return Outcome("no_result")
    try:
        told = json.loads(content.decode("utf-8"))
        reason, fields, facts = told["reason"], clean_fields(told["fields"]), _check_facts(told["facts"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Outcome("no_result")
    if reason == "needs_pixels":
        return Outcome(reason, facts=facts)
    if not isinstance(reason, str) or reason not in REASONS or (reason in _OURS and reason != "memory"):
        return Outcome("no_result")
    if reason != "ok":
        return Outcome(reason, fields, facts)
    if ids is not None:
        return _read_boxes(folder, ids, sizes, num_classes, facts)
    expected = count * num_classes * 4 if sizes is None else sum(height * width for height, width in sizes)
    content = read_regular(folder, RESULT, expected)
    if content is None:
        return Outcome("no_result", facts=facts)
    if len(content) != expected:
        return Outcome("result_length", facts=facts)
    if sizes is not None:
        masks = np.frombuffer(content, np.uint8)
        return Outcome("no_result" if masks.max() >= num_classes else "ok", {}, facts, masks)
    result = np.frombuffer(content, "<f4").reshape(count, num_classes)
    broken = int((~np.isfinite(result)).any(axis=1).sum())
    if broken:
        return Outcome("predictions_not_finite", {"rows": broken}, facts)
    wrong = (result.min(axis=1) < 0) | (np.abs(result.sum(axis=1, dtype=np.float64) - 1) > SUM_TOLERANCE)
    if wrong.any():
        return Outcome("no_probabilities", {"rows": int(wrong.sum())}, facts)
    return Outcome("ok", {}, facts, result)


def _read_boxes(
    folder: Path, ids: Sequence[str], sizes: Sequence[tuple[int, int]], num_classes: int, facts: dict[str, Any]
) -> Outcome:
    # The shortest box that JSON can write takes 16 bytes, and 56 bytes here.
    content = read_regular(folder, RESULT, 4 * BOXES_LIMIT)
    if content is None or "threshold" not in facts:
        return Outcome("no_result", facts=facts)
    if len(content) % (8 * ROW):
        return Outcome("result_length", facts=facts)
    rows = np.frombuffer(content, "<f8").reshape(-1, ROW)
    reason, fields = find_problem(rows, ids, sizes, num_classes) or ("ok", {})
    return Outcome(reason, fields, facts, rows if reason == "ok" else None)


def clean_fields(fields: Any) -> dict[str, str | int]:
    """The values of a sentence from a stranger's process: at most eight short texts and whole numbers."""
    if not isinstance(fields, dict):
        return {}
    cleaned: dict[str, str | int] = {}
    for name, value in list(fields.items())[:8]:
        if isinstance(name, str) and re.fullmatch(r"[a-z_]{1,20}", name):
            is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**12
            cleaned[name] = value if is_number else clean(value)
    return cleaned


def read_regular(folder: Path, name: str, most: int) -> bytes | None:
    """Returns the bytes of an ordinary file, at most one more than `most`; None for a link, a pipe, a device, a folder, or if there is no file.

    This never waits, and nothing outside the folder is reached: the folder is opened first, and the file relative to it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if os.open in os.supports_dir_fd:
            place = os.open(folder, flags | os.O_DIRECTORY)
            try:
                number = os.open(name, flags, dir_fd=place)
            finally:
                os.close(place)
        else:  # Windows
            number = os.open(folder / name, flags | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode) or status.st_size > most or status.st_nlink > 1:
        os.close(number)
        return None
    with os.fdopen(number, "rb") as stream:
        return stream.read(most + 1)


def _is_seconds(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 3 and all(type(side) is int and 0 < side < 10_000 for side in value)
    )


def _is_comparison(value: Any) -> bool:
    """Whether a value has the form that `pbl.grading.fixtures.compare` returns."""
    is_known = isinstance(value, dict) and value.get("cause") in ("", *CAUSES)
    return is_known and isinstance(value.get("difference"), (int, float))


# What a worker may say besides its status, with a check of its form.
_FACTS: dict[str, Callable[[Any], bool]] = {
    "team": lambda value: isinstance(value, str),
    "model": lambda value: isinstance(value, str),
    "saved_with": lambda value: isinstance(value, str),
    "kind": lambda value: value in ("weights", "keras", "predictions", "masks", "boxes"),
    "threshold": lambda value: isinstance(value, float) and 0 <= value <= 1,
    "parameters": lambda value: type(value) is int and 0 <= value < 10**12,
    "content": lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
    "features": lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None,
    "has_probabilities": lambda value: isinstance(value, bool),
    "ties": lambda value: type(value) is int and 0 <= value < 10**9,
    "seconds_to_open": _is_seconds,
    "seconds_to_predict": _is_seconds,
    "shape": _is_shape,
    "fit": lambda value: value in ("crop", "pad", "stretch"),
    "fixtures": _is_comparison,
}


def _check_facts(facts: Any) -> dict[str, Any]:
    """What a worker says besides its status; values of an unexpected kind are left out."""
    if not isinstance(facts, dict):
        return {}
    checked = {name: facts[name] for name, is_valid in _FACTS.items() if name in facts and is_valid(facts[name])}
    for name in checked.keys() & {"team", "model", "saved_with"}:
        checked[name] = clean(checked[name], 64)
    if "fixtures" in checked:
        cause, difference = checked["fixtures"]["cause"], float(checked["fixtures"]["difference"])
        difference = round(min(max(difference, 0.0), 1e9), 4) if difference == difference else 1e9
        checked["fixtures"] = {"cause": cause, "difference": difference}
    return checked


# --- The score


class Scored(NamedTuple):
    """The score of one submission on the images that count.

    Attributes:
        metrics: What `pbl.evaluation.metrics.compute_metrics` returns; `log_loss` is None if only labels were handed in. In
            anomaly detection what `pbl.grading.anomalies.score_anomalies` returns, in segmentation `pbl.grading.segmentation.score_masks`, in
            detection `pbl.grading.detection.score_boxes`.
        predicted: `int [n]`, the predicted classes; in segmentation those of pixels, in detection whether each object is found.
        scores: In anomaly detection `float [n]`, in the order of the scores that were handed in; in segmentation the Dice of each image
            or group and class, NaN if it does not have the class.
    """

    metrics: dict[str, Any]
    predicted: np.ndarray
    scores: np.ndarray | None = None


def score(result: np.ndarray, labels: np.ndarray, class_names: Sequence[str], has_probabilities: bool) -> Scored:
    """Scores one submission.

    Args:
        result: `float32 [n, classes]`, rows that sum to 1.
        labels: `int [n]`.
        class_names: The classes of the task.
        has_probabilities: Whether the rows are probabilities, not just labels.
    """
    # Sums within the tolerance become 1, so that the log loss is computed from probabilities.
    probabilities = result.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    metrics = compute_metrics(labels, probabilities, class_names)
    if not has_probabilities:
        metrics["log_loss"] = None
    return Scored(metrics, probabilities.argmax(axis=1))


def find_flags(scored: Scored, num_classes: int, ceiling: float, facts: Mapping[str, Any]) -> list[str]:
    """The flags that one submission's own predictions cause."""
    metrics, flags = scored.metrics, []
    correct = round(metrics["accuracy"] * metrics["images"])
    if facts.get("fixtures", {}).get("cause"):
        flags.append("skewed_preprocessing")
    if len(set(scored.predicted.tolist())) == 1:
        flags.append("constant_predictions")
    elif wilson_interval(correct, metrics["images"])[1] < 1 / num_classes:
        flags.append("below_chance")
    if metrics["accuracy"] > ceiling:
        flags.append("above_ceiling")
    return flags


def agreement_on_errors(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
    """How similar the mistakes of two submissions are.

    Args:
        one, other: `int [n]`, predicted classes.
        labels: `int [n]`.

    Returns:
        Among the images that either gets wrong, the share for which both give the same wrong class; and the number of images with the same wrong class.
    """
    either = (one != labels) | (other != labels)
    same = either & (one == other)
    count = int(either.sum())
    return (int(same.sum()) / count if count else 0.0), int(same.sum())


def find_agreements(
    predicted: Mapping[str, np.ndarray], features: Mapping[str, str], labels: np.ndarray
) -> list[tuple[str, str, float, float]]:
    """Finds pairs of teams whose mistakes are more similar than those of separate trainings.

    Only networks whose layers were all trained are compared: linear models, and heads on one frozen network, solve one
    convex problem and therefore agree. Chance is the median of what a team shares with the other teams of the class, the larger one of the two
    teams' and at least `CHANCE`: if labels are wrong, or some images mislead every network, all share much.

    Args:
        predicted: `int [n]` for each team.
        features: For each team whose weights are known, the SHA-256 of all weights except the last layer's.
        labels: `int [n]`.

    Returns:
        For each pair its teams, the share of equal mistakes, and the chance level.
    """
    teams = [team for team in predicted if team in features]
    shares: dict[tuple[str, str], tuple[float, int]] = {}
    for at, one in enumerate(teams):
        for other in teams[at + 1 :]:
            if features[one] != features[other]:
                shares[one, other] = agreement_on_errors(predicted[one], predicted[other], labels)
    found = []
    for pair, (share, count) in shares.items():
        others = [[of[0] for key, of in shares.items() if team in key and key != pair] for team in pair]
        if min(map(len, others)) < FEWEST_OTHERS:
            continue
        chance = max(CHANCE, *(float(np.median(of_team)) for of_team in others))
        if share >= chance + AGREEMENT * (1 - chance) and count >= FEWEST_ERRORS:
            found.append((*pair, share, chance))
    return found


def are_tied(one: np.ndarray, other: np.ndarray, labels: np.ndarray) -> bool:
    """Whether these images cannot distinguish two submissions: McNemar's exact test at 5%, two-sided, on the images that only one
    of the two gets right (McNemar 1947, Psychometrika 12, 153-157)."""
    only_one = int(((one == labels) & (other != labels)).sum())
    only_other = int(((other == labels) & (one != labels)).sum())
    return mcnemar_test(only_one, only_other) >= 0.05


def are_answers_tied(one: Scored, other: Scored, labels: np.ndarray) -> bool:
    """`are_tied` for two scores."""
    return are_tied(one.predicted, other.predicted, labels)


def group_ties(
    scored: Mapping[str, Scored],
    labels: np.ndarray,
    headline: str = "accuracy",
    tied: Callable[[Scored, Scored, np.ndarray], bool] = are_answers_tied,
) -> dict[str, int]:
    """Sorts teams into groups that the hidden images cannot distinguish, from 1 for the best.

    Going down from the best, a team belongs to the group while it is tied with the group's first team; otherwise it opens the next
    group. (If A ties with B and B with C, A need not tie with C, so each is compared with its group's first.)

    Args:
        scored: The teams.
        labels: `int [n]`.
        headline: The metric by which a team is better.
        tied: Whether the images cannot distinguish two of them.
    """
    order = sorted(scored, key=lambda team: (-scored[team].metrics[headline], team))
    groups: dict[str, int] = {}
    first, number = None, 0
    for team in order:
        if first is None or not tied(scored[first], scored[team], labels):
            first, number = team, number + 1
        groups[team] = number
    return groups
