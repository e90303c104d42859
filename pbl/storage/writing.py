"""Files that can be trusted: written completely or not at all, also on a mounted Drive; a write that fails there for a moment is repeated."""

import contextlib
import errno
import functools
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pbl.errors import InputError
from pbl.languages import say
from pbl.storage.escapes import for_csv

Result = TypeVar("Result")

# A mounted Drive fails now and then for some seconds; a full or forbidden folder keeps failing.
RETRY_SECONDS = (1, 2, 4, 8, 15, 30)
FULL = {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
PASSING = {errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ECONNABORTED}

WRITING = ".writing-"  # beginning of the name of a file that is being written
TEMPORARY = "pbl-"  # beginning of the name of a folder in the system's folder for temporary files
OLD_SECONDS = 86_400  # seconds after which another machine's unfinished file counts as a left-over
_MACHINE = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_waiting = threading.local()  # for each thread, when it last waited in vain


class Growing(NamedTuple):
    """A value that only grows, for a callback's `get_state`: the callback only appends to it, so that a state stores only the new part.

    Attributes:
        name: Its name, different for each growing value of a callback.
        items: A list, or an array that grows along its first axis.
    """

    name: str
    items: Any


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yields a temporary name to write to, and puts that file in place of `file` when everything is written.

    The temporary file is next to `file`. On a mounted Drive or another network folder it is on the local disk,
    from where the complete file is copied; a copy that fails for a moment is tried again for a minute.

    Raises:
        InputError: It could not be written (disk full, no permission, a device). The earlier `file` is unchanged.
    """
    with contextlib.ExitStack() as stack:
        temporary = None
        told = "{file} could not be written ({reason}); tried again in {wait} s."
        try:
            file = try_again(file.resolve, file, told)  # follows a link to its target
            if is_there(file) and not try_again(file.is_file, file, told):
                raise InputError(
                    "{file} could not be written: it is not a regular file. Give the name of a file.", file=file
                )
            _sweep_once(file.parent)
            # A name of this thread's own, since a run's heartbeat writes too; with the same suffix, since Keras checks it.
            temporary = file.with_name(f"{name_unfinished()}{file.name}")
            local = temporary
            if is_remote(file.parent):
                local = stack.enter_context(temporary_folder()) / file.name
            yield local
            try_again(lambda: _put_in_place(local, temporary, file), file, told)
        except BaseException as error:
            if temporary is not None:
                discard(temporary)
            if isinstance(error, OSError):
                raise tell_unwritable(file, error) from error
            raise


def try_again(
    act: Callable[[], Result], file: Path, told: str = "{file} cannot be read now ({reason}); tried again in {wait} s."
) -> Result:
    """Does something with a file; if it fails as a mounted Drive does for some seconds, it is tried again for a minute.

    Args:
        act: What is done; it may be done twice.
        file: Named in the message while waiting.
        told: The message.

    Raises:
        OSError: It failed for another reason, or still fails.
    """
    waits = iter(RETRY_SECONDS)
    while True:
        try:
            return act()
        except (OSError, zipfile.BadZipFile) as error:
            failure = find_failure(error)
            if failure is None:
                raise
            wait = next(waits, None)
            # If a complete Drive is gone, do not wait a minute for each of its files.
            if wait is None or time.monotonic() - getattr(_waiting, "was_in_vain", -1e9) < sum(RETRY_SECONDS):
                _waiting.was_in_vain = time.monotonic()
                raise failure from None
            print(say(told, file=file, reason=failure.strerror, wait=wait), file=sys.stderr, flush=True)
            time.sleep(wait)


def find_failure(error: BaseException) -> OSError | None:
    """The failure of a disk that may pass, which `zipfile` reports as a damaged file, and we in a line; None if the error is another."""
    failure = error.__context__ if isinstance(error, (zipfile.BadZipFile, InputError)) else error
    return failure if isinstance(failure, OSError) and failure.errno in PASSING else None


def is_there(path: Path) -> bool:
    """Whether there is a file or folder, or a link to one; unlike `Path.exists` it tries again if a Drive fails to answer.

    Raises:
        OSError: It is not known.
    """
    try:
        try_again(path.stat, path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise
    return True


def list_folder(folder: Path) -> list[Path]:
    """Returns what is in a folder, sorted; nothing if there is no folder. Unlike `Path.glob` it never takes a failure for "nothing".

    Raises:
        OSError: It cannot be read.
    """
    try:
        return sorted(folder / name for name in try_again(lambda: os.listdir(folder), folder))  # noqa: PTH208 iterdir fails only during iteration
    except (FileNotFoundError, NotADirectoryError):
        return []


def discard(path: Path) -> None:
    """Deletes a file or folder that is not needed, with the same patience as for writing; if that fails it stays, which does no harm."""

    def delete() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # an earlier try may have deleted a part
        else:
            path.unlink()

    try:
        try_again(delete, path, "{file} cannot be deleted now ({reason}); tried again in {wait} s.")
    except OSError:
        shutil.rmtree(path, ignore_errors=True)  # as much of it as possible


def name_unfinished(beginning: str = WRITING) -> str:
    """Returns the beginning of a name for something that this process is making; if it is killed, `sweep` knows whose it was."""
    return f"{beginning}{_MACHINE}-{os.getpid()}-{threading.get_native_id()}-"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yields a folder on the local disk, which is removed afterwards; what killed processes left there is deleted first."""
    _sweep_once(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=name_unfinished(TEMPORARY), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep(folder: Path, own: bool = False) -> None:
    """Deletes what killed processes left unfinished in a folder.

    Args:
        folder: The folder.
        own: Whether to delete this process's unfinished files too, since it is making nothing there now.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208
            if name.startswith((WRITING, TEMPORARY, ".unpacking-")) and _is_left_over(folder / name, own):
                discard(folder / name)


@functools.lru_cache(maxsize=1000)
def _sweep_once(folder: Path) -> None:
    sweep(folder)


def _is_left_over(file: Path, own: bool) -> bool:
    owner = re.match(rf"(?:{re.escape(WRITING)}|{TEMPORARY})([0-9a-f]{{8}})-(\d{{1,9}})-\d+-", file.name)
    if owner and owner[1] == _MACHINE:
        return own if int(owner[2]) == os.getpid() else not is_alive(int(owner[2]))
    return file.name.startswith(".") and abs(time.time() - file.stat().st_mtime) > OLD_SECONDS


def _put_in_place(local: Path, temporary: Path, file: Path) -> None:
    if local != temporary:
        shutil.copyfile(local, temporary)
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(file)


@functools.lru_cache(maxsize=64)
def is_remote(folder: Path) -> bool:
    """Whether a folder is on a mounted Drive or another network file system; False if that is not known."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    above = {str(path) for path in (folder, *folder.parents)}
    found = [(len(place), kind) for place, kind in mounts if place.replace("\\040", " ") in above]
    kind = max(found, default=(0, ""))[1]
    return kind != "fuseblk" and kind.startswith(("fuse", "nfs", "cifs", "smb"))


def expand_pattern(path: str | Path) -> list[Path]:
    """Returns what matches the `*` and `?` of a path that does not exist, sorted; else the path itself.

    A shell does so itself, but not inside quotes, and not on Windows.
    """
    # Path.glob does not accept an absolute pattern.
    found = [] if Path(path).exists() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    return [Path(one) for one in found] or [Path(path)]


def append_line(file: Path, line: str) -> None:
    """Appends a line to a text file, completely or not at all.

    Raises:
        InputError: It could not be written.
    """
    data = (line + "\n").encode()
    size = None

    def append() -> None:
        nonlocal size
        with file.open("ab", buffering=0) as stream:
            size = stream.tell() if size is None else size
            stream.truncate(size)  # removes a part that a failed attempt wrote
            written = stream.write(data)
            if written != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    try:
        try_again(append, file, "{file} could not be written ({reason}); tried again in {wait} s.")
    except OSError as error:
        with contextlib.suppress(OSError):
            if size is not None:
                os.truncate(file, size)
        raise tell_unwritable(file, error) from error


def tell_unwritable(file: Path | str, error: OSError, told: str | None = None, **fields: Any) -> InputError:
    """Returns what a person is told of a file that could not be written: make room, or wait, if the disk fails at the moment.

    Args:
        file: The file, or its folder.
        error: What the system said.
        told: The sentence if the disk does not fail: there is no room, or no permission. It may have `{file}` and `{reason}`.
        **fields: Other fields of `told`.
    """
    sentence = "{file} could not be written: {reason}. Its earlier content is not damaged. Free some space or choose another folder."
    if error.errno in PASSING:
        sentence = "{file} could not be written: {reason}. Its earlier content is not damaged. Give the same command again when the disk works."
    elif told is not None:
        return InputError(told, file=file, reason=error.strerror or error, **fields)
    return InputError(sentence, file=file, reason=error.strerror or error)


def is_full(error: BaseException) -> bool:
    """Whether a write failed because of the disk and not of the file: no room, a quota, a limit on sizes, a failing device."""
    return isinstance(error, OSError) and error.errno in FULL


@contextlib.contextmanager
def telling_full_disks(place: Path | str, told: str, **fields: Any) -> Iterator[None]:
    """Inside it, a full or failing disk is reported in one line; any other fault of ours keeps its traceback.

    Args:
        place: Named where the error names no file.
        told, **fields: As for `tell_unwritable`.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        file = error.filename or place
        if error.errno in PASSING:  # perhaps a file was being read
            raise InputError(
                "{file} can be neither read nor written now: {reason}. Nothing is lost: give the same command again when the disk works.",
                file=file,
                reason=error.strerror,
            ) from error
        raise tell_unwritable(file, error, told, **fields) from error


def check_room(folder: Path, size: int) -> None:
    """Raises InputError if the disk of a folder for temporary files has less room than `size` bytes.

    HDF5 itself must never meet a full disk: there it crashes the process.
    """
    if (free := shutil.disk_usage(folder).free) < size:
        raise InputError(
            "{folder} has {free} MB free, but {need} MB are needed. Free some space, or name another folder in the variable TMPDIR.",
            folder=folder,
            free=free // 2**20,
            need=-(-size // 2**20),
        )


def write_json(file: Path, value: Any) -> None:
    """Writes JSON, readable and complete or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def write_table(file: Path, table: Any, encoding: str = "utf-8") -> None:
    """Writes a DataFrame to a CSV file, completely or not at all; no text in it can be a formula."""
    guarded = table.rename(columns=for_csv)
    for at, kind in enumerate(table.dtypes):
        if kind == object or str(kind).startswith("str"):  # noqa: E721 pandas's own
            guarded.isetitem(at, table.iloc[:, at].map(for_csv))
    with replacing(file) as temporary:
        guarded.to_csv(temporary, index=False, lineterminator="\n", encoding=encoding)


def timestamp() -> str:
    """The present local time, to the second (ISO 8601)."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine is running."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # asks whether the process exists
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
