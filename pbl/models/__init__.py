"""The builders: `builder(input_shape, num_classes, **options) -> keras.Model`, not compiled.

Raw pixels 0 to 255 in (scaling is the first layer, so training and prediction cannot differ), float32 probabilities out.
A builder of your own enters by the same line, here or in an experiment file: `MODELS["mine"] = mine`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from pbl.errors import InputError, Sentence, name_nearest
from pbl.models.alexnet import alexnet
from pbl.models.cost import count_macs, count_trainable_weights
from pbl.models.efficientnet import efficientnet_transfer, efficientnetv2_transfer, split_backbone, unfreeze
from pbl.models.googlenet import googlenet
from pbl.models.lenet import lenet5
from pbl.models.mlp import mlp
from pbl.models.perceptron import perceptron, softmax_regression
from pbl.models.resnet import (
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
    resnet1202,
)
from pbl.models.senet import (
    se_resnet20,
    se_resnet32,
    se_resnet44,
    se_resnet50,
    se_resnet56,
    se_resnet110,
    senet154,
)
from pbl.models.styles import (
    mlp_functional,
    mlp_subclassed,
    small_cnn,
    small_cnn_functional,
    small_cnn_subclassed,
)
from pbl.models.vgg import vgg11, vgg13, vgg16, vgg16_bn, vgg19, vgg_small
from pbl.models.vit import vit_base, vit_small, vit_tiny

MODELS: dict[str, Callable[..., keras.Model]] = {
    builder.__name__: builder
    for builder in (
        perceptron,
        softmax_regression,
        mlp,
        mlp_functional,
        mlp_subclassed,
        small_cnn,
        small_cnn_functional,
        small_cnn_subclassed,
        lenet5,
        alexnet,
        vgg11,
        vgg13,
        vgg16,
        vgg19,
        vgg16_bn,
        vgg_small,
        googlenet,
        resnet20,
        resnet32,
        resnet44,
        resnet56,
        resnet110,
        resnet1202,
        resnet18,
        resnet34,
        resnet50,
        resnet101,
        resnet152,
        se_resnet20,
        se_resnet32,
        se_resnet44,
        se_resnet56,
        se_resnet110,
        se_resnet50,
        senet154,
        efficientnet_transfer,
        efficientnetv2_transfer,
        vit_tiny,
        vit_small,
        vit_base,
    )
}

__all__ = [
    "MODELS",
    "build",
    "count_macs",
    "count_trainable_weights",
    "options_of",
    "split_backbone",
    "unfreeze",
    *MODELS,
]


def find_builder(name: str) -> Callable[..., keras.Model]:
    """Returns the builder of this name; raises InputError, with the nearest name, where there is none."""
    if name not in MODELS:
        raise InputError("No model is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, MODELS))
    return MODELS[name]


def options_of(builder: Callable[..., keras.Model]) -> dict[str, Any]:
    """Returns the options of a builder with their defaults: its arguments after `input_shape` and `num_classes`."""
    arguments = list(inspect.signature(builder).parameters.values())[2:]
    return {argument.name: argument.default for argument in arguments if argument.kind != argument.VAR_KEYWORD}


def build(name: str, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> keras.Model:
    """Builds the model of this name.

    Args:
        name: A name in `MODELS`.
        input_shape: (height, width, channels).
        num_classes: Number of classes, at least 2.
        **options: The builder's own options.

    Raises:
        InputError: No such model or option (the nearest name is given), or an option's value is out of range.
    """
    builder = find_builder(name)
    takes_any = any(p.kind == p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values())
    for option in options:
        if option not in options_of(builder) and not takes_any:
            valid = options_of(builder)
            nearest = name_nearest(option, valid) if valid else Sentence("It has no options.")
            raise InputError(
                "Model '{name}' has no option '{option}'. {nearest}", name=name, option=option, nearest=nearest
            )
    try:
        model = builder(tuple(input_shape), num_classes, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        # What a student's own builder raises is theirs to debug, and without options the fault is ours.
        if not (options and builder.__module__.startswith("pbl.")):
            raise
        raise InputError(
            "model_options={options} do not fit '{name}': {error}", options=options, name=name, error=error
        ) from error
    if not isinstance(model, keras.Model):
        raise InputError(
            "MODELS['{name}'] returned a {kind}. Return a keras.Model.", name=name, kind=type(model).__name__
        )
    return model
