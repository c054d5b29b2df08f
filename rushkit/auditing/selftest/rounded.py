"""Planted defences that transform the image by a function without a slope, before a network that was trained behind it.

Rounding (Xu et al. 2018, "Feature squeezing"), thermometer codes (Buckman et al. 2018), JPEG (Guo et al. 2018), a hard
threshold and the median of 3x3 pixels: where the slope is 0 or the graph is cut, gradient attacks stay where they are.
"""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SLOPES
from rushkit.auditing.selftest.ground import Ground, convolutional
from rushkit.models.stood_in import StoodIn

EPS = 0.15
_STEPS_OF_GREY = 3
_PLANES = 15
_QUALITY = 20
# Slopes of the sigmoids that stand in for steps; between 4 and 20 they make no difference.
_PLANE_SLOPE, _THRESHOLD_SLOPE = 20.0, 10.0


class Rounded(nn.Module):
    """Rounds pixels to one of four grey levels; autograd takes its slope to be 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) of the values 0, 1/3, 2/3 and 1."""
        return (x * _STEPS_OF_GREY).round() / _STEPS_OF_GREY


class Thermometer(nn.Module):
    """Codes each pixel as 15 planes, of which the k-th is 1 where the pixel is above k/16."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the planes (N, 15 C, H, W) of images (N, C, H, W)."""
        return (_above_levels(x) > 0).to(x)


class SmoothThermometer(nn.Module):
    """The planes of ``Thermometer`` with a sigmoid for each step."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the planes (N, 15 C, H, W) of images (N, C, H, W)."""
        return torch.sigmoid(_PLANE_SLOPE * _above_levels(x))


class Jpeg(nn.Module):
    """Encodes each image as a JPEG of quality 20 and decodes it, which cuts the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, 3, H, W) of values k/255."""
        stored = (x.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        decoded = np.stack([_through_jpeg(image) for image in stored])
        return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(x) / 255


class Threshold(nn.Module):
    """Turns pixels black or white, which cuts the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) of the values 0 and 1."""
        return (x > 0.5).to(x)


class SmoothThreshold(nn.Module):
    """A sigmoid in place of ``Threshold``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) of values between 0 and 1."""
        return torch.sigmoid(_THRESHOLD_SLOPE * (x - 0.5))


class Median(nn.Module):
    """Replaces each pixel by the median of 3x3, outside the graph."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W); the border is repeated outwards."""
        return _patches(x.detach()).median(-1).values


class Mean(nn.Module):
    """Replaces each pixel by the mean of 3x3, in place of ``Median``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W); the border is repeated outwards."""
        return _patches(x).mean(-1)


def _above_levels(x: Tensor) -> Tensor:
    """Return by how much pixels are above the levels k/16: (N, C, H, W) -> (N, 15 C, H, W)."""
    levels = torch.arange(1, _PLANES + 1, device=x.device, dtype=x.dtype) / (_PLANES + 1)
    return (x.unsqueeze(2) - levels.view(-1, 1, 1)).flatten(1, 2)


def _through_jpeg(image: np.ndarray) -> np.ndarray:
    with io.BytesIO() as stored:
        Image.fromarray(image).save(stored, format="JPEG", quality=_QUALITY)
        return np.asarray(Image.open(stored))


def _patches(x: Tensor) -> Tensor:
    """Return the 3x3 pixels around each: (N, C, H, W) -> (N, C, H, W, 9)."""
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(-2)


def _behind(
    ground: Ground, name: str, transform: nn.Module, slope: nn.Module | None = None, channels: int = 3
) -> Planted:
    """Train the base network behind a transform; its stand-in keeps the transform's values and has another slope."""
    x, y = ground.train
    network = ground.trained(partial(convolutional, channels), name, data=(transform(x), y))
    return Planted(
        nn.Sequential(transform, network).eval(),
        stand_in=nn.Sequential(StoodIn(transform, slope), network).eval(),
    )


def rounding(ground: Ground) -> Planted:
    """Build a network behind pixels of four grey levels."""
    return _behind(ground, "rounding", Rounded())


def thermometer(ground: Ground) -> Planted:
    """Build a network behind thermometer codes."""
    return _behind(ground, "thermometer", Thermometer(), SmoothThermometer(), channels=3 * _PLANES)


def jpeg(ground: Ground) -> Planted:
    """Build a network behind JPEG of quality 20."""
    return _behind(ground, "JPEG", Jpeg())


def threshold(ground: Ground) -> Planted:
    """Build a network behind black and white."""
    return _behind(ground, "hard threshold", Threshold(), SmoothThreshold())


def median(ground: Ground) -> Planted:
    """Build a network behind the median of 3x3 pixels."""
    return _behind(ground, "median", Median(), Mean())


CASES: tuple[Case, ...] = (
    Case("rounding", "broken", "linf", EPS, rounding, SLOPES),
    Case("thermometer", "broken", "linf", EPS, thermometer, SLOPES),
    Case("JPEG", "broken", "linf", EPS, jpeg, SLOPES),
    Case("hard threshold", "broken", "linf", EPS, threshold, SLOPES),
    Case("median outside the graph", "broken", "linf", EPS, median, SLOPES),
)
