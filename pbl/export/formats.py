"""The formats: each is written by its own converter, and read back by its own runtime.

A new format is a `Format` in `FORMATS`. The converters print much on the screen, which is suppressed; if one fails, the reason is shown on one line.
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from pbl.errors import InputError, name_nearest
from pbl.export.readers import Call, Reading, read_elsewhere, read_here
from pbl.models.keras_private import flatten_layers
from pbl.storage.writing import temporary_folder

OUTPUT = "output"  # the name of the single output, if a format allows a name


class Exported(NamedTuple):
    """The model that is exported.

    Attributes:
        model: The model as its builder made it, in float32.
        named: The same as a Functional model whose inputs have the documented names.
        names: Those names.
    """

    model: keras.Model
    named: keras.Model
    names: tuple[str, ...]


class Quantising(NamedTuple):
    """How weights, and what is computed with them, are made smaller.

    Attributes:
        kind: "int8" or "float16".
        examples: `float32 [n, 1, height, width, channels]`, training images from which int8's ranges are computed.
    """

    kind: str
    examples: np.ndarray


class Format(NamedTuple):
    """One format.

    Attributes:
        file: The name of its file; without an extension, the name of a folder.
        packages: What it needs besides TensorFlow: by the name for pip, the module of each.
        write: Called with `(exported, file, quantising or None)`.
        read: Called with `(file, names)`: opens the file in its own runtime.
        runtime: The package whose version is noted, by its name for pip.
        quantises: The values that `--quantise` can have.
    """

    file: str
    packages: dict[str, str]
    write: Callable[[Exported, Path, Quantising | None], None]
    read: Callable[[Path, tuple[str, ...]], Reading]
    runtime: str
    quantises: tuple[str, ...] = ()


def call_model(model: keras.Model) -> Call:
    """Returns a model's call, compiled as `compare --measure` does."""
    import tensorflow as tf

    compute = tf.function(lambda arrays: model(arrays[0] if len(arrays) == 1 else list(arrays), training=False))
    return lambda *arrays: compute(tuple(map(tf.constant, arrays))).numpy()


def _write_keras(exported: Exported, file: Path, quantising: Quantising | None) -> None:
    exported.model.save(file)


def _read_keras(file: Path, names: tuple[str, ...]) -> Reading:
    return read_here(call_model(keras.saving.load_model(file, compile=False)))


def _write_saved_model(exported: Exported, file: Path, quantising: Quantising | None) -> None:
    exported.named.export(str(file), format="tf_saved_model", verbose=False)


def _read_saved_model(file: Path, names: tuple[str, ...]) -> Reading:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(file))
    serve = loaded.signatures["serving_default"]

    def call(*arrays: np.ndarray) -> np.ndarray:
        (output,) = serve(**{name: tf.constant(array) for name, array in zip(names, arrays, strict=True)}).values()
        return output.numpy()

    call.kept = loaded  # keeps its variables alive as long as the call
    return read_here(call)


def _write_litert(exported: Exported, file: Path, quantising: Quantising | None) -> None:
    import tensorflow as tf

    kinds, options = tf.lite.OpsSet, {}
    # TensorFlow operations that LiteRT does not have would need another library on the phone, so they are not allowed.
    target = {"supported_ops": [kinds.TFLITE_BUILTINS]}
    if quantising is not None:
        options["optimizations"] = [tf.lite.Optimize.DEFAULT]
        if quantising.kind == "float16":
            target["supported_types"] = [tf.float16]
        else:
            target = {"supported_ops": [kinds.TFLITE_BUILTINS_INT8]}
            options["representative_dataset"] = lambda: ([example] for example in quantising.examples)
    exported.named.export(str(file), format="litert", target_spec=target, **options)


def _read_litert(file: Path, names: tuple[str, ...]) -> Reading:
    return read_elsewhere("litert", file, names)


def _write_onnx(exported: Exported, file: Path, quantising: Quantising | None) -> None:
    import onnx

    for layer in flatten_layers(exported.named):
        if isinstance(
            layer, keras.layers.Normalization
        ):  # tf2onnx treats tensors of a model that are not weights as inputs
            layer.mean, layer.variance = (keras.ops.convert_to_numpy(one) for one in (layer.mean, layer.variance))
    with temporary_folder() as folder:
        plain = folder / "plain.onnx"
        exported.named.export(str(plain), format="onnx", verbose=False)
        graph = onnx.load(plain)
        _write_out_erfc(graph.graph)
        _name_output(graph.graph)
        if quantising is None:
            onnx.save(graph, file)
            return
        onnx.save(graph, plain)
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

        class Examples(CalibrationDataReader):
            """Gives the training images one by one."""

            def __init__(self):
                self.left = iter(quantising.examples)

            def get_next(self):
                example = next(self.left, None)
                return None if example is None else {exported.names[0]: example}

        quantize_static(
            str(plain),
            str(file),
            Examples(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )


def _write_out_erfc(graph) -> None:
    """Replaces erfc(x) by 1 - erf(x): GELU uses erfc, and ONNX does not have it; tf2onnx 1.17 leaves it unchanged."""
    import onnx

    nodes = []
    for node in graph.node:
        if node.op_type != "Erfc":
            nodes.append(node)
            continue
        (given,), (result,) = node.input, node.output
        inner, one = f"{result}/erf", f"{result}/one"
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1), one))
        nodes += [onnx.helper.make_node("Erf", [given], [inner]), onnx.helper.make_node("Sub", [one, inner], [result])]
    del graph.node[:]
    graph.node.extend(nodes)


def _name_output(graph) -> None:
    """Gives the single output its name, and the first axis of inputs and output the name "batch"."""
    before = graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                if name == before:
                    names[place] = OUTPUT
    graph.output[0].name = OUTPUT
    for value in (*graph.input, *graph.output):
        axes = value.type.tensor_type.shape.dim
        if axes and axes[0].dim_param:
            axes[0].dim_param = "batch"


def _read_onnx(file: Path, names: tuple[str, ...]) -> Reading:
    return read_elsewhere("onnx", file, names)


FORMATS: dict[str, Format] = {
    "keras": Format("model.keras", {}, _write_keras, _read_keras, "keras"),
    "savedmodel": Format("saved_model", {}, _write_saved_model, _read_saved_model, "tensorflow"),
    "litert": Format(
        "model.tflite",
        {"ai-edge-litert": "ai_edge_litert"},
        _write_litert,
        _read_litert,
        "ai-edge-litert",
        ("int8", "float16"),
    ),
    "onnx": Format(
        "model.onnx",
        {"tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
        _write_onnx,
        _read_onnx,
        "onnxruntime",
        ("int8",),
    ),
}


def check_format(name: str, quantise: str | None) -> Format:
    """Returns the format of this name, if this Python can write and read it.

    Raises:
        InputError: There is no such format, or what it needs is not installed; it cannot be quantised in this way.
    """
    if name == "tfjs":
        # tensorflowjs 4.22.0 needs tensorflow-decision-forests, whose newest version, 1.12.0, needs TensorFlow 2.19; for Python 3.13
        # there is none, and pip falls back to tensorflowjs 3.18.0 of 2022 (tried with both sets of versions).
        raise InputError(
            "tfjs cannot be written here: tensorflowjs needs TensorFlow 2.19 or older, and this is {version}. For a web page use --format onnx "
            "(onnxruntime-web reads it) or litert (LiteRT.js).",
            version=importlib.metadata.version("tensorflow"),
        )
    if name not in FORMATS:
        raise InputError("No format is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, FORMATS))
    chosen = FORMATS[name]
    if quantise is not None and quantise not in chosen.quantises:
        possible = {of: one.quantises for of, one in FORMATS.items() if one.quantises}
        listed = "; ".join(f"--format {of}: {', '.join(kinds)}" for of, kinds in possible.items())
        raise InputError(
            "--quantise {kind} does not work with --format {name}. Valid: {listed}.",
            kind=quantise,
            name=name,
            listed=listed,
        )
    missing = [package for package, module in chosen.packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise InputError(
            '--format {name} needs {packages}, which is not installed. Run: pip install "{first}"',
            name=name,
            packages=", ".join(missing),
            first='" "'.join(missing),
        )
    return chosen


def _is_ours(error: Exception) -> bool:
    """Whether it was raised by a line of this package: a bug, whose traceback is kept."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return Path(frame.f_code.co_filename).is_relative_to(Path(__file__).resolve().parents[1])


@contextlib.contextmanager
def converting(name: str) -> Iterator[None]:
    """Suppresses what a converter prints; if it fails, the reason is given on one line.

    Args:
        name: The format's name.

    Raises:
        InputError: The converter or the runtime failed.
    """
    with Path(os.devnull).open("wb") as nowhere, contextlib.ExitStack() as stack:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number in (1, 2):  # their C++ parts do not write through Python's streams
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(nowhere.fileno(), number)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        stack.enter_context(_ignoring_warnings())
        try:
            yield
        except (InputError, MemoryError):
            raise
        except Exception as error:  # each converter, and the layers that it calls, may raise anything
            if _is_ours(error):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise InputError(
                "This model cannot be exported as {name}: {fault} Try another --format: {others}.",
                name=name,
                fault=reason if reason.endswith((".", "!", "?")) else f"{reason}.",
                others=", ".join(of for of in FORMATS if of != name),
            ) from error


@contextlib.contextmanager
def _ignoring_warnings() -> Iterator[None]:
    import logging
    import warnings

    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl", "root")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
