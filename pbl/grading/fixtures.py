"""Sixteen images and the model's outputs for them on the student's machine: does the grader's machine get the same?"""

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pbl.grading.archives import Archive
from pbl.grading.formats import FIXTURES, MOST_FIXTURES
from pbl.grading.refusals import TOLERANCE, Refusal

_LIMIT = 64  # MiB, for one array


def read_fixtures(path: Path, shape: tuple[int, int, int], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a stranger's `fixtures.npz`; only in the locked worker.

    Args:
        path: The file.
        shape: (height, width, channels) that the model takes.
        num_classes: Number of its outputs.

    Returns:
        Images `uint8 [n, *shape]` and probabilities `float32 [n, classes]`, n at most 16.

    Raises:
        Refusal: It is damaged, or its arrays are not the expected ones.
    """
    with Archive(path, FIXTURES, _LIMIT, most=8) as archive:
        images = _read_array(archive, "images.npy", np.uint8)
        probabilities = _read_array(archive, "probabilities.npy", np.float32)
    n = len(images)
    if not 1 <= n <= MOST_FIXTURES or images.shape[1:] != shape or probabilities.shape != (n, num_classes):
        raise Refusal("member_kind", file=FIXTURES, name="arrays of another shape")
    return images, probabilities


def _read_array(archive: Archive, name: str, dtype: type) -> np.ndarray:
    if name not in archive.members:
        raise Refusal("damaged", file=FIXTURES)
    content = archive.read(name, _LIMIT * 2**20)
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, is_fortran, found = read_header(stream)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError, OverflowError):
        raise Refusal("damaged", file=FIXTURES) from None
    left = content[stream.tell() :]
    if is_fortran or found != dtype or len(shape) > 4 or math.prod(shape) * found.itemsize != len(left):
        raise Refusal("member_kind", file=FIXTURES, name=name)
    return np.frombuffer(left, found).reshape(shape)


def compare(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, expected: np.ndarray, own: np.ndarray
) -> dict[str, Any]:
    """Compares the probabilities in a submission's fixtures with those computed here, and looks for the cause of a difference.

    Args:
        predict: Takes images of any number type and returns probabilities.
        images: `uint8 [n, height, width, channels]`.
        expected: `float32 [n, classes]`: the values in the submission.
        own: `float32 [n, classes]`: the values computed here.

    Returns:
        `images`, `difference` (the largest) and `cause`: one of `CAUSES`, or "" if they agree.
    """
    difference = _distance(own, expected)
    cause = ""
    if difference > TOLERANCE:
        cause = _find_cause(predict, images, expected, own)
    return {"images": len(images), "difference": round(difference, 4), "cause": cause}


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    difference = np.abs(one.astype(np.float64) - other).max(initial=0)
    return float(difference) if np.isfinite(difference) else 1e9


def _find_cause(
    predict: Callable[[np.ndarray], np.ndarray], images: np.ndarray, expected: np.ndarray, own: np.ndarray
) -> str:
    exponents = np.exp(expected.astype(np.float64) - expected.max(axis=1, keepdims=True))
    if _distance(own, exponents / exponents.sum(axis=1, keepdims=True)) <= TOLERANCE:
        return "logits"
    distances = np.abs(own[:, :, None].astype(np.float64) - expected[:, None, :]).max(axis=0)
    nearest = distances.argmin(axis=1)
    if len(set(nearest.tolist())) == own.shape[1] and distances.min(axis=1).max() <= TOLERANCE:
        return "class_order"
    pixels = images.astype(np.float32)
    others = {
        "scaled": pixels / 255,
        "centred": pixels / 127.5 - 1,
        "colour_order": images[..., ::-1],
        "inverted": 255 - images,
        "turned": images.swapaxes(1, 2),
    }
    for cause, changed in others.items():
        if changed.shape == images.shape and _distance(predict(np.ascontiguousarray(changed)), expected) <= TOLERANCE:
            return cause
    return "number_format" if (own.argmax(axis=1) == expected.argmax(axis=1)).all() else "unknown"
