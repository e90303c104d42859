"""One run, from its settings to its diagnosis: this file shows the complete sequence, read it from top to bottom."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import pandas as pd

from pbl import models
from pbl.config import Config, load_experiment
from pbl.data import Data
from pbl.diagnosis.advice import as_json
from pbl.diagnosis.by_task import DIAGNOSES, diagnose_run
from pbl.diagnosis.curves import plot_history, plot_learning_curves
from pbl.diagnosis.rules import Diagnosis, collect_limits
from pbl.diagnosis.signals import Signals
from pbl.evaluation.metrics import check_positive_class
from pbl.evaluation.run import build_model, evaluate_on
from pbl.models.saving import save_model
from pbl.models.slips import tell_slips
from pbl.reports.drawing import caption, choose_caption_language
from pbl.runs import Run, runs_folder
from pbl.storage.writing import replacing
from pbl.tasks import find_task, open_data
from pbl.training.build import build_and_compile, build_callback, settle_names
from pbl.training.callbacks import CALLBACKS
from pbl.training.data_check import check_data
from pbl.training.fit import Fit, stages
from pbl.training.session import Session, open_session
from pbl.training.tensorboard_log import check_tensorboard, log_figures


def train(
    config: Config | str | Path,
    *,
    folder: str | Path | None = None,
    fresh: bool = False,
    images: int | None = None,
    prune: Callable[[int, dict[str, float]], bool] | None = None,
    again: bool = True,
) -> Run:
    """Trains one run and evaluates its best model on validation. The test split is never used.

    If a run with the same settings has not ended, this run is resumed exactly (`pbl.training.checkpoint`). Ctrl-C (or the
    signal SIGTERM) ends the training after the step and keeps its state; `evaluate` reads the best model so far.

    Args:
        config: The settings, or the path of an experiment file.
        folder: Where runs are kept; the variable `PBL_RUNS`, else `runs`, unless given.
        fresh: Start a new run even if an unfinished run with the same settings exists.
        images: Use only so many training and validation images, for a trial: always a new run, which is neither resumed nor taken for the
            result of these settings.
        prune: Called after each epoch, with its number from 1 and its logs; returns whether the training ends there since a search
            has seen better ones; ignored after the last epoch. The state is kept: without `prune` the same settings resume it.
        again: Whether settings with a finished run are trained once more, as a user who gives the command twice wants.
            If several processes share a plan, one may end a run while another looks for it: then False.

    Returns:
        The run. `run.environment["status"]` is "finished", "paused" (`max_minutes` are over), "interrupted"
        (Ctrl-C, SIGTERM or SIGHUP) or "pruned".

    Raises:
        InputError: The settings do not fit the data or the model; another process trains in the run; the training
            diverged before any model could be kept; the disk is full. An error in the user's own builder, layer, loss or callback
            is one too (`pbl.models.slips.OwnCodeError`): its traceback is in the run's `traceback.txt` (if there is no
            run yet, in that file next to the experiment's runs), and in the error's `__cause__`.

    Example:
        >>> import pbl
        >>> run = pbl.train(pbl.Config(experiment="quick", model="softmax_regression", epochs=1))
        runs/quick/001: softmax_regression (650 trainable weights) on digits, ...
        Epoch 1/1 ... points
        >>> run.environment["status"], (run.path / "history.csv").exists()
        ('finished', True)
    """
    config = config if isinstance(config, Config) else load_experiment(config)
    with tell_slips(runs_folder(folder) / config.experiment, models.MODELS.get(config.model)):
        return _train(config, folder, fresh, images, prune=prune, again=again)


def rehearse(config: Config, folder: str | Path, kept_in: Path) -> Run:
    """Does the same as `train`, with a batch of images and the last, smaller one; a traceback goes to `kept_in`."""
    with tell_slips(kept_in, models.MODELS.get(config.model)):
        return _train(config, folder, True, config.batch_size, kept_in)


def _train(
    config: Config,
    folder: str | Path | None,
    fresh: bool,
    images: int | None = None,
    kept_in: Path | None = None,
    prune: Callable[[int, dict[str, float]], bool] | None = None,
    again: bool = True,
) -> Run:
    # A misspelt name, also of a threshold, is reported before anything is loaded.
    config = settle_names(config)
    task = find_task(config)
    collect_limits()
    builder = models.find_builder(config.model)
    callbacks = [build_callback(name, task.best) for name in config.callbacks]
    makers = {
        type(callback).__name__: CALLBACKS[name] for callback, name in zip(callbacks, config.callbacks, strict=True)
    }
    with open_session(config, folder, fresh or images is not None, again) as session:
        config = session.config
        if config.tensorboard:
            check_tensorboard()
        data = open_data(config)
        check_positive_class(config.positive_class, data.class_names)
        session.lap("data")
        if kept_in is not None:  # a rehearsal: a full batch, and one of the size of an epoch's last
            images += len(data.images("train").labels) % images
        findings = check_data(data, config, folder, images)
        session.check_same_data(data)
        session.lap("check")
        model, policy = build_and_compile(config, data, callbacks)
        session.lap("build")
        with (
            session.begin(model, policy, data, findings, images) as run,
            tell_slips(kept_in or run.path, builder, makers),
        ):
            fit = Fit(session, model, data, task, callbacks, prune)
            with fit.until_stopped():
                planned = stages(config)
                for stage in planned:
                    fit(stage, is_last=stage is planned[-1])
            session.lap("fit")
            if session.status == "finished":
                finish(session, model, data)
    return run


def finish(session: Session, model: keras.Model, data: Data) -> None:
    """Evaluates the trained model on validation, and writes the diagnosis; after Ctrl-C this is left to the next time."""
    run = session.run
    try:
        save_model(model, run.path, "final", weights=False)
        # The model is read back from the disk: so the metrics judge the model that the folder contains.
        evaluate_on(run, build_model(run), data, "val", all_figures=False)
        session.lap("evaluate")
        diagnosis = None
        if run.config.task in DIAGNOSES:
            diagnosis = diagnose_run(run, has_ended=True)
            run.write_json("diagnosis.json", as_json(diagnosis))
            session.lap("diagnosis")
        _draw_curves(run, diagnosis)
        session.lap("figures")
        if diagnosis is not None and "ipykernel" in sys.modules:
            from IPython.display import display

            display(diagnosis)
        if run.config.tensorboard:
            log_figures(run)
    except KeyboardInterrupt:
        session.status = "interrupted"


def _draw_curves(run: Run, diagnosis: Diagnosis | None) -> None:
    environment, history = run.environment, pd.read_csv(io.BytesIO(run.read_bytes("history.csv")))
    if not run.config.is_classifier:
        curves = plot_history(history, environment["best_epoch"], caption("{run}: learning curves", run=run.name))
    else:
        _, headline = diagnosis.paragraphs(choose_caption_language())[0]
        curves = plot_learning_curves(
            history,
            environment["best_epoch"],
            caption("{run}: learning curves; diagnosis: {headline}", run=run.name, headline=headline),
            environment.get("fine_tune_from_epoch"),
            Signals.load(run.path / "signals.npz"),
            is_cross_entropy=run.config.loss != "mean_squared_error" and not run.config.label_smoothing,
        )
    with replacing(run.path / "figures" / "learning_curves.png") as temporary:
        curves.savefig(temporary, dpi=120)
