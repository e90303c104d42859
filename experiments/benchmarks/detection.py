"""Whether the interval of mAP50 holds the true value as often as it says.

    python experiments/benchmarks/detection.py intervals

Made-up detectors of known score distributions, whose mAP50 on 20,000 images is taken for the true one; and 150 draws of some images each.
Results: `detection.md`.
"""

import argparse

import numpy as np
from scipy import stats

from pbl.evaluation.detection import (
    LEVELS,
    Matches,
    average_over_classes,
    compute_average_precision,
    find_interval,
    split_map,
)
from pbl.evaluation.detection import _resample as resample

CLASSES, MANY, REPEATS, DRAWS = 3, 20_000, 150, 200


def make_matches(images: int, skill: float, seed: int) -> Matches:
    """Draws true boxes and found ones: of the true ones 9 in 10 are found, with scores that are higher by `skill`; some images are harder."""
    random = np.random.default_rng(seed)
    truth = random.poisson(0.4, (images, CLASSES))
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for number in range(CLASSES):
        of = np.repeat(np.arange(images), truth[:, number])
        is_found = random.random(len(of)) < 0.9
        height = skill + random.normal(0, 0.7, images)[of] + random.normal(0, 1, len(of))
        false = np.repeat(np.arange(images), random.poisson(0.8, images))
        rows = (
            np.concatenate([of[is_found], false]),
            np.full(is_found.sum() + len(false), number),
            1 / (1 + np.exp(-np.concatenate([height[is_found], random.normal(0, 1, len(false))]))),
            np.arange(is_found.sum() + len(false)) < is_found.sum(),
        )
        for column, values in zip(columns, rows, strict=True):
            column.append(values)
    image, kind, score, right = map(np.concatenate, columns)
    order = np.lexsort((-score, image))
    right = np.repeat(right[order][:, None], len(LEVELS), axis=1)
    row = np.zeros(len(order), int)
    return Matches(image[order], kind[order], score[order], row, right, np.where(right[:, 0], 0, -1), truth)


def judge_intervals() -> None:
    """Prints how often each kind of interval holds the true mAP50."""
    print("| skill | images | true mAP50 | told, mean | percentiles | jackknife | as told |\n|" + "---|" * 7)
    for skill in (0.2, 2.5, 5.0):
        true = float(average_over_classes(compute_average_precision(make_matches(MANY, skill, 99))[:, 0]))
        for images in (50, 100, 300):
            held, told = np.zeros(3), []
            for seed in range(REPEATS):
                matches = make_matches(images, skill, 1000 + seed)
                values = split_map(matches)
                drawn = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=DRAWS)
                samples = average_over_classes(resample(matches, 0, drawn.astype(float)))
                reach = stats.t.ppf(0.975, images - 1) * values.std(ddof=1) / np.sqrt(images)
                ends = (
                    np.quantile(samples, [0.025, 0.975]), (values.mean() - reach, values.mean() + reach),
                    find_interval(matches, draws=DRAWS),
                )  # fmt: skip
                held += [low <= true <= high for low, high in ends]
                told.append(values.mean())
            shares = " | ".join(f"{share:.1%}" for share in held / REPEATS)
            print(f"| {skill} | {images} | {true:.3f} | {np.mean(told):.3f} | {shares} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["intervals"])
    parser.parse_args()
    judge_intervals()
