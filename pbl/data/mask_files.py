"""Images with a mask each: a class for every pixel, 0 for the background.

    photos/images/1.jpg  photos/masks/1.png                             the same stem; or masks/1_mask.png
    photos/images/cat/1.jpg  photos/masks/cat/1.png                     below folders of the same names
    photos/train/images/1.jpg  photos/train/masks/1.png  photos/test/images/9.jpg ...        official splits, which are kept
    photos/images/train/1.jpg  photos/masks/train/1.png ...             the same the other way round
    photos/masks/1_mask.png  photos/masks/1_mask_1.png  photos/masks/1/a.png ...             several masks of an image: united

A mask has one grey value a class (0, 1, 2, or 0 and 255), or one colour a class; the classes come in the order of the values, of colours
of red, green and blue, and the background is the value 0, black. A file `classes.txt` beside the folders gives them names, one a line, the
background's first; a line may begin with its value or colour (`255 0 0 lesion`).
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.folders import MASK_FOLDERS, MASK_WORD, find_role, normalize, read_content, read_patiently
from pbl.data.images import MOST_PIXELS, is_image_file, opened
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Example, Source, Unreadable
from pbl.errors import InputError, Sentence, join_sentences

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "jpegimages"}
ALL_MASK_FOLDERS = MASK_FOLDERS | {
    "labels",
    "label",
    "annotations",
    "segmentation",
    "segmentations",
    "segmentationclass",
}
MOST_CLASSES = 64  # a mask with more values is a photograph, or was saved as JPEG, which blurs classes
NAMES_FILE = "classes.txt"
_ENDING = re.compile(MASK_WORD + r"[ _-]*\d*$", re.IGNORECASE)


class Coding(NamedTuple):
    """What the values of masks mean.

    Attributes:
        values: Of each class its grey value, or its colour as red * 65536 + green * 256 + blue.
        names: Of each class; the background's first.
        is_colour: Whether the values are colours.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    is_colour: bool

    def to_classes(self, values: np.ndarray, name: str) -> np.ndarray:
        """Returns the class of each pixel, `uint8 [height, width]`; raises InputError where a value is no class."""
        known = np.array(self.values)
        order = np.argsort(known)
        at = np.searchsorted(known[order], values).clip(0, len(known) - 1)
        wrong = known[order][at] != values
        if wrong.any():
            raise InputError(
                "The mask {name} has the value {value} in {pixels} pixel(s), which is no class. Classes have: {values}.",
                name=name, value=self._say(int(values[wrong][0])), pixels=int(wrong.sum()),
                values=", ".join(map(self._say, self.values)),
            )  # fmt: skip
        return order[at].astype(np.uint8)

    def _say(self, value: int) -> str:
        return say_value(value, self.is_colour)


def say_value(value: int, is_colour: bool) -> str:
    """A grey value as a number, a colour as its three."""
    return f"{value >> 16} {value >> 8 & 255} {value & 255}" if is_colour else str(value)


@dataclass(frozen=True)
class Mask:
    """The mask of an image, which is decoded when it is needed.

    Args:
        parts: What stands in its files, or their pixels; several are united.
        names: What they are called.
        coding: What their values mean.
    """

    parts: tuple[bytes | np.ndarray | Unreadable, ...]
    names: tuple[str, ...]
    coding: Coding

    def read(self, image: str, shape: tuple[int, int]) -> np.ndarray:
        """Returns the class of each pixel, `uint8 [height, width]`.

        Args:
            image: The name of its image, for errors.
            shape: Height and width of its image.

        Raises:
            InputError: There is none, it cannot be read, has another shape than its image, or values that are no class.
        """
        if not self.parts:
            raise InputError("{image} has no mask. Put one beside it, or leave the image out.", image=image)
        united = np.zeros(shape, np.uint8)
        for part, name in zip(self.parts, self.names, strict=True):
            if isinstance(part, Unreadable):
                raise part
            values = part if isinstance(part, np.ndarray) else decode_values(part, name)
            if values.shape[:2] != tuple(shape):
                raise InputError(
                    "The mask {mask} has {found} pixels, and its image {image} has {shape}.",
                    mask=name, found="x".join(map(str, values.shape[:2])), image=image, shape="x".join(map(str, shape)),
                )  # fmt: skip
            classes = self.coding.to_classes(to_numbers(values, self.coding.is_colour), name)
            united = np.where(classes > 0, classes, united)
        return united


def decode_values(content: bytes, name: str) -> np.ndarray:
    """Decodes a mask as it is, `uint8` or `uint16 [height, width]`, or `uint8 [height, width, 3]`; where it is transparent it is black.

    Raises:
        InputError: It is empty, no image, damaged, or too large.
    """
    try:
        with opened(content) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(Sentence("it has more than {most} million pixels", most=MOST_PIXELS // 10**6))
            if picture.mode.startswith("I"):  # 16 or 32 bits
                return np.asarray(picture).astype(np.uint16)
            if picture.mode in ("1", "L"):
                return np.asarray(picture.convert("L"))
            values = np.asarray(picture.convert("RGBA"))
            return values[..., :3] * (values[..., 3:] > 0)
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises nearly any on damaged files
        raise InputError(
            "The mask {name} cannot be decoded: {error}. Save it anew, as PNG.", name=name, error=error
        ) from None


def to_numbers(values: np.ndarray, is_colour: bool) -> np.ndarray:
    """One number a pixel, `int64 [height, width]`: the grey value, or of a colour red * 65536 + green * 256 + blue."""
    if values.ndim == 2:
        return values.astype(np.int64) * (0x10101 if is_colour else 1)
    red, green, blue = np.moveaxis(values.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue if is_colour else red


class MaskedFiles:
    """The image files of one split with their masks, as examples (content, `Mask`, name).

    Args:
        root: The folder that names are relative to.
        files: Of each image its name, and those of its masks.
        coding: What the masks' values mean.
    """

    def __init__(self, root: Path, files: Sequence[tuple[str, tuple[str, ...]]], coding: Coding):
        self.root, self.files, self.coding = root, files, coding

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Example]:
        for name, masks in self.files:
            parts = tuple(read_content(self.root, mask) for mask in masks)
            yield read_content(self.root, name), Mask(parts, masks, self.coding), normalize(name)

    @property
    def place(self) -> str:
        """What these files are called, however they change."""
        return f"{self.root.resolve()} {self.coding}"

    def listing(self) -> str:
        """A digest of the files' names, sizes and times."""
        status = []
        for name, masks in self.files:
            for file in (name, *masks):
                with_status = (self.root / file).stat() if (self.root / file).exists() else None
                status.append((file, with_status and (with_status.st_size, with_status.st_mtime_ns)))
        return hashlib.sha256(repr(status).encode("utf-8", "surrogatepass")).hexdigest()


def masked_folder(folder: str | Path) -> Source:
    """Opens a folder of images with a mask each, in one of the forms above.

    Raises:
        InputError: There is no such folder, none of images or none of masks in it; an image has no mask (all are named); the masks'
            values are no classes.
    """
    root = expand(folder)
    if not root.is_dir():
        raise InputError("No folder {folder}. {near}", folder=folder, near=names_beside(root))
    root = _descend(root)
    splits = _find_splits(root, folder)
    files = {split: _match(root, *places) for split, places in splits.items()}
    _refuse_missing(files, folder)
    coding, findings = _find_coding(root, files)
    parts = {split: partial(MaskedFiles, root, of, coding) for split, of in files.items()}
    findings += _tell_unused(root, splits, files)
    return Source(
        list(coding.names),
        parts["train"],
        parts.get("test"),
        parts.get("val"),
        findings=tuple(findings),
        has_masks=True,
    )


def _descend(root: Path) -> Path:
    """Goes down while a folder holds nothing but one folder that is none of images, masks or a split."""
    for _ in range(10):
        names = _folders_in(root)
        if len(names) != 1 or _role(names[0]) or find_role(names[0]):
            return root
        root = root / names[0]
    return root


def _folders_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name))


def _role(name: str) -> str | None:
    folded = name.casefold()
    return "images" if folded in IMAGE_FOLDERS else "masks" if folded in ALL_MASK_FOLDERS else None


def _find_pair(folder: Path) -> tuple[Path, Path] | None:
    """The folder of images and that of masks in a folder."""
    roles: dict[str, list[str]] = {"images": [], "masks": []}
    for name in _folders_in(folder):
        if (role := _role(name)) is not None:
            roles[role].append(name)
    for role, names in roles.items():
        if len(names) > 1:
            raise InputError(
                "{folder} holds {found}: which are the {role}? Keep one.",
                folder=folder,
                found=" and ".join(names),
                role=role,
            )
    return (folder / roles["images"][0], folder / roles["masks"][0]) if all(roles.values()) else None


def _find_splits(root: Path, folder: str | Path) -> dict[str, tuple[Path, Path]]:
    """Of each split the folder of its images and that of its masks; "train" alone where there are no official splits."""
    splits: dict[str, tuple[Path, Path]] = {}
    pair = _find_pair(root)
    if pair is None:  # train/images, train/masks
        for name in _folders_in(root):
            role = find_role(name)
            if role and (inner := _find_pair(root / name)) is not None:
                splits[role[0]] = inner
    else:
        images, masks = pair
        by_role = {role[0]: name for name in _folders_in(images) if (role := find_role(name)) and not role[1]}
        if "train" in by_role and all(
            (masks / name).is_dir() for name in by_role.values()
        ):  # images/train, masks/train
            splits = {split: (images / name, masks / name) for split, name in by_role.items()}
        else:
            splits = {"train": pair}
    if "train" not in splits:
        raise InputError(
            "{folder} holds {found}. Valid: images/ and masks/ with the same stems, or train/images/ and train/masks/ (with test/ and"
            " val/ where there are any).",
            folder=folder,
            found=", ".join(_folders_in(root)[:6]) or Sentence("no folder"),
        )
    return splits


def _list_files(folder: Path) -> list[str]:
    """The image files below a folder, by names relative to it, sorted."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += [
            Path(place, name).relative_to(folder).as_posix()
            for name in sorted(files)
            if not is_hidden(name) and is_image_file(Path(place, name))
        ]
    return found


def _match(root: Path, images: Path, masks: Path) -> list[tuple[str, tuple[str, ...]]]:
    """Of each image its masks: the same path and stem, `stem_mask`, `stem_mask_1` ..., or all files of a folder `stem/`."""
    by_stem: dict[tuple[str, str], list[str]] = {}
    for name in _list_files(masks):
        path = PurePosixPath(name)
        by_stem.setdefault((str(path.parent), path.stem), []).append(name)
    within, marked = {}, {}
    for (parent, stem), names in by_stem.items():
        within.setdefault(parent, []).extend(names)
        bare = _ENDING.sub("", stem)
        if bare != stem:
            marked.setdefault((parent, bare), []).extend(names)
    matched = []
    for name in _list_files(images):
        path = PurePosixPath(name)
        key = (str(path.parent), path.stem)
        found = by_stem.get(key) or marked.get(key) or within.get(str(path.parent / path.stem), [])
        where = [(masks / other).relative_to(root).as_posix() for other in sorted(found)]
        matched.append(((images / name).relative_to(root).as_posix(), tuple(where)))
    if not matched:
        raise InputError("{folder} holds no image. Put the images there.", folder=images)
    return matched


def _refuse_missing(files: Mapping[str, list], folder: str | Path) -> None:
    missing = [name for of_split in files.values() for name, masks in of_split if not masks]
    if missing:
        raise InputError(
            "{folder}: {n} image(s) have no mask, such as {name}. A mask has the same stem, {stem}.png or {stem}_mask.png, in the folder"
            " of masks; of an image that shows nothing it is black.",
            folder=folder, n=len(missing), name=missing[0], stem=PurePosixPath(missing[0]).stem,
        )  # fmt: skip


def _tell_unused(root: Path, splits: Mapping[str, tuple[Path, Path]], files: Mapping[str, list]) -> list[Finding]:
    """Masks without an image, and images with several masks."""
    used = {mask for of_split in files.values() for _, masks in of_split for mask in masks}
    unused = sorted(
        name
        for _, masks in splits.values()
        for name in ((masks / other).relative_to(root).as_posix() for other in _list_files(masks))
        if name not in used
    )
    several = [name for of_split in files.values() for name, masks in of_split if len(masks) > 1]
    found = []
    if unused:
        found += one_finding(
            "masks_without_image", "act",
            "{n} mask(s) have no image, such as {name}: nothing is learned from them. Are images missing, or named otherwise?",
            unused, n=len(unused), name=unused[0],
        )  # fmt: skip
    if several:
        found += one_finding(
            "several_masks", "note",
            "{n} image(s) have several masks, such as {name}: they are united, each pixel is of the class of the last one that marks it.",
            several, n=len(several), name=several[0],
        )  # fmt: skip
    return found


def _find_coding(root: Path, files: Mapping[str, list]) -> tuple[Coding, list[Finding]]:
    """Looks through all masks for their values."""
    names = [mask for of_split in files.values() for _, masks in of_split for mask in masks]
    grey: Counter[int] = Counter()
    colours: Counter[int] = Counter()
    example: dict[int, str] = {}
    problems = []

    def look(name: str) -> tuple[str, np.ndarray, np.ndarray, bool] | InputError:
        try:
            content = read_patiently((root / name).read_bytes, root / name, name)
            values = decode_values(content, name)
        except InputError as error:
            return error
        is_colour = values.ndim == 3 and bool((values != values[..., :1]).any())
        return name, *np.unique(to_numbers(values, is_colour), return_counts=True), is_colour

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for found in threads.map(look, names):
            if isinstance(found, InputError):
                problems.append(Sentence(found.template, **found.fields))
                continue
            name, values, counts, is_colour = found
            into = colours if is_colour else grey
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                into[value] += count
                example.setdefault(value, name)
    if problems:
        raise InputError(
            "{n} mask(s) cannot be read: {reasons}{more}", n=len(problems), reasons=join_sentences(problems[:10]),
            more=Sentence(" And {n} more.", n=len(problems) - 10) if len(problems) > 10 else "",
        )  # fmt: skip
    is_colour = bool(colours)
    if is_colour:  # a mask in which all is of one grey, such as black, is of that colour
        for value, count in grey.items():
            colours[value * 0x10101] += count
    values = sorted({0, *(colours if is_colour else grey)})
    if len(values) > MOST_CLASSES:
        raise InputError(
            "The masks have {n} different values, such as {values} in {name}: a mask has one value a class. Saved as JPEG, or made smaller"
            " with smoothing, classes run into each other: save masks as PNG, made smaller by nearest neighbour.",
            n=len(values), values=", ".join(say_value(value, is_colour) for value in values[1:4]), name=example.get(values[1], names[0]),
        )  # fmt: skip
    given = _read_names(root / NAMES_FILE)
    coding = _name(values, is_colour, given, root / NAMES_FILE)
    if len(coding.values) < 2:
        raise InputError(
            "The masks have no value but {value}: nothing is marked in any of {n} masks.",
            value=say_value(values[0], is_colour), n=len(names),
        )  # fmt: skip
    return coding, []


def _read_names(file: Path) -> list[tuple[int | None, str]]:
    """Value or colour, where one is given, and name of each class."""
    if not file.is_file():
        return []
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("{file} cannot be read: {error}. Give a class a line.", file=file, error=error) from None
    named = []
    for line in filter(None, map(str.strip, lines)):
        colour = re.match(r"(\d{1,3})[ ,;]+(\d{1,3})[ ,;]+(\d{1,3})[ ,;:]+(\S.*)", line)
        single = re.match(r"(\d+)[ ,;:]+(\S.*)", line)
        if colour:
            red, green, blue = map(int, colour.groups()[:3])
            named.append((red << 16 | green << 8 | blue, colour[4]))
        else:
            named.append((int(single[1]), single[2]) if single else (None, line))
    return named


def _name(values: list[int], is_colour: bool, given: list[tuple[int | None, str]], file: Path) -> Coding:
    if not given:
        if len(values) == 2:
            return Coding(tuple(values), ("background", "foreground"), is_colour)
        names = ["background", *(f"#{value:06x}" if is_colour else str(value) for value in values[1:])]
        return Coding(tuple(values), tuple(names), is_colour)
    if all(value is None for value, _ in given):
        if len(given) < len(values):
            raise InputError(
                "{file} names {named} class(es), and the masks have {n} values: {values}. Name each, the background first.",
                file=file, named=len(given), n=len(values), values=", ".join(say_value(value, is_colour) for value in values),
            )  # fmt: skip
        if len(given) > len(values) and not is_colour and max(values) < len(given):
            values = list(range(len(given)))  # classes that no mask has
        elif len(given) > len(values):
            raise InputError(
                "{file} names {named} class(es), and the masks have {n} values: {values}. Begin each line with its value.",
                file=file, named=len(given), n=len(values), values=", ".join(say_value(value, is_colour) for value in values),
            )  # fmt: skip
        return Coding(tuple(values), tuple(name for _, name in given), is_colour)
    known = dict(given)
    unnamed = [value for value in values if value not in known]
    if unnamed:
        raise InputError(
            "{file} has no name for the value {value}, which masks have.",
            file=file,
            value=say_value(unnamed[0], is_colour),
        )
    return Coding(tuple(value for value, _ in given), tuple(name for _, name in given), is_colour)


def from_masked_arrays(
    images: Any,
    masks: Any,
    class_names: Sequence[str] | None = None,
    test: tuple | None = None,
    val: tuple | None = None,
) -> Source:
    """Makes a source of arrays with masks.

    Args:
        images: `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`, 0 to 255, or a list of images of any sizes.
        masks: `int [n, height, width]`, the class of each pixel, 0 for the background; a list where sizes differ.
        class_names: Name of each class, the background's first; "background" and "foreground", or "1", "2", ... unless given.
        test: Images and masks of an official test split.
        val: Images and masks of an official validation split.

    Raises:
        InputError: Counts or shapes that differ; values that are no class.
    """
    pairs = {
        name: pair for name, pair in (("train", (images, masks)), ("test", test), ("val", val)) if pair is not None
    }
    highest = 1
    for name, (of_split, masks_of) in pairs.items():
        if len(of_split) != len(masks_of):
            raise InputError(
                "{name}: {images} images but {masks} masks. Each image needs one mask.",
                name=name, images=len(of_split), masks=len(masks_of),
            )  # fmt: skip
        for number, mask in enumerate(masks_of):
            mask = np.asarray(mask)
            if mask.ndim == 3 and mask.shape[-1] == 1:
                mask = mask[..., 0]
            if mask.ndim != 2 or mask.dtype.kind not in "biu" or (mask.size and (mask.min() < 0 or mask.max() > 255)):
                raise InputError(
                    "The mask {name}/{number} is {dtype} of shape {shape}. Valid: whole numbers [height, width], classes from 0.",
                    name=name, number=number, dtype=mask.dtype, shape=mask.shape,
                )  # fmt: skip
            highest = max(highest, int(mask.max(initial=0)))
    if class_names is None:
        class_names = ["background", "foreground"] if highest == 1 else ["background", *map(str, range(1, highest + 1))]
    coding = Coding(tuple(range(len(class_names))), tuple(class_names), False)

    def part(name: str):
        of_split, masks_of = pairs[name]
        return lambda: (
            (
                image[..., None] if np.ndim(image) == 2 else image,
                Mask((np.asarray(mask).reshape(np.shape(mask)[:2]),), (f"{name}/{number}",), coding),
                f"{name}/{number}",
            )
            for number, (image, mask) in enumerate(zip(of_split, masks_of, strict=True))
        )

    return Source(
        list(class_names),
        part("train"),
        *(part(name) if name in pairs else None for name in ("test", "val")),
        has_masks=True,
    )
