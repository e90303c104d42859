"""The fork server: a process that has imported TensorFlow, run no operation, and seen no submission.

For each job it forks a child, which locks itself down and then works. The server watches its time, memory, threads, output and
disk, kills it if it exceeds a limit, and tells the grader how it ended. A fork takes milliseconds, a separate process 6 to
11 seconds. TensorFlow may be forked as long as it has run nothing (tensorflow issue 5448); a child that hangs before it is
locked is tried again in a cold process.

The server has no labels. It communicates with the grader alone, one JSON object on each line, through its standard input and output.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from pbl.grading import sandbox
from pbl.grading.jobs import EXIT_LOCK_FAILED, LOG, OUTPUT, SCRATCH, command
from pbl.grading.sandbox import MEBIBYTE, Limits

POLL_SECONDS = 0.02
TIME_POLL_SECONDS = 0.5
# A child that used at least this part of a processor is computing; time without the processor is not counted.
COMPUTES = 0.1
DISK_POLL_SECONDS = 0.2
# A child that is not locked by then hangs; a cold one imports TensorFlow first.
LOCK_SECONDS, COLD_SECONDS = 30.0, 180.0
KEPT_LOG = 64 * 1024  # bytes of what a child printed


def import_all() -> None:
    """Imports what a locked child needs, so that no child has to; nothing else is imported."""
    import h5py  # noqa: F401
    import keras  # noqa: F401
    import tensorflow  # noqa: F401

    import pbl.grading.worker  # noqa: F401


def serve() -> int:
    """Runs the server until its standard input ends. Command line argument: process id of the grader."""
    sandbox.end_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the grader, which then ends this process
    commands, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    with contextlib.suppress(OSError, AttributeError):  # orphans of a child become our children
        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)
    import_all()

    def tell(message: dict[str, Any]) -> None:
        os.write(answers, json.dumps(message).encode() + b"\n")

    versions = {name: sys.modules[name].__version__ for name in ("tensorflow", "keras", "numpy", "h5py")}
    # From this process, since the grader's own Python may read from other folders.
    tell(
        {
            "event": "ready",
            "versions": {"python": sys.version.split()[0], **versions},
            "missing_layers": sandbox.find_layers(),
            "readable": [str(path) for path in sandbox.python_paths()],
        }
    )
    children: list[_Child] = []
    waiting = b""
    while True:
        watched = [commands, *(child.printing for child in children if child.printing is not None)]
        ready, _, _ = select.select(watched, [], [], POLL_SECONDS if children else None)
        if commands in ready:
            piece = os.read(commands, 65_536)
            if not piece:
                for child in children:
                    child.kill("")
                return 0
            waiting += piece
            *lines, waiting = waiting.split(b"\n")
            children += [_Child(json.loads(line)) for line in lines]
        for child in list(children):
            ended = child.look()
            if ended is not None:
                children.remove(child)
                _kill_orphans({other.pid for other in children})
                tell(ended)


def run_once() -> int:
    """Does one job in this process, which has imported everything itself. Command line arguments: the job, a file to report to or -1."""
    import_all()
    job = json.loads(sys.argv[1])
    return _do(job, int(sys.argv[2]), os.getppid())


class _Child:
    """A process that does one job, and the watch on it.

    Args:
        job: `id`, `function` (a name in `pbl.grading.worker.LOCKED` or `pbl.grading.preparer.TRUSTED`), `folder`, `layers`,
            `limits`, and `cold`: whether it runs in a separate process rather than a forked one.
    """

    def __init__(self, job: dict[str, Any]):
        self.job, self.limits = job, Limits(**job["limits"])
        self.folder = Path(job["folder"])
        self.base = 0  # memory of a child before it opens anything
        self.peak, self.printed, self.verdict, self.is_locked = 0, 0, "", False
        self.printing, write_print = os.pipe()
        self.report, write_report = os.pipe()
        os.set_blocking(self.printing, False)
        os.set_blocking(self.report, False)
        self.log = (self.folder / LOG).open("wb")
        self.started = self.disk_looked = self.time_looked = time.monotonic()
        self.counted = self.processor = 0.0  # used seconds of its limit, and processor seconds
        me = os.getpid()
        if job["cold"]:
            os.set_inheritable(write_report, True)
            self.process = subprocess.Popen(
                command("run_once", json.dumps(job), str(write_report)),
                stdin=subprocess.DEVNULL,
                stdout=write_print,
                stderr=write_print,
                pass_fds=[write_report],
            )
            self.pid = self.process.pid
        else:
            sys.stdout.flush()
            sys.stderr.flush()
            self.pid = os.fork()
            if self.pid == 0:
                _run_child(job, write_print, write_report, me)
        os.close(write_print)
        os.close(write_report)

    def look(self) -> dict[str, Any] | None:
        """Checks the child once; returns how it ended, or None."""
        self._read_report()
        self._read_print()
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            return self._end(status, usage)
        now = time.monotonic()
        if self.is_locked:
            self.peak = max(self.peak, _resident(self.pid) - self.base)
        if not self.is_locked:
            if now - self.started > (COLD_SECONDS if self.job["cold"] else LOCK_SECONDS):
                self.kill("stuck")
        elif not self.job["layers"]:
            pass  # our own work
        elif self._count_seconds(now) > self.limits.seconds:
            self.kill("slow")
        elif self.peak > self.limits.memory * MEBIBYTE:
            self.kill("memory")
        elif self.printed > self.limits.printed * 1024:
            self.kill("printed")
        elif _count_threads(self.pid) > self.limits.threads + 4 * (os.cpu_count() or 1):
            self.kill("threads")
        elif now - self.disk_looked > DISK_POLL_SECONDS:
            self.disk_looked = now
            if self._has_written_too_much():
                self.kill("wrote")
        return None

    def _count_seconds(self, now: float) -> float:
        """The seconds of its limit that the child has used: see `Limits.seconds`."""
        passed = now - self.time_looked
        if passed > TIME_POLL_SECONDS:
            had = _processor_seconds(self.pid) - self.processor
            self.counted += min(passed, had) if had > COMPUTES * passed else passed
            self.time_looked, self.processor = now, self.processor + had
        return max(self.counted, (now - self.started) / sandbox.MOST_STRETCH)

    def kill(self, verdict: str) -> None:
        """Kills the child at once, and its process group if it has made one."""
        self.verdict = self.verdict or verdict
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                kill(self.pid, signal.SIGKILL)

    def _read_report(self) -> None:
        with contextlib.suppress(BlockingIOError):
            told = os.read(self.report, 32)
            if told:  # written before a stranger's file was opened, so it is true
                self.is_locked, self.started, self.base = True, time.monotonic(), int(told)
                self.time_looked, self.processor = self.started, _processor_seconds(self.pid)

    def _read_print(self) -> None:
        for _ in range(16):
            if self.printing is None:
                return
            try:
                piece = os.read(self.printing, 65_536)
            except BlockingIOError:
                return
            if not piece:
                os.close(self.printing)
                self.printing = None
                return
            left = KEPT_LOG - self.printed
            self.printed += len(piece)
            if left > 0:
                self.log.write(piece[:left])

    def _has_written_too_much(self) -> bool:
        total = count = 0
        waiting = [self.folder / OUTPUT, self.folder / SCRATCH]
        while waiting:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    status = entry.stat(follow_symlinks=False)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    if count > self.limits.files or total > self.limits.disk * MEBIBYTE:
                        return True
        return False

    def _end(self, status: int, usage: Any) -> dict[str, Any]:
        wall = time.monotonic() - self.started
        if self.job["cold"]:
            self.process.returncode = status  # the process has already been waited for
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)  # processes that it may have left behind
        self._read_report()
        self._read_print()
        if self.printing is not None:
            os.close(self.printing)
        os.close(self.report)
        self.log.close()
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        processor = usage.ru_utime + usage.ru_stime
        verdict = self.verdict
        # The limit counts whole ticks, the report counts what was really used: 18.99 s of 20 were seen on a busy machine.
        if not verdict and number in (signal.SIGKILL, signal.SIGXCPU) and processor > 0.85 * self.limits.cpu:
            verdict = "busy"
        if not verdict and self.job["layers"] and self.printed > self.limits.printed * 1024:
            verdict = "printed"
        return {
            "event": "ended",
            "id": self.job["id"],
            "verdict": verdict,
            "signal": number,
            "exit": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "is_locked": self.is_locked,
            "seconds": round(wall, 3),
            "processor_seconds": round(processor, 3),
            "peak": self.peak // MEBIBYTE,
        }


def _run_child(job: dict[str, Any], printing: int, report: int, server: int) -> None:
    """What the forked child does; it never returns."""
    status = 1
    try:
        sandbox.end_with(server)
        os.setsid()
        os.dup2(printing, 1)
        os.dup2(printing, 2)
        os.dup2(report, 3)
        os.closerange(4, 65_536)
        status = _do(job, 3, server)
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _do(job: dict[str, Any], report: int, parent: int) -> int:
    """Locks this process down, and does the job."""
    from pbl.grading import worker

    folder = Path(job["folder"])
    os.environ["HOME"] = os.environ["TMPDIR"] = str(folder / SCRATCH)
    function = worker.LOCKED.get(job["function"])
    if function is None:  # the grader's own work, which needs more of this package than work with a stranger's file
        from pbl.grading import preparer

        function = preparer.TRUSTED[job["function"]]
    if job["layers"]:
        try:
            sandbox.lock_down(
                job["layers"], [folder], [folder / OUTPUT, folder / SCRATCH], Limits(**job["limits"]), parent
            )
        except sandbox.LockFailed as error:
            print(f"{error.layer}: {error.reason}", flush=True)
            return EXIT_LOCK_FAILED
    if report >= 0:
        os.write(report, str(_resident(os.getpid())).encode())
        os.close(report)
    function(folder)
    return 0


def _kill_orphans(known: set[int]) -> None:
    """Kills what a child has left behind, and waits for it: a process whose parent has ended becomes the server's child."""
    me = str(os.getpid())
    for _ in range(50):
        orphans = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, IndexError):
                if entry.name.isdecimal() and (entry / "stat").read_text().rpartition(")")[2].split()[1] == me:
                    orphans.append(int(entry.name))
        orphans = [pid for pid in orphans if pid not in known]
        if not orphans:
            return
        for pid in orphans:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _resident(pid: int) -> int:
    """Bytes of resident memory of a process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _processor_seconds(pid: int) -> float:
    """Processor seconds of a process, all threads together."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _count_threads(pid: int) -> int:
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return 0
