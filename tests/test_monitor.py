"""What OverfittingMonitor measures: compared with scikit-learn and with a gradient computed by hand; and that it changes nothing."""

import base64
import itertools
import json
import os
import re
import subprocess
import sys
import time
import types
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss

import pbl
from pbl.diagnosis import live
from pbl.diagnosis import monitor as module
from pbl.diagnosis.curves import plot_progress
from pbl.diagnosis.live import describe_epoch
from pbl.diagnosis.monitor import _choose
from pbl.diagnosis.signals import Side, Signals
from pbl.errors import InputError
from pbl.reports.run_report import MOST_UNPACKED
from pbl.statistics import newcombe_interval

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(360, 6, 6, 2)).astype(np.float32), RANDOM.integers(0, 3, 360)
TRAIN, VAL = (X[:300], Y[:300]), (X[300:], Y[300:])


def network(*head: keras.layers.Layer, before: tuple = ()) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [*before, keras.layers.Flatten(), keras.layers.Dense(16, activation="relu"), keras.layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((6, 6, 2)), *layers, *head])


def softmax(**options) -> keras.Model:
    return network(keras.layers.Dense(3, activation="softmax", dtype="float32"), **options)


def fit(
    model: keras.Model, monitor=None, train=TRAIN, val=VAL, epochs=3, loss="sparse_categorical_crossentropy", **options
):
    model.compile("adam", loss, metrics=["accuracy"], **options)
    callbacks = [] if monitor is None else [monitor]
    return model.fit(*train, validation_data=val, epochs=epochs, batch_size=50, verbose=0, callbacks=callbacks).history


def probabilities(outputs: np.ndarray, is_logits: bool) -> np.ndarray:
    if outputs.shape[1] == 1:
        right = 1 / (1 + np.exp(-outputs)) if is_logits else outputs
        return np.hstack([1 - right, right])
    return np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True) if is_logits else outputs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("units", "activation", "loss", "is_logits"),
    [
        (3, "softmax", "sparse_categorical_crossentropy", False),
        (3, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True), True),
        (3, None, lambda y, z: keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True), True),
        (3, "softmax", "categorical_crossentropy", False),
        (1, "sigmoid", "binary_crossentropy", False),
        (1, None, keras.losses.BinaryCrossentropy(from_logits=True), True),
    ],
)
def test_loss_and_accuracy_are_those_of_scikit_learn(units, activation, loss, is_logits):
    y = Y % 2 if units == 1 else Y
    targets = keras.utils.to_categorical(y) if loss == "categorical_crossentropy" else y
    train, val = (X[:300], targets[:300]), (X[300:], targets[300:])
    model = network(keras.layers.Dense(units, activation=activation))
    monitor = pbl.OverfittingMonitor(train, val)
    history = fit(model, monitor, train, val, loss=loss)
    given = probabilities(model.predict(X, verbose=0), is_logits)
    right = given.argmax(axis=1) == y
    for name, part in (("probe", slice(0, 300)), ("val_probe", slice(300, 360))):
        expected = log_loss(y[part], given[part], labels=range(given.shape[1]))
        np.testing.assert_allclose(history[f"{name}_loss"][-1], expected, rtol=1e-5)
        np.testing.assert_allclose(history[f"{name}_accuracy"][-1], right[part].mean(), rtol=1e-6)
    interval = newcombe_interval(right[:300].sum(), 300, right[300:].sum(), 60)
    expected = (right[:300].mean() - right[300:].mean(), *interval)
    np.testing.assert_allclose(monitor.signals.gap, expected, rtol=1e-6)
    np.testing.assert_allclose([history[name][-1] for name in ("gap", "gap_low", "gap_high")], expected, rtol=1e-6)
    side = monitor.signals.val
    assert side.loss.shape == side.predicted.shape == side.confidence.shape == (4, 60)
    np.testing.assert_allclose(side.confidence[-1], given[300:].max(axis=1), rtol=2e-3)
    assert [row["epoch"] for row in monitor.signals.epochs] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        ("float32", {}),
        pytest.param("mixed_bfloat16", {}, marks=pytest.mark.nightly),
        ("mixed_float16", {}),
        pytest.param("float32", {"steps_per_execution": 3}, marks=pytest.mark.nightly),
    ],
)
def test_the_training_is_not_changed(policy, options):
    """The random states are not changed either, with layers that draw and that keep averages; and few images are used, the same each time."""

    def trained(monitor) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        with pbl.training.performance.precision(policy):
            drawing = (keras.layers.RandomFlip(), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization())
            model = softmax(before=drawing)
        fit(model, monitor, **options)
        return [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]

    monitors = [pbl.OverfittingMonitor(TRAIN, VAL, every=2) for _ in range(2)]
    for alone, watched, again in zip(trained(None), *(trained(monitor) for monitor in monitors), strict=True):
        np.testing.assert_array_equal(alone, watched)
        np.testing.assert_array_equal(alone, again)
    one, other = (monitor.signals.to_dict() for monitor in monitors)
    for names in (*one["network"], *other["network"], one["about"], other["about"]):  # Keras keeps counting its layers
        for name in {"model", "kernels", "rectified"} & set(names):
            del names[name]
    for row in (*one["epochs"], *other["epochs"]):
        row.pop("images_per_second", None)
    np.testing.assert_equal(one, other)
    assert [look["epoch"] for look in one["network"]] == [0, 2, 3]


def test_one_monitor_for_several_trainings():
    """Another model starts again, the same one continues; an `initial_epoch` is where the rows begin."""
    monitor, first, second = pbl.OverfittingMonitor(TRAIN, VAL), softmax(), softmax(before=(keras.layers.Conv2D(2, 3),))
    fit(first, monitor)
    fit(second, monitor, epochs=1)
    assert [row["epoch"] for row in monitor.signals.epochs] == [0, 1]
    assert all(len(look["kernels"]) == len(look["gradient_norms"]) == 3 for look in monitor.signals.network)
    options = {"validation_data": VAL, "verbose": 0, "callbacks": [monitor]}
    second.fit(*TRAIN, initial_epoch=1, epochs=3, **options)
    assert [row["epoch"] for row in monitor.signals.epochs] == [0, 1, 2, 3]
    second.fit(*TRAIN, initial_epoch=7, epochs=8, **options)
    assert [row["epoch"] for row in monitor.signals.epochs] == [7, 8] and len(monitor.signals.val.loss) == 2


def test_one_transfer_to_the_host_an_epoch(monkeypatch):
    transfers = []
    to_host = module._to_host
    monkeypatch.setattr(module, "_to_host", lambda numbers: transfers.append(1) or to_host(numbers))
    fit(softmax(), pbl.OverfittingMonitor(TRAIN, VAL, every=2), epochs=6)
    assert len(transfers) == 7  # and before training


def test_more_images_when_the_training_has_ended(monkeypatch, tmp_path):
    """The gap is then computed on all of them, until the training continues."""
    monkeypatch.setattr(module, "FEWEST", 50)
    transfers, to_host = [], module._to_host
    monkeypatch.setattr(module, "_to_host", lambda numbers: transfers.append(1) or to_host(numbers))
    model, monitor = softmax(), pbl.OverfittingMonitor(TRAIN, VAL, every=0, file=tmp_path / "signals.npz")
    history = fit(model, monitor, epochs=3)
    signals = monitor.signals
    assert [len(side.labels) for side in (signals.probe, signals.val)] == [50, 50] and len(transfers) == 5
    assert (VAL[1][[int(name) for name in signals.about["val_items"]]] == signals.val.labels).all()
    right = [int((model.predict(x, verbose=0).argmax(axis=1) == y).sum()) for x, y in (TRAIN, VAL)]
    assert signals.known == (right[0], 300, right[1], 60)
    assert signals.known[2] / 60 == pytest.approx(history["val_accuracy"][-1])
    assert Signals.load(tmp_path / "signals.npz").known == signals.known
    signals.epochs.append({"epoch": 4})
    assert signals.known[1] == signals.known[3] == 50
    monitor.looks_at_end = False
    fit(model, monitor, epochs=1)
    assert not monitor.signals.end
    signals.cut(2)
    assert not signals.end and signals.known[1] == 50


def test_gradients_are_those_of_a_tape():
    model = network(keras.layers.Dense(3, activation="softmax"))
    model.layers[-2].rate = 0.0
    monitor = pbl.OverfittingMonitor(TRAIN)
    at = module._spread(0, 300)
    assert len(set(at)) == len(at) == module.LOOKED_AT and at[0] == 0 and at[-1] == 299
    few = monitor._pixels[0][at], monitor.signals.probe.labels[at]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(few[1], model(few[0], training=True)))
    weights = [weight for weight in model.trainable_weights if len(weight.shape) == 2]
    norms = [float(tf.norm(gradient)) for gradient in tape.gradient(loss, [weight.value for weight in weights])]
    before = [weight.numpy() for weight in weights]
    fit(model, monitor, epochs=1)
    first, last = monitor.signals.network
    np.testing.assert_allclose(first["gradient_norms"], norms, rtol=1e-5)
    np.testing.assert_allclose(first["loss_in_training"], float(loss), rtol=1e-5)
    changes = [np.linalg.norm(weight - old) for weight, old in zip(weights, before, strict=True)]
    np.testing.assert_allclose(
        last["update_ratios"], [c / np.linalg.norm(w) for c, w in zip(changes, weights, strict=True)], rtol=1e-4
    )
    assert np.isnan(first["update_ratios"]).all()
    assert first["kernels"] == [weight.path for weight in weights]


def test_dead_units_vanishing_gradients_and_stored_statistics_are_seen():
    dead = softmax()
    bias = np.where(np.arange(16) < 12, -100, 0)
    dead.layers[1].bias.assign(bias)
    deep = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            *(keras.layers.Dense(20, activation="sigmoid") for _ in range(10)),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    far = softmax(before=(keras.layers.BatchNormalization(momentum=0.999),))
    looks = {}
    for name, model in {"dead": dead, "deep": deep, "far": far}.items():
        monitor = pbl.OverfittingMonitor((TRAIN[0] * 5 + 20, TRAIN[1]), (VAL[0] * 5 + 20, VAL[1]))
        fit(model, monitor, train=(TRAIN[0] * 5 + 20, TRAIN[1]), val=(VAL[0] * 5 + 20, VAL[1]), epochs=5)
        looks[name] = monitor.signals.network
    assert 0.75 <= looks["dead"][0]["dead"][0] <= 1
    first = looks["deep"][0]["gradient_norms"]
    assert first[0] / first[-1] < 1e-3  # Glorot and Bengio 2010
    assert looks["far"][-1]["loss_stored"] > 2 * looks["far"][-1]["loss_anew"]
    assert looks["dead"][0]["loss_stored"] == looks["dead"][0]["loss_anew"]


def test_the_penalty_is_told_apart():
    model = network(keras.layers.Dense(3, activation="softmax", kernel_regularizer=keras.regularizers.L2(0.1)))
    monitor = pbl.OverfittingMonitor(TRAIN, VAL)
    history = fit(model, monitor)
    row = monitor.signals.epochs[-1]
    np.testing.assert_allclose(row["penalty"], 0.1 * (model.layers[-1].kernel.numpy() ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"][-1], row["val_probe_loss"] + row["penalty"], rtol=1e-5)


def test_what_is_not_there(tmp_path):
    """No validation, one epoch, two images for each class, no finite number from the first step on."""
    few = X[:6], np.array([0, 1, 2, 0, 1, 2])
    monitor = pbl.OverfittingMonitor(few, file=tmp_path / "signals.npz")
    history = fit(softmax(), monitor, few, None, epochs=1)
    assert "gap" not in history and len(history["probe_loss"]) == 1 and np.isnan(monitor.signals.gap[0])
    bad = softmax()
    bad.layers[-1].bias.assign(np.full(3, np.nan))
    monitor = pbl.OverfittingMonitor(TRAIN, VAL, file=tmp_path / "signals.npz")
    fit(bad, monitor)
    read = Signals.load(tmp_path / "signals.npz")
    assert np.isnan(read.probe.loss).all()
    np.testing.assert_equal(read.to_dict(), monitor.signals.to_dict())


def test_large_sets_are_sampled_each_class_in_its_share():
    labels = np.repeat([0, 1], [9000, 1000])
    images = np.zeros((10_000, 1, 1, 1), np.float32)
    monitor = pbl.OverfittingMonitor((images, labels), (images, labels))
    assert np.bincount(monitor.signals.probe.labels).tolist() == [450, 50]
    data = pbl.load_data(
        pbl.data.from_arrays(
            *(np.random.default_rng(0).integers(0, 256, (3000, 4, 4, 1), np.uint8), np.repeat([0, 1, 2], 1000))
        )
    )
    of_data = pbl.OverfittingMonitor(data).signals
    assert abs(np.bincount(of_data.probe.labels) - 167).max() <= 1 and len(of_data.val.labels) == 315


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pbl.OverfittingMonitor(3), r"takes the data of pbl.load_data, or arrays"),
        (lambda: pbl.OverfittingMonitor((X, Y - 1)), "counted from 0, and one label is -1"),
        (
            lambda: pbl.OverfittingMonitor((X, Y), (X[:, :4], Y)),
            r"images have the shape \(6, 6, 2\), validation images \(4",
        ),
        (
            lambda: behind(),
            r"The callback EarlyStopping is before OverfittingMonitor.*Put OverfittingMonitor first",
        ),
        (lambda: pbl.OverfittingMonitor((X, ["a", "b"] * 180)), "labels are words or objects, such as 'a'"),
        (lambda: pbl.OverfittingMonitor((X, Y + 0.5)), "whole number"),
        (lambda: pbl.OverfittingMonitor((X, Y[:5])), r"360 images and labels of the shape \(5,\) do not match"),
        (
            lambda: fit(network(keras.layers.Dense(2)), pbl.OverfittingMonitor(TRAIN)),
            r"labels go up to 2, but the model has 2",
        ),
        (
            lambda: fit(two_outputs(), pbl.OverfittingMonitor(TRAIN), (X, [Y, Y]), None),
            r"one output .* this model gives",
        ),
        (
            lambda: fit(per_pixel(), pbl.OverfittingMonitor(TRAIN), (X, X), None, loss="mse"),
            r"one output .* this model gives",
        ),
        (
            lambda: fit(network(keras.layers.Dense(1, activation="sigmoid")), pbl.OverfittingMonitor(OF_TEN), OF_TEN, None, loss="binary_crossentropy"),
            "one output, which distinguishes two classes, but the labels have 10",
        ),
        (
            lambda: fit(network(keras.layers.Dense(32)), pbl.OverfittingMonitor(TRAIN), TRAIN, None, loss=spread_out),
            r"not probabilities of classes: 32 numbers for each image, and the labels have 3 classes",
        ),
        (
            lambda: fit(network(keras.layers.Dense(3)), pbl.OverfittingMonitor(TRAIN), ONE_HOT, None, loss="mse"),
            "not probabilities of classes: 3 number",
        ),
        (
            lambda: fit(autoencoder(), pbl.OverfittingMonitor(TRAIN), PIXELS, None, loss="binary_crossentropy"),
            "not probabilities of classes: 72 number",
        ),
        (
            lambda: fit(autoencoder(keras.layers.Reshape((6, 6, 2))), pbl.OverfittingMonitor(TRAIN), (X, X), None, loss="mse"),
            r"one output .* this model gives \['images', 6, 6, 2\]",
        ),
        (
            lambda: fit(by_name("one", "other"), pbl.OverfittingMonitor(TRAIN), (X, {"one": Y, "other": Y}), None),
            r"one output .* this model gives \['images', 4\] and \['images', 4\]",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_said_in_one_line(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize(
    ("labels", "loss", "said"),
    [
        ("int", "categorical_crossentropy", "takes one-hot labels, but the labels are class numbers"),
        ("one_hot", "sparse_categorical_crossentropy", "takes class numbers, but the labels are one-hot"),
    ],
)
def test_a_loss_of_other_labels_is_told_in_one_line(labels, loss, said):
    data = pbl.load_data("digits", labels=labels)
    model = pbl.models.build("softmax_regression", data.input_shape, 10)
    model.compile("sgd", loss)
    with pytest.raises(InputError, match=said):
        model.fit(data.train, validation_data=data.val, callbacks=[pbl.OverfittingMonitor(data)], verbose=0)


def behind() -> None:
    model = softmax()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(*TRAIN, verbose=0, callbacks=[keras.callbacks.EarlyStopping(), pbl.OverfittingMonitor(TRAIN)])


def two_outputs() -> keras.Model:
    images = keras.Input((6, 6, 2))
    flat = keras.layers.Flatten()(images)
    model = keras.Model(images, [keras.layers.Dense(3, name=name)(flat) for name in ("one", "other")])
    model.compile = lambda *_, **__: keras.Model.compile(model, "sgd", "mse")
    return model


OF_TEN, ONE_HOT = (X, np.arange(360) % 10), (X, keras.utils.to_categorical(Y))
PIXELS = (X, (X > 0).reshape(360, 72).astype(np.float32))


def spread_out(labels, embeddings):
    """A loss of embeddings, as in contrastive learning."""
    return keras.ops.mean(keras.ops.matmul(embeddings, keras.ops.transpose(embeddings)), axis=-1)


def autoencoder(*head: keras.layers.Layer) -> keras.Model:
    return network(keras.layers.Dense(72, activation="sigmoid"), *head)


def by_name(*names: str) -> keras.Model:
    """A model whose outputs are a dictionary."""
    images = keras.Input((6, 6, 2))
    flat = keras.layers.Flatten()(images)
    model = keras.Model(images, {name: keras.layers.Dense(4, "softmax", name=name)(flat) for name in names})
    losses = dict.fromkeys(names, "sparse_categorical_crossentropy")
    model.compile = lambda *_, **__: keras.Model.compile(model, "sgd", losses)
    return model


class WithAuxiliary(keras.Model):
    """Gives a second output in training, which helps the first."""

    def call(self, images, training=None, mask=None):
        outputs = super().call(images, training=training, mask=mask)
        return outputs if training else outputs[0]


def with_auxiliary() -> keras.Model:
    images = keras.Input((6, 6, 2))
    flat = keras.layers.Flatten()(images)
    heads = [keras.layers.Dense(3, activation="softmax", name=name)(flat) for name in ("main", "auxiliary")]
    model = WithAuxiliary(images, heads)
    model.compute_loss = lambda x, y, y_pred, *_, **__: keras.ops.mean(
        keras.losses.sparse_categorical_crossentropy(y, y_pred[0] if isinstance(y_pred, (list, tuple)) else y_pred)
    )
    model.compile = lambda *_, **__: keras.Model.compile(model, "sgd")
    return model


@pytest.mark.parametrize(
    ("make", "loss", "train"),
    [
        (lambda: network(keras.layers.Dense(9)), keras.losses.SparseCategoricalCrossentropy(from_logits=True), TRAIN),
        (lambda: network(keras.layers.Dense(9, "softmax")), "sparse_categorical_crossentropy", TRAIN),
        (lambda: network(keras.layers.Dense(9, "softmax")), lambda y, p: -keras.ops.log(p[:, 0]), TRAIN),
        (lambda: network(keras.layers.Dense(3, "softmax")), "mse", ONE_HOT),
        (lambda: network(keras.layers.Dense(3, "sigmoid")), "binary_crossentropy", ONE_HOT),
        (lambda: by_name("only"), None, (X, {"only": Y})),
        (with_auxiliary, None, TRAIN),
    ],
)
def test_more_outputs_than_labels_and_other_losses_are_judged(make, loss, train):
    """One row for nine classes of which the labels have three; and a classifier is recognised by its outputs."""
    model, monitor = make(), pbl.OverfittingMonitor((X, Y))
    fit(model, monitor, train, None, epochs=1, loss=loss)
    (outputs,) = keras.tree.flatten(model.predict(X, verbose=0))
    assert monitor.signals.epochs[-1]["probe_accuracy"] == pytest.approx((outputs.argmax(axis=1) == Y).mean(), abs=1e-6)


def per_pixel() -> keras.Model:
    return keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(2, 1)])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", None])
def test_a_damaged_file_is_said_in_one_line(tmp_path, content):
    file = tmp_path / "signals.npz"
    if content is None:
        np.savez(file, text=np.frombuffer(json.dumps({}).encode(), np.uint8))
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        Signals.load(file)
    with pytest.raises(InputError, match="is missing: the run ended during"):
        Signals.load(tmp_path / "none.npz")


JAX = """
import keras, numpy as np, sys
sys.path.insert(0, "tests")
import pbl.diagnosis.monitor
from pbl.monitor import OverfittingMonitor
random = np.random.default_rng(0)
x, y = random.normal(size=(360, 6, 6, 2)).astype("float32"), random.integers(0, 3, 360)
def trained(*monitors):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6, 6, 2)), *layers, keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x[:300], y[:300], validation_data=(x[300:], y[300:]), epochs=3, verbose=0, callbacks=list(monitors)).history
    return model.get_weights(), history
monitor = OverfittingMonitor((x[:300], y[:300]), (x[300:], y[300:]), every=2)
alone, (watched, history) = trained()[0], trained(monitor)
assert keras.backend.backend() == "jax" and all((a == b).all() for a, b in zip(alone, watched))
np.testing.assert_allclose(history["val_probe_loss"], history["val_loss"], rtol=1e-5)
assert [look["epoch"] for look in monitor.signals.network] == [0, 2, 3]
assert all(np.isfinite(look["gradient_norms"]).all() and len(look["dead"]) == 1 for look in monitor.signals.network)
pbl.diagnosis.monitor.AT_ONCE = 1
in_parts = OverfittingMonitor((x[:300], y[:300]), (x[300:], y[300:]), every=2)
assert all((a == b).all() for a, b in zip(watched, trained(in_parts)[0]))
for at_once, parts in zip(monitor.signals.network, in_parts.signals.network):
    np.testing.assert_allclose(parts["loss_stored"], at_once["loss_stored"], rtol=1e-4)
    np.testing.assert_allclose(parts["loss_anew"], at_once["loss_anew"], rtol=0.1)
"""


@pytest.mark.parametrize("epochs", [2, module.FEW_EPOCHS])  # nothing is traced, or the judging is
def test_a_large_network_judges_its_images_in_parts(monkeypatch, epochs):
    """What a network's layers give out for 256 images may be many times what a training batch needs: ResNet-50 at 96 pixels took 12 GB."""
    judged: list[int] = []

    class Watched(keras.layers.Layer):
        def call(self, inputs):
            if isinstance(inputs.shape[0], int):  # not where it is traced for any number
                judged.append(inputs.shape[0])
            return inputs

    def look(at_once: int, normalises: bool) -> list[dict]:
        monkeypatch.setattr(module, "AT_ONCE", at_once)
        keras.utils.set_random_seed(0)
        layers = [
            Watched(),
            keras.layers.Conv2D(4, 3),
            *[keras.layers.BatchNormalization()] * normalises,
            keras.layers.ReLU(),
        ]
        layers += [keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
        model = keras.Sequential([keras.Input((6, 6, 2)), *layers])
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        monitor = pbl.OverfittingMonitor(TRAIN, VAL, every=1)
        judged.clear()
        model.fit(*TRAIN, validation_data=VAL, epochs=epochs, batch_size=22, verbose=0, callbacks=[monitor])
        return monitor.signals.network

    for normalises in (False, True):
        whole, most = look(2**30, normalises), max(judged)
        parts = look(1, normalises)
        assert most >= module.LOOKED_AT and max(judged) == 10  # half a training batch
        for one, other in zip(whole, parts, strict=True):
            for name in ("weight_norms", "update_ratios", "dead", "loss_stored"):
                np.testing.assert_allclose(other[name], one[name], rtol=1e-4)
            # Batch normalisation takes the statistics of each part; of all parts' statistics the mean is taken.
            for name in ("gradient_norms", "loss_in_training", "loss_anew"):
                np.testing.assert_allclose(
                    other[name], one[name], rtol=0.2 if normalises else 1e-4, atol=1e-3 * normalises
                )


def test_on_jax():
    pytest.importorskip("jax", reason="JAX is not installed")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", JAX], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook shows: pairs of "new" or "changed" and the content."""
    shown = []

    class Handle:
        def update(self, line):
            shown.append(("changed", line))

    def display(line, display_id):
        assert display_id
        shown.append(("new", line))
        return Handle()

    notebook = types.SimpleNamespace(display=display, HTML=str)
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    ipython = types.ModuleType("IPython")
    ipython.version_info = (9, 0, 0)  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    monkeypatch.delenv("CI", raising=False)
    return shown


def test_a_notebook_shows_one_line_that_changes(notebook, monkeypatch):
    shown = notebook
    monitor = pbl.OverfittingMonitor(TRAIN, VAL)
    fit(softmax(), monitor)
    gap, low, high = (100 * number for number in monitor.signals.gap)
    assert [kind for kind, _ in shown] == ["new", "changed", "changed", "changed"]  # again when everything has ended
    assert (
        "Epoch 3: " in shown[-1][1] and f"gap {gap:.1f} points (95% interval {low:.1f} to {high:.1f})" in shown[-1][1]
    )
    monkeypatch.setenv("PBL_LANGUAGE", "ja")
    assert describe_epoch(monitor.signals).startswith("エポック 3：訓練の正解率 ")
    assert monitor.diagnosis.headline.name in pbl.diagnosis.NAMES


@pytest.mark.parametrize(
    ("seconds", "cost", "least", "most"),
    [(2, 0.01, 0, 0), (3, 0.01, 5, 8), (10, 0.2, 12, 15), (100, 0.2, 30, 30), (10, 5, 1, 1)],
)
def test_curves_are_redrawn_in_place_for_a_hundredth_of_the_time(notebook, monkeypatch, seconds, cost, least, most):
    """30 epochs with these seconds, and pictures at this cost: each at least 3 seconds after the last, together below 1%, except
    for the first one, whose cost is not known."""
    now, pictures = [0.0], []
    monkeypatch.setattr(live.time, "perf_counter", lambda: now[0])

    def draw(signals):
        pictures.append((now[0], len(signals.epochs)))
        now[0] += cost
        return f"<img of {len(signals.epochs)}>"

    monkeypatch.setattr(live, "_draw", draw)
    monkeypatch.setattr(live, "describe_epoch", lambda signals: f"line {len(signals.epochs)}")
    curves = live.LiveCurves()
    now[0] += 50  # time before the training does not count
    curves.begin()
    for epoch in range(1, 31):
        now[0] += seconds
        curves.show(types.SimpleNamespace(epochs=[0] * epoch))
    assert least <= len(pictures) <= most
    assert cost * (len(pictures) - 1) <= 0.01 * (now[0] - 50)
    assert all(later - earlier >= 3 for (earlier, _), (later, _) in itertools.pairwise(pictures))
    curves.show(types.SimpleNamespace(epochs=[0] * 31), has_ended=True)
    assert [kind for kind, _ in notebook] == ["new"] + 30 * ["changed"]
    assert notebook[-1][1] == ("<b>line 31</b><img of 31>" if most else "<b>line 31</b>")


def test_the_curves_of_a_notebook_are_a_picture_of_all_epochs(notebook, monkeypatch):
    monkeypatch.setattr(live, "REST_SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e6)
    monitor = pbl.OverfittingMonitor(TRAIN, VAL)
    fit(softmax(), monitor)
    said, picture = re.search('<img alt="(.+?)" src="data:image/png;base64,(.+?)">', notebook[-1][1]).groups()
    assert said.startswith("Epoch 3: ") and base64.b64decode(picture).startswith(b"\x89PNG")
    figure = plot_progress(monitor.signals)
    assert [len(axes.lines[0].get_xdata()) for axes in figure.axes[:2]] == [4, 4]  # from before the training on
    monkeypatch.setenv("CI", "true")
    assert not live.is_watched()


def test_how_long_the_data_alone_take_is_logged():
    data = pbl.load_data("digits", batch_size=32)
    model = pbl.models.build("mlp", data.input_shape, data.num_classes, widths=[8])
    model.compile("adam", "sparse_categorical_crossentropy")
    monitor = pbl.OverfittingMonitor(data)
    history = model.fit(data.train, epochs=2, shuffle=False, verbose=0, callbacks=[monitor]).history
    assert all(0 < share < 5 for share in history["data_share"]) and len(history["data_share"]) == 2


@pytest.mark.parametrize(
    ("classes", "each"), [(600, 12), (1_000, 7), (400, 7), pytest.param(10_000, 7, marks=pytest.mark.nightly)]
)
def test_many_classes_with_few_images(tmp_path, classes, each):
    """Each class is looked at in its share, even with a single validation image; and the written file is read back."""
    labels = np.repeat(np.arange(classes), each)
    if classes == 400:  # some common classes besides the rare ones
        labels = np.concatenate([labels, np.repeat(np.arange(10), 700)])
    images = np.zeros((len(labels), 2, 2, 1), np.uint8)
    images.reshape(len(labels), 4).view(np.uint32)[:, 0] = np.arange(len(labels))
    data = pbl.load_data(pbl.data.from_arrays(images, labels))
    for split, most in (("train", 1_500), ("val", 500), ("val", 100)):
        whole = data.images(split)
        part = data.sample(split, most)
        share = min(1, most / len(whole.labels))
        assert len(part.labels) == min(most, len(whole.labels)) or classes == 400
        expected, found = (np.bincount(of, minlength=classes) for of in (whole.labels, part.labels))
        assert (found >= np.floor(share * expected) - 1).all() and (found <= np.ceil(share * expected) + 1).all()
        rare = expected <= 8
        assert abs(found[rare].sum() - share * expected[rare].sum()) < 0.1 * share * expected.sum() + 2
        chosen = _choose(whole.pixels, whole.labels, most)
        assert abs(rare[whole.labels[chosen]].mean() - rare[whole.labels].mean()) < 0.1
    monitor = pbl.OverfittingMonitor(data, file=tmp_path / "signals.npz")
    signals = monitor.signals
    assert len(signals.val.labels) and len(signals.probe.labels)
    for side in (signals.probe, signals.val):
        side.append(np.stack([np.ones(len(side.labels)), side.labels, np.ones(len(side.labels))], axis=1))
    signals.epochs.append({"epoch": 1, "penalty": 0.0})
    signals.end = {"epoch": 1, "probe_images": 5, "probe_correct": 5, "val_images": 5, "val_correct": 5}
    monitor.save()
    read = Signals.load(tmp_path / "signals.npz")
    assert read.val.correct.all() and read.end == signals.end


@pytest.mark.nightly
def test_signals_of_ten_thousand_epochs_are_read_and_judged(tmp_path):
    """An epoch costs the same however many there were; the file with all of them is small enough for the report."""
    random, n = np.random.default_rng(0), 1_500
    about = {
        "num_classes": 10,
        "train_counts": [3_000] * 10,
        "val_counts": [600] * 10,
        "steps_per_epoch": 100,
        "model": "mlp",
    }
    sides = [Side.of(random.integers(0, 10, n)) for _ in range(2)]
    rows = np.stack([random.random(n), random.integers(0, 10, n), random.random(n)], axis=1)
    signals, seconds = Signals(about, *sides), []
    for epoch in range(10_001):
        begin = time.process_time()
        for side in sides:
            side.append(rows)
        signals.epochs.append(
            {"epoch": epoch, "probe_loss": 1.0, "val_probe_loss": 1.0, "learning_rate": 0.1, "penalty": 0.0}
        )
        seconds.append(time.process_time() - begin)
    assert sum(seconds[-2_000:]) < 5 * sum(seconds[1_000:3_000]) + 0.5
    assert sides[0].loss.shape == (10_001, n) and sides[0].loss.nbytes + sides[0].predicted.nbytes < MOST_UNPACKED / 4
    signals.save(tmp_path / "signals.npz")
    with zipfile.ZipFile(tmp_path / "signals.npz") as packed:
        assert sum(entry.file_size for entry in packed.infolist()) < MOST_UNPACKED
    assert Signals.load(tmp_path / "signals.npz").epochs == signals.epochs
