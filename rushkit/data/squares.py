"""Bring arrays of images to a number of channels, and to a square."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rushkit.data.picture import Fit
from rushkit.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


def with_channels(images: Tensor, channels: int, where: str) -> Tensor:
    """Return uint8 images (N, C, H, W) with another number of channels: grey becomes three equal ones, opacity goes.

    Raises:
        UsageError: the channels cannot be had from those that are there.
    """
    theirs = images.shape[1]
    if theirs == channels:
        return images
    if (theirs, channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    if (theirs, channels) == (4, 3):
        return images[:, :3]
    raise UsageError(
        f"the images of {where} have {theirs} channels, and data.channels asks for {channels}",
        f"--set data.channels={theirs} takes them as they are",
    )


def squared(images: Tensor, fit: Fit) -> Tensor:
    """Return uint8 images (N, C, H, W) as squares: their middle, or with black bars; as they are for ``stretch``."""
    height, width = images.shape[2:]
    if height == width or fit == "stretch":
        return images
    if fit == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return images[:, :, top : top + side, left : left + side]
    side = max(height, width)
    square = images.new_zeros(*images.shape[:2], side, side)
    top, left = (side - height) // 2, (side - width) // 2
    square[:, :, top : top + height, left : left + width] = images
    return square
