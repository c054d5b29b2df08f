"""What a shift of the noise can do to a class at worst, from the noise's density alone (Neyman & Pearson 1933).

A class that has probability p under the noise keeps at least T(p) under the noise shifted by v: T(p) is the shifted
probability of the set of probability p whose likelihood ratios are the smallest. One class is certified while
T(p) >= 1/2; of two, with probabilities at least p_a and at most p_b, the first stays ahead while
T(p_a) + T(1 − p_b) >= 1. Nothing here comes from rushkit: the brute force of its tests, and of certificate_reach.py.

For Laplace noise let a = |v|/b. The log likelihood ratio of a coordinate lies in [−a, a], and weighting its law by
exp(half of it) gives exp(−a/2) times half a mass at either end and a density of 1/4 between them. So the law of a sum
of coordinates is a spline times an exponential: ``laplace_loss``. For many coordinates ``laplace_bracket`` cuts each
one's range into cells. Moving a cell's mass to its two ends makes the shift easier to detect, merging the cell makes it
harder (Blackwell 1953), and both leave lattice laws, so T(p) lies between two sums that a Fourier transform gives.

A coordinate's shift is easier to detect the longer it is, whatever the others do (the densities are log-concave). So T
falls along every ray, and in l-inf the diagonal is the worst direction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, optimize, special

Floats = NDArray[np.float64]

# Halvings of an interval of thresholds: down to the last bit.
_HALVINGS = 60
# Rounding of a product of characteristic functions, for each factor, with room.
_ROUNDING = 2.0**-51


def uniform_loss(shifts: Floats, p: Floats) -> Floats:
    """Return p − T(p) under uniform noise: p less what lies in the other box.

    Args:
        shifts: (N, d), in units of λ.
        p: (N,) probabilities.

    Returns:
        (N,) losses, all digits right.
    """
    with np.errstate(divide="ignore"):
        left_behind = -np.expm1(np.log1p(-np.minimum(np.abs(shifts) / 2.0, 1.0)).sum(axis=1))
    return np.minimum(left_behind, p)


def gaussian_loss(shifts: Floats, p: Floats) -> Floats:
    """Return p − T(p) under Gaussian noise: Φ(c) − Φ(c − ‖v‖) with Φ(c) = p; shifts (N, d) in units of σ, p (N,)."""
    edge, length = special.ndtri(p), np.linalg.norm(shifts, axis=1)
    # erf and not Φ, which has lost the digits of a small difference from 1/2.
    return (special.erf(edge / math.sqrt(2.0)) - special.erf((edge - length) / math.sqrt(2.0))) / 2.0


def laplace_loss(shifts: Floats, p: Floats) -> Floats:
    """Return p − T(p) under Laplace noise, exactly, for a few coordinates.

    Args:
        shifts: (N, d) with d up to about 6, in units of b.
        p: (N,) probabilities.

    Returns:
        (N,) losses, right to about 1e-14.
    """
    law = _LaplaceSum(np.abs(shifts))
    low, high = -law.most - 1.0, law.most + 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        # Below the threshold lies less than p.
        enough = law.at_least(middle) >= 1.0 - p
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    # Weak duality: any threshold gives a lower bound on T, the right one T itself. Its share of ties counts in full.
    at_ties = law.at_least(low) - (1.0 - p)
    return (1.0 - law.at_least(low)) - law.above(-low) - at_ties * np.expm1(low)


class _LaplaceSum:
    """The law of the log likelihood ratio of (N, d) shifts (units of b, not negative) under the unshifted noise."""

    def __init__(self, shifts: Floats) -> None:
        dim = shifts.shape[1]
        self.most = shifts.sum(axis=1)
        signs = np.array(list(itertools.product([-1.0, 1.0], repeat=dim)))
        self._knots = (shifts[:, None, :] * signs).sum(axis=2)
        # The piece that begins at a knot with m upper ends: (1 + z)^(d − m) (1 − z)^m counts its powers, and each
        # power is an incomplete gamma function, whose own polynomial adds up those of the lower powers.
        pieces = np.zeros((len(signs), dim))
        for row, upper in enumerate((signs > 0).sum(axis=1)):
            counts = np.polynomial.polynomial.polymul([1.0], [1.0])
            for place in range(dim):
                counts = np.polynomial.polynomial.polymul(counts, [1.0, -1.0 if place < upper else 1.0])
            later = counts[::-1].cumsum()[::-1]
            pieces[row] = later[1:] / special.factorial(np.arange(dim))
        self._pieces = pieces / 2.0**dim

    def at_least(self, threshold: Floats) -> Floats:
        """Return P(S >= threshold), all (N,)."""
        return self._tail(threshold, self._knots < threshold[:, None])

    def above(self, threshold: Floats) -> Floats:
        """Return P(S > threshold), which is P(S < −threshold) under the shifted noise; all (N,)."""
        return self._tail(threshold, self._knots <= threshold[:, None])

    def _tail(self, threshold: Floats, passed: NDArray[np.bool_]) -> Floats:
        x = np.where(passed, (threshold[:, None] - self._knots) / 2.0, 0.0)
        value = np.zeros_like(x)
        for power in range(self._pieces.shape[1] - 1, -1, -1):
            value = value * x + self._pieces[:, power]
        tail = np.exp(-np.maximum(self.most + threshold, 0.0) / 2.0) * np.where(passed, value, 0.0).sum(axis=1)
        return np.where(passed.any(axis=1), np.maximum(tail, 0.0), 1.0)


def finite_loss(masses: Floats, shifted: Floats, p: float) -> float:
    """Return p − T(p) for a noise with finitely many values: (M,) masses without and with the shift."""
    some = (masses > 0.0) | (shifted > 0.0)
    masses, shifted = masses[some], shifted[some]
    with np.errstate(divide="ignore"):
        order = np.argsort(-shifted / masses)
    masses, shifted = masses[order], shifted[order]
    # What the set leaves out, from the largest ratio on: 1 − p keeps the digits of a p near 1.
    left_out = masses.cumsum()
    whole = int(np.searchsorted(left_out, 1.0 - p, side="right"))
    loss = float((shifted - masses)[:whole].sum())
    if whole < len(masses):
        share = (1.0 - p - (left_out[whole] - masses[whole])) / masses[whole]
        loss += float(share * (shifted[whole] - masses[whole]))
    return loss


def rounded_gaussian(center: float, sigma: float, levels: NDArray[np.int64]) -> Floats:
    """Return the masses of round(center + σ·normal) at ``levels``; center and sigma in steps between levels."""
    upper, lower = (levels + 0.5 - center) / sigma, (levels - 0.5 - center) / sigma
    # On the side where Φ is small, so that it keeps its digits.
    flip = lower > 0.0
    return special.ndtr(np.where(flip, -lower, upper)) - special.ndtr(np.where(flip, -upper, lower))


@dataclass(frozen=True)
class Mixture:
    """A direction: ``counts[i]`` coordinates of ``multiples[i]`` units each, the other coordinates 0.

    Attributes:
        counts: How many coordinates, for each length.
        multiples: The lengths, whole and positive; large ones cut Laplace noise finer.
    """

    counts: tuple[int, ...]
    multiples: tuple[int, ...]

    def norm(self, norm: str) -> float:
        """Return its length in ``"l1"``, ``"l2"`` or ``"linf"``."""
        pairs = list(zip(self.counts, self.multiples, strict=True))
        if norm == "linf":
            return float(max(self.multiples))
        return float(sum(c * m for c, m in pairs)) if norm == "l1" else math.sqrt(sum(c * m * m for c, m in pairs))


def laplace_bracket(mixture: Mixture, step: float, p: Floats) -> tuple[Floats, Floats]:
    """Return bounds on T(p), from below and from above, for the shift of ``step`` (units of b) times a mixture.

    Args:
        mixture: The direction.
        step: What a multiple of 1 stands for, above 0; the shift's l2 norm is at most 30.
        p: (N,) probabilities.

    Returns:
        (N,) lower and (N,) upper bounds; their distance falls as 1/multiple².
    """
    easier = _lattice_least(mixture, step, p, [_ends(multiple, step) for multiple in mixture.multiples])
    harder = _lattice_least(mixture, step / 2.0, p, [_middles(multiple, step) for multiple in mixture.multiples])
    return easier[0] - easier[1], harder[0] + harder[1]


def _ends(multiple: int, step: float) -> Floats:
    """(2m + 1,) weighted masses of a coordinate whose cells of one step are moved to their ends."""
    masses = np.full(2 * multiple + 1, math.tanh(step / 4.0))
    masses[[0, -1]] = 0.5 + math.tanh(step / 4.0) / 2.0
    return masses * math.exp(-multiple * step / 2.0)


def _middles(multiple: int, step: float) -> Floats:
    """(4m + 1,) weighted masses, half a step apart, of a coordinate whose cells are merged."""
    masses = np.zeros(4 * multiple + 1)
    masses[1::2] = math.sinh(step / 4.0)
    masses[[0, -1]] = 0.5
    return masses * math.exp(-multiple * step / 2.0)


def _lattice_least(mixture: Mixture, step: float, p: Floats, kernels: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Return T(p) for coordinates with these weighted masses, ``step`` apart, and a bound on its error; both (N,)."""
    halves = [len(kernel) // 2 for kernel in kernels]
    whole = sum(count * half for count, half in zip(mixture.counts, halves, strict=True))
    length = step * math.sqrt(sum(count * half**2 for count, half in zip(mixture.counts, halves, strict=True)))
    points = min(whole, math.ceil((length**2 / 2.0 + 10.0 * length) / step))
    size = fft.next_fast_len(2 * points + 1, real=True)
    spectrum = np.ones(size // 2 + 1)
    for count, half, kernel in zip(mixture.counts, halves, kernels, strict=True):
        circle = np.zeros(size)
        circle[np.arange(-half, half + 1) % size] = kernel
        # The kernel is symmetric.
        spectrum *= fft.rfft(circle).real ** count
    weighted = np.maximum(fft.irfft(spectrum, size)[np.arange(-points, points + 1) % size], 0.0)
    ratio = step * np.arange(-points, points + 1)
    at_least = (weighted * np.exp(-ratio / 2.0))[::-1].cumsum()[::-1]
    shifted = weighted * np.exp(ratio / 2.0)
    place = np.maximum(len(ratio) - np.searchsorted(at_least[::-1], 1.0 - p, side="left") - 1, 0)
    odds = np.exp(ratio[place])
    least = (shifted.cumsum() - shifted)[place] + odds * (at_least[place] - (1.0 - p))
    error = _ROUNDING * (sum(mixture.counts) + 100) * (1.0 + np.sqrt(odds))
    # By Hoeffding, either law has at most this much beyond the lattice, which wraps around.
    beyond = math.exp(min(length**2 / 8.0 - 48.0, 0.0)) if points < whole else 0.0
    return least, error + beyond


def laplace_optimum(mixture: Mixture, norm: str, p: float) -> tuple[float, float]:
    """Return bounds, from below and from above, on the radius at which a mixture's direction defeats p > 1/2.

    Returns:
        Two radii in ``norm``, units of b. The upper one bounds the optimum over all directions.
    """
    probability = np.array([p])
    unit = mixture.norm("l2")

    def root(side: int) -> float:
        def excess(length: float) -> float:
            return float(laplace_bracket(mixture, length / unit, probability)[side][0]) - 0.5

        high = 2.0 * p - 1.0
        while excess(high) > 0.0:
            high *= 2.0
        return float(optimize.brentq(excess, high * 1e-3, high, xtol=high * 1e-9, rtol=1e-9))

    # Half a millionth of room for the root's own error.
    scale = mixture.norm(norm) / unit
    return root(0) * (1.0 - 5e-7) * scale, root(1) * (1.0 + 5e-7) * scale
