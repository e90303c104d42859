"""What boxes that were handed in are worth: average precision, and whether the count is right at the team's own threshold."""

from collections.abc import Sequence

import numpy as np

from pbl.evaluation.detection import CELLS, is_box, judge_boxes, split_map
from pbl.grading.judge import Scored

# What is told of a team: mAP50 with its 95% interval; mAP; at its threshold the share of images of which the count is right, with its
# interval, precision and recall; each class for itself.
MEASURES = (
    "map50 map50_interval map right_count right_count_interval precision recall count_error threshold classes".split()
)


def score_boxes(
    found: np.ndarray,
    truth: np.ndarray,
    sizes: Sequence[tuple[int, int]],
    class_names: Sequence[str],
    threshold: float,
    groups: Sequence[str] | None = None,
) -> Scored:
    """Scores one submission.

    Args:
        found: `[n, k, 6]`, as `pbl.grading.box_rows.split_rows` gives it.
        truth: `[n, most, 5]`; some image has a box.
        sizes: Height and width of each image.
        class_names: The classes.
        threshold: The team's own, from which on a box is shown.
        groups: A word for each image, such as its patient, over which intervals are.

    Returns:
        `metrics` is of `MEASURES`, as `pbl.evaluation.detection.judge_boxes` has them; an image or group alone says nothing of others: from 0
        to 1. `predicted` is what `list_cells` says of the boxes that are shown. `scores` is what each image or group adds to mAP50
        (`split_map`), `[n, 1]`.
    """
    judged, matches = judge_boxes(truth, found, class_names, threshold, groups)
    low, high = judged["map50_interval"] or (0.0, 1.0)
    metrics = {"images": len(truth), **{name: judged[name] for name in ("map50", "map", "classes")}}
    metrics["map50_interval"] = [min(low, judged["map50"]), max(high, judged["map50"])]
    metrics |= {name: of for name, of in judged["at_threshold"].items() if name in MEASURES}
    shown = np.where(found[..., 5:] >= threshold, found, [0, 0, 0, 0, -1, 0])
    return Scored(metrics, list_cells(shown, sizes), split_map(matches, groups)[:, None])


def list_cells(boxes: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """`int [images * 64]`: on 8x8 cells of each image the class of the surest box whose centre is there, from 1; 0 where there is none."""
    image, place = np.nonzero(is_box(boxes))
    rows = boxes[image, place]
    order = np.argsort(rows[:, 5], kind="stable") if boxes.shape[-1] > 5 else np.arange(len(rows))
    image, rows = image[order], rows[order]
    middle = (rows[:, :2] + rows[:, 2:4]) / 2 / np.array(sizes)[image, ::-1]
    across, down = np.clip(np.floor(CELLS * middle), 0, CELLS - 1).astype(int).T
    cells = np.zeros((len(boxes), CELLS, CELLS), int)
    cells[image, down, across] = rows[:, 4] + 1  # of several the last stays
    return cells.ravel()


def find_box_flags(
    scored: Scored, found: np.ndarray, sizes: Sequence[tuple[int, int]], threshold: float, ceiling: float
) -> list[str]:
    """The flags that one submission's own boxes raise."""
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
