"""Short trials before a training, and sweeps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import pbl
from pbl.errors import InputError
from pbl.training import sweep, trials
from pbl.training.build import build_and_compile

pytestmark = pytest.mark.slow

SGD = {"model": "mlp", "optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "learning_rate": 0.03}


def prepared(**settings) -> tuple[keras.Model, "pbl.data.Data"]:
    config = pbl.Config(**{**SGD, **settings})
    data = pbl.evaluation.open_data(config)
    return build_and_compile(config, data)[0], data


@pytest.mark.nightly
def test_the_suggested_learning_rate_learns_and_the_model_stays(tmp_path):
    model, data = prepared(model_options={"dropout": 0.2})
    before = model.get_weights()
    trial = trials.find_learning_rate(model, data)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert float(model.optimizer.learning_rate) == np.float32(0.03)
    assert trial.suggestion == trials.find_learning_rate(model, data).suggestion  # it has a fixed seed
    table = trial.table
    assert table["learning_rate"].iloc[0] == 1e-4 and table["learning_rate"].is_monotonic_increasing
    lowest = table["learning_rate"][table["smoothed"].idxmin()]
    assert trial.suggestion == pytest.approx(lowest / 10, rel=0.05)
    # The loss of a single batch, not the mean since the beginning.
    assert table["loss"].iloc[0] == pytest.approx(-np.log(0.1), rel=0.3)
    run = pbl.train(
        pbl.Config(**{**SGD, "learning_rate": trial.suggestion}, experiment="x", epochs=10), folder=tmp_path
    )
    assert run.read_json("metrics_val.json")["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("losses", "suggestion", "said"),
    [
        (np.linspace(2.3, 0.5, 60), 10.0, "try higher rates"),
        (np.r_[np.linspace(2.3, 0.5, 40), np.linspace(0.5, 9, 20)], None, ""),
        (2.3 + 0.1 * np.sin(np.arange(60)), None, "does not fall at any rate"),
        (np.r_[2.3, [np.nan] * 59], None, "not a finite number almost from the start"),
    ],
    ids=["falls to the end", "falls and rises", "flat", "nan"],
)
def test_what_a_curve_says(losses, suggestion, said):
    rates = np.geomspace(1e-4, 100, 60)
    table = pd.DataFrame({"learning_rate": rates, "loss": losses, "smoothed": trials._smooth(losses)})
    rate, remark = trials._suggest(table, 60)
    if suggestion is None and not said:
        suggestion = rates[table["smoothed"].idxmin()] / 10
    assert rate == (suggestion and pytest.approx(suggestion, rel=0.05)) and said in remark


def test_a_model_that_cannot_be_copied_or_is_not_compiled(monkeypatch):
    model, data = prepared()
    with pytest.raises(InputError, match="the first must be above 0 and below the last"):
        trials.find_learning_rate(model, data, lowest=1, highest=0.1)
    with pytest.raises(InputError, match="takes a compiled model"):
        trials.find_learning_rate(pbl.models.mlp((8, 8, 1), 10), data)

    class Mine(keras.Model):
        def __init__(self, width):
            super().__init__()
            self.dense = keras.layers.Dense(width, activation="softmax")

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 64)))

    mine = Mine(10)
    mine(np.zeros((1, 8, 8, 1)))
    mine.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(InputError, match="cannot be copied"):
        trials.find_learning_rate(mine, data)


@pytest.mark.parametrize(
    ("settings", "can"),
    [
        # Everything that hinders memorising is switched off.
        ({"model_options": {"dropout": 0.9, "l2": 1.0}, "weight_decay": 0.5, "augmentation": {"cutout": 6}}, True),
        ({"model": "resnet20", "model_options": {"stochastic_depth": 0.9}, "warmup_epochs": 29}, True),
        ({"learning_rate": 1e-7}, False),
        ({"model_options": {"widths": [1]}}, False),
    ],
    ids=["hindered", "stochastic depth", "too slow", "too narrow"],
)
def test_memorise(settings, can):
    accuracy, steps, count = trials.memorise(pbl.Config(**{**SGD, **settings}))
    assert (accuracy >= trials.MEMORISED) == can and steps <= 300 and count == 32


def test_memorise_needs_the_accuracy(monkeypatch):
    def mine(input_shape, num_classes):
        model = pbl.models.mlp(input_shape, num_classes, widths=[8])
        model.compile(
            "sgd", "sparse_categorical_crossentropy", metrics=[keras.metrics.SparseTopKCategoricalAccuracy(3)]
        )
        return model

    monkeypatch.setitem(pbl.models.MODELS, "mine", mine)
    with pytest.raises(
        InputError, match=r"memorise needs accuracy among the metrics.*: loss, sparse_top_k_categorical_accuracy"
    ):
        trials.memorise(pbl.Config(model="mine"))


def test_trials_on_the_command_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = command(
        "train", "--dry-run", "model=mlp", "epochs=50", "callbacks=early_stopping", "warmup_epochs=3"
    )
    assert status == 0 and "The whole pipeline runs: mlp on digits." in out and not list(tmp_path.iterdir())
    status, out, _ = command("train", "--memorise", "20", "model=mlp", "learning_rate=0.05")
    assert status == 0 and "has memorised 20 images" in out
    status, out, _ = command("train", "--memorise", "20", "model=mlp", "learning_rate=1e-9")
    assert status == 1 and "but it should classify all" in out
    for name in ("rate.xyz", "nowhere/rate.png"):
        status, _, errors = command("find-rate", "--output", name)
        assert status == 2 and "give a file in a folder that exists" in errors
    status, out, _ = command("find-rate", "model=mlp", "--output", "rate.png", "--json")
    assert status == 0 and json.loads(out.splitlines()[-1])["suggestion"] > 1e-3
    assert [file.name for file in tmp_path.iterdir()] == ["rate.png"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "learning_rate=0.1,0.01 weight_decay=0,5e-4",
            {"learning_rate": ["0.1", "0.01"], "weight_decay": ["0", "5e-4"]},
        ),
        (
            "model_options.widths=[64],[64,32] model=mlp",
            {"model_options.widths": ["[64]", "[64,32]"], "model": ["mlp"]},
        ),
        ("image_size=(8,8),16", {"image_size": ["(8,8)", "16"]}),
    ],
)
def test_sweeps_are_read(text, expected):
    assert sweep.parse_sweep(text) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep", "learning_rate"], "is not of the form key=value,value"),
        (["--sweep", "epochs=1,"], "is not of the form key=value,value"),
        (["--sweep", "epochs=1,1"], "is given twice"),
        (["--sweep", " "], "names no setting"),
        (["--sweep", "learing_rate=1,2"], "Did you mean 'learning_rate'?"),
        (["--sweep", "epochs=1,0"], "epochs=0: input should be greater than or equal to 1"),
        (["--sweep", "seed=1,2", "--seeds", "2"], "The seeds are given twice"),
        (["--sweep", ""], "names no setting"),
        (["--sweep", "learning_rate=0.1,0.10"], "is given twice"),
        (["--seeds", "2", "--dry-run"], "Give one of --sweep"),
        (["--memorise", "8", "--dry-run"], "Give one of --sweep"),
        (
            ["--dry-run", "epochs=3", "warmup_epochs=5", "learning_rate_schedule=cosine"],
            "leaves no epoch at the full rate",
        ),
        (["--dry-run", "callbacks=reduce_on_plateau"], "ReduceLROnPlateau sets the learning rate itself"),
    ],
)
def test_wrong_sweeps_begin_nothing(command, tmp_path, words, said):
    status, _, errors = command("train", *words, "--runs", tmp_path)
    assert status == 2 and said in errors and errors.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_a_sweep_keeps_what_fails_and_trains_nothing_twice(command, tmp_path):
    words = [
        "train", "model=mlp", "epochs=2", "learning_rate_schedule=constant", "--sweep", "learning_rate=0.1,1e30 weight_decay=0",
        "--seeds", "2", "--runs", tmp_path,
    ]  # fmt: skip
    status, out, _ = command(*words)
    table = pd.read_csv(
        next((tmp_path / "digits_resnet20").glob("sweep_learning_rate_weight_decay_*.csv")),
        dtype={"learning_rate": str},
    )
    assert status == 1 and out.count("Epoch 1/2") == 4
    assert table["status"].tolist() == ["finished"] * 2 + ["failed"] * 2 and table["seed"].tolist() == [0, 1, 0, 1]
    assert table["learning_rate"].tolist() == ["0.1", "0.1", "1e30", "1e30"]
    assert table["reason"].str.contains("Training diverged in step 2 of epoch 1").tolist()[2:] == [True, True]
    for path, accuracy in zip(table["run"], table["val_accuracy"], strict=True):
        run = pbl.load_run(path)
        if run.is_finished:
            assert run.read_json("metrics_val.json")["accuracy"] == accuracy
    status, out, _ = command(*words)
    assert status == 1 and "Epoch 2/2" not in out
    assert len(list((tmp_path / "digits_resnet20").glob("*/config.json"))) == 4


@pytest.mark.nightly
def test_would_more_data_help(command, tmp_path):
    """Each share is part of the next larger one, each trained for as many steps; the answer has a band and a picture."""
    shares = [
        set(pbl.load_data("digits", train_fraction=share).images("train").hashes) for share in (0.125, 0.25, 0.5, 1)
    ]
    assert [len(share) for share in shares] == [135, 266, 534, 1069]
    assert shares[0] < shares[1] < shares[2] < shares[3]
    words = ("train", "model=mlp", "model_options.widths=[16]", "epochs=2", "experiment=c", "--runs", tmp_path)
    status, said, _ = command(*words, "--learning-curve")
    assert status == 0 and "With all 1,069 training images" in said and "with 2,138 expect" in said
    table = pd.read_csv(next((tmp_path / "c").glob("sweep_train_fraction_*.csv")))
    assert table["images"].tolist() == [135, 266, 534, 1069] and table["epochs"].tolist() == [16, 8, 4, 2]
    assert (tmp_path / "c" / "learning_curve.png").exists()
    assert command(*words, "--learning-curve", "--dry-run")[0] == 2
    assert command(*words, "--learning-curve", "train_fraction=0.5")[0] == 2


def test_a_learning_curve_of_too_few_images_is_refused_before_it_begins(command, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(
        tmp_path / "few.npz", x_train=images, y_train=np.arange(40) % 4, x_test=images[:8], y_test=np.arange(8) % 4
    )
    words = (
        "train",
        f"dataset={tmp_path / 'few.npz'}",
        "model=mlp",
        "epochs=1",
        "--runs",
        tmp_path / "r",
        "--learning-curve",
    )
    status, _, said = command(*words)
    assert status == 2 and "too small for a learning curve" in said and said.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_each_run_of_a_comparison_has_its_own_experiments_code(tmp_path):
    """Two teams give their models the same name: each is trained with its own file's builder, whatever was executed last."""
    program = (
        "import keras\nfrom pbl import MODELS, Config\n\n"
        "def mine(input_shape, num_classes):\n"
        "    layers = [keras.Input(input_shape), keras.layers.Flatten(), keras.layers.Dense(UNITS),"
        " keras.layers.Dense(num_classes, activation='softmax')]\n"
        "    return keras.Sequential(layers)\n\n"
        "MODELS['mine'] = mine\nconfig = Config(model='mine', epochs=1, learning_rate=0.0UNITS)\n"
    )
    for name, units in (("alice", 3), ("bob", 5)):
        (tmp_path / f"{name}.py").write_text(program.replace("UNITS", str(units)), encoding="utf-8")
    configs = [pbl.load_experiment(tmp_path / f"{name}.py") for name in ("alice", "bob")]
    planned = sweep.plan_comparison(configs, seeds=1)
    runs = [run for _, run, reason in sweep.train_each(planned, tmp_path, tell=lambda line: None) if not reason]
    weights = [run.environment["trainable_weights"] for run in runs]
    assert weights == [64 * units + units + units * 10 + 10 for units in (3, 5)]


def test_two_processes_share_a_sweep(tmp_path):
    """Started at the same time on one folder: each run is trained once, and both end well with the same table."""
    words = [sys.executable, "-m", "pbl", "train", "model=mlp", "epochs=3", "experiment=s", "--runs", str(tmp_path), "--sweep", "learning_rate=0.1,0.03,0.01"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(Path(pbl.__file__).parent.parent), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PBL_LANGUAGE", None)
    both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (file,) = (tmp_path / "s").glob("sweep_learning_rate_*.csv")
    assert {path.name for path in (tmp_path / "s").iterdir()} == {"001", "002", "003", file.name, file.stem}
    table = pd.read_csv(file)
    assert table["learning_rate"].tolist() == [0.1, 0.03, 0.01] and set(table["status"]) == {"finished"}
    assert table["run"].nunique() == 3
    assert any("Skipped for now" in out for out, _ in said)
    for at in table.index:
        assert all(f"{table['val_accuracy'][at]:.4f}" in out for out, _ in said)
