"""The protocol ``published``: the attacks of [[published]], run as they are written, and what is refused."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import QUIET

from rushkit import registries
from rushkit.errors import UsageError
from rushkit.recipe import toml
from rushkit.recipe.attack_flags import change_published
from rushkit.recipe.find import available
from rushkit.recipe.load import build_recipe, load_recipe, read_recipe, transfer_recipe
from rushkit.recipe.schema import Attack
from rushkit.robustness.attack import attack
from rushkit.robustness.jobs import plan_jobs
from rushkit.robustness.protocols import STRICT_SAMPLES, plan_attack
from rushkit.run.checkpoint import load_checkpoint, save_checkpoint
from rushkit.setup import components, networks
from rushkit.setup.start import start_run

EPS = 8 / 255
PGD_20 = {"type": "pgd", "eps": "8/255", "steps": 20, "step_size": "2/255", "loss": "ce", "best": "last"}
# The RUSH paper's attack, written out; of its 40 steps only a few, which the test asks of both.
AS_THE_PAPER = {"steps": 6, "step_size": 0.05, "random_start": False, "best": "last", "noise": "fixed"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture
def recipe(tiny):
    """``recipe([{"type": "pgd"}], "noise.name=none")``: digits with these published attacks."""

    def make(published, *changes):
        chosen = tiny("data.limit=12", "data.image_size=8", "attack.0.eps=0.2", "attack.0.samples=[4]", *changes)
        return build_recipe(chosen.resolved() | {"published": published})

    return make


@pytest.fixture
def source(tmp_path):
    """``source(recipe)``: the checkpoint of an untrained classifier."""

    def make(chosen):
        objective = components.build_objective(chosen, chosen.finetune)
        torch.manual_seed(0)
        network = networks.build_network(chosen, objective, (3, 8), 10)
        meta = {"stage": "finetune", "recipe": toml.dumps(chosen.resolved()), "image_size": 8, "classes": list(WORDS)}
        save_checkpoint(tmp_path / "source.safetensors", network.tensors(), meta)
        return load_checkpoint(tmp_path / "source.safetensors")

    return make


def still(norm: str, eps: float) -> object:
    """An attack without options, which returns the images as they are."""
    return lambda model, x, y: x


@pytest.fixture
def plugin():
    registries.attacks.register("still")(still)
    yield
    registries.attacks.unregister("still", still.__module__.partition(".")[0])


def attacked(chosen, model, *protocols):
    with start_run("attack", chosen, QUIET, parent=str(model.path)) as run:
        return attack(chosen, model, run, protocols).attacks


def test_an_attack_runs_as_it_is_written_and_keeps_the_last_iterate():
    section = Attack(**PGD_20)
    plan = plan_attack(section, "published", 1, 10, 5, deterministic=True)
    (candidate,) = plan.candidates
    made = candidate.create(section)
    assert (made.steps, made.loss, made.best, made.random_start, made.restarts) == (20, "ce", "last", True, 1)
    assert made.step_size == pytest.approx(2 / 255)
    assert (plan.votes, plan.gradient_samples, plan.label, plan.panel) == (1, 1, "published", False)
    assert {one.name: one.value for one in plan.deviations} == {
        "steps": 20, "step_size": "2/255", "loss": "ce", "best": "last"
    }  # fmt: skip
    assert not any(one.weaker for one in plan.deviations)


def test_under_noise_the_draws_are_the_models_own_unless_the_table_says_how_many():
    assert plan_attack(Attack(**PGD_20), "published", 64, 10, 0).gradient_samples == 64
    assert plan_attack(Attack(**PGD_20, eot=7), "published", 64, 10, 0).candidates[0].options["samples"] == 7
    (suite,) = plan_attack(Attack(type="autoattack"), "published", 64, 10, 0).candidates
    assert (suite.options["version"], suite.options["samples"]) == ("rand", STRICT_SAMPLES)


def test_steps_that_do_not_reach_the_surface_of_the_ball_are_noted_in_ratios_too():
    section = Attack(type="pgd", eps="8/255", steps=2, step_size="2/255")
    (note,) = plan_attack(section, "published", 1, 10, 0, deterministic=True).notes
    assert note.code == "short-steps"


def test_the_papers_attack_written_out_is_the_protocol_paper(recipe, source):
    for noise in ("noise.name=none", "noise.scale=0.1"):
        written = {"type": "pgd", "eps": 0.2, "samples": [4], **AS_THE_PAPER}
        chosen = recipe([written], noise, "attack.0.steps=6")
        paper, published = attacked(chosen, source(chosen), "paper", "published")
        assert (paper.protocol, published.protocol, published.votes) == ("paper", "published", 1)
        assert published.outcomes == paper.outcomes
        assert published.contributions == paper.contributions
        assert sum(paper.contributions.values()) > 0


def test_several_published_attacks_are_rows_of_their_own_and_the_others_do_not_run(recipe, source):
    short = {"type": "pgd", "eps": 0.2, "best": "last"}
    chosen = recipe([{**short, "steps": 1}, {**short, "steps": 2}], "noise.name=none")
    rows = attacked(chosen, source(chosen), "published")
    assert [row.candidates[0].options["steps"] for row in rows] == [1, 2]


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"type": "pgd", "effort": 2}, "a published attack has none"),
        ({"type": "still", "eot": 4}, "still takes no number of draws a gradient"),
        ({"type": "pgd", "steps": 0}, "steps"),
    ],
)
def test_what_a_published_attack_cannot_do_is_refused(recipe, plugin, section, words):
    with pytest.raises(UsageError, match=words):
        plan_jobs(recipe([section]), WORDS, ["published"])


def test_a_recipe_without_a_published_attack_is_told_so():
    with pytest.raises(UsageError, match="has no published attack") as refused:
        plan_jobs(load_recipe("digits"), WORDS, ["published"])
    assert "[[published]]" in refused.value.hint


def test_all_tables_that_cannot_run_are_named_at_once(recipe):
    chosen = recipe([{"type": "pgd", "effort": 2}, {"type": "pgd"}, {"type": "pgd", "steps": 0}])
    with pytest.raises(UsageError, match=r"2 of 3 attacks cannot run: published\.0 .*published\.2"):
        plan_jobs(chosen, WORDS, ["published"])


def test_an_effort_of_paper_alone_is_still_refused(recipe):
    chosen = recipe([{"type": "pgd"}], "attack.0.effort=2")
    with pytest.raises(UsageError, match="effort 2 is a budget"):
        plan_jobs(chosen, WORDS, ["paper"])
    # [[attack]] does not run here.
    assert len(plan_jobs(chosen, WORDS, ["published"])) == 2


def test_the_limit_is_the_only_flag_that_a_published_attack_takes(recipe):
    chosen = recipe([{"type": "pgd"}, {"type": "apgd"}])
    changed = change_published(chosen, None, limit=3, eps=None)
    assert [section.limit for section in changed.published] == [3, 3]
    assert changed.origins["published.1.limit"] == "--limit"
    with pytest.raises(UsageError, match="--eps would change"):
        change_published(chosen, None, eps="4/255")
    with pytest.raises(UsageError, match="--type would change"):
        change_published(chosen, "apgd")
    with pytest.raises(UsageError, match="do not run under --protocol published"):
        change_published(chosen, None, changes=["attack.0.steps=2"])


def test_the_options_of_published_attacks_are_checked_with_their_place():
    with pytest.raises(UsageError, match=r"published\.0\.stepz.*did you mean steps"):
        build_recipe({"data": {"name": "digits"}, "published": [{"type": "pgd", "stepz": 3}]}, components=True)


def test_a_recipe_with_published_attacks_reads_back_and_a_transfer_keeps_them(recipe):
    chosen = recipe([PGD_20])
    assert read_recipe(toml.dumps(chosen.resolved()), "text").published == chosen.published
    assert transfer_recipe(chosen, "stl10", 32).published == chosen.published


def test_the_published_attacks_of_every_recipe_can_run():
    recipes = {name: load_recipe(name) for name in available()}
    published = {name: recipe for name, recipe in recipes.items() if recipe.published}
    assert {"pgd-at-digits", "trades-digits", "free-8-digits", "slf", "alf", "aff"} <= published.keys()
    for name, recipe in published.items():
        plans = [job.plan for job in plan_jobs(recipe, WORDS, ["published"], 32)]
        assert {plan.label for plan in plans} == {"published"}, name
        # A figure of PGD is that of the last iterate: none of these methods' code looks for the best.
        made = [plan.candidates[0].options for plan in plans if plan.candidates[0].name == "pgd"]
        assert all(options["best"] == "last" for options in made), name
