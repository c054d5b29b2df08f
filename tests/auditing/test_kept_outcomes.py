"""Outcomes that an earlier session kept are taken only where they are of the same images."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Attacks, Outcome
from rushkit.auditing.kept import KeptOutcomes
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)


class Folder:
    """A run of which there is a folder alone."""

    def __init__(self, path):
        self.path = path

    def subfolder(self, name):
        (self.path / name).mkdir(exist_ok=True)
        return self.path / name


@pytest.fixture
def kept(tmp_path):
    return KeptOutcomes(Folder(tmp_path), {"model": "one"})


def test_an_outcome_is_that_of_the_facts_that_it_was_stored_with(kept):
    kept.depending_on({"attacked": [0, 1]}).save(3, Outcome(share=[0.0, 1.0]), torch.ones(2, 3, 2, 2))
    outcome, x_adv = kept.depending_on({"attacked": [0, 1]}).load(3)
    assert (outcome.share, x_adv.shape) == ([0.0, 1.0], (2, 3, 2, 2))
    assert kept.depending_on({"attacked": [0, 2]}).load(3) is None
    assert kept.load(3) is None


class Restless(nn.Module):
    """A model that draws from a generator of its own, which no seed repeats."""

    def __init__(self, model):
        super().__init__()
        self.model, self.source = model, torch.Generator().manual_seed(0)

    def forward(self, x):
        return self.model(x + 0.3 * torch.randn(x.shape, generator=self.source))


def test_a_second_session_that_attacks_other_images_takes_no_outcome_of_the_first(kept, monkeypatch):
    g, x, y = prototypes()
    g = SmoothedClassifier(Restless(g.model), registries.noises.create("none"), 1, seed=0)
    first = measure(g, x, y, SETTINGS, kept=kept)
    made, original = [], Attacks.measure
    monkeypatch.setattr(Attacks, "measure", lambda self, what: made.append(what) or original(self, what))
    second = measure(g, x, y, SETTINGS, kept=kept)
    assert first.random_by_itself
    assert first.attacked != second.attacked
    assert len(made) > 15
    assert all(len(point.share) == len(second.attacked) for points in second.points.values() for point in points)


def test_a_second_session_of_a_model_that_repeats_takes_all_of_them(kept, monkeypatch):
    g, x, y = prototypes()
    first = measure(g, x, y, SETTINGS, kept=kept)
    monkeypatch.setattr(Attacks, "measure", lambda self, what: pytest.fail(f"{what.label} was measured again"))
    assert measure(g, x, y, SETTINGS, kept=kept) == first
