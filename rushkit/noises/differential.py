"""The differential method for Laplace noise: how far a shift must go to bring a probability down to one half.

Along a path that is one unit long, measured by some norm and in units of the scale b, a probability with the tail
t = min(p, 1 − p) changes by at most a rate Φ(t) of that norm. It cannot reach 1/2 within the distance
∫ from t to 1/2 of ds/Φ(s), which is what the functions below return (Yang et al. 2020, "Randomized Smoothing of All
Shapes and Sizes", the differential method). The proofs of the rates are in docs/certificates.md.

Every value is right to less than the share ``ROUNDING`` of itself, for images of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from rushkit.noises.additive import SMALLEST_TAIL, Probabilities

# Bits of the integers that binomial probabilities and sums of logarithms are computed with.
_BITS = 192


def l1_distance(tail: Probabilities) -> Probabilities:
    """Return ln(1/2t): the rate is t, since ∑ uᵢ·sign(δᵢ) lies in [−1, 1] for every u with ‖u‖₁ = 1.

    Args:
        tail: t, (N,) in [``SMALLEST_TAIL``, 1/2].
    """
    # 2t is exact, so the logarithm keeps its digits near 1/2 as well.
    return -np.log(2.0 * tail)


def l2_distance(tail: Probabilities, dim: int) -> Probabilities:
    """Return the integral of 1 / min(√d·t, min over m of (M/2)^(1/2m)·t^(1 − 1/2m)), M = 1·3·5···(2m − 1).

    M bounds the 2m-th moment of S = ∑ uᵢ·sign(δᵢ) for every u with ‖u‖₂ = 1, so that Hölder's inequality bounds E[S; A]
    by the second form; the first is the rate of the l1 norm, and less where t is below M/2d^m at m = ⌊d/2⌋.

    Args:
        tail: t, (N,) in [``SMALLEST_TAIL``, 1/2].
        dim: d.
    """
    if dim == 1:
        return l1_distance(tail)
    moments = _moments()
    # The moment m is best from the tail where it takes over from m − 1 down to where m + 1 takes over.
    m = np.searchsorted(-moments.tails, -tail, side="right")
    distance = moments.sums[m - 1] - 2.0 * m * (2.0 * tail / moments.sizes[m - 1]) ** (0.5 / m)
    # The same for m = 1, with the digits that a tail near 1/2 leaves.
    distance = np.where(m == 1, 2.0 * (1.0 - 2.0 * tail) / (1.0 + np.sqrt(2.0 * tail)), distance)
    if (last := dim // 2) > len(moments.tails):
        return distance
    meeting = int(moments.sizes[last - 1]) / (2 * dim**last)
    below = moments.sums[last - 1] - 2 * last / math.sqrt(dim) + np.log(meeting / tail) / math.sqrt(dim)
    return np.where(tail < meeting, below, distance)


def linf_distance(tail: Probabilities, dim: int) -> Probabilities:
    """Return the integral of 1/Φ, Φ(t) = E[S; S in its top share t] of a sum S of d independent signs.

    Φ is what the worst direction, a corner of the cube, and the worst set attain. It is linear between the tails of S,
    so that each piece of the integral is a logarithm.

    Args:
        tail: t, (N,) in [``SMALLEST_TAIL``, 1/2].
        dim: d.
    """
    pieces = _pieces(dim)
    at = np.searchsorted(-pieces.tops, -tail, side="right") - 1
    step = pieces.steps[at]
    # Of two ways to compute the distance to the piece's top, the one whose terms are small.
    gap = np.where(tail > 0.25, (0.5 - tail) - pieces.beside[at], pieces.tops[at] - tail)
    rate = pieces.rates[at] + (tail - pieces.bottoms[at]) * step
    rise = gap / rate
    return pieces.distances[at] + np.where(step > 0.0, np.log1p(rise * step) / np.maximum(step, 1.0), rise)


@dataclass(frozen=True)
class _Moments:
    """For m = 1, 2, ..., as far as ``SMALLEST_TAIL``: what ``l2_distance`` needs of the 2m-th moment.

    Attributes:
        tails: The largest tail at which m is best, M / 2(2m − 1)^m; falling.
        sizes: M = 1·3·5···(2m − 1).
        sums: 2·(1 + 1/√3 + ... + 1/√(2m − 1)).
    """

    tails: NDArray[np.float64]
    sizes: NDArray[np.float64]
    sums: NDArray[np.float64]


@cache
def _moments() -> _Moments:
    tails, sizes, size, odd = [0.5], [1.0], 1, 1
    while tails[-1] > SMALLEST_TAIL:
        odd += 2
        size *= odd
        tails.append(size / (2 * odd ** (len(tails) + 1)))
        sizes.append(float(size))
    terms = [2.0 / math.sqrt(2 * m + 1) for m in range(len(tails))]
    sums = [math.fsum(terms[: m + 1]) for m in range(len(tails))]
    return _Moments(np.array(tails), np.array(sizes), np.array(sums))


@dataclass(frozen=True)
class _Pieces:
    """The pieces between two tails of a sum of signs, from 1/2 down to ``SMALLEST_TAIL``; (K,) each.

    Attributes:
        tops: The larger tail of each piece; falling.
        beside: 1/2 minus that.
        bottoms: The smaller tail.
        rates: Φ at the smaller tail.
        steps: The value of the sum in between, which is the slope of Φ.
        distances: The integral of 1/Φ from the larger tail to 1/2.
    """

    tops: NDArray[np.float64]
    beside: NDArray[np.float64]
    bottoms: NDArray[np.float64]
    rates: NDArray[np.float64]
    steps: NDArray[np.float64]
    distances: NDArray[np.float64]


@lru_cache(maxsize=16)
def _pieces(dim: int) -> _Pieces:
    """Return the pieces for d signs, every number rounded once from integers of ``_BITS`` bits.

    With T = P(k heads or more of d coins), Φ(T) is k·P(k heads), and 1/Φ integrates to ln(k / (d − k)) / (2k − d) from
    T down to the next tail; where 2k = d only half of that piece lies below 1/2, and it gives 1/d.
    """
    first = dim - dim // 2
    weights = _weights(dim, first)
    # Symmetry: k heads are as likely as d − k. An even d has a middle, which counts once.
    whole = 2 * sum(weights) - (weights[0] if dim % 2 == 0 else 0)
    above, walked = whole, 0
    rows = []
    for k, weight in enumerate(weights, first):
        # In halves, since the middle of an even d is cut in two.
        share = weight if 2 * k == dim else 2 * weight
        below, step = above - share, 2 * k - dim
        rate = (k + 1) * weights[k + 1 - first] if k + 1 - first < len(weights) else 0
        tails = (above / (2 * whole), (whole - above) / (2 * whole), below / (2 * whole))
        rows.append((*tails, rate / whole, step, walked / (1 << _BITS)))
        if below < 2 * whole * SMALLEST_TAIL or k == dim:
            break
        above, walked = below, walked + _fixed(math.log1p(step / (dim - k)) / step if step else 1.0 / dim)
    return _Pieces(*np.array(rows, dtype=np.float64).T)


def _weights(dim: int, first: int) -> list[int]:
    """Return the probabilities of ``first``, ``first`` + 1, ... heads of d coins as integers, to a common factor."""
    weights = [1 << _BITS]
    for k in range(first, dim):
        if not (weight := weights[-1] * (dim - k) // (k + 1)):
            break
        weights.append(weight)
    return weights


def _fixed(value: float) -> int:
    """Return a number as an integer, a multiple of 2^−``_BITS``."""
    return int(math.ldexp(value, _BITS))
