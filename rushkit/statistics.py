"""Bounds on a probability from counts, and tests on counts, in float64 and without torch.

``successes`` is the number of successes in ``trials`` independent draws. Arguments are numbers or arrays that
broadcast; the result has the broadcast shape (a float64 scalar for numbers). With zero trials the bounds are 0 and 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, ndtri

from rushkit.binomial import Pair, divergence, divergence_root, log_mixture, tail_root
from rushkit.errors import UsageError

Floats = NDArray[np.float64]

# The smallest normal float64: below it, numbers have fewer digits.
SMALLEST_ALPHA = float(np.finfo(np.float64).tiny)
# The largest number of draws up to which float64 holds every whole number.
_MOST_TRIALS = 2.0**53


def clopper_pearson_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the one-sided lower bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    It is never above the root that defines it, and next to it in float64; below alpha 1e-250 it is Chernoff's bound.

    Raises:
        UsageError: counts are fractional, negative, exceed the trials or 2⁵³; alpha lies outside (0, 1) or is below
            what float64 holds.
    """
    return randomized_lower(successes, trials, 1.0, alpha)


def clopper_pearson_upper(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the one-sided upper bound on p that is wrong with probability at most alpha (Clopper & Pearson 1934).

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    return randomized_upper(successes, trials, 1.0, alpha)


def clopper_pearson_interval(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Return the two-sided interval for p that is wrong with probability at most alpha: both bounds at alpha/2."""
    _check_alpha(alpha)
    return clopper_pearson_lower(successes, trials, alpha / 2), clopper_pearson_upper(successes, trials, alpha / 2)


def randomized_lower(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the uniformly most accurate lower bound on p, which is wrong with probability alpha exactly.

    It solves P(X > successes) + u·P(X = successes) = alpha, for X ~ Binomial(trials, p) and a uniform u that was drawn
    without looking at the counts (Stevens 1950; Lehmann & Romano, Testing Statistical Hypotheses, section 3.5). It is
    never below ``clopper_pearson_lower``, which is u = 1.

    If every draw succeeded, the equation gives (alpha/u)^(1/trials), and 1 where u <= alpha: a bound that would certify
    any radius. It is held at alpha^(1/2·trials), what Clopper and Pearson prove from twice as many successes. So a p up
    to that is missed with probability alpha, a larger one never.

    Args:
        successes: Number of successes.
        trials: Number of draws.
        uniform: u, in (0, 1].
        alpha: Probability that the bound is above p.

    Raises:
        UsageError: as for ``clopper_pearson_lower``; u lies outside (0, 1].
    """
    return _plain(_randomized(successes, trials, uniform, alpha).p)


def randomized_upper(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the uniformly most accurate upper bound on p: one minus ``randomized_lower`` of the failures.

    Raises:
        UsageError: as for ``randomized_lower``.
    """
    k, n = _counts(successes, trials)
    return _plain(_randomized(n - k, n, uniform, alpha).c)


def _randomized(successes: ArrayLike, trials: ArrayLike, uniform: ArrayLike, alpha: ArrayLike) -> Pair:
    level, u = _check_alpha(alpha), np.asarray(uniform, dtype=np.float64)
    if not np.all((u > 0.0) & (u <= 1.0)):
        raise UsageError("a uniform draw must lie in (0, 1]", "draw one before the counts, and keep it with them")
    k, n, u, level = np.broadcast_arrays(*_counts(successes, trials), u, level)
    inside = (k > 0) & (k < n)
    k_in, n_in = np.where(inside, k, 1.0), np.where(inside, n, 2.0)
    root = tail_root(k_in, n_in, u, level)
    draws = np.maximum(n, 1.0)
    every = Pair.of_log(np.minimum(np.log(level) - np.log(u), 0.5 * np.log(level)) / draws)
    # Without a success the tail is u at p = 0 already, and 1 − (1 − u)(1 − p)^n above it.
    beyond = np.maximum(level - u, 0.0) / np.where(u < level, 1.0 - u, 1.0)
    none = Pair.of_log(np.log1p(-beyond) / draws).complement
    rows = [inside, (k == n) & (n > 0), (n > 0) & (u < level)]
    return Pair(
        np.select(rows, [root.p, every.p, none.p], 0.0),
        np.select(rows, [root.c, every.c, none.c], 1.0),
    )


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
    return _plain(log_mixture(k, n) + divergence(k, n, Pair(null, 1.0 - null)))


def betting_lower(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the lower end of the confidence sequence that follows from ``log_e_process``.

    With probability at least 1 − alpha, this end and ``betting_upper`` hold after every number of draws simultaneously.
    The end itself is refuted: E is at least 1/alpha there.

    Raises:
        UsageError: as for ``clopper_pearson_lower``.
    """
    return _plain(_betting(*_counts(successes, trials), alpha).p)


def betting_upper(successes: ArrayLike, trials: ArrayLike, alpha: ArrayLike) -> Floats:
    """Return the upper end of the confidence sequence that follows from ``log_e_process``; see ``betting_lower``."""
    k, n = _counts(successes, trials)
    return _plain(_betting(n - k, n, alpha).c)


def _betting(k: Floats, n: Floats, alpha: ArrayLike) -> Pair:
    k, n, level = np.broadcast_arrays(k, n, _check_alpha(alpha))
    some, draws = np.maximum(k, 1.0), np.maximum(n, 1.0)
    root = divergence_root(some, draws, -np.log(level) - log_mixture(some, draws))
    return Pair(np.where(k > 0, root.p, 0.0), np.where(k > 0, root.c, 1.0))


def _counts(successes: ArrayLike, trials: ArrayLike) -> tuple[Floats, Floats]:
    k, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    # The negation makes NaN fail as well.
    wrong = ~((k >= 0) & (k <= n) & (k == np.floor(k)) & (n == np.floor(n)) & (n <= _MOST_TRIALS))
    if wrong.any():
        raise UsageError(
            f"{k[wrong].flat[0]:g} successes of {n[wrong].flat[0]:g} trials are not counts",
            "both are whole numbers, 0 <= successes <= trials, at most 2**53",
        )
    return k, n


def _mean(mean: ArrayLike, n: ArrayLike, fewest: int) -> tuple[Floats, Floats]:
    centre, count = np.asarray(mean, dtype=np.float64), np.asarray(n, dtype=np.float64)
    if not np.all((centre >= 0.0) & (centre <= 1.0)):
        raise UsageError("a mean of values in [0, 1] must lie in [0, 1]", "divide the sum by the number of draws")
    if not np.all((count >= fewest) & np.isfinite(count)):
        raise UsageError(f"this bound needs at least {fewest} draws (got {np.min(count):g})", "draw more samples")
    return centre, count


def _check_alpha(alpha: ArrayLike) -> Floats:
    level = np.asarray(alpha, dtype=np.float64)
    # The negation makes NaN fail as well.
    if (wrong := ~((level > 0.0) & (level < 1.0))).any():
        raise UsageError(f"alpha must lie in (0, 1) (got {level[wrong].flat[0]:g})", "for example 0.001")
    if (small := level < SMALLEST_ALPHA).any():
        raise UsageError(
            f"alpha {level[small].flat[0]:g} is smaller than float64 can bound a probability with",
            f"the smallest is {SMALLEST_ALPHA:.2g}, shared by the classes that are bounded; usual is 0.001",
        )
    return level


def _plain(values: ArrayLike) -> Floats:
    """Return the values as float64, and an array without dimensions as a scalar."""
    scalar_or_array: Floats = np.asarray(values, dtype=np.float64)[()]
    return scalar_or_array
