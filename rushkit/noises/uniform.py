"""Uniform noise U(−λ, λ) on every pixel, the paper's default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import torch

from rushkit.noises import Norm
from rushkit.noises.additive import ROUNDING, AdditiveNoise, Probabilities


@dataclass(frozen=True, init=False)
class Uniform(AdditiveNoise):
    """U(−λ, λ) on every coordinate; ``scale`` is the half-width λ, ``std`` is λ/√3.

    A shift v keeps the share ``∏(1 − |vᵢ|/2λ)`` of the noise box, so a class's probability moves by at most one minus
    that. Certified radii, tight in every norm: l1 2λ(p − ½) and l-inf 2λ(1 − (3/2 − p)^(1/d)) (Lee et al. 2019; Yang et
    al. 2020); l2 √d times the l-inf radius, because no shift of that l2 norm leaves more of the box behind than the one
    along a diagonal (docs/certificates.md). Two classes: the same with p − ½ replaced by (pA − pB)/2. The l1 and the l2
    radius never exceed λ.
    """

    name: ClassVar[str] = "uniform"
    std_per_scale: ClassVar[float] = 1.0 / math.sqrt(3.0)
    own_norm: ClassVar[Norm] = "l1"
    theorems: ClassVar[Mapping[Norm, str]] = dict.fromkeys(get_args(Norm), "overlap of boxes, tight")

    def _draw(self, out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return out.uniform_(-self.scale, self.scale, generator=generator)

    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self._radius_for_loss(p - 0.5, norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self._radius_for_loss((p_a - p_b) / 2.0, norm, dim)

    def _radius_for_loss(self, loss: Probabilities, norm: Norm, dim: int) -> Probabilities:
        """Return the radius within which a shift leaves at most the share ``loss`` of the box behind (0 to 1/2)."""
        if norm == "l1":
            return 2.0 * self.scale * loss
        # 1 − (1 − loss)^(1/d) without cancellation: d is in the thousands.
        side = -2.0 * self.scale * np.expm1(np.log1p(-loss) / dim) * (1.0 - ROUNDING)
        return side if norm == "linf" else math.sqrt(dim) * side
