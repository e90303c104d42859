"""A model on the disk, complete or not at all, with a checksum that shows whether it is still what was written."""

import errno
import io
import json
import math
import os
import shutil
import struct
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import h5py
import keras

from pbl.errors import InputError
from pbl.languages import say
from pbl.models.calls import find_optimizers, list_variables
from pbl.storage.reading import UnreadableFile, parse_json, read_file
from pbl.storage.writing import replacing, temporary_folder

# The seal at the end of a weights file, where HDF5 does not look: a comment in JSON, its length, a checksum of everything before, this word.
SEAL = b"PBL-SEAL"
_NUMBERS = struct.Struct(">II")
_MOST_OF_SEAL = 4096


def save_model(model: keras.Model, folder: Path, name: str, weights: bool = True, comment: dict | None = None) -> None:
    """Saves `<name>.keras` and, with `weights`, `<name>.weights.h5`, each complete or not at all.

    The weights file is the one that `pbl` loads, without the optimizer's state. An older Keras can read it too, and it ends with a
    checksum (`read_seal`). If Keras cannot describe a model (a layer without `get_config`, or with one that fails), only the weights
    are kept, with a warning.

    Args:
        model: The model.
        folder: The folder to write to.
        name: Name of the files, without ending.
        weights: Whether `<name>.weights.h5` is written too.
        comment: Kept in the archive `<name>.keras` as its comment, in JSON, and at the end of the weights file.

    Raises:
        InputError: The disk is full or the folder cannot be written; existing files stay unchanged.
    """
    weights_file = folder / f"{name}.weights.h5"
    try:
        with replacing(folder / f"{name}.keras") as temporary:
            model.save(temporary)
            if comment is not None:
                with zipfile.ZipFile(temporary, "a") as archive:
                    archive.comment = json.dumps(comment).encode()
            if weights:
                copy_weights(temporary, weights_file, model, comment)
    except InputError:
        raise
    except (
        Exception
    ) as error:  # a layer's own get_config may raise anything: the training must not be lost because of it
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        warnings.warn(f"{name}.keras was not written, since Keras cannot describe this model ({what})", stacklevel=2)
        if weights:
            variables = list_variables(model)
            needed = 1_000_000 + 5 * sum(
                math.prod(variable.shape) for variable in variables
            )  # 4 bytes each, and a margin
            with replacing(weights_file) as temporary:
                if shutil.disk_usage(folder).free < needed:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
                model.save_weights(temporary)
                _write_sealed(temporary, _without_optimizers(temporary, model), comment)


def copy_weights(archive_file: Path, weights_file: Path, model: keras.Model, comment: dict | None = None) -> None:
    """Copies the weights from a model's `.keras` file, without the state of its optimizers, and seals them."""

    def read(stream: BinaryIO) -> memoryview:
        with zipfile.ZipFile(stream) as archive, archive.open("model.weights.h5") as stored:
            return _without_optimizers(stored, model)

    weights = read_file(archive_file, read, archive_file.parent, math.inf)
    with replacing(weights_file) as temporary:
        _write_sealed(temporary, weights, comment)


def _without_optimizers(stored: IO[bytes] | Path, model: keras.Model) -> memoryview:
    """Works in memory, since HDF5 itself must never meet a full disk: there it crashes the process."""
    optimizers = {name.lstrip("_") for name in find_optimizers(model)}
    copied = io.BytesIO()
    with h5py.File(stored, "r") as source, h5py.File(copied, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            if name.lstrip("_") not in optimizers:
                source.copy(name, target)
    return copied.getbuffer()


def _write_sealed(file: Path, weights: memoryview, comment: dict | None) -> None:
    text = json.dumps(comment or {}).encode()
    with file.open("wb") as stream:
        stream.write(weights)
        stream.write(text + _NUMBERS.pack(len(text), zlib.crc32(text, zlib.crc32(weights))) + SEAL)


def _add_up(stream: BinaryIO, size: int) -> int:
    """The checksum of the next `size` bytes."""
    checksum = 0
    while size and (content := stream.read(min(size, 2**20))):
        checksum, size = zlib.crc32(content, checksum), size - len(content)
    return checksum


def read_seal(file: Path, inside: Path | None = None) -> dict | None:
    """Reads the comment of a weights file, as `save_model` wrote it, and verifies the complete file.

    Args:
        file: The file.
        inside: A folder that no link may lead out of.

    Returns:
        The comment; None for a file from an earlier version, which cannot be verified.

    Raises:
        FileNotFoundError, UnreadableFile: There is no file; it is not what was written, or it cannot be read now.
    """

    def read(stream: BinaryIO) -> dict | None:
        end = stream.seek(0, os.SEEK_END) - len(SEAL) - _NUMBERS.size
        if end < 0:
            return None
        stream.seek(end)
        length, checksum = _NUMBERS.unpack(stream.read(_NUMBERS.size))
        if stream.read() != SEAL:
            return None
        if not 0 < length <= min(_MOST_OF_SEAL, end):
            raise ValueError("no such seal")
        stream.seek(0)
        found = _add_up(stream, end - length)
        text = stream.read(length)
        if zlib.crc32(text, found) != checksum:
            raise ValueError("another checksum")
        return parse_json(text)

    return read_file(file, read, inside, math.inf)


def read_comment(file: Path) -> dict | None:
    """Returns the comment that `save_model` wrote to a `.keras` file if its weights are undamaged; None if there is none."""

    def read(stream: BinaryIO) -> dict | None:
        with zipfile.ZipFile(stream) as archive:
            if not archive.comment:
                return None
            with archive.open("model.weights.h5") as weights:  # read to the end, where its checksum is compared
                while weights.read(2**20):
                    pass
            return parse_json(archive.comment)

    try:
        return read_file(file, read, file.parent, math.inf)
    except FileNotFoundError:
        return None
    except UnreadableFile as error:
        if not error.is_damaged:
            raise
        _tell(error)
        return None


def is_unsealed(file: Path) -> bool:
    """Whether there is a weights file without a seal, as an earlier version wrote it."""
    try:
        return read_seal(file) is None
    except (FileNotFoundError, UnreadableFile):
        return False


def _tell(error: UnreadableFile) -> None:
    print(say("{file} is ignored, because {reason}.", file=error.file, reason=error.reason), file=sys.stderr)


def mend_weights(folder: Path, name: str, model: keras.Model, epoch: int) -> dict | None:
    """Makes sure that `<name>.weights.h5` has the newer weights of a model's two files, of those that are undamaged.

    Args:
        folder, name: As for `save_model`.
        model: The model.
        epoch: The epoch that the model should be from; weights from an earlier version are not replaced by older ones.

    Returns:
        The comment of these weights, with their `epoch`; None if no file is undamaged with a known epoch.
    """
    weights_file, archive_file = folder / f"{name}.weights.h5", folder / f"{name}.keras"
    kept, least = None, 0
    try:
        kept = read_seal(weights_file, folder)
        least = epoch if kept is None else 0
    except FileNotFoundError:
        pass
    except UnreadableFile as error:
        if not error.is_damaged:
            raise
        _tell(error)
    other = read_comment(archive_file)
    if _epoch_of(other) > _epoch_of(kept) and _epoch_of(other) >= least:
        copy_weights(archive_file, weights_file, model, other)
        kept = other
    return kept if _epoch_of(kept) >= 0 else None


def _epoch_of(comment: dict | None) -> int:
    epoch = (comment or {}).get("epoch")
    return epoch if isinstance(epoch, int) else -1


@contextmanager
def whole_weights(folder: Path, name: str, model: keras.Model, epoch: int | None) -> Iterator[Path]:
    """Yields a file with a model's weights that is undamaged and not older than an epoch: `<name>.weights.h5`, else the content of `<name>.keras`.

    Raises:
        UnreadableFile: A file cannot be read now.
        InputError: Neither file exists undamaged, or both are older.
    """
    weights_file, archive_file = folder / f"{name}.weights.h5", folder / f"{name}.keras"
    try:
        kept = read_seal(weights_file, folder)
        if kept is None or not epoch or not 0 <= _epoch_of(kept) < epoch:
            yield weights_file
            return
        reason = InputError(
            "{file} is of epoch {kept}, but the run's best model is of epoch {epoch}: it was not copied. Restore it from a copy.",
            file=weights_file,
            kept=_epoch_of(kept),
            epoch=epoch,
        )
    except FileNotFoundError:
        reason = InputError(
            "{file} is missing. Restore it from a copy, or train again with --fresh.", file=weights_file
        )
    except UnreadableFile as error:
        if not error.is_damaged:
            raise
        reason = InputError(
            "{file} is damaged: its content is not what was written. Restore it from a copy, or train again with --fresh.",
            file=weights_file,
        )
    other = read_comment(archive_file)
    if other is None or _epoch_of(other) < (epoch or 0):
        raise reason
    told = "{file} is damaged or older than the run: the weights are taken from {other}."
    print(say(told, file=weights_file, other=archive_file.name), file=sys.stderr)
    with temporary_folder() as temporary:
        copy = temporary / weights_file.name
        copy_weights(archive_file, copy, model, other)
        yield copy
