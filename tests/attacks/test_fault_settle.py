"""What an attack returns lies in its ball to the last bit, and the audit knows how far rounding alone can go."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from rushkit import registries
from rushkit.attacks.norms import length, settle
from rushkit.attacks.pgd import PGD
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.given import Given
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

BALLS = [("linf", 8 / 255, 8), ("linf", 8 / 255, 32), ("linf", 8 / 255, 224), ("l2", 0.5, 8), ("l2", 0.5, 32)]
BALLS += [("l2", 0.5, 224), ("l1", 2.0, 8), ("l1", 12.0, 32), ("l1", 12.0, 224)]


def spread(x, norm, eps, source):
    """A move of every pixel in a random direction, somewhat too long."""
    ray = torch.randn(x.shape, generator=source)
    return x + 1.2 * eps * ray / length(ray, norm).view(-1, 1, 1, 1)


@pytest.mark.parametrize(("norm", "eps", "side"), BALLS)
def test_every_returned_image_lies_in_the_ball_as_float64_computes_it(norm, eps, side):
    source = generator(0, "settle")
    # Away from the box, so that the ball is the limit.
    x = torch.randint(60, 196, ({8: 2560, 32: 160, 224: 6}[side], 3, side, side), generator=source) / 255
    x_adv = settle(x, spread(x, norm, eps, source), norm, eps)
    assert x_adv.dtype == torch.float32
    distance, dim = length(x_adv.double() - x.double(), norm), 3 * side**2
    assert distance.max() <= eps
    # Nothing is given away: what is missing is the rounding of the pixels.
    assert distance.min() >= eps - 2.0**-24 * {"linf": 1, "l2": dim**0.5, "l1": dim}[norm]


class Spread(PGD):
    """Moves every pixel, and settles what it returns."""

    def run(self, model, x, y):
        result = super().run(model, x, y)
        moved = spread(x, self.norm, self.eps, generator(0, "spread"))
        return replace(result, x_adv=settle(x, moved, self.norm, self.eps))


def test_the_audit_does_not_accuse_a_sound_l1_attack_of_leaving_its_ball():
    x = torch.randint(60, 196, (24, 3, 32, 32), generator=generator(0, "images")) / 255
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.constant_(model[1].bias, 0.0)
    g = SmoothedClassifier(model, registries.noises.create("gaussian", scale=0.1), 4, seed=0)
    settings = Settings("l1", 12.0, steps=2, eot=2, queries=10, planted=1)
    found = measure(g, x, torch.zeros(24, dtype=torch.int64), settings, Given(attack=Spread))
    assert {check.code: check.status for check in check_all(found)}["RK118"] == "pass"
