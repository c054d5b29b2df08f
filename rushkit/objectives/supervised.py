"""What objectives that train with labels share: a linear head, the labels, and values of images in full precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rushkit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rushkit.objectives import Batch


class Supervised:
    """A base for objectives of fine-tuning that put a linear head on the encoder."""

    stage: ClassVar[Literal["finetune"]] = "finetune"

    def head(self, num_features: int, classes: Sequence[int]) -> nn.Module:
        """Return a linear head from features (N, num_features) to logits (N, K)."""
        return nn.Linear(num_features, classes[0])


def labels_of(batch: Batch) -> Tensor:
    """Return a batch's labels (n,). Raises DataError if it has none."""
    if batch.labels is None:
        raise DataError("fine-tuning needs labels, and this split has none", "choose a labelled split or data set")
    return batch.labels


def full_precision(values: Tensor) -> Tensor:
    """Return values in float32, or float64 as they are."""
    return values if values.dtype == torch.float64 else values.float()


def log_softmax(logits: Tensor) -> Tensor:
    """Return log-probabilities (N, K) of logits, in float32 even under autocast (float64 for float64)."""
    with torch.autocast(logits.device.type, enabled=False):
        return F.log_softmax(full_precision(logits), dim=1)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy (N,) of logits (N, K) with labels (N,) or target probabilities (N, K)."""
    with torch.autocast(logits.device.type, enabled=False):
        wide = full_precision(logits)
        return F.cross_entropy(wide, target.to(wide.dtype) if target.dim() == 2 else target, reduction="none")


def divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p ‖ q) (N,) of log-probabilities (N, K); the gradient goes through both."""
    with torch.autocast(log_p.device.type, enabled=False):
        return (log_p.exp() * (log_p - log_q)).sum(dim=1)
