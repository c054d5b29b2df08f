from __future__ import annotations

import hashlib

import pytest

from rushkit.study.job import Job, canonical

RECIPE = {"noise": {"name": "uniform", "scale": 0.3}, "evaluate": {"samples": [1]}, "system": {"seed": 0}}


def job(recipe: dict | None = None, **changes: object) -> Job:
    return Job(**({"stage": "evaluate", "recipe": recipe or RECIPE, "parents": {"model": "a" * 64}} | changes))


def test_the_identity_is_the_hash_of_what_is_computed():
    text = (
        '{"options":{},"parents":{"model":"%s"},"recipe":{"evaluate":{"samples":[1]},"noise":{"name":"uniform",'
        '"scale":0.3}},"schema":1,"seed":0,"stage":"evaluate"}' % ("a" * 64)
    )
    assert job().id == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "other",
    [
        job(RECIPE | {"noise": {"name": "uniform", "scale": 0.30000000000000004}}),
        job(RECIPE | {"system": {"seed": 1}}),
        job(options={"limit": 3}),
        job(parents={"model": "b" * 64}),
        job(stage="attack"),
    ],
)
def test_what_changes_the_computation_changes_the_identity(other: Job):
    assert other.id != job().id


@pytest.mark.parametrize(
    "recipe",
    [
        {key: RECIPE[key] for key in reversed(RECIPE)},
        RECIPE | {"system": {"seed": 0, "device": "cuda", "precision": "bf16", "runs_dir": "/elsewhere"}},
        RECIPE | {"certify": {"samples": 9}, "name": "another"},
    ],
)
def test_what_the_stage_does_not_read_leaves_the_identity(recipe: dict):
    assert job(recipe).id == job().id


def test_a_number_that_json_does_not_have_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        canonical({"scale": float("nan")})


@pytest.mark.parametrize(
    ("stage", "section", "table", "later"),
    [
        ("evaluate", "evaluate", {"limit": 5}, {"skip": 1}),
        ("attack", "attack", [{"type": "pgd"}], {"skip": 1, "target": "", "eight_bit": False, "smallest": False}),
    ],
)
def test_a_key_that_came_later_changes_no_identity_at_its_default(stage, section, table, later):
    def identity(changes):
        with_changes = [row | changes for row in table] if isinstance(table, list) else table | changes
        return Job(stage=stage, recipe={section: with_changes}).id

    assert identity(later) == identity({})
    assert identity(later | {"skip": 2}) != identity({})
