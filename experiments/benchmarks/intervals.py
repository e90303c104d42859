"""How often the 95% intervals of the metrics hold the truth: networks whose true metrics are known, judged on few images.

A simulated network sees the true class as one score that is larger by a fixed amount, beside normal noise on all, and is a third
too sure of itself. Six of them are right on 50 to 95% of the images; the truth of each is measured on 400,000 images. Then each
judges many samples of 100, 300 and 1,000 images, of 3 and of 10 classes, and each metric's interval holds its truth or does not.

93 to 97% of them are to hold it, of all six networks together, to within two standard errors of the measurement. (Of one network at a time the share swings: with 100 images an
accuracy is one of 101 numbers. Where a network makes no mistake in a sample there is no interval, and nothing is counted.)
Beside the jackknife stand, on fewer samples, the bootstrap's percentiles, and BCa.

Command:  python experiments/benchmarks/intervals.py [--trials 100] [--write]     (some five minutes of two idle cores)
"""

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import norm

from pbl.evaluation.metrics import _judge_samples, compute_jackknife_intervals
from pbl.storage.writing import replacing

ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
CLASSES, SIZES = (3, 10), (100, 300, 1000)
SLOW, DRAWS = 20, 500  # samples that the bootstrap is tried on, and how often it draws from each


def simulate(random: np.random.Generator, classes: int, images: int, lead: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a network in whose scores the true class leads by so much."""
    labels = random.integers(0, classes, images)
    scores = random.normal(size=(images, classes))
    scores[np.arange(images), labels] += lead
    scores *= 1.3 * lead  # times `lead` it would be calibrated
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return labels, scores / scores.sum(axis=1, keepdims=True)


def find_lead(classes: int, accuracy: float) -> float:
    """The lead with which the network is right on this share of the images."""
    low, high = 0.0, 6.0
    for _ in range(20):
        lead = (low + high) / 2
        labels, probabilities = simulate(np.random.default_rng(0), classes, 100_000, lead)
        low, high = (lead, high) if (probabilities.argmax(axis=1) == labels).mean() < accuracy else (low, lead)
    return lead


def bootstrap(random: np.random.Generator, labels: np.ndarray, probabilities: np.ndarray) -> dict[str, dict]:
    """Percentile and BCa intervals (Efron 1987), which need more than 0 spread."""
    n = len(labels)
    drawn = _judge_samples(labels, probabilities, random.multinomial(n, np.full(n, 1 / n), DRAWS))
    parts = np.arange(n) % min(n, 100)
    without = _judge_samples(labels, probabilities, parts != np.arange(parts.max() + 1)[:, None])
    whole = _judge_samples(labels, probabilities, np.ones((1, n)))
    found: dict[str, dict] = {"percentile": {}, "BCa": {}}
    for name, values in drawn.items():
        values, off = values[np.isfinite(values)], without[name].mean() - without[name]
        if np.ptp(values) == 0 or not (off**2).sum() > 0:
            continue
        below = ((values < whole[name]).mean() + (values <= whole[name]).mean()) / 2
        shift = norm.ppf(np.clip(below, 1 / DRAWS, 1 - 1 / DRAWS))
        skew = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
        ends = shift + norm.ppf([0.025, 0.975])
        found["percentile"][name] = np.quantile(values, [0.025, 0.975])
        found["BCa"][name] = np.quantile(values, norm.cdf(shift + ends / (1 - skew * ends)))
    return found


def measure(trials: int, classes: int, images: int) -> dict[tuple[str, str], np.ndarray]:
    """Of each way and metric `bool [intervals, 2]`: whether the truth was below the interval, and whether above it."""
    random = np.random.default_rng([classes, images])
    missed: dict[tuple[str, str], list] = {}
    for accuracy in ACCURACIES:
        lead = find_lead(classes, accuracy)
        many = simulate(random, classes, 400_000, lead)
        truth = {name: float(v[0]) for name, v in _judge_samples(*many, np.ones((1, len(many[0])))).items()}
        for trial in range(trials):
            sample = simulate(random, classes, images, lead)
            found = {"jackknife": compute_jackknife_intervals(*sample)}
            found |= bootstrap(random, *sample) if trial < SLOW else {}
            for way, intervals in found.items():
                for name, (low, high) in intervals.items():
                    missed.setdefault((way, name), []).append((truth[name] < low, truth[name] > high))
    return {key: np.array(rows) for key, rows in missed.items()}


def tabulate(measured: dict[tuple[int, int], dict], way: str) -> list[str]:
    """A row a metric: how often its interval held the truth, and how often it lay below and above."""
    head = [f"{classes} classes, {images:,}" for classes, images in measured]
    lines = [f"| metric | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name in (name for of, name in next(iter(measured.values())) if of == way):
        cells = []
        for found in measured.values():
            below, above = found[way, name].mean(axis=0)
            cells.append(f"{1 - below - above:.1%} ({below:.1%}, {above:.1%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Measures, prints, and says by the exit status whether each metric's intervals hold the truth as often as they are to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=100, help="samples of each network")
    parser.add_argument("--write", action="store_true", help="write intervals.md beside this file")
    arguments = parser.parse_args()
    measured, cells = {}, list(product(CLASSES, SIZES))
    with ProcessPoolExecutor() as pool:
        for cell, found in zip(
            cells, pool.map(measure, *zip(*((arguments.trials, *cell) for cell in cells), strict=True)), strict=True
        ):
            measured[cell] = found
            print(f"{cell[0]} classes, {cell[1]} images", file=sys.stderr, flush=True)
    n = arguments.trials * len(ACCURACIES)
    lines = [
        "# How often the 95% intervals of the metrics hold the truth",
        "",
        f"`python experiments/benchmarks/intervals.py --trials {arguments.trials} --write`: six simulated networks, right on 50 to 95% of"
        f" the images, {n:,} samples in each cell; the script tells how. Behind the share of intervals that hold the truth: of those"
        f" that lie above it, and below it. The standard error of a share near 95% is {100 * np.sqrt(0.05 * 0.95 / n):.1f} points.",
        "",
        "## What `evaluate` tells: the jackknife on a scale without ends",
        "",
        *tabulate(measured, "jackknife"),
    ]
    for way in ("percentile", "BCa"):
        lines += ["", f"## {way}, {DRAWS} draws, {SLOW * len(ACCURACIES)} samples in each cell", ""]
        lines += tabulate(measured, way)
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.write:
        with replacing(Path(__file__).with_suffix(".md")) as temporary:
            temporary.write_text(text, encoding="utf-8")
    shares = [
        1 - found[key].sum(axis=1).mean() for found in measured.values() for key in found if key[0] == "jackknife"
    ]
    error = np.sqrt(0.05 * 0.95 / n)
    return 0 if all(0.93 - 2 * error <= share <= 0.97 + 2 * error for share in shares) else 1


if __name__ == "__main__":
    sys.exit(main())
