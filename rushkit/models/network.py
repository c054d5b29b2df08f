"""An encoder with a head: how it is built from a seed, frozen, switched between modes, measured and loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from rushkit.errors import CheckpointError, PluginError, UsageError, first_few, shorten
from rushkit.image_size import ImageSize, sides, size_to_json, size_words
from rushkit.models.draws import global_draws
from rushkit.models.modes import in_eval_mode
from rushkit.models.normalise import Normalised
from rushkit.models.trial import MISFITS, output_features, reason
from rushkit.recipe.toml import Options
from rushkit.registries import backbones
from rushkit.registry import takes_value

HeadKind = Literal["projector", "head"]


class Network(nn.Module):
    """``head(encoder(x))``: (N, C, H, W) images to (N, K) logits, or to (N, P) projections in pre-training.

    Args:
        encoder: A backbone, with ``num_features``.
        head: What the objective puts on it.
        kind: The name under which the head is saved: ``"projector"`` after pre-training, ``"head"`` else.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, kind: HeadKind = "head") -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self._kind: HeadKind = kind

    @property
    def kind(self) -> HeadKind:
        """Whether the head is a ``"projector"`` or a classification ``"head"``."""
        return self._kind

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits or projections of images (N, C, H, W)."""
        outputs: Tensor = self.head(self.encoder(x))
        return outputs

    def tensors(self) -> dict[str, Tensor]:
        """The tensors to save: ``encoder.*``, and ``projector.*`` or ``head.*``. They share memory with the network."""
        parts = (("encoder", self.encoder), (self.kind, self.head))
        return {f"{part}.{name}": tensor for part, module in parts for name, tensor in module.state_dict().items()}


@contextmanager
def initialised_from(seed: int, purpose: str) -> Iterator[None]:
    """Build modules inside this block on the CPU with weights drawn from (seed, purpose).

    torch's and timm's initialisers know only the global generator; it is set for the block and put back after it.
    """
    with global_draws(seed, f"weights:{purpose}"), torch.device("cpu"):
        yield


def build_backbone(
    name: str,
    options: Options,
    in_channels: int,
    image_size: ImageSize,
    seed: int,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> nn.Module:
    """Build the encoder of this name, in train mode on the CPU, with weights drawn from the seed.

    Args:
        name: A name of the registry of backbones.
        options: The factory's own options.
        in_channels: Channels of the images.
        image_size: Size of the images; rectangles are for backbones that take images of any size.
        seed: The run's seed; the same seed gives the same weights. The global random state is left as it was.
        mean: Mean of each channel, for a model that wants (x - mean) / std; none: pixels go in as they are.
        std: Standard deviation of each channel; see ``mean``.

    Raises:
        UsageError: unknown name, unknown or ill-typed option, or images that the model cannot take.
        PluginError: the factory's result is not a module with ``num_features``.
    """
    with initialised_from(seed, "backbone"):
        size = size_to_json(image_size)
        if not isinstance(size, int) and not takes_value(backbones.get(name), "image_size", size):
            # A convolutional network takes any; whether this one does is tried below.
            size = max(size)
        encoder = backbones.create(name, in_channels=in_channels, image_size=size, **options)
    if not isinstance(encoder, nn.Module) or not isinstance(getattr(encoder, "num_features", None), int):
        raise PluginError(
            f"backbone {name!r} gives {type(encoder).__name__}, not a torch module with a whole number num_features",
            f"it comes from {backbones.entry(name).owner}; docs/plugins.md says what a backbone must have",
        )
    if isinstance(image_size, tuple):
        _check_rectangles(name, encoder, in_channels, image_size)
    return Normalised(encoder, mean, std, in_channels) if mean or std else encoder


def _check_rectangles(name: str, encoder: nn.Module, in_channels: int, size: tuple[int, int]) -> None:
    """Raise UsageError unless an encoder takes rectangles."""
    try:
        output_features(encoder, in_channels, size)
    except MISFITS as error:
        raise UsageError(
            f"backbone {name!r} takes squares, and the images are {size_words(size)}: {reason(error)}",
            f"--set data.image_size={min(size)} makes squares of them, as data.fit says; convolutional backbones that "
            "average over places take rectangles",
        ) from error


def freeze_encoder(network: Network, freeze: Literal["encoder", "all", "none"] = "encoder") -> list[str]:
    """Stop gradients to the encoder, except to the biases of its BatchNorm layers (RUSH, note to Algorithm 1).

    Args:
        network: The network.
        freeze: ``"all"`` stops those to the biases too, ``"none"`` stops nothing.

    Returns:
        The names of the network's parameters that still train.
    """
    if freeze != "none":
        network.encoder.requires_grad_(False)
    if freeze == "encoder":
        for layer in _batch_norms(network.encoder):
            if layer.bias is not None:
                layer.bias.requires_grad_(True)
    return [name for name, parameter in network.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def zero_head(network: Network) -> None:
    """Set the last linear layer of the head to 0, so that every logit is 0. Raises UsageError if it has none."""
    layers = [layer for layer in network.head.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise UsageError(
            f"a head of {type(network.head).__name__} cannot start at zero: it has no linear layer",
            "--set finetune.head_start=random",
        )
    for parameter in layers[-1].parameters():
        parameter.zero_()


def set_modes(network: Network, training: bool, bn: Literal["train", "eval"]) -> None:
    """Put the network into train or eval mode, with the encoder's BatchNorm statistics as ``bn`` says.

    Args:
        network: The network.
        training: Whether it is about to train.
        bn: In training, ``"train"`` normalises by the batch and moves the running statistics; ``"eval"`` uses and
            keeps the running ones. Without training they are always used and kept.
    """
    network.train(training)
    if bn == "eval":
        for layer in _batch_norms(network.encoder):
            layer.eval()


def _batch_norms(module: nn.Module) -> Iterator[_BatchNorm]:
    return (layer for layer in module.modules() if isinstance(layer, _BatchNorm))


def num_parameters(module: nn.Module, trainable: bool = False) -> int:
    """Count the parameters; with ``trainable``, only those that get gradients."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trainable)


@torch.no_grad()
def macs(module: nn.Module, image_size: ImageSize, in_channels: int = 3) -> int:
    """Count the multiply-accumulates of one image's forward pass, in convolutions, linear layers and attention."""
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    # The counter has no entry for the fused attention of the CPU; the plain one does the same products.
    with in_eval_mode(module), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        module(torch.zeros(1, in_channels, *sides(image_size), device=device))
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class LoadReport:
    """Which tensors were loaded into a module; names are the module's own, without the prefix.

    Attributes:
        loaded: Tensors that were copied in.
        missing: Tensors of the module that the set does not have; they kept their values.
        unexpected: Tensors of the set that the module has no place for.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether all tensors were loaded, and none are missing."""
        return not self.missing and not self.unexpected


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str = "") -> LoadReport:
    """Copy into a module the tensors whose names begin with a prefix, such as ``"encoder."``.

    Args:
        module: Takes the tensors; nothing in it changes when an error is raised.
        tensors: Name to tensor, as a checkpoint holds them; those without the prefix are passed over.
        prefix: What to take off the names.

    Raises:
        CheckpointError: no tensor fits by name, though there are some, or a tensor has another shape than its place.
    """
    given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    own = module.state_dict()
    loaded = [name for name in own if name in given]
    if not loaded and (own or given):
        wanted = first_few([f"{prefix}{name}" for name in own], 2) or "it has none"
        there = first_few([shorten(name) for name in tensors], 2) or "nothing"
        raise CheckpointError(
            f"no tensor of the checkpoint is one of the network's ({wanted}): it holds {there}",
            "it is of another kind or another architecture: check the recipe's [backbone]",
        )
    misshapen = [name for name in loaded if own[name].shape != given[name].shape]
    if misshapen:
        shown = "; ".join(
            f"{prefix}{name} is {_shape(given[name])} there and {_shape(own[name])} here" for name in misshapen[:3]
        )
        more = f"; and {len(misshapen) - 3} more" if len(misshapen) > 3 else ""
        raise CheckpointError(
            f"the checkpoint's tensors do not fit: {shown}{more}",
            "it is of another architecture: check the recipe's [backbone], the projector's size, and the classes",
        )
    module.load_state_dict({name: given[name] for name in loaded}, strict=False)
    return LoadReport(
        loaded=tuple(loaded),
        missing=tuple(name for name in own if name not in given),
        unexpected=tuple(name for name in given if name not in own),
    )


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a scalar"
