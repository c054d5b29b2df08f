"""Cases that are built and audited in a second or two, whose verdicts are known beforehand."""

from __future__ import annotations

import torch
from torch import nn

from rushkit.attacks.pgd import PGD
from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.ground import CLASSES, SIDE, Ground
from rushkit.errors import NumericsError


class Thresholded(nn.Module):
    """The base network on black and white images: its slope is zero everywhere."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network((x > 0.5).float() + 0 * x)


class Standing(PGD):
    """PGD that hardly moves."""

    def __init__(self, norm, eps, **options):
        super().__init__(norm, eps, **options | {"step_size": eps / 1000})


def linear(ground: Ground) -> nn.Module:
    return ground.trained(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)), "linear", epochs=10)


def untrained(ground: Ground) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(ground.seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES)).eval().requires_grad_(False)


def collapsed(ground: Ground) -> Planted:
    raise NumericsError("the training collapsed", "take another seed")


ZERO_SLOPE = Case("zero-slope", "broken", "linf", 0.05, lambda g: Planted(Thresholded(linear(g))), ("RK104",))
WRONG_CAUSE = Case("other-cause", "broken", "linf", 0.05, lambda g: Planted(Thresholded(linear(g))), ("RK103",))
STANDING = Case(
    "standing", "weak", "linf", 0.05, lambda g: Planted(linear(g), attack=Standing), ("RK108", "RK112"), held_out=True
)
SOUND = Case("linear", "sound", "linf", 0.02, lambda g: Planted(linear(g)))
UNTRAINED = Case("untrained", "sound", "linf", 0.02, lambda g: Planted(untrained(g)))

COLLAPSED = Case("collapsed", "weak", "linf", 0.02, collapsed, ("RK108",))

CASES = (ZERO_SLOPE, WRONG_CAUSE, STANDING, SOUND, UNTRAINED)
