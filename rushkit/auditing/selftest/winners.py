"""Planted defences whose activation is discontinuous almost everywhere: k winners take all (Xiao et al. 2020).

Broken by Tramer et al. 2020, "On adaptive attacks to adversarial example defenses", with the mean over neighbours.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SLOPES
from rushkit.auditing.selftest.ground import CLASSES, SIDE, Ground
from rushkit.auditing.selftest.stand_ins import Neighbours

_EPOCHS, _RATE = 40, 5e-3
_CHANNELS, _HIDDEN = 32, 64
# Neighbours of an image in a pass of the stand-in, and their standard deviation in pixel units.
_NEIGHBOURS, _SPREAD = 30, 0.04


class Winners(nn.Module):
    """Keeps the largest activations of each image and sets all others to 0.

    Args:
        share: The share that is kept.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return activations (N, ...) of the same shape; the largest are of an image's whole layer."""
        flat = x.flatten(1)
        least = flat.topk(math.ceil(self.share * flat.shape[1]), dim=1).values[:, -1:]
        return (flat * (flat >= least)).view_as(x)


def winners(ground: Ground, share: float) -> Planted:
    """Build a network of two convolutions of 32 channels in which a share of the activations wins."""
    model = ground.trained(lambda: _network(share), f"winners {share:g}", epochs=_EPOCHS, rate=_RATE)
    return Planted(model, stand_in=Neighbours(model, _NEIGHBOURS, _SPREAD).eval())


def _network(share: float) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, _CHANNELS, 3, stride=2, padding=1),
        Winners(share),
        nn.Conv2d(_CHANNELS, _CHANNELS, 3, stride=2, padding=1),
        Winners(share),
        nn.Flatten(),
        nn.Linear(_CHANNELS * (SIDE // 4) ** 2, _HIDDEN),
        Winners(share),
        nn.Linear(_HIDDEN, CLASSES),
    )


CASES: tuple[Case, ...] = (
    Case("k-WTA 10 %", "broken", "linf", 0.15, lambda ground: winners(ground, 0.1), SLOPES),
    Case("k-WTA 3 %", "broken", "linf", 0.08, lambda ground: winners(ground, 0.03), SLOPES),
)
