"""A model that is random by itself is found out before any attack, and attacked through many of its draws."""

from __future__ import annotations

import random

import pytest
import torch
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.given import Given
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.planted import plant_and_seek
from rushkit.models.repeats import repeat
from rushkit.noises.none import NoNoise
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.03, steps=2, eot=2, queries=5, planted=2)
ABOUT_DRAWS = ("RK101", "RK105", "RK116", "RK117")


class Dropped(nn.Module):
    """A model behind dropout that is on in eval mode too."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(nn.functional.dropout(x, 0.1, training=True))


class Brightened(nn.Module):
    """A model behind one random factor for the whole batch, from Python's own generator."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x * random.uniform(0.8, 1.0))


class Faintly(nn.Module):
    """A model whose logits change from pass to pass by a share of the largest."""

    def __init__(self, model, share):
        super().__init__()
        self.model, self.share, self.passes = model, share, 0

    def forward(self, x):
        self.passes += 1
        logits = self.model(x)
        return logits + self.share * logits.abs().max() * (self.passes % 2)


def measured(model, noise=None):
    _, x, y = prototypes()
    g = SmoothedClassifier(model.eval(), noise or NoNoise(), 4, seed=0)
    return measure(g, x, y, SETTINGS)


def checks_of(figures):
    return {check.code: check for check in check_all(figures)}


@pytest.mark.parametrize("kind, noise", [(Dropped, "none"), (Brightened, "none"), (Dropped, "uniform")])
def test_a_random_model_fails_and_is_attacked_through_many_draws(kind, noise):
    g, _, _ = prototypes()
    figures = measured(kind(g.model), registries.noises.create(noise, **({"scale": 0.05} if noise != "none" else {})))
    checks = checks_of(figures)
    assert checks["RK123"].status == "fail"
    assert checks["RK123"].figures == {"own_randomness": figures.own_randomness}
    assert "2 draws a gradient" in checks["RK123"].says
    assert not figures.deterministic
    assert [len(figures.points[place]) for place in ("draws", "fixed")] == [3, 1]
    assert "skipped" not in [checks[code].status for code in ABOUT_DRAWS]
    assert figures.planted is not None


def test_figures_of_a_random_model_repeat():
    g, _, _ = prototypes()
    first, again = (measured(Dropped(g.model)) for _ in range(2))
    assert first == again


@pytest.mark.parametrize("noise", ["none", "uniform"])
def test_any_other_model_passes_with_exactly_0(noise):
    g, _, _ = prototypes()
    figures = measured(g.model, registries.noises.create(noise, **({"scale": 0.05} if noise != "none" else {})))
    check = checks_of(figures)["RK123"]
    assert (check.status, check.figures) == ("pass", {"own_randomness": 0.0})
    assert figures.deterministic == (noise == "none")


@pytest.mark.parametrize("share, status", [(5e-4, "pass"), (2e-3, "fail")])
def test_the_threshold_is_a_thousandth_of_the_largest_logit(share, status):
    g, _, _ = prototypes()
    assert checks_of(measured(Faintly(g.model, share)))["RK123"].status == status


class Rejecting(nn.Module):
    """A model with one more output, which rejects no image by a logit of a million."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        logits = self.model(x)
        return torch.cat([logits, torch.full_like(logits[:, :1], -1e6)], dim=1)


@pytest.mark.parametrize("classes", [3, 0, 5])
def test_a_rejection_of_a_million_hides_no_randomness_of_the_classes(classes):
    g, x, y = prototypes()
    dropped = Dropped(g.model)
    alone = SmoothedClassifier(dropped, NoNoise(), 1).own_randomness(x).change
    rejecting = SmoothedClassifier(Rejecting(dropped), NoNoise(), 1, seed=0)
    found = rejecting.own_randomness(x, classes=classes)
    assert alone > 0.01
    assert found.num_classes == 4
    assert (found.change == alone) == found.random == (classes == 3)
    audited = measure(
        SmoothedClassifier(Rejecting(dropped), NoNoise(), 1, seed=0), x, y, SETTINGS, Given(classes=classes)
    )
    assert audited.random_by_itself == (classes == 3)


def test_a_rejection_that_alone_is_random_is_found_too():
    g, x, _ = prototypes()
    source = torch.Generator().manual_seed(0)

    def unsure(images):
        return torch.cat([g.model(images), torch.rand(len(images), 1, generator=source)], dim=1)

    assert repeat(unsure, x, classes=3).random


def test_it_is_judged_where_nothing_can_be_attacked():
    g, x, y = prototypes()
    plain = SmoothedClassifier(Dropped(g.model), NoNoise(), 4, seed=0)
    figures = measure(plain, x, torch.full_like(y, 2).where(y != 2, 0), SETTINGS)
    assert checks_of(figures)["RK123"].status == "fail"


def test_planting_draws_anew_for_each_copy_and_repeats():
    """One factor a batch: 64 copies in one pass would share it, and the plant would rest on a single draw."""
    g, x, _ = prototypes()
    sizes = []
    model = Brightened(g.model)
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    smoothed = SmoothedClassifier(model, NoNoise(), 4, seed=0, own_draws=True)
    before = random.getstate()
    first, again = (plant_and_seek(smoothed, model, x[:3], ("linf", 0.1), 4, 4, seed=1) for _ in range(2))
    assert first == again == [True] * len(first)
    assert set(sizes) == {1}
    assert random.getstate() == before
