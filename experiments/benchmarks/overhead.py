"""Processor seconds that `pbl.train` adds to Keras's own `fit` of the same model: ten epochs on digits, five times in turn.

Not counted: loading and checking the data, building and compiling, figures and predictions, which are lines of their own in
a run's `environment.json`. Counted: the state, saved after each epoch, the best model, the history, the records of the run.

Command:  python experiments/benchmarks/overhead.py
Result:   printed; 0.39 seconds (MLP, beside 1.8 of `fit`) and 1.91 (ResNet-20, beside 10.81)
"""

import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pbl
from pbl import training
from pbl.evaluation import open_data
from pbl.performance import fused_batch_normalization
from pbl.training import build_and_compile

NOT_COUNTED = ("open_data", "_check_data", "build_and_compile", "_draw_curves", "evaluate_on")
EPOCHS, REPEATS = 10, 5


def fit(config: pbl.Config) -> float:
    """Keras's own."""
    data = open_data(config)
    model, _ = build_and_compile(config, data)
    with fused_batch_normalization(model):
        start = time.process_time()
        model.fit(data.train, validation_data=data.val, epochs=config.epochs, verbose=2, shuffle=False)
        return time.process_time() - start


def train(config: pbl.Config) -> float:
    """`pbl.train`, without what is not counted."""
    spent = 0.0
    originals = {name: getattr(training, name) for name in NOT_COUNTED}

    def timed(function):
        def call(*arguments, **options):
            nonlocal spent
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent += time.process_time() - start

        return call

    for name, function in originals.items():
        setattr(training, name, timed(function))
    try:
        with tempfile.TemporaryDirectory() as folder:
            start = time.process_time()
            pbl.train(config, folder=folder)
            return time.process_time() - start - spent
    finally:
        for name, function in originals.items():
            setattr(training, name, function)


def main() -> None:
    for model in ("mlp", "resnet20"):
        config = pbl.Config(experiment="overhead", model=model, epochs=EPOCHS)
        pairs = [(fit(config), train(config)) for _ in range(REPEATS + 1)][1:]
        added = sorted(ours - own for own, ours in pairs)
        print(
            f"{model}: {statistics.median(added):.2f} seconds more ({added[0]:.2f} to {added[-1]:.2f}), beside {statistics.median(own for own, _ in pairs):.2f} of fit"
        )


if __name__ == "__main__":
    main()
