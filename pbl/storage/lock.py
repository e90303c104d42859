"""A folder in which one process works, on this machine or on any other that shares it."""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pbl.errors import InputError, Sentence
from pbl.languages import say
from pbl.storage.reading import read_json
from pbl.storage.schemas import Lock
from pbl.storage.writing import discard, is_alive, sweep, try_again, write_json

try:
    import fcntl
except ImportError:  # Windows
    CAN_LOCK = False
else:
    CAN_LOCK = True

HEARTBEAT_SECONDS = 20
LOCK_EXPIRES_SECONDS = 120  # seconds without a heartbeat
MOST_CLOCKS_DIFFER = 24 * 3600  # seconds; a wrong time zone is not more than this


class InUse(InputError):
    """Another process works in the folder."""


class FolderLock:
    """A folder in which one process works, marked by `lock.json` in it with a heartbeat.

    For processes on this machine, the system knows which one holds it. For another machine, whose clock may be wrong by hours,
    this process watches whether the file changes.

    Args:
        path: The folder.

    Attributes:
        is_lost: Whether another process took over the folder while this one held it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.is_lost = False

    @property
    def is_held(self) -> bool:
        """Whether a process, here or on another machine that shares the folder, seems to work in it; answered at once.

        For another machine the answer depends on its clock.
        """
        is_held, lock = self._look()
        if lock is None:
            return is_held
        return abs(time.time() - lock["time"]) < LOCK_EXPIRES_SECONDS

    def _look(self) -> tuple[bool, dict[str, Any] | None]:
        """Whether it is held, as far as this machine can tell, and, if only another machine knows, its lock."""
        folder, is_locked = self._lock_folder()
        if folder is None:
            return True, None
        os.close(folder)
        lock = self._read_lock()
        if lock is None:
            return False, None
        if lock["host"] != socket.gethostname():
            return True, lock
        return not is_locked and is_alive(lock["pid"]), None  # if we could lock it, no other process here has it

    def _wait_until_free(self) -> bool:
        """Whether nobody works in the folder; for another machine this process watches whether its lock still changes."""
        is_held, lock = self._look()
        if lock is None:
            return not is_held
        with contextlib.suppress(OSError):
            # More than a day old, by both of the clocks.
            times = lock["time"], (self.path / "lock.json").stat().st_mtime
            if time.time() - max(times) > MOST_CLOCKS_DIFFER:
                return True
        told = "{run} was trained on {host}; checking for {seconds} s whether it still is."
        print(say(told, run=self.path, host=lock["host"], seconds=LOCK_EXPIRES_SECONDS), file=sys.stderr, flush=True)
        end = time.monotonic() + LOCK_EXPIRES_SECONDS
        while time.monotonic() < end:
            time.sleep(min(1, LOCK_EXPIRES_SECONDS / 10))
            now = self._read_lock()
            if now is None:
                return self._wait_until_free()
            if now != lock:
                return False
        return True

    def _read_lock(self) -> dict[str, Any] | None:
        """The content of `lock.json`: `host`, `pid`, `token` and the `time` of the last heartbeat; None if it is not a lock."""
        try:
            return Lock(**read_json(self.path / "lock.json", self.path, Lock)).model_dump()
        except (OSError, InputError):
            return None

    def _lock_folder(self) -> tuple[int | None, bool]:
        """Locks the folder among this machine's processes, until it is closed; the system releases the lock of a dead process.

        Returns:
            The opened folder, or None if another process has it; and whether it could be locked: a mounted Drive may not support
            locks, and then only `lock.json` tells.
        """
        if not CAN_LOCK:
            return os.open(os.devnull, os.O_RDONLY), False
        folder = try_again(lambda: os.open(self.path, os.O_RDONLY), self.path)
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
        """Marks the folder as held, with a heartbeat, until the block ends.

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

        if not self._wait_until_free():
            self._refuse()
        folder, _ = self._lock_folder()
        if folder is None:
            self._refuse()
        self.is_lost = False
        stopped = threading.Event()

        def keep_beating() -> None:
            while not stopped.wait(HEARTBEAT_SECONDS):
                if not is_ours():  # this machine was suspended, and another one took over the run
                    self.is_lost = True
                    return
                with contextlib.suppress(InputError):  # a full disk is reported when the run itself writes
                    beat()

        thread = threading.Thread(target=keep_beating, daemon=True)
        try:
            beat()
            for place in ("", "figures", "checkpoint"):
                sweep(self.path / place, own=True)
            thread.start()
            yield
        finally:
            try:
                stopped.set()
                if thread.is_alive():
                    thread.join()
                if is_ours():
                    discard(file)
            finally:
                os.close(folder)

    def _refuse(self) -> NoReturn:
        lock = self._read_lock()
        where = Sentence("another process")
        if lock is not None:
            where = Sentence("process {pid} on {host}", pid=lock["pid"], host=lock["host"])
        raise InUse(
            "{run} is being trained now, by {where}. Wait for it (if its machine is lost, {seconds} s), or train a second run: add --fresh.",
            run=self.path,
            where=where,
            seconds=LOCK_EXPIRES_SECONDS,
        )
