"""A folder of class folders as a source.

    photos/cat/1.jpg                     one folder a class; test and validation are cut from them
    photos/train/cat/1.jpg  photos/test/cat/9.jpg      official splits, which are kept

Train may be called train, training or training_set; validation val, valid or validation (with or without _set); test test,
testing or test_set. Hidden files and what macOS and Windows leave (`.DS_Store`, `__MACOSX`, `Thumbs.db`) are passed over.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from pbl.data.images import EXTENSIONS, LISTED
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Example, Source
from pbl.errors import InputError, Sentence

SPLITS = {
    "train": {"train", "training", "train_set", "training_set"},
    "val": {"val", "valid", "validation", "val_set", "valid_set", "validation_set"},
    "test": {"test", "testing", "test_set", "testing_set"},
}


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
        # Many at a time: a mounted Drive takes as long for one file as for sixteen.
        with ThreadPoolExecutor(16) as threads:
            for start in range(0, len(self.files), 256):
                piece = self.files[start : start + 256]
                for (name, label), content in zip(piece, threads.map(self._read, [n for n, _ in piece]), strict=True):
                    yield content, label, _normalize(name)

    def fingerprint(self) -> str:
        """A digest of the names, the classes and the contents of all files."""
        digest = hashlib.sha256()
        for content, label, name in self:
            content = content if isinstance(content, bytes) else str(content).encode()
            digest.update(f"{name}\0{label}\0{hashlib.sha256(content).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _read(self, name: str) -> bytes | InputError:
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            return InputError("{name}: {reason}.", name=name, reason=error.strerror)


def class_folders(folder: str | Path) -> Source:
    """Opens a folder of class folders, with or without `train`, `val` and `test` above them.

    A folder that holds nothing but one folder of folders is skipped, since archives often have one.

    Args:
        folder: The folder.

    Raises:
        InputError: There is no such folder, no class folder, only one, or one without an image; a split has classes that
            train has not; folders of splits and others stand side by side.
    """
    root = expand(folder)
    try:
        return _open_folder(root, folder)
    except OSError as error:
        raise InputError(
            "{file}: {reason}. A data set is a folder that can be read.",
            file=error.filename or folder,
            reason=error.strerror,
        ) from None


def _open_folder(root: Path, folder: str | Path) -> Source:
    if not root.is_dir():
        raise InputError("No folder {folder}. {near}", folder=folder, near=names_beside(root))
    root = _descend(root, but_not_into=set().union(*SPLITS.values()))
    names = _folders_in(root)
    splits: dict[str, Path] = {}
    for split, words in SPLITS.items():
        found = [name for name in names if _plain(name) in words]
        if len(found) > 1:
            raise InputError(
                "{folder} holds {found}: which is {split}? Keep one.",
                folder=root,
                found=" and ".join(found),
                split=split,
            )
        if found:
            splits[split] = root / found[0]
    if not splits:
        return _open_classes({"train": root}, root)
    others = sorted(set(names) - {path.name for path in splits.values()})
    if "train" not in splits or others:
        raise InputError(
            "{folder} holds the split folder(s) {splits} and {what}. Valid: class folders alone, or train/ (with val/ and"
            " test/ if there are any), each with class folders.",
            folder=root,
            splits=", ".join(path.name for path in splits.values()),
            what=Sentence("also {others}", others=", ".join(others[:5])) if others else Sentence("no train/"),
        )
    # An archive may hold train/train/cat.
    inner = {split: path / path.name if _folders_in(path) == [path.name] else path for split, path in splits.items()}
    return _open_classes(inner, root)


def _open_classes(folders: dict[str, Path], root: Path) -> Source:
    found: dict[str, dict[str, Path]] = {split: {} for split in folders}
    for split, folder in folders.items():
        for name in _folders_in(folder):
            if _normalize(name) in found[split]:
                raise InputError(
                    "{folder} holds two class folders called {name}, written in two ways. Put their images together.",
                    folder=folder,
                    name=_normalize(name),
                )
            found[split][_normalize(name)] = folder / name
    class_names = sorted(found["train"], key=_natural)
    if len(class_names) < 2:
        raise InputError(
            "{folder} holds {n} class folder(s){which}. A data set is a folder with at least two folders, one for each class,"
            " named after it, with its images inside.",
            folder=folders["train"],
            n=len(class_names),
            which=f" ({class_names[0]})" if class_names else "",
        )
    parts = {}
    for split, classes in found.items():
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            raise InputError(
                "{folder} has the class(es) {unknown}, which train has not: {names}.",
                folder=folders[split],
                unknown=", ".join(unknown[:5]),
                names=", ".join(class_names[:20]),
            )
        files = []
        for label, name in enumerate(class_names):
            listed = list(_list_images(classes[name])) if name in classes else []
            if not listed and split == "train":
                raise InputError(
                    "The class folder {folder} holds no image ({kinds}). Put images into it, or take it away.",
                    folder=classes[name],
                    kinds=", ".join(sorted(kind[1:] for kind in EXTENSIONS)),
                )
            files += [(os.path.relpath(path, root), label) for path in listed]
        loose = sorted(path.name for path in folders[split].iterdir() if _is_loose(path))
        if files and loose:
            raise InputError(
                "{folder} holds {n} image(s) beside its class folders, such as {name}. Move them into a class folder, or away.",
                folder=folders[split],
                n=len(loose),
                name=loose[0],
            )
        if not files:
            raise InputError(
                "{folder} holds no image in its class folders. Put images there, or take it away.",
                folder=folders[split],
            )
        parts[split] = Files(root, files)
    give = {split: (lambda files=files: files) for split, files in parts.items()}
    return Source(class_names, give["train"], give.get("test"), give.get("val"))


def _is_loose(path: Path) -> bool:
    return path.suffix.lower() in LISTED and not is_hidden(path.name) and path.is_file()


def _plain(name: str) -> str:
    return re.sub(r"[ -]+", "_", name.casefold())


def _descend(folder: Path, but_not_into: Collection[str] = ()) -> Path:
    """Goes down while a folder holds nothing but one folder, and that one holds folders."""
    for _ in range(10):
        names = _folders_in(folder)
        if len(names) != 1 or _plain(names[0]) in but_not_into or not _folders_in(folder / names[0]):
            break
        folder = folder / names[0]
    return folder


def _folders_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())


def _list_images(folder: str | Path, seen: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """All image files below a folder, sorted; a link that leads back to a folder above is not followed."""
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _list_images(entry.path, seen)
            elif PurePosixPath(entry.name).suffix.lower() in LISTED and (entry.is_file() or entry.is_symlink()):
                yield entry.path


def _natural(name: str) -> list[tuple[int, int | str]]:
    """A key for sorting that puts 2 before 10."""
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in re.split(r"(\d+)", name) if piece]


def _normalize(name: str) -> str:
    """One spelling for each name: macOS writes が as か and a mark, other systems do not. What is not Unicode becomes ?."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())
