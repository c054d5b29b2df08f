"""Optional abilities of attacks, as Protocols to check for with ``isinstance``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from rushkit.attacks.autoattack import Progress
from rushkit.attacks.result import AttackResult
from rushkit.models.answers import Answer


@runtime_checkable
class Reports(Protocol):
    """An attack that reports losses, costs and notes as well as images."""

    def run(self, model: nn.Module, x: Tensor, y: Tensor) -> AttackResult:
        """Attack as ``__call__`` does, and return the images with their losses, costs and notes."""
        ...


@runtime_checkable
class Resumes(Protocol):
    """An attack of several parts that can stop between two of them and resume later."""

    def run_from(
        self,
        progress: Progress | None,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        after_part: Callable[[Progress], None],
    ) -> AttackResult:
        """Continue an attack that stopped at ``progress``; call ``after_part`` with the progress after each part."""
        ...


@runtime_checkable
class ChecksFit(Protocol):
    """An attack that knows, without querying a model, whether it can run."""

    def check_fit(self, classes: int, height: int, width: int) -> None:
        """Raise UsageError if there are too few classes for the attack, or the images are too small."""
        ...


@runtime_checkable
class AsksForLess(Protocol):
    """An attack that follows no gradient.

    Attributes:
        asks: What the model must answer with at least: ``"probabilities"`` or ``"labels"``.
    """

    asks: Answer


def asks_for(attack: object) -> Answer:
    """Return what an attack needs the model to answer with; ``logits``, with gradients, if it does not say."""
    return attack.asks if isinstance(attack, AsksForLess) else "logits"


@runtime_checkable
class CreditsParts(Protocol):
    """The result of an attack of several parts.

    Attributes:
        per_attack: Name of a part to (N,) bool, the images that it was the first part to break.
    """

    per_attack: Mapping[str, Tensor]
