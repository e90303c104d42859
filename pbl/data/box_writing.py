"""Writes boxes as COCO, Pascal VOC or YOLO, as `pbl.data.box_files` and other tools read them.

names, shapes = ["1.jpg", "2.jpg"], [(480, 640), (480, 640)]          # height and width
boxes = [[[10.5, 20, 110, 220, 0]], []]                               # left, top, right, bottom, class; the second image has none
pbl.data.write_yolo("photos/labels", names, shapes, boxes, ["cat", "dog"])
"""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pbl.data.boxes import check_boxes
from pbl.errors import InputError
from pbl.storage.writing import replacing, write_json

DIGITS = 6  # after the decimal point of YOLO's shares, as its tools write them


def write_coco(
    file: str | Path,
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    boxes: Sequence[Any],
    class_names: Sequence[str],
) -> Path:
    """Writes one COCO file of boxes; ids count from 1.

    Args:
        file: For example annotations/instances_train.json.
        names: The path of each image, which `file_name` gets.
        shapes: Height and width of each image in pixels; further entries are ignored.
        boxes: For each image `float [k, 5]`: left, top, right, bottom in pixels of the image, and class; rows with class -1 are not boxes.
            Numbers of 32 bits are read back exactly.
        class_names: Name of class 0, 1, ...

    Raises:
        InputError: Counts differ, or boxes are not valid.

    Example:
        >>> import json
        >>> from pbl.data import write_coco
        >>> file = write_coco("boxes.json", ["0.png"], [(32, 32)], [[[4, 4, 20, 20, 1]]], ["cat", "dog"])
        >>> json.loads(file.read_text())["annotations"][0]["bbox"]
        [4.0, 4.0, 16.0, 16.0]
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for name, (height, width), rows in _check(names, shapes, boxes, class_names):
        images.append({"id": len(images) + 1, "file_name": name, "width": width, "height": height})
        for left, top, right, bottom, label in rows.tolist():
            size = [right - left, bottom - top]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": int(label) + 1,
                    "bbox": [left, top, *size],
                    "area": size[0] * size[1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, 1)]
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"images": images, "annotations": annotations, "categories": categories})
    return file


def write_voc(
    folder: str | Path,
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    boxes: Sequence[Any],
    class_names: Sequence[str],
) -> list[Path]:
    """Writes one Pascal VOC file for each image, `folder/1.xml` for 1.jpg; corners count pixels from 1. Arguments, errors as for `write_coco`.

    Example:
        >>> from pbl.data import write_voc
        >>> files = write_voc("voc", ["0.png"], [(32, 32)], [[[4, 4, 20, 20, 1]]], ["cat", "dog"])
        >>> [file.name for file in files]
        ['0.xml']
    """
    written = []
    for name, (height, width), rows in _check(names, shapes, boxes, class_names):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = PurePosixPath(name).name
        size = ElementTree.SubElement(root, "size")
        for what, value in (("width", width), ("height", height)):
            ElementTree.SubElement(size, what).text = str(value)
        for left, top, right, bottom, label in rows.tolist():
            one = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(one, "name").text = class_names[int(label)]
            ElementTree.SubElement(one, "difficult").text = "0"
            box = ElementTree.SubElement(one, "bndbox")
            for what, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
                ElementTree.SubElement(box, what).text = str(int(value)) if value == int(value) else repr(value)
        ElementTree.indent(root)
        written.append(
            _write(Path(folder) / PurePosixPath(name).with_suffix(".xml"), ElementTree.tostring(root, "utf-8"))
        )
    return written


def write_yolo(
    folder: str | Path,
    names: Sequence[str],
    shapes: Sequence[Sequence[int]],
    boxes: Sequence[Any],
    class_names: Sequence[str],
) -> list[Path]:
    """Writes one YOLO file for each image, `folder/1.txt` for 1.jpg, and `classes.txt`, which names the classes.

    Shares have six digits after the decimal point, so positions are kept to a millionth of the image's sides. Arguments, errors as for
    `write_coco`.

    Example:
        >>> from pbl.data import write_yolo
        >>> files = write_yolo("yolo", ["0.png"], [(32, 32)], [[[4, 4, 20, 20, 1]]], ["cat", "dog"])
        >>> print((files[0].parent / "0.txt").read_text().strip())
        1 0.375000 0.375000 0.500000 0.500000
    """
    written = []
    for name, (height, width), rows in _check(names, shapes, boxes, class_names):
        lines = [
            f"{int(label)} "
            + " ".join(
                f"{share:.{DIGITS}f}"
                for share in (
                    (left + right) / 2 / width,
                    (top + bottom) / 2 / height,
                    (right - left) / width,
                    (bottom - top) / height,
                )
            )
            for left, top, right, bottom, label in rows.tolist()
        ]
        text = "".join(f"{line}\n" for line in lines)
        written.append(_write(Path(folder) / PurePosixPath(name).with_suffix(".txt"), text.encode()))
    return [*written, _write(Path(folder) / "classes.txt", "".join(f"{name}\n" for name in class_names).encode())]


def _check(
    names: Sequence[str], shapes: Sequence[Sequence[int]], boxes: Sequence[Any], class_names: Sequence[str]
) -> Iterator[tuple[str, tuple[int, int], np.ndarray]]:
    """Name, height and width, and boxes of each image; all are checked before the first is written."""
    if not len(names) == len(shapes) == len(boxes):
        raise InputError(
            "{names} names, {shapes} shapes and boxes of {boxes} images: give one of each for every image.",
            names=len(names),
            shapes=len(shapes),
            boxes=len(boxes),
        )
    checked = [check_boxes(rows, name, len(class_names)) for name, rows in zip(names, boxes, strict=True)]
    return (
        (name, (int(shape[0]), int(shape[1])), rows) for name, shape, rows in zip(names, shapes, checked, strict=True)
    )


def _write(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    return file
