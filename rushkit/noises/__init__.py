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

    A noise whose δ depends on the pixels of x, and not on its shape alone, says so by ``data_dependent = True``; one
    whose δ is always the same, by ``deterministic = True``.
    """

    @property
    def std(self) -> float:
        """Standard deviation of one coordinate, in pixel units (pixels lie in [0, 1])."""
        ...

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


def is_deterministic(noise: Noise) -> bool:
    """Whether every draw is the same, so that one pass of a model stands for all of them."""
    return bool(getattr(noise, "deterministic", False))


def noisy_images(noise: Noise, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """(N, C, H, W) images -> x + δ, each with a draw of its own; of a noise on the 8-bit grid, snapped to it."""
    return settled(noise, x + noise.sample(x, generator))


def settled(noise: Noise, noisy: torch.Tensor) -> torch.Tensor:
    """x + δ without the rounding of the sum, where the noise can undo it: its proof cannot bear it."""
    return noise.snap(noisy) if hasattr(noise, "snap") else noisy


class TwoClassNoise(Noise, Protocol):
    """A noise that also certifies from the two top classes; optional, `certify_counts(two_class=True)` needs it."""

    def certified_radius_two_class(self, p_a: Probability, p_b: Probability, norm: Norm, dim: int) -> Probability:
        """Radius where the top class has probability at least p_a and every other class at most p_b.

        Returns:
            The radius, 0 where p_a <= p_b, with p_a's type.

        Raises:
            NoCertificate: no theorem covers this norm.
        """
        ...


class GridNoise(Noise, Protocol):
    """A noise whose x + δ lies on a grid; optional, and sound in floating point only if ``snap`` follows the sum.

    ``sample`` gets images between the grey levels too, as attacks make them. What it draws for them must belong to the
    function that is certified: rounding the image first moves it, perhaps out of its ball.
    """

    def snap(self, noisy: torch.Tensor) -> torch.Tensor:
        """The grid point that the float sum x + δ stands for, bit for bit the same whatever x was; gradient 1."""
        ...
