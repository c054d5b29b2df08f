"""Broken defences that are random by themselves, devised after the thresholds were fixed.

Their claim is an attack on one draw, judged by another. ``PicksOne`` with a draw for the whole batch is expected to be
hard to catch: two passes are alike in one of three cases. In one of three cases the judging draw is the attacked one
too, and there is nothing left of the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import RANDOMNESS
from rushkit.auditing.selftest.ground import SIDE, Ground, convolutional, inserted
from rushkit.auditing.selftest.random_defences import Expected
from rushkit.system import generator

EPS = 0.15
_NETWORKS = 3
# Draws as a share of the number of activations, and the epochs that a network needs to learn under them.
_SHARE, _EPOCHS = 0.2, 60


class ActivationPruning(nn.Module):
    """Keeps what is drawn in proportion to its size, and scales it up (Dhillon et al. 2018), also in eval mode.

    Args:
        share: Draws with replacement, as a share of the activations.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return activations (N, ...), pruned by torch's global generator; their mean is that of the activations."""
        size = x.detach().abs().flatten(1)
        odds = size / size.sum(dim=1, keepdim=True).clamp(min=1e-12)
        kept = 1 - (1 - odds).pow(self.share * size.shape[1])
        drawn = torch.rand_like(kept) < kept
        return x * (drawn / kept.clamp(min=1e-12)).view_as(x)


class Masked(nn.Module):
    """A network that sees some of the pixels.

    Args:
        seen: (H, W) bool, the pixels.
    """

    def __init__(self, seen: Tensor) -> None:
        super().__init__()
        self.register_buffer("seen", seen)

    def forward(self, x: Tensor) -> Tensor:
        """Return images (N, C, H, W) whose other pixels are black."""
        return x * cast(Tensor, self.seen)


class PicksOne(nn.Module):
    """Answers by one of several networks, drawn for each image or for each batch.

    Args:
        networks: Each (N, C, H, W) -> (N, K) logits.
        whole_batch: Whether all images of a batch are answered by the same one.
    """

    def __init__(self, networks: Sequence[nn.Module], whole_batch: bool) -> None:
        super().__init__()
        self.networks, self.whole_batch = nn.ModuleList(networks), whole_batch

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        picked = torch.randint(len(self.networks), (1 if self.whole_batch else len(x),)).to(x.device)
        logits = torch.stack([network(x) for network in self.networks])
        return logits[picked.expand(len(x)), torch.arange(len(x), device=x.device)]


class MeanOfAll(nn.Module):
    """The mean logits of several networks, as a stand-in for one of them.

    Args:
        networks: Each (N, C, H, W) -> (N, K) logits.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        return torch.stack([network(x) for network in self.networks]).mean(dim=0)


def thirds_of_the_pixels(ground: Ground) -> Tensor:
    """Return (H, W) the number of the network that sees each pixel."""
    source = generator(ground.seed, "self-test thirds of the pixels")
    return torch.randint(_NETWORKS, (SIDE, SIDE), generator=source)


def _picks_one(whole_batch: bool, ground: Ground) -> Planted:
    """Train networks that each see a third of the pixels, so that no attack on one of them says much of the others."""
    thirds = thirds_of_the_pixels(ground)
    networks = [
        ground.trained(partial(convolutional, layers=(Masked(thirds == third),)), f"third {third}")
        for third in range(_NETWORKS)
    ]
    return Planted(PicksOne(networks, whole_batch), stand_in=MeanOfAll(networks))


def _pruned() -> nn.Module:
    """Return the base network, untrained, with stochastic pruning after each ReLU."""
    return inserted(convolutional(), {number: ActivationPruning(_SHARE) for number in (2, 4, 7)})


def _activation_pruning(ground: Ground) -> Planted:
    model = ground.trained(_pruned, "activation pruning", epochs=_EPOCHS)
    return Planted(model, stand_in=Expected(model))


CASES = (
    Case(
        "one of three nets an image",
        "broken",
        "linf",
        EPS,
        partial(_picks_one, False),
        RANDOMNESS,
        naive="held",
        held_out=True,
    ),
    Case(
        "one of three nets a batch",
        "broken",
        "linf",
        EPS,
        partial(_picks_one, True),
        RANDOMNESS,
        naive="held",
        held_out=True,
    ),
    Case(
        "stochastic activation pruning",
        "broken",
        "linf",
        EPS,
        _activation_pruning,
        RANDOMNESS,
        naive="held",
        held_out=True,
    ),
)
