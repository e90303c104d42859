"""A slip in a student's own code is reported in one line, and its traceback is kept; a bug of the package keeps its traceback."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from slips import BACK, HEAD, OWN, SLIPS, callback, compiled, network, subclass

import pbl
from pbl.errors import InputError
from pbl.models.slips import FILE, OwnCodeError, find_place, is_own, tell_slips
from pbl.tasks.classification import check_outputs

# Slips that appear when the model is built, so that no training is needed.
BUILT = [name for name, (_, settings, _) in SLIPS.items() if settings == OWN and "mine" in SLIPS[name][0]]
LATE = "uint8_into_batch_normalisation layer_made_in_call python_if_on_a_tensor numpy_in_call keras_2_train_step test_step_that_fails".split()
BUILT = [name for name in BUILT if name not in LATE and "model.compile" not in SLIPS[name][0]]
# One of each kind in every run of the tests.
QUICK = "python_if_on_a_tensor one_hot_loss_of_numbers from_logits_after_softmax rate_set_on_schedule monitor_not_there_max callback_without_logs log_not_there csv_into_no_folder".split()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes an experiment file with a slip into the current folder."""
    monkeypatch.chdir(tmp_path)

    def write_file(body: str, settings: str) -> str:
        Path("mine.py").write_text(HEAD + body + f'config = Config(dataset="digits", epochs=2, {settings})\n')
        return "mine.py"

    return write_file


def check_line(said: str, wanted: str) -> None:
    """One line with these words; if own code or Keras raised it, with a line of the file and a traceback that exists."""
    assert said.count("\n") <= 1 and wanted in said, said
    if place := re.match(r"(?:pbl: )?mine\.py, line (\d+): ", said):
        source = Path("mine.py").read_text().splitlines()
        assert len(HEAD.splitlines()) < int(place[1]) < len(source), said
        kept = Path(said.strip().rpartition("The traceback: ")[2])
        assert kept.name == FILE and "Traceback (most recent call last)" in kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BUILT)
def test_a_slip_in_a_model(write, tmp_path, name):
    body, settings, wanted = SLIPS[name]
    config = pbl.load_experiment(write(body, settings))
    with pytest.raises(InputError) as error, tell_slips(tmp_path / "kept", pbl.MODELS["mine"]):
        model = pbl.models.build(config.model, (8, 8, 1), 10)
        check_outputs(model, pbl.load_data("digits").images("val").view[:2], 10)
    check_line(str(error.value), wanted)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in SLIPS if name not in BUILT],
)
def test_a_slip_is_found_by_a_dry_run(write, command, name):
    """In a loss, a training step or a callback: exit status 2, and nothing kept but the traceback."""
    body, settings, wanted = SLIPS[name]
    status, _, said = command("train", "--dry-run", write(body, settings))
    assert status == 2, said
    check_line(said.splitlines()[-1], wanted)
    assert [path for path in Path("runs").rglob("*") if path.is_file()] in ([], [Path("runs/mine") / FILE])


def test_a_slip_in_a_training_leaves_its_traceback_in_the_run(write, command):
    """The run says how it ended; when it is resumed, the old traceback is removed."""
    broken = callback("def on_epoch_end(self, epoch, logs=None):\n    if epoch == 1:\n        print(logs['val_acc'])")
    status, said, error = command("train", write(broken, BACK))
    assert status == 2 and "Epoch 1" in said
    check_line(error, "mine.py, line 12: nothing is logged under 'val_acc'")
    run = pbl.load_run("runs/mine/001")
    assert "KeyError: 'val_acc'" in (run.path / FILE).read_text(encoding="utf-8")
    environment = run.environment
    assert environment["status"] == "failed" and "mine.py, line 12: nothing is logged" in environment["reason"]


def test_it_is_one_line_in_a_notebook_and_in_japanese(write, monkeypatch):
    config = pbl.load_experiment(write(*SLIPS["log_not_there"][:2]))
    with pytest.raises(OwnCodeError) as error:
        pbl.train(config)
    assert isinstance(error.value.__cause__, KeyError)
    (shown,) = error.value._render_traceback_()
    assert shown == f"pbl: {error.value}" and "\n" not in shown
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    (shown,) = error.value._render_traceback_()
    assert "mine.py の 11 行目：'val_acc' という値は記録されていません" in shown and "トレースバック：" in shown


def test_a_run_with_a_slip_that_shows_later_is_still_told_in_one_line(write, command):
    """`evaluate`, `predict` and `inspect` run own code too."""
    works = subclass("return self.out(self.flat(self.scale(x)))")
    assert command("train", write(works, f'{OWN}, experiment="x"'))[0] == 0
    kept = Path("runs/x/001/experiment.py")
    kept.write_text(kept.read_text().replace("self.flat(self.scale(x))", "self.flatt(self.scale(x))"))
    for words in (
        ["evaluate", "runs/x/001", "--trust"],
        ["inspect", "runs/x/001"],
    ):  # the file was changed after the training
        status, _, said = command(*words)
        assert status == 2 and said.count("\n") == 1, said
        assert "experiment.py, line 15: AttributeError: 'Mine' object has no attribute 'flatt'" in said
        assert Path("runs/x/001", FILE).exists()


@pytest.mark.parametrize("command_line", [["train"], ["train", "--dry-run"]])
def test_a_bug_of_ours_keeps_its_traceback_beside_own_code(write, command, monkeypatch, command_line):
    file = write(network("x = layers.Flatten()(images)"), OWN)
    monkeypatch.setattr("pbl.training.callbacks.pd", None)  # the file that writes history.csv finds no pandas
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'DataFrame'"):
        command(*command_line, file)


def test_whose_code_it_is():
    assert is_own(__file__) and is_own("/tmp/ipykernel_12/34.py") and is_own("<ipython-input-3>")
    assert not any(map(is_own, (pbl.__file__, keras.__file__, functools.__file__, "<frozen importlib._bootstrap>")))
    assert find_place(callback) == (callback.__code__.co_filename, callback.__code__.co_firstlineno)
    assert find_place(pbl.models.mlp) is None and find_place(functools.partial(compiled)).line > 1
    # If no traceback can be kept, the line does not mention one.
    with pytest.raises(OwnCodeError) as error, tell_slips(Path("/proc/nowhere")):
        exec(compile("\n1 / 0", "/tmp/ipykernel_12/34.py", "exec"))
    assert str(error.value) == "a cell of the notebook, line 2: ZeroDivisionError: division by zero."


UNBUILT = {
    "sequential": "MODELS['mine'] = lambda input_shape, num_classes: keras.Sequential([layers.Rescaling(1 / 255), layers.Conv2D(8, 3), layers.GlobalMaxPooling2D(), layers.Dense(num_classes, activation='softmax')])\n",
    "subclass": subclass(
        "return self.out(self.pool(self.conv(self.scale(x))))",
        "self.conv, self.pool = layers.Conv2D(8, 3), layers.GlobalMaxPooling2D()",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNBUILT)
def test_a_model_that_is_not_built_when_it_is_returned(write, tmp_path, kind):
    """Keras builds it in the first `fit`; into a model without weights it would read nothing, without an error."""
    pbl.load_experiment(write(UNBUILT[kind], OWN))
    keras.utils.set_random_seed(1)
    one = pbl.models.build("mine", (8, 8, 1), 10)
    assert pbl.models.count_trainable_weights(one) == 9 * 8 + 8 + 8 * 10 + 10
    assert pbl.models.count_macs(one, (8, 8, 1)) == 6 * 6 * 9 * 8 + 8 * 10
    one.save_weights(tmp_path / "one.weights.h5")
    other = pbl.models.build("mine", (8, 8, 1), 10)
    other.load_weights(tmp_path / "one.weights.h5")
    for weight, given in zip(other.weights, one.weights, strict=True):
        np.testing.assert_array_equal(weight, given)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param("sequential", marks=pytest.mark.nightly), "subclass"])
def test_a_model_that_is_not_built_goes_through_all_commands(write, command, kind):
    file = write(UNBUILT[kind], f'{OWN}, experiment="x"')
    assert command("train", file)[0] == 0
    run = pbl.load_run("runs/x/001")
    history, judged = pd.read_csv(run.path / "history.csv"), run.read_json("metrics_val.json")
    assert judged["log_loss"] == pytest.approx(history["val_loss"].min(), abs=2e-3)
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save("one.png")
    for words in (["evaluate", run.path], ["predict", run.path, "one.png"], ["inspect", run.path], ["submit", run.path, "--team", "a"]):  # fmt: skip
        status, _, said = command(*words)
        assert status == 0, (words, said)
    assert command("train", file, f"initial_weights={run.path}", "epochs=1")[0] == 0


@pytest.mark.nightly
def test_a_processor_without_the_gradient_of_groups(write):
    """TensorFlow has it only with oneDNN; without it, training and Grad-CAM would end in a traceback."""
    file = write(
        network("x = layers.Conv2D(8, 3, groups=2)(layers.Conv2D(4, 3)(images))\nx = layers.Flatten()(x)"), OWN
    )
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "PYTHONPATH": str(Path(pbl.__file__).parent.parent)}
    words = [sys.executable, "-m", "pbl", "train", "--dry-run", file]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    if done.returncode == 0:
        pytest.skip("on this processor TensorFlow has the gradient without oneDNN too")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "no gradient of grouped convolutions unless oneDNN is on" in done.stderr


def test_early_stopping_of_a_model_that_is_not_validated(write, command):
    """Keras warns after each epoch, and never stops."""
    body = (Path(__file__).parent / "own_models.py").read_text(encoding="utf-8")
    file = write(body, 'task="own", model="gan", callbacks=["early_stopping"]')
    status, _, said = command("train", "--dry-run", file)
    assert status == 2 and said.count("\n") == 1
    assert "nothing is logged under 'val_loss', so the callback would do nothing. Logged are: d_loss, g_loss" in said
