"""How images lie in memory changes nothing: attacks and log p̄ are the same for any layout, bit for bit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import attacks
from rushkit.noises.gaussian import Gaussian
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator

# The same values in other places of the memory.
LAYOUTS = {
    "a permuted array of (N, H, W, C)": lambda t: t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "height and width changed": lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    "channels last": lambda t: t.contiguous(memory_format=torch.channels_last),
}
# Name, norm and options that keep it quick; each of them failed, or gave another result, on some layout.
ATTACKS = {
    "apgd": ("l2", {"steps": 3}),
    "fab": ("linf", {"steps": 2}),
    "torchattacks/fab": ("l2", {"steps": 2}),
    "square": ("l2", {"queries": 10}),
    "pgdl2": ("l2", {"steps": 2}),
    "jsma": ("l1", {}),
    "sparsefool": ("l1", {"steps": 2}),
    "autoattack": ("linf", {"steps": 2, "queries": 5}),
}
SIZE, CLASSES = 8, 5


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, CLASSES),
        )  # fmt: skip


@pytest.fixture
def rightly_classified() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    net, x = network(), torch.rand(3, 3, SIZE, SIZE, generator=generator(0, "images"))
    return net, x, net(x).argmax(1)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_finds_the_same_whatever_the_layout(name, rightly_classified):
    net, x, y = rightly_classified
    norm, options = ATTACKS[name]
    attack = attacks.create(name, norm=norm, eps=0.05 if norm == "linf" else 0.3, **options)
    expected = attack(net, x, y)
    assert {layout: torch.equal(attack(net, lay(x), y), expected) for layout, lay in LAYOUTS.items()} == dict.fromkeys(
        LAYOUTS, True
    )


@pytest.mark.parametrize("name", ["pgdl2", "sparsefool"])
def test_a_model_whose_gradients_lie_channels_last_is_attacked(name, rightly_classified):
    net, x, y = rightly_classified
    norm, options = ATTACKS[name]
    x_adv = attacks.create(name, norm=norm, eps=0.3, **options)(net.to(memory_format=torch.channels_last), x, y)
    assert x_adv.shape == x.shape


def test_log_probabilities_are_the_same_whatever_the_layout(rightly_classified):
    net, x, _ = rightly_classified
    g = SmoothedClassifier(net, Gaussian(std=0.25), samples=7, seed=0)
    with g.fixed_noise(1), torch.no_grad():
        expected = g(x)
        assert all(torch.equal(g(lay(x)), expected) for lay in LAYOUTS.values())
