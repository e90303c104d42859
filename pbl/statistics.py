"""Confidence intervals and tests for proportions. SciPy is imported only by the functions that need it."""

from collections.abc import Sequence
from math import exp, lgamma, log, log1p, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

FEWEST_SEEDS = 3  # of an architecture; with fewer, nothing is claimed about it


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a proportion, such as an accuracy.

    It stays inside 0 to 1, and its coverage is right also for few trials and near 0 or 1, where the textbook's
    p ± 1.96 sqrt(p (1 - p) / n) is not.

    Args:
        successes: Count of successes, 0 to `trials`.
        trials: Count of trials, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound, each from 0 to 1.

    Raises:
        ValueError: The counts are not possible.

    Source: E. B. Wilson (1927), JASA 22, 209-212; method 3 of R. G. Newcombe (1998), Statistics in Medicine 17, 857-872.

    Example:
        >>> from pbl.statistics import wilson_interval
        >>> low, high = wilson_interval(45, 50)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.786 to 0.957
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials are not possible")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = 2 * successes + z**2
    half_width = z * sqrt(z**2 + 4 * successes * (1 - share))
    scale = 2 * (trials + z**2)
    # Exactly 0 and 1 at the ends, where rounding would leave 1e-17.
    lower = 0.0 if successes == 0 else (centre - half_width) / scale
    upper = 1.0 if successes == trials else (centre + half_width) / scale
    return lower, upper


def newcombe_interval(
    successes_1: int, trials_1: int, successes_2: int, trials_2: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Newcombe's hybrid score interval for the difference of two independent proportions, first minus second.

    Args:
        successes_1, trials_1: Counts of the first sample.
        successes_2, trials_2: Counts of the second sample.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound of the difference, each from -1 to 1.

    Raises:
        ValueError: The counts are not possible.

    Source: method 10 of R. G. Newcombe (1998), Statistics in Medicine 17, 873-890.

    Example:
        >>> from pbl.statistics import newcombe_interval
        >>> low, high = newcombe_interval(45, 50, 35, 50)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.043 to 0.349
    """
    lower_1, upper_1 = wilson_interval(successes_1, trials_1, confidence)
    lower_2, upper_2 = wilson_interval(successes_2, trials_2, confidence)
    share_1, share_2 = successes_1 / trials_1, successes_2 / trials_2
    difference = share_1 - share_2
    return (
        difference - sqrt((share_1 - lower_1) ** 2 + (upper_2 - share_2) ** 2),
        difference + sqrt((upper_1 - share_1) ** 2 + (share_2 - lower_2) ** 2),
    )


def paired_interval(
    both: int, only_first: int, only_second: int, trials: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Newcombe's score interval for the difference of two proportions of the same trials, first minus second.

    An example is the accuracies of two networks on the same images. Images that both classify correctly or both wrongly say nothing
    about the difference, so the interval is narrower than that for two sets of images (`newcombe_interval`).

    Args:
        both: Count of trials in which both succeeded.
        only_first, only_second: Counts of trials in which only that one succeeded.
        trials: Count of trials, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound of the difference, each from -1 to 1.

    Raises:
        ValueError: The counts are not possible.

    Source: method 10 of R. G. Newcombe (1998), Statistics in Medicine 17, 2635-2650.

    Example:
        >>> from pbl.statistics import paired_interval
        >>> low, high = paired_interval(both=80, only_first=12, only_second=3, trials=100)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.013 to 0.172
    """
    neither = trials - both - only_first - only_second
    if min(both, only_first, only_second, neither) < 0 or trials < 1:
        raise ValueError(f"{both}, {only_first} and {only_second} successes in {trials} trials are not possible")
    first, second = both + only_first, both + only_second
    lower_1, upper_1 = wilson_interval(first, trials, confidence)
    lower_2, upper_2 = wilson_interval(second, trials, confidence)
    share_1, share_2 = first / trials, second / trials
    # The correlation, with a continuity correction if it is positive; 0 if one of the two has only one outcome.
    product: float = both * neither - only_first * only_second
    product = max(product - trials / 2, 0) if product > 0 else product
    spread = first * (trials - first) * second * (trials - second)
    correlation = product / sqrt(spread) if spread else 0.0

    def combine(one: float, other: float) -> float:
        return sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    difference = (only_first - only_second) / trials
    return (
        difference - combine(share_1 - lower_1, upper_2 - share_2),
        difference + combine(upper_1 - share_1, share_2 - lower_2),
    )


def hanley_mcneil_interval(auc: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Hanley and McNeil's interval for the area under a ROC curve.

    Args:
        auc: The area, 0 to 1.
        positives, negatives: Count of examples of either kind, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound, each from 0 to 1.

    Raises:
        ValueError: The numbers are not possible.

    Source: equation 1 of J. A. Hanley and B. J. McNeil (1982), Radiology 143, 29-36.

    Example:
        >>> from pbl.statistics import hanley_mcneil_interval
        >>> low, high = hanley_mcneil_interval(0.9, positives=30, negatives=50)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.821 to 0.979
    """
    _check_area(auc, positives, negatives)
    q_1, q_2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (positives - 1) * (q_1 - auc**2) + (negatives - 1) * (q_2 - auc**2)
    half_width = NormalDist().inv_cdf((1 + confidence) / 2) * sqrt(max(variance, 0) / (positives * negatives))
    return max(0.0, auc - half_width), min(1.0, auc + half_width)


def newcombe_auc_interval(auc: float, positives: int, negatives: int, confidence: float = 0.95) -> tuple[float, float]:
    """Newcombe's score-like interval for the area under a ROC curve: it is valid near 0 and 1, and for few examples.

    The bounds are the areas that are exactly z of *their own* standard errors away from the measured one.

    Args:
        auc: The area, 0 to 1.
        positives, negatives: Count of examples of either kind, at least 1.
        confidence: Between 0 and 1.

    Returns:
        Lower and upper bound, each from 0 to 1.

    Raises:
        ValueError: The numbers are not possible.

    Source: method 5 of R. G. Newcombe (2006), Statistics in Medicine 25, 559-573, with the variance of Hanley and McNeil (1982)
    made symmetric.

    Example:
        >>> from pbl.statistics import newcombe_auc_interval
        >>> low, high = newcombe_auc_interval(0.9, positives=30, negatives=50)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.799 to 0.951
    """
    _check_area(auc, positives, negatives)
    z, half = NormalDist().inv_cdf((1 + confidence) / 2), (positives + negatives) / 2 - 1

    def is_within(area: float) -> bool:
        spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
        return abs(auc - area) <= z * sqrt(area * (1 - area) * spread / (positives * negatives))

    def search(end: float) -> float:  # an area of 0 or 1 itself has no standard error, and is never within
        inside, outside = min(max(auc, 1e-12), 1 - 1e-12), end
        if abs(auc - end) < 1e-12:
            return end
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if is_within(middle) else (inside, middle)
        return inside

    return search(0.0), search(1.0)


def share_out_area(is_positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Divides the area under the ROC curve among the images: values whose mean is the area, and whose variance divided by the number of
    images is that of the area.

    A positive's value counts how many negatives it is above, a negative's how many positives are above it (placement values; equal
    scores count half); each is weighted by how rare its kind is. The difference in area between two scores of the same images is
    then the mean of paired differences.

    Args:
        is_positive: `bool [n]`, with both kinds.
        scores: `float [n]`, high for positives.

    Returns:
        `float64 [n]`; single values may be outside 0 to 1.

    Source: E. DeLong, D. DeLong, D. Clarke-Pearson (1988), Biometrics 44, 837-845, equations 4 to 6.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import share_out_area
        >>> values = share_out_area(np.array([True, True, False, False]), np.array([3.0, 1.0, 2.0, 0.0]))
        >>> float(values.mean())
        0.75
    """
    positive, negative = np.sort(scores[is_positive]), np.sort(scores[~is_positive])

    def place(values: np.ndarray, others: np.ndarray) -> np.ndarray:
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (2 * len(others))

    places = np.where(is_positive, place(scores, negative), 1 - place(scores, positive))
    area = places[is_positive].mean()
    weights = len(scores) / np.where(is_positive, len(positive), len(negative))
    return area + weights * (places - area)


def _check_area(auc: float, positives: int, negatives: int) -> None:
    if not 0 <= auc <= 1 or min(positives, negatives) < 1:
        raise ValueError(f"an area of {auc} with {positives} and {negatives} examples is not possible")


def binomial_tail(successes: int, trials: int, share: float) -> float:
    """Probability of `successes` or more in `trials`, each with probability `share`: a one-sided exact test.

    Args:
        successes: Count of successes, 0 to `trials`.
        trials: Count of trials, at least 1.
        share: Probability of a success, above 0 and below 1.

    Raises:
        ValueError: The numbers are not possible.

    Example:
        >>> from pbl.statistics import binomial_tail
        >>> print(f"{binomial_tail(8, 10, share=0.5):.4f}")  # 56 of 1,024
        0.0547
    """
    if not 0 <= successes <= trials or trials < 1 or not 0 < share < 1:
        raise ValueError(f"{successes} successes in {trials} trials with probability {share} are not possible")
    if successes == 0:
        return 1.0
    return min(
        1.0,
        sum(
            exp(
                lgamma(trials + 1)
                - lgamma(k + 1)
                - lgamma(trials - k + 1)
                + k * log(share)
                + (trials - k) * log1p(-share)
            )
            for k in range(successes, trials + 1)
        ),
    )


def mcnemar_test(only_first: int | np.ndarray, only_second: int | np.ndarray) -> float | np.ndarray:
    """Exact McNemar test: do two *trained models* err differently on the images that they both saw?

    Args:
        only_first, only_second: Counts of images that only the one, or only the other, classified correctly; or arrays of such counts.

    Returns:
        The two-sided p value, or an array of them.

    Source: Q. McNemar (1947), Psychometrika 12, 153-157. It says little about learning algorithms, since each was trained once:
    T. G. Dietterich (1998), Neural Computation 10, 1895-1923.

    Example:
        >>> from pbl.statistics import mcnemar_test
        >>> print(f"{mcnemar_test(only_first=12, only_second=3):.4f}")
        0.0352
    """
    from scipy.stats import binom

    return np.minimum(1.0, 2 * binom.cdf(np.minimum(only_first, only_second), only_first + only_second, 0.5))


def paired_bootstrap_interval(
    only_first: int, only_second: int, images: int, confidence: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Bootstrap interval for the difference in accuracy of two trained models, first minus second, over the same images.

    Args:
        only_first, only_second: As for `mcnemar_test`.
        images: Number of images in all.
        confidence: Between 0 and 1.
        draws: Number of samples of the images.

    Example:
        >>> from pbl.statistics import paired_bootstrap_interval
        >>> low, high = paired_bootstrap_interval(only_first=12, only_second=3, images=100)
        >>> print(f"{low:.2f} to {high:.2f}")
        0.02 to 0.17
    """
    shares = [only_first / images, only_second / images, 1 - (only_first + only_second) / images]
    counts = np.random.default_rng(0).multinomial(images, shares, size=draws)
    low, high = np.quantile((counts[:, 0] - counts[:, 1]) / images, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


class SeedSummary(NamedTuple):
    """A summary of several trainings of one architecture, evaluated on the same images, for comparisons.

    Attributes:
        mean: `float [n]`, share of the seeds that classified each image correctly; or the mean of another value of each image.
        seeds: Number of seeds.
        spread: Variance of the mean accuracy that comes from the seeds' different accuracies; NaN for one seed.
        chance: The part of `spread` that comes from single images alone; the images' own variance already includes it.
    """

    mean: np.ndarray
    seeds: int
    spread: float
    chance: float

    @property
    def accuracy(self) -> float:
        return float(self.mean.mean())


def summarise_seeds(correct: np.ndarray) -> SeedSummary:
    """Summarises `bool [seeds, n]`: whether each training classified each image correctly; or `float`, another value of each.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import summarise_seeds
        >>> correct = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool)  # two seeds, four images
        >>> summarise_seeds(correct).mean.tolist()
        [1.0, 0.5, 0.0, 1.0]
    """
    correct = np.asarray(correct, np.float64)
    k, n = correct.shape
    if k < 2:
        return SeedSummary(correct.mean(axis=0), k, np.nan, np.nan)
    spread = correct.mean(axis=1).var(ddof=1) / k
    return SeedSummary(correct.mean(axis=0), k, float(spread), float(correct.var(axis=0, ddof=1).mean() / (n * k)))


class Difference(NamedTuple):
    """A difference in accuracy, first minus second, with its interval and p value."""

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    degrees_of_freedom: float


def crossed_interval(first: SeedSummary, second: SeedSummary, confidence: float = 0.95) -> Difference:
    """Interval for the difference of two *architectures*, over the seeds and the images that could have been drawn instead.

    Images are shared by all runs and are used as pairs; each run has its own seed. With d the difference of the mean
    correctness on an image,

        SE^2 = max(0, var_i(d) / n - chance of both) + spread of both,

    with a part from the images, which more seeds would not remove, and a part from the seeds; a t interval with Satterthwaite's
    degrees of freedom. `experiments/benchmarks/comparison.md` has its size, coverage and power compared with other tests. If SE is 0,
    the exact McNemar test and `paired_interval` of the rounded counts are used.

    Args:
        first, second: Summaries for the same images, with at least two seeds each; see `summarise_seeds`.
        confidence: Between 0 and 1.

    Returns:
        The difference of the two accuracies, as shares, its interval, and the two-sided p value.

    Raises:
        ValueError: An architecture has one seed, or the numbers of images differ.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import crossed_interval, summarise_seeds
        >>> draw = np.random.default_rng(0)
        >>> first, second = (summarise_seeds(draw.random((3, 500)) < accuracy) for accuracy in (0.9, 0.8))
        >>> found = crossed_interval(first, second)
        >>> print(f"{found.difference:.3f}, {found.low:.3f} to {found.high:.3f}")
        0.097, 0.055 to 0.140
    """
    return crossed_intervals([first, second], [(0, 1)], confidence)[0]


def crossed_intervals(
    summaries: Sequence[SeedSummary], pairs: Sequence[tuple[int, int]], confidence: float = 0.95
) -> list[Difference]:
    """Does what `crossed_interval` does, for many pairs of places in `summaries` at once.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import crossed_intervals, summarise_seeds
        >>> draw = np.random.default_rng(0)
        >>> summaries = [summarise_seeds(draw.random((3, 500)) < accuracy) for accuracy in (0.9, 0.8, 0.8)]
        >>> found = crossed_intervals(summaries, [(0, 1), (1, 2)])
        >>> [pair.low > 0 for pair in found]
        [True, False]
    """
    from scipy.stats import t

    parts = _Parts(summaries, pairs)
    error, degrees = parts.error(parts.seeds)
    is_known = error > 1e-9
    reach = t.ppf((1 + confidence) / 2, degrees) * error
    p = 2 * t.sf(abs(parts.difference) / np.where(is_known, error, 1.0), degrees)
    columns = parts.difference, parts.difference - reach, parts.difference + reach, p, error, degrees
    found = [Difference(*map(float, row)) for row in zip(*columns, strict=True)]
    return [
        one if known else _without_variance(one, summaries[first], summaries[second], confidence)
        for one, known, (first, second) in zip(found, is_known, pairs, strict=True)
    ]


def _without_variance(found: Difference, first: SeedSummary, second: SeedSummary, confidence: float) -> Difference:
    """For the case that no seed and no image differed: so few cannot show that others would not differ either."""
    n = len(first.mean)
    right = round(first.accuracy * n), round(second.accuracy * n)
    counts = min(right), max(0, right[0] - right[1]), max(0, right[1] - right[0])
    low, high = paired_interval(*counts, n, confidence)
    return found._replace(low=low, high=high, p=float(mcnemar_test(*counts[1:])))


class _Parts:
    """Parts of the variance of differences: what no number of seeds removes, and what one seed of each architecture adds."""

    def __init__(self, summaries: Sequence[SeedSummary], pairs: Sequence[tuple[int, int]]):
        if min(side.seeds for side in summaries) < 2 or len({side.mean.shape for side in summaries}) > 1:
            raise ValueError("two seeds of each architecture, on the same images, are the least")
        means = np.stack([side.mean for side in summaries])
        at = np.array(pairs).T  # [2, pairs]
        self.n = means.shape[1]
        self.difference = means.mean(axis=1)[at[0]] - means.mean(axis=1)[at[1]]
        covariance = np.cov(means) if self.n > 1 else np.zeros((len(means), len(means)))
        variance = covariance[at[0], at[0]] + covariance[at[1], at[1]] - 2 * covariance[at[0], at[1]]
        self.seeds = np.array([side.seeds for side in summaries])[at]
        self.chance = np.array([side.chance * side.seeds for side in summaries])[at]
        self.spread = np.array([side.spread * side.seeds for side in summaries])[at]
        self.stays = np.maximum(0.0, variance / self.n - (self.chance / self.seeds).sum(axis=0)).round(15)

    def error(self, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Standard errors with so many seeds of both, `[2, pairs]`, and their degrees of freedom."""
        of_images, of_seeds = self.stays + (self.chance / seeds).sum(axis=0), self.spread / seeds
        variance = self.stays + of_seeds.sum(axis=0)
        uncertain = of_images**2 / max(self.n - 1, 1) + (of_seeds**2 / (seeds - 1)).sum(axis=0)
        degrees = np.divide(variance**2, uncertain, out=np.full_like(variance, np.inf), where=uncertain > 0)
        return np.sqrt(variance), np.maximum(degrees, 1.0)


def crossed_mean_interval(summary: SeedSummary, confidence: float = 0.95, is_share: bool = True) -> tuple[float, float]:
    """Interval for an architecture's accuracy, over seeds and images, as `crossed_interval`; with one seed Wilson's.

    A measure that is not a share, `is_share=False`, may be outside 0 to 1; it needs two seeds, since Wilson's interval is for shares.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import crossed_mean_interval, summarise_seeds
        >>> correct = np.random.default_rng(0).random((3, 500)) < 0.9
        >>> low, high = crossed_mean_interval(summarise_seeds(correct))
        >>> print(f"{correct.mean():.3f}, {low:.3f} to {high:.3f}")
        0.901, 0.850 to 0.952
    """
    n, k, accuracy = len(summary.mean), summary.seeds, summary.accuracy
    if not is_share and (k < 2 or n < 2):
        raise ValueError(f"a measure that is not a share needs two seeds and two images; given: {k} and {n}")
    if k < 2 or n < 2:
        return wilson_interval(round(accuracy * n), n, confidence)
    from scipy.stats import t

    of_images = summary.mean.var(ddof=1) / n
    variance = max(0.0, of_images - summary.chance) + summary.spread
    uncertain = of_images**2 / (n - 1) + summary.spread**2 / (k - 1)
    if variance < 1e-18 and not is_share:  # the same value everywhere
        return accuracy, accuracy
    if variance < 1e-18:  # all correct, or all wrong, in all runs
        return wilson_interval(round(accuracy * n), n, confidence)
    reach = float(t.ppf((1 + confidence) / 2, variance**2 / uncertain)) * sqrt(variance)
    if not is_share:
        return accuracy - reach, accuracy + reach
    return max(0.0, accuracy - reach), min(1.0, accuracy + reach)


def cross_validated_interval(
    correct: np.ndarray, folds: np.ndarray, confidence: float = 0.95, is_share: bool = True
) -> tuple[float, float]:
    """Interval for an architecture's accuracy from a cross-validation: the wider one of two that each ignore something.

    `crossed_mean_interval` treats all images as independent, although those of a fold share a model and all models share
    training images. A t interval over the folds' accuracies does not, but with few folds it is sometimes far too narrow by
    chance. How often each contains the truth: `experiments/benchmarks/cross_validation.md`.

    Args:
        correct: `bool [seeds, n]`, whether each image was classified correctly by the model that was not trained on it; or `float`,
            another value of each.
        folds: `int [n]`, the fold of each image.
        confidence: Between 0 and 1.
        is_share: Whether the measure is a share. Another, such as a distance, is not kept inside 0 to 1, and with one seed its
            interval over images is a t interval of their values, since Wilson's is for shares.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import cross_validated_interval
        >>> correct = np.random.default_rng(0).random((3, 500)) < 0.9
        >>> low, high = cross_validated_interval(correct, folds=np.arange(500) % 5)
        >>> print(f"{correct.mean():.3f}, {low:.3f} to {high:.3f}")
        0.901, 0.850 to 0.952
    """
    summary, accuracy = summarise_seeds(correct), float(correct.mean())
    if is_share or summary.seeds > 1:
        low, high = crossed_mean_interval(summary, confidence, is_share)
    else:
        low, high = t_interval(summary.mean, confidence)
    by_fold = np.array([correct[:, folds == fold].mean() for fold in np.unique(folds)])
    of_folds = t_interval(by_fold, confidence)
    reach = (of_folds[1] - of_folds[0]) / 2
    low, high = min(low, accuracy - reach), max(high, accuracy + reach)
    return (max(0.0, low), min(1.0, high)) if is_share else (low, high)


def t_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Student's interval for the mean of values that may be any numbers; of a single value nothing is known.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import t_interval
        >>> low, high = t_interval(np.array([-2.0, 0.0, 5.0]))
        >>> print(f"{low:.2f} to {high:.2f}")
        -7.96 to 9.96
    """
    from scipy.stats import t

    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return -np.inf, np.inf
    reach = float(t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1)) / sqrt(n)
    return mean - reach, mean + reach


def probability_of_best(correct: Sequence[np.ndarray], draws: int = 10_000, is_share: bool = True) -> np.ndarray:
    """Probability that each architecture is the best over the seeds and images that could have been drawn; equal ones share it.

    Draws use the variances of `crossed_interval`: the part of the images, which all share, from a normal distribution; the part of the seeds,
    which are few, from Student's t. To redraw the seeds themselves would be too certain: three drawn from three vary too little.

    Args:
        correct: For each architecture `bool [seeds, n]`, on the same images; one seed counts as if another would do the same.
        draws: Number of draws.
        is_share: Whether the measure is a share, which stays inside 0 to 1.

    Returns:
        `float [architectures]`, which sum to 1.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import probability_of_best
        >>> draw = np.random.default_rng(0)
        >>> found = probability_of_best([draw.random((3, 500)) < accuracy for accuracy in (0.9, 0.8)])
        >>> bool(found[0] > 0.9), round(float(found.sum()), 6)
        (True, 1.0)
    """
    random = np.random.default_rng(0)
    summaries = [summarise_seeds(runs) for runs in correct]
    means = np.stack([summary.mean for summary in summaries])
    n = means.shape[1]
    spread, chance = np.nan_to_num([[summary.spread, summary.chance] for summary in summaries]).T
    of_images = np.cov(means) / n - np.diag(chance) if n > 1 else np.zeros((len(means), len(means)))
    variances, directions = np.linalg.eigh(of_images)
    drawn = means.mean(axis=1, keepdims=True) + (directions * np.sqrt(variances.clip(0))) @ random.standard_normal(
        (len(means), draws)
    )
    for row, (variance, summary) in enumerate(zip(spread, summaries, strict=True)):
        drawn[row] += np.sqrt(variance) * random.standard_t(max(summary.seeds - 1, 1), draws)
    drawn = np.round(drawn.clip(0, 1) if is_share else drawn, 9)
    first = drawn == drawn.max(axis=0)
    return (first / first.sum(axis=0)).mean(axis=1)


def adjust_holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p values of several tests: below a level, the chance of even one false one among all is below it too.

    Args:
        p: `float [m]`.

    Returns:
        `float [m]`, in the same order.

    Source: S. Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import adjust_holm
        >>> adjust_holm(np.array([0.01, 0.04, 0.02])).tolist()
        [0.03, 0.04, 0.04]
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    rising = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(rising, 1)
    return adjusted


def seeds_to_separate(
    first: SeedSummary, second: SeedSummary, confidence: float = 0.95, power: float = 0.8, most: int = 100
) -> int | None:
    """How many seeds of each architecture would separate them with this power, if their true difference were the observed one.

    Args:
        first, second: As for `crossed_interval`.
        confidence: Confidence of the interval that should exclude 0.
        power: Probability that it does, 0 to 1.
        most: If more would be needed, the result is None: then more images are needed, or there is nothing to find.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import seeds_to_separate, summarise_seeds
        >>> draw = np.random.default_rng(1)
        >>> first, second = (summarise_seeds(draw.random((3, 500)) < accuracy) for accuracy in (0.9, 0.87))
        >>> seeds_to_separate(first, second)
        9
    """
    from scipy.stats import norm, t

    parts = _Parts([first, second], [(0, 1)] * (most - 1))
    seeds = np.arange(2, most + 1)
    error, degrees = parts.error(np.stack([seeds, seeds]))
    needed = (t.ppf((1 + confidence) / 2, degrees) + norm.ppf(power)) * error
    enough = np.flatnonzero((abs(parts.difference) >= needed) & (needed > 0))
    return int(seeds[enough[0]]) if len(enough) else None


class Doubling(NamedTuple):
    """The expected accuracy with twice as many training images, with its interval, and the interval of the gain."""

    expected: float
    low: float
    high: float
    gain_low: float
    gain_high: float


def extrapolate_doubling(half: np.ndarray, full: np.ndarray, confidence: float = 0.95) -> Doubling:
    """Predicts the accuracy with twice as many training images.

    The error is assumed to fall along a straight line in log-log scale. The line goes through the last doubling, and is followed for one
    more: e(2n) = e(n)^2 / e(n/2), or e(n) if that is less. The intervals come from 2,000 resamplings of images and of seeds
    together; the line itself is an assumption. On 2,000 MNIST images it predicted errors of 8.4 to 9.4%, and 8.7 to 9.2% were
    observed; on noisy curves the intervals are wide.

    Args:
        half, full: `bool [seeds, n]`, whether each of the same n images was classified correctly after training on half of
            the training images and on all.
        confidence: Confidence of the intervals.

    Example:
        >>> import numpy as np
        >>> from pbl.statistics import extrapolate_doubling
        >>> draw = np.random.default_rng(0)
        >>> half, full = (draw.random((3, 500)) < accuracy for accuracy in (0.8, 0.9))
        >>> found = extrapolate_doubling(half, full)
        >>> print(f"{full.mean():.3f}, of twice as many {found.expected:.3f}")
        0.903, of twice as many 0.956
    """
    random = np.random.default_rng(0)

    def expect(images: np.ndarray, seeds: np.ndarray) -> tuple[float, float]:
        # Half an error more than was observed: no line can be drawn through zero errors. More data are assumed to do no harm.
        before, now = (((~side[seeds][:, images]).sum() + 0.5) / (k * n + 1) for side in (half, full))
        gain = max(0.0, now - now**2 / before)
        return float(full[seeds][:, images].mean()) + gain, gain

    n, k = int(full.shape[1]), len(full)
    drawn = np.array([expect(random.integers(0, n, n), random.integers(0, k, k)) for _ in range(2000)])
    (low, gain_low), (high, gain_high) = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Doubling(expect(np.arange(n), np.arange(k))[0], *map(float, (low, high, gain_low, gain_high)))
