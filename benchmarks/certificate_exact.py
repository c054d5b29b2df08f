"""What certificates are measured against: radii to 40 digits, for λ = b = 1, and the fewest draws of a test."""

from __future__ import annotations

import math

import mpmath


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


def fewest_draws(p: float, p0: float, alpha: float) -> float:
    """Return what no test can stay below on average: both kinds of false claim at most alpha (Wald 1945).

    Each draw carries KL(p, p0) of evidence, and telling p from p0 with errors of alpha takes kl(1 − alpha, alpha).
    """
    return _divergence(1.0 - alpha, alpha) / _divergence(p, p0)


def _divergence(p: float, q: float) -> float:
    return p * math.log(p / q) + (1.0 - p) * math.log((1.0 - p) / (1.0 - q))
