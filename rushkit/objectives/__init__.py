"""Training objectives: the module on the encoder, the inputs of a batch, and the loss.

``rushkit.objectives.create("rush", temperature=0.5)`` makes one; docs/objectives.md shows how to write another.
Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from rushkit.registries import objectives as _registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor, nn

    Views = Callable[[Tensor, Generator], Tensor]
    """uint8 images (N, C, H, W) to float32 views (N, C, H, W) with pixels in [0, 1]."""

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
        stage: Which stage it belongs to; pre-training has no labels, fine-tuning has.
    """

    stage: Literal["pretrain", "finetune"]

    def module(self, num_features: int, num_classes: int) -> nn.Module:
        """Return the module on the encoder: (N, num_features) to projections, or to logits (N, num_classes)."""
        ...

    def inputs(self, images: Tensor, views: Views, noise: Noise | None, generator: Generator) -> Tensor:
        """The float32 batch (M, C, H, W) that the network sees, M a multiple of N, from uint8 images (N, C, H, W).

        Every draw comes from ``generator``. Noise is added after the views and not clamped.
        """
        ...

    def loss(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """A float32 scalar from outputs (M, ...) of the module and int64 labels (N,)."""
        ...
