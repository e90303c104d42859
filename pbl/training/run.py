"""One run: data, model, compile, fit, save, evaluate on validation."""

import contextlib
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from pbl import models
from pbl.config import Config, load_experiment
from pbl.data import Data
from pbl.data.doctor import CLOSE_CHECKS, Finding
from pbl.diagnosis.advice import read_findings, write_diagnosis
from pbl.diagnosis.curves import plot_learning_curves
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.diagnosis.rules import Diagnosis
from pbl.diagnosis.signals import Signals
from pbl.errors import InputError, Sentence, join_sentences, name_nearest
from pbl.evaluation.metrics import check_positive_class
from pbl.evaluation.run import build_model, evaluate_on, open_data
from pbl.languages import say, say_sentence
from pbl.models import unfreeze
from pbl.models.saving import save_model
from pbl.runs import Run, describe_environment, find_unfinished, runs_on, start_run
from pbl.storage import replacing, timestamp
from pbl.training.callbacks import CALLBACKS, BestModel, HistoryFile
from pbl.training.checkpoint import ExactResume, Paused
from pbl.training.divergence import StopAtNaN, name_layer
from pbl.training.optimization import build_loss, build_optimizer
from pbl.training.performance import (
    choose_precision,
    choose_steps_per_execution,
    choose_strategy,
    fused_operations,
    is_faster_in_float32,
    precision,
)
from pbl.training.tensorboard_log import TensorBoardLog, check_tensorboard, describe_looking, log_figures, log_settings
from pbl.training.transfer import check_fine_tuning, fit_head, has_fixed_features, take_weights

IN_FIT = "monitor (in fit)"
CHECKED = 1_000  # images of each split that the slow checks of the data look at before a training
MANY = 5_000  # training images; with more of them these checks take seconds


def train(
    config: Config | str | Path,
    *,
    folder: str | Path | None = None,
    fresh: bool = False,
    images: int | None = None,
) -> Run:
    """Trains one run and evaluates its best model on validation. The test split is never looked at.

    Where a run of the same settings has not ended, it goes on with that one, exactly (`pbl.training.checkpoint`). Ctrl-C (or the
    signal SIGTERM) ends the training after the step and keeps its state; `evaluate` reads the best model so far.

    Args:
        config: The settings, or the path of an experiment file.
        folder: Where runs are kept; the variable `PBL_RUNS`, else `runs`, unless given.
        fresh: Start anew although an unfinished run of the same settings is there.
        images: Only so many training and validation images, for a trial.

    Returns:
        The run. `run.environment["status"]` is "finished", "paused" (`max_minutes` are over) or "interrupted"
        (Ctrl-C).

    Raises:
        InputError: The settings do not fit the data or the model; another process trains in the run; the training
            diverged before any model could be kept; the disk is full.
    """
    config = config if isinstance(config, Config) else load_experiment(config)
    run = None if fresh else find_unfinished(config, folder)
    if run is None:
        return _train(config, None, folder, images)
    with run.lock():
        return _train(config, run, folder, images)


def _train(config: Config, run: Run | None, folder: str | Path | None, count: int | None) -> Run:
    """Trains `run`, which is locked, or a new one."""
    clock = {"start": time.perf_counter()}
    if config.tensorboard:
        check_tensorboard()
    data = open_data(config)
    check_positive_class(config.positive_class, data.class_names)
    clock["data"] = time.perf_counter()
    findings = _check_data(data, config)
    if count is not None:
        data.shrink(count)
    else:
        findings += _check_closely(data, folder)
    if run is not None:
        _check_is_same(data, run)
    clock["check"] = time.perf_counter()

    callbacks = [build_callback(name) for name in config.callbacks]
    model, policy = build_and_compile(config, data, callbacks)
    clock["build"] = time.perf_counter()

    with contextlib.ExitStack() as stack:
        if run is None:
            run = start_run(config, folder)
            stack.enter_context(run.lock())
        devices = [device.device_type + ": " + _device_name(device) for device in tf.config.list_physical_devices()]
        weights = models.count_trainable_weights(model)
        if not (run.path / "split.json").exists():
            run.write_json("split.json", data.split)
        close_checks = CLOSE_CHECKS if count is None else ()
        run.write_json("data_check.json", {"close_checks": close_checks, "findings": findings})
        resume = ExactResume(run.path, data, minutes=config.checkpoint_minutes, max_minutes=config.max_minutes)
        monitor = OverfittingMonitor(data, file=run.path / "signals.npz")
        _note_resume(run, resume, devices)
        run.update_environment(
            status="running",
            devices=devices,
            data=data.fingerprint,
            images=data.images_hash,
            builder_options=builder_options(config),
            trainable_weights=weights,
            precision=policy,
            jit_compile=bool(model.jit_compile),
            steps_per_execution=model.steps_per_execution,
            replicas=model.distribute_strategy.num_replicas_in_sync,
        )
        images = data.split["images"]
        print(
            say(
                "{run}: {model} ({weights:,} trainable weights) on {data}, {train:,} training and {val:,} validation images,"
                " in {precision} on {device}",
                run=run.path, model=config.model, weights=weights, data=data.name, train=images["train"], val=images["val"],
                precision=policy, device=devices[-1],
            )
        )  # fmt: skip
        logs = []
        if config.tensorboard:
            logs = [TensorBoardLog(run.path / "tensorboard")]
            log_settings(run)
            print(describe_looking(run.path / "tensorboard"))
        try:
            status = _fit(model, data, run, callbacks, monitor, resume, logs)
            clock["fit"] = time.perf_counter()
            if status == "finished":
                try:
                    save_model(model, run.path, "final", weights=False)
                    # The model is read back from the disk: what the metrics judge is what the folder holds.
                    evaluate_on(run, build_model(run), data, "val", all_figures=False)
                    clock["evaluate"] = time.perf_counter()
                    diagnosis = write_diagnosis(run)
                    clock["diagnosis"] = time.perf_counter()
                    _draw_curves(run, diagnosis)
                    clock["figures"] = time.perf_counter()
                    if config.tensorboard:
                        log_figures(run)
                    if "ipykernel" in sys.modules:
                        from IPython.display import display

                        display(diagnosis)
                except KeyboardInterrupt:
                    status = "interrupted"
        except BaseException as error:
            with contextlib.suppress(InputError):  # of a full disk the first word is enough
                if run.is_lock_lost:
                    raise
                is_stopped = isinstance(error, KeyboardInterrupt)
                run.update_environment(
                    status="interrupted" if is_stopped else "failed", reason=f"{type(error).__name__}: {error}"
                )
            raise
        earlier = run.environment.get("seconds", {})
        seconds = {
            after: round(earlier.get(after, 0) + clock[after] - clock[before], 2) for before, after in pairwise(clock)
        }
        if (
            "resumed" in run.environment and (run.path / "history.csv").exists()
        ):  # a process that was killed told no seconds
            seconds["fit"] = round(float(pd.read_csv(run.path / "history.csv")["seconds"].sum()), 2)
        seconds[IN_FIT] = round(earlier.get(IN_FIT, 0) + monitor.seconds, 2)
        run.update_environment(status=status, seconds=seconds)
        if status == "finished" and not run.environment["diverged"]:
            shutil.rmtree(run.path / "checkpoint", ignore_errors=True)  # a finished run is never gone on with
        elif status != "finished":
            ended = Sentence("Paused") if status == "paused" else Sentence("Interrupted")
            print(say("{ended}. The same command goes on with {run}.", ended=ended, run=run.path))
    return run


def _check_is_same(data: Data, run: Run) -> None:
    """Raises InputError where the data are no longer those that an unfinished run began with."""
    if not (run.path / "split.json").exists():
        return
    if run.environment.get("data") not in (None, data.fingerprint) and data.split["hashes"] == run.split["hashes"]:
        raise InputError(
            "{run} cannot go on: of '{source}' the order, labels or weights of the training images have changed since it began"
            " (were files renamed or moved to another class?). Put them back, or start anew: add --fresh.",
            run=run.path, source=data.name,
        )  # fmt: skip
    for split in ("train", "val"):
        ours, theirs = set(data.split["hashes"][split]), set(run.split["hashes"][split])
        if ours != theirs or data.class_names != run.split["class_names"]:
            raise InputError(
                "{run} cannot go on: of '{source}' {gone} of the {split} images are gone and {new} are new since it began, or"
                " classes were renamed. Put the data back, or start anew: add --fresh.",
                run=run.path, source=data.name, split=split, gone=len(theirs - ours), new=len(ours - theirs),
            )  # fmt: skip


def _note_resume(run: Run, resume: ExactResume, devices: list[str]) -> None:
    """Writes into `environment.json` that a run goes on, and says where it does so on another machine."""
    state = resume.newest
    if state is None:
        return
    epoch, step = state["epoch"], state["step"]
    before, now = run.environment, describe_environment()
    entry = {
        "time": timestamp(),
        "epoch": epoch + 1,
        "step": step,
        "versions": now["versions"],
        "machine": now["machine"],
    }
    run.update_environment(resumed=[*before.get("resumed", []), {**entry, "devices": devices}])
    if step:
        print(say("{run} goes on at epoch {epoch}, step {step}.", run=run.path, epoch=epoch + 1, step=step + 1))
    else:
        print(say("{run} goes on at epoch {epoch}.", run=run.path, epoch=epoch + 1))
    changed = [
        Sentence("{before}, now {now}", before=f"{package} {before['versions'].get(package)}", now=version)
        for package, version in now["versions"].items()
        if package in ("tensorflow", "keras", "numpy") and before["versions"].get(package) != version
    ]
    if before.get("devices") != devices:
        changed.append(
            Sentence("{before}, now {now}", before=", ".join(before.get("devices", [])), now=", ".join(devices))
        )
    if before["machine"]["processor"] != now["machine"]["processor"]:
        changed.append(
            Sentence("{before}, now {now}", before=before["machine"]["processor"], now=now["machine"]["processor"])
        )
    if changed:
        print(
            say(
                "It began elsewhere ({changed}): the result will differ a little from that of one machine alone.",
                changed=join_sentences(changed, "; "),
            )
        )


def builder_options(config: Config) -> dict[str, Any]:
    """The options that the model's builder takes, and what they are."""
    defaults = models.options_of(models.find_builder(config.model))
    plain = {name: value for name, value in defaults.items() if isinstance(value, (bool, int, float, str))}
    return {**plain, **config.model_options}


def _check_closely(data: Data, folder: str | Path | None) -> list[dict[str, Any]]:
    """What the slow checks of the data say, once for the same images: an earlier run has it too."""
    for earlier in runs_on(data.images_hash, folder):
        with contextlib.suppress(InputError):
            if earlier.read_json("data_check.json").get("close_checks") == list(CLOSE_CHECKS):
                return [finding for finding in read_findings(earlier) if finding["check"] in CLOSE_CHECKS]
    if len(data.images("train").labels) > MANY:
        print(say("Looking for altered copies, shift and wrong labels, once for these images."), flush=True)
    findings = data.check_closely(CHECKED)
    _print_findings(findings)
    return [asdict(finding) for finding in findings]


def _print_findings(findings: list[Finding]) -> None:
    for finding in findings:
        if finding.severity != "note":
            print(f"{finding.severity}: {say_sentence(finding.message)}")


def _check_data(data: Data, config: Config) -> list[dict[str, Any]]:
    """The fast form of `python -m pbl check`, on the splits that training sees; prints what is more than a note."""
    findings = data.check("train", "val", fast=True)
    serious = [finding for finding in findings if finding.severity == "stop"]
    if config.on_bad_image == "skip":
        serious = [finding for finding in serious if finding.check != "broken"]
    if serious and config.data_check == "stop":
        raise InputError(
            "{faults} More: python -m pbl check {source}. To train all the same: data_check=report.",
            faults=join_sentences(finding.message for finding in serious), source=config.dataset,
        )  # fmt: skip
    _print_findings(findings)
    return [asdict(finding) for finding in findings]


def build_and_compile(
    config: Config, data: Data, callbacks: Sequence[keras.callbacks.Callback] = ()
) -> tuple[keras.Model, str]:
    """Builds the model that a configuration describes, ready for `fit`.

    Args:
        config: The settings.
        data: The data that it is for.
        callbacks: Those of the `fit`.

    Returns:
        The model, and the dtype policy that it was built with.

    Raises:
        InputError: The settings do not fit the model.
    """
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = choose_strategy(config.distribute)
    if config.batch_size % strategy.num_replicas_in_sync:
        raise InputError(
            "batch_size={size} cannot be parted among {n} devices alike. Give a multiple of {n}, or distribute=none.",
            size=config.batch_size, n=strategy.num_replicas_in_sync,
        )  # fmt: skip
    with strategy.scope():
        model, policy = _build(config, data)
        if config.initial_weights:
            print(say_sentence(take_weights(model, config, data.class_names)))
        if config.fine_tune_epochs:
            check_fine_tuning(model, config.unfreeze)
        _compile(model, config, len(data.train), callbacks)
    return model, policy


def _build(config: Config, data: Data) -> tuple[keras.Model, str]:
    """The model, and the dtype policy with which it was built."""

    def build(policy: str) -> keras.Model:
        keras.utils.set_random_seed(config.seed)
        with precision(policy):
            return models.build(config.model, data.input_shape, data.num_classes, **config.model_options)

    policy = choose_precision(config.precision)
    model = build(policy)
    is_float32 = check_outputs(model, data.images("val").pixels[:2], data.num_classes) == "float32"
    if not is_float32 and config.precision != "auto":
        raise InputError(
            "precision={policy}: the model's probabilities are not float32, so their sums are off by a thousandth. End it with"
            " Dense(num_classes, activation='softmax', dtype='float32').",
            policy=policy,
        )  # fmt: skip
    if config.precision == "auto" and policy != "float32" and (not is_float32 or is_faster_in_float32(model)):
        if not is_float32:
            print(
                say(
                    "In float32, since {model} does not end in Dense(..., dtype='float32'); {precision} would be faster.",
                    model=config.model,
                    precision=policy,
                )
            )
        policy = "float32"
        model = build(policy)
    return model, policy


def check_schedule(config: Config, callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Raises InputError where a callback and the schedule both set the learning rate."""
    is_constant = config.learning_rate_schedule == "constant" and not config.warmup_epochs
    if not is_constant and any(isinstance(callback, keras.callbacks.ReduceLROnPlateau) for callback in callbacks):
        raise InputError(
            "reduce_on_plateau sets the learning rate itself: set learning_rate_schedule=constant and warmup_epochs=0."
        )


def _compile(
    model: keras.Model, config: Config, steps_per_epoch: int, callbacks: Sequence[keras.callbacks.Callback]
) -> None:
    check_schedule(config, callbacks)
    model.compile(
        optimizer=build_optimizer(config, steps_per_epoch),
        loss=build_loss(config),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=choose_steps_per_execution(config.steps_per_execution, model, steps_per_epoch, callbacks),
    )


class _StopWithoutLock(keras.callbacks.Callback):
    """Ends the training where another process has taken the run over, before anything more is written."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._run.is_lock_lost:
            raise InputError(
                "{run} was taken over by another process: this one had not been heard of.", run=self._run.path
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.on_train_batch_begin(0)


def _fit(
    model: keras.Model,
    data: Data,
    run: Run,
    callbacks: list[keras.callbacks.Callback],
    monitor: OverfittingMonitor,
    resume: ExactResume,
    logs: list[TensorBoardLog],
) -> str:
    """Fits, and returns the status in which that left the run: "finished", "paused" or "interrupted"."""
    config, history, best = run.config, HistoryFile(run.path / "history.csv"), BestModel(run.path)
    # `monitor` first, so that all see what it enters, and `best` before the others, so that it keeps the very model that was validated; `resume` last, so that it keeps what all did, and
    # `history` and `logs` before it, so that they see what others log.
    stop_at_nan = StopAtNaN()
    everybody = [monitor, _StopWithoutLock(run), best, *callbacks, stop_at_nan, *logs, history, resume]
    verbose = 1 if _is_lively() else 2
    status = "finished"
    try:
        with _pausing(resume), fused_operations(model):
            newest = resume.newest
            if newest is None or newest["label"] != "fine-tuning":
                monitor.looks_at_end = not config.fine_tune_epochs
                if has_fixed_features(model) and not config.augmentation:
                    resume.data = None  # its steps are too short to be kept
                    fit_head(model, data, config.epochs, everybody, verbose, resume.initial_epoch(config.epochs))
                    resume.data = data
                else:
                    # tf.data shuffles; said, since Keras 3.15 warns otherwise
                    model.fit(
                        data.train,
                        validation_data=data.val,
                        epochs=config.epochs,
                        callbacks=everybody,
                        shuffle=False,
                        verbose=verbose,
                    )
                done = len(history.rows)
            else:
                done = run.environment["fine_tune_from_epoch"] - 1
            if config.fine_tune_epochs and (not history.rows or np.isfinite(history.rows[-1]["loss"])):
                run.update_environment(fine_tune_from_epoch=done + 1)
                resume.label, monitor.looks_at_end = "fine-tuning", True
                unfreeze(model, config.unfreeze)
                slower = config.replace(
                    learning_rate=config.fine_tune_learning_rate, epochs=config.fine_tune_epochs, warmup_epochs=0
                )
                with model.distribute_strategy.scope():
                    _compile(model, slower, len(data.train), callbacks)
                weights = models.count_trainable_weights(model)
                print(say("Fine-tuning: {weights:,} trainable weights", weights=weights))
                model.fit(
                    data.train, validation_data=data.val, initial_epoch=done, epochs=done + config.fine_tune_epochs,
                    callbacks=everybody, shuffle=False, verbose=verbose,
                )  # fmt: skip
    except (Paused, KeyboardInterrupt) as stop:
        status = "paused" if isinstance(stop, Paused) and not resume.is_asked else "interrupted"
        best.flush()
        monitor.save()
        if best.best_epoch is None:
            save_model(model, run.path, "best")
    except tf.errors.ResourceExhaustedError as error:
        raise InputError(
            "Out of memory in training. Lower batch_size (now {size}) or image_size.", size=run.config.batch_size
        ) from error
    epochs = len(history.rows)
    started = run.environment.get("fine_tune_from_epoch")
    name = "fine_tune_learning_rate" if started and epochs >= started else "learning_rate"
    rate = getattr(config, name)
    diverged = bool(history.rows) and not np.isfinite(history.rows[-1]["loss"])
    run.update_environment(epochs=epochs, best_epoch=best.best_epoch, diverged=diverged)
    if diverged:
        where = Sentence("epoch {epoch}: its loss is no finite number", epoch=epochs)
        if stop_at_nan.at is not None and not (started and epochs >= started):
            where = Sentence("epoch {epoch}, seen after step {step}", epoch=epochs, step=stop_at_nan.at[1] + 1)
            anew, _ = build_and_compile(config, data, callbacks)
            for layer, trained in zip(anew._flatten_layers(), model._flatten_layers(), strict=True):
                layer.name = trained.name  # Keras counts on
            where = name_layer(anew, data, ExactResume(run.path, data), stop_at_nan.at) or where
        run.update_environment(diverged_at=where)
        told = {"where": where, "setting": name, "rate": rate}
        if best.best_epoch is None:
            raise InputError("Training diverged in {where}. Lower {setting} (now {rate:g}).", **told)
        print(
            say(
                "Training diverged in {where}. Lower {setting} (now {rate:g}); the model of epoch {best} is kept.",
                **told, best=best.best_epoch,
            )
        )  # fmt: skip
    elif best.best_epoch is None and status == "finished":
        raise InputError(
            "No model was kept: the validation loss was never a finite number. Lower {setting} (now {rate:g}).",
            setting=name,
            rate=rate,
        )
    return status


@contextlib.contextmanager
def _pausing(resume: ExactResume) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM, as a machine that is about to be taken away sends it, wait for the step to end."""
    if threading.current_thread() is not threading.main_thread():  # only there Python handles signals
        yield
        return

    def ask(number: int, *_) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        told = say("Pausing after this step.")
        if number == signal.SIGINT:
            told = say("Pausing after this step; Ctrl-C again stops at once.")
        print(f"\n{told}", flush=True)
        resume.pause()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _draw_curves(run: Run, diagnosis: Diagnosis) -> None:
    history = pd.read_csv(run.path / "history.csv")
    environment = run.environment
    _, headline = diagnosis.paragraphs("en")[0]
    curves = plot_learning_curves(
        history,
        environment["best_epoch"],
        f"{run.name}: learning curves; diagnosis: {headline}",
        environment.get("fine_tune_from_epoch"),
        Signals.load(run.path / "signals.npz"),
    )
    with replacing(run.path / "figures" / "learning_curves.png") as temporary:
        curves.savefig(temporary, dpi=120)


def check_outputs(model: keras.Model, pixels: np.ndarray, num_classes: int) -> str:
    """Raises InputError unless a model gives one row of probabilities for each image; before an hour is spent on it.

    Args:
        model: The model.
        pixels: A few images, `uint8 [n, height, width, channels]`.
        num_classes: How many probabilities a row must have.

    Returns:
        The outputs' dtype.
    """
    outputs = model(pixels, training=False)
    if isinstance(outputs, (list, tuple, dict)):
        raise InputError(
            "The model gives {n} outputs; `train` takes one. Train it in a notebook by `fit`.", n=len(outputs)
        )
    if tuple(outputs.shape) != (len(pixels), num_classes):
        raise InputError(
            "The model gives the shape {shape} for {n} images of {classes} classes. End it with"
            " Dense(num_classes, activation='softmax').",
            shape=tuple(outputs.shape), n=len(pixels), classes=num_classes,
        )  # fmt: skip
    rows = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    if rows.min() < 0 or abs(rows.sum(axis=1) - 1).max() > 1e-2:
        raise InputError(
            "The model's outputs are no probabilities: a row sums to {total:.3g}. End it with"
            " Dense(num_classes, activation='softmax').",
            total=float(rows.sum(axis=1)[0]),
        )
    return keras.backend.standardize_dtype(outputs.dtype)


def build_callback(name: str) -> keras.callbacks.Callback:
    """Makes the callback of this name in `CALLBACKS`.

    Raises:
        InputError: There is none of this name, or it gives something else.
    """
    if name not in CALLBACKS:
        raise InputError("No callback is called '{name}'. {nearest}", name=name, nearest=name_nearest(name, CALLBACKS))
    callback = CALLBACKS[name]()
    if not isinstance(callback, keras.callbacks.Callback):
        raise InputError(
            "CALLBACKS['{name}'] gave a {kind}. It must give a keras.callbacks.Callback.",
            name=name,
            kind=type(callback).__name__,
        )
    return callback


def _device_name(device) -> str:
    details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
    return details.get("device_name", device.name)


def _is_lively() -> bool:
    """Whether somebody watches: a terminal, or a notebook. Into a file goes one line an epoch, not a moving bar."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules
