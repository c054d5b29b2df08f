"""The identity of a job covers what its stage reads: every section of the recipe that a stage looks at is in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from tiny_runs import QUIET, checkpoint_of

from rushkit.auditing.asked import settings_asked
from rushkit.auditing.audit import audit
from rushkit.certification.certify import certify
from rushkit.evaluation.evaluate import evaluate
from rushkit.evaluation.probe import Ball, probe
from rushkit.recipe.schema import Recipe
from rushkit.robustness.attack import attack
from rushkit.run.asked import AuditAsked
from rushkit.setup.start import start_run
from rushkit.study.job import STAGES, Job, Stage
from rushkit.training.cluster import cluster
from rushkit.training.finetune import finetune
from rushkit.training.pretrain import pretrain

SECTIONS = Recipe.model_fields.keys() - {"schema_version", "name", "system"}
# They tell which file registered each component, and what the whole recipe says, whatever the stage uses.
RECORDING = ("rushkit.recipe.registered", "rushkit.recipe.schema")
ATTACKS = ("attack=[{type='pgd', eps='8/255', samples=[2], limit=4, steps=2}]", "certify.samples=20", "certify.limit=4")


@contextmanager
def watching(recipe: Recipe) -> Iterator[set[str]]:
    """The sections of a recipe that are looked at in this block, by attribute, and not for a record of all of it."""
    seen: set[str] = set()
    plain = Recipe.__getattribute__

    def noting(self: Recipe, name: str) -> object:
        if name in SECTIONS and self is recipe and sys._getframe(1).f_globals["__name__"] not in RECORDING:
            seen.add(name)
        return plain(self, name)

    with mock.patch.object(Recipe, "__getattribute__", noting):
        yield seen


def sections_of(stage: Stage, recipe: Recipe, **options: object) -> set[str]:
    """The sections that are in the identity."""
    identity = Job(stage=stage, recipe=recipe.resolved(), options=options).computed()["recipe"]
    assert isinstance(identity, dict)
    return set(identity)


@pytest.fixture
def seen_by(tiny) -> dict[Stage, tuple[set[str], Recipe]]:
    """Stage -> the sections that it looked at, and its recipe."""
    recipe = tiny(*ATTACKS, "pretrain.epochs=1", "finetune.epochs=1")
    found: dict[Stage, tuple[set[str], Recipe]] = {}
    models = {}
    for stage in ("pretrain", "finetune", *(each for each in STAGES if each not in ("pretrain", "finetune"))):
        with start_run(stage, recipe, QUIET) as run, watching(recipe) as seen:
            match stage:
                case "pretrain":
                    pretrain(recipe, run)
                case "finetune":
                    finetune(recipe, models["pretrain"], run)
                case "cluster":
                    cluster(recipe, models["pretrain"], [2], "train", 1, run)
                case "evaluate":
                    evaluate(recipe, models["finetune"], run)
                case "attack":
                    attack(recipe, models["finetune"], run, ("paper",))
                case "certify":
                    certify(recipe, models["finetune"], run)
                case "probe":
                    probe(recipe, models["finetune"], Ball("linf", 8 / 255, 2), run, 4)
                case "audit":
                    settings = settings_asked(recipe, AuditAsked(limit=4, samples=2, steps=2, eot=1, queries=5))
                    audit(recipe, models["finetune"], settings, run, 4, 2, None)
            if stage in ("pretrain", "finetune"):
                models[stage] = checkpoint_of(run)
        found[stage] = (set(seen), recipe)
    return found


def test_the_identity_covers_every_section_that_a_stage_looks_at(seen_by):
    unseen = {stage: seen - sections_of(stage, recipe) for stage, (seen, recipe) in seen_by.items()}
    assert {stage: missing for stage, missing in unseen.items() if missing} == {}


def test_what_is_not_looked_at_makes_no_other_job(tiny):
    one, other = tiny(), tiny("pretrain.epochs=7", "projector.hidden=32")
    assert Job(stage="evaluate", recipe=one.resolved()).id == Job(stage="evaluate", recipe=other.resolved()).id


def test_how_many_checkpoints_are_written_makes_no_other_job(tiny):
    one, other = tiny(), tiny("pretrain.save_every=7", "pretrain.keep=5")
    assert Job(stage="pretrain", recipe=one.resolved()).id == Job(stage="pretrain", recipe=other.resolved()).id
