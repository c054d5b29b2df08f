"""The smallest distances of rushkit's bisection, beside those of foolbox's fast minimum norm."""

import pytest
import rushkit_foolbox
import torch
from torch import nn

from rushkit import noises
from rushkit.attacks.norms import length
from rushkit.recipe.schema import Attack
from rushkit.robustness.block import Block
from rushkit.robustness.nearest import CELLS, nearest
from rushkit.robustness.protocols import plan_attack
from rushkit.smoothing import SmoothedClassifier


def curved(count=12):
    """A small network with curved boundaries, images, and its own labels."""
    source = torch.Generator().manual_seed(5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 24), nn.Tanh(), nn.Linear(24, 3))
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(0.6 * torch.randn(weights.shape, generator=source))
    x = 0.3 + 0.4 * torch.rand(count, 1, 6, 6, generator=source)
    return model.eval().requires_grad_(False), x, model(x).argmax(dim=1)


@pytest.mark.parametrize("norm, eps", [("linf", 0.2)])
def test_fmn_finds_nothing_much_nearer(norm, eps):
    model, x, y = curved()
    g = SmoothedClassifier(model, noises.create("none"), samples=1, seed=0)

    def plan_at(section):
        return plan_attack(section, "strict", 1, 3, 0, deterministic=True)

    block = Block(0, x, y, torch.arange(len(x)))
    ours = nearest(g, Attack(type="pgd", norm=norm, eps=eps), plan_at, block, 0).distance
    x_adv = rushkit_foolbox.fmn(norm=norm, eps=1.0, steps=300)(g, x, y)
    theirs = length(x_adv.double() - x.double(), norm)
    fooled = (model(x_adv).argmax(dim=1) != y) & (theirs < eps)
    assert int(fooled.sum()) > 6
    # A cell of the bisection apart at most: strict attacks at radii that are so far from each other.
    assert (ours[fooled] <= theirs[fooled] + eps / CELLS).all()
