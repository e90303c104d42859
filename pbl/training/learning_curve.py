"""Would more data help? Trains on an eighth, a quarter, a half and all of the images, and predicts the gain from doubling the data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pbl.config import Config
from pbl.data.doctor import FEWEST_IN_CLASS
from pbl.errors import InputError, Sentence
from pbl.reports.drawing import caption
from pbl.runs import load_run
from pbl.statistics import extrapolate_doubling
from pbl.storage.writing import replacing, write_table
from pbl.tasks import open_data
from pbl.training.contrast_curve import measure_arms
from pbl.training.figures import plot_data_size
from pbl.training.sweep import run_sweep, tell_progress

FRACTIONS = (0.125, 0.25, 0.5, 1.0)
LITTLE = 0.01  # gain in accuracy; less is not worth twice the work


@dataclass(frozen=True)
class LearningCurve:
    """What `measure_learning_curve` found.

    Attributes:
        table: One row for each run: `train_fraction`, `images`, `seed`, `val_accuracy` and more.
        expected, low, high: Expected accuracy on validation with twice as many training images, and its 95% interval;
            None if a run failed.
        message: The answer in a sentence.
        file, picture: Files of the table and the picture.
    """

    table: pd.DataFrame
    expected: float | None
    low: float | None
    high: float | None
    message: str
    file: Path
    picture: Path | None


def measure_learning_curve(
    config: Config, seeds: int = 1, folder: str | Path | None = None, tell: Callable[[str], None] = tell_progress
) -> LearningCurve:
    """Trains on growing shares of the training images, for equally many steps, and predicts the accuracy with twice as many.

    Each share is a run of its own, so finished runs are not trained again. It takes four times the epochs of one run
    for each seed. Shares that leave a class fewer than five images are skipped; warm-up and fine-tuning epochs stay as
    they are set.

    For `task=contrast` it measures how useful few labels are, and trains other arms (`pbl.training.contrast_curve`).

    Args:
        config: The settings; `epochs` are those for all images, smaller shares get as many times more as they are smaller.
        seeds: How many seeds each share is trained with.
        folder: Where runs are kept.
        tell: Called with each line of progress.

    Returns:
        The accuracy that is expected with twice as many images, with its interval; the table of the runs; the answer in a sentence.

    Raises:
        InputError: `train_fraction` is set already; a class has fewer than ten training images.

    Example:
        >>> import pbl
        >>> config = pbl.Config(experiment="curve", model="softmax_regression", epochs=1)
        >>> curve = pbl.measure_learning_curve(config, tell=lambda line: None)
        act: Classes with fewer than 20 training images: 10, ...
        >>> curve.table["images"].tolist()
        [135, 266, 534, 1069]
        >>> bool(curve.low <= curve.expected <= curve.high)
        True
    """
    if config.task == "contrast":
        table, message, file, picture = measure_arms(config, seeds, folder, tell)
        return LearningCurve(table, None, None, None, message, file, picture)
    config.check_is_classifier("train --learning-curve")
    if config.train_fraction < 1:
        raise InputError("--learning-curve sets train_fraction itself: leave it out.")
    rarest = int(np.bincount(open_data(config).images("train").labels).min())
    if rarest * FRACTIONS[-2] < FEWEST_IN_CLASS:
        raise InputError(
            "{source} is too small for a learning curve: its rarest class has {rarest} training images, but half of them must be at least {fewest}.",
            source=config.dataset,
            rarest=rarest,
            fewest=FEWEST_IN_CLASS,
        )
    planned = []
    for fraction in FRACTIONS:
        if rarest * fraction < FEWEST_IN_CLASS:
            continue
        # The run on all images may exist already: its settings are not changed.
        changes = {} if fraction == 1 else {"train_fraction": fraction, "epochs": round(config.epochs / fraction)}
        for seed in range(config.seed, config.seed + seeds):
            planned.append(({"train_fraction": fraction, "seed": seed}, config.replace(**changes, seed=seed)))
    table, file = run_sweep(planned, folder, tell)
    if len(table) < len(planned) or (table["status"] != "finished").any():
        return LearningCurve(
            table, None, None, None, Sentence("Not all runs are trained: the same command resumes."), file, None
        )
    correct: dict[float, list[np.ndarray]] = {}
    images = []
    for fraction, path in zip(table["train_fraction"], table["run"], strict=True):
        run = load_run(path)
        images.append(run.split["images"]["train"])
        saved = run.read_predictions("val")
        correct.setdefault(fraction, []).append(saved.probabilities.argmax(axis=1) == saved.labels)
    table.insert(1, "images", images)
    half, full = (np.stack(correct[fraction]) for fraction in (0.5, 1.0))
    expected, low, high, gain_low, gain_high = extrapolate_doubling(half, full)
    now, count = float(full.mean()), max(images)
    if gain_low > 0:
        verdict = Sentence("more data would help.")
    elif gain_high < LITTLE:
        verdict = Sentence("more data of this kind would help little.")
    else:
        verdict = Sentence("too noisy to decide whether more data would help. More seeds give a narrower interval.")
    message = Sentence(
        "With all {images:,} training images {now:.1%} of the validation images are right; with {twice:,} expect {expected:.1%},"
        " between {low:.1%} and {high:.1%}: {verdict}",
        images=count,
        now=now,
        twice=2 * count,
        expected=expected,
        low=low,
        high=high,
        verdict=verdict,
    )
    picture = file.with_name("learning_curve.png")
    with replacing(picture) as temporary:
        title = caption("{experiment}: more data?", experiment=config.experiment)
        plot_data_size(table, expected, low, high, title).savefig(temporary, dpi=120)
    write_table(file, table)
    return LearningCurve(table, expected, low, high, message, file, picture)
