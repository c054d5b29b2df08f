"""Broken defences that may reject an image: an attack that stops at the first wrong answer stops at a rejection."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import REJECTION
from rushkit.auditing.selftest.ground import Ground

EPS = 0.15
# The least probability that is not rejected.
_CONFIDENT = 0.98
# The share of the training images that may pass, and how fast the logit of a rejection rises with the distance.
_QUANTILE, _GAIN = 0.95, 10.0


class RejectsLowConfidence(nn.Module):
    """A classifier with one more class, which wins where the largest probability is below .98.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K + 1) logits of images (N, C, H, W)."""
        logits = self.network(x)
        # max p < .98 if and only if the largest logit is below this one.
        rejection = torch.logsumexp(logits, dim=1, keepdim=True) + math.log(_CONFIDENT)
        return torch.cat([logits, rejection], dim=1)


class RejectsMoved(nn.Module):
    """A classifier with one more class, which wins where blur moves the softmax (after Xu et al. 2018).

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        images: (M, C, H, W) training images, of which one in twenty is rejected.
    """

    def __init__(self, network: nn.Module, images: Tensor) -> None:
        super().__init__()
        self.network = network
        with torch.no_grad():
            self.allowed = float(self._moved(images, network(images)).quantile(_QUANTILE))

    def _moved(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return the l1 distance (N, 1) between the probabilities of images and of the same images after blur."""
        blurred: Tensor = self.network(blur(x))
        return (logits.softmax(dim=1) - blurred.softmax(dim=1)).abs().sum(dim=1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K + 1) logits of images (N, C, H, W)."""
        logits: Tensor = self.network(x)
        excess = self._moved(x, logits) - self.allowed
        return torch.cat([logits, logits.amax(dim=1, keepdim=True) + _GAIN * excess], dim=1)


class BothBranches(nn.Module):
    """The mean logits of images and of the same images after blur: what raises its loss misleads both alike.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        logits: Tensor = self.network(x) + self.network(blur(x))
        return logits / 2


def blur(x: Tensor) -> Tensor:
    """Return the means of 3x3 windows of images (N, C, H, W), the same shape."""
    return nn.functional.avg_pool2d(nn.functional.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def _low_confidence(ground: Ground) -> Planted:
    return Planted(RejectsLowConfidence(ground.base), stand_in=ground.base)


def _on_mean(ground: Ground) -> Planted:
    return Planted(RejectsMoved(ground.base, ground.train[0]), stand_in=BothBranches(ground.base))


CASES = (
    Case("rejects low confidence", "broken", "linf", EPS, _low_confidence, REJECTION, naive="rejecting"),
    Case("rejects on 3x3 mean", "broken", "linf", EPS, _on_mean, REJECTION, naive="rejecting"),
)
