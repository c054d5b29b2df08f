"""Gaussian noise N(0, σ²) on every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import numpy as np
import torch
from scipy.special import ndtri

from rushkit.noises import Norm
from rushkit.noises.additive import LARGEST_BELOW_ONE, SMALLEST_TAIL, AdditiveNoise, Probabilities


@dataclass(frozen=True, init=False)
class Gaussian(AdditiveNoise):
    """N(0, σ²) on every coordinate; ``scale`` is σ, and so is ``std``.

    Certified radii, tight in every norm (Cohen, Rosenfeld & Kolter 2019, theorem 1): l2 σΦ⁻¹(p); l1 the same, because
    the worst shift of a given l1 norm lies along one axis; l-inf σΦ⁻¹(p)/√d, because it lies along a diagonal.
    Two classes: σ/2 (Φ⁻¹(pA) − Φ⁻¹(pB)). At p = 1 the radius is that of the largest float below 1, about 8.2σ.

    The theorem is about real numbers: x + δ rounded to float32 depends on x in its last bit (Voráček & Hein 2023).
    ``discrete-gaussian`` is the variant that holds in floating point.
    """

    name: ClassVar[str] = "gaussian"
    own_norm: ClassVar[Norm] = "l2"
    theorems: ClassVar[Mapping[Norm, str]] = dict.fromkeys(get_args(Norm), "Neyman-Pearson, tight")

    def _draw(self, out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return out.normal_(0.0, self.scale, generator=generator)

    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return self.scale * _quantile(p) / _spread(norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        # Φ⁻¹(pB) = −Φ⁻¹(1 − pB), but only the left form keeps the digits of a small pB.
        lower_tail = ndtri(np.maximum(p_b, SMALLEST_TAIL))
        return self.scale / 2.0 * (_quantile(p_a) - lower_tail) / _spread(norm, dim)


def _quantile(p: Probabilities) -> Probabilities:
    return ndtri(np.minimum(p, LARGEST_BELOW_ONE))


def _spread(norm: Norm, dim: int) -> float:
    """Return the largest l2 norm in a unit ball of ``norm``."""
    return math.sqrt(dim) if norm == "linf" else 1.0
