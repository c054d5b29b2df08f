"""Encoders, and the network that an encoder and a head make.

``rushkit.models.create("resnet18", in_channels=3, image_size=32)`` makes an encoder with weights drawn from the global
generator; ``rushkit.models.network.build_backbone`` makes one from a seed. Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rushkit.registries import backbones as _registry

if TYPE_CHECKING:
    import torch

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Backbone(Protocol):
    """The interface of an encoder: an ``nn.Module`` with ``num_features``; a plugin needs no base class.

    Its factory is called with ``in_channels``, ``image_size`` and the options of the recipe's section [backbone].

    Attributes:
        num_features: Length of the feature vector of one image.
    """

    num_features: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Features (N, num_features) of images (N, C, H, W) with pixels in [0, 1], plus noise; not normalised."""
        ...
