"""The private parts of Keras that the package uses are as they were in the versions that `TESTED` names."""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from pbl.errors import InputError
from pbl.models import keras_private
from pbl.models.keras_private import (
    TESTED,
    find_averages,
    find_callbacks,
    find_logits,
    find_moments,
    find_place,
    find_seed_state,
    find_swap,
    flatten_layers,
    has_inner_layers,
    set_initial_epoch,
)

PACKAGE = Path(keras_private.__file__).resolve().parent.parent
SEEN = f"Keras {keras.__version__}: look at pbl/models/keras_private.py, tested with {', '.join(TESTED)}"


def make_model(optimizer="sgd") -> keras.Model:
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="inner")
    model = keras.Sequential([keras.Input((3,)), inner, layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    return model


def test_layers():
    model = make_model()
    found = flatten_layers(model)
    assert [type(layer).__name__ for layer in found].count("Dense") == 2 and model in found, SEEN
    assert has_inner_layers(model.layers[0]) and not has_inner_layers(model.layers[1]), SEEN


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_logits(activation):
    logits = tf.constant([[1.0, -2.0]])
    np.testing.assert_array_equal(find_logits(keras.activations.get(activation)(logits)), logits, SEEN)
    assert find_logits(logits) is None


def test_averages_of_weights():
    model = make_model(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))
    swap = keras.callbacks.SwapEMAWeights()
    assert find_swap(swap) == {"_ema_weights_in_model": False}, SEEN
    model.fit(
        np.ones((8, 3)), np.ones((8, 1)), batch_size=4, verbose=0, epochs=1
    )  # two steps, then the averages are used
    pairs = find_averages(model.optimizer)
    assert {id(variable) for variable, _ in pairs} == {id(weight) for weight in model.trainable_weights}, SEEN
    for variable, average in pairs:
        np.testing.assert_array_equal(variable.numpy(), average.numpy(), SEEN)


def test_the_global_seed_moves_with_each_draw():
    before = find_seed_state().numpy().copy()
    keras.random.normal((1,))
    assert not np.array_equal(find_seed_state().numpy(), before), SEEN


def test_a_fit_begins_where_it_is_told():
    seen = []

    class Begin(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            set_initial_epoch(self.model, 2)

        def on_epoch_begin(self, epoch, logs=None):
            set_initial_epoch(self.model, None)
            seen.append(epoch)

    model = make_model()
    for _ in range(2):
        model.fit(np.zeros((4, 3)), np.zeros((4, 1)), epochs=4, callbacks=[Begin()], verbose=0)
    assert seen == [2, 3, 2, 3], SEEN


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_slots_of_an_optimizer(name):
    """The moments are at the variable's index: after a step they are (1 - beta) times gradient and its square."""
    optimizer = keras.optimizers.Adam() if name == "adam" else keras.optimizers.SGD(0.1, momentum=0.9)
    weights = [keras.Variable([1.0, 2.0]), keras.Variable([[3.0]])]
    optimizer.build(weights)
    gradients = [tf.constant([4.0, 5.0]), tf.constant([[6.0]])]
    optimizer.apply(gradients, weights)
    for place, (weight, gradient) in enumerate(zip(weights, gradients, strict=True)):
        assert find_place(optimizer, weight) == place, SEEN
        if name == "adam":
            first, second = find_moments(optimizer)
            np.testing.assert_allclose(first[place], 0.1 * gradient, rtol=1e-5, err_msg=SEEN)
            np.testing.assert_allclose(second[place], 0.001 * gradient**2, rtol=1e-5, err_msg=SEEN)


def test_callbacks_find_each_other():
    class Look(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.found = find_callbacks("Look")

    look, other = Look(), keras.callbacks.LambdaCallback()
    make_model().fit(np.zeros((4, 3)), np.zeros((4, 1)), callbacks=[other, look], verbose=0)
    assert look.found[:2] == [other, look], SEEN
    with pytest.raises(InputError, match="Look works in `fit`"):
        look.on_train_begin()


def test_nothing_else_touches_them():
    """Nowhere else: `keras.src` (except in the names that grading allows in a file), Keras's private attributes, frames."""
    private = re.compile(
        r"_flatten_layers|_keras_logits|_get_variable_index|_momentums|_velocities|_initial_epoch|_layers|_getframe"
    )
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.name == "keras_private.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert not private.fullmatch(node.attr), f"{file}:{node.lineno}"
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("keras.src"), f"{file}:{node.lineno}"


def test_the_tape_follows_gradients():
    weight = keras.Variable(3.0)
    with keras_private.open_tape() as tape:
        square = weight * weight
    assert float(tape.gradient(square, weight.value)) == 6.0
