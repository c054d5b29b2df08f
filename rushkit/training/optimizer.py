"""The optimizer of a training stage, and what its weight decay and its trust ratios act on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from rushkit.recipe.schema import Optimizer
from rushkit.training.lars import Lars

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def build_optimizer(
    section: Optimizer, parameters: list[nn.Parameter], device: torch.device, norms: Collection[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer for some parameters, fused if the device has such a kernel.

    Args:
        section: The recipe's section.
        parameters: What it trains.
        device: Where they are.
        norms: Those of normalisation layers; see ``norm_parameters``.
    """
    if section.name == "lars":
        return Lars(
            _lars_groups(section, parameters, norms),
            lr=section.lr,
            momentum=section.momentum,
            weight_decay=section.weight_decay,
            eta=section.eta,
            lr_inside=section.lr_inside,
            clip=section.clip,
        )
    groups = decay_groups(section, parameters, norms)
    fused = device.type in ("cpu", "cuda")
    if section.name == "adamw":
        return torch.optim.AdamW(groups, lr=section.lr, weight_decay=section.weight_decay, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=section.lr,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        nesterov=section.nesterov,
        fused=fused,
    )


def decay_groups(
    section: Optimizer, parameters: list[nn.Parameter], norms: Collection[nn.Parameter]
) -> list[dict[str, Any]]:
    """Return the optimizer's groups: the parameters that decay, and those that do not, where there are any."""
    exempt = {id(parameter) for parameter in norms} if section.decay == "not-norm" else set()
    if section.decay == "weights":
        exempt = {id(parameter) for parameter in parameters if parameter.dim() < 2}
    decayed = [parameter for parameter in parameters if id(parameter) not in exempt]
    others = [parameter for parameter in parameters if id(parameter) in exempt]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _lars_groups(
    section: Optimizer, parameters: list[nn.Parameter], norms: Collection[nn.Parameter]
) -> list[dict[str, Any]]:
    """Return the groups of LARS; what the recipe excludes, normalisation layers and biases, is one of its own."""
    if not section.exclude:
        return decay_groups(section, parameters, norms)
    excluded = {id(parameter) for parameter in (*norms, *(each for each in parameters if each.dim() < 2))}
    adapted = [parameter for parameter in parameters if id(parameter) not in excluded]
    others = [parameter for parameter in parameters if id(parameter) in excluded]
    plain = {"params": others, "weight_decay": 0.0, "adapt": False}
    return [*decay_groups(section, adapted, norms), *([plain] if others else [])]


def norm_parameters(*modules: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the normalisation layers in some modules."""
    layers = (layer for module in modules for layer in module.modules() if isinstance(layer, _NORMS))
    return [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
