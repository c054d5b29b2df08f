"""Bounds and tests: definitions and scipy first, then coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from rushkit import statistics
from rushkit.errors import UsageError
from rushkit.statistics import (
    betting_lower,
    betting_upper,
    binomial_test,
    clopper_pearson_interval,
    clopper_pearson_lower,
    clopper_pearson_upper,
    empirical_bernstein_lower,
    hoeffding_lower,
    log_e_process,
    mcnemar,
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
    np.testing.assert_allclose(clopper_pearson_lower(n, n, 0.01), 0.01 ** (1 / n), rtol=1e-15)
    np.testing.assert_allclose(clopper_pearson_upper(0, n, 0.01), 1 - 0.01 ** (1 / n), rtol=1e-10)
    low, high = wilson_interval(np.array([0, 5]), 5)
    assert (low[0], high[1]) == (0, 1)
    assert wilson_interval(0, 0) == (0, 1)


def test_bounds_rise_with_the_successes():
    k = np.arange(501)
    for bound in (clopper_pearson_lower, clopper_pearson_upper, betting_lower, betting_upper):
        assert np.all(np.diff(bound(k, 500, 0.01)) > 0)


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


def test_anytime_validity_costs_width():
    k = np.arange(0, 1001, 10)
    assert np.all(betting_lower(k, 1000, 0.01) <= clopper_pearson_lower(k, 1000, 0.01))
    assert np.all(betting_upper(k, 1000, 0.01) >= clopper_pearson_upper(k, 1000, 0.01))


@pytest.mark.parametrize("p", [0.03, 0.5, 0.97])
@pytest.mark.parametrize("bound", [clopper_pearson_lower, betting_lower])
def test_lower_bounds_on_counts_are_wrong_at_most_as_often_as_alpha_says(bound, p):
    trials, alpha = 20_000, 0.05
    k = np.random.default_rng(1).binomial(200, p, trials)
    assert (bound(k, 200, alpha) > p).sum() <= false_alarm_limit(trials, alpha)


@pytest.mark.parametrize("p", [0.03, 0.5, 0.97])
def test_two_sided_intervals_are_wrong_at_most_as_often_as_alpha_says(p):
    trials, alpha = 20_000, 0.05
    k = np.random.default_rng(2).binomial(200, p, trials)
    low, high = clopper_pearson_interval(k, 200, alpha)
    assert ((low > p) | (high < p)).sum() <= false_alarm_limit(trials, alpha)


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


@pytest.mark.parametrize(
    "name", ["clopper_pearson_lower", "clopper_pearson_upper", "clopper_pearson_interval", "betting_lower"]
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
    ],
)
def test_every_other_bad_argument_is_refused(call):
    with pytest.raises(UsageError):
        call()


def test_arguments_broadcast_and_numbers_give_numbers():
    k, n = np.array([[1], [2]]), np.array([5, 6, 7])
    for function in (clopper_pearson_lower, clopper_pearson_upper, betting_lower, betting_upper):
        table = function(k, n, 0.1)
        assert (table.shape, table.dtype) == ((2, 3), np.float64)
        assert table[1, 2] == function(2, 7, 0.1)
        assert isinstance(function(2, 7, 0.1), float)
    assert binomial_test(k, n).shape == (2, 3)
    assert log_e_process(k, n, 0.3).shape == (2, 3)
