"""The proposals of Square: what one query changes, for the l-inf, l2 and l1 balls.

Every random number is drawn once a query and shared by all images, so that an image gets the same proposals in any
batch. Sources: Andriushchenko et al. 2020, Algorithms 2 (l-inf) and 3 (l2); Croce and Hein 2021, section 5 (l1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.attacks.norms import length, project

# The share of the image that the first windows cover, and the queries after which it is halved, as in AutoAttack.
_FIRST_SHARE = 0.8
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# In l2 and l1 the image starts as a grid of this many tiles a side.
_TILES = 5
_SMALLEST_BUMP = 3
_TINY = 1e-12


@dataclass(frozen=True)
class Window:
    """A square part of an image: the rows from ``top`` and the columns from ``left``, ``side`` of each."""

    top: int
    left: int
    side: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns, as an index."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def start(x: Tensor, norm: Norm, eps: float, source: torch.Generator) -> Tensor:
    """Return where a search starts, (N, C, H, W) in ball and box.

    In l-inf vertical stripes of ±eps; in l2 and l1 a grid of bumps, of random signs.
    """
    _, channels, height, width = x.shape
    if norm == "linf":
        return (x + eps * _signs((channels, 1, width), source).to(x)).clamp(0, 1)
    side = max(1, min(height, width) // _TILES)
    rows, columns = height // side, width // side
    top, left = (height - rows * side) // 2, (width - columns * side) // 2
    delta = torch.zeros((channels, height, width), dtype=torch.float64)
    for row in range(rows):
        for column in range(columns):
            place = Window(top + row * side, left + column * side, side).place
            delta[:, *place] = _bump(side, norm, source) * _signs((channels, 1, 1), source)
    return _within(x, delta.to(x).expand_as(x), norm, eps)


def proposal(x: Tensor, kept: Tensor, norm: Norm, eps: float, query: int, source: torch.Generator) -> Tensor:
    """Return what a query tries, (N, C, H, W) in ball and box: ``kept`` with a window filled anew.

    Args:
        x: (N, C, H, W) clean images.
        kept: (N, C, H, W) the best versions so far.
        norm: The norm of the ball.
        eps: The radius of the ball, pixel units.
        query: The number of the query, which determines the size of the window.
        source: The generator of this query.
    """
    _, channels, height, width = x.shape
    filled = _window(norm, height, width, query, source)
    if norm == "linf":
        tried = kept.clone()
        tried[:, :, *filled.place] = x[:, :, *filled.place] + eps * _signs((channels, 1, 1), source).to(x)
        return tried.clamp(0, 1)
    emptied = _window(norm, height, width, query, source)
    bump = (_bump(filled.side, norm, source) * _signs((channels, 1, 1), source)).to(x)
    return _within(x, _moved(kept - x, norm, eps, filled, emptied, bump), norm, eps)


def window_side(norm: Norm, height: int, width: int, query: int) -> int:
    """Return the side of a query's window, in pixels; it never exceeds the shorter side of the image."""
    share = _FIRST_SHARE / 2 ** sum(query > number for number in _HALVED_AFTER)
    side = round(math.sqrt(share * height * width))
    if norm == "linf":
        return min(max(side, 1), height, width)
    side = max(side, _SMALLEST_BUMP)
    return min(side + (side % 2 == 0), height, width)


def _window(norm: Norm, height: int, width: int, query: int, source: torch.Generator) -> Window:
    side = window_side(norm, height, width, query)
    top, left = (int(torch.randint(room - side + 1, (), generator=source)) for room in (height, width))
    return Window(top, left, side)


def _moved(delta: Tensor, norm: Norm, eps: float, filled: Window, emptied: Window, bump: Tensor) -> Tensor:
    """Return δ with one window emptied and a bump put into the other, which gets the length of both and what is spare.

    Lengths are taken for each channel; the new content points from the old content of its window towards the bump.
    """
    power = 2 if norm == "l2" else 1
    channels = delta.shape[1]
    both = torch.zeros(delta.shape[2:], dtype=torch.bool, device=delta.device)
    both[filled.place] = both[emptied.place] = True
    here = (delta * both).flatten(2).norm(p=power, dim=2)[:, :, None, None]
    spare = (eps**power - length(delta, norm).pow(power)).clamp(min=0).view(-1, 1, 1, 1) / channels
    room = (here.pow(power) + spare).pow(1 / power)
    if norm == "l1":
        # More than the ball allows: the projection that follows keeps the peaks, which makes the change sparse.
        room = room * channels
    old = delta[:, :, *filled.place]
    content = bump + old / old.flatten(2).norm(p=power, dim=2).clamp(min=_TINY)[:, :, None, None]
    scale = content.flatten(2).norm(p=power, dim=2).clamp(min=_TINY)[:, :, None, None]
    moved = delta.clone()
    moved[:, :, *emptied.place] = 0
    moved[:, :, *filled.place] = content / scale * room
    return moved


def _within(x: Tensor, delta: Tensor, norm: Norm, eps: float) -> Tensor:
    """Return x + δ in ball and box: in l2 scaled to length eps and clipped, in l1 projected."""
    if norm == "l1":
        return project(x, x + delta, norm, eps)
    return (x + delta * (eps / length(delta, norm).clamp(min=_TINY)).view(-1, 1, 1, 1)).clamp(0, 1)


def _bump(side: int, norm: Norm, source: torch.Generator) -> Tensor:
    """Return a (side, side) float64 pattern of unit length: one half is a peak, the other a peak of the other sign."""
    pattern = torch.cat([_peak(side // 2, side, norm), -_peak(side - side // 2, side, norm)])
    pattern /= pattern.flatten().norm(p=2 if norm == "l2" else 1)
    return pattern.T if int(torch.randint(2, (), generator=source)) else pattern


def _peak(rows: int, columns: int, norm: Norm) -> Tensor:
    """Return a (rows, columns) peak of unit length.

    It is a sum of concentric rectangles, the k-th one (from 1) of height k⁻² in l2 and k⁻⁴ in l1.
    """
    if not rows:
        return torch.zeros((0, columns), dtype=torch.float64)
    down, across = (torch.arange(0, count) - count // 2 for count in (rows, columns))
    distance = torch.maximum(down.abs()[:, None], across.abs()[None, :])
    heights = torch.arange(1, int(max(rows // 2, columns // 2)) + 2, dtype=torch.float64) ** (
        -2 if norm == "l2" else -4
    )
    # A point lies in every rectangle from the one that just reaches it on.
    peak = heights.flip(0).cumsum(0).flip(0)[distance]
    peak /= peak.flatten().norm(p=2 if norm == "l2" else 1)
    return peak


def _signs(shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(2, shape, generator=source).double() - 1
