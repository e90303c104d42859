"""A stranger's model built by the grader, only in the locked worker: from the name of a registered builder, or from a
`.keras` file's `config.json` if every object that it names is on a list. `load_model` never loads anything.
"""

import re
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import keras

from pbl import models
from pbl.errors import InputError
from pbl.grading.formats import Description, check_shape
from pbl.grading.refusals import Refusal, clean
from pbl.grading.sandbox import Limits

CONFIG_LIMIT = 16 * 2**20  # bytes of config.json; resnet1202's has 5 MB
LARGEST_NUMBER, LONGEST_WORD, MOST_VALUES = 16_384, 200, 1_000_000

# Objects that run code from the file, or that read files.
_RUN_CODE = frozenset("Lambda Layer FlaxLayer JaxLayer TorchModuleWrapper function".split())
_READ_FILES = frozenset("TFSMLayer StringLookup IntegerLookup TextVectorization".split())
# Operations that take functions.
_TAKE_FUNCTIONS = frozenset(
    "Map Scan AssociativeScan Switch WhileLoop ForiLoop Cond VectorizedMap Vectorize JVP".split()
)


def _classes(module: ModuleType, base: type, own: str) -> set[str]:
    """Names of the classes of a module that Keras itself has written."""
    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, base)}
    found = {name for name, kind in kinds.items() if kind.__module__.startswith(own)}
    return found - _RUN_CODE - _READ_FILES - _TAKE_FUNCTIONS


# (module, class) of everything that a config may name: Keras's own layers, and the operations for `x + y` or `keras.ops.mean(x)`.
ALLOWED = {
    (module.__name__, name)
    for module, base in (
        (keras.layers, keras.layers.Layer), (keras.initializers, keras.initializers.Initializer),
        (keras.regularizers, keras.regularizers.Regularizer), (keras.constraints, keras.constraints.Constraint),
    )
    for name in _classes(module, base, "keras.src.")
} | {
    (module.__name__, name)
    for module in (sys.modules.get(f"keras.src.ops.{name}") for name in "core nn numpy math image linalg einops".split())
    if module is not None
    for name in _classes(module, keras.Operation, module.__name__)
} | {
    ("keras", "Sequential"), ("keras", "DTypePolicy"), ("keras.models", "Sequential"), ("keras.models", "Functional"),
    ("keras.models", "Model"), ("keras.layers", "Input"), ("keras.src.models.sequential", "Sequential"),
    ("keras.src.models.functional", "Functional"), ("keras.src.dtype_policies.dtype_policy", "DTypePolicy"),
    ("keras.src.applications.convnext", "LayerScale"), ("keras.src.applications.convnext", "StochasticDepth"),
    (None, "__keras_tensor__"), (None, "__tensor__"), (None, "__numpy__"), (None, "__ellipsis__"), (None, "slice"), (None, "__tuple__"),
}  # fmt: skip
ACTIVATIONS = frozenset(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid"
    " log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparsemax squareplus swish tanh"
    " tanh_shrink threshold".split()
)
# A shape needs no bound: if it does not fit the images, nothing is built.
_ANY_NUMBER = frozenset({"shared_object_id", "seed", "shape", "target_shape"})
# Keys that belong to training; and the shapes for which layers were built, which are computed again from the images: after Flatten these are honest
# numbers beyond any bound.
_DROPPED = frozenset({"compile_config", "quantization_config", "build_config"})
_HALF_PRECISION = {"mixed_bfloat16": "float32", "mixed_float16": "float32", "bfloat16": "float32", "float16": "float32"}
POLICIES = frozenset({"float32", *_HALF_PRECISION})


def check_config(config: dict[str, Any]) -> dict[str, Any]:
    """Checks a `.keras` file's `config.json` and returns the part that may be rebuilt.

    Everything that names a class must name one of `ALLOWED`; anything that names a function, a file or a module is refused.
    What belongs to training is removed, and so are the shapes for which layers were built; half precision becomes float32.

    Raises:
        Refusal: It names another class, or has a value out of bounds.
    """
    return _Checker().check(config, "config.json")


class _Checker:
    """Goes through a config, counting its values."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, value: Any, name: str) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise Refusal("config_value", name=clean(name), what="too many values")
        if isinstance(value, dict):
            return self._check_object(value, name)
        if isinstance(value, list):
            return [self.check(one, name) for one in value]
        if isinstance(value, str):
            if len(value) > LONGEST_WORD or "/" in value or "\\" in value or not value.isprintable() or ".." in value:
                raise Refusal("config_value", name=clean(name), what="a word that is too long, or a path")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            largest = 2**64 if name in _ANY_NUMBER and isinstance(value, int) else LARGEST_NUMBER
            if not abs(value) <= largest:
                raise Refusal("config_value", name=clean(name), what=f"a number beyond {LARGEST_NUMBER}")
        return value

    def _check_object(self, value: dict[str, Any], name: str) -> dict[str, Any]:
        if "class_name" in value or "module" in value:
            _check_class(value, name)
            value = {**value, "registered_name": None} if value.get("module") else value
        cleaned = {}
        for key, inner in value.items():
            if key in _DROPPED:
                continue
            if not re.fullmatch(r"[A-Za-z0-9_]{1,60}", key) or key in ("__lambda__", "__typespec__", "function"):
                raise Refusal("config_value", name=clean(key), what="no setting of a built-in layer")
            if key == "class_name" or key == "module":
                cleaned[key] = inner
            elif key.endswith("activation"):
                cleaned[key] = self._check_activation(inner, key)
            elif key == "dtype" and isinstance(inner, str):
                cleaned[key] = _HALF_PRECISION.get(inner, self.check(inner, key))
            else:
                cleaned[key] = self.check(inner, key)
        if value.get("class_name") == "DTypePolicy":
            policy = value.get("config")
            if not isinstance(policy, dict) or policy.get("name") not in POLICIES:
                raise Refusal("config_value", name="dtype", what="no ordinary number format")
            cleaned["config"] = {"name": "float32"}
        return cleaned

    def _check_activation(self, value: Any, name: str) -> Any:
        if value is None or (isinstance(value, str) and value in ACTIVATIONS):
            return value
        if isinstance(value, dict):
            return self.check(value, name)
        raise Refusal("config_value", name=clean(name), what=f"{clean(value, 40)} is no built-in one")


def _check_class(value: dict[str, Any], name: str) -> None:
    """Raises Refusal if an object is not one of `ALLOWED`."""
    module, class_name = value.get("module"), value.get("class_name")
    named = (module, class_name)
    is_known = all(isinstance(part, (str, type(None))) for part in named) and named in ALLOWED
    if is_known and value.get("registered_name") in (None, class_name):
        return
    inner = value.get("config")
    layer = inner.get("name", name) if isinstance(inner, dict) else name
    kinds = {"config_code": _RUN_CODE | _TAKE_FUNCTIONS, "config_file": _READ_FILES}
    reason = next((reason for reason, names in kinds.items() if str(class_name) in names), "config_class")
    raise Refusal(reason, name=clean(f"{module}.{class_name}"), layer=clean(layer))


def find_input_shape(
    config: dict[str, Any], wanted: tuple[int, int, int] | None, limits: Limits
) -> tuple[int, int, int]:
    """Returns the image shape that a checked `config.json` asks for.

    Args:
        config: What `check_config` returned.
        wanted: The shape that `submission.json` names, for a model that takes images of any size.
        limits: The limits, for the longest side.

    Raises:
        Refusal: It asks for no shape, or for one out of bounds.
    """
    shape = _first_batch_shape(config)
    if not isinstance(shape, list) or len(shape) != 4:
        raise Refusal("input_shape", shape=clean(shape[1:] if isinstance(shape, list) else "no images"))
    sides = shape[1:]
    if wanted is not None and all(own in (None, side) for own, side in zip(sides, wanted, strict=True)):
        sides = list(wanted)
    return check_shape(sides, limits.side)


def _first_batch_shape(value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") in ("InputLayer", "Input"):
        return value["config"].get("batch_shape") if isinstance(value.get("config"), dict) else None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((shape for one in inner if (shape := _first_batch_shape(one)) is not None), None)


def rebuild(config: dict[str, Any], saved_with: str) -> keras.Model:
    """Builds the model that a checked `config.json` describes.

    Raises:
        Refusal: It cannot be built by this Keras.
    """
    try:
        model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)  # for the instructor's log
        if _release(saved_with) > _release(keras.version()):
            raise Refusal("keras_version", found=clean(saved_with, 20), own=keras.version()) from None
        raise Refusal("config_rejected") from None
    if not isinstance(model, keras.Model):
        raise Refusal("config_rejected")
    return model


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def build_registered(description: Description, num_classes: int) -> keras.Model:
    """Builds a registered model from `submission.json`.

    Raises:
        Refusal: No such model, or its options do not fit.
    """
    shape = description.input_shape
    if description.model not in models.MODELS:
        raise Refusal("unknown_model", name=clean(description.model))
    options = dict(description.options)
    if "weights" in models.options_of(models.MODELS[description.model]):
        options["weights"] = None  # it would name a file or a download; the submission's own weights are loaded later
    try:
        return models.build(description.model, shape, num_classes, **options)
    except MemoryError:
        raise
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        what = clean(error, 160) if isinstance(error, InputError) else ""
        raise Refusal("cannot_build", name=clean(description.model), shape=clean(shape), what=what) from None


def enter_builder(file: Path) -> None:
    """Runs a team's own `builder.py`, which enters its builder in `MODELS`. Only in the locked worker.

    Raises:
        Refusal: The file raises an error.
    """
    module = ModuleType(f"experiment_{file.stem}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # Keras looks here for the classes that the file defines
    try:
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
    except MemoryError:
        raise
    except (Exception, SystemExit):
        print(traceback.format_exc(limit=-1), flush=True)
        raise Refusal("cannot_build", name="builder.py", shape="", what="") from None


def check_outputs(model: keras.Model, num_classes: int) -> None:
    """Raises Refusal unless a model returns one row of `num_classes` numbers for one image."""
    outputs = getattr(model, "outputs", None)
    if outputs is None:  # the shape of a subclassed model is known only from what it predicts
        return
    shapes = [tuple(output.shape) for output in outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise Refusal("output_shape", found=clean(shapes), expected=num_classes)
    if shapes[0][1] != num_classes:
        raise Refusal("class_count", found=shapes[0][1], expected=num_classes)
