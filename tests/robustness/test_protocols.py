"""What each protocol makes of an attack's table: candidates, options, panels, and notes on what falls short."""

from __future__ import annotations

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import registries
from rushkit.errors import UsageError
from rushkit.recipe.schema import Attack
from rushkit.robustness.meter import expected_passes
from rushkit.robustness.one_panel import OnePanel
from rushkit.robustness.protocols import plan_attack
from rushkit.smoothing import SmoothedClassifier


def test_strict_runs_the_cascade_for_pgd_and_with_the_steps_of_auto_pgd_for_apgd():
    for kind, rule, methods in (("pgd", "mixed", {"falling"}), ("apgd", "apgd", {"auto"})):
        plan = plan_attack(Attack(type=kind), "strict", 64, 10, 0)
        (candidate,) = plan.candidates
        assert (candidate.label, candidate.name, candidate.options["rule"]) == (kind, "cascade", rule)
        assert {part.method for part in plan.rounds} == methods
        assert {part.loss for part in plan.rounds} == {"nll", "ce", "dlr", "margin"}
        assert plan.selection == (16, 32, 64, 100)
        assert plan.likely_passes < plan.most_passes


def test_a_greater_effort_is_the_same_rounds_and_more():
    rounds = {
        effort: plan_attack(Attack(type="pgd", effort=effort), "strict", 64, 10, 0).rounds for effort in (1, 2, 4)
    }
    for less, more in ((1, 2), (2, 4)):
        assert rounds[more][: len(rounds[less])] == rounds[less]
        ratio = passes(rounds[more]) / passes(rounds[less])
        assert 1.9 < ratio < 2.3


def passes(rounds):
    return sum(part.steps * part.draws for part in rounds)


@pytest.mark.parametrize("options", [{"type": "square"}, {"type": "pgd", "steps": 5}], ids=str)
def test_an_attack_with_settings_of_its_own_has_no_effort(options):
    with pytest.raises(UsageError, match="has no effort 2"):
        plan_attack(Attack(**options, effort=2), "strict", 64, 10, 0)
    assert plan_attack(Attack(**options, effort=2), "paper", 64, 10, 0).effort == 1


def test_a_greater_effort_multiplies_the_steps_and_queries_of_autoattack():
    plan = plan_attack(Attack(type="autoattack", effort=4), "strict", 64, 10, 0)
    (candidate,) = plan.candidates
    assert (plan.effort, plan.label, candidate.options["effort"]) == (4, "strict", 4)
    (candidate,) = plan_attack(Attack(type="autoattack", effort=4), "paper", 64, 10, 0).candidates
    assert "effort" not in candidate.options


def test_more_draws_a_gradient_are_the_least_of_every_round():
    plan = plan_attack(Attack(type="pgd", eot=40), "strict", 64, 10, 0)
    assert {part.draws for part in plan.rounds} == {40}
    (deviation,) = plan.deviations
    assert (deviation.name, deviation.value, deviation.weaker, plan.label) == ("eot", 40, False, "strict")
    assert plan_attack(Attack(type="pgd", eot=8), "strict", 64, 10, 0).deviations == ()


def test_a_ball_without_a_radius_has_no_rounds():
    plan = plan_attack(Attack(type="pgd", eps=0.0), "strict", 64, 10, 0)
    assert (plan.rounds, plan.label) == ((), "strict")


def test_paper_runs_the_attack_of_the_paper():
    plan = plan_attack(Attack(type="pgd", eps="8/255"), "paper", 64, 10, 0)
    made = plan.candidates[0].create(Attack(type="pgd", eps="8/255"))
    assert (made.loss, made.steps, made.samples, made.noise, made.best) == ("nll", 40, 64, "fixed", "last")
    assert made.step_size == pytest.approx(2 / 255)
    assert not made.random_start
    assert not plan.panel
    assert plan.votes == 1


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"steps": 1}, {"steps": (1, 40)}),
        ({"random_start": True, "eot": 5}, {"random_start": (True, False), "eot": (5, 64)}),
        ({"steps": 40, "restarts": 1, "seed": 3, "eot": 64}, {}),
        # A ratio is a number as well.
        ({"step_size": "2/255"}, {}),
        ({"step_size": "1/255"}, {"step_size": (1 / 255, 2 / 255)}),
    ],
)
def test_options_that_are_not_the_papers_are_deviations_under_paper(options, changed):
    plan = plan_attack(Attack(type="pgd", eps="8/255", **options), "paper", 64, 10, 0)
    assert {each.name: (each.value, each.own) for each in plan.deviations} == changed
    assert plan.label == "paper"


def test_a_gradient_without_noise_is_one_draw_whatever_m_is():
    plan = plan_attack(Attack(type="pgd", eps="8/255", noise="none"), "paper", 64, 10, 0)
    assert plan.gradient_samples == 1
    assert [(each.name, each.value, each.own) for each in plan.deviations] == [("noise", "none", "fixed")]
    assert expected_passes(plan, Attack(type="pgd", noise="none"), 64).most == 40 * 2 + 64


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, 40 * 128 + 64), ({"best": "best", "selection_samples": 20}, 40 * 148 + 64), ({"eot": 1}, 40 * 2 + 64)],
)
def test_the_passes_of_the_papers_attack_are_those_of_its_settings(options, most):
    section = Attack(type="pgd", eps="8/255", score_samples=[1, 64], **options)
    passes = expected_passes(plan_attack(section, "paper", 64, 10, 0), section, 64)
    assert (passes.most, passes.votes) == (most, 3 * 65)


def test_paper_shows_any_other_attack_one_panel_of_noise():
    plan = plan_attack(Attack(type="fgsm"), "paper", 8, 10, 0)
    assert plan.panel
    assert any("one panel of 8 draws" in note.text for note in plan.notes)
    model = nn.Sequential(nn.Flatten(), layer(12, 3))
    g = SmoothedClassifier(model.requires_grad_(False), registries.noises.create("uniform", scale=0.3), 8, seed=0)
    panel, x = OnePanel(g, 3), torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with g.fixed_noise(3):
        expected = g(x)
    assert torch.equal(panel(x), panel(x))
    assert torch.equal(panel(x), expected)


def test_with_too_few_classes_for_dlr_the_margin_replaces_it_and_a_note_says_so():
    plan = plan_attack(Attack(type="pgd"), "strict", 1, 2, 0)
    assert {part.loss for part in plan.rounds} == {"nll", "ce", "margin"}
    assert any("too few" in note.text for note in plan.notes)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 1},
        {"steps": 41},
        {"restarts": 1},
        {"noise": "fixed"},
        {"best": "last"},
        {"random_start": False},
        {"loss": "nll"},
        {"selection_samples": 1},
        {"step_size": 0.001},
        {"targeted": True},
        {"type": "apgd", "targeted": True},
        {"type": "autoattack", "steps": 2},
        {"type": "autoattack", "version": "standard"},
        {"type": "fgsm"},
        {"type": "square"},
    ],
    ids=str,
)
def test_what_may_be_weaker_than_strict_is_not_called_strict(options):
    plan = plan_attack(Attack(**({"type": "pgd"} | options)), "strict", 1, 10, 0)
    assert plan.label == "weaker"
    named = options if "type" not in options or len(options) == 1 else {k: v for k, v in options.items() if k != "type"}
    if "type" not in options:
        # The cascade has settings of its own in each round: PGD with others is another attack.
        named = {**named, "type": "pgd"}
    assert {each.name: each.value for each in plan.deviations if each.weaker} == named


@pytest.mark.parametrize(
    "options",
    [
        {"eot": 21},
        {"type": "apgd", "steps": 200},
        {"type": "apgd", "restarts": 3},
        {"type": "apgd", "selection_samples": 200},
        {"type": "apgd", "n_targets": 20},
        {"type": "autoattack", "queries": 6000},
    ],
    ids=str,
)
def test_more_work_than_strict_asks_for_is_named_and_strict(options):
    plan = plan_attack(Attack(**({"type": "pgd"} | options)), "strict", 1, 10, 0)
    assert plan.label == "strict"
    assert {each.name: each.value for each in plan.deviations} == {k: v for k, v in options.items() if k != "type"}


@pytest.mark.parametrize("kind", ["pgd", "apgd", "autoattack"])
@pytest.mark.parametrize("samples", [1, 64])
@pytest.mark.parametrize("deterministic", [False, True])
def test_strict_as_it_stands_deviates_in_nothing(kind, samples, deterministic):
    plan = plan_attack(Attack(type=kind), "strict", samples, 10, 0, deterministic)
    assert (plan.deviations, plan.label) == ((), "strict")


def test_what_does_nothing_without_noise_is_no_deviation():
    section = Attack(type="apgd", steps=100, eot=1, selection_samples=1, seed=5)
    assert plan_attack(section, "strict", 64, 10, 0, deterministic=True).deviations == ()
