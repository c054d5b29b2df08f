"""The attack with which an ensemble was published, devised after the thresholds were fixed.

Pintor et al. 2022 found nothing wrong with the slopes of the ensemble of Pang et al. 2019: its attack was too short.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rushkit.attacks.steps.falling import FallingSteps
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import WEAKNESS
from rushkit.auditing.selftest.ground import CLASSES, Ground, convolutional
from rushkit.auditing.selftest.weak import pgd_by

EPS = 0.10
_NETWORKS = 3
# The weights of the ensemble's entropy and of its volume (Pang et al. 2019, section 4).
_ENTROPY, _VOLUME = 2.0, 0.5
# Steps of the published attack, and their length in radii of the ball.
_STEPS, _SIZE = 10, 0.1


class Ensemble(nn.Module):
    """Three networks whose probabilities are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(convolutional() for _ in range(_NETWORKS))

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-probabilities (N, K) of images (N, C, H, W); in train mode the logits (N, 3, K) of each."""
        logits = torch.stack([network(x) for network in self.networks], dim=1)
        if self.training:
            return logits
        return torch.logsumexp(torch.log_softmax(logits, dim=2), dim=1) - math.log(_NETWORKS)


class Short(FallingSteps):
    """Ten steps of eps/10, which is all that the ensemble was published with."""

    def move(self, loss: Tensor, gradient: Tensor) -> None:
        """Take a step if it is one of the first ten."""
        if self.step < _STEPS:
            super().move(loss, gradient)

    def length(self) -> float:
        """Return the length of the next step in pixel units."""
        return _SIZE * self.eps


def diversity_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Return the cross-entropy of all networks, less what entropy and diversity count (Pang et al. 2019, eq. 6).

    Args:
        logits: (n, 3, K).
        y: (n,) labels.
    """
    cross_entropy = nn.functional.cross_entropy(logits.flatten(0, 1), y.repeat_interleave(_NETWORKS))
    probs = logits.softmax(dim=2)
    mean = probs.mean(dim=1)
    entropy = -(mean * mean.clamp(min=1e-12).log()).sum(dim=1).mean()
    return _NETWORKS * cross_entropy - _ENTROPY * entropy - _VOLUME * log_volume(probs, y).mean()


def log_volume(probs: Tensor, y: Tensor) -> Tensor:
    """Return (n,) the logarithm of the squared volume that the probabilities (n, 3, K) of all other classes span."""
    others = probs.masked_select(~nn.functional.one_hot(y, CLASSES).bool()[:, None]).view(*probs.shape[:2], -1)
    unit = nn.functional.normalize(others, dim=2)
    first, second, third = ((unit[:, a] * unit[:, b]).sum(dim=1) for a, b in ((0, 1), (1, 2), (0, 2)))
    # The determinant of the matrix of their products, which has a diagonal of ones.
    square = 1 + 2 * first * second * third - first**2 - second**2 - third**2
    return square.clamp(min=1e-6).log()


def _diverse(ground: Ground) -> Planted:
    return Planted(ground.trained(Ensemble, "diverse ensemble", loss=diversity_loss), attack=pgd_by(Short))


CASES = (Case("diverse ensemble, ten short steps", "weak", "linf", EPS, _diverse, WEAKNESS, held_out=True),)
