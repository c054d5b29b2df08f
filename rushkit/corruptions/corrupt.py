"""Corrupt images of a data set: deterministic for each image, whatever the images beside it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rushkit.corruptions.table import KINDS
from rushkit.errors import UsageError
from rushkit.system import derived_seed

# Whose parameters are used.
Parameters = Literal["cifar10-c", "imagenet-c"]
# Images of up to this side get the parameters of CIFAR-10-C, larger ones those of ImageNet-C: it lies between 32 and
# 224, the sides that these were published for, and nearer to 32 in ratio.
LARGEST_SMALL = 64
# Of a smaller image pixels and distortions leave nothing.
SMALLEST = 8
_CHANNELS = (1, 3)


def parameters_of(side: int) -> Parameters:
    """Return whose parameters images of a side in pixels get."""
    return "cifar10-c" if side <= LARGEST_SMALL else "imagenet-c"


def check_images(channels: int, side: int) -> None:
    """Raise UsageError for images that the corruptions are not defined for."""
    if channels not in _CHANNELS:
        raise UsageError(
            f"corruptions are defined for grey and colour images, of 1 or 3 channels, and these have {channels}",
            "leave --corruptions out, or choose data of 1 or 3 channels",
        )
    if side < SMALLEST:
        raise UsageError(
            f"corruptions need images of {SMALLEST}x{SMALLEST} pixels at least, and these are {side}x{side}",
            "leave --corruptions out, or train on larger images: --set data.image_size=16",
        )


def corrupted(images: Tensor, kind: str, strength: int, seed: int, indices: Tensor) -> Tensor:
    """Return corrupted images.

    >>> corrupted(split.images[:8], "fog", 3, seed=0, indices=torch.arange(8))

    The draws of an image follow from the seed, the kind, the strength and the image's index alone.

    Args:
        images: (N, C, S, S) uint8, of 1 or 3 channels.
        kind: A key of ``KINDS``.
        strength: From 1 to 5.
        seed: Seed of all draws.
        indices: (N,) int64, the index of each image in its split.

    Returns:
        (N, C, S, S) uint8: values are cut to [0, 1] and rounded to the nearest of 256 levels.

    Raises:
        UsageError: images of other channels, or smaller than 8x8.
    """
    check_images(images.shape[1], images.shape[2])
    about = KINDS[kind]
    published = about.small if parameters_of(images.shape[2]) == "cifar10-c" else about.large
    settings = tuple(map(float, published[strength - 1]))
    result = np.empty(images.shape, dtype=np.uint8)
    for place, (image, index) in enumerate(zip(images.numpy(), indices.tolist(), strict=True)):
        draws = np.random.default_rng(derived_seed(seed, f"corruption {kind} {strength}", index))
        x = about.apply(image.transpose(1, 2, 0) / 255.0, settings, draws)
        result[place] = np.rint(np.clip(x, 0, 1) * 255).transpose(2, 0, 1)
    return torch.from_numpy(result)
