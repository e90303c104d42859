"""Three runs that the package's first form made (files flat, `made_by` as a sentence, no `task`) are opened as they were then.

`runs_of_the_first_form.zip` holds them, without pictures and `.keras` files, and what its commands said of them; the third was
paused after the first step.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import pbl
from pbl import Config

ARCHIVE = Path(__file__).parent / "runs_of_the_first_form.zip"
RUN, OTHER = "runs/old_experiment/001", "runs/old_experiment/002"


@pytest.fixture
def said(tmp_path, monkeypatch):
    """What the first form said, by command; the runs are in the current folder."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    for run in (RUN, OTHER):
        (tmp_path / run / "figures").mkdir()
    monkeypatch.chdir(tmp_path)
    files = {"evaluate": "e", "diagnose": "d", "compare": "c", "log": "l"}
    return {name: json.loads(Path(f"said/{file}.json").read_text(encoding="utf-8")) for name, file in files.items()}


def as_before(ours, theirs) -> None:
    """Equal but for the last digits of numbers; what is new may stand beside."""
    if isinstance(theirs, dict):
        for key in theirs:
            as_before(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            as_before(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    else:
        assert ours == theirs


def test_what_reads_files_says_the_same(said, command):
    for words in (["diagnose", RUN], ["compare", RUN, OTHER], ["log"]):
        status, out, err = command(*words, "--json")
        assert status == 0, err
        as_before(json.loads(out), said[words[0]])
    status, _, err = command("report", RUN)
    page = Path(RUN, "report.html").read_text(encoding="utf-8")
    assert status == 0 and "15% of the images that are not test, chosen by their content" in page, err
    assert command("report", "--team", "--language", "ja")[0] == 0


def test_its_model_is_built_and_judged(said, command, tmp_path):
    status, out, err = command("evaluate", RUN, "--split", "test", "--json")
    assert status == 0, err
    said["evaluate"]["test_uses"] += 1
    as_before(json.loads(out), said["evaluate"])
    Image.fromarray((load_digits().images[0] * (255 / 16)).round().astype(np.uint8)).save("zero.png")
    status, out, err = command("predict", RUN, "zero.png", "--json")
    assert status == 0 and json.loads(out)[0]["class"] == "0", err


def test_its_paused_training_is_gone_on_with(said):
    settings = {"dataset": "digits", "model": "softmax_regression", "precision": "float32", "data_check": "report"}
    Path("unfinished/paused/001/figures").mkdir()
    assert json.loads(Path("unfinished/paused/001/environment.json").read_text(encoding="utf-8"))["status"] == "paused"
    run = pbl.train(Config(experiment="paused", epochs=2, **settings), folder="unfinished")
    assert run.name == "paused/001" and run.environment["status"] == "finished" and run.environment["resumed"]
