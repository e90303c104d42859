"""Comparison of runs: these trained models with each other, and, if each has several seeds, their architectures.

Two questions are often confused. *Is this trained model better than that one?* is answered by the images: an exact
McNemar test, and a bootstrap over the images that both saw. *Is this architecture better than that one?* is answered by seeds
and images: training again would give other weights, so each architecture needs at least three seeds, and the interval is
`pbl.statistics.crossed_interval`. Only the runs' files are read; nothing is computed by Keras, and nothing is executed (the command's
`--measure` and `--split test` do both, before this).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from pbl.comparison.entries import (
    Entry,
    Failure,
    check_same,
    count_trials,
    label_entries,
    pool_folds,
    read_entry,
    set_repetitions_aside,
)
from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.runs import Run, name_device
from pbl.statistics import (
    FEWEST_SEEDS,
    SeedSummary,
    adjust_holm,
    cross_validated_interval,
    crossed_intervals,
    crossed_mean_interval,
    mcnemar_test,
    paired_bootstrap_interval,
    paired_interval,
    probability_of_best,
    seeds_to_separate,
    summarise_seeds,
    t_interval,
)

ALPHA = 0.05
MOST_PAIRS = 300  # pairs of architectures that are reported
MOST_MODELS = 4  # models of which every pair is reported
# If none of n images distinguishes two models, up to about 4 in n of other images may (Newcombe's interval).
FEW_IMAGES = 4
# Columns of a run's row that come first, and the columns of a model's cost.
COLUMNS = (
    "architecture model seed fold run status reason split n accuracy macro_f1 log_loss ece best_val_accuracy epochs trials"
    " train_seconds seconds_to_target parameters"
).split()
COST = "macs latency_ms images_per_second throughput_batch peak_memory_mib file_mib cost_conditions".split()
MEASURES = {
    "accuracy": "accuracy",
    "roc_auc": "AUROC",
    "kid": "KID x 1000",
    "dice": "Dice",
    "map50": "mAP50",
    "f1": "F1",
}  # in words; another measure keeps its name
FEWEST_DISCORDANT = 10  # images that distinguish two models; with fewer, a bootstrap of them means nothing


@dataclass
class Comparison:
    """The result of a comparison.

    Attributes:
        runs: One tidy row for each run, failed ones included (`results.csv`).
        architectures: One row for each architecture, the best first.
        pairs: Pairs of architectures: difference, interval, Holm's p, verdict; empty if there are too few seeds.
        models: Pairs of trained models: difference, interval, McNemar's p, verdict.
        notes: What must be said in addition to the tables.
        split, images, margin: What was judged; the margin in points of the measure.
        measure: What runs are judged by: "accuracy", or the headline of another task, such as "roc_auc"; a column of the tables.
        values: For each architecture `[seeds, n]`, each run's value for each image, whose mean is the measure.
        is_less_better: Whether a lower measure is the better one.
    """

    runs: pd.DataFrame
    architectures: pd.DataFrame
    pairs: pd.DataFrame
    models: pd.DataFrame
    notes: list[str]
    split: str
    images: int
    margin: float
    measure: str = "accuracy"
    values: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    is_less_better: bool = False

    @property
    def scale(self) -> int:
        """The factor for showing the measure: a share is shown in percent and points."""
        return find_scale(self.measure)

    @property
    def shown_name(self) -> str:
        """The measure in words, with its unit."""
        return f"{self.measure_name} %" if self.scale == 100 else str(self.measure_name)

    @property
    def measure_name(self) -> Sentence:
        """The measure in words."""
        return Sentence(MEASURES.get(self.measure, self.measure))


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
        runs: Finished and failed runs.
        split: The images they are judged on; the same for all.
        margin: The difference that matters in practice, in points of accuracy; chosen before anything is judged.
        baseline: The label or model of the architecture with which all others are compared; by default all pairs are compared.
        target: The validation accuracy to which training seconds are counted; by default the lowest of the runs' best ones, which
            all of them reached.
        failures: Trainings that left no run.

    Raises:
        InputError: There is nothing to compare; the runs have different images or another split; some have no predictions of
            this split; the baseline is not one of them.
    """
    if not (np.isfinite(margin) and margin >= 0):
        raise InputError("--margin {margin}: give points of accuracy, such as 1.", margin=margin)
    entries = pool_folds([read_entry(run, split) for run in runs], split)
    check_same(entries, split)
    set_repetitions_aside(entries)
    usable = [entry for entry in entries if not entry.reason]
    if not usable:
        reasons = (Sentence("{run}: {reason}", run=entry.run.path, reason=entry.reason) for entry in entries[:3])
        raise InputError(
            "There is no finished run to compare ({reasons}). Train first: python -m pbl train.",
            reasons=join_sentences(reasons, "; "),
        )
    target = _time_to_target(usable, target)
    for model, seed, reason in failures:
        row = {"model": model, "seed": seed, "status": "failed"}
        entries.append(Entry(None, model, seed, reason=reason, row=row))
    label_entries(entries)
    trials = count_trials(usable)
    for entry in entries:
        for part in (entry, *entry.parts):
            part.row |= {"architecture": entry.label, "reason": entry.reason, "trials": trials.get(entry.model)}
    groups: dict[str, list[Entry]] = {}
    for entry in usable:
        groups.setdefault(entry.label, []).append(entry)
    notes = list(_find_notes(entries, groups, split, target))
    values = {label: np.stack([entry.values for entry in group]) for label, group in groups.items()}
    values = dict(sorted(values.items(), key=lambda item: -item[1].mean()))
    groups = {label: groups[label] for label in values}
    pretrained = {label: group[0].is_pretrained for label, group in groups.items()}
    chosen = _find_baseline(baseline, groups) if baseline else None
    scale, is_less_better = find_scale(usable[0].measure), usable[0].is_less_better
    pairs, lacking = _compare_architectures(values, pretrained, chosen, margin / scale, _count_independent(usable[0]))
    architectures = _tabulate(groups, values, pretrained, pairs if chosen is None else None)
    is_pooled = usable[0].folds is not None  # then an accuracy does not belong to a single model
    models = _compare_models({} if is_pooled else groups, pretrained, margin / scale)
    if is_less_better:  # signs were reversed, so that more was better; now they are restored
        for turned in (pairs, models):
            turned[["difference", "low", "high"]] = -turned[["difference", "high", "low"]].to_numpy()
        values = {label: -of for label, of in values.items()}
    table = pd.DataFrame([part.row for entry in entries for part in entry.parts or [entry]])
    table = table[[name for name in COLUMNS if name in table] + [name for name in table if name not in COLUMNS]]
    table.insert(0, "target_accuracy", target)
    images, measure = len(usable[0].values), usable[0].measure
    return Comparison(
        table, architectures, pairs, models, notes + lacking, split, images, margin, measure, values, is_less_better
    )


def find_scale(measure: str) -> int:
    """The factor for showing a measure: 100 for a share, 1 for a distance."""
    return 1 if measure == "kid" else 100


def _count_independent(entry: Entry) -> int:
    """The number of images for `FEW_IMAGES`; for an area the number of the rarer kind."""
    return (
        len(entry.values) if entry.measure == "accuracy" else int(np.unique(entry.labels, return_counts=True)[1].min())
    )


def _time_to_target(usable: list[Entry], target: float | None) -> float | None:
    """Enters the training seconds until the target; returns the target, by default the lowest of the runs' best accuracies."""
    if any(entry.parts for entry in usable):
        target = None  # in a cross-validation no single model is timed
    elif target is None:
        best = [entry.row.get("best_val_accuracy") for entry in usable]
        target = min((accuracy for accuracy in best if accuracy is not None), default=None)
    for entry in usable:
        accuracy, seconds = entry.history or (np.array([]), np.array([]))
        reached = np.flatnonzero(accuracy >= target) if target is not None else []
        entry.row["seconds_to_target"] = float(seconds[reached[0]]) if len(reached) else None
    return target


def _find_notes(
    entries: list[Entry], groups: dict[str, list[Entry]], split: str, target: float | None
) -> Iterator[Sentence]:
    failed = [entry for entry in entries if entry.reason]
    compared = [entry for group in groups.values() for entry in group]
    if failed:
        told = (
            Sentence("{name}, seed {seed}: {reason}", name=one.label or one.model, seed=one.seed, reason=one.reason)
            for one in failed[:5]
        )
        yield Sentence("{n} {n:run is|runs are} not compared: {told}.", n=len(failed), told=join_sentences(told, "; "))
    yield from _find_unequal_budgets(groups)
    devices = {entry.row.get("device") for entry in compared}
    if len(devices) > 1:
        yield Sentence(
            "The times were measured on different devices ({devices}): do not compare them.",
            devices=", ".join(sorted(map(name_device, devices))),
        )
    if len({entry.is_pretrained for entry in compared}) > 1:
        yield Sentence(
            "Models with pre-trained weights are listed separately: they have seen other images, so they are not compared with models that were "
            "trained from scratch."
        )
    if folds := compared[0].folds is not None and compared[0].settings["folds"]:
        yield Sentence(
            "Cross-validation (folds={folds}): each of the {images} images outside test was judged once, by the one of {folds} models that was not "
            "trained on it; so each model was trained on {share:.0%} of them.",
            folds=folds,
            images=len(compared[0].folds),
            share=1 - 1 / folds,
        )
    uses = max(entry.row["test_uses"] for entry in compared)
    if split == "val":
        yield Sentence(
            "These are validation images, and the best epoch of each run was chosen on them: the accuracies are a little too high, and more so for "
            "models that were tried more often. At the end: --split test."
            if compared[0].measure == "accuracy"
            else "These are validation images, and the best epoch of each run was chosen on them: models that were tried more often had more "
            "chances to look good. At the end: --split test."
        )
    elif uses > 1:
        yield Sentence(
            "A run has used the test split up to {uses} times: a choice based on it makes its score too good.",
            uses=uses,
        )
    hashes = compared[0].hashes
    if copies := len(hashes) - len(np.unique(hashes)):
        yield Sentence(
            "{n} of the {images} images are copies of others, but they count as new images here: this makes the intervals too narrow. See: python "
            "-m pbl check.",
            n=copies,
            images=len(hashes),
        )
    if target is not None:
        yield Sentence(
            "Seconds to target: training seconds until the validation accuracy was {target:.4f} or more.", target=target
        )


def _find_unequal_budgets(groups: dict[str, list[Entry]]) -> Iterator[Sentence]:
    """Yields what one architecture had more of than another: epochs, settings tried, seeds, seconds."""

    def values_of(name: str) -> dict[str, list]:
        return {label: sorted({entry.row.get(name) or 0 for entry in group}) for label, group in groups.items()}

    for what, values in (
        (Sentence("epochs"), values_of("epochs")),
        (Sentence("settings tried of each model"), values_of("trials")),
        (Sentence("seeds"), {label: [len(group)] for label, group in groups.items()}),
    ):
        if len({tuple(value) for value in values.values()}) > 1:
            told = _list_some(f"{label}: {'/'.join(map(str, value))}" for label, value in values.items())
            yield Sentence(
                "Unequal budget, {what}: {told}. Models that were tried or trained more often had more chances to look good.",
                what=what,
                told=told,
            )
    seconds = [np.mean([entry.row.get("train_seconds") or np.nan for entry in group]) for group in groups.values()]
    known = [float(value) for value in seconds if np.isfinite(value) and value > 0]
    if len(known) > 1 and max(known) > 1.1 * min(known):
        yield Sentence(
            "Unequal budget, training time: from {least:.3g} to {most:.3g} s per run.",
            least=min(known),
            most=max(known),
        )


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
        name=name,
        what=Sentence("several of those compared") if found else Sentence("none of those compared"),
        nearest=name_nearest(name, found or groups),
    )


def _compare_architectures(
    values: dict[str, np.ndarray], pretrained: dict[str, bool], baseline: str | None, margin: float, images: int
) -> tuple[pd.DataFrame, list[str]]:
    columns = ["first", "second", "difference", "low", "high", "p", "p_holm", "verdict", "needed"]
    few = {label: len(runs) for label, runs in values.items() if len(runs) < FEWEST_SEEDS}
    notes = []
    if few:
        told = _list_some(f"{label} {count}" for label, count in few.items())
        notes.append(
            Sentence(
                "No claim about architectures with fewer than {fewest} seeds ({told}): another seed might reverse the order. Train more: python -m "
                "pbl compare --train EXPERIMENT.py ... --seeds 5.",
                fewest=FEWEST_SEEDS,
                told=told,
            )
        )
    summaries = {label: summarise_seeds(runs) for label, runs in values.items() if label not in few}
    if baseline is not None and baseline not in summaries:
        return pd.DataFrame(columns=columns), notes
    others = [label for label in summaries if label != baseline]
    pairs = combinations(others, 2) if baseline is None else ((label, baseline) for label in others)
    pairs = [(first, second) for first, second in pairs if pretrained[first] == pretrained[second]]
    place = {label: at for at, label in enumerate(summaries)}
    found = crossed_intervals(list(summaries.values()), [(place[a], place[b]) for a, b in pairs]) if pairs else []
    table = pd.DataFrame([[*pair, *one[:4]] for pair, one in zip(pairs, found, strict=True)], columns=columns[:6])
    _widen(table, values, images)
    table["p_holm"] = adjust_holm(table["p"].to_numpy()) if len(table) else []
    table["verdict"] = _in_words(
        _judge(row.difference, row.low, row.high, row.p_holm, margin, images) for row in table.itertuples()
    )
    # Holm tests the next pair at the level divided by the number of pairs that are not yet separated.
    confidence = 1 - ALPHA / max(1, int((table["p_holm"] >= ALPHA).sum()))
    is_open = (table["verdict"] == "not separated") & (len(table) <= MOST_PAIRS)
    table["needed"] = _in_words(
        _tell_needed(summaries[row.first], summaries[row.second], confidence) if asked else ""
        for row, asked in zip(table.itertuples(), is_open, strict=True)
    )
    if len(table) > MOST_PAIRS:
        notes.append(
            Sentence(
                "{n} pairs of architectures: the first {most} are shown, without tie groups and without what would separate them. Name a --baseline.",
                n=len(table),
                most=MOST_PAIRS,
            )
        )
    return table, notes


def _widen(table: pd.DataFrame, values: dict[str, np.ndarray], images: int) -> None:
    """Widens intervals if no image distinguishes two architectures by values that are not shares of right ones: `FEW_IMAGES` of other images may."""
    if images < len(next(iter(values.values()))[0]) and len(
        table
    ):  # for an area, only images of the rarer kind are counted
        is_flat = table["high"] - table["low"] < 2 * FEW_IMAGES / images
        is_flat &= (table["difference"] == 0) & (table["p"] == 1)
        table.loc[is_flat, "low"], table.loc[is_flat, "high"] = -FEW_IMAGES / images, FEW_IMAGES / images


def _in_words(sentences: Iterable[str]) -> pd.Series:
    """A column that keeps sentences unchanged."""
    return pd.Series(list(sentences), dtype=object)


def _tell_needed(first: SeedSummary, second: SeedSummary, confidence: float) -> Sentence:
    """What would separate them four times in five, if their true difference were the one seen."""
    if abs(first.accuracy - second.accuracy) <= FEW_IMAGES / len(first.mean):
        return Sentence("more images, not seeds, if anything")
    if needed := seeds_to_separate(first, second, confidence):
        return Sentence("about {seeds} more seeds of each", seeds=max(1, needed - min(first.seeds, second.seeds)))
    if seeds_to_separate(first, second, confidence, most=10_000):
        return Sentence("more than 100 seeds of each")
    return Sentence("more images, not seeds, if anything")


def _judge(difference: float, low: float, high: float, p: float, margin: float, images: int) -> Sentence:
    """The verdict in words: first whether the difference matters, then whether it exists.

    With so few images that `FEW_IMAGES / images` exceeds the margin, two are never called alike, however narrow the interval is.
    """
    is_within = -margin <= low and high <= margin and abs(difference) + FEW_IMAGES / images <= margin
    if p >= ALPHA:
        return Sentence("equivalent: within the margin") if is_within else Sentence("not separated")
    better = Sentence("first better") if difference > 0 else Sentence("second better")
    if is_within:
        return Sentence("{better}, by less than the margin", better=better)
    if (low if difference > 0 else -high) >= margin:
        return Sentence("{better}, by more than the margin", better=better)
    return Sentence("{better}; it is unclear whether by more than the margin", better=better)


def _compare_models(groups: dict[str, list[Entry]], pretrained: dict[str, bool], margin: float) -> pd.DataFrame:
    """Pairs of trained models: all if they are few; otherwise the best of each architecture by validation, each with the first of them.

    Which one is the first is seen on the same images, so Holm counts all pairs, also those not shown.
    """
    columns = ["first", "second", "difference", "low", "high", "only_first", "only_second", "p", "p_holm", "verdict"]
    models = [entry for group in groups.values() for entry in group]
    if len(models) > MOST_MODELS:
        # What is not known is never the best, also if the sign is reversed so that all known values are below 0.
        models = [
            max(group, key=lambda entry: -np.inf if entry.best is None else entry.best) for group in groups.values()
        ]
    if len(models) < 2:
        return pd.DataFrame(columns=columns)
    models.sort(key=lambda entry: -entry.values.mean())
    kinds = np.array([pretrained[entry.label] for entry in models])
    a, b = np.triu_indices(len(models), 1)
    a, b = a[kinds[a] == kinds[b]], b[kinds[a] == kinds[b]]
    is_shown = np.ones(len(a), bool)
    if len(models) > MOST_MODELS:
        first_of = {kind: place for place, kind in reversed(list(enumerate(kinds.tolist())))}
        is_shown = a == np.array([first_of[kind] for kind in kinds.tolist()])[a]
    values, images = np.stack([entry.values for entry in models]), _count_independent(models[0])
    are_counted = models[0].measure == "accuracy"
    if are_counted:
        found = _pair_right_and_wrong(values, a, b, is_shown, images)
    else:
        found = _pair_values(values, a, b, images, np.array([entry.own_error for entry in models]))
    found["p_holm"] = adjust_holm(found["p"].to_numpy())
    names = [f"{entry.label} ({entry.run.name})" for entry in models]
    found.insert(0, "first", [names[at] for at in a])
    found.insert(1, "second", [names[at] for at in b])
    table = found[is_shown].reset_index(drop=True)
    table["verdict"] = _in_words(
        _judge(row.difference, row.low, row.high, row.p_holm, margin, images) for row in table.itertuples()
    )
    return table[[name for name in columns if name in table]]


def _pair_right_and_wrong(
    correct: np.ndarray, a: np.ndarray, b: np.ndarray, is_shown: np.ndarray, images: int
) -> pd.DataFrame:
    """McNemar's test of all pairs; for those shown, an interval by bootstrap, or Newcombe's if few images distinguish them."""
    correct = correct.astype(np.float32)
    both = (correct @ correct.T).round().astype(int)
    only_a, only_b = both[a, a] - both[a, b], both[b, b] - both[a, b]
    intervals = np.full((len(a), 2), np.nan)
    for at in np.flatnonzero(is_shown):
        counts = int(only_a[at]), int(only_b[at])
        if not FEWEST_DISCORDANT <= sum(counts) <= images - FEWEST_DISCORDANT:
            intervals[at] = paired_interval(int(both[a[at], b[at]]), *counts, images)
        else:
            intervals[at] = paired_bootstrap_interval(*counts, images)
    return pd.DataFrame(
        {
            "difference": (only_a - only_b) / images,
            "low": intervals[:, 0],
            "high": intervals[:, 1],
            "only_first": only_a,
            "only_second": only_b,
            "p": mcnemar_test(only_a, only_b),
        }
    )


def _pair_values(values: np.ndarray, a: np.ndarray, b: np.ndarray, images: int, own_errors: np.ndarray) -> pd.DataFrame:
    """The paired t test of values of the same images; for an area's shares it is DeLong's test.

    The own errors of the models, `float [models]`, come from what each drew for itself, such as generated images. No image that both
    share shows them, so they are added: without them two equally good generators were called different in more than half of all cases.
    """
    from scipy.stats import t

    n = values.shape[1]
    difference = values[a] - values[b]
    mean = difference.mean(axis=1)
    error = np.sqrt(difference.var(axis=1, ddof=1) / n + own_errors[a] ** 2 + own_errors[b] ** 2)
    is_known = error > 1e-9
    reach = np.where(is_known, t.ppf(0.975, n - 1) * error, FEW_IMAGES / images)
    p = np.where(is_known, 2 * t.sf(abs(mean) / np.where(is_known, error, 1), n - 1), 1.0)
    return pd.DataFrame({"difference": mean, "low": mean - reach, "high": mean + reach, "p": p})


def _tabulate(
    groups: dict[str, list[Entry]],
    values: dict[str, np.ndarray],
    pretrained: dict[str, bool],
    pairs: pd.DataFrame | None,
) -> pd.DataFrame:
    best: dict[str, float] = {}
    for kind in (False, True):
        labels = [label for label in groups if pretrained[label] == kind]
        if len(labels) > 1:
            # With the reversed sign of a measure of which less is better, a share is not inside 0 to 1.
            first = groups[labels[0]][0]
            is_share = find_scale(first.measure) == 100 and not first.is_less_better
            found = probability_of_best([values[label] for label in labels], is_share=is_share)
            best |= dict(zip(labels, found, strict=True))
    # With fewer seeds nothing is said about architectures.
    is_known = all(len(runs) >= FEWEST_SEEDS for runs in values.values())
    rows, measure = [], next(iter(groups.values()))[0].measure
    for label, group in groups.items():
        table = pd.DataFrame([entry.row for entry in group])
        low, high = _find_interval(group, values[label])
        row = {
            "architecture": label,
            "pretrained": pretrained[label],
            "seeds": len(group),
            measure: table[measure].mean(),
            "low": low,
            "high": high,
            "lowest_seed": table[measure].min(),
            "highest_seed": table[measure].max(),
            "best_with_probability": best.get(label) if is_known else None,
        }
        for name in ("macro_f1", "ece", "epochs", "train_seconds", "seconds_to_target"):
            numbers = pd.to_numeric(table[name], errors="coerce") if name in table else pd.Series([np.nan])
            row[name] = numbers.mean() if numbers.notna().all() else None
        for name in ("trials", "parameters", *COST):
            known = table[name].dropna() if name in table else []
            row[name] = known.iloc[0] if len(known) else None
        rows.append(row)
    table = pd.DataFrame(rows).sort_values(
        ["pretrained", measure], ascending=[True, next(iter(groups.values()))[0].is_less_better], kind="stable"
    )
    ties = {}
    if pairs is not None and 0 < len(pairs) <= MOST_PAIRS:
        ties = find_tie_groups(list(table["architecture"]), pairs)
    table.insert(2, "tie_group", [ties.get(label, "") for label in table["architecture"]])
    return table.reset_index(drop=True)


def _find_interval(group: list[Entry], values: np.ndarray) -> tuple[float, float]:
    """The interval of an architecture's measure, with the measure's own sign, over its seeds and the images."""
    values = -values if group[0].is_less_better else values
    is_share = find_scale(group[0].measure) == 100
    if group[0].folds is not None:
        return cross_validated_interval(values, group[0].folds, is_share=is_share)
    if group[0].measure == "accuracy" or (len(group) > 1 and values.var(axis=1).max() > 0):
        return crossed_mean_interval(summarise_seeds(values), is_share=is_share)
    # The intervals of its evaluation: with one seed they are over the images alone, and perfect values have no known variance.
    told = [(entry.row["low"], entry.row["high"]) for entry in group if entry.row["low"] is not None]
    if told:
        return min(low for low, _ in told), max(high for _, high in told)
    return (0.0, 1.0) if is_share else t_interval(values.mean(axis=0))


def find_tie_groups(labels: list[str], pairs: pd.DataFrame) -> dict[str, str]:
    """Tie groups: architectures that share a letter are not separated. Insert and absorb, H.-P. Piepho (2004), JCGS 13, 456-466.

    Args:
        labels: The architectures, best first.
        pairs: A row for each pair, with the columns `first`, `second` and `p_holm`.

    Returns:
        The letters of each, such as "ab".
    """
    known = set(pairs["first"]) | set(pairs["second"])
    columns = [{label for label in labels if label in known}]
    for row in pairs[pairs["p_holm"] < ALPHA].itertuples():
        split = [column for column in columns if {row.first, row.second} <= column]
        for column in split:
            columns.remove(column)
            columns += [column - {row.first}, column - {row.second}]
        columns = [
            column
            for at, column in enumerate(columns)
            if not any(column < other or (column == other and at > place) for place, other in enumerate(columns))
        ]
    columns.sort(key=lambda column: [labels.index(label) for label in sorted(column, key=labels.index)])
    names = [*"abcdefghijklmnopqrstuvwxyz", *(f"({at})" for at in range(26, len(columns)))]
    return {
        label: "".join(name for name, column in zip(names, columns, strict=False) if label in column)
        for label in labels
        if label in known
    }
