"""What an attack may be able to do beyond returning images. Ask with ``isinstance``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from rushkit.attacks.autoattack import Progress
from rushkit.attacks.result import AttackResult


@runtime_checkable
class Reports(Protocol):
    """An attack that says more about its work than the images that came out."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack as a call does, and return the images with their losses, costs and notes."""
        ...


@runtime_checkable
class Resumes(Protocol):
    """An attack of several parts that can stop between two of them and go on later."""

    def run_from(
        self,
        progress: Progress | None,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
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

    per_attack: Mapping[str, Tensor]
