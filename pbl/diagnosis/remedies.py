"""The kinds of experiment that may help against a finding, and how each changes the settings. These are data: nothing is judged here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pbl.config import Config

# The next larger network, for models that no option makes wider.
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
class Remedy:
    """A kind of experiment, and how it changes the settings.

    Example:
        >>> from pbl import Config
        >>> from pbl.diagnosis import Remedy
        >>> longer = Remedy("longer", "Twice the epochs: {epochs}.", lambda config, options, side: {"epochs": 2 * config.epochs})
        >>> longer.change(Config(epochs=10), {}, 32)
        {'epochs': 20}
    """

    name: str
    template: str
    change: Callable[[Config, dict[str, Any], int], dict[str, Any] | None]  # settings, builder's options, shorter side
    command: str = "train"  # or another command
    trainings: int = 0  # how many trainings, each as long as the run's, such a command takes


def _lengthened(config: Config) -> dict:
    """For a change that slows learning down: longer even if early stopping may end it earlier."""
    return {"epochs": 3 * config.epochs}


def _longer(config: Config, options: dict, side: int) -> dict | None:
    return None if "early_stopping" in config.callbacks else _lengthened(config)  # it stopped by itself


def _augmented(config: Config, options: dict, side: int) -> dict | None:
    if config.augmentation:
        return None
    return {"augmentation.crop": max(1, side // 8), "augmentation.rotation": 10, **_lengthened(config)}


def _dropped(config: Config, options: dict, side: int, rate: float = 0.5) -> dict | None:
    now = options.get("dropout")
    return None if now is None or now >= rate else {"model_options.dropout": rate, **_lengthened(config)}


def _augmented_and_dropped(config: Config, options: dict, side: int) -> dict | None:
    augmented, dropped = _augmented(config, options, side), _dropped(config, options, side, 0.3)
    return None if augmented is None or dropped is None else augmented | dropped


def _rate_times(factor: float) -> Callable:
    return lambda config, options, side: {"learning_rate": float(f"{config.learning_rate * factor:.2g}")}


def _relaxed(config: Config, options: dict, side: int) -> dict | None:
    """Removes what holds the weights back: penalties, dropout, augmentation."""
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


def _less_augmented(config: Config, options: dict, side: int) -> dict | None:
    """Half of each kind of augmentation that has a strength."""
    halves = {
        f"augmentation.{name}": type(value)(value / 2) if value > 1 or isinstance(value, float) else value
        for name, value in config.augmentation.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return halves if halves != {f"augmentation.{name}": value for name, value in config.augmentation.items()} else None


def _stopped(config: Config, options: dict, side: int) -> dict | None:
    return None if "early_stopping" in config.callbacks else {"callbacks": [*config.callbacks, "early_stopping"]}


def _larger(config: Config, options: dict, side: int) -> dict | None:
    return {"model": LARGER[config.model]} if config.model in LARGER else None


def _smaller_batches(config: Config, options: dict, side: int) -> dict | None:
    return {"batch_size": max(16, config.batch_size // 4)} if config.batch_size > 16 else None


def _quicker_averages(config: Config, options: dict, side: int) -> dict | None:
    is_slow = options.get("batch_norm_momentum", 0) > 0.9 and options.get("batch_norm", True)
    return {"model_options.batch_norm_momentum": 0.9} if is_slow else None


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


def _grouped(config: Config, options: dict, side: int) -> dict | None:
    return None if config.groups else {"groups": "look_alike"}


def _all_data(config: Config, options: dict, side: int) -> dict | None:
    return {"train_fraction": 1.0} if config.train_fraction < 1 else None


def _more_data(config: Config, options: dict, side: int) -> dict | None:
    return {} if config.train_fraction == 1 else None


def _nothing(config: Config, options: dict, side: int) -> dict:
    return {}


# fmt: off
GO_ON = Remedy("go_on", "The training has not ended: resume it.", _nothing)
ALL_DATA = Remedy("all_data", "All training images instead of a part of them.", _all_data)
MORE_DATA = Remedy("more_data", "Twice as many training images; the learning curve shows whether they would help.", _more_data, "train {run} --learning-curve", 3)
DROPOUT = Remedy("dropout_and_longer", "Dropout {model_options_dropout} with three times the epochs.", _dropped)
AUGMENT = Remedy("augmentation_and_longer", "Augmentation (shifts and rotations; augmentation.flip=true too, if a mirrored image is of the same class) with three times the epochs.", _augmented)
BOTH = Remedy("augmentation_dropout_and_longer", "Augmentation and dropout {model_options_dropout} with three times the epochs.", _augmented_and_dropped)
LONGER = Remedy("longer", "Three times the epochs: {epochs}.", _longer)
RATE_10 = Remedy("rate_times_10", "Ten times the learning rate: {learning_rate:g}; `find-rate` suggests one too.", _rate_times(10))
RATE_3 = Remedy("rate_times_3", "Three times the learning rate: {learning_rate:g}.", _rate_times(3))
LOWER_RATE = Remedy("rate_by_10", "A tenth of the learning rate: {learning_rate:g}.", _rate_times(0.1))
RELAX = Remedy("relax", "Less regularisation: {settings}.", _relaxed)
LARGER_MODEL = Remedy("larger", "A larger network: {model}.", _larger)
SKIPS = Remedy("skip_connections", "A network with skip connections: {model}.", _learning_network)
STEPS = Remedy("more_steps", "More steps for the averages, with smaller batches: {batch_size}.", _smaller_batches)
AVERAGES = Remedy("quicker_averages", "Averages over fewer steps: batch normalisation's momentum {model_options_batch_norm_momentum}.", _quicker_averages)
WEIGHTS = Remedy("class_weight", "Give images of rare classes a larger weight.", _weighted)
SMOOTH = Remedy("label_smoothing", "Label smoothing 0.1.", _softened)
VALIDATE = Remedy("more_validation", "A larger share of the images for validation.", _folds)
CHECK = Remedy("check_data", "Run the data doctor again: it shows what differs, and in which images.", _nothing, "check {run}")
LOOK = Remedy("compare_pixels", "Look at training and validation images as the network gets them: range of the pixels, colour order, size; the data doctor shows what differs.", _nothing, "check {run}")
COUNT = Remedy("count_classes", "Look in the report at the images of each class on both sides, and at recall by class.", _nothing, "report {run}")
LABELS = Remedy("look_at_labels", "Look at the most confident mistakes on validation images, with their labels: figures/mistakes_val.png.", _nothing, "evaluate {run}")
LESS = Remedy("less_augmentation", "Augmentation half as strong: {settings}.", _less_augmented)
STOP = Remedy("early_stopping", "Stop where the validation loss is lowest, and keep the weights of that epoch: {settings}.", _stopped)
TOGETHER = Remedy("groups", "Keep images that look alike on one side of the split; expect a lower, true accuracy.", _grouped)
LEAVE_OUT = Remedy("leave_out_copies", "Leave the copies out, and train again; expect a lower, true accuracy.", _nothing, "check {run} --leave-out copies.txt")
MEMORISE = Remedy("memorise", "Check whether the network can memorise 32 images; if not, it has a fault.", _nothing, "train {run} --memorise 32")
FIND_RATE = Remedy("find_rate", "Let `find-rate` suggest a learning rate.", _nothing, "find-rate {run}")
SEEDS = Remedy("seeds", "Two more seeds, to see how much the accuracy varies by chance.", _nothing, "train {run} --seeds 3", 2)
# fmt: on
