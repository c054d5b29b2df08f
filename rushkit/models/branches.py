"""Networks beside the one that trains: a branch with BatchNorm of its own, a frozen copy, and one that follows."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.models.network import Network


def twin(network: Network, share: Iterable[str] = ()) -> Network:
    """Return a branch of a network: the same parameters, but BatchNorm layers of its own.

    Gradients of both meet in the parameters that they share; the statistics of BatchNorm do not mix.

    Args:
        network: The network; its BatchNorm layers are copied as they are.
        share: Names of modules, such as ``"head"``, whose BatchNorm layers stay the network's too.
    """
    branch = copy.deepcopy(network)
    shared = tuple(share)
    for name, module in list(branch.named_modules()):
        original = network.get_submodule(name)
        common = any(name == part or name.startswith(f"{part}.") for part in shared)
        if common or not isinstance(module, _BatchNorm):
            module._parameters = dict(original._parameters)
        if common:
            module._buffers = original._buffers
    return branch


def frozen_copy(network: Network) -> Network:
    """Return a copy of a network that shares nothing with it and gets no gradient, such as a target or a teacher."""
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move the parameters of a module towards another's: ξ ← τξ + (1 − τ)θ. Buffers stay as they are.

    Args:
        target: Its parameters ξ change in place.
        source: Of the same architecture, with parameters θ.
        tau: Share of ξ that stays, in [0, 1].
    """
    torch._foreach_lerp_(list(target.parameters()), list(source.parameters()), 1 - tau)
