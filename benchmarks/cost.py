"""What a training takes: passes of images, seconds, and how far its loss had come."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.models.network import Network


@dataclass(frozen=True)
class Cost:
    """What a training took, and how far it had come.

    Attributes:
        passes: Passes for each training image and epoch.
        seconds: Seconds of one thread.
        epochs: Passes over the training images.
        before: Mean loss in the last tenth but one of the steps.
        last: Mean loss in the last tenth.
    """

    passes: float
    seconds: float
    epochs: int
    before: float
    last: float


class Passes:
    """Counts the passes of images through networks, and through encoders that are in none, while it is on."""

    def __init__(self) -> None:
        self.count = 0
        self._depth = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count inside the block."""
        before = nn.modules.module.register_module_forward_pre_hook(self._before)
        after = nn.modules.module.register_module_forward_hook(self._after)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _before(self, module: nn.Module, _: Any) -> None:
        self._depth += self._counts(module)

    def _after(self, module: nn.Module, given: tuple[Any, ...], outputs: Tensor) -> None:
        self._depth -= self._counts(module)
        if self._depth or not self._counts(module):
            return
        self.count += len(outputs)
        encoder = module.encoder if isinstance(module, Network) else module
        # A head on a frozen encoder takes no pass back through it.
        back = 2 if any(weight.requires_grad for weight in encoder.parameters()) else int(given[0].requires_grad)
        if back and outputs.requires_grad:
            outputs.register_hook(lambda gradient: self._add(back * len(gradient)))

    def _add(self, passes: int) -> None:
        self.count += passes

    @staticmethod
    def _counts(module: nn.Module) -> bool:
        # BatchNorm, such as that of a predictor, has features as well.
        encodes = hasattr(module, "num_features") and not isinstance(module, _BatchNorm)
        return encodes or isinstance(module, Network)


def tenths(losses: Sequence[float]) -> tuple[float, float]:
    """Return the mean loss of the last tenth but one of the steps, and of the last one."""
    length = max(1, len(losses) // 10)
    last, before = losses[-length:], losses[-2 * length : -length] or losses[-length:]
    return sum(before) / len(before), sum(last) / len(last)
