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
        drawn: Whether a draw was made, unless the noise is always zero.
    """

    def __init__(self, noise: Noise) -> None:
        self._noise, self.drawn = noise, False

    @property
    def std(self) -> float:
        """The standard deviation of the noise."""
        return self._noise.std

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw from the noise, and record the draw unless the noise is always zero."""
        self.drawn = self.std > 0.0
        return self._noise.sample(x, generator)

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius of the noise."""
        return self._noise.certified_radius(p, norm, dim)
