"""A training that is interrupted at any point resumes as if it had not been interrupted."""

import contextlib
import errno
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pandas as pd
import pytest

import pbl
from pbl.errors import InputError
from pbl.models.saving import copy_weights, read_seal
from pbl.storage import writing as storage
from pbl.storage.writing import Growing
from pbl.training import run as training
from pbl.training.callbacks import CALLBACKS, BestModel
from pbl.training.checkpoint import ExactResume, Paused

RESUME = Path(__file__).resolve().parent.parent / "experiments" / "benchmarks" / "resume.py"


class PowerCut(BaseException):
    """An exception that none of our code catches."""


class Student(keras.callbacks.Callback):
    """A student's own callback: plain attributes, one that depends on them, and its own kind of state."""

    def __init__(self):
        super().__init__()
        self.losses, self.table, self.smooth = [], {"epochs": 0}, np.zeros(2)

    def on_epoch_end(self, epoch, logs=None):
        self.losses.append(logs["loss"])
        self.table["epochs"] += 1
        self.smooth = 0.5 * self.smooth + np.random.random(2)  # NumPy's own random state is saved too
        if len(self.losses) == 5:
            self.model.optimizer.learning_rate = 1e-4
        logs["smooth"] = float(self.smooth.sum())


class Cut(keras.callbacks.Callback):
    """Interrupts the training at (event, epoch, step)."""

    at: tuple | None = None

    def _come(self, *place):
        if place == self.at:
            type(self).at = None
            raise PowerCut

    def on_train_batch_begin(self, batch, logs=None):
        self._come("step", self._epoch, batch)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._come("epoch", epoch)

    def on_test_begin(self, logs=None):
        self._come("validation", self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._come("end of epoch", epoch)


@pytest.fixture(autouse=True)
def own_callbacks():
    CALLBACKS.update(student=Student, cut=Cut)
    Cut.at = None


CONFIG = {
    "experiment": "x", "model": "mlp", "model_options": {"widths": [16], "dropout": 0.4}, "epochs": 7, "learning_rate": 0.02,
    "callbacks": ["student", "early_stopping", "reduce_on_plateau", "cut"], "checkpoint_minutes": 1e-6,
}  # fmt: skip


def outcome(run: "pbl.runs.Run") -> list:
    history = pd.read_csv(run.path / "history.csv").drop(
        columns=["seconds", "images_per_second", "data_share"], errors="ignore"
    )
    last = keras.models.load_model(run.path / "final.keras", compile=False)
    with np.load(run.path / "predictions_val.npz") as saved:
        probabilities = saved["probabilities"]
    with np.load(run.path / "signals.npz") as saved:
        signals = [saved[name] for name in saved.files if name != "text"]
    return [
        *signals,
        *pbl.load_model(run).get_weights(),
        *last.get_weights(),
        history.to_numpy(),
        probabilities,
        run.environment["best_epoch"],
    ]


def assert_same(one: "pbl.runs.Run", other: "pbl.runs.Run") -> None:
    assert one.environment["status"] == other.environment["status"] == "finished"
    for a, b in zip(outcome(one), outcome(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    CALLBACKS.update(student=Student, cut=Cut)
    return pbl.train(pbl.Config(**CONFIG), folder=tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_averages_of_weights_are_resumed_to_the_bit(tmp_path):
    config = pbl.Config(**CONFIG | {"epochs": 3, "optimizer_options": {"use_ema": True, "ema_momentum": 0.9}})
    whole = pbl.train(config, folder=tmp_path / "whole")
    for place in (("step", 0, 5), ("validation", 1), ("end of epoch", 1), ("epoch", 2)):
        Cut.at = place
        with pytest.raises(PowerCut):
            pbl.train(config, folder=tmp_path)
    assert_same(pbl.train(config, folder=tmp_path), whole)


@pytest.mark.slow
def test_kerass_own_swap_of_averages_is_resumed_to_the_bit(tmp_path):
    """In a notebook: at an epoch's end the averages are in the model, which the state must record."""
    data = pbl.load_data("digits")

    def fit(folder):
        keras.utils.set_random_seed(0)
        model = pbl.models.build("mlp", data.input_shape, 10, widths=[16])
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9, use_ema=True, ema_momentum=0.9)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        swap, monitor = keras.callbacks.SwapEMAWeights(swap_on_epoch=True), pbl.OverfittingMonitor(data)
        callbacks = [swap, monitor, Cut(), ExactResume(folder, data)]
        model.fit(data.train, validation_data=data.val, epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
        measured = [row["val_probe_loss"] for row in monitor.signals.epochs[1:]]
        np.testing.assert_allclose(measured, model.history.history["val_loss"], atol=1e-5)  # it sees the averages
        return model.get_weights()

    whole = fit(tmp_path / "whole")
    Cut.at = ("epoch", 1)
    with pytest.raises(PowerCut):
        fit(tmp_path / "cut")
    for one, other in zip(fit(tmp_path / "cut"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "places",
    [
        pytest.param([("step", 0, 5), ("step", 3, 16), ("validation", 3), ("end of epoch", 3)], marks=pytest.mark.slow),
        pytest.param([("step", 0, 0)], marks=pytest.mark.nightly),
        pytest.param([("end of epoch", 0), ("epoch", 1), ("step", 1, 1), ("step", 1, 2)], marks=pytest.mark.nightly),
        pytest.param([("validation", 6)], marks=pytest.mark.nightly),
    ],
    ids=str,
)
def test_wherever_it_is_cut_off(tmp_path, uninterrupted, places):
    config = pbl.Config(**CONFIG)
    for place in places:
        Cut.at = place
        with pytest.raises(PowerCut):
            pbl.train(config, folder=tmp_path)
    run = pbl.train(config, folder=tmp_path)
    assert_same(run, uninterrupted)
    history = pd.read_csv(run.path / "history.csv")
    if "resumed" in run.environment:
        assert run.environment["seconds"]["fit"] == pytest.approx(history["seconds"].sum(), abs=0.01)
    assert run.name == "x/001" and not (run.path / "checkpoint").exists()
    assert len(run.environment.get("resumed", [])) == len(places) - (places[0] == ("step", 0, 0))
    Cut.at = ("step", 0, 0)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    assert (tmp_path / "x" / "002").exists()  # a finished training starts again


@pytest.fixture(scope="module")
def file_operations():
    """A switch: after `left` operations that change a file, all further ones fail, as for a process that is dead."""
    switch = {"left": None, "seen": 0}

    def hook(event, arguments):
        if event in ("open", "os.rename", "os.remove", "os.mkdir") and not str(arguments[0]).startswith(
            ("/proc", "/sys")
        ):
            switch["seen"] += 1
            if switch["left"] is not None and switch["seen"] > switch["left"]:
                raise PowerCut

    sys.addaudithook(hook)
    yield switch
    switch["left"] = None


@pytest.mark.nightly
def test_a_save_that_breaks_off_between_any_two_file_operations(tmp_path, monkeypatch, file_operations):
    """At the end of the third epoch: best model, history and state; everything stops after each operation in turn."""
    monkeypatch.setattr("pbl.training.callbacks.REST", 0)
    monkeypatch.setattr("pbl.training.callbacks.FIRST_REST", 0)
    monkeypatch.setattr("pbl.training.checkpoint.REST", 0)
    monkeypatch.setattr("pbl.training.checkpoint.FIRST_REST", 0)
    # About forty trainings: steps that write no file are left out.
    monkeypatch.setattr("pbl.training.data_check._check_closely", lambda *_: [])
    monkeypatch.setattr(
        "pbl.tasks.classification.OverfittingMonitor", functools.partial(pbl.OverfittingMonitor, every=0)
    )

    class CountFromThirdEpoch(keras.callbacks.Callback):
        allowed = None

        def on_test_begin(self, logs=None):
            if self._epoch == 2:
                file_operations.update(seen=0, left=self.allowed)

        def on_epoch_begin(self, epoch, logs=None):
            self._epoch = epoch
            if epoch == 3:
                type(self).needed = file_operations["seen"]

    monitored = {**CONFIG, "callbacks": ["count", *CONFIG["callbacks"]], "checkpoint_minutes": 100, "epochs": 4}
    CALLBACKS["count"] = CountFromThirdEpoch
    config = pbl.Config(**monitored)
    whole = pbl.train(config, folder=tmp_path / "whole")
    assert CountFromThirdEpoch.needed > 10
    for allowed in range(CountFromThirdEpoch.needed):
        CountFromThirdEpoch.allowed = allowed
        with pytest.raises(PowerCut):
            pbl.train(config, folder=tmp_path / str(allowed))
        CountFromThirdEpoch.allowed = file_operations["left"] = None
        run = pbl.train(config, folder=tmp_path / str(allowed))
        assert_same(run, whole)
        assert not list(run.path.rglob(".*"))


@pytest.mark.slow
def test_a_damaged_state_is_passed_over(tmp_path, uninterrupted, capsys):
    Cut.at = ("step", 4, 3)
    with pytest.raises(PowerCut):
        pbl.train(pbl.Config(**CONFIG), folder=tmp_path)
    states = sorted((tmp_path / "x" / "001" / "checkpoint").glob("*.npz"), key=lambda file: int(file.stem))
    assert len(states) == 2
    states[1].write_bytes(states[1].read_bytes()[:-100])
    assert_same(pbl.train(pbl.Config(**CONFIG), folder=tmp_path), uninterrupted)
    assert f"{states[1]} is damaged and not used" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_wait_for_the_step(tmp_path, uninterrupted, number):
    class Signal(Cut):
        def _come(self, *place):
            if place == ("step", 2, 8) and not Path(tmp_path / "x" / "001" / "told").exists():
                Path(tmp_path / "x" / "001" / "told").touch()
                os.kill(os.getpid(), number)

    CALLBACKS["cut"] = Signal
    Signal.__name__ = "Cut"
    config = pbl.Config(**CONFIG)
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["status"] == "interrupted"
    assert (ExactResume(run.path).newest["epoch"], ExactResume(run.path).newest["step"]) in [(2, 8), (2, 9)]
    assert_same(pbl.train(config, folder=tmp_path), uninterrupted)


@pytest.mark.slow
def test_a_signal_before_the_first_step_and_between_two_stages_is_not_forgotten(tmp_path):
    """Between the header and the first epoch, and at the end of the first of two stages: not one more step is trained."""
    config = pbl.Config(**{**CONFIG, "callbacks": ["told"], "epochs": 2, "model": "mlp", "model_options": {}})
    moments = []

    class Told(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            moments.append("begin")
            if moments.count("begin") == asked_at:
                signal.raise_signal(signal.SIGTERM)

        def on_train_batch_end(self, batch, logs=None):
            moments.append("step")

    CALLBACKS["told"] = Told
    asked_at = 1
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["status"] == "interrupted" and run.environment["epochs"] == 0 and "step" not in moments
    asked_at = 99
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["status"] == "finished" and run.environment["epochs"] == 2

    resume = ExactResume(tmp_path / "own")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    words = {"x": np.zeros((4, 2)), "y": np.zeros(4), "callbacks": [resume], "verbose": 0}
    resume.pause()
    with pytest.raises(Paused) as stop:
        model.fit(epochs=3, **words)
    assert stop.value.is_asked and not resume.is_asked
    assert len(model.fit(epochs=3, **words).epoch) == 3  # it is asked only once


@pytest.mark.nightly
def test_minutes_that_are_over_pause(tmp_path, uninterrupted):
    config = pbl.Config(**{**CONFIG, "max_minutes": 1e-6})
    run = pbl.train(config, folder=tmp_path)
    assert run.environment["status"] == "paused" and pbl.evaluate(run)["status"] == "paused"
    again = pbl.train(config.replace(max_minutes=1e-6), folder=tmp_path)
    assert ExactResume(again.path).newest["step"] == 2
    assert_same(pbl.train(config.replace(max_minutes=None), folder=tmp_path), uninterrupted)


@pytest.mark.nightly
def test_kill_9():
    """The script of the full measurement, with one case and few interruptions."""
    words = [sys.executable, str(RESUME), "--moments", "2", "--only", "MLP, dropout"]
    environment = {**os.environ, "PYTHONPATH": str(RESUME.parents[2])}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "different: nothing" in done.stdout, done.stdout + done.stderr


def _other_pixels(images, labels, run):
    images[:5] += 1


def _two_labels_swapped(images, labels, run):
    hashes, split = pbl.load_data("mine").everything.hashes, run.split["hashes"]["train"]
    trained = [i for i in range(60) if hashes[i][:16] in split]
    one, other = trained[0], next(i for i in trained if labels[i] != labels[trained[0]])
    labels[[one, other]] = labels[[other, one]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "change, said",
    [
        (_other_pixels, r"cannot be resumed: [1-5] of the (train|val) images of 'mine' are gone and [1-5] are new"),
        (
            _two_labels_swapped,
            r"the order, labels or weights of the training images of 'mine' have changed|images of 'mine' are gone",
        ),
    ],
)
def test_data_that_changed_are_refused(tmp_path, change, said):
    images, labels = np.random.default_rng(0).integers(0, 255, (60, 8, 8, 1), np.uint8), np.arange(60) % 3
    pbl.data.DATASETS["mine"] = lambda: pbl.data.from_arrays(images.copy(), labels.copy())
    config = pbl.Config(**{**CONFIG, "dataset": "mine", "data_check": "report"})
    Cut.at = ("epoch", 2)
    with pytest.raises(PowerCut):
        pbl.train(config, folder=tmp_path)
    change(images, labels, pbl.load_run(tmp_path / "x" / "001"))
    with pytest.raises(InputError, match=said):
        pbl.train(config, folder=tmp_path)


@pytest.mark.slow
def test_two_phases(tmp_path):
    from tests.test_transfer import with_backbone

    pbl.models.MODELS["with_backbone"] = with_backbone
    settings = {
        **CONFIG,
        "model": "with_backbone",
        "model_options": {"dropout": 0.3},
        "epochs": 3,
        "fine_tune_epochs": 3,
    }
    config = pbl.Config(**settings, fine_tune_learning_rate=1e-3)
    whole = pbl.train(config, folder=tmp_path / "whole")
    for place in [("epoch", 2), ("epoch", 3), ("step", 4, 7), ("validation", 5)]:
        Cut.at = place
        with pytest.raises(PowerCut):
            pbl.train(config, folder=tmp_path)
    assert_same(pbl.train(config, folder=tmp_path), whole)


class TwoOptimizers(keras.Model):
    """A model with its own training step, its own random numbers, and two optimizers."""

    def __init__(self):
        super().__init__()
        self.one, self.two = keras.layers.Dense(8), keras.layers.Dense(10, activation="softmax")
        self.noise = keras.random.SeedGenerator(3)

    def build(self, input_shape):
        self.one.build((None, 64))
        self.two.build((None, 8))
        self.second = keras.optimizers.Adam(1e-2)
        self.second.build(self.two.trainable_variables)

    def call(self, x, training=False):
        x = keras.ops.reshape(keras.ops.cast(x, "float32") / 255, (-1, 64))
        x = self.one(x)
        return self.two(x + keras.random.normal(keras.ops.shape(x), seed=self.noise) if training else x)

    def train_step(self, batch):
        import tensorflow as tf

        x, y = batch
        with tf.GradientTape(persistent=True) as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        self.optimizer.apply(tape.gradient(loss, self.one.trainable_variables), self.one.trainable_variables)
        self.second.apply(tape.gradient(loss, self.two.trainable_variables), self.two.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predicted)
        return self.get_metrics_result()


class OwnSteps(TwoOptimizers):
    """Steps that unpack two values, as Keras's guides write them, and a second optimizer that the first step builds."""

    def build(self, input_shape):
        self.one.build((None, 64))
        self.two.build((None, 8))
        self.second = keras.optimizers.Adam(1e-2)

    def test_step(self, batch):
        x, y = batch
        predicted = self(x, training=False)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(self.compute_loss(x, y, predicted))
            else:
                metric.update_state(y, predicted)
        return self.get_metrics_result()


@pytest.mark.parametrize("place", [("step", 1, 5), ("epoch", 1)])
def test_own_steps_of_two_values_are_resumed(tmp_path, place):
    def fit(folder: Path) -> tuple[keras.Model, keras.callbacks.History]:
        keras.utils.set_random_seed(1)
        data = pbl.load_data("digits", batch_size=64)
        model = OwnSteps()
        model.build((None, 8, 8, 1))
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        callbacks = [Cut(), ExactResume(folder, data, minutes=1e-6)]
        return model, model.fit(data.train, validation_data=data.val, epochs=3, callbacks=callbacks, verbose=0)

    whole, whole_history = fit(tmp_path / "whole")
    Cut.at = place
    with pytest.raises(PowerCut):
        fit(tmp_path)
    model, history = fit(tmp_path)
    for a, b in zip(whole.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history.history == whole_history.history


def test_in_a_fit_of_ones_own(tmp_path):
    """A user's own subclassed model, in a notebook: interrupted, resumed, ended, and given more epochs."""

    def fit(folder: Path, epochs: int, *more) -> tuple[keras.Model, keras.callbacks.History]:
        keras.utils.set_random_seed(1)
        data = pbl.load_data("digits", batch_size=64, augmentation={"flip": True})
        model = TwoOptimizers()
        model.build((None, 8, 8, 1))
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.optimizer.build(model.one.trainable_variables)
        stop = keras.callbacks.EarlyStopping(patience=5, min_delta=0.01, restore_best_weights=True)
        callbacks = [stop, Cut(), ExactResume(folder, data, minutes=1e-6), *more]
        return model, model.fit(data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0)

    whole, whole_history = fit(tmp_path / "whole", 4)
    for Cut.at in [("step", 0, 3), ("step", 2, 16)]:
        with pytest.raises(PowerCut):
            fit(tmp_path, 4)
    model, history = fit(tmp_path, 4)
    again, again_history = fit(tmp_path, 4)  # it has ended: nothing is trained
    for other, its_history in [(model, history), (again, again_history)]:
        for a, b in zip(whole.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert its_history.history == whole_history.history
    _, longer = fit(tmp_path, 6)
    assert len(longer.history["loss"]) == 6 and longer.history["loss"][:4] == whole_history.history["loss"]

    with pytest.raises(InputError, match="CSVLogger is after ExactResume"):
        fit(tmp_path, 6, keras.callbacks.CSVLogger(tmp_path / "log.csv"))
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.compile("sgd", "mse")
    with pytest.raises(InputError, match="contains the state of a training with second Adam; this one has fewer"):
        other.fit(np.zeros((4, 2)), np.zeros((4, 1)), callbacks=[ExactResume(tmp_path)], verbose=0)


class Noisy(keras.Model):
    """A model as students write it: no `build`, and random numbers without its own generator."""

    def __init__(self):
        super().__init__()
        self.one, self.drop = keras.layers.Dense(8), keras.layers.Dropout(0.2)
        self.two = keras.layers.Dense(10, activation="softmax")

    def call(self, x, training=False):
        x = self.drop(self.one(keras.ops.reshape(keras.ops.cast(x, "float32") / 255, (-1, 64))), training=training)
        return self.two(x + keras.random.normal(keras.ops.shape(x)) if training else x)


class Notebook:
    """A student's cells: data, model, callback, fit."""

    def __init__(
        self, folder: Path, batch_size: int = 64, steps: int = 1, with_data: bool = True, optimizer: str = "adam"
    ):
        keras.utils.set_random_seed(1)
        self.data = pbl.load_data("digits", batch_size=batch_size)
        self.model = Noisy()
        self.model.compile(optimizer, "sparse_categorical_crossentropy", steps_per_execution=steps)
        self.resume = ExactResume(folder, self.data if with_data else None, minutes=1e-6)

    def fit(self, *callbacks, epochs: int = 4) -> keras.callbacks.History:
        return self.model.fit(self.data.train, epochs=epochs, callbacks=[Cut(), *callbacks, self.resume], verbose=0)


def test_cells_of_a_notebook(tmp_path, capsys):
    """A cell that is run again after Ctrl-C resumes, with the same objects or with new ones."""
    whole = Notebook(tmp_path / "whole")
    expected = whole.fit()
    same = Notebook(tmp_path / "same")
    for Cut.at in [("step", 1, 5), ("step", 1, 9), ("step", 3, 1)]:  # twice within one epoch
        with pytest.raises(PowerCut):
            same.fit()
    history = same.fit()
    anew = Notebook(tmp_path / "anew")
    for Cut.at in [("step", 1, 5), ("epoch", 3)]:
        with pytest.raises(PowerCut):
            anew.fit()
        anew = Notebook(tmp_path / "anew")
    for other, its_history in [(same, history), (anew, anew.fit())]:
        for a, b in zip(whole.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert its_history.history == expected.history and its_history.epoch == [0, 1, 2, 3]
    assert same.fit().epoch == [0, 1, 2, 3] and "All epochs of" in capsys.readouterr().out

    Cut.at = ("step", 1, 5)
    broken = Notebook(tmp_path / "broken")
    with pytest.raises(PowerCut):
        broken.fit()
    Cut.at = ("step", 1, 9)
    with pytest.raises(PowerCut):
        broken.fit()
    seen = []
    broken.model.fit(broken.data.train, epochs=2, verbose=0, callbacks=[  # an unrelated fit
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    ])  # fmt: skip
    assert len(seen) == 2 * 17 and len(set(seen)) == 2 * 17


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"batch_size": 32}, "batch_size, seed or augmentation differ"),
        ({"steps": 3}, "the state of step 4, which steps_per_execution=3 does not reach"),
        ({"with_data": False}, r"can be resumed only with data: ExactResume\(folder, data\)"),
        ({"optimizer": "adamax"}, "a training with optimizer Adam; this one has optimizer Adamax"),
    ],
    ids=str,
)
def test_what_is_another_training(tmp_path, changed, said):
    Cut.at = ("step", 1, 5)
    with pytest.raises(PowerCut):
        Notebook(tmp_path).fit()
    with pytest.raises(InputError, match=said) as error:
        Notebook(tmp_path, **changed).fit()
    assert "\n" not in str(error.value)


def test_callbacks_that_cannot_go_on(tmp_path):
    class Odd(keras.callbacks.Callback):
        def get_state(self):
            return {"seen": {1, 2}}

    with pytest.raises(InputError, match=r"get_state\(\) of the callback Odd gives a set"):
        Notebook(tmp_path / "odd").fit(Odd())
    with pytest.raises(InputError, match="Give it append=True"):
        Notebook(tmp_path / "csv").fit(keras.callbacks.CSVLogger(tmp_path / "log.csv"))


def test_what_a_callback_forgets_is_said(tmp_path, capsys):
    class Forgets(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model_of_before = object()

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((4, 2)), np.zeros((4, 1)), epochs=2, callbacks=[Forgets(), ExactResume(tmp_path)], verbose=0)
    said = [line for line in capsys.readouterr().out.splitlines() if "forgets" in line]
    assert said == [
        "The callback Forgets forgets 'model_of_before' if the training is interrupted: it is not a number, text or array. Add"
        " get_state() and set_state(state)."
    ]


class Recorder(keras.callbacks.Callback):
    """Keeps an array and a list that only grow, like the monitor and the history."""

    def __init__(self):
        super().__init__()
        self.rows, self.table = [], np.empty((0, 1000), np.float16)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch, "loss": logs["loss"]})
        self.table = np.concatenate([self.table, np.full((1, 1000), epoch, np.float16)])

    def get_state(self):
        return {"rows": Growing("rows", self.rows), "table": Growing("table", self.table)}

    def set_state(self, state):
        self.rows, self.table = state["rows"], state["table"]


def test_a_state_is_written_once_and_what_grows_is_appended(tmp_path):
    """At most 1.3 times weights and optimizer, at most two states, and the same number of bytes in the 30th epoch as in the 2nd."""
    written, seen = [], []

    class Watch(keras.callbacks.Callback):  # comes before: it sees what the previous epoch has saved
        remembers_nothing = True

        def on_epoch_begin(self, epoch, logs=None):
            states = [file for file in resume.folder.glob("*") if file.suffix != ".journal"]
            seen.append((len(states), max((file.stat().st_size for file in states), default=0)))
            written.append(sum(file.stat().st_size for file in resume.folder.glob("*.journal")) + seen[-1][1])

    def fit(epochs):
        nonlocal resume
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(500), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        recorder, resume = Recorder(), ExactResume(tmp_path, minutes=1e-9)
        x = np.random.default_rng(0).normal(size=(8, 100)).astype("float32")
        model.fit(x, x[:, 0], epochs=epochs, callbacks=[recorder, Watch(), resume], shuffle=False, verbose=0)
        return model, recorder

    resume = None
    model, _ = fit(30)
    weights = 4 * sum(variable.numpy().size for variable in [*model.variables, *model.optimizer.variables])
    counts, sizes = zip(*seen, strict=True)
    assert max(counts) == 2 and weights < max(sizes) < 1.3 * weights
    growth = np.diff(written[2:])
    assert growth.max() < 1.2 * growth.min() < 4000
    _, recorder = fit(31)  # as in another process
    assert [row["epoch"] for row in recorder.rows] == list(range(31)) == recorder.table[:, 0].tolist()


@pytest.mark.nightly
@pytest.mark.slow
def test_a_state_is_kept_no_more_often_than_costs_a_twentieth(tmp_path, monkeypatch):
    """With 60 very short epochs, and .3 s for a state: only the last one is saved; with a long training also some in between."""
    from pbl.training import checkpoint

    clock, kept = [0.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])

    def keep(self, epoch, step, logs=None, keep=ExactResume._keep):
        kept.append((epoch, clock[0]))
        keep(self, epoch, step, logs)

    def slow(*arguments, write=checkpoint._write_bytes):
        clock[0] += 0.15  # twice the time of a state
        write(*arguments)

    monkeypatch.setattr(ExactResume, "_keep", keep)
    monkeypatch.setattr(checkpoint, "_write_bytes", slow)
    for seconds, most in ((0.1, 1), (1, 6), (3, 20)):
        kept.clear()
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")

        class Pass(keras.callbacks.Callback):
            remembers_nothing = True

            def on_epoch_end(self, epoch, logs=None, seconds=seconds):
                clock[0] += seconds

        model.fit(
            np.zeros((4, 2)),
            np.zeros((4, 1)),
            epochs=60,
            verbose=0,
            callbacks=[Pass(), ExactResume(tmp_path / str(seconds))],
        )
        assert kept[-1][0] == 60 and len(kept) <= most
        assert 0.3 * (len(kept) - 1) <= 0.05 * 60 * seconds
        assert most == 1 or len(kept) > most / 2  # and not much less often


def test_the_best_weights_hold_weights_alone(tmp_path):
    """Nothing that Adam stores, whatever names a model gives its optimizers; and they are read as before."""
    from pbl.models.saving import save_model

    for model in (keras.Sequential([keras.Input((4,)), keras.layers.Dense(30)]), TwoOptimizers()):
        if isinstance(model, TwoOptimizers):
            model.build((None, 8, 8, 1))
        model.compile("adam", "mse")
        model.optimizer.build(model.trainable_variables)
        save_model(model, tmp_path, "best")
        with h5py.File(tmp_path / "best.weights.h5") as file:
            stored = []
            file.visititems(lambda _, item, stored=stored: stored.append(item.size) if hasattr(item, "size") else None)
        assert sum(stored) == sum(variable.numpy().size for variable in model.variables if "seed" not in variable.path)
        before = model.get_weights()
        model.set_weights([0 * weight for weight in before])
        model.load_weights(tmp_path / "best.weights.h5")
        for one, other in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_second_process_is_refused(tmp_path):
    Cut.at = ("epoch", 2)
    with pytest.raises(PowerCut):
        pbl.train(pbl.Config(**CONFIG), folder=tmp_path)
    run = pbl.load_run(tmp_path / "x" / "001")
    with run.lock(), pytest.raises(InputError, match=r"is being trained now, by process .* add --fresh") as error:
        pbl.train(pbl.Config(**CONFIG), folder=tmp_path)
    assert "\n" not in str(error.value)
    with contextlib.suppress(PowerCut):
        assert training.train(pbl.Config(**CONFIG), folder=tmp_path).environment["status"] == "finished"


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 8
    file.write_bytes(content)


BEST = [  # epochs of the weights, of the archive, and of the training's state; the damaged file; the best epoch then, and the message
    (5, 5, 5, None, 5, ""),
    (5, 5, 5, "best.weights.h5", 5, "best.weights.h5 is ignored, because it is damaged"),
    (5, 5, 5, "best.keras", 5, "best.keras is ignored, because it is damaged"),
    (7, 3, 5, None, 7, ""),
    (3, 7, 5, None, 7, ""),
    (3, 3, 5, None, 3, "The best model so far, of epoch 5, is missing"),
    (5, 3, 5, "best.weights.h5", 3, "The best model so far, of epoch 5, is missing"),
    (None, None, 5, None, None, "The best model so far, of epoch 5, is missing"),
    ("earlier", None, 5, None, 5, ""),
    ("earlier", 3, 5, None, 5, ""),
]


@pytest.mark.parametrize(("weights", "archive", "state", "rotten", "best", "said"), BEST)
def test_a_best_model_that_is_older_damaged_or_gone_is_noticed(
    tmp_path, capsys, weights, archive, state, rotten, best, said
):
    """As on a Drive that kept one file and not the other; complete files are used, the rest is reported."""
    model, stored = keras.Sequential(), io.BytesIO()
    with h5py.File(stored, "w") as file:
        file["kernel"] = np.random.default_rng(0).normal(size=400)
    for name, epoch in (("weights", weights), ("archive", archive)):
        comment = {"epoch": epoch, "val_loss": 0.5}
        with zipfile.ZipFile(tmp_path / "best.keras", "w") as written:
            written.writestr("model.weights.h5", stored.getvalue())
            written.comment = json.dumps(comment).encode()
        if name == "weights" and epoch is not None:
            copy_weights(tmp_path / "best.keras", tmp_path / "best.weights.h5", model, comment)
    if weights == "earlier":
        (tmp_path / "best.weights.h5").write_bytes(bytes(3000))
    if archive is None:
        (tmp_path / "best.keras").unlink()
    if rotten:
        flip(tmp_path / rotten)
    kept = BestModel(tmp_path)
    kept.set_model(model)
    kept.set_state({"best_loss": 0.5, "best_epoch": state, "waiting": None})
    err = capsys.readouterr().err
    assert kept.best_epoch == best and (said in err if said else not err), err
    assert kept.lost_epoch == (5 if "is missing" in said else None)
    if best is not None and weights != "earlier":
        assert read_seal(tmp_path / "best.weights.h5")["epoch"] == best


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Two states, from the second and the third epoch, and the journal of both."""
    folder = tmp_path_factory.mktemp("grown")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callbacks = [Recorder(), ExactResume(folder, minutes=1e-9)]
    model.fit(np.zeros((4, 2)), np.zeros((4, 1)), epochs=3, verbose=0, callbacks=callbacks)
    return folder / "checkpoint"


def cut_off(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 10)


def link_out(file: Path) -> None:
    outside = file.parent.parent.parent / file.name
    shutil.move(file, outside)
    file.symlink_to(outside)


@pytest.mark.parametrize(
    ("name", "change", "epoch", "said"),
    [
        ("1.journal", cut_off, 2, "3.npz is damaged and not used: {journal} is not used, because it is damaged."),
        ("1.journal", flip, None, "2.npz is damaged and not used: {journal} is not used, because it is damaged."),
        ("1.journal", Path.unlink, None, "2.npz is damaged and not used: 1.journal is missing"),
        (
            "1.journal",
            link_out,
            None,
            "2.npz is damaged and not used: {journal} is not used, because it is a link that",
        ),
        ("3.npz", flip, 2, "3.npz is damaged and not used: it is damaged"),
        ("3.npz", cut_off, 2, "3.npz is damaged and not used: it is damaged"),
        ("3.npz", Path.unlink, 2, ""),
    ],
)
def test_a_journal_or_state_that_is_damaged_or_gone(tmp_path, capsys, grown, name, change, epoch, said):
    """Training resumes from an older complete state, never from an incomplete one."""
    folder = shutil.copytree(grown, tmp_path / "run" / "checkpoint")
    change(folder / name)
    newest = ExactResume(folder.parent).newest
    assert (newest and newest["epoch"]) == epoch
    assert said.format(journal=folder / "1.journal") in capsys.readouterr().out
    if newest:
        assert newest["grown"]["0 table"][:2, 0].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["1.journal", "3.npz"])
def test_a_journal_or_state_that_cannot_be_read_now_is_waited_for(tmp_path, monkeypatch, grown, name):
    """Resuming from an older state would train epochs a second time."""
    real, left = os.open, [1]

    def fail(path, *words):
        if str(path).endswith(name) and left:
            left.pop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *words)

    monkeypatch.setattr(os, "open", fail)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(storage._waiting, "was_in_vain", -1e9, raising=False)
    assert ExactResume(grown.parent).newest["epoch"] == 3 and not left
    left.extend([1] * 20)
    with pytest.raises(InputError, match="cannot be read now"):
        _ = ExactResume(grown.parent).newest
