"""Processor seconds that `pbl.train` adds to Keras's own `fit` of the same model: ten epochs on digits, five times in turn.

Not counted: loading and checking the data, building and compiling, figures and predictions, which are lines of their own in
a run's `environment.json`; so is what OverfittingMonitor measures. Counted: the state, saved after each epoch, the best model, the history, the records of the run.
Told twice: as the difference of two trainings, with their scatter, and as the time within the parts themselves.

Command:  python experiments/benchmarks/overhead.py
Result:   printed; 0.36 seconds (MLP, beside 1.6 of `fit`) and 0.90 (ResNet-20, beside 10.7) within its parts
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import pbl
from pbl.diagnosis.monitor import OverfittingMonitor
from pbl.evaluation.run import open_data
from pbl.training import run as training
from pbl.training.build import build_and_compile
from pbl.training.callbacks import BestModel, HistoryFile
from pbl.training.checkpoint import ExactResume
from pbl.training.divergence import StopAtNaN
from pbl.training.fit import _StopWithoutLock
from pbl.training.performance import fused_operations

NOT_COUNTED = (
    "open_data",
    "check_data",
    "diagnose_run",
    "build_and_compile",
    "_draw_curves",
    "build_model",
    "evaluate_on",
)
CALLBACKS = (BestModel, HistoryFile, StopAtNaN, ExactResume, _StopWithoutLock)
HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
)
EPOCHS, REPEATS = 10, 5


def fit(config: pbl.Config) -> float:
    """Keras's own."""
    data = open_data(config)
    model, _ = build_and_compile(config, data)
    with fused_operations(model):
        start = time.process_time()
        model.fit(data.train, validation_data=data.val, epochs=config.epochs, verbose=2, shuffle=False)
        return time.process_time() - start


@contextlib.contextmanager
def timed(*places: tuple[object, str]) -> Iterator[list[float]]:
    """Within it, the processor seconds that functions take, each given by where it stands and its name, are appended."""
    seconds: list[float] = []

    def time_it(function):
        def call(*arguments, **options):
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds.append(time.process_time() - start)

        return call

    originals = [(owner, name, getattr(owner, name)) for owner, name in places]
    for owner, name, function in originals:
        setattr(owner, name, time_it(function))
    try:
        yield seconds
    finally:
        for owner, name, function in originals:
            setattr(owner, name, function)


def train(config: pbl.Config) -> tuple[float, float, float]:
    """`pbl.train` without what is not counted; of that, what is outside of Keras's `fit` or in our callbacks; the monitor."""
    hooks = [(callback, hook) for callback in CALLBACKS for hook in HOOKS if hook in vars(callback)]
    with (
        tempfile.TemporaryDirectory() as folder,
        timed(*[(training, name) for name in NOT_COUNTED]) as not_counted,
        timed((keras.Model, "fit")) as keras_fit,
        timed(*hooks) as ours,
        timed((OverfittingMonitor, "_run"), (OverfittingMonitor, "on_train_begin")) as measured,
    ):
        start = time.process_time()
        pbl.train(config, folder=folder)
        spent = time.process_time() - start - sum(not_counted) - sum(measured)
        return spent, spent + sum(measured) - sum(keras_fit) + sum(ours), sum(measured)


def main() -> None:
    for model in ("mlp", "resnet20"):
        config = pbl.Config(experiment="overhead", model=model, epochs=EPOCHS)
        rounds = [(fit(config), *train(config)) for _ in range(REPEATS + 1)][1:]
        added = sorted(whole - own for own, whole, *_ in rounds)
        parts, monitor = (sorted(values) for values in list(zip(*rounds, strict=True))[2:])
        print(
            f"{model}: beside {statistics.median(own for own, *_ in rounds):.2f} seconds of fit,"
            f" difference {statistics.median(added):.2f} ({added[0]:.2f} to {added[-1]:.2f}),"
            f" within its parts {statistics.median(parts):.2f} ({parts[0]:.2f} to {parts[-1]:.2f});"
            f" OverfittingMonitor {statistics.median(monitor):.2f}"
        )


if __name__ == "__main__":
    main()
