"""How fast the input pipeline is, as ratios of runs interleaved, medians of five: seconds, and the processor's seconds.

Data: CIFAR-10 as a zip of class folders, 45,000 training images of 32x32 after validation is cut off, batches of 128.

- reading alone, once through the training images, against a hand-written `tf.data` pipeline that gathers shuffled batches
  from memory (the fastest that we know), a per-image `map` without cache that decodes the files each epoch, and
  `keras.utils.image_dataset_from_directory`
- `fit` of a model that costs nothing, against `fit` with NumPy arrays
- `fit` of ResNet-20 for 60 steps, against the same steps on one batch that is already there: what the input costs it

Command:  python experiments/benchmarks/pipeline.py --data DIR      (DIR holds cifar10.zip)
Result:   pipeline.md, beside this file
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import pbl
from pbl.data.cache import cache_folder
from pbl.storage.writing import replacing

BATCH, REPEATS, STEPS = 128, 5, 60


def exhaust(dataset: tf.data.Dataset) -> None:
    for _ in dataset:
        pass


def compare(ways: dict[str, Callable[[], None]]) -> dict[str, list[tuple[float, float]]]:
    """Runs all ways in turn, once to warm up and five times; returns each one's seconds and processor seconds."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for repeat in range(REPEATS + 1):
        for name, way in ways.items():
            start, work = time.perf_counter(), time.process_time()
            way()
            if repeat:
                seconds[name].append((time.perf_counter() - start, time.process_time() - work))
    return seconds


def describe(title: str, seconds: dict[str, list[tuple[float, float]]]) -> list[str]:
    ours = next(iter(seconds.values()))
    lines = [
        f"\n## {title}\n",
        "| | seconds | times ours (lowest to highest of five) | processor's seconds | times ours |",
        "|---|---|---|---|---|",
    ]
    for name, theirs in seconds.items():
        cells = [name]
        for clock in (0, 1):
            ratios = [their[clock] / our[clock] for their, our in zip(theirs, ours, strict=True)]
            cells += [
                f"{statistics.median(their[clock] for their in theirs):.3f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of cifar10.zip")
    archive = parser.parse_args().data / "cifar10.zip"
    data = pbl.load_data(archive, batch_size=BATCH)
    augmented = pbl.load_data(archive, batch_size=BATCH, augmentation={"flip": True, "crop": 4})
    images = data.images("train")
    pixels, labels, n = images.pixels, images.labels, len(images.labels)
    unpacked = next(cache_folder().glob("cifar10-*")) / "cifar10" / "train"
    files = [str(unpacked.parent.parent / "cifar10" / name) for name in images.names]

    stored, targets = tf.constant(pixels), tf.constant(labels)

    def by_hand() -> tf.data.Dataset:
        return (
            tf.data.Dataset.from_tensor_slices(np.random.permutation(n)).batch(BATCH)
            .map(lambda at: (tf.gather(stored, at), tf.gather(targets, at)), num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(tf.data.AUTOTUNE)
        )  # fmt: skip

    def per_image() -> tf.data.Dataset:
        return (
            tf.data.Dataset.from_tensor_slices((files, labels)).shuffle(n)
            .map(lambda file, label: (tf.io.decode_jpeg(tf.io.read_file(file), 3), label), num_parallel_calls=tf.data.AUTOTUNE)
            .batch(BATCH).prefetch(tf.data.AUTOTUNE)
        )  # fmt: skip

    from_directory = keras.utils.image_dataset_from_directory(
        str(unpacked), image_size=(32, 32), batch_size=BATCH, verbose=False
    ).take(len(data.train))
    lines = [
        f"Made by `pipeline.py`, whose head says how: Keras {keras.__version__}, TensorFlow {tf.__version__}, {os.cpu_count()} cores, {platform.processor() or platform.machine()}."
    ]
    lines += describe(
        f"Once through {n:,} training images",
        compare(
            {
                "pbl, `data.train`": lambda: exhaust(data.train),
                "gather by hand": lambda: exhaust(by_hand()),
                "pbl, flip and crop": lambda: exhaust(augmented.train),
                "per-image map, no cache": lambda: exhaust(per_image()),
                "image_dataset_from_directory": lambda: exhaust(from_directory),
            }
        ),
    )

    def free_model() -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((32, 32, 3)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
        return model

    one, other = free_model(), free_model()
    lines += describe(
        "`fit` of pooling and one dense layer, one epoch",
        compare(
            {
                "pbl, `fit(data.train)`": lambda: one.fit(data.train, verbose=0, shuffle=False),
                "`fit(pixels, labels)`, NumPy": lambda: other.fit(pixels, labels, batch_size=BATCH, verbose=0),
            }
        ),
    )
    models = []
    for _ in range(3):
        models.append(pbl.models.resnet20((32, 32, 3), 10))
        models[-1].compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    still = tf.data.Dataset.from_tensors((stored[:BATCH], targets[:BATCH])).cache().repeat(STEPS)
    lines += describe(
        f"`fit` of ResNet-20, {STEPS} steps",
        compare(
            {
                "pbl": lambda: models[0].fit(data.train.take(STEPS), verbose=0, shuffle=False),
                "pbl, flip and crop": lambda: models[1].fit(augmented.train.take(STEPS), verbose=0, shuffle=False),
                "one batch, already there": lambda: models[2].fit(still, verbose=0, shuffle=False),
            }
        ),
    )
    with replacing(Path(__file__).with_suffix(".md")) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
