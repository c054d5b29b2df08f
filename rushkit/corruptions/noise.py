"""Corruptions by noise: of the sensor, of few photons, and of single values that are lost.

Every corruption takes an image (H, W, C) float64 in [0, 1], its parameters and a source of draws, and returns an image
of the same shape, whose values are cut to [0, 1] later.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Settings = tuple[float, ...]


def gaussian_noise(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Add normal noise of standard deviation ``settings[0]``, pixel units, to every value."""
    (std,) = settings
    return x + std * draws.standard_normal(x.shape)


def shot_noise(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Count photons, of which ``settings[0]`` are expected where a value is 1, and return the counts' share of it."""
    (photons,) = settings
    return draws.poisson(photons * x) / photons


def impulse_noise(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Replace each value with probability ``settings[0]``: by 0 or by 1, equally often (salt and pepper)."""
    (share,) = settings
    lost, white = draws.random(x.shape) < share, draws.random(x.shape) < 0.5
    return np.where(lost, white.astype(np.float64), x)
