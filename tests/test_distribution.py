"""Training spread over several devices: two logical ones of this machine's CPU, in a separate process."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly  # one process makes what all tests look at

PROGRAM = """
import json, sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import pbl
from pbl import performance
from pbl.callbacks import CALLBACKS
performance.list_devices = lambda: tf.config.list_logical_devices("CPU")
folder = sys.argv[1]


class Cut(keras.callbacks.Callback):
    at = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.at == (self._epoch, batch):
            type(self).at = None
            raise SystemError("cut off")

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch


CALLBACKS["cut"] = Cut


def train(folder, images=1040, **settings):  # 20 batches, none of which is smaller
    config = pbl.Config(experiment="x", epochs=2, batch_size=52, optimizer="sgd", learning_rate=0.05, precision="float32", callbacks=["cut"], checkpoint_minutes=1e-6, **settings)
    run = pbl.train(config, folder=folder, images=images)
    return run.environment["replicas"], [w for w in pbl.load_model(run).get_weights()]


def apart(a, b):
    return float(max(np.abs(x - y).max() for x, y in zip(a, b)))


found = {}
for model, options in [("mlp", {"widths": [32]}), ("small_cnn", {}), ("resnet20", {})]:
    both, two = train(folder + "/two", model=model, model_options=options, distribute="auto")
    alone, one = train(folder + "/one", model=model, model_options=options, distribute="none")
    found[model] = [both, alone, apart(one, two), apart(one, [0 * w for w in one])]
Cut.at = (1, 7)
try:
    train(folder + "/cut", model="mlp", model_options={"widths": [32]}, distribute="auto")
except SystemError:
    pass
_, resumed = train(folder + "/cut", model="mlp", model_options={"widths": [32]}, distribute="auto")
_, whole = train(folder + "/whole", model="mlp", model_options={"widths": [32]}, distribute="auto")
_, uneven_two = train(folder + "/uneven", None, model="mlp", model_options={"widths": [32]}, distribute="auto")
_, uneven_one = train(folder + "/uneven", None, model="mlp", model_options={"widths": [32]}, distribute="none")
found["uneven"] = [2, 1, apart(uneven_one, uneven_two), apart(uneven_one, [0 * w for w in uneven_one])]
found["resumed"] = apart(resumed, whole)
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert said, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(said[0].removeprefix("FOUND"))


@pytest.mark.parametrize("model", ["mlp", "small_cnn"])
def test_two_devices_take_the_steps_of_one(found, model):
    both, alone, difference, size = found[model]
    assert (both, alone) == (2, 1)
    assert difference < 2e-3 * size  # rounding of 40 steps


def test_batch_normalisation_is_each_devices_own(found):
    """As the documentation says: with it the result differs, but is as good."""
    _, _, difference, size = found["resnet20"]
    assert 1e-3 * size < difference < 0.5 * size


def test_an_odd_last_batch_weighs_a_little_otherwise(found):
    """Of 29 images one device gets 15, the other 14, and both count equally."""
    _, _, difference, size = found["uneven"]
    assert difference < 0.02 * size


def test_a_spread_training_goes_on_too(found):
    assert found["resumed"] == 0


def test_two_processes_train_one_model_on_jax():
    """Both end with the same weights and losses, and the losses equal those of a single process."""
    pytest.importorskip("jax", reason="JAX is not installed")
    script = Path(__file__).resolve().parent.parent / "experiments" / "several_machines.py"
    told = []
    for count in (1, 2):
        done = subprocess.run(
            [sys.executable, script, "--local", str(count), "--epochs", "2"],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        told.append(
            re.findall(r"loss (\S+) to (\S+) in 2 epochs, .* weights (\w+), loaded again equal: True", done.stdout)
        )
    assert [len(of) for of in told] == [1, 2] and len(set(told[1])) == 1
    assert told[0][0][:2] == told[1][0][:2]
