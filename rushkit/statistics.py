"""Bounds on a probability from counts, and tests on counts, in float64 and without torch.

``successes`` is the number of successes in ``trials`` independent draws. Arguments are numbers or arrays that
broadcast; the result has the broadcast shape (a float64 scalar for numbers). With zero trials the bounds are 0 and 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betainccinv, betaincinv, betaln, ndtri, xlog1py, xlogy

from rushkit.errors import UsageError

Floats = NDArray[np.float64]


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the one-sided lower bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    Raises:
        UsageError: counts are fractional, negative or exceed the trials; alpha lies outside (0, 1).
    """
    k, n = _counts(successes, trials)
    _check_alpha(alpha)
    inside = (k > 0) & (k < n)
    bound = betaincinv(np.where(inside, k, 1.0), np.where(inside, n - k + 1.0, 1.0), alpha)
    # If every draw succeeded, P(X = n) = pⁿ gives the bound in closed form.
    every = np.exp(math.log(alpha) / np.maximum(n, 1.0))
    return _plain(np.where(inside, bound, np.where((k == n) & (n > 0), every, 0.0)))


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the one-sided upper bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    k, n = _counts(successes, trials)
    _check_alpha(alpha)
    inside = (k > 0) & (k < n)
    # One minus the lower bound of the failures would lose the digits of a small bound.
    bound = betainccinv(np.where(inside, k + 1.0, 1.0), np.where(inside, n - k, 1.0), alpha)
    none = -np.expm1(math.log(alpha) / np.maximum(n, 1.0))
    return _plain(np.where(inside, bound, np.where((k == 0) & (n > 0), none, 1.0)))


def clopper_pearson_interval(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Return the two-sided interval for p that is wrong with probability at most alpha: both bounds at alpha/2."""
    _check_alpha(alpha)
    return clopper_pearson_lower(successes, trials, alpha / 2), clopper_pearson_upper(successes, trials, alpha / 2)


def wilson_interval(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the score interval for p (Wilson 1927). Its coverage is approximate, so certificates never use it.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``; confidence lies outside (0, 1).
    """
    k, n = _counts(successes, trials)
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"confidence must lie in (0, 1) (got {confidence})", "for example 0.95")
    z = ndtri(0.5 + confidence / 2.0)
    some = np.maximum(n, 1.0)
    centre = (k + z * z / 2.0) / (some + z * z)
    reach = z / (some + z * z) * np.sqrt(k * (n - k) / some + z * z / 4.0)
    # The closed form yields 0 and 1 only up to rounding.
    low = np.where(k == 0, 0.0, np.maximum(centre - reach, 0.0))
    high = np.where(k == n, 1.0, np.minimum(centre + reach, 1.0))
    return _plain(low), _plain(high)


def hoeffding_lower(mean: ArrayLike, n: ArrayLike, alpha: float) -> Floats:
    """Return a lower bound on the expectation of n values in [0, 1]: mean − √(ln(1/α)/2n) (Hoeffding 1963).

    Raises:
        UsageError: the mean lies outside [0, 1], n is below 1, or alpha lies outside (0, 1).
    """
    centre, count = _mean(mean, n, 1)
    _check_alpha(alpha)
    return _plain(np.maximum(centre - np.sqrt(-math.log(alpha) / (2.0 * count)), 0.0))


def empirical_bernstein_lower(mean: ArrayLike, variance: ArrayLike, n: ArrayLike, alpha: float) -> Floats:
    """Return a lower bound on the expectation of n values in [0, 1] that is tighter the smaller their variance.

    It is mean − √(2V ln(2/α)/n) − 7 ln(2/α)/(3(n − 1)) with the sample variance V (Maurer & Pontil 2009, theorem 4).

    Args:
        mean: Sample mean.
        variance: Unbiased sample variance, divisor n − 1.
        n: Number of values, at least 2.
        alpha: Probability that the bound is wrong.

    Raises:
        UsageError: the mean lies outside [0, 1], the variance is negative or NaN, n is below 2, or alpha lies outside
            (0, 1).
    """
    centre, count = _mean(mean, n, 2)
    _check_alpha(alpha)
    spread = np.asarray(variance, dtype=np.float64)
    if not np.all(spread >= 0.0):
        raise UsageError("a variance must be at least 0", "pass the sample variance with divisor n - 1")
    log_term = math.log(2.0 / alpha)
    slack = np.sqrt(2.0 * spread * log_term / count) + 7.0 * log_term / (3.0 * (count - 1.0))
    return _plain(np.maximum(centre - slack, 0.0))


def binomial_at_least(successes: ArrayLike, trials: ArrayLike, p: float) -> Floats:
    """Return P(X >= successes) for X ~ Binomial(trials, p).

    Raises:
        UsageError: counts are fractional, negative or exceed the trials.
    """
    k, n = _counts(successes, trials)
    return _plain(np.where(k > 0, betainc(np.maximum(k, 1.0), n - k + 1.0, p), 1.0))


def binomial_test(successes: ArrayLike, trials: ArrayLike) -> Floats:
    """Return the exact two-sided p-value under Binomial(trials, 1/2): of all outcomes no likelier than the observed.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``.
    """
    k, n = _counts(successes, trials)
    fewer = np.minimum(k, n - k)
    tail = betainc(n - fewer, fewer + 1.0, 0.5, where=n > fewer, out=np.ones(k.shape))
    return _plain(np.minimum(2.0 * tail, 1.0))


def mcnemar(b: ArrayLike, c: ArrayLike) -> Floats:
    """Return the exact p-value for equal accuracy of two classifiers, from the images on which they disagree.

    Args:
        b: Number of images that only the first classifies correctly.
        c: Number of images that only the second classifies correctly.

    Raises:
        UsageError: counts are negative or fractional.
    """
    return binomial_test(b, np.add(b, c))


def log_e_process(successes: ArrayLike, trials: ArrayLike, p0: ArrayLike) -> Floats:
    """Return the logarithm of the betting e-process against p = p0, which is valid after any number of draws.

    E = Γ(A + ½) Γ(n − A + ½) / (π Γ(n + 1)) / (p0^A (1 − p0)^(n − A)) is the wealth of the Krichevsky-Trofimov bettor
    after n draws with A successes. Under p = p0 it is a martingale that starts at 1, so by Ville's inequality it ever
    reaches 1/α with probability at most α, whatever the stopping rule. Swapping successes for failures and p0 for
    1 − p0 leaves it unchanged: the side of p0 that A/n lies on tells which claim it supports. The claim "p > p0"
    (E >= 1/α and A/n > p0) is false with probability at most α for every p <= p0 as well, because E rises with A there;
    the same holds for the other side.

    Raises:
        UsageError: counts as for ``clopper_pearson_lower``; p0 lies outside [0, 1].
    """
    k, n = _counts(successes, trials)
    null = np.asarray(p0, dtype=np.float64)
    if not np.all((null >= 0.0) & (null <= 1.0)):
        raise UsageError("p0 must lie in [0, 1]", "the probability that the claim is about")
    return _plain(_log_wealth(k, n) - _log_likelihood(k, n, null))


def betting_lower(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the lower end of the confidence sequence that follows from ``log_e_process``.

    With probability at least 1 − alpha, this end and ``betting_upper`` hold after every number of draws simultaneously.

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    k, n = _counts(successes, trials)
    _check_alpha(alpha)
    wealth, target = _log_wealth(k, n), -math.log(alpha)
    low, high = np.zeros(k.shape), k / np.maximum(n, 1.0)
    # Below A/n the process falls as p0 rises; at A/n it is at most 1. The lower end of the bracket is always refuted.
    while True:
        middle = (low + high) / 2.0
        if np.all((middle <= low) | (middle >= high)):
            return _plain(low)
        refuted = wealth - _log_likelihood(k, n, middle) >= target
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)


def betting_upper(successes: ArrayLike, trials: ArrayLike, alpha: float) -> Floats:
    """Return the upper end of the confidence sequence that follows from ``log_e_process``; see ``betting_lower``."""
    k, n = _counts(successes, trials)
    return _plain(1.0 - betting_lower(n - k, n, alpha))


def _log_wealth(k: Floats, n: Floats) -> Floats:
    """Return the log-probability that the bettor gives the sequence: its likelihood, averaged over p ~ Beta(½, ½)."""
    return betaln(k + 0.5, n - k + 0.5) - math.log(math.pi)


def _log_likelihood(k: Floats, n: Floats, p: Floats) -> Floats:
    # Only the type checker needs the conversion: both terms are float64 already.
    return np.asarray(xlogy(k, p) + xlog1py(n - k, -p), dtype=np.float64)


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    # The negation makes NaN fail as well.
    wrong = ~((k >= 0) & (k <= n) & (k == np.floor(k)) & (n == np.floor(n)) & np.isfinite(n))
    if wrong.any():
        raise UsageError(
            f"{k[wrong].flat[0]:g} successes of {n[wrong].flat[0]:g} trials are not counts",
            "both are whole numbers, 0 <= successes <= trials",
        )
    return k, n


def _mean(mean: ArrayLike, n: ArrayLike, fewest: int) -> tuple[Floats, Floats]:
    centre, count = np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((centre >= 0.0) & (centre <= 1.0)):
        raise UsageError("a mean of values in [0, 1] must lie in [0, 1]", "divide the sum by the number of draws")
    if not np.all((count >= fewest) & np.isfinite(count)):
        raise UsageError(f"this bound needs at least {fewest} draws (got {np.min(count):g})", "draw more samples")
    return centre, count


def _check_alpha(alpha: float) -> None:
    if not 0.0 < alpha < 1.0:
        raise UsageError(f"alpha must lie in (0, 1) (got {alpha})", "for example 0.001")


def _plain(values: ArrayLike) -> Floats:
    """Return the values as float64, and an array without dimensions as a scalar."""
    scalar_or_array: Floats = np.asarray(values, dtype=np.float64)[()]
    return scalar_or_array
