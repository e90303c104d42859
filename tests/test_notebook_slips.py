"""A student's own `fit` with `OverfittingMonitor` and a slip in it: one line names it, with the line of code that mends it."""

import re

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss

import pbl
from pbl.errors import InputError

DIGITS = load_digits()
IMAGES, LABELS = (DIGITS.images[..., None] * 255 / 16).astype(np.uint8), DIGITS.target.astype(np.int32)
X, Y, VAL_X, VAL_Y = IMAGES[:600], LABELS[:600], IMAGES[600:900], LABELS[600:900]
RANDOM = np.random.default_rng(0)


def network(*head: keras.layers.Layer, rescaling: bool = True) -> keras.Model:
    keras.utils.set_random_seed(0)
    first = [keras.layers.Rescaling(1 / 255)] if rescaling else []
    hidden = [keras.layers.Flatten(), keras.layers.Dense(64, activation="relu")]
    return keras.Sequential([keras.Input((8, 8, 1)), *first, *hidden, *head])


def softmax(**options) -> keras.Model:
    return network(keras.layers.Dense(10, activation="softmax"), **options)


def fit(
    model, train=(X, Y), val=(VAL_X, VAL_Y), loss="sparse_categorical_crossentropy", epochs=12
) -> pbl.OverfittingMonitor:
    monitor = pbl.OverfittingMonitor(train, val, live=False)
    model.compile(keras.optimizers.Adam(1e-2), loss)
    model.fit(*train, validation_data=val, epochs=epochs, verbose=0, callbacks=[monitor])
    return monitor


def dense(units: int, activation: str | None = None) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation=activation)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (lambda: fit(softmax(), val=(X, Y)), "leak_suspected", "copies of training images: 600, such as"),
        (lambda: fit(softmax(), val=(np.concatenate([X[:60], VAL_X]), np.concatenate([Y[:60], VAL_Y]))), "leak_suspected", "copies of training images: 60, such as"),
        (lambda: fit(network(dense(11, "softmax")), (X, Y + 1), (VAL_X, VAL_Y + 1)), "class_absent", "labels = labels - 1"),
        (lambda: fit(softmax(), (X / 255, Y), (VAL_X / 255, VAL_Y)), "scaled_twice", "leave its layer Rescaling out"),
        (lambda: fit(softmax(rescaling=False), (X / 255, Y)), "shift_suspected", r"Rescaling\(1 / 255\) as its first layer"),
        (lambda: fit(softmax(), (RANDOM.permutation(X), Y), epochs=40), "label_noise_suspected", "labels do not belong to the images"),
        (lambda: fit(softmax(), val=(VAL_X, (VAL_Y + 1) % 10)), "label_order_suspected", "the same list of class names"),
        (lambda: fit(network(dense(10, "softmax"), keras.layers.Softmax()), epochs=20), "double_softmax", "leave one of the two out"),
        (lambda: fit(softmax(), (X[Y != 3], Y[Y != 3])), "class_absent", "training has no image"),
        (lambda: fit(softmax(), val=(VAL_X * (np.arange(300) % 5 > 0)[:, None, None, None], VAL_Y)), "blank_images", "Validation images of one colour all over: 60 of 300"),
    ],
)  # fmt: skip
def test_a_slip_is_named_with_what_mends_it(make, name, said, monkeypatch):
    monkeypatch.setattr(
        "pbl.data.doctor.examine_closely", lambda *_, **__: []
    )  # its slow checks: the quick ones tell these
    findings = make().diagnosis.findings
    named = [finding.message for finding in findings if finding.name == name]
    assert named and re.search(said, named[0]), [finding.message for finding in findings]
    assert findings[0].name == name or name == "class_absent"  # labels from 1 do little harm


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fit(network(dense(1, "sigmoid")), (X, Y % 2 + 1), (VAL_X, VAL_Y % 2 + 1), "binary_crossentropy"), "labels = labels - 1"),
        (lambda: fit(network(dense(1, "sigmoid")), loss="binary_crossentropy"), "one output for each class"),
        (lambda: fit(softmax(), (X, Y + 1), (VAL_X, VAL_Y + 1)), "labels = labels - 1"),
        (lambda: fit(network(dense(10))), r"Dense\(10, activation='softmax'\).*SparseCategoricalCrossentropy\(from_logits=True\)"),
        (lambda: fit(network(dense(1)), (X, Y % 2), (VAL_X, VAL_Y % 2), "binary_crossentropy"), r"Dense\(1, activation='sigmoid'\).*BinaryCrossentropy\(from_logits=True\)"),
    ],
)  # fmt: skip
def test_a_slip_that_nothing_can_be_learned_with_is_told_before_the_training(make, said):
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_losses_are_those_of_the_probabilities_that_the_model_gives(activation):
    """Also where the loss takes logits, which Keras finds by itself; sigmoids are divided by their sum, as Keras does."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation == "softmax")
    model = network(dense(10, activation))
    given = fit(model, loss=loss).signals.epochs[-1]["val_probe_loss"]
    outputs = model.predict(VAL_X, verbose=0).astype(np.float64)
    np.testing.assert_allclose(given, log_loss(VAL_Y, outputs / outputs.sum(axis=1, keepdims=True)), rtol=1e-4)


def test_the_weights_that_early_stopping_puts_back_are_judged(monkeypatch):
    monkeypatch.setattr("pbl.diagnosis.monitor.FEWEST", 100)
    keras.utils.set_random_seed(0)
    model, monitor = softmax(), pbl.OverfittingMonitor((X, Y), (VAL_X, VAL_Y), live=False)
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    model.compile(keras.optimizers.Adam(0.03), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(X, Y, validation_data=(VAL_X, VAL_Y), epochs=40, verbose=0, callbacks=[monitor, stop]).history
    best = int(np.argmin(history["val_loss"]))
    assert best + 1 < len(history["val_loss"])
    kept = monitor.signals.kept
    assert [row["epoch"] for row in kept.epochs][-1] == best + 1 == monitor.signals.about["kept_epoch"]
    assert kept.network[-1]["epoch"] == best + 1
    right = (model.predict(VAL_X, verbose=0).argmax(axis=1) == VAL_Y).sum()
    assert kept.known[2:] == (right, 300)
    np.testing.assert_allclose(right / 300, history["val_accuracy"][best], rtol=1e-5)
    confusion = kept.confusion("val")
    assert confusion[:, 2].sum() == 300 and confusion[confusion[:, 0] == confusion[:, 1], 2].sum() == right
