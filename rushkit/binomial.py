"""Binomial likelihoods and tails, and the probabilities at which they cross a level, in float64 up to 2⁵³ trials.

A probability is carried as the pair (p, c) with c = 1 − p, so that neither loses digits next to 0 or 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincc, gammaln

Floats = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
# Below this scipy's incomplete beta function underflows on the way, and is wrong without a word.
_SMALLEST_TAIL = 1e-250
# scipy's incomplete beta function was within 26·eps·√n of the true one, for n from 10 to 10¹⁵; see its test.
_TAIL_ERROR = 64.0 * EPS
# Newton's method needs about six steps, and approaches from below.
_STEPS = 100


class Pair(NamedTuple):
    """A probability and its complement.

    Attributes:
        p: The probability.
        c: 1 − p.
    """

    p: Floats
    c: Floats

    @classmethod
    def of_log(cls, log_p: Floats) -> Pair:
        """Return the pair of e^log_p."""
        return cls(np.exp(log_p), -np.expm1(log_p))

    @property
    def complement(self) -> Pair:
        """The pair of 1 − p."""
        return Pair(self.c, self.p)

    def moved(self, step: Floats) -> Pair:
        """Return the pair with p + step; the smaller of the two keeps all its digits."""
        p, c = self.p + step, self.c - step
        return Pair(np.where(p < 0.5, p, 1.0 - c), np.where(p < 0.5, 1.0 - p, c))

    def rounded_down(self) -> Pair:
        """Return the pair with p smaller and c larger, by more than what their last operations were rounded by."""
        p, c = self.p * (1.0 - 4.0 * EPS), self.c * (1.0 + 4.0 * EPS)
        high = self.c < 0.5
        # A difference is rounded to nearest, and what is not even a normal number has too few digits.
        low = np.where(high, np.nextafter(1.0 - c, 0.0), np.where(p < _TINY, 0.0, p))
        return Pair(low, np.where(high, c, np.minimum(np.nextafter(1.0 - p, 2.0), 1.0)))


def divergence(k: Floats, n: Floats, at: Pair) -> Floats:
    """Return n·KL(k/n ‖ p): how much likelier k successes in n trials are under k/n than under p, as a logarithm.

    Args:
        k: Successes.
        n: Trials.
        at: p.

    Returns:
        At least 0, infinite where p is 0 or 1 and the counts rule that out. Right to a few units of its last place: it
        is a sum of positive terms (the deviance of Loader 2000).
    """
    over = np.where(at.p < 0.5, n * at.p - k, (n - k) - n * at.c)
    some, rest = np.maximum(k, 1.0), np.maximum(n - k, 1.0)
    successes = np.where(k > 0, k * _excess(over / some, n * at.p / some), n * at.p)
    failures = np.where(n > k, (n - k) * _excess(-over / rest, n * at.c / rest), n * at.c)
    return successes + failures


def log_mixture(k: Floats, n: Floats) -> Floats:
    """Return by how much the likelihood of a sequence, averaged over p ~ Beta(½, ½), falls short of that under k/n.

    It is the logarithm of Γ(k + ½) Γ(n − k + ½) / (π Γ(n + 1)) / ((k/n)^k (1 − k/n)^(n−k)), by Stirling's series: what
    remains of the large terms.
    """
    some = np.maximum(n, 1.0)
    mixed = 0.5 * np.log(2.0 / (np.pi * some)) + _stirling_half(k) + _stirling_half(n - k) - _stirling(some)
    return np.where(n > 0, mixed, 0.0)


def divergence_root(k: Floats, n: Floats, level: Floats) -> Pair:
    """Return where ``divergence`` falls to a level as p rises to k/n; just below, where that is no float64.

    In log p the divergence is convex, so every step of Newton's method ends below the root, but for its rounding. Each
    entry stops by itself: its root does not depend on the entries beside it.

    Args:
        k: Successes, at least 1.
        n: Trials.
        level: At least 0.
    """
    # What the divergence is computed to, in its own terms; what it is off by in p is left to the last rounding.
    level = level * (1.0 + 16.0 * EPS) + 64.0 * EPS
    share = k / n
    rest = np.maximum(n - k, 1.0)
    entropy = np.where(n > k, rest * np.where(share < 0.5, np.log1p(-share / (1.0 + EPS)), np.log(rest / n)), 0.0)
    # Two probabilities at which the divergence is above the level: its first term alone, and Pinsker's inequality.
    low = np.maximum(share * np.exp((entropy - level) / k), share - np.sqrt(level / (2.0 * n))) * (1.0 - 1e-6)
    at = Pair(low, 1.0 - low)
    moves = np.ones(low.shape, dtype=bool)
    for _ in range(_STEPS):
        under = np.where(at.p < 0.5, k - n * at.p, n * at.c - (n - k))
        moves &= under > 0.0
        growth = (divergence(k, n, at) - level) * at.c / np.where(moves, under, 1.0)
        step = np.where(moves, at.p * np.expm1(np.minimum(growth, 700.0)), 0.0)
        at = at.moved(step)
        moves &= np.abs(step) > 4.0 * EPS * np.minimum(at.p, at.c)
        if not moves.any():
            break
    return at.rounded_down()


def tail_root(k: Floats, n: Floats, u: Floats, alpha: Floats) -> Pair:
    """Return the p at which P(X > k) + u·P(X = k) rises to alpha, for X ~ Binomial(n, p), or a little less.

    The logarithm of that tail is concave in p: its derivative is a power of p, one of 1 − p and a linear function. So
    every step of Newton's method ends below the root, as in ``divergence_root``. It starts where Chernoff's bound on
    the tail is alpha, and stays there for an alpha that scipy's incomplete beta function cannot hold.

    Args:
        k: Successes, above 0 and below n.
        n: Trials.
        u: In (0, 1].
        alpha: In (0, 1).
    """
    at = divergence_root(k, n, -np.log(alpha))
    # The tail is computed to within a slack, so what is solved for is less than alpha by so much.
    slack = _TAIL_ERROR * np.sqrt(n) - 4.0 * EPS * np.log(alpha)
    target = np.log(alpha) - slack
    held = alpha >= _SMALLEST_TAIL
    scale = _stirling(n) - _stirling(k) - _stirling(n - k) - 0.5 * np.log(2.0 * np.pi * k * ((n - k) / n))
    for _ in range(_STEPS):
        equal = np.exp(scale - divergence(k, n, at))
        tail = _above(k, n, at) + u * equal
        slope = equal * ((1.0 - u) * (n - k) / at.c + u * k / np.maximum(at.p, _TINY))
        short = target - np.log(np.maximum(tail, _TINY))
        moves = held & (np.abs(short) > 0.25 * slack) & (tail > 0.0) & (slope > 0.0)
        if not moves.any():
            break
        at = at.moved(np.where(moves, short * tail / np.where(moves, slope, 1.0), 0.0))
    return at.rounded_down()


def _above(k: Floats, n: Floats, at: Pair) -> Floats:
    """Return P(X > k), from whichever of p and 1 − p has more digits."""
    high = np.asarray(at.c < 0.5)
    above = betainc(k + 1.0, n - k, at.p, where=~high, out=np.zeros(high.shape))
    tail: Floats = betaincc(n - k, k + 1.0, at.c, where=high, out=above)
    return tail


def _excess(x: Floats, ratio: Floats) -> Floats:
    """Return x − log(ratio) for a ratio of 1 + x, which is at least 0, without cancellation next to 0."""
    half = x / (2.0 + x)
    square = half * half
    series = np.zeros_like(square)
    for odd in range(23, 1, -2):
        series = series * square + 1.0 / odd
    with np.errstate(divide="ignore"):
        return np.where(np.abs(x) < 0.3, half * x - 2.0 * half * square * series, x - np.log(ratio))


def _stirling(m: Floats) -> Floats:
    """Return log Γ(m + 1) − (m log m − m + ½ log 2πm) for m of at least 1."""
    large = np.maximum(m, 16.0)
    square = 1.0 / (large * large)
    series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / large
    few = np.clip(m, 1.0, 16.0)
    exact = gammaln(few + 1.0) - (few * np.log(few) - few + 0.5 * np.log(2.0 * np.pi * few))
    return np.where(m < 16.0, exact, series)


def _stirling_half(m: Floats) -> Floats:
    """Return log Γ(m + ½) − (m log m − m + ½ log 2π) for m of at least 0."""
    large = np.maximum(m, 16.0)
    square = 1.0 / (large * large)
    series = (
        1 / 24 - square * (7 / 2880 - square * (31 / 40320 - square * (127 / 215040 - square * 2555 / 3041280)))
    ) / large
    few = np.minimum(m, 16.0)
    exact = gammaln(few + 0.5) - (few * np.log(np.maximum(few, 1.0)) - few + 0.5 * np.log(2.0 * np.pi))
    return np.where(m < 16.0, exact, -series)
