"""tests/methods.toml, which tests/methods.sh runs whole: it leaves no method out."""

from __future__ import annotations

from pathlib import Path

from rushkit.recipe.find import shipped_folder
from rushkit.study.load import load_study
from rushkit.study.make import plan_study

FILE = Path(__file__).parents[1] / "methods.toml"


def test_every_recipe_on_the_digits_is_a_row():
    recipes = {path.stem for path in shipped_folder().glob("*digits.toml")}
    assert {row.asked.recipe for row in load_study(str(FILE)).rows.values()} == recipes


def test_every_method_meets_the_attack_that_it_was_published_with(tmp_path):
    plan = plan_study(str(FILE), tmp_path)
    published = {cell.row for cell in plan.cells if cell.stage == "published"}
    known = {cell.row for cell in plan.cells if plan.jobs[cell.job].job.recipe["published"]}
    assert published == known
    assert len(published) >= 7


def test_what_is_measured_is_small(tmp_path):
    plan = plan_study(str(FILE), tmp_path)
    trained = [job.job.recipe for job in plan.jobs.values() if job.job.stage == "finetune"]
    assert max(recipe["finetune"]["epochs"] for recipe in trained) <= 5
    attacked = [job.job.recipe["attack"] for job in plan.jobs.values() if job.job.stage == "attack"]
    assert {(section["limit"], tuple(section["samples"])) for (section,) in attacked} == {(4, (4,))}
