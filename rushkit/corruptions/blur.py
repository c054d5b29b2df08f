"""Corruptions by blur: out of focus, behind frosted glass, by motion, by zoom.

The arguments are those of ``corruptions.noise``. Lengths are in pixels.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from scipy import ndimage

from rushkit.corruptions.noise import Floats, Settings


def defocus_blur(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Average over a disk of radius ``settings[0]``, whose edge a Gaussian of width ``settings[1]`` softens."""
    kernel = disk_kernel(*settings)
    return ndimage.convolve(x, kernel[..., None], mode="mirror")


def disk_kernel(radius: float, softness: float) -> Floats:
    """Return the weights of a disk, softened by a Gaussian on 3x3 pixels (5x5 beyond a radius of 8): (K, K), sum 1."""
    window = 1 if radius <= 8 else 2
    reach = math.ceil(radius) + window
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    soft = np.exp(-(np.arange(-window, window + 1) ** 2) / (2 * softness**2))
    for axis in (0, 1):
        disk = ndimage.convolve1d(disk, soft, axis=axis, mode="constant")
    kernel: Floats = disk / disk.sum()
    return kernel


def smoothed(x: Floats, std: float) -> Floats:
    """Return an image (H, W, C) averaged by a Gaussian of a standard deviation in pixels; the edge is continued."""
    blurred: Floats = ndimage.gaussian_filter(x, (std, std, 0), mode="nearest")
    return blurred


def glass_blur(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Smooth by a Gaussian of width ``settings[0]``, swap pixels with near ones, and smooth again.

    ``settings[1]`` is how far apart the pixels of a swap may be along each axis, ``settings[2]`` how often all are
    swapped.
    """
    std, reach, passes = settings[0], int(settings[1]), int(settings[2])
    x = smoothed(x, std)
    height, width = x.shape[:2]
    places = list(range(height * width))
    for _ in range(passes):
        inner = height - 2 * reach, width - 2 * reach
        moves = (draws.integers(-reach, reach, inner) * width + draws.integers(-reach, reach, inner)).tolist()
        for row in range(inner[0]):
            start = (height - reach - row) * width + width - reach
            for column, move in enumerate(moves[row]):
                here = start - column
                places[here], places[here + move] = places[here + move], places[here]
    return smoothed(x.reshape(height * width, -1)[places].reshape(x.shape), std)


def motion_blur(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Average along a line in a direction drawn within 45 degrees of the horizontal; see ``along_line``."""
    radius, std = settings
    return along_line(x, int(radius), std, draws.uniform(-45, 45))


def motion_kernel(radius: int, std: float) -> Floats:
    """Return the weights of half a Gaussian at 0, 1, .., 2 * radius pixels: (2 * radius + 1,), sum 1."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * std**2))
    kernel: Floats = weights / weights.sum()
    return kernel


def along_line(x: Floats, radius: int, std: float, degrees: float) -> Floats:
    """Return an image (H, W, C) averaged along a line from each pixel, by ``motion_kernel``; the edge is continued."""
    height, width = x.shape[:2]
    angle, rows, columns = math.radians(degrees), np.arange(height), np.arange(width)
    total = np.zeros_like(x)
    for distance, weight in enumerate(motion_kernel(radius, std)):
        down, right = round(distance * math.sin(angle)), round(distance * math.cos(angle))
        total += weight * x[np.clip(rows + down, 0, height - 1)][:, np.clip(columns + right, 0, width - 1)]
    return total


def zoom_blur(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Average the image with itself enlarged by the factors 1, 1 + ``settings[1]``, .., up to ``settings[0]``."""
    end, step = settings
    factors = np.arange(1, end, step)
    total = x + sum(zoomed(x, factor) for factor in factors)
    mean: Floats = total / (len(factors) + 1)
    return mean


def zoomed(x: Floats, factor: float) -> Floats:
    """Return the middle of an image (S, S, C), enlarged bilinearly by a factor of 1 or more: the same shape."""
    matrix = _enlarging(len(x), factor)
    middle: Floats = np.moveaxis(matrix @ np.moveaxis(x, 2, 0) @ matrix.T, 0, 2)
    return middle


@cache
def _enlarging(side: int, factor: float) -> Floats:
    """Return the matrix (side, side) that crops a line of pixels to its middle and enlarges that to the whole line."""
    crop = math.ceil(side / factor)
    start = (side - crop) // 2
    enlarged = ndimage.zoom(np.eye(side)[start : start + crop], (factor, 1), order=1)
    start = (len(enlarged) - side) // 2
    matrix: Floats = enlarged[start : start + side]
    return matrix
