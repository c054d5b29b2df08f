"""What every attack asks of its input, in one place."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rushkit.attacks import Norm
from rushkit.errors import UsageError

# Rounding of a resize or a normalisation undone; such pixels are clamped.
_PIXEL_SLACK = 1e-6


def checked_images(x: Tensor, y: Tensor | None, num_classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Images and labels fit for an attack: copies of their own, on the images' device.

    Returns:
        x, float32 (float64 stays) and y, int64.

    Raises:
        UsageError: no labels, other shapes than (N, C, H, W) and (N,), pixels outside [0, 1], labels out of range.
    """
    if x.ndim != 4 or not len(x) or not x.is_floating_point():
        raise UsageError(
            f"images are floating-point (N, C, H, W) with N > 0 (got {x.dtype} of shape {tuple(x.shape)})",
            "divide uint8 images by 255",
        )
    if y is None:
        raise UsageError("the attack needs labels, and this data set has none", "choose a labelled split")
    if y.shape != x.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        raise UsageError(f"labels are whole numbers of shape ({len(x)},) (got {y.dtype} of shape {tuple(y.shape)})")
    low, high = float(x.amin()), float(x.amax())
    # A NaN pixel fails both comparisons.
    if not (low >= -_PIXEL_SLACK and high <= 1 + _PIXEL_SLACK):
        raise UsageError(f"pixels must lie in [0, 1] (got {low:g} to {high:g})", "give images before any normalisation")
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    with torch.inference_mode(False):
        x = x.detach().to(dtype, copy=True).clamp(0, 1)
        y = y.detach().to(x.device, torch.int64, copy=True)
    check_labels(y, num_classes)
    return x, y


def check_labels(y: Tensor, num_classes: int | None) -> None:
    """Raises UsageError for a label that the model has no class for."""
    if int(y.amin()) < 0 or (num_classes is not None and int(y.amax()) >= num_classes):
        classes = "0 or more" if num_classes is None else f"0 to {num_classes - 1}"
        raise UsageError(
            f"labels must be {classes} (got {int(y.amin())} to {int(y.amax())})", "does the model fit the data?"
        )


def check_ball(attack: str, norm: str, eps: float, norms: tuple[Norm, ...]) -> None:
    """Raises UsageError for a norm that the attack lacks, or a radius that is negative or not finite."""
    if norm not in norms:
        raise UsageError(f"{attack} has no norm {norm!r}", f"it has: {', '.join(norms)}")
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not math.isfinite(eps) or eps < 0:
        raise UsageError(f"eps must be a finite number, 0 or more (got {eps!r})", "in pixel units, such as 8/255")
