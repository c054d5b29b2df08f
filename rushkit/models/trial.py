"""Try out an encoder that somebody else wrote, and describe what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.image_size import ImageSize, sides, size_words
from rushkit.models.modes import in_eval_mode

# What a model raises on options or images that do not suit it.
MISFITS = (RuntimeError, AssertionError, ValueError, TypeError, KeyError, IndexError, ZeroDivisionError)


@torch.no_grad()
def output_features(model: nn.Module, in_channels: int, image_size: ImageSize) -> int:
    """Return the length of a model's output vectors, tried on two black images; the modes of its modules stay.

    Raises:
        ValueError: what comes out is not one vector an image.
    """
    with in_eval_mode(model):
        output: torch.Tensor = model(torch.zeros(2, in_channels, *sides(image_size)))
    if output.ndim != 2:
        raise ValueError(f"it gives outputs of shape {tuple(output.shape)}, not one vector an image")
    return output.shape[1]


def unfit(name: str, in_channels: int, image_size: ImageSize, error: Exception) -> UsageError:
    """Return the error for a backbone that cannot be built for such images."""
    fitting = "" if isinstance(image_size, int) else "; --set data.image_size=N makes squares of them, as data.fit says"
    return UsageError(
        f"backbone {name!r} cannot be built for {in_channels}x{size_words(image_size)} images: {reason(error)}",
        f"check its options, take a model for smaller images, or resize the images{fitting}",
    )


@contextmanager
def code_of_others(name: str, x: Tensor) -> Iterator[None]:
    """Turn an error that somebody's code raises in this block, on images x, into one message that names the code.

    Raises:
        PluginError: in place of that error; lack of memory, errors of rushkit's and torch's own signals pass.
    """
    try:
        yield
    except (RushkitError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        # A recomputation ends by an exception, as soon as it has what it needs.
        if type(error).__module__.startswith("torch.utils."):
            raise
        shape = "x".join(map(str, x.shape[1:]))
        raise PluginError(
            f"{name} cannot take images of {shape}: {type(error).__name__}: {reason(error)}",
            "--input-size N resizes the images to N x N (HxW: a folder's to H x W), and --set data.channels=1 reads a "
            "folder's in grey; --debug shows the traceback",
        ) from error


def reason(error: Exception) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
