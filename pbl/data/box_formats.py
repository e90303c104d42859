"""What an annotation file contains about boxes: COCO JSON, Pascal VOC XML, YOLO text, and the files that name YOLO's classes.

| format     | a box                                                       | here                                              |
|------------|-------------------------------------------------------------|---------------------------------------------------|
| COCO       | left, top, width, height, in pixels from 0                  | right = left + width                              |
| Pascal VOC | first and last pixel across and down, counted from 1        | left = xmin - 1, right = xmax, as Detectron2 does |
| YOLO       | class, centre across and down, width, height, as shares     | times width and height, when these are known      |

Left out, and counted: crowds of objects (COCO `iscrowd`), and objects that are marked as difficult (Pascal VOC). For a polygon without a box
the box around it is taken.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from pbl.data.boxes import check_corners
from pbl.errors import InputError, Sentence

BEYOND = 1e-3  # how far a share may exceed 0 to 1: such files are written with about six digits


class Annotation(NamedTuple):
    """What one annotation contains about its image.

    Attributes:
        rows: Left, top, right, bottom of each box.
        classes: The name of each box's class; for YOLO its number.
        size: Height and width of the image in pixels, if they are stated.
        left_out: How many objects are not boxes to be learned.
    """

    rows: list[list[float]]
    classes: list[str | int]
    size: tuple[int, int] | None = None
    left_out: int = 0


class Coco(NamedTuple):
    """The content of a COCO file.

    Attributes:
        class_names: Names of the categories in the order of their ids.
        images: The annotation of each image, by its `file_name`.
        is_labelled: Whether there are annotations at all.
    """

    class_names: list[str]
    images: dict[str, Annotation]
    is_labelled: bool


def _say(value: Any) -> str:
    return repr(value)[:60]


def parse_voc(content: bytes, name: str) -> Annotation:
    """Reads a Pascal VOC file; raises InputError if it is broken or contains impossible values."""
    root = _parse_xml(content, name)
    if root.tag != "annotation":
        raise InputError(
            "{name} is not a Pascal VOC annotation: it begins with <{tag}>, not with <annotation>. Remove it, or export the boxes as COCO, Pascal "
            "VOC or YOLO.",
            name=name,
            tag=root.tag,
        )
    rows, classes, left_out = [], [], 0
    for number, one in enumerate(root.findall("object"), 1):
        called = Sentence("Object {number} of {file}", number=number, file=name)
        label = (one.findtext("name") or "").strip()
        if not label:
            raise InputError("{name} has no <name>. Name its class.", name=called)
        if (one.findtext("difficult") or "0").strip() == "1":
            left_out += 1
            continue
        box = one.find("bndbox")
        if box is None:
            raise InputError("{name} has no <bndbox>. Draw its box, or remove it.", name=called)
        corners = [
            _to_number(box.findtext(of), Sentence("{name}, {of}", name=called, of=of))
            for of in ("xmin", "ymin", "xmax", "ymax")
        ]
        corners = [corners[0] - 1, corners[1] - 1, *corners[2:]]
        rows.append(corners)
        classes.append(label)
    _check(rows, name)
    size = [_to_size(root.findtext(f"size/{of}")) for of in ("height", "width")]
    return Annotation(rows, classes, tuple(size) if all(size) else None, left_out)


def _parse_xml(content: bytes, name: str) -> Element:
    """Parses XML; a document type, with which a file of 1 kB may expand to a gigabyte of text, is refused before it is read."""

    def refuse(*_: Any) -> None:
        raise InputError(
            "{name} declares a document type (DOCTYPE), which no annotation needs and which may hide anything. Remove that line if you trust the "
            "file.",
            name=name,
        )

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = builder.start, builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
        return builder.close()
    except InputError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise InputError(
            "{name} is not XML, or it is damaged: {error}. Copy or export it again.",
            name=name,
            error=error if content else Sentence("it is empty (0 bytes)"),
        ) from None


def _to_number(text: Any, name: str) -> float:
    """A number from a text, or from a value of JSON."""
    try:
        if isinstance(text, bool) or text is None:
            raise ValueError
        return float(text)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            "{name} is {found}: a number is needed. Draw the box again, or remove it.",
            name=name,
            found=Sentence("missing") if text is None else _say(text),
        ) from None


def _to_size(value: Any) -> int:
    """Height or width in pixels; 0 if none, or an impossible one, is stated, as some tools write it."""
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def _check(rows: list[list[float]], name: str) -> None:
    if rows:
        check_corners(np.array(rows), lambda at: f"{name}, {at + 1}")


def parse_yolo(content: bytes, name: str) -> Annotation:
    """Reads a YOLO file, one line for each object; raises InputError if it is broken or contains impossible values.

    A line of a class and three or more points (segmentation, turned boxes) becomes the box around them.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError("{name} is not text in UTF-8. Copy or export it again.", name=name) from None
    rows, classes = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        called = Sentence("Line {line} of {file}", line=number, file=name)
        if len(words) < 5 or (len(words) > 5 and len(words) % 2 == 0):
            raise InputError(
                "{name} has {n} words. Valid: class, centre x, centre y, width, height, as shares from 0 to 1{hint}.",
                name=called,
                n=len(words),
                hint=Sentence(", without a confidence: these are predictions") if len(words) == 6 else "",
            )
        values = [_to_number(word, called) for word in words]
        label, shares = values[0], values[1:]
        if not (math.isfinite(label) and label == int(label) and label >= 0):
            raise InputError("{name} has the class {label}. Valid: its number, from 0 on.", name=called, label=words[0])
        if not all(math.isfinite(share) for share in shares):
            raise InputError("{name} has a number that is not finite. Draw the box again.", name=called)
        wrong = [share for share in shares if not -BEYOND <= share <= 1 + BEYOND]
        if wrong:
            raise InputError(
                "{name} contains {value:g}. YOLO's numbers are shares of the image's width and height, from 0 to 1{hint}.",
                name=called,
                value=wrong[0],
                hint=Sentence(": are these pixels? Divide x and width by the image's width, y and height by its height")
                if max(wrong) > 1
                else "",
            )
        if len(shares) == 4:
            x, y, width, height = shares
            rows.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        else:
            rows.append([min(shares[::2]), min(shares[1::2]), max(shares[::2]), max(shares[1::2])])
        classes.append(int(label))
    return Annotation(rows, classes)


def parse_coco(content: bytes, name: str) -> Coco | None:
    """Reads a COCO file; None if it is one without boxes, for example of captions.

    A category that is only the heading of others and has no box, as Roboflow writes it, is not a class.

    Raises:
        InputError: It is broken, or contains impossible values.
    """
    held = _parse_json(content, name)
    if not isinstance(held, dict) or not isinstance(held.get("images"), list):
        raise InputError(
            "{name} is not a COCO file: it lacks the list 'images'. Valid: a dictionary of images, annotations and categories.",
            name=name,
        )
    annotations, categories = held.get("annotations", []), held.get("categories")
    if not isinstance(annotations, list):
        raise InputError(
            "{name}: 'annotations' is not a list. Valid: a list of dictionaries with image_id, category_id and bbox.",
            name=name,
        )
    for what, of in (("images", held["images"]), ("annotations", annotations), ("categories", categories or [])):
        if not (isinstance(of, list) and all(isinstance(one, dict) for one in of)):
            raise InputError(
                "{name}: '{what}' is not a list of dictionaries. Export the boxes again.", name=name, what=what
            )
    if annotations and not any("bbox" in one or "segmentation" in one for one in annotations):
        return None
    if annotations and not categories:
        raise InputError(
            "{name} names no class: 'categories' is missing, such as {example}.",
            name=name,
            example='[{"id": 1, "name": "cat"}]',
        )
    names = _read_categories(categories or [], {_hashable(one.get("category_id")) for one in annotations}, name)
    files, found = _read_coco_images(held["images"], name)
    numbers, corners = [], []
    for number, one in enumerate(annotations):
        called = f"{name}, annotations[{number}]"
        image, label = _hashable(one.get("image_id")), _hashable(one.get("category_id"))
        if image not in files:
            raise InputError(
                "{name} belongs to the image {image}, which 'images' does not contain. Export the boxes again, or remove it.",
                name=called,
                image=_say(one.get("image_id")),
            )
        if label not in names:
            raise InputError(
                "{name} has the category {label}, which 'categories' does not contain. Valid: {valid}.",
                name=called,
                label=_say(one.get("category_id")),
                valid=", ".join(map(str, list(names)[:20])),
            )
        of_image = found[files[image]]
        if one.get("iscrowd") in (1, True):
            found[files[image]] = of_image._replace(left_out=of_image.left_out + 1)
            continue
        corners.append(_read_coco_box(one, called))
        numbers.append(number)
        of_image.rows.append(corners[-1])
        of_image.classes.append(names[label])
    if corners:
        check_corners(np.array(corners), lambda at: f"{name}, annotations[{numbers[at]}]")
    return Coco(list(names.values()), found, "annotations" in held)


def _parse_json(content: bytes, name: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "{name} is not JSON, or it is damaged: {error}. Copy or export it again.",
            name=name,
            error=error if content else Sentence("it is empty (0 bytes)"),
        ) from None


def _hashable(value: Any) -> Any:
    """A value that can be a key of a dictionary: numbers, texts and None as they are, anything else as its `repr`."""
    return value if isinstance(value, (int, str)) else None if value is None else repr(value)


def _read_categories(categories: Sequence[Mapping[str, Any]], used: set, name: str) -> dict[Any, str]:
    """Names of the categories by their ids, in the order of the ids."""
    names: dict[Any, str] = {}
    headings = {one.get("supercategory") for one in categories if isinstance(one.get("supercategory"), str)}
    for one in categories:
        number, label = _hashable(one.get("id")), one.get("name")
        if number is None or not isinstance(label, str) or not label.strip():
            raise InputError(
                "{name}: the category {category} has no id or no name. Valid: {example}.",
                name=name,
                category=_say(dict(one)),
                example='{"id": 1, "name": "cat"}',
            )
        if number in names or label in names.values():
            raise InputError(
                "{name} has the category {category} twice. Give each its own id and name.",
                name=name,
                category=_say(dict(one)),
            )
        names[number] = label
    kept = {number: label for number, label in names.items() if label not in headings or number in used}
    names = kept or names
    return dict(sorted(names.items(), key=lambda pair: (isinstance(pair[0], str), pair[0])))


def _read_coco_images(images: Sequence[Mapping[str, Any]], name: str) -> tuple[dict[Any, str], dict[str, Annotation]]:
    """File names by the images' ids, and for each file name an annotation without boxes."""
    files: dict[Any, str] = {}
    found: dict[str, Annotation] = {}
    for number, one in enumerate(images):
        image, file = _hashable(one.get("id")), one.get("file_name")
        if image is None or not isinstance(file, str) or not file.strip():
            raise InputError(
                "{name}, images[{number}] has no id or no file_name. Valid: {example}.",
                name=name,
                number=number,
                example='{"id": 1, "file_name": "1.jpg", "width": 640, "height": 480}',
            )
        if image in files or file in found:
            raise InputError(
                "{name} has the image {image} twice (id or file_name). Keep one.", name=name, image=f"{image}, {file}"
            )
        size = _to_size(one.get("height")), _to_size(one.get("width"))
        files[image], found[file] = file, Annotation([], [], size if all(size) else None)
    return files, found


def _read_coco_box(one: Mapping[str, Any], name: str) -> list[float]:
    """Left, top, right, bottom of an annotation: its `bbox`, else the box around its polygons."""
    box, shapes = one.get("bbox"), one.get("segmentation")
    if isinstance(box, list) and len(box) == 4:
        left, top, width, height = (_to_number(value, f"{name}, bbox") for value in box)
        if width < 0 or height < 0:
            raise InputError(
                "{name} has a bbox of width {width:g} and height {height:g}. Valid: left, top, width, height; width and height must not be below 0.",
                name=name,
                width=width,
                height=height,
            )
        return [left, top, left + width, top + height]
    if (
        not box
        and isinstance(shapes, list)
        and shapes
        and all(isinstance(of, list) and len(of) >= 6 and len(of) % 2 == 0 for of in shapes)
    ):
        x, y = (
            [_to_number(value, f"{name}, segmentation") for of in shapes for value in of[first::2]] for first in (0, 1)
        )
        return [min(x), min(y), max(x), max(y)]
    raise InputError(
        "{name} has no bbox (found: {found}). Valid: left, top, width, height in pixels, or polygons as 'segmentation'.",
        name=name,
        found=_say(box),
    )


def read_name_lines(content: bytes, name: str) -> list[str]:
    """Names of classes, one on each line, as in `classes.txt` and `obj.names`; raises InputError if the content is not text."""
    try:
        return [line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(
            "{file} cannot be read: {error}. Write one class a line, in UTF-8.", file=name, error=error
        ) from None


def parse_yaml(content: bytes, name: str) -> dict[str, Any]:
    """The content of a `data.yaml`, every word and number as a text; raises InputError if it cannot be read."""
    try:
        import yaml
    except ModuleNotFoundError:
        raise InputError(
            "{name} needs the package PyYAML, which is not installed: pip install PyYAML. Or give classes.txt, one class a line.",
            name=name,
        ) from None
    try:
        held = yaml.load(
            content, Loader=yaml.BaseLoader
        )  # builds only texts, lists and dictionaries; `no` stays a text
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(
            "{name} is not YAML, or it is damaged: {error}. Copy or export it again.", name=name, error=error
        ) from None
    return held if isinstance(held, dict) else {}


def read_yaml_names(held: Mapping[str, Any], name: str) -> list[str]:
    """Names of the classes in a `data.yaml`: a list, or a mapping from numbers; raises InputError if it is neither, or has gaps."""
    names = held.get("names")
    if isinstance(names, dict):
        try:
            numbered = {int(number): label for number, label in names.items()}
        except ValueError:
            numbered = {}
        missing = [number for number in range(len(names)) if number not in numbered]
        if missing:
            raise InputError(
                "{name}: 'names' has no class {number}. Valid: a name for each number from 0 on, without gaps.",
                name=name,
                number=missing[0],
            )
        names = [numbered[number] for number in range(len(names))]
    if not (isinstance(names, list) and names and all(isinstance(label, str) and label.strip() for label in names)):
        raise InputError(
            "{name}: 'names' is {found}. Valid: a list of names, [cat, dog].", name=name, found=_say(names)
        )
    stated = held.get("nc")
    if isinstance(stated, str) and stated.strip().isdecimal() and int(stated) != len(names):
        raise InputError(
            "{name}: nc is {stated}, but 'names' has {n} class(es). Make them agree.",
            name=name,
            stated=stated,
            n=len(names),
        )
    return [label.strip() for label in names]
