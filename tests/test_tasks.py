"""Other kinds of learning: a model with its own loss or step, through a complete run."""

import json
import os
import signal
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from test_checkpoint import Cut, PowerCut

import pbl
from pbl.callbacks import CALLBACKS
from pbl.errors import InputError
from pbl.tasks import TASKS, find_task

FILE = Path(__file__).parent / "own_models.py"
OWN = ("autoencoder", "gan", "contrastive")


@pytest.fixture(autouse=True)
def own_callback():
    CALLBACKS["cut"] = Cut


def own_config(model: str, **values) -> "pbl.Config":
    return pbl.load_experiment(FILE).replace(model=model, callbacks=["cut"], **values)


def outcome(run: "pbl.runs.Run") -> list[np.ndarray]:
    history = pd.read_csv(run.path / "history.csv").drop(columns=["seconds"])
    return [*pbl.load_model(run).get_weights(), history.to_numpy()]


@pytest.mark.slow
@pytest.mark.parametrize("model", [pytest.param(name, marks=[pytest.mark.nightly] * (name != "gan")) for name in OWN])
def test_a_model_of_its_own_step_is_resumed_to_the_bit(tmp_path, model, command):
    """Interrupted within an epoch, with both optimizers and the random states; then every command opens the run."""
    whole = pbl.train(own_config(model), folder=tmp_path / "whole")
    Cut.at = ("step", 1, 5)
    with pytest.raises(PowerCut):
        pbl.train(own_config(model), folder=tmp_path)
    run = pbl.train(own_config(model), folder=tmp_path)
    assert run.environment["resumed"][0]["step"] == 4 and run.environment["status"] == "finished"
    for one, other in zip(outcome(run), outcome(whole), strict=True):
        np.testing.assert_array_equal(one, other)
    losses = {"d_loss", "g_loss"} if model == "gan" else {"loss", "val_loss"}
    assert losses <= set(pd.read_csv(run.path / "history.csv"))

    status, out, _ = command("evaluate", run.path, "--json")
    found = json.loads(out)
    assert status == 0 and found["images"] == 189 and found["headline"] == (None if model == "gan" else "loss")
    if model != "gan":
        assert found["metrics"]["loss"] < pd.read_csv(run.path / "history.csv")["val_loss"][0]
        assert command("evaluate", run.path, "--require", "loss<1000")[0] == 0
    assert command("evaluate", run.path)[0] == 0
    assert command("report", run.path)[0] == command("log", tmp_path)[0] == 0
    page, kept = (run.path / "report.html").read_text(encoding="utf-8"), run.read_json("metrics_val.json")["metrics"]
    assert "own" in page and (model == "gan" or f"{kept['loss']:.4f}" in page)
    Path(tmp_path / "x.png").write_bytes(b"")
    for words in (["predict", run.path, "x.png"], ["diagnose", run.path], ["submit", run.path, "--team", "x"], ["compare", run.path]):  # fmt: skip
        status, _, err = command(*words)
        assert status == 2 and "task=own" in err and err.count("\n") == 1, (words, err)
    status, out, err = command("inspect", run.path)
    assert status == 1 and "filters.png is left out" in out + err and "Traceback" not in err, (out, err)


def test_two_optimizers_of_its_own_and_a_short_training(tmp_path):
    """Its first state is kept at the end, when Keras's own optimizer, which nothing trains with, is built."""
    run = pbl.train(own_config("gan", checkpoint_minutes=5, epochs=1), folder=tmp_path)
    assert run.environment["status"] == "finished" and pbl.load_model(run).count_params() > 0


def test_what_is_best_comes_from_the_task(tmp_path):
    """A quantity for which more is better: the best model, early stopping and the log use it."""

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(10)

        def call(self, images):
            return self.head(keras.ops.reshape(keras.ops.cast(images, "float32"), (-1, 64)) / 255)

    def build(input_shape, num_classes):
        model = Classifier()
        model.build((None, *input_shape))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
        return model

    pbl.MODELS["logits"] = build
    options = {"monitor": "val_accuracy", "mode": "max"}
    config = pbl.Config(task="own", task_options=options, model="logits", experiment="x", epochs=4)
    run = pbl.train(config, folder=tmp_path)
    history = pd.read_csv(run.path / "history.csv")
    assert run.environment["best_epoch"] == 1 + history["val_accuracy"].argmax()
    metrics = run.read_json("metrics_val.json")
    assert metrics["headline"] == "accuracy" and metrics["better"] == "higher"
    assert metrics["metrics"]["accuracy"] == pytest.approx(history["val_accuracy"].max(), abs=1e-6)
    stop = pbl.training.build_callback("early_stopping", find_task(config).best)
    assert (stop.monitor, stop.mode) == ("val_accuracy", "max")

    with pytest.raises(InputError, match=r"chosen by val_speed, which is not logged. Logged are: .*val_accuracy"):
        pbl.train(config.replace(task_options={"monitor": "val_speed"}), folder=tmp_path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"task": "classificaton"}, "Did you mean 'classification'"),
        ({"task": "own", "task_options": {"monitr": "x"}}, "Did you mean 'monitor'"),
        ({"task_options": {"monitor": "x"}}, "has no option 'monitor'. It has no options."),
        ({"task": "own", "task_options": {"mode": "up"}}, "Valid: min, max"),
        ({"task": "own", "model": "mlp"}, "task=own: mlp has no loss"),
        ({"model": "gan"}, "gan has no call.*task=own"),
    ],
    ids=str,
)
def test_wrong_tasks_are_told_in_one_line(tmp_path, values, said):
    pbl.load_experiment(FILE)
    with pytest.raises(InputError, match=said):
        pbl.train(pbl.Config(**{"experiment": "x", "epochs": 1, **values}), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_appear_in_the_step_are_told_at_once(tmp_path):
    """Keras reads nothing into a layer that is not built: the saved model would have random weights there."""

    class Late(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder = keras.layers.Dense(16)
            self.head = keras.layers.Dense(10, name="head")
            self.encoder.build((None, 64))
            self.built = True

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            logits = self.head(self.encoder(keras.ops.reshape(keras.ops.cast(x, "float32"), (-1, 64)) / 255))
            return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True))

        def call(self, images):
            return images

    pbl.MODELS["late"] = lambda input_shape, num_classes: Late()
    with pytest.raises(InputError, match="late creates weights of head only in its training step"):
        pbl.train(pbl.Config(task="own", model="late", experiment="x", epochs=1), folder=tmp_path)


def test_a_student_adds_a_task(tmp_path):
    judge = TASKS["own"].judge
    TASKS["mine"] = TASKS["own"]._replace(judge=lambda *words: judge(*words)._replace(metrics={"images": 1, "headline": "x", "better": "lower", "metrics": {"x": 3.0}}))  # fmt: skip
    run = pbl.train(own_config("autoencoder", task="mine", epochs=1), folder=tmp_path)
    assert run.read_json("metrics_val.json")["metrics"] == {"x": 3.0}


@pytest.mark.slow
def test_killed_for_real(tmp_path):
    """kill -9 in the second epoch of the GAN, in a separate process; the same training resumes in another, and ends like an uninterrupted one."""
    import subprocess
    import sys

    words = [sys.executable, "-m", "pbl", "train", str(FILE), "model=gan", "--runs", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(pbl.__file__).parent.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("Epoch 2/3"):
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    killed, whole = (
        pbl.train(pbl.load_experiment(FILE, ["model=gan"]), folder=folder) for folder in (tmp_path, tmp_path / "whole")
    )
    assert killed.name == "own_models/001" and "resumed" in killed.environment
    for one, other in zip(outcome(killed), outcome(whole), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_of_several_that_is_not_finite_is_seen():
    from pbl.training.divergence import is_finite

    assert is_finite({"loss": 0.0, "d_loss": 1.0, "val_loss": np.nan, "probe_loss": np.inf, "accuracy": np.nan})
    assert not is_finite({"loss": 0.0, "d_loss": np.nan}) and not is_finite({"loss": np.inf})


def test_a_run_that_was_not_evaluated_yet_is_judged_by_defaults(tmp_path):
    """After Ctrl-C there is no `metrics_val.json`; a disk that fails is another matter: it may say what the default does not."""
    from pbl.tasks.task import read_validation

    assert read_validation(None) == read_validation(tmp_path) == {}
    (tmp_path / "metrics_val.json").write_text("{")
    assert read_validation(tmp_path) == {}
