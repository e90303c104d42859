"""pbl: a course-project template for deep learning with Keras 3 on TensorFlow.

`import pbl` is cheap: what needs Keras loads on first use.
"""

import importlib
import os

# TensorFlow otherwise takes a GPU's whole memory, and a notebook and a command could not share it.
# Read when the first GPU is opened, so this holds also where TensorFlow was imported before pbl.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__version__ = "0.1.0"

_HOME = {
    "Config": "pbl.config",
    "load_experiment": "pbl.config",
    "load_run": "pbl.runs",
    "load_data": "pbl.data",
    "train": "pbl.training",
    "ExactResume": "pbl.checkpoint",
    "OverfittingMonitor": "pbl.monitor",
    "diagnose": "pbl.diagnosis",
    "diagnose_run": "pbl.advice",
    "evaluate": "pbl.evaluation",
    "predict": "pbl.evaluation",
    "load_model": "pbl.evaluation",
    "find_learning_rate": "pbl.trials",
    "measure_learning_curve": "pbl.learning_curve",
    "memorise": "pbl.trials",
    "inspect_run": "pbl.inspection",
    "grad_cam": "pbl.inspection",
    "attention_maps": "pbl.inspection",
    "read_log": "pbl.team_log",
    "write_team_report": "pbl.team_report",
}
_MODULES = (
    "advice",
    "callbacks",
    "checkpoint",
    "config",
    "data",
    "diagnosis",
    "divergence",
    "evaluation",
    "grading",
    "inspection",
    "learning_curve",
    "metrics",
    "models",
    "monitor",
    "optimization",
    "performance",
    "plotting",
    "report",
    "runs",
    "signals",
    "statistics",
    "sweep",
    "team_log",
    "team_report",
    "tensorboard_log",
    "training",
    "transfer",
    "trials",
)

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"pbl.{name}")
    raise AttributeError(f"module 'pbl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
