import numpy as np
import pytest
from scipy.stats import binomtest, norm, t
from sklearn.metrics import roc_auc_score

from pbl.statistics import (
    adjust_holm,
    binomial_tail,
    crossed_interval,
    crossed_intervals,
    crossed_mean_interval,
    extrapolate_doubling,
    hanley_mcneil_interval,
    mcnemar_test,
    newcombe_interval,
    paired_bootstrap_interval,
    paired_interval,
    probability_of_best,
    seeds_to_separate,
    share_out_area,
    summarise_seeds,
    wilson_interval,
)


# Table I of Newcombe (1998), Statistics in Medicine 17, 857-872, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "published"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_published(successes, trials, published):
    assert wilson_interval(successes, trials) == pytest.approx(published, abs=5e-5)


def test_wilson_equals_scipy():
    random = np.random.default_rng(0)
    for trials in (1, 2, 7, 100, 10_000):
        for successes in {0, trials, *random.integers(0, trials + 1, 5).tolist()}:
            for confidence in (0.8, 0.95, 0.99):
                expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
                assert wilson_interval(successes, trials, confidence) == pytest.approx(
                    (expected.low, expected.high), abs=1e-12
                )


# Table II of Newcombe (1998), Statistics in Medicine 17, 873-890, method 10.
@pytest.mark.parametrize(
    ("counts", "published"),
    [
        ((56, 70, 48, 80), (0.0524, 0.3339)),
        ((9, 10, 3, 10), (0.1705, 0.8090)),
        ((6, 7, 2, 7), (0.0582, 0.8062)),
        ((5, 56, 0, 29), (-0.0381, 0.1926)),
        ((0, 10, 0, 20), (-0.1611, 0.2775)),
        ((0, 10, 0, 10), (-0.2775, 0.2775)),
        ((10, 10, 0, 20), (0.6791, 1.0)),
        ((10, 10, 0, 10), (0.6075, 1.0)),
    ],
)
def test_newcombe_published(counts, published):
    assert newcombe_interval(*counts) == pytest.approx(published, abs=5e-5)


# Table III of Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10: both, only first, only second, neither. The last
# is of the R package contingencytables, its tests of chapter 8.
@pytest.mark.parametrize(
    ("counts", "published"),
    [
        ((36, 12, 2, 0), (0.0569, 0.3404)),
        ((20, 12, 2, 16), (0.0562, 0.3292)),
        ((36, 14, 0, 0), (0.1528, 0.4167)),
        ((18, 14, 0, 18), (0.1441, 0.3963)),
        ((2, 97, 1, 0), (0.8721, 0.9854)),
        ((0, 29, 1, 0), (0.6666, 0.9882)),
        ((0, 30, 0, 0), (0.8395, 1.0)),
        ((54, 0, 0, 0), (-0.0664, 0.0664)),
        ((53, 0, 0, 1), (-0.0729, 0.0729)),
        ((27, 0, 0, 27), (-0.0351, 0.0351)),
        ((59, 6, 16, 80), (-0.1186, -0.0046)),
    ],
)
def test_paired_published(counts, published):
    both, only_first, only_second, neither = counts
    assert paired_interval(both, only_first, only_second, sum(counts)) == pytest.approx(published, abs=5e-5)
    # For the second minus the first, and for failures instead of successes, it is the negative.
    for other in (both, neither):
        found = paired_interval(other, only_second, only_first, sum(counts))
        assert found == pytest.approx((-published[1], -published[0]), abs=5e-5)


def test_paired_impossible():
    for counts in ((1, 1, 1, 2), (-1, 1, 1, 5), (0, 0, 0, 0)):
        with pytest.raises(ValueError, match="not possible"):
            paired_interval(*counts)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts(successes, trials):
    with pytest.raises(ValueError, match="not possible"):
        wilson_interval(successes, trials)


def test_hanley_mcneil_published():
    # The example of Hanley and McNeil (1982): 51 abnormal and 58 normal images, area 0.893, standard error 0.032.
    lower, upper = hanley_mcneil_interval(0.893, 51, 58)
    assert (upper + lower) / 2 == pytest.approx(0.893)
    assert (upper - lower) / 2 / 1.96 == pytest.approx(0.032, abs=1e-3)
    assert hanley_mcneil_interval(1.0, 5, 5) == (1.0, 1.0)
    with pytest.raises(ValueError, match="not possible"):
        hanley_mcneil_interval(0.5, 0, 5)


def test_binomial_tail_equals_scipy():
    for successes, trials, share in [(0, 5, 0.1), (5, 5, 0.1), (3, 300, 0.002), (30, 2000, 0.01), (1, 10_000, 1e-4)]:
        expected = binomtest(successes, trials, share, alternative="greater").pvalue
        assert binomial_tail(successes, trials, share) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="not possible"):
        binomial_tail(1, 5, 0)


@pytest.mark.slow
def test_one_doubling_more_is_foretold():
    """Errors of 8% and 4% predict 2%; if the halves are alike nothing is gained; with few images it stays open."""
    random = np.random.default_rng(0)
    hard = random.random(20_000)
    half, full = (np.stack([hard > share] * 3) for share in (0.08, 0.04))
    found = extrapolate_doubling(half, full)
    assert found.expected == pytest.approx(0.98, abs=2e-3) and found.low < found.expected < found.high
    assert found.gain_low > 0.01
    assert extrapolate_doubling(full, full).gain_high == pytest.approx(0)
    few = extrapolate_doubling(half[:, :50], full[:, :50])
    assert few.gain_low <= 0 < few.gain_high
    for errors in ((0, 1), (2, 2), (3, 2), (8, 12), (0, 0)):  # errors in 189 images, before and after the doubling
        found = extrapolate_doubling(*(np.arange(189)[None] >= count for count in errors))
        now = 1 - errors[1] / 189
        assert now <= found.expected <= 1 and found.low > 0.8 and 0 <= found.gain_low <= found.gain_high < 0.05


# The eye-disease example of Bortz, and SciPy's own: R's mcnemar.exact gives the same.
@pytest.mark.parametrize(
    ("only_first", "only_second", "p"), [(5, 25, 0.0003249), (0, 0, 1.0), (3, 3, 1.0), (0, 6, 0.03125), (150, 86, 3.716e-05)]
)  # fmt: skip
def test_mcnemar(only_first, only_second, p):
    assert mcnemar_test(only_first, only_second) == pytest.approx(p, rel=2e-3)
    assert mcnemar_test(only_second, only_first) == mcnemar_test(only_first, only_second)
    assert mcnemar_test(only_first, only_second) == pytest.approx(
        binomtest(only_first, only_first + only_second).pvalue if only_first + only_second else 1
    )


def test_holm_equals_r():
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") and the example of scipy.stats.false_discovery_control's p-values."""
    assert adjust_holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert adjust_holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])  # in the order given
    assert adjust_holm([]).tolist() == []


def test_the_paired_bootstrap_agrees_with_the_normal_approximation():
    low, high = paired_bootstrap_interval(60, 30, 1000)
    error = np.sqrt((60 + 30 - 30**2 / 1000) / 1000**2)
    assert (low, high) == pytest.approx((0.03 - 1.96 * error, 0.03 + 1.96 * error), abs=0.0012)


def simulate_runs(random, accuracies, seeds, images, spread=0.005) -> list[np.ndarray]:
    difficulty = random.normal(size=images)
    return [
        norm.ppf(accuracy)
        + spread / norm.pdf(norm.ppf(accuracy)) * random.normal(size=(seeds, 1))
        + np.sqrt(0.9) * difficulty
        + np.sqrt(0.1) * random.normal(size=(seeds, images))
        > 0
        for accuracy in accuracies
    ]


def test_the_crossed_interval_covers():
    """300 trials of a known difference; 95% nominal. Its whole table: experiments/benchmarks/comparison.md."""
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        sides = [summarise_seeds(runs) for runs in simulate_runs(random, (0.9, 0.88), 3, 500)]
        found = crossed_interval(*sides)
        covered += found.low <= 0.02 <= found.high
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
    assert 0.91 <= covered / 300 <= 0.99


def test_the_crossed_interval_at_its_ends():
    random = np.random.default_rng(1)
    a, b = (summarise_seeds(runs) for runs in simulate_runs(random, (0.9, 0.88), 4, 200))
    many = crossed_intervals([a, b, a], [(0, 1), (1, 0), (0, 2)])
    assert many[0].difference == pytest.approx(-many[1].difference) and many[0].p == pytest.approx(many[1].p)
    assert many[2].difference == 0 and many[2].p == 1
    alike = summarise_seeds(np.ones((3, 10), bool))
    # Ten images that both get right say little about others; nor do seeds whose differences cancel.
    assert crossed_interval(alike, alike)[:4] == (0, *paired_interval(10, 0, 0, 10), 1)
    one, two = (summarise_seeds(~np.eye(3 * k, 100, dtype=bool).reshape(3, k, 100).any(axis=1)) for k in (1, 2))
    found = crossed_interval(one, two)
    assert found.difference == pytest.approx(0.01) and found.low < 0 < found.high and found.p == 1
    assert crossed_mean_interval(alike) == wilson_interval(10, 10)
    with pytest.raises(ValueError, match="two seeds"):
        crossed_interval(a, summarise_seeds(np.ones((1, 200), bool)))
    # If each seed is right on other images, the images' noise is already in the seeds: as in a t test of their accuracies.
    low, high = crossed_mean_interval(a)
    assert low < a.accuracy < high


def test_seeds_to_separate_holds_what_it_says():
    """With that many seeds the two are separated in about 80% of trials."""
    random = np.random.default_rng(2)
    pilot = [summarise_seeds(runs) for runs in simulate_runs(random, (0.9, 0.875), 40, 2000, spread=0.012)]
    needed = seeds_to_separate(*pilot)
    found = [
        crossed_interval(*map(summarise_seeds, simulate_runs(random, (0.9, 0.875), needed, 2000, spread=0.012))).p
        < 0.05
        for _ in range(150)
    ]
    assert 3 <= needed <= 30 and 0.65 <= np.mean(found) <= 0.95
    assert seeds_to_separate(pilot[0], pilot[0]) is None


def test_the_probability_of_being_best():
    random = np.random.default_rng(3)
    a, b, c = simulate_runs(random, (0.95, 0.95, 0.6), 5, 400)
    shares = probability_of_best([a, b, c])
    assert shares.sum() == pytest.approx(1) and shares[2] == 0
    assert probability_of_best([a, a.copy()]) == pytest.approx([0.5, 0.5], abs=0.05)
    assert probability_of_best([np.ones((1, 5), bool)] * 4) == pytest.approx([0.25] * 4)


def test_three_seeds_make_no_architecture_surely_the_best():
    """With so many images that only the seeds matter, Student's t gives the probability."""
    accuracies = np.array([[0.50, 0.52, 0.54], [0.497, 0.497, 0.497]])
    correct = np.arange(20_000) < 20_000 * accuracies[:, :, None]
    expected = t.cdf((0.52 - 0.497) / (0.02 / np.sqrt(3)), 2)
    assert probability_of_best(list(correct))[0] == pytest.approx(expected, abs=0.02)  # .91


def test_an_area_is_shared_out_to_the_images():
    """The mean is the area, and the variance of the mean is DeLong's, here by definition: all pairs, and two covariances."""
    random = np.random.default_rng(0)
    is_positive = np.arange(70) < 20
    one = np.round(random.normal(size=70) + is_positive, 1)  # with ties
    other = np.round(random.normal(size=70) + 0.5 * is_positive, 1)
    values = [share_out_area(is_positive, scores) for scores in (one, other)]
    wins = [
        (scores[:20, None] > scores[None, 20:]) + 0.5 * (scores[:20, None] == scores[None, 20:])
        for scores in (one, other)
    ]
    for scores, mean in zip((one, other), values, strict=True):
        assert mean.mean() == pytest.approx(roc_auc_score(is_positive, scores))
    of_positives, of_negatives = (np.cov([win.mean(axis=axis) for win in wins]) for axis in (1, 0))
    covariance = of_positives / 20 + of_negatives / 50
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    difference = values[0] - values[1]
    squares = [np.square(difference[of] - difference.mean()).sum() for of in (is_positive, ~is_positive)]
    # DeLong divides by the number of each kind minus one.
    assert (squares[0] * 20 / 19 + squares[1] * 50 / 49) / 70**2 == pytest.approx(expected)


def test_a_measure_that_is_no_share_has_an_interval_of_its_own():
    """Wilson's interval is for shares alone: one seed has none, and equal values have one without width."""
    with pytest.raises(ValueError, match="needs two seeds and two images; given: 1 and 9"):
        crossed_mean_interval(summarise_seeds(np.full((1, 9), -3.0)), is_share=False)
    assert crossed_mean_interval(summarise_seeds(np.full((2, 9), -3.0)), is_share=False) == (-3.0, -3.0)
