"""Weights of an earlier run, a frozen backbone whose features are computed once, and fine-tuning."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers

import pbl
from pbl.data import DATASETS, Source, from_arrays
from pbl.errors import InputError
from pbl.models.contrastive import find_output_layer
from pbl.training import transfer


def with_backbone(input_shape, num_classes, weights="pretrained", flip=False, dropout=0.0):
    """A user's own builder in the form of `keras.applications`: a backbone of two stages, pooled, and a head."""
    inner = keras.Input((*input_shape[:2], 3))
    x = layers.Conv2D(8, 3, activation="relu", name="block1_conv")(inner)
    x = layers.BatchNormalization(name="block1_bn")(x)
    x = layers.Conv2D(16, 3, activation="relu", name="block2_conv")(x)
    backbone = keras.Model(inner, layers.BatchNormalization(name="block2_bn")(x), name="backbone")
    backbone.trainable = weights is None
    images = keras.Input(input_shape)
    x = layers.Concatenate()([layers.Rescaling(1 / 255)(images)] * 3)
    x = layers.RandomFlip()(x) if flip else x
    x = layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(backbone(x)))
    return keras.Model(images, layers.Dense(num_classes, activation="softmax")(x), name="with_backbone")


@pytest.fixture(autouse=True)
def own_builder():
    pbl.models.MODELS["with_backbone"] = with_backbone


def two_phases(**values) -> pbl.Config:
    return pbl.Config(**{"experiment": "x", "model": "with_backbone", "epochs": 3, **values})


def test_features_computed_once_train_the_same_head(tmp_path, monkeypatch):
    """Like `fit` of the complete model, callbacks included, except that the backbone sees each image once."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert self.model.input_shape == (None, 8, 8, 1)  # the complete model, as in any `fit`
            self.model.stop_training = epoch == 1

    pbl.training.callbacks.CALLBACKS["stop"] = Stop
    cached = pbl.train(two_phases(callbacks=["stop"]), folder=tmp_path)
    monkeypatch.setattr("pbl.training.fit.has_fixed_features", lambda model: False)
    whole = pbl.train(two_phases(callbacks=["stop"]), folder=tmp_path)
    one, other = (
        pd.read_csv(run.path / "history.csv").drop(
            columns=["seconds", "images_per_second", "data_share"], errors="ignore"
        )
        for run in (cached, whole)
    )
    assert len(one) == 2
    pd.testing.assert_frame_equal(one, other, rtol=1e-4)
    for a, b in zip(pbl.load_model(cached).get_weights(), pbl.load_model(whole).get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert keras.models.load_model(cached.path / "best.keras").count_params() == pbl.load_model(whole).count_params()


@pytest.mark.parametrize(
    ("options", "fixed"), [({}, True), ({"weights": None}, False), ({"flip": True}, False), ({"dropout": 0.5}, True)]
)
def test_features_are_fixed_where_nothing_before_them_is_random_or_trained(options, fixed):
    assert transfer.has_fixed_features(with_backbone((8, 8, 1), 10, **options)) == fixed
    assert not transfer.has_fixed_features(pbl.models.mlp((8, 8, 1), 10))


def with_inner(*inner, around=False):
    """A frozen inner model with other layers before its convolution, pooled; `around`: the images' own means go to the head too."""
    backbone = keras.Sequential([keras.Input((8, 8, 1)), *inner, layers.Conv2D(4, 3, name="block1_conv")])
    backbone.trainable = False
    images = keras.Input((8, 8, 1))
    x = layers.GlobalAveragePooling2D()(backbone(images))
    x = layers.Concatenate()([x, layers.GlobalAveragePooling2D()(images)]) if around else x
    return keras.Model(images, layers.Dense(10, activation="softmax")(x), name="with_inner")


def test_augmentation_in_the_backbone_and_a_path_around_it_need_a_normal_fit(tmp_path, capsys):
    """Keras augments in a frozen inner model too. Its dropout is left out on purpose, as in EfficientNet's backbone."""
    assert transfer.has_fixed_features(with_inner())
    assert transfer.has_fixed_features(with_inner(layers.Dropout(0.5), layers.SpatialDropout2D(0.5)))
    for layer in (layers.RandomFlip(), layers.RandomTranslation(0.1, 0.1), layers.GaussianNoise(1.0)):
        assert not transfer.has_fixed_features(with_inner(layer))
        assert not transfer.has_fixed_features(with_inner(keras.Sequential([layer])))
    model = with_inner(around=True)
    assert not transfer.has_fixed_features(model)
    with pytest.raises(InputError, match="with_inner cannot be split after its backbone"):
        pbl.models.split_backbone(model)

    pbl.models.MODELS["with_inner"] = lambda input_shape, num_classes, around=False: with_inner(around=around)
    for around in (False, True):
        pbl.train(two_phases(model="with_inner", model_options={"around": around}, epochs=1), folder=tmp_path)
        assert ("computed once" in capsys.readouterr().out) == (not around)


def test_two_phases_in_one_run(tmp_path, capsys):
    """The head first; then the last stage too, at its own rate, in one history; batch normalisation does not change."""
    run = pbl.train(two_phases(fine_tune_epochs=2, fine_tune_learning_rate=1e-4), folder=tmp_path)
    history = pd.read_csv(run.path / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(history["learning_rate"], [1e-3] * 3 + [1e-4] * 2)
    assert run.environment["fine_tune_from_epoch"] == 4 and run.environment["best_epoch"] == 5
    assert "Fine-tuning: 1,338 trainable weights" in capsys.readouterr().out  # 3*3*8*16 + 16, and the head's 170

    keras.utils.set_random_seed(0)
    start, end = with_backbone((8, 8, 1), 10), pbl.load_model(run)
    moved = {
        weight.path.split("/")[-2]
        for weight, value in zip(
            transfer.find_backbone(end).weights, transfer.find_backbone(start).get_weights(), strict=True
        )
        if not np.array_equal(weight, value)
    }
    assert moved == {"block2_conv"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("block1_conv", "last"), "last, the last layer with weights in the backbone of named, belongs to no stage"),
        (("conv", "block1_norm"), "the backbone of named has 0 stages"),
        (("block1_conv", "block2_norm"), None),
    ],
)
def test_fine_tuning_that_would_train_the_wrong_layers_is_refused(names, said):
    images = keras.Input((8, 8, 3))
    backbone = keras.Sequential(
        [layers.BatchNormalization(name=name) if "norm" in name else layers.Conv2D(4, 3, name=name) for name in names]
    )
    backbone.build((None, 8, 8, 3))
    backbone.trainable = False
    model = keras.Model(images, layers.Dense(2)(layers.GlobalAveragePooling2D()(backbone(images))), name="named")
    if said is None:  # block1 is the last stage that can learn
        transfer.check_fine_tuning(model, 1)
    else:
        with pytest.raises(InputError, match=said) as error:
            transfer.check_fine_tuning(model, 1)
        assert "\n" not in str(error.value)
    assert not backbone.trainable_weights


@pytest.mark.nightly
def test_a_run_does_not_need_what_it_started_from(tmp_path):
    """It has its own weights: the run that it started from, or ImageNet's weights, may be missing."""
    options = {"weights": None}
    donor = pbl.train(
        two_phases(model="efficientnet_transfer", model_options=options, image_size=32, epochs=1), folder=tmp_path
    )
    heir = pbl.train(
        two_phases(experiment="heir", model="efficientnet_transfer", model_options={"weights": str(donor.path)}, image_size=32, epochs=1),
        folder=tmp_path,
    )  # fmt: skip
    donor.path.rename(tmp_path / "gone")
    assert pbl.evaluate(heir)["accuracy"] == heir.read_json("metrics_val.json")["accuracy"]


def odd_or_even() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return from_arrays((digits.images * 15).astype("uint8"), digits.target % 2, ["even", "odd"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mlp", pytest.param("vit_tiny", marks=pytest.mark.nightly)])
def test_a_run_starts_from_another(tmp_path, trained_run, model):
    """Everything except the last layer is copied for other classes; for the same classes that too."""
    options = {"widths": [32]} if model == "mlp" else {"depth": 1}
    donor = trained_run
    if model != "mlp":
        donor = pbl.train(two_phases(model=model, model_options=options, epochs=1), folder=tmp_path)
    config = two_phases(model=model, model_options=options, initial_weights=str(donor.path), seed=3)
    theirs = pbl.load_model(donor).get_weights()
    for classes, count in [([str(digit) for digit in range(10)], len(theirs)), (["even", "odd"], len(theirs) - 2)]:
        ours = pbl.models.build(model, (8, 8, 1), len(classes), **options)
        said = transfer.take_weights(ours, config, classes)
        equal = [np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs, strict=True)]
        assert sum(equal) == count and all(equal[:count]) and ("random weights" in said) == (len(classes) == 2)

    DATASETS["odd_or_even"] = odd_or_even
    if model == "mlp":
        still = config.replace(dataset="odd_or_even", epochs=1, learning_rate=1e-12)
        np.testing.assert_allclose(
            pbl.load_model(pbl.train(still, folder=tmp_path)).get_weights()[0], theirs[0], atol=1e-8
        )
        of_file = config.replace(initial_weights=str(donor.path / "best.weights.h5"))
        again = pbl.models.build(model, (8, 8, 1), 10, **options)
        assert "All weights" in transfer.take_weights(again, of_file, donor.split["class_names"])
        assert np.array_equal(again.get_weights()[0], theirs[0])


def test_a_hidden_layer_as_wide_as_there_are_classes_is_taken_over(tmp_path):
    donor = pbl.train(two_phases(model="mlp", model_options={"widths": [16, 10]}, epochs=1), folder=tmp_path)
    config = two_phases(model="mlp", model_options={"widths": [16, 10]}, initial_weights=str(donor.path))
    ours = pbl.models.mlp((8, 8, 1), 10, widths=[16, 10])
    assert "random weights" in transfer.take_weights(ours, config, [f"other {n}" for n in range(10)])
    theirs = pbl.load_model(donor).get_weights()
    assert [np.array_equal(a, b) for a, b in zip(ours.get_weights()[:4], theirs[:4], strict=True)] == [True] * 4
    assert not np.array_equal(ours.get_weights()[4], theirs[4])


@keras.saving.register_keras_serializable("test")
class ClassifyFirst(keras.Model):
    """A classifier whose last layer is the first that `__init__` sets; `ends`: what follows that layer."""

    def __init__(self, num_classes, ends="", **kwargs):
        super().__init__(**kwargs)
        self.ends, self.classify = ends, layers.Dense(num_classes, activation=None if ends else "softmax")
        self.flatten, self.softmax = layers.Flatten(), layers.Softmax()
        self.hidden = layers.Dense(10, activation="relu")

    def get_config(self):
        return {**super().get_config(), "num_classes": self.classify.units, "ends": self.ends}

    def call(self, images):
        x = self.classify(self.hidden(self.flatten(images)))
        x = {"layer": self.softmax, "function": keras.ops.softmax, "sum": keras.ops.sum}.get(self.ends, lambda x: x)(x)
        return x


def build_classify_first(input_shape, num_classes, ends=""):
    model = ClassifyFirst(num_classes, ends, name="classify_first")
    model(np.zeros((1, *input_shape)))
    return model


@pytest.mark.parametrize("ends", ["", "layer", "function"])
def test_the_last_layer_is_the_one_that_makes_the_output(tmp_path, ends):
    """Not the last attribute that `__init__` sets: that hidden layer is taken over, and the classes' layer is new, as the message says."""
    pbl.models.MODELS["classify_first"] = build_classify_first
    config = two_phases(
        model="classify_first", model_options={"ends": ends}, loss="sparse_categorical_crossentropy", epochs=1
    )
    donor = pbl.train(config, folder=tmp_path)
    config = config.replace(initial_weights=str(donor.path))
    for count in (10, 3):
        ours = build_classify_first((8, 8, 1), count, ends)
        assert "random weights" in transfer.take_weights(ours, config, [f"other {n}" for n in range(count)])
        theirs = pbl.load_model(donor)
        np.testing.assert_array_equal(ours.hidden.kernel.numpy(), theirs.hidden.kernel.numpy())
        assert not np.array_equal(ours.classify.kernel.numpy(), theirs.classify.kernel.numpy())


def test_a_last_layer_that_is_not_found_is_refused():
    with pytest.raises(InputError, match="classify_first: no layer gives its output"):
        find_output_layer(build_classify_first((8, 8, 1), 10, "sum"), (8, 8, 1))
    pbl.models.MODELS["classify_first"] = build_classify_first
    with pytest.raises(InputError, match="classify_first: its last layer must be the last that __init__ sets"):
        pbl.models.contrastive.build_encoder("classify_first", (8, 8, 1), 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model": "lenet5", "image_size": 16, "initial_weights": "RUN"}, "is a run of mlp. Give a run of lenet5"),
        ({"model": "mlp", "initial_weights": "RUN"}, "was built with model_options={'widths': [32]}, but this run has {}"),
        ({"model": "mlp", "model_options": {"widths": [33]}, "initial_weights": "RUN"}, "this run has {'widths': [33]}"),
        ({"model": "mlp", "model_options": {"widths": [32]}, "image_size": 9, "initial_weights": "RUN"}, "(there 8x8x1)"),
        ({"model": "mlp", "initial_weights": "nowhere"}, "initial_weights=nowhere cannot be loaded"),
        ({"model": "mlp", "initial_weights": "RUN/best.weights.h5"}, "cannot be loaded into mlp"),
        ({"model": "mlp", "fine_tune_epochs": 1}, "mlp has no backbone"),
        ({"model_options": {"weights": None}, "fine_tune_epochs": 1}, "starts from random weights"),
        ({"fine_tune_epochs": 1, "unfreeze": 3}, "unfreeze=3: the backbone of with_backbone has 2 stages. Valid: 0 to 2"),
    ],
)  # fmt: skip
def test_wrong_starts_are_refused_before_a_run_is_made(tmp_path, trained_run, values, said):
    if "initial_weights" in values:
        values = {**values, "initial_weights": values["initial_weights"].replace("RUN", str(trained_run.path))}
    with pytest.raises(InputError) as error:
        pbl.train(two_phases(**values), folder=tmp_path)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_head_trained_alone_keeps_what_compile_was_given(tmp_path, monkeypatch):
    """`steps_per_execution` and the metrics; a metric that is an object counts for one model, which is then trained whole."""
    heads = []
    fit = keras.Model.fit

    def watched(model, *arguments, **options):
        heads.append((model, model.steps_per_execution, model.get_compile_config()["metrics"]))
        return fit(model, *arguments, **options)

    monkeypatch.setattr(keras.Model, "fit", watched)
    pbl.train(two_phases(epochs=1, steps_per_execution=4), folder=tmp_path)
    (head, steps, metrics) = heads[0]
    assert (
        len(heads) == 1
        and "backbone" not in [layer.name for layer in head.layers]
        and steps == 4
        and metrics == ["accuracy"]
    )
    model = with_backbone((8, 8, 1), 10)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy", "sparse_categorical_accuracy"])
    assert transfer.has_fixed_features(model)
    model.compile(loss="sparse_categorical_crossentropy", metrics=[keras.metrics.SparseTopKCategoricalAccuracy(3)])
    assert not transfer.has_fixed_features(model)
