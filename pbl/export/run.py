"""Writes a run's best model to a file for another runtime; the file is read back and compared before it is kept.

The model is built again in float32: in bfloat16, which a default run uses, it can be converted to neither LiteRT nor ONNX. So two
numbers are reported: how far the file is from the same weights in float32, which is due to the converter, and how far from what `predict` returns,
which also includes the run's rounding.
"""

import contextlib
import importlib.metadata
import json
import shutil
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from pbl import models
from pbl.data import Data
from pbl.errors import InputError, Sentence
from pbl.evaluation.measurement import count_cores, time_calls
from pbl.evaluation.run import load_model, open_run_data
from pbl.evaluation.samples import AT_ONCE, find_noise_size, takes_labels
from pbl.export.formats import OUTPUT, Exported, Format, Quantising, call_model, check_format, converting
from pbl.export.readers import Call, Reading
from pbl.models.calls import is_overridden
from pbl.models.prediction import predict_outputs
from pbl.models.slips import tell_slips
from pbl.reports.model_card import check_card, read_exports, write_card
from pbl.runs import Run, load_run
from pbl.statistics import mcnemar_test, paired_interval, wilson_interval
from pbl.storage.writing import (
    discard,
    list_folder,
    name_unfinished,
    replacing,
    temporary_folder,
    timestamp,
    write_json,
)
from pbl.training.performance import is_native

FOLDER = "export"  # in the run, by default
MOST_COMPARED = 100  # validation images
JUDGED_AT_ONCE = 512  # validation images that a quantised file classifies in one process
MOST_EXAMPLES = 200  # training images for int8; TensorFlow's guide to post-training quantisation speaks of 100 to 500

# The largest difference from the same weights in float32, divided by the largest output if that is above 1. The largest measured one is
# in experiments/benchmarks/export.md. We set this bound, far above that and far below what a wrong conversion causes (a channel order, a
# batch normalisation that still learns: 0.1 and more).
CONVERTED = 1e-3
# The same difference from what `predict` returns, if that computes in 16 bits, or on a GPU, which shortens float32 in products (TF32): bfloat16
# rounds each number by up to 1/256. We set this bound, above what was measured.
ROUNDED = 0.2
# For a quantised file the accuracy counts: a significantly larger loss is refused. If quantisation works, 8 bits come "close to floating-point
# accuracy" (Nagel et al. 2021, arXiv:2106.08295, abstract). We set this bound.
LOST = 0.05

# The licences of ImageNet weights that a model starts from, given by those who trained them: the first two from the README of
# fchollet/deep-learning-models, the source of Keras's weights; the last from the repository tensorflow/tpu.
LICENCES = {
    "vgg16_transfer": "Creative Commons Attribution (VGG16's weights, released by VGG, Oxford)",
    "resnet50_transfer": "MIT (ResNet-50's weights, released by Kaiming He)",
    "efficientnet_transfer": "Apache 2.0 (EfficientNet's weights, released in tensorflow/tpu)",
}


class Export(NamedTuple):
    """The result of `export_run`.

    Attributes:
        file: The model; for SavedModel a folder.
        description: The JSON file next to it.
        card: `model_card.md` next to them.
        about: The content of the JSON file: inputs, output, classes, and what was measured.
        kept: The headings of the card below which a person has changed what was filled in; there it is kept.
    """

    file: Path
    description: Path
    card: Path
    about: dict[str, Any]
    kept: list[str]


def export_run(
    run: str | Path | Run,
    format: str,
    *,
    quantise: str | None = None,
    out: str | Path | None = None,
    data_dir: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Export:
    """Exports the best model of a run, and compares the output of the file's own runtime with `predict`.

    The model takes raw pixels, 0 to 255, as all models here: scaling is inside. For `task=generation` the generator is exported, for
    `task=contrast` the encoder, for `task=detection` the network with its maps (`pbl.models.center_net.decode` makes boxes from them).

    Args:
        run: The run, or its folder. Its `experiment.py` is executed.
        format: "keras", "savedmodel", "litert" or "onnx".
        quantise: "int8" (LiteRT, ONNX) or "float16" (LiteRT), for a classifier: the accuracy on the validation split is reported before and
            after. The ranges of int8 are computed from training images.
        out: The folder; by default `export` in the run.
        data_dir: Folder of prepared TensorFlow Datasets, if it is not that of the training.
        tell: Called with a line before each part of the work that takes long.

    Returns:
        The files, and what was measured.

    Raises:
        InputError: The format is not available, the model cannot be converted, or the file's output differs from the run's: then
            nothing is left behind.

    Example:
        >>> import pbl
        >>> exported = pbl.export_run("runs/mine/001", "keras")
        >>> exported.about["largest_difference"] < 0.001
        True
    """
    chosen = check_format(format, quantise)
    run = load_run(run)
    if quantise is not None and not run.config.is_classifier:
        raise InputError(
            "--quantise is for classifiers: its cost is measured in accuracy, and the run {run} has task={task}. Export it without.",
            run=run.path,
            task=run.config.task,
        )
    folder = Path(out).expanduser() if out is not None else run.path / FOLDER
    if out is not None and not folder.parent.is_dir():
        raise InputError("--out {folder}: the parent folder does not exist. Make it first.", folder=folder)
    _check_folder(run, folder, is_own=out is None)
    check_card(folder)
    tell(Sentence("Opening {run} and its data", run=run.path))
    model = load_model(run)
    with tell_slips(run.path, models.MODELS.get(run.config.model)):
        data = open_run_data(run, data_dir)
        exported = _name_inputs(run, _take_part(run, load_model(run, "float32")))
        return _export(run, data, model, exported, format, chosen, quantise, folder, tell)


def _check_folder(run: Run, folder: Path, is_own: bool) -> None:
    """Raises InputError if nothing of the run should be written into a folder.

    Args:
        run: The run.
        folder: The folder.
        is_own: Whether it is the run's own: then its content may come from a stranger, and a link in it may lead anywhere.
    """
    for place in (folder, *list_folder(folder)) if is_own else ():
        if place.is_symlink():
            raise InputError(
                "{file} is a link: nothing is written to its target. Delete it, or give --out DIR.", file=place
            )
    others = {about["run"] for about in read_exports(folder) if about["run"] != run.name}
    if others:
        raise InputError(
            "{folder} contains the export of another run, {other}. Give another folder with --out.",
            folder=folder,
            other=sorted(others)[0],
        )


def _export(
    run: Run,
    data: Data,
    model: keras.Model,
    exported: Exported,
    name: str,
    chosen: Format,
    quantise: str | None,
    folder: Path,
    tell: Callable[[str], None],
) -> Export:
    inputs = _choose_inputs(run, data, model)
    expected = _predict(run, model, inputs)
    with in_full_precision():
        precise = _predict(run, exported.named, inputs, is_part=True)
    beginning, ending = Path(chosen.file).stem, Path(chosen.file).suffix
    place = folder / (f"{beginning}_{quantise}{ending}" if quantise else chosen.file)
    with temporary_folder() as temporary:
        made = temporary / place.name
        tell(Sentence("Writing {file}, and reading it back", file=place.name))
        with converting(name):
            chosen.write(exported, made, _quantise(data, quantise))
            reading = chosen.read(made, exported.names)
            found = reading.call(*inputs)
        differences = _compare(run, name, quantise, found, expected, precise)
        if quantise is not None:
            tell(Sentence("Classifying {images:,} validation images with it", images=len(data.images("val").labels)))
        about = {
            **_describe(run, name, quantise, exported, found.shape, place),
            **differences,
            **(_judge(data, model, reading.call) if quantise is not None else {}),
            "bytes": sum(file.stat().st_size for file in _list_files(made)),
            **_measure(chosen, reading, _take_part(run, model), inputs),
        }
        if name == "onnx":
            _write_metadata(made, about)
        _make_folder(folder)
        _put_in_place(made, place)
    description = folder / f"{place.name}.json"
    write_json(description, about)
    card, kept = write_card(run, folder)
    return Export(place, description, card, about, kept)


def _take_part(run: Run, model: keras.Model) -> keras.Model:
    """The part of a run's model that is useful without the rest."""
    part = {"generation": "generator", "contrast": "encoder"}.get(run.config.task)
    taken = getattr(model, part) if part else model
    if not is_overridden(taken, "call"):
        raise InputError(
            "The model of the run {run} has no call(): there is nothing to export. Add one, from images to its output.",
            run=run.path,
        )
    return taken


def _name_inputs(run: Run, part: keras.Model) -> Exported:
    """Adds inputs before the part, with names that do not depend on what was built earlier."""
    names, kinds = ("images",), [(tuple(run.split["input_shape"]), "float32")]
    if run.config.task == "generation":
        names = ("noise", "label")[: len(part.inputs)]
        kinds = [(tuple(one.shape[1:]), one.dtype) for one in part.inputs]
    inputs = [keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in zip(names, kinds, strict=True)]
    output = part(inputs if len(inputs) > 1 else inputs[0], training=False)
    if not isinstance(output, keras.KerasTensor):
        raise InputError("The model of the run {run} has several outputs, but only one can be exported.", run=run.path)
    if output.dtype != "float32":
        output = keras.ops.cast(output, "float32")
    return Exported(part, keras.Model(inputs, output, name="exported"), names)


def _choose_inputs(run: Run, data: Data, model: keras.Model) -> list[np.ndarray]:
    """At most 100 validation images, evenly from all of them; for a generator as many noise vectors, and labels in turn."""
    if run.config.task == "generation":
        noise = np.random.default_rng(0).normal(size=(MOST_COMPARED, find_noise_size(model))).astype(np.float32)
        labels = np.arange(MOST_COMPARED, dtype=np.int32) % data.num_classes
        return [noise, labels] if takes_labels(model) else [noise]
    images = data.images("val")
    count = len(images.labels)
    return [images.view[np.linspace(0, count - 1, min(count, MOST_COMPARED)).round().astype(int)].astype(np.float32)]


def _predict(run: Run, model: keras.Model, inputs: Sequence[np.ndarray], is_part: bool = False) -> np.ndarray:
    """What the run's `predict` computes for these inputs; for a detector the maps, before boxes are made from them."""
    if run.config.task == "generation":
        generator = model if is_part else model.generator
        given = list(inputs) if len(inputs) > 1 else inputs[0]
        return generator.predict(given, batch_size=AT_ONCE, verbose=0).astype(np.float32)
    if run.config.task == "detection" and not is_part:
        images = keras.Input(inputs[0].shape[1:])
        model = keras.Model(images, model(images, training=False))
    return predict_outputs(model, inputs[0].astype(np.uint8))


@contextlib.contextmanager
def in_full_precision() -> Iterator[None]:
    """Within it a GPU does not shorten float32 in products, as it otherwise does (TF32). From documentation; not tried on a GPU."""
    import tensorflow as tf

    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def list_gpus() -> list:
    """Returns the machine's GPUs."""
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def _quantise(data: Data, kind: str | None) -> Quantising | None:
    if kind is None:
        return None
    images = data.sample("train", MOST_EXAMPLES)
    count = len(images.labels)
    at = np.linspace(0, count - 1, min(count, MOST_EXAMPLES)).round().astype(int)
    return Quantising(kind, images.view[at].astype(np.float32)[:, None])


def _compare(
    run: Run, name: str, quantise: str | None, found: np.ndarray, expected: np.ndarray, precise: np.ndarray
) -> dict[str, Any]:
    """How far a file is from the run; raises InputError if that is more than a conversion may cause."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        raise InputError(
            "The {name} file gives {found} numbers of the shape {shape}, but the run gives {expected}: the file is not kept.",
            name=name,
            found=Sentence("not all finite") if not np.isfinite(found).all() else Sentence("finite"),
            shape=found.shape,
            expected=expected.shape,
        )
    scale = max(1.0, float(np.abs(precise).max()))
    from_precise, from_run = (float(np.abs(found - other).max() / scale) for other in (precise, expected))
    trained = run.environment.get("precision", "float32")
    policy = trained if is_native(trained) else "float32"  # the same choice as in load_model
    told = "The {name} file differs from the run by {difference:.3g} ({where}), but rounding explains at most {bound:g}: the file is not kept. Try another --format."
    for difference, bound, where in (
        (from_precise, CONVERTED, Sentence("from the same weights in float32")),
        (
            from_run,
            CONVERTED if policy == "float32" and not list_gpus() else ROUNDED,
            Sentence("from predict, in {policy}", policy=policy),
        ),
    ):
        if quantise is None and difference > bound:
            raise InputError(told, name=name, difference=difference, bound=bound, where=where)
    classes = {}
    if run.config.task in ("classification", "segmentation"):
        changed = found.argmax(axis=-1) != expected.argmax(axis=-1)
        classes = {"changed_classes": int(changed.sum()), "compared_classes": int(changed.size)}
    return {
        "compared": len(found),
        "precision_of_run": policy,
        "largest_difference": from_run,
        "largest_difference_from_float32": from_precise,
        "scale_of_differences": scale,
        **classes,
    }


def _judge(data: Data, model: keras.Model, call: Call) -> dict[str, Any]:
    """The accuracy of a classifier on the validation split before and after, and a sentence about the difference."""
    images = data.images("val")
    before = predict_outputs(model, images.pixels).argmax(axis=1) == images.labels
    rows = [call(pixels.astype(np.float32)) for pixels in _with_progress(images.view, len(images.labels))]
    after = np.concatenate(rows).argmax(axis=1) == images.labels
    count, right = len(before), {"before": int(before.sum()), "after": int(after.sum())}
    only_before, only_after = int((before & ~after).sum()), int((after & ~before).sum())
    low, high = paired_interval(int((before & after).sum()), only_after, only_before, count)
    if high < -LOST:
        raise InputError(
            "The quantised file classifies {after:.1%} of {images:,} validation images correctly, and the run {before:.1%}: the loss is certainly more than {most:g} points (95% interval {low:.1f} to {high:.1f}), so the file is not kept. Export without --quantise, or with float16.",
            after=right["after"] / count,
            before=right["before"] / count,
            images=count,
            most=100 * LOST,
            low=100 * low,
            high=100 * high,
        )
    return {
        "accuracy": {
            "images": count,
            **{side: {"value": n / count, "interval": list(wilson_interval(n, count))} for side, n in right.items()},
            "difference": (right["after"] - right["before"]) / count,
            "interval": [low, high],
            "only_before": only_before,
            "only_after": only_after,
            "p": float(mcnemar_test(only_before, only_after)),
        }
    }


def _with_progress(images: Any, count: int) -> Iterator[np.ndarray]:
    from rich.console import Console
    from rich.progress import track

    places = range(0, count, JUDGED_AT_ONCE)
    parts = (images[at : at + JUDGED_AT_ONCE] for at in places)
    return track(parts, "", total=len(places), console=Console(stderr=True), disable=not sys.stderr.isatty())


def _measure(chosen: Format, reading: Reading, part: keras.Model, inputs: Sequence[np.ndarray]) -> dict[str, Any]:
    """Latency of one image, in the file's runtime and in Keras."""
    one = [array[:1] for array in inputs]
    keras_call = call_model(part)

    def summarise(seconds: list[float]) -> dict[str, float]:
        low, median, high = (1000 * quartile for quartile in statistics.quantiles(seconds, n=4))
        return {"median": median, "low": low, "high": high}

    versions = {}
    for package in dict.fromkeys((chosen.runtime, "tensorflow", "keras")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "latency_ms": summarise(reading.time(one)),
        "keras_latency_ms": summarise(time_calls(lambda: keras_call(*one))),
        "cores": count_cores(),
        "versions": versions,
    }


OUTPUTS_CALLED = {"onnx": OUTPUT, "litert": "output_0", "savedmodel": "output_0"}  # Keras chose the last two
OUTPUTS = {
    "classification": "probabilities of the classes, in the order of class_names",
    "segmentation": "probabilities of the classes for each pixel, in the order of class_names",
    "anomaly": "the image as the autoencoder gives it back, pixels 0 to 255",
    "generation": "an image, pixels 0 to 255",
    "contrast": "features; images that are alike have a high cosine",
    "detection": "maps at a quarter of the image's size: heat of each class, then width, height and place of the centre in its cell; pbl.models.center_net.decode makes boxes of them",
}


def _describe(
    run: Run, name: str, quantise: str | None, exported: Exported, shape: tuple[int, ...], place: Path
) -> dict[str, Any]:
    """What a user of the file must know."""
    split, config, environment = run.split, run.config, run.environment
    height, width, channels = split["input_shape"]
    what = {
        "images": "raw pixels 0 to 255, not scaled: scaling is inside the model"
        + ("; red, green, blue" if channels == 3 else "; grey"),
        "noise": "normally distributed numbers",
        "label": "number of the class, in the order of class_names",
    }
    inputs = [
        {
            "name": one.name,
            "shape": [None, *one.shape[1:]],
            "dtype": keras.backend.standardize_dtype(one.dtype),
            "what": what[one.name],
        }
        for one in exported.named.inputs
    ]
    options = {**(environment.get("builder_options") or {}), **config.model_options}
    weights = options.get("weights")
    return {
        "file": place.name,
        "format": name,
        "quantise": quantise,
        "run": run.name,
        "made": timestamp(),
        "task": config.task,
        "model": config.model,
        "paper": card.paper if (card := models.find_card(config.model)) else None,
        "started_from": weights or (str(config.initial_weights) if config.initial_weights else None),
        "licence_of_weights": LICENCES.get(config.model) if weights == "imagenet" else None,
        "inputs": inputs,
        "output": {
            "name": OUTPUTS_CALLED.get(name),
            "shape": [None, *shape[1:]],
            "dtype": "float32",
            "what": OUTPUTS.get(config.task, "what the model's call gives"),
        },
        "class_names": split["class_names"],
        "image_size": [height, width],
        "channels": channels,
        "fit": split["fit"],
        "needs_pbl": name == "keras" and any(is_ours(layer) for layer in _list_layers(exported.model)),
    }


def is_ours(layer: keras.Layer) -> bool:
    """Whether a `.keras` file with this layer can only be read if its code is imported."""
    return type(layer).__module__.partition(".")[0] not in ("keras", "tensorflow")


def _list_layers(model: keras.Model) -> list[keras.Layer]:
    from pbl.models.keras_private import flatten_layers

    return flatten_layers(model)


def _write_metadata(file: Path, about: Mapping[str, Any]) -> None:
    """Writes the content of the JSON file into the ONNX file next to it."""
    import onnx

    graph = onnx.load(file)
    said = {key: about[key] for key in ("class_names", "image_size", "channels", "fit", "inputs", "output", "run")}
    onnx.helper.set_model_props(
        graph,
        {
            key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for key, value in said.items()
        },
    )
    onnx.save(graph, file)


def _list_files(made: Path) -> list[Path]:
    return [file for file in made.rglob("*") if file.is_file()] if made.is_dir() else [made]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder {folder} cannot be made: {reason}. Give another with --out.",
            folder=folder,
            reason=error.strerror,
        ) from None


def _put_in_place(made: Path, place: Path) -> None:
    """Moves a file, or a whole folder, to its place: completely or not at all."""
    if made.is_file():
        with replacing(place) as temporary:
            shutil.copyfile(made, temporary)
        return
    unfinished = place.with_name(f"{name_unfinished()}{place.name}")
    try:
        shutil.copytree(made, unfinished)
        if place.exists():
            discard(place)
        unfinished.replace(place)
    except OSError as error:
        discard(unfinished)
        raise InputError(
            "{file} could not be written: {reason}. Free some space or choose another folder.",
            file=place,
            reason=error.strerror or error,
        ) from error
