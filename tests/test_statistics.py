import numpy as np
import pytest
from scipy.stats import binomtest

from pbl.statistics import (
    binomial_tail,
    extrapolate_doubling,
    hanley_mcneil_interval,
    newcombe_interval,
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


def test_one_doubling_more_is_foretold():
    """Errors of 8% and 4% let expect 2%; where the halves are alike nothing is gained; few images leave it open."""
    random = np.random.default_rng(0)
    hard = random.random(20_000)
    half, full = (np.stack([hard > share] * 3) for share in (0.08, 0.04))
    found = extrapolate_doubling(half, full)
    assert found.expected == pytest.approx(0.98, abs=2e-3) and found.low < found.expected < found.high
    assert found.gain_low > 0.01
    assert extrapolate_doubling(full, full).gain_high == pytest.approx(0)
    few = extrapolate_doubling(half[:, :50], full[:, :50])
    assert few.gain_low <= 0 < few.gain_high
    for errors in ((0, 1), (2, 2), (3, 2), (8, 12), (0, 0)):  # of 189, before and after the doubling
        found = extrapolate_doubling(*(np.arange(189)[None] >= count for count in errors))
        now = 1 - errors[1] / 189
        assert now <= found.expected <= 1 and found.low > 0.8 and 0 <= found.gain_low <= found.gain_high < 0.05
