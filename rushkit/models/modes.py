"""Put modules into another mode for the length of a block: eval, or BatchNorm that does not move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode in this block; afterwards, also after an error, restore each submodule's mode.

    ``module.train(False)`` does the switching, so that a submodule which overrides ``train`` has its way. The modes
    come back one by one: ``module.train()`` would thaw the statistics of a BatchNorm that was frozen by its mode.

    Take the gradients of passes in this block before a pass in train mode follows: torch's BatchNorm does not notice
    that the running statistics that its backward pass needs have moved, and returns other gradients.
    """
    modes = [(part, part.training) for part in module.modules()]
    switched = any(training for _, training in modes)
    try:
        if switched:
            module.eval()
        yield
    finally:
        if switched:
            for part, training in modes:
                part.training = training


def evaluated(module: nn.Module, x: Tensor) -> Tensor:
    """Return a module's outputs for x in eval mode and without a gradient; its modes stay as they are."""
    with torch.no_grad(), in_eval_mode(module):
        outputs: Tensor = module(x)
    return outputs


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm layers normalise by the batch in this block, and leave their running statistics as they are."""
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm)]
    modes = [(layer, layer.training) for layer in layers]
    try:
        for layer in layers:
            layer.training = True
        with still(module):
            yield
    finally:
        for layer, training in modes:
            layer.training = training


@contextmanager
def still(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm layers as they are in this block; each keeps its mode."""
    layers = [(layer, layer.track_running_stats) for layer in module.modules() if isinstance(layer, _BatchNorm)]
    try:
        for layer, _ in layers:
            layer.track_running_stats = False
        yield
    finally:
        for layer, tracked in layers:
            layer.track_running_stats = tracked


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Stop the gradients of the modules' parameters in this block, so that a backward pass to the input costs less."""
    moving = {parameter for module in modules for parameter in module.parameters() if parameter.requires_grad}
    try:
        for parameter in moving:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)
