"""The optimizer, the learning rate over time, and the loss, against the formulas."""

import math
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import pbl
from pbl import Config
from pbl.config import load_experiment, parse_overrides
from pbl.diagnosis.curves import plot_learning_curves
from pbl.diagnosis.signals import Signals
from pbl.errors import InputError
from pbl.training.optimization import build_loss, build_optimizer, build_schedule

STEPS = 100  # steps of an epoch


def rate(step: int, **settings) -> float:
    schedule = build_schedule(Config(epochs=10, learning_rate=0.1, **settings), STEPS)
    return float(schedule(step)) if callable(schedule) else schedule


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {0: 0.1, 999: 0.1}),
        ({"warmup_epochs": 2}, {0: 0.0, 50: 0.025, 200: 0.1, 900: 0.1}),
        ({"learning_rate_schedule": "cosine"}, {0: 0.1, 250: 0.05 * (1 + math.cos(math.pi / 4)), 500: 0.05, 1000: 0.0}),
        (
            {"learning_rate_schedule": "cosine", "warmup_epochs": 2, "schedule_options": {"end": 0.01}},
            {100: 0.05, 200: 0.1, 600: 0.0505, 1000: 0.001},
        ),
        # He et al. 2015, section 4.2: divided by 10 at 32k and 48k of 64k iterations.
        ({"learning_rate_schedule": "step"}, {0: 0.1, 500: 0.1, 501: 0.01, 750: 0.01, 751: 0.001, 999: 0.001}),
        (
            {"learning_rate_schedule": "step", "schedule_options": {"at": [0.9], "factor": 0.5}, "warmup_epochs": 1},
            {0: 0.005, 5: 0.005, 6: 0.01, 50: 0.05, 96: 0.1, 900: 0.1, 901: 0.05},
        ),
        (
            {"learning_rate_schedule": "one_cycle"},
            {0: 0.004, 150: 0.052, 300: 0.1, 650: 0.05 * (1 + 4e-6), 1000: 4e-7},
        ),
        # The course: Keras 1's `decay=5e-4`.
        ({"learning_rate_schedule": "inverse_time"}, {0: 0.1, 1: 0.1 / 1.0005, 1000: 0.1 / 1.5}),
        ({"learning_rate_schedule": "inverse_time", "schedule_options": {"decay": 0.01}}, {100: 0.05}),
    ],
    ids=str,
)  # fmt: skip
def test_learning_rate(settings, expected):
    assert {step: rate(step, **settings) for step in expected} == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["schedule_options.at=[0.5]"], "The schedule 'constant' has no option 'at'. It has none."),
        (["learning_rate_schedule=step", "schedule_options.att=[0.5]"], "Did you mean 'at'?"),
        (["learning_rate_schedule=step", "schedule_options.at=[0.7,0.5]"], "shares of all steps that rise"),
        (["learning_rate_schedule=step", "schedule_options.at=[100]"], "a list of shares of all steps"),
        (["learning_rate_schedule=step", "schedule_options.at=0.5"], "a list of shares of all steps"),
        (
            ["learning_rate_schedule=inverse_time", "schedule_options.decay=fast"],
            "it must be a number above 0 and below 1",
        ),
        (["learning_rate_schedule=step", "schedule_options.at=[]"], "a list of shares of all steps"),
        (["learning_rate_schedule=step", "schedule_options.factor=10"], "a factor above 0 and below 1"),
        (["learning_rate_schedule=step", "epochs=5", "warmup_epochs=4"], "ends after the first step down"),
        (["warmup_epochs=0.001"], "is less than one step"),
        (["learning_rate_schedule=one_cycle", "warmup_epochs=1"], "does not work with 'one_cycle'"),
        (["warmup_epochs=30"], "leaves no epoch at the full rate"),
        (["optimizer_options.decay=1e-4"], "learning_rate_schedule=inverse_time schedule_options.decay=5e-4"),
        (["lr=0.1"], "There is no setting 'lr'. It is called learning_rate."),
        (["decay=0.1"], "learning_rate_schedule=inverse_time"),
        (["label_smoothing=0.1"], "set loss=categorical_crossentropy"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said(words, said):
    with pytest.raises(InputError) as error:
        config = Config(**parse_overrides(words))
        build_optimizer(config, STEPS)
        build_loss(config)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("decay_biases", [True, False])
def test_weight_decay_may_leave_biases_and_normalisation_alone(decay_biases):
    """Decoupled: each step subtracts rate * decay * weight (Loshchilov and Hutter 2019, algorithm 1)."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    for weight in model.trainable_weights:
        weight.assign(np.ones(weight.shape))
    optimizer = build_optimizer(
        Config(optimizer="sgd", learning_rate=0.5, optimizer_options={"weight_decay": 0.1}, decay_biases=decay_biases),
        1,
    )
    optimizer.apply([np.zeros(w.shape, np.float32) for w in model.trainable_weights], model.trainable_weights)
    after = {weight.name: float(weight.numpy().ravel()[0]) for weight in model.trainable_weights}
    other = 0.95 if decay_biases else 1.0
    assert after == pytest.approx({"kernel": 0.95, "bias": other, "gamma": other, "beta": other})


@pytest.mark.parametrize(("file", "decay"), [("cifar10_he.py", 1e-4), ("cifar10_vgg.py", 5e-4)])
def test_a_papers_recipe_decays_weights_as_in_the_paper(file, decay):
    """Caffe's and Torch's decay goes through the momentum (v = 0.9 v + decay w; w -= rate v), as an L2 in the loss does."""
    config = load_experiment(Path(__file__).parent.parent / "experiments" / file)
    config = config.replace(learning_rate_schedule="constant", schedule_options={})
    recipe, in_the_loss = build_optimizer(config, 1), keras.optimizers.SGD(config.learning_rate, momentum=0.9)
    ours, penalised = keras.Variable(1.0), keras.Variable(1.0)
    weight, velocity, seen = 1.0, 0.0, []
    for _ in range(120):
        velocity = 0.9 * velocity + decay * weight
        weight -= config.learning_rate * velocity
        recipe.apply([0.0 * ours], [ours])
        in_the_loss.apply([2 * (decay / 2) * penalised], [penalised])  # the slope of L2(decay / 2)
        seen.append(np.log([float(ours), float(penalised), weight]))
    shrunk = seen[-1] - seen[60]  # the momentum must build up first
    assert shrunk[:2] == pytest.approx([shrunk[2]] * 2, rel=0.01)


@pytest.mark.slow
def test_mean_squared_error_is_trained_with_and_judged_in_nats(tmp_path):
    """Its own numbers are in history.csv; the figure has only the cross-entropy, with the kept epoch on its curve."""
    run = pbl.train(
        Config(dataset="digits", model="mlp", epochs=3, loss="mean_squared_error", precision="float32"), folder=tmp_path
    )
    history = pd.read_csv(run.path / "history.csv")
    best = history.loc[history["val_loss"].idxmin()]
    with np.load(run.path / "predictions_val.npz") as saved:
        probabilities, labels = saved["probabilities"], saved["labels"]
    assert best["val_loss"] == pytest.approx(((probabilities - np.eye(10)[labels]) ** 2).mean(), rel=1e-4)
    log_loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert run.read_json("metrics_val.json")["log_loss"] == pytest.approx(log_loss, rel=1e-4)
    signals = Signals.load(run.path / "signals.npz")
    loss, *_ = plot_learning_curves(history, int(best["epoch"]), signals=signals, is_cross_entropy=False).axes
    assert len(loss.lines) == 4  # training, validation, the kept epoch and its line
    assert loss.lines[-1].get_ydata()[0] == pytest.approx(log_loss, rel=1e-3)


def test_label_smoothing():
    """Szegedy et al. 2016, section 7: with 10 classes and 0.1 the right one is 0.91, the others 0.01."""
    loss = build_loss(Config(loss="categorical_crossentropy", label_smoothing=0.1))
    predicted = np.full((1, 10), 0.05, np.float32)
    predicted[0, 3] = 0.55
    expected = -(0.91 * math.log(0.55) + 9 * 0.01 * math.log(0.05))
    assert float(loss(np.eye(10)[[3]], predicted)) == pytest.approx(expected, rel=1e-5)
    assert build_loss(Config()) == "sparse_categorical_crossentropy"
