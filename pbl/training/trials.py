"""Short trials before a long training: which learning rate, does everything run, can the model learn at all.

None of them keeps a run.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from pbl.config import Config
from pbl.data import Data
from pbl.errors import InputError, Sentence
from pbl.models import MODELS
from pbl.models.keras_private import flatten_layers
from pbl.models.slips import tell_slips
from pbl.runs import Run, runs_folder
from pbl.storage.writing import temporary_folder
from pbl.tasks import open_data
from pbl.training.build import build_and_compile, build_callback, check_schedule
from pbl.training.optimization import build_optimizer
from pbl.training.performance import fused_operations
from pbl.training.run import rehearse

SMOOTHING = 0.9
DIVERGED = 4.0  # times the lowest loss so far: above it, nothing more can be learned from the trial
MEMORISED = 0.95
BLOCK = 10  # steps over which accuracy is averaged
MEASURES = {
    "classification": "accuracy",
    "segmentation": "dice",
}  # by task, the measure that shows that all is memorised


@dataclass(frozen=True)
class RateTrial:
    """The result of `find_learning_rate`.

    Attributes:
        table: One row for each step: `learning_rate`, `loss` (of that batch, nats) and `smoothed`.
        suggestion: A tenth of the rate at which the smoothed loss was lowest; None if it never fell.
        remark: What the curve does not show, in a sentence; or "".
    """

    table: pd.DataFrame
    suggestion: float | None
    remark: str


class _LossOfEachStep(keras.callbacks.Callback):
    """Keras logs the mean over the epoch so far; this keeps each batch's own loss."""

    def __init__(self):
        super().__init__()
        self.losses: list[float] = []
        self.lowest = np.inf

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.losses.append(logs["loss"])
        smoothed = _smooth(self.losses)[-1]
        self.lowest = min(self.lowest, smoothed)
        if not np.isfinite(logs["loss"]) or smoothed > DIVERGED * self.lowest:
            self.model.stop_training = True


def find_learning_rate(
    model: keras.Model,
    data: Data,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    steps: int = 120,
    seed: int = 0,
) -> RateTrial:
    """Tries rising learning rates, one in each step, and suggests one (Smith 2015, arXiv:1506.01186, section 3.3).

    The suggestion is a tenth of the rate at which the smoothed loss is lowest. (The rate at which it falls most steeply, which
    other tools suggest, was too high on digits and MNIST: it reached 21 to 28% where a tenth of this one reached 91 to 95%.)

    Args:
        model: A compiled model. A copy of it is trained; the model itself is not changed.
        data: Its training batches, in the order of `data.stream()`.
        lowest, highest: The rates of the first and the last step; 1e-4 to 3 for SGD, 1e-6 to 0.3 for others.
        steps: Number of steps, at least 20.
        seed: Seed of dropout and other random layers.

    Returns:
        The suggestion, None if the loss never fell; the table of all steps; a remark.

    Raises:
        InputError: The model is not compiled, cannot be copied, or the rates are not a range.

    Example:
        >>> import pbl
        >>> data = pbl.load_data("digits")
        >>> model = pbl.models.mlp(data.input_shape, data.num_classes, widths=[32])
        >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
        >>> trial = pbl.find_learning_rate(model, data, steps=40)
        >>> 1e-6 < trial.suggestion < 0.3
        True
    """
    if not model.compiled:
        raise InputError("find_learning_rate takes a compiled model: call model.compile(...) before it.")
    original = getattr(model.optimizer, "inner_optimizer", model.optimizer)  # not the one that scales the loss
    lowest, highest = (
        given if given is not None else default
        for given, default in zip(
            (lowest, highest), (1e-4, 3.0) if isinstance(original, keras.optimizers.SGD) else (1e-6, 0.3), strict=True
        )
    )
    if not (0 < lowest < highest and steps >= 20):
        raise InputError(
            "Learning rates from {lowest:g} to {highest:g} in {steps} steps: the first must be above 0 and below the last,"
            " and the steps at least 20.",
            lowest=lowest,
            highest=highest,
            steps=steps,
        )
    rise = (highest / lowest) ** (1 / (steps - 1))
    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        copy = keras.models.clone_model(model)
        copy.build(model.input_shape if hasattr(model, "input_shape") else (None, *data.input_shape))
        copy.set_weights(model.get_weights())
    except (NotImplementedError, ValueError, TypeError) as error:
        raise InputError(
            "{name} cannot be copied, so it would be changed: {error} Give it get_config().",
            name=model.name,
            error=" ".join(str(error).split())[:300],
        ) from None
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
    settings = original.get_config()
    settings["learning_rate"] = keras.optimizers.schedules.ExponentialDecay(lowest, decay_steps=1, decay_rate=rise)
    copy.compile(optimizer=type(original).from_config(settings), loss=model.loss)
    watch = _LossOfEachStep()
    with fused_operations(copy):
        copy.fit(data.stream(), steps_per_epoch=steps, epochs=1, callbacks=[watch], shuffle=False, verbose=0)
    losses = np.array(watch.losses)
    table = pd.DataFrame(
        {"learning_rate": lowest * rise ** np.arange(len(losses)), "loss": losses, "smoothed": _smooth(losses)}
    )
    return RateTrial(table, *_suggest(table, steps))


def _smooth(losses: list[float] | np.ndarray) -> np.ndarray:
    """Exponential mean, without the bias to zero of its first values (Kingma and Ba 2015, section 3)."""
    losses = pd.Series(losses, dtype=float)
    return losses.ewm(alpha=1 - SMOOTHING).mean().where(np.isfinite(losses)).to_numpy()


def _suggest(table: pd.DataFrame, steps: int) -> tuple[float | None, str]:
    finite = table[np.isfinite(table["smoothed"])]
    if len(finite) < 10:
        return None, Sentence(
            "The loss is not a finite number almost from the start. Check the model's outputs and the data."
        )
    at = finite["smoothed"].idxmin()
    # The scatter of single batches around the curve; a smaller fall does not count.
    scatter = (finite["loss"] - finite["smoothed"]).abs().median()
    if finite["smoothed"].iloc[:10].mean() - finite["smoothed"][at] < 2 * scatter:
        return None, Sentence("The loss does not fall at any rate. Try train --memorise: can the model learn at all?")
    rate = float(f"{finite['learning_rate'][at] / 10:.2g}")
    if at == finite.index[-1] and len(table) == steps:
        return rate, Sentence("The loss still fell at the highest rate: try higher rates too.")
    return rate, ""


def memorise(config: Config, count: int = 32, steps: int = 300) -> tuple[float, int, int]:
    """Trains on a few images until the model has memorised them; a model that cannot is wrong, or its rate is.

    Everything that hinders it is off: dropout, weight decay, L2, augmentation, label smoothing, and a schedule that falls.

    Args:
        config: The settings.
        count: Number of training images, equally many of all classes.
        steps: Most steps; each step sees all of the images.

    Returns:
        The share of the images that was classified correctly in the last ten steps (for segmentation the mean Dice), the number of steps, and the
        number of images (there may be fewer than `count`). From 0.95 on all is well.

    Example:
        >>> import pbl
        >>> share, steps, images = pbl.memorise(pbl.Config(model="mlp"), count=8)
        >>> share >= 0.95, images
        (True, 8)
    """
    if config.task not in MEASURES:
        config.check_is_classifier("train --memorise")
    options = {name: value for name, value in config.optimizer_options.items() if name != "weight_decay"}
    config = config.replace(
        augmentation={},
        optimizer_options=options,
        weight_decay=None,
        learning_rate_schedule="constant",
        schedule_options={},
        warmup_epochs=0,
        label_smoothing=0,
        batch_size=count,
        callbacks=[],
        steps_per_execution=1,
        sample_weights=None,
        class_weight=None,
    )
    with tell_slips(runs_folder() / config.experiment, MODELS.get(config.model)):
        return _memorise(config, count, steps)


def _memorise(config: Config, count: int, steps: int) -> tuple[float, int, int]:
    data = open_data(config)
    data.shrink(count)
    model, _ = build_and_compile(config, data)
    for layer in flatten_layers(model):
        for name in ("rate", "drop_rate"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
        layer.activity_regularizer = None
    for weight in model.trainable_weights:
        weight.regularizer = None

    measure = MEASURES[config.task]
    enough = 1.0 if config.is_classifier else 0.99  # in masks, a pixel of a border may stay wrong

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            if measure not in logs:
                raise InputError(
                    "memorise needs {measure} among the metrics, and the model's builder compiled it with: {names}.",
                    measure=measure,
                    names=", ".join(sorted(logs)),
                )
            self.model.stop_training = logs[measure] >= enough or not np.isfinite(logs["loss"])

    # Its accuracy is that of the training steps themselves: batch normalisation's averages for new images lag behind.
    with fused_operations(model):
        history = model.fit(
            data.stream(),
            steps_per_epoch=BLOCK,
            epochs=-(-steps // BLOCK),
            callbacks=[Stop()],
            shuffle=False,
            verbose=0,
        ).history
    return float(history[measure][-1]), BLOCK * len(history[measure]), data.split["images"]["train"]


def dry_run(config: Config, folder: str | Path | None = None) -> Run:
    """Does everything that `train` does, with a batch of training and of validation images, and keeps nothing of it.

    Args:
        config: The settings.
        folder: Where runs are kept: the traceback of an error in own code goes next to the experiment's runs.

    Returns:
        The run; its folder is gone.
    """
    kept_in = runs_folder(folder) / config.experiment
    # Checks the schedule of the real length: the short training below has another one.
    with tell_slips(kept_in):
        check_schedule(config, [build_callback(name) for name in config.callbacks])
    build_optimizer(config, steps_per_epoch=1000)
    short = config.replace(
        epochs=1, fine_tune_epochs=min(1, config.fine_tune_epochs), warmup_epochs=0, max_minutes=None
    )
    with temporary_folder() as temporary:
        run = rehearse(short, temporary, kept_in)
        _ = run.config, run.split  # read while the folder exists
        return run


def describe_memorising(config: Config, accuracy: float, count: int, steps: int) -> Sentence:
    """The meaning of the result of `memorise`, in a sentence."""
    if accuracy >= MEMORISED:
        return Sentence(
            "The model has memorised {count} images in {steps} steps: it can learn, and gradients reach all of it.",
            count=count,
            steps=steps,
        )
    if not config.is_classifier:
        return Sentence(
            "After {steps} steps the Dice is {accuracy:.2f} on {count} images, but it should be near 1. Either the model or its learning rate "
            "({rate:g}) is wrong. Try: python -m pbl find-rate; pixels scaled (Rescaling) as the first layer; a softmax at the end.",
            steps=steps,
            accuracy=accuracy,
            count=count,
            rate=config.learning_rate,
        )
    return Sentence(
        "After {steps} steps the model classifies {accuracy:.0%} of {count} images correctly, but it should classify all correctly. Either the "
        "model or its learning rate ({rate:g}) is wrong. Try: python -m pbl find-rate; pixels scaled (Rescaling) as the first layer; no activation "
        "before the softmax; fewer or wider layers.",
        steps=steps,
        accuracy=accuracy,
        count=count,
        rate=config.learning_rate,
    )
