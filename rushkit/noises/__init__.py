"""Smoothing distributions: how a noise is drawn, and the radius that it certifies.

``rushkit.noises.create("uniform", scale=0.3)`` makes one. Importing this package imports no component.

What a noise can do beyond ``Noise`` is an ability: a Protocol below, which a noise has by having its members, and which
the code asks for with ``isinstance``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, get_args, runtime_checkable

from rushkit.errors import NoCertificate, PluginError
from rushkit.registries import noises as _registry

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import ArrayLike, NDArray

    Probability = TypeVar("Probability", float, np.ndarray)

Norm = Literal["l1", "l2", "linf"]

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Noise(Protocol):
    """The interface of a smoothing distribution; a plugin needs no base class. Optional abilities are Protocols too."""

    @property
    def std(self) -> float:
        """The standard deviation of one coordinate, in pixel units (pixels lie in [0, 1])."""
        ...

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ with the shape, dtype and device of x; x is (N, C, H, W) with pixels in [0, 1]."""
        ...

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius around an image whose top class has probability at least p under this noise, pixel units.

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


@runtime_checkable
class TwoClassNoise(Noise, Protocol):
    """A noise that also certifies from bounds on the two top classes, as ``certify_counts(two_class=True)`` needs."""

    def certified_radius_two_class(self, p_a: Probability, p_b: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius where the top class has probability at least p_a and every other class at most p_b.

        Returns:
            The radius, 0 where p_a <= p_b, with p_a's type.

        Raises:
            NoCertificate: no theorem covers this norm.
        """
        ...


@runtime_checkable
class GridNoise(Noise, Protocol):
    """A noise whose x + δ lies on a grid, and whose proof holds in floating point only if ``snap`` follows the sum.

    ``sample`` also gets images between the grey levels, as attacks make them. Its draws for these must belong to the
    function that is certified: rounding the image first would move it, perhaps out of its ball.
    """

    def snap(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the grid point that the float sum x + δ stands for: the same bits whatever x was; gradient 1."""
        ...


@runtime_checkable
class FiniteNoise(Noise, Protocol):
    """A noise with so few noisy versions of an 8-bit image that all of them are counted, which leaves no chance."""

    @property
    def num_splits(self) -> int:
        """The number of noisy versions of an image."""
        ...

    def exhaustive(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return versions ``start`` to ``stop`` of 8-bit images: (N, C, H, W) -> (stop - start, N, C, H, W)."""
        ...

    def deterministic_radius(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Return the l1 radii that votes over all versions certify for certain: (N, K) -> (N,), pixel units."""
        ...


@runtime_checkable
class DataDependentNoise(Noise, Protocol):
    """A noise that says whether its δ depends on the pixels of x and not on the shape alone."""

    @property
    def data_dependent(self) -> bool:
        """Whether δ depends on the pixels of x; a noise without this ability counts as independent of them."""
        ...


@runtime_checkable
class DeterministicNoise(Noise, Protocol):
    """A noise that says whether its δ is the same at every draw."""

    @property
    def deterministic(self) -> bool:
        """Whether δ is the same at every draw; a noise without this ability counts as random."""
        ...


@runtime_checkable
class StatesTheorem(Noise, Protocol):
    """A noise that says in a few words which theorem its radii rest on."""

    def theorem(self, norm: Norm) -> str:
        """Return a phrase for tables, such as ``"Neyman-Pearson, tight"``.

        Raises:
            NoCertificate: no theorem covers this norm.
        """
        ...


@runtime_checkable
class PrefersNorm(Noise, Protocol):
    """A noise that says in which norm its certificates are where none is asked for: where its theorem is tight."""

    @property
    def own_norm(self) -> Norm:
        """The norm."""
        ...


@runtime_checkable
class NamedNoise(Noise, Protocol):
    """A noise that messages call by a name of its own."""

    @property
    def name(self) -> str:
        """The name."""
        ...


def is_deterministic(noise: Noise) -> bool:
    """Return whether every draw is the same, so that one pass of a model stands for all of them."""
    return isinstance(noise, DeterministicNoise) and noise.deterministic


def is_data_dependent(noise: Noise) -> bool:
    """Return whether δ depends on the pixels of x and not on its shape alone."""
    return isinstance(noise, DataDependentNoise) and noise.data_dependent


def name_of(noise: Noise) -> str:
    """Return the name of a noise for messages: its own name, or that of its class."""
    return noise.name if isinstance(noise, NamedNoise) else type(noise).__name__


def own_norm_of(noise: Noise, dim: int) -> Norm:
    """Return the norm of certificates where none is asked for.

    It is the noise's own; of a noise without one it is l2, or else the first norm that it has a theorem for, and l2
    again if it has none.

    Raises:
        PluginError: the noise names something else.
    """
    if isinstance(noise, PrefersNorm):
        if noise.own_norm not in get_args(Norm):
            raise PluginError(
                f"noise {name_of(noise)!r} has the own norm {noise.own_norm!r}",
                f"repair it: {', '.join(get_args(Norm))}",
            )
        return noise.own_norm
    known = norms_of(noise, dim)
    return known[0] if known and "l2" not in known else "l2"


def norms_of(noise: Noise, dim: int) -> list[Norm]:
    """Return the norms that the noise has a theorem for, in images of ``dim`` pixel values."""
    known: list[Norm] = []
    for norm in get_args(Norm):
        try:
            noise.certified_radius(0.75, norm, dim)
        except NoCertificate:
            continue
        known.append(norm)
    return known


def theorem_of(noise: Noise, norm: Norm) -> str:
    """Return a phrase for tables: the theorem that a noise's radii in ``norm`` rest on, as the noise states it.

    A noise without the ability gets a neutral phrase.

    Raises:
        NoCertificate: no theorem covers this norm, and the noise says so.
    """
    return noise.theorem(norm) if isinstance(noise, StatesTheorem) else "the noise's own theorem"


def noisy_images(noise: Noise, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Return x + δ for images (N, C, H, W), with a draw for each image; a noise on a grid snaps the sum to it."""
    return settled(noise, plus(noise, x, noise.sample(x, generator)))


def plus(noise: Noise, x: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    """Return x + δ for a draw that nothing else needs; in its memory if the noise allows it and x has no gradient."""
    return delta.add_(x) if getattr(noise, "draws_anew", False) and not x.requires_grad else x + delta


def settled(noise: Noise, noisy: torch.Tensor) -> torch.Tensor:
    """Return x + δ without the rounding error of the sum, where the noise has a grid: its proof does not allow one."""
    return noise.snap(noisy) if isinstance(noise, GridNoise) else noisy
