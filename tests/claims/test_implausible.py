"""The exact tests of logged votes: how often they raise a false alarm, by simulation, and what they find."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from rushkit.claims.implausible import apart_from_stopped, equal_counts_p_value, means_apart
from rushkit.sequential_test import SequentialTest

REPEATS = 1000
LEVEL = 0.05


def alarms_allowed(level: float) -> int:
    """More false alarms than this come by chance with probability 1e-6 at most."""
    return int(binom.isf(1e-6, REPEATS, level))


@pytest.mark.parametrize("count", [1, 5, 10, 19])
def test_equal_counts_of_honest_images_are_rarely_called_too_common(count):
    rng = np.random.default_rng(count)
    # The p at which the count is likeliest, for all images: the worst there is.
    drawn = rng.binomial(20, count / 20, size=(REPEATS, 30))
    alarms = sum(equal_counts_p_value(row.tolist(), 20) < LEVEL for row in drawn)
    assert alarms <= alarms_allowed(LEVEL)


def test_images_of_every_kind_together_raise_no_alarm():
    rng = np.random.default_rng(0)
    p = rng.choice([0.0, 0.3, 0.97, 0.999, 1.0], size=(REPEATS, 40))
    alarms = sum(equal_counts_p_value(row.tolist(), 100) < LEVEL for row in rng.binomial(100, p))
    assert alarms <= alarms_allowed(LEVEL)


def test_counts_of_all_draws_or_of_none_are_normal_however_many():
    assert equal_counts_p_value([1000] * 500, 1000) == 1.0
    assert equal_counts_p_value([0] * 500, 1000) == 1.0


@pytest.mark.parametrize("count", [999, 990, 900, 500, 1])
def test_one_count_in_all_images_is_found(count):
    assert equal_counts_p_value([count] * 40, 1000) < 1e-6


def test_the_p_value_is_that_of_the_written_out_sum():
    # Three of four images with 2 of 4 votes: b = P(Binomial(4, 1/2) = 2) = 6/16, and 3 counts share the level.
    b = 6 / 16
    assert equal_counts_p_value([2, 2, 2, 4], 4) == pytest.approx(3 * (4 * b**3 * (1 - b) + b**4))


def test_votes_of_stopped_tests_are_rarely_called_apart_from_honest_draws():
    rng = np.random.default_rng(1)
    p = rng.choice([0.5, 0.7, 0.9, 1.0], size=REPEATS)
    test = SequentialTest(np.full(REPEATS, 0.6), 0.001)
    votes, trials = np.zeros(REPEATS, dtype=np.int64), np.zeros(REPEATS, dtype=np.int64)
    for _ in range(30):
        going = test.undecided
        gained = np.where(going, rng.binomial(10, p), 0)
        votes, trials = votes + gained, trials + 10 * going
        test.update(gained, 10 * going.astype(np.int64))
    fresh = rng.binomial(100, p)
    assert apart_from_stopped(votes, trials, fresh, 100, LEVEL).sum() <= alarms_allowed(LEVEL)


@pytest.mark.parametrize(("votes", "found"), [(200, True), (100, False), (0, True)])
def test_votes_of_another_probability_are_found(votes, found):
    named = apart_from_stopped(np.array([votes]), np.array([200]), np.array([250]), 500, 1e-3)
    assert named.tolist() == [found]


def test_means_of_honest_confidences_are_rarely_called_apart():
    rng = np.random.default_rng(2)
    logged, fresh = (rng.beta(0.5, 0.2, size=(REPEATS, size)) for size in (50, 80))
    pairs = ((values.sum(axis=1), (values**2).sum(axis=1), values.shape[1]) for values in (logged, fresh))
    assert means_apart(*pairs, LEVEL).sum() <= alarms_allowed(LEVEL)


def test_another_mean_is_found():
    one = np.ones(1)
    assert means_apart((0.99 * 500 * one, 0.981 * 500 * one, 500), (0.5 * 500 * one, 0.26 * 500 * one, 500), 1e-3).all()
