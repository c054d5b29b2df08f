"""Layers of torch that learn the size of their inputs from the first batch, such as ``LazyLinear``."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rushkit.errors import UsageError, shorten
from rushkit.image_size import ImageSize, sides
from rushkit.models.modes import in_eval_mode
from rushkit.models.trial import code_of_others


def lazy_layer(module: nn.Module) -> str:
    """Return the class of a layer of a module that does not know its size yet; empty if all do."""
    for layer in module.modules():
        own = chain(layer.parameters(recurse=False), layer.buffers(recurse=False))
        if any(is_lazy(tensor) for tensor in own):
            return type(layer).__name__
    return ""


def initialise(module: nn.Module, channels: int, size: ImageSize, name: str) -> None:
    """Pass two black images through a module, so that such layers get their weights; nothing is done if it has none.

    Weights that are drawn come from the global generator. The modes of the layers stay.

    Args:
        module: Takes (N, C, H, W) images.
        channels: C.
        size: Size of the images, pixels.
        name: What messages call it.

    Raises:
        PluginError: the module raises an error on such images.
        UsageError: a layer does not know its size after the pass either.
    """
    if not lazy_layer(module):
        return
    device = next(chain(module.parameters(), module.buffers())).device
    x = torch.zeros(2, channels, *sides(size), device=device)
    with torch.no_grad(), in_eval_mode(module), code_of_others(name, x):
        module(x)
    if left := lazy_layer(module):
        raise UsageError(
            f"{name} has a {shorten(left)} that no image passes through, so that it has no weights",
            "leave that layer out, or give it its size",
        )
