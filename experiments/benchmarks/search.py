"""What a search claims and what it is worth; what several workers save and survive; what the number of threads does to the bits.

    python experiments/benchmarks/search.py bias --data /work/shared/data [--repeats 5]    some five minutes of a processor
    python experiments/benchmarks/search.py workers [--repeats 5]                          wall time of 8 runs with 1 and 2 workers
    python experiments/benchmarks/search.py killed [--engines processes ray]               three workers, 12 runs, one worker killed
    python experiments/benchmarks/search.py threads                                        weights by the number of threads within an operation

`bias`: search (TPE, median pruner), random search and a grid train for as many epochs each: 12 trials of 3, which is more trials
where some are pruned. What each calls best by its validation accuracy is then judged on the test images: the claim minus that is
the bias. Of the search the best three are trained with two more seeds, as `train --search` does it, and the best of them by the
mean of three seeds is told by its new seeds. Space, sampler, pruner and choice are those of the package; the trials are trained
in memory, without the folders of runs. Each repeat has its own validation images and seeds.

`killed`: three workers share a sweep of 12 runs, and one of them is killed in the middle (`kill -9`): as processes and, where Ray is
installed, as Ray's tasks; in a plain folder, and in one of which each file operation takes 20 ms more (`faulty_drive.c`, built with
gcc). The table must be that of one process, and each run's weights the same to the bit. Results: search.md.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from faulty_drive import build_library

TRIALS, EPOCHS, MORE_SEEDS, BEST = 12, 3, 2, 3
SPACE = "learning_rate=log:1e-4..1 batch_size=log:16..256 optimizer=sgd,adamw"
GRID = {"learning_rate": ["0.001", "0.01", "0.1"], "batch_size": ["32", "128"], "optimizer": ["sgd", "adamw"]}
OF_EACH_CLASS = {"train": 200, "test": 200}  # images of CIFAR-10 that are taken


def take_cifar10(archive: Path, file: Path) -> None:
    """Writes the first images of each class of CIFAR-10 into an .npz."""
    from PIL import Image

    arrays = {}
    with zipfile.ZipFile(archive) as zipped:
        names = sorted(zipped.namelist())
        classes = sorted({name.split("/")[2] for name in names})
        for split, count in OF_EACH_CLASS.items():
            taken = [
                (name, number)
                for number, of in enumerate(classes)
                for name in [name for name in names if name.startswith(f"cifar10/{split}/{of}/")][:count]
            ]
            arrays[f"x_{split}"] = np.stack(
                [np.asarray(Image.open(io.BytesIO(zipped.read(name)))) for name, _ in taken]
            )
            arrays[f"y_{split}"] = np.array([number for _, number in taken])
    np.savez(file, **arrays)


class Judge:
    """Trains settings on one split of the data, and counts the epochs. A model of each optimizer is compiled once, and begun anew."""

    def __init__(self, config):
        from pbl.evaluation.run import open_data

        data = open_data(config)
        self.config, self.epochs, self.compiled, self.data = config, 0, {}, data
        self.arrays = {
            split: (of.pixels, of.labels) for split in ("train", "val", "test") for of in [data.images(split)]
        }

    def begin(self, words: dict[str, str], seed: int):
        """The model of these settings, as it is built from this seed."""
        import keras

        from pbl import models
        from pbl.training.build import build_and_compile
        from pbl.training.space import apply_settings

        config, data = apply_settings(self.config, words), self.data
        if config.optimizer not in self.compiled:
            self.compiled[config.optimizer] = build_and_compile(config, data)[0]
        model = self.compiled[config.optimizer]
        keras.utils.set_random_seed(seed)
        fresh = models.build(config.model, data.input_shape, data.num_classes, **config.model_options)
        model.set_weights(fresh.get_weights())
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        model.optimizer.learning_rate = config.learning_rate
        return config, model

    def train(self, words: dict[str, str], seed: int, prune=None) -> tuple[float, float, float] | None:
        """Returns accuracy and loss on validation and accuracy on test of the epoch of the lowest loss; None where it was pruned."""
        config, model = self.begin(words, seed)
        random, (images, labels), best = np.random.default_rng(seed), self.arrays["train"], None
        for epoch in range(1, config.epochs + 1):
            order = random.permutation(len(images))
            for at in range(0, len(order) - config.batch_size + 1, config.batch_size):
                batch = order[at : at + config.batch_size]
                model.train_on_batch(
                    images[batch], labels[batch]
                )  # `fit` would take longer to begin than these epochs take
            self.epochs += 1
            accuracy, loss = judge(model, *self.arrays["val"])
            if best is None or loss < best[1]:
                best = accuracy, loss, judge(model, *self.arrays["test"])[0]
            if prune and prune(epoch, loss) and epoch < config.epochs:
                return None
        return best if np.isfinite(best[1]) else None


def judge(model, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and log loss."""
    probabilities = np.asarray(model(images, training=False), np.float64)
    of_label = np.maximum(probabilities[np.arange(len(labels)), labels], 1e-7)
    return float((probabilities.argmax(axis=1) == labels).mean()), float(-np.log(of_label).mean())


def search(of: Judge, seed: int, sampler: str) -> list[tuple[dict, tuple]]:
    """The finished trials of a search: proposed, and with TPE pruned, until as many epochs are used as the grid takes."""
    import optuna

    from pbl.training.space import Range, parse_space
    from pbl.training.study import _as_distribution, _build_pruner

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = parse_space(SPACE, of.config)
    distributions = {key: _as_distribution(values) for key, values in space.items()}
    is_tpe = sampler == "tpe"
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed) if is_tpe else optuna.samplers.RandomSampler(seed=seed),
        pruner=_build_pruner("median" if is_tpe else "none", of.config),
    )
    finished, begun = [], of.epochs
    while of.epochs - begun + EPOCHS <= TRIALS * EPOCHS:
        trial = study.ask(distributions)
        words = {
            key: values.as_word(trial.params[key]) if isinstance(values, Range) else trial.params[key]
            for key, values in space.items()
        }

        def prune(epoch: int, loss: float, trial=trial) -> bool:
            trial.report(-loss, epoch)
            return is_tpe and trial.should_prune()

        if (found := of.train(words, seed, prune)) is None:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, found[0])
            finished.append((words, found))
    return finished


def choose(finished: list) -> list:
    return sorted(finished, key=lambda one: (-one[1][0], one[1][1]))


def measure_bias(data: Path, repeats: int, out: Path) -> pd.DataFrame:
    from itertools import product

    from pbl import Config

    with tempfile.TemporaryDirectory() as folder:
        # The optimizer's rate is a number that can be set anew: constant.
        sets = {"digits": Config(model="mlp", model_options={"widths": [64]}, epochs=EPOCHS, precision="float32")}
        if data is not None:
            file = Path(folder) / "cifar10_subset.npz"
            take_cifar10(data / "cifar10.zip", file)
            sets["CIFAR-10, 2,000 images"] = Config(
                dataset=str(file), model="mlp", model_options={"widths": [128]}, epochs=EPOCHS, precision="float32",
                validation_fraction=0.2,
            )  # fmt: skip
        rows = []
        for repeat in range(repeats):
            for name, config in sets.items():
                of = Judge(config.replace(split_seed=repeat))
                for method in ("search", "random search", "grid"):
                    began, before = time.process_time(), of.epochs
                    if method == "grid":
                        drawn = [dict(zip(GRID, words, strict=True)) for words in product(*GRID.values())]
                        finished = [(words, found) for words in drawn if (found := of.train(words, repeat))]
                    else:
                        finished = search(of, repeat, "tpe" if method == "search" else "random")
                    best = choose(finished)
                    row = {
                        "data": name, "repeat": repeat, "method": method, "trials": len(finished),
                        "epochs": of.epochs - before, "claimed": best[0][1][0], "test": best[0][1][2],
                        "val_images": of.data.split["images"]["val"],
                    }  # fmt: skip
                    if method == "search":
                        again = []
                        for words, found in best[:BEST]:
                            new = [of.train(words, repeat + 1000 * more) for more in range(1, MORE_SEEDS + 1)]
                            new = [one for one in new if one]
                            again.append((np.mean([found[0], *(one[0] for one in new)]), new))
                        _, new = max(again, key=lambda one: one[0])
                        row["new_seeds"] = np.mean([one[0] for one in new])
                        row["new_seeds_test"] = np.mean([one[2] for one in new])
                    row["seconds"] = time.process_time() - began
                    rows.append(row)
                    print(row, flush=True)
                    pd.DataFrame(rows).to_csv(out, index=False)
    return pd.DataFrame(rows)


def tell_bias(table: pd.DataFrame) -> str:
    """Means over the repeats with their 95% t intervals, in points."""
    from scipy.stats import t

    def mean(values: pd.Series) -> str:
        values = 100 * values.dropna()
        half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
        return f"{values.mean():.1f} ({values.mean() - half:.1f} to {values.mean() + half:.1f})"

    lines = [
        "| data | method | trials that finished | claimed % | test % | bias, points |",
        "|---|---|---|---|---|---|",
    ]
    for (data, method), of in table.groupby(["data", "method"], sort=False):
        cells = [
            data,
            method,
            f"{of['trials'].mean():.1f}",
            mean(of["claimed"]),
            mean(of["test"]),
            mean(of["claimed"] - of["test"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if method == "search":
            difference = of["new_seeds"] - of["new_seeds_test"]
            cells = [data, "search, best of three by three seeds, told by its new seeds", "", mean(of["new_seeds"]), mean(of["new_seeds_test"]), mean(difference)]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def run_command(*words: str, **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "pbl", *words], check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
    )
    return time.perf_counter() - began


def find_engines() -> list[str]:
    return ["processes", *(["ray"] if importlib.util.find_spec("ray") else [])]


def measure_workers(repeats: int, engines: list[str]) -> None:
    """Wall time of 8 runs, of a small convolutional network on digits for 3 epochs, with 1 and with 2 workers, in turn."""
    ways = {"1": ["--workers", "1"]} | {f"2, {engine}": ["--workers", "2", "--engine", engine] for engine in engines}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, words in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                took = run_command("train", "model=small_cnn", "epochs=3", "--seeds", "8", *words, "--runs", folder)
            seconds[name].append(took)
            print(f"{name}: {took:.1f} s (load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores)", flush=True)
    print("\n| workers | seconds, median | lowest to highest | share of one worker's |\n|---|---|---|---|")
    for name, took in seconds.items():
        share = statistics.median(each / alone for each, alone in zip(took, seconds["1"], strict=True))
        print(f"| {name} | {statistics.median(took):.1f} | {min(took):.1f} to {max(took):.1f} | {share:.2f} |")


SWEEP = (
    "model=mlp",
    "epochs=3",
    "experiment=s",
    "--sweep",
    "learning_rate=0.3,0.1,0.03,0.01,0.003,0.001 batch_size=32,64",
)


def measure_killed(engines: list[str]) -> int:
    """Prints a line for each engine and folder; returns 1 where a run was lost or trained twice, or anything differs."""
    from pbl.training.workers import THREADS

    threads, failed = dict.fromkeys(THREADS, "1"), 0
    print("| engine | each file operation waits | killed after | seconds | finished | begun twice | table | weights |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        run_command("train", *SWEEP, "--runs", str(place / "alone"), **threads)
        library = build_library(place)
        for engine in engines:
            for wait in (0, 20):
                runs = place / f"{engine}{wait}"
                runs.mkdir()
                slow = {"LD_PRELOAD": str(library), "FAULTS_BELOW": str(runs), "FAULTS_WAIT": str(wait)} if wait else {}
                words = [sys.executable, "-m", "pbl", "train", *SWEEP, "--runs", str(runs), "--workers", "3", "--engine", engine]  # fmt: skip
                began = time.perf_counter()
                process = subprocess.Popen(words, stdout=subprocess.DEVNULL, env={**os.environ, **threads, **slow})
                killed = kill_one(runs / "s", process)
                status = process.wait()
                row = compare_sweeps(place / "alone" / "s", runs / "s")
                failed |= status != 0 or killed is None or row != (12, 0, "equal", "equal")
                print(f"| {engine} | {wait} ms | {killed} runs | {time.perf_counter() - began:.0f} | {' | '.join(map(str, row))} |", flush=True)  # fmt: skip
    return int(failed)


def kill_one(folder: Path, process: subprocess.Popen) -> int | None:
    """Kills the worker that has a run in work when four have ended; returns how many had ended, None where the sweep ended before."""
    while process.poll() is None:
        ended = len(list(folder.glob("*/final.keras")))
        for lock in folder.glob("*/lock.json") if ended >= 4 else ():
            with contextlib.suppress(OSError, ValueError):
                if (lock.parent / "history.csv").exists():
                    os.kill(json.loads(lock.read_text())["pid"], signal.SIGKILL)
                    return ended
        time.sleep(0.02)
    return None


def compare_sweeps(alone: Path, other: Path) -> tuple[int, int, str, str]:
    """Runs finished, settings trained twice, and whether the table but for paths and seconds, and all weights, are those of `alone`."""
    import keras

    tables = [pd.read_csv(next(of.glob("sweep*.csv"))) for of in (alone, other)]
    finished = [path.parent for path in other.glob("*/final.keras")]
    configs = [json.loads((path / "config.json").read_text()) for path in finished]
    settings = Counter(str((config["learning_rate"], config["batch_size"])) for config in configs)
    one, two = (table.drop(columns=["run", "seconds"]) for table in tables)
    weights = [
        [keras.models.load_model(Path(path) / "final.keras").get_weights() for path in table["run"]] for table in tables
    ]
    same = all(
        np.array_equal(a, b) for ours, theirs in zip(*weights, strict=True) for a, b in zip(ours, theirs, strict=True)
    )
    twice = sum(count - 1 for count in settings.values())
    return len(finished), twice, "equal" if one.equals(two) else "differs", "equal" if same else "differ"


def measure_threads() -> None:
    """A hash of the best weights by the number of threads, each number twice."""
    import keras

    from pbl.training.workers import THREADS

    for model in ("mlp", "resnet20"):
        for threads in ("1", "1", "2", "2"):
            with tempfile.TemporaryDirectory() as folder:
                run_command(
                    "train",
                    f"model={model}",
                    "epochs=2",
                    "experiment=t",
                    "--runs",
                    folder,
                    **dict.fromkeys(THREADS, threads),
                )
                weights = keras.models.load_model(Path(folder) / "t" / "001" / "final.keras").get_weights()
                digest = hashlib.sha256(b"".join(weight.tobytes() for weight in weights)).hexdigest()[:12]
                print(f"{model}, {threads} thread(s): {digest}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("bias", "workers", "killed", "threads"))
    parser.add_argument("--data", type=Path, help="the folder that holds cifar10.zip; without it digits alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engines", nargs="+", choices=("processes", "ray"), default=find_engines())
    parser.add_argument(
        "--out", type=Path, default=Path(tempfile.gettempdir()) / "search_bias.csv", help="a row each repeat"
    )
    arguments = parser.parse_args()
    if arguments.what == "bias":
        print(tell_bias(measure_bias(arguments.data, arguments.repeats, arguments.out)))
    elif arguments.what == "workers":
        measure_workers(arguments.repeats, arguments.engines)
    elif arguments.what == "killed":
        sys.exit(measure_killed(arguments.engines))
    else:
        measure_threads()
