"""A noise that records whether an objective drew from it, for the checkpoint's metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Generator, Tensor

from rushkit.noises import Noise, Norm

if TYPE_CHECKING:
    from rushkit.noises import Probability


class NotedNoise:
    """A noise that records whether it was drawn from.

    Args:
        noise: The smoothing distribution.

    Attributes:
        drawn: Whether any draw so far was nonzero.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise, self.drawn = noise, False

    @property
    def std(self) -> float:
        """As the noise's."""
        return self._noise.std

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """As the noise's."""
        self.drawn = self.std > 0.0
        return self._noise.sample(x, generator)

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """As the noise's."""
        return self._noise.certified_radius(p, norm, dim)
