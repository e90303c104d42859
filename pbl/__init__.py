"""pbl: a course-project template for deep learning with Keras 3 on TensorFlow.

`import pbl` is cheap: what needs Keras loads on first use.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

# Otherwise TensorFlow takes all of a GPU's memory, and a notebook and a command could not share it.
# It is read when the first GPU is opened, so this also works if TensorFlow was imported before pbl.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__version__ = "0.1.0"


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lets `import` find a file under a name from before it moved, as `pbl.moved` lists them: the same module, not a second one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith("pbl.") or name == "pbl.moved":
            return None
        is_moved = name in importlib.import_module("pbl.moved").MOVED
        return importlib.machinery.ModuleSpec(name, self) if is_moved else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module("pbl.moved").find(spec.name)
        spec.loader_state = module.__spec__ or spec  # `import` is about to overwrite `__spec__`
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


sys.meta_path.append(_MovedModules())


def offer(package: str, homes: dict[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes the `__getattr__`, `__dir__` and `__all__` of a folder that offers its files, and names in these files.

    Each file is loaded when it or one of its names is first used, so that importing the folder costs nothing.

    Args:
        package: The folder's `__name__`.
        homes: The names that each file offers, in one text with spaces.

    Example:
        `__getattr__, __dir__, __all__ = offer(__name__, {"run": "evaluate predict"})`
    """
    home = {name: f"{package}.{file}" for file, names in homes.items() for name in names.split()}

    def find(name: str) -> Any:
        if name in home:
            return getattr(importlib.import_module(home[name]), name)
        if importlib.util.find_spec(f"{package}.{name}") is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return importlib.import_module(f"{package}.{name}")

    return find, lambda: sorted({*home, *homes}), sorted({*home, *homes})


__getattr__, __dir__, __all__ = offer(
    __name__,
    {
        "comparison": "",
        "config": "Config load_experiment",
        "storage.trust": "trust_run",
        "data": "DATASETS load_data",
        "demonstration": "demo",
        "diagnosis": "RULES OverfittingMonitor diagnose diagnose_run",
        "evaluation": "BoxMonitor ContrastMonitor GanMonitor MaskMonitor evaluate load_model predict search",
        "export": "export_run",
        "grading": "",
        "inspection": "attention_maps grad_cam inspect_run",
        "models": "MODELS",
        "reports": "read_log write_team_report",
        "runs": "load_run",
        "statistics": "",
        "tasks": "TASKS",
        "training": "CALLBACKS ExactResume find_learning_rate measure_learning_curve memorise train",
    },
)
