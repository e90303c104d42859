"""What a task is: the definition of what a run learns, as a table of plain functions."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.errors import InputError
from pbl.evaluation.thresholds import F1, Aim
from pbl.runs import Run
from pbl.storage.reading import UnreadableFile


class Question(NamedTuple):
    """What an evaluation asks of a model.

    Attributes:
        run: The run's name, for titles.
        split: "val", "test", or "all" for another data set's images.
        positive_class: With two classes, the one whose precision, recall and F1 are shown first; the second unless given.
        aim: With two classes, the purpose for which the decision threshold is chosen.
        is_validation: Whether the images are the run's own validation images, on which thresholds are chosen.
        validation: Otherwise, what an earlier evaluation kept of these: labels and probabilities; for anomaly detection scores and which
            are normal. None if they are not known.
        all_figures: Whether all figures are drawn, or only the first.
        best: The task's `best`, from the settings.
        options: The task's options, from the settings.
        findings: What the data doctor found before the training, in the form of `data_check.json`.
        groups: The word of each image's group; None if there are no groups.
        folder: The run's folder, in which the result of `watch` may have left something; None if there is none.
    """

    run: str
    split: str
    positive_class: str | None = None
    aim: Aim = F1
    is_validation: bool = False
    validation: tuple[np.ndarray, np.ndarray] | None = None
    all_figures: bool = True
    best: tuple[str, str] = ("val_loss", "min")
    options: Mapping[str, Any] = MappingProxyType({})
    findings: Collection[Mapping[str, Any]] = ()
    groups: list[str] | None = None
    folder: Path | None = None


def read_validation(folder: Path | None) -> dict[str, Any]:
    """The content of `metrics_val.json` in a run's folder; {} if there is no folder, or the file is missing or damaged.

    Raises:
        UnreadableFile: The disk cannot read it now: what it says must not be replaced by a default.
    """
    if folder is None:
        return {}
    try:
        return Run(folder).read_json("metrics_val.json")
    except UnreadableFile:
        raise
    except InputError:
        return {}


def name_units(images: Any, groups: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Names and hashes of images, or of groups in the order of their words: `str [n]` each. A group's hash is made from its images' hashes, whatever their order.

    Args:
        images: The images.
        groups: The word of each image's group, or None.
    """
    if groups is None:
        return np.array(images.names), np.array(images.hashes)
    words, of_image = np.unique(groups, return_inverse=True)
    hashes = [hashlib.sha256() for _ in words]
    for at in sorted(range(len(images.hashes)), key=lambda at: images.hashes[at]):
        hashes[of_image[at]].update(images.hashes[at].encode())
    return words, np.array([of_group.hexdigest() for of_group in hashes])


class Judged(NamedTuple):
    """The result of an evaluation.

    Attributes:
        metrics: The content of `metrics_<split>.json`, for JSON. For a task other than classification, `headline` names the one of
            `metrics["metrics"]` that is shown first, and `better` is "higher" or "lower".
        arrays: What `predictions_<split>.npz` contains in addition to names, hashes and class names, one row for each image; names and hashes
            too if only some of the images were evaluated. With `values`, `float [n]`, whose mean is the headline, and `truth`, `int` or
            `bool [n]`, runs of a task other than classification can be compared.
        figures: Name and figure.
    """

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]
    figures: Iterable[tuple[str, Figure]] = ()


# A function that draws a picture of `inspect`: `(run, model, data)` to the figure and its numbers.
Drawing = Callable[[Any, keras.Model, Any], tuple[Figure, pd.DataFrame]]


class Task(NamedTuple):
    """The definition of what a run learns.

    Enter your own task in an experiment file: `TASKS["mine"] = Task(...)`, and `task="mine"` in the settings.

    Attributes:
        check: `(model, data)`: raises InputError if the model's output does not fit; returns its dtype.
        compile: `(config)`: loss and metrics, as keyword arguments of `keras.Model.compile`; {}: the model has its own.
        watch: `(data, file)`: the callback that measures the training, which writes its measurements to `file`; or None. If
            it has `save()`, that is called when the training is stopped; if it has `seconds`, the run records them.
        judge: `(model, data, images, question)`: evaluates a model on images of the data; returns a `Judged`. The model comes with the
            weights of its best epoch, and is compiled only if its builder does so.
        best: The logged quantity by which the best epoch is chosen, and "min" or "max": Keras's `monitor` and `mode`; or a function that
            returns them, `(options)`.
        options: The `task_options` that it takes, with their defaults.
        loads: `(options)`: further arguments for `load_data`, as keyword arguments. It raises InputError if an option has an impossible
            value.
        predict: `(model, pixels, run)`: a table with one row for each image, for images without labels; or with one row for each box, where `image`
            is the place of its image, and `left`, `top`, `right`, `bottom` are in pixels that the network sees. Or None.
        draw_maps: `(model, pixels, run)`: a figure for each image that shows where something is in it; or None.
        mask: `(model, pixels, run)`: for each image the class of each pixel, `uint8 [height, width]`; or None.
        inspect: What `inspect` draws in addition to filters and feature maps: for each picture's name a function `(run, model, data)` that returns
            the figure and its numbers.
        has_classes: Whether the model uses the classes, so that other images must have the same ones.
        mutes: Names of the data doctor's checks that have no meaning here.
    """

    check: Callable[[keras.Model, Any], str]
    compile: Callable[[Any], dict[str, Any]]
    watch: Callable[[Any, Any], keras.callbacks.Callback | None]
    judge: Callable[[keras.Model, Any, Any, Question], Judged]
    best: tuple[str, str] | Callable[[Mapping[str, Any]], tuple[str, str]] = ("val_loss", "min")
    options: Mapping[str, Any] = MappingProxyType({})
    loads: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda options: {}
    predict: Callable[[keras.Model, np.ndarray, Any], Any] | None = None
    draw_maps: Callable[[keras.Model, np.ndarray, Any], Iterable[Figure]] | None = None
    mask: Callable[[keras.Model, np.ndarray, Any], Iterable[np.ndarray]] | None = None
    inspect: Mapping[str, Drawing] = MappingProxyType({})
    has_classes: bool = True
    mutes: frozenset[str] = frozenset()
