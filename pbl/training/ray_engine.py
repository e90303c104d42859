"""Several trainings at once on the machines of a Ray cluster: tasks that give the same command, on a folder that all machines share.

Ray says where a task runs, and starts it again elsewhere where its machine or process dies; then it resumes the run that it finds. All else is
as with the workers of one machine (`pbl.training.workers`): what one trains the others pass over.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pbl.errors import InputError, Sentence
from pbl.training.workers import LOOK_SECONDS, THREADS, WORKER, find_python_path

MOST_DEATHS = 3  # of a worker, after which it is given up
_CARRIED = (
    "PBL_",
    "TF_",
    "TFDS_",
    "KERAS_",
    "PYTHON",
)  # how the names of variables begin that a worker on another machine needs too


class WorkerDiedError(Exception):
    """The process of a task was killed by a signal; Ray starts the task again."""


def run_on_ray(
    words: Sequence[str], count: int, tell: Callable[[str], None], say_line: Callable[[str], None] = print
) -> list[int]:
    """Runs so many tasks of a command, and waits until all have ended.

    The cluster is that which `RAY_ADDRESS` names or which runs on this machine; else this machine is one, for as long as it
    takes. The working folder, the package and the folder of runs must be at the same place on each machine. A task takes
    one GPU, or its share where there are more tasks than GPUs, and its share of the cores of the cluster.

    Args:
        words: The words of the command, without `--workers` and `--engine`.
        count: How many tasks, 1 to 1,000.
        tell: What is done with a sentence about a worker.
        say_line: What is done with a line that a worker said; it has the worker's number before it.

    Returns:
        Their exit statuses; of one that died too often that of its last death, below 0.

    Raises:
        InputError: Ray is not installed, or `count` is out of range.
        KeyboardInterrupt: It was stopped; the workers have kept the state of their runs.
    """
    if not 1 <= count <= 1000:
        raise InputError(
            "--workers {count}: give the number of trainings that run at once on Ray, 1 to 1000.", count=count
        )
    ray = _import_ray()
    has_joined = _join(ray)
    try:
        from ray.util.queue import Queue

        lines = Queue(actor_options={"num_cpus": 0})
        task = ray.remote(max_retries=MOST_DEATHS, retry_exceptions=[WorkerDiedError], **_share_cluster(ray, count))(
            _work
        )
        environment = {name: value for name, value in os.environ.items() if name.startswith(_CARRIED)}
        environment["PYTHONPATH"] = find_python_path()
        tasks = [
            task.remote(list(words), number, str(Path.cwd()), environment, lines) for number in range(1, count + 1)
        ]
        return _listen(ray, tasks, lines, tell, say_line)
    finally:
        if has_joined:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray, which is not installed: pip install ray") from None
    return ray


def _join(ray: Any) -> bool:
    """Joins the cluster that is there, or begins one; whether it had to."""
    if ray.is_initialized():
        return False
    quiet = {"log_to_driver": False, "logging_level": "error"}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        if "RAY_ADDRESS" in os.environ:
            raise InputError(
                "No Ray cluster answers at RAY_ADDRESS={address}.", address=os.environ["RAY_ADDRESS"]
            ) from None
        ray.init(include_dashboard=False, **quiet)
    return True


def _share_cluster(ray: Any, count: int) -> dict[str, float]:
    """The cores and GPUs of one task: whole cores, since they become threads; of GPUs a part where there are too few."""
    held = ray.cluster_resources()
    cores, gpus = held.get("CPU", 1), held.get("GPU", 0)
    share = {"num_cpus": max(1, int(cores // count))}
    return {**share, "num_gpus": min(1.0, gpus / count)} if gpus else share


def _work(words: list[str], number: int, folder: str, environment: dict[str, str], lines: Any) -> int:
    """The task: a process of the command, whose lines go into the queue `lines`; returns its exit status."""
    import ray

    cores = str(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
    threads = dict.fromkeys(THREADS, cores)
    about = {WORKER: str(number), "PYTHONUNBUFFERED": "1", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    process = subprocess.Popen(
        [sys.executable, "-m", "pbl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", cwd=folder, env={**os.environ, **environment, **threads, **about}, start_new_session=True,
    )  # fmt: skip
    try:
        for line in process.stdout:
            lines.put((number, line.rstrip()))
        status = process.wait()
    except BaseException:  # the task was cancelled: the process keeps the state of its run
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    if status < 0:
        raise WorkerDiedError(status)
    return status


def _listen(
    ray: Any, tasks: list[Any], lines: Any, tell: Callable[[str], None], say_line: Callable[[str], None]
) -> list[int]:
    """Says what the tasks say until all have ended; returns their exit statuses."""

    def drain() -> None:
        for number, line in lines.get_nowait_batch(lines.qsize()):
            if line.strip():
                say_line(f"{number}| {line}")

    waiting = list(tasks)
    try:
        while waiting:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_SECONDS)
            drain()
    except KeyboardInterrupt:
        for task in waiting:
            ray.cancel(task, force=False)  # KeyboardInterrupt in the task
        ray.wait(waiting, num_returns=len(waiting), timeout=60)
        drain()
        raise
    statuses = []
    for number, task in enumerate(tasks, 1):
        try:
            statuses.append(ray.get(task))
        except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError, ray.exceptions.WorkerCrashedError) as error:
            cause = getattr(error, "cause", None)
            statuses.append(cause.args[0] if isinstance(cause, WorkerDiedError) else -signal.SIGKILL)
            tell(Sentence("Worker {number} was given up: it died {times} times.", number=number, times=MOST_DEATHS + 1))
    return statuses
