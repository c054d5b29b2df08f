"""Broken defences whose answer for an image depends on the images beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import BATCH
from rushkit.auditing.selftest.ground import Ground, convolutional, inserted

EPS = 0.15
# Rounds of Sinkhorn's algorithm (Cuturi 2013), and the temperature of the logits.
_ROUNDS, _TEMPERATURE = 5, 8.0


class Balanced(nn.Module):
    """A classifier that gives every class the same share of a batch.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) log-probabilities of images (N, C, H, W), after rounds that normalise classes and images."""
        log_probs: Tensor = self.network(x) / _TEMPERATURE
        share = math.log(len(x) / log_probs.shape[1])
        for _ in range(_ROUNDS):
            log_probs = log_probs - torch.logsumexp(log_probs, dim=0) + share
            log_probs = torch.log_softmax(log_probs, dim=1)
        return log_probs


class BatchStatistics(nn.Module):
    """Batch normalisation that takes its statistics from the batch at hand, also in eval mode.

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) features, normalised by the mean and the variance of each channel in this batch."""
        return nn.functional.batch_norm(x, None, None, self.weight, self.bias, training=True)


def _normalised() -> nn.Module:
    """Return the base network, untrained, with batch normalisation after each convolution."""
    return inserted(convolutional(), {1: BatchStatistics(16), 3: BatchStatistics(32)})


def _balanced(ground: Ground) -> Planted:
    return Planted(Balanced(ground.base), stand_in=ground.base)


def _batch_norm(ground: Ground) -> Planted:
    return Planted(ground.trained(_normalised, "batch norm"))


CASES = (
    Case("balanced over the batch", "broken", "linf", EPS, _balanced, BATCH),
    Case("batch norm in train mode", "broken", "linf", EPS, _batch_norm, BATCH),
)
