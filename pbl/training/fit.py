"""Keras's `fit`, stage after stage, with what a run keeps of it: history, best model, state, divergence."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from pbl import models
from pbl.config import Config
from pbl.data import Data
from pbl.errors import InputError, Sentence
from pbl.languages import say
from pbl.models import unfreeze
from pbl.models.calls import is_overridden, is_validated
from pbl.models.keras_private import flatten_layers
from pbl.models.saving import save_model
from pbl.runs import Run
from pbl.tasks import Task
from pbl.training.build import build_and_compile, compile_model
from pbl.training.callbacks import AveragesIn, AveragesOut, BestModel, HistoryFile
from pbl.training.checkpoint import ExactResume, Paused
from pbl.training.divergence import StopAtNaN, is_finite, name_layer
from pbl.training.epoch_line import EpochLine, is_lively
from pbl.training.performance import fused_operations
from pbl.training.session import Session
from pbl.training.tensorboard_log import TensorBoardLog, describe_looking, log_settings
from pbl.training.transfer import fit_head, has_fixed_features


class Stage(NamedTuple):
    """A part of a training with its own optimizer.

    Attributes:
        label: Kept with the training's state; a training resumes in the stage with the same label.
        config: The settings of this stage: its learning rate, epochs and warm-up.
        unfreeze: How many stages of the backbone become trainable before it; 0: the model stays as it was built.
    """

    label: str
    config: Config
    unfreeze: int = 0


def stages(config: Config) -> list[Stage]:
    """Returns the stages of a training: one, or with `fine_tune_epochs` one for the head and one for the backbone."""
    if not config.fine_tune_epochs:
        return [Stage("", config)]
    tuning = config.replace(
        learning_rate=config.fine_tune_learning_rate, epochs=config.fine_tune_epochs, warmup_epochs=0
    )
    return [Stage("", config), Stage("fine-tuning", tuning, config.unfreeze)]


class Fit:
    """The `fit` of a run: called with one stage after another, it keeps one history and one best model for all of them.

    Args:
        session: The session of the run.
        model: Built and compiled for the first stage.
        data: The data.
        task: The task that is learned.
        callbacks: The callbacks in the settings.
        prune: As for `train`.
    """

    def __init__(
        self,
        session: Session,
        model: keras.Model,
        data: Data,
        task: Task,
        callbacks: list[keras.callbacks.Callback],
        prune: Callable[[int, dict[str, float]], bool] | None = None,
    ):
        self.session, self.run, self.resume = session, session.run, session.resume
        self.model, self.data, self.task, self.callbacks = model, data, task, callbacks
        run = self.run
        self.monitor = task.watch(data, run.path / "signals.npz")
        self.history = HistoryFile(run.path / "history.csv")
        self.best = BestModel(run.path, *(task.best if is_validated(model) else (None, "min")))
        self.stop_at_nan = StopAtNaN()
        self.line = EpochLine(run.config.epochs + run.config.fine_tune_epochs, is_lively())
        logs = []
        if run.config.tensorboard:
            logs = [TensorBoardLog(run.path / "tensorboard")]
            log_settings(run)
            print(describe_looking(run.path / "tensorboard"))
        # `SwapEMAWeights` in the settings does the same, but hides the averages from the best model.
        callbacks = [callback for callback in callbacks if not isinstance(callback, keras.callbacks.SwapEMAWeights)]
        averages = [AveragesIn()] if _keeps_averages(model) else []
        self.pruning = None if prune is None else _Pruning(prune, self.resume)
        self.everybody = [
            *([self.monitor] if self.monitor else []),  # first, so that all see what it adds to the logs
            *averages,
            _StopWithoutLock(run),
            _StopWhereWeightsAppear(model),
            self.best,  # before the others, so that it keeps exactly the model that was validated
            *callbacks,
            self.stop_at_nan,
            self.line,
            *logs,  # these and the history see what all others log
            self.history,
            *map(AveragesOut, averages),
            *([self.pruning] if self.pruning else []),
            self.resume,  # last, so that it keeps the results of all
        ]

    def __call__(self, stage: Stage, is_last: bool = True) -> None:
        """Fits one stage, from the run's state on; does nothing if the run has already reached a later stage."""
        run, resume, model, history = self.run, self.resume, self.model, self.history
        resumed_in = (resume.newest or {}).get("label", "")
        if resumed_in and not stage.label:
            return
        done = 0
        if stage.unfreeze:
            done = run.environment["fine_tune_from_epoch"] - 1 if resumed_in else len(history.rows)
            if history.rows and not is_finite(history.rows[-1]):
                return
            run.update_environment(fine_tune_from_epoch=done + 1)
            self._unfreeze(stage)
        resume.label = stage.label
        if self.monitor:
            self.monitor.looks_at_end = is_last
        if run.config.is_classifier and has_fixed_features(model) and not run.config.augmentation:
            resume.data = None  # its steps are too short to keep a state within an epoch
            begin = resume.initial_epoch(stage.config.epochs)
            try:
                fit_head(model, self.data, stage.config.epochs, self.everybody, begin)
            finally:
                resume.data = self.data
            return
        model.fit(
            self.data.train,
            validation_data=self.data.val if is_validated(model) else None,
            initial_epoch=done,
            epochs=done + stage.config.epochs,
            callbacks=self.everybody,
            shuffle=False,  # tf.data shuffles; given, since Keras 3.15 warns otherwise
            verbose=0,  # EpochLine prints
        )

    def _unfreeze(self, stage: Stage) -> None:
        unfreeze(self.model, stage.unfreeze)
        with self.model.distribute_strategy.scope():
            compile_model(self.model, stage.config, self.task, len(self.data.train), self.callbacks)
        weights = models.count_trainable_weights(self.model)
        print(say("Fine-tuning: {weights:,} trainable weights", weights=weights))

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """Inside it, Ctrl-C, SIGTERM, SIGHUP and `max_minutes` end the training and keep its state; then the run records how it ended."""
        try:
            with _pausing(self.resume), fused_operations(self.model):
                yield
        except (Paused, KeyboardInterrupt) as stop:
            is_time_over = isinstance(stop, Paused) and not stop.is_asked
            self.session.status = "paused" if is_time_over else "interrupted"
            if isinstance(stop, Paused) and self.pruning and self.pruning.has_pruned:
                self.session.status = "pruned"
            self.best.flush()
            if hasattr(self.monitor, "save"):
                self.monitor.save()
            if self.best.best_epoch is None and not self.run.holds("best.weights.h5"):
                save_model(self.model, self.run.path, "best")
        except tf.errors.ResourceExhaustedError as error:
            raise InputError(
                "Out of memory in training. Lower batch_size (now {size}) or image_size.",
                size=self.run.config.batch_size,
            ) from error
        finally:
            self.line.close()
        if hasattr(self.monitor, "seconds"):
            self.session.count_measuring(self.monitor.seconds)
        self._record_outcome()

    def _record_outcome(self) -> None:
        """Writes into the run how far it came; raises InputError if no model could be kept."""
        run, history, best = self.run, self.history, self.best
        epochs = len(history.rows)
        is_tuning = epochs >= run.environment.get("fine_tune_from_epoch", epochs + 1)
        name = "fine_tune_learning_rate" if is_tuning else "learning_rate"
        rate = getattr(run.config, name)
        diverged = bool(history.rows) and not is_finite(history.rows[-1])
        run.update_environment(epochs=epochs, best_epoch=best.best_epoch, diverged=diverged)
        if diverged:
            where = self._find_divergence(is_tuning)
            run.update_environment(diverged_at=where)
            if best.best_epoch is None:
                told = "Training diverged in {where}. Lower {setting} (now {rate:g})."
                raise InputError(told, where=where, setting=name, rate=rate)
            told = "Training diverged in {where}. Lower {setting} (now {rate:g}); the model of epoch {best} is kept."
            print(say(told, where=where, setting=name, rate=rate, best=best.best_epoch))
        elif best.best_epoch is None and best.lost_epoch is not None and self.session.status == "finished":
            told = "The best model, of epoch {epoch}, is missing, and no later one was better: best.weights.h5 and best.keras are missing or damaged in {run}. Restore one from a copy and give the same command, or train again with --fresh."
            raise InputError(told, epoch=best.lost_epoch, run=run.path)
        elif best.best_epoch is None and self.session.status == "finished":
            told = "No model was kept: the validation loss was never a finite number. Lower {setting} (now {rate:g})."
            raise InputError(told, setting=name, rate=rate)

    def _find_divergence(self, is_tuning: bool) -> str:
        """Where the loss stopped being a finite number: epoch, step and layer if they can be found again."""
        at, epochs = self.stop_at_nan.at, len(self.history.rows)
        if at is None or is_tuning:
            return Sentence("epoch {epoch}: its loss is not a finite number", epoch=epochs)
        where = Sentence("epoch {epoch}, seen after step {step}", epoch=epochs, step=at[1] + 1)
        if is_overridden(self.model, "train_step"):  # what the model's own step computes is not known
            return where
        anew, _ = build_and_compile(self.run.config, self.data, self.callbacks)
        for layer, trained in zip(flatten_layers(anew), flatten_layers(self.model), strict=True):
            layer.name = trained.name  # Keras numbers the names of layers on
        return name_layer(anew, self.data, ExactResume(self.run.path, self.data), at) or where


class _StopWithoutLock(keras.callbacks.Callback):
    """Ends the training if another process has taken over the run, before anything more is written."""

    def __init__(self, run: Run):
        super().__init__()
        self._run = run

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._run.is_lock_lost:
            raise InputError(
                "{run} was taken over by another process: this process had given no sign of life.", run=self._run.path
            )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.on_train_batch_begin(0)


class _Pruning(keras.callbacks.Callback):
    """Asks after each epoch whether the training should end there; then it pauses, with its state kept.

    Attributes:
        has_pruned: Whether the training was ended in this way.
    """

    remembers_nothing = True  # so that the training can be resumed outside the search too

    def __init__(self, prune: Callable[[int, dict[str, float]], bool], resume: ExactResume):
        super().__init__()
        self._prune, self._resume, self.has_pruned = prune, resume, False

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        is_last = self.model.stop_training or epoch + 1 >= self.params["epochs"]
        # Ctrl-C comes first: whoever stops the search wants to resume it.
        if self._prune(epoch + 1, logs or {}) and not is_last and not self._resume.is_asked:
            self.has_pruned = True
            self._resume.pause()


class _StopWhereWeightsAppear(keras.callbacks.Callback):
    """Ends the training of a model that creates weights in its own step: Keras would read none of them back, without a warning."""

    remembers_nothing = True  # so that a training which an earlier version began, without it, can be resumed

    def __init__(self, model: keras.Model):
        super().__init__()
        self._known = {id(weight) for weight in model.weights}
        self._is_seen = False

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._is_seen:
            return
        self._is_seen = True
        new = [
            layer.name
            for layer in flatten_layers(self.model)
            if layer is not self.model and any(id(weight) not in self._known for weight in layer.weights)
        ]
        if new:
            raise InputError(
                "{model} creates weights of {layers} only in its training step: they could not be read back. Build these layers in __init__: "
                "layer.build(shape), or call them once on zeros.",
                model=self.model.name,
                layers=", ".join(new[:5]),
            )


@contextlib.contextmanager
def _pausing(resume: ExactResume) -> Iterator[None]:
    """Inside it, three signals wait until the step, or the epoch of a head alone, has ended: Ctrl-C, SIGTERM (a machine is taken away), SIGHUP (a terminal is closed)."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals only there
        yield
        return

    def ask(number: int, *_) -> None:
        signal.signal(signal.SIGINT, before[signal.SIGINT])
        resume.pause()
        if resume.data is None:  # a state is kept only where an epoch ends
            told = say("Pausing after this epoch.")
            told_twice = say("Pausing after this epoch; Ctrl-C again stops at once.")
        else:
            told = say("Pausing after this step.")
            told_twice = say("Pausing after this step; Ctrl-C again stops at once.")
        if number == signal.SIGINT:
            told = told_twice
        print(f"\n{told}", flush=True)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores the signal
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _keeps_averages(model: keras.Model) -> bool:
    return bool(getattr(getattr(model.optimizer, "inner_optimizer", model.optimizer), "use_ema", False))
