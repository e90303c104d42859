"""How often `compare` is right: simulated architectures whose true accuracies are known.

An image has a difficulty that all networks share, an architecture a taste of its own among the images, a seed a spread of the
true accuracy, and a training its own luck with each image; a network classifies an image correctly where the sum is above a
threshold. The shares of these parts are set so that two networks disagree on about 5% of 1,000 images at 90% accuracy, as five
small trained ones did.

Two equal architectures are to be separated in 5% of trials, the interval is to cover the true difference in 95% (93 to 97), and a
difference of 2 points is to be found often. Beside the crossed interval stand: McNemar's test on one run of each, Welch's t
test over the seeds' accuracies, a t test over images with seeds averaged, and a bootstrap over seeds and images.

Command:  python experiments/benchmarks/comparison.py [--trials 2000] [--write]     (about five minutes)
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.stats import norm, ttest_1samp, ttest_ind

from pbl.statistics import crossed_interval, mcnemar_test, summarise_seeds
from pbl.storage.writing import replacing

SHARED, OWN = 0.93, 0.03  # of the variance: difficulty, and an architecture's taste; the rest is luck
SLOW = 200  # trials of the bootstrap
RULES = ("crossed", "McNemar", "Welch", "images only", "bootstrap")


def simulate(
    random: np.random.Generator, accuracies: tuple[float, ...], seeds: int, images: int, spread: float
) -> list[np.ndarray]:
    """Of each architecture `bool [seeds, images]`, whether a network classified an image correctly."""
    difficulty = np.sqrt(SHARED) * random.normal(size=images)
    networks = []
    for accuracy in accuracies:
        threshold = norm.ppf(accuracy)
        taste = np.sqrt(OWN) * random.normal(size=images)
        of_seed = spread / norm.pdf(threshold) * random.normal(size=(seeds, 1))
        luck = np.sqrt(1 - SHARED - OWN) * random.normal(size=(seeds, images))
        networks.append(threshold + difficulty + taste + of_seed + luck > 0)
    return networks


def bootstrap(random: np.random.Generator, a: np.ndarray, b: np.ndarray, draws: int = 200) -> float:
    """p of a bootstrap over seeds and images together."""
    k, n = a.shape
    weights = random.multinomial(n, np.full(n, 1 / n), size=draws) / n
    of_a, of_b = (
        ((weights @ side.T) * (random.multinomial(k, np.full(k, 1 / k), size=draws) / k)).sum(axis=1) for side in (a, b)
    )
    below = (of_a < of_b).mean() + (of_a == of_b).mean() / 2
    return 2 * min(below, 1 - below)


def judge(random: np.random.Generator, a: np.ndarray, b: np.ndarray, slow: bool) -> dict[str, float]:
    """p by each rule; by the bootstrap where `slow`."""
    discordant = int((a[0] & ~b[0]).sum()), int((~a[0] & b[0]).sum())
    found = {
        "crossed": crossed_interval(summarise_seeds(a), summarise_seeds(b)).p,
        "McNemar": mcnemar_test(*discordant),
        "Welch": float(ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False).pvalue),
        "images only": float(ttest_1samp(a.mean(axis=0) - b.mean(axis=0), 0).pvalue),
    }
    return {**found, "bootstrap": bootstrap(random, a, b)} if slow else found


def measure(trials: int, accuracies: tuple[float, float], seeds: int, images: int, spread: float) -> dict[str, float]:
    """Share of trials in which each rule separates the two, and in which the interval holds the true difference."""
    random = np.random.default_rng([seeds, images, int(1e4 * spread), int(1e4 * accuracies[0])])
    shares = dict.fromkeys((*RULES, "covered"), 0.0)
    for trial in range(trials):
        a, b = simulate(random, accuracies, seeds, images, spread)
        for rule, p in judge(random, a, b, trial < SLOW).items():
            shares[rule] += (p < 0.05) / (min(SLOW, trials) if rule == "bootstrap" else trials)
        interval = crossed_interval(summarise_seeds(a), summarise_seeds(b))
        shares["covered"] += (interval.low <= accuracies[0] - accuracies[1] <= interval.high) / trials
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--write", action="store_true", help="the tables into comparison.md, beside this file")
    parser.add_argument("--small", action="store_true", help="1,000 images and 3 seeds; exit 1 where a share is off")
    arguments = parser.parse_args()
    sizes = (1000,) if arguments.small else (300, 1000, 3000)
    lines, failures = [
        "# How often `compare` is right", "",
        f"`python experiments/benchmarks/comparison.py --trials {arguments.trials} --write`: simulated architectures, nominal level 5%;"
        f" the script tells how. The standard error of a share near .05 is {np.sqrt(0.05 * 0.95 / arguments.trials):.3f}, of the bootstrap's, of"
        f" {SLOW} trials, {np.sqrt(0.05 * 0.95 / SLOW):.3f}.", "",
    ], []  # fmt: skip
    cases = (
        ("Equal architectures (92%): separated in this share of trials", (0.92, 0.92)),
        ("2 points apart (93 and 91%): separated in this share of trials", (0.93, 0.91)),
    )
    head = ["images", "seeds", "spread of seeds", *RULES, "crossed interval covers"]
    for title, accuracies in cases:
        lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for images in sizes:
            for seeds in (3,) if arguments.small else (3, 5):
                for spread in (0.002, 0.005, 0.01):
                    found = measure(arguments.trials, accuracies, seeds, images, spread)
                    cells = [f"{found[name]:.3f}" for name in (*RULES, "covered")]
                    lines.append(f"| {images} | {seeds} | {100 * spread:g} points | " + " | ".join(cells) + " |")
                    print(lines[-1], flush=True)
                    # 93 to 97% are asked; few trials can tell less.
                    error = max(0.02, 3 * np.sqrt(0.05 * 0.95 / arguments.trials))
                    if not 0.95 - error <= found["covered"] <= 0.95 + error:
                        failures.append(lines[-1])
        lines.append("")
    if not arguments.small:
        lines += ["## 2.2 points apart (91.1 and 88.9%), spread .18 points, 1,000 images", "",
                  "| seeds | " + " | ".join((*RULES, "crossed interval covers")) + " |", "|" + "---|" * 7]  # fmt: skip
        for seeds in (2, 3, 5):
            found = measure(arguments.trials, (0.911, 0.889), seeds, 1000, 0.0018)
            lines.append(f"| {seeds} | " + " | ".join(f"{found[name]:.3f}" for name in (*RULES, "covered")) + " |")
            print(lines[-1], flush=True)
        lines.append("")
    if arguments.write:
        with replacing(Path(__file__).with_suffix(".md")) as temporary:
            temporary.write_text("\n".join(lines))
    for line in failures:
        print(f"FAILS, coverage is off: {line}")
    sys.exit(1 if failures and arguments.small else 0)


if __name__ == "__main__":
    main()
