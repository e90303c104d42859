import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import pbl
from pbl.data.doctor import CLOSE_CHECKS
from pbl.errors import InputError
from pbl.languages.wrapping import measure
from pbl.training.build import build_callback
from pbl.training.callbacks import CALLBACKS, BestModel, HistoryFile
from pbl.training.epoch_line import MOST_LINES, EpochLine, _as_clock
from pbl.training.optimization import build_optimizer
from pbl.training.tensorboard_log import TensorBoardLog


def small(**values) -> pbl.Config:
    return pbl.Config(**{"experiment": "x", "model": "mlp", "model_options": {"widths": [16]}, "epochs": 2, **values})


def test_a_run_is_whole(trained_run):
    files = {str(file.relative_to(trained_run.path)) for file in trained_run.path.rglob("*") if file.is_file()}
    assert files >= {
        "config.json", "experiment.py", "environment.json", "split.json", "history.csv", "best.keras", "best.weights.h5",
        "final.keras", "data_check.json", "signals.npz", "diagnosis.json", "metrics_val.json", "predictions_val.npz", "figures/learning_curves.png", "figures/confusion_matrix_val.png",
    }  # fmt: skip
    assert not any("test" in name or "lock" in name or "writing" in name for name in files)

    history = pd.read_csv(trained_run.path / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"} <= set(history)
    environment = trained_run.environment
    assert environment["status"] == "finished" and environment["seconds"]["fit"] > 0 and environment["devices"]
    assert list(environment["seconds"])[-1] == "monitor (in fit)"  # a part of fit, so not part of the sum before it
    assert environment["best_epoch"] == history.loc[history["val_loss"].idxmin(), "epoch"]
    assert environment["trainable_weights"] == 64 * 32 + 32 + 32 * 10 + 10

    metrics = json.loads((trained_run.path / "metrics_val.json").read_text())
    with np.load(trained_run.path / "predictions_val.npz") as saved:  # no pickle inside
        assert saved["probabilities"].shape == (189, 10) and len(saved["names"]) == len(saved["hashes"]) == 189
        assert (saved["probabilities"].argmax(axis=1) == saved["labels"]).mean() == metrics["accuracy"]
    # Keras judged the same weights on the same images in fit.
    assert metrics["log_loss"] == pytest.approx(history["val_loss"].min(), abs=1e-4)
    loaded = keras.models.load_model(trained_run.path / "best.keras")
    np.testing.assert_array_equal(loaded.get_weights()[0], pbl.load_model(trained_run).get_weights()[0])


def test_the_diagnosis_comes_from_the_files_alone(trained_run, command):
    """The same at the end of `train`, in `diagnosis.json` and from `diagnose`, which loads neither TensorFlow nor pandas."""
    assert trained_run.read_json("data_check.json")["close_checks"] == list(CLOSE_CHECKS)
    kept = trained_run.read_json("diagnosis.json")
    status, said, _ = command("diagnose", trained_run.path, "--json")
    assert status == 0 and json.loads(said) == kept
    status, said, _ = command("diagnose", trained_run.path)
    first = said.splitlines()[0]
    assert status == 0 and first.startswith(kept["findings"][0]["name"].replace("_", " "))
    assert kept["findings"][0]["message"] in said and kept["experiments"][0]["command"] in said
    code = "import sys; from pbl.cli import main; main(); print([m for m in ('tensorflow', 'keras', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, "diagnose", str(trained_run.path)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]" and not done.stderr, done.stderr


def test_a_run_without_signals_is_named(trained_run, tmp_path, command):
    copy = shutil.copytree(trained_run.path, tmp_path / "small" / "001")
    (copy / "signals.npz").write_bytes(b"PK")
    status, _, said = command("diagnose", copy)
    assert status == 2 and "signals.npz is damaged" in said and said.count("\n") == 1
    (copy / "signals.npz").unlink()
    status, _, said = command("diagnose", copy)
    assert status == 2 and "signals.npz is missing" in said and said.count("\n") == 1


@pytest.mark.slow
def test_the_slow_checks_of_the_same_images_run_once_and_a_run_gives_its_settings(tmp_path, monkeypatch):
    first = pbl.train(small(), folder=tmp_path)
    monkeypatch.setattr(pbl.data.Data, "check_closely", None)  # a call would fail
    config = pbl.load_experiment(first.path, ["epochs=1", "batch_size=32"])
    assert config.replace(epochs=2, batch_size=64).decides() == first.config.decides()
    second = pbl.train(config, folder=tmp_path)
    assert second.read_json("data_check.json") == first.read_json("data_check.json")
    assert second.environment["images"] == first.environment["images"]
    for run in (first, second):  # from a version that checked less
        run.write_json("data_check.json", {"findings": []})
    with pytest.raises(TypeError):
        pbl.train(config, folder=tmp_path)


@pytest.mark.slow
def test_the_seed_decides_and_zero_is_a_seed(tmp_path):
    def weights(**values) -> list[np.ndarray]:
        run = pbl.train(small(model_options={"widths": [16], "dropout": 0.3}, **values), folder=tmp_path)
        return pbl.load_model(run).get_weights()

    first, again, other = weights(seed=0), weights(seed=0), weights(seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["001", "002", "003"]


def test_one_hot_cosine_and_early_stopping(tmp_path):
    run = pbl.train(
        small(loss="categorical_crossentropy", learning_rate_schedule="cosine", callbacks=["early_stopping"], optimizer="sgd", optimizer_options={"momentum": 0.9}),
        folder=tmp_path,
    )  # fmt: skip
    rates = pd.read_csv(run.path / "history.csv")["learning_rate"]
    assert rates.tolist() == pytest.approx(
        [0.0005, 0], abs=1e-9
    )  # half a cosine: half of the rate after half of the steps, then 0


class StopIn(keras.callbacks.Callback):
    """Ctrl-C in a batch of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 3:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "kept"), [(1, None), (3, 2)])
def test_ctrl_c_leaves_a_run_that_evaluate_reads(tmp_path, monkeypatch, epoch, kept):
    monkeypatch.setitem(CALLBACKS, "stop", lambda: StopIn(epoch))
    config = small(callbacks=["stop"], epochs=5)
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["status"] == "interrupted" and run.environment["epochs"] == epoch - 1
    assert run.environment["best_epoch"] == kept and not run.is_live
    assert pbl.evaluate(run)["status"] == "interrupted"
    assert pbl.train(config, folder=tmp_path, fresh=True).path != run.path


@pytest.mark.slow
@pytest.mark.parametrize("model", [pytest.param("resnet20", marks=pytest.mark.nightly), "vgg_small"])
def test_divergence_of_networks_with_batch_normalisation(tmp_path, model):
    with pytest.raises(
        InputError, match=r"Training diverged in step \d+ of epoch 1: .*'.*' .* finite.*Lower learning_rate"
    ):
        pbl.train(small(model=model, model_options={}, learning_rate=1e30, optimizer="sgd"), folder=tmp_path)


def test_divergence_is_said_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(
        InputError,
        match=r"Training diverged in step 2 of epoch 1: the outputs of 'dense_\d+' are not finite. Lower learning_rate \(now 1e\+30\)",
    ):
        pbl.train(small(learning_rate=1e30, optimizer="sgd"), folder=tmp_path)
    assert pbl.runs.Run(tmp_path / "x" / "001").environment["status"] == "failed"

    class Explode(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                self.model.optimizer.learning_rate = 1e30

    monkeypatch.setitem(CALLBACKS, "explode", Explode)
    for name in ("REST", "FIRST_REST"):  # a state after each epoch, although the training is very short
        monkeypatch.setattr(f"pbl.training.checkpoint.{name}", 0)
    run = pbl.train(small(callbacks=["explode"], epochs=9, optimizer="sgd"), folder=tmp_path)
    environment = run.environment
    assert environment["diverged"] and environment["diverged_at"].startswith("epoch 3, seen after step")
    assert environment["epochs"] == 3 and environment["best_epoch"] in (1, 2)
    with np.load(sorted((run.path / "checkpoint").glob("*.npz"))[-1]) as state:  # the last good one is kept
        assert json.loads(state["state"].tobytes())["epoch"] == 2
    assert pbl.evaluate(run)["accuracy"] > 0.05


FULL_DISK = """
import resource, signal, sys
import keras, pbl
from pbl import callbacks

class Fill(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:  # from the second epoch on nothing larger than 20 kB can be written
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
callbacks.CALLBACKS["fill"], callbacks.FIRST_REST = Fill, 0
try:
    pbl.train(pbl.Config(experiment="x", model="mlp", callbacks=["fill"], epochs=3), folder=sys.argv[1])
except pbl.errors.InputError as error:
    print("SAID", error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limit on file size")
@pytest.mark.nightly
def test_a_disk_that_fills_up_leaves_the_earlier_best_model(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("SAID")]
    assert done.returncode == 0 and len(said) == 1 and "could not be written: File too large" in said[0], done
    run = pbl.load_run(tmp_path / "x" / "001")
    assert run.environment["status"] == "failed"
    assert not list(run.path.rglob(".writing*"))
    assert pbl.evaluate(run)["accuracy"] > 0.3  # the model of epoch 1


@pytest.mark.slow
@pytest.mark.parametrize("room", [*(pytest.param(room, marks=pytest.mark.nightly) for room in (0.3, 1.5, 2.5)), 3.2])
def test_a_really_full_disk(tmp_path, room):
    """A file system with space for `room` copies of the model; HDF5 would crash the process on a full disk."""
    size = 170_000 * 12  # bytes of the default MLP's weights, and of Adam's two moments for each
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(size * room)}", "tmpfs", str(tmp_path)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        words = [
            sys.executable,
            "-m",
            "pbl",
            "train",
            "model=mlp",
            "optimizer=adam",
            "epochs=3",
            "--runs",
            str(tmp_path),
        ]
        root = Path(pbl.__file__).resolve().parent.parent
        done = subprocess.run(words, capture_output=True, text=True, cwd=root)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done
        assert "could not be written: No space left on device" in done.stderr
        assert not list(tmp_path.rglob(".writing*"))
        if (tmp_path / "digits_resnet20" / "001" / "best.weights.h5").exists():
            assert pbl.load_model(tmp_path / "digits_resnet20" / "001").count_params() == 167_178
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_model_that_keras_cannot_describe_is_kept_as_weights(tmp_path, monkeypatch):
    class Nameless(keras.layers.Dense):
        def get_config(self):
            raise NotImplementedError("a layer that was written without it")

    def nameless(input_shape, num_classes):
        images = keras.Input(input_shape)
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(images))
        return keras.Model(images, Nameless(num_classes, activation="softmax")(x))

    monkeypatch.setitem(pbl.models.MODELS, "nameless", nameless)
    with pytest.warns(UserWarning, match="best.keras was not written"):
        run = pbl.train(small(model="nameless", model_options={}), folder=tmp_path)
    assert not (run.path / "best.keras").exists()
    assert pbl.evaluate(run)["accuracy"] == run.read_json("metrics_val.json")["accuracy"]


def test_the_model_that_is_kept_is_the_one_that_was_validated(tmp_path, monkeypatch):
    """Even if a user's own callback changes the weights after the epoch, or what is logged."""

    class Meddle(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = -float(epoch)
            self.model.set_weights([weight * 0 for weight in self.model.get_weights()])

    monkeypatch.setitem(CALLBACKS, "meddle", Meddle)
    run = pbl.train(small(callbacks=["meddle"], epochs=3), folder=tmp_path)
    history = pd.read_csv(run.path / "history.csv")
    best = run.environment["best_epoch"]
    assert best == 1
    assert run.read_json("metrics_val.json")["accuracy"] == pytest.approx(history["val_accuracy"][best - 1], abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([(3.0, None), (2.9, None), (2.95, None)], 2),
        (
            [(3.0, 0.5), (3.8, 0.5), (1.0, 0.5), (2.0, 0.5), (8.0, 0.5)],
            4,
        ),  # 2 is within 2 * hypot(.5, .5) = 1.41 of 1
        (
            [(3.0, 0.5), (3.0, np.nan), (np.nan, np.nan)],
            1,
        ),  # between two measurements the newest value is kept, and does not count
        ([(3.0, 0.5), (4.0, 0.5), (5.0, 0.5)], 2),  # compared with the lowest, not step by step
    ],
)
def test_among_epochs_that_are_as_good_the_newest_is_the_best(tmp_path, rows, best):
    def keep(rows, state=None):
        kept = BestModel(tmp_path, "val_kid")
        kept.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
        kept.on_train_begin()
        if state:
            kept.set_state(state)
        for epoch, (kid, error) in rows:
            kept.on_epoch_end(epoch, {"val_kid": kid} | ({} if error is None else {"val_kid_error": error}))
        return kept

    rows = list(enumerate(rows))
    whole = keep(rows)
    assert whole.best_epoch == best
    for cut in range(1, len(rows)):  # and wherever it was interrupted
        (tmp_path / "best.weights.h5").unlink(missing_ok=True)
        assert keep(rows[cut:], keep(rows[:cut]).get_state()).best_epoch == best


@pytest.fixture(scope="module")
def plain_losses(tmp_path_factory) -> list[float]:
    """Losses of the training below, without averages."""
    run = pbl.train(small(epochs=3, precision="float32"), folder=tmp_path_factory.mktemp("plain"))
    return pd.read_csv(run.path / "history.csv")["val_loss"].tolist()


@pytest.mark.parametrize(
    "callbacks",
    [["swap"], pytest.param([], marks=pytest.mark.slow), pytest.param(["early_stopping"], marks=pytest.mark.slow)],
)
def test_averaged_weights_are_what_is_validated_watched_and_kept(tmp_path, monkeypatch, callbacks, plain_losses):
    """With `use_ema`, and also if the settings name Keras's own callback for it (keras-team/keras#18978)."""

    class Compare(keras.callbacks.Callback):
        """Checks that a step starts from the weights of the training, bit for bit; the averages have no part in it."""

        def on_epoch_begin(self, epoch, logs=None):
            if epoch:
                for weight, value in zip(self.model.trainable_weights, self.weights, strict=True):
                    np.testing.assert_array_equal(weight.numpy(), value)

        def on_train_batch_end(self, batch, logs=None):
            self.weights = [weight.numpy() for weight in self.model.trainable_weights]

    monkeypatch.setitem(CALLBACKS, "swap", lambda: keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    monkeypatch.setitem(CALLBACKS, "compare", Compare)
    averages = {"use_ema": True, "ema_momentum": 0.95}
    config = small(callbacks=[*callbacks, "compare"], epochs=3, optimizer_options=averages, precision="float32")
    run = pbl.train(config, folder=tmp_path)
    history, judged = pd.read_csv(run.path / "history.csv"), run.read_json("metrics_val.json")
    best = run.environment["best_epoch"]
    assert judged["log_loss"] == pytest.approx(history["val_loss"][best - 1], abs=1e-5)
    assert judged["accuracy"] == pytest.approx(history["val_accuracy"][best - 1], abs=1e-6)
    assert history["val_probe_loss"].to_numpy() == pytest.approx(history["val_loss"].to_numpy(), abs=1e-5)
    final = keras.models.load_model(run.path / "final.keras").evaluate(pbl.load_data("digits").val, verbose=0)
    assert final[0] == pytest.approx(history["val_loss"].iloc[-1], abs=1e-5)
    # Not the model of the last step: without averages the same training has another loss.
    assert abs(plain_losses[-1] - judged["log_loss"]) > 0.05


def test_best_model_ignores_nan(tmp_path):
    best = BestModel(tmp_path)
    best.set_model(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))
    for epoch, loss in enumerate([float("nan"), 0.5, 0.7, float("nan"), 0.4]):
        best.on_epoch_end(epoch, {"val_loss": loss})
    assert best.best_epoch == 5 and sorted(path.name for path in Path(tmp_path).iterdir()) == [
        "best.keras",
        "best.weights.h5",
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optimizer": "adamm"}, "Did you mean 'adam'?"),
        ({"optimizer": "optimizer"}, "No optimizer is called 'optimizer'"),
        ({"optimizer": "sgd", "optimizer_options": {"momentun": 0.9}}, "Did you mean 'momentum'?"),
        ({"optimizer": "sgd", "optimizer_options": {"momentum": 9}}, "do not fit 'sgd'"),
        ({"optimizer_options": {"beta_1": "abc"}}, "optimizer_options.beta_1=abc: it must be a number"),
        ({"optimizer_options": {"lr": 0.1}}, "setting of its own: learning_rate"),
    ],
)
def test_wrong_optimizers(values, said):
    with pytest.raises(InputError) as error:
        build_optimizer(small(**values), steps_per_epoch=1)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", "sgd adam adamw rmsprop adagrad adadelta adamax nadam ftrl lion adafactor".split())
def test_optimizers_by_name(name):
    assert type(build_optimizer(small(optimizer=name), 1)).__name__.lower() == name


def test_wrong_callbacks(monkeypatch):
    with pytest.raises(InputError, match="Did you mean 'early_stopping'"):
        build_callback("early_stoping")
    monkeypatch.setitem(CALLBACKS, "mine", lambda: 3)
    with pytest.raises(InputError, match="gave a int"):
        build_callback("mine")


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (lambda x, n: keras.layers.Dense(n)(x), "not probabilities"),
        (
            lambda x, n: keras.layers.Dense(n + 1, activation="softmax")(x),
            r"gives the shape \(2, 11\) for 2 images of 10",
        ),
        (lambda x, n: [keras.layers.Dense(n, activation="softmax")(x)] * 2, "gives 2 outputs"),
    ],
)
def test_an_own_model_that_gives_no_probabilities_is_refused_before_training(tmp_path, monkeypatch, outputs, said):
    def mine(input_shape, num_classes):
        images = keras.Input(input_shape)
        x = keras.layers.Flatten()(images)
        return keras.Model(images, outputs(x, num_classes))

    monkeypatch.setitem(pbl.models.MODELS, "mine", mine)
    with pytest.raises(InputError, match=said):
        pbl.train(small(model="mine", model_options={}), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def read_scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload().Tensors(tag)
    return [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events]


@pytest.mark.slow
def test_tensorboard_logs_the_run_and_changes_nothing(tmp_path, monkeypatch, capsys):
    """Even if a training is interrupted after an epoch was logged and before its state was saved: it is logged again."""
    pytest.importorskip("tensorboard", reason="TensorFlow 2.21 does not bring tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = small(epochs=3, model_options={"widths": [16], "dropout": 0.3}, learning_rate_schedule="cosine")
    plain = pbl.train(config, folder=tmp_path / "plain")
    assert not (plain.path / "tensorboard").exists()
    write = HistoryFile.on_epoch_end

    def cut(self, epoch, logs=None):
        if epoch == 1 and not self.rows[1:]:
            monkeypatch.setattr(HistoryFile, "on_epoch_end", write)
            raise KeyboardInterrupt
        write(self, epoch, logs)

    monkeypatch.setattr(HistoryFile, "on_epoch_end", cut)
    logged = config.replace(tensorboard=True)
    assert pbl.train(logged, folder=tmp_path / "cut").environment["status"] == "interrupted"
    run = pbl.train(logged, folder=tmp_path / "cut")
    assert run.path.name == "001" and run.environment["status"] == "finished"
    assert f"tensorboard --logdir {run.path / 'tensorboard'}" in capsys.readouterr().out
    for file in ("best.keras", "final.keras"):
        weights = [keras.models.load_model(of.path / file).get_weights() for of in (plain, run)]
        assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))

    history = pd.read_csv(run.path / "history.csv").set_index("epoch")
    for folder, prefix, tags in (
        ("train", "", ("loss", "accuracy", "learning_rate", "probe_accuracy", "gap")),
        ("validation", "val_", ("loss", "probe_loss")),
    ):
        for tag in tags:
            scalars = read_scalars(run.path / "tensorboard" / folder, f"epoch_{tag}")
            assert [epoch for epoch, _ in scalars] == [
                1,
                2,
                2,
                3,
            ]  # the interrupted epoch is logged twice, with equal values
            assert [value for _, value in scalars] == pytest.approx(
                [history.loc[epoch, prefix + tag] for epoch, _ in scalars], abs=1e-6
            )
    log = EventAccumulator(str(run.path / "tensorboard" / "run")).Reload()
    assert {*log.Tags()["images"], *log.Tags()["tensors"]} >= {"learning_curves", "confusion_matrix_val"}
    assert [event.step for event in log.Tensors("settings")] == [0]


@pytest.mark.slow
def test_a_training_goes_on_with_tensorboard_or_without(tmp_path):
    pytest.importorskip("tensorboard", reason="TensorFlow 2.21 does not bring tensorboard")
    config = small(epochs=2, max_minutes=1e-4)
    for is_logged in (True, False, True):
        run = pbl.train(config.replace(tensorboard=is_logged), folder=tmp_path)
        assert run.path.name == "001" and run.environment["status"] == "paused"
    run = pbl.train(config.replace(tensorboard=True, max_minutes=None), folder=tmp_path)
    assert run.path.name == "001" and run.environment["status"] == "finished"


def test_without_tensorboard_nothing_is_trained(tmp_path, monkeypatch):
    for name in ("tensorboard", "tensorboard.summary", "tensorboard.summary.v2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"tensorboard=true needs the package .*: pip install tensorboard, or omit"):
        pbl.train(small(tensorboard=True), folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_ends_no_training(tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="TensorFlow 2.21 does not bring tensorboard")
    (tmp_path / "file").touch()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    images = np.zeros((8, 2))
    model.fit(images, images[:, :1], epochs=3, verbose=0, callbacks=[TensorBoardLog(tmp_path / "file" / "log")])
    assert capsys.readouterr().out.count("TensorBoard's log cannot be written") == 1


@pytest.mark.slow
def test_the_course_project_takes_a_zip_of_photographs(shared_data, command, tmp_path, monkeypatch):
    """One batch through all of `experiments/photos_vgg.py`, whose recipe is the course's."""
    monkeypatch.chdir(tmp_path)
    file = Path(__file__).resolve().parent.parent / "experiments" / "photos_vgg.py"
    config = pbl.load_experiment(file)
    assert (config.batch_size, config.epochs, config.optimizer) == (64, 30, "sgd")
    schedule = build_optimizer(config, steps_per_epoch=10).get_config()["learning_rate"]["config"]
    assert schedule["initial_learning_rate"] == 0.01 and schedule["decay_rate"] == 5e-4
    status, said, _ = command("train", "--dry-run", file, f"dataset={shared_data / 'ants_bees.zip'}")
    assert status == 0 and "The whole pipeline runs: vgg_small on" in said


def test_the_epoch_line(capsys, monkeypatch):
    """On a screen one line that is rewritten and never wider; into a file about ten lines, including the first and the last."""
    logs = {
        "loss": 0.41234,
        "probe_accuracy": 0.9871,
        "val_probe_accuracy": 0.95,
        "gap": 0.0371,
        "images_per_second": 1e4,
    }

    def train(is_lively: bool, epochs: int, ends_at: int | None = None) -> str:
        line = EpochLine(epochs, is_lively)
        line.set_params({"steps": 17})
        for epoch in range(ends_at or epochs):
            line.on_epoch_begin(epoch)
            line._next = 0
            line.on_train_batch_end(3)
            line.on_epoch_end(epoch, logs)
        line.close()
        line.close()
        return capsys.readouterr().out

    lines = train(False, 240).splitlines()
    assert (
        len(lines) == MOST_LINES + 1
        and lines[0].startswith("Epoch 1/240  ")
        and lines[-1].startswith("Epoch 240/240  ")
    )
    assert lines[-1] == "Epoch 240/240  loss 0.412  accuracy 98.7%  validation 95.0%  gap +3.7 points"
    assert "left" in lines[0] and train(False, 240, 33).splitlines()[-1].startswith("Epoch 33/240")
    assert [line.split()[1] for line in train(False, 3).splitlines()] == ["1/3", "2/3", "3/3"]
    for columns, language in ((80, "en"), (60, "en"), (80, "ja"), (40, "ja")):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("PBL_LANGUAGE", language)
        said = train(True, 240)
        assert said.count("\n") == 1 and said.endswith("\n")
        assert max(measure(shown) for shown in said.rstrip("\n").split("\r")) < columns
        assert ("step 4/17" if language == "en" else "ステップ 4/17") in said
    assert [_as_clock(seconds) for seconds in (0.4, 61, 3599.7, 7325)] == ["0:00", "1:01", "1:00:00", "2:02:05"]
