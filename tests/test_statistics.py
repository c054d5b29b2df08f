"""Bounds and tests: definitions and scipy first, then coverage, by exact summation or by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

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
    mean_ratio_interval,
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


class TestMeanRatios:
    """The interval for a mean of ratios over the same images, which the mean corruption error is."""

    def test_of_a_fixed_denominator_it_is_students_on_the_logarithm(self):
        errors = np.random.default_rng(0).uniform(size=(40, 1))
        low, high = mean_ratio_interval(errors, np.ones((40, 1)))
        spread = stats.t.ppf(0.975, 39) * stats.sem(errors[:, 0]) / errors.mean()
        assert (math.log(low), math.log(high)) == pytest.approx(
            (math.log(errors.mean()) - spread, math.log(errors.mean()) + spread)
        )

    def test_of_equal_columns_it_has_no_width(self):
        errors = np.random.default_rng(0).integers(0, 6, (30, 4)) / 5
        assert mean_ratio_interval(errors, errors) == (1.0, 1.0)
        assert mean_ratio_interval(errors / 2, errors) == pytest.approx((0.5, 0.5))

    def test_where_no_image_is_wrong_the_upper_end_is_wilsons(self):
        low, high = mean_ratio_interval(np.zeros((50, 2)), np.array([[0.5, 0.25]] * 50))
        assert (low, high) == pytest.approx((0.0, 3 * float(wilson_interval(0, 50)[1])))

    @pytest.mark.parametrize("shift", [-2.0, 0.0])
    def test_it_covers_the_ratio_of_two_models_that_share_images_and_kinds(self, shift):
        """Outcomes of 200 images at five strengths of three kinds: an image that is hard is so for both models."""
        rng, kinds, trials, missed = np.random.default_rng(1), np.array([-1.0, 0.0, 1.0]), 2000, 0
        # The truth: E over a normal difficulty, by quadrature.
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        chances = [1 / (1 + np.exp(-(2 * nodes[:, None] + kinds + offset))) for offset in (shift, 0.0)]
        errors = [weights @ chance / weights.sum() for chance in chances]
        truth = (errors[0] / errors[1]).mean()
        for _ in range(trials):
            hard = 2 * rng.normal(size=(200, 1)) + kinds
            wrong = [rng.binomial(5, 1 / (1 + np.exp(-hard - offset))) / 5 for offset in (shift, 0.0)]
            low, high = mean_ratio_interval(*wrong)
            missed += not low <= truth <= high
        # It misses in 5 % of the trials, or in 1 % more or fewer, as an approximation for many images may. The seed is
        # fixed; other seeds raise a false alarm at each end once in a million.
        fewest = int(stats.binom.ppf(1e-6, trials, 0.04))
        assert fewest <= missed <= false_alarm_limit(trials, 0.06)

    @pytest.mark.parametrize(
        "numerators, denominators, confidence",
        [
            ([[0.5]], [[0.5]], 0.95),
            ([[0.5], [1.0]], [[0.5], [1.5]], 0.95),
            ([[0.5], [1.0]], [[0.0], [0.0]], 0.95),
            ([[0.5], [math.nan]], [[0.5], [0.5]], 0.95),
            ([[0.5, 0.5], [1.0, 1.0]], [[0.5], [0.5]], 0.95),
            ([[0.5], [1.0]], [[0.5], [0.5]], 1.0),
        ],
    )
    def test_what_are_no_errors_is_refused(self, numerators, denominators, confidence):
        with pytest.raises(UsageError):
            mean_ratio_interval(numerators, denominators, confidence)


def test_holm_corrects_for_the_number_of_tests():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.9]) == [1.0, 1.0]
    assert statistics.holm([0.02]) == [0.02]
    assert statistics.holm([]) == []
    with pytest.raises(UsageError, match=r"lie in \[0, 1\]"):
        statistics.holm([float("nan")])
