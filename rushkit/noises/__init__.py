"""Smoothing distributions: how a noise is drawn, and the radius that it certifies.

``rushkit.noises.create("uniform", scale=0.3)`` makes one. Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from rushkit.registries import noises as _registry

if TYPE_CHECKING:
    import numpy as np
    import torch

    Probability = TypeVar("Probability", float, np.ndarray)

Norm = Literal["l1", "l2", "linf"]

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Noise(Protocol):
    """What a smoothing distribution offers; a plugin needs no base class.

    Attributes:
        std: Standard deviation of one coordinate, in pixel units (pixels lie in [0, 1]).
    """

    std: float

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ with the shape, dtype and device of x; x is (N, C, H, W) with pixels in [0, 1]."""
        ...

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Radius in pixel units around an image whose top class has probability at least p under this noise.

        Args:
            p: Lower bound (or array of bounds) on the top class's probability.
            norm: The norm of the ball.
            dim: C * H * W.

        Returns:
            The radius, 0 where p <= 1/2, with p's type.

        Raises:
            NoCertificate: no theorem covers this norm.
        """
        ...
