"""Bounds and tests: definitions and scipy first, then coverage, by exact summation or by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from scipy.special import xlog1py, xlogy

from rushkit import statistics
from rushkit.errors import UsageError
from rushkit.statistics import (
    betting_lower,
    betting_lower_above,
    betting_upper,
    binomial_test,
    clopper_pearson_interval,
    clopper_pearson_lower,
    clopper_pearson_upper,
    empirical_bernstein_lower,
    hoeffding_lower,
    log_e_above,
    log_e_below,
    log_e_process,
    mcnemar,
    randomized_lower,
    randomized_upper,
    wilson_interval,
)

COUNTS = [(k, n) for n in (1, 2, 10, 64, 1000, 100_000) for k in sorted({0, 1, n // 3, n // 2, n - 1, n}) if k <= n]


def false_alarm_limit(trials, alpha, chance=1e-6):
    """Most wrong answers that a correct procedure gives but once in a million runs of the test."""
    return int(stats.binom.ppf(1 - chance, trials, alpha))


def root(function):
    """Where a function crosses zero between 0 and 1, as exactly as float64 allows."""
    return optimize.brentq(function, 0, 1, xtol=1e-300, rtol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_clopper_pearson_solves_its_definition(alpha):
    for k, n in COUNTS:
        if k > 0:
            expected = root(lambda p, k=k, n=n: stats.binom.sf(k - 1, n, p) - alpha)
            assert clopper_pearson_lower(k, n, alpha) == pytest.approx(expected, abs=1e-12)
        if k < n:
            expected = root(lambda p, k=k, n=n: stats.binom.cdf(k, n, p) - alpha)
            assert clopper_pearson_upper(k, n, alpha) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.5])
def test_clopper_pearson_agrees_with_scipys_exact_interval(alpha):
    for k, n in COUNTS:
        expected = stats.binomtest(k, n).proportion_ci(1 - alpha, method="exact")
        low, high = clopper_pearson_interval(k, n, alpha)
        # scipy stops its root finding at 2e-12.
        assert low == pytest.approx(expected.low, abs=4e-12)
        assert high == pytest.approx(expected.high, abs=4e-12)


def test_clopper_pearson_golden_value():
    assert clopper_pearson_lower(100_000, 100_000, 0.001) == pytest.approx(0.9999309248330094, abs=1e-15)


def test_bounds_are_exact_where_nothing_or_everything_succeeds():
    n = np.array([1, 7, 100_000])
    for lower, upper in ((clopper_pearson_lower, clopper_pearson_upper), (betting_lower, betting_upper)):
        assert np.all(lower(0, n, 0.01) == 0)
        assert np.all(upper(n, n, 0.01) == 1)
        assert lower(0, 0, 0.01) == 0
        assert upper(0, 0, 0.01) == 1
    np.testing.assert_allclose(clopper_pearson_lower(n, n, 0.01), 0.01 ** (1 / n), rtol=1e-14)
    np.testing.assert_allclose(clopper_pearson_upper(0, n, 0.01), 1 - 0.01 ** (1 / n), rtol=1e-10)
    low, high = wilson_interval(np.array([0, 5]), 5)
    assert (low[0], high[1]) == (0, 1)
    assert wilson_interval(0, 0) == (0, 1)


def test_bounds_rise_with_the_successes():
    k = np.arange(501)
    for bound in (clopper_pearson_lower, clopper_pearson_upper, betting_lower, betting_upper):
        assert np.all(np.diff(bound(k, 500, 0.01)) > 0)


U = np.array([1.0, 0.999, 0.7, 0.3, 0.011, 0.01, 0.002, 1e-9])


class TestRandomized:
    def test_it_solves_its_definition(self):
        for k, n in [(0, 1), (0, 7), (1, 2), (3, 10), (33, 64), (999, 1000), (1, 1000), (600, 1000)]:
            for alpha in (0.001, 0.05, 0.5):
                for u in (1.0, 0.7, 0.04, 1e-6):
                    if k == 0 and u >= alpha:
                        assert randomized_lower(k, n, u, alpha) == 0
                        continue
                    expected = root(
                        lambda p, k=k, n=n, u=u, alpha=alpha: (
                            stats.binom.sf(k, n, p) + u * stats.binom.pmf(k, n, p) - alpha
                        )
                    )
                    assert randomized_lower(k, n, u, alpha) == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize("n", [1, 10, 1000, 10**8])
    def test_it_has_a_closed_form_where_nothing_or_everything_succeeds(self, n):
        alpha = 0.01
        for u in U:
            nothing = 0 if u >= alpha else -math.expm1(math.log1p((u - alpha) / (1 - u)) / n)
            assert randomized_lower(0, n, u, alpha) == pytest.approx(nothing, rel=1e-13)
            # From u = sqrt(alpha) down, the bound is what 2n successes prove by Clopper and Pearson.
            everything = min(alpha / u, math.sqrt(alpha))
            assert randomized_lower(n, n, u, alpha) == pytest.approx(everything ** (1 / n), rel=1e-13)
        assert randomized_lower(n, n, 1e-300, alpha) == clopper_pearson_lower(2 * n, 2 * n, alpha)
        assert randomized_lower(0, 0, 0.001, alpha) == 0
        assert randomized_upper(0, 0, 0.001, alpha) == 1

    def test_the_upper_bound_is_the_mirror(self):
        for k, n in [(0, 5), (5, 5), (3, 10), (999, 1000), (1, 1000)]:
            for u in U:
                low, high = randomized_lower(n - k, n, u, 0.01), randomized_upper(k, n, u, 0.01)
                assert high == pytest.approx(1 - low, abs=3e-16)
                if 0 < k < n:
                    expected = root(
                        lambda p, k=k, n=n, u=u: stats.binom.cdf(k - 1, n, p) + u * stats.binom.pmf(k, n, p) - 0.01
                    )
                    assert high == pytest.approx(expected, rel=1e-11)

    @pytest.mark.parametrize("n", [1, 5, 500, 10**8])
    def test_it_rises_with_the_successes_and_alpha_and_falls_with_u(self, n):
        k = np.unique(np.linspace(0, n, 21).astype(int))
        alpha = np.array([1e-300, 1e-249, 1e-9, 0.001, 0.05, 0.5, 0.999])
        for bound, sign in ((randomized_lower, 1), (randomized_upper, -1)):
            table = sign * bound(k[:, None, None], n, np.linspace(0.001, 1, 12)[:, None], alpha)
            assert np.all(sign * np.diff(table, axis=0) >= 0)
            assert np.all(np.diff(table, axis=1) <= 0)
            assert np.all(np.diff(table, axis=2) >= 0)

    def test_without_chance_it_is_clopper_and_pearsons_and_never_wider(self):
        k = np.arange(201)
        for alpha in (1e-300, 0.001, 0.3):
            np.testing.assert_array_equal(randomized_lower(k, 200, 1.0, alpha), clopper_pearson_lower(k, 200, alpha))
            np.testing.assert_array_equal(randomized_upper(k, 200, 1.0, alpha), clopper_pearson_upper(k, 200, alpha))
            assert np.all(randomized_lower(k, 200, 0.4, alpha) >= clopper_pearson_lower(k, 200, alpha))
            if alpha > 1e-250:
                # Its other end is the bound of one success more.
                highest, more = randomized_lower(k[1:-1], 200, 1e-14, alpha), clopper_pearson_lower(k[2:], 200, alpha)
                np.testing.assert_allclose(highest, more, rtol=1e-11)

    @pytest.mark.parametrize("u", [0.0, -0.1, 1.0000001, math.nan, math.inf])
    def test_what_is_no_uniform_draw_is_refused(self, u):
        for bound in (randomized_lower, randomized_upper):
            with pytest.raises(UsageError, match="uniform draw"):
                bound(np.array([3, 4]), 10, np.array([0.5, u]), 0.01)


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilson_agrees_with_scipy(confidence):
    for k, n in COUNTS:
        expected = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
        low, high = wilson_interval(k, n, confidence)
        assert low == pytest.approx(expected.low, rel=1e-12, abs=1e-15)
        assert high == pytest.approx(expected.high, rel=1e-12)


def test_binomial_test_agrees_with_scipy():
    for k, n in COUNTS:
        assert binomial_test(k, n) == pytest.approx(stats.binomtest(k, n).pvalue, rel=1e-12, abs=1e-300)
    assert binomial_test(0, 0) == 1


def test_binomial_test_is_exact_in_rational_arithmetic():
    for k in range(31):
        tail = sum(math.comb(30, i) for i in range(min(k, 30 - k) + 1))
        assert binomial_test(k, 30) == pytest.approx(min(1.0, 2 * tail / 2**30), rel=1e-13)


def test_mcnemar_is_the_sign_test_of_the_disagreements():
    assert mcnemar(3, 10) == pytest.approx(stats.binomtest(3, 13).pvalue, rel=1e-12)
    assert mcnemar(0, 0) == 1
    np.testing.assert_array_equal(mcnemar([3, 10], [10, 3]), [mcnemar(3, 10)] * 2)


def test_hoeffding_and_bernstein_follow_their_formulas():
    assert hoeffding_lower(0.9, 1000, 0.001) == pytest.approx(0.9 - math.sqrt(math.log(1000) / 2000), abs=1e-15)
    slack = math.sqrt(2 * 0.01 * math.log(2000) / 1000) + 7 * math.log(2000) / (3 * 999)
    assert empirical_bernstein_lower(0.9, 0.01, 1000, 0.001) == pytest.approx(0.9 - slack, abs=1e-15)
    assert hoeffding_lower(0.01, 10, 0.001) == 0
    assert empirical_bernstein_lower(0.01, 0.0, 10, 0.001) == 0


def test_bernstein_is_the_tighter_bound_where_values_hardly_vary():
    assert empirical_bernstein_lower(0.9, 0.001, 10_000, 0.001) > hoeffding_lower(0.9, 10_000, 0.001)
    assert empirical_bernstein_lower(0.5, 0.25, 10_000, 0.001) < hoeffding_lower(0.5, 10_000, 0.001)


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


def chances_of_error(bound, n, alpha, p, holds):
    """(P,) the chance that a bound misses each p, by summation over the counts, and over the uniform draws as well.

    A randomized bound holds from some u on: that u is its chance of an error, found by halving.
    """
    k = np.arange(n + 1)
    chance = stats.binom.pmf(k, n, p[:, None])
    if bound not in (randomized_lower, randomized_upper):
        return (chance * ~holds(bound(k, n, alpha), p[:, None])).sum(axis=1)
    never, always = (~holds(bound(k, n, 1.0, alpha), p[:, None]), holds(bound(k, n, 1e-300, alpha), p[:, None]))
    fails = never.astype(float)
    rows, counts = np.nonzero(~never & ~always)
    low, high = np.zeros(len(rows)), np.ones(len(rows))
    for _ in range(60):
        middle = (low + high) / 2
        held = holds(bound(counts, n, middle, alpha), p[rows])
        low, high = np.where(held, low, middle), np.where(held, middle, high)
    fails[rows, counts] = high
    return (chance * fails).sum(axis=1)


@pytest.mark.parametrize("alpha", [1e-9, 0.001, 0.05, 0.5])
@pytest.mark.parametrize("n", [1, 2, 10, 100, 500])
@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (clopper_pearson_lower, clopper_pearson_upper),
        (betting_lower, betting_upper),
        (randomized_lower, randomized_upper),
    ],
)
def test_bounds_on_counts_are_wrong_at_most_as_often_as_alpha_says_by_exact_summation(lower, upper, n, alpha):
    p = np.array([1e-5, 0.03, 0.25, 0.5, 0.5 + 1e-6, 0.9, 0.997, 1 - 1e-6])
    wrong = chances_of_error(lower, n, alpha, p, np.less_equal)
    missed = chances_of_error(upper, n, alpha, p, np.greater_equal)
    # Probabilities of counts are right to 1e-13 or so of themselves.
    assert np.all(np.maximum(wrong, missed) <= alpha * (1 + 1e-10))
    if lower is randomized_lower:
        furthest = alpha ** (1 / (2 * n))
        np.testing.assert_allclose(wrong, np.where(p > furthest, 0.0, alpha), rtol=1e-9)
        np.testing.assert_allclose(missed, np.where(1 - p > furthest, 0.0, alpha), rtol=1e-9)


@pytest.mark.parametrize("p", [0.03, 0.5, 0.97])
def test_two_sided_intervals_are_wrong_at_most_as_often_as_alpha_says_by_exact_summation(p):
    k = np.arange(201)
    low, high = clopper_pearson_interval(k, 200, 0.05)
    assert stats.binom.pmf(k, 200, p)[(low > p) | (high < p)].sum() <= 0.05


@pytest.mark.parametrize("shape", [(0.5, 0.5), (8, 1), (50, 2)])
@pytest.mark.parametrize("n", [20, 500])
def test_lower_bounds_on_means_are_wrong_at_most_as_often_as_alpha_says(shape, n):
    trials, alpha = 4000, 0.05
    values = np.random.default_rng(3).beta(*shape, (trials, n))
    mean, truth = values.mean(1), shape[0] / sum(shape)
    limit = false_alarm_limit(trials, alpha)
    assert (hoeffding_lower(mean, n, alpha) > truth).sum() <= limit
    assert (empirical_bernstein_lower(mean, values.var(1, ddof=1), n, alpha) > truth).sum() <= limit


@pytest.mark.parametrize("p", [0.5, 0.9])
def test_confidence_sequence_holds_at_all_times_and_peeking_at_clopper_pearson_does_not(p):
    trials, alpha, n = 2000, 0.05, np.arange(1, 1001)
    k = (np.random.default_rng(4).random((trials, len(n))) < p).cumsum(1)
    ever_wrong = (log_e_process(k, n, p) >= -math.log(alpha)).any(1)
    assert ever_wrong.sum() <= false_alarm_limit(trials, alpha)
    # The trap that this is there to avoid.
    peeked = (stats.binom.sf(k - 1, n, p) < alpha).any(1)
    assert peeked.sum() > 2 * false_alarm_limit(trials, alpha)


def bounds_of(k, n, alpha):
    """Every bound on counts, for two uniform draws."""
    u = 0.3
    return {
        "lower": [
            clopper_pearson_lower(k, n, alpha), betting_lower(k, n, alpha), randomized_lower(k, n, u, alpha)
        ],
        "upper": [
            clopper_pearson_upper(k, n, alpha), betting_upper(k, n, alpha), randomized_upper(k, n, u, alpha)
        ],
    }  # fmt: skip


@pytest.mark.parametrize("n", [1, 100, 10**8, 10**15, 2**53])
def test_no_bound_says_nothing_or_everything_where_counts_do_not(n):
    k = np.unique(np.array([0, 1, n // 2, n - 1, n]))
    for alpha in (2.3e-308, 1e-300, 0.001 / 1e6, 0.001, 0.5, 0.999):
        for low in bounds_of(k, n, alpha)["lower"]:
            assert np.all((low >= 0) & (low < 1))
            assert np.all(np.diff(low) >= 0)
        for high in bounds_of(k, n, alpha)["upper"]:
            assert np.all((high > 0) & (high <= 1))
            assert np.all(np.diff(high) >= 0)


def test_no_draws_and_no_images_bound_nothing():
    assert all(low == 0 for low in bounds_of(0, 0, 0.01)["lower"])
    assert all(high == 1 for high in bounds_of(0, 0, 0.01)["upper"])
    none = np.zeros(0)
    for bounds in bounds_of(none, none, none + 0.01).values():
        assert all(bound.shape == (0,) for bound in bounds)


@pytest.mark.parametrize("alpha", [1e-320, 5e-324, 1e-310])
def test_an_alpha_that_float64_cannot_hold_is_refused(alpha):
    for bound in (clopper_pearson_lower, clopper_pearson_upper, betting_lower, betting_upper):
        with pytest.raises(UsageError, match="smaller than float64") as error:
            bound(3, 5, np.array([0.1, alpha]))
        assert "2.2e-308" in error.value.hint


def test_counts_that_float64_cannot_hold_are_refused():
    with pytest.raises(UsageError, match="not counts"):
        betting_lower(3, 2.0**54, 0.1)


@pytest.mark.parametrize(
    "name",
    ["clopper_pearson_lower", "clopper_pearson_upper", "clopper_pearson_interval", "betting_lower", "betting_upper"],
)
@pytest.mark.parametrize(
    "arguments",
    [(5, 4, 0.1), (-1, 4, 0.1), (1.5, 4, 0.1), (1, math.nan, 0.1), (1, 2, 0.0), (1, 2, 1.0), (1, 2, math.nan)],
)
def test_bounds_refuse_what_are_no_counts_and_no_alpha(name, arguments):
    with pytest.raises(UsageError):
        getattr(statistics, name)(*arguments)


@pytest.mark.parametrize(
    "call",
    [
        lambda: wilson_interval(1, 2, 1.0),
        lambda: hoeffding_lower(1.2, 10, 0.1),
        lambda: hoeffding_lower(0.5, 0, 0.1),
        lambda: empirical_bernstein_lower(0.5, -0.1, 10, 0.1),
        lambda: empirical_bernstein_lower(0.5, 0.1, 1, 0.1),
        lambda: binomial_test(3, 2),
        lambda: mcnemar(-1, 3),
        lambda: log_e_process(1, 2, math.nan),
        lambda: log_e_above(1, 2, math.nan),
        lambda: log_e_above(1, 2, 0.5, -0.1),
        lambda: log_e_below(1, 2, 1.1),
        lambda: log_e_below(3, 2, 0.5),
        lambda: betting_lower_above(1, 2, 0.0, 0.5),
        lambda: betting_lower_above(1, 2, 0.01, math.nan),
    ],
)
def test_every_other_bad_argument_is_refused(call):
    with pytest.raises(UsageError):
        call()


def test_arguments_broadcast_and_numbers_give_numbers():
    k, n = np.array([[1], [2]]), np.array([5, 6, 7])
    alphas = np.array([[0.1], [0.2]])
    for function in (clopper_pearson_lower, clopper_pearson_upper, betting_lower, betting_upper):
        np.testing.assert_array_equal(function(2, n, alphas)[1], function(2, n, 0.2))
        table = function(k, n, 0.1)
        assert (table.shape, table.dtype) == ((2, 3), np.float64)
        assert table[1, 2] == function(2, 7, 0.1)
        assert isinstance(function(2, 7, 0.1), float)
    assert binomial_test(k, n).shape == (2, 3)
    assert log_e_process(k, n, 0.3).shape == (2, 3)
