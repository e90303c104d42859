"""A hidden set as `holdout` writes it: images under opaque names, and their labels in a separate folder.

HIDDEN/images/a3f0....png   what models see; given to teams only if they hand in predictions
HIDDEN/hidden.json          task, class names, number and shape of the images: no labels
HIDDEN/labels/labels.csv    id,label,half: for the instructor alone; next to it masks/ or boxes.json (COCO), if there are any
HIDDEN/references/          submissions that show the scale of grades
"""

import hashlib
import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pbl.data.box_formats import parse_coco
from pbl.data.boxes import find_commonest_class
from pbl.data.mask_files import decode_values
from pbl.errors import InputError, Sentence
from pbl.grading.tables import Table, TableError, find_words, fold, read_table, reads_as_number

FORMAT = 1  # version of hidden.json
IMAGES, DESCRIPTION, LABELS, REFERENCES = "images", "hidden.json", "labels/labels.csv", "references"
MASKS, BOXES = "masks", "boxes.json"  # next to labels.csv
HALVES = ("public", "private")
ANOMALY_CLASSES = ["normal", "anomaly"]  # classes of a hidden set for anomaly detection; an anomaly is the second
# The measure by which a submission is graded, for each task: the name of a column of `grades.csv`.
HEADLINES = {"classification": "accuracy", "anomaly": "roc_auc", "segmentation": "dice", "detection": "map50"}


@dataclass(frozen=True)
class Hidden:
    """A hidden set without its labels.

    Attributes:
        path: Its folder.
        name: The name of its source.
        class_names: The classes, in their order.
        ids: The images' names, sorted.
        shape: (height, width, channels) of the images; None if they differ.
        task: "classification", or "anomaly": then the classes are `ANOMALY_CLASSES`, and scores of the images are handed in; or
            "segmentation": then masks are handed in, and the first class is the background; or "detection": then boxes are.
        normal: In anomaly detection, the source's classes that are normal.
        false_alarms: In anomaly detection, the share of normal images that may have an alarm, as teams were told.
        digest: SHA-256 of the complete set: a different digest means a different hidden set.
        sizes: In segmentation and detection, height and width of each image, in the order of `ids`; otherwise None.
    """

    path: Path
    name: str
    class_names: list[str]
    ids: list[str]
    shape: tuple[int, int, int] | None
    digest: str
    task: str = "classification"
    normal: tuple[str, ...] = ()
    false_alarms: float | None = None
    sizes: tuple[tuple[int, int], ...] | None = None

    @property
    def headline(self) -> str:
        """The measure by which a submission is graded: one of `HEADLINES`."""
        return HEADLINES[self.task]

    @property
    def judged_classes(self) -> list[str]:
        """The classes that are judged one by one: in segmentation all except the background."""
        return self.class_names[1:] if self.task == "segmentation" else self.class_names

    def result_name(self, key: str) -> str:
        """The file name of a submission's result, by its key in the ledger."""
        return key + {"segmentation": ".u8", "detection": ".f64"}.get(self.task, ".f32")

    @property
    def files(self) -> list[Path]:
        """The image files, in the order of `ids`."""
        folder = (self.path / IMAGES).absolute()
        return [folder / f"{name}.png" for name in self.ids]


def open_hidden(path: str | Path) -> Hidden:
    """Opens a hidden set, without touching its labels.

    Raises:
        InputError: There is no hidden set, or it is damaged.
    """
    path = Path(path).expanduser()
    file = path / DESCRIPTION
    if not file.is_file():
        raise InputError(
            "{path} is not a hidden set: it has no {name}. Make one: python -m pbl holdout SOURCE (--fraction 1 hides all images).",
            path=path,
            name=DESCRIPTION,
        )
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        ids, class_names = [str(name) for name in told["ids"]], [str(name) for name in told["class_names"]]
        shape = tuple(told["shape"]) if told["shape"] else None
        about = _read_task(told, class_names)
        are_names = ids and all(re.fullmatch(r"[0-9a-f]+", name) for name in ids)
        fewest = 1 if told.get("task") == "detection" else 2  # one kind of object is enough
        if told["format"] != FORMAT or not are_names or len(class_names) < fewest:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError("{file} is damaged. Make the hidden set again, or copy it again.", file=file) from None
    hidden = Hidden(path, str(told.get("name", "")), class_names, sorted(ids), shape, "", **about)
    known_by = [class_names, hidden.ids, *([hidden.task] if about else [])]  # the predictions depend on the task
    digest = hashlib.sha256(json.dumps(known_by, ensure_ascii=False).encode())
    missing, changed = [], []
    known = dict(zip(ids, told.get("hashes") or [], strict=False))  # a set from an earlier version has none
    for name, image in zip(hidden.ids, hidden.files, strict=True):
        try:
            found = hash_file(image)
        except OSError:
            missing.append(image.name)
            continue
        digest.update(bytes.fromhex(found))
        if known.get(name, found) != found:
            changed.append(image.name)
    if changed:
        raise InputError(
            "{path} contains {n} {n:image that was|images that were} damaged or changed since the set was made, such as {first}. Copy the folder again.",
            path=path / IMAGES,
            n=len(changed),
            first=changed[0],
        )
    if missing:
        raise InputError(
            "{path} lacks {n} of {all} images, such as {first}. Copy the folder again.",
            path=path / IMAGES,
            n=len(missing),
            all=len(ids),
            first=missing[0],
        )
    return replace(hidden, digest=digest.hexdigest())


def _read_task(told: dict[str, Any], class_names: list[str]) -> dict[str, Any]:
    """What `hidden.json` says for a task other than classification; raises ValueError, KeyError or TypeError if it is damaged."""
    task = told.get("task", "classification")
    if task == "classification":
        return {}
    if task in ("segmentation", "detection"):
        sizes = tuple((int(height), int(width)) for height, width in told["sizes"])
        if len(sizes) != len(told["ids"]) or min(map(min, sizes)) < 1:
            raise ValueError
        return {"task": task, "sizes": sizes}
    if task != "anomaly" or class_names != ANOMALY_CLASSES or not 0 < told["false_alarms"] < 0.5:
        raise ValueError
    return {"task": task, "normal": tuple(map(str, told["normal"])), "false_alarms": told["false_alarms"]}


def hash_file(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Labels:
    """The labels of a hidden set, in the order of its `ids`.

    Attributes:
        classes: `int64 [n]`; in segmentation the commonest class besides the background, in detection that of most boxes; one beyond the last
            class if there is none.
        is_public: `bool [n]`: whether an image is in the half whose scores a leaderboard may show.
        masks: In segmentation, `uint8 [height, width]` for each image; otherwise None.
        boxes: In detection, `float64 [k, 5]` for each image: left, top, right, bottom, class; otherwise None.
        groups: In segmentation and detection, if images belong together, a group name for each, such as its patient; otherwise None.
    """

    classes: np.ndarray
    is_public: np.ndarray
    masks: list[np.ndarray] | None = None
    boxes: list[np.ndarray] | None = None
    groups: list[str] | None = None


def open_labels(hidden: Hidden, file: str | Path | None = None) -> Labels:
    """Reads the labels of a hidden set.

    Args:
        hidden: The set.
        file: The file of the labels, if it is not in the set's own folder.

    Raises:
        InputError: They are missing, or belong to another set.
    """
    file = Path(file).expanduser() if file else hidden.path / LABELS
    lines, ids, labels, halves, groups = _read_labels(file)
    known_classes = [*hidden.class_names, *([""] if hidden.task == "detection" else [])]  # an image may show no object
    places, classes = find_words(ids, hidden.ids), find_words(labels, known_classes)
    what, known = None, set(places) - {None}
    changed = [n for n, place in enumerate(places) if place is None and reads_as_number(ids[n])]
    no_half = next((n for n, half in enumerate(halves) if fold(half) not in HALVES), None)
    if changed and len(ids) == len(hidden.ids):
        told = "a spreadsheet has changed {n} {n:id|ids} into numbers, such as '{cell}' in line {line}"
        what = Sentence(told, n=len(changed), cell=ids[changed[0]], line=lines[changed[0]])
    elif len(known) != len(hidden.ids) or len(ids) != len(known):
        told = "it has {rows} ids, but only {found} of them belong to these {images} images"
        what = Sentence(told, rows=len(ids), found=len(known), images=len(hidden.ids))
    elif None in classes:
        first = classes.index(None)
        what = Sentence("there is no class {name} (line {line})", name=labels[first], line=lines[first])
    elif no_half is not None:
        what = Sentence("there is no half {name} (line {line})", name=halves[no_half], line=lines[no_half])
    if what is not None:
        raise InputError(
            "{file} does not belong to {path}: {what}. Give the labels that were written with these images.",
            file=file,
            path=hidden.path,
            what=what,
        )
    order = np.argsort(places)
    public = np.array([fold(half) == HALVES[0] for half in halves] or [False] * len(ids))
    labels = Labels(np.array(classes)[order], public[order])
    if hidden.sizes is None:
        return labels
    # An image in no group is a group of its own.
    words = [groups[at] or f"\0{ids[at]}" for at in order] if any(groups) else None
    if hidden.task == "detection":
        boxes = _read_boxes(hidden, file.parent / BOXES)
        found = np.array([find_commonest_class(rows, len(hidden.class_names)) for rows in boxes])
        return replace(labels, classes=found, boxes=boxes, groups=words)
    return replace(labels, masks=_read_masks(hidden, file.parent / MASKS), groups=words)


def _read_boxes(hidden: Hidden, file: Path) -> list[np.ndarray]:
    """The boxes of a hidden set; raises InputError if they cannot be read, or do not belong to this set."""
    try:
        coco = parse_coco(file.read_bytes(), file.name)
    except (OSError, InputError) as error:
        reason = error if isinstance(error, InputError) else f"{error.strerror}."
        raise InputError(
            "The boxes {file} cannot be read: {reason} Copy the folder of the labels again.", file=file, reason=reason
        ) from None
    of_image = {} if coco is None else coco.images
    known = {f"{name}.png": size for name, size in zip(hidden.ids, hidden.sizes, strict=True)}
    if {name: of.size for name, of in of_image.items()} != known or coco.class_names != hidden.class_names:
        raise InputError(
            "The boxes {file} do not belong to this hidden set. Copy the folder of the labels again.", file=file
        )
    number_of, boxes = {name: number for number, name in enumerate(hidden.class_names)}, []
    for name in known:
        rows = [
            [*corners, number_of[kind]]
            for corners, kind in zip(of_image[name].rows, of_image[name].classes, strict=True)
        ]
        boxes.append(np.array(rows, np.float64).reshape(-1, 5))
    return boxes


def _read_masks(hidden: Hidden, folder: Path) -> list[np.ndarray]:
    """The masks of a hidden set; raises InputError if one is missing, or does not belong to this set."""
    masks = []
    for name, size in zip(hidden.ids, hidden.sizes, strict=True):
        file = folder / f"{name}.png"
        try:
            mask = decode_values(file.read_bytes(), file.name)
        except OSError as error:
            raise InputError(
                "The mask {file} cannot be read: {reason}. Copy the folder of the labels again.",
                file=file,
                reason=error.strerror,
            ) from None
        if mask.shape != size or mask.max() >= len(hidden.class_names):
            raise InputError(
                "The mask {file} does not belong to this hidden set. Copy the folder of the labels again.", file=file
            )
        masks.append(mask)
    return masks


def _read_labels(file: Path) -> tuple[list[int], list[str], list[str], list[str], list[str]]:
    """The line, label, id, half and group of each image; no halves or groups if there is no such column."""
    try:
        table = read_table(file.read_bytes(), lambda cells: {"id", "label"} <= {fold(cell) for cell in cells})
    except FileNotFoundError:
        raise InputError(
            "The labels {file} are not here. Name them with --labels FILE, or only predict: --predict-only.", file=file
        ) from None
    except (OSError, TableError):
        table = Table([], [], ",")
    header, *rows = table.rows or [[]]
    columns = find_words(["id", "label", "half", "group"], header)
    if None in columns[:2]:
        raise InputError("{file} cannot be read. It is a CSV file with the columns id,label,half.", file=file)
    ids, labels, halves, groups = (
        [row[column] if column < len(row) else "" for row in rows] if column is not None else [] for column in columns
    )
    return table.lines[1:], ids, labels, halves, groups


def find_exposing_work_tree(folder: Path) -> Path | None:
    """Returns the git work tree whose next commit would include a folder; None if there is none, or if it ignores the folder."""
    folder = folder.expanduser().resolve()
    tree = next((place for place in (folder, *folder.parents) if (place / ".git").exists()), None)
    if tree is None:
        return None
    # A pattern that ends in a slash ignores a folder too, so git is asked about a file in it.
    words = ["git", "-C", str(tree), "check-ignore", "--quiet", str(folder / "labels" / "labels.csv")]
    try:
        is_ignored = subprocess.run(words, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):  # git is not installed here: it may be on the machine that commits
        is_ignored = False
    return None if is_ignored else tree
