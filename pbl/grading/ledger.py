"""A record of what has been done, written so that nothing is lost: one line for each event, on the disk before the next submission begins.

Each line contains the hash of the line before it, so that a line which was changed later is noticed.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pbl.errors import InputError
from pbl.storage.writing import tell_unwritable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_ROOM = "{file} could not be written: {reason}. Free some space; the same command resumes from here."
MOST_STARTS = 2  # starts of a submission without an end


class Ledger:
    """The events of all gradings into one folder.

    Args:
        file: One JSON object on each line. A last line that was cut short by a crash is removed.

    Attributes:
        is_whole: Whether no line was changed or removed since it was written.
        last: SHA-256 of the last line; with it `holds` shows later whether lines were removed from the end.

    Raises:
        InputError: The file cannot be read or written.
    """

    def __init__(self, file: Path):
        self.file, self.is_whole = file, True
        self._outcomes: dict[str, dict[str, Any]] = {}
        self._starts: Counter[str] = Counter()
        self._told: dict[tuple[str, str], dict[str, tuple[float, float]]] = {}
        self._names: dict[str, str] = {}
        self._lines: set[str] = set()
        self.last = ""
        self._read()

    def _read(self) -> None:
        try:
            content = self.file.read_bytes() if self.file.exists() else b""
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content:
                with self.file.open("rb+") as stream:
                    stream.truncate(len(whole))
                    os.fsync(stream.fileno())
        except OSError as error:
            raise InputError("{file} cannot be read: {reason}.", file=self.file, reason=error.strerror) from None
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self.is_whole &= event.get("previous") == self.last
                self._take(event)
            except (ValueError, KeyError, AttributeError):
                self.is_whole = False
            self.last = hashlib.sha256(line).hexdigest()
            self._lines.add(self.last)

    def _take(self, event: dict[str, Any]) -> None:
        key = event.get("key", "")
        if event["event"] == "start":
            self._starts[key] += 1
        elif event["event"] == "end":
            self._starts[key] = 0
            self._outcomes[key] = event
        elif event["event"] == "again":
            self._starts[key] = 0
            self._outcomes.pop(key, None)
        elif event["event"] == "stopped":
            self._starts[key] = max(0, self._starts[key] - 1)
        elif event["event"] == "named":
            self._names[key] = event["team"]
        elif event["event"] == "told":
            told = self._told.setdefault((event["team"], event.get("hidden", "")), {})
            told[event["files"]] = (event["score"], event.get("best", event["score"]))

    def add(self, event: str, **values: Any) -> None:
        """Appends an event; it is on the disk when this returns.

        Raises:
            InputError: It could not be written.
        """
        told = {"event": event, **values, "previous": self.last}
        line = json.dumps(told, ensure_ascii=False, allow_nan=False).encode()
        try:
            is_new = not self.file.exists()
            number = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            try:
                before = os.fstat(number).st_size
                try:
                    left = line + b"\n"
                    while left:  # when the disk becomes full, only a part is written, without an error
                        left = left[os.write(number, left) :]
                    os.fsync(number)
                except OSError:
                    os.ftruncate(number, before)
                    raise
            finally:
                os.close(number)
            if is_new:
                sync_folder(self.file.parent)
        except OSError as error:
            raise tell_unwritable(self.file, error, NO_ROOM) from None
        self.last = hashlib.sha256(line).hexdigest()
        self._lines.add(self.last)
        self._take(told)

    def holds(self, last: str) -> bool:
        """Returns whether the line with this SHA-256 is there."""
        return not last or last in self._lines

    def outcome(self, key: str) -> dict[str, Any] | None:
        """Returns how the submission with this key ended, None if it did not end; a fault of the grader does not count as an end."""
        event = self._outcomes.get(key)
        return None if event is None or event["reason"] == "grader" else event

    def starts(self, key: str) -> int:
        """Returns how often this submission was started since its last end."""
        return self._starts[key]

    def name_inside(self, key: str) -> str | None:
        """Returns the team's name inside the submission with this SHA-256; None if nobody has looked yet."""
        return self._names.get(key)

    def told(self, team: str, hidden: str) -> dict[str, tuple[float, float]]:
        """Returns what a team was told on a leaderboard of a hidden set, by the hash of its submission: the score, and the accuracy
        that its next try must beat."""
        return self._told.get((team, hidden), {})


def sync_folder(folder: Path) -> None:
    """Makes sure that the names in a folder are on the disk."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second grader out of a folder.

    Raises:
        InputError: Another grader works there, or the folder cannot be written.
    """
    try:
        number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
    except OSError as error:
        raise InputError(
            "The folder {out} cannot be written: {reason}. Give another: --out.", out=folder, reason=error.strerror
        ) from None
    try:
        if fcntl is not None:
            try:
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    "Another grader is working in {folder}. Wait for it, or give another folder: --out.",
                    folder=folder.parent,
                ) from None
            except OSError:
                pass  # a mounted Drive may have no locks
        yield
    finally:
        os.close(number)
