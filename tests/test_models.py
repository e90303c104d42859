"""One suite over the registry: a new model is tested the moment it is entered."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from pbl import models
from pbl.errors import InputError
from pbl.models import MODELS

# Trainable weights at 32x32x3 with 10 classes, of the implementations that the literature quotes (He et al. 2015, table 6:
# 0.27, 0.46, 0.66, 0.85, 1.7 million).
PUBLISHED = {"resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962}


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_published_trainable_weights(name, count):
    model = models.build(name, (32, 32, 3), 10)
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == count


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("resnet44", "resnet56", "resnet110")])
def test_every_model(name):
    keras.utils.set_random_seed(0)
    model = models.build(name, (16, 16, 1), 3)
    images = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 1), np.uint8)
    labels = np.arange(24) % 3
    probabilities = model.predict(images, verbose=0)
    assert probabilities.shape == (24, 3) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)

    before = [weight.numpy().copy() for weight in model.trainable_weights]
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy")
    losses = model.fit(images, labels, batch_size=24, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    still = [
        weight.path
        for weight, old in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight.numpy(), old)
    ]
    assert not still, f"no gradient reaches {still}"


def test_sequential_and_functional_models_load_in_plain_keras(tmp_path):
    """In a fresh process that never imports pbl, with the same outputs."""
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 1), np.uint8)
    names = ["mlp", "resnet20"]
    for name in names:
        model = models.build(name, (16, 16, 1), 3)
        model.save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", model.predict(images, verbose=0))
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys, keras, numpy as np\n"
        f"for name in {names}:\n"
        "    outputs = keras.models.load_model(name + '.keras').predict(np.load('images.npy'), verbose=0)\n"
        "    assert np.array_equal(outputs, np.load(name + '.npy')), name\n"
        "assert 'pbl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)


def test_shortcuts_carry_the_image_and_zeros():
    """Option A: with its convolutions at zero, a stage's first block takes every second pixel and adds zero channels."""
    from pbl.models.resnet import _residual_block

    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, _residual_block(inputs, filters=32, strides=2))
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    x = np.random.default_rng(0).random((2, 8, 8, 16)).astype(np.float32)
    y = model.predict(x, verbose=0)
    np.testing.assert_array_equal(y[..., 8:24], x[:, ::2, ::2])
    assert not y[..., :8].any() and not y[..., 24:].any()


def test_mlp_options():
    model = models.build("mlp", (4, 4, 1), 5, widths=[7, 6], dropout=0.5, batch_norm=True, activation="tanh")
    # 16x7 + BN 2x7, 7x6 + BN 2x6, 6x5 + 5
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == 112 + 14 + 42 + 12 + 35
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Dropout") == 2 and kinds.count("BatchNormalization") == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("restnet20", {}, "No model is called 'restnet20'. Did you mean 'resnet20'?"),
        ("mlp", {"drop": 0.5}, "no option 'drop'. Did you mean 'dropout'?"),
        ("resnet20", {"depth": 3}, "no option 'depth'. It has no options."),
        ("mlp", {"dropout": 1.5}, "do not fit 'mlp'"),
        ("mlp", {"activation": "rellu"}, "do not fit 'mlp'"),
    ],
)
def test_wrong_choices(name, options, said):
    with pytest.raises(InputError) as error:
        models.build(name, (8, 8, 1), 3, **options)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_an_own_builder_keeps_its_traceback(monkeypatch):
    def broken(input_shape, num_classes, width=3):
        raise ValueError("the student's own mistake")

    monkeypatch.setitem(MODELS, "broken", broken)
    with pytest.raises(ValueError, match="own mistake") as error:
        models.build("broken", (8, 8, 1), 3, width=4)
    assert not isinstance(error.value, InputError)
    monkeypatch.setitem(MODELS, "empty", lambda input_shape, num_classes: None)
    with pytest.raises(InputError, match="returned a NoneType"):
        models.build("empty", (8, 8, 1), 3)
