"""Laplace noise of scale b on every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from rushkit.noises import Norm
from rushkit.noises.additive import LARGEST_BELOW_ONE, AdditiveNoise, Probabilities, from_l1


@dataclass(frozen=True, init=False)
class Laplace(AdditiveNoise):
    """Density exp(−|t|/b)/2b on every coordinate; ``scale`` is b, ``std`` is b√2.

    A class's probability p changes by at most min(p, 1 − p)/b per unit of l1 shift, which integrates to the certified
    l1 radius −b ln(2(1 − p)) (Teng, Lee & Yuan 2019), tight; l2 is that /√d and l-inf that /d, by norm inequalities.
    Two classes: max(b/2 ln(pA/pB), −b ln(1 − pA + pB)). At p = 1 the radius is that of the largest float below 1.
    """

    name: ClassVar[str] = "laplace"
    std_per_scale: ClassVar[float] = math.sqrt(2.0)
    theorems: ClassVar[Mapping[Norm, str]] = {
        "l1": "differential method, tight",
        "l2": "l1 radius / sqrt(d)",
        "linf": "l1 radius / d",
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
        # 2(1 − p) = 1 − (2p − 1), whose logarithm keeps its digits near p = 1/2 as well.
        margin = 2.0 * np.minimum(p, LARGEST_BELOW_ONE) - 1.0
        return from_l1(-self.scale * np.log1p(-margin), norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        smallest = 1.0 - LARGEST_BELOW_ONE
        ratio = np.log(p_a / np.maximum(p_b, smallest)) / 2.0
        remainder = -np.log1p(-np.minimum(p_a - p_b, LARGEST_BELOW_ONE))
        return from_l1(self.scale * np.maximum(ratio, remainder), norm, dim)
