"""How good submitted boxes are: average precision, and whether the count is right at the team's own threshold."""

from collections.abc import Sequence

import numpy as np

from pbl.evaluation.detection import Matches, is_box, judge_matches, match
from pbl.grading.judge import Scored

# What is reported for a team: mAP50 with its 95% interval; mAP; at its threshold the share of images whose count is right, with its
# interval, precision and recall; and each class separately.
MEASURES = (
    "map50 map50_interval map right_count right_count_interval precision recall count_error threshold classes".split()
)


def score_boxes(
    found: np.ndarray,
    truth: np.ndarray,
    class_names: Sequence[str],
    threshold: float,
    groups: Sequence[str] | None = None,
) -> Scored:
    """Scores one submission.

    Args:
        found: `[n, k, 6]`, as `pbl.grading.box_rows.split_rows` returns it.
        truth: `[n, most, 5]`; at least one image has a box.
        class_names: The classes.
        threshold: The team's own: the lowest score at which a box is shown.
        groups: A group name for each image, such as its patient, over which intervals are computed.

    Returns:
        `metrics` has the keys `MEASURES`, as `pbl.evaluation.detection.judge_matches` returns them; with a single image or group, or equal ones, the interval is from 0
        to 1. `predicted` is what `list_answers` returns. `scores` is what each image or group contributes to mAP50
        (`split_map`), `[n, 1]`.
    """
    matches = match(truth, found, len(class_names))
    judged, values = judge_matches(matches, class_names, threshold, groups)
    metrics = {"images": len(truth), **{name: judged[name] for name in ("map50", "map", "classes")}}
    metrics["map50_interval"] = judged["map50_interval"] or [0.0, 1.0]
    metrics |= {name: of for name, of in judged["at_threshold"].items() if name in MEASURES}
    return Scored(metrics, list_answers(matches, truth, threshold), values[:, None])


def list_answers(matches: Matches, truth: np.ndarray, threshold: float) -> np.ndarray:
    """`int [true boxes + images * classes]`: for each true box 1 if a box that is shown has found it (IoU .5), then for each image and class
    the number of shown boxes that are false. Boxes moved by a pixel give the same answers."""
    is_shown, (n, classes) = matches.score >= threshold, matches.truth.shape
    right, wrong = is_shown & matches.right[:, 0], is_shown & ~matches.right[:, 0]
    is_found = np.zeros(truth.shape[:2], int)
    is_found[matches.image[right], matches.partner[right]] = 1
    false = np.bincount(matches.image[wrong] * classes + matches.kind[wrong], minlength=n * classes)
    return np.concatenate([is_found[is_box(truth)], false])


def find_box_flags(
    scored: Scored, found: np.ndarray, sizes: Sequence[tuple[int, int]], threshold: float, ceiling: float
) -> list[str]:
    """The flags that one submission's own boxes cause."""
    flags = []
    shares = found.copy()
    shares[..., :4] = np.round(shares[..., :4] / np.tile(np.array(sizes)[:, None, ::-1], 2), 3)
    if not ((found[..., 4] >= 0) & (found[..., 5] >= threshold)).any():
        flags.append("nothing_found")
    elif len(found) > 1 and (shares == shares[:1]).all():
        flags.append("constant_predictions")
    if scored.metrics["map50"] > ceiling:
        flags.append("above_ceiling")
    return flags
