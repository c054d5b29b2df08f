"""CutMix (Yun et al. 2019): a box of each image comes from another image, and labels mix by area."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rushkit.objectives import Batch


def cutmix(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return views of a batch's images with a box from another image in each, and their mixed labels.

    The box is the same for all images of the batch: its area is uniform between nothing and the whole image (α = 1),
    its centre uniform in the image, beyond whose border it is cut off. The other images are the batch's own in
    another order, over all ranks, with views of their own.

    Args:
        batch: The batch, with labels.

    Returns:
        (n, C, H, W) float32 images, and (n, K) float32 probabilities λy + (1 − λ)y', where λ is the share of the
        pixels that stay.
    """
    x, target, other = batch.view(), batch.targets(), batch.shuffled()
    area, row, column = batch.numbers(3)
    height, width = x.shape[2:]
    inside = _within(height, row, area.sqrt())[:, None] & _within(width, column, area.sqrt())
    kept = 1 - inside.to(target.dtype).mean()
    return torch.where(inside, other.view(), x), target.lerp(other.targets(), 1 - kept)


def _within(side: int, centre: Tensor, length: Tensor) -> Tensor:
    """Return which pixels (side,) lie within an interval; centre and length are shares of the side, scalars."""
    pixels = torch.arange(side, device=centre.device) + 0.5
    return (pixels - side * centre).abs() < side * length / 2
