"""What the diagnoses of tasks other than classification share: advice as commands, reading a run's files, the gap, the course, and the leak."""

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from pbl.config import Config, as_word
from pbl.diagnosis.advice import Experiment
from pbl.diagnosis.evidence import Finding, make_finding
from pbl.diagnosis.rules import Diagnosis, Threshold
from pbl.errors import InputError
from pbl.runs import Run


class Advice(NamedTuple):
    """What to try next: a sentence, and settings of `train` if it is a matter of settings.

    `change` gets the run's settings and the options of its model's builder. It returns what to set; {} if nothing is to be set;
    None if the run has it already, or its model has no such option.
    """

    name: str
    template: str
    change: Callable[[Config, Mapping[str, Any]], dict[str, Any] | None] = lambda config, options: {}


def add_augmentation(**wanted: Any) -> Callable[[Config, Mapping[str, Any]], dict[str, Any] | None]:
    """Makes an advice's `change`: sets those of these kinds of augmentation that the run does not have."""

    def change(config: Config, options: Mapping[str, Any]) -> dict[str, Any] | None:
        return {
            f"augmentation.{kind}": value for kind, value in wanted.items() if not config.augmentation.get(kind)
        } or None

    return change


GROUP = Advice(
    "groups",
    "Keep what belongs together on one side of the split, by a part of the names (groups='(part[0-9]+)') or by groups=look_alike, and train again.",
    lambda config, options: None if config.groups == "look_alike" else {"groups": "look_alike"},
)
LONGER = Advice("longer", "Train for three times the epochs.", lambda config, options: {"epochs": 3 * config.epochs})
LOWER_RATE = Advice(
    "lower_rate",
    "Lower the learning rate to a third.",
    lambda config, options: {"learning_rate": config.learning_rate / 3},
)


def plan_experiments(
    advices: Sequence[Advice], config: Config, options: Mapping[str, Any] | None, run: str
) -> tuple[Experiment, ...]:
    """Returns what to try next as commands: each advice that the run can still follow.

    Args:
        advices: In the order in which they are shown.
        config: The run's settings.
        options: The options of its model's builder; by default those of the settings.
        run: Its folder, for the commands.
    """
    experiments = []
    for advice in advices:
        settings = advice.change(config, config.model_options if options is None else options)
        if settings is None:
            continue
        words = [f"{key}={as_word(value)}" for key, value in settings.items()]
        command = shlex.join(["python", "-m", "pbl", "train", run, *words]) if words else ""
        epochs = settings.get("epochs", config.epochs) if settings else 0
        experiments.append(
            Experiment(
                name=advice.name,
                message=advice.template,
                settings=settings,
                epochs=epochs,
                gain=None,
                lowest=None,
                highest=None,
                helped=0,
                tried=0,
                sources=(),
                pairs=0,
                command=command,
                details={},
                template=advice.template,
            )
        )
    return tuple(experiments)


def collect_findings(
    rules: Sequence[Callable[[Mapping[str, Any]], Finding | None]],
    metrics: Mapping[str, Any],
    explained: Mapping[str, Sequence[str]],
) -> list[Finding]:
    """Returns what the rules find, in their order, without the consequences of an earlier finding.

    Args:
        rules: Each takes the metrics and returns a finding or None.
        metrics: What was measured.
        explained: By the name of a finding, the names of its consequences.
    """
    findings: list[Finding] = []
    for rule in rules:
        finding = rule(metrics)
        if finding is not None and not any(finding.name in explained.get(other.name, ()) for other in findings):
            findings.append(finding)
    return findings


def read_gap(training: Mapping[str, Any] | None, limits: Mapping[str, Threshold]) -> Mapping[str, Any] | None:
    """Returns the gap between training and validation images if it is at least as large as the limit `gap` and as certain as `gap_low`; otherwise None."""
    gap = None if training is None else training["gap"]
    if gap is None or gap["low"] is None:
        return None
    return None if gap["value"] < limits["gap"].value or gap["low"] < limits["gap_low"].value else gap


def read_course(
    history: Sequence[Mapping[str, float]], name: str, fewest: int = 1
) -> tuple[Mapping[str, float], Mapping[str, float]] | None:
    """The epoch a third of the training before the end, and the last epoch; with one epoch that one twice, with fewer than `fewest` None."""
    known = [row for row in history if math.isfinite(row.get(name, math.nan))]
    return None if len(known) < fewest else (known[-min(len(known), 1 + max(1, len(known) // 3))], known[-1])


def conclude(
    findings: Sequence[Finding],
    remedies: Mapping[str, tuple[str, Sequence[Advice]]],
    config: Config | None,
    run: str,
    options: Mapping[str, Any] | None,
) -> Diagnosis:
    """Makes a diagnosis from findings: each gets its severity, and experiments are planned for the first one.

    Args:
        findings: At least one; the first is the headline.
        remedies: By the name of the finding: severity, and what to try.
        config: The run's settings; without them nothing is planned.
        run: Its folder, for the commands.
        options: The options of its model's builder; by default those of the settings.
    """
    findings = [replace(finding, severity=remedies[finding.name][0]) for finding in findings]
    advices = remedies[findings[0].name][1]
    return Diagnosis(tuple(findings), plan_experiments(advices, config, options, run) if config is not None else ())


def read_metrics(run: Run, schema: type[BaseModel]) -> dict[str, Any]:
    """Reads a run's `metrics_val.json`; raises InputError if it is missing, or not of this schema."""
    metrics = run.read_json("metrics_val.json")
    try:
        schema.model_validate(metrics)
    except ValidationError:
        raise InputError(
            "The run {run} is damaged: metrics_val.json. Write it again: python -m pbl evaluate {run}.", run=run.path
        ) from None
    return metrics


def read_history(run: Run) -> list[dict[str, float]]:
    """Reads the numbers of each epoch of `history.csv`."""
    history = []
    for row in run.read_table("history.csv", "epoch"):
        numbers = {}
        for name, value in row.items():
            try:
                numbers[name] = float(value)
            except (TypeError, ValueError):
                continue
        history.append(numbers)
    return history


def find_leak(metrics: Mapping[str, Any]) -> Finding | None:
    if not metrics["leak"]:
        return None
    check, items = metrics["leak"].get("check"), metrics["leak"]["items"]
    if check == "altered_copies_in_train":
        return make_finding(
            "leak_suspected",
            "Training images that look like altered copies of others: at least {items}. A random split has such copies on both sides: the numbers here are likely too good.",
            items=items,
        )
    if check == "copies_across":
        return make_finding(
            "leak_suspected",
            "Validation images that are in training too: {items}. The numbers here are likely too good.",
            items=items,
        )
    return make_finding(
        "leak_suspected",
        "Validation images that look like altered copies of training images: {items}. The numbers here are likely too good.",
        items=items,
    )
