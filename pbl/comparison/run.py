"""Runs compared: these trained models with each other, and, where each has several seeds, their architectures.

Two questions that are often taken for one. *Is this trained model better than that one?* is asked of the images: an exact
McNemar test, and a bootstrap over the images that both saw. *Is this architecture better than that one?* is asked of seeds
and images: training either again would give other weights, so each needs at least three seeds, and the interval is
`pbl.statistics.crossed_interval`. What is read are the runs' files; nothing is computed by Keras, nothing executed.
"""

import ast
import contextlib
import csv
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.runs import Run, runs_on
from pbl.statistics import (
    FEWEST_SEEDS,
    SeedSummary,
    adjust_holm,
    crossed_intervals,
    crossed_mean_interval,
    mcnemar_test,
    paired_bootstrap_interval,
    paired_interval,
    probability_of_best,
    seeds_to_separate,
    summarise_seeds,
)
from pbl.storage import replacing

ALPHA = 0.05
MOST_PAIRS = 300  # of architectures that are told
MOST_MODELS = 4  # of which every pair is told
# Where none of n images tells two models apart, up to about 4 in n of other images may (Newcombe's interval).
FEW_IMAGES = 4
FEWEST_DISCORDANT = 10  # images that tell two models apart, from which on a bootstrap of them means something
# Settings in which runs of one architecture may differ: who ran it, and what does not change the result.
ASIDE = ("seed", "experiment", "data_dir", "memory_budget", "data_check", "on_bad_image")


class Failure(NamedTuple):
    """A training that left no run: of an experiment, with a seed, and why."""

    model: str
    seed: int
    reason: str


@dataclass
class Entry:
    """One run of a comparison, as its files tell it.

    Attributes:
        run: The run; None of a training that never made one.
        model: The builder's name.
        settings: All that decides the result but for the seed.
        is_pretrained: Whether its weights began elsewhere than at random.
        reason: Why it is not compared; "" where it is.
        labels, correct: `int [n]` and `bool [n]`, class of each image and whether it was found, in the order of `hashes`.
        row: Its columns of `results.csv`.
    """

    run: Run | None
    model: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    is_pretrained: bool = False
    reason: str = ""
    images: str = ""
    hashes: np.ndarray | None = None
    labels: np.ndarray | None = None
    correct: np.ndarray | None = None
    history: tuple[np.ndarray, np.ndarray] | None = None
    label: str = ""
    row: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """The settings as one word."""
        return json.dumps(self.settings, sort_keys=True)


@dataclass
class Comparison:
    """What came out.

    Attributes:
        runs: One tidy row a run, failed ones included (`results.csv`).
        architectures: One row an architecture, the most accurate first.
        pairs: Of architectures: difference, interval, Holm's p, verdict; empty where seeds are too few.
        models: Of trained models: difference, interval, McNemar's p, verdict.
        notes: What must be said beside the tables.
        split, images, margin: What was judged; the margin in points of accuracy.
    """

    runs: pd.DataFrame
    architectures: pd.DataFrame
    pairs: pd.DataFrame
    models: pd.DataFrame
    notes: list[str]
    split: str
    images: int
    margin: float
    correct: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


def find_runs(paths: Iterable[str | Path]) -> list[Run]:
    """Returns the runs in some folders, each once: a run's own folder, or one that holds runs.

    Raises:
        InputError: A folder does not exist or holds no run.
    """
    found: dict[Path, Run] = {}
    for path in map(Path, paths):
        path = path.expanduser()
        files = [path / "config.json"] if (path / "config.json").is_file() else sorted(path.glob("**/config.json"))
        if not files:
            what = Sentence("holds no run") if path.is_dir() else Sentence("does not exist")
            raise InputError(
                "{path} {what}. Give folders of runs, such as runs/digits_resnet20/001, or of several, such as runs/digits_*.",
                path=path, what=what,
            )  # fmt: skip
        for file in files:
            found.setdefault(file.parent.resolve(), Run(file.parent))
    return list(found.values())


def read_entry(run: Run, split: str) -> Entry:
    """Reads what a comparison needs of a run; one that failed, was cut off or is damaged gets its reason.

    Args:
        run: The run.
        split: "val" or "test".
    """
    try:
        config, environment = run.config, run.environment
    except (InputError, OSError) as error:
        return Entry(
            run,
            "?",
            0,
            reason=Sentence(error.template, **error.fields) if isinstance(error, InputError) else str(error),
        )
    settings = {name: value for name, value in config.decides().items() if name not in ASIDE}
    if code := _name_code(run):
        settings["code"] = code
    options = environment.get("builder_options") or {}
    starts = (config.initial_weights, options.get("weights"), config.model_options.get("weights"))
    # A backbone that comes with weights takes them unless it is told otherwise.
    is_pretrained = any(starts) or (config.model.endswith("_transfer") and "weights" not in config.model_options)
    entry = Entry(run, config.model, config.seed, settings, is_pretrained, images=environment.get("images", "unknown"))
    seconds = (environment.get("seconds") or {}).get("fit")
    entry.row = {
        "run": str(run.path), "model": config.model, "seed": config.seed, "status": environment.get("status", "unknown"),
        "images": entry.images, "epochs": environment.get("epochs"), "train_seconds": seconds,
        "parameters": environment.get("trainable_weights"), "device": (environment.get("devices") or ["?"])[-1],
        "precision": environment.get("precision"), "pretrained": is_pretrained,
    }  # fmt: skip
    if entry.row["status"] != "finished":
        why = f": {environment['reason']}" if environment.get("reason") else ""
        entry.reason = Sentence("{status}{why}", status=entry.row["status"], why=why)
        return entry
    try:
        with np.load(run.path / f"predictions_{split}.npz", allow_pickle=False) as arrays:
            hashes, labels, probabilities = (arrays[name] for name in ("hashes", "labels", "probabilities"))
        if not 0 < len(hashes) == len(labels) == len(probabilities):
            raise ValueError("not of as many images")
        correct = probabilities.argmax(axis=1) == labels
        metrics = run.read_json(f"metrics_{split}.json")
    except InputError as error:
        entry.reason = Sentence(error.template, **error.fields)
        return entry
    except FileNotFoundError:
        entry.reason = Sentence("no predictions of {split}", split=split)
        return entry
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        entry.reason = Sentence(
            "predictions_{split}.npz cannot be read ({kind})", split=split, kind=type(error).__name__
        )
        return entry
    if not np.isfinite(probabilities).all():
        entry.reason = Sentence("its probabilities are not all numbers: the training diverged")
        return entry
    order = np.lexsort((labels, hashes))  # copies of an image with other labels too in the same order in all runs
    entry.hashes, entry.labels, entry.correct = hashes[order], labels[order], correct[order]
    entry.row |= {
        "split": split,
        "n": len(correct),
        "accuracy": float(correct.mean()),
        "macro_f1": (metrics.get("macro") or {}).get("f1"),
        "log_loss": metrics.get("log_loss"),
        "ece": (metrics.get("calibration") or {}).get("ece"),
        "test_uses": run.count_test_uses(),
    }
    entry.history = _read_history(run)
    entry.row["best_val_accuracy"] = float(np.nanmax(entry.history[0])) if entry.history else None
    if (run.path / "cost.json").is_file():
        with contextlib.suppress(InputError):  # damaged: as if it had not been measured
            entry.row |= {name: value for name, value in run.read_json("cost.json").items() if name not in entry.row}
    return entry


def _name_code(run: Run) -> str:
    """Six letters for the code by which a run's file registers something of its own, which no setting tells; else ""."""
    try:
        source = (run.path / "experiment.py").read_bytes()
        if not any(registry in source for registry in (b"MODELS[", b"DATASETS[", b"CALLBACKS[")):
            return ""
        code = ast.parse(source)
    except (OSError, SyntaxError, ValueError):
        return ""
    # The configuration is compared by itself, and a docstring or comment changes nothing.
    code.body = [
        part for part in code.body
        if not (isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "config")
        and not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
    ]  # fmt: skip
    return hashlib.sha256(ast.unparse(code).encode()).hexdigest()[:6]


def _read_history(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Validation accuracy after each epoch, and the seconds until then."""
    try:
        with (run.path / "history.csv").open(
            newline="", encoding="utf-8"
        ) as file:  # ten times as fast as pandas, of so few rows
            rows = [[float(row[name] or "nan") for name in ("val_accuracy", "seconds")] for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    accuracy, seconds = np.array(rows).reshape(-1, 2).T
    return (accuracy, seconds.cumsum()) if np.isfinite(accuracy).any() else None


def compare(
    runs: Sequence[Run],
    split: Literal["val", "test"] = "val",
    *,
    margin: float = 1.0,
    baseline: str | None = None,
    target: float | None = None,
    failures: Sequence[Failure] = (),
) -> Comparison:
    """Compares runs, and says no more than they support.

    Args:
        runs: Finished and failed ones.
        split: Which images they are judged on; all on the same.
        margin: The difference that matters in practice, in points of accuracy; named before anything is judged.
        baseline: The label or model of the architecture with which all others are compared; else all pairs are.
        target: The validation accuracy to which training seconds are counted; else the lowest of the runs' best ones, which
            all of them reached.
        failures: Trainings that left no run.

    Raises:
        InputError: There is nothing to compare; runs are of other images or another split; some have no predictions of
            this split; the baseline is none of them.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise InputError("--margin {margin}: give points of accuracy, such as 1.", margin=margin)
    entries = [read_entry(run, split) for run in runs]
    _check_same(entries, split)
    _set_repetitions_aside(entries)
    usable = [entry for entry in entries if not entry.reason]
    if not usable:
        reasons = join_sentences(
            (Sentence("{run}: {reason}", run=e.run.path, reason=e.reason) for e in entries[:3]), "; "
        )
        raise InputError(
            "There is no finished run to compare ({reasons}). Train first: python -m pbl train.", reasons=reasons
        )
    if target is None:
        best = [entry.row["best_val_accuracy"] for entry in usable if entry.row.get("best_val_accuracy") is not None]
        target = min(best, default=None)
    for entry in usable:
        accuracy, seconds = entry.history or (np.array([]), np.array([]))
        reached = np.flatnonzero(accuracy >= target) if target is not None else []
        entry.row["seconds_to_target"] = float(seconds[reached[0]]) if len(reached) else None
    entries += [
        Entry(None, failure.model, failure.seed, reason=failure.reason,
              row={"model": failure.model, "seed": failure.seed, "status": "failed"})
        for failure in failures
    ]  # fmt: skip
    _label(entries)
    trials = _count_trials(usable)
    for entry in entries:
        entry.row |= {"architecture": entry.label, "reason": entry.reason, "trials": trials.get(entry.model)}
    groups: dict[str, list[Entry]] = {}
    for entry in usable:
        groups.setdefault(entry.label, []).append(entry)
    notes = _find_notes(entries, groups, split, target)
    correct = {label: np.stack([entry.correct for entry in group]) for label, group in groups.items()}
    correct = dict(sorted(correct.items(), key=lambda item: -item[1].mean()))
    groups = {label: groups[label] for label in correct}
    pretrained = {label: group[0].is_pretrained for label, group in groups.items()}
    chosen = _find_baseline(baseline, groups) if baseline else None
    pairs, lacking = _compare_architectures(correct, pretrained, chosen, margin / 100)
    notes += lacking
    architectures = _tabulate(groups, correct, pretrained, pairs if chosen is None else None)
    models = _compare_models(groups, pretrained, margin / 100)
    columns = ["architecture", "model", "seed", "run", "status", "reason", "split", "n", "accuracy", "macro_f1", "log_loss", "ece",
               "best_val_accuracy", "epochs", "trials", "train_seconds", "seconds_to_target", "parameters"]  # fmt: skip
    table = pd.DataFrame([entry.row for entry in entries])
    table = table[[name for name in columns if name in table] + [name for name in table if name not in columns]]
    table.insert(0, "target_accuracy", target)
    return Comparison(
        table, architectures, pairs, models, notes, split, len(usable[0].correct), margin, correct
    )  # fmt: skip


def _check_same(entries: list[Entry], split: str) -> None:
    """Raises InputError unless all usable runs are judged on the very same images."""
    known = [entry for entry in entries if entry.hashes is not None]
    lacking = [entry for entry in entries if entry.reason == f"no predictions of {split}"]
    if lacking and (known or split == "test"):
        raise InputError(
            "{run} has no predictions of the {split} split, so its score would stand beside scores of other images. First:"
            " python -m pbl evaluate {run} --split {split}",
            run=lacking[0].run.path, split=split,
        )  # fmt: skip
    first = known[0] if known else None
    for entry in known[1:]:
        if entry.images != first.images:
            raise InputError(
                "{first} and {other} were trained on other images or another split: a difference between them would say nothing"
                " of the models. Compare runs with the same dataset, split_seed, validation_fraction and image_size.",
                first=first.run.path, other=entry.run.path,
            )  # fmt: skip
        if not np.array_equal(entry.hashes, first.hashes):
            raise InputError(
                "{first} and {other} were judged on other {split} images. Evaluate both again on the same data:"
                " python -m pbl evaluate RUN --split {split}",
                first=first.run.path, other=entry.run.path, split=split,
            )  # fmt: skip
        if not np.array_equal(entry.labels, first.labels):
            raise InputError(
                "{first} and {other} were judged on the same {split} images with other labels. Evaluate both again on the same"
                " data: python -m pbl evaluate RUN --split {split}",
                first=first.run.path, other=entry.run.path, split=split,
            )  # fmt: skip


def _set_repetitions_aside(entries: list[Entry]) -> None:
    """Gives a reason to a run with the settings and the seed of an earlier one: it would be counted as one more seed."""
    first: dict[tuple[str, str, int], Entry] = {}
    for entry in entries:
        if entry.reason:
            continue
        known = first.setdefault((entry.model, entry.key, entry.seed), entry)
        if known is not entry:
            entry.reason = Sentence(
                "the settings and the seed of {run}, so it is not one seed more", run=known.run.path
            )


def _label(entries: list[Entry]) -> None:
    """Gives runs that differ in their seed alone one label: the model's name, and settings where it needs them."""
    of_model: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in entries:
        if entry.settings:
            of_model.setdefault(entry.model, {}).setdefault(entry.key, _flatten(entry.settings))
    told: dict[str, list[str]] = {}
    for model, settings in of_model.items():
        names = sorted(set().union(*settings.values()))
        told[model] = [name for name in names if len({str(flat.get(name)) for flat in settings.values()}) > 1]
    for entry in entries:
        own = of_model[entry.model][entry.key] if entry.settings else {}
        entry.label = " ".join(
            [entry.model, *(f"{name}={own[name]}" for name in told.get(entry.model, ()) if name in own)]
        )


def _flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _count_trials(usable: list[Entry]) -> dict[str, int]:
    """How many different settings of each model were tried on these images, in the folder in which the runs lie."""
    tried: dict[str, set[str]] = {}
    for folder in {entry.run.path.resolve().parent.parent for entry in usable}:
        for run in runs_on(usable[0].images, folder):
            try:
                settings = {name: value for name, value in run.config.decides().items() if name not in ASIDE}
            except InputError:
                continue
            tried.setdefault(run.config.model, set()).add(json.dumps(settings, sort_keys=True))
    return {model: len(settings) for model, settings in tried.items()}


def _find_notes(entries: list[Entry], groups: dict[str, list[Entry]], split: str, target: float | None) -> list[str]:
    notes = []
    failed = [entry for entry in entries if entry.reason]
    if failed:
        told = [
            Sentence(
                "{name}, seed {seed}: {reason}", name=entry.label or entry.model, seed=entry.seed, reason=entry.reason
            )
            for entry in failed[:5]
        ]
        notes.append(Sentence("{n} run(s) are not compared: {told}.", n=len(failed), told=join_sentences(told, "; ")))
    budgets = {
        name: {label: sorted({entry.row.get(name) or 0 for entry in group}) for label, group in groups.items()}
        for name in ("epochs", "trials")
    }
    budgets["seeds"] = {label: [len(group)] for label, group in groups.items()}
    names = {
        "epochs": Sentence("epochs"),
        "trials": Sentence("settings tried of each model"),
        "seeds": Sentence("seeds"),
    }
    for name, values in budgets.items():
        what = names[name]
        if len({tuple(value) for value in values.values()}) > 1:
            told = _list_some(f"{label} {'/'.join(map(str, value))}" for label, value in values.items())
            notes.append(
                Sentence(
                    "Unequal budget, {what}: {told}. What was tried or trained more often has had more chances to look good.",
                    what=what,
                    told=told,
                )
            )
    seconds = {
        label: float(np.mean([entry.row.get("train_seconds") or np.nan for entry in group]))
        for label, group in groups.items()
    }
    known = [value for value in seconds.values() if np.isfinite(value) and value > 0]
    if len(known) > 1 and max(known) > 1.1 * min(known):
        notes.append(
            Sentence(
                "Unequal budget, training time: from {least:.3g} to {most:.3g} s a run.",
                least=min(known),
                most=max(known),
            )
        )
    devices = {entry.row.get("device") for group in groups.values() for entry in group}
    if len(devices) > 1:
        notes.append(
            Sentence(
                "Seconds come from different devices ({devices}): do not compare them.",
                devices=", ".join(sorted(map(str, devices))),
            )
        )
    if len({entry.is_pretrained for group in groups.values() for entry in group}) > 1:
        notes.append(
            Sentence(
                "Models with pre-trained weights stand apart: they have seen other images, so no difference to those that were trained"
                " from scratch is told."
            )
        )
    if split == "val":
        notes.append(
            Sentence(
                "These are validation images, on which each run's best epoch was chosen: the accuracies are a little too high, and"
                " more so of what was tried more often. At the end: --split test."
            )
        )
    else:
        uses = max(entry.row.get("test_uses", 0) for group in groups.values() for entry in group)
        if uses > 1:
            notes.append(
                Sentence(
                    "The test split has been used up to {uses} times by a run: what was chosen by it flatters itself.",
                    uses=uses,
                )
            )
    hashes = next(iter(groups.values()))[0].hashes
    if copies := len(hashes) - len(np.unique(hashes)):
        notes.append(
            Sentence(
                "{n} of the {images} images are copies of others, which count as new ones here: the intervals are too narrow by"
                " that. See: python -m pbl check.",
                n=copies, images=len(hashes),
            )
        )  # fmt: skip
    if target is not None:
        notes.append(
            Sentence(
                "Seconds to target: training seconds until the validation accuracy was {target:.4f} or more.",
                target=target,
            )
        )
    return notes


def _list_some(words: Iterable[str], most: int = 12) -> str:
    words = list(words)
    return ", ".join([*words[:most], *(["..."] if len(words) > most else [])])


def _find_baseline(name: str, groups: dict[str, list[Entry]]) -> str:
    found = [label for label, group in groups.items() if name in (label, group[0].model)]
    if not found:
        found = [label for label, group in groups.items() if any(str(e.run.path) == name.rstrip("/") for e in group)]
    if len(found) == 1:
        return found[0]
    raise InputError(
        "The baseline '{name}' is {what}. {nearest}",
        name=name, what=Sentence("several of those compared") if found else Sentence("none of those compared"),
        nearest=name_nearest(name, found or groups),
    )  # fmt: skip


def _comparable(pretrained: dict[str, bool], baseline: str | None) -> list[tuple[str, str]]:
    labels = list(pretrained)
    pairs = (
        combinations(labels, 2) if baseline is None else ((label, baseline) for label in labels if label != baseline)
    )
    return [(first, second) for first, second in pairs if pretrained[first] == pretrained[second]]


def _compare_architectures(
    correct: dict[str, np.ndarray], pretrained: dict[str, bool], baseline: str | None, margin: float
) -> tuple[pd.DataFrame, list[str]]:
    columns = ["first", "second", "difference", "low", "high", "p", "p_holm", "verdict", "needed"]
    few = {label: len(runs) for label, runs in correct.items() if len(runs) < FEWEST_SEEDS}
    notes, images = [], len(next(iter(correct.values()))[0])
    if few:
        told = _list_some(f"{label} {count}" for label, count in few.items())
        notes.append(
            Sentence(
                "No claim about architectures with fewer than {fewest} seeds ({told}): another seed might turn the order round."
                " Train more: python -m pbl compare --train EXPERIMENT.py ... --seeds 5.",
                fewest=FEWEST_SEEDS, told=told,
            )
        )  # fmt: skip
    summaries = {label: summarise_seeds(runs) for label, runs in correct.items() if label not in few}
    known = {label: value for label, value in pretrained.items() if label in summaries}
    if baseline is not None and baseline not in summaries:
        return pd.DataFrame(columns=columns), notes
    pairs, place = _comparable(known, baseline), {label: at for at, label in enumerate(summaries)}
    found = crossed_intervals(list(summaries.values()), [(place[a], place[b]) for a, b in pairs]) if pairs else []
    table = pd.DataFrame([[*pair, *one[:4]] for pair, one in zip(pairs, found, strict=True)], columns=columns[:6])
    table["p_holm"] = adjust_holm(table["p"].to_numpy()) if len(table) else []
    table["verdict"] = _in_words(
        _judge(row.difference, row.low, row.high, row.p_holm, margin, images) for row in table.itertuples()
    )
    # Holm holds the next one to be told apart against the level divided by how many are not yet.
    confidence = 1 - ALPHA / max(1, int((table["p_holm"] >= ALPHA).sum()))
    is_open = (table["verdict"] == "not separated") & (len(table) <= MOST_PAIRS)
    table["needed"] = _in_words(
        _tell_needed(summaries[row.first], summaries[row.second], confidence) if asked else ""
        for row, asked in zip(table.itertuples(), is_open, strict=True)
    )
    if len(table) > MOST_PAIRS:
        notes.append(
            Sentence(
                "{n} pairs of architectures: shown are the first {most}, with neither tie groups nor what would separate them."
                " Name a --baseline.",
                n=len(table), most=MOST_PAIRS,
            )
        )  # fmt: skip
    return table, notes


def _in_words(sentences: Iterable[str]) -> pd.Series:
    """A column that keeps sentences as they are."""
    return pd.Series(list(sentences), dtype=object)


def _tell_needed(first: SeedSummary, second: SeedSummary, confidence: float) -> Sentence:
    """What would separate them four times in five, were their difference the one seen."""
    if abs(first.accuracy - second.accuracy) <= FEW_IMAGES / len(first.mean):
        return Sentence("more images, not seeds, if at all")
    needed = seeds_to_separate(first, second, confidence)
    if needed is None and seeds_to_separate(first, second, confidence, most=10_000):
        return Sentence("more than 100 seeds of each")
    if needed is None:
        return Sentence("more images, not seeds, if at all")
    return Sentence("about {seeds} more seeds of each", seeds=max(1, needed - min(first.seeds, second.seeds)))


def _judge(difference: float, low: float, high: float, p: float, margin: float, images: int) -> Sentence:
    """In words: first whether it matters, then whether it is there.

    Fewer images than `FEW_IMAGES` speaks of never make two alike, however narrow the interval.
    """
    is_within = -margin <= low and high <= margin and abs(difference) + FEW_IMAGES / images <= margin
    if p >= ALPHA:
        return Sentence("alike: within the margin") if is_within else Sentence("not separated")
    better = Sentence("first better") if difference > 0 else Sentence("second better")
    if is_within:
        return Sentence("{better}, by less than the margin", better=better)
    if (low if difference > 0 else -high) >= margin:
        return Sentence("{better}, by more than the margin", better=better)
    return Sentence("{better}; whether by more than the margin is open", better=better)


def _compare_models(groups: dict[str, list[Entry]], pretrained: dict[str, bool], margin: float) -> pd.DataFrame:
    """Pairs of trained models: all where they are few, else the best by validation of each architecture, with the first of them.

    Which is the first is seen on the same images, so Holm counts all pairs, those not shown too.
    """
    columns = ["first", "second", "difference", "low", "high", "only_first", "only_second", "p", "p_holm", "verdict"]
    models = [entry for group in groups.values() for entry in group]
    if len(models) > MOST_MODELS:
        models = [max(group, key=lambda entry: entry.row.get("best_val_accuracy") or 0) for group in groups.values()]
    models.sort(key=lambda entry: -entry.row["accuracy"])
    correct = np.stack([entry.correct for entry in models]).astype(np.float32)
    both, n = (correct @ correct.T).round().astype(int), correct.shape[1]
    kinds = np.array([pretrained[entry.label] for entry in models])
    a, b = np.triu_indices(len(models), 1)
    a, b = a[kinds[a] == kinds[b]], b[kinds[a] == kinds[b]]
    only_a, only_b = both[a, a] - both[a, b], both[b, b] - both[a, b]
    p = mcnemar_test(only_a, only_b)
    p_holm = adjust_holm(p)
    rows, is_shown = [], np.ones(len(a), bool)
    if len(models) > MOST_MODELS:
        first_of = {kind: place for place, kind in reversed(list(enumerate(kinds.tolist())))}
        is_shown = a == np.array([first_of[kind] for kind in kinds.tolist()])[a]
    for at in np.flatnonzero(is_shown):
        counts = int(only_a[at]), int(only_b[at])
        if not FEWEST_DISCORDANT <= sum(counts) <= n - FEWEST_DISCORDANT:
            interval = paired_interval(int(both[a[at], b[at]]), *counts, n)
        else:
            interval = paired_bootstrap_interval(*counts, n)
        names = _name(models[a[at]]), _name(models[b[at]])
        rows.append([*names, (counts[0] - counts[1]) / n, *interval, *counts, p[at], p_holm[at]])
    table = pd.DataFrame(rows, columns=columns[:9])
    table["verdict"] = _in_words(
        _judge(row.difference, row.low, row.high, row.p_holm, margin, n) for row in table.itertuples()
    )
    return table


def _name(entry: Entry) -> str:
    return f"{entry.label} ({entry.run.name})"


def _tabulate(
    groups: dict[str, list[Entry]],
    correct: dict[str, np.ndarray],
    pretrained: dict[str, bool],
    pairs: pd.DataFrame | None,
) -> pd.DataFrame:
    best: dict[str, float] = {}
    for kind in (False, True):
        labels = [label for label in groups if pretrained[label] == kind]
        if len(labels) > 1:
            best |= dict(zip(labels, probability_of_best([correct[label] for label in labels]), strict=True))
    # With fewer seeds nothing is claimed about architectures.
    is_known = all(len(runs) >= FEWEST_SEEDS for runs in correct.values())
    rows = []
    for label, group in groups.items():
        table = pd.DataFrame([entry.row for entry in group])
        low, high = crossed_mean_interval(summarise_seeds(correct[label]))
        row = {
            "architecture": label, "pretrained": pretrained[label], "seeds": len(group), "accuracy": table["accuracy"].mean(),
            "low": low, "high": high, "lowest_seed": table["accuracy"].min(), "highest_seed": table["accuracy"].max(),
            "best_with_probability": best.get(label) if is_known else None,
        }  # fmt: skip
        for name in ("macro_f1", "ece", "epochs", "train_seconds", "seconds_to_target"):
            values = pd.to_numeric(table[name], errors="coerce") if name in table else pd.Series([np.nan])
            row[name] = values.mean() if values.notna().all() else None
        for name in ("trials", "parameters", *COST):
            values = table[name].dropna() if name in table else []
            row[name] = values.iloc[0] if len(values) else None
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(["pretrained", "accuracy"], ascending=[True, False], kind="stable")
    ties = {}
    if pairs is not None and 0 < len(pairs) <= MOST_PAIRS:
        ties = _letters(list(table["architecture"]), pairs)
    table.insert(2, "tie_group", [ties.get(label, "") for label in table["architecture"]])
    return table.reset_index(drop=True)


COST = ("macs", "latency_ms", "images_per_second", "peak_memory_mib", "file_mib", "cost_conditions")


def _letters(labels: list[str], pairs: pd.DataFrame) -> dict[str, str]:
    """Tie groups: architectures that share a letter are not separated. Insert and absorb, H.-P. Piepho (2004), JCGS 13, 456-466."""
    known = set(pairs["first"]) | set(pairs["second"])
    columns = [{label for label in labels if label in known}]
    for row in pairs[pairs["p_holm"] < ALPHA].itertuples():
        split = [column for column in columns if {row.first, row.second} <= column]
        for column in split:
            columns.remove(column)
            columns += [column - {row.first}, column - {row.second}]
        columns = [column for at, column in enumerate(columns)
                   if not any(column < other or (column == other and at > place) for place, other in enumerate(columns))]  # fmt: skip
    columns.sort(key=lambda column: [labels.index(label) for label in sorted(column, key=labels.index)])
    return {
        label: "".join(_letter(at) for at, column in enumerate(columns) if label in column)
        for label in labels
        if label in known
    }


def _letter(at: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[at] if at < 26 else f"({at})"


def write_results(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Writes `results.csv` (one tidy row a run), `results.md` (the tables) and `results.png` into a folder.

    Raises:
        InputError: The folder cannot be written.
    """
    from pbl.comparison.figures import plot_comparison

    folder = Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "The folder {folder} cannot be made: {reason}. Give another by --out DIR.",
            folder=folder,
            reason=error.strerror,
        ) from None
    files = [folder / name for name in ("results.csv", "results.md", "results.png")]
    with replacing(files[0]) as temporary:
        comparison.runs.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")
    with replacing(files[1]) as temporary:
        temporary.write_text(describe(comparison), encoding="utf-8")
    with replacing(files[2]) as temporary:
        plot_comparison(comparison).savefig(temporary, dpi=120)
    return files


def describe(comparison: Comparison) -> str:
    """Returns the comparison as Markdown: the margin, the architectures, the two questions, what to keep in mind."""
    split = {"val": "validation", "test": "test"}[comparison.split]
    lines = [
        "# Comparison", "",
        f"{int((comparison.runs['reason'] == '').sum())} runs, judged on the same {comparison.images} {split} images. A difference of less than"
        f" {comparison.margin:g} points of accuracy is taken not to matter.", "",
    ]  # fmt: skip
    shown = comparison.architectures
    lines += ["## Architectures", "", *_markdown(show_architectures(shown)), ""]
    if shown["tie_group"].any():
        lines += ["Architectures that share a letter in the column ties are not separated by these runs.", ""]
    if (shown["seeds"] == 1).any():
        lines += [
            "The interval of an architecture with one seed is of the images alone (Wilson's): another seed may lie outside.",
            "",
        ]
    lines += ["## This architecture against that one", ""]
    if len(comparison.pairs):
        lines += [
            "Over the seeds and images that might have been drawn instead. Each 95% interval is for its own row; p, by Holm, is for"
            " all rows at once, so an interval may leave out 0 where the verdict is not separated. What would separate them:"
            " four times in five, were the difference the one seen.", "",
            *_markdown(show_pairs(comparison.pairs)), "",
        ]  # fmt: skip
    elif (shown["seeds"] >= FEWEST_SEEDS).all():
        lines += ["There is one architecture, or none of the same kind to compare it with.", ""]
    else:
        lines += [f"No claim about architectures: each needs at least {FEWEST_SEEDS} seeds.", ""]
    lines += ["## This trained model against that one", ""]
    if len(comparison.models):
        lines += [
            "Over the images alone: it says which of two files to hand in, not which architecture is better. Paired bootstrap"
            f" intervals (95%; Newcombe's where fewer than {FEWEST_DISCORDANT} images tell two apart), exact McNemar tests, p by Holm over"
            " all pairs of these models, shown or not.", "",
            *_markdown(show_models(comparison.models)), "",
        ]  # fmt: skip
    else:
        lines += ["There is one model, or none of the same kind to compare it with.", ""]
    lines += ["## To keep in mind", "", *(f"- {note}" for note in comparison.notes), ""]
    return "\n".join(lines)


def show_architectures(table: pd.DataFrame) -> pd.DataFrame:
    """The table in words and rounded numbers; columns without a number are left out."""
    shown = pd.DataFrame(
        {
            "architecture": table["architecture"],
            "seeds": table["seeds"].map(str),
            "accuracy %": table["accuracy"].map(_percent),
            "95% interval": _intervals(table["low"], table["high"]),
            "seeds from to": _intervals(table["lowest_seed"], table["highest_seed"]),
            "ties": table["tie_group"],
        }
    )  # fmt: skip
    if table["best_with_probability"].notna().any():
        shown["best with probability"] = _in_words(
            _plain(value, "{:.2f}", "") for value in table["best_with_probability"]
        )
    if table["pretrained"].any():
        shown["pre-trained"] = _in_words(Sentence("yes" if value else "no") for value in table["pretrained"])
    formats = {
        "macro_f1": ("macro F1", "{:.4f}"), "ece": ("ECE", "{:.4f}"), "epochs": ("epochs", "{:g}"), "trials": ("settings tried", "{:g}"),
        "parameters": ("parameters", "{:.0f}"), "macs": ("MACs", "{:.0f}"), "train_seconds": ("training s", "{:.1f}"),
        "seconds_to_target": ("s to target", "{:.1f}"), "latency_ms": ("latency of 1 image ms", "{:.2f}"),
        "images_per_second": ("images/s at 256", "{:.0f}"), "peak_memory_mib": ("peak memory MiB", "{:.0f}"),
        "file_mib": ("file MiB", "{:.2f}"), "cost_conditions": ("measured on", "{}"),
    }  # fmt: skip
    for name, (title, form) in formats.items():
        if table[name].notna().any():
            missing = Sentence("not reached") if name == "seconds_to_target" else Sentence("not measured")
            shown[title] = _in_words(_plain(value, form, missing) for value in table[name])
    return shown


def show_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs of architectures in words and rounded numbers."""
    pairs = pairs.head(MOST_PAIRS)
    p = pairs["p_holm"].map(_probability)
    return pd.DataFrame(
        {**_show_difference(pairs), "p (Holm)": p, "verdict": pairs["verdict"], "would separate them": pairs["needed"]}
    )


def show_models(models: pd.DataFrame) -> pd.DataFrame:
    """Pairs of trained models in words and rounded numbers."""
    only = [f"{a} / {b}" for a, b in zip(models["only_first"], models["only_second"], strict=True)]
    return pd.DataFrame(
        {
            **_show_difference(models),
            "only one right": only,
            "p (Holm)": models["p_holm"].map(_probability),
            "verdict": models["verdict"],
        }
    )


def _show_difference(table: pd.DataFrame) -> dict[str, Any]:
    intervals = _in_words(
        Sentence("{low:+.2f} to {high:+.2f}", low=100 * low, high=100 * high)
        for low, high in zip(table["low"], table["high"], strict=True)
    )
    return {
        "first": table["first"],
        "second": table["second"],
        "difference [points]": (100 * table["difference"]).map("{:+.2f}".format),
        "95% interval": intervals,
    }


def _intervals(lows: pd.Series, highs: pd.Series) -> pd.Series:
    return _in_words(
        Sentence("{low} to {high}", low=_percent(low), high=_percent(high))
        for low, high in zip(lows, highs, strict=True)
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _probability(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _plain(value: Any, form: str, otherwise: str) -> str:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return otherwise if missing else form.format(value)


def _markdown(table: pd.DataFrame) -> list[str]:
    def row(cells: Iterable[Any]) -> str:
        # What Markdown would take for a column, a tag or mathematics.
        return "| " + " | ".join(re.sub(r"([|<$])", r"\\\1", str(cell)) for cell in cells) + " |"

    return [
        row(table.columns),
        "|" + "---|" * len(table.columns),
        *(row(cells) for cells in table.itertuples(index=False)),
    ]
