"""Generation: a network learns to make images like its training images, from noise.

`task=generation`, with `model=dcgan` or `mlp_gan`. Neither loss shows whether the images are good, so `GanMonitor` looks at samples after
each epoch, and `judge` measures them in several ways: the kernel distance to real images, compared with that of other real images and of
generators that learned nothing; precision and recall; classes; copies of training images. The best epoch is the newest whose distance on
validation is not above the lowest by more than chance.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pbl.config import Config
from pbl.data import Data, Images
from pbl.errors import InputError, name_nearest
from pbl.evaluation.gan_monitor import GanMonitor, check_generator, describe
from pbl.evaluation.generation import MOST, MOST_TRAIN, find_nearest, measure_samples
from pbl.evaluation.generation_figures import draw_generation, plot_pairs
from pbl.evaluation.samples import (
    check_count,
    draw_labels,
    find_noise_size,
    generate_images,
    make_reference,
    takes_labels,
)
from pbl.reports.drawing import caption, set_heading, show_image
from pbl.runs import Run
from pbl.storage.reading import UnreadableFile, read_arrays
from pbl.tasks.task import Judged, Question, Task

GRIDS = "samples.npz"
WALKS, STEPS = 4, 10


def load_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for `load_data`: one class is enough."""
    return {"fewest_classes": 1}


def check(model: keras.Model, data: Data) -> str:
    """Raises InputError unless the model has a generator of such images, and there are enough images; returns "float32"."""
    check_count(data)
    check_generator(model, data)
    return "float32"


def compile_arguments(config: Config) -> dict[str, Any]:
    """None: the model has its own losses, which use no weights of images; raises InputError if the settings give some."""
    for setting in ("class_weight", "sample_weights"):
        if getattr(config, setting):
            raise InputError("task=generation does not use weights of images: omit {setting}.", setting=setting)
    return {}


def watch(data: Data, file: Path) -> keras.callbacks.Callback:
    """`GanMonitor`, which writes its pictures next to `file`."""
    return GanMonitor(data, file=file.with_name(GRIDS))


def judge(model: keras.Model, data: Data, images: Images, question: Question) -> Judged:
    """Compares 2,000 samples (no more than there are real images) with real images.

    Args:
        model: A model with a generator.
        data: The data that the images belong to; the judge was trained on half of its validation images.
        images: The real images to compare with; from validation, the other half.
        question: What the evaluation asks.
    """
    reference, at = make_reference(data, images, MOST, question.is_validation)
    conditional, count = takes_labels(model), reference.count
    labels = draw_labels(reference.labels, count) if conditional else None
    samples = generate_images(model, count, labels=labels)
    measured = measure_samples(samples, reference)
    numbers = measured.numbers
    metrics: dict[str, float | None] = {
        "kid": numbers["kid"], "precision": numbers["precision"], "recall": numbers["recall"],
        "copies": numbers["copies"],
    }  # fmt: skip
    if conditional and reference.judge.has_classes:
        metrics["right_class"] = float((measured.probabilities.argmax(axis=1) == labels).mean())
    reach = 1.96 * float(np.hypot(numbers["error"], reference.floor["kid_sd"]))
    result = {
        "images": len(at), "headline": "kid", "better": "lower", "metrics": metrics,
        "intervals": {"kid": [numbers["kid"] - reach, numbers["kid"] + reach]},
        **describe(numbers, reference, data.class_names),
    }  # fmt: skip
    arrays = {
        "names": np.array([images.names[number] for number in at]),
        "hashes": np.array([images.hashes[number] for number in at]),
        "truth": reference.labels.astype(np.int32),
        "values": measured.by_real,
    }
    figures = draw_generation(
        question.run, question.split, result, samples, measured.nearest, reference.train, result["classes"],
        read_grids(question.folder), question.all_figures,
    )  # fmt: skip
    return Judged(result, arrays, figures)


def read_grids(folder: Path | None) -> np.ndarray | None:
    """The images that the training kept for each epoch, `uint8 [epochs, 16, height, width, channels]`; None if they are missing or damaged."""
    if folder is None:
        return None
    try:
        grids = read_arrays(folder / GRIDS, folder, ("grids",))["grids"]
    except (FileNotFoundError, UnreadableFile, KeyError, ValueError):
        return None
    return grids if grids.ndim == 5 and grids.dtype == np.uint8 else None


def draw_walk(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    """Draws walks from one noise to another: if images change gradually and not in leaps, the network has not memorised its training images."""
    draw = np.random.default_rng(2)
    ends = draw.normal(size=(WALKS, 2, find_noise_size(model))).astype(np.float32)
    share = np.linspace(0, 1, STEPS, dtype=np.float32)[None, :, None]
    noise = ends[:, :1] * np.cos(share * np.pi / 2) + ends[:, 1:] * np.sin(share * np.pi / 2)  # keeps its usual length
    labels = np.repeat(np.arange(WALKS, dtype=np.int32) % data.num_classes, STEPS) if takes_labels(model) else None
    images = generate_images(model, WALKS * STEPS, noise=noise.reshape(WALKS * STEPS, -1), labels=labels)
    change = np.sqrt(np.square(np.diff(images.reshape(WALKS, STEPS, -1).astype(np.float32), axis=1)).mean(axis=2))
    table = pd.DataFrame(
        {
            "walk": np.repeat(np.arange(1, WALKS + 1), STEPS - 1),
            "step": np.tile(np.arange(1, STEPS), WALKS),
            "change": change.ravel(),
        }
    )
    figure = Figure(figsize=(0.8 * STEPS, 0.8 * WALKS + 0.5), layout="constrained")
    set_heading(figure, caption("{run}: from one noise to another", run=run.name))
    for axes, image in zip(figure.subplots(WALKS, STEPS).ravel(), images, strict=True):
        show_image(axes, image, "")
    return figure, table


def draw_neighbours(run: Run, model: keras.Model, data: Data) -> tuple[Figure, pd.DataFrame]:
    """Draws samples next to the training image that each is nearest to, allowing for shifts."""
    count = 12
    labels = draw_labels(data.images("train").labels, count) if takes_labels(model) else None
    samples, train = generate_images(model, count, labels=labels), data.sample("train", MOST_TRAIN)
    nearest = find_nearest(samples, train.pixels)
    table = pd.DataFrame({"distance": nearest.distance, "image": [train.names[number] for number in nearest.number]})
    title = caption("{run}: samples and their nearest training images", run=run.name)
    return plot_pairs(samples, nearest, train.pixels, np.argsort(nearest.distance), title), table


def generate(run: Run, model: keras.Model, count: int = 64, seed: int = 0, label: str | None = None) -> np.ndarray:
    """Makes images with a run's model, `uint8 [count, height, width, channels]`.

    Args:
        run: The run.
        model: Its model.
        count: Number of images, 1 to 100,000.
        seed: Seed of the noise.
        label: The class that is asked for, if the model uses classes; all classes in turn unless given.

    Raises:
        InputError: The class does not exist, or the model uses no classes; the count is out of range.
    """
    if not 1 <= count <= 100_000:
        raise InputError("--count {count}: 1 to 100000 images.", count=count)
    if seed < 0:
        raise InputError("--seed {seed}: a whole number, 0 or more.", seed=seed)
    names, labels = run.split["class_names"], None
    if takes_labels(model):
        labels = np.arange(count, dtype=np.int32) % len(names)
        if label is not None:
            if label not in names:
                raise InputError(
                    "--label: '{name}' is not a class. {nearest}", name=label, nearest=name_nearest(label, names)
                )
            labels[:] = names.index(label)
    elif label is not None:
        raise InputError(
            "--label {name}: the run {run} was trained without labels, and cannot generate a chosen class. Train with "
            "model_options.conditional=true.",
            name=label,
            run=run.path,
        )
    return generate_images(model, count, seed, labels)


TASK = Task(
    check,
    compile_arguments,
    watch,
    judge,
    best=("val_kid", "min"),
    loads=load_arguments,
    inspect={"walk": draw_walk, "neighbours": draw_neighbours},
    has_classes=False,
    mutes=frozenset({"small_validation", "reference_accuracy"}),
)
