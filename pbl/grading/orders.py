"""What the grader gives to a locked process: its folder, its work, its environment. Used outside the lock; see `pbl.grading.jobs`."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pbl.grading.jobs import JOB, OUTPUT, SCRATCH, SUBMISSION
from pbl.grading.sandbox import Limits


def make_folder(folder: Path, job: dict[str, Any], owner: int | None = None) -> Path:
    """Makes a job's folder.

    Args:
        folder: A folder that does not exist yet.
        job: The content of `job.json`.
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


def describe_work(
    files: Sequence[str],
    ids: Sequence[str],
    class_names: Sequence[str],
    limits: Limits,
    shape: Sequence[int] | None,
    fit: str | None,
    builders: Sequence[str] = (),
    task: str = "classification",
    sizes: Sequence[Sequence[int]] | None = None,
) -> dict[str, Any]:
    """Returns the `job.json` of `pbl.grading.worker.work`.

    Args:
        files: The team's names of its files; the content of file n is in `submission/n`.
        ids: Names of the hidden images, in the order of `pixels.u8`.
        class_names: The classes of the task.
        limits: What the submission may use.
        shape: (height, width, channels) of `pixels.u8`; None if there is no such file.
        fit: How the images were brought to that shape; None if there is none.
        builders: SHA-256 of the team's `builder.py` files that may be run.
        task: "classification", or "anomaly": then scores are handed in, "segmentation": masks, or "detection": boxes.
        sizes: In segmentation and detection, height and width of each image.
    """
    return {
        "files": list(files),
        "ids": list(ids),
        "class_names": list(class_names),
        "limits": limits.as_json(),
        "shape": None if shape is None else list(shape),
        "fit": fit,
        "builders": list(builders),
        "task": task,
        "sizes": None if sizes is None else [list(size) for size in sizes],
    }


def environment(home: Path) -> dict[str, str]:
    """A new environment with nothing from the instructor's shell, which a submission must not see."""
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
        # A single thread until the fork.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 loads no program, whatever a file asks for
        "HDF5_USE_FILE_LOCKING": "FALSE",
        "PYTHONHASHSEED": "0",
    }
    # Some Pythons need these to find their own libraries.
    return made | {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
