"""Boxes that a locked worker has left, checked like a stranger's: are they boxes of these images?

Rows are `float64 [boxes, 7]`: index of the image, left, top, right, bottom in its pixels, index of the class, score.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

ROW = 7
MOST_OF_IMAGE = 1000  # boxes; 100 of a class are used (`pbl.evaluation.detection.MOST_FOUND`)
BORDER = 1.0  # pixels that a box may extend beyond its image, since other programs round differently


def find_problem(
    rows: np.ndarray, ids: Sequence[str], sizes: Sequence[tuple[int, int]], num_classes: int
) -> tuple[str, dict[str, Any]] | None:
    """Says what is wrong with boxes: one of `pbl.grading.outcomes.REASONS`, and the values of its sentence; None if nothing is wrong.

    Args:
        rows: As described above.
        ids: Ids of the images.
        sizes: Height and width of each image.
        num_classes: How many classes there are.
    """
    if not np.isfinite(rows).all():
        return "predictions_not_finite", {"rows": int((~np.isfinite(rows)).any(axis=1).sum())}
    for column, below in ((0, len(ids)), (5, num_classes)):
        values = rows[:, column]
        if ((values < 0) | (values >= below) | (values != np.floor(values))).any():
            return "no_result", {}
    image = rows[:, 0].astype(int)
    if (np.diff(image) < 0).any():
        return "no_result", {}
    counts = np.bincount(image, minlength=len(ids))
    if counts.max() > MOST_OF_IMAGE:
        at = int(counts.argmax())
        return "boxes_many", {"image": ids[at], "count": int(counts[at]), "limit": MOST_OF_IMAGE}
    height, width = np.array(sizes, np.float64)[image].T
    left, top, right, bottom, _, score = rows[:, 1:].T
    is_outside = (np.minimum(left, top) < -BORDER) | (right > width + BORDER) | (bottom > height + BORDER)
    for reason, is_wrong in {
        "box_corners": (right <= left) | (bottom <= top),
        "box_outside": is_outside,
        "box_score": (score < 0) | (score > 1),
    }.items():
        if is_wrong.any():
            at = int(is_wrong.argmax())
            place = at - int(np.searchsorted(image, image[at])) + 1
            told = {"image": ids[image[at]], "number": place, "score": f"{score[at]:g}"}
            told["corners"] = ", ".join(f"{corner:g}" for corner in rows[at, 1:5])
            return reason, told | {"size": f"{width[at]:g} x {height[at]:g}"}
    return None


def split_rows(rows: np.ndarray, sizes: Sequence[tuple[int, int]]) -> np.ndarray:
    """Splits the boxes of all images by image.

    Args:
        rows: As described above.
        sizes: Height and width of each image, boxes are cut at its border.

    Returns:
        `float64 [images, k, 6]`: left, top, right, bottom, class and score, as `pbl.evaluation.detection` takes them; class -1 if there
        is no box.
    """
    image, size = rows[:, 0].astype(int), np.array(sizes, np.float64)
    counts = np.bincount(image, minlength=len(sizes))
    place = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
    found = np.zeros((len(sizes), max(1, counts.max()), 6))
    found[..., 4] = -1
    found[image, place] = rows[:, 1:]
    found[..., :4] = np.minimum(found[..., :4].clip(0), np.tile(size[:, None, ::-1], 2))
    return found
