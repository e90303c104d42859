"""What the verdict on generated images is worth: generators with a known fault, and trainings that go well or collapse.

    python experiments/benchmarks/generation.py planted --data /work/shared/data mnist digits cifar10
    python experiments/benchmarks/generation.py trained --data /work/shared/data --runs 10
    python experiments/benchmarks/generation.py cost --data /work/shared/data

`planted`: nine generators that need no training, five seeds of each, on MNIST (on which the thresholds were set), digits and CIFAR-10's
pictures in grey (on which none was; `cifar10_others` are those that were not looked at before). `trained`: DCGAN on MNIST, healthy and
by two recipes that collapse, two epochs each. `cost`: a `fit` with and without `GanMonitor`, one after the other, five pairs. Results:
`generation.md`.
"""

import argparse
import io
import time
import zipfile
from collections import Counter
from pathlib import Path

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import pbl
from pbl.data.pipeline import DATA_SETTINGS
from pbl.diagnosis.generation import diagnose_samples
from pbl.evaluation.gan_monitor import describe
from pbl.evaluation.generation import BASELINES, MOST, Reference, make_baseline, measure_samples
from pbl.evaluation.image_judge import open_judge

NAMES = {
    "real": "healthy",
    "copies": "memorised",
    "shifted": "memorised",
    "fifty": "mode_collapse",
    "one_class": "mode_collapse",
    "five_classes": "mode_collapse",
    "noise": "unlike_real_images",
    "pixel_gaussian": "unlike_real_images",
    "mean_of_two": "unlike_real_images",
}
PLAIN = {"optimizer_options.use_ema": False, "batch_size": 128}
RECIPES = {
    "healthy": {},
    # The generator ten times as fast, and nothing normalised: at balance, and bad.
    "unbalanced": {
        **PLAIN, "learning_rate": 0.002, "model_options.batch_normalization": False, "model_options.discriminator_rate": 0.1,
    },
    # A discriminator that hardly learns.
    "weak_discriminator": {**PLAIN, "model_options.discriminator_rate": 0.01},
}  # fmt: skip


NAMED = {
    "healthy": {"healthy"},
    "unbalanced": {"generator_wins", "mode_collapse"},
    "weak_discriminator": {"generator_wins", "mode_collapse"},
}


def load_pixels(name: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in an order by chance, `uint8 [n, height, width, 1]`."""
    if name == "mnist":
        with np.load(folder / "mnist.npz") as saved:
            pixels, labels = saved["x_train"][:, ..., None], saved["y_train"]
    elif name == "digits":
        bunch = load_digits()
        pixels, labels = (bunch.images * (255 / 16)).round().astype(np.uint8)[..., None], bunch.target
    else:
        read, kinds = [], []
        with zipfile.ZipFile(folder / "cifar10.zip") as archive:
            for entry in sorted(archive.namelist())[name == "cifar10_others" :: 2]:
                if entry.endswith(".jpg") and "/train/" in entry:
                    read.append(np.asarray(Image.open(io.BytesIO(archive.read(entry))).convert("L")))
                    kinds.append(entry.split("/")[-2])
        pixels, labels = np.stack(read)[..., None], np.unique(kinds, return_inverse=True)[1]
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order], labels[order]


def plant(kind: str, train: np.ndarray, others: np.ndarray, labels: np.ndarray, seed: int, count: int) -> np.ndarray:
    """Samples of a generator with a known fault.

    Args:
        kind: A name in `NAMES`.
        train: The training images.
        others, labels: Real images that nobody was trained on.
        seed: Of the draw.
        count: How many.
    """
    random = np.random.default_rng(seed)
    copies = train[random.integers(0, len(train), count)]
    if kind == "real":
        return others[random.permutation(len(others))[:count]]
    if kind == "copies":
        return copies
    if kind == "shifted":
        return np.roll(copies, (random.choice([-1, 1]), random.choice([-1, 0, 1])), (1, 2))
    if kind == "fifty":
        return others[random.permutation(len(others))[:50]][random.integers(0, 50, count)]
    if kind == "noise":
        return random.integers(0, 256, copies.shape).astype(np.uint8)
    if kind in BASELINES:
        return make_baseline(kind, train, count, seed + 5)
    classes = random.permutation(10)[: 1 if kind == "one_class" else 5]
    chosen = others[np.isin(labels, classes)]
    return chosen[random.permutation(max(len(chosen), count))[:count] % len(chosen)]


def judge_planted(name: str, folder: Path, seeds: int) -> None:
    """Prints the verdict on each planted generator."""
    pixels, labels = load_pixels(name, folder)
    ends = [round(part * len(labels)) for part in (0.4, 0.7, 0.85)]
    train, others, taught, real = np.split(pixels, ends)
    _, of_others, of_taught, of_real = np.split(labels, ends)
    start = time.process_time()
    judge = open_judge(taught[:5_000], of_taught[:5_000], 10)
    reference = Reference(real[:MOST], of_real[:MOST], train, judge, min(MOST, len(real)))
    print(f"## {name}: the judge is right on {reference.floor['right']:.1%} ({time.process_time() - start:.0f} s)\n")
    print("| planted | wanted | said | KID x 1000 | precision | recall | variety | nearest | copies |")
    print("|" + "---|" * 9)
    for kind, wanted in NAMES.items():
        said, numbers = Counter(), []
        for seed in range(seeds):
            found = measure_samples(plant(kind, train, others, of_others, seed, reference.count), reference).numbers
            measured = describe(found, reference, [str(number) for number in range(10)])
            said[diagnose_samples(measured).headline.name] += 1
            numbers.append([found[key] for key in ("kid", "precision", "recall", "variety", "nearest", "copies")])
        told = ", ".join(f"{word} {times}" for word, times in said.most_common())
        print(
            f"| {kind} | {wanted} | {told} | "
            + " | ".join(f"{value:.2f}" for value in np.mean(numbers, axis=0))
            + " |",
            flush=True,
        )


def judge_trained(folder: Path, runs: int, out: Path, only: list[str]) -> None:
    """Trains and prints the verdicts."""
    experiment = Path(__file__).parents[1] / "mnist_gan.py"
    print("| recipe | seed | epochs | verdict | KID x 1000 | recall | classes | processor s |")
    print("|" + "---|" * 8)
    right = Counter()
    for recipe in only or RECIPES:
        for seed in range(runs):
            words = [f"{key}={value}" for key, value in RECIPES[recipe].items()]
            epochs = 3 if recipe == "healthy" else 2
            config = pbl.load_experiment(
                experiment,
                [*words, f"seed={seed}", f"epochs={epochs}", f"data_dir={folder / 'tfds'}", f"experiment={recipe}"],
            )
            start = time.process_time()
            run = pbl.train(config, folder=out)
            seconds = time.process_time() - start
            found, verdict = run.read_json("metrics_val.json"), pbl.diagnose_run(run)
            counts = np.array(found["samples"]["counts"])
            classes = int((counts > 0.15 * counts.sum() / len(counts)).sum())
            names = ", ".join(finding.name for finding in verdict.findings)
            right[recipe] += verdict.headline.name in NAMED[recipe]
            print(
                f"| {recipe} | {seed} | {epochs} | {names} | {found['metrics']['kid']:.1f} | {found['metrics']['recall']:.2f} | {classes} | {seconds:.0f} |",
                flush=True,
            )
    print("\n" + ", ".join(f"{recipe}: {count} of {runs} named rightly" for recipe, count in right.items()))


def measure_cost(folder: Path, pairs: int) -> None:
    """Prints the seconds of a `fit` with `GanMonitor` by those without, and what it says itself that it took."""
    print("| experiment | epochs | seconds without | with, by without | what the monitor counts itself |")
    print("|" + "---|" * 5)
    for name, epochs in (("digits_gan", 20), ("mnist_gan", 2)):
        config = pbl.load_experiment(
            Path(__file__).parents[1] / f"{name}.py", [f"epochs={epochs}", f"data_dir={folder / 'tfds'}"]
        )
        of_data = {field: getattr(config, field) for field in DATA_SETTINGS}
        data = pbl.load_data(config.dataset, fewest_classes=1, **of_data)
        shares, own, without = [], [], []
        for _ in range(pairs + 1):  # the first pair warms up
            seconds = {}
            for watched in (False, True):
                keras.utils.set_random_seed(0)
                model = pbl.models.build(config.model, data.input_shape, data.num_classes, **config.model_options)
                model.compile(keras.optimizers.Adam(config.learning_rate, beta_1=0.5))
                callbacks = [pbl.GanMonitor(data)] if watched else []
                start = time.perf_counter()
                model.fit(data.train, validation_data=data.val, epochs=epochs, verbose=0, callbacks=callbacks)
                seconds[watched] = time.perf_counter() - start
                own += [callbacks[0].seconds / seconds[watched]] if watched else []
                keras.backend.clear_session()
            shares.append(seconds[True] / seconds[False])
            without.append(seconds[False])
        told = [np.median(values[1:]) for values in (without, shares, own)]
        print(f"| {name} | {epochs} | {told[0]:.1f} | {told[1]:.2f} | {told[2]:.0%} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["planted", "trained", "cost"])
    parser.add_argument("names", nargs="*", help="data sets, or recipes")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5, help="seeds of each")
    parser.add_argument("--out", type=Path, default=Path("runs/generation"))
    given = parser.parse_intermixed_args()
    if given.what == "planted":
        for name in given.names or ["mnist", "digits", "cifar10"]:
            judge_planted(name, given.data, given.runs)
    elif given.what == "cost":
        measure_cost(given.data, given.runs)
    else:
        judge_trained(given.data, given.runs, given.out, given.names)
