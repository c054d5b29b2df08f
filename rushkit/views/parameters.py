"""The random parameters of a batch of views, and how they are drawn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.recipe.schema import ViewSettings

# Op numbers in ViewParameters.order; the same as in torchvision's ColorJitter.get_params.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_ATTEMPTS = 10  # RandomResizedCrop falls back to a centre crop after that many


@dataclass(frozen=True)
class ViewParameters:
    """The parameters of N views; every tensor has N rows. A slice, or rows by their numbers, are those of a part.

    Attributes:
        top: (N,) int64, first row of the crop; likewise left, height and width, all in pixels.
        flip: (N,) bool.
        brightness: (N,) float32 factor; likewise contrast and saturation.
        hue: (N,) float32 shift in turns.
        order: (N, 4) int64, the colour operations in the order of their application.
        jitter: (N,) bool, whether the four are applied at all; None if no view has them.
        gray: (N,) bool; None if no view is grey.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    order: Tensor
    jitter: Tensor | None
    gray: Tensor | None

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: slice | Tensor) -> ViewParameters:
        return self._map(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> ViewParameters:
        """Return the same parameters on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> ViewParameters:
        drawn = ((field.name, getattr(self, field.name)) for field in dataclasses.fields(self))
        return dataclasses.replace(self, **{name: change(part) for name, part in drawn if part is not None})


def sample_parameters(
    n: int,
    height: int,
    width: int,
    settings: ViewSettings,
    generator: torch.Generator,
    device: torch.device | str | None = None,
) -> ViewParameters:
    """Draw the parameters of n independent views of (height, width) images, with torchvision's distribution.

    The draws are made on the generator's device, and always the same number of them: the crops that a seed
    gives do not depend on the colour settings.

    Args:
        n: Number of views.
        height: Height of the images, in pixels.
        width: Width of the images, in pixels.
        settings: The distribution.
        generator: Source of every draw.
        device: Where the parameters are wanted; None means the generator's device.
    """
    uniform = torch.rand(2 * _ATTEMPTS + 13, n, generator=generator, device=generator.device)
    if device is not None:
        uniform = uniform.to(device)
    areas, ratios, places, coins, factors, keys = uniform.split((_ATTEMPTS, _ATTEMPTS, 2, 3, 4, 4))
    crop_height, crop_width, found = _crop_shape(areas, ratios, height, width, settings)
    # A centre crop where no attempt fitted, else a place uniform over those where the crop lies inside the image.
    top = torch.where(found, uniform_int(places[0], height - crop_height + 1), (height - crop_height) // 2)
    left = torch.where(found, uniform_int(places[1], width - crop_width + 1), (width - crop_width) // 2)

    def factor(u: Tensor, spread: float) -> Tensor:
        low = max(0.0, 1.0 - spread)
        return u * (1.0 + spread - low) + low

    strengths = (settings.brightness, settings.contrast, settings.saturation)
    brightness, contrast, saturation = (factor(u, s) for u, s in zip(factors[:3], strengths, strict=True))
    jittered = settings.jitter_p > 0 and any((*strengths, settings.hue))
    return ViewParameters(
        top=top,
        left=left,
        height=crop_height,
        width=crop_width,
        flip=coins[0] < settings.flip,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        hue=(factors[3] * 2 - 1) * settings.hue,
        order=keys.argsort(0).T,
        jitter=coins[1] < settings.jitter_p if jittered else None,
        gray=coins[2] < settings.grayscale if settings.grayscale > 0 else None,
    )


def uniform_int(uniform: Tensor, bound: Tensor | int) -> Tensor:
    """Return int64 numbers uniform in [0, bound) from numbers uniform in [0, 1)."""
    return (uniform * bound).long().clamp_(max=bound - 1)  # should a generator yield 1.0


def _crop_shape(
    areas: Tensor, ratios: Tensor, height: int, width: int, settings: ViewSettings
) -> tuple[Tensor, Tensor, Tensor]:
    """Return RandomResizedCrop's height and width, (N,) int64, from (attempts, N) draws, and whether a try fitted."""
    low, high = settings.scale
    area = (areas * (high - low) + low) * (height * width)
    log_low, log_high = math.log(settings.ratio[0]), math.log(settings.ratio[1])
    ratio = (ratios * (log_high - log_low) + log_low).exp_()
    # Halves round to even, as Python's round does in torchvision.
    tried_width = (area * ratio).sqrt_().round_().long()
    tried_height = (area / ratio).sqrt_().round_().long()
    fits = (tried_width > 0) & (tried_width <= width) & (tried_height > 0) & (tried_height <= height)
    first = fits.int().argmax(0, keepdim=True)
    found = fits.any(0)

    # The largest crop whose ratio is the allowed one nearest to the image's.
    fallback_height, fallback_width = height, width
    if width / height < settings.ratio[0]:
        fallback_height = max(1, round(width / settings.ratio[0]))
    elif width / height > settings.ratio[1]:
        fallback_width = max(1, round(height * settings.ratio[1]))
    return (
        torch.where(found, tried_height.gather(0, first)[0], fallback_height),
        torch.where(found, tried_width.gather(0, first)[0], fallback_width),
        found,
    )
