"""Try out an encoder that somebody else wrote, and describe what does not fit."""

from __future__ import annotations

import torch
from torch import nn

from rushkit.errors import UsageError
from rushkit.models.modes import in_eval_mode

# What a model raises on options or images that do not suit it.
MISFITS = (RuntimeError, AssertionError, ValueError, TypeError, KeyError, IndexError, ZeroDivisionError)


@torch.no_grad()
def output_features(model: nn.Module, in_channels: int, image_size: int) -> int:
    """Return the length of a model's output vectors, tried on two black images; the modes of its modules stay.

    Raises:
        ValueError: what comes out is not one vector an image.
    """
    with in_eval_mode(model):
        output: torch.Tensor = model(torch.zeros(2, in_channels, image_size, image_size))
    if output.ndim != 2:
        raise ValueError(f"it gives outputs of shape {tuple(output.shape)}, not one vector an image")
    return output.shape[1]


def unfit(name: str, in_channels: int, image_size: int, error: Exception) -> UsageError:
    """Return the error for a backbone that cannot be built for such images."""
    return UsageError(
        f"backbone {name!r} cannot be built for {in_channels}x{image_size}x{image_size} images: {reason(error)}",
        "check its options, take a model for smaller images, or resize the images",
    )


def reason(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
