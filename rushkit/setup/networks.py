"""Build encoders and networks from a recipe, within the machine's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from rushkit.errors import CheckpointError, PluginError, UsageError
from rushkit.image_size import ImageSize, sides
from rushkit.models.allocation import allocations_within
from rushkit.models.network import HeadKind, Network, build_backbone, initialised_from, load_weights
from rushkit.models.pretrained import without_fetching
from rushkit.objectives import Attaches, HasTeacher, Objective
from rushkit.recipe.schema import Recipe
from rushkit.system import memory_bytes

# Weights may take this fraction of the machine's memory, since gradients, momentum and images need memory too.
_SHARE_OF_MEMORY = 4
# Bytes that building a network takes beyond its weights: position tables, and the pass that finds the feature length.
_BESIDE_WEIGHTS = 1 << 26

# Channels and size of images.
Shape = tuple[int, ImageSize]
Part = TypeVar("Part", bound=nn.Module)


def build_encoder(
    recipe: Recipe, shape: Shape, tensors: Mapping[str, Tensor] | None = None, fetch: bool = False
) -> nn.Module:
    """Return a fresh encoder for images of a shape, its weights drawn from the recipe's seed.

    Args:
        recipe: Names the backbone.
        shape: Channels and side of the images.
        tensors: The checkpoint that will be loaded into it, which bounds the memory that the encoder may take.
        fetch: Whether to fetch the pretrained weights that the recipe may ask for; they are not needed if the weights
            of a checkpoint will be loaded.

    Raises:
        UsageError: the machine has too little memory for the weights.
        CheckpointError: the recipe asks for more weights than the checkpoint has.
    """
    part = recipe.backbone
    options = part.options if fetch else without_fetching(part.name, part.options)
    with _within_memory(tensors):
        return build_backbone(part.name, options, *shape, recipe.system.seed, part.mean, part.std)


def build_network(
    recipe: Recipe,
    objective: Objective,
    shape: Shape,
    classes: int | Sequence[int],
    tensors: Mapping[str, Tensor] | None = None,
    fetch: bool = False,
) -> Network:
    """Return a fresh network for an objective, its weights drawn from the recipe's seed.

    Args:
        recipe: Names the backbone.
        objective: Makes the head.
        shape: Channels and side of the images.
        classes: The number of classes, or that of each column of labels.
        tensors: The checkpoint that will be loaded into it; see ``build_encoder``.
        fetch: Whether to fetch the pretrained weights that the recipe may ask for.
    """
    seed = recipe.system.seed
    encoder = build_encoder(recipe, shape, tensors, fetch)
    with initialised_from(seed, f"head of {objective.stage}"), _within_memory(tensors):
        head = objective.head(num_features(encoder), [classes] if isinstance(classes, int) else list(classes))
    kind: HeadKind = "projector" if objective.stage == "pretrain" else "head"
    return Network(encoder, head, kind)


def build_memory(
    objective: Objective, network: Network, batch_size: int, shape: Shape, seed: int, teacher: nn.Module | None = None
) -> nn.Module:
    """Return what an objective remembers beside the network, on the network's device; an empty module for most.

    Args:
        objective: May have the ability ``Attaches``, or ``HasTeacher``.
        network: The network that will train, on its device.
        batch_size: Images of a batch, over all ranks.
        shape: Channels and side of the images.
        seed: Seeds its weights.
        teacher: The encoder that the network learns from, on the network's device; None without one.

    Raises:
        UsageError: the teacher does not suit the network.
        PluginError: the objective attaches something that is no module.
    """
    channels, size = shape
    batch = (batch_size, channels, *sides(size))
    with initialised_from(seed, f"memory of {objective.stage}"):
        if teacher is not None and isinstance(objective, HasTeacher):
            memory = objective.attach_teacher(network, teacher, batch)
        elif isinstance(objective, Attaches):
            memory = objective.attach(network, batch)
        else:
            return nn.Module()
    if not isinstance(memory, nn.Module):
        raise PluginError(
            f"{type(objective).__name__} attaches {type(memory).__name__}, not a torch module",
            "docs/objectives.md says what a memory must be",
        )
    return memory.to(next(network.parameters()).device)


def _within_memory(tensors: Mapping[str, Tensor] | None) -> AbstractContextManager[None]:
    """Return a context that bounds the memory of new weights by a checkpoint's size, or by the machine's memory."""
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


def channels_last(network: Part) -> Part:
    """Convert a network's convolution filters to channels-last memory format, and return the network."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def load_network(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """Load a checkpoint's tensors into a network. Raises CheckpointError unless all names and shapes match."""
    for part, module in (("encoder", network.encoder), (network.kind, network.head)):
        report = load_weights(module, tensors, f"{part}.")
        if not report.complete:
            lacking = ", ".join([*report.missing, *report.unexpected][:3])
            raise CheckpointError(
                f"the checkpoint's {part} differs from the recipe's: {lacking}", "check the recipe's [backbone]"
            )
