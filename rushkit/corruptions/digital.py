"""Corruptions by processing: little contrast, elastic distortion, coarse pixels, JPEG.

The arguments are those of ``corruptions.noise``.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from rushkit.corruptions.noise import Floats, Settings


def contrast(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Move every value towards the mean of its channel: ``settings[0]`` of the distance stays."""
    (kept,) = settings
    mean = x.mean(axis=(0, 1), keepdims=True)
    flat: Floats = mean + kept * (x - mean)
    return flat


def elastic_transform(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Distort the image by a random affine map, and then each pixel by a smooth random field, both bilinearly.

    ``settings`` are the length of the field and the width of the Gaussian that smooths it, and how far the three points
    that make the affine map move along each axis, all as shares of the image's side.
    """
    side = len(x)
    length, smoothness, move = (share * side for share in settings)
    middle, arm = side // 2, side // 3
    before = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]])
    after = before + draws.uniform(-move, move, before.shape)
    # The affine map that takes the moved points back to where the pixels come from.
    back = np.linalg.solve(np.c_[after, np.ones(3)], before)
    rows, columns = np.mgrid[:side, :side]
    x = _sampled(x, np.tensordot(back.T, np.stack([rows, columns, np.ones_like(rows)]), axes=1), "mirror")
    field = [draws.uniform(-1, 1, (side, side)) for _ in range(2)]
    if smoothness:
        field = [ndimage.gaussian_filter(one, smoothness, mode="reflect", truncate=3) for one in field]
    return _sampled(x, np.stack([rows, columns]) + length * np.stack(field), "reflect")


def _sampled(x: Floats, places: Floats, mode: Literal["mirror", "reflect"]) -> Floats:
    """Return an image (H, W, C) read at places (2, H, W), bilinearly; ``mode`` says how it goes on past its edge."""
    channels = [ndimage.map_coordinates(channel, places, order=1, mode=mode) for channel in np.moveaxis(x, 2, 0)]
    return np.stack(channels, axis=2)


def pixelate(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Make the image smaller, to ``settings[0]`` of its side, and as large again, by box filters."""
    (share,) = settings
    side = len(x)
    small = (int(share * side),) * 2
    return _values(_picture(x).resize(small, Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX), x)


def jpeg_compression(x: Floats, settings: Settings, draws: np.random.Generator) -> Floats:
    """Write the image as JPEG of quality ``settings[0]``, and read it again."""
    buffer = io.BytesIO()
    _picture(x).save(buffer, "JPEG", quality=int(settings[0]))
    return _values(Image.open(buffer), x)


def _picture(x: Floats) -> Image.Image:
    """Return an image (H, W, C) of 1 or 3 channels for Pillow."""
    pixels = np.rint(x * 255).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if x.shape[2] == 1 else pixels)


def _values(picture: Image.Image, like: Floats) -> Floats:
    values: Floats = np.asarray(picture, dtype=np.float64).reshape(like.shape) / 255
    return values
