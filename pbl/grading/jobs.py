"""What the grader hands to a locked process, how such a process is started, and what it leaves behind: names and places.

A job is a folder: `job.json` says what is asked, `submission/0`, `submission/1`, ... are a team's files under names of our
own, `pixels.u8` are images. The process writes into `output` and `scratch` alone. `pbl.grading.server` does jobs,
`pbl.grading.workers` sends them.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbl.grading.sandbox import Limits

# What the grader puts into a job's folder, and what the process leaves.
JOB, SUBMISSION, PIXELS, OUTPUT, SCRATCH = "job.json", "submission", "pixels.u8", "output", "scratch"
STATUS, RESULT, NAMES, LOG = "status.json", "predictions.f32", "names.json", "log.txt"
EXIT_LOCK_FAILED = 97  # exit status of a process that could not lock itself up
ROOT = Path(__file__).resolve().parents[2]  # the folder that holds this package


def make_folder(folder: Path, job: dict[str, Any], owner: int | None = None) -> Path:
    """Makes a job's folder.

    Args:
        folder: A folder that does not exist yet.
        job: What stands in `job.json`.
        owner: The user who may write into its `output` and `scratch`, if not this one.
    """
    folder.mkdir(mode=0o755)
    (folder / SUBMISSION).mkdir(mode=0o755)
    for name in (OUTPUT, SCRATCH):
        (folder / name).mkdir(mode=0o700)
        if owner is not None:
            os.chown(folder / name, owner, owner)
    (folder / JOB).write_text(json.dumps(job, ensure_ascii=False), encoding="utf-8")
    return folder


def read_job(folder: Path) -> dict[str, Any]:
    """Returns what `make_folder` wrote into `job.json`."""
    return json.loads((folder / JOB).read_text(encoding="utf-8"))


def describe_work(
    files: Sequence[str],
    ids: Sequence[str],
    class_names: Sequence[str],
    limits: Limits,
    shape: Sequence[int] | None,
    fit: str | None,
    builders: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the `job.json` of `pbl.grading.worker.work`.

    Args:
        files: What the team called its files; the contents of file n are in `submission/n`.
        ids: Names of the hidden images, in the order of `pixels.u8`.
        class_names: The classes of the task.
        limits: What the submission may use.
        shape: (height, width, channels) of `pixels.u8`; None where there is no such file.
        fit: How the images were brought to that shape; None where there is none.
        builders: SHA-256 of those `builder.py` of the team that may be run.
    """
    return {
        "files": list(files),
        "ids": list(ids),
        "class_names": list(class_names),
        "limits": limits.as_json(),
        "shape": None if shape is None else list(shape),
        "fit": fit,
        "builders": list(builders),
    }


def command(function: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `serve` or `run_once` of `pbl.grading.server` in a new process.

    The process finds this package, but does not import from the folder that holds it: that folder may hold anything.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pbl.grading import server; sys.path.remove({str(ROOT)!r});"
        f" sys.exit(server.{function}())"
    )
    return [sys.executable, "-I", "-B", "-c", program, *arguments]


def environment(home: Path) -> dict[str, str]:
    """An environment made of nothing: what the instructor's shell holds is no business of a submission."""
    made = {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "HOME": str(home),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(home),
        "KERAS_HOME": str(home),
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # One thread until the fork.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 loads no program, whatever a file asks for
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "PYTHONHASHSEED": "0",
    }
    # Where a Python needs it to find its own libraries.
    return made | {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
