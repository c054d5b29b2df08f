"""Attacks: move an image within a ball so that a classifier misclassifies it.

``rushkit.attacks.create("pgd", norm="linf", eps=8 / 255)`` makes one. Importing this package imports no component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

from rushkit.recipe.radius import check_eps
from rushkit.registries import attacks as _registry

if TYPE_CHECKING:
    import torch

Norm = Literal["linf", "l2", "l1"]

get, register = _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


def create(name: str, **options: Any) -> Any:
    """Create the attack of this name with checked options: ``norm``, ``eps`` in pixel units, and the attack's own.

    Raises:
        UsageError: the name is unknown, an option is unknown, missing or ill-typed, or eps is not in pixel units.
        PluginError: a plugin's factory fails.
    """
    if isinstance(eps := options.get("eps"), int | float):
        check_eps(str(options.get("norm")), eps)
    return _registry.create(name, **options)


class Attack(Protocol):
    """The interface of an attack; a plugin needs no base class, only a factory ``(norm, eps, **options)``.

    ``attacks.abilities`` lists what an attack can do beyond this; rushkit checks for it with ``isinstance``.
    """

    def __call__(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return adversarial images for (N, C, H, W) images x with pixels in [0, 1] and their (N,) int64 labels.

        Returns:
            float32 images in [0, 1], within eps of x in the attack's norm up to rounding. The model is left unchanged.
        """
        ...
