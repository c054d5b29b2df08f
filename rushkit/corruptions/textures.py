"""Random textures: clouds by the diamond-square algorithm, and a texture that looks like frost on glass."""

from __future__ import annotations

import numpy as np

from rushkit.corruptions.blur import along_line
from rushkit.corruptions.noise import Floats

# The colour of ice: red, green, blue.
_ICE = np.array([0.86, 0.94, 1.0])
# Of how many pixels one is the seed of a needle, and the directions of needles, which crystals of ice have.
_SEEDS = 0.02
_DIRECTIONS = 3


def plasma(side: int, decay: float, draws: np.random.Generator) -> Floats:
    """Return a cloud by the diamond-square algorithm on a torus, cut to (side, side), from 0 to 1 over the whole torus.

    Midpoints of squares are the mean of four corners plus a uniform draw, midpoints of edges that of their four
    neighbours plus another. From each size of squares to half of it the draws shrink by the square of ``decay``, as in
    the published definition of fog.

    Args:
        side: Height and width; the torus has the next power of two.
        decay: More makes a smoother cloud.
        draws: Source of draws.
    """
    size = 1 << max(1, (side - 1).bit_length())
    field, spread, step = np.zeros((size, size)), 1.0, size
    while step > 1:
        half = step // 2
        corners = field[::step, ::step]

        def drawn(around: Floats, spread: float = spread) -> Floats:
            return around / 4 + draws.uniform(-spread, spread, around.shape)

        right = np.roll(corners, -1, axis=1)
        centres = drawn(corners + right + np.roll(corners, -1, axis=0) + np.roll(right, -1, axis=0))
        field[half::step, half::step] = centres
        field[::step, half::step] = drawn(corners + right + centres + np.roll(centres, 1, axis=0))
        below = np.roll(corners, -1, axis=0)
        field[half::step, ::step] = drawn(corners + below + centres + np.roll(centres, 1, axis=1))
        step, spread = half, spread / decay**2
    field -= field.min()
    cloud: Floats = field[:side, :side] / field.max()
    return cloud


def frost_texture(side: int, channels: int, draws: np.random.Generator) -> Floats:
    """Return a texture that looks like frost: bluish white veins and needles on a cloud, (side, side, channels).

    It stands in for the photographs of the published corruption, which are not ours to ship. A smooth cloud makes
    thick and thin ice; the ridges of a rougher cloud make veins; single bright pixels drawn out in three directions, 60
    degrees apart, make needles.
    """
    ice, rough = plasma(side, 1.7, draws), plasma(side, 1.4, draws)
    veins = (1 - np.abs(2 * rough - 1)) ** 4
    seeds = (draws.random((side, side, 1)) < _SEEDS).astype(np.float64)
    length, first = max(2, side // 8), draws.uniform(0, 60)
    drawn_out = [along_line(seeds, length, length, first + 60 * number) for number in range(_DIRECTIONS)]
    needles = np.sum(drawn_out, axis=0)[..., 0]
    brightness = np.clip(0.25 + 0.45 * ice + 0.35 * veins + length * needles, 0, 1)
    colour = _ICE if channels == len(_ICE) else np.ones(channels)
    texture: Floats = brightness[..., None] * colour
    return texture
