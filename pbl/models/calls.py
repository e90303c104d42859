"""Replaces what layers compute for a while: to count it, to watch it, or to make it faster."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras


@contextlib.contextmanager
def replaced_calls(
    layers: Iterable[keras.Layer], replace: Callable[[keras.Layer, Callable], Callable]
) -> Iterator[None]:
    """Inside it, each layer computes `replace(layer, call)`, where `call` is what it computed before.

    Only the layer object is changed, not its class or what is saved of it. Several may be nested.
    """
    layers = list(layers)
    before = [vars(layer).get("call") for layer in layers]
    for layer in layers:
        layer.call = replace(layer, layer.call)
    try:
        yield
    finally:
        for layer, call in zip(layers, before, strict=True):
            if call is None:
                del layer.call  # now the method of the class is used again
            else:
                layer.call = call


def is_overridden(model: keras.Model, name: str) -> bool:
    """Returns whether a model has its own form of a method of Keras's `Model`."""
    return getattr(type(model), name) is not getattr(keras.Model, name)


def is_validated(model: keras.Model) -> bool:
    """Returns whether a compiled model can measure how good it is on images that it does not train on."""
    has_loss = getattr(model, "loss", None) is not None or bool(model.losses)
    return has_loss or is_overridden(model, "test_step") or is_overridden(model, "compute_loss")


def find_optimizers(model: keras.Model) -> dict[str, keras.optimizers.Optimizer]:
    """Returns a model's optimizers by the attributes that hold them; a model with its own training step may have several."""
    return {name: value for name, value in vars(model).items() if isinstance(value, keras.optimizers.Optimizer)}


def list_variables(model: keras.Model) -> list[keras.Variable]:
    """Returns a model's variables and those of its optimizers."""
    of_optimizers = (variable for optimizer in find_optimizers(model).values() for variable in optimizer.variables)
    return [*model.variables, *of_optimizers]
