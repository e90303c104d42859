"""What the verdict on masks is worth: a U-Net trained on sound masks, on wrong ones, and by recipes that fail.

    python experiments/benchmarks/segmentation.py verdicts shapes digits ultrasound --data /work/shared/data --seeds 2
    python experiments/benchmarks/segmentation.py speed

Each domain with each fault: sound; a third of the masks moved by a quarter of the image, or those of other images; all of other images;
few images; one epoch; a loss that rewards nothing but background. The thresholds of `pbl.diagnosis.segmentation` were set on shapes and
digits; ultrasound (by look-alike groups) was judged once. Results: `segmentation.md`.
"""

import argparse
import io
import json
import os
import time
import zipfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from PIL import Image, ImageOps

import pbl
from pbl.data import from_masked_arrays
from pbl.diagnosis.by_task import diagnose_run
from pbl.models.unet import unet
from pbl.training.mask_loss import MaskLoss, MeanDice

SIDE = 64
WANTED = {  # "moved": 30% of the masks, by a quarter of the image; "swapped": 30% have the mask of another image
    "sound": {"healthy", "false_regions"},
    "moved": {"label_noise_suspected"},
    "moved_one_way": {"label_noise_suspected"},
    "swapped": {"label_noise_suspected"},
    "all_swapped": {"learned_nothing", "label_noise_suspected"},
    "few": {"overfitting"},
    "one_epoch": {"underfitting", "learned_nothing"},
    "background": {"learned_nothing"},
}
SETTINGS = {
    "task": "segmentation", "model": "unet", "model_options": {"width": 16, "depth": 3, "dropout": 0.0},
    "augmentation": {"flip": True, "crop": 2}, "optimizer": "adam", "learning_rate": 0.003,
    "learning_rate_schedule": "cosine", "batch_size": 32, "task_options": {"loss": "both"},
}  # fmt: skip


def shares_alone(input_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """A network that sees nothing: it learns how frequent the classes are, and so marks background everywhere."""
    images = keras.Input(input_shape)
    x = layers.Rescaling(0.0)(images)
    return keras.Model(images, layers.Conv2D(num_classes, 1, activation="softmax", dtype="float32")(x))


EPOCHS = {"shapes": 12, "digits": 25, "ultrasound": 20}


def draw_shapes(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bright or dark discs and squares on noise, `uint8 [600, 32, 32]`, and their masks; a fifth of the images has none."""
    draw = np.random.default_rng(seed)
    images, masks = draw.normal(110, 15, (600, 32, 32)), np.zeros((600, 32, 32), np.uint8)
    y, x = np.mgrid[:32, :32]
    for image, mask in zip(images, masks, strict=True):
        if draw.random() < 0.2:
            continue
        radius = draw.integers(4, 8)
        top, left = draw.integers(radius, 32 - radius, 2)
        disc = (y - top) ** 2 + (x - left) ** 2 <= radius**2
        square = (abs(y - top) <= radius) & (abs(x - left) <= radius)
        mask[disc if draw.random() < 0.5 else square] = 1
        image[mask == 1] += draw.choice([-60, 60])
    return images.clip(0, 255).astype(np.uint8), masks


def strew_digits(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photographs of CIFAR-10 in grey, on four of five a digit of MNIST of faint light or shade, `uint8 [800, 32, 32]`; masks of the digits."""
    draw = np.random.default_rng(seed)
    with np.load(folder / "mnist.npz") as saved:
        digits = saved["x_train"][draw.integers(0, 60_000, 800)]
    images, masks = np.zeros((800, 32, 32)), np.zeros((800, 32, 32), np.uint8)
    with zipfile.ZipFile(folder / "cifar10.zip") as archive:
        names = sorted(name for name in archive.namelist() if "/train/" in name and name.endswith(".jpg"))
        for number, at in enumerate(draw.permutation(len(names))[:800]):
            images[number] = np.asarray(Image.open(io.BytesIO(archive.read(names[at]))).convert("L"))
    for image, mask, digit in zip(images, masks, digits, strict=True):
        if draw.random() < 0.8:
            small = np.asarray(Image.fromarray(digit).resize((18, 18)))
            top, left = draw.integers(0, 14, 2)
            image[top : top + 18, left : left + 18] += small / 255 * draw.choice([-1, 1]) * draw.uniform(80, 160)
            mask[top : top + 18, left : left + 18] = small > 100
    return images.clip(0, 255).astype(np.uint8), masks


def read_pairs(file: Path, free: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images with their masks out of a zip, between black bars, `uint8 [n, 64, 64]`; so many of those without a mask; and names."""
    images, masks, names = [], [], []
    with zipfile.ZipFile(file) as archive:
        entries = set(archive.namelist())
        for name in sorted(entries):
            if "/images/" not in name or not name.endswith(".jpg"):
                continue
            mask = name.replace("/images/", "/masks/").replace(".jpg", ".png")
            if mask not in entries and free == 0:
                continue
            free -= mask not in entries
            picture = Image.open(io.BytesIO(archive.read(name))).convert("L")
            marked = (
                Image.open(io.BytesIO(archive.read(mask))).convert("L")
                if mask in entries
                else Image.new("L", picture.size)
            )
            images.append(np.asarray(ImageOps.pad(picture, (SIDE, SIDE))))
            masks.append(
                (np.asarray(ImageOps.pad(marked, (SIDE, SIDE), Image.Resampling.NEAREST)) > 0).astype(np.uint8)
            )
            names.append(Path(name).stem)
    return np.stack(images), np.stack(masks), names


def spoil(masks: np.ndarray, fault: str, seed: int) -> np.ndarray:
    """Makes masks wrong in the way of a fault."""
    draw = np.random.default_rng(seed)
    masks = masks.copy()
    if fault == "all_swapped":
        return masks[draw.permutation(len(masks))]
    chosen = draw.random(len(masks)) < 0.3
    if fault == "swapped":
        masks[chosen] = masks[chosen][draw.permutation(int(chosen.sum()))]
    if fault.startswith("moved"):
        quarter = masks.shape[1] // 4
        ways = [(quarter, 0), (0, quarter), (-quarter, 0), (0, -quarter)]
        for at in np.flatnonzero(chosen):
            masks[at] = np.roll(masks[at], ways[0 if fault == "moved_one_way" else draw.integers(4)], (0, 1))
    return masks


def make_source(domain: str, fault: str, seed: int, folder: Path):
    if domain == "shapes":
        images, masks = draw_shapes(seed)
    elif domain == "digits":
        images, masks = strew_digits(folder, seed)
    else:
        images, masks, _ = read_pairs(folder / "breast_ultrasound.zip", 0)
    return from_masked_arrays(images, spoil(masks, fault, seed), ["background", "lesion"])


def judge(domain: str, fault: str, seed: int, folder: Path, out: Path) -> None:
    """Trains one and prints what is said of it."""
    pbl.MODELS["shares_alone"] = shares_alone
    pbl.DATASETS["masks"] = partial(make_source, domain, fault, seed, folder)
    config = pbl.Config(**SETTINGS, dataset="masks", seed=seed, split_seed=seed, epochs=EPOCHS[domain])
    config = config.replace(experiment=f"{domain}_{fault}", groups="look_alike" if domain == "ultrasound" else None)
    if fault == "one_epoch":
        config = config.replace(epochs=1)
    if fault == "background":
        config = config.replace(model="shares_alone", model_options={})
    start = time.process_time()
    if fault == "few":
        config = config.replace(augmentation={}, train_fraction=0.08, epochs=5 * config.epochs)
    run = pbl.train(config, folder=out)
    metrics = run.read_json("metrics_val.json")
    line = {
        "domain": domain, "fault": fault, "seed": seed, "seconds": round(time.process_time() - start),
        "dice": metrics["metrics"]["dice"], "difference": metrics["difference"], "marked": metrics["marked"],
        "doubtful": {k: v for k, v in metrics["doubtful"].items() if k != "names"},
        "train": {k: v for k, v in metrics["training"].items() if k != "doubtful"},
        "train_doubtful": {k: v for k, v in metrics["training"]["doubtful"].items() if k != "names"},
        "classes": metrics["masks"]["classes"], "path": str(run.path),
        "said": [finding.name for finding in diagnose_run(run).findings],
    }  # fmt: skip
    print(json.dumps(line), flush=True)


def fit_first_script(images: np.ndarray, masks: np.ndarray, model: keras.Model, epochs: int) -> list[float]:
    """What a first Keras script does: arrays, a shuffled `tf.data` pipeline, flips and crops image by image; returns seconds an epoch."""
    side = images.shape[1]

    def move(image, mask):
        both = tf.concat([image, mask[..., None]], axis=-1)
        both = tf.image.random_flip_left_right(both)
        both = tf.image.random_crop(tf.pad(both, [(2, 2), (2, 2), (0, 0)]), (side, side, 2))
        return both[..., :1], both[..., 1]

    count = len(images) * 17 // 20
    pairs = tf.data.Dataset.from_tensor_slices((images[:count, ..., None], masks[:count]))
    train = pairs.shuffle(count).map(move, num_parallel_calls=tf.data.AUTOTUNE).batch(32).prefetch(tf.data.AUTOTUNE)
    val = (
        tf.data.Dataset.from_tensor_slices((images[count:, ..., None], masks[count:]))
        .batch(32)
        .prefetch(tf.data.AUTOTUNE)
    )
    clock = Clock()
    model.fit(train, validation_data=val, epochs=epochs, callbacks=[clock], verbose=0)
    return clock.seconds


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch, validation and what other callbacks do in it included."""

    def on_train_begin(self, logs=None):
        self.seconds, self.since = [], time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.since = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.since)


def compare_speed(pairs: int, epochs: int = 4) -> None:
    """Prints how long an epoch takes, by that of a first script: the package's pipeline, with its monitor and without."""
    images, masks = draw_shapes(0)
    arms = {"first script": [], "pipeline": [], "pipeline and monitor": []}
    for _ in range(pairs):
        for arm, medians in arms.items():
            model = unet((32, 32, 1), 2, width=16, depth=3, dropout=0.0)
            model.compile(optimizer="adam", loss=MaskLoss(), metrics=[MeanDice()])
            if arm == "first script":
                seconds = fit_first_script(images, masks, model, epochs)
            else:
                data = pbl.load_data(
                    lambda: from_masked_arrays(images, masks, test=(images[:32], masks[:32])),
                    masks=True, batch_size=32, validation_fraction=0.15, augmentation={"flip": True, "crop": 2},
                )  # fmt: skip
                clock = Clock()
                callbacks = [clock] if arm == "pipeline" else [pbl.MaskMonitor(data), clock]
                model.fit(data.train, validation_data=data.val, epochs=epochs, callbacks=callbacks, verbose=0)
                seconds = clock.seconds
            medians.append(float(np.median(seconds[1:])))  # the first holds what TensorFlow compiles
        print({arm: round(medians[-1], 2) for arm, medians in arms.items()}, flush=True)
    first = np.array(arms["first script"])
    for arm in ("pipeline", "pipeline and monitor"):
        ratios = np.array(arms[arm]) / first
        print(
            f"{arm}: an epoch takes {np.median(ratios):.2f} of the first script's ({ratios.min():.2f} to {ratios.max():.2f}, {pairs} runs)"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["verdicts", "speed"])
    parser.add_argument("domains", nargs="*", choices=[*EPOCHS, []])
    parser.add_argument("--data", type=Path, default=Path("/work/shared/data"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(WANTED))
    parser.add_argument("--out", type=Path, default=Path("runs_of_segmentation"))
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    if given.what == "speed":
        compare_speed(given.pairs)
    for number in range(given.first, given.first + given.seeds):
        for name in given.domains:
            for kind in given.only:
                judge(name, kind, number, given.data, given.out)
