"""The package's structure: files import in one direction and never in a circle, what needs no TensorFlow loads none, public names are kept."""

import ast
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from house import name_of, read_imports

import pbl

pytestmark = pytest.mark.slow  # little of it depends on versions

PACKAGE = Path(__file__).resolve().parent.parent / "pbl"
FILES = sorted(PACKAGE.rglob("*.py"))
NEEDS = read_imports(PACKAGE)

# The floors are levels: a file imports from its own floor or below. A name is a folder, or a file on another floor than its folder.
FLOORS = [
    "errors config storage runs statistics languages comparison reports moved __init__"
    " evaluation.metrics evaluation.calibration evaluation.thresholds evaluation.mistakes evaluation.figures evaluation.anomalies evaluation.anomaly_figures"
    " evaluation.contrast evaluation.contrast_figures evaluation.generation evaluation.generation_figures evaluation.segmentation evaluation.mask_figures evaluation.detection evaluation.detection_figures"
    " evaluation.__init__"
    " diagnosis.signals diagnosis.evidence diagnosis.classes diagnosis.learning diagnosis.generalisation diagnosis.data diagnosis.remedies"
    " diagnosis.rules diagnosis.advice diagnosis.planning diagnosis.anomalies diagnosis.generation diagnosis.contrast diagnosis.detection diagnosis.segmentation diagnosis.by_task diagnosis.curves diagnosis.__init__"
    " training.figures training.__init__ inspection.figures inspection.__init__ export.__init__ data.split data.__init__",
    "data models diagnosis training.callbacks training.checkpoint training.journal training.box_loss training.mask_loss training.optimization training.performance training.tensorboard_log"
    " evaluation.image_judge evaluation.samples evaluation.epoch_monitor evaluation.gan_monitor evaluation.mask_evidence evaluation.mask_monitor evaluation.box_evidence evaluation.box_monitor evaluation.contrast_monitor",
    "tasks",
    "evaluation training.transfer training.divergence training.build",
    "training inspection export grading",
    "demonstration",
    "cli __main__",
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names.split()}


def floor(name: str) -> int:
    """The floor of a file, otherwise of its folder; a name imported from a folder has the folder's floor."""
    parts = name.split(".")
    return next(FLOOR[place] for place in (".".join(parts[:2]), parts[0]) if place in FLOOR)


def import_tops(file: Path) -> set[str]:
    """The packages that a file imports from, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_a_file_imports_from_its_own_floor_or_below(file):
    above = {other for other in NEEDS[name_of(file)] if floor(other) > floor(name_of(file))}
    assert not above, f"{file} imports upward: {above}"


def _ends(body: list[ast.stmt]) -> bool:
    """Whether a block always returns, raises or repeats."""
    last = body[-1]
    if isinstance(last, ast.If):
        return bool(last.orelse) and _ends(last.body) and _ends(last.orelse)
    if isinstance(last, ast.With):
        return _ends(last.body)
    if isinstance(last, ast.Try):
        return (_ends(last.orelse or last.body) and all(_ends(handler.body) for handler in last.handlers)) or (
            bool(last.finalbody) and _ends(last.finalbody)
        )
    is_docstring = isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)
    return is_docstring or isinstance(last, (ast.Return, ast.Raise, ast.While, ast.For, ast.Match))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_promises_a_value_ends_with_one(file):
    """A function that reaches its end returns None; this happened once when a last line was lost."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            promised = ast.unparse(node.returns)
            is_free = "None" in promised or promised == "NoReturn"
            if not is_free and not any(isinstance(inner, (ast.Yield, ast.YieldFrom)) for inner in ast.walk(node)):
                assert _ends(node.body), f"{file}: {node.name} may end without a {promised}"


def test_files_do_not_import_each_other_in_a_circle():
    left = dict(NEEDS)
    while left:
        leaves = {name for name, others in left.items() if not others & set(left)}
        assert leaves, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in leaves}


def test_ground_floor_and_models_know_no_tensorflow():
    for file in FILES:
        tops, name = import_tops(file), name_of(file)
        if floor(name) == 0:
            assert not tops & {"keras", "tensorflow"}, file
        if name.startswith("models."):
            assert "tensorflow" not in tops, file
            assert not any(other.startswith("data.") for other in NEEDS[name]), file
        if name.startswith("data."):
            assert not any(other.startswith("models.") for other in NEEDS[name]), file


@pytest.mark.parametrize(
    ("program", "heavy"),
    [
        ("import runpy, sys; sys.argv = ['pbl', '--help']; runpy.run_module('pbl', run_name='__main__')", "tensorflow keras pandas matplotlib sklearn numpy"),
        ("import pbl; pbl.Config", "tensorflow keras pandas matplotlib sklearn numpy"),
        ("import pbl; pbl.metrics, pbl.plotting, pbl.runs, pbl.statistics", "tensorflow keras"),
        ("import pbl; pbl.report", "tensorflow keras pandas matplotlib sklearn"),
    ("import pbl; pbl.DATASETS, pbl.data.doctor.examine", "tensorflow keras pandas matplotlib sklearn"),
    ],
)  # fmt: skip
def test_what_needs_no_tensorflow_imports_none(program, heavy):
    look = f"import atexit, sys\natexit.register(lambda: print('LOADED', *sorted(set({heavy.split()!r}) & set(sys.modules))))\n"
    done = subprocess.run(
        [sys.executable, "-c", look + program], capture_output=True, text=True, cwd=PACKAGE.parent, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "LOADED"


# Names that experiment files, notebooks and `run_colab.ipynb` use. A run keeps its experiment file and may be opened years later.
PUBLIC = """
pbl.Config pbl.load_experiment pbl.load_run pbl.load_data pbl.train pbl.ExactResume pbl.OverfittingMonitor pbl.diagnose
pbl.diagnose_run pbl.evaluate pbl.predict pbl.load_model pbl.find_learning_rate pbl.measure_learning_curve pbl.memorise
pbl.inspect_run pbl.export_run pbl.grad_cam pbl.attention_maps pbl.read_log pbl.write_team_report pbl.CALLBACKS pbl.MODELS pbl.DATASETS
pbl.callbacks.CALLBACKS pbl.models.MODELS pbl.models.CARDS pbl.models.cards.CARDS pbl.models.alexnet pbl.models.build pbl.models.count_macs pbl.models.count_trainable_weights
pbl.models.resnet pbl.models.senet.SqueezeExcite pbl.data.DATASETS pbl.data.Source pbl.data.from_arrays pbl.data.read_image
pbl.data.files.class_folders pbl.data.files.cache_folder pbl.data.sources.DATASETS pbl.data.sources.Source
pbl.data.sources.DifferentSizes pbl.data.doctor.examine pbl.data.doctor.Finding pbl.data.doctor.CLOSE_CHECKS
pbl.data.doctor pbl.data.augmentation.augment pbl.data.augmentation.draw pbl.diagnosis.NAMES pbl.diagnosis.diagnose
pbl.demo pbl.demonstration.fit_sketch pbl.RULES pbl.diagnosis.RULES pbl.diagnosis.Rule pbl.diagnosis.Threshold pbl.diagnosis.Remedy pbl.diagnosis.make_finding
pbl.checkpoint.ExactResume pbl.monitor.OverfittingMonitor pbl.training.train pbl.training.build_and_compile
pbl.evaluation.predict_probabilities pbl.evaluation.evaluate pbl.inspection.grad_cam pbl.comparison.compare
pbl.comparison.find_runs pbl.metrics.compute_metrics pbl.calibration.apply_temperature pbl.calibration.fit_temperature
pbl.calibration.compute_calibration_error pbl.thresholds.choose_threshold pbl.thresholds.judge_threshold
pbl.thresholds.parse_aim pbl.thresholds.tabulate_thresholds pbl.thresholds.resample_threshold
pbl.statistics.wilson_interval pbl.statistics.newcombe_interval pbl.runs.runs_on pbl.report.write_report pbl.japanese.say
pbl.errors.InputError pbl.config.Augmentation pbl.grading.Rubric pbl.grading.grade pbl.grading.submit
pbl.plotting.plot_gallery pbl.plotting.plot_comparison pbl.plotting.plot_learning_curves pbl.plotting.plot_confusion_matrix
pbl.plotting.plot_reliability pbl.plotting.plot_thresholds pbl.signals.Signals pbl.performance.fused_operations
pbl.transfer.fit_head pbl.trials.memorise pbl.team_log.read_log pbl.team_report.write_team_report
""".split()


def test_names_that_people_use_are_there():
    """Each by `import` and by attribute, in a process in which nothing else has been imported."""
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    module, _, last = name.rpartition('.')\n"
        "    value = getattr(importlib.import_module(module), last)\n"
        "    where = importlib.import_module('pbl')\n"
        "    for part in name.split('.')[1:]: where = getattr(where, part)\n"
        "    assert where is value, name\n"
    )
    subprocess.run([sys.executable, "-c", program, *PUBLIC], cwd=PACKAGE.parent, check=True)
    assert pbl.callbacks is pbl.training.callbacks and pbl.callbacks.__spec__.name == "pbl.training.callbacks"


@pytest.mark.slow
def test_the_wheel_holds_the_whole_package(tmp_path):
    root, kept = tmp_path / "root", (".py", ".html", ".po", ".svg")
    ours = {str(file.relative_to(PACKAGE.parent)) for file in PACKAGE.rglob("*") if file.suffix in kept}
    for name in (*ours, "pyproject.toml", "README.md", "LICENSE", "requirements.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE.parent / name, root / name)
    made = subprocess.run([sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, root], capture_output=True, text=True)  # fmt: skip
    if "No matching distribution found for setuptools" in made.stderr:
        pytest.skip("pip cannot fetch setuptools: no network")
    wheel = tmp_path / f"pbl-{pbl.__version__}-py3-none-any.whl"
    assert {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("pbl/")} == ours, made.stderr
