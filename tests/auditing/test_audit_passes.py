"""The passes that an audit announces are those that it makes."""

from __future__ import annotations

import itertools

import pytest
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings, plan
from rushkit.smoothing import SmoothedClassifier

NOISES = {"none": {}, "uniform": {"scale": 0.1}, "gaussian": {"scale": 0.1}, "laplace": {"scale": 0.1}}
# Radii that break some images and leave others, and their norms.
BALLS = [("linf", 0.02), ("l2", 0.08), ("l1", 0.2)]


class Counting(nn.Module):
    """A model that counts the images that go through it, forwards and backwards."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.forwards = self.backwards = 0

    def forward(self, x):
        self.forwards += len(x)
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient):
        self.backwards += len(gradient)


class Dropped(nn.Module):
    """A model behind dropout that is always on, and so random by itself."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(nn.functional.dropout(x, 0.1, training=True))


def dropped(m):
    """A linear model behind dropout that counts, and the images that it answers rightly on average."""
    g, x, y = counted("none", m)
    g.model.model = Dropped(g.model.model)
    return g, x, y


def counted(noise, m):
    """A smoothed linear model that counts, and 60 images."""
    g, x, y = prototypes(samples=m)
    model = Counting(g.model).eval().requires_grad_(False)
    return SmoothedClassifier(model, registries.noises.create(noise, **NOISES[noise]), m, seed=0), x, y


# Passes depend on whose draws there are, on m and on the norm, not on the kind of noise: one ball of each is enough.
WITH_NOISE = [
    *itertools.product(["none", "uniform"], [1, 64], BALLS),
    *itertools.product(["dropout"], [1], BALLS),
    ("dropout", 64, BALLS[2]),
    ("gaussian", 64, BALLS[1]),
    ("laplace", 1, BALLS[0]),
]


@pytest.mark.parametrize("noise, m, ball", WITH_NOISE)
def test_an_audit_makes_the_passes_that_it_announces(noise, m, ball):
    g, x, y = dropped(m) if noise == "dropout" else counted(noise, m)
    announced = []
    settings = Settings(*ball, steps=4, eot=4, queries=20, planted=4)
    measured = measure(g, x, y, settings, announce=lambda passes, seconds: announced.append((passes, seconds)))
    assert measured.problem == ""
    assert measured.passes == g.model.forwards + g.model.backwards
    assert [passes for passes, _ in announced] == [measured.announced]
    assert announced[0][1] > 0
    assert 0.8 <= measured.passes / measured.announced <= 1.0


@pytest.mark.parametrize("noise", ["none", "uniform", "dropout"])
def test_what_does_not_depend_on_the_outcome_is_announced_exactly(noise):
    g, x, y = dropped(3) if noise == "dropout" else counted(noise, 3)
    g = g.with_own_draws() if noise == "dropout" else g
    settings = Settings("linf", 0.05, steps=4, eot=2, queries=5)
    attacks = Attacks(g, x, y, settings)
    planned = plan(settings, 3, 3, x.shape, g.deterministic)
    exact = [measurement for measurement in planned if measurement.kind in ("climb", "noise")]
    for measurement in exact:
        before = g.model.forwards + g.model.backwards
        outcome, _ = attacks.measure(measurement)
        assert outcome.passes == measurement.passes == g.model.forwards + g.model.backwards - before, measurement.label


def test_nothing_is_announced_where_nothing_is_attacked():
    g, x, y = counted("none", 4)
    announced = []
    measured = measure(
        g, x, (y + 1) % 3, Settings("linf", 0.05), announce=lambda passes, seconds: announced.append(passes)
    )
    assert "no image" in measured.problem
    assert announced == []
    assert measured.passes == measured.announced == g.model.forwards > 0


def test_without_noise_nothing_that_varies_the_draws_is_measured():
    settings = Settings("linf", 0.05, steps=4, eot=4)
    places = {noise: {each.place for each in plan(settings, 4, 3, (5, 3, 8, 8), noise == "none")} for noise in NOISES}
    assert places["uniform"] - places["none"] == {"draws", "fixed"}
