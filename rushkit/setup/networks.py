"""From a recipe to networks: encoder and head, with weights that the machine has the memory for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn

from rushkit.errors import CheckpointError, UsageError
from rushkit.models.allocation import allocations_within
from rushkit.models.network import HeadKind, Network, build_backbone, initialised_from, load_weights
from rushkit.models.pretrained import without_fetching
from rushkit.objectives import Objective
from rushkit.recipe.schema import Recipe
from rushkit.setup.components import IN_CHANNELS
from rushkit.system import memory_bytes

# Weights may take this part of the machine's memory: gradients, momentum and the images come beside them.
_SHARE_OF_MEMORY = 4
# What building a network takes beside its weights: tables of positions, and the pass that finds the features' length.
_BESIDE_WEIGHTS = 1 << 26


def build_encoder(
    recipe: Recipe, size: int, tensors: Mapping[str, Tensor] | None = None, fetch: bool = False
) -> nn.Module:
    """Return a fresh encoder for images of a size, its weights drawn from the recipe's seed.

    Args:
        recipe: Names the backbone.
        size: Side of the images.
        tensors: The checkpoint that will be loaded into it: the encoder may take no more memory than these need.
        fetch: Whether to fetch the pretrained weights that the recipe may ask for. An encoder that gets the weights
            of a checkpoint needs none.

    Raises:
        UsageError: the machine has too little memory for the weights.
        CheckpointError: the recipe asks for more weights than the checkpoint has.
    """
    part = recipe.backbone
    options = part.options if fetch else without_fetching(part.name, part.options)
    with _within_memory(tensors):
        return build_backbone(part.name, options, IN_CHANNELS, size, recipe.system.seed, part.mean, part.std)


def build_network(
    recipe: Recipe,
    objective: Objective,
    size: int,
    classes: int,
    tensors: Mapping[str, Tensor] | None = None,
    fetch: bool = False,
) -> Network:
    """Return a fresh network for an objective, its weights drawn from the recipe's seed.

    Args:
        recipe: Names the backbone.
        objective: Makes the head.
        size: Side of the images.
        classes: How many labels there are.
        tensors: The checkpoint that will be loaded into it: see ``build_encoder``.
        fetch: Whether to fetch the pretrained weights that the recipe may ask for.
    """
    seed = recipe.system.seed
    encoder = build_encoder(recipe, size, tensors, fetch)
    with initialised_from(seed, f"head of {objective.stage}"), _within_memory(tensors):
        head = objective.module(num_features(encoder), classes)
    kind: HeadKind = "projector" if objective.stage == "pretrain" else "head"
    return Network(encoder, head, kind)


def _within_memory(tensors: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
    """Return a block in which no more weights are built than a checkpoint has, or than the machine can train."""
    if tensors is not None:
        room = 2 * sum(tensor.nbytes for tensor in tensors.values()) + _BESIDE_WEIGHTS
        altered = "it was altered, or its backbone is of another version"
        return allocations_within(room, CheckpointError("the checkpoint's recipe asks for more weights", altered))
    room = memory_bytes() // _SHARE_OF_MEMORY
    return allocations_within(
        room,
        UsageError(
            f"the network's weights alone take more than {room / 2**30:.1f} GiB, a quarter of the machine's memory",
            "check the options of [backbone] and [projector]",
        ),
    )


def num_features(encoder: nn.Module) -> int:
    """Return the length of an encoder's features."""
    return cast(int, encoder.num_features)


def channels_last(network: Network) -> Network:
    """Lay out a network's filters in memory as the images are, and return the network. Other tensors stay."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def load_network(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's tensors into a network. Raises CheckpointError unless names and shapes are the same."""
    for part, module in (("encoder", network.encoder), (network.kind, network.head)):
        report = load_weights(module, tensors, f"{part}.")
        if not report.complete:
            lacking = ", ".join([*report.missing, *report.unexpected][:3])
            raise CheckpointError(
                f"the checkpoint's {part} differs from the recipe's: {lacking}", "check the recipe's [backbone]"
            )
