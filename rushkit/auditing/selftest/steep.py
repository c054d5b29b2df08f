"""Planted defences of steep sigmoids: rough slopes, behind logits that saturate the cross-entropy."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SLOPES
from rushkit.auditing.selftest.ground import Ground, convolutional
from rushkit.models.stood_in import StoodIn

EPS = 0.15
# k in training, each for a quarter of the epochs.
_SLOPES = (1.0, 4.0, 16.0, 60.0)


class Steep(nn.Module):
    """sigmoid(k x).

    Args:
        slope: k.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Return values between 0 and 1, of the same shape."""
        return torch.sigmoid(self.slope * x)


def steep(ground: Ground, used: float, backward: float, epochs: int) -> Planted:
    """Build the base network with steep sigmoids in place of ReLU.

    Args:
        ground: The data; the sigmoids get steeper during training.
        used: k of the network that is used.
        backward: k of the slopes of the stand-in, which keeps the values.
        epochs: Epochs of the training. The longer, the larger the logits, and the more images whose cross-entropy has
            no slope in float32: at 30 epochs naive PGD still leaves .02, at 40 about .3, at 60 about .7.
    """
    trained = ground.trained(
        lambda: _with(convolutional(), Steep(_SLOPES[0])),
        f"steep {used:g}",
        epochs=epochs,
        at_epoch=partial(_steepen, epochs),
    )
    smooth = StoodIn(Steep(used), Steep(backward))
    return Planted(_with(trained, Steep(used)).eval(), stand_in=_with(trained, smooth).eval())


def _with(network: nn.Module, activation: nn.Module) -> nn.Module:
    """Return the network with other activations and the same weights."""
    activations = (nn.ReLU, Steep)
    return nn.Sequential(*(activation if isinstance(layer, activations) else layer for layer in network.children()))


def _steepen(epochs: int, network: nn.Module, epoch: int) -> None:
    for layer in network.modules():
        if isinstance(layer, Steep):
            layer.slope = _SLOPES[epoch * len(_SLOPES) // epochs]


CASES: tuple[Case, ...] = (
    Case("steep sigmoids, 60", "broken", "linf", EPS, lambda ground: steep(ground, 60.0, 4.0, 40), SLOPES),
    Case("steep sigmoids, 200", "broken", "linf", EPS, lambda ground: steep(ground, 200.0, 6.0, 60), SLOPES),
)
