"""Check images and logits once for all other code, with messages that state the problem and its fix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rushkit.errors import NumericsError, UsageError

# Rounding of a resize or a normalisation undone.
PIXEL_SLACK = 1e-6
# Gradient methods look at points outside [0, 1], noisy ones too, but never this far.
_FAR_OUTSIDE = 16.0


def checked_images(x: Tensor, shape: tuple[int, int, int] | None = None) -> Tensor:
    """Return the images made contiguous, so that results do not depend on the memory layout; differentiable.

    Args:
        x: The images.
        shape: (C, H, W) that each of them must have; None: any.

    Raises:
        UsageError: x is not a floating-point tensor (N, C, H, W) with N > 0, or its images have another shape.
    """
    if not isinstance(x, Tensor):
        raise UsageError(f"images are a torch tensor (got {type(x).__name__})", "torch.as_tensor(...) makes one")
    if x.ndim != 4 or 0 in x.shape or not x.is_floating_point():
        fix = "divide uint8 images by 255"
        if x.is_floating_point():
            fix = "one image is x[None]" if x.ndim == 3 else "stack images of one size to a batch"
        raise UsageError(f"images are floating-point (N, C, H, W) with N > 0 (got {x.dtype} of {tuple(x.shape)})", fix)
    if shape is not None and tuple(x.shape[1:]) != shape:
        given, wanted = ("x".join(map(str, sides)) for sides in (x.shape[1:], shape))
        raise UsageError(f"images are {given}, and the model takes {wanted}", "resize them as its training did")
    return x.contiguous()


def check_pixels(x: Tensor, exactly: bool = True) -> None:
    """Raise UsageError unless the pixels are those of images in [0, 1].

    Args:
        x: (N, C, H, W) images.
        exactly: All of them, but for rounding; otherwise only units of another kind are told, such as 0 to 255.
    """
    low, high = torch.stack(torch.aminmax(x.detach())).tolist()
    least, most = (-PIXEL_SLACK, 1 + PIXEL_SLACK) if exactly else (-_FAR_OUTSIDE, _FAR_OUTSIDE)
    # A NaN pixel fails both comparisons.
    if low >= least and high <= most:
        return
    if not (low == low and high == high):
        fix = "look for a division by 0 before this call"
    elif high > _FAR_OUTSIDE:
        fix = "divide images of 0 to 255 by 255"
    else:
        fix = "give images before any normalisation, which belongs into the model; clamp(0, 1) what a resize overshot"
    raise UsageError(f"pixels must lie in [0, 1] (got {low:g} to {high:g})", fix)


def check_model(model: Any) -> None:
    """Raise UsageError unless the model is a torch module, whose modes and parameters rushkit can restore."""
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"a model is a torch.nn.Module (got {type(model).__name__})",
            "put the call into the forward of a module of yours",
        )


def checked_logits(output: Any, images: int) -> Tensor:
    """Return a model's output if it is (N, K) floating-point logits of at least two classes.

    It does not check that they are finite, because that would need a device sync.

    Raises:
        UsageError: the output is something else; the message says what the model should return.
    """
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        if isinstance(output, Mapping) or hasattr(output, "logits"):
            fix = "wrap the model so that it returns its logits alone, such as model(x).logits"
        else:
            fix = "wrap the model so that it returns its logits alone, such as model(x)[0]"
        raise UsageError(f"the model returned a {kind}; a tensor of (N, classes) logits is needed", fix)
    if not output.is_floating_point():
        raise UsageError(
            f"the model returned {output.dtype}; floating-point logits are needed",
            "return the scores from before argmax or thresholding, real ones",
        )
    shape = tuple(output.shape)
    if shape in ((images,), (images, 1)):
        raise UsageError(
            f"the model returned a single logit an image (shape {shape}); (N, classes) logits are needed",
            "give both classes one: torch.stack([torch.zeros_like(z), z], dim=1) of the flattened logit z",
        )
    if output.ndim != 2 or shape[0] != images or not shape[1]:
        fix = "one row of logits an image: wrap the model so that it returns these"
        if output.ndim > 2 and shape[0] == images:
            fix = "pool over all places first: such as output.mean(dim=(2, 3))" if output.ndim == 4 else fix
        raise UsageError(f"the model returned shape {shape} for {images} images; (N, classes) is needed", fix)
    return output


def not_finite() -> NumericsError:
    """Return the error for logits that are not finite."""
    return NumericsError(
        "the model returned NaN or infinite logits", "look for diverged training or overflow in low precision"
    )
