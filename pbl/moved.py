"""Names that files had before they moved: they stay valid, for example `from pbl.callbacks import CALLBACKS` and `pbl.metrics.compute_metrics`.

A run keeps its `experiment.py` and may be opened years later. This file is read when `import` finds no file of a name below `pbl`.
"""

import importlib
from types import ModuleType

from pbl import offer

_MOVED = {
    **dict.fromkeys(
        "callbacks checkpoint divergence learning_curve optimization performance sweep tensorboard_log transfer trials".split(),
        "training",
    ),
    **dict.fromkeys("advice monitor signals".split(), "diagnosis"),
    **dict.fromkeys("calibration measurement metrics thresholds".split(), "evaluation"),
    **dict.fromkeys("team_log team_report".split(), "reports"),
}
MOVED = {f"pbl.{name}": f"pbl.{folder}.{name}" for name, folder in _MOVED.items()} | {
    "pbl.report": "pbl.reports.run_report",
    "pbl.japanese": "pbl.languages",
    # Files that were split: the names, by the file that has them now.
    "pbl.plotting": {
        "diagnosis.curves": "plot_learning_curves",
        "evaluation.figures": "plot_confusion_matrix plot_gallery plot_reliability plot_thresholds",
        "comparison.figures": "plot_comparison",
    },
    "pbl.models.cards": {"models": "CARDS"},
    "pbl.data.files": {
        "data.archives": "decode_name npz_arrays zip_archive",
        "data.cache": "GIGABYTE cache_folder make_cache_folder",
        "data.catalogue": "open_path",
        "data.folders": "Files class_folders",
        "data.paths": "expand looks_like_path",
    },
    "pbl.data.sources": {
        "data.catalogue": "DATASETS UnknownDataset digits open_source prepared_datasets tensorflow_dataset",
        "data.source": "Example Source check_class_names check_example from_arrays",
        "data.store": "DifferentSizes",
    },
}


def find(name: str) -> ModuleType:
    """Returns the module that a name means now: the file itself, or for a file that was split, a module that offers its names."""
    new = MOVED[name]
    if isinstance(new, str):
        return importlib.import_module(new)
    module = ModuleType(name)
    module.__getattr__, module.__dir__, module.__all__ = offer("pbl", new)
    return module
