"""The command line as a person uses it."""

import errno
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer.core
import typer.main
from PIL import Image
from rich.console import Console
from rich.table import Column, Table
from sklearn.datasets import load_digits
from typer import rich_utils

import pbl
from pbl.__main__ import find_obstacle, say_missing
from pbl.cli import app, screen
from pbl.cli.training import _show_run
from pbl.grading.hidden import find_exposing_work_tree
from pbl.languages import choose_language
from pbl.languages.wrapping import measure, wrap

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def folder(tmp_path, monkeypatch, trained_run) -> Path:
    """A working folder with a run, experiment files and images of every wrong kind."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_run.path, tmp_path / "runs" / "small" / "001")
    shutil.copytree(trained_run.path, tmp_path / "runs" / "small" / "half")
    (tmp_path / "runs" / "small" / "half" / "best.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    shutil.copytree(trained_run.path, tmp_path / "runs" / "small" / "other")
    split = json.loads((tmp_path / "runs" / "small" / "other" / "split.json").read_text())
    (tmp_path / "runs" / "small" / "other" / "split.json").write_text(json.dumps({**split, "class_names": ["a", "b"]}))
    (tmp_path / "syntax.py").write_text("config = Config(\n")
    (tmp_path / "noconfig.py").write_text("x = 1\n")
    (tmp_path / "good.png").write_bytes(b"")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "noimages").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


WRONG = [
    ("trian", "No such command 'trian'. Did you mean 'train'?"),
    ("train --fast", "No such option: --fast"),
    ("train absent.py", "No experiment file absent.py"),
    ("train digits_resnet2.py", "Did you mean 'digits_resnet20'?"),
    ("train syntax.py", "syntax.py, line 1"),
    ("train noconfig.py", "noconfig.py does not set `config`"),
    ("train epoch=3", "Did you mean 'epochs'?"),
    ("train epochs=-1", "epochs=-1"),
    ("train epochs=2.5", "epochs=2.5"),
    ("train learning_rate=fast", "learning_rate='fast'"),
    ("train epochs=3 seed", "'seed' is not of the form key=value"),
    ("train model=resnet200", "No model is called 'resnet200'. Did you mean 'resnet20'?"),
    ("train model=mlp model_options.drop=0.5", "Did you mean 'dropout'?"),
    ("train dataset=digit", "Did you mean 'digits'?"),
    ("train optimizer=adan", "Did you mean 'adam'?"),
    ("train callbacks=stop", "No callback is called 'stop'"),
    ("train positive_class=3", "is for two classes, but the data have 10"),
    ("train --runs file", "file/digits_resnet20 cannot be written: Not a directory"),
    ("evaluate runs/small/009", "No run runs/small/009. Runs here: runs/small/001"),
    ("evaluate runs/small", "is a folder of runs"),
    ("evaluate noimages", "is not a run"),
    ("evaluate runs/small/half", "best.weights.h5 is damaged"),
    ("evaluate runs/small/other", "does not fit the model that the run describes (mlp, 2 classes)"),
    ("evaluate runs/small/001 --split train", "Invalid value for '--split'"),
    ("evaluate runs/small/001 --require accuracy=1", 'not of the form "accuracy>=0.9"'),
    ("evaluate runs/small/001 --require accurracy>=1", "Did you mean 'accuracy'?"),
    ("evaluate runs/small/001 --positive-class 3", "is for two classes"),
    ("train model=vgg16", "vgg16 takes images of at least 32x32 pixels; these have 8x8. Give image_size=32"),
    ("train model=perceptron", "perceptron distinguishes two classes, not 10"),
    ("models resnet21x", "Did you mean"),
    ("predict runs/small/001", "Missing argument"),
    ("predict runs/small/001 absent.png", "No file or folder absent.png"),
    ("predict runs/small/001 empty.png", "empty.png is empty"),
    ("predict runs/small/001 good.png text.jpg empty.png --csv out.csv", "text.jpg is not an image"),
    ("predict runs/small/001 noimages", "There is no image in the folder noimages"),
    ("predict runs/small/001 good.png --csv absent/out.csv", "The folder absent does not exist"),
    ("predict runs/small/001 good.png --csv noimages", "noimages could not be written"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_input_gets_one_line_and_writes_nothing(command, folder, line, said):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    status, out, err = command(*line.split())
    assert status == 2 and err.count("\n") == 1 and said in err and not out, (status, out, err)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_train_evaluate_predict(command, folder):
    status, out, _ = command("train", "model=mlp", "epochs=2", "model_options.widths=[32]", "experiment=mine")
    assert status == 0 and "validation accuracy" in out and "python -m pbl evaluate runs/mine/001 --split test" in out
    assert out.count("\n") < 25  # into a file: one line for each epoch

    status, out, err = command("evaluate", "runs/mine/001", "--split", "test", "--json")
    result = json.loads(out)
    assert status == 0 and result["images"] == 539 and result["test_uses"] == 1 and not err
    status, out, _ = command("evaluate", "runs/mine/001", "--require", "accuracy>=0.0", "--require", "macro.f1>0.9999")
    assert status == 1 and "holds: accuracy>=0.0" in out and "FAILS: macro.f1>0.9999" in out
    assert "rows are true classes, columns predicted ones" in out

    status, out, _ = command("predict", "runs/mine/001", "good.png", "--csv", "out.csv")
    table = pd.read_csv("out.csv")
    assert (
        status == 0
        and "good.png" in out
        and table.columns[:3].tolist() == ["file", "class", "probability"]
        and len(table.columns) == 13
    )
    status, out, _ = command("predict", "runs/mine/001", "good.png", "--json")
    assert status == 0 and json.loads(out)[0]["probability"] == pytest.approx(table["probability"].item())


def test_a_slip_costs_no_use_of_the_test_split(command, folder):
    for words in (["--require", "accurracy>1"], ["--positive-class", "3"]):
        assert command("evaluate", "runs/small/001", "--split", "test", *words)[0] == 2
    assert pbl.load_run("runs/small/001").count_test_uses() == 0


@pytest.mark.slow
def test_two_classes_put_the_positive_class_first(command, folder):
    (folder / "odd.py").write_text(
        "from pbl import Config\nfrom pbl.data import DATASETS, from_arrays\nfrom sklearn.datasets import load_digits\n"
        "d = load_digits()\nDATASETS['odd'] = lambda: from_arrays((d.images * 15).astype('uint8'), d.target % 2, ['even', 'odd'])\n"
        "config = Config(dataset='odd', model='mlp', epochs=2, positive_class='even')\n"
    )
    assert command("train", "odd.py")[0] == 0
    for words, name in ([], "even"), (["--positive-class", "odd"], "odd"):
        status, out, _ = command("evaluate", "runs/odd/001", *words)
        lines = [line for line in out.splitlines() if line.strip()]
        assert status == 0 and lines[3].split()[0] == "precision" and f"of '{name}', the positive class" in lines[3]
        assert [line.split()[0] for line in lines[3:7]] == ["precision", "recall", "f1", "accuracy"]


def test_tables(command):
    status, out, _ = command("models")
    assert status == 0 and all(name in out for name in pbl.models.MODELS) and "15,470,264,320" in out
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PBL_LANGUAGE", "ja")
        assert "教材の例" in (told := command("models")[1]) and "lesson" not in told and " subclassed " not in told
    status, out, _ = command("models", "mlp")
    assert status == 0 and "dropout: float = 0.0" in out and "set to zero in training" in out
    status, out, _ = command("datasets", "--data-dir", "nowhere")
    assert status == 0 and "digits" in out and "cifar10" in out


def run_process(*words: str, **options) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", "pbl", *words], capture_output=True, text=True, env=environment, **options
    )


HELP = [
    ("train", ["[OPTIONS] [EXPERIMENT.py] [KEY=VALUE]", "IMAGES [2<=x<=1024]", "<int range> [x>=1]", "[default: 1]"]),
    ("evaluate", ["{RUN}", "[required]", "<val|test>", "[default: val]"]),
    ("find-rate", ["<float>", "FILE.png", "[default: learning_rate.png]"]),
    ("compare", ["<float range> [0<=x<=1]", "[default: 1.0]"]),
    ("holdout", ["--no-references", "[default: references]"]),
    ("submit", ["*  --team", "NAME"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shown"), HELP, ids=[name for name, _ in HELP])
def test_help_tells_types_limits_and_defaults(command, monkeypatch, name, shown):
    """And leaves rich and typer unchanged, in Japanese too."""
    monkeypatch.setenv("COLUMNS", "160")
    before = inspect.signature(Table.add_column), inspect.signature(Column.__init__), dict(vars(rich_utils))
    status, out, err = command(name, "--help")
    assert status == 0 and not err and [words for words in shown if words not in out] == []
    assert "Show this message and exit." in out and f"Usage: python -m pbl {name}" in out
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    assert "使い方" in command(name, "--help")[1]
    assert (inspect.signature(Table.add_column), inspect.signature(Column.__init__), dict(vars(rich_utils))) == before


def test_help_is_drawn_as_the_installed_typer_draws_it(capsys, monkeypatch):
    """In English, on a screen so wide that typer cuts nothing: 0.27 shows no type for a switch, 0.29 does."""
    monkeypatch.setenv("COLUMNS", "200")
    for name, command in typer.main.get_command(app).commands.items():
        context = command.make_context(name, [], resilient_parsing=True)
        command.format_help(context, context.make_formatter())
        ours = capsys.readouterr().out
        typer.core.TyperCommand.format_help(command, context, context.make_formatter())
        assert "--help" in ours and ours == capsys.readouterr().out
        options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
        assert options == [option.lower() for option in options]


@pytest.mark.nightly
def test_my_team_survives_fresh_processes(tmp_path):
    """Own builder, data set and callback: trained, evaluated and predicted with in separate processes."""
    experiment = shutil.copy(ROOT / "experiments" / "my_team.py", tmp_path / "my_team.py")
    trained = run_process("train", str(experiment), "epochs=2", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert trained.stderr == ""  # no output of TensorFlow
    assert pd.read_csv(tmp_path / "runs/my_team/001/history.csv")["weight_norm"].gt(0).all()
    Path(experiment).unlink()  # the run keeps its own copy
    evaluated = run_process("evaluate", "runs/my_team/001", "--json", cwd=tmp_path)
    assert evaluated.returncode == 0 and json.loads(evaluated.stdout)["positive"]["class"] == "odd", evaluated.stderr
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "one.png")
    predicted = run_process("predict", "runs/my_team/001", "one.png", "--json", cwd=tmp_path)
    assert predicted.returncode == 0 and json.loads(predicted.stdout)[0]["class"] in ("odd", "even"), predicted.stderr


def test_a_bug_of_ours_keeps_its_traceback(command, monkeypatch):
    monkeypatch.setattr("pbl.runs.load_run", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command("evaluate", "x")


@pytest.mark.slow
def test_check(command, tmp_path, monkeypatch):
    """A data set with planted faults: exit status 1, pictures, the names to leave out, which `train` then leaves out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PBL_CACHE", str(tmp_path / "cache"))
    pixels, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(pixels.reshape(-1, 8, 8)[:600], labels, strict=False)):
        folder = tmp_path / "photos" / ("train" if number < 500 else "val") / f"digit {label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(folder / f"{number}.png")
    status, said, _ = command("check", "photos", "--fast")
    assert status == 0 and "0 stop" in said
    of_val = sorted((tmp_path / "photos" / "val").rglob("*.png"))[:5]
    for file in of_val:
        shutil.copy(file, tmp_path / "photos" / "train" / file.parent.name / f"copy_{file.name}")
    (tmp_path / "photos" / "train" / "digit 0" / "half.png").write_bytes(of_val[0].read_bytes()[:60])
    status, said, errors = command("check", "photos", "--leave-out", "leave_out.txt", "--out", "report")
    assert (
        status == 1 and not errors and "half.png" in said and "copies across" in said
    )  # broken: no training can start
    assert {"data_check.json", "figures"} <= {path.name for path in (tmp_path / "report").iterdir()}
    names = (tmp_path / "leave_out.txt").read_text(encoding="utf-8").splitlines()
    copies = {f"train/{file.parent.name}/copy_{file.name}" for file in of_val}
    # One of the copies came into the test split, which is taken from train here: its twin in validation is left out.
    assert set(names) - copies == {"train/digit 0/half.png", "val/digit 0/536.png"} and len(names) == 6

    train = ("train", "dataset=photos", "model=mlp", "epochs=1", "--runs", tmp_path / "runs")
    status, _, errors = command(*train)
    assert status == 2 and "half.png" in errors and errors.count("\n") == 1
    status, said, _ = command(*train, "leave_out=leave_out.txt")
    assert status == 0
    (found,) = (tmp_path / "runs").rglob("data_check.json")
    assert "copies_across" not in found.read_text(encoding="utf-8")
    status, _, errors = command("check", "nothing.zip")
    assert status == 2 and "No file nothing.zip" in errors


HEADER = ["run", "when", "model", "validation accuracy", "difference", "変更点"]
LONG_ROW = (
    "digits_resnet20/001", "10-01 12:30", "resnet20", "97.4% (94.0 to 98.9)", "+1.2 (-0.5 to +2.9)",
    "batch_size: 64 -> 32 (同時に 3 か所の変更：どれの効果かは区別できません)",
)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_break_no_number_and_no_word(monkeypatch, capsys, width):
    """On a narrow screen each row has lines of its own; at every width no word is broken, and no line is wider."""
    monkeypatch.setattr(screen, "open_console", lambda: Console(width=width, highlight=False, markup=False))
    for header, rows in (
        (HEADER, [LONG_ROW, LONG_ROW]),
        (["model", "style", "MACs"], [("resnet20", "functional", "40,813,184"), ("mlp", "sequential", "203,264")]),
        (
            ["", "small/001"],
            [("seconds", "data 0.1, check 0.9, build 0.6, fit 2.7, evaluate 0.9, diagnosis 0.0, figures 0.8, " * 2)],
        ),
    ):
        screen.print_table(header, rows)
        said = capsys.readouterr().out
        assert max(map(measure, said.splitlines())) <= width
        words = [word for row in rows for cell in row for word in cell.split() if word.isascii()]
        assert [word for word in words if word not in said.split()] == []
    screen.print_text(
        "正解率は訓練 98.0%、検証 97.9%、差は 0.2 ポイントです（95%信頼区間 -1.5〜3.4、検証 189 枚）。" * 2, 2, "- "
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(measure, lines)) <= width and lines[0].startswith("- ") and lines[1].startswith("  ")
    assert all(line.strip()[0] not in "、。）" and not line.endswith("（") for line in lines)


def test_japanese_is_broken_between_phrases():
    text = "ドロップアウト 0.5 にして、エポック数を3倍にする（digits・MNIST・CIFAR-10・乗り物の画像、シード3つずつ）。"
    for width in range(24, 70):
        lines = wrap(text, width)
        assert max(map(measure, lines)) <= width and "".join("".join(lines).split()) == "".join(text.split())
        for word in ("ドロップアウト", "エポック", "CIFAR-10", "0.5", "画像", "シード"):
            assert any(word in line for line in lines), (width, word, lines)


def test_check_tells_a_slip_in_own_code(command, tmp_path, monkeypatch):
    """As training does: one line with file, line and cause, and the traceback in a file."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine" / "001"
    run.mkdir(parents=True)
    (run / "config.json").write_text('{"dataset": "mine", "model": "mlp"}')
    (run / "experiment.py").write_text(
        "from pbl import Config\nfrom pbl.data import DATASETS, from_arrays\n\n\ndef mine():\n"
        "    return from_arrays([[1, 2], [3]][2], [0, 1], ['a', 'b'])\n\n\nDATASETS['mine'] = mine\nconfig = Config(dataset='mine')\n"
    )
    status, _, errors = command("check", "runs/mine/001", "--trust")
    assert status == 2 and errors.count("\n") == 1 and "experiment.py, line 6: " in errors and "index" in errors
    kept = Path(errors.strip().rpartition("The traceback: ")[2])
    assert "IndexError" in kept.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "files", "said"),
    [
        ((3, 10), [], "Python 3.10 is too old: pbl and TensorFlow need 3.11, 3.12 or 3.13."),
        ((3, 12), ["keras.py", "mine.py"], "keras.py in this folder hides Python's module keras"),
        ((3, 12), ["random.py"], "Give your file another name, such as my_random.py."),
        ((3, 12), ["mine.py"], None),
    ],
)
def test_what_keeps_it_from_starting_is_one_line(tmp_path, version, files, said):
    for name in files:
        (tmp_path / name).touch()
    found = find_obstacle(tmp_path, version)
    assert found is None if said is None else said in found and "\n" not in found


def test_a_missing_package_is_named(tmp_path):
    assert "too new" in say_missing("tensorflow", (3, 14)) and "-m pip install -r requirements.txt" in say_missing(
        "rich"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['typer'] = None; from pbl.__main__ import main; sys.exit(main())"],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PBL_LANGUAGE": "en"},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "The package typer is not installed" in done.stderr
    (tmp_path / "keras.py").write_text("raise SystemExit('wrong one')")
    done = run_process("models", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "keras.py in this folder hides" in done.stderr


def test_windows_says_the_language_where_no_variable_does(monkeypatch):
    for name in ("PBL_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert choose_language() == "en"
    monkeypatch.setattr(sys, "platform", "win32")
    for code, language in ((0x0411, "ja"), (0x0409, "en")):
        system = SimpleNamespace(kernel32=SimpleNamespace(GetUserDefaultUILanguage=lambda code=code: code))
        monkeypatch.setattr("ctypes.windll", system, raising=False)
        assert choose_language() == language and choose_language("en") == "en"


def test_labels_that_a_commit_would_publish_are_told(tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert find_exposing_work_tree(tmp_path / "holdout" / "photos") == tmp_path
    (tmp_path / ".gitignore").write_text("holdout/\n")
    assert find_exposing_work_tree(tmp_path / "holdout" / "photos") is None
    assert find_exposing_work_tree(tmp_path / "elsewhere") == tmp_path
    assert find_exposing_work_tree(ROOT / "holdout" / "photos") is None  # where `holdout` writes by default


def test_a_training_that_has_ended_is_not_given_again_since_it_cannot_be_shown(trained_run, monkeypatch, capsys):
    def fail(number):
        def read(run):
            raise OSError(number, os.strerror(number))

        return read

    monkeypatch.setattr("pbl.cli.training._describe_run", fail(errno.EIO))
    assert _show_run(trained_run) == 0
    said = capsys.readouterr().err
    assert said.startswith("The training has ended") and "Show it later: python -m pbl evaluate" in said
    monkeypatch.setattr("pbl.cli.training._describe_run", fail(errno.EACCES))
    with pytest.raises(PermissionError):
        _show_run(trained_run)
