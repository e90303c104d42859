"""One suite for the registry: a new model is tested as soon as it is entered."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pbl import models
from pbl.errors import InputError
from pbl.models import CARDS, MODELS, count_macs, count_trainable_weights, split_backbone, unfreeze
from pbl.models.efficientnet import find_backbone

# Trainable weights, published: torchvision, Caffe's bvlc_googlenet, keras.applications, timm and Cadene's SENet, and for the
# CIFAR ResNets the implementation that reproduces He et al.'s table 6 (0.27, 0.46, 0.66, 0.85, 1.7 and 19.4 million).
PUBLISHED = {
    "efficientnet_transfer": 5_288_548,
    "efficientnetv2_transfer": 7_139_704,
    "lenet5": 61_706,
    "alexnet": 62_378_344,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg16_bn": 138_365_992 - 2 * 4224 + 4224,  # torchvision's keeps biases before batch normalisation: 4,224 more
    "googlenet": 6_998_552,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "se_resnet50": 28_088_024,
    "senet154": 115_088_984,
    "vit_tiny": 5_717_416,
    "vit_small": 22_050_664,
    "vit_base": 86_567_656,
}
# Multiply-accumulates, with the published digits.
PUBLISHED_MACS = {
    "vgg16": "15.47",
    "resnet50": "3.86",
    "resnet18": "1.81",
    "resnet152": "11.28",
    "senet154": "20.7",
    "alexnet": "1.1",
}

NO_CLASSES = {name for name, card in CARDS.items() if card.task != "classification"}  # tests/test_anomaly.py has them

# Options that make a model small enough for a test, and its loss fall reliably; otherwise the model with its smallest image, at least 16x16.
SMALL_OPTIONS = {
    **{name: {"dense_units": 32} for name in ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn")},
    **{
        name: {"weights": None}
        for name in ("efficientnet_transfer", "efficientnetv2_transfer", "vgg16_transfer", "resnet50_transfer")
    },
    **{name: {"depth": 2, "patch": 4} for name in ("vit_tiny", "vit_small", "vit_base")},
    "senet154": {"blocks_per_stage": (1, 1, 1, 1)},
}
# 1,202 layers, the code of resnet20: built at full size, and no more.
ONLY_BUILT = {"resnet1202"}


# The same blocks as in their smaller relatives, but more of them: nightly.
LARGE = (
    "resnet32",
    "resnet44",
    "resnet56",
    "resnet110",
    "resnet101",
    "resnet152",
    "se_resnet32",
    "se_resnet44",
    "se_resnet56",
    "se_resnet110",
    "senet154",
)


def build_small(name: str) -> tuple[keras.Model, np.ndarray, np.ndarray]:
    side = max(16, CARDS[name].smallest) if name in CARDS else 32
    classes = 2 if name == "perceptron" else 3
    images = np.random.default_rng(0).integers(0, 256, (6, side, side, 3), np.uint8)
    labels = np.minimum([0, 0, 0, 1, 1, 2], classes - 1)  # not balanced, so that a bias alone can lower the loss
    model = models.build(name, (side, side, 3), classes, **SMALL_OPTIONS.get(name, {}))
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model, images, labels


@pytest.fixture
def without_drawing(monkeypatch):
    """Weights that are only counted need no random numbers."""
    for name in ("VarianceScaling", "RandomNormal", "TruncatedNormal", "RandomUniform"):
        draw = lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)  # noqa: E731
        monkeypatch.setattr(getattr(keras.initializers, name), "__call__", draw)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.nightly] * (name in (*LARGE, *ONLY_BUILT))) for name in MODELS]
)
def test_card(name, without_drawing):
    """At full size: the published counts, and what the card says."""
    assert name in CARDS, f"write a Card for {name} into CARDS of its file"
    card = CARDS[name]
    options = {"weights": None} if "transfer" in name else {}
    model = models.build(name, card.input_shape, card.classes, **options)
    assert count_trainable_weights(model) == card.weights == PUBLISHED.get(name, card.weights)
    if name not in ONLY_BUILT:
        assert count_macs(model, card.input_shape) == card.macs
    if name in PUBLISHED_MACS:
        digits = len(PUBLISHED_MACS[name].partition(".")[2])
        assert f"{card.macs / 1e9:.{digits}f}" == PUBLISHED_MACS[name]
    kind = (
        "Sequential"
        if isinstance(model, keras.Sequential)
        else "Functional"
        if getattr(model, "inputs", None)
        else "subclassed"
    )
    assert kind == card.style
    if card.smallest > 1:
        with pytest.raises(InputError, match=f"at least {card.smallest}x{card.smallest} pixels"):
            models.build(name, (card.smallest - 1, card.smallest, 3), card.classes, **options)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """The folder in which each small model is saved with its outputs, to be loaded in one new process."""
    return tmp_path_factory.mktemp("saved")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.nightly] * (name in LARGE))
        for name in MODELS
        if name not in (*ONLY_BUILT, *NO_CLASSES)
    ],
)
def test_small(name, saved):
    """Probabilities come out; every trainable weight has a gradient; the loss falls."""
    keras.utils.set_random_seed(0)
    model, images, labels = build_small(name)
    normalising = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert {layer.momentum for layer in normalising} <= {
        0.9
    }  # with Keras's own .99 the averages lag for many epochs of a small data set
    probabilities = keras.ops.convert_to_numpy(model(images, training=False))
    assert probabilities.shape == (6, labels.max() + 1) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.save(saved / f"{name}.npy", probabilities)
    np.save(saved / f"{name}.images.npy", images)
    model.save(saved / f"{name}.keras")
    if name == "perceptron":  # a step has no gradient; its rule has a separate test
        return
    # A step of a ten-thousandth in length, whatever the size of the gradient: that of ResNet-152 for six images is 100,000.
    optimizer, losses = keras.optimizers.SGD(1e-3, global_clipnorm=0.1), []
    for _ in range(2):
        with tf.GradientTape() as tape:
            rows = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True))
            loss = keras.ops.mean(rows)
        gradients = tape.gradient(loss, model.trainable_weights)
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
            assert gradient is not None and np.isfinite(gradient.numpy()).all(), weight.path
        optimizer.apply(gradients, model.trainable_weights)
        losses.append(float(loss))
    assert losses[1] < losses[0]


@pytest.mark.nightly
def test_saved_models_load_with_equal_outputs(saved, request):
    """In one new process; models of Keras's own layers without `pbl`, the others after `import pbl.models`."""
    files = {file.stem: CARDS[file.stem].style if file.stem in CARDS else "" for file in saved.glob("*.keras")}
    # With -m nightly only the large ones are asked for, with -m "" all; -k may ask for this test alone.
    asked = [item for item in request.session.items if getattr(item, "originalname", "") == "test_small"]
    assert len(files) >= len(asked)
    program = """
import json, sys
import keras, numpy as np
files = json.loads(sys.argv[1])
def check(name):
    outputs = keras.models.load_model(name + ".keras")(np.load(name + ".images.npy"), training=False)
    assert np.array_equal(keras.ops.convert_to_numpy(outputs), np.load(name + ".npy")), name
stock = [name for name, style in files.items() if style in ("Sequential", "Functional") and name != "perceptron"]
for name in stock:
    check(name)
assert "pbl" not in sys.modules
import pbl.models
for name in sorted(set(files) - set(stock)):
    check(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(files)],
        cwd=saved,
        env={**os.environ, "PYTHONPATH": str(Path(models.__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_vgg16_is_that_of_keras_applications():
    """Their weights copied over give their outputs."""
    theirs = keras.applications.VGG16(weights=None, input_shape=(64, 64, 3), classes=7)
    ours = models.build("vgg16", (64, 64, 3), 7)
    weights = theirs.get_weights()
    weights[0] = weights[0][:, :, ::-1] * 58  # theirs takes blue, green, red, and does not divide by 58
    targets = [weight for layer in ours.layers[1:] for weight in layer.weights]
    for target, weight in zip(targets, weights, strict=True):
        target.assign(weight)
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    expected = theirs.predict(keras.applications.vgg16.preprocess_input(images.astype("float32")), verbose=0)
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-5)


@pytest.mark.nightly
def test_googlenet_with_auxiliary_classifiers():
    """They add 0.3 of their losses in training; the rest is the main classifier's, and the metrics keep their names."""
    model = models.build("googlenet", (224, 224, 3), 1000, auxiliary=True)
    assert count_trainable_weights(model) == 13_378_280  # Caffe's bvlc_googlenet
    keras.utils.set_random_seed(0)
    model = models.build("googlenet", (65, 65, 1), 5, auxiliary=True, dropout=0.0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    images, labels = np.random.default_rng(0).integers(0, 256, (6, 65, 65, 1), np.uint8), np.arange(6) % 5
    main, *auxiliary = [np.asarray(output) for output in model(images, training=True)]
    np.testing.assert_allclose(model.predict(images, verbose=0), main, atol=1e-6)
    own = [-np.log(output[np.arange(6), labels]).mean() for output in (main, *auxiliary)]
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    logs = model.fit(images, labels, validation_data=(images, labels), verbose=0).history
    assert set(logs) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert logs["val_loss"] == pytest.approx([own[0]], rel=1e-4)
    assert logs["loss"] == pytest.approx([own[0] + 0.3 * (own[1] + own[2])], rel=1e-4)
    with pytest.raises(InputError, match="at least 65x65"):
        models.build("googlenet", (64, 64, 3), 5, auxiliary=True)


def test_local_response_normalization():
    """Equal to TensorFlow's own operation, whose alpha is not divided by the depth either."""
    x = np.random.default_rng(0).normal(0, 50, (2, 3, 3, 7)).astype("float32")
    ours = models.alexnet.__globals__["LocalResponseNormalization"]()(x)
    np.testing.assert_allclose(
        ours, tf.nn.local_response_normalization(x, 2, bias=2.0, alpha=1e-4, beta=0.75), rtol=1e-5
    )
    kinds = [type(layer).__name__ for layer in models.build("alexnet", (67, 67, 3), 2, lrn=True).layers]
    assert kinds.count("LocalResponseNormalization") == 2


def test_shortcuts_carry_the_image_and_zeros():
    """Option A: with its convolutions at zero, a stage's first block takes every second pixel and adds zero channels."""
    from pbl.models.resnet import _add, _pad_channels, _two_convolutions

    inputs = keras.Input((8, 8, 16))
    model = keras.Model(inputs, _add(_two_convolutions(inputs, 32, 2), _pad_channels(inputs, 32, 2)))
    model.set_weights([np.zeros(weight.shape) for weight in model.get_weights()])
    x = np.random.default_rng(0).random((2, 8, 8, 16)).astype(np.float32)
    y = model.predict(x, verbose=0)
    np.testing.assert_array_equal(y[..., 8:24], x[:, ::2, ::2])
    assert not y[..., :8].any() and not y[..., 24:].any()


@pytest.mark.parametrize(("name", "blocks"), [("resnet20", 9), ("resnet50", 16), ("se_resnet20", 9)])
def test_zero_gamma_begins_as_the_identity(name, blocks):
    """Each branch gives 0, whatever the image: the factor of its last normalisation is 0 (Goyal et al. 2017, section 5.1)."""
    keras.utils.set_random_seed(0)
    model = models.build(name, (32, 32, 3), 3, zero_gamma=True)
    gammas = [weight.numpy() for weight in model.weights if weight.name == "gamma"]
    assert sum(not gamma.any() for gamma in gammas) == blocks and all(len(set(gamma)) == 1 for gamma in gammas)
    if name.startswith("resnet"):
        sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
        branches = keras.Model(model.input, [layer.input[0] for layer in sums])
        images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
        assert not any(np.asarray(branch).any() for branch in branches(images, training=True))
    assert type(model).from_config(model.get_config()).get_config() == model.get_config()


@pytest.mark.parametrize(("name", "layers"), [("mlp", 3), ("vgg_small", 8)])
def test_l2(name, layers):
    """The squares of every kernel, times the factor; by default nothing."""
    model = models.build(name, (8, 8, 1), 3, l2=0.01)
    kernels = [weight for weight in model.trainable_weights if weight.path.endswith("kernel")]
    assert len(kernels) == len(model.losses) == layers
    assert float(sum(model.losses)) == pytest.approx(0.01 * sum(np.square(k.numpy()).sum() for k in kernels), rel=1e-5)
    assert not models.build(name, (8, 8, 1), 3).losses


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "se_resnet20"])
def test_stochastic_depth(name):
    """Deeper blocks are left out more often, up to the given rate, which is saved with the model."""
    side = CARDS[name].smallest
    keras.utils.set_random_seed(0)
    model = models.build(name, (side, side, 1), 3, stochastic_depth=0.5)
    drops = [
        layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout) and layer.noise_shape
    ]
    blocks = {"resnet20": 9, "resnet18": 8, "se_resnet20": 9}[name]
    np.testing.assert_allclose([drop.rate for drop in drops], 0.5 * np.arange(1, blocks + 1) / blocks)
    assert count_trainable_weights(model) == count_trainable_weights(models.build(name, (side, side, 1), 3))
    branch = np.asarray(drops[-1](np.ones((1000, 2, 2, 3), np.float32), training=True))
    assert set(np.unique(branch)) == {0, 2} and all(len(np.unique(image)) == 1 for image in branch)
    assert 0.4 < (branch[:, 0, 0, 0] == 0).mean() < 0.6
    assert type(model).from_config(model.get_config()).get_config() == model.get_config()


@pytest.mark.parametrize("name", ["resnet32", "resnet18", "resnet50"])
def test_plain_networks_have_no_shortcut(name):
    shape = (32, 32, 3)
    plain, residual = models.build(name, shape, 10, shortcut=False), models.build(name, shape, 10)
    assert not any(isinstance(layer, keras.layers.Add) for layer in plain.layers)
    projections = count_trainable_weights(residual) - count_trainable_weights(plain)
    assert (
        projections == {"resnet32": 0, "resnet18": 173_824, "resnet50": 2_776_576}[name]
    )  # 1x1 convolutions and their BN


def test_squeeze_and_excite_by_hand():
    layer = models.se_resnet20.__globals__["SqueezeExcite"](ratio=2)
    x = np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype("float32")
    y = np.asarray(layer(x))
    (w1, b1), (w2, b2) = layer.reduce.get_weights(), layer.excite.get_weights()
    assert w1.shape == (6, 3)
    gate = 1 / (1 + np.exp(-(np.maximum(x.mean(axis=(1, 2)) @ w1 + b1, 0) @ w2 + b2)))
    np.testing.assert_allclose(y, x * gate[:, None, None], rtol=1e-5)


@pytest.mark.slow
def test_perceptron_learns_by_rosenblatts_rule():
    """By hand, image by image; f(0) = 1; and it separates what can be separated."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (20, 2, 2, 1), np.uint8)
    labels = (images.reshape(20, 4).astype(int) @ [1, 2, -1, -1] > 100).astype(int)
    model = models.perceptron((2, 2, 1), 2)
    np.testing.assert_array_equal(model.predict(images, verbose=0), np.tile([0, 1], (20, 1)))  # z = 0: f = 1

    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, batch_size=1, epochs=3, shuffle=False, verbose=0)
    w, b = np.zeros(4), 0.0
    for x, target in list(zip(images.reshape(20, 4) / 255, labels, strict=True)) * 3:
        error = target - (w @ x + b >= 0)
        w, b = w + 0.5 * error * x, b + 0.5 * error
    kernel, bias = model.get_weights()
    np.testing.assert_allclose([*kernel[:, 0], *bias], [*w, b], atol=1e-5)
    model.fit(images, labels, batch_size=1, epochs=60, verbose=0)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] == 1
    with pytest.raises(InputError, match="two classes"):
        models.build("perceptron", (8, 8, 1), 3)


@pytest.mark.parametrize("name", ["efficientnet_transfer", "efficientnetv2_transfer"])
def test_transfer_freezes_and_unfreezes(name):
    """Frozen weights do not change in `fit`, and the statistics of batch normalisation never do; grey images work."""
    keras.utils.set_random_seed(0)
    model = models.build(name, (32, 32, 1), 2, weights=None)
    backbone = find_backbone(model)
    assert all(layer.trainable for layer in backbone.layers)  # from random weights all layers are trained
    unfreeze(model, depth=0)
    assert count_trainable_weights(model) == 1280 * 2 + 2
    images, labels = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 1), np.uint8), np.arange(8) % 2

    def moved_layers() -> set[str]:
        before = {weight.path: weight.numpy() for weight in backbone.weights}
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy", run_eagerly=True)
        model.train_on_batch(images, labels)
        return {weight.path for weight in backbone.weights if not np.array_equal(before[weight.path], weight.numpy())}

    assert not moved_layers()
    unfreeze(model, depth=1)
    last = max(layer.name[:6] for layer in backbone.layers if layer.name.startswith("block"))
    moved = moved_layers()
    assert moved and all(last in path or "top_conv" in path for path in moved)
    assert not any("bn" in path or "moving" in path for path in moved)
    unfreeze(model, depth=0)
    assert not moved_layers()
    with pytest.raises(InputError, match="Valid: 0 to"):
        unfreeze(model, depth=9)


def on_backbone(backbone: keras.Model) -> keras.Model:
    """A user's own classifier on a network of `keras.applications`, frozen."""
    images = keras.Input(backbone.input_shape[1:])
    backbone.trainable = False
    return keras.Model(images, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(backbone(images))))


@pytest.mark.parametrize(
    ("name", "side", "stages"),
    [
        ("Xception", 71, [f"block{number}" for number in range(1, 15)]),
        ("MobileNet", 32, [f"conv_{number}" for number in range(1, 14)]),
        ("EfficientNetB0", 32, [f"block{number}" for number in range(1, 8)]),
        ("EfficientNetV2B0", 32, [f"block{number}" for number in range(1, 7)]),
        ("ResNet50", 32, [f"conv{number}_" for number in range(1, 6)]),
        ("VGG16", 32, [f"block{number}" for number in range(1, 6)]),
    ],
)
def test_stages_stand_by_their_place_in_the_network(name, side, stages):
    """Two digits too: "block10" is not a part of "block1", and the last stage is the one next to the head."""
    from pbl.models.efficientnet import _list_stages

    backbone = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(side, side, 3))
    assert _list_stages(backbone) == stages
    model = on_backbone(backbone)
    unfreeze(model, depth=1)
    trained = {weight.path.split("/")[-2] for weight in backbone.trainable_weights}
    expected = {
        "Xception": {"block14_sepconv1", "block14_sepconv2"},
        "MobileNet": {"conv_dw_13", "conv_pw_13"},
        "VGG16": {"block5_conv1", "block5_conv2", "block5_conv3"},
    }
    assert trained == expected.get(name, trained)
    assert all(layer.startswith((stages[-1], "top_conv", "conv_dw_13", "conv_pw_13")) for layer in trained)
    assert len(trained) > 1


@pytest.mark.slow
def test_transfer_takes_a_backbone_from_keras_or_from_a_run(tmp_path):
    import pbl

    theirs = keras.applications.EfficientNetB0(weights=None, include_top=False, input_shape=(32, 32, 3))
    theirs.save_weights(tmp_path / "backbone.weights.h5")
    model = models.build("efficientnet_transfer", (32, 32, 3), 4, weights=str(tmp_path / "backbone.weights.h5"))
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_array_equal(find_backbone(model).predict_on_batch(images), theirs.predict_on_batch(images))

    config = pbl.Config(experiment="a", model=model.name, model_options={"weights": None}, image_size=32)
    run = pbl.runs.start_run(config, tmp_path)
    split = {"class_names": list("abcd"), "input_shape": [32, 32, 3], "fit": "crop", "hashes": {}}
    run.write_json("split.json", split)
    model.save_weights(run.path / "best.weights.h5")
    heir = models.build("efficientnet_transfer", (32, 32, 1), 2, weights=str(run.path))
    assert count_trainable_weights(heir) == 1280 * 2 + 2
    for one, other in zip(find_backbone(heir).get_weights(), find_backbone(model).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    for weights, said in [("nowhere", "no such file or run"), (str(tmp_path), "is a folder of runs|is not a run")]:
        with pytest.raises(InputError, match=said):
            models.build("efficientnet_transfer", (32, 32, 3), 4, weights=weights)


@pytest.mark.parametrize(("name", "module"), [("vgg16_transfer", "vgg16"), ("resnet50_transfer", "resnet50")])
def test_pixels_come_as_the_weights_of_imagenet_expect_them(name, module, monkeypatch):
    """As `keras.applications` prepares them; the file that Keras would download is that of the backbone, with its hash; both phases work."""
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    model = models.build(name, (64, 64, 3), 3, weights=None)
    application = getattr(keras.applications, module)
    found = keras.ops.convert_to_numpy(model.get_layer("preprocessing")(images))
    expected = application.preprocess_input(images.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    theirs = find_backbone(model)(expected)
    pooled = keras.ops.convert_to_numpy(keras.ops.mean(theirs, axis=(1, 2)))
    np.testing.assert_allclose(split_backbone(model)[0].predict_on_batch(images), pooled, atol=1e-4)

    def fetch(fname, *arguments, file_hash=None, **options):
        raise Exception(f"URL fetch failure: {fname} {file_hash}")

    for place in ("keras.src.applications.vgg16", "keras.src.applications.resnet"):
        monkeypatch.setattr(f"{place}.file_utils.get_file", fetch)
    with pytest.raises(InputError, match="could not be downloaded") as error:
        models.build(name, (64, 64, 3), 3)
    told = str(error.value.__context__)
    hashes = {"vgg16": "6d6bbae143d832006294945121d1f1fc", "resnet50": "4d473c1dd8becc155b73f8504c6f6626"}
    assert "notop" in told and hashes[module] in told
    grey = models.build(name, (64, 64, 1), 2, weights=None)
    unfreeze(grey, depth=1)
    moved = {layer.name[:6] for layer in find_backbone(grey).layers if layer.trainable and layer.weights}
    assert moved == {{"vgg16": "block5", "resnet50": "conv5_"}[module]}


def test_features_and_head_are_the_model():
    model = models.build("efficientnetv2_transfer", (32, 32, 1), 3, weights=None)
    extractor, head = split_backbone(model)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
    features = extractor.predict_on_batch(images)
    assert features.shape == (2, 1280)
    np.testing.assert_allclose(head.predict_on_batch(features), model.predict_on_batch(images), atol=1e-6)
    assert head.trainable_weights[0] is model.trainable_weights[-2]
    with pytest.raises(InputError, match="resnet20 has no backbone"):
        split_backbone(models.build("resnet20", (8, 8, 1), 3))


def test_patches_of_small_images():
    from pbl.models.vit import choose_patch

    assert [choose_patch(side, side) for side in (224, 64, 32, 28, 8, 7)] == [16, 8, 4, 4, 1, 1]
    with pytest.raises(InputError, match="not multiples of patch=5"):
        models.build("vit_tiny", (32, 32, 3), 10, patch=5)
    with pytest.raises(InputError, match="heads=5 does not divide"):
        models.build("vit_tiny", (32, 32, 3), 10, heads=5)


def test_stochastic_depth_drops_whole_images_in_training_only():
    layer = models.vit_tiny.__globals__["StochasticDepth"](0.5)
    x = np.ones((200, 3, 4), np.float32)
    np.testing.assert_array_equal(layer(x, training=False), x)
    kept = np.asarray(layer(x, training=True)).reshape(200, -1)
    assert (
        set(np.unique(kept)) == {0, 2} and all(len(set(row)) == 1 for row in kept) and 60 < (kept[:, 0] > 0).sum() < 140
    )


@pytest.mark.parametrize(
    ("styles", "options"),
    [
        (["small_cnn", "small_cnn_functional", "small_cnn_subclassed"], {"filters": 4}),
        (["mlp", "mlp_functional", "mlp_subclassed"], {"widths": [9, 7], "activation": "tanh", "dropout": 0.3}),
    ],
)
def test_one_network_in_three_styles(styles, options):
    """The same count; with the first one's weights the same outputs, and the same gradients."""
    images, labels = np.random.default_rng(0).integers(0, 256, (5, 12, 12, 3), np.uint8), np.arange(5) % 4
    first, *others = (models.build(name, (12, 12, 3), 4, **options) for name in styles)
    for other in others:
        assert other.count_params() == first.count_params()
        other.set_weights(first.get_weights())
        np.testing.assert_allclose(other(images), first(images), atol=1e-6)
        gradients = []
        for model in (first, other):
            with tf.GradientTape() as tape:
                loss = keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, model(images)))
            gradients.append(tape.gradient(loss, model.trainable_weights))
        for one, two in zip(*gradients, strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize("is_scaled", [False, True], ids=["", "with a loss scale"])
def test_own_training_step_takes_the_steps_of_fit(is_scaled):
    from pbl.config import DEFAULT_EXPERIMENT, run_experiment_file

    module = run_experiment_file(DEFAULT_EXPERIMENT.parent / "own_training_step.py")
    images, labels = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 1), np.uint8), np.arange(50) % 3

    class Plain(module.NetTrain):
        train_step = keras.Model.train_step

    own, plain = module.net_train((6, 6, 1), 3), Plain(3)
    plain(keras.Input((6, 6, 1)))
    plain.set_weights(own.get_weights())
    histories = []
    for model in (own, plain):
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        is_scaled_here = is_scaled and model is own  # as Keras does it with mixed_float16: the steps stay the same
        model.compile(
            optimizer=keras.optimizers.LossScaleOptimizer(optimizer) if is_scaled_here else optimizer,
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
        histories.append(model.fit(images, labels, batch_size=16, epochs=4, shuffle=False, verbose=0).history)
    for one, two in zip(own.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    for key in ("loss", "accuracy"):  # the last batch is smaller: the mean is over images, not over batches
        np.testing.assert_allclose(histories[0][key], histories[1][key], atol=1e-6)


def test_mlp_options():
    model = models.build("mlp", (4, 4, 1), 5, widths=[7, 6], dropout=0.5, batch_norm=True, activation="tanh")
    # 16x7 + BN 2x7, 7x6 + BN 2x6, 6x5 + 5
    assert count_trainable_weights(model) == 112 + 14 + 42 + 12 + 35
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds.count("Dropout") == 2 and kinds.count("BatchNormalization") == 2


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("restnet20", {}, "No model is called 'restnet20'. Did you mean 'resnet20'?"),
        ("mlp", {"drop": 0.5}, "no option 'drop'. Did you mean 'dropout'?"),
        ("lenet5", {"depth": 3}, "no option 'depth'. It has no options."),
        ("mlp", {"dropout": 1.5}, "do not fit 'mlp'"),
        ("mlp", {"activation": "rellu"}, "do not fit 'mlp'"),
        ("resnet20", {"shortcut": False, "stochastic_depth": 0.5}, "nothing is left beside them"),
        ("resnet20", {"shortcut": False, "zero_gamma": True}, "nothing is left beside them"),
        ("efficientnet_transfer", {"variant": "b9"}, "no variant 'b9'. Did you mean 'b3'"),
    ],
)
def test_wrong_choices(name, options, said):
    with pytest.raises(InputError) as error:
        models.build(name, (32, 32, 1), 3, **options)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("mlp", {"batch_norm": "maybe"}, "true or false"),
        ("mlp", {"dropout": "much"}, "a number"),
        ("dcgan", {"conditional": 1}, "true or false"),
        ("dcgan", {"noise_size": 0}, "a whole number, 1 or more"),
        ("dcgan", {"loss": 3}, "a word"),
        ("unet", {"depth": 2.5}, "a whole number, 1 or more"),
        ("unet", {"encoder": 3}, "a word"),
        ("unet", {"encoder": "resnet20", "weights": False}, "a word"),
        ("unet", {"encoder": "resnet20", "encoder_options": 3}, 'options by their names, such as {"dropout":0.1}'),
        ("simclr", {"encoder_options": ["dropout"]}, "options by their names"),
        ("efficientnet_transfer", {"variant": 0}, "a word"),
    ],
)
def test_an_option_of_another_kind_is_told_in_one_line(name, options, wanted):
    with pytest.raises(InputError) as error:
        models.build(name, (32, 32, 3), 3, **options)
    (option, value), *_ = reversed(options.items())
    assert str(error.value).startswith(f"model_options.{option}={value}: it must be {wanted}"), error.value


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


@pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed")
def test_small_models_under_jax():
    program = """
import numpy as np
import keras
from pbl import models
for name, side in [("mlp", 8), ("softmax_regression", 8), ("lenet5", 16), ("vgg_small", 8), ("resnet20", 8), ("se_resnet20", 8), ("vit_tiny", 8)]:
    options = {"depth": 1} if name == "vit_tiny" else {}
    model = models.build(name, (side, side, 1), 3, **options)
    images = np.random.default_rng(0).integers(0, 256, (6, side, side, 1), np.uint8)
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(images, np.arange(6) % 3)), name
    assert abs(model.predict_on_batch(images).sum() - 6) < 1e-4, name
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "KERAS_BACKEND": "jax"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_builder_of_ones_own_has_no_card(monkeypatch):
    """Not even under a name of the package: `unet` of a team may be a classifier."""
    assert models.find_card("unet").task == "segmentation" and models.find_card("mine") is None
    monkeypatch.setitem(MODELS, "unet", lambda input_shape, num_classes: None)
    assert models.find_card("unet") is None


def test_a_builder_that_returns_one_model_is_refused(monkeypatch):
    """Otherwise the second seed would start from what the first one has trained."""
    net = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10, activation="softmax")]
    )
    monkeypatch.setitem(MODELS, "net", lambda input_shape, num_classes: net)
    assert models.build("net", (8, 8, 1), 10) is net
    with pytest.raises(InputError, match=r"MODELS\['net'\] returned a model that it had returned before"):
        models.build("net", (8, 8, 1), 10)


def test_separable_convolutions_are_counted_as_their_two_kernels():
    """As a depthwise convolution and one of 1 x 1 after it: 32 x 32 x (3 x 3 x 8 + 8 x 16)."""
    inputs = keras.Input((32, 32, 8))
    one = keras.Model(inputs, keras.layers.SeparableConv2D(16, 3, padding="same")(inputs))
    apart = keras.layers.Conv2D(16, 1)(keras.layers.DepthwiseConv2D(3, padding="same")(inputs))
    counts = [count_macs(model, (32, 32, 8)) for model in (one, keras.Model(inputs, apart))]
    assert counts == [32 * 32 * (3 * 3 * 8 + 8 * 16)] * 2
