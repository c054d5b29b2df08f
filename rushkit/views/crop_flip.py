"""The usual mild augmentation of supervised training: a crop of the padded image, and a flip."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rushkit.errors import UsageError
from rushkit.views.apply import check_images
from rushkit.views.parameters import uniform_int


@dataclass(frozen=True)
class CropFlip:
    """The usual mild augmentation of supervised training: a crop of the zero-padded image at its own size, and a flip.

    Args:
        padding: Pixels of zeros on each side; crops start at a uniform row and column of the padded image.
        flip: Probability of a horizontal flip.

    Raises:
        UsageError: a value lies outside its range.
    """

    padding: int = 4
    flip: float = 0.5

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise UsageError(f"padding must be at least 0 pixels, got {self.padding}")
        if not 0 <= self.flip <= 1:
            raise UsageError(f"flip must be between 0 and 1, got {self.flip}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return one augmented copy of each image: (N, C, H, W) uint8 -> (N, C, H, W) float32 in [0, 1]."""
        check_images(images)
        top, left, flip = torch.rand(3, len(images), generator=generator, device=generator.device)
        top, left = (uniform_int(u, 2 * self.padding + 1).to(images.device) for u in (top, left))
        return apply_crop_flip(images, top, left, (flip < self.flip).to(images.device), self.padding)


def apply_crop_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Return crops of the zero-padded images at the images' own size, flipped where ``flip`` is set.

    Args:
        images: (N, C, H, W) uint8.
        top: (N,) int64, the crop's first row in the padded image, 0 to 2 * padding; likewise left.
        left: (N,) int64.
        flip: (N,) bool.
        padding: Pixels of zeros on each side.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    height, width = images.shape[2:]
    # Every crop as a strided window, not a copy; then each image picks its own, whole rows at a time.
    windows = F.pad(images, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    crops = windows[torch.arange(len(images), device=images.device), :, top, left]
    return torch.where(flip[:, None, None, None], crops.flip(3), crops).float().div_(255)
