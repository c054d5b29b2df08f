"""The noise called none: one pass of the model stands for any number of draws, and nothing is certified."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import noises
from rushkit.attacks.victim import under_attack
from rushkit.errors import NoCertificate
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()


@pytest.fixture
def images():
    return torch.rand(5, 3, 2, 2, generator=generator(0, "images"), dtype=torch.float64)


def test_a_draw_is_zero_and_asks_no_generator(images):
    source = generator(0, "noise")
    before = source.get_state()
    delta = noises.create("none").sample(images, source)
    assert torch.equal(delta, torch.zeros_like(images))
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_nothing_is_certified(norm):
    with pytest.raises(NoCertificate, match="without noise"):
        noises.create("none").certified_radius(0.99, norm, 12)


def test_log_p_is_the_models_log_softmax_with_its_gradient(model, images):
    g = SmoothedClassifier(model, noises.create("none"), samples=64)
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(g(x)[:, 0].sum(), x)
    plain = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.log_softmax(model(plain), dim=1)[:, 0].sum(), plain)
    torch.testing.assert_close(g(images), torch.log_softmax(model(images), dim=1))
    torch.testing.assert_close(gradient, expected)


def test_many_draws_take_one_pass_and_count_as_many(model, images):
    g = SmoothedClassifier(model, noises.create("none"), samples=64)
    assert g.sample_logits(images).shape == (64, 5, 3)
    tally = g.tally(images, 10)
    assert g.image_forwards == 2 * len(images)
    assert tally.samples == 10
    assert torch.equal(tally.votes, 10 * nn.functional.one_hot(model(images).argmax(dim=1), 3))
    torch.testing.assert_close(tally.confidence, 10 * torch.softmax(model(images), dim=1))
    torch.testing.assert_close(tally.confidence_squared, 10 * torch.softmax(model(images), dim=1).square())


def test_a_model_with_noise_still_passes_every_draw(model, images):
    g = SmoothedClassifier(model, noises.create("gaussian", std=0.1), samples=4)
    g.tally(images)
    assert g.image_forwards == 4 * len(images)


def test_an_attack_takes_it_for_deterministic(model, images):
    g = SmoothedClassifier(model.float(), noises.create("none"), samples=64)
    with under_attack(g, images.float(), 0, 20) as victim:
        assert (victim.random, victim.samples, victim.selection_samples) == (False, 1, 1)
