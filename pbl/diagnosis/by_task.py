"""The diagnosis of a run, by its task: `DIAGNOSES["mine"] = diagnose_mine` in an experiment file adds one.

From the run's files alone, and without TensorFlow.
"""

from collections.abc import Callable
from pathlib import Path

from pbl.diagnosis import advice, anomalies, contrast, detection, generation, segmentation
from pbl.diagnosis.rules import Diagnosis
from pbl.runs import Run, load_run

DIAGNOSES: dict[str, Callable[[Run, bool | None], Diagnosis]] = {
    "classification": advice.diagnose_run,
    "anomaly": anomalies.diagnose_run,
    "generation": generation.diagnose_run,
    "segmentation": segmentation.diagnose_run,
    "contrast": contrast.diagnose_run,
    "detection": detection.diagnose_run,
}


def diagnose_run(run: str | Path | Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run and says what to try next.

    Args:
        run: A run that `train` made, or its folder; the team's other runs are found next to it.
        has_ended: Whether its training has ended; by default as its `environment.json` says.

    Raises:
        InputError: Its task has no diagnosis; a file of the run is missing or damaged.

    Example:
        >>> import pbl
        >>> pbl.diagnose_run("runs/mine/001").headline.name
        'underfitting'
    """
    run = load_run(run)
    if run.config.task not in DIAGNOSES:
        run.check_is_classifier("diagnose")
    return DIAGNOSES[run.config.task](run, has_ended)
