"""The house: imports run one way, and what needs no TensorFlow loads none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pbl"

FLOORS = [
    {
        "errors",
        "config",
        "runs",
        "metrics",
        "calibration",
        "thresholds",
        "comparison",
        "statistics",
        "signals",
        "diagnosis",
        "advice",
        "japanese",
        "plotting",
        "report",
        "team_log",
        "team_report",
        "__init__",
    },
    {"data", "models", "callbacks", "monitor", "checkpoint", "optimization", "performance", "tensorboard_log"},
    {"evaluation", "transfer", "divergence"},
    {"training", "inspection", "trials", "sweep", "learning_curve", "measurement", "grading"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(file: Path, everywhere: bool = True) -> set[str]:
    """Full names of what a file imports; `everywhere`: inside functions too, else at its top."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_file_imports_from_its_own_floor_or_below(file):
    rooms = {name.split(".")[1] for name in imports(file) if name.startswith("pbl.")} & set(FLOOR)
    assert all(FLOOR[other] <= FLOOR[room(file)] for other in rooms), f"{file} imports upward: {rooms}"


def test_rooms_of_a_floor_do_not_import_each_other_in_a_circle():
    needs = {name: set() for name in FLOOR}
    for file in FILES:
        needs[room(file)] |= {name.split(".")[1] for name in imports(file) if name.startswith("pbl.")} & set(FLOOR)
        needs[room(file)].discard(room(file))
    while needs:
        leaves = {name for name, others in needs.items() if not others & set(needs)}
        assert leaves, f"a circle among {sorted(needs)}"
        needs = {name: others for name, others in needs.items() if name not in leaves}


def test_ground_floor_and_models_know_no_tensorflow():
    for file in FILES:
        tops = {name.split(".")[0] for name in imports(file)}
        if FLOOR[room(file)] == 0:
            assert not tops & {"keras", "tensorflow"}, file
        if room(file) == "models":
            assert "tensorflow" not in tops, file
            assert not any(name.startswith("pbl.data") for name in imports(file)), file
        if room(file) == "data":
            assert not any(name.startswith("pbl.models") for name in imports(file)), file


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        ("import runpy, sys; sys.argv = ['pbl', '--help']; runpy.run_module('pbl', run_name='__main__')", "tensorflow keras pandas matplotlib sklearn numpy"),
        ("import pbl; pbl.Config", "tensorflow keras pandas matplotlib sklearn numpy"),
        ("import pbl; pbl.metrics, pbl.plotting, pbl.runs, pbl.statistics", "tensorflow keras"),
        ("import pbl; pbl.report", "tensorflow keras pandas matplotlib sklearn"),
    ],
)  # fmt: skip
def test_what_needs_no_tensorflow_imports_none(program, heavy):
    look = f"import atexit, sys\natexit.register(lambda: print('LOADED', *sorted(set({heavy.split()!r}) & set(sys.modules))))\n"
    done = subprocess.run(
        [sys.executable, "-c", look + program], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "LOADED"
