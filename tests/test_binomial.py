"""Where binomial tails and likelihoods cross a level: against arithmetic with fifty digits, from the safe side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rushkit.binomial import Pair, divergence, divergence_root, log_mixture, tail_root
from rushkit.statistics import randomized_lower, randomized_upper

mpmath = pytest.importorskip("mpmath")
mpmath.mp.dps = 50

SIZES = [2, 10, 100, 1000, 10**5, 10**8, 10**15]


def counts_of(n):
    """Numbers of successes between none and all."""
    return sorted({k for k in (1, 2, n // 10, n // 2, n * 3 // 5, n * 99 // 100, n - 5, n - 1) if 0 < k < n})


def arrays(*values):
    return [np.array([float(value)]) for value in values]


def exact(pair):
    """The probability and its complement, from the one of the two that was carried with more digits."""
    p, c = mpmath.mpf(float(pair.p[0])), mpmath.mpf(float(pair.c[0]))
    return (p, 1 - p) if p < 0.5 else (1 - c, c)


def log_equal(k, n, p, c):
    """log P(X = k)."""
    ways = mpmath.loggamma(n + 1) - mpmath.loggamma(k + 1) - mpmath.loggamma(n - k + 1)
    return ways + k * mpmath.log(p) + (n - k) * mpmath.log(c)


def log_tail(k, n, u, p, c):
    """log(P(X > k) + u P(X = k)), from the ratios of consecutive terms; None if that takes too many of them."""
    term, total, tiny = mpmath.mpf(1), mpmath.mpf(0), mpmath.mpf(10) ** -30
    for j in range(k, min(n, k + 1500)):
        term *= mpmath.mpf(n - j) / (j + 1) * p / c
        total += term
        if term < tiny * (total + u):
            break
    else:
        if n > k + 1500:
            return None
    return log_equal(k, n, p, c) + mpmath.log(total + mpmath.mpf(u))


@pytest.mark.parametrize("n", SIZES)
def test_the_divergence_is_the_logarithm_of_a_ratio_of_likelihoods(n):
    for k in [0, *counts_of(n), n]:
        for p in (1e-300, 1e-9, 0.3, 0.5, 0.500001, 0.99, 1 - 1e-12):
            ratio = (k * mpmath.log(mpmath.mpf(k) / n / mpmath.mpf(p)) if k else 0) + (
                (n - k) * mpmath.log(mpmath.mpf(n - k) / n / (1 - mpmath.mpf(p))) if k < n else 0
            )
            found = divergence(*arrays(k, n), Pair(*arrays(p, 1 - p)))[0]
            # 1 − p is rounded, and n·p, whatever comes after.
            slack = 4e-16 * n * abs(k / n - p) + 1e-15
            assert found == pytest.approx(float(ratio), rel=2e-15, abs=slack)


@pytest.mark.parametrize("n", [0, 1, 2, 15, 16, 17, 31, 32, 100, 10**6, 10**15])
def test_the_mixture_is_that_of_gamma_functions(n):
    half = mpmath.mpf("0.5")
    for k in sorted({0, min(n, 1), n // 3, n // 2, n}):
        mixed = (
            mpmath.loggamma(k + half) + mpmath.loggamma(n - k + half) - mpmath.loggamma(n + 1) - mpmath.log(mpmath.pi)
        )
        best = (k * mpmath.log(mpmath.mpf(k) / n) if k else 0) + (
            (n - k) * mpmath.log(mpmath.mpf(n - k) / n) if k < n else 0
        )
        assert log_mixture(*arrays(k, n))[0] == pytest.approx(float(mixed - best), abs=1e-14)


@pytest.mark.parametrize("n", SIZES)
def test_the_root_of_the_divergence_is_next_to_the_true_one_and_never_above(n):
    for k in [*counts_of(n), n]:
        for level in (1e-6, 0.7, 6.9, 700.0):
            at = divergence_root(*arrays(k, n, level))
            p, c = exact(at)
            if p == 0:
                assert k / n * math.exp(-level / k) < 1e-307
                continue
            true = (k * mpmath.log(mpmath.mpf(k) / n / p)) + ((n - k) * mpmath.log((n - k) / c / n) if k < n else 0)
            assert true >= level
            # What is given away: some of the level, and a few units of the last place of p or 1 − p.
            slope = float((k - n * p) / max(p, c))
            assert float(true - level) <= 3e-14 + 1e-14 * level + 4e-15 * slope


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("u", [1.0, 0.3, 1e-3, 2.0**-53])
def test_the_root_of_the_tail_is_next_to_the_true_one_and_never_above(n, u):
    known = 0
    for k in {1, max(1, n * 3 // 5), max(1, n - 5), n - 1}:
        for alpha in (0.5, 0.001, 1e-100, 1e-240, 2.3e-308):
            at = tail_root(*arrays(k, n, u, alpha))
            if at.p[0] == 0.0:
                assert k / n * alpha < 1e-307
                continue
            true = log_tail(k, n, u, *exact(at))
            if true is None:
                continue
            known += 1
            assert true <= mpmath.log(alpha)
            if alpha > 1e-250:
                # What is given away is that much of alpha, far less than a hundredth of a percent of it at 10¹⁵.
                assert true >= mpmath.log(alpha) - 1e-13 * math.sqrt(n) - 1e-14 * abs(math.log(alpha))
    assert known >= 4


@pytest.mark.parametrize("n", [1, 2, 10, 1000, 10**8, 2**53])
def test_bounds_without_a_success_or_a_failure_are_never_on_the_wrong_side(n):
    for alpha in (1e-300, 1e-9, 0.001, 0.3, 0.999):
        for u in (1.0, 0.9985, 0.5, 0.2999999, 0.04, 1e-3 * (1 - 1e-10), 1e-12, 1e-305):
            exact_alpha, exact_u = mpmath.mpf(alpha), mpmath.mpf(u)
            every = min(exact_alpha / exact_u, mpmath.sqrt(exact_alpha)) ** (mpmath.mpf(1) / n)
            # 50 digits do not hold 1 − alpha for an alpha of 1e-300.
            beyond = max(exact_alpha - exact_u, mpmath.mpf(0)) / (1 - min(exact_u, exact_alpha))
            none = -mpmath.expm1(mpmath.log1p(-beyond) / n)
            for k, true in ((0, none), (n, every)):
                low, high = randomized_lower(k, n, u, alpha), randomized_upper(n - k, n, u, alpha)
                assert 0 <= low <= true
                assert 1 >= high >= 1 - true
                assert low == pytest.approx(float(true), rel=1e-14 + 2e-15 * abs(math.log(alpha)) / n, abs=1e-307)
                assert high == pytest.approx(float(1 - true), rel=1e-13, abs=2e-15)


def test_a_pair_keeps_the_digits_of_the_smaller():
    at = Pair.of_log(np.array([-1e-20, -50.0])).rounded_down()
    np.testing.assert_allclose(at.c, [1e-20, 1.0], rtol=4e-15)
    np.testing.assert_allclose(at.p, [1.0, math.exp(-50)], rtol=1e-13)
    assert at.p[0] < 1
    moved = at.moved(np.array([5e-21, 1e-30]))
    np.testing.assert_allclose(moved.c, [5e-21, 1.0], rtol=1e-12)
    np.testing.assert_allclose(moved.complement.c, moved.p)
