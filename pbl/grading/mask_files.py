"""Masks of strangers, PNG files in a zip, decoded only in the locked worker."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import PngImagePlugin

from pbl.grading.archives import Archive
from pbl.grading.formats import PICTURE
from pbl.grading.refusals import Refusal, clean
from pbl.grading.tables import find_words

# The grey value to which Pillow converts a 1 in a grey PNG of 1, 2, 4 and 8 bits.
_STEPS = {"1": 255, "L;2": 85, "L;4": 17, "L": 1}
_SPARE = 64 * 1024  # bytes that a mask's file may have beyond two for each pixel


def read_masks(path: Path, ids: Sequence[str], sizes: Sequence[Sequence[int]], num_classes: int) -> np.ndarray:
    """Reads the masks of all hidden images.

    Args:
        path: A zip with one PNG for each image, `ID.png` or `ID_mask.png`, in any folder: grey, with the number of each pixel's class;
            with two classes 255 means 1 too. Files that are not pictures do not count.
        ids: The ids of the hidden images, in the order of the result.
        sizes: Height and width of each image.
        num_classes: Number of classes, with the background, which is 0.

    Returns:
        `uint8 [pixels]`: the class of each pixel, row after row, image after image.

    Raises:
        Refusal: An image has no mask, or two; a file is not a mask, has another size, or has a value that is not a class. The message names the first one.
    """
    parts = []
    with Archive(path, "the zip file", limit=0) as archive:
        names = _match([name for name in archive.members if PICTURE.search(name)], ids)
        for name, (height, width) in zip(names, sizes, strict=True):
            most, size = 2 * height * width + _SPARE, archive.members[name].file_size
            if size > most:
                raise Refusal("mask_large", name=clean(name), size=-(-size // 1024), limit=most // 1024)
            values = _decode(archive.read(name, most), clean(name), (height, width))
            if num_classes == 2:
                values = np.where(values == 255, 1, values)
            wrong = values >= num_classes
            if wrong.any():
                told = {"value": int(values[wrong][0]), "pixels": int(wrong.sum()), "last": num_classes - 1}
                raise Refusal("mask_value", name=clean(name), **told)
            parts.append(values.astype(np.uint8).ravel())
    return np.concatenate(parts)


def _match(names: Sequence[str], ids: Sequence[str]) -> list[str]:
    """The file of each image; if some are called ID_mask.png, pictures with other names are not masks."""
    names = [name for name in names if PICTURE.search(name)[1]] or names
    places = find_words([PICTURE.sub("", name.rpartition("/")[2]) for name in names], ids)
    known = {place: name for name, place in zip(names, places, strict=True) if place is not None}
    if len(names) == len(known) == len(ids):
        return [known[place] for place in range(len(ids))]
    missing = [f"{name}.png" for place, name in enumerate(ids) if place not in known]
    strange = [name for name, place in zip(names, places, strict=True) if known.get(place) != name]
    told = {"found": len(known), "expected": len(ids), "missing": len(missing), "unknown": places.count(None)}
    twice = len(strange) - places.count(None)
    raise Refusal("mask_ids", **told, twice=twice, first=clean([*strange, *missing][0], 60), example=f"{ids[0]}.png")


def _decode(content: bytes, name: str, shape: tuple[int, int]) -> np.ndarray:
    """The values of a grey PNG of that height and width: of any other file only the header is read."""
    try:
        with PngImagePlugin.PngImageFile(io.BytesIO(content)) as picture:
            form = "animated" if picture.is_animated else str(picture.tile[0][3])
            found, values = (picture.height, picture.width), None
            if form in _STEPS and found == shape:
                values = np.asarray(picture.convert("L"))
    except MemoryError:
        raise
    except Exception:  # Pillow may raise nearly any error on damaged files
        if not content.startswith(b"\x89PNG"):
            raise Refusal("mask_form", name=name, found="no PNG") from None
        raise Refusal("damaged", file=name) from None
    if form not in _STEPS:
        raise Refusal("mask_form", name=name, found=form)
    if values is None:
        raise Refusal("mask_size", name=name, found="{1} x {0}".format(*found), expected="{1} x {0}".format(*shape))
    return values // _STEPS[form]
