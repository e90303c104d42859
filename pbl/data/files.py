"""Sources that are files: a folder of class folders, a `.zip` of one, an `.npz` of arrays.

    photos/cat/1.jpg                     one folder a class; test and validation are cut from them
    photos/train/cat/1.jpg  photos/test/cat/9.jpg      official splits, which are kept

Train may be called train, training or training_set; validation val, valid or validation (with or without _set); test test,
testing or test_set. Hidden files and what macOS and Windows leave (`.DS_Store`, `__MACOSX`, `Thumbs.db`) are passed over.
"""

import errno
import hashlib
import lzma
import os
import re
import shutil
import stat
import tempfile
import time
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np

from pbl.data.images import EXTENSIONS, LISTED
from pbl.data.sources import Example, Source, from_arrays
from pbl.errors import InputError, Sentence, name_nearest

SPLITS = {
    "train": {"train", "training", "train_set", "training_set"},
    "val": {"val", "valid", "validation", "val_set", "valid_set", "validation_set"},
    "test": {"test", "testing", "test_set", "testing_set"},
}
GIGABYTE = 10**9
LARGEST_IMAGE = GIGABYTE // 2  # bytes of one file in an archive
LARGEST_RATIO = 100  # of an archive's content to its own size, beyond a gigabyte; photographs have about 1


class Files:
    """The image files of one split, read when they are gone through.

    Args:
        root: The folder that names are relative to.
        files: (name, class) of each.
    """

    def __init__(self, root: Path, files: list[tuple[str, int]]):
        self.root, self.files = root, files

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Example]:
        # Many at a time: a Drive takes as long for one file as for sixteen.
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

    A folder that holds nothing but one other folder of folders is passed through, as archives often have it.

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
        raise InputError("No folder {folder}. {near}", folder=folder, near=_names_beside(root))
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
            folder=root, splits=", ".join(path.name for path in splits.values()),
            what=Sentence("also {others}", others=", ".join(others[:5])) if others else Sentence("no train/"),
        )  # fmt: skip
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
                    folder=folder, name=_normalize(name),
                )  # fmt: skip
            found[split][_normalize(name)] = folder / name
    class_names = sorted(found["train"], key=_natural)
    if len(class_names) < 2:
        raise InputError(
            "{folder} holds {n} class folder(s){which}. A data set is a folder with at least two folders, one for each class,"
            " named after it, with its images inside.",
            folder=folders["train"], n=len(class_names), which=f" ({class_names[0]})" if class_names else "",
        )  # fmt: skip
    parts = {}
    for split, classes in found.items():
        unknown = sorted(set(classes) - set(class_names))
        if unknown:
            raise InputError(
                "{folder} has the class(es) {unknown}, which train has not: {names}.",
                folder=folders[split], unknown=", ".join(unknown[:5]), names=", ".join(class_names[:20]),
            )  # fmt: skip
        files = []
        for label, name in enumerate(class_names):
            listed = list(_list_images(classes[name])) if name in classes else []
            if not listed and split == "train":
                raise InputError(
                    "The class folder {folder} holds no image ({kinds}). Put images into it, or take it away.",
                    folder=classes[name], kinds=", ".join(sorted(kind[1:] for kind in EXTENSIONS)),
                )  # fmt: skip
            files += [(os.path.relpath(path, root), label) for path in listed]
        loose = sorted(path.name for path in folders[split].iterdir() if _is_loose(path))
        if files and loose:
            raise InputError(
                "{folder} holds {n} image(s) beside its class folders, such as {name}. Move them into a class folder, or away.",
                folder=folders[split], n=len(loose), name=loose[0],
            )  # fmt: skip
        if not files:
            raise InputError(
                "{folder} holds no image in its class folders. Put images there, or take it away.",
                folder=folders[split],
            )
        parts[split] = Files(root, files)
    give = {split: (lambda files=files: files) for split, files in parts.items()}
    return Source(class_names, give["train"], give.get("test"), give.get("val"))


def _is_loose(path: Path) -> bool:
    return path.suffix.lower() in LISTED and not _is_hidden(path.name) and path.is_file()


def _plain(name: str) -> str:
    return re.sub(r"[ -]+", "_", name.casefold())


def _descend(folder: Path, but_not_into: Collection[str] = ()) -> Path:
    """Passes through folders that hold nothing but one folder, so long as that holds folders."""
    for _ in range(10):
        names = _folders_in(folder)
        if len(names) != 1 or _plain(names[0]) in but_not_into or not _folders_in(folder / names[0]):
            break
        folder = folder / names[0]
    return folder


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN")


def _folders_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not _is_hidden(entry.name) and entry.is_dir())


def _list_images(folder: str | Path, seen: frozenset[tuple[int, int]] = frozenset()) -> Iterator[str]:
    """All image files below a folder, sorted; a link that leads back to a folder above is not followed."""
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen |= {(status.st_dev, status.st_ino)}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _list_images(entry.path, seen)
            elif PurePosixPath(entry.name).suffix.lower() in LISTED and (entry.is_file() or entry.is_symlink()):
                yield entry.path


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Orders 2 before 10."""
    return [(0, int(piece)) if piece.isdecimal() else (1, piece) for piece in re.split(r"(\d+)", name) if piece]


def _normalize(name: str) -> str:
    """One way of writing for names: macOS writes が as か with a mark, other systems do not; what is no Unicode becomes ?."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "replace").decode())


def _names_beside(path: Path) -> Sentence:
    try:
        beside = sorted(entry.name for entry in path.parent.iterdir() if not _is_hidden(entry.name))
    except OSError:
        return Sentence("There is no folder {folder} either. Here is {here}.", folder=path.parent, here=Path.cwd())
    if not beside:
        return Sentence("{folder} is empty.", folder=path.parent.resolve())
    return name_nearest(path.name, beside[:50])


def zip_archive(file: str | Path) -> Source:
    """Opens a `.zip` of a folder of class folders. Its images are unpacked once, into the local cache.

    The cache knows an archive by what is in it (names, sizes and checksums), so a changed archive is unpacked anew.

    Args:
        file: The archive.

    Raises:
        InputError: The archive is missing, truncated, encrypted or damaged; it holds a path that leads out of it, a link, or
            more than a picture can hold; the disk is too small; or what `class_folders` says.
    """
    file = expand(file)
    if not file.is_file():
        raise InputError("No file {file}. {near}", file=file, near=_names_beside(file))
    try:
        with zipfile.ZipFile(file) as archive:
            members, folders = _check_members(archive, file)
            listing = "\n".join(
                [*sorted(f"{name} {info.file_size} {info.CRC}" for name, info in members.items()), *folders]
            )
            key = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            folder = cache_folder() / f"{file.stem[:40]}-{key}"
            if not _is_whole(folder, members, folders):
                _unpack(archive, members, folders, folder, file)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise InputError(
            "{file} is no archive, or damaged: {error}. Copy or download it again.", file=file, error=error
        ) from None
    try:
        return class_folders(folder)
    except InputError as error:  # which should name what the user gave
        fields = {
            name: str(value).replace(str(folder), str(file)) if str(folder) in str(value) else value
            for name, value in error.fields.items()
        }
        raise InputError(error.template, **fields) from None


def _is_whole(folder: Path, members: dict[str, zipfile.ZipInfo], folders: list[str]) -> bool:
    """Whether all of an archive still lies in the cache, which anybody may clear at any time."""
    try:
        return all((folder / name).stat().st_size == info.file_size for name, info in members.items()) and all(
            (folder / name).is_dir() for name in folders
        )
    except OSError:
        return False


def _check_members(archive: zipfile.ZipFile, file: Path) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """The images in an archive, by their names in Unicode, and the folders of all its files; raises InputError for what no honest archive of images holds."""
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()  # a class without images is a fault, of which the folder source speaks
    total, archives = 0, []
    for info in archive.infolist():
        name = decode_name(info).replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise InputError(
                "{file} holds the path {name}, which leads out of it. Do not use this archive.",
                file=file,
                name=ascii(name),
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError("{file} holds the link {name}. Pack the files themselves.", file=file, name=ascii(name))
        if info.is_dir() or any(_is_hidden(part) for part in parts):
            continue
        name = str(PurePosixPath(name))  # ./cat//1.png is cat/1.png
        folders.add(str(PurePosixPath(name).parent))
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in (".zip", ".tar", ".gz", ".7z", ".rar"):
            archives.append(name)
        if suffix not in LISTED:
            continue
        if info.flag_bits & 1:
            raise InputError("{file} is encrypted. Unpack it with its password, and give the folder.", file=file)
        if name in members:
            raise InputError("{file} holds {name} twice. Pack it anew.", file=file, name=ascii(name))
        if info.file_size > LARGEST_IMAGE:
            raise InputError(
                "{file}: {name} would unpack to {size:.1f} GB. No image is that large; do not use this archive.",
                file=file, name=ascii(name), size=info.file_size / GIGABYTE,
            )  # fmt: skip
        total += info.file_size
        members[name] = info
    if total > max(GIGABYTE, LARGEST_RATIO * file.stat().st_size):
        raise InputError(
            "{file} would unpack to {size:.1f} GB, over {ratio} times its own size. Images do not shrink like that; do not use"
            " this archive.",
            file=file, size=total / GIGABYTE, ratio=LARGEST_RATIO,
        )  # fmt: skip
    if not members:
        raise InputError(
            "{file} holds no image{inside}.",
            file=file, inside=Sentence(", but the archive {name}: unpack it and give what is inside", name=archives[0]) if archives else "",
        )  # fmt: skip
    return members, sorted(folders)


def decode_name(info: zipfile.ZipInfo) -> str:
    """Returns a zip member's name; where it is not marked as UTF-8, Python has read it as cp437, and it is UTF-8 after all, or
    Japanese Windows'."""
    if info.flag_bits & 0x800:
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:
        return info.filename
    for encoding in ("utf-8", "cp932"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            pass
    return info.filename


def _unpack(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], folders: list[str], folder: Path, file: Path
) -> None:
    """Unpacks into a folder beside, which gets its name only when it is complete."""
    needed = sum(info.file_size for info in members.values())
    try:
        make_cache_folder()
        free = shutil.disk_usage(folder.parent).free
        if needed * 1.05 > free:
            raise InputError(
                "{file} unpacks to {size:.1f} GB, and {folder} has {free:.1f} GB free. Free some space, or name another folder in"
                " the variable PBL_CACHE.",
                file=file, size=needed / GIGABYTE, folder=folder.parent, free=free / GIGABYTE,
            )  # fmt: skip
        unpacking = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unpacking-"))
        try:
            for name in folders:
                (unpacking / name).mkdir(parents=True, exist_ok=True)
            for name, info in members.items():
                target = unpacking / name
                with archive.open(info) as content, target.open("wb") as copy:
                    shutil.copyfileobj(content, copy)
            if folder.is_dir() and not _is_whole(folder, members, folders):
                shutil.rmtree(folder, ignore_errors=True)
            try:
                unpacking.replace(folder)
            except OSError:  # another process was faster
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(unpacking, ignore_errors=True)
    except (OSError, NotImplementedError, EOFError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            "{file} cannot be unpacked into {folder}: {error}.", file=file, folder=folder.parent, error=error
        ) from None


def npz_arrays(file: str | Path) -> Source:
    """Opens an `.npz` in Keras's layout: `x_train`, `y_train`, and `x_test`, `y_test`, `x_val`, `y_val` where there are such.

    Args:
        file: Images are `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`; labels whole numbers `[n]` or `[n, 1]`.
            An array `class_names` of words may stand beside them.

    Raises:
        InputError: The file is missing or damaged, would fill the memory, holds Python objects (which are never unpickled), or
            its arrays are others.
    """
    file = expand(file)
    if not file.is_file():
        raise InputError("No file {file}. {near}", file=file, near=_names_beside(file))
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > max(4 * GIGABYTE, LARGEST_RATIO * file.stat().st_size):
            raise InputError(
                "{file} would unpack to {size:.1f} GB, over {ratio} times its own size. Do not use it.",
                file=file, size=size / GIGABYTE, ratio=LARGEST_RATIO,
            )  # fmt: skip
        with np.load(file, allow_pickle=False) as arrays:
            found = {
                name: arrays[name] for name in arrays.files if re.fullmatch(r"[xy]_(train|val|test)|class_names", name)
            }
            names = arrays.files
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, MemoryError) as error:
        if isinstance(error, InputError):
            raise
        if "pickle" in str(error):
            raise InputError(
                "{file} holds Python objects (dtype=object), which could run any program and are not read. Save arrays of"
                " one shape: np.savez(file, x_train=np.stack(images), ...).",
                file=file,
            ) from None
        raise InputError(
            "{file} is no .npz file, or damaged: {error}. Copy or save it again.", file=file, error=error
        ) from None
    missing = [name for name in ("x_train", "y_train") if name not in found]
    missing += [f"y_{split}" for split in ("val", "test") if f"x_{split}" in found and f"y_{split}" not in found]
    if missing:
        raise InputError(
            "{file} lacks {missing}: it holds {names}. Valid: x_train, y_train, and x_test, y_test, x_val, y_val.",
            file=file, missing=", ".join(missing), names=", ".join(names) or "nothing",
        )  # fmt: skip
    pairs = {}
    for split in ("train", "val", "test"):
        if f"x_{split}" in found:
            images, labels = found[f"x_{split}"], found[f"y_{split}"]
            _check_values(images, f"{file}: x_{split}")
            pairs[split] = (images, labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels)
    class_names = found.get("class_names")
    if class_names is not None:
        if class_names.ndim != 1 or class_names.dtype.kind not in "US":
            raise InputError(
                "{file}: class_names is {dtype} of shape {shape}. Valid: one word for each class.",
                file=file,
                dtype=class_names.dtype,
                shape=class_names.shape,
            )
        class_names = [
            name.decode(errors="replace") if isinstance(name, bytes) else name for name in class_names.tolist()
        ]
    if class_names is None and all(labels.dtype.kind in "iu" and labels.size for _, labels in pairs.values()):
        # A class that train has not is a fault too, which the data check names.
        class_names = [str(number) for number in range(max(int(labels.max()) for _, labels in pairs.values()) + 1)]
    return from_arrays(*pairs["train"], class_names, test=pairs.get("test"), val=pairs.get("val"))


def _check_values(images: np.ndarray, name: str) -> None:
    if images.ndim not in (3, 4):
        raise InputError(
            "{name} has the shape {shape}. Valid: [n, height, width] or [n, height, width, 1 or 3].",
            name=name,
            shape=images.shape,
        )
    if images.dtype == np.uint8:
        if images.ndim == 4 and images.shape[-1] not in (1, 3) and images.shape[1] in (1, 3):
            raise InputError(
                "{name} has the channels first, {shape}. Save images.transpose(0, 2, 3, 1).",
                name=name,
                shape=images.shape,
            )
        return
    if images.dtype.kind not in "biuf":
        raise InputError("{name} is {dtype}. Valid: uint8, 0 to 255.", name=name, dtype=images.dtype)
    bad = np.argwhere(~np.isfinite(images)) if np.issubdtype(images.dtype, np.inexact) else []
    if len(bad):
        raise InputError(
            "{name}: image {first} holds NaN or infinity. Repair or leave out such images; save uint8, 0 to 255.",
            name=name,
            first=int(bad[0][0]),
        )
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    raise InputError(
        "{name} is {dtype} from {low:g} to {high:g}. Valid: uint8, 0 to 255{hint}.",
        name=name, dtype=images.dtype, low=low, high=high,
        hint=Sentence(": save (255 * images).round().astype('uint8')") if low >= 0 and high <= 1 else "",
    )  # fmt: skip


def cache_folder() -> Path:
    """Returns the folder of the local cache: the variable `PBL_CACHE`, else `~/.cache/pbl`. It may be deleted any time."""
    return expand(os.environ.get("PBL_CACHE") or "~/.cache/pbl")


def make_cache_folder() -> Path:
    """Makes the folder of the local cache, and clears away what killed processes left half-done there over a day ago.

    Raises:
        InputError: The folder cannot be made or written.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in [*folder.glob(".writing-*"), *folder.glob(".unpacking-*")]:
            if time.time() - leftover.stat().st_mtime > 86_400:
                shutil.rmtree(leftover, ignore_errors=True) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise InputError(
            "The cache folder {folder} cannot be used: {reason}. Name another folder in the variable PBL_CACHE.",
            folder=folder, reason=error.strerror,
        ) from None  # fmt: skip
    return folder


def open_path(path: str) -> Source:
    """Opens a folder, a `.zip` or an `.npz` by its path."""
    kinds: dict[str, Callable[[str | Path], Source]] = {".zip": zip_archive, ".npz": npz_arrays}
    place = expand(path)
    if place.is_file() and place.suffix.lower() not in kinds:
        raise InputError(
            "{path} is a file of another kind. Valid: a folder of class folders, a .zip of one, an .npz. Unpack it, or pack a .zip.",
            path=path,
        )
    return class_folders(path) if place.is_dir() else kinds.get(place.suffix.lower(), class_folders)(path)


def expand(path: str | Path) -> Path:
    """Puts the home folder in place of `~`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError("{path}: there is no such user. Give the whole path.", path=path) from None


def looks_like_path(name: str) -> bool:
    """Whether a data set's name is meant as a path: it ends in .zip or .npz, begins with . / or ~, or has a / and exists."""
    return (
        name.lower().endswith((".zip", ".npz", ".tar", ".gz", ".tgz", ".7z", ".rar"))
        or name.startswith((".", "/", "~"))
        or ("/" in name and Path(name).exists())
    )
