"""Whose code is executed: the user is asked once about a run from somebody else; hostile names do nothing where they are shown."""

import csv
import json
import re
import shutil
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pbl.comparison import compare, find_runs, write_results
from pbl.config import Config
from pbl.data.paths import read_name, write_name
from pbl.errors import InputError
from pbl.runs import Run, start_run
from pbl.storage import trust
from pbl.storage.escapes import for_csv, for_markdown, for_screen, for_shell
from pbl.storage.writing import write_table

pytestmark = pytest.mark.slow  # little of it depends on versions

ROOT = Path(__file__).resolve().parent.parent
ARCHIVE = ROOT / "tests" / "runs_of_the_first_form.zip"
RUN = "runs/old_experiment/001"


def read_table(name: str, executes: str) -> dict[str, bool]:
    """The table of a README: each command, and whether it executes a run's code."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("| ") and "`experiment.py`" in line)
    rows = [line.strip("| ").split(" | ") for line in lines[at + 2 :][: lines[at:].index("") - 2]]
    return {word: said.strip() == executes for commands, said in rows for word in re.findall("`([^`]+)`", commands)}


COMMANDS = {
    "evaluate": ["evaluate", RUN],
    "predict": ["predict", RUN, "zero.png"],
    "inspect": ["inspect", RUN, "zero.png"],
    "generate": ["generate", RUN],
    "search": ["search", RUN, "zero.png", "--in", "."],
    "export": ["export", RUN, "--format", "keras"],
    "demo": ["demo", RUN],
    "submit": ["submit", RUN, "--team", "A"],
    "train RUN": ["train", RUN, "--dry-run"],
    "find-rate RUN": ["find-rate", RUN],
    "check RUN": ["check", RUN],
    "compare --measure": ["compare", RUN, "--measure"],
    "compare --split test": ["compare", RUN, "--split", "test"],
    "compare": ["compare", RUN],
    "log": ["log"],
    "report": ["report", RUN],
    "diagnose": ["diagnose", RUN],
}


@pytest.fixture
def strangers_run(tmp_path, monkeypatch):
    """A run whose experiment.py leaves a file when it is executed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.delenv("PBL_RUNS", raising=False)
    monkeypatch.setattr(trust, "_said_yes", set())
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.startswith(RUN)])
    Path(RUN, "experiment.py").write_text("open('executed', 'w').close()\nraise ValueError('and that is all')\n")
    Path(RUN, "predictions_test.npz").unlink(missing_ok=True)
    for name in ("zero.png", "one.png"):
        Image.new("L", (8, 8)).save(name)
    return tmp_path / RUN


def test_the_table_of_who_executes_code_is_true(strangers_run, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", types.ModuleType("gradio"))  # no page is made, installed or not
    table = read_table("experiments/README.md", "yes")
    assert table == read_table("experiments/README.ja.md", "する") and set(table) == set(COMMANDS)
    settings = json.loads(Path(RUN, "config.json").read_text())

    def call(name: str, *more: str) -> tuple[int, str, str]:
        task = (
            {"task": {"generate": "generation", "search": "contrast"}[name]} if name in ("generate", "search") else {}
        )
        Path(RUN, "config.json").write_text(json.dumps({**settings, **task}))
        return command(*COMMANDS[name], *more)

    for name, executes in table.items():
        status, _, err = call(name)
        assert not Path("executed").exists(), name
        if executes:
            assert status == 2 and "--trust" in err.splitlines()[-1], (name, err)
        else:
            assert "--trust" not in err, (name, err)
    for name, executes in table.items():
        if executes:
            status, _, err = call(name, "--trust")
            assert status == 2 and "and that is all" in err and Path("executed").exists(), (name, err)
            Path("executed").unlink()
            shutil.rmtree("settings"), trust._said_yes.clear()
    call("log")
    for name, executes in table.items():
        if executes:
            status, _, err = call(name, "--no-code")
            # The run's model is its own, which only `check` does without.
            assert status == (0 if name == "check RUN" else 2) and not Path("executed").exists(), name
            assert "--no-code" not in err, (name, err)


def test_what_one_trained_is_not_asked_about(tmp_path, monkeypatch):
    """On this machine; and if PBL_RUNS names the folder, such as a Drive, also on the next day's machine."""
    file = tmp_path / "mine.py"
    file.write_text("from pbl import Config, MODELS\nMODELS['mine'] = len\nconfig = Config(model='mine')\n")
    config = Config(experiment="mine")
    config._file = file
    monkeypatch.setattr(trust, "_said_yes", set())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "monday"))
    local = start_run(config, tmp_path / "here")
    monkeypatch.setenv("PBL_RUNS", str(tmp_path / "drive"))
    on_drive = start_run(config)
    assert (tmp_path / "drive" / ".pbl-key").stat().st_mode & 0o777 == 0o600
    for run in (local, on_drive):
        run.check_code()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "tuesday"))
    on_drive.check_code()
    with pytest.raises(InputError, match="--trust"):
        local.check_code()
    monkeypatch.delenv("PBL_RUNS")
    with pytest.raises(InputError, match="--trust"):  # a key that came with the runs counts for nothing
        on_drive.check_code()
    trust.trust_run(local.path)
    trust._said_yes.clear()
    on_drive.check_code()  # the same code
    (local.path / "experiment.py").write_text(file.read_text() + "\n")
    with pytest.raises(InputError, match="--trust"):
        Run(local.path).check_code()


@pytest.mark.parametrize(
    ("code", "plain"),
    [
        ("from pbl import Config\nconfig = Config(epochs=3, model_options={'widths': [64, 32]})\n", True),
        ("'''text'''\nfrom pbl import Config\n\nconfig = Config()\n", True),
        ("from pbl import Config as C\nconfig = C()", False),
        ("from pbl import *\nconfig = Config()", False),
        ("from pbl import Config\nconfig = Config(epochs=len('x'))", False),
        ("from pbl import Config\nconfig = Config(**{'epochs': 1})", False),
        ("from pbl import Config\nconfig = Config(epochs=[x for x in (1,)][0])", False),
        ("import os\nfrom pbl import Config\nconfig = Config()", False),
        ("from pbl import Config\nConfig = print\nconfig = Config()", False),
        ("(", False),
    ],
)
def test_settings_alone_are_no_code(code, plain):
    assert trust.is_plain(code.encode()) is plain


HOSTILE = ["\x1b[31mred", "a\nb", "=1+cmd|' /C calc'!A0", "＝1", "<script>", "a|b", "[x](javascript:1)", "\x9b1m", "\u202ecba", "$(rm x)", "my run", '"a', "-1"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_is_and_does_nothing(tmp_path, name):
    assert re.fullmatch(r"[ -~\u3000-\uffee]*", for_screen(name))
    assert "\n" not in for_markdown(name) and not re.search(r"(?<!\\)[|<$]|(?<!\\)\]\(", for_markdown(name))
    assert for_csv(name)[0] not in "=+-@＝" and for_csv(1.5) == 1.5
    assert for_shell(name)[0] in "'."
    assert "\n" not in write_name(name) and read_name(write_name(name)) == name
    write_table(tmp_path / "x.csv", pd.DataFrame({name: [name, None], "n": [0.1, -2.0]}))
    rows = list(csv.reader((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines(keepends=True)))
    assert rows == [[for_csv(name), "n"], [for_csv(name), "0.1"], ["", "-2.0"]]


def test_hostile_names_through_commands(tmp_path, write_run, command, monkeypatch):
    """Names of classes and folders, and reasons: no command sends an escape to the terminal, or writes a formula or an extra column."""
    monkeypatch.chdir(tmp_path)
    correct = np.arange(200) % 3 > 0
    names = ["\x1b[31mcat|=1", "=dog<b>"]
    write_run("runs/=x<b> y/001", correct, class_names=names)
    write_run("runs/=x<b> y/002", None, status="failed", reason="\x1b]0;title\x07=1+1|<b>")
    run, failed = ("runs/=x<b> y/001", "runs/=x<b> y/002")
    for words in (
        ["compare", run, failed],
        ["compare", run, "--json"],
        ["log", "--csv", "log.csv"],
        ["log", "--json"],
        ["report", run],
        ["report", "--team"],
        ["diagnose", run],
        ["evaluate", run, "--split", "nothing"],
        ["predict", run, "\x1b[1m.png"],
    ):
        _, out, err = command(*words)
        shown = out + err
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown), (words, shown)
        if "--json" in words:
            assert json.loads(out), err
    for file in ("comparison/results.csv", "log.csv"):
        cells = [cell for row in csv.reader(Path(file).read_text(encoding="utf-8-sig").splitlines()) for cell in row]
        assert not any(cell.startswith(("=", "+", "@")) for cell in cells), file
    assert not re.search(r"(?<!\\)<b>|\x1b", Path("comparison/results.md").read_text(encoding="utf-8"))
    page = Path(run, "report.html").read_text(encoding="utf-8")
    assert "\x1b" not in page and "<b>" not in page
    assert compare(find_runs([run])).runs.shape[0] == 1 and write_results(compare(find_runs([run])), tmp_path / "c")
