"""The grid of 8-bit images: which pixels lie on it, and how far the others lie from the nearest grey level."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 255
# Half of what separates float32 pixels near 1, twice over: devices differ in the last bit of n/255.
_SAME = 2.0**-24


def snapped(noisy: Tensor, steps: int = LEVELS) -> Tensor:
    """Return the multiple of 1/steps nearest to each value, bit for bit the same however it was reached; gradient 1."""
    settled = torch.round(noisy.detach() * steps) / steps
    # settled − noisy is exact (the two are neighbours), hence so is the sum: the value is ``settled`` itself.
    return noisy + (settled - noisy.detach())


def nearest_levels(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Split pixels into whole grey levels and the rest: 255·x = level + rest.

    A float within 2⁻²⁴ of n/255 stands for n/255, which float32 cannot hold: its rest is 0.

    Args:
        x: float32 or float64 pixels of any shape; the range does not matter.

    Returns:
        int64 levels, the nearest to each pixel; float64 rests in [−½, ½], or None if all are 0. A rest is exact but
        for a last bit of float64, and lies on the CPU where the device has no float64.
    """
    x = x.detach()
    near = torch.round(x * LEVELS)
    between = (near / LEVELS - x).abs() > _SAME
    if not between.any():
        return near.long(), None
    if x.device.type == "mps":
        x, near, between = x.cpu(), near.cpu(), between.cpu()
    wide = x.double() * LEVELS
    # Rounding in the pixels' own precision may take the neighbour of a pixel halfway between two levels.
    levels = torch.where(between, torch.round(wide), near.double())
    return levels.long(), torch.where(between, wide - levels, 0.0)
