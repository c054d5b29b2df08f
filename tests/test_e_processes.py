"""E-processes of both sides and of one, and the ends of their confidence sequences: definitions, then the ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import xlog1py, xlogy

from rushkit.statistics import (
    betting_lower,
    betting_lower_above,
    betting_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
    log_e_above,
    log_e_below,
    log_e_process,
)


def wealth_of_the_kt_bettor(draws, p0):
    """The e-process as a game: before each draw the stake follows the Krichevsky-Trofimov estimate of p."""
    wealth, successes = 1.0, 0
    for seen, success in enumerate(draws):
        estimate = (successes + 0.5) / (seen + 1)
        wealth *= estimate / p0 if success else (1 - estimate) / (1 - p0)
        successes += success
    return wealth


@pytest.mark.parametrize("p0", [0.1, 0.5, 0.9])
def test_e_process_is_the_wealth_of_a_bettor(p0):
    draws = np.random.default_rng(0).random(60) < 0.7
    for n in range(61):
        expected = math.log(wealth_of_the_kt_bettor(draws[:n], p0))
        assert log_e_process(draws[:n].sum(), n, p0) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("p0", [0.02, 0.5, 0.95])
def test_e_process_has_expectation_one_under_its_null(p0):
    for n in (1, 5, 40):
        k = np.arange(n + 1)
        assert (stats.binom.pmf(k, n, p0) * np.exp(log_e_process(k, n, p0))).sum() == pytest.approx(1, abs=1e-12)


def test_e_process_is_the_same_for_the_failures():
    k = np.arange(51)
    np.testing.assert_allclose(log_e_process(k, 50, 0.3), log_e_process(50 - k, 50, 0.7), atol=1e-12)


def test_e_process_at_the_ends():
    np.testing.assert_array_equal(log_e_process([1, 9], [10, 10], [0.0, 1.0]), [np.inf, np.inf])
    assert log_e_process(0, 0, 0.5) == pytest.approx(0, abs=1e-12)
    assert math.isfinite(log_e_process(10, 10, 1.0))


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_confidence_sequence_ends_where_the_e_process_reaches_its_bar(alpha):
    for k, n in [(1, 3), (30, 64), (999, 1000), (1000, 1000), (99_990, 100_000)]:

        def excess(p, k=k, n=n):
            return log_e_process(k, n, p) + math.log(alpha)

        low = betting_lower(k, n, alpha)
        assert low == pytest.approx(optimize.brentq(excess, 1e-12, k / n, xtol=1e-15), rel=1e-10)
        assert excess(low) >= 0
        if k < n:
            high = betting_upper(k, n, alpha)
            assert high == pytest.approx(optimize.brentq(excess, k / n, 1 - 1e-12, xtol=1e-15), rel=1e-10)


def bisected(k, n, alpha):
    """The lower end by halving an interval whose lower end is refuted, by the formula of the e-process as it stands."""
    wealth = math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    low, high = 0.0, k / n
    while low < (middle := (low + high) / 2) < high:
        likelihood = k * math.log(middle) + (n - k) * math.log1p(-middle)
        low, high = (middle, high) if wealth - likelihood >= -math.log(alpha) else (low, middle)
    return low


@pytest.mark.parametrize("n", [1, 2, 3, 10, 77, 1000])
def test_confidence_sequence_is_that_of_a_bisection(n):
    k = np.unique(np.linspace(1, n, 25).astype(int))
    for alpha in (1e-100, 1e-9, 0.001, 0.05, 0.5, 0.99):
        expected = np.array([bisected(int(each), n, alpha) for each in k])
        # The logarithms that the bisection subtracts are up to 6000, and right to 1e-12.
        np.testing.assert_allclose(betting_lower(k, n, alpha), expected, rtol=1e-11)
        np.testing.assert_allclose(betting_upper(n - k, n, alpha), 1 - expected, rtol=1e-11)


@pytest.mark.parametrize("n", [1, 7, 1000, 10**6, 10**9, 10**15])
def test_the_end_of_the_confidence_sequence_is_refuted(n):
    k = np.unique(np.concatenate([np.linspace(1, n, 60), [1, 2, n - 1, n]]).astype(np.int64))
    k = k[(k > 0) & (k <= n)]
    for alpha in (1e-300, 1e-20, 0.001, 0.5):
        low, high = betting_lower(k, n, alpha), betting_upper(n - k, n, alpha)
        assert np.all((low >= 0) & (low < k / n))
        assert np.all(log_e_process(k, n, low) >= -math.log(alpha))
        assert np.all((high <= 1) & (high > (n - k) / n))


def mixture_over_likelihood(k, n, p0, low, high):
    """The one-sided process by numerical integration: the mixture Beta(½, ½) between low and high, renormalised."""

    def weight(angle):
        # θ = sin²(angle) spreads Beta(½, ½) evenly.
        p = math.sin(angle) ** 2
        return math.exp(xlogy(k, p) + xlog1py(n - k, -p) - xlogy(k, p0) - xlog1py(n - k, -p0))

    ends = math.asin(math.sqrt(low)), math.asin(math.sqrt(high))
    peak = math.asin(math.sqrt(min(max(k / n, low), high)))
    return integrate.quad(weight, *ends, points=[peak], epsabs=0, epsrel=1e-11, limit=500)[0] / (ends[1] - ends[0])


@pytest.mark.parametrize(("p0", "cut"), [(0.5, 0.5), (0.8413, 0.8413), (0.9, 0.6), (0.1, 0.1)])
def test_one_sided_e_processes_are_their_mixtures_over_the_likelihood(p0, cut):
    for k, n in [(1, 1), (0, 1), (9, 12), (3, 40), (180, 200)]:
        above = mixture_over_likelihood(k, n, p0, cut, 1.0)
        assert log_e_above(k, n, p0, cut) == pytest.approx(math.log(above), rel=1e-8, abs=1e-8)
        below = mixture_over_likelihood(k, n, p0, 0.0, cut)
        assert log_e_below(k, n, p0, cut) == pytest.approx(math.log(below), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize("p0", [0.02, 0.5, 0.95])
def test_one_sided_e_processes_have_expectation_one_at_p0_and_less_beyond(p0):
    for n in (1, 5, 40):
        k = np.arange(n + 1)
        for log_e, beyond in ((log_e_above, p0 * 0.9), (log_e_below, 1 - 0.9 * (1 - p0))):
            e = np.exp(log_e(k, n, p0))
            assert stats.binom.pmf(k, n, p0) @ e == pytest.approx(1, abs=1e-12)
            assert stats.binom.pmf(k, n, beyond) @ e < 1


def test_one_sided_e_processes_swap_with_the_failures_and_share_the_two_sided_mixture():
    k, p0 = np.arange(51), 0.3
    np.testing.assert_allclose(log_e_above(k, 50, p0, 0.2), log_e_below(50 - k, 50, 1 - p0, 0.8), atol=1e-12)
    share = 2 / math.pi * math.asin(math.sqrt(p0))
    both = share * np.exp(log_e_below(k, 50, p0)) + (1 - share) * np.exp(log_e_above(k, 50, p0))
    np.testing.assert_allclose(both, np.exp(log_e_process(k, 50, p0)), rtol=1e-11)


@pytest.mark.parametrize("n", [10**4, 10**6, 10**9])
def test_one_sided_e_processes_are_stable_for_many_draws(n):
    p0 = 0.8413
    spread = math.sqrt(n * p0 * (1 - p0))
    # Up to 400 standard deviations on either side; so far on the wrong one the share is below what float64 holds.
    k = np.clip(np.round(n * p0 + spread * np.array([-400, -40, -8, -1, 0, 1, 8, 40, 400])), 0, n)
    above, below = log_e_above(k, n, p0), log_e_below(k, n, p0)
    assert not np.isnan(above).any()
    assert not np.isnan(below).any()
    assert np.all(np.diff(above[2:]) >= 0)
    assert np.all(np.diff(below[:-2]) <= 0)
    # On its own side a process is the two-sided one over its share of the mixture, on the other it claims nothing.
    share = 2 / math.pi * math.asin(math.sqrt(p0))
    np.testing.assert_allclose(above[-3:], log_e_process(k, n, p0)[-3:] - math.log(1 - share), rtol=1e-9)
    np.testing.assert_allclose(below[:3], log_e_process(k, n, p0)[:3] - math.log(share), rtol=1e-9)
    assert np.all(above[:5] < 0)
    assert np.all(below[4:] < 0)


def test_one_sided_e_processes_at_the_ends():
    assert log_e_above([0, 5], 5, 1.0).tolist() == [-np.inf, -np.inf]
    assert log_e_below([0, 5], 5, 0.0).tolist() == [-np.inf, -np.inf]
    assert log_e_above(3, 5, 0.0) == np.inf
    assert log_e_below(3, 5, 1.0) == np.inf
    for p0 in (0.0, 0.3, 1.0):
        assert log_e_above(0, 0, p0) == (-np.inf if p0 == 1.0 else pytest.approx(0, abs=1e-12))


@pytest.mark.parametrize("cut", [0.5, 0.8])
def test_the_lower_end_is_where_claims_begin(cut):
    for k, n in [(30, 32), (64, 64), (999, 1000), (850, 1000), (100, 1000), (0, 9)]:
        # At (100, 1000) the share above 0.8 is below what float64 holds, and 0 is the bound.
        low = betting_lower_above(k, n, 0.001, cut)
        assert 0 <= low <= k / n
        below, beyond = low * (1 - 1e-9), low + (k / n - low) * 1e-6
        assert low == 0 or log_e_above(k, n, below, cut) >= math.log(1000)
        assert low == 0 or log_e_above(k, n, beyond, cut) < math.log(1000)
    assert betting_lower_above(0, 0, 0.01, cut) == 0
    assert betting_lower_above([3, 30], [[30], [40]], 0.01, cut).shape == (2, 2)


def test_anytime_validity_costs_width():
    k = np.arange(0, 1001, 10)
    assert np.all(betting_lower(k, 1000, 0.01) <= clopper_pearson_lower(k, 1000, 0.01))
    assert np.all(betting_upper(k, 1000, 0.01) >= clopper_pearson_upper(k, 1000, 0.01))
