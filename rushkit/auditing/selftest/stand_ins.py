"""Stand-ins, with slopes for planted defences whose own are missing, false or rough.

Backward pass differentiable approximation (BPDA): Athalye, Carlini, Wagner 2018, "Obfuscated gradients give a false
sense of security".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StraightThrough(nn.Module):
    """The exact values of one layer, with the slope of another.

    Args:
        real: The layer that the values are of; its slope is not used.
        slope: The layer that the slope is of, with outputs of the same shape; None: the identity.
    """

    def __init__(self, real: nn.Module, slope: nn.Module | None = None) -> None:
        super().__init__()
        self.real, self.slope = real, slope or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the values of ``real``: (N, ...) -> (N, ...)."""
        smooth: Tensor = self.slope(x)
        values: Tensor = self.real(x).detach()
        # The bracket is exactly 0, so no rounding changes the value.
        return values + (smooth - smooth.detach())


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
