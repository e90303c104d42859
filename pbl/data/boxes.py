"""Boxes of objects in images: how a file gives them, and what they become when the image is brought to the model's shape.

A row is `left, top, right, bottom, class`, in pixels: x = 0 is the left edge of the first pixel, x = width the right edge of the last.
There is no background class. Rows that are not boxes are `[0, 0, 0, 0, -1]`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.source import Source, pair_arrays
from pbl.errors import InputError, Sentence

NO_BOX = (0, 0, 0, 0, -1)
MOST_BOXES = 1000  # of one image: every image takes as many rows as the one with the most
# The share of a box's area that must remain when a crop cuts it off; with less, what is left is hardly that object. A convention between
# SSD (Liu et al. 2016, section 2.2: the centre must remain, so at least a quarter) and a half, which loses large objects in the middle.
KEPT_SHARE = 1 / 3
# Possible faults of boxes, by column of `Images.box_faults`: cut at the image's border; beyond it; without area; the same box again;
# lost when the image was brought to the model's shape.
FAULTS = CUT, OUTSIDE, FLAT, DOUBLED, LOST = range(5)


class Read(NamedTuple):
    """The boxes of an image that can be learned.

    Attributes:
        rows: `float64 [k, 5]`, in pixels of the image's file, inside it.
        faults: `int32 [5]`, how many were cut or left out, in the order of `FAULTS`.
    """

    rows: np.ndarray
    faults: np.ndarray


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image, as an annotation gives them; they are checked when the size of the image is known.

    Args:
        rows: `float64 [k, 5]`: left, top, right, bottom and class.
        name: The annotation's name in errors.
        size: Height and width of the image that the annotation states; None if it states none.
        is_share: Whether positions are shares of width and height, 0 to 1.
    """

    rows: np.ndarray
    name: str
    size: tuple[int, int] | None = None
    is_share: bool = False

    def read(self, image: str, shape: tuple[int, int]) -> Read:
        """Returns the boxes in pixels, cut at the image's border, without those that are not valid.

        Args:
            image: The name of its image, for errors.
            shape: Height and width of its image.

        Raises:
            InputError: The annotation is for an image of another size.
        """
        if self.size is not None and tuple(self.size) != tuple(shape):
            raise InputError(
                "The boxes of {image} are for {stated} pixels ({name}), and the image has {found} (height x width){turned}.",
                image=image,
                name=self.name,
                stated="x".join(map(str, self.size)),
                found="x".join(map(str, shape)),
                turned=Sentence(
                    ": the image is rotated by its EXIF, so rotate the boxes, or save the image upright and draw the boxes again"
                )
                if tuple(self.size) == tuple(shape)[::-1]
                else Sentence(": draw them on this image, or give the image that they were drawn on"),
            )
        faults = np.zeros(len(FAULTS), np.int32)
        rows = self.rows.copy()
        height, width = shape
        if self.is_share:
            rows[:, :4] *= width, height, width, height
        _, first = np.unique(rows, axis=0, return_index=True)
        faults[DOUBLED] = len(rows) - len(first)
        rows = rows[np.sort(first)]
        has_area = (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1])
        faults[FLAT] = (~has_area).sum()
        rows = rows[has_area]
        cut = cut_boxes(rows, shape)
        is_inside = (cut[:, 2] > cut[:, 0]) & (cut[:, 3] > cut[:, 1])
        faults[OUTSIDE] = (~is_inside).sum()
        # Shares are written with about six digits: a box at the border may end a thousandth of a pixel beyond it.
        faults[CUT] = (np.abs(cut - rows)[is_inside].max(axis=1, initial=0) > 0.01).sum()
        return Read(cut[is_inside], faults)


def cut_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Boxes `[..., 4 or more]`, cut at the border of an image of this height and width."""
    cut = boxes.copy()
    cut[..., 0:4:2] = cut[..., 0:4:2].clip(0, shape[1])
    cut[..., 1:4:2] = cut[..., 1:4:2].clip(0, shape[0])
    return cut


def measure_areas(boxes: np.ndarray) -> np.ndarray:
    """Area of each box in square pixels, `[...]` from `[..., 4 or more]`; 0 if it is not a box."""
    return (boxes[..., 2] - boxes[..., 0]).clip(0) * (boxes[..., 3] - boxes[..., 1]).clip(0)


def _find_move(size: tuple[int, int], fit: str, target: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The scale and then the shift, in pixels, with which `pbl.data.images.fit_image` fits an image: each `[2]`, across and down."""
    (height, width), (to_height, to_width) = size, target
    if fit == "stretch":
        return np.array([to_width / width, to_height / height]), np.zeros(2)
    if fit == "crop":  # PIL.ImageOps.fit cuts the image around its centre, not at whole pixels
        scale = max(to_width / width, to_height / height)
        return np.full(2, scale), np.array([to_width - scale * width, to_height - scale * height]) / 2
    # PIL.ImageOps.pad rounds both the size and the place to whole pixels.
    inner_width, inner_height = to_width, to_height
    if width * to_height > to_width * height:
        inner_height = round(height / width * to_width)
    elif width * to_height < to_width * height:
        inner_width = round(width / height * to_height)
    place = [round((to_width - inner_width) * 0.5), round((to_height - inner_height) * 0.5)]
    return np.array([inner_width / width, inner_height / height]), np.array(place, float)


def _move(boxes: np.ndarray, scale: np.ndarray, place: np.ndarray) -> np.ndarray:
    moved = np.array(boxes, dtype=np.result_type(boxes, np.float32))
    moved[..., :4] = moved[..., :4] * np.tile(scale, 2) + np.tile(place, 2)
    return moved


def fit_boxes(boxes: np.ndarray, size: tuple[int, int], fit: str, target: tuple[int, int]) -> np.ndarray:
    """Moves and scales boxes as `pbl.data.images.fit_image` does with their image.

    A box that a crop cuts off is cut; it is left out if less than a third of its area remains (`KEPT_SHARE`).

    Args:
        boxes: `float [k, 5]` in pixels of the original image.
        size: Height and width of the original image.
        fit: `crop`, `pad` or `stretch`.
        target: Height and width of the fitted image.

    Returns:
        `float [k or fewer, 5]`.

    Example:
        >>> import numpy as np
        >>> from pbl.data import fit_boxes
        >>> boxes = np.array([[10.0, 20.0, 30.0, 40.0, 0.0]])
        >>> fit_boxes(boxes, size=(100, 100), fit="stretch", target=(50, 50)).tolist()
        [[5.0, 10.0, 15.0, 20.0, 0.0]]
    """
    moved = _move(boxes, *_find_move(size, fit, target))
    cut = cut_boxes(moved, target)
    return cut[measure_areas(cut) >= KEPT_SHARE * measure_areas(moved)]


def unfit_boxes(boxes: np.ndarray, size: tuple[int, int], fit: str, target: tuple[int, int]) -> np.ndarray:
    """Brings boxes of a fitted image back to the pixels of the original image: the inverse of `fit_boxes`, cut at the image's border.

    Args:
        boxes: `float [..., k, 4 or more]` in pixels of the fitted image: left, top, right, bottom, and further columns, such as
            class and score, which stay unchanged. Rows that are not boxes (class -1) stay unchanged.
        size: Height and width of the original image.
        fit: As for `fit_boxes`. No box comes back from what `crop` cut off.
        target: Height and width of the fitted image.

    Returns:
        Boxes of the same shape.

    Example:
        >>> import numpy as np
        >>> from pbl.data import unfit_boxes
        >>> boxes = np.array([[5.0, 10.0, 15.0, 20.0, 0.0]])
        >>> unfit_boxes(boxes, size=(100, 100), fit="stretch", target=(50, 50)).tolist()
        [[10.0, 20.0, 30.0, 40.0, 0.0]]
    """
    boxes = np.asarray(boxes)
    scale, place = _find_move(size, fit, target)
    back = cut_boxes(_move(boxes, 1 / scale, -place / scale), size)
    if boxes.shape[-1] > 4:
        back = np.where(boxes[..., 4:5] == -1, boxes, back)
    return back


def pad_boxes(boxes: Sequence[np.ndarray], most: int) -> np.ndarray:
    """Boxes of images, each `[k, 5]`, as one array `float32 [n, most, 5]`."""
    padded = np.empty((len(boxes), most, 5), np.float32)
    padded[:] = NO_BOX
    for rows, of_image in zip(padded, boxes, strict=True):
        rows[: len(of_image)] = of_image
    return padded


def count_boxes(boxes: np.ndarray) -> np.ndarray:
    """How many boxes each image has: `int [n]` from `[n, most, 5]`."""
    return (boxes[..., 4] >= 0).sum(axis=-1)


def find_commonest_class(rows: np.ndarray, num_classes: int) -> int:
    """The class of most boxes in an image, the lowest one of equals; `num_classes` if there is no box. Splits are stratified by it."""
    return int(np.bincount(rows[:, 4].astype(int)).argmax()) if len(rows) else num_classes


def find_most(counts: Sequence[int], names: Sequence[str]) -> int:
    """The largest number of boxes in an image, at least 1; raises InputError if an image has more than `MOST_BOXES`.

    Args:
        counts: Number of boxes of each image.
        names: Name of each image.
    """
    most = max(counts, default=0)
    if most > MOST_BOXES:
        raise InputError(
            "{name} has {n} boxes; at most {most} boxes of an image are learned. Cut such images into pieces, or leave them out.",
            name=names[list(counts).index(most)],
            n=most,
            most=MOST_BOXES,
        )
    return max(most, 1)


def check_boxes(rows: Any, name: str, num_classes: int | None) -> np.ndarray:
    """Returns the boxes of an image as `float64 [k, 5]`, without rows that are not boxes (class -1).

    Args:
        rows: Values that should be boxes.
        name: Their name in errors.
        num_classes: How many classes there are; None if that is not known yet.

    Raises:
        InputError: Another type or shape, numbers that are not finite, a class that does not exist, corners in the wrong order.
    """
    try:
        found = np.asarray(rows)
    except ValueError:  # rows of different lengths
        found = np.array(None)
    if not found.size and found.ndim in (1, 2):
        return np.zeros((0, 5))
    if found.ndim != 2 or found.shape[1] != 5 or found.dtype.kind not in "iuf":
        raise InputError(
            "The boxes of {name} are {dtype} of shape {shape}. Valid: numbers [k, 5], one row for each box: left, top, right, bottom, class.",
            name=name,
            dtype=found.dtype,
            shape=found.shape,
        )
    found = found.astype(np.float64)
    found = found[found[:, 4] != -1]
    check_corners(found, lambda at: f"{name}, {at}")
    label = found[:, 4]
    last = np.inf if num_classes is None else num_classes - 1
    wrong = ~((label >= 0) & (label <= last) & (label == np.floor(label)) & np.isfinite(label))
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(
            "The box {name} has the class {label}. Valid: a whole number from 0 to {last}, and -1 in rows without a box. There is no background "
            "class.",
            name=f"{name}, {at}",
            label=f"{label[at]:g}",
            last=Sentence("the number of classes minus 1") if num_classes is None else last,
        )
    return found


def check_corners(boxes: np.ndarray, name_of: Callable[[int], str]) -> None:
    """Raises InputError if left, top, right or bottom is not finite, or they are in the wrong order; a box without area is not an error.

    Args:
        boxes: `float64 [k, 4 or more]`.
        name_of: Returns the name of a box by its number, for errors.
    """
    wrong = ~np.isfinite(boxes[:, :4]).all(axis=1)
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(
            "The box {name} has a number that is not finite ({corners}). Draw it again, or remove it.",
            name=name_of(at),
            corners=", ".join(f"{corner:g}" for corner in boxes[at, :4]),
        )
    wrong = (boxes[:, 2] < boxes[:, 0]) | (boxes[:, 3] < boxes[:, 1])
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(
            "The box {name} ends before it begins ({corners}): left, top, right, bottom, with left < right and top < bottom. Are they left,"
            " top, width, height? Right is left + width.",
            name=name_of(at),
            corners=", ".join(f"{corner:g}" for corner in boxes[at, :4]),
        )


def tell_left_out(left_out: Sequence[int], names: Sequence[str]) -> list[Finding]:
    """Crowds of objects and difficult objects: a "note", since they are neither learned nor judged.

    Args:
        left_out: How many objects of each image are left out.
        names: Names of the images.
    """
    found = sorted(
        ((count, name) for count, name in zip(left_out, names, strict=True) if count), key=lambda pair: -pair[0]
    )
    if not found:
        return []
    return one_finding(
        "boxes_left_out",
        "note",
        "Boxes that are left out, because they are of crowds (COCO iscrowd) or marked as difficult (Pascal VOC): {boxes} in {images} {images:image|images}, such as {examples}; what a network finds there counts as wrong.",
        [name for _, name in found],
        boxes=sum(count for count, _ in found),
        images=len(found),
    )


def tell_set_aside(names: Sequence[str]) -> list[Finding]:
    """Splits of images without boxes, as competitions publish their test images: "act"."""
    if not names:
        return []
    return one_finding(
        "set_aside",
        "act",
        "Images that are not used, because they have no boxes: {folders}; predict can read them.",
        folders=", ".join(names),
    )


def from_boxed_arrays(
    images: Any,
    boxes: Any,
    class_names: Sequence[str] | None = None,
    test: tuple | None = None,
    val: tuple | None = None,
) -> Source:
    """Makes a source from arrays with boxes.

    Args:
        images: `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`, 0 to 255, or a list of images of any sizes.
        boxes: `float [n, most, 5]`, or a list of n arrays `[k, 5]`: left, top, right, bottom in pixels, and class, 0 to the number of
            classes minus 1; rows of class -1 are not boxes.
        class_names: Name of each class of objects; "0", "1", ... unless given.
        test: Images and boxes of an official test split. Without it 30% of `images` become the test split.
        val: Images and boxes of an official validation split.

    Raises:
        InputError: Counts or shapes that differ; boxes that are not valid.

    Example:
        >>> import numpy as np
        >>> import pbl
        >>> images = np.random.default_rng(0).integers(0, 256, (40, 32, 32), np.uint8)
        >>> boxes = [[[4, 4, 20, 20, number % 2]] for number in range(40)]  # left, top, right, bottom, class
        >>> data = pbl.load_data(pbl.data.from_boxed_arrays(images, boxes, ["cat", "dog"]), boxes=True)
        >>> data.images("val").boxes.shape[1:]
        (1, 5)
    """
    pairs = pair_arrays((images, boxes), test, val, class_names, "boxes")
    checked: dict[str, list[np.ndarray]] = {}
    for split, (of_split, boxes_of) in pairs.items():
        if not len(of_split) and not len(boxes_of):
            raise InputError("{name} contains no image. Give images, and the boxes of each.", name=split)
        if len(of_split) != len(boxes_of):
            raise InputError(
                "{name}: {images} images but boxes of {boxes}. Each image needs its rows; an image without boxes needs [0, 0, 0, 0, -1].",
                name=split,
                images=len(of_split),
                boxes=len(boxes_of),
            )
        classes = None if class_names is None else len(class_names)
        checked[split] = [check_boxes(rows, f"{split}/{number}", classes) for number, rows in enumerate(boxes_of)]
    if class_names is None:
        labels = [rows[:, 4].max() for of_split in checked.values() for rows in of_split if len(rows)]
        class_names = [str(number) for number in range(int(max(labels, default=0)) + 1)]
    names = [f"{split}/{number}" for split, of_split in checked.items() for number in range(len(of_split))]
    most = find_most([len(rows) for of_split in checked.values() for rows in of_split], names)

    def part(split: str):
        return lambda: (
            (image[..., None] if np.ndim(image) == 2 else image, Boxes(rows, f"{split}/{at}"), f"{split}/{at}")
            for at, (image, rows) in enumerate(zip(pairs[split][0], checked[split], strict=True))
        )

    return Source(
        list(class_names),
        part("train"),
        *(part(split) if split in pairs else None for split in ("test", "val")),
        has_boxes=True,
        most_boxes=most,
    )
