"""The next experiment: at most three, in the order of what they can be expected to gain, each with its price.

The gains come from measured pairs of runs (`SOURCE`), and from the team's own ones as they grow. A regulariser is never
advised without a longer schedule: at the same epochs dropout or augmentation gained nothing or lost. Where a network
underfits, the learning rate comes before the epochs, and the epochs before the size.
"""

import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from pbl.config import Config, apply_overrides
from pbl.diagnosis import Diagnosis, Finding, diagnose
from pbl.errors import InputError
from pbl.runs import Run, runs_on
from pbl.signals import Signals

MOST = 3
SOURCE = "72 pairs of runs, 200 MNIST images and 400 photographs, noise about 1.5 points"
OWN = "{pairs} pair(s) of your own runs"
PRIOR_RUNS = 2  # of the team's own pairs weigh as much as the table

# The next larger network, where no option makes it wider.
LARGER = {
    "perceptron": "mlp",
    "softmax_regression": "mlp",
    "mlp": "small_cnn",
    "mlp_functional": "small_cnn_functional",
    "mlp_subclassed": "small_cnn_subclassed",
    "lenet5": "small_cnn",
    "small_cnn": "resnet20",
    "small_cnn_functional": "resnet20",
    "small_cnn_subclassed": "resnet20",
    "vgg_small": "resnet20",
    "resnet20": "resnet32",
    "resnet32": "resnet56",
    "se_resnet20": "se_resnet32",
    "se_resnet32": "se_resnet56",
    "vit_tiny": "vit_small",
}
# Without batch normalisation or skip connections gradients fade in deep networks; with them they do not.
DEEP_THAT_LEARNS = "resnet20"


@dataclass(frozen=True)
class Experiment:
    """One thing to try next.

    Attributes:
        name: A word for it, such as "dropout_and_longer".
        message: What to do and why, in a sentence.
        settings: What changes, as `train` takes it: {"epochs": 90, "model_options.dropout": 0.5}; empty where it is not a
            matter of settings.
        epochs: How many it takes, of this run's training images; 0 where nothing is trained.
        gain: Points of accuracy that can be expected; None where nothing was measured.
        sources: Where the gain comes from, in sentences with the field `pairs`.
        pairs: Of the team's own runs that went into it.
        command: What to type; "" where it is a matter of the data or the code.
        details, template: As in `pbl.diagnosis.Finding`.
    """

    name: str
    message: str
    settings: dict[str, Any]
    epochs: int
    gain: float | None
    sources: tuple[str, ...]
    pairs: int
    command: str
    details: dict[str, Any]
    template: str


@dataclass(frozen=True)
class Remedy:
    """A kind of experiment, and how it changes the settings."""

    name: str
    template: str
    change: Callable[[Config, dict[str, Any], int], dict[str, Any] | None]  # settings, builder's options, shorter side
    command: str = "train"  # or what stands in its place; {run}, {dataset}


def _longer(config: Config, options: dict, side: int, times: int = 3) -> dict:
    return {"epochs": times * config.epochs}


def _augmented(config: Config, options: dict, side: int) -> dict | None:
    if config.augmentation:
        return None
    return {"augmentation.crop": max(1, side // 8), "augmentation.rotation": 10, **_longer(config, options, side)}


def _dropped(config: Config, options: dict, side: int, rate: float = 0.5) -> dict | None:
    now = options.get("dropout")
    return None if now is None or now >= rate else {"model_options.dropout": rate, **_longer(config, options, side)}


def _augmented_and_dropped(config: Config, options: dict, side: int) -> dict | None:
    both = _augmented(config, options, side), _dropped(config, options, side, 0.3)
    return None if None in both else both[0] | both[1]


def _rate_times(factor: float) -> Callable:
    return lambda config, options, side: {"learning_rate": float(f"{config.learning_rate * factor:.2g}")}


def _relaxed(config: Config, options: dict, side: int) -> dict | None:
    """Takes away what holds the weights back: penalties, dropout, augmentation."""
    settings: dict[str, Any] = {}
    if options.get("l2"):
        settings["model_options.l2"] = 0.0
    elif (config.weight_decay or 0) > 1e-3:
        settings["weight_decay"] = 0.0
    if options.get("dropout"):
        settings["model_options.dropout"] = round(options["dropout"] / 2, 3)
    if config.augmentation:
        settings["augmentation"] = {}
    return settings or None


def _larger(config: Config, options: dict, side: int) -> dict | None:
    return {"model": LARGER[config.model]} if config.model in LARGER else None


def _smaller_batches(config: Config, options: dict, side: int) -> dict | None:
    return {"batch_size": max(16, config.batch_size // 4)} if config.batch_size > 16 else _longer(config, options, side)


def _weighted(config: Config, options: dict, side: int) -> dict | None:
    return None if config.class_weight else {"class_weight": "balanced"}


def _learning_network(config: Config, options: dict, side: int) -> dict | None:
    return None if config.model == DEEP_THAT_LEARNS else {"model": DEEP_THAT_LEARNS}


def _folds(config: Config, options: dict, side: int) -> dict | None:
    return None if config.folds or config.validation_fraction else {"validation_fraction": 0.3}


def _softened(config: Config, options: dict, side: int) -> dict | None:
    if config.label_smoothing:
        return None
    return {"loss": "categorical_crossentropy", "label_smoothing": 0.1}


def _more_data(config: Config, options: dict, side: int) -> dict:
    return {"train_fraction": min(1.0, 2 * config.train_fraction)} if config.train_fraction < 1 else {}


def _nothing(config: Config, options: dict, side: int) -> dict:
    return {}


# fmt: off
MORE_DATA = Remedy("more_data", "Twice as many training images; whether they would help, the learning curve tells.", _more_data, "train {run} --learning-curve")
DROPOUT = Remedy("dropout_and_longer", "Dropout {model_options_dropout} with three times the epochs.", _dropped)
AUGMENT = Remedy("augmentation_and_longer", "Augmentation (shifts and turns; mirrored too, where a mirrored image is of the same class) with three times the epochs.", _augmented)
BOTH = Remedy("augmentation_dropout_and_longer", "Augmentation and dropout {model_options_dropout} with three times the epochs.", _augmented_and_dropped)
LONGER = Remedy("longer", "Three times the epochs: {epochs}.", _longer)
RATE_10 = Remedy("rate_times_10", "Ten times the learning rate: {learning_rate:g}; `find-rate` suggests one too.", _rate_times(10))
RATE_3 = Remedy("rate_times_3", "Three times the learning rate: {learning_rate:g}.", _rate_times(3))
LOWER_RATE = Remedy("rate_by_10", "A tenth of the learning rate: {learning_rate:g}.", _rate_times(0.1))
RELAX = Remedy("relax", "Less that holds the weights back: {settings}.", _relaxed)
LARGER_MODEL = Remedy("larger", "A larger network: {model}.", _larger)
SKIPS = Remedy("skip_connections", "A network with skip connections: {model}.", _learning_network)
STEPS = Remedy("more_steps", "More steps for the averages: smaller batches, or more epochs.", _smaller_batches)
WEIGHTS = Remedy("class_weight", "Let images of rare classes count for more.", _weighted)
SMOOTH = Remedy("label_smoothing", "Label smoothing 0.1.", _softened)
VALIDATE = Remedy("more_validation", "A larger share of the images for validation.", _folds)
CHECK = Remedy("check_data", "Look at the images that the data doctor names.", _nothing, "check {dataset}")
LEAVE_OUT = Remedy("leave_out_copies", "Leave the copies out, and train again; expect a lower, true accuracy.", _nothing, "check {dataset} --leave-out copies.txt")
MEMORISE = Remedy("memorise", "See whether the network can learn 32 images by heart; if not, something is wrong in it.", _nothing, "train {run} --memorise 32")
FIND_RATE = Remedy("find_rate", "Let `find-rate` suggest a learning rate.", _nothing, "find-rate {run}")
SEEDS = Remedy("seeds", "Two more seeds, to see how much of the accuracy is chance.", _nothing, "train {run} --seeds 3")

# What helps against which finding and cause, or kind, with the points that it gained; None where nothing was measured.
REMEDIES: dict[tuple[str, str], tuple[tuple[Remedy, float | None], ...]] = {
    ("diverged", ""): ((LOWER_RATE, None), (FIND_RATE, None)),
    ("diverged", "initial"): ((CHECK, None), (LOWER_RATE, None), (FIND_RATE, None)),
    ("batch_norm_mismatch", ""): ((STEPS, None), (LONGER, None)),
    ("class_imbalance", ""): ((WEIGHTS, None), (CHECK, None)),
    ("dead_units", ""): ((MEMORISE, None), (LOWER_RATE, None)),
    ("vanishing_gradients", ""): ((SKIPS, None), (MEMORISE, None)),
    ("leak_suspected", ""): ((LEAVE_OUT, None),),
    ("shift_suspected", ""): ((CHECK, None),),
    ("label_noise_suspected", ""): ((CHECK, None), (SMOOTH, None)),
    ("too_noisy_to_say", ""): ((VALIDATE, None), (SEEDS, None)),
    ("underfitting", "low_rate"): ((RATE_10, 58.2), (LONGER, 5.7), (FIND_RATE, None)),
    ("underfitting", "train_longer"): ((LONGER, 11.4), (RATE_3, 10.0)),
    ("underfitting", "over_regularised"): ((RELAX, None), (LONGER, None)),
    ("underfitting", "capacity"): ((RATE_3, 10.0), (LONGER, 11.4), (LARGER_MODEL, 26.1)),
    ("overfitting", ""): ((MORE_DATA, 5.2), (DROPOUT, 4.9), (BOTH, 4.6), (AUGMENT, 4.2)),
    ("healthy", ""): ((SEEDS, None), (LONGER, None), (LARGER_MODEL, None)),
    ("unknown", ""): ((MEMORISE, None), (FIND_RATE, None)),
}
# fmt: on
FIXED_ORDER = "underfitting"  # rate before epochs before size, whatever was gained elsewhere


def advise(
    finding: Finding,
    config: Config,
    options: dict[str, Any],
    side: int,
    run: str = "RUN",
    team: Iterable[tuple[Config, float]] = (),
) -> tuple[Experiment, ...]:
    """Returns what to try next against a finding, at most three.

    Args:
        finding: What the run suffers from.
        config: The run's settings.
        options: The options of its model's builder.
        side: The images' shorter side in pixels.
        run: The run's folder, for the commands.
        team: The team's runs on the same images: settings, and accuracy on validation as a share.
    """
    cause = finding.cause or str(finding.details.get("kind", ""))
    remedies = REMEDIES.get((finding.name, cause)) or REMEDIES[finding.name, ""]
    team, found = list(team), []
    for remedy, gain in remedies:
        settings = remedy.change(config, options, side)
        if settings is None:
            continue
        gain, sources, pairs = _expect(remedy, gain, options, side, team)
        words = [f"{name}={_as_word(value)}" for name, value in settings.items()]
        details = {name.replace(".", "_"): value for name, value in settings.items()} | {"settings": ", ".join(words)}
        command = "train {run}" if settings else remedy.command
        command = shlex.join(["python", "-m", "pbl", *command.format(run=run, dataset=config.dataset).split(), *words])
        found.append(
            Experiment(
                remedy.name,
                remedy.template.format(**details),
                settings,
                settings.get("epochs", config.epochs) if settings else 0,
                gain,
                sources,
                pairs,
                command,
                details,
                remedy.template,
            )
        )
    if finding.name != FIXED_ORDER:
        found.sort(key=lambda experiment: -(experiment.gain or 0))
    return tuple(found[:MOST])


def _as_word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _expect(
    remedy: Remedy, gain: float | None, options: dict[str, Any], side: int, team: list[tuple[Config, float]]
) -> tuple[float | None, tuple[str, ...], int]:
    """Points that a remedy gains: of the table, and of the team's runs of which one is the other with this remedy."""
    gains = []
    for parent, before in team:
        settings = remedy.change(parent, options, side) if remedy.command == "train" else None
        if settings:
            try:
                changed = apply_overrides(parent, [f"{name}={_as_word(value)}" for name, value in settings.items()])
            except InputError:
                continue
            gains += [100 * (after - before) for child, after in team if child.decides() == changed.decides()]
    if not gains:
        return gain, (SOURCE,) if gain is not None else (), 0
    if gain is None:
        return sum(gains) / len(gains), (OWN,), len(gains)
    return (PRIOR_RUNS * gain + sum(gains)) / (PRIOR_RUNS + len(gains)), (OWN, SOURCE), len(gains)


def diagnose_run(run: Run) -> Diagnosis:
    """Says what a run suffers from and what to try next, from its files alone.

    Args:
        run: A run that `train` made; the team's other runs are found beside it.

    Returns:
        The diagnosis.

    Raises:
        InputError: The run has no `signals.npz`, or a file of it is damaged.
    """
    signals = Signals.load(run.path / "signals.npz")
    data = run.read_json("data_check.json")["findings"] if (run.path / "data_check.json").exists() else []
    environment, team = run.environment, []
    for other in runs_on(environment.get("images", ""), run.path.parent.parent):
        try:
            if (other.path / "metrics_val.json").exists() and other.path != run.path:
                team.append((other.config, other.read_json("metrics_val.json")["accuracy"]))
        except InputError:
            continue
    best = max((accuracy for _, accuracy in team), default=None)
    diagnosis = diagnose(signals, data, best)
    config, own = run.config, []
    if (run.path / "metrics_val.json").exists():
        own = [(config, run.read_json("metrics_val.json")["accuracy"])]
    side = min(run.split["input_shape"][:2])
    experiments = advise(
        diagnosis.headline, config, environment.get("builder_options", {}), side, str(run.path), team + own
    )
    return replace(diagnosis, experiments=experiments)


def write_diagnosis(run: Run) -> Diagnosis:
    """Writes `diagnosis.json` into a run, and returns the diagnosis."""
    diagnosis = diagnose_run(run)
    run.write_json("diagnosis.json", asdict(diagnosis))
    return diagnosis
