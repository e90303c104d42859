"""Three runs from the package's first form (flat files, `made_by` as a sentence, no `task`) are opened as they were then.

`runs_of_the_first_form.zip` contains them, without pictures and `.keras` files, and the output of its commands; the third run was
paused after the first step.
"""

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import pbl
from pbl import Config, models, train
from pbl.evaluation.run import load_model
from pbl.models.keras_private import flatten_layers
from pbl.training.session import open_session

ARCHIVE = Path(__file__).parent / "runs_of_the_first_form.zip"
# Sentences that have been written more plainly since.
REWRITTEN = {
    "10.9 s a run": "10.9 s per run",
    "on which each run's best epoch was chosen: ": "and the best epoch of each run was chosen on them: ",
    "more so of what was tried more often": "more so for models that were tried more often",
    "might turn the order round": "might reverse the order",
    "One seed each: says something": "One seed each: this shows something",
}
RUN, OTHER = "runs/old_experiment/001", "runs/old_experiment/002"


@pytest.fixture
def said(tmp_path, monkeypatch):
    """The output of the first form, by command; the runs are in the current folder."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path)
    for run in (RUN, OTHER):
        (tmp_path / run / "figures").mkdir()
    monkeypatch.chdir(tmp_path)
    files = {"evaluate": "e", "diagnose": "d", "compare": "c", "log": "l"}
    return {name: json.loads(Path(f"said/{file}.json").read_text(encoding="utf-8")) for name, file in files.items()}


def as_before(ours, theirs) -> None:
    """Equal except for the last digits of numbers; for intervals, which were bootstrap ones; for the measured gain of an advice,
    which has been measured again; and for sentences, whose numbers are in `details`. New entries may be there too."""
    if isinstance(theirs, dict):
        for key in theirs.keys() - {"intervals", "gain", "sources", "message", "template"}:
            as_before(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            as_before(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    elif isinstance(theirs, str):
        for then, now in REWRITTEN.items():
            theirs = theirs.replace(then, now)
        assert ours == theirs
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
    status, out, err = command("evaluate", RUN, "--split", "test", "--json", "--trust")  # it has no mark of trust
    assert status == 0, err
    said["evaluate"]["test_uses"] += 1
    now = json.loads(out)
    as_before(now, said["evaluate"])
    for name, interval in said["evaluate"]["intervals"].items():
        assert now["intervals"][name] == pytest.approx(interval, abs=0.01 * (5 if name == "log_loss" else 1))
    Image.fromarray((load_digits().images[0] * (255 / 16)).round().astype(np.uint8)).save("zero.png")
    status, out, err = command("predict", RUN, "zero.png", "--json")
    assert status == 0 and json.loads(out)[0]["class"] == "0", err


@pytest.mark.slow
def test_its_paused_training_is_gone_on_with(said):
    settings = {"dataset": "digits", "model": "softmax_regression", "precision": "float32", "data_check": "report"}
    Path("unfinished/paused/001/figures").mkdir()
    assert json.loads(Path("unfinished/paused/001/environment.json").read_text(encoding="utf-8"))["status"] == "paused"
    run = pbl.train(Config(experiment="paused", epochs=2, **settings), folder="unfinished")
    assert run.name == "paused/001" and run.environment["status"] == "finished" and run.environment["resumed"]


@pytest.fixture
def old_mlp(said):
    """A run of `mlp(batch_norm=True)`, interrupted when it had Keras's momentum of .99 and no option for it: path and settings."""
    path, options = Path(RUN), {"batch_norm": True, "widths": [8]}
    config = Config(experiment="old_experiment", model="mlp", model_options=options, epochs=1)
    config._file = path / "experiment.py"
    config._file.write_text("from pbl import Config\n\nconfig = Config(model='mlp')\n")
    environment = json.loads((path / "environment.json").read_text())
    recorded = {"activation": "relu", "dropout": 0.0, "batch_norm": True, "l2": 0.0}  # what was written then
    environment |= {"builder_options": recorded, "status": "interrupted"}
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "config.json").write_text(json.dumps(config.model_dump(mode="json")))
    return path, config


def find_momenta(model: keras.Model) -> set[float]:
    return {layer.momentum for layer in flatten_layers(model) if isinstance(layer, keras.layers.BatchNormalization)}


def test_a_run_keeps_what_its_builder_did_before_it_was_an_option(old_mlp):
    """It is evaluated and resumed with the momentum that it started with; a new run with the same settings has .9."""
    path, config = old_mlp
    first = models.build("mlp", (8, 8, 1), 10, **config.model_options, batch_norm_momentum=0.99)
    first.save_weights(path / "best.weights.h5")
    again = load_model(path)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 1), np.uint8)
    np.testing.assert_array_equal(again.predict(images, verbose=0), first.predict(images, verbose=0))
    assert find_momenta(again) == {0.99}
    for fresh, expected in ((False, 0.99), (True, 0.9)):
        with open_session(config, "runs", fresh) as session:
            assert (session.run.path == path) == (not fresh)
            goes_on = models.build("mlp", (8, 8, 1), 10, **session.config.model_options)
        assert find_momenta(goes_on) == {expected}


@pytest.mark.nightly
def test_a_training_that_goes_on_keeps_it_too(old_mlp):
    path, config = old_mlp
    for name in ("split.json", "data_check.json"):  # belongs to other data: it starts again in the same folder
        (path / name).unlink()
    run = train(config, folder="runs")
    assert run.path == path and find_momenta(keras.models.load_model(path / "final.keras")) == {0.99}
    assert run.config.model_options == config.model_options
    assert run.environment["builder_options"]["batch_norm_momentum"] == 0.99
    anew = train(config, folder="runs", fresh=True)
    assert anew.path != path and find_momenta(load_model(anew)) == {0.9}
