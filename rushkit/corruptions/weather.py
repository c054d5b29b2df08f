"""Corruptions by weather: snow, frost, fog, bright light. The arguments are those of ``corruptions.noise``."""

from __future__ import annotations

import numpy as np

from rushkit.corruptions.blur import along_line, zoomed
from rushkit.corruptions.noise import Floats, Settings
from rushkit.corruptions.textures import frost_texture, plasma

# The share of red, green and blue in the brightness of a grey image (ITU-R BT.601).
_GREY = np.array([0.299, 0.587, 0.114])


def snow(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Whiten the image, and let flakes fall over it from both sides.

    ``settings`` are the mean and the standard deviation of the noise that flakes come from, how far it is enlarged, the
    value above which it is a flake, radius and width of the motion that draws flakes out, and the share of the image
    that is not whitened.
    """
    mean, std, size, least, radius, width, kept = settings
    flakes = zoomed(mean + std * draws.standard_normal((*x.shape[:2], 1)), size)
    flakes = np.clip(np.where(flakes < least, 0, flakes), 0, 1)
    flakes = along_line(flakes, int(radius), width, draws.uniform(-135, -45))
    white = np.maximum(x, 1.5 * grey(x) + 0.5)
    return kept * x + (1 - kept) * white + flakes + np.rot90(flakes, 2)


def grey(x: Floats) -> Floats:
    """Return the brightness of an image (H, W, C) as one channel, (H, W, 1)."""
    return x if x.shape[2] == 1 else (x @ _GREY)[..., None]


def frost(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Mix ``settings[0]`` of the image with ``settings[1]`` of a texture like frost; see ``frost_texture``."""
    kept, ice = settings
    return kept * x + ice * frost_texture(len(x), x.shape[2], draws)


def fog(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Add ``settings[0]`` of a cloud of smoothness ``settings[1]``, and darken so that the brightest value stays."""
    thickness, decay = settings
    brightest = x.max()
    foggy = x + thickness * plasma(len(x), decay, draws)[..., None]
    # A black image is left black.
    darkened: Floats = foggy * (brightest / (brightest + thickness))
    return darkened


def brightness(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Raise the value V of hue, saturation and value by ``settings[0]``, to 1 at most; hue and saturation stay."""
    (more,) = settings
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + more, 1)
    # Black has no hue and no saturation, and becomes grey.
    brightened: Floats = np.where(value > 0, x * raised / np.where(value > 0, value, 1), raised)
    return brightened
