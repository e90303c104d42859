"""How often do the intervals of a pooled cross-validation hold the truth? Simulated with networks whose true accuracy is known.

Images are drawn from a world of two classes, 20 numbers each. A network has one random hidden layer (its seed) and an output layer
fitted by ridge regression, so a training takes a millisecond. The truth is its mean accuracy over many data sets of the size
that a fold's model is trained on. Each repetition draws n images, cross-validates two networks with some seeds, and looks whether
the intervals hold the truth: of the accuracy, `crossed_mean_interval`, a t interval over the folds, and the wider of both
(`cross_validated_interval`, which `compare` gives); of the difference `crossed_interval`.

Command:  OMP_NUM_THREADS=1 python experiments/benchmarks/cross_validation.py
Result:   cross_validation.md, beside this file
Cost:     some minutes on one core
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from pbl.statistics import cross_validated_interval, crossed_interval, crossed_mean_interval, summarise_seeds

REPETITIONS = 400
WORLDS = [(60, 5), (100, 5), (100, 10), (300, 5)]  # images, folds
SEEDS = (1, 3)
NETWORKS = {"narrow": (15, 1.0), "wide": (120, 3.0)}  # hidden units, ridge
random = np.random.default_rng(0)


def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.permutation(np.arange(n) % 2)
    sign = np.where(labels, 1, -1)
    images = random.standard_normal((n, 20))
    images[:, :4] += sign[:, None] * [0.6, 0.4, 0.3, 0.2]
    images[:, 4] += sign * np.sign(images[:, 5])  # which a line does not see
    return images, labels


def train(images: np.ndarray, labels: np.ndarray, name: str):
    units, ridge = NETWORKS[name]
    weights, bias = random.standard_normal((20, units)) / np.sqrt(20), random.uniform(-1, 1, units)
    hidden = np.maximum(images @ weights + bias, 0)
    output = np.linalg.solve(hidden.T @ hidden + ridge * np.eye(units), hidden.T @ (2 * labels - 1))
    return lambda new: np.maximum(new @ weights + bias, 0) @ output > 0


def cross_validate(images: np.ndarray, labels: np.ndarray, name: str, folds: np.ndarray, seeds: int) -> np.ndarray:
    correct = np.zeros((seeds, len(labels)), bool)
    for seed in range(seeds):
        for fold in np.unique(folds):
            inside = folds == fold
            predict = train(images[~inside], labels[~inside], name)
            correct[seed, inside] = predict(images[inside]) == labels[inside]
    return correct


def main() -> None:
    test, answers = draw(5000)
    rows = []
    for n, k in WORLDS:
        size = n - n // k
        truth = {
            name: np.mean([(train(*draw(size), name)(test) == answers).mean() for _ in range(300)]) for name in NETWORKS
        }
        held: dict[tuple[int, str], list[bool]] = {}
        for _ in range(REPETITIONS):
            images, labels = draw(n)
            folds = np.arange(n) % k
            for seeds in SEEDS:
                correct = {name: cross_validate(images, labels, name, folds, seeds) for name in NETWORKS}
                for name, right in correct.items():
                    by_fold = np.array([right[:, folds == fold].mean() for fold in range(k)])
                    reach = stats.t.ppf(0.975, k - 1) * by_fold.std(ddof=1) / np.sqrt(k)
                    for kind, (low, high) in {
                        "over images": crossed_mean_interval(summarise_seeds(right)),
                        "over folds": (right.mean() - reach, right.mean() + reach),
                        "the wider": cross_validated_interval(right, folds),
                    }.items():
                        held.setdefault((seeds, kind), []).append(low <= truth[name] <= high)
                if seeds > 1:
                    found = crossed_interval(*(summarise_seeds(right) for right in correct.values()))
                    difference = truth["narrow"] - truth["wide"]
                    held.setdefault((seeds, "difference"), []).append(found.low <= difference <= found.high)
        for (seeds, kind), values in held.items():
            rows.append({"images": n, "folds": k, "seeds": seeds, "interval": kind, "holds the truth": np.mean(values)})
        print(pd.DataFrame(rows).to_string(), flush=True)
    table = pd.DataFrame(rows).pivot(index=["images", "folds", "seeds"], columns="interval", values="holds the truth")
    table = table[["over images", "over folds", "the wider", "difference"]].reset_index()
    lines = [
        "# Intervals of a cross-validation",
        "",
        f"`cross_validation.py` tells how. Share of 95% intervals that hold the truth; {REPETITIONS} data sets each (800 intervals of an"
        f" accuracy, {REPETITIONS} of a difference), so 95% may show as 93 to 97%. `compare` gives the wider of the first two, and the last.",
        "",
        "| " + " | ".join(table.columns) + " |",
        "|" + "---|" * len(table.columns),
    ]
    for row in table.itertuples(index=False):
        shown = ["" if pd.isna(value) else f"{value:.1%}" for value in row[3:]]
        lines.append("| " + " | ".join([*(str(int(value)) for value in row[:3]), *shown]) + " |")
    (Path(__file__).parent / "cross_validation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
