"""A student's own `fit` with `OverfittingMonitor` and a slip in it: one line names it, with the line of code that corrects it.

Three tables: slips that the diagnosis names (21), slips that are reported before anything is learned (33), and cases that are not slips,
since Keras or the monitor handles them as intended (7).
"""

import re

import keras
import numpy as np
import pytest
import tensorflow
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
    model, train=(X, Y), val=(VAL_X, VAL_Y), loss="sparse_categorical_crossentropy", epochs=12, given=None, rate=1e-2
) -> pbl.OverfittingMonitor:
    """`given`: what the monitor gets, if it is something else."""
    monitor = pbl.OverfittingMonitor(*(given or (train, val)), live=False)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(*train, validation_data=val, epochs=epochs, verbose=0, callbacks=[monitor])
    return monitor


def one_hot(labels: np.ndarray) -> np.ndarray:
    return keras.utils.to_categorical(labels, 10)


def frozen() -> keras.Model:
    model = softmax()
    model.trainable = False
    return model


def colours(images: np.ndarray) -> np.ndarray:
    """Red, and darker green."""
    return np.concatenate([images, images // 3, 0 * images], axis=-1)


def in_colour() -> keras.Model:
    keras.utils.set_random_seed(0)
    parts = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), dense(64, "relu"), dense(10, "softmax")]
    return keras.Sequential([keras.Input((8, 8, 3)), *parts])


DARKER = np.where(RANDOM.random(X.shape) < 0.9, X // 2, X)
BY_CLASS = np.argsort(Y, kind="stable")
WITH_NAN = X.astype(np.float32)
WITH_NAN[3, 2, 2] = np.nan
BINARY = {"train": (X, Y % 2), "val": (VAL_X, VAL_Y % 2), "loss": "binary_crossentropy"}


def dense(units: int, activation: str | None = None) -> keras.layers.Layer:
    return keras.layers.Dense(units, activation=activation)


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (lambda: fit(softmax(), val=(X, Y), epochs=3), "leak_suspected", "copies of training images: 600, such as"),
        (lambda: fit(softmax(), val=(np.concatenate([X[:60], VAL_X]), np.concatenate([Y[:60], VAL_Y])), epochs=3), "leak_suspected", "copies of training images: 60, such as"),
        (lambda: fit(network(dense(11, "softmax")), (X, Y + 1), (VAL_X, VAL_Y + 1), epochs=4), "class_absent", "labels = labels - 1"),
        (lambda: fit(softmax(), (X / 255, Y), (VAL_X / 255, VAL_Y), epochs=3), "scaled_twice", "remove its layer Rescaling"),
        (lambda: fit(softmax(rescaling=False), (X / 255, Y), epochs=3), "shift_suspected", r"Rescaling\(1 / 255\) as its first layer"),
        (lambda: fit(softmax(), (RANDOM.permutation(X), Y), epochs=40), "label_noise_suspected", "labels do not belong to the images"),
        (lambda: fit(softmax(), val=(VAL_X, (VAL_Y + 1) % 10)), "label_order_suspected", "the same list of class names"),
        (lambda: fit(network(dense(10, "softmax"), keras.layers.Softmax()), epochs=2), "double_softmax", "Remove one of the two"),
        (lambda: fit(softmax(), (X[Y != 3], Y[Y != 3]), epochs=3), "class_absent", "that has no training image"),
        (lambda: fit(softmax(), val=(VAL_X * (np.arange(300) % 5 > 0)[:, None, None, None], VAL_Y), epochs=3), "blank_images", "Validation images of a single colour: 60 of 300"),
        (lambda: fit(softmax(rescaling=False), (X / 255 / 255, Y), (VAL_X / 255 / 255, VAL_Y), epochs=3), "scaled_twice", "Divide them once"),
        # In digits 9% of the pixels are fully white, in these darker ones almost none.
        (lambda: fit(softmax(rescaling=False), (DARKER // 255, Y), (DARKER[:300] // 255, VAL_Y), epochs=3), "greys_lost", "Write x / 255.0"),
        (lambda: fit(softmax(rescaling=False), ((X / 255).astype(int), Y), ((VAL_X / 255).astype(int), VAL_Y), epochs=12), "greys_lost", "x / 255.0 keeps them"),
        (lambda: fit(softmax(), given=((X, Y), (VAL_X, np.roll(VAL_Y, 1))), epochs=4), "other_arrays", "the same arrays as model.fit"),
        (lambda: fit(softmax(), (X[Y == 3], Y[Y == 3]), epochs=2), "unknown", "of one class"),
        (lambda: fit(softmax(), given=((X, Y),), epochs=4), "too_noisy_to_say", r"OverfittingMonitor\(\(images, labels\), \(val_images, val_labels\)\)"),
        (lambda: fit(softmax(rescaling=False), epochs=3), "diverged", r"Put keras.layers.Rescaling\(1 / 255\) first"),
        (lambda: fit(softmax(), rate=10.0, epochs=6), "diverged", "Lower the learning rate"),
        # Split before it was shuffled.
        (lambda: fit(softmax(), (X[BY_CLASS[:450]], Y[BY_CLASS[:450]]), (X[BY_CLASS[450:]], Y[BY_CLASS[450:]]), epochs=3), "class_absent", "Split again"),
    ],
)  # fmt: skip
def test_a_slip_is_named_with_what_mends_it(make, name, said, monkeypatch):
    monkeypatch.setattr(
        "pbl.data.doctor.examine_closely", lambda *_, **__: []
    )  # its slow checks: the quick ones find these
    findings = make().diagnosis.findings
    named = [finding.message for finding in findings if finding.name == name]
    assert named and re.search(said, named[0]), [finding.message for finding in findings]
    # Labels from 1 do little harm, and drawings may be black and white.
    assert findings[0].name == name or name == "class_absent" or "keeps them" in said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fit(network(dense(1, "sigmoid")), (X, Y % 2 + 1), (VAL_X, VAL_Y % 2 + 1), "binary_crossentropy"), "labels = labels - 1"),
        (lambda: fit(network(dense(1, "sigmoid")), loss="binary_crossentropy"), "one output for each class"),
        (lambda: fit(softmax(), (X, Y + 1), (VAL_X, VAL_Y + 1)), "labels = labels - 1"),
        (lambda: fit(network(dense(10))), r"Dense\(10, activation='softmax'\).*SparseCategoricalCrossentropy\(from_logits=True\)"),
        (lambda: fit(network(dense(1)), (X, Y % 2), (VAL_X, VAL_Y % 2), "binary_crossentropy"), r"Dense\(1, activation='sigmoid'\).*BinaryCrossentropy\(from_logits=True\)"),
        # Last layer, loss and labels that do not belong together.
        (lambda: fit(softmax(), (X, one_hot(Y)), (VAL_X, one_hot(VAL_Y))), "Compile with 'categorical_crossentropy'"),
        (lambda: fit(softmax(), loss="categorical_crossentropy"), r"Compile with 'sparse_categorical_crossentropy'.* keras.utils.to_categorical\(labels, 10\)"),
        (lambda: fit(softmax(), (X, one_hot(Y)), loss="categorical_crossentropy", epochs=1), "the labels of fit are class numbers"),
        (lambda: fit(softmax(), loss="mse"), "The loss mse compares each of the 10 outputs"),
        (lambda: fit(network(dense(2, "sigmoid")), **BINARY), "end the model with softmax"),
        (lambda: fit(network(dense(1, "softmax")), **BINARY), r"always 1. End it with Dense\(1, activation='sigmoid'\)"),
        (lambda: fit(network(dense(10, "relu"))), r"Dense\(10, activation='softmax'\)"),
        (lambda: fit(network(dense(10, "tanh"))), r"Dense\(10, activation='softmax'\)"),
        (lambda: fit(network(dense(5, "softmax"))), "labels go up to 9, but the model has 5 outputs"),
        (lambda: fit(frozen()), "layer.trainable = True"),
        # Images.
        (lambda: fit(softmax(), (WITH_NAN, Y)), "1 of 600 images have pixels that are not finite numbers .* number 3"),
        (lambda: fit(softmax(), *((images.transpose(0, 3, 1, 2), labels) for images, labels in ((X, Y), (VAL_X, VAL_Y)))), r"images = images.transpose\(0, 2, 3, 1\)"),
        (lambda: fit(softmax(), (X[:, :6], Y), (VAL_X[:, :6], VAL_Y)), r"the model takes \(8, 8, 1\).* keras.Input\(\(6, 8, 1\)\)"),
        (lambda: fit(softmax(), (X.reshape(600, 64), Y), (VAL_X.reshape(300, 64), VAL_Y)), r"the shape \(64,\), but the model takes"),
        (lambda: fit(softmax(), val=(VAL_X[:, :6], VAL_Y)), "Bring them to one"),
        (lambda: fit(softmax(), (np.array([*X[:599], X[0, :5]], object), Y)), r"np.stack\(images\)"),
        (lambda: fit(softmax(), (X[0], Y[0])), "each image needs one label"),
        # Labels.
        (lambda: fit(softmax(), (X, Y - 1)), r"one label is -1.* np.unique\(labels, return_inverse=True\)"),
        (lambda: fit(softmax(), (X, Y + 0.5)), "whole numbers from 0 on; one is 0.5"),
        (lambda: fit(softmax(), (X, np.where(Y == 3, np.nan, Y))), "whole numbers from 0 on; one is nan"),
        (lambda: fit(softmax(), (X, [f"class {label}" for label in Y])), "labels are words .* return_inverse=True"),
        (lambda: fit(softmax(), (X[:500], Y)), r"500 images and labels of the shape \(600,\) do not match"),
        # What the monitor is given.
        (lambda: fit(softmax(), val=(VAL_X[:0], VAL_Y[:0])), "no image in this split"),
        (lambda: fit(softmax(), given=((Y, X),)), r"labels of the shape \(600, 8, 8, 1\) do not match"),
        (lambda: fit(softmax(), given=(X, Y)), r"OverfittingMonitor\(\(images, labels\), \(images, labels\)\)"),
        (lambda: fit(softmax(), given=(tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(32),)), r"OverfittingMonitor\(\(images, labels\), \(images, labels\)\)"),
        (lambda: pbl.OverfittingMonitor((X, Y), (VAL_X, VAL_Y)).diagnosis, r"callbacks=\[monitor\]"),
        (lambda: behind(), "Put OverfittingMonitor first"),
    ],
)  # fmt: skip
def test_a_slip_that_nothing_can_be_learned_with_is_told_before_the_training(make, said):
    with pytest.raises(InputError, match=said):
        make()


def behind() -> None:
    model = softmax()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0, callbacks=[keras.callbacks.EarlyStopping("loss"), pbl.OverfittingMonitor((X, Y))])


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("train", "val", "said"),
    [
        ((colours(X), Y), (colours(VAL_X)[..., ::-1], VAL_Y), "colour order"),
        ((X, Y), (VAL_X + np.uint8(200), VAL_Y), "range|0 to 255"),  # 8-bit integers overflow to 0
    ],
)
def test_validation_that_was_read_otherwise_is_named_by_the_slow_checks(train, val, said):
    found = fit(in_colour() if train[0].shape[-1] == 3 else softmax(), train, val).diagnosis.headline
    assert found.name == "shift_suspected" and re.search(said, found.message)


def twice(model: keras.Model) -> pbl.OverfittingMonitor:
    monitor = pbl.OverfittingMonitor((X, Y), (VAL_X, VAL_Y), live=False)
    model.compile("adam", "sparse_categorical_crossentropy")
    for _ in range(2):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[monitor])
    return monitor


@pytest.mark.nightly
@pytest.mark.parametrize(
    "make",
    [
        lambda: fit(softmax(), loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), epochs=2),
        lambda: fit(softmax(), (X.astype(float), Y), (VAL_X.astype(float), VAL_Y), epochs=2),
        lambda: fit(softmax(), (X[..., 0], Y), (VAL_X[..., 0], VAL_Y), epochs=2),
        lambda: fit(softmax(), (X, Y[:, None]), (VAL_X, VAL_Y[:, None]), epochs=2),
        lambda: fit(softmax(), (X, one_hot(Y)), (VAL_X, one_hot(VAL_Y)), loss="mse", epochs=2),
        lambda: fit(network(dense(10, "sigmoid")), (X, one_hot(Y)), (VAL_X, one_hot(VAL_Y)), "binary_crossentropy", epochs=2),
        lambda: twice(softmax()),
    ],
)  # fmt: skip
def test_what_keras_takes_as_it_was_meant_is_measured_so(make):
    monitor = make()
    predicted = monitor.model.predict(monitor._val[0], verbose=0).argmax(axis=1)
    assert monitor.signals.known[2:] == ((predicted == VAL_Y).sum(), 300)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_losses_are_those_of_the_probabilities_that_the_model_gives(activation):
    """Even if the loss takes logits, which Keras finds by itself; sigmoids are divided by their sum, as Keras does."""
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
