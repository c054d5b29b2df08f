"""Fold BatchNorm into the convolutions before it, for inference: the same function in fewer passes over memory."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn

# Folding rounds differently, no more: a difference beyond this share of the largest output is another function.
_TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norm(module: nn.Module, example: Tensor) -> nn.Module:
    """Return a module for inference that computes the same in eval mode, with BatchNorm folded where possible.

    A BatchNorm layer that stands right behind a convolution in the same parent is taken to follow it, as in every
    ResNet. Whether that holds is checked on the example, and a module for which it does not is returned as it is; so is
    one that cannot be copied.

    Args:
        module: In eval mode; it is not changed.
        example: (N, C, H, W) inputs to compare the two on.

    Returns:
        A copy without these BatchNorm layers, or ``module`` itself.
    """
    if not _pairs(module):
        return module
    try:
        folded = copy.deepcopy(module)
        for parent, convolution, norm in _pairs(folded):
            _fold(getattr(parent, convolution), getattr(parent, norm))
            setattr(parent, norm, nn.Identity())
        found = folded(example)
    except Exception:  # noqa: BLE001 - a module that computes may still not bear to be copied or changed
        # Weights that a hook makes before each pass, as torch's old weight_norm and spectral_norm do, cannot be copied.
        return module
    expected = module(example)
    close = (found - expected).abs().amax() <= _TOLERANCE * expected.abs().amax()
    return folded if close else module


def _pairs(module: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """Parent, name of a convolution in it, and name of the BatchNorm layer behind it."""
    return [
        (parent, convolution, norm)
        for parent in module.modules()
        for (convolution, first), (norm, second) in pairwise(parent.named_children())
        if isinstance(first, nn.Conv2d) and type(second) is nn.BatchNorm2d and second.track_running_stats
    ]


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Scale the convolution's filters and shift its bias as the norm would its outputs; in double precision."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + norm.eps).rsqrt()
    shift = -mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    if convolution.bias is not None:
        shift = shift + convolution.bias.double() * scale
    weight = convolution.weight
    filters = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
    weight.copy_(filters)
    convolution.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
