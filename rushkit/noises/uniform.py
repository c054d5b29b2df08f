"""Uniform noise U(−λ, λ) on every pixel, the paper's default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from rushkit.noises import Norm
from rushkit.noises.additive import AdditiveNoise, Probabilities, from_l1


@dataclass(frozen=True, init=False)
class Uniform(AdditiveNoise):
    """U(−λ, λ) on every coordinate; ``scale`` is the half-width λ, ``std`` is λ/√3.

    A shift v keeps the share ∏(1 − |vᵢ|/2λ) of the noise box, so a class's probability moves by at most one minus that.
    Certified radii (Lee et al. 2019; Yang et al. 2020): l1 2λ(p − ½), tight; l-inf 2λ(1 − (3/2 − p)^(1/d)), tight;
    l2 the l1 radius /√d. Two classes: the same with p − ½ replaced by (pA − pB)/2. The l1 radius never exceeds λ.
    """

    name: ClassVar[str] = "uniform"
    std_per_scale: ClassVar[float] = 1.0 / math.sqrt(3.0)
    theorems: ClassVar[Mapping[Norm, str]] = {
        "l1": "overlap of boxes, tight",
        "l2": "l1 radius / sqrt(d)",
        "linf": "overlap of boxes, tight",
    }

    def _draw(self, out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return out.uniform_(-self.scale, self.scale, generator=generator)

    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self._radius_for_loss(p - 0.5, norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self._radius_for_loss((p_a - p_b) / 2.0, norm, dim)

    def _radius_for_loss(self, loss: Probabilities, norm: Norm, dim: int) -> Probabilities:
        """Return the radius within which a shift leaves at most the share ``loss`` of the box behind (0 to 1/2)."""
        if norm == "linf":
            # 1 − (1 − loss)^(1/d) without cancellation: d is in the thousands.
            return -2.0 * self.scale * np.expm1(np.log1p(-loss) / dim)
        return from_l1(2.0 * self.scale * loss, norm, dim)
