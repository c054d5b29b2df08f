"""Supervised fine-tuning: cross entropy on noisy images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.objectives.supervised import Supervised, cross_entropy, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


class CrossEntropy(Supervised):
    """A linear head trained with cross entropy on noisy images (RUSH, eq. 12).

    Args:
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1) (got {label_smoothing!r})", "0 is the paper's")
        self.label_smoothing = label_smoothing

    def __repr__(self) -> str:
        return f"CrossEntropy(label_smoothing={self.label_smoothing:g})"

    @property
    def kept_passes(self) -> int:
        """The passes of the batch that are kept at once: the noisy images alone."""
        return 1

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean cross entropy of the batch's views plus noise, in float32 even under autocast.

        Raises:
            DataError: there are no labels.
        """
        labels_of(batch)
        x = batch.view()
        logits = network(x + batch.noise(x))
        target = batch.targets()
        if self.label_smoothing:
            target = target.lerp(torch.full_like(target, 1 / batch.classes), self.label_smoothing)
        yield batch.mean(cross_entropy(logits, target))
