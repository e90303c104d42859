"""How a training uses the machine: number formats, steps in one call, fused batch normalisation."""

import contextlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import pbl
from pbl.errors import InputError
from pbl.tasks import find_task
from pbl.training import build, performance


@pytest.mark.parametrize(
    ("flags", "capability", "policy"),
    [
        ("avx2 fma", None, "float32"),
        ("avx512_bf16", None, "mixed_bfloat16"),
        ("amx_bf16 amx_tile", None, "mixed_bfloat16"),
        ("avx512_bf16", (6, 1), "float32"),  # P100, K80: the GPU decides
        ("", (7, 5), "mixed_float16"),  # T4
        ("", (8, 0), "mixed_bfloat16"),  # A100
        ("", (8, 9), "mixed_bfloat16"),  # L4
    ],
)
def test_precision_is_that_of_the_device(monkeypatch, flags, capability, policy):
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"flags : fpu {flags}")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [kind] if capability else [])
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda device: details)
    assert performance.choose_precision() == policy
    assert performance.choose_precision("float32") == "float32"
    assert performance.is_native(policy) and performance.is_native("float32")
    assert performance.is_native("mixed_float16") == bool(capability)


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 2e-5), ("mixed_bfloat16", 2e-2)], ids=["float32", "mixed_bfloat16"]
)
def test_fused_batch_normalization_is_keras_own(tmp_path, policy, tolerance):
    """Outputs, gradients, moving averages and inference; then the layers are Keras's own again, and so is what is saved."""
    random = np.random.default_rng(0)
    x, y = random.normal(3, 2, (16, 5, 5, 8)).astype(np.float32), random.normal(size=(16, 5, 5, 8)).astype(np.float32)
    with performance.precision(policy):
        layers = [
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.BatchNormalization(scale=False),
            keras.layers.BatchNormalization(center=False, epsilon=1e-5),
            keras.layers.BatchNormalization(trainable=False),
        ]
        images = keras.Input((5, 5, 8))
        model = keras.Model(images, [layer(images) for layer in layers])
    for weight in model.weights:
        weight.assign(random.uniform(0.5, 1.5, weight.shape))
    before = model.get_weights()

    def step() -> list[np.ndarray]:
        model.set_weights(before)
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            outputs = model(given, training=True)
            loss = sum(tf.reduce_sum(tf.cast(output, tf.float32) * y) for output in outputs)
        gradients = tape.gradient(loss, [given, *(weight.value for weight in model.trainable_weights)])
        return [np.asarray(tf.cast(v, tf.float32)) for v in [*outputs, *gradients, *model(x)]] + model.get_weights()

    stock = step()
    with performance.fused_batch_normalization(model) as count:
        assert count == 4
        fused = step()
        traced = str(tf.function(lambda: model(x, training=True)).get_concrete_function().graph.as_graph_def())
        assert traced.count('op: "FusedBatchNormV3"') == 4
        model.save(tmp_path / "model.keras")
    assert len(stock) == len(fused) and all("call" not in vars(layer) for layer in layers)
    for a, b in zip(stock, fused, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(a).max())
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert {type(layer) for layer in loaded.layers[1:]} == {keras.layers.BatchNormalization}


@pytest.mark.parametrize(
    ("optimizer", "options", "policy", "fuses", "tolerance"),
    [
        ("SGD", {"momentum": 0.9}, "float32", True, 0),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, "mixed_bfloat16", True, 0),
        ("SGD", {"momentum": 0.9, "clipnorm": 0.1, "use_ema": True}, "float32", True, 0),
        ("SGD", {"momentum": 0.9, "gradient_accumulation_steps": 2}, "float32", True, 0),
        ("SGD", {"momentum": 0.9}, "mixed_float16", True, 0),  # within LossScaleOptimizer
        ("SGD", {}, "float32", True, 0),
        ("Adam", {"beta_1": 0.8, "epsilon": 1e-5}, "float32", True, 2e-5),
        ("Adam", {"amsgrad": True}, "float32", True, 0),
        ("AdamW", {"weight_decay": 0.01, "gradient_accumulation_steps": 2}, "float32", True, 2e-5),
        ("RMSprop", {}, "float32", False, 0),
    ],
)
def test_fused_updates_are_keras_own(optimizer, options, policy, fuses, tolerance):
    random = np.random.default_rng(0)
    words, labels = random.integers(0, 5, (64, 4)), random.integers(0, 3, 64)

    def fit(context) -> list[np.ndarray]:
        keras.utils.set_random_seed(0)
        with performance.precision(policy):
            layers = [keras.layers.Embedding(5, 6), keras.layers.Flatten(), keras.layers.Dense(8, activation="relu")]
            model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3, dtype="float32")])
        schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(getattr(keras.optimizers, optimizer)(learning_rate=schedule, **options), loss)
        with context(model) as is_fused:
            model.fit(words, labels, batch_size=16, epochs=3, shuffle=False, verbose=0)
            assert context is contextlib.nullcontext or is_fused == fuses
        return [np.asarray(v) for v in [*model.variables, *model.optimizer.variables]]

    stock, fused = fit(contextlib.nullcontext), fit(performance.fused_updates)
    assert len(stock) == len(fused)
    for a, b in zip(stock, fused, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(a).max())


def test_fused_updates_leave_the_optimizer_as_it_is(tmp_path):
    model = pbl.models.build("mlp", (8, 8, 1), 10)
    model.compile("adam", "sparse_categorical_crossentropy")
    with performance.fused_updates(model):
        model.train_on_batch(np.zeros((2, 8, 8, 1)), np.zeros(2))
        model.save(tmp_path / "model.keras")
    assert "update_step" not in vars(model.optimizer)
    loaded = keras.models.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is keras.optimizers.Adam and int(loaded.iterations) == 1
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=True)
    with performance.fused_updates(model) as is_fused:
        assert not is_fused


class WatchesSteps(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        pass


@pytest.mark.parametrize(
    ("builder", "setting", "steps", "callbacks", "expected"),
    [
        ("mlp", "auto", 100, [], 8),
        ("mlp", "auto", 100, [keras.callbacks.EarlyStopping()], 8),
        ("mlp", "auto", 100, [WatchesSteps()], 1),
        ("mlp", "auto", 100, [keras.callbacks.LambdaCallback(on_train_batch_end=print)], 1),
        ("mlp", "auto", 100, [keras.callbacks.LambdaCallback(on_epoch_end=print)], 8),
        ("mlp", "auto", 10, [], 1),
        ("mlp", 3, 10, [WatchesSteps()], 3),
        ("resnet20", "auto", 100, [], 1),
        ("vit_tiny", "auto", 100, [], 1),
    ],
)
def test_steps_in_one_call(builder, setting, steps, callbacks, expected):
    model = pbl.models.build(builder, (8, 8, 1), 10)
    assert performance.choose_steps_per_execution(setting, model, steps, callbacks) == expected


def own_head(dtype):
    def mine(input_shape, num_classes):
        layers = [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes, activation="softmax", dtype=dtype),
        ]
        return keras.Sequential(layers)

    return mine


def test_probabilities_are_float32(tmp_path, monkeypatch, capsys):
    """If the machine would use bfloat16 and a student's own model ends in it, float32 is used, and this is reported."""
    monkeypatch.setattr(
        performance, "choose_precision", lambda setting="auto": "mixed_bfloat16" if setting == "auto" else setting
    )
    monkeypatch.setattr("pbl.training.build.choose_precision", performance.choose_precision)
    pbl.models.MODELS.update(forgot=own_head(None), right=own_head("float32"))
    found = {}
    for model in ("forgot", "right", "efficientnet_transfer"):
        size = 32 if model == "efficientnet_transfer" else None
        options = {"weights": None} if size else {}
        config = pbl.Config(model=model, experiment="x", epochs=1, image_size=size, model_options=options)
        built, found[model] = build.build(config, pbl.load_data("digits", image_size=size), find_task(config))
        assert built.compute_dtype == ("bfloat16" if found[model] == "mixed_bfloat16" else "float32")
    assert found == {"forgot": "float32", "right": "mixed_bfloat16", "efficientnet_transfer": "float32"}
    assert "In float32, since forgot does not end in Dense(..., dtype='float32')" in capsys.readouterr().out
    with pytest.raises(InputError, match="the model's probabilities are not float32"):
        pbl.train(pbl.Config(model="forgot", experiment="x", precision="mixed_bfloat16"), folder=tmp_path)
    assert keras.config.dtype_policy().name == "float32"


class OwnStep(keras.Model):
    """A classifier with the step that most pages on the web show: it does not scale the loss."""

    def train_step(self, data):
        images, labels = data
        with tf.GradientTape() as tape:
            probabilities = self(images, training=True)
            loss = self.compute_loss(images, labels, probabilities)
        self.optimizer.apply(tape.gradient(loss, self.trainable_weights), self.trainable_weights)
        for metric in self.metrics:
            metric.update_state(*([loss] if metric.name == "loss" else [labels, probabilities]))
        return self.get_metrics_result()


def test_a_step_of_ones_own_that_scales_no_loss_learns_where_float16_is_chosen(tmp_path, monkeypatch, capsys):
    """As on a T4. Keras would divide the gradients by 32768, and the model would learn nothing, without a word."""
    monkeypatch.setattr(
        "pbl.training.build.choose_precision", lambda setting: "mixed_float16" if setting == "auto" else setting
    )

    def own_step(input_shape, num_classes):
        inputs = keras.Input(input_shape)
        hidden = keras.layers.Dense(64, activation="relu")(
            keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
        )
        return OwnStep(inputs, keras.layers.Dense(num_classes, activation="softmax", dtype="float32")(hidden))

    monkeypatch.setitem(pbl.models.MODELS, "own_step", own_step)
    config = pbl.Config(model="own_step", experiment="x", epochs=3, learning_rate=0.01)
    run = pbl.train(config, folder=tmp_path)
    out = capsys.readouterr().out
    assert run.environment["precision"] == "float32" and run.read_json("metrics_val.json")["accuracy"] > 0.8
    assert "would be faster" not in out and "scale_loss" not in out
    data = pbl.load_data("digits")
    _, policy = build.build(config.replace(precision="mixed_float16"), data, find_task(config))
    said = "own_step has a train_step of its own, and learns only if that calls self.optimizer.scale_loss(loss).\n"
    assert policy == "mixed_float16" and capsys.readouterr().out.endswith(said)
    _, policy = build.build(config.replace(model="mlp"), data, find_task(config))  # Keras's own step scales the loss
    assert policy == "mixed_float16"
    monkeypatch.setattr("pbl.training.build.choose_precision", lambda setting: "mixed_bfloat16")
    assert build.build(config, data, find_task(config))[1] == "mixed_bfloat16"  # which needs no scale


def test_a_run_is_judged_in_the_precision_of_its_training_where_the_machine_has_it(tmp_path, monkeypatch):
    config = pbl.Config(model="mlp", experiment="x", epochs=2, precision="mixed_bfloat16")
    run = pbl.train(config, folder=tmp_path)
    environment = run.environment
    assert (
        environment["precision"] == "mixed_bfloat16"
        and environment["jit_compile"] is False
        and environment["steps_per_execution"] == 8
    )
    for native, dtype in [(True, "bfloat16"), (False, "float32")]:
        monkeypatch.setattr("pbl.evaluation.run.is_native", lambda policy, native=native: native)
        model = pbl.load_model(run)
        assert model.layers[2].compute_dtype == dtype
        assert model.layers[-1].compute_dtype == "float32"
