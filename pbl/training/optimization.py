"""What the settings define for learning: the optimizer, its learning rate over time, and the loss.

All are Keras's own classes, so a saved model loads in plain Keras. Recipes of the papers are in `experiments/`.
"""

import inspect
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import keras
from keras.optimizers import schedules

from pbl.config import Config
from pbl.errors import InputError, Sentence, name_nearest

WARMUP_STAIRS = 20

# Names in earlier versions of Keras, and the names now.
_RENAMED = {
    "lr": Sentence("It is a setting of its own: learning_rate=0.001."),
    "learning_rate": Sentence("It is a setting of its own: learning_rate=0.001."),
    "decay": Sentence("It was in Keras 1 and 2. Now: learning_rate_schedule=inverse_time schedule_options.decay=5e-4."),
}

# The options of each schedule, with their defaults.
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {},
    "cosine": {"end": 0.0},
    "step": {"at": [0.5, 0.75], "factor": 0.1},
    "one_cycle": {"peak_at": 0.3, "start": 0.04, "end": 4e-6},
    "inverse_time": {"decay": 5e-4},
}


def build_optimizer(config: Config, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Builds the optimizer that a configuration names, with its learning-rate schedule.

    Args:
        config: `optimizer`, `optimizer_options`, `weight_decay`, `decay_biases` and the settings that `build_schedule` reads. The weight
            decay is decoupled: a step subtracts rate * weight_decay of each weight, whatever the momentum. With SGD and momentum, a paper's
            decay is mostly a part of the gradient, as in Caffe and Torch: weight_decay = paper's / (1 - momentum).
        steps_per_epoch: Batches in an epoch.

    Raises:
        InputError: There is no such optimizer or option (the nearest name is given), or an option's value is out of range.
    """
    optimizers = {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if inspect.isclass(value)
        and issubclass(value, keras.optimizers.Optimizer)
        and name not in ("Optimizer", "LossScaleOptimizer")
    }
    optimizer = optimizers.get(config.optimizer.lower())
    if optimizer is None:
        raise InputError(
            "No optimizer is called '{name}'. {nearest}",
            name=config.optimizer,
            nearest=name_nearest(config.optimizer, optimizers),
        )
    parameters = inspect.signature(optimizer).parameters
    valid = [name for name in parameters if name not in ("learning_rate", "kwargs", "name")]
    for option, value in config.optimizer_options.items():
        if option not in valid:
            hint = _RENAMED.get(option) or name_nearest(option, valid)
            raise InputError(
                "Optimizer '{name}' has no option '{option}'. {hint}", name=config.optimizer, option=option, hint=hint
            )
        if isinstance(value, str) and isinstance(parameters[option].default, (int, float)):
            raise InputError("optimizer_options.{option}={value}: it must be a number.", option=option, value=value)
    rate, options = build_schedule(config, steps_per_epoch), dict(config.optimizer_options)
    if config.weight_decay is not None:
        if "weight_decay" in options:
            raise InputError("weight_decay is given twice: as a setting and in optimizer_options.")
        options["weight_decay"] = config.weight_decay
    try:
        built = optimizer(learning_rate=rate, **options)
    except (TypeError, ValueError) as error:
        raise InputError(
            "optimizer_options={options} do not fit '{name}': {error}",
            options=config.optimizer_options,
            name=config.optimizer,
            error=error,
        ) from error
    if not config.decay_biases and built.weight_decay:
        # By the last part of the name, which TensorFlow writes as "dense/bias:0".
        built.exclude_from_weight_decay(var_names=["(^|/)(bias|gamma|beta)(:0)?$"])
    return built


def build_schedule(config: Config, steps_per_epoch: int) -> float | schedules.LearningRateSchedule:
    """Builds the learning rate over time: a number if it is constant.

    | `learning_rate_schedule` | `schedule_options` | the rate; `learning_rate` is its highest value |
    |---|---|---|
    | constant | | |
    | cosine | `end` (0) | falls along half a cosine to `end` times the rate (Loshchilov and Hutter 2017) |
    | step | `at` (0.5, 0.75), `factor` (0.1) | multiplied by `factor` after these shares of all steps (He et al. 2015, section 4.2) |
    | one_cycle | `peak_at` (0.3), `start` (0.04), `end` (4e-6) | rises linearly from `start` times the rate for that share of all steps, then falls along half a cosine to `end` times it (Smith and Topin 2018; the momentum stays) |
    | inverse_time | `decay` (5e-4) | rate / (1 + decay * step): Keras 1's and 2's `decay` |

    `warmup_epochs` lets the first three schedules rise linearly before that; "step" in 20 stairs.

    Args:
        config: `learning_rate`, `learning_rate_schedule`, `schedule_options`, `warmup_epochs` and `epochs` are read.
        steps_per_epoch: Batches in an epoch.

    Raises:
        InputError: An option is unknown or out of range.
    """
    name, rate = config.learning_rate_schedule, config.learning_rate
    options = _check_options(name, config.schedule_options)
    steps, warmup = steps_per_epoch * config.epochs, round(steps_per_epoch * config.warmup_epochs)
    if config.warmup_epochs and not warmup:
        raise InputError("warmup_epochs={epochs} is less than one step.", epochs=config.warmup_epochs)
    if warmup and name == "step" and warmup >= options["at"][0] * steps:
        raise InputError(
            "warmup_epochs={epochs} ends after the first step down, at {share:.0%} of all steps.",
            epochs=config.warmup_epochs,
            share=options["at"][0],
        )
    if warmup and (name in ("one_cycle", "inverse_time") or warmup >= steps):
        raise InputError(
            "warmup_epochs={epochs} {why}.",
            epochs=config.warmup_epochs,
            why=Sentence("leaves no epoch at the full rate")
            if warmup >= steps
            else Sentence("does not work with '{name}'", name=name),
        )
    if name == "cosine":
        start = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
        return schedules.CosineDecay(0.0 if warmup else rate, steps - warmup, alpha=options["end"], **start)
    if name == "one_cycle":
        rise = max(1, round(options["peak_at"] * steps))
        return schedules.CosineDecay(
            rate * options["start"], max(1, steps - rise), alpha=options["end"], warmup_target=rate, warmup_steps=rise
        )
    if name == "inverse_time":
        return schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=options["decay"])
    if name == "step":
        stairs = range(1, WARMUP_STAIRS) if warmup >= WARMUP_STAIRS else range(1, warmup)
        boundaries = [round(warmup * stair / len([0, *stairs])) for stair in stairs] if warmup else []
        values = [rate * (n + 1) / (len(boundaries) + 1) for n in range(len(boundaries))]
        boundaries += [round(share * steps) for share in options["at"]]
        return schedules.PiecewiseConstantDecay(
            boundaries, values + [rate * options["factor"] ** n for n in range(len(options["at"]) + 1)]
        )
    if warmup:
        return schedules.PolynomialDecay(0.0, warmup, end_learning_rate=rate)
    return rate


def _check_options(name: str, given: dict[str, Any]) -> dict[str, Any]:
    defaults = SCHEDULES[name]
    for option, value in given.items():
        if option not in defaults:
            raise InputError(
                "The schedule '{name}' has no option '{option}'. {valid}",
                name=name,
                option=option,
                valid=name_nearest(option, defaults) if defaults else Sentence("It has none."),
            )
        what, is_right = _VALID[option]
        numbers = value if isinstance(value, list) else [value]
        are_numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in numbers)
        if not (are_numbers and isinstance(value, list) == (option == "at") and is_right(value)):
            raise InputError(
                "schedule_options.{option}={value}: it must be {what}.", option=option, value=value, what=what
            )
    return {**defaults, **given}


# The valid values of each option, in words and as a test.
_VALID: dict[str, tuple[Sentence, Callable[[Any], bool]]] = {
    "at": (
        Sentence("a list of shares of all steps that rise, above 0 and below 1, such as [0.5, 0.75]"),
        lambda value: bool(value) and all(a < b for a, b in pairwise([0, *value, 1])),
    ),
    "factor": (Sentence("a factor above 0 and below 1"), lambda value: 0 < value < 1),
    "peak_at": (Sentence("a share of all steps, above 0 and below 1"), lambda value: 0 < value < 1),
    "start": (Sentence("a share of the learning rate, 0 to 1"), lambda value: 0 <= value <= 1),
    "end": (Sentence("a share of the learning rate, 0 to 1"), lambda value: 0 <= value <= 1),
    "decay": (Sentence("a number above 0 and below 1"), lambda value: 0 < value < 1),
}


def build_loss(config: Config) -> str | keras.losses.Loss:
    """Builds the loss, with `label_smoothing` (Szegedy et al. 2016) if it is set.

    Raises:
        InputError: Label smoothing is set without one-hot labels.
    """
    if not config.label_smoothing:
        return config.loss
    if config.loss != "categorical_crossentropy":
        raise InputError("label_smoothing needs one-hot labels: set loss=categorical_crossentropy.")
    return keras.losses.CategoricalCrossentropy(label_smoothing=config.label_smoothing)
