"""What a trained network looks at: filters, feature maps, Grad-CAM, attention, and the loss on the way that it was trained.

A heat map is drawn for any network and any class, also where the network is wrong or knows nothing. Beside each one stands that
of the same network untrained (Adebayo et al. 2018, Sanity Checks for Saliency Maps, arXiv:1810.03292): what looks the same
there tells of the image or the architecture, not of what was learned.
"""

import contextlib
import io
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers, ops
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from pbl import models
from pbl.data import Data, find_image_files, shorten
from pbl.diagnosis.monitor import take_statistics
from pbl.errors import InputError, Sentence, name_nearest
from pbl.evaluation.run import load_model, open_data, read_images
from pbl.languages import say_sentence
from pbl.models.calls import replaced_calls
from pbl.models.prediction import predict_probabilities
from pbl.plotting import MOST_FILTERS, plot_feature_maps, plot_filters, plot_heat_maps, plot_loss_line
from pbl.runs import Run, load_run
from pbl.storage import replacing
from pbl.training.build import build_and_compile
from pbl.training.performance import is_native, precision

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2DTranspose)
ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
BATCH = 32
POSITIONS = np.linspace(-0.25, 1.25, 25)  # sixteenths: 0 and 1 are among them
MOST, FEWEST = 500, 50  # images of each side for the loss line
MOST_MACS = 2e13  # some minutes on a CPU; of a large network fewer images are looked at
MOST_SHOWN = 16
OF_EACH = 4  # worst mistakes, and right ones
TINY = 1e-7  # as in `pbl.diagnosis.monitor`: the smallest probability that a loss is taken of


class Call(NamedTuple):
    """What a layer gave, once, while a model was called."""

    layer: keras.Layer
    output: Any


def call_watched(model: keras.Model, pixels: np.ndarray, see: Callable[[int, Call], None]) -> Any:
    """Calls a model in inference mode, and shows what each of its layers gives, nested and shared ones too.

    Nothing is built anew, so it is the same for Sequential, Functional and subclassed models.

    Args:
        model: The model.
        pixels: `[n, height, width, channels]`.
        see: Called with each output and its number, from 0, in the order in which the layers end and before anything is
            computed from it.

    Returns:
        The model's output, the first where it has several.
    """
    if not model.built:  # which would call the layers too
        model(pixels[:1], training=False)
    numbers = itertools.count()

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments, **options):
            outputs = original(*arguments, **options)
            for output in filter(tf.is_tensor, keras.tree.flatten(outputs)):
                see(next(numbers), Call(layer, output))
            return outputs

        return call

    are_eager = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # inside a `tf.function` of a model of one's own no value could be seen
    try:
        with replaced_calls(model._flatten_layers(), watch):
            outputs = model(pixels, training=False)
    finally:
        tf.config.run_functions_eagerly(are_eager)
    return keras.tree.flatten(outputs)[0]


def find_logits(model: keras.Model, outputs: Any) -> Any:
    """Returns the logits of what a model gave: what its last softmax was taken of.

    Keras keeps them with the probabilities, for its losses. A logit cannot be computed back: probabilities stay the same where
    all logits grow by one number, so the logarithm of a probability differs from its logit, in its gradient too.

    Args:
        model: The model.
        outputs: What it gave, computed eagerly: `[n, classes]`; or `[n, 1]`, the sigmoid of two classes.

    Returns:
        `float32 [n, classes]`; of a sigmoid -z and z; the outputs themselves where they are no probabilities.

    Raises:
        InputError: The outputs are probabilities by another softmax than Keras's.
    """
    if len(outputs.shape) != 2:
        raise InputError(
            "{name} gives the shape {shape}: it is no classifier with one row [classes] for each image.",
            name=model.name, shape=tuple(outputs.shape),
        )  # fmt: skip
    logits = getattr(outputs, "_keras_logits", None)
    if logits is None:
        rows = ops.convert_to_numpy(ops.cast(outputs, "float32"))
        if rows.shape[1] > 1 and rows.min() >= 0 and abs(rows.sum(axis=1) - 1).max() < 1e-2:
            raise InputError(
                "{name} ends in a softmax whose logits Keras does not know, and Grad-CAM needs them. End it with"
                " Dense(num_classes, activation='softmax', dtype='float32') or keras.ops.softmax.",
                name=model.name,
            )
        logits = outputs
    logits = ops.cast(logits, "float32")
    return logits if logits.shape[1] > 1 else ops.concatenate([-logits, logits], axis=1)


def grad_cam(
    model: keras.Model,
    pixels: np.ndarray,
    classes: int | Sequence[int] | None = None,
    layer: keras.Layer | str | None = None,
) -> np.ndarray:
    """Computes which places of an image speak for a class, as far as the last convolution tells (Grad-CAM).

    Selvaraju et al. (2017), Grad-CAM: Visual Explanations from Deep Networks, arXiv:1610.02391. Each map A^k of the last
    convolution gets as its weight the mean gradient of the class's logit (equation 1); their weighted sum, negative values as 0,
    is the heat map (equation 2). The logit is the very one that the softmax is taken of (see `find_logits`), so the gradient
    is exact. The last convolution's map is taken behind what still follows at its size, such as normalisation, activation and
    the sum of a residual block, and before pooling; convolutions that do not lead to the first output are passed over.

    Args:
        model: A classifier with a convolution: Sequential, Functional or subclassed, with nested or shared layers, in any
            precision.
        pixels: `[n, height, width, channels]`, as the model takes them.
        classes: Of which class: one for all images, or one for each; the predicted ones unless given.
        layer: A layer, or its name, whose output is looked at in place of the last convolution's; of a shared one the last call.

    Returns:
        `float32 [n, height, width]`, resized (bilinear) to the images, the highest of each 1; all 0 where nothing speaks for the
        class. Heights are of one image alone: they say nothing of another's.

    Raises:
        InputError: The model has no such map, or no such class; the pixels are of another shape.
    """
    return _explain(model, pixels, classes, layer)[0]


def _explain(
    model: keras.Model, pixels: np.ndarray, classes: int | Sequence[int] | None, layer: keras.Layer | str | None
) -> tuple[np.ndarray, Call]:
    """The heat maps, and the call of which they are."""
    pixels = _check_pixels(pixels)
    chosen, call = _choose_map(model, pixels[:1], layer)
    heats = []
    for begin in range(0, len(pixels), BATCH):
        batch = pixels[begin : begin + BATCH]
        maps: list[Any] = []
        # Only what comes after the map is kept for the gradient.
        with tf.GradientTape(watch_accessed_variables=False) as tape:

            def see(number: int, call: Call, tape: tf.GradientTape = tape, maps: list[Any] = maps) -> None:
                if number == chosen:
                    tape.watch(call.output)
                    maps.append(call.output)

            logits = find_logits(model, call_watched(model, batch, see))
            of_class = _check_classes(classes, logits, begin, len(pixels))
            score = ops.take_along_axis(logits, of_class[:, None], axis=1)
        gradient = ops.cast(tape.gradient(score, maps[0]), "float32")
        weights = ops.mean(gradient, axis=(1, 2), keepdims=True)  # equation 1
        heat = ops.relu(ops.sum(weights * ops.cast(maps[0], "float32"), axis=-1))  # equation 2
        heats.append(ops.convert_to_numpy(_resize(heat, pixels.shape[1:3])))
    return _scale(np.concatenate(heats)), call


def _scale(heat: np.ndarray) -> np.ndarray:
    """The highest of each image to 1; all 0 where it is 0, or where a network overflows and gives no number."""
    highest = heat.max(axis=(1, 2), keepdims=True)
    is_map = np.isfinite(highest) & (highest > 0)
    return np.where(is_map, heat / np.where(is_map, highest, 1), 0).astype(np.float32)


def _resize(heat: Any, size: tuple[int, int]) -> Any:
    return ops.image.resize(heat[..., None], size, interpolation="bilinear", antialias=False)[..., 0]


def _check_pixels(pixels: np.ndarray) -> np.ndarray:
    pixels = np.asarray(pixels)
    if pixels.ndim != 4 or not len(pixels):
        raise InputError(
            "The images have the shape {shape}. Give [n, height, width, channels]; of one image, image[None].",
            shape=pixels.shape,
        )
    return pixels


def _check_classes(classes: int | Sequence[int] | None, logits: Any, begin: int, n: int) -> Any:
    """`int32` of a batch: the class to be explained of each image."""
    if classes is None:
        return ops.argmax(logits, axis=1)
    numbers = np.asarray(classes)
    count = logits.shape[1]
    fits = numbers.shape in ((), (n,)) and np.issubdtype(numbers.dtype, np.integer)
    if not fits or numbers.min(initial=0) < 0 or numbers.max(initial=0) >= count:
        raise InputError(
            "classes={classes}: give one class from 0 to {last}, or one for each of the {n} images.",
            classes=classes, last=count - 1, n=n,
        )  # fmt: skip
    return np.broadcast_to(numbers, n)[begin : begin + BATCH].astype(np.int32)


def _is_map(call: Call) -> bool:
    """Whether an output has places: `[n, height, width, channels]` of more than one place, in numbers with a gradient."""
    shape = call.output.shape
    return len(shape) == 4 and shape[1] * shape[2] > 1 and call.output.dtype.is_floating


def _choose_map(model: keras.Model, one: np.ndarray, layer: keras.Layer | str | None) -> tuple[int, Call]:
    """The number of the output that Grad-CAM looks at, and the output for one image."""
    calls: list[Call] = []
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:

        def see(number: int, call: Call) -> None:
            calls.append(call)
            if _is_map(call):
                tape.watch(call.output)

        score = ops.sum(find_logits(model, call_watched(model, one, see))[:, 0])
    maps = {number: call for number, call in enumerate(calls) if _is_map(call)}
    gradients = tape.gradient(score, [call.output for call in maps.values()])
    connected = [number for number, gradient in zip(maps, gradients, strict=True) if gradient is not None]
    if layer is not None:
        of_layer = [number for number in connected if layer in (maps[number].layer, maps[number].layer.name)]
        if not of_layer:
            name = getattr(layer, "name", layer)
            raise InputError(
                "{model} has no layer '{name}' that gives a map [height, width, channels] on the way to its output. {nearest}",
                model=model.name, name=name, nearest=name_nearest(name, {maps[number].layer.name for number in connected}),
            )  # fmt: skip
        return of_layer[-1], maps[of_layer[-1]]
    convolutions = [number for number in connected if isinstance(maps[number].layer, CONVOLUTIONS)]
    if not convolutions:
        raise InputError(
            "{model} has no convolution with a map of more than one place before its output, so no place in it stands for a place"
            " of the image. Look at its mistakes and its loss line, or take a convolutional network, such as small_cnn.",
            model=model.name,
        )
    if any(isinstance(call.layer, ATTENTION) for call in calls[convolutions[-1] :]):
        raise InputError(
            "{model} looks on after its last convolution, by attention, which Grad-CAM does not see. Take attention_maps(model,"
            " pixels); or name a layer.",
            model=model.name,
        )
    chosen = max(number for number in connected if _shares_places(maps, convolutions[-1], number))
    return chosen, maps[chosen]


def _shares_places(maps: dict[int, Call], convolution: int, number: int) -> bool:
    return number >= convolution and maps[number].output.shape[1:3] == maps[convolution].output.shape[1:3]


def find_filters(model: keras.Model, pixels: np.ndarray) -> tuple[str, np.ndarray]:
    """Returns the name and the filters of the convolution that a model calls first.

    Args:
        model: The model.
        pixels: Any images that it takes, `[n, height, width, channels]`.

    Returns:
        The layer's name; `float32 [height, width, channels, filters]`. Of a depthwise convolution every filter has one channel.

    Raises:
        InputError: The model has no convolution.
    """
    found: list[keras.Layer] = []
    call_watched(
        model,
        _check_pixels(pixels)[:1],
        lambda number, call: found.append(call.layer) if isinstance(call.layer, CONVOLUTIONS) else None,
    )
    if not found:
        raise InputError(
            "{model} has no convolution, and so no filters: each of its weights belongs to one place. Take a convolutional network,"
            " such as small_cnn.",
            model=model.name,
        )
    called = found[0]
    kernel = called.depthwise_kernel if isinstance(called, layers.SeparableConv2D) else called.kernel
    filters = ops.convert_to_numpy(ops.cast(kernel, "float32"))
    if isinstance(called, layers.Conv2DTranspose):
        filters = filters.swapaxes(2, 3)
    if isinstance(called, (layers.DepthwiseConv2D, layers.SeparableConv2D)):
        filters = filters.reshape(*filters.shape[:2], 1, -1)
    return called.name, filters


def feature_maps(model: keras.Model, image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns what the first and the last convolution make of an image.

    Each is taken behind what follows at its size before the next convolution, such as normalisation and activation; the last is
    that which `grad_cam` looks at.

    Args:
        model: A model with a convolution.
        image: `[height, width, channels]`.

    Returns:
        By the name of the layer whose output it is, `float32 [height, width, maps]`; one alone, where the first is the last.

    Raises:
        InputError: The model has no convolution whose map has more than one place.
    """
    calls: list[Call] = []
    call_watched(model, _check_pixels(image[None]), lambda number, call: calls.append(call))
    maps = {number: call for number, call in enumerate(calls) if _is_map(call)}
    convolutions = [number for number, call in maps.items() if isinstance(call.layer, CONVOLUTIONS)]
    if not convolutions:
        raise InputError(
            "{model} has no convolution with a map of more than one place, and so no feature maps. Take a convolutional network,"
            " such as small_cnn, or larger images.",
            model=model.name,
        )
    first, second = (*convolutions, len(calls))[:2]
    chosen = [max(number for number in maps if number < second and _shares_places(maps, first, number))]
    with contextlib.suppress(InputError):  # attention follows: there is no last one that the network ends with
        chosen.append(_choose_map(model, image[None], None)[0])
    found = {}
    for number in dict.fromkeys(chosen):
        name = calls[number].layer.name
        name = f"{name} (call {number})" if name in found else name  # a shared layer
        found[name] = ops.convert_to_numpy(ops.cast(calls[number].output, "float32"))[0]
    return found


def has_attention(model: keras.Model) -> bool:
    """Returns whether a model has layers of attention."""
    return any(isinstance(layer, ATTENTION) for layer in model._flatten_layers())


def attention_maps(model: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Computes from which patches of an image a vision transformer's answer comes (attention rollout).

    Abnar and Zuidema (2020), Quantifying Attention Flow in Transformers, arXiv:2005.00928, section 3: the attention of each
    block, the mean over its heads, is mixed with the identity, for the residual connection: A = W/2 + I/2, and the A of all
    blocks are multiplied. The class token's row says how much comes from each patch; without a class token the mean of all rows
    does. It says from where, not for which class.

    Args:
        model: A model whose patches come from a convolution, and whose blocks have `keras.layers.MultiHeadAttention` over the
            patches, with or without a class token before them.
        pixels: `[n, height, width, channels]`, as the model takes them.

    Returns:
        `float32 [n, height, width]`, resized (bilinear) to the images, the highest of each 1: a patch of 0.5 counts half as much.

    Raises:
        InputError: The model has no attention, or not over the patches of the image.
    """
    pixels = _check_pixels(pixels)
    attending = [layer for layer in model._flatten_layers() if isinstance(layer, ATTENTION)]
    if not attending:
        raise InputError("{model} has no attention. Take grad_cam(model, pixels).", model=model.name)
    scores: list[Any] = []

    def watch(layer: keras.Layer, original: Callable) -> Callable:
        def call(*arguments, return_attention_scores: bool = False, **options):
            output, score = original(*arguments, return_attention_scores=True, **options)
            scores.append(score)
            return (output, score) if return_attention_scores else output

        return call

    grids: list[tuple[int, int]] = []

    def see(number: int, call: Call) -> None:
        if _is_map(call):
            grids.append(tuple(call.output.shape[1:3]))

    heats = []
    for begin in range(0, len(pixels), BATCH):
        scores.clear()
        with replaced_calls(attending, watch):
            call_watched(model, pixels[begin : begin + BATCH], see)
        grid = _find_patches(model, grids, scores)
        rollout = None
        for score in scores:
            score = ops.mean(ops.cast(score, "float32"), axis=1)
            score = (score + ops.eye(score.shape[-1])) / 2
            rollout = score if rollout is None else ops.matmul(score, rollout)
        patches = grid[0] * grid[1]
        rows = rollout[:, 0, 1:] if rollout.shape[-1] == patches + 1 else ops.mean(rollout, axis=1)
        heats.append(ops.convert_to_numpy(_resize(ops.reshape(rows, (-1, *grid)), pixels.shape[1:3])))
    return _scale(np.concatenate(heats))


def _find_patches(model: keras.Model, grids: list[tuple[int, int]], scores: list[Any]) -> tuple[int, int]:
    """Rows and columns of the patches that the attention is over: of the first map that has as many places as it has tokens."""
    shapes = {tuple(score.shape[2:]) for score in scores}  # [n, heads, tokens, tokens]
    tokens = max((shape[0] for shape in shapes), default=0)
    grids = [grid for grid in grids if grid[0] * grid[1] in (tokens, tokens - 1)]
    if shapes != {(tokens, tokens)} or not grids:
        raise InputError(
            "{model}: its attention is not over the patches of a convolution, the same in all blocks, so no rollout can be"
            " laid over the image. Take grad_cam with the name of a layer.",
            model=model.name,
        )
    return grids[0]


def renew_statistics(model: keras.Model, pixels: np.ndarray, batch_size: int = 100) -> None:
    """Takes the statistics of a model's batch normalisation anew, for the weights that it has now.

    The moving averages of a training belong to its last weights; with others the network would not be the one that a training
    sees. As in stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407, section 3.2) they become the mean over
    batches of some images. Frozen layers keep theirs.

    Args:
        model: The model; its `moving_mean` and `moving_variance` are changed.
        pixels: `[n, height, width, channels]`.
        batch_size: Images that are normalised together.
    """
    next(_renewals(model, pixels, batch_size))


def _normalising(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    flat = model._flatten_layers()
    return [layer for layer in flat if isinstance(layer, layers.BatchNormalization) and layer.trainable]


def _renewals(model: keras.Model, pixels: np.ndarray, batch_size: int = 100) -> Iterator[None]:
    """Renews the statistics each time that it is asked for the next; the model is traced once."""
    normalising = _normalising(model)
    statistics = [weight for layer in normalising for weight in (layer.moving_mean, layer.moving_variance)]
    batches = [pixels[begin : begin + batch_size] for begin in range(0, len(pixels), batch_size)]

    def normalise(batch: tf.Tensor) -> None:
        with replaced_calls(normalising, take_statistics):
            model(batch, training=False)

    signature = tf.TensorSpec([None, *pixels.shape[1:]], pixels.dtype)
    traced = tf.function(normalise, autograph=False).get_concrete_function(signature) if normalising else None
    while True:
        if traced is not None:
            means = [0.0] * len(statistics)
            for batch in batches:
                traced(tf.constant(batch))  # leaves this batch's
                share = len(batch) / len(pixels)
                means = [mean + share * ops.convert_to_numpy(of) for mean, of in zip(means, statistics, strict=True)]
            for of, mean in zip(statistics, means, strict=True):
                of.assign(mean)
        yield


def loss_line(
    model: keras.Model,
    first: Sequence[np.ndarray],
    last: Sequence[np.ndarray],
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    positions: Iterable[float] = POSITIONS,
) -> pd.DataFrame:
    """Measures the loss along the straight line from the first to the last weights of a training.

    Goodfellow et al. (2015), Qualitatively characterizing neural network optimization problems, arXiv:1412.6544, section 3:
    weights (1 - a) first + a last, for each position a. It is a cut through a mountain of as many dimensions as there are
    weights, and the training did not walk along it. The statistics of batch normalisation are taken anew at every position
    (`renew_statistics`), from the training images: those of `last` would make a wall of nothing.

    Args:
        model: The model as it was built for the training, so that what was frozen is frozen; its weights are put back.
        first, last: As `model.get_weights()` gives them.
        train, val: Images `[n, height, width, channels]` and their labels `int [n]`.
        positions: 0 is `first`, 1 is `last`.

    Returns:
        A row a position: `position`, `train_loss`, `train_accuracy`, `val_loss`, `val_accuracy`; losses in nats, of each image at
        most 16.1, without penalties.

    Raises:
        InputError: The weights are not the model's.
    """
    shapes = [tuple(weight.shape) for weight in model.weights]
    for weights in (first, last):
        if [weight.shape for weight in weights] != shapes:
            raise InputError("loss_line: the weights are not those of {model}.", model=model.name)
    rows, renewals = [], _renewals(model, train[0])
    before = model.get_weights()
    try:
        for position in map(float, positions):
            model.set_weights(
                [
                    (1 - position) * a + position * b if np.issubdtype(a.dtype, np.floating) else b
                    for a, b in zip(first, last, strict=True)
                ]
            )
            next(renewals)
            row = {"position": position}
            for side, (pixels, labels) in (("train", train), ("val", val)):
                row[f"{side}_loss"], row[f"{side}_accuracy"] = measure_loss(model, pixels, labels)
            rows.append(row)
    finally:
        model.set_weights(before)
    return pd.DataFrame(rows)


def measure_loss(model: keras.Model, pixels: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Returns a classifier's mean loss in nats, as `pbl.diagnosis.monitor` takes it, and its accuracy.

    Args:
        model: A model of one softmax output.
        pixels: `[n, height, width, channels]`.
        labels: `int [n]`.
    """
    probabilities = predict_probabilities(model, pixels)
    of_true = probabilities[np.arange(len(labels)), labels]
    # NaN stays NaN, which is no low loss, and is no class either.
    is_right = (probabilities.argmax(axis=1) == labels) & np.isfinite(of_true)
    return float(-np.log(np.maximum(of_true, TINY)).mean(dtype=np.float64)), float(is_right.mean())


def build_first(run: Run, data: Data) -> keras.Model:
    """Builds a run's model again, with the weights that its training began with.

    Those are of the run's seed, of what it started from (`initial_weights`), or a backbone's pretrained ones. The run's
    `experiment.py` must have been executed.

    Args:
        run: The run.
        data: Its data.

    Raises:
        InputError: What it started from is no longer there.
    """
    config = run.config.replace(precision=_policy(run), distribute="none", deterministic=False)
    with contextlib.redirect_stdout(io.StringIO()):  # what a training tells of its start
        return build_and_compile(config, data)[0]


def build_untrained(run: Run) -> keras.Model:
    """Builds a run's model with random weights, of its seed, whatever it started from; `experiment.py` as in `build_first`."""
    options = dict(run.config.model_options)
    if "weights" in models.options_of(models.find_builder(run.config.model)):
        options["weights"] = None
    keras.utils.set_random_seed(run.config.seed)
    with precision(_policy(run)):
        return models.build(run.config.model, tuple(run.split["input_shape"]), len(run.split["class_names"]), **options)


def _policy(run: Run) -> str:
    policy = run.environment.get("precision", "float32")
    return policy if is_native(policy) else "float32"


@dataclass(frozen=True)
class Shown:
    """The images that are looked at.

    Attributes:
        pixels: `uint8 [n, height, width, channels]`.
        names: n names.
        labels: Their n true classes; None where they are not known.
        typical: Which of them is taken for the feature maps.
    """

    pixels: np.ndarray
    names: list[str]
    labels: list[int] | None
    typical: int = 0


def choose_images(labels: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Chooses the four mistakes with the lowest probability of the true class, the worst first, and then four right ones.

    Of these the surest of each class come first, and classes that the mistakes are of before others.

    Args:
        labels: `int [n]`.
        probabilities: `float [n, classes]`.

    Returns:
        Places among the n images; fewer, where there are fewer.
    """
    of_true = probabilities[np.arange(len(labels)), labels]
    table = pd.DataFrame({"label": labels, "p": of_true, "is_right": probabilities.argmax(axis=1) == labels})
    table = table.sort_values("p", kind="stable")
    wrong = table[~table["is_right"]].head(OF_EACH)
    right = table[table["is_right"]].iloc[::-1]
    right = right.assign(place=right.groupby("label").cumcount(), is_alike=right["label"].isin(wrong["label"]))
    right = right.sort_values(["place", "is_alike", "p"], ascending=[True, False, False], kind="stable").head(OF_EACH)
    return [*wrong.index, *right.index]


def inspect_run(
    run: str | Path | Run,
    paths: str | Path | Sequence[str | Path] | None = None,
    *,
    tell: Callable[[str], None] = lambda line: print(say_sentence(line)),
) -> list[Path]:
    """Draws what the best model of a run looks at, into the run's `figures/`, each with a CSV of the numbers in it.

    `filters.png` (of the first convolution), `feature_maps.png` (of one image), `grad_cam.png`, or of a transformer
    `attention.png`, each beside the same network untrained, and `loss_line.png` (see `loss_line`).

    Args:
        run: The run, or its folder. Its `experiment.py` is executed: inspect only runs that you trust.
        paths: Image files, and folders that are searched for images, of which the first 16 are shown; unless given, the four worst
            mistakes and four right ones of validation.
        tell: What is done with a line on what cannot be drawn for this network, and why.

    Returns:
        The files that were written.

    Raises:
        InputError: The run is incomplete; an image cannot be read; without `paths`: the run's data or predictions are not there.
    """
    run = load_run(run)
    given = [] if paths is None else [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = find_image_files(given)
    pixels = read_images(run, files[:MOST_SHOWN]) if files else None
    model = load_model(run)
    data, no_data = None, None
    try:
        data = _open_run_data(run)
    except InputError as error:
        no_data = error
    if pixels is not None:
        shown = Shown(pixels, [file.name for file in files[:MOST_SHOWN]], None)
        if len(files) > MOST_SHOWN:
            tell(Sentence("The first {shown} of {all} images are shown.", shown=MOST_SHOWN, all=len(files)))
    elif data is None:
        raise InputError("{error} Or give images: python -m pbl inspect RUN photo.jpg.", error=no_data)
    else:
        shown = _choose_shown(run, data)

    def draw_loss() -> tuple[Figure, pd.DataFrame]:
        if data is None:
            raise no_data
        return _draw_loss_line(run, model, data)

    heat = "attention" if has_attention(model) else "grad_cam"
    written = []
    for name, draw in (
        ("filters", lambda: _draw_filters(run, model, shown)),
        ("feature_maps", lambda: _draw_feature_maps(run, model, shown)),
        (heat, lambda: _draw_heat_maps(run, model, shown, heat)),
        ("loss_line", draw_loss),
    ):
        try:
            figure, table = draw()
        except InputError as error:
            tell(Sentence("{name}.png is left out: {error}", name=name, error=error))
            continue
        for ending, save in (
            ("png", lambda file, figure=figure: figure.savefig(file, dpi=120)),
            (
                "csv",
                lambda file, table=table: table.to_csv(file, index=False, encoding="utf-8-sig", lineterminator="\n"),
            ),
        ):
            file = run.path / "figures" / f"{name}.{ending}"
            with replacing(file) as temporary:
                file.parent.mkdir(exist_ok=True)
                save(temporary)
            written.append(file)
    return written


def _open_run_data(run: Run) -> Data:
    """The data of a run, which must be those that it was trained on."""
    config = run.config.replace(image_size=tuple(run.split["input_shape"][:2]), channels=run.split["input_shape"][2])
    data = open_data(config.replace(augmentation={}, sample_weights=None, class_weight=None))
    hashes = {split: shorten(data.images(split).hashes) for split in ("train", "val")}
    if data.class_names != run.split["class_names"] or any(
        hashes[split] != run.split["hashes"][split] for split in hashes
    ):
        raise InputError(
            "The images of '{source}' are not those of the run {run}. Put back the data that it was trained with.",
            source=data.name, run=run.path,
        )  # fmt: skip
    return data


def _choose_shown(run: Run, data: Data) -> Shown:
    saved, images = run.read_predictions("val"), data.images("val")
    try:
        chosen = choose_images(saved.labels, saved.probabilities)
        place = {content: number for number, content in enumerate(images.hashes)}
        places = [place[saved.hashes[number]] for number in chosen]
    except (IndexError, KeyError):  # of other images or classes
        raise InputError(
            "{file} is missing or damaged. Write it anew: python -m pbl evaluate {run}.",
            file=run.path / "predictions_val.npz",
            run=run.path,
        ) from None
    labels, probabilities = saved.labels, saved.probabilities
    right = next((at for at, number in enumerate(chosen) if probabilities[number].argmax() == labels[number]), 0)
    return Shown(
        images.store[images.index[places]],
        [images.names[at] for at in places],
        labels[chosen].tolist(),
        right,
    )


def _draw_filters(run: Run, model: keras.Model, shown: Shown) -> tuple[Figure, pd.DataFrame]:
    name, filters = find_filters(model, shown.pixels)
    drawn = filters[..., :MOST_FILTERS]
    of_filter, row, column, channel = np.indices(drawn.transpose(3, 0, 1, 2).shape).reshape(4, -1)
    table = pd.DataFrame({"filter": of_filter, "row": row, "column": column, "channel": channel})
    table["weight"] = drawn[row, column, channel, of_filter]
    return plot_filters(filters, f"{run.name}: filters of the first convolution, '{name}'"), table


def _draw_feature_maps(run: Run, model: keras.Model, shown: Shown) -> tuple[Figure, pd.DataFrame]:
    image, name = shown.pixels[shown.typical], shown.names[shown.typical]
    maps = feature_maps(model, image)
    rows = [
        {
            "layer": layer,
            "map": number,
            "lowest": float(values.min()),
            "mean": float(values.mean()),
            "highest": float(values.max()),
            "share_of_zeros": float((values == 0).mean()),
        }
        for layer, of_layer in maps.items()
        for number, values in enumerate(np.moveaxis(of_layer, -1, 0))
    ]
    return plot_feature_maps(image, name, maps, f"{run.name}: feature maps"), pd.DataFrame(rows)


def _draw_heat_maps(run: Run, model: keras.Model, shown: Shown, kind: str) -> tuple[Figure, pd.DataFrame]:
    """Grad-CAM of the predicted class, or attention, beside the same of the network untrained."""
    probabilities = predict_probabilities(model, shown.pixels)
    predicted = probabilities.argmax(axis=1)
    if kind == "grad_cam":
        maps, call = _explain(model, shown.pixels, predicted, None)
        height, width = call.output.shape[1:3]
        title = f"Grad-CAM of the predicted class, from the {height}x{width} places of '{call.layer.name}'"
    else:
        maps, title = attention_maps(model, shown.pixels), "attention rollout, from which patches the answer comes"
    other = build_untrained(run)
    renew_statistics(other, shown.pixels)
    untrained = grad_cam(other, shown.pixels, predicted) if kind == "grad_cam" else attention_maps(other, shown.pixels)
    class_names, n = run.split["class_names"], len(shown.pixels)
    table = pd.DataFrame(
        {
            "image": shown.names,
            "true": [None] * n if shown.labels is None else [class_names[label] for label in shown.labels],
            "predicted": [class_names[label] for label in predicted],
            "probability": probabilities.max(axis=1),
            "rank_correlation": [_correlate(*pair) for pair in zip(maps, untrained, strict=True)],
        }
    )
    return plot_heat_maps(shown.pixels, maps, untrained, table, f"{run.name}: {title}"), table


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps, as Adebayo et al. measure their likeness; NaN where one is the same everywhere."""
    if not (np.ptp(one) and np.ptp(other)):
        return np.nan
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def _draw_loss_line(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    first = build_first(run, data)
    start, end = first.get_weights(), model.get_weights()
    statistics = {id(of) for layer in _normalising(first) for of in (layer.moving_mean, layer.moving_variance)}
    count = sum(
        a.size
        for weight, a, b in zip(first.weights, start, end, strict=True)
        if id(weight) not in statistics and not np.array_equal(a, b)
    )
    macs = max(1, models.count_macs(first, data.input_shape))
    most = int(np.clip(MOST_MACS / (3 * len(POSITIONS) * macs), FEWEST, MOST))
    train, val = (_sample(data, split, most) for split in ("train", "val"))
    table = loss_line(first, start, end, train, val, _with_progress(POSITIONS))
    epoch = run.environment.get("best_epoch")
    figure = plot_loss_line(
        table,
        count,
        {"train": len(train[1]), "val": len(val[1])},
        f"{run.name}: the straight line from the first weights to those of epoch {epoch or '?'}",
        {"train": measure_loss(model, *train), "val": measure_loss(model, *val)} if statistics else None,
    )
    return figure, table


def _sample(data: Data, split: str, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of at most so many images, each class in its share."""
    images = data.sample(split, most)
    at = np.linspace(0, len(images.labels) - 1, min(most, len(images.labels))).round().astype(int)
    return images.store[images.index[at]], images.labels[at]


def _with_progress(positions: np.ndarray) -> Iterable[float]:
    """A bar on a terminal, which is gone at the end."""
    if not (sys.stderr and sys.stderr.isatty()):
        return positions
    from rich.console import Console
    from rich.progress import track

    return track(list(positions), "loss line", console=Console(stderr=True), transient=True)
