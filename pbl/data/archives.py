"""Sources that are one file: a `.zip` of a folder of class folders, and an `.npz` of arrays.

An archive may come from a stranger. What an honest archive never contains is refused before anything is unpacked.
"""

import hashlib
import lzma
import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np

from pbl.data.boxes import from_boxed_arrays
from pbl.data.cache import GIGABYTE, cache_folder, make_cache_folder
from pbl.data.folders import class_folders, read_patiently, tell_passed_over
from pbl.data.images import LISTED, NO_IMAGES, begins_as_image
from pbl.data.mask_files import from_masked_arrays
from pbl.data.paths import expand, is_hidden, names_beside
from pbl.data.source import Source, from_arrays
from pbl.errors import InputError, Sentence
from pbl.storage.writing import find_failure, name_unfinished

LARGEST_IMAGE = GIGABYTE // 2  # bytes of one file in an archive
LARGEST_RATIO = 100  # unpacked size divided by the archive's own size, checked beyond a gigabyte (.npz: four); photographs have about 1


def zip_archive(
    file: str | Path,
    open_folder: Callable[[Path], Source] = class_folders,
    texts: frozenset[str] = frozenset(),
    endings: frozenset[str] = frozenset(),
) -> Source:
    """Opens a `.zip` of a folder of class folders, or of another kind of folder that `open_folder` opens.

    Its images are unpacked once, into the local cache. The cache identifies an archive by its content (names, sizes and checksums),
    so a changed archive is unpacked again.

    Args:
        file: The archive.
        open_folder: Opens the unpacked folder.
        texts: Names of files that are unpacked too, though they are not images.
        endings: Endings of such names, such as `.xml`.

    Raises:
        InputError: The archive is missing, truncated, encrypted or damaged; it holds a path that leads out of it, a link, or
            more data than pictures can have; the disk is too small; or an error of `class_folders`.

    Example:
        >>> from pbl.data import zip_archive
        >>> zip_archive("photos.zip").class_names
        ['one', 'zero']
    """
    file = expand(file)
    return read_patiently(lambda: _open_zip(file, open_folder, texts, endings), file, file)


def _open_zip(
    file: Path, open_folder: Callable[[Path], Source], texts: frozenset[str], endings: frozenset[str]
) -> Source:
    if not file.is_file():
        raise InputError("No file {file}. {near}", file=file, near=names_beside(file))
    try:
        with zipfile.ZipFile(file) as archive:
            members, folders, passed_over = _check_members(archive, file, texts, endings)
            listing = "\n".join(
                [*sorted(f"{name} {info.file_size} {info.CRC}" for name, info in members.items()), *folders]
            )
            key = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:16]
            folder = cache_folder() / f"{file.stem[:40]}-{key}"
            if not _is_whole(folder, members, folders):
                _unpack(archive, members, folders, folder, file)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        if find_failure(error):
            raise
        raise InputError(
            "{file} is not an archive, or it is damaged: {error}. Copy or download it again.", file=file, error=error
        ) from None
    try:
        source = open_folder(folder)
        return replace(source, findings=source.findings + tuple(tell_passed_over(passed_over)))
    except InputError as error:  # it should name the archive that the user gave
        fields = {
            name: str(value).replace(str(folder), str(file)) if str(folder) in str(value) else value
            for name, value in error.fields.items()
        }
        raise InputError(error.template, **fields) from None


def _is_whole(folder: Path, members: dict[str, zipfile.ZipInfo], folders: list[str]) -> bool:
    """Whether the cache still has all files of an archive; a user may delete it at any time."""
    try:
        return all((folder / name).stat().st_size == info.file_size for name, info in members.items()) and all(
            (folder / name).is_dir() for name in folders
        )
    except OSError:
        return False


def _check_members(
    archive: zipfile.ZipFile, file: Path, texts: frozenset[str], endings: frozenset[str]
) -> tuple[dict[str, zipfile.ZipInfo], list[str], dict[str, int]]:
    """Returns, by their names in Unicode, an archive's images, `texts` and files with these `endings`; the folders of all its files; and how many others there are by ending.

    Raises InputError for anything that an honest archive of images never contains.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()  # `class_folders` reports a class without images
    total, archives, passed_over = 0, [], Counter()
    for info in archive.infolist():
        name = decode_name(info).replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name):
            raise InputError(
                "{file} contains the path {name}, which leads outside the archive. Do not use this archive.",
                file=file,
                name=ascii(name),
            )
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError("{file} contains the link {name}. Pack the files themselves.", file=file, name=ascii(name))
        if info.is_dir() or any(is_hidden(part) for part in parts):
            continue
        name = str(PurePosixPath(name))  # ./cat//1.png is cat/1.png
        folders.add(str(PurePosixPath(name).parent))
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in (".zip", ".tar", ".gz", ".7z", ".rar"):
            archives.append(name)
        if info.flag_bits & 1:
            raise InputError("{file} is encrypted. Unpack it with its password, and give the folder.", file=file)
        is_wanted = suffix in LISTED or suffix in endings or parts[-1] in texts
        if not is_wanted and not _is_image(archive, info, suffix):
            passed_over[suffix] += 1
            continue
        if name in members:
            raise InputError("{file} contains {name} twice. Pack it again.", file=file, name=ascii(name))
        if info.file_size > LARGEST_IMAGE:
            raise InputError(
                "{file}: {name} would unpack to {size:.1f} GB. No image is that large; do not use this archive.",
                file=file,
                name=ascii(name),
                size=info.file_size / GIGABYTE,
            )
        total += info.file_size
        members[name] = info
    if total > max(GIGABYTE, LARGEST_RATIO * file.stat().st_size):
        raise InputError(
            "{file} would unpack to {size:.1f} GB, over {ratio} times its own size. Images do not shrink like that; do not use"
            " this archive.",
            file=file,
            size=total / GIGABYTE,
            ratio=LARGEST_RATIO,
        )
    if not members:
        raise InputError(
            "{file} contains no image{inside}.",
            file=file,
            inside=Sentence(", but the archive {name}: unpack it and give the contents", name=archives[0])
            if archives
            else "",
        )
    return members, sorted(folders), passed_over


def _is_image(archive: zipfile.ZipFile, info: zipfile.ZipInfo, suffix: str) -> bool:
    """Whether a file whose ending is not known is an image by its first bytes."""
    if suffix in NO_IMAGES:
        return False
    try:
        with archive.open(info) as stream:
            return begins_as_image(stream.read(32))
    except (NotImplementedError, EOFError, RuntimeError, ValueError):  # reported when it is unpacked, if it is an image
        return False


def decode_name(info: zipfile.ZipInfo) -> str:
    """Returns a zip member's name.

    Python reads a name that is not marked as UTF-8 as cp437. Most often it is UTF-8, or the encoding of Japanese Windows.
    """
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
    """Unpacks into a temporary folder next to `folder`, and renames it when it is complete."""
    needed = sum(info.file_size for info in members.values())
    try:
        make_cache_folder()
        free = shutil.disk_usage(folder.parent).free
        if needed * 1.05 > free:
            raise InputError(
                "{file} unpacks to {size:.1f} GB, and {folder} has {free:.1f} GB free. Free some space, or name another folder in"
                " the variable PBL_CACHE.",
                file=file,
                size=needed / GIGABYTE,
                folder=folder.parent,
                free=free / GIGABYTE,
            )
        unpacking = Path(tempfile.mkdtemp(dir=folder.parent, prefix=name_unfinished()))
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
        if isinstance(error, InputError) or find_failure(error):
            raise
        if isinstance(error, NotImplementedError):
            raise InputError(
                "{file} is packed in a way that Python cannot read ({error}). Unpack it and give the folder, or pack it again as .zip.",
                file=file,
                error=error,
            ) from None
        raise InputError(
            "{file} cannot be unpacked into {folder}: {error}.", file=file, folder=folder.parent, error=error
        ) from None


def npz_arrays(file: str | Path, has_masks: bool = False, has_boxes: bool = False) -> Source:
    """Opens an `.npz` in Keras's layout: `x_train`, `y_train`, and `x_test`, `y_test`, `x_val`, `y_val` if there are such.

    Args:
        file: Images are `uint8 [n, height, width]` or `[n, height, width, 1 or 3]`; labels whole numbers `[n]` or `[n, 1]`.
            The file may also contain an array `class_names` of words.
        has_masks: Whether there are masks in place of labels: `m_train`, `m_test`, `m_val`, `[n, height, width]`.
        has_boxes: Likewise boxes: `b_train`, `b_test`, `b_val`, `[n, most, 5]` (`pbl.data.boxes.from_boxed_arrays`).

    Raises:
        InputError: The file is missing or damaged, would fill the memory, contains Python objects (which are never unpickled), or
            its arrays do not have this layout.

    Example:
        >>> import numpy as np
        >>> from pbl.data import npz_arrays
        >>> np.savez("mine.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=[0, 1, 0, 1], class_names=["cat", "dog"])
        >>> npz_arrays("mine.npz").class_names
        ['cat', 'dog']
    """
    file = expand(file)
    make = from_masked_arrays if has_masks else from_boxed_arrays if has_boxes else from_arrays
    return read_patiently(lambda: _open_npz(file, make), file, file)


# For each kind of source, the letter of the arrays that belong to the images.
_LETTERS = {from_arrays: "y", from_masked_arrays: "m", from_boxed_arrays: "b"}


def _open_npz(file: Path, make: Callable[..., Source]) -> Source:
    if not file.is_file():
        raise InputError("No file {file}. {near}", file=file, near=names_beside(file))
    y = _LETTERS[make]
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > max(4 * GIGABYTE, LARGEST_RATIO * file.stat().st_size):
            raise InputError(
                "{file} would unpack to {size:.1f} GB, over {ratio} times its own size. Do not use it.",
                file=file,
                size=size / GIGABYTE,
                ratio=LARGEST_RATIO,
            )
        with np.load(file, allow_pickle=False) as arrays:
            found = {
                name: arrays[name]
                for name in arrays.files
                if re.fullmatch(rf"[x{y}]_(train|val|test)|class_names", name)
            }
            names = arrays.files
    except MemoryError:
        raise InputError(
            "There is not enough memory for {file}: its arrays take {size:.1f} GB. Close other programs, or give the images as files in"
            " class folders, which are read one by one.",
            file=file,
            size=size / GIGABYTE,
        ) from None
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        if isinstance(error, (InputError, PermissionError)) or find_failure(error):
            raise
        if "pickle" in str(error):
            raise InputError(
                "{file} contains Python objects (dtype=object), which could run any program, so they are not read. Save arrays of one shape: "
                "np.savez(file, x_train=np.stack(images), ...).",
                file=file,
            ) from None
        raise InputError(
            "{file} is not an .npz file, or it is damaged: {error}. Copy or save it again.", file=file, error=error
        ) from None
    missing = [name for name in ("x_train", f"{y}_train") if name not in found]
    missing += [f"{y}_{split}" for split in ("val", "test") if f"x_{split}" in found and f"{y}_{split}" not in found]
    if missing:
        raise InputError(
            "{file} lacks {missing}: it contains {names}. Valid: x_train, {y}_train, and x_test, {y}_test, x_val, {y}_val.",
            file=file,
            y=y,
            missing=", ".join(missing),
            names=", ".join(names) or "nothing",
        )
    pairs = {}
    for split in ("train", "val", "test"):
        if f"x_{split}" in found:
            images, labels = found[f"x_{split}"], found[f"{y}_{split}"]
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
    if (
        make is from_arrays
        and class_names is None
        and all(labels.dtype.kind in "iu" and labels.size for _, labels in pairs.values())
    ):
        # The data check reports a class without training images.
        class_names = [str(number) for number in range(max(int(labels.max()) for _, labels in pairs.values()) + 1)]
    return make(*pairs["train"], class_names, test=pairs.get("test"), val=pairs.get("val"))


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
                "{name} has the channels first: {shape}. Save images.transpose(0, 2, 3, 1).",
                name=name,
                shape=images.shape,
            )
        return
    if images.dtype.kind not in "biuf":
        raise InputError("{name} is {dtype}. Valid: uint8, 0 to 255.", name=name, dtype=images.dtype)
    bad = np.argwhere(~np.isfinite(images)) if np.issubdtype(images.dtype, np.inexact) else []
    if len(bad):
        raise InputError(
            "{name}: image {first} contains NaN or infinity. Repair or leave out such images; save uint8, 0 to 255.",
            name=name,
            first=int(bad[0][0]),
        )
    low, high = (images.min(), images.max()) if images.size else (0, 0)
    raise InputError(
        "{name} is {dtype} from {low:g} to {high:g}. Valid: uint8, 0 to 255{hint}.",
        name=name,
        dtype=images.dtype,
        low=low,
        high=high,
        hint=Sentence(": save (255 * images).round().astype('uint8')") if low >= 0 and high <= 1 else "",
    )
