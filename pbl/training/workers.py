"""Several trainings at once on one machine: processes with the same command, each with its share of the cores and one GPU.

They are connected only through the folder of runs: a run that one process trains is skipped by the others, and a run that a dead process
left is resumed by another. The same is true for processes on several machines that share the folder.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pbl.errors import InputError, Sentence
from pbl.storage.writing import temporary_folder

WORKER = "PBL_WORKER"  # environment variable of a worker: its number, from 1
THREADS = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
)  # the variables that bound a worker's threads
LOOK_SECONDS = 0.2  # seconds between two looks at the output of the workers


def is_worker() -> bool:
    """Whether this process is one of several workers: it trains, and leaves the tables to the one that started it."""
    return WORKER in os.environ


def share_machine(count: int) -> list[dict[str, str]]:
    """Returns, for each worker, the environment variables that define its part of the machine.

    Each gets its share of the cores, at least one, as threads within an operation and between operations; and one of the GPUs,
    of which it takes no more memory than it needs, so several can share one.

    Args:
        count: Number of workers.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = _list_gpus()
    threads = str(max(1, cores // count))
    shares = []
    for number in range(count):
        share = {WORKER: str(number + 1), "TF_FORCE_GPU_ALLOW_GROWTH": "true", **dict.fromkeys(THREADS, threads)}
        if gpus:
            share["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
        shares.append(share)
    return shares


def find_python_path() -> str:
    """Returns the `PYTHONPATH` with which a worker finds this very package, whatever its working folder."""
    package = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package]))


def _list_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them; TensorFlow is not asked, since it would occupy them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return [name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name and name != "-1"]
    try:
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in told.splitlines()))]


def run_workers(
    words: Sequence[str], count: int, tell: Callable[[str], None], say_line: Callable[[str], None] = print
) -> list[int]:
    """Runs several processes of a command at once, and waits until all have ended.

    Their output is shown line by line, each with the number of its worker in front. Ctrl-C is passed on to them: they keep
    the state of their runs, and the same command resumes them.

    Args:
        words: The words of the command, such as ["train", "model=mlp", "--seeds", "3"]; without `--workers`.
        count: Number of processes, 1 to 64.
        tell: Called with each sentence about a worker.
        say_line: Called with each line of a worker's output.

    Returns:
        Their exit statuses. A worker that died, for example for lack of memory (-9), costs only time.

    Raises:
        KeyboardInterrupt: It was stopped by Ctrl-C or SIGTERM; the workers have ended.
    """
    if not 1 <= count <= 64:
        raise InputError("--workers {count}: give the number of trainings that run at once, 1 to 64.", count=count)
    with temporary_folder() as folder, contextlib.ExitStack() as opened:
        workers = []
        for number, share in enumerate(share_machine(count), 1):
            # Into files, not pipes: if this process is killed, output that nobody reads does not stop the workers.
            said = opened.enter_context((folder / f"{number}.txt").open("wb"))
            worker = subprocess.Popen(
                [sys.executable, "-m", "pbl", *words],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": find_python_path(), "PYTHONUNBUFFERED": "1", **share},
                start_new_session=True,  # Ctrl-C reaches them only through this process, once
            )
            read = opened.enter_context((folder / f"{number}.txt").open(encoding="utf-8", errors="replace"))
            workers.append((worker, read))
        with _stopping(worker for worker, _ in workers) as was_stopped:
            _wait(workers, tell, say_line)
    if was_stopped:
        raise KeyboardInterrupt
    return [worker.returncode for worker, _ in workers]


def _wait(workers: list, tell: Callable[[str], None], say_line: Callable[[str], None]) -> None:
    running, rest = dict(enumerate(workers, 1)), dict.fromkeys(range(1, len(workers) + 1), "")
    while running:
        time.sleep(LOOK_SECONDS)
        for number, (worker, said) in list(running.items()):
            has_ended = worker.poll() is not None  # checked before its last output is read
            *lines, rest[number] = (rest[number] + said.read()).split("\n")
            for line in lines + ([rest[number]] if has_ended else []):
                if line.strip():
                    say_line(f"{number}| {line.rstrip()}")
            if has_ended:
                del running[number]
                if worker.returncode < 0:
                    tell(
                        Sentence(
                            "Worker {number} was killed (signal {signal}). Another process resumes its run.",
                            number=number,
                            signal=-worker.returncode,
                        )
                    )


@contextlib.contextmanager
def _stopping(workers: Iterator[subprocess.Popen]) -> Iterator[list[int]]:
    """Inside it, Ctrl-C and SIGTERM go to the workers; yields a list that then contains the signal."""
    workers, received = list(workers), []

    def hand_on(number: int, *_) -> None:
        received.append(number)
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGINT)

    try:
        before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: only that one receives signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
