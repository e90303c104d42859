"""What a `.keras` file may be made of: Keras's own layers and operations; nothing that runs code, reads files or comes from a stranger."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from pbl.grading import architecture
from pbl.grading.refusals import Refusal

LAYERS = {
    name: kind for name, kind in vars(layers).items() if isinstance(kind, type) and issubclass(kind, layers.Layer)
}
RANDOM = {
    "RandomZoom": {"height_factor": 0.1}, "RandomRotation": {"factor": 0.1}, "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomCrop": {"height": 8, "width": 8}, "RandomPosterization": {"factor": 4},
} | {f"Random{name}": {"factor": 0.1} for name in ("Contrast", "Brightness", "Hue", "Saturation", "Sharpness", "ColorDegeneration")}  # fmt: skip


def saved(model: keras.Model) -> dict:
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def head(x):
    return layers.Dense(3, activation="softmax")(layers.Flatten()(x))


# Keras itself cannot load what RandomShear saves; the others do not work on these images.
LEFT_OUT = (
    "RandomShear", "MaxNumBoundingBoxes", "Equalization", "ContrastLimitedAdaptiveHistogramEqualization", "Resizing", "CenterCrop",
)  # fmt: skip


def with_random_layers(x):
    from keras.src.layers.preprocessing.image_preprocessing import base_image_preprocessing_layer

    base = base_image_preprocessing_layer.BaseImagePreprocessingLayer
    for name, kind in LAYERS.items():
        if issubclass(kind, base) and kind is not base and name not in LEFT_OUT:
            x = kind(**RANDOM.get(name, {}))(x)
    return head(x)


def with_recurrence(x):
    x = layers.Conv1D(4, 3)(layers.Reshape((8, 24))(x))
    return head(layers.GRU(4)(layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)))


def with_operations(x):
    ops = keras.ops
    means = ops.concatenate([ops.mean(x, axis=(1, 2)), ops.max(x, axis=(1, 2))], axis=-1)
    means = ops.where(means > 0.5, ops.gelu(means / 255.0 - 0.5), ops.zeros_like(means))
    return ops.softmax(layers.Dense(3)(ops.squeeze(ops.expand_dims(means, 1), 1)))


def with_convnext(x):
    from keras.src.applications.convnext import LayerScale

    y = layers.Dense(3)(layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(x)))
    return head(layers.Add()([x, LayerScale(1e-6, 3)(y)]))


ACCEPTED = {
    "resnet50's preprocessing": lambda x: head(keras.applications.resnet50.preprocess_input(x)),
    "vgg16's preprocessing": lambda x: head(keras.applications.vgg16.preprocess_input(x)),
    "mobilenet's preprocessing": lambda x: head(keras.applications.mobilenet_v2.preprocess_input(x)),
    "random layers": with_random_layers,
    "recurrence": with_recurrence,
    "operations": with_operations,
    "convnext": with_convnext,
    "wrappers": lambda x: head(layers.TimeDistributed(layers.Dense(2))(layers.SpectralNormalization(layers.Conv2D(2, 3))(x))),
    "attention": lambda x: head(layers.MultiHeadAttention(2, 4)(layers.Reshape((64, 3))(x), layers.Reshape((64, 3))(x))),
    "more features than any other number may be": lambda x: layers.Dense(3, activation="softmax")(layers.Reshape((49_152,))(layers.UpSampling2D(16)(x))),
    "regularised": lambda x: head(layers.Conv2D(2, 3, kernel_regularizer="l2", kernel_constraint="max_norm", kernel_initializer="he_normal")(x)),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_keras_own_layers_and_operations_pass(name):
    """The rebuilt model computes the same as the saved one."""
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, ACCEPTED[name](inputs))
    again = architecture.rebuild(architecture.check_config(saved(model)), keras.__version__)
    again.set_weights(model.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    assert np.allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-5)


def test_every_layer_is_accepted_or_refused_for_a_reason():
    refused = {name for name in LAYERS if ("keras.layers", name) not in architecture.ALLOWED}
    assert refused == set(LAYERS) & (architecture._RUN_CODE | architecture._READ_FILES)
    assert {"Lambda", "TFSMLayer", "StringLookup", "TextVectorization", "JaxLayer", "TorchModuleWrapper"} <= refused
    taking = {name for module, name in architecture.ALLOWED if module and module.startswith("keras.src.ops")}
    assert (
        not taking & {"Map", "Scan", "WhileLoop", "Cond", "VectorizedMap", "Vectorize"}
        and {"GetItem", "Stack", "Softmax"} <= taking
    )


@pytest.mark.parametrize(
    ("change", "reason", "layer", "name"),
    [
        ({"class_name": "Lambda"}, "config_code", "flat", "keras.layers.Lambda"),
        ({"class_name": "TFSMLayer"}, "config_file", "flat", "keras.layers.TFSMLayer"),
        ({"class_name": "TextVectorization"}, "config_file", "flat", "keras.layers.TextVectorization"),
        ({"class_name": "Mine", "module": "my_team", "registered_name": "my_team>Mine"}, "config_class", "flat", "my_team.Mine"),
        ({"class_name": "get_file", "module": "keras.utils"}, "config_class", "flat", "keras.utils.get_file"),
        ({"class_name": "Map", "module": "keras.src.ops.core", "registered_name": "Map"}, "config_code", "flat", "keras.src.ops.core.Map"),
        ({"registered_name": "builtins>eval"}, "config_class", "flat", "keras.layers.Flatten"),
    ],
)  # fmt: skip
def test_a_refusal_names_layer_and_reason(change, reason, layer, name):
    config = saved(keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(name="flat"), layers.Dense(3)]))
    (entry,) = (entry for entry in config["config"]["layers"] if entry["config"]["name"] == "flat")
    entry.update(change)
    with pytest.raises(Refusal) as refusal:
        architecture.check_config(config)
    assert (refusal.value.reason, refusal.value.fields) == (reason, {"name": name, "layer": layer})


def test_a_key_that_stands_twice_is_told():
    from pbl.grading.formats import read_description

    with pytest.raises(Refusal) as refusal:
        read_description(b'{"format": 1, "kind": "predictions", "team": "A", "team": "B"}', "predictions", 512)
    assert (refusal.value.reason, refusal.value.fields) == ("key_twice", {"file": "submission.json", "name": "team"})


def test_the_bounds_fit_vgg():
    """138.4 million weights of VGG-16 and 143.7 of VGG-19 with 1,000 classes, in float32, with HDF5's overhead; extracted from its zip and
    next to a new file of the same size."""
    from pbl.grading import Limits

    limits = Limits()
    largest = 4 * 143.7e6 / 2**20
    assert largest + 16 < limits.file and limits.parameters > 143.7 and 2 * limits.file < limits.disk


@pytest.mark.parametrize("builder", ["mlp", None])
def test_a_trained_models_optimizer_is_not_handed_in(tmp_path, builder):
    """Adam stores two numbers for each weight: with them VGG-16's 512 MB would be 1.5 GB. The model can be trained further afterwards."""
    from pbl import models
    from pbl.grading import write_submission

    model = models.build("mlp", (8, 8, 1), 3, widths=[500])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(np.zeros((8, 8, 8, 1), np.uint8), np.zeros(8), verbose=0)
    write_submission(tmp_path / "a", "A", ["x", "y", "z"], model=model, builder=builder)
    (file,) = [*(tmp_path / "a").glob("model.*")]
    assert 4 * model.count_params() < file.stat().st_size < 4 * model.count_params() + 40_000
    model.fit(np.zeros((8, 8, 8, 1), np.uint8), np.zeros(8), verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_many_hidden_images_are_read_some_at_a_time(tmp_path, monkeypatch):
    """All of them, in order, in full batches except the last; so that their number takes no memory from a model."""
    from pbl.grading import worker
    from pbl.models.prediction import FILLED

    images = np.random.default_rng(0).integers(0, 256, (1000, 4, 5, 3), np.uint8)
    (tmp_path / "pixels").write_bytes(images.tobytes())
    monkeypatch.setattr(worker, "PIXEL_BYTES", 3 * FILLED * 4 * 5 * 3 + 7)
    parts = list(worker._read_pixels(tmp_path / "pixels", 1000, (4, 5, 3)))
    assert [len(part) for part in parts] == [84] * 11 + [76] and (np.concatenate(parts) == images).all()
    monkeypatch.setattr(worker, "PIXEL_BYTES", 1)  # images so large that a batch of them is more
    assert {len(part) for part in worker._read_pixels(tmp_path / "pixels", 56, (4, 5, 3))} == {28}
