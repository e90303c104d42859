"""The runs of a comparison, read from their files: what each predicts for each image, and which of them differ only in their seed."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from pbl.comparison.own_code import hash_own_code
from pbl.config import Config, flatten
from pbl.errors import InputError, Sentence
from pbl.languages import is_known
from pbl.runs import Run, find_places, runs_on
from pbl.storage.escapes import for_shell
from pbl.storage.reading import UnreadableFile
from pbl.storage.schemas import Cost, HeadlineMetrics

# Settings in which runs of one architecture may differ: who ran it, and what does not change the result.
ASIDE = ("seed", "experiment", "data_dir", "memory_budget", "data_check", "on_bad_image", "positive_class")


class Failure(NamedTuple):
    """A training that left no run: its experiment, its seed, and the reason."""

    model: str
    seed: int
    reason: str


@dataclass
class Entry:
    """One run of a comparison, read from its files.

    Attributes:
        run: The run; None for a training that never made one.
        model: The builder's name.
        settings: Everything that decides the result, except the seed.
        is_pretrained: Whether its initial weights were not random.
        reason: Why it is not compared; "" if it is.
        lacks_predictions: Whether the reason is that predictions of this split are missing.
        folds: `int [n]`, the fold of each image; only in a cross-validation.
        labels, values: `int [n]`, the class of each image; and the run's result for it, in the order of `hashes`: `bool [n]`, whether
            the class was found; for another task `float [n]`, whose mean is the measure.
        measure: What the mean of `values` is: "accuracy", or the headline of another task.
        is_less_better: Whether a lower measure is the better one: `values` and `best` then have the opposite sign, so that more is better.
        own_error: The standard error of the measure that the values of the images do not show: that of the draw of the generated images.
        best: The measure of the kept model on validation, by which a run is chosen; None if it is not known.
        row: Its columns in `results.csv`.
        parts: In a cross-validation, the entries of its folds, which this one pools; otherwise empty.
    """

    run: Run | None
    model: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    is_pretrained: bool = False
    reason: str = ""
    lacks_predictions: bool = False
    images: str = ""
    hashes: np.ndarray | None = None
    labels: np.ndarray | None = None
    values: np.ndarray | None = None
    measure: str = "accuracy"
    is_less_better: bool = False
    own_error: float = 0.0
    best: float | None = None
    folds: np.ndarray | None = None
    history: tuple[np.ndarray, np.ndarray] | None = None
    label: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    parts: list["Entry"] = field(default_factory=list)

    @cached_property
    def key(self) -> str:
        """The settings as one string."""
        return json.dumps(self.settings, sort_keys=True)


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Returns the runs in some folders, each once; a folder is a run's own or contains runs.

    Raises:
        InputError: A folder does not exist or contains no run.
    """
    found: dict[Path, Run] = {}
    places = {place: str(path) for path in paths for place in find_places(path)}
    for path, word in places.items():
        files = [path / "config.json"] if (path / "config.json").is_file() else sorted(path.glob("**/config.json"))
        if not files and len(places) > 1 and (path.is_file() or str(path) != word or _lies_beside_runs(path)):
            continue  # what lies next to the runs, which runs/*/* matches too: tables, pictures, the folder of a search
        if not files:
            what = (
                Sentence("contains no run")
                if path.is_dir()
                else Sentence("is not a folder")
                if path.exists()
                else Sentence("does not exist")
            )
            raise InputError(
                "{path} {what}. Give folders of runs, such as runs/digits_resnet20/001, or of several, such as runs/digits_*.",
                path=path,
                what=what,
            )
        for file in files:
            found.setdefault(file.parent.resolve(), Run(file.parent))
    if not found:
        raise InputError("No run in {paths}. Train one first: python -m pbl train.", paths=", ".join(map(str, paths)))
    return list(found.values())


def _lies_beside_runs(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.isdecimal() and any(folder.parent.glob("*/config.json"))


def read_entry(run: Run, split: str) -> Entry:
    """Reads what a comparison needs from a run; one that failed, was interrupted or is damaged gets its reason.

    Args:
        run: The run.
        split: "val" or "test".
    """
    try:
        config, environment = run.config, run.environment
    except InputError as error:
        return Entry(run, "?", 0, reason=Sentence(error.template, **error.fields))
    settings = _choose_deciding(config)
    if code := hash_own_code(run.path / "experiment.py", config):
        settings["code"] = code
    options = environment.get("builder_options") or {}
    starts = (config.initial_weights, options.get("weights"), config.model_options.get("weights"))
    # A backbone that comes with weights uses them by default.
    is_pretrained = any(starts) or (config.model.endswith("_transfer") and "weights" not in config.model_options)
    entry = Entry(run, config.model, config.seed, settings, is_pretrained, images=environment.get("images", "unknown"))
    entry.row = {
        "run": str(run.path),
        "model": config.model,
        "seed": config.seed,
        **({"fold": config.fold} if config.folds else {}),
        "status": environment.get("status", "unknown"),
        "images": entry.images,
        "epochs": environment.get("epochs"),
        "train_seconds": (environment.get("seconds") or {}).get("fit"),
        "parameters": environment.get("trainable_weights"),
        "device": (environment.get("devices") or ["?"])[-1],
        "precision": environment.get("precision"),
        "pretrained": is_pretrained,
    }
    if entry.row["status"] != "finished":
        why = f": {environment['reason']}" if environment.get("reason") else ""
        status = entry.row["status"]
        entry.reason = Sentence("{status}{why}", status=Sentence(status) if is_known(status) else status, why=why)
    elif config.is_classifier:
        _add_results(entry, split)
    else:
        _add_values(entry, split)
    return entry


def _choose_deciding(config: Config) -> dict[str, Any]:
    """The settings that define an architecture."""
    return {name: value for name, value in config.decides().items() if name not in ASIDE}


def _add_results(entry: Entry, split: str) -> None:
    """Adds which images a finished run got right, or the reason why it cannot be compared."""
    run = entry.run
    try:
        predictions = run.read_predictions(split)
    except UnreadableFile as error:
        entry.reason = Sentence(error.template, **error.fields)
        return
    except InputError as error:
        entry.lacks_predictions = isinstance(error.__cause__, FileNotFoundError)
        kind = type(error.__cause__).__name__
        entry.reason = (
            Sentence("no predictions of {split}", split=split)
            if entry.lacks_predictions
            else Sentence("predictions_{split}.npz cannot be read ({kind})", split=split, kind=kind)
        )
        return
    try:
        metrics, test_uses = run.read_json(f"metrics_{split}.json"), run.count_test_uses()
    except InputError as error:
        entry.reason = Sentence(error.template, **error.fields)
        return
    if not np.isfinite(predictions.probabilities).all():
        entry.reason = Sentence("its probabilities are not all numbers: the training diverged")
        return
    entry.hashes, entry.labels, entry.values = predictions.by_content()
    accuracy, images = entry.values.mean(), len(entry.values)
    told = metrics.get("accuracy"), metrics.get("images")
    if (told[0] is not None and abs(told[0] - accuracy) > 1e-6) or told[1] not in (None, images):
        entry.reason = Sentence("metrics_{split}.json does not belong to these predictions", split=split)
        return
    entry.history = _read_history(run)
    entry.row |= {
        "split": split,
        "n": len(entry.values),
        "accuracy": float(entry.values.mean()),
        "macro_f1": (metrics.get("macro") or {}).get("f1"),
        "log_loss": metrics.get("log_loss"),
        "ece": (metrics.get("calibration") or {}).get("ece"),
        "test_uses": test_uses,
        "best_val_accuracy": float(np.nanmax(entry.history[0])) if entry.history else None,
    }
    # Not the highest accuracy of all epochs: the model that was kept is that of the lowest validation loss.
    with contextlib.suppress(InputError):
        best = (metrics if split == "val" else run.read_json("metrics_val.json")).get("accuracy")
        entry.best = float(best) if isinstance(best, int | float) and np.isfinite(best) else None
    _add_cost(entry)


def _add_values(entry: Entry, split: str) -> None:
    """Adds a value for each image of a finished run of another task than classification, or the reason why there is none."""
    run = entry.run
    try:
        metrics, test_uses = _read_headline(run, split), run.count_test_uses()
        hashes, labels, values = run.read_values(split)
    except UnreadableFile as error:
        entry.reason = Sentence(error.template, **error.fields)
        return
    except InputError as error:
        entry.lacks_predictions = isinstance(error.__cause__, FileNotFoundError)
        entry.reason = Sentence("task={task}: no value for each image of {split}", task=run.config.task, split=split)
        return
    measure, mean = metrics.headline, float(values.mean())
    told, interval = metrics.metrics.get(measure), metrics.intervals.get(measure)
    is_inside = interval is None or interval[0] - 1e-6 <= mean <= interval[1] + 1e-6
    if told is None or abs(told - mean) > 1e-6 or not is_inside:
        entry.reason = Sentence("metrics_{split}.json does not belong to these predictions", split=split)
        return
    if measure == "kid":
        own_error = _read_own_error(run, split)
        if own_error is None:
            entry.reason = Sentence("metrics_{split}.json does not belong to these predictions", split=split)
            return
        entry.own_error = own_error
    entry.is_less_better = metrics.better == "lower"
    sign = -1 if entry.is_less_better else 1
    entry.measure, entry.hashes, entry.labels, entry.values = measure, hashes, labels, sign * values
    with contextlib.suppress(InputError):
        best = _read_headline(run, "val").metrics.get(measure)
        entry.best = None if best is None else sign * best
    low, high = (
        (min(interval[0], mean), max(interval[1], mean)) if interval else (None, None)
    )  # rounding must not put the mean outside
    entry.row |= {"split": split, "n": len(values), measure: mean, "low": low, "high": high, "test_uses": test_uses}
    _add_cost(entry)


def _read_headline(run: Run, split: str) -> HeadlineMetrics:
    """Raises InputError if the metrics of a split are missing, or do not name the measure by which the run is judged."""
    try:
        return HeadlineMetrics.model_validate(run.read_json(f"metrics_{split}.json"))
    except ValidationError:
        raise InputError("metrics_{split}.json does not belong to these predictions", split=split) from None


def _read_own_error(run: Run, split: str) -> float | None:
    """The standard error of a kernel distance that comes from the draw of the generated images; None if it is not known."""
    samples = run.read_json(f"metrics_{split}.json").get("samples")
    samples = samples if isinstance(samples, dict) else {}
    # A run that was evaluated before the part was stored has only the whole error, which is never smaller: too cautious, not too sure.
    error = samples.get("generated_error", samples.get("error"))
    is_possible = isinstance(error, int | float) and np.isfinite(error) and error >= 0
    return float(error) if is_possible else None


def _add_cost(entry: Entry) -> None:
    run = entry.run
    if run.holds("cost.json"):
        with contextlib.suppress(InputError):  # if damaged, as if it had not been measured
            entry.row |= {
                "throughput_batch": 256,  # a run that was measured before the file named it
                **{name: value for name, value in run.read_json("cost.json").items() if name in Cost.model_fields},
            }


def _read_history(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation accuracy after each epoch, and the seconds until then."""
    try:
        table = run.read_table("history.csv", "val_accuracy", "seconds")
        rows = [[float(row[name] or "nan") for name in ("val_accuracy", "seconds")] for row in table]
    except (FileNotFoundError, ValueError):
        return None
    accuracy, seconds = np.array(rows).reshape(-1, 2).T
    are_possible = np.isfinite(accuracy).any() and (seconds >= 0).all() and not (np.abs(accuracy - 0.5) > 0.5).any()
    return (accuracy, seconds.cumsum()) if are_possible else None


# Settings that decide which images are trained on, and judged.
OF_IMAGES = "dataset split_seed validation_fraction train_fraction folds fold groups leave_out on_bad_image image_size channels fit".split()


def _tell_differing(first: Run, other: Run) -> str:
    """The settings of the data in which two runs differ, in brackets."""
    with contextlib.suppress(InputError, FileNotFoundError):
        one, two = first.config, other.config
        differing = [name for name in OF_IMAGES if getattr(one, name) != getattr(two, name)]
        return Sentence(" ({settings})", settings=", ".join(differing)) if differing else ""
    return ""


def check_same(entries: list[Entry], split: str) -> None:
    """Raises InputError unless all usable runs are judged on exactly the same images."""
    known = [entry for entry in entries if entry.hashes is not None]
    lacking = [entry for entry in entries if entry.lacks_predictions]
    if lacking and (known or split == "test"):
        raise InputError(
            "{run} has no predictions of the {split} split, so its score would be compared with scores on other images. First: python -m pbl "
            "evaluate {run} --split {split}",
            run=for_shell(lacking[0].run.path),
            split=split,
        )
    first = known[0] if known else None
    for entry in known[1:]:
        if entry.measure != first.measure:
            raise InputError(
                "{first} is measured by {one}, {other} by {another}: compare runs of one task.",
                first=first.run.path,
                one=first.measure,
                other=entry.run.path,
                another=entry.measure,
            )
        if entry.images != first.images:
            raise InputError(
                "{first} and {other} were trained on different images or another split{which}: a difference between them would say nothing about "
                "the models. Name runs with the same data: python -m pbl compare RUN RUN ...",
                first=first.run.path,
                other=entry.run.path,
                which=_tell_differing(first.run, entry.run),
            )
        if not np.array_equal(entry.hashes, first.hashes):
            raise InputError(
                "{first} and {other} were evaluated on different {split} images. Evaluate both again on the same data: python -m pbl evaluate RUN "
                "--split {split}",
                first=first.run.path,
                other=entry.run.path,
                split=split,
            )
        if not np.array_equal(entry.labels, first.labels):
            raise InputError(
                "{first} and {other} were evaluated on the same {split} images with different labels. Evaluate both again on the same data: python "
                "-m pbl evaluate RUN --split {split}",
                first=first.run.path,
                other=entry.run.path,
                split=split,
            )


def pool_folds(entries: list[Entry], split: str) -> list[Entry]:
    """Pools the folds of each cross-validation: one entry for each seed, in which each image is judged once.

    Runs that all have the same fold are left as they are: they are judged on the same images. A seed that lacks a fold is not compared.

    Raises:
        InputError: `split` is "test": each fold has a model of its own, and all of them would be judged on the same images.
    """
    folded = [entry for entry in entries if entry.settings.get("folds")]
    if len({(entry.settings["folds"], entry.settings["fold"]) for entry in folded}) < 2:
        return entries
    if split == "test":
        raise InputError("The folds of a cross-validation are compared on validation: omit --split test.")
    pooled: dict[tuple[str, int], list[Entry]] = {}
    for entry in folded:
        if not entry.reason:
            settings = {name: value for name, value in entry.settings.items() if name != "fold"}
            pooled.setdefault((json.dumps(settings, sort_keys=True), entry.seed), []).append(entry)
    put_together = []
    for parts in pooled.values():
        by_fold = {entry.settings["fold"]: entry for entry in reversed(parts)}
        lacking = [str(fold) for fold in range(parts[0].settings["folds"]) if fold not in by_fold]
        put_together.append(_pool([by_fold[fold] for fold in sorted(by_fold)], lacking))
        for entry in parts:
            if entry is not by_fold[entry.settings["fold"]]:
                entry.reason = _say_repeated(by_fold[entry.settings["fold"]])
    inside = {id(part) for entry in put_together for part in entry.parts}
    return [*put_together, *(entry for entry in entries if id(entry) not in inside)]


def _pool(parts: list[Entry], lacking: list[str]) -> Entry:
    first = parts[0]
    settings = {name: value for name, value in first.settings.items() if name != "fold"}
    is_pretrained = any(part.is_pretrained for part in parts)
    whole = Entry(
        first.run,
        first.model,
        first.seed,
        settings,
        is_pretrained,
        measure=first.measure,
        is_less_better=first.is_less_better,
        parts=parts,
    )
    if lacking:
        whole.reason = Sentence("the folds {folds} of its cross-validation are missing", folds=", ".join(lacking))
        whole.row = {**first.row, "folds": first.settings["folds"]}
        return whole
    hashes, labels, values = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "labels", "values")
    )
    order = np.lexsort((labels, hashes))  # in the same order as for one run: Predictions.by_content
    whole.hashes, whole.labels, whole.values = hashes[order], labels[order], values[order]
    whole.folds = np.repeat(np.arange(len(parts)), [len(part.values) for part in parts])[order]
    whole.images = " ".join(sorted(part.images for part in parts))
    sign = -1 if first.is_less_better else 1
    whole.row = {**first.row, "folds": len(parts), "n": len(order), first.measure: sign * float(whole.values.mean())}
    known = [part.best for part in parts if part.best is not None]
    whole.best = float(np.mean(known)) if known else None
    if "best_val_accuracy" in first.row:
        reached = [part.row["best_val_accuracy"] for part in parts if part.row["best_val_accuracy"] is not None]
        whole.row["best_val_accuracy"] = float(np.mean(reached)) if reached else None
    for name in ("macro_f1", "log_loss", "ece"):  # computed for all images together, not the mean of the folds
        whole.row[name] = None
    whole.row["train_seconds"] = sum(part.row["train_seconds"] or 0 for part in parts)
    return whole


def set_repetitions_aside(entries: list[Entry]) -> None:
    """Gives a reason to a run with the settings and the seed of an earlier one: otherwise it would count as one more seed."""
    first: dict[tuple[str, str, int], Entry] = {}
    for entry in entries:
        if entry.reason:
            continue
        known = first.setdefault((entry.model, entry.key, entry.seed), entry)
        if known is not entry:
            entry.reason = _say_repeated(known)


def _say_repeated(known: Entry) -> Sentence:
    return Sentence(
        "it has the settings and the seed of {run}, so it does not count as another seed", run=known.run.path
    )


def label_entries(entries: list[Entry]) -> None:
    """Gives runs that differ only in their seed one label: the model's name, and settings if needed to distinguish labels."""
    of_model: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        if entry.settings:
            of_model.setdefault(entry.model, {}).setdefault(entry.key, flatten(entry.settings))
    told: dict[str, list[str]] = {}
    for model, settings in of_model.items():
        names = sorted(set().union(*settings.values()))
        told[model] = [name for name in names if len({str(flat.get(name)) for flat in settings.values()}) > 1]
    for entry in entries:
        own = of_model[entry.model][entry.key] if entry.settings else {}
        entry.label = " ".join(
            [entry.model, *(f"{name}={own[name]}" for name in told.get(entry.model, ()) if name in own)]
        )


def count_trials(usable: list[Entry]) -> dict[str, int]:
    """How many different settings of each model were tried on these images, in the folder that contains the runs."""
    tried: dict[str, set[str]] = {}
    for folder in {entry.run.path.resolve().parent.parent for entry in usable}:
        for run in runs_on((usable[0].parts or usable)[0].images, folder):
            try:
                settings = _choose_deciding(run.config)
            except InputError:
                continue
            tried.setdefault(run.config.model, set()).add(json.dumps(settings, sort_keys=True))
    return {model: len(settings) for model, settings in tried.items()}
