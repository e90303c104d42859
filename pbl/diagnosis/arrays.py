"""What the data doctor finds in the arrays of a notebook, which no command has checked."""

from dataclasses import asdict
from typing import Any

import numpy as np

from pbl.diagnosis.data import differ_in_scale

MOST_BYTES = 2**30  # for each side: at most so much is searched for exact copies
CLOSELY = 1_000  # images of each split that are looked at closely, as before a training


def examine_arrays(
    train: tuple[np.ndarray, np.ndarray], val: tuple[np.ndarray, np.ndarray] | None
) -> list[dict[str, Any]]:
    """Looks for copies, absent classes, blank images, shift and wrong labels in arrays of images.

    Args:
        train: Images `[n, height, width, channels]` or `[n, height, width]` in any range, and class numbers `int [n]`.
        val: The same for validation; without it nothing is looked for.

    Returns:
        The data doctor's findings as dictionaries; the names of images are their indices. Nothing if the arrays are not images, or
        if the two sides have different ranges: then everything would look different.
    """
    from pbl.data import doctor
    from pbl.data.split import hash_image

    if val is None:
        return []
    sides = {"train": train, "val": val}
    if not all(_are_images(images) for images, _ in sides.values()):
        return []
    bounds = [_find_range(images) for images, _ in sides.values()]
    if differ_in_scale(*bounds):
        return []
    low, high = min(bound[0] for bound in bounds), max(bound[1] for bound in bounds)
    classes = 1 + max(int(labels.max()) for _, labels in sides.values())
    parts = {}
    for name, (images, labels) in sides.items():
        count = max(1, min(len(images), MOST_BYTES // max(images[0].nbytes, 1)))
        pixels = _as_bytes(images[:count], low, high)
        pixels = pixels[..., None] if pixels.ndim == 3 else pixels
        shapes = np.tile(pixels.shape[1:], (count, 1))
        # Names of validation images are those that `OverfittingMonitor` uses.
        names = [f"{'train' if name == 'train' else ''}{place}" for place in range(count)]
        # Hashes of the array's own numbers: two different images may look the same in 256 steps.
        hashes = [hash_image(image) for image in images[:count]]
        parts[name] = doctor.Part(pixels, labels[:count].astype(np.int32), names, hashes, shapes)
    names = [str(number) for number in range(classes)]
    findings = doctor.examine(parts, names, {}, fast=True) + doctor.examine_closely(parts, names, most=CLOSELY)
    return [asdict(finding) for finding in findings]


def _are_images(images: np.ndarray) -> bool:
    return images.dtype.kind in "uif" and (images.ndim == 3 or (images.ndim == 4 and images.shape[-1] in (1, 3)))


def _find_range(images: np.ndarray) -> tuple[float, float]:
    return float(images.min()), float(images.max())


def _as_bytes(images: np.ndarray, low: float, high: float) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    return ((images - low) * (255 / max(high - low, 1e-12))).clip(0, 255).astype(np.uint8)
