"""What the grader gives to a locked process, how such a process is started, and what it leaves behind: names and paths.

A job is a folder: `job.json` describes the work, `submission/0`, `submission/1`, ... are a team's files under names that we
choose, `pixels.u8` are images. The process writes only into `output` and `scratch`. `pbl.grading.server` does jobs,
`pbl.grading.workers` sends them.
"""

import json
import sys
from pathlib import Path
from typing import Any

# The parts of a job's folder that the grader writes, and those that the process leaves.
JOB, SUBMISSION, PIXELS, OUTPUT, SCRATCH = "job.json", "submission", "pixels.u8", "output", "scratch"
STATUS, RESULT, NAMES, LOG = "status.json", "predictions.f32", "names.json", "log.txt"
EXIT_LOCK_FAILED = 97  # exit status of a process that could not lock itself down
ROOT = Path(__file__).resolve().parents[2]  # the folder that contains this package


def read_job(folder: Path) -> dict[str, Any]:
    """Returns what `make_folder` wrote into `job.json`."""
    return json.loads((folder / JOB).read_text(encoding="utf-8"))


def command(function: str, *arguments: str) -> list[str]:
    """Returns the command line that runs `serve` or `run_once` of `pbl.grading.server` in a new process.

    The process finds this package, but does not import from the folder that contains it, which may contain anything.
    """
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pbl.grading import server; sys.path.remove({str(ROOT)!r});"
        f" sys.exit(server.{function}())"
    )
    return [sys.executable, "-I", "-B", "-c", program, *arguments]
