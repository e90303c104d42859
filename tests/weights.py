"""Compares what two checkouts of the package train: to the bit, also where the training was killed on the way and resumed.

python tests/weights.py OTHER [ROOT]    the checkouts' folders; ROOT by default the one that contains this file

Three experiments: `digits_resnet20` and `my_team` as OTHER has them, and a training in two phases of a backbone with random
weights. Each is trained in each checkout once without a break and once killed with `kill -9` and resumed. Equal means,
to the bit: all weights of the best and of the last model, the optimizer's states, and the history but for its times and the
losses that the monitor computes after each epoch: they are means, whose last digits change with the order of the sum.
Exit status 1 where something differs.
"""

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

HERE = Path(__file__).resolve().parent.parent
ASIDE = ["seconds", "images_per_second", "data_share", "probe_loss", "val_probe_loss"]
TWO_PHASES = '''"""A backbone with random weights: its head first, then its last stage at a rate of its own."""
import keras
from keras import layers
from pbl import Config
from pbl.models import MODELS


def with_backbone(input_shape, num_classes, dropout=0.3):
    inner = keras.Input(input_shape)
    x = layers.Conv2D(8, 3, activation="relu", name="block1_conv")(inner)
    x = layers.BatchNormalization(name="block1_bn")(x)
    x = layers.Conv2D(16, 3, activation="relu", name="block2_conv")(x)
    backbone = keras.Model(inner, layers.BatchNormalization(name="block2_bn")(x), name="backbone")
    backbone.trainable = False
    images = keras.Input(input_shape)
    x = layers.GlobalAveragePooling2D()(backbone(layers.Rescaling(1 / 255)(images)))
    return keras.Model(images, layers.Dense(num_classes, activation="softmax")(layers.Dropout(dropout)(x)))


MODELS["with_backbone"] = with_backbone
config = Config(model="with_backbone", epochs=8, fine_tune_epochs=8, fine_tune_learning_rate=1e-3, unfreeze=1)
'''
# Experiment: the epochs that a training has finished when it is killed (of the third one, two of its second phase).
EXPERIMENTS = {"digits_resnet20": 12, "my_team": 7, "two_phases": 10}


def train(root: Path, file: Path, folder: Path, kill_after: int | None = None) -> None:
    """Trains an experiment with the checkout `root` below `folder`; with `kill_after`, kills it after so many epochs and resumes it."""
    folder.mkdir(parents=True)
    words = [sys.executable, "-m", "pbl", "train", str(file), "checkpoint_minutes=0.01"]
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    history = folder / "runs" / file.stem / "001" / "history.csv"
    while True:
        with (folder / "output.txt").open("a") as output:
            process = subprocess.Popen(words, cwd=folder, env=environment, stdout=output, stderr=output)
            while process.poll() is None:
                if kill_after and history.exists() and history.read_text().count("\n") > kill_after:
                    process.send_signal(signal.SIGKILL)
                    kill_after = None
                time.sleep(0.02)
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"{root}, {file.stem}: the training failed.\n{(folder / 'output.txt').read_text()}")
    if kill_after or history.parent.with_name("002").exists():
        raise SystemExit(f"{root}, {file.stem}: it had ended before it was to be killed, or was not resumed.")


def read(folder: Path) -> dict[str, list[np.ndarray]]:
    """Returns the history of the run in `folder`, and what each of its saved models holds, by the file's name."""
    history = pd.read_csv(folder / "history.csv").drop(columns=ASIDE, errors="ignore")
    return {
        "history": [history.to_numpy()],
        **{name: read_arrays(folder / name) for name in ("best.keras", "final.keras")},
    }


def read_arrays(model: Path) -> list[np.ndarray]:
    """Returns all arrays of a saved model, those of its optimizer included."""
    found: list[np.ndarray] = []
    with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as weights:
        weights.visititems(lambda place, item: found.append(item[()]) if isinstance(item, h5py.Dataset) else None)
    return found


def main() -> None:
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    roots = [Path(root).resolve() for root in [*sys.argv[1:], HERE][:2]]
    different = False
    print("| experiment | checkout | training | arrays | numbers | different |\n|---|---|---|---:|---:|---|")
    with tempfile.TemporaryDirectory() as work:
        for experiment, kill_after in EXPERIMENTS.items():
            expected = None
            file = roots[0] / "experiments" / f"{experiment}.py"
            if experiment == "two_phases":
                file = Path(work) / "two_phases.py"
                file.write_text(TWO_PHASES, encoding="utf-8")
            for root in roots:
                for training, kill in [("whole", None), (f"killed after {kill_after} epochs", kill_after)]:
                    folder = Path(work) / experiment / f"{root.name}_{bool(kill)}"
                    train(root, file, folder, kill)
                    found = read(folder / "runs" / experiment / "001")
                    expected = expected or found
                    differing = [
                        name
                        for name, arrays in found.items()
                        if len(arrays) != len(expected[name])
                        or not all(map(partial(np.array_equal, equal_nan=True), arrays, expected[name]))
                    ]
                    arrays = [array for values in found.values() for array in values]
                    numbers = sum(array.size for array in arrays)
                    told = ", ".join(differing) or "nothing"
                    print(
                        f"| {experiment} | {root.name} | {training} | {len(arrays)} | {numbers:,} | {told} |",
                        flush=True,
                    )
                    different |= bool(differing)
    sys.exit(different)


if __name__ == "__main__":
    main()
