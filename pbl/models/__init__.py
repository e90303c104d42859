"""The builders: `builder(input_shape, num_classes, **options) -> keras.Model`, not compiled.

Raw pixels 0 to 255 in (scaling is the first layer, so training and prediction cannot differ), float32 probabilities out.
A builder of your own enters by the same line, here or in an experiment file: `MODELS["mine"] = mine`.
"""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from pbl.errors import InputError, name_nearest
from pbl.models.mlp import mlp
from pbl.models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110

MODELS: dict[str, Callable[..., keras.Model]] = {
    "mlp": mlp,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
}

__all__ = ["MODELS", "build", "mlp", "options_of", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]


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
    if name not in MODELS:
        raise InputError("No model is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, MODELS))
    builder = MODELS[name]
    takes_any = any(p.kind == p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values())
    for option in options:
        if option not in options_of(builder) and not takes_any:
            valid = options_of(builder)
            nearest = name_nearest(option, valid) if valid else "It has no options."
            raise InputError(
                "Model '{name}' has no option '{option}'. {nearest}", name=name, option=option, nearest=nearest
            )
    try:
        model = builder(tuple(input_shape), num_classes, **options)
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
