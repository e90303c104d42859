"""Transfer learning with EfficientNet: features from another data set and your own head, with the Functional API.

Tan and Le (2019), EfficientNet: Rethinking Model Scaling, arXiv:1905.11946; Tan and Le (2021), EfficientNetV2, arXiv:2104.00298.
The backbone comes from `keras.applications`, with its weights from ImageNet. The two phases of a course:

    model = efficientnet_transfer(data.input_shape, data.num_classes)   # 1. the backbone is frozen: train the head
    model.compile(...); model.fit(...)
    unfreeze(model, depth=2)                                            # 2. fine-tune the last two stages, at a low rate
    model.compile(optimizer=keras.optimizers.Adam(1e-5), ...); model.fit(...)

Batch normalisation stays in inference mode in both phases: its statistics are ImageNet's, and a small data set would spoil
them. (In a Functional model, calling a backbone with `training=False` does not achieve that: `fit` overrides it.)

A frozen backbone returns the same features for an image in every epoch. They need to be computed only once:

    extractor, head = split_backbone(model)                             # two models of the same layers
    features = extractor.predict(images)
    head.compile(...); head.fit(features, labels)                       # trains `model`'s own head

(The extractor predicts, so the backbone's own dropout is off. In `fit` of the complete model it is on.)

With `weights=None` there are no statistics to keep: all layers are trained, and batch normalisation's moving averages have
momentum .9, as in this package's other models and in the network of 2021. `keras.applications` has .99 in the network of 2019, for the
many steps of ImageNet (on a small data set the averages would lag many epochs behind). The model then has 5,288,548 (b0 of 2019) or
7,139,704 (b0 of 2021) trainable weights at 1000 classes, as published; if it is frozen, only the 1,281,000 of the head are trainable.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import layers

from pbl.errors import InputError, name_nearest
from pbl.models.card import LARGE, Card, check_size
from pbl.models.contrastive import load_encoder
from pbl.models.keras_private import flatten_layers

TAN, TAN_V2 = "Tan and Le 2019, arXiv:1905.11946", "Tan and Le 2021, arXiv:2104.00298"
FORMERLY = {"batch_norm_momentum": 0.99}  # for the network of 2019; the one of 2021 has .9 in `keras.applications` too
CARDS = {
    "efficientnet_transfer": Card("Functional", 2019, TAN, LARGE, 1000, 5_288_548, 385_814_752, 32, FORMERLY),
    "efficientnetv2_transfer": Card("Functional", 2021, TAN_V2, LARGE, 1000, 7_139_704, 718_086_176, 32),
}

VARIANTS = {
    "efficientnet": {f"b{number}": getattr(keras.applications, f"EfficientNetB{number}") for number in range(4)},
    "efficientnetv2": {f"b{number}": getattr(keras.applications, f"EfficientNetV2B{number}") for number in range(4)},
}


def efficientnet_transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    variant: str = "b0",
    weights: str | None = "imagenet",
    dropout: float = 0.2,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds a frozen EfficientNet with a new head (Tan and Le 2019).

    Args:
        input_shape: (height, width, channels) of the images, at least 32x32, pixels 0 to 255. Grey images are shown to
            the backbone as colour images. The backbone was trained at 224x224 (b0) to 300x300 (b3).
        num_classes: Number of classes, at least 2.
        variant: "b0", "b1", "b2" or "b3".
        weights: "imagenet" (downloaded once by Keras); the folder of a run of this same model on other data, or of `task=contrast` with
            it as encoder: its backbone is used; a `.weights.h5` of the backbone alone; or None: random, and the backbone is trained
            too, batch normalisation included.
        dropout: Share of the pooled features set to zero in training. The papers take .2 for b0 and b1, .3 for b2 and b3.
        batch_norm_momentum: Share of the moving averages that a step keeps, 0 to below 1, if `weights` is None; otherwise they
            stay as they are.

    Returns:
        A model, not compiled: `[batch, *input_shape]` to `float32 [batch, num_classes]`, rows that sum to 1. Unless
        `weights` is None, only the head can be trained; see `unfreeze`.

    Raises:
        InputError: There is no such variant; the weights are not available.

    Example:
        >>> from pbl import models
        >>> model = models.efficientnet_transfer((224, 224, 3), 1000, weights=None)
        >>> models.count_trainable_weights(model)
        5288548
    """
    return _build("efficientnet", input_shape, num_classes, variant, weights, dropout, batch_norm_momentum)


def efficientnetv2_transfer(
    input_shape: tuple[int, int, int],
    num_classes: int,
    *,
    variant: str = "b0",
    weights: str | None = "imagenet",
    dropout: float = 0.2,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    """Builds a frozen EfficientNetV2 with a new head (Tan and Le 2021); arguments as for `efficientnet_transfer`.

    Example:
        >>> from pbl import models
        >>> model = models.efficientnetv2_transfer((224, 224, 3), 1000, weights=None)
        >>> models.count_trainable_weights(model)
        7139704
    """
    return _build("efficientnetv2", input_shape, num_classes, variant, weights, dropout, batch_norm_momentum)


def _build(
    family: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    variant: str,
    weights: str | None,
    dropout: float,
    batch_norm_momentum: float = 0.9,
) -> keras.Model:
    name = f"{family}_transfer"
    check_size(name, input_shape, CARDS[name].smallest)
    if variant not in VARIANTS[family]:
        raise InputError(
            "{name} has no variant '{variant}'. {nearest}",
            name=name,
            variant=variant,
            nearest=name_nearest(variant, VARIANTS[family]),
        )
    from_run = weights is not None and Path(weights).is_dir()
    images = keras.Input(input_shape)
    x = layers.Concatenate()([images] * 3) if input_shape[-1] == 1 else images
    backbone = load_backbone(VARIANTS[family][variant], tuple(x.shape[1:]), None if from_run else weights)
    backbone.trainable = weights is None
    for layer in backbone.layers:
        if weights is None and isinstance(layer, layers.BatchNormalization):
            layer.momentum = batch_norm_momentum
    x = backbone(x)
    x = layers.GlobalAveragePooling2D(name="features")(x)
    x = layers.Dropout(dropout)(x)
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="head")(x)
    model = keras.Model(images, probabilities, name=name)
    if from_run:
        take_backbone(
            model,
            Path(weights),
            lambda shape, classes, options: _build(
                family, shape, classes, options.get("variant", "b0"), None, options.get("dropout", 0.2)
            ),
            {} if variant == "b0" else {"variant": variant},
        )
    return model


def load_backbone(application, input_shape: tuple[int, int, int], weights: str | None) -> keras.Model:
    """Builds a network of `keras.applications` without its head.

    Args:
        application: The function that builds it.
        input_shape: (height, width, 3).
        weights: "imagenet", a `.weights.h5` of it, or None.

    Raises:
        InputError: There is no such file, it does not fit, or ImageNet's weights cannot be downloaded.
    """
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise InputError(
            "weights='{weights}': there is no such file or run. Valid: imagenet, none, the folder of a run, or a"
            " .weights.h5 of the backbone.",
            weights=weights,
        )
    try:
        return application(include_top=False, weights=weights, input_shape=input_shape)
    except (OSError, ValueError, KeyError) as error:
        if weights in (None, "imagenet"):
            raise
        raise InputError(
            "weights='{weights}' does not fit the backbone: {error} Give a .weights.h5 of only the backbone, or the folder of a run.",
            weights=weights,
            error=" ".join(str(error).split())[:200],
        ) from None
    except Exception as error:  # Keras raises a plain Exception if it cannot download
        if "URL fetch failure" in str(error):
            raise InputError(
                "ImageNet's weights could not be downloaded: no network? Connect once (Keras keeps them), or give"
                " model_options.weights=none, or the path of a run or of a .weights.h5."
            ) from None
        raise


def take_backbone(
    model: keras.Model,
    folder: Path,
    build: Callable[[tuple[int, int, int], int, dict[str, Any]], keras.Model],
    options: dict[str, Any],
) -> None:
    """Copies the backbone of a run into a model: of a run of the same model, or of `task=contrast` with it as encoder.

    Args:
        model: The model.
        folder: The run's folder.
        build: From the shape of the images, the number of classes and the options of a run to its model, without weights.
        options: The options of `model` that decide which weight belongs where.

    Raises:
        InputError: There is no such run, or its weights do not fit.
    """
    from pbl.models.saving import whole_weights
    from pbl.runs import load_run

    run = load_run(folder)
    if run.config.task == "contrast":
        donor = load_encoder(folder, model.name, options)
    elif run.config.model != model.name:
        raise InputError(
            "{run} is a run of {other}, not of {name}.", run=folder, other=run.config.model, name=model.name
        )
    else:
        theirs = {**run.config.model_options, "weights": None}
        donor = build(tuple(run.split["input_shape"]), len(run.split["class_names"]), theirs)
    try:
        if run.config.task != "contrast":
            with whole_weights(folder, "best", donor, run.environment.get("best_epoch")) as weights:
                donor.load_weights(weights)
        find_backbone(model).set_weights(find_backbone(donor).get_weights())
    except (OSError, ValueError) as error:
        raise InputError("The backbone of {run} cannot be loaded: {error}", run=folder, error=error) from None


def find_backbone(model: keras.Model) -> keras.Model:
    """Returns the backbone of a model: its only inner model.

    Raises:
        InputError: The model has no inner model, or several.
    """
    inner = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    if len(inner) != 1:
        raise InputError(
            "{name} has no backbone to freeze and unfreeze: it has {n} inner models, not one. Use efficientnet_transfer or "
            "efficientnetv2_transfer, or set fine_tune_epochs=0.",
            name=model.name,
            n=len(inner),
        )
    return inner[0]


def split_backbone(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits a Functional model after its backbone into two models that share its layers.

    Args:
        model: A model with one inner model; the layers after it, up to global average pooling, belong to the extractor.

    Returns:
        The extractor, from images to features (`float32 [batch, features]` if pooling follows), and the head, from features
        to the output of the model.

    Raises:
        InputError: The model has no backbone, or its output depends on more than the features.

    Example:
        >>> from pbl import models
        >>> model = models.vgg16_transfer((32, 32, 3), 2, weights=None)
        >>> extractor, head = models.split_backbone(model)
        >>> extractor.output_shape, head.output_shape
        ((None, 512), (None, 2))
    """
    names = [layer.name for layer in model.layers]
    last = names.index(find_backbone(model).name)
    if isinstance(model.layers[min(last + 1, len(names) - 1)], layers.GlobalAveragePooling2D):
        last += 1
    features = model.layers[last].output
    try:
        head = keras.Model(features, model.outputs[0], name="head")
        is_whole = (
            sum(isinstance(layer, layers.InputLayer) for layer in head.layers) == 1
        )  # Keras before 3.15 adds the images
    except ValueError:  # Keras calls the output "not connected to inputs"
        is_whole = False
    if not is_whole:
        raise InputError(
            "{name} cannot be split after its backbone: its output depends on more than the backbone's features.",
            name=model.name,
        )
    return keras.Model(model.input, features), head


def _name_stage(layer: keras.Layer) -> str | None:
    """The stage that a layer belongs to by its name: "block1", "block12"; ResNet: "conv2_"; MobileNet: "conv_3" for `conv_dw_3` and `conv_pw_3`."""
    found = re.match(r"block\d+|conv\d+_|conv_[dp]w_\d+", layer.name)
    return re.sub("[dp]w_", "", found.group()) if found else None


def list_learning_layers(backbone: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a backbone that fine-tuning may train: those with weights, apart from batch normalisation."""
    return [layer for layer in backbone.layers if layer.weights and not isinstance(layer, layers.BatchNormalization)]


def _list_stages(backbone: keras.Model) -> list[str]:
    """The backbone's stages by their place in the network; their names sorted as text would put "block10" before "block9"."""
    return [stage for stage in dict.fromkeys(map(_name_stage, list_learning_layers(backbone))) if stage]


def unfreeze(model: keras.Model, depth: int) -> None:
    """Makes the last stages of the backbone trainable; batch normalisation stays frozen. Compile the model afterwards.

    Args:
        model: A model made by this file.
        depth: How many of the backbone's stages (`block7...`, `block6...`, ...) to train, from the last one on, with
            the convolution at its top, if it has one; 0 freezes the backbone again. A layer whose name tells no stage stays frozen.

    Raises:
        InputError: The backbone has fewer stages.

    Example:
        >>> from pbl import models
        >>> model = models.vgg16_transfer((32, 32, 3), 2, weights=None)
        >>> models.unfreeze(model, 0)
        >>> frozen = models.count_trainable_weights(model)
        >>> models.unfreeze(model, 1)
        >>> models.count_trainable_weights(model) > frozen
        True
    """
    backbone = find_backbone(model)
    stages = _list_stages(backbone)
    is_one_stage = not stages and backbone.name == "encoder"  # from `encoder_transfer`
    count = 1 if is_one_stage else len(stages)
    if not 0 <= depth <= count:
        raise InputError(
            "unfreeze={depth}: the backbone of {name} has {count} stages. Valid: 0 to {count}.",
            depth=depth,
            name=model.name,
            count=count,
        )
    chosen = stages[len(stages) - depth :]
    backbone.trainable = True
    for layer in backbone.layers:
        is_chosen = depth > 0 and (is_one_stage or _name_stage(layer) in chosen or layer.name.startswith("top"))
        layer.trainable = is_chosen and not isinstance(layer, layers.BatchNormalization)
    # For example inside the blocks of a subclassed encoder.
    for layer in flatten_layers(backbone) if is_one_stage else ():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
