"""Planted defences that keep the slope of their network away from the attack, and hand it another.

A path outside the graph answers; a path inside it, which hardly matters to the answer, gives the slope.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import SLOPES
from rushkit.auditing.selftest.ground import CLASSES, SIDE, Ground, convolutional

EPS = 0.15
_MISLED, _SKIP, _LEAK = -0.1, 0.05, 0.02
# Standard deviation of the noise that the autoencoder learns to remove, pixel units.
_PURIFIED_NOISE = 0.15


class Detached(nn.Module):
    """The logits of a network, plus a little of those of another; only the second is in the graph.

    Args:
        network: (N, C, H, W) -> (N, K), which answers.
        skip: (N, C, H, W) -> (N, K), which gives the slope.
        share: The factor of the second.
        restored: Whether the network is in the graph after all.
    """

    def __init__(self, network: nn.Module, skip: nn.Module, share: float, restored: bool = False) -> None:
        super().__init__()
        self.network, self.skip, self.share, self.restored = network, skip, share, restored

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K)."""
        answers: Tensor = self.network(x if self.restored else x.detach())
        lead: Tensor = self.skip(x)
        return answers + self.share * lead


class Purifier(nn.Module):
    """A network behind an autoencoder outside the graph; a term that is always 0 gives a slope to all pixels alike.

    Args:
        autoencoder: (N, C, H, W) -> (N, C, H, W).
        network: (N, C, H, W) -> (N, K).
    """

    def __init__(self, autoencoder: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.autoencoder, self.network = autoencoder, network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K)."""
        with torch.no_grad():
            purified = self.autoencoder(x)
        logits: Tensor = self.network(purified + _LEAK * (x - x.detach()).mean((1, 2, 3), keepdim=True))
        return logits


def linear() -> nn.Module:
    """Return an untrained linear classifier of all pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, CLASSES))


def autoencoder() -> nn.Module:
    """Return an untrained autoencoder of two convolutions of stride 2 and their mirror images."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def misled(ground: Ground) -> Planted:
    """Build the base network outside the graph, less a tenth of a linear classifier whose slope leads away."""
    return _both(ground.base, ground.trained(linear, "misleading"), _MISLED)


def weak_skip(ground: Ground) -> Planted:
    """Build a network outside the graph, trained jointly with the linear classifier whose slope is left."""
    trained = ground.trained(lambda: Detached(convolutional(), linear(), _SKIP), "weak skip")
    assert isinstance(trained, Detached)
    return _both(trained.network, trained.skip, _SKIP)


def purifier(ground: Ground) -> Planted:
    """Build the base network's like behind a denoising autoencoder, both trained on the digits."""
    x, y = ground.train
    cleaner = ground.trained(autoencoder, "autoencoder", moved=_noisy, loss=nn.functional.mse_loss, data=(x, x))
    network = ground.trained(convolutional, "purified", data=(cleaner(x), y))
    return Planted(Purifier(cleaner, network).eval(), stand_in=nn.Sequential(cleaner, network).eval())


def _both(network: nn.Module, skip: nn.Module, share: float) -> Planted:
    planted = partial(Detached, network, skip, share)
    return Planted(planted().eval(), stand_in=planted(restored=True).eval())


def _noisy(network: nn.Module, x: Tensor, y: Tensor, epoch: int, source: torch.Generator) -> Tensor:
    return (x + _PURIFIED_NOISE * torch.randn(x.shape, generator=source)).clamp(0, 1)


CASES: tuple[Case, ...] = (
    Case("detached, misled", "broken", "linf", EPS, misled, SLOPES),
    Case("detached, weak skip", "broken", "linf", EPS, weak_skip, SLOPES),
    Case("purifier", "broken", "linf", EPS, purifier, SLOPES),
)
