"""Stand-ins for planted defences whose own slopes lead nowhere, although they are true at the point."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scaled(nn.Module):
    """A model with its logits times a factor.

    Args:
        model: (N, C, H, W) -> (N, K).
        factor: The factor, above 0: the answers stay the same.
    """

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K)."""
        logits: Tensor = self.model(x)
        return self.factor * logits


class Neighbours(nn.Module):
    """The mean logits of neighbours of each image, drawn afresh in every pass from torch's global generator.

    Where a model's slopes are true but hold only next to the point, the mean over neighbours says where it descends.

    Args:
        model: (N, C, H, W) -> (N, K).
        count: Neighbours of an image.
        spread: Standard deviation of their distance in each pixel, pixel units.
    """

    def __init__(self, model: nn.Module, count: int, spread: float) -> None:
        super().__init__()
        self.model, self.count, self.spread = model, count, spread

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W)."""
        many = x.repeat(self.count, 1, 1, 1)
        logits: Tensor = self.model(many + self.spread * torch.randn_like(many))
        return logits.view(self.count, len(x), -1).mean(0)
