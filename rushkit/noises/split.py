"""Splitting noise: each pixel is replaced by the middle of the cell that a shifted coarse grid puts it in."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from rushkit.errors import UsageError
from rushkit.noises import Norm
from rushkit.noises.additive import (
    as_given,
    check_full_precision,
    check_norm,
    checked_dim,
    checked_probability,
    from_l1,
    generator_for,
    one_of_scale_and_std,
)
from rushkit.noises.grid import LEVELS, nearest_levels, snapped

if TYPE_CHECKING:
    from rushkit.noises import Probability

# Cell middles are multiples of a quarter grey level: cells end at half levels, and a middle halves once more.
_QUARTERS = 4 * LEVELS
# Bits of the integer that a draw's shift and dither come from.
_BITS = 62
# Grey levels by which float32 arithmetic may move a pixel of an 8-bit image.
_ROUNDING = 1e-3


@dataclass(frozen=True, init=False)
class Split:
    """Uniform splitting noise around 8-bit images, with a deterministic l1 certificate (Levine & Feizi 2021).

    The line of grey levels is cut every 2λ, at s + 2λℤ with s between two levels; a pixel becomes the middle of its
    cell, cut off at 0 and 1. Two pixels v apart are told apart by at most the share ``|v|/2λ`` of all shifts s. Every
    pixel's shift is one shared shift plus a fixed offset of its own, so there are only M = 2λ·255 noisy versions of an
    image, and at most ‖v‖₁·255 of them change when the image moves by v. Counting votes over all M (``exhaustive``)
    leaves no chance of error and no alpha (``deterministic_radius``).

    A pixel between two levels is dithered: it is taken for either, the nearer the likelier, by one shared random number
    for all pixels. ⌊x' + U⌋ then lies ``|x' − x|`` from a whole level x on average, so that the share of noisy versions
    that differ is at most 255·‖v‖₁/M for every real v, and the certificate of an 8-bit image covers all of its ball.
    Rounding would not do: it can take a pixel twice as far as it has moved.

    ``sample`` draws one of the versions at random, which is what a network trains on; on votes counted that way
    ``certified_radius`` is the uniform noise's l1 radius 2λ(p − ½), and by norm inequalities that /√d and /d.

    Args:
        scale: λ, rounded to the nearest multiple of 1/510.
        std: Of the middle minus the pixel, λ/√3, where no cell is cut off at 0 or 1.
        seed: Fixes the offsets; the classifier is another one under another seed.

    Raises:
        UsageError: both or neither of scale and std, or one that is not positive, finite and at least 1/1020.
    """

    scale: float
    std: float
    seed: int
    num_splits: int
    name: ClassVar[str] = "split"
    # δ is the middle of a cell minus the pixel: one image's δ means nothing for another.
    data_dependent: ClassVar[bool] = True
    own_norm: ClassVar[Norm] = "l1"
    theorems: ClassVar[Mapping[Norm, str]] = {
        "l1": "share of splits that differ",
        "l2": "l1 radius / sqrt(d)",
        "linf": "l1 radius / d",
    }

    def __init__(self, scale: float | None = None, std: float | None = None, seed: int = 0) -> None:
        wanted = one_of_scale_and_std(self.name, scale, std, 1.0 / math.sqrt(3.0))
        splits = round(2.0 * wanted * LEVELS)
        if splits < 1:
            raise UsageError(f"noise {self.name!r}: scale {wanted} is less than half a grey level", "use scale=0.3")
        object.__setattr__(self, "num_splits", splits)
        object.__setattr__(self, "scale", splits / (2.0 * LEVELS))
        object.__setattr__(self, "std", self.scale / math.sqrt(3.0))
        object.__setattr__(self, "seed", seed)

    def sample(self, x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw δ = middle − x, each image with its own random one of the M shifts; shape, dtype, device of x.

        Pixels between two grey levels are dithered. ``snap`` makes x + δ exact.

        Args:
            x: (N, C, H, W) images in [0, 1].
            generator: Where the randomness comes from; without it, fresh entropy of the operating system.

        Raises:
            UsageError: x is not float32 or float64.
        """
        generator = generator_for(x, generator)
        check_full_precision(self.name, x)
        shape = (len(x), *[1] * (x.dim() - 1))
        # Modulo of a wide integer: torch's own narrow one prefers small values by up to M in 2³².
        drawn = torch.randint(1 << _BITS, shape, generator=generator, device=generator.device).to(x.device)
        levels, rest = nearest_levels(x)
        if rest is not None:
            # What the modulo leaves of the integer is uniform as well, and independent of it.
            dither = (drawn // self.num_splits).to(rest.device).double() / ((1 << _BITS) // self.num_splits)
            up, down = (rest > 0) & (dither >= 1 - rest), (rest < 0) & (dither < -rest)
            levels = levels + (up.long() - down.long()).to(x.device)
        return self._middles(levels, drawn % self.num_splits).to(x.dtype) / _QUARTERS - x.detach()

    def snap(self, noisy: torch.Tensor) -> torch.Tensor:
        """Return the cell middle nearest to x + δ, bit for bit the same however it was reached; gradient 1."""
        return snapped(noisy, _QUARTERS)

    def exhaustive(self, x: torch.Tensor, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Return all M noisy versions of every image, or those from ``start`` to ``stop``, ready for the network.

        Args:
            x: (N, C, H, W) 8-bit images scaled to [0, 1], float32 or float64.
            start: First version.
            stop: One after the last version; all by default. Slices bound the memory.

        Returns:
            (stop − start, N, C, H, W) with x's dtype and device.

        Raises:
            UsageError: x is not on the grid of grey levels, or not float32 or float64; a slice outside 0..M.
        """
        stop = self.num_splits if stop is None else stop
        if not 0 <= start <= stop <= self.num_splits:
            raise UsageError(
                f"there are no splits {start}:{stop}", f"noise {self.name!r} has {self.num_splits} of them"
            )
        if x.dtype not in (torch.float32, torch.float64):
            raise UsageError(
                f"noise {self.name!r} needs float32 images (got {x.dtype})", "use bf16 in the network only"
            )
        levels, rest = nearest_levels(x)
        # No rounding explains a larger distance to a level: this is no 8-bit image.
        if rest is not None and float(rest.abs().amax()) > _ROUNDING:
            raise UsageError(
                "these are not 8-bit images", "only an image of whole grey levels has all its noisy versions counted"
            )
        shifts = torch.arange(start, stop, device=x.device).view(-1, *[1] * x.dim())
        return self._middles(levels, shifts).to(x.dtype) / _QUARTERS

    def deterministic_radius(self, counts: ArrayLike) -> NDArray[np.float64]:
        """Return the l1 radius within which the vote over all M splits keeps its class; it is certain, without alpha.

        Args:
            counts: (N, K) votes, each row summing to M; the class is the first of those with the most votes.

        Returns:
            (N,) radii in pixel units, whole grey levels: every image at that l1 distance or nearer is covered.

        Raises:
            UsageError: rows that do not sum to M, or fewer than two classes.
        """
        votes = np.asarray(counts, dtype=np.int64)
        complete = votes.ndim == 2 and votes.shape[1] >= 2 and bool(np.all(votes >= 0))
        if not (complete and bool(np.all(votes.sum(axis=1) == self.num_splits))):
            raise UsageError(f"the votes of an image must be over all {self.num_splits} splits", "count exhaustive(x)")
        classes, rows = np.arange(votes.shape[1]), np.arange(len(votes))
        top = votes.argmax(axis=1)
        # A tie goes to the lower index, so a class below the winner's must be beaten by one vote more.
        rivals = votes + (classes < top[:, None])
        rivals[rows, top] = -1
        # One changed split takes a vote from the winner and gives it to the rival.
        changes = (votes[rows, top] - rivals.max(axis=1)) // 2
        radii: NDArray[np.float64] = changes / float(LEVELS)
        return radii

    def certified_radius(self, p: Probability, norm: Norm, dim: int) -> Probability:
        """Return the radius in pixel units where p bounds the top class's probability from below, from sampled votes.

        Raises:
            UsageError: p outside [0, 1] or NaN, an unknown norm, or dim below 1.
        """
        bounds = checked_probability(p)
        dim = checked_dim(norm, dim)
        return as_given(from_l1(2.0 * self.scale * np.maximum(bounds - 0.5, 0.0), norm, dim), p)

    def theorem(self, norm: Norm) -> str:
        """Return the theorem that the radii in ``norm`` rest on, in a phrase for tables.

        Raises:
            UsageError: an unknown norm.
        """
        check_norm(norm)
        return self.theorems[norm]

    def _middles(self, levels: torch.Tensor, shifts: torch.Tensor) -> torch.Tensor:
        """Return int64 cell middles in quarter levels; levels (..., N, C, H, W) and shifts broadcast."""
        width = self.num_splits
        offsets = _offsets(self.seed, math.prod(levels.shape[1:]), width, levels.device).view(levels.shape[1:])
        # Cuts at cut + ½ + width·ℤ: a level belongs to the cell whose lower cut is the nearest below it.
        cut = (shifts + offsets) % width
        below = 2 * (cut + width * torch.div(levels - cut - 1, width, rounding_mode="floor")) + 1
        above = below + 2 * width
        # In half levels; the sum of both ends is the middle in quarter levels.
        return below.clamp(min=0) + above.clamp(max=2 * LEVELS)


@lru_cache(maxsize=16)
def _offsets(seed: int, dim: int, width: int, device: torch.device) -> torch.Tensor:
    """Return (dim,) int64 fixed pseudo-random offsets in [0, width); a longer image's begin with a shorter one's.

    They come from a hash and not from a generator: a certificate must not change with the version of a library.
    """
    drawn = b"".join(hashlib.blake2b(f"split:{seed}:{block}".encode()).digest() for block in range(-(-dim // 8)))
    words = np.frombuffer(drawn, dtype="<u8")[:dim]
    return torch.from_numpy((words % np.uint64(width)).astype(np.int64)).to(device)
