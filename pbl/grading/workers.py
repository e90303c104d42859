"""The grader's end of the fork server: starts it, gives it jobs, learns how they ended."""

import contextlib
import json
import os
import select
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Any

from pbl.grading.jobs import command
from pbl.grading.orders import environment
from pbl.grading.sandbox import MOST_STRETCH, Limits

START_SECONDS = 300.0
# If a server has not reported a job this long after it should have ended, the server itself hangs.
PATIENCE_SECONDS = 60.0


class ServerEnded(Exception):
    """The fork server has ended, or no longer answers."""


class Workers:
    """A fork server and its jobs.

    Args:
        folder: The grader's own folder.

    Attributes:
        layers: The ones of `pbl.grading.sandbox.LAYERS` with which untrusted jobs are locked down.
        missing_layers: What `find_layers` returns in the server's Python.
        readable: The folders that a locked process may read besides its own.
        versions: Versions of Python and of what it has imported.
    """

    def __init__(self, folder: Path):
        self.folder, self.layers = folder, list[str]()
        self.missing_layers: dict[str, str] = {}
        self.readable: list[Path] = []
        self._log = folder / "server.txt"
        self._process: subprocess.Popen | None = None
        self._answers: deque[dict[str, Any]] = deque()
        self._unread = b""
        self._number = 0
        self._due: dict[int, float] = {}
        self.versions: dict[str, str] = {}

    def start(self) -> None:
        """Starts the server; it imports TensorFlow while the grader continues."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command("serve", str(os.getpid())),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd="/",
                env=environment(home),
                close_fds=True,
            )
        self._unread, self._due = b"", {}
        self._answers.clear()

    def wait_until_ready(self) -> None:
        """Returns when the server can fork.

        Raises:
            ServerEnded: It did not start.
        """
        event = self._next(time.monotonic() + START_SECONDS)
        if event is None or event.get("event") != "ready":
            raise ServerEnded(self.log() or "it did not answer")
        self.versions, self.missing_layers = event["versions"], event["missing_layers"]
        self.readable = [Path(path) for path in event["readable"]]

    def begin(self, function: str, folder: Path, limits: Limits, *, locked: bool = True, cold: bool = False) -> int:
        """Begins a job.

        Args:
            function: A name in `pbl.grading.worker.LOCKED` or `pbl.grading.preparer.TRUSTED`.
            folder: The job's folder, made by `pbl.grading.orders.make_folder`.
            limits: What it may use, if it is locked.
            locked: Whether it is locked down: always, except for the grader's own work.
            cold: Whether it runs in a separate process rather than a forked one.

        Returns:
            The job's number.
        """
        self._number += 1
        job = {
            "id": self._number,
            "function": function,
            "folder": str(folder),
            "limits": limits.as_json(),
            "cold": cold,
            "layers": self.layers if locked else [],
        }
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise ServerEnded(self.log()) from None
        seconds = limits.seconds * MOST_STRETCH if locked else 3600.0
        self._due[self._number] = time.monotonic() + seconds + 200.0 * cold + PATIENCE_SECONDS
        return self._number

    def next_end(self) -> dict[str, Any]:
        """Waits for a job to end and returns how it did.

        Raises:
            ServerEnded: The server has ended, or a job is long overdue.
        """
        event = self._next(min(self._due.values()))
        if event is None:
            raise ServerEnded("it does not answer")
        self._due.pop(event["id"], None)
        return event

    def run(self, function: str, folder: Path, limits: Limits, **options: Any) -> dict[str, Any]:
        """Does one job, while no other is running, and returns how it ended."""
        self.begin(function, folder, limits, **options)
        return self.next_end()

    def _next(self, until: float) -> dict[str, Any] | None:
        while not self._answers:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 65_536)
            if not piece:
                raise ServerEnded(self.log())
            *lines, self._unread = (self._unread + piece).split(b"\n")
            self._answers.extend(json.loads(line) for line in lines)
        return self._answers.popleft()

    def log(self) -> str:
        """The last text that the server printed."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return " ".join(lines[-3:])[-500:]

    def stop(self) -> None:
        """Ends the server and everything that it has started."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def read_verdict(event: dict[str, Any], limits: Limits) -> tuple[str | None, dict[str, int]]:
    """The verdict of the watch on a worker: a reason and its fields, or (None, {}) if the worker's own report counts."""
    fields = {
        "slow": {"limit": round(limits.seconds)},
        "busy": {"limit": limits.cpu},
        "memory": {"limit": limits.memory},
        "printed": {"limit": limits.printed},
        "wrote": {"limit": limits.disk, "files": limits.files},
        "threads": {"limit": limits.threads},
    }
    if event["verdict"] in fields:
        return event["verdict"], fields[event["verdict"]]
    if event["signal"]:
        # Near the second memory limit TensorFlow ends by SIGABRT or SIGSEGV rather than by a MemoryError.
        if event["peak"] > 0.8 * limits.memory:
            return "memory", fields["memory"]
        return "signal", {"number": event["signal"]}
    return (None, {}) if event["exit"] == 0 else ("ended", {})
