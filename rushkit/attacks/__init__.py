"""Attacks: how an image is moved within a ball so that a classifier errs.

``rushkit.attacks.create("pgd", norm="linf", eps=8 / 255)`` makes one. Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from rushkit.registries import attacks as _registry

if TYPE_CHECKING:
    import torch

Norm = Literal["linf", "l2", "l1"]

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


class Attack(Protocol):
    """What an attack offers; a plugin needs no base class, only a factory ``(norm, eps, **options)``.

    The attacks of rushkit also have ``run(model, x, y)``, which returns an ``attacks.result.AttackResult``.
    """

    def __call__(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Adversarial images for (N, C, H, W) images x with pixels in [0, 1] and their (N,) int64 labels.

        Returns:
            float32 images in [0, 1], within eps of x in the attack's norm but for rounding. The model is as before.
        """
        ...
