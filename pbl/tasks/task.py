"""What a task is: what a run learns, as a table of plain functions."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.evaluation.thresholds import F1, Aim
from pbl.runs import Run
from pbl.storage.reading import UnreadableFile


class Question(NamedTuple):
    """What an evaluation asks of a model.

    Attributes:
        run: The run's name, for titles.
        split: "val", "test", or "all" for another data set's images.
        positive_class: With two classes, the one whose precision, recall and F1 stand first; the second unless given.
        aim: With two classes, what the decision threshold is chosen for.
        is_validation: Whether the images are the run's own validation images, by which thresholds are chosen.
        validation: Else what an earlier evaluation left of those: labels and probabilities; of anomaly detection scores and which
            are normal. None where they are not known.
        all_figures: Whether all figures are drawn, or the first alone.
        best: The task's `best`, as the settings have it.
        options: The task's options, as the settings have them.
        findings: What the data doctor found before the training, as `data_check.json` has it.
        groups: A word for each image, of the group that it is in; None where there are none.
        folder: The run's, in which what `watch` gave may have left something; None where there is none.
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
    """What `metrics_val.json` of a run's folder says; {} where there is no folder, or the file is missing or damaged."""
    if folder is None:
        return {}
    try:
        return Run(folder).read_json("metrics_val.json")
    except (FileNotFoundError, UnreadableFile):
        return {}


def name_units(images: Any, groups: list[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Names and hashes of images, or of groups in the order of their words: `str [n]` each. A group's hash is of its images', in whatever order.

    Args:
        images: The images.
        groups: A word for each image, or None.
    """
    if groups is None:
        return np.array(images.names), np.array(images.hashes)
    words, of_image = np.unique(groups, return_inverse=True)
    hashes = [hashlib.sha256() for _ in words]
    for at in sorted(range(len(images.hashes)), key=lambda at: images.hashes[at]):
        hashes[of_image[at]].update(images.hashes[at].encode())
    return words, np.array([of_group.hexdigest() for of_group in hashes])


class Judged(NamedTuple):
    """What an evaluation found.

    Attributes:
        metrics: What `metrics_<split>.json` holds, in JSON. Of a task other than classification `headline` names the one of
            `metrics["metrics"]` that is shown first, and `better` says whether "higher" or "lower" is better.
        arrays: What `predictions_<split>.npz` holds beside names, hashes and class names, a row for each image; names and hashes too
            where only some of the images were judged. With `values`,
            `float [n]` whose mean is the headline, and `truth`, `int` or `bool [n]`, runs of a task other than classification can be
            compared.
        figures: Name and figure.
    """

    metrics: dict[str, Any]
    arrays: dict[str, np.ndarray]
    figures: Iterable[tuple[str, Figure]] = ()


# What draws a picture of `inspect`: `(run, model, data)` to the figure and its numbers.
Drawing = Callable[[Any, keras.Model, Any], tuple[Figure, pd.DataFrame]]


class Task(NamedTuple):
    """What a run learns.

    A task of your own is entered in an experiment file: `TASKS["mine"] = Task(...)`, and `task="mine"` in the settings.

    Attributes:
        check: `(model, data)`: raises InputError where the model's output does not fit; returns its dtype.
        compile: `(config)`: loss and metrics, as keyword arguments of `keras.Model.compile`; {}: the model has its own.
        watch: `(data, file)`: the callback that measures the training, which writes what it measured to `file`; or None. Where
            it has `save()`, that is called when the training is stopped; where it has `seconds`, the run notes them.
        judge: `(model, data, images, question)`: judges a model on images of the data; a `Judged`. The model comes with the
            weights of its best epoch, and compiled only where its builder does so.
        best: The logged quantity by which the best epoch is chosen, and "min" or "max": Keras's `monitor` and `mode`; or what gives them,
            `(options)`.
        options: The `task_options` that it takes, with their defaults.
        loads: `(options)`: what `load_data` is told beside the settings, as keyword arguments. It raises InputError where an option
            has a value that it cannot have.
        predict: `(model, pixels, run)`: a table of one row an image, for images of nobody knows what; or of one row a box, where `image` is
            the place of its image, and `left`, `top`, `right`, `bottom` are in pixels that the network sees. Or None.
        draw_maps: `(model, pixels, run)`: a figure for each image, of where something is in it; or None.
        mask: `(model, pixels, run)`: for each image the class of each pixel, `uint8 [height, width]`; or None.
        inspect: What `inspect` draws beside filters and feature maps: by the picture's name `(run, model, data)`, which gives the
            figure and its numbers.
        has_classes: Whether the model knows the classes, so that other images must be of the same ones.
        mutes: Words of the data doctor's checks that mean nothing here.
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
