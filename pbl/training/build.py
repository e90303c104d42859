"""From settings to a model that is ready for `fit`: built, started from other weights if asked for, compiled."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from pbl import models
from pbl.config import Config, find_name
from pbl.data import DATASETS, Data
from pbl.errors import InputError, name_nearest
from pbl.languages import say, say_sentence
from pbl.models.calls import find_optimizers, is_overridden
from pbl.tasks import Task, find_task
from pbl.training.callbacks import CALLBACKS
from pbl.training.mask_loss import MaskLoss
from pbl.training.optimization import build_optimizer
from pbl.training.performance import (
    choose_precision,
    choose_steps_per_execution,
    choose_strategy,
    is_faster_in_float32,
    precision,
)
from pbl.training.transfer import check_fine_tuning, take_weights

# The quantities that a classifier's epoch logs, including those of `OverfittingMonitor`.
LOGGED = (
    "loss accuracy val_loss val_accuracy probe_loss probe_accuracy val_probe_loss val_probe_accuracy gap gap_low gap_high"
    " images_per_second data_share device_memory gpu_busy"
).split()


def build_and_compile(
    config: Config, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> tuple[keras.Model, str]:
    """Builds the model that a configuration describes, ready for `fit`.

    Args:
        config: The settings.
        data: The data to train on.
        callbacks: The callbacks of the `fit`.

    Returns:
        The model, and the dtype policy that it was built with.

    Raises:
        InputError: The settings do not fit the model.
    """
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    task, strategy = find_task(config), choose_strategy(config.distribute)
    if config.batch_size % strategy.num_replicas_in_sync:
        raise InputError(
            "batch_size={size} cannot be divided equally among {n} devices. Give a multiple of {n}, or distribute=none.",
            size=config.batch_size,
            n=strategy.num_replicas_in_sync,
        )
    with strategy.scope():
        model, policy = build(config, data, task)
        check_callbacks(config, model, callbacks)
        if config.initial_weights:
            print(say_sentence(take_weights(model, config, data.class_names)))
        if config.fine_tune_epochs:
            check_fine_tuning(model, config.unfreeze)
            if model.compiled:
                told = "fine_tune_epochs: {model} is compiled by its builder, and would lose its loss. Set fine_tune_epochs=0."
                raise InputError(told, model=model.name)
        if model.compiled:  # compiled by its builder, as a GAN with two optimizers is
            print(
                say("{model} is compiled by its builder: the settings of the optimizer do nothing.", model=model.name)
            )
        else:
            compile_model(model, config, task, len(data.train), callbacks)
    return model, policy


def build(config: Config, data: Data, task: Task) -> tuple[keras.Model, str]:
    """Builds the model, and returns it with the dtype policy that it was built with."""

    def build_in(policy: str) -> keras.Model:
        keras.utils.set_random_seed(config.seed)
        with precision(policy):
            return models.build(config.model, data.input_shape, data.num_classes, **config.model_options)

    card = models.find_card(config.model)
    if card is not None and card.task != "classification" and config.task == "classification":
        raise InputError(
            "{model} learns task={task}, but no classes: set task={task}, or use another model.",
            model=config.model,
            task=card.task,
        )
    arguments = task.compile(config)
    if isinstance(arguments.get("loss"), MaskLoss):
        arguments["loss"].check(data.num_classes)
    has_own_loss = not arguments  # its step may not use a loss scale: float32 unless set otherwise
    if has_own_loss and config.label_smoothing:
        raise InputError(
            "label_smoothing={value} would change nothing: with task={task} the model has its own loss. Omit it.",
            value=config.label_smoothing,
            task=config.task,
        )
    policy = "float32" if has_own_loss and config.precision == "auto" else choose_precision(config.precision)
    model = build_in(policy)
    is_float32 = task.check(model, data) == "float32"
    if not is_float32 and config.precision != "auto":
        raise InputError(
            "precision={policy}: the model's probabilities are not float32, so their sums have errors of a thousandth. End it with "
            "Dense(num_classes, activation='softmax', dtype='float32').",
            policy=policy,
        )
    if policy == "mixed_float16" and is_overridden(model, "train_step"):
        # Keras divides the gradients by the scale of the loss, also where the model's own step does not multiply the loss by it:
        # then they are almost zero, and nothing is learned. bfloat16 needs no scale.
        if config.precision == "auto":
            return build_in("float32"), "float32"
        if card is None and len(find_optimizers(model)) < 2:  # further optimizers of its own have no scale
            told = "precision=mixed_float16: {model} has a train_step of its own, and learns only if that calls self.optimizer.scale_loss(loss)."
            print(say(told, model=config.model))
    if config.precision == "auto" and policy != "float32" and (not is_float32 or is_faster_in_float32(model)):
        if not is_float32:
            told = "In float32, since {model} does not end in Dense(..., dtype='float32'); {precision} would be faster."
            print(say(told, model=config.model, precision=policy))
        policy = "float32"
        model = build_in(policy)
    return model, policy


def compile_model(
    model: keras.Model,
    config: Config,
    task: Task,
    steps_per_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Compiles a model with the settings' optimizer, and the loss and metrics of its task."""
    check_schedule(config, callbacks)
    try:
        model.compile(
            optimizer=build_optimizer(config, steps_per_epoch),
            jit_compile=config.jit_compile,
            steps_per_execution=choose_steps_per_execution(
                config.steps_per_execution, model, steps_per_epoch, callbacks
            ),
            **task.compile(config),
        )
    except TypeError as error:
        if type(model).compile is keras.Model.compile:
            raise
        raise InputError(
            "{model} has a compile of its own, which does not take Keras's arguments ({error}). Call it in the builder.",
            model=model.name,
            error=error,
        ) from error


def check_schedule(config: Config, callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises InputError if a callback and the schedule both set the learning rate."""
    if config.learning_rate_schedule == "constant" and not config.warmup_epochs:
        return
    for callback in callbacks:
        if isinstance(callback, (keras.callbacks.ReduceLROnPlateau, keras.callbacks.LearningRateScheduler)):
            raise InputError(
                "{callback} sets the learning rate itself: set learning_rate_schedule=constant and warmup_epochs=0.",
                callback=type(callback).__name__,
            )


def check_callbacks(config: Config, model: keras.Model, callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises InputError if a callback of Keras could not do its work; Keras itself only warns after an epoch, or fails."""
    steps = ("train_step", "test_step", "compute_metrics", "get_metrics_result")
    # The user's own step or callback may log more; a missing quantity then shows after the first epoch.
    is_known = config.is_classifier and not model.compiled and not any(is_overridden(model, name) for name in steps)
    is_known = is_known and all(map(_is_of_keras, callbacks))
    for callback in filter(_is_of_keras, callbacks):
        name, monitor = type(callback).__name__, getattr(callback, "monitor", None)
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and not config.optimizer_options.get("use_ema"):
            told = "{callback} needs averages of the weights: set optimizer_options.use_ema=true."
            raise InputError(told, callback=name)
        if isinstance(patience := getattr(callback, "patience", 0), str):
            told = "{callback}: patience='{patience}' must be a number of epochs."
            raise InputError(told, callback=name, patience=patience)
        if not is_known or monitor is None or not getattr(callback, "save_best_only", True):
            continue
        if monitor not in LOGGED:
            told = "{callback}: nothing is logged under '{monitor}'. {nearest}"
            raise InputError(told, callback=name, monitor=monitor, nearest=name_nearest(monitor, LOGGED))
        if callback.mode == "auto" and monitor.removeprefix("val_") not in ("loss", "accuracy"):
            told = "{callback}: is more or less of '{monitor}' better? Give it mode='max' or mode='min'."
            raise InputError(told, callback=name, monitor=monitor)


def _is_of_keras(callback: keras.callbacks.Callback) -> bool:
    return type(callback).__module__.startswith("keras.")


def settle_names(config: Config) -> Config:
    """Returns the settings with names of model, data set and callbacks as their tables write them, so that runs of one model have the same name."""
    return config.replace(
        model=find_name(config.model, models.MODELS) or config.model,
        dataset=find_name(config.dataset, DATASETS) or config.dataset,
        callbacks=[find_name(name, CALLBACKS) or name for name in config.callbacks],
    )


def builder_options(config: Config) -> dict[str, Any]:
    """The options of the model's builder, with their values."""
    defaults = models.options_of(models.find_builder(config.model))
    plain = {name: value for name, value in defaults.items() if isinstance(value, (bool, int, float, str))}
    return {**plain, **config.model_options}


def build_callback(name: str, best: tuple[str, str] = ("val_loss", "min")) -> keras.callbacks.Callback:
    """Makes the callback of this name in `CALLBACKS`.

    Args:
        name: Its name.
        best: Quantity and direction that the task is judged by: they are passed to a function that takes `monitor` and `mode`, as early stopping does.

    Raises:
        InputError: There is none of this name, or it returns something else.
    """
    known = find_name(name, CALLBACKS)
    if known is None:
        raise InputError("No callback is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, CALLBACKS))
    make, arguments = CALLBACKS[known], {}
    try:
        signature = inspect.signature(make)
        if {"monitor", "mode"} <= set(signature.parameters):
            arguments = {"monitor": best[0], "mode": best[1]}
        signature.bind(**arguments)
    except TypeError:
        raise InputError(
            "CALLBACKS['{name}'] cannot be called without arguments. Give a function that makes the callback, such as lambda: "
            "keras.callbacks.EarlyStopping(patience=5).",
            name=name,
        ) from None
    callback = make(**arguments)
    if not isinstance(callback, keras.callbacks.Callback):
        raise InputError(
            "CALLBACKS['{name}'] gave a {kind}. It must give a keras.callbacks.Callback.",
            name=name,
            kind=type(callback).__name__,
        )
    return callback
