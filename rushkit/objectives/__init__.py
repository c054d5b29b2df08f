"""Training objectives: each defines the head on the encoder, the inputs of a batch, and the loss.

``rushkit.objectives.create("rush", temperature=0.5)`` makes one; docs/objectives.md shows how to write your own.
Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from rushkit.registries import objectives as _registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor, nn

    Views = Callable[[Tensor, Generator], Tensor]
    """Maps uint8 images (N, C, H, W) to float32 views (N, C, H, W) with pixels in [0, 1]."""

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Noise(Protocol):
    """The part of a smoothing distribution that objectives use."""

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw δ with the shape, dtype and device of x."""
        ...


class Objective(Protocol):
    """The interface of a training objective; a plugin needs no base class.

    Attributes:
        stage: The stage it is for; pre-training has no labels, fine-tuning has.
    """

    stage: Literal["pretrain", "finetune"]

    def module(self, num_features: int, num_classes: int) -> nn.Module:
        """Return the head: features (N, num_features) to projections, or to logits (N, num_classes)."""
        ...

    def inputs(self, images: Tensor, views: Views, noise: Noise | None, generator: Generator) -> Tensor:
        """Return the network's float32 inputs (M, C, H, W), M a multiple of N, for uint8 images (N, C, H, W).

        Every draw comes from ``generator``. Noise is added after the views and not clamped.
        """
        ...

    def loss(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """Return the loss, a float32 scalar, of the head's outputs (M, ...) for int64 labels (N,)."""
        ...
