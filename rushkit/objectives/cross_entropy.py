"""Supervised fine-tuning: cross entropy on noisy images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from rushkit.errors import DataError, UsageError

if TYPE_CHECKING:
    from rushkit.objectives import Noise, Views


class CrossEntropy:
    """A linear head trained with cross entropy on noisy images (RUSH, eq. 12).

    Args:
        label_smoothing: Share of the target that is spread over all classes, in [0, 1).
    """

    stage: Literal["finetune"] = "finetune"

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise UsageError(f"label_smoothing must be in [0, 1) (got {label_smoothing!r})", "0 is the paper's")
        self.label_smoothing = label_smoothing

    def __repr__(self) -> str:
        return f"CrossEntropy(label_smoothing={self.label_smoothing:g})"

    def module(self, num_features: int, num_classes: int) -> nn.Module:
        """Return a linear head from features (N, num_features) to logits (N, num_classes)."""
        return nn.Linear(num_features, num_classes)

    def inputs(self, images: Tensor, views: Views, noise: Noise | None, generator: Generator) -> Tensor:
        """Return the float32 views of uint8 images (N, C, H, W), plus noise if there is any, not clamped."""
        x = views(images, generator)
        return x if noise is None else x + noise.sample(x, generator)

    def loss(self, outputs: Tensor, labels: Tensor | None) -> Tensor:
        """Return the mean cross entropy of logits (N, K), computed in float32 even under autocast.

        Raises:
            DataError: there are no labels.
        """
        if labels is None:
            raise DataError("fine-tuning needs labels, and this split has none", "choose a labelled split or data set")
        with torch.autocast(outputs.device.type, enabled=False):
            return F.cross_entropy(outputs.float(), labels, label_smoothing=self.label_smoothing)
