"""Gaussian noise whose certificate holds in floating point: rounded to the grid of 8-bit images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from rushkit.noises import Norm
from rushkit.noises.additive import Probabilities, check_full_precision, generator_for
from rushkit.noises.gaussian import Gaussian
from rushkit.noises.grid import LEVELS, nearest_levels, snapped

# A Gaussian has less than 2e-16 of its mass beyond this many σ.
_REACH = 8.3
_BITS = 62
_GUIDE_BITS = 16
# Φ in float64 (scipy's and torch's), its rounded argument and the rounding to an integer err by less at any threshold.
_THRESHOLD_ERROR = 2.0**-50


@dataclass(frozen=True, init=False)
class DiscreteGaussian(Gaussian):
    """N(0, σ²) rounded to multiples of 1/255; ``scale`` is σ, and ``std`` as well (rounding adds 1/(12·255²) to σ²).

    Ordinary float noise breaks the proof at the last bit: which floats x + δ can be depends on x, so a network could
    tell x from x' by them (Voráček & Hein 2023). Here the smoothed network is g(x) = E F(round(x + ε)), the Gaussian
    smoothing of F(round(·)), for every real x: the ordinary theorem covers every real x' in the ball. δ is
    round(x + ε) − x. Where x is 8-bit that is round(ε), an integer k with the probability of (k − ½, k + ½)/255 under
    N(0, σ²), drawn by comparing a 62-bit integer with integer thresholds. Between two levels the thresholds move by
    the pixel's distance to the nearer one: round(x) + round(ε) would be the answer for another image. p pays for the
    thresholds' own error, about 1e-8 for CIFAR.

    ``snap`` must follow the sum x + δ: only the snapped float is the same for all x and δ that reach one grid point. At
    the largest σ that a noise may have, float32 still names every grid point within reach.
    """

    name: ClassVar[str] = "discrete-gaussian"
    own_norm: ClassVar[Norm] = "l2"
    theorems: ClassVar[Mapping[Norm, str]] = dict.fromkeys(get_args(Norm), "Neyman-Pearson, less the sampler's error")
    # Between grey levels δ is the nearest level to x + ε, minus x: one image's δ means nothing for another.
    data_dependent: ClassVar[bool] = True

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ = round(x + ε) − x, with the shape, dtype and device of x; ``snap`` makes x + δ exact.

        Args:
            x: (N, C, H, W) images, between grey levels or on them.
            generator: Where the randomness comes from; without it, fresh entropy of the operating system.

        Raises:
            UsageError: x is not float32 or float64.
        """
        generator = generator_for(x, generator)
        check_full_precision(self.name, x)
        thresholds = _thresholds_on(self.scale, generator.device)
        drawn = torch.randint(1 << _BITS, x.shape, generator=generator, device=generator.device)
        steps = _cells(self.scale, drawn) - len(thresholds) // 2
        levels, rest = nearest_levels(x)
        if rest is None:
            return steps.to(device=x.device, dtype=x.dtype) / LEVELS
        steps = (steps + _crossed(self.scale, drawn.to(rest.device), steps.to(rest.device), rest)).to(x.device)
        return (levels + steps).to(x.dtype) / LEVELS - x.detach()

    def snap(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the multiple of 1/255 nearest to x + δ, bit for bit the same however it was reached; gradient 1."""
        return snapped(noisy)

    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        return super()._radius(np.maximum(p - self._slack(dim), 0.5), norm, dim)

    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        slack = self._slack(dim)
        return super()._radius_two_class(np.maximum(p_a - slack, 0.0), np.minimum(p_b + slack, 1.0), norm, dim)

    def _slack(self, dim: int) -> float:
        """Bound the total variation between round(x + ε) and what is sampled, over all coordinates, for any x."""
        return min(dim * (len(_thresholds(self.scale)) + 2) * _THRESHOLD_ERROR, 1.0)


def _cells(sigma: float, drawn: torch.Tensor) -> torch.Tensor:
    """Return how many thresholds each integer has reached: int64, shaped as drawn."""
    thresholds = _thresholds_on(sigma, drawn.device)
    if drawn.device.type != "cpu":
        return torch.searchsorted(thresholds, drawn, right=True)
    # On a CPU the search takes ten times as long as the draw; the leading bits nearly always settle it.
    cells = _guide(sigma).take(drawn >> (_BITS - _GUIDE_BITS))
    open_ends = (cells.view(-1) < 0).nonzero().squeeze(1)
    cells.view(-1)[open_ends] = torch.searchsorted(thresholds, drawn.view(-1)[open_ends], right=True)
    return cells


def _crossed(sigma: float, drawn: torch.Tensor, steps: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    """round(rest + ε) − round(ε): 1 or −1 where the rest of the pixel takes ε over the end of its cell, else 0.

    Args:
        sigma: σ.
        drawn: int64 integers, 2⁶²·Φ(ε/255σ).
        steps: int64, round(ε): their cells.
        rest: float64 distances to the nearest level, in [−½, ½].
    """
    side = rest.sign()
    # ε passes its cell's end on this side of the rest, less the rest. Φ keeps its digits where it is small.
    edge = (steps + side * 0.5 - rest) / (LEVELS * sigma)
    tail = torch.special.erfc(edge.abs() * math.sqrt(0.5)) * 2.0 ** (_BITS - 1)
    threshold = torch.where(edge < 0, tail.long(), (1 << _BITS) - tail.long())
    over = torch.where(side > 0, drawn >= threshold, drawn < threshold)
    return torch.where(over, side.long(), 0)


@lru_cache(maxsize=16)
def _guide(sigma: float) -> torch.Tensor:
    """(2^16,) the cell of all integers with these leading bits; −1 where a threshold lies among them."""
    width = 1 << (_BITS - _GUIDE_BITS)
    first = torch.arange(1 << _GUIDE_BITS) * width
    thresholds = _thresholds_on(sigma, first.device)
    lowest, highest = (torch.searchsorted(thresholds, end, right=True) for end in (first, first + (width - 1)))
    return torch.where(lowest == highest, lowest, -1)


@lru_cache(maxsize=16)
def _thresholds_on(sigma: float, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(_thresholds(sigma)).to(device)


@lru_cache(maxsize=16)
def _thresholds(sigma: float) -> NDArray[np.int64]:
    """(2K,) sorted integers Φ((k + ½)/255σ)·2⁶², k from −K to K − 1: u uniform below 2⁶² lies in the cell of its k.

    The upper half mirrors the lower one, where Φ keeps its digits, so the noise is symmetric.
    """
    reach = math.ceil(_REACH * LEVELS * sigma) + 1
    edges = (np.arange(-reach, 0, dtype=np.float64) + 0.5) / (LEVELS * sigma)
    # Scaling by a power of two is exact; only the floor rounds.
    lower = np.floor(ndtr(edges) * 2.0**_BITS).astype(np.int64)
    return np.concatenate([lower, (1 << _BITS) - lower[::-1]])
