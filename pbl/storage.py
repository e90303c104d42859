"""Files that can be trusted: written whole or not at all, on a mounted Drive too; and a folder locked to one process."""

import contextlib
import errno
import functools
import glob
import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pbl.errors import InputError, Sentence
from pbl.languages import say

try:
    import fcntl
except ImportError:  # Windows
    CAN_LOCK = False
else:
    CAN_LOCK = True

Result = TypeVar("Result")

HEARTBEAT_SECONDS = 20
LOCK_EXPIRES_SECONDS = 120

# A mounted Drive fails now and then for some seconds; a full or forbidden folder stays so.
RETRY_SECONDS = (1, 2, 4, 8, 15, 30)
FULL = {errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
PASSING = {errno.EIO, errno.ENOTCONN, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ESTALE, errno.ECONNABORTED}


@contextlib.contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Gives a temporary name to write to, and puts it in place of `file` when all is written.

    The temporary name is beside `file`. Where that is a mounted Drive or another network folder it is on the local disk,
    from where the whole file is copied; what fails there for a moment is tried again for a minute.

    Raises:
        InputError: It could not be written (disk full, no permission, a device). The earlier `file` is as it was.
    """
    file = file.resolve()  # through a link, to what it stands for
    if file.exists() and not file.is_file():
        raise InputError("{file} could not be written: it is not a regular file. Give the name of a file.", file=file)
    # A name of this thread's own, since a run's heartbeat writes too; the same suffix, which Keras looks at.
    temporary = file.with_name(f".writing-{threading.get_native_id()}-{file.name}")
    with contextlib.ExitStack() as stack:
        local = temporary
        if is_remote(file.parent):
            local = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pbl-"))) / file.name
        try:
            yield local
            told = "{file} could not be written ({reason}); tried again in {wait} s."
            try_again(lambda: _put_in_place(local, temporary, file), file, told)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if isinstance(error, OSError):
                raise InputError(
                    "{file} could not be written: {reason}. What was there before is unharmed. Make room or choose another folder.",
                    file=file,
                    reason=error.strerror or error,
                ) from error
            raise


def try_again(
    act: Callable[[], Result], file: Path, told: str = "{file} cannot be read now ({reason}); tried again in {wait} s."
) -> Result:
    """Does something with a file, and where that fails as a mounted Drive does for some seconds, again for a minute.

    Args:
        act: What is done; it can be done twice.
        file: What is named while waiting.
        told: The sentence that is printed then.

    Raises:
        OSError: It failed in another way, or still does.
    """
    for wait in (*RETRY_SECONDS, None):
        try:
            return act()
        except OSError as error:
            if wait is None or error.errno not in PASSING:
                raise
            print(say(told, file=file, reason=error.strerror, wait=wait), flush=True)
            time.sleep(wait)


def _put_in_place(local: Path, temporary: Path, file: Path) -> None:
    if local != temporary:
        shutil.copyfile(local, temporary)
    with temporary.open("rb+") as written:
        os.fsync(written.fileno())
    temporary.replace(file)


@functools.lru_cache(maxsize=64)
def is_remote(folder: Path) -> bool:
    """Whether a folder lies on a mounted Drive or another file system of the network; False where that cannot be told."""
    try:
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return False
    above = {str(path) for path in (folder, *folder.parents)}
    found = [(len(place), kind) for place, kind in mounts if place.replace("\\040", " ") in above]
    kind = max(found, default=(0, ""))[1]
    return kind != "fuseblk" and kind.startswith(("fuse", "nfs", "cifs", "smb"))


def expand_pattern(path: str | Path) -> list[Path]:
    """Returns what fits the `*` and `?` of a path that does not exist, sorted; else the path itself.

    A shell does so itself, but not in quotes, and not on Windows.
    """
    # Path.glob takes no absolute pattern.
    found = [] if Path(path).exists() else sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
    return [Path(one) for one in found or [path]]


def is_full(error: BaseException) -> bool:
    """Whether a write failed because of the disk and not of the file: no room, a quota, a limit on sizes, a failing device."""
    return isinstance(error, OSError) and error.errno in FULL


def check_room(folder: Path, size: int) -> None:
    """Raises InputError where the disk of a folder for what is temporary has less room than so many bytes.

    HDF5 itself must never meet a full disk, on which it crashes the process.
    """
    if (free := shutil.disk_usage(folder).free) < size:
        raise InputError(
            "{folder} has {free} MB free, and {need} MB are needed. Make room, or name another folder in the variable TMPDIR.",
            folder=folder,
            free=free // 2**20,
            need=-(-size // 2**20),
        )


def write_json(file: Path, value: Any) -> None:
    """Writes JSON, readable and complete or not at all."""
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def timestamp() -> str:
    """The time now, in this place, to the second (ISO 8601)."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


class InUse(InputError):
    """Another process works in the folder."""


class FolderLock:
    """A folder that one process works in, marked by `lock.json` in it with a heartbeat.

    Args:
        path: The folder.

    Attributes:
        is_lost: Whether another process took the folder over while this one held it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.is_lost = False

    @property
    def is_held(self) -> bool:
        """Whether a process, here or on another machine that shares the folder, works in it."""
        folder, is_locked = self._lock_folder()
        if folder is None:
            return True
        os.close(folder)
        lock = self._read_lock()
        if lock is None or time.time() - lock["time"] > LOCK_EXPIRES_SECONDS:
            return False
        if lock["host"] != socket.gethostname():
            return True
        return not is_locked and _is_alive(lock["pid"])  # where we could lock the folder, nobody else here has it

    def _read_lock(self) -> dict[str, Any] | None:
        """What `lock.json` holds: `host`, `pid`, `token` and the `time` of the last heartbeat."""
        try:
            lock = json.loads((self.path / "lock.json").read_text(encoding="utf-8"))
            return {"host": lock["host"], "pid": int(lock["pid"]), "time": float(lock["time"]), "token": lock["token"]}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _lock_folder(self) -> tuple[int | None, bool]:
        """Locks the folder among this machine's processes, until it is closed; the system frees a dead process's lock.

        Returns:
            The opened folder, or None where another process has it; and whether it could be locked: a mounted Drive may know
            no locks, and then `lock.json` alone tells.
        """
        if not CAN_LOCK:
            return os.open(os.devnull, os.O_RDONLY), False
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(folder)
            return None, True
        except OSError:
            return folder, False
        return folder, True

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Marks the folder as held, with a heartbeat, until the block is left.

        Raises:
            InUse: Another process holds it.
        """
        file = self.path / "lock.json"
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}

        def beat() -> None:
            write_json(file, {**owner, "time": time.time()})

        def is_ours() -> bool:
            lock = self._read_lock()
            return lock is None or lock["token"] == owner["token"]

        if self.is_held:
            self._refuse()
        folder, _ = self._lock_folder()
        if folder is None:
            self._refuse()
        self.is_lost = False
        stopped = threading.Event()

        def keep_beating() -> None:
            while not stopped.wait(HEARTBEAT_SECONDS):
                if not is_ours():  # this machine slept, and another one took the run over
                    self.is_lost = True
                    return
                with contextlib.suppress(InputError):  # a full disk is told by what the run itself writes
                    beat()

        thread = threading.Thread(target=keep_beating, daemon=True)
        try:
            beat()
            for leftover in self.path.rglob(".writing-*"):  # of a process that was killed
                leftover.unlink(missing_ok=True)
            thread.start()
            yield
        finally:
            try:
                stopped.set()
                if thread.is_alive():
                    thread.join()
                if is_ours():
                    file.unlink(missing_ok=True)
            finally:
                os.close(folder)

    def _refuse(self) -> NoReturn:
        lock = self._read_lock()
        where = Sentence("another process")
        if lock is not None:
            where = Sentence(
                "process {pid} on {host}, seen {ago:.0f} s ago",
                pid=lock["pid"], host=lock["host"], ago=time.time() - lock["time"],
            )  # fmt: skip
        raise InUse(
            "{run} is being trained now, by {where}. Wait for it (of a lost machine {seconds} s), or train a second run:"
            " add --fresh.",
            run=self.path, where=where, seconds=LOCK_EXPIRES_SECONDS,
        )  # fmt: skip


def _is_alive(pid: int) -> bool:
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)  # asks whether the process exists
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
