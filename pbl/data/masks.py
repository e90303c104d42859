"""Exact masks of what is in an image, found by the name of the image: masks/crack/7.png, or ground_truth/crack/7_mask.png."""

from pathlib import PurePosixPath
from typing import Any

import numpy as np

from pbl.data.images import fit_image, read_image
from pbl.data.store import Images

ENDINGS = ("", "_mask")


def find_masks(data: Any, images: Images, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Reads the masks of some images, from the folder of masks next to the images.

    Args:
        data: The `Data` that the images belong to.
        images: The images.
        wanted: `bool [n]`, the images whose masks are read.

    Returns:
        Numbers of the images that have a mask, and `bool [n, height, width]`, true for a pixel that is marked by more than half; None
        if there are none.
    """
    if data.masks is None:
        return None
    files = {
        (path.parent.name, path.stem): path
        for path in sorted(data.masks.rglob("*"))
        if path.suffix.lower() in (".png", ".bmp", ".tif", ".tiff")
    }
    found, masks = [], []
    height, width, _ = data.input_shape
    for at in np.flatnonzero(wanted):
        name = PurePosixPath(images.names[at])
        file = next((files[key] for end in ENDINGS if (key := (name.parent.name, name.stem + end)) in files), None)
        if file is not None:
            found.append(at)
            is_marked = read_image(file).max(axis=-1, keepdims=True) > 0  # 0 and 255, or 0 and 1
            fitted = fit_image(is_marked.astype(np.uint8) * 255, (height, width), 1, data.split["fit"])
            masks.append(fitted[..., 0] > 127)
    return (np.array(found), np.stack(masks)) if found else None
