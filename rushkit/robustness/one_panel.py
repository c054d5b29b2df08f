"""A smoothed classifier on one fixed panel of draws."""

from __future__ import annotations

from torch import Tensor, nn

from rushkit.models.answers import Answer, answer_kind
from rushkit.smoothing import SmoothedClassifier


class OnePanel(nn.Module):
    """A smoothed classifier on one fixed panel of draws: a deterministic model that returns (N, K) log p̄.

    Args:
        g: The classifier; its m is the size of the panel.
        seed: Seeds the panel.
    """

    def __init__(self, g: SmoothedClassifier, seed: int) -> None:
        super().__init__()
        self.g = g
        self._seed = seed

    @property
    def answer_kind(self) -> Answer:
        """What the model answers with."""
        return answer_kind(self.g)

    def forward(self, x: Tensor) -> Tensor:
        """Return log p̄, differentiable: (N, C, H, W) -> (N, K)."""
        with self.g.fixed_noise(self._seed):
            log_prob: Tensor = self.g(x)
        return log_prob
