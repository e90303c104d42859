"""Files of a run, read with care: complete, of the expected kind, and not too large.

A run may come from a stranger, or from a failing disk. A file is read only if it is a regular one inside its folder. A pipe,
a device, a link that leads out and an archive that claims more numbers than it contains are reported in one line. If a mounted
Drive fails to read for a moment, the file is read again; a file that still cannot be read is never called damaged.
"""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar

from pydantic import BaseModel, ValidationError

from pbl.errors import InputError, Sentence
from pbl.storage.writing import try_again

MOST_BYTES = 2**26  # bytes of a text: the split of a million images has 24 MB
MOST_UNPACKED = 2**33  # bytes of an archive: probabilities of a million images with 1,000 classes have 4 GB
_MAY_BE_INFINITE = re.compile(rb"[eE]\+?\d{3}")

Result = TypeVar("Result")


class UnreadableFile(InputError):
    """A file that exists and cannot be used.

    Attributes:
        reason: The reason, a `Sentence` such as "it is damaged".
        is_damaged: Whether the file itself is at fault; otherwise the disk or the network failed, and the file may be undamaged.
    """

    def __init__(self, file: Path, reason: str, is_damaged: bool = True):
        told = "{file} cannot be read now: {reason}. Nothing is lost: give the same command when it can be read."
        super().__init__("{file} is not used, because {reason}." if is_damaged else told, file=file, reason=reason)
        self.file, self.reason, self.is_damaged = file, reason, is_damaged


def read_bytes(file: Path, inside: Path | None = None, most: int = MOST_BYTES) -> bytes:
    """Returns the content of a file.

    Args:
        file: The file.
        inside: A folder that no link may lead out of.
        most: Most bytes that it may have.

    Raises:
        FileNotFoundError: There is no such file.
        UnreadableFile: It cannot be used.
    """
    return read_file(file, lambda stream: stream.read(), inside, most)


def read_json(
    file: Path, inside: Path | None = None, schema: type[BaseModel] | None = None, most: int = MOST_BYTES
) -> dict[str, Any]:
    """Returns the dictionary in a JSON file; no number in it is infinite or NaN.

    Args:
        file, inside, most: As for `read_bytes`.
        schema: What it must contain; it may contain more.

    Raises:
        FileNotFoundError, UnreadableFile: As for `read_bytes`.
    """
    return read_file(file, lambda stream: parse_json(stream.read(), schema), inside, most)


def parse_json(content: bytes, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """Does what `read_json` does, with content that is already read; raises ValueError or RecursionError."""
    # Python's own conversion of each number takes ten times as long, which is noticeable for a confusion matrix of 1,000 classes.
    parse_float = _finite if _MAY_BE_INFINITE.search(content) else None
    value = json.loads(content.decode("utf-8"), parse_float=parse_float, parse_constant=_finite)
    if not isinstance(value, dict):
        raise ValueError("no dictionary")
    if schema is not None:
        schema.model_validate(value)
    return value


def _finite(word: str) -> float:
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(f"{word} is no finite number")
    return number


def read_table(
    file: Path, inside: Path | None = None, columns: Collection[str] = (), most: int = MOST_BYTES
) -> list[dict[str, str]]:
    """Returns the rows of a CSV file, each with a word for each column.

    Args:
        file, inside, most: As for `read_bytes`.
        columns: Columns that it must have.

    Raises:
        FileNotFoundError, UnreadableFile: As for `read_bytes`.
    """

    def read(stream: BinaryIO) -> list[dict[str, str]]:
        reader = csv.DictReader(io.StringIO(stream.read().decode("utf-8-sig"), newline=""), strict=True)
        rows = list(reader)
        if not set(columns) <= set(reader.fieldnames or ()) or any(None in (*row, *row.values()) for row in rows):
            raise ValueError("its rows are not of these columns")
        return rows

    return read_file(file, read, inside, most)


def read_arrays(
    file: Path, inside: Path | None = None, names: Collection[str] | None = None, most: int = MOST_UNPACKED
) -> dict[str, Any]:
    """Returns the arrays of an `.npz` file by their names; their checksums are verified.

    Args:
        file, inside: As for `read_bytes`.
        names: The arrays that are wanted, if they exist; all unless given.
        most: Most bytes of everything in it, unpacked.

    Raises:
        FileNotFoundError, UnreadableFile: As for `read_bytes`.
    """

    def read(stream: BinaryIO) -> dict[str, Any]:
        with zipfile.ZipFile(stream) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            if sum(entry.file_size for entry in entries.values()) > most:
                raise UnreadableFile(file, Sentence("it is too large"))
            wanted = entries if names is None else [name for name in names if name in entries]
            return {name: read_array(archive, entries[name]) for name in wanted}

    return read_file(file, read, inside, MOST_UNPACKED)


def read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Any:
    """Returns one array of an `.npz` file; raises ValueError or another exception if it is damaged."""
    from numpy.lib import format as npy

    with archive.open(entry) as stream:
        read_array_header(stream, entry)
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)


def read_array_header(stream: IO[bytes], entry: zipfile.ZipInfo) -> tuple[tuple[int, ...], Any]:
    """Reads the shape and dtype of an `.npz` file's array, up to its first number; raises as `read_array` does."""
    from numpy.lib import format as npy

    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[npy.read_magic(stream)]
    shape, _, dtype = header(stream)
    # Checked before memory is allocated: a header may claim anything.
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != entry.file_size - stream.tell():
        raise ValueError("not as many numbers as it says")
    return shape, dtype


@contextlib.contextmanager
def _open(file: Path, inside: Path | None, most: float) -> Iterator[BinaryIO]:
    """Opens a regular file; a pipe or a device is never waited for."""
    real = Path(os.path.realpath(file))
    if inside is not None and not real.is_relative_to(os.path.realpath(inside)):
        raise UnreadableFile(file, Sentence("it is a link that leads outside the run"))
    if real.is_dir():
        raise UnreadableFile(file, Sentence("it is not a regular file"))
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(real, flags), "rb") as stream:  # noqa: PTH123
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise UnreadableFile(file, Sentence("it is not a regular file"))
        if about.st_size > most:
            raise UnreadableFile(file, Sentence("it is too large"))
        yield stream


def read_file(
    file: Path, act: Callable[[BinaryIO], Result], inside: Path | None = None, most: float = MOST_BYTES
) -> Result:
    """Opens a file and does something with it, even if it is damaged; returns the result.

    Args:
        file, inside, most: As for `read_bytes`.
        act: Called with the open file; it may be called twice.

    Raises:
        FileNotFoundError, UnreadableFile: As for `read_bytes`.
    """

    def read() -> Result:
        with _open(file, inside, most) as stream:
            return act(stream)

    try:
        return try_again(read, file)
    except (InputError, FileNotFoundError):
        raise
    except ValidationError as error:
        wrong = ".".join(str(part) for part in error.errors(include_url=False, include_input=False)[0]["loc"])
        reason = Sentence("it is damaged ({field})", field=wrong[:60]) if wrong else Sentence("it is damaged")
        raise UnreadableFile(file, reason) from error
    except MemoryError as error:
        raise UnreadableFile(file, Sentence("there is not enough memory"), is_damaged=False) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):  # a link to itself; a socket
            raise UnreadableFile(file, Sentence("it is not a regular file")) from error
        if error.errno in (None, errno.EINVAL):  # a place in an archive that does not exist
            raise UnreadableFile(file, Sentence("it is damaged")) from error
        reason = Sentence("{reason}", reason=error.strerror)
        raise UnreadableFile(file, reason, is_damaged=False) from error
    except Exception as error:  # json, csv, zipfile and NumPy raise many kinds for a damaged file
        raise UnreadableFile(file, Sentence("it is damaged")) from error
