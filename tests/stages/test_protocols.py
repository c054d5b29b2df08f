"""What each protocol makes of an attack's table: candidates, options, panels, and notes on what falls short."""

from __future__ import annotations

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import registries
from rushkit.recipe.schema import Attack
from rushkit.smoothing import SmoothedClassifier
from rushkit.stages.protocols import OnePanel, plan_attack


def test_strict_runs_every_loss_of_an_attack_that_has_losses_from_its_own_start():
    plan = plan_attack(Attack(type="apgd"), "strict", 1, 10, 0)
    assert [candidate.options["loss"] for candidate in plan.candidates] == ["nll", "ce", "dlr", "margin"]
    assert len({candidate.options["seed"] for candidate in plan.candidates}) == 4
    made = plan.candidates[0].create(Attack(type="apgd"), 0)
    assert (made.steps, made.samples, made.restarts) == (100, 20, 2)
    made = plan_attack(Attack(type="pgd"), "strict", 64, 10, 0).candidates[0].create(Attack(), 0)
    assert (made.steps, made.samples, made.restarts, made.noise, made.best) == (40, 64, 2, "fresh", "best")
    assert made.random_start
    assert made.step_size is None


def test_paper_runs_the_attack_of_the_paper():
    plan = plan_attack(Attack(type="pgd", eps="8/255"), "paper", 64, 10, 0)
    made = plan.candidates[0].create(Attack(type="pgd", eps="8/255"), 0)
    assert (made.loss, made.steps, made.samples, made.noise, made.best) == ("nll", 40, 64, "fixed", "last")
    assert made.step_size == pytest.approx(2 / 255)
    assert not made.random_start
    assert not plan.panel
    assert plan.votes == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 1}, "not the paper's settings: steps 1"),
        ({"random_start": True, "eot": 5}, "not the paper's settings: random_start True, 5 draws a gradient"),
        ({"steps": 40, "restarts": 1, "seed": 3, "eot": 64}, None),
    ],
)
def test_options_that_are_not_the_papers_are_noted_under_paper(options, words):
    notes = plan_attack(Attack(type="pgd", eps="8/255", **options), "paper", 64, 10, 0).notes
    assert [note for note in notes if "paper" in note] == ([words] if words else [])


def test_paper_shows_any_other_attack_one_panel_of_noise():
    plan = plan_attack(Attack(type="fgsm"), "paper", 8, 10, 0)
    assert plan.panel
    assert any("one panel of 8 draws" in note for note in plan.notes)
    model = nn.Sequential(nn.Flatten(), layer(12, 3))
    g = SmoothedClassifier(model.requires_grad_(False), registries.noises.create("uniform", scale=0.3), 8, seed=0)
    panel, x = OnePanel(g, 3), torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with g.fixed_noise(3):
        expected = g(x)
    assert torch.equal(panel(x), panel(x))
    assert torch.equal(panel(x), expected)


def test_too_few_classes_for_dlr_leave_it_out_and_a_note_says_so():
    plan = plan_attack(Attack(type="pgd"), "strict", 1, 2, 0)
    assert [candidate.label for candidate in plan.candidates] == ["pgd nll", "pgd ce", "pgd margin"]
    assert any("too few" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 1}, "steps 1"),
        ({"restarts": 1}, "restarts 1"),
        ({"eot": 1}, "1 draws a gradient"),
        ({"noise": "fixed"}, "noise fixed"),
        ({"best": "last"}, "best last"),
        ({"random_start": False}, "random_start False"),
        ({"loss": "nll"}, "loss nll only"),
        ({"type": "autoattack", "steps": 2}, "steps 2"),
    ],
)
def test_strict_with_weaker_settings_than_its_own_says_so(options, words):
    plan = plan_attack(Attack(**({"type": "pgd"} | options)), "strict", 1, 10, 0)
    (note,) = (note for note in plan.notes if note.startswith("weaker than strict asks for"))
    assert words in note


def test_a_single_weak_attack_under_strict_is_called_less_than_strict():
    assert any("less than strict" in note for note in plan_attack(Attack(type="fgsm"), "strict", 1, 10, 0).notes)


@pytest.mark.parametrize("kind", ["pgd", "apgd", "autoattack"])
@pytest.mark.parametrize("samples", [1, 64])
def test_strict_as_it_stands_needs_no_such_note(kind, samples):
    notes = plan_attack(Attack(type=kind), "strict", samples, 10, 0).notes
    assert not any("strict" in note for note in notes)
