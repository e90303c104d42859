"""A folder of class folders as a source.

    photos/cat/1.jpg                     one folder for each class; test and validation are split off
    photos/train/cat/1.jpg  photos/test/cat/9.jpg      official splits, which are kept
    photos/cat/train/1.jpg  photos/cat/test/9.jpg      the same the other way round

Splits are recognised by the usual names: train, training_set, train_data, rps and rps-test-set, 訓練データ and テストデータ.
If folders hold the same folders and their names do not say what they are, the user is asked. Hidden files and what macOS and
Windows leave (`.DS_Store`, `__MACOSX`, `Thumbs.db`) are skipped.
"""

import hashlib
import os
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from pbl.data.doctor.finding import Finding, one_finding
from pbl.data.images import EXTENSIONS, LISTED, PICTURES, is_image_file
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Example, Source, Unreadable
from pbl.errors import InputError, Sentence
from pbl.storage.writing import PASSING, Result, is_remote, try_again

# Words for splits, and words next to them that add no meaning.
SPLITS = {
    "train": {"train", "training", "学習", "訓練", "トレーニング"},
    "val": {"val", "valid", "validation", "dev", "検証", "バリデーション"},
    "test": {"test", "testing", "テスト", "評価", "試験"},
}
for known in SPLITS.values():
    known |= {word + end for word in known if word.isascii() for end in ("set", "data", "images")}
UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled"}
FILLERS = set("set data dataset images image imgs img pictures photos x データ データセット 画像 用 セット".split())
_JAPANESE = [word for word in {*FILLERS, *set().union(*SPLITS.values())} if not word.isascii()]
# Japanese is written without spaces: known words are matched first, the longest first.
_WORD = re.compile("|".join([*sorted(_JAPANESE, key=len, reverse=True), "[a-z]+", r"\d+", r"[^\W_]"]))
MASKS = 0.05  # pairs of names, as a share of all images; a few photographs with the same number and another ending are normal
MASK_FOLDERS = {"masks", "mask", "ground_truth", "groundtruth", "gt"}
# Folders of images that are next to folders of masks or boxes, and those folders.
IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "jpegimages"}
ALL_MASK_FOLDERS = MASK_FOLDERS | {
    "labels",
    "label",
    "annotations",
    "segmentation",
    "segmentations",
    "segmentationclass",
}
# The end of a mask's name, after the name of its image.
MASK_WORD = r"[ _-]*(mask|masks|seg|segmentation|gt|label|labels|annotation)"
_MASK = re.compile(MASK_WORD + r"(?=[ _-]*\d*$)", re.IGNORECASE)

READ_AHEAD = 64 * 2**20  # bytes of files that are read but not yet decoded; a single file may be larger
PIECE = 8  # files that one thread reads in one task


class Files:
    """The image files of one split; each is read when the iteration reaches it.

    Args:
        root: The folder that names are relative to.
        files: (name, class) of each.
    """

    def __init__(self, root: Path, files: list[tuple[str, int]]):
        self.root, self.files = root, files

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Example]:
        ahead, waiting = deque(), 0  # pieces of files that are being read, and their bytes
        # Many at a time: a mounted Drive takes as long for one file as for sixteen.
        with ThreadPoolExecutor(16) as threads:
            for piece, size in self._pieces():
                while ahead and waiting + size > READ_AHEAD:
                    waiting -= ahead[0][1]
                    yield from self._examples(ahead.popleft())
                reading = threads.submit(lambda piece: [read_content(self.root, name) for name, _ in piece], piece)
                ahead.append((piece, size, reading))
                waiting += size
            while ahead:
                yield from self._examples(ahead.popleft())

    def _examples(self, read: tuple) -> Iterator[Example]:
        piece, _, contents = read
        for (name, label), content in zip(piece, contents.result(), strict=True):
            yield content, label, normalize(name)

    def _pieces(self) -> Iterator[tuple[list[tuple[str, int]], int]]:
        """Some files at a time, and their bytes: one task for each small file would take longer than reading it."""
        piece, size = [], 0
        for file, (of_file, *_) in zip(self.files, self._status, strict=True):
            if piece and (len(piece) == PIECE or size + of_file > READ_AHEAD // 64):
                yield piece, size
                piece, size = [], 0
            piece.append(file)
            size += of_file
        if piece:
            yield piece, size

    @cached_property
    def _status(self) -> list[tuple[int, int, int]]:
        """Size in bytes of each file, and the times at which its content and its entry were last changed; zeros where unknown."""
        return list_status(self.root, [name for name, _ in self.files])

    @property
    def place(self) -> str:
        """A name for these files that stays the same when their content changes: the folder, and those in it."""
        return "\n".join([str(self.root.resolve()), *sorted({os.path.dirname(name) for name, _ in self.files})])  # noqa: PTH120

    def listing(self) -> str:
        """A digest of the files' names, classes, sizes and times: another one if a file may have changed."""
        return hashlib.sha256(repr((self.files, self._status)).encode("utf-8", "surrogatepass")).hexdigest()


def list_status(root: Path, names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Size in bytes of each file, and the times at which its content and its entry were last changed; zeros where unknown."""
    folder = str(root)

    def look(name: str) -> tuple[int, int, int]:
        try:
            status = os.stat(f"{folder}/{name}")  # noqa: PTH116, making a Path for each would take longer than the call
        except OSError:
            return 0, 0, 0
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns

    if not is_remote(root.resolve()):
        return list(map(look, names))
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(look, names))


def read_content(root: Path, name: str) -> bytes | Unreadable:
    """Returns the content of a file of a data set; or, if it cannot be read, the error, so that all errors can be reported together."""
    file = root / name
    try:
        return read_patiently(file.read_bytes, file, name)
    except Unreadable as error:
        return error


def class_folders(folder: str | Path, has_anomalies: bool = False) -> Source:
    """Opens a folder of class folders, with or without `train`, `val` and `test` above them.

    A folder that holds nothing but one folder of folders is skipped, since archives often have one.

    Args:
        folder: The folder.
        has_anomalies: Whether only normal images are used for training: one class folder is enough, test and validation may have kinds that
            train does not have, and a folder of masks next to the images (masks, ground_truth) is not one of them.

    Raises:
        InputError: There is no such folder, no class folder, only one, or one without an image; a split has classes that
            train does not have; folders of splits and others are next to each other.

    Example:
        >>> from pbl.data import class_folders
        >>> class_folders("photos").class_names
        ['one', 'zero']
    """
    root = expand(folder)
    return open_patiently(lambda: _open_folder(root, folder, has_anomalies), root, folder)


def open_patiently(open_folder: Callable[[], Source], root: Path, folder: str | Path) -> Source:
    """Opens a folder that may be on a mounted Drive; raises InputError if it, or a folder in it, cannot be read.

    Args:
        open_folder: The function that opens it.
        root: The folder.
        folder: Its name in errors.
    """
    try:
        return try_again(open_folder, root)
    except OSError as error:
        if error.errno in PASSING:
            raise not_mounted(root, error) from None
        raise InputError(
            "{file}: {reason}. A data set is a folder that can be read.",
            file=error.filename or folder,
            reason=error.strerror,
        ) from None


def read_patiently(read: Callable[[], Result], file: Path, name: str | Path) -> Result:
    """Reads a file that may be on a mounted Drive; see `pbl.storage.writing.try_again`.

    Raises:
        Unreadable: It cannot be read; errors call it `name`.
        InputError: Nothing there could be read for a minute.
    """
    try:
        return try_again(read, file)
    except OSError as error:
        if error.errno in PASSING:
            raise not_mounted(file, error) from None
        raise Unreadable("{name}: {reason}.", name=name, reason=error.strerror) from None


def not_mounted(file: Path, error: OSError) -> InputError:
    """The error that is reported if reading has failed for a minute."""
    return InputError(
        "{file} cannot be read: {reason}. Is the Drive or the network folder still mounted? Mount it again and give the same command.",
        file=file,
        reason=error.strerror,
    )


def _open_folder(root: Path, folder: str | Path, has_anomalies: bool) -> Source:
    if not root.is_dir():
        raise InputError("No folder {folder}. {near}", folder=folder, near=names_beside(root))
    root = _descend(root)
    names = _folders_in(root)
    if has_anomalies:
        masks = [name for name in names if _fold(name) in MASK_FOLDERS]
        names = [name for name in names if name not in masks]
        if len(names) == 1 and masks and _folders_in(root / names[0]):  # images/ and masks/
            source = _open_folder(root / names[0], folder, has_anomalies)
        else:
            source = _open_named(root, names, 1)
        return replace(source, masks=root / masks[0] if masks else source.masks)
    return _open_named(root, names, 2)


def _open_named(root: Path, names: list[str], fewest: int) -> Source:
    """Opens the folders of these names, which are splits or classes; there are at least `fewest` classes."""
    inside = {name: _class_names_in(root / name) for name in names}
    splits, others = _find_splits(root, names, inside)
    if splits:
        inner = {split: _descend(root / name) for split, name in splits.items()}
        source = _open_classes({split: _classes_in(path) for split, path in inner.items()}, inner, root, fewest)
        return replace(source, findings=source.findings + tuple(_tell_set_aside(others)))
    if names and all(inside[name] and all(find_role(inner) for inner in inside[name]) for name in names):
        return _open_split_classes(root, names)
    classes = {name: path for name, path in _classes_in(root).items() if path.name in names}
    source = _open_classes({"train": classes}, {"train": root}, root, fewest)
    return replace(source, findings=source.findings + tuple(_find_same_inside(root, inside)))


def find_role(name: str) -> tuple[str, set[str]] | None:
    """The split that a folder's name stands for, if any; and the other words in it: none in `train_data`, `seg` in `seg_train`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", unicodedata.normalize("NFKC", name)).casefold()  # TrainData
    words = set(_WORD.findall(apart))
    roles = {split for split, known in SPLITS.items() if known & words}
    if len(roles) != 1:
        return None
    role = roles.pop()
    return role, words - SPLITS[role] - FILLERS


def _find_splits(root: Path, names: list[str], inside: Mapping[str, set[str]]) -> tuple[dict[str, str], list[str]]:
    """Which folder is which split, and the folders without class names; ({}, []) if the folders are classes."""
    roles = {name: find_role(name) for name in names}
    chosen = {name: role[0] for name, role in roles.items() if role and not role[1]}
    rest = [role and role[1] for role in roles.values()]
    if len(names) > 1 and all(rest) and all(more == rest[0] for more in rest):  # train2017 and val2017
        chosen = {name: role[0] for name, role in roles.items()}
    if not chosen:
        # Names with further words, as in rps and rps-test-set, are splits if the folders hold the same classes.
        alike = [name for name in names if any(_are_alike(inside[name], inside[o]) for o in names if o != name)]
        chosen = {name: roles[name][0] for name in alike if roles[name]}
        silent = [name for name in alike if name not in chosen]
        if chosen and len(silent) == 1 and "train" not in chosen.values():
            chosen[silent[0]] = "train"
        elif silent or len(set(chosen.values())) < len(chosen):
            return {}, []
    if not chosen:
        return {}, []
    splits: dict[str, str] = {}
    for name, split in chosen.items():
        if split in splits:
            raise InputError(
                "{folder} contains {found}: which is {split}? Keep one.",
                folder=root,
                found=" and ".join(sorted([splits[split], name])),
                split=split,
            )
        splits[split] = name
    aside = [name for name in names if name not in chosen and _is_unlabelled(name, inside[name])]
    others = sorted(set(names) - set(chosen) - set(aside))
    if "train" not in splits or others:
        raise InputError(
            "The folder {folder} contains {what} next to the splits {splits}. Valid: only class folders, or train/ (with val/ and test/ if there "
            "are any), each with class folders.",
            folder=root,
            splits=", ".join(splits[split] for split in SPLITS if split in splits),
            what=Sentence("other folders ({others})", others=", ".join(others[:5]))
            if others
            else Sentence("no train/"),
        )
    return splits, aside


def _are_alike(one: set[str], other: set[str]) -> bool:
    """Whether two folders hold the same folders, or nearly: at least half of the smaller number, and at least one."""
    return bool(one & other) and 2 * len(one & other) >= min(len(one), len(other))


def _is_unlabelled(name: str, inside: set[str]) -> bool:
    """Whether a folder next to the splits has images to predict, as `seg_pred`: its name says so, and it has no classes."""
    words = set(re.split(r"[\W_]+", name.casefold()))
    return bool(words & UNLABELLED) and len(inside) < 2


def _tell_set_aside(names: list[str]) -> list[Finding]:
    if not names:
        return []
    return one_finding(
        "set_aside",
        "note",
        "Folders that are not used, because they contain no class folders: {folders}; predict can read them.",
        folders=", ".join(names),
    )


def _find_same_inside(root: Path, inside: Mapping[str, set[str]]) -> list[Finding]:
    """Class folders that hold the same folders: they may be splits, or kinds of the same images."""
    around = {normalize(name) for name in inside}
    for name, found in inside.items():
        if len(found & around) >= 2:
            return one_finding(
                "data_set_inside",
                "stop",
                "{folder} contains folders with the same names as the folders next to it ({shared}): is it a copy of the data set? Remove it, or give only this folder.",
                folder=root / name,
                shared=", ".join(sorted(found & around)[:5]),
            )
    groups = [[o for o in inside if o == name or _are_alike(inside[name], inside[o])] for name in inside]
    alike = max(groups, key=len, default=[])
    if len(alike) < 2:
        return []
    shared = set.intersection(*(inside[name] for name in alike)) or inside[alike[0]] & inside[alike[1]]
    return one_finding(
        "same_folders_inside",
        "stop",
        "{listed} contain the same folders ({shared}). If these are the classes, {listed} are splits and should be called train, val and test, or they are kinds of the same images: then give one of them: {one}.",
        listed=", ".join(alike[:5]),
        shared=", ".join(sorted(shared, key=_natural)[:5]),
        one=root / alike[0],
    )


def _class_names_in(folder: Path) -> set[str]:
    """Names of the folders in a folder that has no images itself; for a doubled folder (`train/train`) those of the inner one."""
    if _holds_images(folder):  # true for most class folders, and seen at the first file
        return set()
    inner = _descend(folder)
    return set() if _holds_images(inner) else {normalize(name) for name in _folders_in(inner)}


def _holds_images(folder: Path) -> bool:
    return any(_is_loose(path) for path in folder.iterdir())


def _classes_in(folder: Path) -> dict[str, Path]:
    """The class folders in a folder, by their names."""
    found: dict[str, Path] = {}
    for name in _folders_in(folder):
        twin = next((other for other in found if _fold(other) == _fold(name)), None)
        # Not an error for single letters: a data set of letters has both a and A.
        if normalize(name) in found or (twin is not None and len(normalize(name).strip()) > 1):
            raise InputError(
                "{folder} contains two class folders called {name}, written in two ways. Put their images together.",
                folder=folder,
                name=normalize(name),
            )
        found[normalize(name)] = folder / name
    return found


def _open_split_classes(root: Path, names: list[str]) -> Source:
    """Opens class folders that hold the splits."""
    found: dict[str, dict[str, Path]] = {}
    for name in names:
        for inner in _folders_in(root / name):
            split = find_role(inner)[0]
            if normalize(name) in found.setdefault(split, {}):
                raise InputError(
                    "{folder} contains {found}: which is {split}? Keep one.",
                    folder=root / name,
                    found=" and ".join(sorted([found[split][normalize(name)].name, inner])),
                    split=split,
                )
            found[split][normalize(name)] = root / name / inner
    if "train" not in found:
        raise InputError(
            "The folder {folder} contains {what} next to the splits {splits}. Valid: only class folders, or train/ (with val/ and test/ if there "
            "are any), each with class folders.",
            folder=root / names[0],
            splits=", ".join(found),
            what=Sentence("no train/"),
        )
    return _open_classes({split: found[split] for split in SPLITS if split in found}, dict.fromkeys(found, root), root)


def _open_classes(
    found: Mapping[str, dict[str, Path]], folders: Mapping[str, Path], root: Path, fewest: int = 2
) -> Source:
    """Makes the source of class folders.

    Args:
        found: The class folders of each split.
        folders: For each split, the folder that errors name.
        root: The folder that names of images are relative to.
        fewest: How many classes there must be; with 1, for anomaly detection, other splits may have more than train.
    """
    class_names = sorted(found["train"] if fewest > 1 else set().union(*found.values()), key=_natural)
    if len(class_names) < fewest:
        archives = sorted(
            path.name
            for path in folders["train"].iterdir()
            if path.suffix.lower() in (".zip", ".tar", ".gz", ".rar", ".7z")
        )
        if archives:
            raise InputError(
                "{folder} contains no class folders, but {archives}. Give one .zip, or unpack them into a folder for each class.",
                folder=folders["train"],
                archives=", ".join(archives[:5]),
            )
        loose = [path.name for path in folders["train"].iterdir() if _is_loose(path)]
        if not class_names and loose:
            stems = {Path(name).stem for name in loose}
            beside = sorted(
                path.name
                for path in folders["train"].iterdir()
                if path.suffix.lower() in (".xml", ".txt") and path.stem in stems
            )
            if beside:
                raise InputError(
                    "{folder} contains {n} {n:image|images} with boxes next to {n:it|them}, such as {name}, but no class folders. Train with task=detection.",
                    folder=folders["train"],
                    n=len(loose),
                    name=beside[0],
                )
            raise InputError(
                "{folder} contains {n} {n:image|images}, such as {name}, but no class folders. Put the images of each class into a folder named after it.",
                folder=folders["train"],
                n=len(loose),
                name=min(loose),
            )
        raise InputError(
            "{folder} contains {n} class {n:folder|folders}{which}. A data set is a folder with at least two folders, one for each class. Each is "
            "named after its class and contains its images.",
            folder=folders["train"],
            n=len(class_names),
            which=f" ({class_names[0]})" if class_names else "",
        )
    if fewest > 1:
        _refuse_masks_and_boxes(found["train"], folders["train"])
    parts, passed_over = {}, Counter()
    for split, written in found.items():
        classes = _match_classes(written, class_names, folders[split])
        files = []
        for label, name in enumerate(class_names):
            listed = list(list_images(classes[name], passed_over)) if name in classes else []
            if not listed and split == "train" and name in classes:
                _refuse_empty_class(classes[name])
            above = f"{root}/"
            files += [
                (path[len(above) :] if path.startswith(above) else os.path.relpath(path, root), label)
                for path in listed
            ]
        loose = sorted(path.name for path in folders[split].iterdir() if _is_loose(path))
        if files and loose:
            raise InputError(
                "{folder} contains {n} {n:image|images} next to its class folders, such as {name}. Move {n:it|them} into a class folder, or remove {n:it|them}.",
                folder=folders[split],
                n=len(loose),
                name=loose[0],
            )
        if not files:
            raise InputError(
                "{folder} contains no image in its class folders. Put images there, or remove it.",
                folder=folders[split],
            )
        parts[split] = Files(root, files)
    give = {split: (lambda files=files: files) for split, files in parts.items()}
    return Source(
        class_names,
        give["train"],
        give.get("test"),
        give.get("val"),
        findings=(
            *tell_passed_over(passed_over),
            *_find_masks([name for part in parts.values() for name, _ in part.files]),
        ),
    )


def _match_classes(classes: dict[str, Path], class_names: list[str], folder: Path) -> dict[str, Path]:
    """The class folders of a split under train's names; they may differ from these in case and spaces."""
    matched = {}
    for name, path in classes.items():
        near = [known for known in class_names if _fold(known) == _fold(name)]
        matched[near[0] if name not in class_names and len(near) == 1 else name] = path
    unknown = sorted(set(matched) - set(class_names))
    if unknown:
        raise InputError(
            "{folder} has the class(es) {unknown}, which train does not have: {names}.",
            folder=folder,
            unknown=", ".join(unknown[:5]),
            names=", ".join(class_names[:20]),
        )
    return matched


def _refuse_masks_and_boxes(classes: Mapping[str, Path], folder: Path) -> None:
    """A network that tells masks from images is always right, and useless."""
    of_images, of_masks = (
        [classes[name] for name in sorted(classes) if _fold(name) in known]
        for known in (IMAGE_FOLDERS, ALL_MASK_FOLDERS)
    )
    if of_images and of_masks:
        has_masks = any(next(iter(list_images(place, Counter())), None) for place in of_masks)
        raise InputError(
            "{folder} contains {images}/ and {masks}/, which are not classes, but images with {what}. Train with task={task}, or rename the "
            "folders if they really are two classes.",
            folder=folder,
            images=of_images[0].name,
            masks=of_masks[0].name,
            what=Sentence("masks") if has_masks else Sentence("boxes"),
            task="segmentation" if has_masks else "detection",
        )


def _refuse_empty_class(folder: Path) -> None:
    raise InputError(
        "The class folder {folder} contains no image ({kinds}). Put images into it, or remove it.",
        folder=folder,
        kinds=", ".join(sorted(kind[1:] for kind in EXTENSIONS)),
    )


def tell_passed_over(endings: Mapping[str, int]) -> list[Finding]:
    """Files among the images that are not images: a "note", or "act" if they seem to be pictures in a format that is not read.

    Args:
        endings: How many files have each ending, such as ".txt"; "" for none.
    """
    if not endings:
        return []
    pictures = sum(n for ending, n in endings.items() if ending in PICTURES)
    listed = [f"{ending or '?'} {n}" for ending, n in sorted(endings.items(), key=lambda pair: (-pair[1], pair[0]))]
    return one_finding(
        "passed_over",
        "act" if pictures else "note",
        "Files in the class folders that are not read as images: {files} ({listed}); convert pictures among them to JPEG or PNG.",
        files=sum(endings.values()),
        listed=", ".join(listed[:8]) + (", ..." if len(listed) > 8 else ""),
        endings=dict(endings),
    )


def _find_masks(names: list[str]) -> list[Finding]:
    """Files of one folder whose names differ only in their ending, or in a word like _mask: "stop", since masks are not examples."""
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(os.path.splitext(name)[0], []).append(name)  # noqa: PTH122
    pairs = []
    for stem, found in by_stem.items():
        plain = _MASK.sub("", stem)
        if plain != stem and plain in by_stem:
            pairs += [(by_stem[plain][0], name) for name in found]
        elif len(found) > 1:
            pairs += [(found[0], name) for name in found[1:]]
    if not pairs or len(pairs) < MASKS * len(names):
        return []
    return one_finding(
        "masks_among_images",
        "stop",
        "Images with another file of the same name next to them: {pairs}, such as {image} and {mask}. Is it a mask (which marks something in the image), or a copy of the image? Move such files out of the class folders.",
        [normalize(mask) for _, mask in pairs],
        pairs=len(pairs),
        image=pairs[0][0],
        mask=pairs[0][1],
    )


def _is_loose(path: Path) -> bool:
    return path.suffix.lower() in LISTED and not is_hidden(path.name) and path.is_file()


def _descend(folder: Path) -> Path:
    """Goes down while a folder holds nothing but one folder that holds folders; a split's folder stops it unless both have the same name."""
    for _ in range(10):
        names = _folders_in(folder)
        if len(names) != 1 or not _folders_in(folder / names[0]):
            break
        if find_role(names[0]) and _fold(names[0]) != _fold(folder.name):
            break
        folder = folder / names[0]
    return folder


def _folders_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())


def walk_files(folder: str | Path, seen: frozenset[tuple[int, int]] = frozenset()) -> Iterator[os.DirEntry]:
    """All files below a folder, sorted, and links without a target; a link back to a folder above is not followed.

    Args:
        folder: The folder.
        seen: The folders above.
    """
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from walk_files(entry.path, seen)
            elif entry.is_file() or entry.is_symlink():
                yield entry


def list_images(folder: str | Path, passed_over: Counter[str]) -> Iterator[str]:
    """All image files below a folder, as `walk_files` finds them.

    Args:
        folder: The folder.
        passed_over: Counts the endings of the files that are not images.
    """
    for entry in walk_files(folder):
        if entry.is_file():
            if is_image_file(entry.path):
                yield entry.path
            else:
                passed_over[Path(entry.name).suffix.lower()] += 1
        elif Path(entry.name).suffix.lower() in LISTED:  # a link without a target is reported as unreadable
            yield entry.path


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key for sorting that puts 2 before 10."""
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in re.split(r"(\d+)", name) if piece]


def normalize(name: str) -> str:
    """One spelling for each name: macOS writes が as か and a mark, other systems do not. Characters that are not Unicode become ?."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


def _fold(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold().strip()
