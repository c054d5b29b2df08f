"""Give a module images in the precision of its own weights."""

from __future__ import annotations

from torch import Tensor, nn


def as_taken(model: nn.Module, x: Tensor) -> Tensor:
    """Return images (N, C, H, W) in the dtype of a module's first floating-point parameter; differentiable.

    A module of half or double precision then takes float32 images. One without parameters takes them as they are.
    """
    first = next((weights for weights in model.parameters() if weights.is_floating_point()), None)
    return x if first is None or first.dtype == x.dtype else x.to(first.dtype)
