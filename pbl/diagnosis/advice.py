"""The next experiment: at most three, ordered by the gain that can be expected, each with its cost.

The gain is a range. It comes from cases in which the advice was followed and measured (`MEASURED`), and from the team's own runs as
their number grows. It is kept as the share of all errors that is removed, since with few errors not many points can be gained. If nothing was
measured, or the run is at chance level, no gain is named. A regulariser is never advised without a longer schedule: with the same epochs
dropout or augmentation gained nothing or lost. If a network underfits, the learning rate comes before the epochs, and the epochs
before the size. A change that has just lost the team accuracy is not advised again.
"""

import contextlib
import json
import math
import shlex
from collections import ChainMap
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from pbl.config import Config, apply_overrides, as_word, flatten
from pbl.data.split import read_made_by
from pbl.diagnosis.evidence import Finding
from pbl.diagnosis.remedies import GO_ON, VALIDATE, Remedy
from pbl.diagnosis.rules import RULES, Diagnosis, diagnose
from pbl.diagnosis.signals import Signals
from pbl.errors import InputError
from pbl.languages.forms import fill_sentence
from pbl.runs import Run, load_run, runs_folder, runs_on

MOST = 3
SOURCE = "networks on digits, MNIST, CIFAR-10 and vehicles, three seeds each"
OWN = "{pairs} {pairs:pair|pairs} of your own runs"
MOST_PARENTS = 50  # the newest of the team's runs
PRIOR_RUNS = 2  # the table weighs as much as this many of the team's own pairs
NOISE = 0.015  # difference in accuracy between seeds with the same settings, measured on 200 MNIST images and 400 photographs
FAR_BACK = 2 / 3  # share of all epochs; if the best epoch is earlier, more epochs did not help
RATES = ("rate_times_10", "rate_times_3", "rate_by_10", "find_rate")  # one of these is enough


class Measured(NamedTuple):
    """The measured effect of following an advice (experiments/benchmarks/advice.csv).

    Attributes:
        lowest, middle, highest: Share of the errors that it removed; the middle is the median, or what `_weigh` gives.
        helped, tried: In how many cases there were fewer errors, and how many cases were tried.
    """

    lowest: float
    middle: float
    highest: float
    helped: int
    tried: int


MEASURED = {
    "dropout_and_longer": Measured(-0.020, 0.014, 0.224, 9, 10),
    "augmentation_and_longer": Measured(-0.009, 0.079, 0.496, 10, 11),
    "longer": Measured(0.032, 0.361, 0.781, 13, 13),
    "rate_times_10": Measured(0.121, 0.663, 0.836, 7, 7),
    "relax": Measured(0.141, 0.423, 0.639, 3, 3),
}


@dataclass(frozen=True)
class Experiment:
    """One thing to try next.

    Attributes:
        name: A short name, such as "dropout_and_longer".
        message: What to do and why, in a sentence.
        settings: What changes, in the form that `train` takes: {"epochs": 90, "model_options.dropout": 0.5}; empty if it is not a
            matter of settings.
        epochs: How many epochs it takes, each as long as this run's; 0 if nothing is trained.
        gain: The gain to expect, in points of accuracy, computed for this run's errors: the median of the measured cases; with pairs
            of the team's own runs, the mean of these pairs and of the median, which counts as two of them. None if nothing was
            measured, or if the run is at chance level.
        lowest, highest: The range of this gain.
        helped, tried: In how many cases it helped, and how many cases were tried.
        sources: Where the gain comes from: sentences with the field `pairs`.
        pairs: How many pairs of the team's own runs were used for it.
        command: What to type; "" if it is a matter of the data or the code.
        details, template: As in `pbl.diagnosis.Finding`.
    """

    name: str
    message: str
    settings: dict[str, Any]
    epochs: int
    gain: float | None
    lowest: float | None
    highest: float | None
    helped: int
    tried: int
    sources: tuple[str, ...]
    pairs: int
    command: str
    details: dict[str, Any]
    template: str


FIXED_ORDER = "underfitting"  # always rate before epochs before size, whatever was gained elsewhere


def advise(
    finding: Finding,
    config: Config,
    options: dict[str, Any],
    side: int,
    run: str = "RUN",
    runs: str | None = None,
    accuracy: float | None = None,
    chance: float = 0.0,
    team: Iterable[tuple[Config, float]] = (),
    has_official_validation: bool = False,
    best_epoch: int | None = None,
) -> tuple[Experiment, ...]:
    """Returns what to try next against a finding, at most three.

    Args:
        finding: What the run suffers from.
        config: The run's settings.
        options: The options of its model's builder.
        side: The images' shorter side in pixels.
        run: The run's folder, for the commands.
        runs: Where runs are kept, for the commands; None for the default.
        accuracy: The run's accuracy on validation, a share; without it, and at chance level, no gain is named.
        chance: The accuracy below which it may be chance.
        team: The team's runs on the same images: settings, and accuracy on validation as a share.
        has_official_validation: Whether the validation split came with the data, and cannot be made larger.
        best_epoch: The epoch of the best model.

    Example:
        >>> from pbl import Config
        >>> from pbl.diagnosis import advise, make_finding
        >>> finding = make_finding("underfitting", "It underfits.", cause="train_longer")
        >>> advise(finding, Config(epochs=10), {}, side=8, run="runs/mine/001")[0].command
        'python -m pbl train runs/mine/001 epochs=30'
    """
    cause = finding.cause or str(finding.details.get("kind", ""))
    remedies = ChainMap(*(rule.remedies for rule in RULES.values() if rule.name == finding.name))
    known = {_key(of): value for of, value in team}
    parents = [(of, value) for of, value in team][-MOST_PARENTS:]
    found: list[Experiment] = []
    promises: dict[str, float] = {}
    for remedy, share in remedies.get(cause) or remedies.get("", ()):
        settings = remedy.change(config, options, side)
        if settings is None or (remedy is VALIDATE and has_official_validation):
            continue
        if remedy.name == "longer" and best_epoch is not None and best_epoch < FAR_BACK * config.epochs:
            continue
        if remedy.name in RATES and any(experiment.name in RATES for experiment in found):
            continue
        words = _as_words(settings)
        if settings and _key(apply_overrides(config, words)) in known:
            continue  # the team already has that run
        if settings and accuracy is not None and _has_hurt(apply_overrides(config, words), config, accuracy, parents):
            continue
        own = _find_own(remedy, options, side, parents, known)
        share = _expect(remedy, share, own)
        if own and share is not None and share <= 0:
            continue
        measured: Measured | None = None
        low: float | None = None
        middle: float | None = None
        high: float | None = None
        if accuracy is not None and accuracy > chance and (measured := _range(remedy, own)) is not None:
            low, middle, high = (100 * share * (1 - accuracy) for share in measured[:3])
        details = {name.replace(".", "_"): value for name, value in settings.items()} | {"settings": ", ".join(words)}
        command = "train {run}" if settings else remedy.command
        typed = [run if word == "{run}" else word for word in command.split()] + words
        typed += ["--runs", runs] if runs and typed[0] == "train" else []
        promises[remedy.name] = share or 0
        found.append(
            Experiment(
                name=remedy.name,
                message=fill_sentence(remedy.template, details),
                settings=settings,
                epochs=settings.get("epochs", config.epochs) if settings else remedy.trainings * config.epochs,
                gain=middle,
                lowest=low,
                highest=high,
                helped=0 if measured is None else measured.helped,
                tried=0 if measured is None else measured.tried,
                sources=(SOURCE,) * (remedy.name in MEASURED) + (OWN,) * bool(own),
                pairs=len(own),
                command=shlex.join(["python", "-m", "pbl", *typed]),
                details=details,
                template=remedy.template,
            )
        )
    if any(experiment.pairs for experiment in found) and finding.name != FIXED_ORDER:
        found.sort(key=lambda experiment: -promises[experiment.name])
    return tuple(found[:MOST])


def _key(config: Config) -> str:
    return json.dumps(config.decides(), sort_keys=True)


def _as_words(settings: dict[str, Any]) -> list[str]:
    """The settings as words of the command line."""
    return [f"{name}={as_word(value)}" for name, value in settings.items()]


def _find_own(
    remedy: Remedy,
    options: dict[str, Any],
    side: int,
    parents: list[tuple[Config, float]],
    known: dict[str, float],
) -> list[float]:
    """The share of errors that the remedy removed, for each pair of the team's runs that differ by it alone."""
    own = []
    for parent, before in parents:
        settings = remedy.change(parent, options, side) if remedy.command == "train" else None
        if not settings:
            continue
        with contextlib.suppress(InputError):
            after = known.get(_key(apply_overrides(parent, _as_words(settings))))
            own += [(after - before) / max(1 - before, 1e-9)] if after is not None else []
    return own


def _expect(remedy: Remedy, share: float | None, own: list[float]) -> float | None:
    """The share of errors by which experiments are ordered: the measured one or the table's, combined with the team's own."""
    share = MEASURED[remedy.name].middle if remedy.name in MEASURED else share
    return _weigh(share, own) if own else share


def _weigh(share: float | None, own: list[float]) -> float:
    """The mean of the team's own pairs, of which there is one at least, and of the table, where it has that remedy."""
    return sum(own) / len(own) if share is None else (PRIOR_RUNS * share + sum(own)) / (PRIOR_RUNS + len(own))


def _range(remedy: Remedy, own: list[float]) -> Measured | None:
    """What was measured, with the team's own pairs; None if nothing was."""
    table = MEASURED.get(remedy.name)
    if not own:
        return table
    shares = sorted([*own, *(table[:3] if table else ())])
    middle = _weigh(None if table is None else table.middle, own)
    helped = sum(share > 0 for share in own)
    if table is None:
        return Measured(shares[0], middle, shares[-1], helped, len(own))
    return Measured(shares[0], middle, shares[-1], table.helped + helped, table.tried + len(own))


def _has_hurt(advised: Config, config: Config, accuracy: float, team: list[tuple[Config, float]]) -> bool:
    """Whether a step in the same direction has lost accuracy: on the way to this run, or from this run to another one of the team."""

    def steps(of: Config, to: Config) -> dict[str, float | str]:
        """For each setting that differs: the sign of the change, or the new value if it is not a number."""
        before, after = flatten(of.decides()), flatten(to.decides())
        changed: dict[str, float | str] = {}
        for name in before.keys() | after.keys():
            old, new = before.get(name), after.get(name)
            if old != new:
                if isinstance(old, (int, float)) and isinstance(new, (int, float)):
                    changed[name] = math.copysign(1, new - old)
                else:
                    changed[name] = json.dumps(new)
        return changed

    wanted = steps(config, advised)
    return any(
        (other_accuracy - accuracy > NOISE and steps(other, config) == wanted)
        or (accuracy - other_accuracy > NOISE and steps(config, other) == wanted)
        for other, other_accuracy in team
    )


def diagnose_run(run: str | Path | Run, has_ended: bool | None = None) -> Diagnosis:
    """Diagnoses a run and says what to try next, from its files alone.

    Args:
        run: A run that `train` made, or its folder; the team's other runs are found next to it.
        has_ended: Whether its training has ended; by default as its `environment.json` says.

    Returns:
        The diagnosis. If the run has not ended, the only advice is to resume it.

    Raises:
        InputError: The run has no `signals.npz`, has not ended its first epoch, or one of its files is damaged.
    """
    run = load_run(run)
    run.check_is_classifier("diagnose")
    signals = Signals.load(run.path / "signals.npz")
    if len(signals.epochs) < 2:
        raise InputError("{run} has not finished its first epoch: there is nothing to diagnose yet.", run=run.path)
    folder = run.path.resolve().parent.parent
    environment, team = run.environment, []
    if environment.get("images"):
        for other in runs_on(environment["images"], folder):
            accuracy = _read_accuracy(other)
            if accuracy is not None and other.path.resolve() != run.path.resolve():
                with contextlib.suppress(InputError):
                    team.append((other.config, accuracy))
    best = max((accuracy for _, accuracy in team), default=None)
    diagnosis = diagnose(signals, read_findings(run), best, environment.get("limits") or {})
    if diagnosis.headline.name == "diverged":  # if the rate is too high, do not say that it may be too low
        kept = [finding for finding in diagnosis.findings if finding.cause != "low_rate"]
        diagnosis = replace(diagnosis, findings=tuple(kept))
    is_default = folder == runs_folder().resolve()
    path, runs = str(run.path), None if is_default else str(folder)
    if has_ended is None:
        has_ended = environment.get("status") == "finished" or bool(environment.get("diverged"))
    if not has_ended:
        command = shlex.join(["python", "-m", "pbl", "train", path, *(["--runs", runs] if runs else [])])
        going_on = Experiment(
            GO_ON.name, GO_ON.template, {}, 0, None, None, None, 0, 0, (), 0, command, {}, GO_ON.template
        )
        return replace(diagnosis, experiments=(going_on,))
    accuracy, shape = _read_accuracy(run), run.split["input_shape"]
    if not (isinstance(shape, list) and len(shape) == 3):
        raise InputError("The run {run} is damaged: input_shape in split.json. Train again with --fresh.", run=run.path)
    how = read_made_by(run.split.get("made_by", {}).get("val"))
    own = [] if accuracy is None else [(run.config, accuracy)]
    experiments = advise(
        diagnosis.headline,
        run.config,
        environment.get("builder_options", {}),
        min(shape[:2]),
        run=path,
        runs=runs,
        accuracy=accuracy,
        chance=_find_chance(run),
        team=[*team, *own],
        has_official_validation=how is not None and how["kind"] == "official",
        best_epoch=environment.get("best_epoch"),
    )
    return replace(diagnosis, experiments=experiments)


def _read_accuracy(run: Run) -> float | None:
    """Accuracy on validation; None if it is not known."""
    try:
        accuracy = run.read_json("metrics_val.json").get("accuracy")
    except InputError:
        return None
    return float(accuracy) if isinstance(accuracy, (int, float)) and 0 <= accuracy <= 1 else None


def _find_chance(run: Run) -> float:
    """The accuracy that guessing the commonest class reaches at most (with 97.5%) on as many validation images; 0 if it is not known."""
    by_class = run.split.get("images_by_class")
    counts = by_class.get("val") if isinstance(by_class, dict) else None
    if not (isinstance(counts, dict) and sum(counts.values())):
        return 0.0
    n = sum(counts.values())
    share = max(counts.values()) / n
    return share + 1.96 * math.sqrt(share * (1 - share) / n)


# The fields that the rules read from each of the data doctor's findings.
NEEDED = {
    "labels_harder_than_validation": ("loss", "images", "val_loss", "val_images"),
    "reference_accuracy": ("accuracy", "images"),
    "shift": ("split", "auc", "statistic"),
}


def read_findings(run: Run) -> list[dict[str, Any]]:
    """Reads what the data doctor found before a run; raises InputError if the file is damaged."""
    if not (run.path / "data_check.json").exists():
        return []
    findings = run.read_json("data_check.json").get("findings")
    if isinstance(findings, list) and all(_is_finding(finding) for finding in findings):
        return findings
    raise InputError("The run {run} is damaged: data_check.json. Train again with --fresh.", run=run.path)


def _is_finding(value: Any) -> bool:
    if not (isinstance(value, dict) and {"check", "severity", "items", "details"} <= set(value)):
        return False
    details = value["details"]
    if not isinstance(details, dict) or not isinstance(value["items"], list) or not isinstance(value["check"], str):
        return False
    kinds: dict[str, type] = dict.fromkeys(("accuracy", "auc", "p", "loss", "val_loss"), float)
    kinds |= dict.fromkeys(("images", "val_images", "of_train", "of_val"), int)
    are_numbers = all(
        type(details[name]) in (kind, int) and 0 <= details[name] < 1e9
        for name, kind in kinds.items()
        if name in details
    )
    are_numbers &= all(type(details.get(name, 0)) in (float, int) for name in ("low", "looked_at", "share"))
    return are_numbers and set(NEEDED.get(value["check"], ())) <= set(details)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """A diagnosis in a form that JSON can hold: numbers that are not finite become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return plain(asdict(diagnosis))
