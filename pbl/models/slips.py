"""A mistake in a student's own code is reported in one line: file, line, and the cause in the words of the field.

Own code is code that is not in pbl, in a library, or in Python itself: a builder, a layer, a loss or a callback from an
experiment file or a notebook. If own code is on the stack, or Keras complains about a model that it built, the
traceback goes to a file. An error in pbl itself keeps its traceback.
"""

import contextlib
import linecache
import re
import sysconfig
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from pbl.errors import InputError, Sentence, name_nearest
from pbl.storage.writing import replacing

FILE = "traceback.txt"
_PBL = Path(__file__).resolve().parent.parent
_MODELS = Path(__file__).resolve().parent
_PYTHON = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
MOST_LETTERS = 300  # of an error's own message

# What Keras, TensorFlow and Python say (an error's kind and its message), and what that means for an image classifier.
CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"(type|tf\.|of) ?uint8|uint8 tensor",
        "the layer is given raw pixels, which are whole numbers (uint8). Begin with layers.Rescaling(1 / 255).",
    ),
    (
        r"[Oo]utput size would be (zero or )?negative.*?shape=?[\(\[]\w+[, ]+(?P<height>\d+)[, ]+(?P<width>\d+)",
        "the images are too small for this network: a map of {height}x{width} is left here, smaller than the window that moves over it. Use less "
        "pooling or fewer strides, padding='same', or a larger image_size.",
    ),
    (
        r"[Oo]utput size would be (zero or )?negative|Negative dimension size",
        "the images are too small for this network: nothing is left of them here. Use less pooling or fewer strides, padding='same', or a larger "
        "image_size.",
    ),
    (
        r"created with a `LearningRateSchedule`",
        "the learning rate is set here, but it follows a schedule. Set learning_rate_schedule=constant and warmup_epochs=0.",
    ),
    (
        r"conditioned on metric `(?P<name>[^`]*)` which is not available\. Available metrics are: (?P<names>[\w,]*)",
        "nothing is logged under '{name}', so the callback would do nothing. Logged are: {names}.",
    ),
    (
        r"Can save best model only with (?P<name>\S*) available",
        "nothing is logged under '{name}', so the callback would save nothing. The validation accuracy is val_accuracy, its loss"
        " val_loss.",
    ),
    (
        r"received monitor=(?P<name>[^,]*), but Keras isn't able",
        "it is not known whether more or less of '{name}' is better. Give the callback mode='max' or mode='min'.",
    ),
    (
        r"received `from_logits=True`, but",
        "the loss takes logits (from_logits=True), but the model ends in a softmax. Remove from_logits=True.",
    ),
    (
        r"Argument `output` must have rank \(ndim\) `target.ndim - 1`",
        "the loss takes class numbers, but the labels are one-hot. Compile with 'categorical_crossentropy', or set "
        "loss=sparse_categorical_crossentropy.",
    ),
    (
        r"Arguments `target` and `output` must have the same (rank|shape)",
        "the loss takes one-hot labels, but the labels are class numbers. Compile with 'sparse_categorical_crossentropy', or set "
        "loss=categorical_crossentropy.",
    ),
    (
        r"KerasTensor cannot be used as input to a TensorFlow function|KerasTensor is symbolic|KerasTensor.*NumPy",
        "a function of TensorFlow or NumPy is given the output of a layer, which has no values yet. Use a layer or keras.ops, such as"
        " keras.ops.relu.",
    ),
    (
        r"symbolic `?tf\.Tensor`? as a Python `bool`|not allowed: AutoGraph|OperatorNotAllowedInGraph",
        "an `if`, `while` or `for` asks for a tensor's value, which is not known while the network is built. Use keras.ops.where or"
        " keras.ops.cond.",
    ),
    (
        r"[Cc]annot convert a symbolic|SymbolicTensor'?>|'SymbolicTensor' object|'Tensor' object has no attribute 'numpy'",
        "a function of NumPy or scikit-learn is given a tensor, which has no values yet. Use keras.ops, or compute it from predictions"
        " in a callback.",
    ),
    (
        r"None values not supported|Attempt to convert a value \(None\)",
        "a function returns nothing (None) where a tensor is needed. Does it end with `return`?",
    ),
    (
        r"singleton tf\.Variables|tried to create variables on non-first call",
        "a layer or weight is created again with each call, so it never learns. Create it in __init__ or in build.",
    ),
    (
        r"expected (min_)?ndim=4, found ndim=",
        "the layer takes maps [images, height, width, channels], but its input has another number of axes. Is there a Flatten or Dense before it?",
    ),
    (
        r"Inputs have incompatible shapes\. Received shapes (?P<one>\([^)]*\)) and (?P<other>\([^)]*\))",
        "maps of {one} and {other} are added. Give both the same height and width (padding='same', the same strides) and as many channels"
        " (a 1x1 convolution).",
    ),
    (
        r"Concatenate. layer requires inputs with matching shapes",
        "maps of different height or width are joined. Give both the same (padding='same', the same strides).",
    ),
    (
        r"Input to reshape is a tensor with|reshape tensor.*to shape|total size of the tensor must be unchanged|cannot reshape",
        "the shape does not fit the values. Write -1 for the number of images, and take the rest from input_shape.",
    ),
    (
        r"Shapes used to initialize variables must be fully-defined|last dimension of the inputs.*should be defined",
        "the size of the images is not known to this layer. Begin with keras.Input(input_shape).",
    ),
    (
        r"Dimensions must be equal, but are (?P<one>\d+) and (?P<other>\d+)",
        "the sizes {one} and {other} must be equal. Look at the shapes of what is multiplied, added or compared in this line.",
    ),
    (
        r"not connected to `(inputs|outputs)`",
        "the model's outputs are not computed from its inputs. Give keras.Model the same input that the layers begin with.",
    ),
    (
        r"must be passed as a keyword argument. Received: add_weight|initializer identifier: \(",
        "add_weight takes the shape first, and no name. Write self.add_weight(shape=..., name=...).",
    ),
    (
        r"Unrecognized keyword arguments passed to (?P<kind>\w+): \{'(?P<name>\w+)'",
        "{kind} has no argument '{name}'.",
    ),
    (
        r"Input size must be at least (?P<least>\d+)x",
        "the network takes images of at least {least}x{least} pixels. Set image_size={least}.",
    ),
    (
        r"input must have 3 channels|should have `?3`? (input )?channels",
        "the network takes colour images. Set channels=3.",
    ),
    (
        r"not recognized: \{'lr'|has no attribute 'lr'",
        "Keras 3 calls the learning rate learning_rate, not lr.",
    ),
    (
        r"has no attribute 'validation_data'",
        "Keras no longer gives validation data to callbacks. Read them in your file, and pass them to your callback.",
    ),
    (
        r"has no attribute '(compiled_loss|compiled_metrics|minimize|get_value|set_value)'",
        "this is from Keras 2. In Keras 3: self.compute_loss(x, y, y_pred), self.optimizer.apply(gradients, weights), and a variable's own assign().",
    ),
    (
        r"(has no attribute '(built|_lock|_layers|_tracker)'|forgot to call `?super)",
        "the class does not call super().__init__() at the beginning of its __init__.",
    ),
    (
        r"SwapEMAWeights must be used when",
        "SwapEMAWeights needs averages of the weights. Set optimizer_options.use_ema=true.",
    ),
    (
        r"OutOfMemory|OOM when allocating|out of memory",
        "there is not enough memory. Lower batch_size or image_size, or use a smaller network.",
    ),
)

# Messages of Keras that are only warnings, although something then does nothing or the wrong thing in the complete training.
SILENT = (
    ".*conditioned on metric .* which is not available",
    "Can save best model only with .* available",
    ".*received `from_logits=True`, but",
)

# Not a mistake: the machine cannot do it. Reported for every model.
_NO_GRADIENT_OF_GROUPS = "Gradients for grouped convolutions are not supported on CPU"
GROUPS = (
    "On this processor TensorFlow has no gradient of grouped convolutions unless oneDNN is on. Set the environment variable "
    "TF_ENABLE_ONEDNN_OPTS=1 before Python starts, use a GPU, or use a network without groups, such as se_resnet50."
)


class OwnCodeError(InputError):
    """A mistake in a student's own code; its `__cause__` is the error itself. A notebook shows only the line."""

    def _render_traceback_(self) -> list[str]:
        from pbl.languages import say_sentence

        return [f"pbl: {' '.join(say_sentence(self).split())}"]


class Place(NamedTuple):
    """A line of own code."""

    file: str
    line: int

    @property
    def shown(self) -> str:
        """The file's name as one would type it here; for a cell of a notebook a phrase without a name."""
        if "ipykernel_" in self.file or self.file.startswith("<"):
            return Sentence("a cell of the notebook")
        with contextlib.suppress(ValueError):
            return str(Path(self.file).resolve().relative_to(Path.cwd()))
        return self.file


def is_own(file: str) -> bool:
    """Returns whether code in this file is a student's own."""
    if file.startswith("<"):
        return file.startswith(("<ipython-input", "<stdin"))
    if "__autograph_generated" in file:
        return False
    full = Path(file).resolve()
    is_library = any(part in ("site-packages", "dist-packages") for part in full.parts)
    return not is_library and not any(full.is_relative_to(folder) for folder in (_PBL, *_PYTHON))


def find_place(maker: Any) -> Place | None:
    """Returns where a function or class in own code is defined; None if it is from pbl or a library."""
    function = getattr(maker, "func", maker)  # for functools.partial
    code = getattr(function, "__code__", None) or getattr(getattr(function, "__init__", None), "__code__", None)
    return Place(code.co_filename, code.co_firstlineno) if code is not None and is_own(code.co_filename) else None


@contextlib.contextmanager
def tell_slips(
    folder: Path, builder: Callable | None = None, callbacks: Mapping[str, Callable] | None = None
) -> Iterator[None]:
    """Inside it, an error in own code becomes an `OwnCodeError` of one line; its traceback goes to `traceback.txt`.

    Args:
        folder: Where that file is written, such as the run's folder; if that fails, the line does not name the file.
        builder: Builder of the model that is used inside: if it is own code, Keras's complaints are about its model.
        callbacks: The makers of the callbacks that are used inside, by the callback's class name.

    Raises:
        OwnCodeError: There was such an error. Any other error is raised unchanged.
    """
    was_filtering = keras.config.is_traceback_filtering_enabled()
    keras.config.disable_traceback_filtering()  # otherwise the frames of callbacks and layers are missing
    try:
        with warnings.catch_warnings():
            for silent in SILENT:
                warnings.filterwarnings("error", message=silent)
            yield
    except InputError:
        raise
    except Exception as error:
        told = explain(error, builder, callbacks)
        if told is None:
            raise
        if file := _keep(error, folder):
            raise OwnCodeError("{told} The traceback: {file}", told=told, file=file) from error
        raise OwnCodeError("{told}", told=told) from error
    finally:
        if was_filtering:
            keras.config.enable_traceback_filtering()


def explain(
    error: Exception, builder: Callable | None = None, callbacks: Mapping[str, Callable] | None = None
) -> Sentence | None:
    """Returns what an error means, in a sentence; None if it is not a mistake in own code."""
    text = f"{type(error).__name__}: {error}"
    frames = list(traceback.walk_tb(error.__traceback__))
    if _NO_GRADIENT_OF_GROUPS in text:
        return Sentence(GROUPS)
    place = _find_own_frame(frames, text) or _find_maker(frames, text, builder, callbacks)
    if place is None and not isinstance(error, Warning):
        return None
    what = _find_cause(error, text, frames)
    if place is None:  # a warning in SILENT from the package's own callback: the settings are wrong
        return Sentence("{what}", what=what)
    return Sentence("{file}, line {line}: {what}", file=place.shown, line=place.line, what=what)


def _find_own_frame(frames: list[tuple[types.FrameType, int]], text: str) -> Place | None:
    """The innermost line of own code; None if it had called pbl, and pbl failed."""
    for file, line in reversed(
        re.findall(r'File "([^"\n]+)", line (\d+)', text)
    ):  # places that the message of a graph names
        if is_own(file):
            return Place(file, int(line))
    for frame, line in reversed(frames):
        file = frame.f_code.co_filename
        if is_own(file):
            return Place(file, line)
        full = Path(file).resolve()
        if full.is_relative_to(_PBL) and not full.is_relative_to(_MODELS):
            return None
    return None


def _find_maker(
    frames: list[tuple[types.FrameType, int]],
    text: str,
    builder: Callable | None,
    callbacks: Mapping[str, Callable] | None,
) -> Place | None:
    """For a failure in a library without own code on the stack: who made the callback or the model."""
    if not frames or Path(frames[-1][0].f_code.co_filename).resolve().is_relative_to(_PBL):
        return None
    callbacks = callbacks or {}
    called = re.match(r"TypeError: (\w+)\.(\w+)\(\)", text)  # "Mine.on_epoch_end() takes 2 positional arguments ..."
    for frame, _ in reversed(frames):
        holder = frame.f_locals.get("self", frame.f_locals.get("callback"))
        if called and (callback := frame.f_locals.get("callback")) is not None:
            method = getattr(callback, called[2], None)
            if type(callback).__name__ == called[1] and (place := find_place(getattr(method, "__func__", None))):
                return place
        if isinstance(holder, keras.callbacks.Callback) and type(holder).__name__ in callbacks:
            return find_place(callbacks[type(holder).__name__])
    return find_place(builder) if builder is not None else None


def _find_cause(error: Exception, text: str, frames: list[tuple[types.FrameType, int]]) -> str:
    flat = re.sub(r"Could not automatically infer.*?Error encountered: ", "", " ".join(text.split()))
    for frame, line in reversed(frames):
        logs = frame.f_locals.get("logs")
        if not is_own(frame.f_code.co_filename):
            continue
        if isinstance(error, KeyError) and isinstance(logs, dict) and _asks_logs(error, frame, line):
            nearest = name_nearest(error.args[0], map(str, logs))
            return Sentence("nothing is logged under '{name}'. {nearest}", name=error.args[0], nearest=nearest)
    for pattern, sentence in CAUSES:
        if found := re.search(pattern, flat):
            return Sentence(
                sentence, **{name: re.sub(",(?! )", ", ", value) for name, value in found.groupdict().items()}
            )
    words = flat if len(flat) <= MOST_LETTERS else f"{flat[:MOST_LETTERS]}..."
    return words if words.endswith((".", "!", "?")) else f"{words}."


def _asks_logs(error: KeyError, frame: types.FrameType, line: int) -> bool:
    """Whether the line looks for this key in `logs`, and not in another dictionary."""
    linecache.checkcache(frame.f_code.co_filename)
    source = linecache.getline(frame.f_code.co_filename, line)
    return re.search(rf"\blogs\s*\[\s*(['\"]{re.escape(str(error.args[0]))}['\"]|\w)", source) is not None


def _keep(error: Exception, folder: Path) -> Path | None:
    lines = "".join(traceback.format_exception(error))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / FILE) as temporary:
            temporary.write_text(lines, encoding="utf-8")
    except (OSError, InputError):
        return None
    return folder / FILE
