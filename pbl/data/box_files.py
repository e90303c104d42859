"""Images with boxes of objects, in a folder: COCO, Pascal VOC or YOLO.

    photos/images/1.jpg  photos/annotations/instances_train.json  photos/annotations/instances_val.json        COCO
    photos/train/1.jpg  photos/train/_annotations.coco.json  photos/valid/ ...                                 COCO as Roboflow writes it
    photos/JPEGImages/1.jpg  photos/Annotations/1.xml  photos/ImageSets/Main/train.txt                         Pascal VOC
    photos/1.jpg  photos/1.xml                                                                                 as labelImg writes it
    photos/images/train/1.jpg  photos/labels/train/1.txt  photos/data.yaml                                     YOLO
    photos/train/images/1.jpg  photos/train/labels/1.txt  photos/classes.txt                                   the other way round

An annotation of one image has the path of its image, except for the ending and the folders `images` and `labels` (and similar ones). Official
splits are kept if they are given by folders, the names of COCO files, or lists of images (`ImageSets/Main/train.txt`, `train.txt`). An image
that has no annotation file, or an empty one, is an image without boxes.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pbl.data.box_formats import (
    Annotation,
    Coco,
    parse_coco,
    parse_voc,
    parse_yaml,
    parse_yolo,
    read_name_lines,
    read_yaml_names,
)
from pbl.data.box_reading import read_annotations
from pbl.data.boxes import Boxes, find_most, tell_left_out, tell_set_aside
from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.folders import (
    ALL_MASK_FOLDERS,
    IMAGE_FOLDERS,
    Files,
    find_role,
    normalize,
    open_patiently,
    read_patiently,
    tell_passed_over,
    walk_files,
)
from pbl.data.images import LISTED, is_image_file
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Source
from pbl.errors import InputError, Sentence

TEXTS = frozenset({".json", ".xml", ".txt", ".yaml", ".yml", ".names"})  # files of an archive that are unpacked too
PLACES = IMAGE_FOLDERS | ALL_MASK_FOLDERS | {"annotation", "annots", "xml", "xmls", "boxes", "bboxes", "txt"}
NAMES_FILES = ("classes.txt", "labels.txt", "predefined_classes.txt")
SPLIT_LISTS = {"train": "train", "val": "val", "valid": "val", "test": "test", "trainval": "trainval"}
_PARSE = {"Pascal VOC": parse_voc, "YOLO": parse_yolo}
VALID = Sentence("COCO (.json), Pascal VOC (.xml) or YOLO (.txt)")


class BoxedFiles(Files):
    """The image files of one split with their boxes, as examples (content, `Boxes`, name); read ahead as `Files` does it.

    Args:
        root: The folder that names are relative to.
        files: Name and boxes of each image.
        class_names: Name of class 0, 1, ...
    """

    def __init__(self, root: Path, files: list[tuple[str, Boxes]], class_names: Sequence[str]):
        super().__init__(root, files)
        self.class_names = class_names

    @property
    def place(self) -> str:
        """A name for these files that stays the same when their content changes."""
        return f"{super().place} {self.class_names}"

    def listing(self) -> str:
        """A digest of the images' names, sizes and times, and of their boxes."""
        digest = hashlib.sha256(repr(([name for name, _ in self.files], self._status)).encode("utf-8", "surrogatepass"))
        for _, boxes in self.files:
            digest.update(repr((len(boxes.rows), boxes.size, boxes.is_share)).encode() + boxes.rows.tobytes())
        return digest.hexdigest()


class _Folder(NamedTuple):
    """The files of a folder, by names relative to it, sorted.

    Attributes:
        root: The folder.
        images, jsons, xmls, texts, yamls, names: Files of these kinds; `names` are files of class names.
        passed_over: How many others there are, by their endings.
    """

    root: Path
    images: list[str]
    jsons: list[str]
    xmls: list[str]
    texts: list[str]
    yamls: list[str]
    names: list[str]
    passed_over: Counter[str]

    def read(self, name: str) -> bytes:
        return read_patiently((self.root / name).read_bytes, self.root / name, name)


class _Labelled(NamedTuple):
    """The images of a folder with their annotations, before classes have numbers.

    Attributes:
        splits: Images and annotations of each split: (name, annotation's name, annotation).
        class_names: Name of class 0, 1, ...
        findings: What was found while reading.
        is_share: Whether positions are shares of width and height.
    """

    splits: dict[str, list[tuple[str, str, Annotation]]]
    class_names: list[str]
    findings: list[Finding]
    is_share: bool = False


def boxed_folder(folder: str | Path) -> Source:
    """Opens a folder of images with boxes, in one of the forms above.

    Raises:
        InputError: There is no such folder, no image or no annotation in it, or annotations in several formats; an annotation is broken, belongs to
            an image that is missing, or has a class without a name.

    Example:
        >>> from pbl.data import boxed_folder
        >>> source = boxed_folder("scenes")  # scenes/images/0.png, scenes/labels/0.txt, scenes/labels/classes.txt
        >>> source.class_names
        ['zero']
    """
    root = expand(folder)
    return open_patiently(lambda: _open_folder(root, folder), root, folder)


def _open_folder(root: Path, folder: str | Path) -> Source:
    if not root.is_dir():
        raise InputError("No folder {folder}. {near}", folder=folder, near=names_beside(root))
    held = _list_folder(_descend(root))
    if not held.images:
        raise InputError(
            "{folder} contains no image. Put the images there, with their boxes: {valid}.", folder=folder, valid=VALID
        )
    labelled = _read_folder(held, folder)
    number_of = {name: number for number, name in enumerate(labelled.class_names)}
    files: dict[str, list[tuple[str, Boxes]]] = {}
    for split, of_split in labelled.splits.items():
        files[split] = []
        for image, name, of in of_split:
            rows = np.zeros((len(of.rows), 5))
            if of.rows:
                rows[:, :4] = of.rows
                rows[:, 4] = [label if isinstance(label, int) else number_of[label] for label in of.classes]
            files[split].append((image, Boxes(rows, name, of.size, labelled.is_share)))
    counts = [(len(boxes.rows), name) for of_split in files.values() for name, boxes in of_split]
    most = find_most([count for count, _ in counts], [name for _, name in counts])
    if not any(count for count, _ in counts):
        raise InputError(
            "{folder}: none of {n} images has a box. Valid: {valid}, with boxes around the objects to find.",
            folder=folder,
            n=len(counts),
            valid=VALID,
        )
    parts = {split: partial(BoxedFiles, held.root, of, labelled.class_names) for split, of in files.items()}
    return Source(
        labelled.class_names,
        parts["train"],
        parts.get("test"),
        parts.get("val"),
        findings=(*labelled.findings, *tell_left_out(*_count_left_out(labelled)), *tell_passed_over(held.passed_over)),
        has_boxes=True,
        most_boxes=most,
    )


def _count_left_out(labelled: _Labelled) -> tuple[list[int], list[str]]:
    """How many boxes of each image are left out, and the names of the images."""
    found = [(one.left_out, image) for of in labelled.splits.values() for image, _, one in of]
    return [count for count, _ in found], [image for _, image in found]


def _descend(root: Path) -> Path:
    """Goes down while a folder holds nothing but one folder, as in many archives."""
    for _ in range(10):
        with os.scandir(root) as entries:
            inside = [entry for entry in entries if not is_hidden(entry.name)]
        if len(inside) != 1 or not inside[0].is_dir() or find_role(inside[0].name):
            return root
        if inside[0].name.casefold() in PLACES:
            return root
        root = root / inside[0].name
    return root


def _list_folder(root: Path) -> _Folder:
    kinds: dict[str, list[str]] = {ending: [] for ending in (*TEXTS, "")}
    names: list[str] = []
    passed_over: Counter[str] = Counter()
    for entry in walk_files(root):
        name = Path(entry.path).relative_to(root).as_posix()
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in LISTED or (suffix not in TEXTS and is_image_file(root / name)):
            kinds[""].append(name)
        elif suffix == ".names" or name.rpartition("/")[2].casefold() in NAMES_FILES:
            names.append(name)
        elif suffix in TEXTS:
            kinds[suffix].append(name)
        else:
            passed_over[suffix] += 1
    return _Folder(
        root,
        kinds[""],
        kinds[".json"],
        kinds[".xml"],
        kinds[".txt"],
        kinds[".yaml"] + kinds[".yml"],
        names,
        passed_over,
    )


def _key(name: str) -> str:
    """The key that joins an annotation with its image: the path without the ending, and without folders like `images` and `labels`."""
    *folders, file = normalize(name).split("/")
    return "/".join([*(part for part in folders if part.casefold() not in PLACES), PurePosixPath(file).stem])


def _split_of(name: str) -> str | None:
    """The split that a folder in a path stands for, if any."""
    for part in name.split("/")[:-1]:
        if part.casefold() in PLACES or not (role := find_role(part)):
            continue
        if all(word.isdecimal() for word in role[1]):  # train2017
            return role[0]
    return None


def _read_folder(held: _Folder, folder: str | Path) -> _Labelled:
    """Reads the annotations of the one format that there is."""
    keys = {_key(name) for name in held.images}
    lists = {
        name for name in held.texts if PurePosixPath(name).stem.casefold() in SPLIT_LISTS and _key(name) not in keys
    }
    texts = [name for name in held.texts if name not in lists and "ImageSets/" not in name]
    of_images = [name for name in texts if _key(name) in keys]
    if not of_images:  # all of them may have other names: then the error is that they have no image
        of_images = [name for name in texts if _in_places(name)]
    jsons = [name for name in held.jsons if _is_coco(held, name)]
    found = {"COCO": jsons, "Pascal VOC": held.xmls, "YOLO": of_images}
    kinds = [kind for kind, names in found.items() if names]
    if len(kinds) > 1:
        raise InputError(
            "{folder} contains boxes in several formats: {found}. Which are right? Keep one format, and remove the others.",
            folder=folder,
            found="; ".join(f"{kind}, {names[0]}" for kind, names in found.items() if names),
        )
    if not kinds:
        others = [*held.jsons, *held.texts, *held.yamls, *held.names]
        raise InputError(
            "{folder} contains {n} {n:image|images}, but no boxes{others}. Valid: {valid}.",
            folder=folder,
            n=len(held.images),
            valid=VALID,
            others=Sentence(": {names} are not annotations", names=", ".join(others[:5])) if others else "",
        )
    if kinds == ["COCO"]:
        return _read_coco(held, jsons, folder)
    return _read_single(held, kinds[0], found[kinds[0]], folder)


def _in_places(name: str) -> bool:
    return any(part.casefold() in PLACES for part in name.split("/")[:-1])


def _is_coco(held: _Folder, name: str) -> bool:
    """Whether a JSON file is meant as COCO: by its content, or by its name if it is damaged."""
    content = held.read(name)
    words = sum(word in content for word in (b'"images"', b'"annotations"', b'"categories"'))
    is_called_so = re.search(r"annotations|instances|coco", name.casefold()) is not None
    return words >= 2 or (
        is_called_so and (words > 0 or not content.lstrip()[:1] or content.rstrip()[-1:] not in b"]}")
    )


# --- COCO


def _read_coco(held: _Folder, jsons: Sequence[str], folder: str | Path) -> _Labelled:
    read = {name: parse_coco(held.read(name), name) for name in jsons}
    cocos = {name: coco for name, coco in read.items() if coco is not None}
    if not cocos:
        raise InputError(
            "{folder}: {name} has annotations without boxes (bbox). Give the file of boxes, such as instances_train.json.",
            folder=folder,
            name=jsons[0],
        )
    instances = {name: coco for name, coco in cocos.items() if "instances" in name.rpartition("/")[2].casefold()}
    if instances:  # files with key points of the same images may be next to them
        cocos = instances | {name: coco for name, coco in cocos.items() if not coco.is_labelled}
    by_split: dict[str, str] = {}
    for name in cocos:
        role = find_role(PurePosixPath(name).stem)
        split = role[0] if role else _split_of(name)
        if split is None and len(cocos) > 1:
            raise InputError(
                "{folder} contains {found}: which split is {name}? Rename them to train.json, val.json and test.json, or keep one.",
                folder=folder,
                found=", ".join(list(cocos)[:5]),
                name=name,
            )
        split = split or "train"
        if split in by_split:
            raise InputError(
                "{folder} contains {found}: which is {split}? Keep one.",
                folder=folder,
                found=" and ".join(sorted([by_split[split], name])),
                split=split,
            )
        by_split[split] = name
    set_aside = [name for split, name in by_split.items() if not cocos[name].is_labelled and split != "train"]
    by_split = {split: name for split, name in by_split.items() if name not in set_aside}
    if "train" not in by_split:
        raise InputError(
            "{folder} contains boxes for {splits} but none for train: {found}. Rename the file of the training images to train.json.",
            folder=folder,
            splits=", ".join(by_split),
            found=", ".join(by_split.values()),
        )
    class_names = list(dict.fromkeys(label for name in by_split.values() for label in cocos[name].class_names))
    splits = {split: _find_coco_images(held, name, cocos[name], split) for split, name in by_split.items()}
    split_of: dict[str, str] = {}
    for split, of_split in splits.items():
        for image, _, _ in of_split:
            if image in split_of:
                raise InputError(
                    "{folder}: {image} is in {one} and in {other}. Remove it from one of the two.",
                    folder=folder,
                    image=image,
                    one=by_split[split_of[image]],
                    other=by_split[split],
                )
            split_of[image] = split
    findings = tell_set_aside(set_aside)
    rest = [image for image in held.images if image not in split_of]
    if rest and not set_aside:
        findings += one_finding(
            "images_not_listed",
            "act",
            "{n} {n:image is|images are} in no COCO file, such as {examples}: nothing is learned from {n:it|them}. If {n:it shows|they show} no object, list {n:it|them} under 'images'.",
            rest,
            n=len(rest),
        )
    return _Labelled(splits, class_names, findings)


def _find_coco_images(held: _Folder, name: str, coco: Coco, split: str) -> list[tuple[str, str, Annotation]]:
    """The file of each image in a COCO file: the one whose path has the most parts at its end in common with `file_name`."""
    by_file = defaultdict(list)
    for image in held.images:
        by_file[normalize(image).rpartition("/")[2]].append(image)
    beside = str(PurePosixPath(name).parent)
    found, missing, listed = [], [], {}
    for file, of in coco.images.items():
        wanted = [part for part in normalize(file).replace("\\", "/").split("/") if part not in ("", ".", "..")]
        candidates = by_file.get(wanted[-1], []) if wanted else []

        def rank(image: str, wanted: Sequence[str] = wanted) -> tuple:
            parts = normalize(image).split("/")[::-1]
            alike = next((at for at, (a, b) in enumerate(zip(parts, wanted[::-1], strict=False)) if a != b), None)
            alike = min(len(parts), len(wanted)) if alike is None else alike
            return alike, str(PurePosixPath(image).parent) == beside, _split_of(image) == split

        candidates = sorted(candidates, key=rank, reverse=True)
        if not candidates:
            missing.append(file)
            continue
        if len(candidates) > 1 and rank(candidates[0]) == rank(candidates[1]):
            raise InputError(
                "{name}: '{file}' may be {one} or {other}. Give its folder in file_name.",
                name=name,
                file=file,
                one=candidates[0],
                other=candidates[1],
            )
        if candidates[0] in listed:
            raise InputError(
                "{name} has the image {image} twice (id or file_name). Keep one.",
                name=name,
                image=f"{listed[candidates[0]]}, {file}",
            )
        listed[candidates[0]] = file
        found.append((candidates[0], name, of))
    if missing:
        raise InputError(
            "{name} lists {n} {n:image that is|images that are} not there, such as {file}. Put {n:it|them} next to the file, or remove {n:it|them} from it.",
            name=name,
            n=len(missing),
            file=missing[0],
        )
    return found


# --- Pascal VOC and YOLO: one file for each image


def _read_single(held: _Folder, kind: str, files: Sequence[str], folder: str | Path) -> _Labelled:
    image_of: dict[str, str] = {}
    for image in held.images:
        if _key(image) in image_of:
            raise InputError(
                "{folder}: {one} and {other} have the same annotation file. Keep one of them, or give each its own name.",
                folder=folder,
                one=image_of[_key(image)],
                other=image,
            )
        image_of[_key(image)] = image
    file_of: dict[str, str] = {}
    for file in files:
        if _key(file) in file_of:
            raise InputError(
                "{folder}: {one} and {other} belong to the same image. Keep one.",
                folder=folder,
                one=file_of[_key(file)],
                other=file,
            )
        file_of[_key(file)] = file
    unused = sorted(file for key, file in file_of.items() if key not in image_of)
    used = sorted(file for key, file in file_of.items() if key in image_of)
    if not used:
        raise InputError(
            "{folder}: no annotation belongs to an image: {file} has no image with the name {stem}, and the other annotations have none either. An "
            "annotation has the name of its image, with another ending.",
            folder=folder,
            file=unused[0],
            stem=PurePosixPath(unused[0]).stem,
        )
    read = read_annotations(held.root, used, _PARSE[kind])
    splits, findings = _share_out(held, image_of, folder)
    labelled: dict[str, list[tuple[str, str, Annotation]]] = {}
    bare, set_aside = [], []
    for split, images in splits.items():
        of_split = [(image, file_of.get(_key(image), ""), image) for image in images]
        without = [image for image, file, _ in of_split if not file]
        if len(without) == len(of_split):
            set_aside.append(split)
            continue
        bare += without
        labelled[split] = [(image, file, read[file] if file else Annotation([], [])) for image, file, _ in of_split]
    if "train" not in labelled:
        raise InputError(
            "{folder}: no image of train has an annotation. Valid: {valid}, one file with the name of each image.",
            folder=folder,
            valid=VALID,
        )
    findings += tell_set_aside(set_aside)
    if bare:
        findings += one_finding(
            "images_without_annotation",
            "act" if kind == "Pascal VOC" else "note",
            "{n} {n:image has|images have} no annotation file, such as {examples}: {n:it counts as an image|they count as images} without objects. {n:Does it|Do they} show an object? Then annotate {n:it|them}, or leave {n:it|them} out.",
            bare,
            n=len(bare),
        )
    if unused:
        findings += one_finding(
            "annotations_without_image",
            "act",
            "{n} annotation {n:file has|files have} no image, such as {name}: nothing is learned from {n:it|them}. Are images missing, or do they have other names?",
            unused,
            n=len(unused),
            name=unused[0],
        )
    label = _label_yolo if kind == "YOLO" else _label_voc
    return label(held, _Labelled(labelled, [], findings), folder)


def _label_yolo(held: _Folder, labelled: _Labelled, folder: str | Path) -> _Labelled:
    """Adds the names of the classes, which are in other files."""
    names, source = _find_names(held, folder)
    numbers = ((label, file) for of in labelled.splits.values() for _, file, one in of for label in one.classes)
    largest, file = max(numbers, default=(0, held.images[0]))
    if names is None:
        raise InputError(
            "{folder} does not name its classes, and {file} has the class number {number}. Write classes.txt into the folder, one class a line, "
            "the first line for number 0; or data.yaml with names: [cat, dog].",
            folder=folder,
            file=file,
            number=largest,
        )
    if largest >= len(names):
        raise InputError(
            "{file} has the class {number}, but {source} names {n}, from 0 to {last}: {names}. Name it there, or correct the number.",
            file=file,
            number=largest,
            source=source,
            n=len(names),
            last=len(names) - 1,
            names=", ".join(names[:20]),
        )
    return labelled._replace(class_names=names, is_share=True)


def _label_voc(held: _Folder, labelled: _Labelled, folder: str | Path) -> _Labelled:
    """Adds the names of the classes. If the smallest corner is 0, corners are not counted from 1: they are used as they are."""
    labelled = labelled._replace(class_names=_name_voc_classes(held, labelled.splits, folder))
    starts = [(min(row[:2]), file) for of in labelled.splits.values() for _, file, one in of for row in one.rows]
    first, file = min(starts, default=(0, ""))
    if not -1 <= first < 0:  # `parse_voc` has subtracted 1
        return labelled
    splits = {
        split: [
            (image, of, one._replace(rows=[[row[0] + 1, row[1] + 1, *row[2:]] for row in one.rows]))
            for image, of, one in of_split
        ]
        for split, of_split in labelled.splits.items()
    }
    told = one_finding(
        "corners_from_zero",
        "note",
        "Corners in the Pascal VOC files are counted from 0, for example in {file}, but the format counts pixels from 1: they are used unchanged as the edges of the boxes.",
        file=file,
    )
    return labelled._replace(splits=splits, findings=labelled.findings + told)


def _name_voc_classes(held: _Folder, splits: Mapping[str, list], folder: str | Path) -> list[str]:
    """The names in `classes.txt` if there is one, else all names that occur, sorted."""
    first = {label: file for of in splits.values() for _, file, one in of for label in one.classes}
    names, source = _find_names(held, folder)
    if names is None:
        return sorted(
            first, key=lambda label: [(part.isdecimal(), part.zfill(12)) for part in re.split(r"(\d+)", label) if part]
        )
    unknown = sorted(set(first) - set(names))
    if unknown:
        raise InputError(
            "{file} has the class '{label}', but {source} does not name it: {names}. Name it there, or correct it.",
            file=first[unknown[0]],
            label=unknown[0],
            source=source,
            names=", ".join(names[:20]),
        )
    return names


def _find_names(held: _Folder, folder: str | Path) -> tuple[list[str] | None, str]:
    """The names of the classes and the file that has them: `data.yaml` before others; None if no file has them."""
    by_yaml = {}
    for name in held.yamls:
        content = parse_yaml(held.read(name), name)
        if "names" in content:
            by_yaml[name] = read_yaml_names(content, name)
    for found in (by_yaml, {name: lines for name in held.names if (lines := read_name_lines(held.read(name), name))}):
        if not found:
            continue
        (one, names), *others = found.items()
        for other, differing in others:
            if differing != names:
                raise InputError(
                    "{folder}: {one} and {other} name the classes differently. Keep the right one.",
                    folder=folder,
                    one=one,
                    other=other,
                )
        return names, one
    return None, ""


def _share_out(
    held: _Folder, image_of: Mapping[str, str], folder: str | Path
) -> tuple[dict[str, list[str]], list[Finding]]:
    """The images of each official split; all as "train" if there are none."""
    by_folder = {image: _split_of(image) for image in held.images}
    if not any(by_folder.values()):
        by_folder = _read_lists(held, image_of, folder) or dict.fromkeys(held.images, "train")
    splits: dict[str, list[str]] = {}
    for image, split in by_folder.items():
        if split:
            splits.setdefault(split, []).append(image)
    if "train" not in splits:
        raise InputError(
            "{folder} contains images for {splits} but none for train. Valid: only images and boxes, or train/ with val/ and test/ if there are any.",
            folder=folder,
            splits=", ".join(splits),
        )
    others = [image for image in held.images if not by_folder.get(image)]
    if not others:
        return splits, []
    return splits, one_finding(
        "images_beside_splits",
        "act",
        "{n} {n:image is|images are} in no split, such as {examples}, but others are: nothing is learned from {n:it|them}. Put {n:it|them} into a split, or remove {n:it|them}.",
        others,
        n=len(others),
    )


def _read_lists(held: _Folder, image_of: Mapping[str, str], folder: str | Path) -> dict[str, str]:
    """The split of each image by lists of images, such as `ImageSets/Main/train.txt`, or by the folders or lists that `data.yaml` names."""
    lists: dict[str, str] = {}
    for name in held.texts:
        split = SPLIT_LISTS.get(PurePosixPath(name).stem.casefold())
        if split and _key(name) not in image_of and ("ImageSets/" not in name or "ImageSets/Main/" in name):
            lists.setdefault(split, name)
    if "train" not in lists and "trainval" not in lists:
        return _read_yaml_folders(held)
    by_stem = defaultdict(list)
    for key, image in image_of.items():
        by_stem[key.rpartition("/")[2]].append((key, image))
    split_of: dict[str, str] = {}
    for split in ("test", "val", "train", "trainval"):
        if split not in lists or (split == "trainval" and "train" in lists):
            continue
        name = lists[split]
        for line in read_name_lines(held.read(name), name):
            entry = line.replace("\\", "/")
            entry = entry if (suffix := PurePosixPath(entry).suffix.lower()) in LISTED else f"{entry.split()[0]}.jpg"
            key = _key(entry)
            found = [image for one, image in by_stem.get(key.rpartition("/")[2], []) if _are_alike(one, key)]
            if not found:
                raise InputError(
                    "{name} lists the image {entry}, which is not there. Put it there, or remove it from the list.",
                    name=name,
                    entry=line if suffix in LISTED else line.split()[0],
                )
            before = split_of.setdefault(found[0], "train" if split == "trainval" else split)
            if before != split and split != "trainval":
                raise InputError(
                    "{folder}: {image} is in {one} and in {other}. Remove it from one of the two.",
                    folder=folder,
                    image=found[0],
                    one=lists[before],
                    other=name,
                )
    return split_of


def _are_alike(one: str, other: str) -> bool:
    """Whether one of two paths ends with the whole other path, which may be only a file name."""
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def _read_yaml_folders(held: _Folder) -> dict[str, str]:
    """The split of each image by the folders that a `data.yaml` names as train, val and test; {} if they do not separate a split from train."""
    for name in held.yamls:
        content: dict[str, Any] = parse_yaml(held.read(name), name)
        split_of: dict[str, str] = {}
        for split in ("train", "val", "test"):
            places = content.get(split)
            for place in places if isinstance(places, list) else [places]:
                if not isinstance(place, str):
                    continue
                parts = [part for part in place.replace("\\", "/").split("/") if part not in ("", ".", "..")]
                inside = f"/{'/'.join(parts)}/"
                for image in held.images:
                    if parts and inside in f"/{image}":
                        split_of.setdefault(image, split)
        if "train" in split_of.values() and len(set(split_of.values())) > 1:
            return split_of
    return {}
