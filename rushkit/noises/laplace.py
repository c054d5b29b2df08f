"""Laplace noise of scale b on every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from rushkit.noises import Norm
from rushkit.noises.additive import ROUNDING, SMALLEST_TAIL, AdditiveNoise, Probabilities
from rushkit.noises.differential import l1_distance, l2_distance, linf_distance


@dataclass(frozen=True, init=False)
class Laplace(AdditiveNoise):
    """Density exp(−|t|/b)/2b on every coordinate; ``scale`` is b, ``std`` is b√2.

    Certified radii are distances H(p) (``rushkit.noises.differential``), with H(1 − p) = −H(p): a path to where the
    class's probability is p' is at least H(p) − H(p') long. l1: H(p) = b·F⁻¹(p), F the distribution function at b = 1,
    which is −b ln(2(1 − p)) above 1/2 (Teng, Lee & Yuan 2019), tight. l-inf: b times the integral of 1/Φ from 1/2 to p,
    Φ(q) the mean of a sum of d signs over its top 1 − q (Yang et al. 2020). l2: the same with a bound of Φ that does
    not depend on d, from the moments of the sum, or the l1 rate times √d where that is less. Two classes:
    (H(pA) − H(pB))/2. At p = 1 the radius is that of the largest float below 1.
    """

    name: ClassVar[str] = "laplace"
    std_per_scale: ClassVar[float] = math.sqrt(2.0)
    own_norm: ClassVar[Norm] = "l1"
    theorems: ClassVar[Mapping[Norm, str]] = {
        "l1": "differential method, tight",
        "l2": "differential method, even moments",
        "linf": "differential method",
    }

    def _draw(self, out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        # By inversion, many times faster on a CPU than torch's exponential draws: if s is uniform on (−1, 1), then
        # −ln(1 − |s|) is exponential and the sign of s is independent of it.
        sides = out.uniform_(-1.0, 1.0, generator=generator)
        # s = −1 can be drawn; half a step short of it stands for it, so that every draw is finite.
        shortest = torch.finfo(out.dtype).eps / 4.0
        size = (1.0 - sides.abs()).clamp_(min=shortest).log_()
        return torch.copysign(size, sides).mul_(self.scale)

    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self._radius_two_class(p, 1.0 - p, norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        ahead, behind = (_signed_distance(p, norm, dim) for p in (p_a, p_b))
        rounding = ROUNDING * (np.abs(ahead) + np.abs(behind))
        return self.scale / 2.0 * (ahead - behind - rounding)


def _signed_distance(p: Probabilities, norm: Norm, dim: int) -> Probabilities:
    """Return H(p) for b = 1."""
    tail = np.maximum(np.minimum(p, 1.0 - p), SMALLEST_TAIL)
    if norm == "l1":
        distance = l1_distance(tail)
    else:
        distance = l2_distance(tail, dim) if norm == "l2" else linf_distance(tail, dim)
    return np.copysign(distance, p - 0.5)
