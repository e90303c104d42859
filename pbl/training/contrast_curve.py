"""How useful an encoder is that learned by contrast, compared with training from scratch: with 1%, 5%, 10% and all of the labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pbl.config import Config
from pbl.errors import InputError, Sentence, join_sentences
from pbl.evaluation.contrast_figures import plot_probes
from pbl.reports.drawing import caption
from pbl.runs import load_run
from pbl.statistics import crossed_interval, crossed_mean_interval, paired_interval, summarise_seeds
from pbl.storage.writing import replacing, write_table
from pbl.tasks import open_data
from pbl.training.sweep import run_sweep

SHARES = (0.01, 0.05, 0.1, 1.0)
STEPS, BATCH, MOST_EPOCHS = (
    600,
    32,
    60,
)  # for training from scratch; with few images the batches are smaller, so that there are equally many steps
ARMS = ("scratch", "augmented", "tuned")


def measure_arms(
    config: Config, seeds: int, folder: str | Path | None, tell: Callable[[str], None]
) -> tuple[pd.DataFrame, Sentence, Path, Path | None]:
    """Trains the encoder, and classifiers of the same layers on few labels and on all; draws all arms in one figure.

    Classifiers are trained from scratch, from scratch with the same augmentation, and fine-tuned from the encoder (`initial_weights`), each for about
    600 steps, however many images there are, and at least for as many epochs as the encoder. The results of the encoder's probe, and of the controls' probes, come from its runs.

    Args:
        config: Settings of the encoder.
        seeds: Number of seeds for each.
        folder: Where runs are kept.
        tell: Called with each line of progress.

    Returns:
        One row for each run; the answer; the file of the table; and the file of the picture, None if a run failed.

    Raises:
        InputError: Classes are identities; the network learned with labels.
    """
    if config.task_options.get("identities") or config.model != "simclr":
        raise InputError(
            "--learning-curve measures how useful few labels are: it needs model=simclr, whose training uses none, and classes that are not identities."
        )
    images = open_data(config).images("train").labels
    shares = [share for share in SHARES if share == 1 or share * len(images) >= 2 * len(np.unique(images))]
    encoders = [({"arm": "encoder", "seed": seed}, config.replace(seed=seed)) for seed in _count(config, seeds)]
    table, file = run_sweep(encoders, folder, tell)
    if len(table) < seeds or (table["status"] != "finished").any():
        return table, Sentence("Not all runs are trained: the same command resumes."), file, None
    start = dict(zip(table["seed"], table["run"], strict=True))
    planned = [
        (
            {"arm": arm, "share": share, "seed": seed},
            _make_classifier(config, arm, share, seed, len(images), start[seed]),
        )
        for share in shares
        for arm in ARMS
        for seed in _count(config, seeds)
    ]
    others, file = run_sweep(planned, folder, tell)
    table = pd.concat([table, others], ignore_index=True)
    write_table(file, table)
    if len(others) < len(planned) or (others["status"] != "finished").any():
        return table, Sentence("Not all runs are trained: the same command resumes."), file, None
    levels = [_join_arms(table, others, share, config) for share in shares]
    picture = file.with_name("learning_curve.png")
    with replacing(picture) as temporary:
        title = caption(
            "{experiment}: how useful few labels are, {n} {n:seed|seeds}", experiment=config.experiment, n=seeds
        )
        plot_probes(levels, title).savefig(temporary, dpi=120)
    return table, join_sentences([_tell(level) for level in levels]), file, picture


def _count(config: Config, seeds: int) -> range:
    return range(config.seed, config.seed + seeds)


def _make_classifier(config: Config, arm: str, share: float, seed: int, images: int, encoder: str) -> Config:
    """The settings of a classifier with the encoder's layers, on a share of the labels."""
    options, labels = config.model_options, share * images
    batch = int(np.clip(labels * MOST_EPOCHS / STEPS, 4, BATCH))
    epochs = max(
        config.epochs if labels > STEPS * BATCH / MOST_EPOCHS else 1, min(MOST_EPOCHS, round(STEPS * batch / labels))
    )
    return config.replace(
        task="classification", task_options={}, model=options.get("encoder", "resnet20"),
        model_options=options.get("encoder_options") or {}, seed=seed, train_fraction=share * config.train_fraction,
        batch_size=batch, epochs=epochs, augmentation=config.augmentation if arm != "scratch" else {}, learning_rate=1e-3,
        initial_weights=encoder if arm == "tuned" else None, callbacks=[], data_check="report",  # few labels are intended
    )  # fmt: skip


def _join_arms(table: pd.DataFrame, others: pd.DataFrame, share: float, config: Config) -> dict[str, Any]:
    """For one number of labels: the accuracy of each arm over the seeds, and the differences between the encoder and the trained classifiers."""
    runs = [load_run(path) for path in table["run"][table["arm"] == "encoder"]]
    found = [run.read_json("metrics_val.json")["contrast"]["levels"] for run in runs]
    wanted = share * runs[0].split["images"]["train"]
    place = min(range(len(found[0])), key=lambda at: abs(np.log(found[0][at]["labels"] / wanted)))
    arms = []
    for at, of in enumerate(found[0][place]["arms"]):
        values = [levels[place]["arms"][at]["accuracy"] for levels in found]
        ends = [(levels[place]["arms"][at]["low"], levels[place]["arms"][at]["high"]) for levels in found]
        low, high = np.mean(ends, axis=0)
        arms.append({**of, "accuracy": float(np.mean(values)), "low": float(min(low, *values)), "high": float(max(high, *values))})  # fmt: skip
    ours = np.stack([_read_probes(run)[:, place] for run in runs])
    differences = {}
    for arm in ARMS:
        chosen = others[(others["arm"] == arm) & (others["share"] == share)]
        saved = [load_run(path).read_predictions("val") for path in chosen["run"]]
        right = np.stack([of.probabilities.argmax(axis=1) == of.labels for of in saved])
        summary = summarise_seeds(right)
        low, high = crossed_mean_interval(summary)
        arms.append({"name": arm, "way": "train", "accuracy": summary.accuracy, "low": low, "high": high})
        differences[arm] = _compare(ours, right)
    return {"labels": found[0][place]["labels"], "arms": arms, "differences": differences}


def _read_probes(run: Any) -> np.ndarray:
    """How often the encoder's probe was right on each validation image, `float [n, levels]`, 0 to 1: the mean over the draws of the labels."""
    with np.load(run.path / "predictions_val.npz", allow_pickle=False) as saved:
        return saved["probes"].astype(np.float64)


def _compare(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """The difference on the same images and its 95% interval, over seeds and images; with one seed over the images."""
    if len(ours) > 1:
        found = crossed_interval(summarise_seeds(ours), summarise_seeds(theirs))
        return found.difference, found.low, found.high
    one, other = ours[0] >= 0.5, theirs[0].astype(bool)
    both, first, second = (one & other).sum(), (one & ~other).sum(), (other & ~one).sum()
    low, high = paired_interval(int(both), int(first), int(second), len(one))
    return float((first - second) / len(one)), low, high


def _tell(level: dict[str, Any]) -> Sentence:
    accuracy = {(of["name"], of["way"]): of["accuracy"] for of in level["arms"]}
    scratch, augmented = (level["differences"][name] for name in ("scratch", "augmented"))
    return Sentence(
        "With {labels:,} labels the probe has {probe:.1%}, training from scratch {scratch:.1%} ({value:+.1%}, 95% interval {low:+.1%} to"
        " {high:+.1%}), with the same augmentation {augmented:.1%} ({value_a:+.1%}, {low_a:+.1%} to {high_a:+.1%}), fine-tuned {tuned:.1%},"
        " the nearest neighbour in pixels {pixels:.1%}.",
        labels=level["labels"], probe=accuracy["encoder", "probe"], scratch=accuracy["scratch", "train"],
        value=scratch[0], low=scratch[1], high=scratch[2], augmented=accuracy["augmented", "train"],
        value_a=augmented[0], low_a=augmented[1], high_a=augmented[2], tuned=accuracy["tuned", "train"],
        pixels=accuracy["pixels", "nearest"],
    )  # fmt: skip
