"""What each small network reaches on three data sets under one equal budget: the same images, batches, optimizer and steps.

Budget:   50,000 training images shown in batches of 64 (about 780 steps), Adam, 1e-3 falling to 0 along a half cosine; the
          model of the lowest validation loss is judged, once, on the test images. Nothing is tuned for any network, and no
          image is altered: what a network could reach with its own recipe is another question.
Data:     digits (1,069 training images, 8x8; 539 test), 10,000 images of MNIST (9,000 after validation is cut off; 10,000
          test), 5,000 of CIFAR-10 (4,500; 10,000 test; JPEG copies, so a little below the original pixels)
Command:  python experiments/benchmarks/architectures.py --data DIR --seeds 3
          DIR holds mnist.npz (Keras's layout) and cifar10.zip (train/<class>/*.jpg, test/<class>/*.jpg). What is in the
          table already is not run again, so the command may be stopped and repeated.
Result:   architectures.csv (one row a run) and architectures.md (one row a network), beside this file
"""

import argparse
import functools
import io
import itertools
import os
import tempfile
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
from scipy.stats import t

import pbl
from pbl.comparison.run import find_tie_groups
from pbl.data import DATASETS, Source, decode_image, from_arrays
from pbl.models import count_macs
from pbl.statistics import FEWEST_SEEDS, adjust_holm
from pbl.storage.writing import replacing

IMAGES_SHOWN = 50_000
# Name in the table: model, options, smallest side of the images (smaller ones are enlarged).
NETWORKS = {
    "softmax_regression": ("softmax_regression", {}, 8),
    "mlp": ("mlp", {}, 8),
    "small_cnn": ("small_cnn", {}, 8),
    "lenet5": ("lenet5", {}, 16),
    "alexnet": ("alexnet", {}, 67),
    "vgg_small": ("vgg_small", {}, 8),
    "googlenet": ("googlenet", {}, 32),
    "resnet20": ("resnet20", {}, 8),
    "resnet32": ("resnet32", {}, 8),
    "plain 32 (resnet32, shortcut=False)": ("resnet32", {"shortcut": False}, 8),
    "se_resnet20": ("se_resnet20", {}, 8),
    "efficientnet_transfer (weights=None)": ("efficientnet_transfer", {"weights": None}, 32),
    "vit_tiny (depth=4)": ("vit_tiny", {"depth": 4}, 8),
}
SIDES = {"digits": 8, "mnist_10k": 28, "cifar10_5k": 32}
TEST_IMAGES = {"digits": 539, "mnist_10k": 10_000, "cifar10_5k": 10_000}
HERE = Path(__file__).resolve().parent


def enter_datasets(folder: Path) -> None:
    """Enters `mnist_10k` and `cifar10_5k`: the first images of each class, and all test images."""

    @functools.cache
    def mnist_10k() -> Source:
        with np.load(folder / "mnist.npz") as arrays:
            x, y = arrays["x_train"], arrays["y_train"]
            first = np.sort(np.concatenate([np.flatnonzero(y == digit)[:1000] for digit in range(10)]))
            return from_arrays(x[first], y[first], test=(arrays["x_test"], arrays["y_test"]))

    @functools.cache
    def cifar10_5k() -> Source:
        with zipfile.ZipFile(folder / "cifar10.zip") as archive:
            files = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
            names = sorted({name.split("/")[-2] for name in files})

            def read(split: str, count: int) -> tuple[np.ndarray, list[int]]:
                chosen = [
                    (file, number)
                    for number, name in enumerate(names)
                    for file in [file for file in files if f"/{split}/{name}/" in file][:count]
                ]
                pixels = np.stack([decode_image(archive.read(file), file) for file, _ in chosen])
                return pixels, [number for _, number in chosen]

            return from_arrays(*read("train", 500), names, test=read("test", 1000))

    DATASETS.update({"mnist_10k": mnist_10k, "cifar10_5k": cifar10_5k})


def measure(dataset: str, network: str, seed: int) -> dict[str, object]:
    """Trains one network with one seed, and judges it on the test images."""
    keras.backend.clear_session()
    model, options, smallest = NETWORKS[network]
    config = pbl.Config(
        experiment="architectures", dataset=dataset, model=model, model_options=options, seed=seed,
        image_size=max(SIDES[dataset], smallest), batch_size=64, optimizer="adam", learning_rate=1e-3,
        learning_rate_schedule="cosine", precision="float32",
    )  # fmt: skip
    images = pbl.evaluation.open_data(config).split["images"]["train"]
    config = config.replace(epochs=round(IMAGES_SHOWN / images))
    with tempfile.TemporaryDirectory() as folder:
        run = pbl.train(config, folder=folder)
        result = pbl.evaluate(run, "test")
        environment, macs = run.environment, count_macs(pbl.load_model(run), run.split["input_shape"])
    return {
        "dataset": dataset, "network": network, "seed": seed, "side": config.image_size[0],
        "trainable_weights": environment["trainable_weights"], "macs": macs, "epochs": config.epochs,
        "best_epoch": environment["best_epoch"], "test_accuracy": result["accuracy"],
        "test_log_loss": round(result["log_loss"], 4), "fit_seconds": environment["seconds"]["fit"],
    }  # fmt: skip


def summarise(runs: pd.DataFrame) -> tuple[float, float, float]:
    """Mean accuracy, the square of its standard error over seeds and test images, and the degrees of freedom (Satterthwaite).

    What single images were right is not kept, so the images' part is a binomial's, and part of the seeds' counts twice: the
    interval is too wide rather than too narrow.
    """
    accuracy, images = runs["test_accuracy"].mean(), TEST_IMAGES[runs["dataset"].iloc[0]]
    of_seeds = runs["test_accuracy"].var(ddof=1) / len(runs)
    square = of_seeds + accuracy * (1 - accuracy) / images
    return accuracy, square, square**2 / (of_seeds**2 / (len(runs) - 1)) if of_seeds else np.inf


def find_ties(found: dict[str, tuple[float, float, float]]) -> dict[str, str]:
    """Letters: networks that share one are not separated, after Holm over all pairs. As if each pair had its own test images."""
    labels = sorted(found, key=lambda name: -found[name][0])
    rows = []
    for first, second in itertools.combinations(labels, 2):
        (a, square_a, df_a), (b, square_b, df_b) = found[first], found[second]
        square = square_a + square_b
        df = square**2 / (square_a**2 / df_a + square_b**2 / df_b) if np.isfinite(min(df_a, df_b)) else np.inf
        rows.append({"first": first, "second": second, "p": 2 * t.sf(abs(a - b) / np.sqrt(square), df)})
    pairs = pd.DataFrame(rows, columns=["first", "second", "p"])
    return find_tie_groups(labels, pairs.assign(p_holm=adjust_holm(pairs["p"].to_numpy(float)))) if rows else {}


def write_table(rows: pd.DataFrame, file: Path) -> None:
    """Writes one row a network: mean test accuracy over the seeds, its interval, and which networks are not separated."""
    out = io.StringIO()
    print(
        f"Made by `{Path(__file__).name}`, whose head says how. {pbl.__name__} {pbl.__version__}, Keras {keras.__version__}, on CPU.",
        file=out,
    )
    print(
        "Test accuracy in percent: mean over the seeds (95% interval over other seeds and test images). Networks of one data set that\n"
        "share a letter are not separated (Welch's t test, Holm over all pairs). Seconds: the shortest `fit`, on one core or two shared ones.\n"
        "Where the lowest and the highest seed are far apart, a training failed: then the mean and its interval say little.",
        file=out,
    )
    for dataset, part in rows.groupby("dataset", sort=False):
        print(f"\n## {dataset}\n", file=out)
        print(
            "| network | side | weights | million MACs | seeds | test accuracy | lowest and highest seed | ties | log loss | seconds |",
            file=out,
        )
        print("|---|---|---|---|---|---|---|---|---|---|", file=out)
        of = {network: part[part["network"] == network].sort_values("seed") for network in NETWORKS}
        found = {network: summarise(runs) for network, runs in of.items() if len(runs) >= FEWEST_SEEDS}
        ties = find_ties(found)
        for network, runs in of.items():
            if not len(runs):
                continue
            first, told = runs.iloc[0], f"{100 * runs['test_accuracy'].mean():.2f}"
            if network in found:
                accuracy, square, df = found[network]
                reach = t.ppf(0.975, df) * np.sqrt(square)
                told += f" ({100 * max(accuracy - reach, 0):.1f} to {100 * min(accuracy + reach, 1):.1f})"
            print(
                f"| {network} | {first['side']} | {first['trainable_weights']:,} | {first['macs'] / 1e6:.2f} | {len(runs)} | {told}"
                f" | {100 * runs['test_accuracy'].min():.2f}, {100 * runs['test_accuracy'].max():.2f}"
                f" | {ties.get(network, '')} | {runs['test_log_loss'].mean():.3f} | {runs['fit_seconds'].min():.0f} |",
                file=out,
            )
    with replacing(file) as temporary:
        temporary.write_text(out.getvalue(), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of mnist.npz and cifar10.zip")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--datasets", nargs="+", choices=SIDES, default=list(SIDES), help="a process for each fills one table"
    )
    arguments = parser.parse_args()
    enter_datasets(arguments.data)
    file = HERE / "architectures.csv"
    done = set[tuple[str, str, int]]()
    if file.exists():
        rows = pd.read_csv(file)
        write_table(rows, HERE / "architectures.md")
        done = set(rows[["dataset", "network", "seed"]].itertuples(index=False, name=None))
    for dataset, seed, network in itertools.product(arguments.datasets, range(arguments.seeds), NETWORKS):
        if (dataset, network, seed) not in done:
            row = pd.DataFrame([measure(dataset, network, seed)])
            row.to_csv(file, mode="a", header=not file.exists(), index=False, lineterminator="\n")
            write_table(pd.read_csv(file), HERE / "architectures.md")


if __name__ == "__main__":
    main()
