"""Images with one mask each: a class for every pixel, 0 for the background.

    photos/images/1.jpg  photos/masks/1.png                             the same stem; or masks/1_mask.png
    photos/images/cat/1.jpg  photos/masks/cat/1.png                     below folders of the same names
    photos/train/images/1.jpg  photos/train/masks/1.png  photos/test/images/9.jpg ...        official splits, which are kept
    photos/images/train/1.jpg  photos/masks/train/1.png ...             the same the other way round
    photos/masks/1_mask.png  photos/masks/1_mask_1.png  photos/masks/1/a.png ...             several masks of one image: merged

A mask has one grey value for each class (0, 1, 2, or 0 and 255), or one colour for each class. The classes are in the order of the values; for
colours, in the order of red, green and blue. The background is the value 0, black. If no mask has it, the commonest value is the background,
and this is reported. A file `classes.txt` next to the folders gives the classes names, one on each line, the background first; a line may begin
with its value or colour (`255 0 0 lesion`).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.folders import (
    ALL_MASK_FOLDERS,
    IMAGE_FOLDERS,
    MASK_WORD,
    find_role,
    list_images,
    list_status,
    normalize,
    open_patiently,
    read_content,
    read_patiently,
    tell_passed_over,
)
from pbl.data.mask_values import (
    MOST_VALUE,
    Coding,
    Values,
    choose_coding,
    decode_values,
    find_values,
    read_names,
    to_numbers,
)
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Example, Source, Unreadable, pair_arrays
from pbl.errors import InputError, Sentence

NAMES_FILE = "classes.txt"
_ENDING = re.compile(MASK_WORD + r"[ _-]*\d*$", re.IGNORECASE)


@dataclass(frozen=True)
class Mask:
    """The mask of an image; it is decoded when it is needed.

    Args:
        parts: Contents of its files, or their pixels; several are merged.
        names: Names of these parts, for errors.
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
            InputError: There is none, it cannot be read, it does not have the shape of its image, or it has values that are not a class.
        """
        if not self.parts:
            raise InputError("{image} has no mask. Put one next to it, or leave the image out.", image=image)
        united = np.zeros(shape, np.uint8)
        for part, name in zip(self.parts, self.names, strict=True):
            if isinstance(part, Unreadable):
                raise part
            values = part if isinstance(part, np.ndarray) else decode_values(part, name)
            if values.shape[:2] != tuple(shape):
                raise InputError(
                    "The mask {mask} has {found} pixels, but its image {image} has {shape}.",
                    mask=name,
                    found="x".join(map(str, values.shape[:2])),
                    image=image,
                    shape="x".join(map(str, shape)),
                )
            classes = self.coding.to_classes(to_numbers(values, self.coding.is_colour), name)
            united = np.where(classes > 0, classes, united)
        return united


class MaskedFiles:
    """The image files of one split with their masks, as examples (content, `Mask`, name).

    Args:
        root: The folder that names are relative to.
        files: The name of each image, and those of its masks.
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
        """A name for these files that stays the same when their content changes."""
        return f"{self.root.resolve()} {self.coding}"

    def listing(self) -> str:
        """A digest of the files' names, sizes and times."""
        return digest_files(self.root, [file for name, masks in self.files for file in (name, *masks)])


def digest_files(root: Path, names: Sequence[str]) -> str:
    """A digest of files' names, sizes and times: another one if a file may have changed."""
    return hashlib.sha256(repr((names, list_status(root, names))).encode("utf-8", "surrogatepass")).hexdigest()


def masked_folder(folder: str | Path) -> Source:
    """Opens a folder of images with one mask each, in one of the forms above.

    Raises:
        InputError: There is no such folder, or none of images or of masks in it; an image has no mask (all are named); the masks'
            values are not classes.

    Example:
        >>> from pbl.data import masked_folder
        >>> source = masked_folder("scans")  # scans/images/0.png, scans/masks/0.png, ...
        >>> source.class_names
        ['background', 'foreground']
    """
    root = expand(folder)
    return open_patiently(lambda: _open_folder(root, folder), root, folder)


def _open_folder(root: Path, folder: str | Path) -> Source:
    if not root.is_dir():
        raise InputError("No folder {folder}. {near}", folder=folder, near=names_beside(root))
    root = _descend(root)
    splits, set_aside = _find_splits(root, folder)
    passed_over: Counter[str] = Counter()
    listed = {split: tuple(_list_files(place, passed_over) for place in places) for split, places in splits.items()}
    files = {split: _match(root, *places, *listed[split]) for split, places in splits.items()}
    _refuse_missing(files, folder)
    _refuse_shared(files, folder)
    names = [mask for of_split in files.values() for _, masks in of_split for mask in masks]
    found = find_values(
        ((name, partial(read_patiently, (root / name).read_bytes, root / name, name)) for name in names),
        str(root.resolve()),
        digest_files(root, names),
    )
    coding, findings = choose_coding(found, read_names(root / NAMES_FILE), root / NAMES_FILE)
    parts = {split: partial(MaskedFiles, root, of, coding) for split, of in files.items()}
    findings += [*_tell_unused(root, splits, listed, files), *tell_passed_over(passed_over)]
    if set_aside:
        findings += one_finding(
            "set_aside",
            "act",
            "Folders that are not used, because their images have no masks: {folders}; predict can read them.",
            folders=", ".join(set_aside),
        )
    return Source(
        list(coding.names),
        parts["train"],
        parts.get("test"),
        parts.get("val"),
        findings=tuple(findings),
        has_masks=True,
    )


def _descend(root: Path) -> Path:
    """Goes down while a folder holds nothing but one folder that is not a folder of images, of masks or of a split."""
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
    """The folder of images and the folder of masks in a folder."""
    roles: dict[str, list[str]] = {"images": [], "masks": []}
    for name in _folders_in(folder):
        if (role := _role(name)) is not None:
            roles[role].append(name)
    for role, names in roles.items():
        if len(names) > 1:
            raise InputError(
                "{folder} contains {found}: which are the {role}? Keep one.",
                folder=folder,
                found=" and ".join(names),
                role=role,
            )
    return (folder / roles["images"][0], folder / roles["masks"][0]) if all(roles.values()) else None


def _find_splits(root: Path, folder: str | Path) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """The folder of images and the folder of masks of each split, only "train" if there are no official splits; and the folders
    of splits without masks."""
    splits: dict[str, tuple[Path, Path]] = {}
    named: dict[str, str] = {}
    set_aside = []
    pair = _find_pair(root)
    if pair is None:  # train/images, train/masks
        for name in _folders_in(root):
            role = find_role(name)
            if not role:
                continue
            inner = _find_pair(root / name)
            if inner is None:
                set_aside.append(name)
                continue
            if role[0] in splits:
                raise InputError(
                    "{folder} contains {found}: which are the {role}? Keep one.",
                    folder=folder,
                    found=f"{named[role[0]]} and {name}",
                    role=role[0],
                )
            splits[role[0]], named[role[0]] = inner, name
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
            "{folder} contains {found}. Valid: images/ and masks/ with the same stems, or train/images/ and train/masks/ (with test/ and val/ if "
            "there are any).",
            folder=folder,
            found=", ".join(_folders_in(root)[:6]) or Sentence("no folder"),
        )
    return splits, set_aside


def _list_files(folder: Path, passed_over: Counter[str]) -> list[str]:
    """The image files below a folder, by names relative to it, sorted."""
    return [Path(file).relative_to(folder).as_posix() for file in list_images(folder, passed_over)]


def _match(
    root: Path, images: Path, masks: Path, image_files: Sequence[str], mask_files: Sequence[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """The masks of each image: the same path and stem, `stem_mask`, `stem_mask_1` ..., or all files of a folder `stem/`."""
    by_stem: dict[tuple[str, str], list[str]] = {}
    for name in mask_files:
        by_stem.setdefault(_split_name(name), []).append(name)
    within, marked = {}, {}
    for (parent, stem), names in by_stem.items():
        within.setdefault(parent, []).extend(names)
        bare = _ENDING.sub("", stem)
        if bare != stem:
            marked.setdefault((parent, bare), []).extend(names)
    matched = []
    for name in image_files:
        parent, stem = _split_name(name)
        key = (parent, stem)
        found = by_stem.get(key) or marked.get(key) or within.get(str(PurePosixPath(parent, stem)), [])
        where = [(masks / other).relative_to(root).as_posix() for other in sorted(found)]
        matched.append(((images / name).relative_to(root).as_posix(), tuple(where)))
    if not matched:
        raise InputError("{folder} contains no image. Put the images there.", folder=images)
    return matched


def _split_name(name: str) -> tuple[str, str]:
    """Folder and stem, in Unicode's composed form, since systems spell names differently."""
    path = PurePosixPath(normalize(name))
    return str(path.parent), path.stem


def _refuse_missing(files: Mapping[str, list], folder: str | Path) -> None:
    missing = [name for of_split in files.values() for name, masks in of_split if not masks]
    if missing:
        raise InputError(
            "{folder}: {n} {n:image has|images have} no mask, such as {name}. A mask has the same stem, {stem}.png or {stem}_mask.png, in the "
            "folder of masks; for an image without objects it is black.",
            folder=folder,
            n=len(missing),
            name=missing[0],
            stem=PurePosixPath(missing[0]).stem,
        )


def _refuse_shared(files: Mapping[str, list], folder: str | Path) -> None:
    image_of: dict[str, str] = {}
    for name, masks in (pair for of_split in files.values() for pair in of_split):
        for mask in masks:
            if mask in image_of:
                raise InputError(
                    "{folder}: {one} and {other} have one mask, {mask}. Keep one of them, or give each its own mask.",
                    folder=folder,
                    one=image_of[mask],
                    other=name,
                    mask=mask,
                )
            image_of[mask] = name


def _tell_unused(
    root: Path, splits: Mapping[str, tuple[Path, Path]], listed: Mapping[str, tuple], files: Mapping[str, list]
) -> list[Finding]:
    """Masks without an image, and images with several masks."""
    used = {mask for of_split in files.values() for _, masks in of_split for mask in masks}
    unused = sorted(
        name
        for split, (_, masks) in splits.items()
        for name in ((masks / other).relative_to(root).as_posix() for other in listed[split][1])
        if name not in used
    )
    several = [name for of_split in files.values() for name, masks in of_split if len(masks) > 1]
    found = []
    if unused:
        found += one_finding(
            "masks_without_image",
            "act",
            "{n} {n:mask has|masks have} no image, such as {name}: nothing is learned from {n:it|them}. Are images missing, or do they have other names?",
            unused,
            n=len(unused),
            name=unused[0],
        )
    if several:
        found += one_finding(
            "several_masks",
            "note",
            "{n} {n:image has|images have} several masks, such as {name}: they are combined, and each pixel gets the class of the last mask that marks it.",
            several,
            n=len(several),
            name=several[0],
        )
    return found


def from_masked_arrays(
    images: Any,
    masks: Any,
    class_names: Sequence[str] | None = None,
    test: tuple | None = None,
    val: tuple | None = None,
) -> Source:
    """Makes a source from arrays with masks.

    Args:
        images: `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`, 0 to 255, or a list of images of any sizes.
        masks: `int [n, height, width]`, one value for each class, 0 for the background, such as 0, 1, 2, or 0 and 255; a list if sizes
            differ.
        class_names: Name of each class in the order of the values, the background's first; "background" and "foreground", or "1", "2",
            ... unless given. With more names than values, the values are the numbers of the classes.
        test: Images and masks of an official test split.
        val: Images and masks of an official validation split.

    Raises:
        InputError: Counts or shapes differ; values that are not a class.

    Example:
        >>> import numpy as np
        >>> import pbl
        >>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
        >>> data = pbl.load_data(pbl.data.from_masked_arrays(images, images > 127), masks=True)
        >>> data.class_names, data.images("val").masks.shape[1:]
        (['background', 'foreground'], (8, 8))
    """
    pairs = pair_arrays((images, masks), test, val, class_names, "masks")
    grey: dict[int, tuple[int, str]] = {}
    for name, (of_split, masks_of) in pairs.items():
        if not len(of_split) and not len(masks_of):
            raise InputError("{name} contains no image. Give images, and a mask for each.", name=name)
        if len(of_split) != len(masks_of):
            raise InputError(
                "{name}: {images} images but {masks} masks. Each image needs one mask.",
                name=name,
                images=len(of_split),
                masks=len(masks_of),
            )
        for number, mask in enumerate(masks_of):
            mask = _as_values(mask, f"{name}/{number}")
            for value, count in enumerate(np.bincount(mask.ravel(), minlength=1).tolist()):
                if count:
                    before, example = grey.get(value, (0, f"{name}/{number}"))
                    grey[value] = (before + count, example)
    found = Values(grey, {}, sum(len(masks_of) for _, masks_of in pairs.values()), 0)
    coding, findings = choose_coding(found, [(None, name) for name in class_names or ()], "class_names")

    def part(name: str):
        of_split, masks_of = pairs[name]
        return lambda: (
            (
                image[..., None] if np.ndim(image) == 2 else image,
                Mask((_as_values(mask, f"{name}/{number}"),), (f"{name}/{number}",), coding),
                f"{name}/{number}",
            )
            for number, (image, mask) in enumerate(zip(of_split, masks_of, strict=True))
        )

    return Source(
        list(coding.names),
        part("train"),
        *(part(name) if name in pairs else None for name in ("test", "val")),
        findings=tuple(findings),
        has_masks=True,
    )


def _as_values(mask: Any, name: str) -> np.ndarray:
    """A mask as `uint8` or `uint16 [height, width]`; raises InputError if it is something else."""
    mask = np.asarray(mask)
    if mask.ndim == 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    if mask.ndim != 2 or mask.dtype.kind not in "biu" or not mask.size:
        raise InputError(
            "The mask {name} is {dtype} of shape {shape}. Valid: whole numbers [height, width], 0 for the background; convert others with "
            "masks.astype('uint8').",
            name=name,
            dtype=mask.dtype,
            shape=mask.shape,
        )
    if not (mask.min() >= 0 and mask.max() <= MOST_VALUE):
        raise InputError(
            "The mask {name} has values from {low} to {high}. Valid: one value for each class, from 0, the background, to {most}.",
            name=name,
            low=int(mask.min()),
            high=int(mask.max()),
            most=MOST_VALUE,
        )
    return mask.astype(np.uint8 if mask.dtype.kind == "b" else np.min_scalar_type(int(mask.max())), copy=False)
