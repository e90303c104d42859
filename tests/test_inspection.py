"""What a network looks at: maps compared with closed forms, planted truths and the run's own numbers."""

import json
import shutil
import sys

import keras
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from keras import layers, ops
from PIL import Image
from scipy.signal import correlate
from test_models import ONLY_BUILT, SMALL_OPTIONS
from test_transfer import with_backbone

import pbl
from pbl import models
from pbl.diagnosis.monitor import FEWEST
from pbl.diagnosis.signals import Signals
from pbl.errors import InputError
from pbl.evaluation.run import open_data
from pbl.inspection import run as inspection
from pbl.inspection.attention import attention_maps
from pbl.inspection.filters import feature_maps, find_filters
from pbl.inspection.gradcam import choose_map, explain, grad_cam
from pbl.inspection.loss_line import loss_line, measure_loss, renew_statistics
from pbl.inspection.run import _with_progress, choose_images
from pbl.models import CARDS, MODELS
from pbl.runs import Run

pytestmark = pytest.mark.slow

# Rows of the map that Grad-CAM uses, for images of the smallest side, at least 16: by hand, from the papers' tables.
PLACES = {
    "small_cnn": 8,
    "small_cnn_functional": 8,
    "small_cnn_subclassed": 8,
    "lenet5": 2,  # (16 - 4) / 2 - 4
    "alexnet": 3,  # of 67: 15, 7, 3
    **dict.fromkeys(("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn"), 2),  # before the last pooling
    "vgg_small": 4,
    "googlenet": 2,  # the last two inception modules see one place
    **dict.fromkeys((f"resnet{depth}" for depth in (20, 32, 44, 56, 110)), 4),
    **dict.fromkeys((f"resnet{depth}" for depth in (18, 34, 50, 101, 152)), 2),  # and the last stage of these
    **dict.fromkeys((f"se_resnet{depth}" for depth in (20, 32, 44, 56, 110)), 4),
    "se_resnet50": 2,
    "senet154": 2,
    "efficientnet_transfer": 2,
    "efficientnetv2_transfer": 2,
    "vgg16_transfer": 2,
    "resnet50_transfer": 2,
    "encoder_transfer": 4,
}
WITHOUT = {"perceptron", "softmax_regression", "mlp", "mlp_functional", "mlp_subclassed"}
NO_CLASSES = {name for name, card in CARDS.items() if card.task != "classification"}
TRANSFORMERS = {"vit_tiny", "vit_small", "vit_base"}


def test_every_model_is_in_one_table():
    assert set(MODELS) == set(PLACES) | WITHOUT | TRANSFORMERS | ONLY_BUILT | NO_CLASSES


def build(name: str, **options) -> tuple[keras.Model, np.ndarray]:
    side = max(16, CARDS[name].smallest)
    keras.utils.set_random_seed(0)
    model = models.build(name, (side, side, 3), 3, **{**SMALL_OPTIONS.get(name, {}), **options})
    return model, np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)


# Deeper networks with the same code as another one in the table.
DEEP = {
    *("resnet32", "resnet44", "resnet56", "resnet110", "resnet34", "resnet101", "resnet152", "vgg13", "vgg19"),
    *("se_resnet32", "se_resnet44", "se_resnet56", "se_resnet110"),
}


def has_gradients_of_groups() -> bool:
    """Whether this machine computes the gradient of a grouped convolution: on a CPU only oneDNN does."""
    images, filters = tf.ones((1, 4, 4, 4)), tf.ones((3, 3, 2, 4))
    try:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = tf.nn.conv2d(images, filters, 1, "SAME")
        return tape.gradient(outputs, images) is not None
    except tf.errors.InvalidArgumentError:
        return False


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.nightly] * (name in DEEP)) for name in PLACES])
def test_every_convolutional_model(name):
    """The map is that of the last convolution that sees more than one place, and the gradient that of the logit."""
    if name == "senet154" and not has_gradients_of_groups():
        pytest.skip("TensorFlow has no gradient of a grouped convolution on this processor: oneDNN is not used on it")
    model, pixels = build(name)
    heat, call = explain(model, pixels, 1, None)
    assert call.output.shape[1:3] == (PLACES[name],) * 2
    assert heat.shape == pixels.shape[:3] and heat.dtype == np.float32
    assert heat.min() >= 0 and all(highest in (0, 1) for highest in heat.max(axis=(1, 2)))
    if name not in DEEP:  # without its softmax the same network returns the logits themselves
        last = [layer for layer in model._flatten_layers() if isinstance(layer, layers.Dense)][-1]
        assert last.activation is keras.activations.softmax and last.units == 3
        last.activation = keras.activations.linear
        np.testing.assert_allclose(grad_cam(model, pixels, classes=[1, 1]), heat, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "side", "options", "places"),
    [
        (
            "googlenet",
            80,
            {"auxiliary": True},
            3,
        ),  # 40, 20, 10, 5, 3; the other classifiers have their own convolutions
        ("googlenet", 32, {"lrn": True}, 2),
        ("resnet20", 16, {"shortcut": False, "stochastic_depth": 0.0}, 4),
        ("resnet20", 16, {"stochastic_depth": 0.5}, 4),
        ("alexnet", 67, {"lrn": True}, 3),
    ],
)
def test_options(name, side, options, places):
    model = models.build(name, (side, side, 1), 3, **options)
    pixels = np.random.default_rng(0).integers(0, 256, (2, side, side, 1), np.uint8)
    _, call = choose_map(model, pixels[:1], None)
    assert call.output.shape[1:3] == (places, places) and grad_cam(model, pixels).shape == (2, side, side)


def one_convolution(end=None, units: int = 3) -> keras.Model:
    """A convolution whose maps are averaged over all places: the network of class activation maps."""
    end = end or [layers.Dense(units, activation="softmax")]
    return keras.Sequential(
        [
            keras.Input((6, 5, 2)),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="convolution"),
            layers.GlobalAveragePooling2D(),
            *end,
        ]
    )


PIXELS = np.random.default_rng(1).normal(size=(5, 6, 5, 2)).astype(np.float32)


@pytest.mark.parametrize("of_class", [0, 1, 2, None])
def test_class_activation_maps_by_hand(of_class):
    """If averages feed a dense layer, Grad-CAM is the class activation map ReLU(sum of w A) (Selvaraju et al., section 3.1)."""
    keras.utils.set_random_seed(3)
    model = one_convolution()
    kernel, bias, dense, offset = model.get_weights()
    maps = np.zeros((5, 6, 5, 4))
    for n, k in np.ndindex(5, 4):
        maps[n, ..., k] = bias[k] + sum(correlate(PIXELS[n, ..., c], kernel[..., c, k], "same") for c in range(2))
    maps = maps.clip(0)
    logits = maps.mean(axis=(1, 2)) @ dense + offset
    classes = logits.argmax(axis=1) if of_class is None else np.full(5, of_class)
    expected = np.einsum("nhwk,kn->nhw", maps, dense[:, classes]).clip(0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    np.testing.assert_allclose(grad_cam(model, PIXELS, of_class), expected, atol=1e-5)
    assert len(set(classes)) > 1 or of_class is not None

    # The gradient of the log-probability, instead of the logit, would give another map.
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    of_log = np.einsum("nhwk,nk->nhw", maps, dense[:, classes].T - p @ dense.T).clip(0)
    assert np.abs(of_log / of_log.max(axis=(1, 2), keepdims=True) - expected).max() > 0.1


class Own(keras.Model):
    """A student's own model: one convolution called twice, inside a `tf.function`, and a softmax in `call`."""

    def __init__(self, end=ops.softmax):
        super().__init__()
        self.first, self.shared = (
            layers.Conv2D(2, 3, padding="same"),
            layers.Conv2D(2, 3, padding="same", name="shared"),
        )
        self.inner = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(3)])
        self.end = end

    @tf.function
    def call(self, images):
        x = ops.relu(self.shared(ops.relu(self.first(images))))
        return self.end(self.inner(self.shared(ops.max(ops.reshape(x, (-1, 3, 2, 5, 2)), axis=2)[:, :, :4])))


def test_models_of_ones_own():
    keras.utils.set_random_seed(0)
    model = Own()
    heat = grad_cam(model, PIXELS)
    assert heat.shape == (5, 6, 5) and heat.max() == 1
    assert list(feature_maps(model, PIXELS[0]).values())[-1].shape == (3, 4, 2)  # of the last call
    np.testing.assert_array_equal(grad_cam(model, PIXELS, layer=model.shared), heat)
    np.testing.assert_array_equal(grad_cam(model, PIXELS, layer="shared"), heat)
    assert not np.array_equal(grad_cam(model, PIXELS, layer="conv2d"), heat)
    with pytest.raises(InputError, match=r"ends in a softmax whose logits Keras does not know"):
        grad_cam(Own(end=tf.nn.softmax), PIXELS)
    assert not tf.config.functions_run_eagerly() and "call" not in vars(model)


@pytest.mark.parametrize("end", ["Softmax", "Activation", "logits", "sigmoid", "nested"])
def test_other_ends_and_a_nested_model(end):
    """The same weights give the same map, whatever the last layer is called."""
    keras.utils.set_random_seed(3)
    plain = one_convolution()
    dense = layers.Dense(3)
    ends = {
        "Softmax": [dense, layers.Softmax()],
        "Activation": [dense, layers.Activation("softmax", dtype="float32")],
        "logits": [dense],
        "sigmoid": [layers.Dense(1, activation="sigmoid")],
        "nested": None,
    }
    other = one_convolution(ends[end])
    weights = plain.get_weights()
    if end == "sigmoid":  # one unit is for the second class, and its negative for the first
        weights[2:] = weights[2][:, 1:2] - weights[2][:, :1], weights[3][1:2] - weights[3][:1]
    other.set_weights(weights)
    if end == "nested":
        images = keras.Input((6, 5, 2))
        other.trainable = False
        other = keras.Model(images, layers.Activation("linear")(other(images)))
        with pytest.raises(InputError, match="whose logits Keras does not know"):
            grad_cam(keras.Model(images, ops.exp(ops.log(other.layers[1](images)))), PIXELS)
    if end == "sigmoid":
        two, (kernel, bias) = one_convolution(units=2), weights[2:]
        two.set_weights([*weights[:2], np.hstack([-kernel, kernel]), np.hstack([-bias, bias])])
        plain = two
    for of_class in (0, 1):
        np.testing.assert_allclose(grad_cam(other, PIXELS, of_class), grad_cam(plain, PIXELS, of_class), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    exact, pixels = build("vgg_small")
    keras.config.set_dtype_policy(policy)
    mixed, _ = build("vgg_small")
    mixed.set_weights(exact.get_weights())
    one, other = grad_cam(exact, pixels, 0), grad_cam(mixed, pixels, 0)
    assert other.dtype == np.float32 and one.max() == other.max() == 1
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.99


def test_what_is_dead_or_overflows_gives_zeros():
    model = one_convolution()
    kernel, bias, *rest = model.get_weights()
    for dense in (np.abs(rest[0]), -np.abs(rest[0])):  # all maps for a class, or all against it
        model.set_weights([kernel, bias, dense, rest[1]])
        assert grad_cam(model, PIXELS, 0).any() == (dense.max() > 0)
    for dead in ([kernel, bias - 1e3, *rest], [kernel * np.nan, bias, *rest], [kernel * np.inf, bias, *rest]):
        model.set_weights(dead)
        assert not grad_cam(model, PIXELS, 0).any()


def test_the_map_lies_where_the_class_is():
    """The class is red or green, in a square in any corner among grey noise; the map must find the corner."""
    random = np.random.default_rng(0)
    n = 400
    pixels = random.integers(60, 196, (n, 16, 16, 1), np.uint8).repeat(3, axis=3)
    labels, corners = random.integers(0, 2, n), random.integers(0, 4, n)
    for image, label, corner in zip(pixels, labels, corners, strict=True):
        row, column = 8 * (corner // 2) + random.integers(1, 3), 8 * (corner % 2) + random.integers(1, 3)
        image[row : row + 5, column : column + 5] = (230, 30, 30) if label else (30, 230, 30)
    keras.utils.set_random_seed(0)

    def build_network() -> keras.Model:
        body = [layers.Conv2D(8, 3, padding="same", activation="relu") for _ in range(2)]
        head = [layers.GlobalAveragePooling2D(), layers.Dense(2, activation="softmax")]
        return keras.Sequential([keras.Input((16, 16, 3)), layers.Rescaling(1 / 255), *body, *head])

    model, untrained = build_network(), build_network()
    model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(pixels[:300], labels[:300], epochs=10, batch_size=20, verbose=0)
    assert model.evaluate(pixels[300:], labels[300:], verbose=0)[1] > 0.97

    def share_in_corner(of: keras.Model) -> float:
        heat = grad_cam(of, pixels[300:]).reshape(100, 2, 8, 2, 8).sum(axis=(2, 4)).reshape(100, 4)
        heat = heat[np.arange(100), corners[300:]] / np.maximum(heat.sum(axis=1), 1e-9)
        return float(np.median(heat))

    assert share_in_corner(model) > 0.9 > 0.5 > share_in_corner(untrained)


def test_attention_rollout_by_hand():
    """Abnar and Zuidema's equation 1, block by block; the grid of patches; a transformer without a class token."""
    model = models.vit_tiny((8, 12, 3), 3, depth=2, patch=4)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    x = model.position(model.flatten(model.embed(model.rescale(pixels))))
    expected = np.eye(7)
    for block in model.encoder:
        y = block.norm_1(x)
        query, key = (dense(y).numpy() for dense in (block.attention._query_dense, block.attention._key_dense))
        scores = np.exp(np.einsum("nqhd,nkhd->nhqk", query, key) / np.sqrt(64))
        scores = (scores / scores.sum(axis=3, keepdims=True)).mean(axis=1)
        expected = (0.5 * scores + 0.5 * np.eye(7)) @ expected
        x = block(x)
    of_patches = expected[:, 0, 1:].reshape(2, 2, 3)
    heat = attention_maps(model, pixels)
    assert heat.shape == (2, 8, 12) and heat.dtype == np.float32 and heat.max() == 1
    expected = tf.image.resize(of_patches[..., None], (8, 12))[..., 0].numpy()
    np.testing.assert_allclose(heat, expected / expected.max(axis=(1, 2), keepdims=True), rtol=1e-5)

    images = keras.Input((8, 8, 1))
    x = layers.Reshape((16, 6))(layers.Conv2D(6, 2, strides=2)(images))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 3, dropout=0.1)(x, x)])
    own = keras.Model(images, layers.Dense(2, activation="softmax")(layers.GlobalAveragePooling1D()(x)))
    assert attention_maps(own, pixels[:, :, :8, :1]).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("name", "call", "said"),
    [
        ("mlp", lambda model, pixels: grad_cam(model, pixels), "mlp has no convolution with a map"),
        ("mlp", lambda model, pixels: find_filters(model, pixels), "mlp has no convolution, so it has no filters"),
        ("mlp", lambda model, pixels: feature_maps(model, pixels[0]), "so it has no feature maps"),
        ("perceptron", lambda model, pixels: grad_cam(model, pixels), "perceptron"),
        ("lenet5", lambda model, pixels: attention_maps(model, pixels), "lenet5 has no attention"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels, layer="c4"), "no layer 'c4'.* Did you mean 'c3'"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels, layer="f6"), "no layer 'f6' that gives a map"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels, 3), "classes=3: give one class from 0 to 2"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels, [0, 1, 2]), "one for each of the 2 images"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels, 0.5), "classes=0.5"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels[0]), r"for one image, image\[None\]"),
        ("lenet5", lambda model, pixels: grad_cam(model, pixels[:0]), r"have the shape \(0, 16, 16, 3\)"),
        ("vit_tiny", lambda model, pixels: grad_cam(model, pixels), "attention_maps"),
    ],
)  # fmt: skip
def test_what_cannot_be_looked_at_is_said_in_one_line(name, call, said):
    side = max(16, CARDS[name].smallest)
    model = models.build(name, (side, side, 3), 2 + (name != "perceptron"), **SMALL_OPTIONS.get(name, {}))
    with pytest.raises(InputError, match=said) as error:
        call(model, np.zeros((2, side, side, 3), np.uint8))
    assert "\n" not in str(error.value)


def test_filters_and_feature_maps():
    model, pixels = build("resnet20")
    name, filters = find_filters(model, pixels)
    np.testing.assert_array_equal(filters, model.get_layer(name).kernel)
    maps = feature_maps(model, pixels[0])
    assert [of.shape for of in maps.values()] == [(16, 16, 16), (4, 4, 64)]
    assert all(model.get_layer(layer).output.shape[1:] == of.shape for layer, of in maps.items())
    assert min(of.min() for of in maps.values()) == 0  # after the activations
    images = keras.Input((9, 9, 2))
    for first, shape in (
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (3, 3, 1, 4)),
        (layers.SeparableConv2D(5, 3), (3, 3, 1, 2)),
        (layers.Conv2DTranspose(5, 3), (3, 3, 2, 5)),
    ):
        own = keras.Model(images, layers.GlobalAveragePooling2D()(first(images)))
        assert find_filters(own, np.zeros((1, 9, 9, 2)))[1].shape == shape


def test_statistics_are_those_of_the_images():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)])
    pixels = np.random.default_rng(0).normal(3, 2, (250, 4, 4, 1)).astype(np.float32)
    renew_statistics(model, pixels)
    norm = model.layers[0]
    of_batches = [pixels[begin : begin + 100] for begin in (0, 100, 200)]
    expected = [np.average([f(batch) for batch in of_batches], weights=[100, 100, 50]) for f in (np.mean, np.var)]
    np.testing.assert_allclose([norm.moving_mean[0], norm.moving_variance[0]], expected, rtol=1e-4)
    norm.trainable = False
    renew_statistics(model, pixels + 1)
    np.testing.assert_allclose(norm.moving_mean[0], expected[0], rtol=1e-4)


def test_choose_images():
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3])
    p = np.array([0.9, 0.2, 0.8, 0.1, 0.6, 0.7, 0.95, 0.97, 0.3, 0.4, 0.05])
    wrong = np.flatnonzero(p < 0.5)
    probabilities = np.zeros((11, 5))
    probabilities[np.arange(11), labels] = p
    probabilities[wrong, 4] = 1 - p[wrong]
    # The worst mistakes; then the most confident image of each class, first of the classes of the mistakes.
    assert choose_images(labels, probabilities) == [10, 3, 1, 8, 7, 0, 5, 6]
    assert choose_images(labels[[0, 4]], probabilities[[0, 4]]) == [0, 1]


def written(run: Run) -> set[str]:
    return {file.name for file in (run.path / "figures").iterdir()} - {
        "confusion_matrix_val.png",
        "learning_curves.png",
    }


ALL = {f"{name}.{ending}" for name in ("filters", "feature_maps", "grad_cam", "loss_line") for ending in ("png", "csv")}


@pytest.fixture
def three_positions(monkeypatch):
    """Only three positions of the loss line, if it is not what is tested."""
    monkeypatch.setattr(inspection, "POSITIONS", np.array([0, 0.5, 1]))


@pytest.fixture(scope="module")
def convolutional_run(tmp_path_factory) -> Run:
    config = pbl.Config(experiment="x", model="vgg_small", epochs=1, precision="float32")
    return pbl.train(config, folder=tmp_path_factory.mktemp("runs"))


def test_a_run_without_a_convolution(trained_run, tmp_path, command):
    """One line for what cannot be drawn, and the rest is drawn; the line's ends are the run's own numbers."""
    run = Run(shutil.copytree(trained_run.path, tmp_path / "x" / "001"))
    status, out, err = command("inspect", run.path)
    assert status == 0 and not err and written(run) == {"loss_line.png", "loss_line.csv"}
    lines = out.splitlines()
    assert [line.split(".png is left out: mlp has no")[0] for line in lines[:3]] == [
        "filters",
        "feature_maps",
        "grad_cam",
    ]
    assert lines[3:] == [str(run.path / "figures" / f"loss_line.{ending}") for ending in ("png", "csv")]

    table = pd.read_csv(run.path / "figures" / "loss_line.csv").set_index("position")
    assert len(table) == 25 and table.index.min() == -0.25 and table.index.max() == 1.25
    metrics = run.read_json("metrics_val.json")  # on all 189 validation images
    assert table.loc[1, "val_loss"] == pytest.approx(metrics["log_loss"], rel=1e-5)
    assert table.loc[1, "val_accuracy"] == pytest.approx(metrics["accuracy"])
    signals = Signals.load(run.path / "signals.npz")
    assert table.loc[0, "val_loss"] == pytest.approx(float(signals.val.loss[0].astype(float).mean()), rel=1e-3)


def test_the_first_weights_are_those_of_the_training(convolutional_run):
    """Epoch 0 of the run's own signals, image by image, with the initial statistics of batch normalisation."""
    data = open_data(convolutional_run.config)
    first = inspection.build_first(convolutional_run, data)
    signals = Signals.load(convolutional_run.path / "signals.npz")
    for split, side in (("train", signals.probe), ("val", signals.val)):
        images = data.sample(split, FEWEST)
        assert np.array_equal(images.labels, side.labels)
        loss, accuracy = measure_loss(first, images.pixels, images.labels)
        assert loss == pytest.approx(float(side.loss[0].astype(float).mean()), rel=1e-3)
        assert accuracy == pytest.approx(side.correct[0].mean(), abs=0.01)


def test_a_terminal_sees_the_progress(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(_with_progress(np.arange(3))) == [0, 1, 2]


def test_the_ends_of_the_loss_line():
    """0 and 1 are the two networks' own losses; between them is the network with weights in between; everything is restored."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 8, 8, 1), np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, 120)
    models_ = []
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        models_.append(models.small_cnn((8, 8, 1), 3))
    first, last, between = models_
    between.set_weights([(a + b) / 2 for a, b in zip(first.get_weights(), last.get_weights(), strict=True)])
    before = first.get_weights()
    table = loss_line(first, before, last.get_weights(), (pixels, labels), (pixels[:50], labels[:50]), (0, 0.5, 1))
    for row, model in zip(table.itertuples(), (first, between, last), strict=True):
        assert (row.train_loss, row.train_accuracy) == pytest.approx(measure_loss(model, pixels, labels), rel=1e-6)
        assert (row.val_loss, row.val_accuracy) == pytest.approx(
            measure_loss(model, pixels[:50], labels[:50]), rel=1e-6
        )
    assert all(map(np.array_equal, before, first.get_weights()))
    with pytest.raises(InputError, match="the weights do not belong to"):
        loss_line(first, before[1:], before, (pixels, labels), (pixels, labels))


@pytest.mark.nightly
def test_a_fine_tuned_run(tmp_path, three_positions):
    """From the pretrained weights; frozen layers keep their statistics, although `load_model` builds them trainable."""
    models.MODELS["with_backbone"] = with_backbone
    run = pbl.train(
        pbl.Config(experiment="x", model="with_backbone", epochs=2, fine_tune_epochs=1, precision="float32"), folder=tmp_path
    )  # fmt: skip
    files = inspection.inspect_run(run)
    assert ALL == written(run) == {file.name for file in files}
    table = pd.read_csv(run.path / "figures" / "loss_line.csv").set_index("position")
    metrics, signals = run.read_json("metrics_val.json"), Signals.load(run.path / "signals.npz")
    assert table.loc[1, "val_loss"] == pytest.approx(metrics["log_loss"], rel=1e-5)
    assert table.loc[0, "val_loss"] == pytest.approx(float(signals.val.loss[0].astype(float).mean()), rel=1e-3)


def test_a_convolutional_run(convolutional_run, tmp_path, command, monkeypatch, three_positions):
    """On its own images and on given ones; without its data only the loss line is missing."""
    run = Run(shutil.copytree(convolutional_run.path, tmp_path / "x" / "001"))
    inspection.inspect_run(run)
    assert written(run) == ALL
    for file in (run.path / "figures").glob("*.png"):
        assert matplotlib.image.imread(file).std() > 0.05
    table = pd.read_csv(run.path / "figures" / "grad_cam.csv")
    is_right = table["true"] == table["predicted"]
    assert is_right.tolist() == [False] * 4 + [True] * 4 and table["image"].str.startswith("train/").all()
    filters = pd.read_csv(run.path / "figures" / "filters.csv")
    kernel = pbl.load_model(run).get_layer(index=1).kernel.numpy()
    assert len(filters) == kernel.size == 288
    row = filters.iloc[100]
    assert row["weight"] == pytest.approx(kernel[int(row["row"]), int(row["column"]), 0, int(row["filter"])])

    folder = tmp_path / "写真 $a$ <b>"
    folder.mkdir()
    for number in range(18):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 9), np.uint8)
        Image.fromarray(pixels).save(folder / f"とても長い名前の写真ファイル $x^2$ & <b> {number:02d}.png")

    def gone():
        raise InputError("No file photos.zip.")

    monkeypatch.setitem(pbl.data.DATASETS, "digits", gone)
    status, out, _ = command("inspect", run.path, folder, "--json")
    found = json.loads(out)
    table = pd.read_csv(run.path / "figures" / "grad_cam.csv")
    assert status == 0 and len(table) == 16 and table["true"].isna().all() and "x^2$ & <b> 15.png" in table["image"][15]
    assert found["left_out"] == [
        "The first 16 of 18 images are shown.",
        "loss_line.png is left out: No file photos.zip.",
    ]
    assert len(found["files"]) == 6
    status, out, err = command("inspect", run.path)
    assert status == 2 and "No file photos.zip. Or give images" in err and not out


@pytest.mark.parametrize(
    ("words", "harm", "said"),
    [
        ("absent.png", None, "No file or folder absent.png"),
        ("empty.png", None, "empty.png is empty"),
        ("", lambda run: (run.path / "predictions_val.npz").write_bytes(b"PK"), "predictions_val.npz is missing or damaged"),
        ("", lambda run: (run.path / "predictions_val.npz").unlink(), "python -m pbl evaluate"),
        ("", lambda run: [(run.path / f"best.{end}").unlink() for end in ("weights.h5", "keras")], "contains no trained model"),
    ],
)  # fmt: skip
def test_wrong_input(trained_run, tmp_path, command, monkeypatch, words, harm, said):
    monkeypatch.chdir(tmp_path)
    run = Run(shutil.copytree(trained_run.path, tmp_path / "x" / "001"))
    (tmp_path / "empty.png").touch()
    if harm:
        harm(run)
    status, out, err = command("inspect", run.path, *words.split())
    assert status == 2 and err.count("\n") == 1 and said in err and not out and not written(run)
