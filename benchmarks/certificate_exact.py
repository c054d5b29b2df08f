"""Radii to 40 digits by mpmath, which share no code with ``rushkit.noises``, for λ = b = 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import mpmath
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mass = NDArray[np.float64]

# Draws within which a sequential test decides, up to the share of images that ``mean_draws`` checks.
LONGEST = 6000
LEFT_OVER = 1e-6


def uniform_linf(p: float, dim: int) -> mpmath.mpf:
    """Return the radius of uniform noise, λ = 1, in l-inf: 2(1 − (3/2 − p)^(1/d))."""
    with mpmath.workdps(40):
        return 2 * (1 - (mpmath.mpf(3) / 2 - mpmath.mpf(p)) ** (mpmath.mpf(1) / dim))


def laplace_linf(p: float, dim: int) -> mpmath.mpf:
    """Return the radius of Laplace noise, b = 1, in l-inf by the differential method: ∫ of dq/Φ(q) from ½ to p.

    Where the top 1 − q of a sum of signs ends inside the atom at s, Φ rises by s for each unit of mass, so the integral
    over this piece is ln(Φ(end)/Φ(start))/s. Above the atom Φ is d·C(d − 1, k − 1)/2^d, k signs of it positive.
    """
    with mpmath.workdps(40):
        wanted = 1 - mpmath.mpf(p)
        positive = dim // 2 + 1
        # C(d − 1, k − 1)/2^d and C(d, k)/2^d, carried from atom to atom.
        above = mpmath.binomial(dim - 1, positive - 1) / mpmath.mpf(2) ** dim
        atom = above * dim / positive
        middle = mpmath.binomial(dim, dim // 2) / mpmath.mpf(2) ** dim if dim % 2 == 0 else mpmath.mpf(0)
        tail = mpmath.mpf(1) / 2 - middle / 2
        # Within the atom at 0 the mean does not change.
        total = (mpmath.mpf(1) / 2 - max(tail, wanted)) / (dim * above) if middle else mpmath.mpf(0)
        while tail > wanted:
            end, size = dim * above, 2 * positive - dim
            below = max(tail - atom, wanted)
            start = end - size * (tail - below)
            total += mpmath.log(end / start) / size
            above *= mpmath.mpf(dim - positive) / positive
            tail -= atom
            positive += 1
            atom = above * dim / positive
        return total


def laplace_l1_two_class(p_a: float, p_b: float) -> mpmath.mpf:
    """Return (F⁻¹(pA) − F⁻¹(pB))/2 with F the distribution function of Laplace noise, b = 1: the optimum in l1."""
    with mpmath.workdps(40):
        return (_laplace_quantile(p_a) - _laplace_quantile(p_b)) / 2


def _laplace_quantile(p: float) -> mpmath.mpf:
    share = mpmath.mpf(p)
    return mpmath.log(2 * share) if p < 0.5 else -mpmath.log(2 * (1 - share))


@dataclass(frozen=True)
class Boundaries:
    """Where a sequential test stops.

    Attributes:
        looks: (m,) numbers of draws after which it looks, rising.
        certified: (m,) the fewest successes that certify; more than the draws where none do.
        refuted: (m,) the most successes that refute; −1 where none do.
    """

    looks: Integers
    certified: Integers
    refuted: Integers


def boundaries(decide: Callable[[Integers, Integers], Integers], looks: Iterable[int]) -> Boundaries:
    """Find where a test stops, by bisection over the successes.

    Args:
        decide: (successes, trials) -> +1, −1 or 0; rising with the successes.
        looks: Numbers of draws after which it looks.
    """
    trials = np.fromiter(looks, dtype=np.int64)

    def fewest(verdict: int) -> Integers:
        low, high = np.zeros_like(trials), trials + 1
        while np.any(low < high):
            middle = (low + high) // 2
            reached = (decide(np.minimum(middle, trials), trials) >= verdict) | (middle > trials)
            open_ = low < high
            low, high = np.where(open_ & ~reached, middle + 1, low), np.where(open_ & reached, middle, high)
        return low

    return Boundaries(trials, fewest(1), fewest(0) - 1)


@dataclass(frozen=True)
class Outcome:
    """What a sequential test does at one p, exactly.

    Attributes:
        draws: Mean number of draws.
        certified: Probability that it ever certifies.
        refuted: Probability that it ever refutes.
        open: Probability that it has not decided at the last look.
    """

    draws: float
    certified: float
    refuted: float
    open: float


def run_exactly(stops: Boundaries, p: float) -> Outcome:
    """Return what a test does where each draw succeeds with probability p, by dynamic programming over the counts."""
    share: Mass = np.ones(1)
    drawn, draws, certified, refuted = 0, 0.0, 0.0, 0.0
    for look, above, below in zip(stops.looks.tolist(), stops.certified.tolist(), stops.refuted.tolist(), strict=True):
        draws += share.sum() * (look - drawn)
        for _ in range(look - drawn):
            share = np.append(share * (1.0 - p), 0.0) + np.append(0.0, share * p)
        drawn = look
        certified += share[above:].sum()
        refuted += share[: below + 1].sum()
        share[above:] = 0.0
        share[: below + 1] = 0.0
    return Outcome(draws, certified, refuted, float(share.sum()))


def mean_draws(stops: Boundaries, p: float) -> float:
    """Return the mean number of draws of a test that decides almost surely within its looks."""
    outcome = run_exactly(stops, p)
    if outcome.open > LEFT_OVER:
        raise ValueError(f"{outcome.open:g} of the images are undecided at the last look")
    return outcome.draws


def fewest_draws(p: float, p0: float, alpha: float) -> float:
    """Return what no test can stay below on average: both kinds of false claim at most alpha (Wald 1945).

    Each draw carries KL(p, p0) of evidence, and telling p from p0 with errors of alpha takes kl(1 − alpha, alpha).
    """
    return _divergence(1.0 - alpha, alpha) / _divergence(p, p0)


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))


def equal_looks(every: int, longest: int = LONGEST) -> Sequence[int]:
    """Return looks after every so many draws."""
    return range(every, longest + 1, every)
