"""Starting from something already learned: weights of an earlier run, and the features of a frozen backbone."""

from collections.abc import Sequence
from pathlib import Path

import keras
from keras import layers

from pbl.config import Config
from pbl.data import Data
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.errors import InputError, Sentence
from pbl.evaluation.run import build_model
from pbl.languages import say
from pbl.models.calls import is_overridden
from pbl.models.contrastive import assign_encoder, find_output_layer, list_body_weights
from pbl.models.efficientnet import find_backbone, list_learning_layers, split_backbone, unfreeze
from pbl.models.keras_private import flatten_layers
from pbl.models.pretrained import CaffePreprocessing
from pbl.models.saving import read_seal
from pbl.runs import load_run

_MAY_DIFFER = ("weights", "dropout", "l2")


def take_weights(model: keras.Model, config: Config, class_names: Sequence[str]) -> Sentence:
    """Gives a model the weights that `config.initial_weights` names.

    From a run on other classes the last layer is not used: it starts from new weights.

    Args:
        model: A model just built from `config`.
        config: Its `initial_weights` is the folder of a run of the same builder, or of a run of `task=contrast` with it as encoder, or a
            `.weights.h5` of the same model.
        class_names: The model's classes.

    Returns:
        What was used, in a sentence.

    Raises:
        InputError: There is no such run or file, or the weights are of another model or for images of another shape.
    """
    source = Path(config.initial_weights).expanduser()
    if not source.is_dir():
        try:
            read_seal(source)
            model.load_weights(source)
        except (OSError, KeyError, ValueError) as error:
            raise InputError(
                "initial_weights={source} cannot be loaded into {model}: {error} Give the folder of a run, or a .weights.h5 of the same model.",
                source=source,
                model=config.model,
                error=" ".join(str(error).split())[:300],
            ) from None
        return Sentence("All weights start from {source}.", source=source)
    run = load_run(source)
    if run.config.task == "contrast" and config.task != "contrast":
        return _take_encoder(model, config, source)
    if run.config.model != config.model:
        raise InputError(
            "initial_weights={run} is a run of {other}. Give a run of {model}, or set model={other}.",
            run=source,
            other=run.config.model,
            model=config.model,
        )
    theirs, ours = ({k: v for k, v in c.model_options.items() if k not in _MAY_DIFFER} for c in (run.config, config))
    if theirs != ours:
        raise InputError(
            "initial_weights={run} was built with model_options={theirs}, but this run has {ours}. Give the same: apart from {free} they decide "
            "which weight belongs where.",
            run=source,
            theirs=theirs,
            ours=ours,
            free=", ".join(_MAY_DIFFER),
        )
    donor = build_model(run)
    has_same_classes = list(class_names) == run.split["class_names"]
    head = set()
    if not has_same_classes:  # found in the donor, which has the same layers, and whose images' shape is known
        head = {id(weight) for weight in find_output_layer(donor, tuple(run.split["input_shape"])).weights}
    taken = []
    for weight, given in zip(model.weights, donor.weights, strict=True):
        # Auxiliary classifiers end in the classes too.
        ends = weight.shape[-1:] == (len(class_names),) and given.shape[-1:] == (len(run.split["class_names"]),)
        is_head = id(given) in head or (weight.shape != given.shape and weight.shape[:-1] == given.shape[:-1] and ends)
        if is_head and not has_same_classes:
            continue
        if weight.shape != given.shape:
            raise InputError(
                "initial_weights={run}: {weight} has the shape {theirs} there but {ours} here. Give images of the same shape (there {shape}).",
                run=source,
                weight=weight.path,
                theirs=given.shape,
                ours=weight.shape,
                shape="x".join(map(str, run.split["input_shape"])),
            )
        taken.append((weight, given))
    for weight, given in taken:
        weight.assign(given)
    if has_same_classes:
        return Sentence("The weights start from {source}.", source=source)
    return Sentence(
        "The weights start from {source}; the last layer starts from random weights, for other classes.", source=source
    )


def _take_encoder(model: keras.Model, config: Config, source: Path) -> Sentence:
    """Gives a classifier, except its last layer, the weights of an encoder that learned by contrast."""
    if not isinstance(model.layers[-1], layers.Dense):
        raise InputError(
            "initial_weights={run}: {model} does not end in a dense layer. The encoder fits only the classifier that it was made from.",
            run=source,
            model=config.model,
        )
    assign_encoder(list_body_weights(model), source, config.model, config.model_options)
    return Sentence(
        "The encoder's weights start from {source}; the last layer starts from random weights.", source=source
    )


def check_fine_tuning(model: keras.Model, depth: int) -> None:
    """Raises InputError unless a model has a frozen backbone of at least `depth` stages, and its last ones can be trained; see `unfreeze`."""
    backbone = find_backbone(model)
    if backbone.trainable_weights:
        raise InputError(
            "fine_tune_epochs: the backbone of {name} is trained from the first epoch on, because it starts from random weights. Give "
            "model_options.weights, or set fine_tune_epochs=0.",
            name=model.name,
        )
    unfreeze(model, depth)
    trained = {id(weight) for weight in backbone.trainable_weights}
    unfreeze(model, 0)
    last = (list_learning_layers(backbone) or backbone.layers)[-1]
    if not any(id(weight) in trained for weight in last.weights):  # it would train earlier layers, or none
        raise InputError(
            "fine_tune_epochs: {layer}, the last layer with weights in the backbone of {name}, belongs to no stage. Stages are told by the layers' "
            "names, such as block1_conv and block2_conv: rename the layers, or set fine_tune_epochs=0.",
            layer=last.name,
            name=model.name,
        )


# Layers that may come before the features and always give the same output for an image.
_FIXED = (
    layers.InputLayer,
    layers.Concatenate,
    layers.Rescaling,
    layers.Normalization,
    layers.Resizing,
    CaffePreprocessing,
    layers.GlobalAveragePooling2D,
)


def has_fixed_features(model: keras.Model) -> bool:
    """Returns whether a model is a frozen backbone, pooled, and a head, and the head alone can be trained: an image always has the same features.

    The backbone's own dropout does not count. In `fit` of the complete model Keras applies it, for a frozen inner model too; but the features
    without it are those that predictions are made of, and dropout is there for weights that are trained. Augmentation counts wherever it stands.
    """
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(inner) != 1 or inner[0].trainable_weights or not getattr(model, "inputs", None) or len(model.outputs) > 1:
        return False
    if _is_random(inner[0]):
        return False
    if is_overridden(model, "train_step") or is_overridden(model, "compute_loss"):  # the head alone would lack them
        return False
    metrics = model.get_compile_config()["metrics"] if model.compiled else None
    # A metric that is an object counts for one model, so that the head cannot have it too.
    if not all(isinstance(metric, str) for metric in keras.tree.flatten(metrics or [])):
        return False
    end = model.layers.index(inner[0]) + 1
    before = [layer for layer in model.layers[: end + 1] if layer is not inner[0]]
    if not isinstance(before[-1], layers.GlobalAveragePooling2D) or not all(
        isinstance(layer, _FIXED) for layer in before
    ):
        return False
    try:
        split_backbone(model)
    except InputError:  # a second path leads around the backbone
        return False
    return True


def _is_random(backbone: keras.Model) -> bool:
    """Whether a layer in it other than dropout draws random numbers, as augmentation does: Keras's random layers hold a seed generator."""
    drawing = (layer for layer in flatten_layers(backbone) if not isinstance(layer, layers.Dropout))
    return any(isinstance(value, keras.random.SeedGenerator) for layer in drawing for value in vars(layer).values())


def fit_head(
    model: keras.Model,
    data: Data,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    initial_epoch: int = 0,
) -> None:
    """Does what `model.fit` does, for a model with fixed features, but computes these once and not in every epoch.

    Args:
        model: A compiled model for which `has_fixed_features` is true. Its own layers are trained.
        data: Training and validation images.
        epochs: Number of passes over the training images.
        callbacks: They see the complete model.
        initial_epoch: As for `fit`.
    """
    extractor, head = split_backbone(model)
    print(say("The features of all images are computed once, before the first epoch."), flush=True)
    features = {split: extractor.predict(data.images(split).pixels, verbose=0) for split in ("train", "val")}
    head.compile(
        optimizer=model.optimizer,
        loss=model.loss,
        metrics=model.get_compile_config()["metrics"],
        jit_compile=model.jit_compile,
        steps_per_execution=model.steps_per_execution,
    )

    def follow(*_, **__) -> None:
        head.stop_training = model.stop_training  # callbacks set it

    model.stop_training = False
    head.history = None  # `fit` returns it: the callback of the complete model has it
    train = data.batches("train", features["train"], initial_epoch)
    monitors = [callback for callback in callbacks if isinstance(callback, OverfittingMonitor)]
    for monitor in monitors:
        monitor.look_through(extractor, head)
    head.fit(
        train,
        validation_data=data.batches("val", features["val"]),
        initial_epoch=initial_epoch,
        epochs=epochs,
        callbacks=keras.callbacks.CallbackList(
            [*callbacks, keras.callbacks.LambdaCallback(on_epoch_end=follow, on_train_batch_end=follow)],
            add_history=True,
            model=model,
            epochs=epochs,
            steps=len(train),
        ),
        shuffle=False,
        verbose=0,
    )
    for monitor in monitors:
        monitor.look_through(None, None)
