"""The builders: `builder(input_shape, num_classes, **options) -> keras.Model`, not compiled.

Input: raw pixels 0 to 255 (scaling is the first layer, so training and prediction cannot differ). Output: float32 probabilities;
for an autoencoder pixels, for a centre network maps.
Enter your own builder in an experiment file: `MODELS["mine"] = mine`.
"""

import contextlib
import inspect
import math
import weakref
from collections.abc import Callable
from typing import Any

import keras

from pbl import offer
from pbl.errors import InputError, Sentence, name_nearest
from pbl.models import (
    alexnet,
    autoencoder,
    center_net,
    contrastive,
    efficientnet,
    gan,
    googlenet,
    lenet,
    mlp,
    perceptron,
    pretrained,
    resnet,
    senet,
    styles,
    unet,
    vgg,
    vit,
)
from pbl.models.card import Card
from pbl.models.efficientnet import split_backbone, unfreeze

# In the order of the course. To add a model of the package, write a file with a builder and its card in `CARDS`, under the same name,
# import it above and enter it here.
FILES = (
    perceptron,
    mlp,
    styles,
    lenet,
    alexnet,
    vgg,
    googlenet,
    resnet,
    senet,
    efficientnet,
    pretrained,
    vit,
    autoencoder,
    gan,
    unet,
    contrastive,
    center_net,
)
CARDS: dict[str, Card] = {name: card for file in FILES for name, card in file.CARDS.items()}
MODELS: dict[str, Callable[..., keras.Model]] = {name: getattr(file, name) for file in FILES for name in file.CARDS}

_RETURNED: weakref.WeakSet[keras.Model] = weakref.WeakSet()  # by `build`
_OF_PACKAGE = dict(MODELS)  # before an experiment file replaces any
contrastive.BUILDERS = MODELS  # any of them can be an encoder, also a builder from an experiment file

# `pbl.models.resnet20`; if a builder and a file have the same name, such as `alexnet`, it is the builder.
globals().update(MODELS)

# Loaded on first use: grading builds models of strangers and counts nothing.
__getattr__, _, counts = offer(__name__, {"cost": "count_macs count_trainable_weights counted_outputs"})

__all__ = [
    "CARDS",
    "MODELS",
    "build",
    *counts,
    "keep_options",
    "options_of",
    "split_backbone",
    "unfreeze",
    *MODELS,
]


def find_builder(name: str) -> Callable[..., keras.Model]:
    """Returns the builder of this name, as `find_name` reads it; raises InputError, with the nearest name, if there is none."""
    known = name
    if name not in MODELS:
        from pbl.config import find_name  # not loaded when grading builds models: its names are exact

        known = find_name(name, MODELS)
    if known is None:
        raise InputError("No model is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, MODELS))
    builder = MODELS[known]
    if isinstance(builder, keras.Model) or not callable(builder):
        raise InputError(
            "MODELS['{name}'] is a {kind}. Add a function (input_shape, num_classes) that returns a new keras.Model.",
            name=name,
            kind=type(builder).__name__,
        )
    return builder


def find_card(name: str) -> Card | None:
    """Returns what is known about a model of the package; None for a builder of one's own, also under a name of the package.

    Example:
        >>> from pbl import models
        >>> models.find_card("resnet20").year
        2015
    """
    return CARDS.get(name) if MODELS.get(name) is _OF_PACKAGE.get(name) else None


def options_of(builder: Callable[..., keras.Model]) -> dict[str, Any]:
    """Returns the options of a builder with their defaults: its arguments after `input_shape` and `num_classes`.

    Example:
        >>> from pbl import models
        >>> models.options_of(models.resnet20)
        {'shortcut': True, 'stochastic_depth': 0.0, 'zero_gamma': False}
    """
    arguments = list(inspect.signature(builder).parameters.values())[2:]
    return {argument.name: argument.default for argument in arguments if argument.kind != argument.VAR_KEYWORD}


def keep_options(name: str, options: dict[str, Any], recorded: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the options of a run's builder as they were when the run began, even if the defaults have changed since.

    Args:
        name: A name in `MODELS`.
        options: Options in the run's settings.
        recorded: Options in its `environment.json`, with the defaults of that time; None if it has none.

    Example:
        >>> from pbl import models
        >>> models.keep_options("resnet20", {"zero_gamma": True}, {"shortcut": False})  # as it began, and what is set now
        {'shortcut': False, 'zero_gamma': True}
    """
    card = find_card(name)
    formerly = card.formerly if card else {}
    then = {} if recorded is None else {**formerly, **recorded}
    return {**{option: then[option] for option in options_of(find_builder(name)) if option in then}, **options}


def _check_option(option: str, value: Any, kind: Any) -> None:
    """Raises InputError if a value does not have the type that the builder's signature gives: otherwise any word would count as true."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is bool and not isinstance(value, bool):
        wanted = Sentence("true or false")
    elif kind is int and not (is_number and 1 <= value < math.inf and value == int(value)):
        wanted = Sentence("a whole number, 1 or more")
    elif kind is float and not (is_number and math.isfinite(value)):
        wanted = Sentence("a number")
    elif kind in (str, str | None) and isinstance(value, (int, float, list, dict)):
        wanted = Sentence("a word")
    elif kind == dict[str, Any] | None and not isinstance(value, dict | None):
        wanted = Sentence("options by their names, such as {example}", example='{"dropout":0.1}')
    else:
        return
    raise InputError("model_options.{option}={value}: it must be {wanted}.", option=option, value=value, wanted=wanted)


def build(name: str, input_shape: tuple[int, int, int], num_classes: int, **options: Any) -> keras.Model:
    """Builds the model of this name.

    Args:
        name: A name in `MODELS`.
        input_shape: (height, width, channels).
        num_classes: Number of classes, at least 2.
        **options: The builder's own options.

    Raises:
        InputError: No such model or option (the nearest name is given), or an option's value is out of range.

    Example:
        >>> from pbl import models
        >>> models.build("mlp", (8, 8, 1), 10, widths=[32]).output_shape
        (None, 10)
    """
    builder = find_builder(name)
    parameters = inspect.signature(builder).parameters
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters.values())
    for option, value in options.items():
        if option in parameters and builder.__module__.startswith("pbl."):
            _check_option(option, value, parameters[option].annotation)
        if option not in options_of(builder) and not takes_any:
            valid = options_of(builder)
            nearest = name_nearest(option, valid) if valid else Sentence("It has no options.")
            raise InputError(
                "Model '{name}' has no option '{option}'. {nearest}", name=name, option=option, nearest=nearest
            )
    try:
        inspect.signature(builder).bind(input_shape, num_classes, **options)
    except TypeError as error:
        raise InputError(
            "MODELS['{name}'] must take (input_shape, num_classes), and its options after them: {error}.",
            name=name,
            error=error,
        ) from None
    try:
        model = builder(tuple(input_shape), num_classes, **options)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        # An error in a student's own builder is theirs to debug; an error without options is our fault.
        if not (options and builder.__module__.startswith("pbl.")):
            raise
        raise InputError(
            "model_options={options} do not fit '{name}': {error}", options=options, name=name, error=error
        ) from error
    if not isinstance(model, keras.Model):
        raise InputError(
            "MODELS['{name}'] returned a {kind}. Return a keras.Model.", name=name, kind=type(model).__name__
        )
    if not hasattr(model, "built"):
        raise InputError(
            "The __init__ of {kind} does not call super().__init__(). Begin it with that call.",
            kind=type(model).__name__,
        )
    if model in _RETURNED:
        raise InputError(
            "MODELS['{name}'] returned a model that it had returned before, with what was trained since. Make it inside the function.",
            name=name,
        )
    _RETURNED.add(model)
    _check_inputs(model, name, tuple(input_shape))
    # A Sequential without keras.Input, or a subclass whose layers wait for their first call, has no weights yet. Keras would load
    # none into it, without a warning.
    if not all(layer.built for layer in (model, *model.layers)):
        with contextlib.suppress(NotImplementedError):  # a model that is never called, such as a GAN
            model(keras.ops.zeros((1, *input_shape), "uint8"))
    for layer in model.layers:  # Keras before 3.15 may pool a map to size 0 without an error
        shape = ()
        with contextlib.suppress(AttributeError, ValueError):  # the layer was not called, or has several outputs
            shape = layer.output.shape
        if 0 in shape:
            raise InputError(
                "The images ({shape}) are too small for this network: nothing is left of them after '{layer}'. Use less pooling or fewer strides, "
                "padding='same', or a larger image_size.",
                shape="x".join(map(str, input_shape[:2])),
                layer=layer.name,
            )
    return model


def _check_inputs(model: keras.Model, name: str, input_shape: tuple[int, int, int]) -> None:
    """Raises InputError if a model's inputs are declared for something else than images of this shape."""
    inputs = getattr(model, "inputs", None)
    if not inputs:  # a subclass, or a model that is not built yet
        return
    if len(inputs) > 1:
        raise InputError(
            "MODELS['{name}'] returned a model with {n} inputs. A run gives it only the images: one input.",
            name=name,
            n=len(inputs),
        )
    theirs = tuple(inputs[0].shape[1:])
    if len(theirs) != 3 or any(side not in (None, ours) for side, ours in zip(theirs, input_shape, strict=True)):
        raise InputError(
            "MODELS['{name}'] is built for images of {theirs}; these are {ours} (height, width, channels). Write"
            " keras.Input(input_shape), or set image_size and channels.",
            name=name,
            theirs="x".join(map(str, theirs)),
            ours="x".join(map(str, input_shape)),
        )
