"""Plans: which jobs a study has, what each waits for, and which recipe it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.recipe.load import load_recipe
from rushkit.study.load import parse_study
from rushkit.study.make import make_plan, plan_study
from rushkit.study.plan import Plan

HEAD = 'schema = 1\ntitle = "a study"\n'
ROW = '[[row]]\nlabel = "A"\nrecipe = "digits"\n'
TRAINED = '[[stage]]\ndo = "pretrain"\n[[stage]]\ndo = "finetune"\n'


def planned(text: str, folder: Path = Path()) -> Plan:
    return make_plan(parse_study(text, Path("mine.toml")), folder)


def stages_of(plan: Plan) -> list[str]:
    return [job.job.stage for job in plan.jobs.values()]


def test_a_stage_waits_for_the_last_one_that_makes_what_it_needs():
    plan = planned(f'{HEAD}{TRAINED}[[stage]]\ndo = "evaluate"\n{ROW}')
    pretrain, finetune, evaluate = plan.jobs.values()
    assert (pretrain.needs, finetune.needs, evaluate.needs) == ((), (pretrain.id,), (finetune.id,))


def test_every_seed_has_jobs_of_its_own():
    plan = planned(f"{HEAD}seeds = [3, 5]\n{TRAINED}{ROW}")
    assert [job.job.recipe["system"]["seed"] for job in plan.jobs.values()] == [3, 5, 3, 5]
    assert [(cell.row, cell.seed, cell.stage) for cell in plan.cells] == [
        ("A", 3, "pretrain"),
        ("A", 3, "finetune"),
        ("A", 5, "pretrain"),
        ("A", 5, "finetune"),
    ]


def test_rows_that_ask_for_the_same_share_it():
    other = '[[row]]\nlabel = "B"\nrecipe = "digits"\nset = { finetune.epochs = 2 }\n'
    plan = planned(HEAD + TRAINED + ROW + other)
    assert stages_of(plan) == ["pretrain", "finetune", "finetune"]
    assert len({cell.job for cell in plan.cells if cell.stage == "pretrain"}) == 1


def test_a_first_stage_runs_the_recipe_that_its_command_would_run():
    plan = planned(f"{HEAD}{TRAINED}{ROW}set = {{ pretrain.epochs = 2 }}\n")
    (pretrain, *_) = plan.jobs.values()
    assert pretrain.job.recipe == load_recipe("digits", ["pretrain.epochs=2"], {}).resolved()


def test_the_shipped_digits_study_has_two_rows_of_two_seeds():
    plan = plan_study("digits")
    assert stages_of(plan).count("pretrain") == 4
    assert len(plan.jobs) == len(plan.cells) == 16


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (HEAD + TRAINED + ROW + ROW, "two rows are called 'A'"),
        (HEAD + TRAINED + ROW.replace("digits", "digts"), "unknown recipe 'digts'"),
        (HEAD + '[[stage]]\ndo = "pretrian"\n' + ROW, "did you mean pretrain?"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, what):
    with pytest.raises(Exception, match=what) as error:
        planned(text)
    assert "mine.toml:" in str(error.value)
