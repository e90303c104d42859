"""Processor seconds of training until an accuracy is reached: the package's defaults and a recipe, against a plain script.

- MNIST, 99.0% of the 10,000 test images: `experiments/mnist_fast.py`, against keras.io's example "Simple MNIST convnet"
  (Conv2D 32 and 64, dropout 0.5, Adam, NumPy arrays, batches of 128), both with all 60,000 training images but for the
  600 that the package holds out
- CIFAR-10, 65% of 5,000 validation images after training on 20,000: ResNet-20 with flip and crop, SGD and one cycle of the
  learning rate, against the same network in a plain script (Adam, 1e-3, float32, stock layers)

Accuracy is looked at after each epoch; that is not counted. Seeds in turn, ours and theirs one after the other.

Command:  python experiments/benchmarks/time_to_accuracy.py --data DIR --seeds 3     (DIR holds mnist.npz and cifar10.zip)
Result:   time_to_accuracy.md, beside this file
"""

import argparse
import os
import statistics
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers

import pbl
from pbl.config import load_experiment
from pbl.data import decode_image, from_arrays
from pbl.storage.writing import replacing
from pbl.training.build import build_and_compile
from pbl.training.performance import fused_operations

HERE = Path(__file__).resolve().parent
MOST_EPOCHS = 12  # what has not come there by then is written as not reached


class UntilAccurate(keras.callbacks.Callback):
    """Counts the processor's seconds of training, and ends it when the accuracy is reached."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, goal: float):
        super().__init__()
        self.images, self.labels, self.goal = images, labels, goal
        self.seconds, self.accuracies = 0.0, []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._start = time.process_time()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds += time.process_time() - self._start
        classes = self.model.predict(self.images, batch_size=256, verbose=0).argmax(axis=1)
        self.accuracies.append(float((classes == self.labels).mean()))
        self.model.stop_training = self.accuracies[-1] >= self.goal

    @property
    def result(self) -> tuple[float, int, float]:
        return self.seconds, len(self.accuracies), self.accuracies[-1]


def ours(config: pbl.Config, source, judge: UntilAccurate) -> tuple[float, int, float]:
    """As `pbl.train` does it, but for what it writes."""
    data = pbl.load_data(
        source, batch_size=config.batch_size, seed=config.seed, augmentation=config.augmentation,
        validation_fraction=0.01,
    )  # fmt: skip
    model, _ = build_and_compile(config, data)
    with fused_operations(model):
        model.fit(data.train, epochs=config.epochs, callbacks=[judge], shuffle=False, verbose=0)
    return judge.result


def keras_io_convnet(x: np.ndarray, y: np.ndarray, seed: int, judge: UntilAccurate) -> tuple[float, int, float]:
    """keras.io/examples/vision/mnist_convnet, by its settings."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    one_hot = keras.utils.to_categorical(y, 10)
    model.fit(x.astype("float32") / 255, one_hot, batch_size=128, epochs=MOST_EPOCHS, callbacks=[judge], verbose=0)
    return judge.result


def plain_resnet(x: np.ndarray, y: np.ndarray, seed: int, judge: UntilAccurate) -> tuple[float, int, float]:
    """What a student writes first: the network, Adam, and `fit` on arrays."""
    keras.utils.set_random_seed(seed)
    model = pbl.models.resnet20((32, 32, 3), 10)
    model.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=MOST_EPOCHS, callbacks=[judge], verbose=0)
    return judge.result


def read_cifar10(archive_file: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training images, of all classes alike."""
    with zipfile.ZipFile(archive_file) as archive:
        files = sorted(name for name in archive.namelist() if "/train/" in name and name.endswith(".jpg"))
        names = sorted({file.split("/")[-2] for file in files})
        chosen = [file for name in names for file in [f for f in files if f"/{name}/" in f][: count // len(names)]]
        pixels = np.stack([decode_image(archive.read(file), file) for file in chosen])
    return pixels, np.array([names.index(file.split("/")[-2]) for file in chosen], np.int32)


def compare(
    name: str, goal: float, seeds: int, ways: dict[str, Callable[[int], tuple[float, int, float]]]
) -> list[str]:
    """Runs all ways with each seed in turn; gives the lines of a table."""
    found: dict[str, list[tuple[float, int, float]]] = {way: [] for way in ways}
    for seed in range(seeds):
        for way, train in ways.items():
            keras.backend.clear_session()
            found[way].append(train(seed))
            print(f"{name}, seed {seed}, {way}: {found[way][-1]}", flush=True)
    first = [seconds for seconds, _, _ in next(iter(found.values()))]
    lines = [
        f"\n## {name}\n",
        "| | processor's seconds | times ours | epochs | accuracy reached |",
        "|---|---|---|---|---|",
    ]
    for way, results in found.items():
        seconds = [result[0] for result in results]
        ratios = [their / our for their, our in zip(seconds, first, strict=True)]
        more = "" if all(result[2] >= goal for result in results) else "not reached in "
        lines.append(
            f"| {way} | {more} {statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f}) | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            f" | {', '.join(str(result[1]) for result in results)} | {', '.join(f'{result[2]:.4f}' for result in results)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    with np.load(arguments.data / "mnist.npz") as arrays:
        x, y, test_x, test_y = (arrays[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, test_x = x[..., None], test_x[..., None]
    fast = load_experiment(HERE.parent / "mnist_fast.py")
    mnist = from_arrays(x, y, test=(test_x, test_y))
    lines = [
        f"Made by `time_to_accuracy.py --seeds {arguments.seeds}`, whose head says how: Keras {keras.__version__}, TensorFlow {tf.__version__}, {os.cpu_count()} cores, in {pbl.training.performance.choose_precision()}. Medians over the seeds (lowest to highest)."
    ]
    lines += compare(
        "MNIST, 99.0% of the test images",
        0.99,
        arguments.seeds,
        {
            "mnist_fast.py": lambda seed: ours(
                fast.replace(seed=seed), mnist, UntilAccurate(test_x, test_y, 0.99)
            ),
            "keras.io's convnet": lambda seed: keras_io_convnet(
                x, y, seed, UntilAccurate(test_x.astype("float32") / 255, test_y, 0.99)
            ),
        },
    )  # fmt: skip
    pixels, labels = read_cifar10(arguments.data / "cifar10.zip", 25_000)
    is_validation = np.arange(len(labels)) % 5 == 4
    train_x, train_y, val_x, val_y = (
        pixels[~is_validation],
        labels[~is_validation],
        pixels[is_validation],
        labels[is_validation],
    )
    recipe = pbl.Config(
        model="resnet20", augmentation={"flip": True, "crop": 4}, optimizer="sgd", optimizer_options={"momentum": 0.9},
        weight_decay=5e-4, learning_rate=0.2, learning_rate_schedule="one_cycle", batch_size=128, epochs=6,
    )  # fmt: skip
    cifar10 = from_arrays(train_x, train_y, test=(val_x, val_y))
    lines += compare(
        "CIFAR-10, 20,000 images, 65% of 5,000 validation images",
        0.65,
        arguments.seeds,
        {
            "ResNet-20, one cycle": lambda seed: ours(
                recipe.replace(seed=seed), cifar10, UntilAccurate(val_x, val_y, 0.65)
            ),
            "ResNet-20, plain script": lambda seed: plain_resnet(
                train_x, train_y, seed, UntilAccurate(val_x, val_y, 0.65)
            ),
        },
    )  # fmt: skip
    with replacing(HERE / "time_to_accuracy.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
