"""The base of all additive i.i.d. noises: scale or std, how they are drawn, and the checks of probabilities."""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, SupportsIndex, cast, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rushkit.errors import UsageError
from rushkit.noises import Norm

if TYPE_CHECKING:
    from rushkit.noises import Probability

Probabilities = NDArray[np.float64]

# Pixel units, in which a pixel spans 1: published noises stay below 4, and one meant in grey levels is mostly above.
_LARGEST_NOISE = 10.0
LARGEST_BELOW_ONE = math.nextafter(1.0, 0.0)
# What p = 1 is taken to leave to the other classes.
SMALLEST_TAIL = 1.0 - LARGEST_BELOW_ONE
# Share of a radius that a formula of several float64 steps is rounded down by: more than their errors add up to.
ROUNDING = 2.0**-49


@dataclass(frozen=True, init=False)
class AdditiveNoise(ABC):
    """A noise δ whose coordinates are independent, with one distribution; exactly one of scale and std is given.

    Attributes:
        scale: The distribution's own scale (λ, σ or b), pixel units.
        std: Standard deviation of one coordinate, pixel units.
        draws_anew: Every draw is a new tensor, which may be overwritten.

    Raises:
        UsageError: both or neither of scale and std, or one that is not a positive finite number, or more than 10.
    """

    scale: float
    std: float
    name: ClassVar[str]
    std_per_scale: ClassVar[float] = 1.0
    own_norm: ClassVar[Norm]
    theorems: ClassVar[Mapping[Norm, str]]
    draws_anew: ClassVar[bool] = True

    def __init__(self, scale: float | None = None, std: float | None = None) -> None:
        given_scale = one_of_scale_and_std(self.name, scale, std, self.std_per_scale)
        object.__setattr__(self, "scale", given_scale)
        # A std that was given is kept to the last bit.
        object.__setattr__(self, "std", given_scale * self.std_per_scale if std is None else float(std))

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ with the shape, dtype and device of x.

        Draws are made on the generator's device and moved to x's; half precision is drawn in float32 and rounded.
        Without a generator the draw comes from fresh entropy of the operating system: it cannot be repeated, and
        the global random state is neither read nor changed.

        Args:
            x: (N, C, H, W) images, floating point; only shape, dtype and device are used.
            generator: Where the randomness comes from.

        Raises:
            UsageError: x is not floating point.
        """
        generator = generator_for(x, generator)
        wide = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
        drawn = self._draw(torch.empty(x.shape, dtype=wide, device=generator.device), generator)
        return drawn.to(device=x.device, dtype=x.dtype)

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius around an image whose top class has probability at least p under this noise.

        Args:
            p: Lower bound (or array of bounds) on the top class's probability.
            norm: ``"l1"``, ``"l2"`` or ``"linf"``.
            dim: C * H * W.

        Returns:
            The radius in pixel units, 0 where p <= 1/2, finite everywhere; float64, a number for a number.

        Raises:
            UsageError: p outside [0, 1] or NaN, an unknown norm, or dim below 1.
        """
        bounds = checked_probability(p)
        dim = checked_dim(norm, dim)
        return as_given(np.where(bounds > 0.5, self._radius(np.maximum(bounds, 0.5), norm, dim), 0.0), p)

    def certified_radius_two_class(self, p_a: Probability, p_b: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius where the top class has probability at least p_a and every other class at most p_b.

        Args:
            p_a: Lower bound (or array of bounds) on the top class's probability.
            p_b: Upper bound on the probability of every other class.
            norm: ``"l1"``, ``"l2"`` or ``"linf"``.
            dim: C * H * W.

        Returns:
            The radius in pixel units, 0 where p_a <= p_b; with p_b = 1 - p_a it equals ``certified_radius(p_a)``.

        Raises:
            UsageError: a probability outside [0, 1] or NaN, an unknown norm, or dim below 1.
        """
        first, second = np.broadcast_arrays(checked_probability(p_a), checked_probability(p_b))
        dim = checked_dim(norm, dim)
        # Two probabilities add up to at most 1: a loose bound on the runner-up is cut there.
        second = np.minimum(second, 1.0 - first)
        # Where nothing is certified the formula gets 1/2 twice, and its value is not used.
        ahead = first > second
        radius = self._radius_two_class(np.where(ahead, first, 0.5), np.where(ahead, second, 0.5), norm, dim)
        return as_given(np.where(ahead, np.maximum(radius, 0.0), 0.0), p_a)

    def theorem(self, norm: Norm) -> str:
        """Return the theorem that the radii in ``norm`` rest on, in a phrase for tables.

        Raises:
            UsageError: an unknown norm.
        """
        check_norm(norm)
        return self.theorems[norm]

    @abstractmethod
    def _draw(self, out: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Fill ``out`` (float32 or float64, on the generator's device) with δ and return it."""

    @abstractmethod
    def _radius(self, p: Probabilities, norm: Norm, dim: int) -> Probabilities:
        """Return the radius for 1/2 <= p <= 1."""

    @abstractmethod
    def _radius_two_class(self, p_a: Probabilities, p_b: Probabilities, norm: Norm, dim: int) -> Probabilities:
        """Return the radius for p_a >= p_b and p_a + p_b <= 1."""


def one_of_scale_and_std(name: str, scale: float | None, std: float | None, std_per_scale: float) -> float:
    """Return the scale, from whichever of the two was given.

    Raises:
        UsageError: both or neither were given, or the one is not a positive finite number, or more than 10.
    """
    if (scale is None) == (std is None):
        got = "neither" if scale is None else "both"
        raise UsageError(f"noise {name!r} takes exactly one of scale and std (got {got})", "for example scale=0.3")
    word, given = ("scale", scale) if scale is not None else ("std", std)
    value = float(cast(float, given))
    if not (math.isfinite(value) and value > 0.0):
        raise UsageError(f"noise {name!r}: {word} must be a positive finite number (got {value!r})", f"{word}=0.25")
    if value > _LARGEST_NOISE:
        raise UsageError(
            f"noise {name!r}: {word} {value:g} would bury any image, whose pixels lie in [0, 1]; it is at most "
            f"{_LARGEST_NOISE:g}",
            f"{value:g} looks like grey levels of 0 to 255: {word}={value / 255:.4g}",
        )
    return value if word == "scale" else value / std_per_scale


def generator_for(x: torch.Tensor, generator: torch.Generator | None) -> torch.Generator:
    """Return the given generator, or a new one on x's device, seeded by the operating system.

    Raises:
        UsageError: x is not floating point, so no noise can be added to it.
    """
    if not x.dtype.is_floating_point:
        raise UsageError(f"noise is added to floating-point images (got {x.dtype})", "scale uint8 images to [0, 1]")
    if generator is None:
        generator = torch.Generator(x.device)
        generator.seed()
    return generator


def check_full_precision(name: str, x: torch.Tensor) -> None:
    """Raise UsageError unless x is float32 or float64: half precision cannot hold a grid of grey levels."""
    if x.dtype not in (torch.float32, torch.float64):
        raise UsageError(
            f"noise {name!r} needs float32 images (got {x.dtype})", "use half precision in the network only"
        )


def checked_probability(p: ArrayLike) -> Probabilities:
    """Return p as float64.

    Raises:
        UsageError: a value outside [0, 1], or NaN.
    """
    bounds = np.asarray(p, dtype=np.float64)
    # Written so that NaN fails too.
    wrong = ~((bounds >= 0.0) & (bounds <= 1.0))
    if wrong.any():
        raise UsageError(f"a probability must lie in [0, 1] (got {bounds[wrong].flat[0]})", "pass a bound on p")
    return bounds


def check_norm(norm: str) -> None:
    """Raise UsageError for an unknown norm."""
    if norm not in get_args(Norm):
        raise UsageError(f"unknown norm {norm!r}", f"use {', '.join(get_args(Norm))}")


def checked_dim(norm: str, dim: SupportsIndex) -> int:
    """Return a dimension as an int.

    Raises:
        UsageError: an unknown norm, or a dimension that is no integer or below 1.
    """
    check_norm(norm)
    try:
        whole = operator.index(dim)
    except TypeError:
        whole = 0
    if whole < 1:
        raise UsageError(f"dim must be an integer of at least 1 (got {dim!r})", "it is channels * height * width")
    return whole


def from_l1(radius: Probabilities, norm: Norm, dim: int) -> Probabilities:
    """Return the radius in ``norm`` that an l1 radius implies: ‖v‖₁ <= √d ‖v‖₂ and ‖v‖₁ <= d ‖v‖∞."""
    return radius / {"l1": 1.0, "l2": math.sqrt(dim), "linf": float(dim)}[norm]


def as_given(radius: Probabilities, p: Probability) -> Probability:
    """Return a float where p was a number, an array where it was an array."""
    given = float(radius) if radius.ndim == 0 and not isinstance(p, np.ndarray) else radius
    return cast("Probability", given)
