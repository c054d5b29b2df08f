"""Rotate and translate images, and the grid of rotations and translations that is searched for the worst one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Shift(NamedTuple):
    """A rotation about the middle of an image, and then a translation.

    Attributes:
        rotation: Degrees, counter-clockwise.
        right: Pixels to the right.
        down: Pixels down.
    """

    rotation: float
    right: float
    down: float


def shift_grid(rotation: float, translation: float, counts: Sequence[int]) -> list[Shift]:
    """Return the points of a grid around no shift, evenly spaced: rotations outermost, then right, then down.

    >>> shift_grid(30, 3, (31, 5, 5))  # the grid of Engstrom et al. 2019

    Args:
        rotation: The largest rotation, degrees.
        translation: The largest translation along each axis, pixels.
        counts: How many rotations, translations to the right, and down: odd numbers, so that 0 is among them.
    """
    ranges = zip((rotation, translation, translation), counts, strict=True)
    return [Shift(*point) for point in product(*(_around_zero(most, count) for most, count in ranges))]


def _around_zero(most: float, count: int) -> list[float]:
    middle = count // 2
    return [most * (place - middle) / max(1, middle) for place in range(count)]


def shifted(x: Tensor, shift: Shift) -> Tensor:
    """Return images that are rotated and then translated, by bilinear interpolation; what comes in is black.

    Args:
        x: (N, C, S, S) floating-point images in [0, 1].
        shift: The rotation and the translation; none at all returns the images themselves.

    Returns:
        (N, C, S, S) in [0, 1].
    """
    if shift == Shift(0, 0, 0):
        return x
    angle, side = math.radians(shift.rotation), x.shape[-1]
    cosine, sine = math.cos(angle), math.sin(angle)
    # Where a pixel comes from, in coordinates from -1 to 1 that grow to the right and down.
    right, down = 2 * shift.right / side, 2 * shift.down / side
    back = [[cosine, -sine, sine * down - cosine * right], [sine, cosine, -sine * right - cosine * down]]
    maps = torch.tensor([back], dtype=x.dtype, device=x.device).expand(len(x), 2, 3)
    places = F.affine_grid(maps, list(x.shape), align_corners=False)
    moved = F.grid_sample(x, places, mode="bilinear", padding_mode="zeros", align_corners=False)
    return moved.clamp_(0, 1)
