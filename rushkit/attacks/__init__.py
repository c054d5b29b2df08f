"""Attacks: how an image is moved within a ball so that a classifier errs.

``rushkit.attacks.create("pgd", norm="linf", eps=8 / 255)`` makes one. Importing this package imports no component.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from rushkit.recipe.radius import check_eps
from rushkit.registries import attacks as _registry

if TYPE_CHECKING:
    import torch

    from rushkit.attacks.autoattack import Progress
    from rushkit.attacks.result import AttackResult

Norm = Literal["linf", "l2", "l1"]

get, register = _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


def create(name: str, **options: Any) -> Any:
    """The attack of this name, made with checked options: ``norm``, ``eps`` in pixel units, and its own.

    Raises:
        UsageError: unknown name, unknown, missing or ill-typed option, or an eps that is not in pixel units.
        PluginError: a plugin's factory fails.
    """
    if isinstance(eps := options.get("eps"), int | float):
        check_eps(str(options.get("norm")), eps)
    return _registry.create(name, **options)


class Attack(Protocol):
    """What an attack offers; a plugin needs no base class, only a factory ``(norm, eps, **options)``.

    An attack may also have the abilities below: rushkit asks for them with ``isinstance``.
    """

    def __call__(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Adversarial images for (N, C, H, W) images x with pixels in [0, 1] and their (N,) int64 labels.

        Returns:
            float32 images in [0, 1], within eps of x in the attack's norm but for rounding. The model is as before.
        """
        ...


@runtime_checkable
class Reports(Protocol):
    """An attack that says more about its work than the images that came out."""

    def run(self, model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> AttackResult:
        """Attack as a call does, and return the images with their losses, costs and notes."""
        ...


@runtime_checkable
class Resumes(Protocol):
    """An attack of several parts that can stop between two of them and go on later."""

    def run_from(
        self,
        progress: Progress | None,
        model: torch.nn.Module,
        x: torch.Tensor,
        y: torch.Tensor,
        after_part: Callable[[Progress], None],
    ) -> AttackResult:
        """Attack from where an earlier call stopped; ``after_part`` is called with the progress after each part."""
        ...


@runtime_checkable
class ChecksFit(Protocol):
    """An attack that knows, without querying a model, whether it can run."""

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raise UsageError where there are too few classes for it, or the images are too small."""
        ...


@runtime_checkable
class CreditsParts(Protocol):
    """The result of an attack of several parts.

    Attributes:
        per_attack: Name of a part to (N,) bool, the images that it broke and no part before it had.
    """

    per_attack: Mapping[str, torch.Tensor]
