"""Models that are random by themselves, each of their draws a pass of its own that repeats."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from torch import nn

from rushkit import registries
from rushkit.attacks.pgd import PGD
from rushkit.attacks.victim import under_attack
from rushkit.models.repeats import RANDOM_FROM
from rushkit.noises.none import NoNoise
from rushkit.smoothing import SmoothedClassifier

KEPT = 0.7
WEIGHT = torch.randn(3, 12, generator=torch.Generator().manual_seed(4))
X = 0.1 + 0.8 * torch.rand(5, 3, 2, 2, generator=torch.Generator().manual_seed(5))
KEYS = torch.arange(len(X))


class Masked(nn.Module):
    """Logits W(b * x), b a Bernoulli mask of each image: their mean is 0.7 Wx, and the mean of their slope 0.7 W."""

    def forward(self, x):
        return (torch.bernoulli(torch.full_like(x, KEPT)) * x).flatten(1) @ WEIGHT.T


class Moved(nn.Module):
    """Logits W(ux), one u in [0, 1] for the whole batch, from the global generator of torch, numpy or Python."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def forward(self, x):
        return {"torch": lambda: float(torch.rand(())), "numpy": np.random.rand, "python": random.random}[
            self.source
        ]() * (x.flatten(1) @ WEIGHT.T)


class Coin(nn.Module):
    """Class 1 with probability 0.3, whatever the image."""

    def forward(self, x):
        heads = (torch.rand(len(x)) < 0.3).float() + 0 * x.flatten(1).sum(1)
        return torch.stack([1 - heads, heads], dim=1)


MODELS = {"masked": Masked(), **{name: Moved(name) for name in ("torch", "numpy", "python")}}


def own(model, m=4, noise=None, **options):
    return SmoothedClassifier(model, noise or NoNoise(), m, seed=0, own_draws=True, **options)


def uniform():
    return registries.noises.create("uniform", scale=0.05)


def state():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


@pytest.mark.parametrize("noise", [NoNoise(), uniform()], ids=["noiseless", "noisy"])
@pytest.mark.parametrize("name", MODELS)
def test_panels_repeat_and_their_draws_differ(name, noise):
    g = own(MODELS[name], noise=noise)
    with g.fixed_noise(3):
        first, again = g.sample_logits(X), g.sample_logits(X)
    with g.fixed_noise(4):
        other = g.sample_logits(X)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({draw.numpy().tobytes() for draw in first}) == 4


@pytest.mark.parametrize("name", MODELS)
def test_streams_and_votes_are_reproducible_and_fresh(name):
    g, twin = own(MODELS[name]), own(MODELS[name])
    with g.fresh_noise(9):
        inner = [g(X), g(X)]
    with g.fresh_noise(9):
        assert torch.equal(g(X), inner[0])
    assert not torch.equal(inner[0], inner[1])
    first, again = (each.keyed_tally(X, KEYS, 1, "test", votes=3) for each in (g, twin))
    assert torch.equal(first.confidence, again.confidence)
    other = g.keyed_tally(X, KEYS, 1, "other test", votes=3)
    assert not torch.equal(first.confidence, other.confidence)
    votes = first.confidence.view(len(X), 3, -1)
    assert not torch.equal(votes[:, 0], votes[:, 1])


@pytest.mark.parametrize("name", MODELS)
def test_the_global_state_is_untouched(name):
    g, before = own(MODELS[name], chunk=2), state()
    x = X.clone().requires_grad_()
    g(x).sum().backward()
    g.predict(X)
    g.keyed_tally(X, KEYS, 1, "test", votes=2)
    g.own_randomness(X)
    assert state() == before


def test_a_draw_is_one_pass_over_all_images():
    g = own(Moved("torch"), m=6)
    with torch.no_grad():
        factors = g.sample_logits(X) / (X.flatten(1) @ WEIGHT.T)
    assert (factors - factors[:, :1, :1]).abs().max() < 1e-5
    assert len({round(float(draw), 4) for draw in factors[:, 0, 0]}) == 6
    assert g.image_forwards == 6 * len(X)


@pytest.mark.parametrize("chunk", [None, 5, 7, 12])
def test_a_gradient_belongs_to_the_draws_of_its_values(chunk):
    """W(b * x) is linear in x, so x times its slope is the value, if the slope is taken through the same mask."""
    g = own(Masked(), m=6, chunk=chunk)
    x = X.clone().requires_grad_()
    logits = g.sample_logits(x)[:, :, 0].sum()
    (slope,) = torch.autograd.grad(logits, x)
    torch.testing.assert_close((slope * X).sum(), logits.detach())
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("name, chunks", [("masked", (5, 7, 29)), ("torch", (1, 2, 5, 7)), ("python", (1, 2, 5, 7))])
def test_chunks_change_neither_values_nor_gradients(name, chunks):
    def run(chunk):
        g = own(MODELS[name], m=6, chunk=chunk)
        x = X.clone().requires_grad_()
        value = g(x)[:, 0].sum()
        return value.detach(), torch.autograd.grad(value, x)[0], g.keyed_tally(X, KEYS, 2, "test").confidence

    whole = run(None)
    for chunk in chunks:
        for part, expected in zip(run(chunk), whole, strict=True):
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=0)


def test_the_gradient_of_many_draws_approaches_that_of_the_mean():
    """5 standard errors of 400 draws, for each of 60 entries: one false alarm in 30 000 seeds."""
    draws, y = 400, torch.zeros(len(X), dtype=torch.int64)

    def rival(logits, labels, target):
        return (logits[:, :, 1] - logits[:, :, 0]).mean(dim=0)

    with under_attack(own(Masked()), X, seed=1) as victim:
        slope = victim.gradient(X, y, rival, draw=7, samples=draws).gradient.flatten(1)
    weight = WEIGHT[1] - WEIGHT[0]
    assert ((slope - KEPT * weight).abs() <= 5 * weight.abs() * math.sqrt(KEPT * (1 - KEPT) / draws)).all()


@pytest.mark.parametrize("noise", [NoNoise(), uniform()], ids=["noiseless", "noisy"])
def test_votes_follow_the_probability_of_a_known_model(noise):
    """5 standard errors of 5000 draws of two kinds: one false alarm in 400 000 seeds."""
    g, tolerance = own(Coin(), 200, noise), 5 * math.sqrt(0.3 * 0.7 / 5000)
    shares = [g.keyed_tally(X, KEYS, 1, "test", votes=5).votes[:, 1].sum() / 5000, g.votes(X, 1000)[:, 1].sum() / 5000]
    assert [abs(float(share) - 0.3) < tolerance for share in shares] == [True, True]


def test_rows_of_a_tally_hold_the_votes_of_their_image():
    class Bright(nn.Module):
        def forward(self, x):
            bright = (x.flatten(1).mean(1) > 0.5).float()
            return torch.stack([1 - bright, bright], dim=1) + 0.1 * torch.rand(len(x), 2)

    x = torch.tensor([0.2, 0.8, 0.3, 0.9, 0.7]).view(5, 1, 1, 1).expand(5, 1, 2, 2)
    for chunk in (None, 2):
        tally = own(Bright(), 3, chunk=chunk).keyed_tally(x, KEYS, 1, "test", votes=2)
        assert tally.votes[:, 1].tolist() == [0, 0, 3, 3, 0, 0, 3, 3, 3, 3]


def test_without_the_flag_one_pass_stands_for_all_draws():
    g = SmoothedClassifier(Masked(), NoNoise(), 4, seed=0)
    assert g.deterministic
    assert not g.with_own_draws().deterministic
    assert g.with_own_draws().with_samples(9).own_draws
    assert "own_draws" not in repr(g)
    assert repr(g.with_own_draws()).endswith("samples=4, chunk=None, own_draws=True)")


def test_attacks_have_panels_of_a_model_that_is_random_by_itself():
    y = torch.zeros(len(X), dtype=torch.int64)
    with under_attack(own(Masked(), m=3), X, seed=1) as victim:
        assert (victim.random, victim.has_panels, victim.samples, victim.votes) == (True, True, 3, 3)
        first, again, other = (victim.logits(X, draw=draw) for draw in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for noise in ("fixed", "fresh"):
        one, two = (PGD("linf", 0.1, steps=3, noise=noise, seed=2)(own(Masked()), X, y) for _ in range(2))
        assert torch.equal(one, two)


@pytest.mark.parametrize("images", [1, 3, 40])
@pytest.mark.parametrize("name", MODELS)
def test_a_random_model_is_found_out(name, images):
    x = X[torch.arange(images) % len(X)]
    g = SmoothedClassifier(MODELS[name], NoNoise(), 4)
    found = g.own_randomness(x)
    assert found.random
    assert found.change > 10 * RANDOM_FROM
    assert found == g.own_randomness(x)
    assert g.image_forwards == 64
    with under_attack(MODELS[name], x, seed=0) as victim:
        assert (victim.random, victim.num_classes, victim.image_forwards) == (True, 3, 32)


@pytest.mark.parametrize("noise", [NoNoise(), uniform()], ids=["noiseless", "noisy"])
def test_any_other_model_answers_the_same_bits(noise):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 3), nn.BatchNorm1d(3))
    found = SmoothedClassifier(model, noise, 4).own_randomness(X)
    assert (found.change, found.random, found.num_classes) == (0.0, False, 3)


def test_randomness_is_found_beside_logits_that_are_not_finite():
    class Partly(Masked):
        def forward(self, x):
            logits = super().forward(x)
            return torch.cat([torch.full_like(logits[:, :1], math.nan), logits[:, 1:]], dim=1)

    assert SmoothedClassifier(Partly(), NoNoise(), 4).own_randomness(X).random
