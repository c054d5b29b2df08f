"""The studies that ship: each is in order, opens with its command and cost, and has the rows that it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from rushkit.results.published import table_1
from rushkit.study.find import available
from rushkit.study.make import plan_study
from rushkit.study.plan import Plan

STUDIES = Path(__file__).parents[2] / "studies"
NAMES = sorted(path.stem for path in STUDIES.glob("*.toml"))


@pytest.fixture(scope="module")
def planned() -> dict[str, Plan]:
    return {name: plan_study(str(STUDIES / f"{name}.toml")) for name in NAMES}


def test_the_shipped_studies_are_found_by_name():
    assert {name for name, owner in available().items() if owner == "rushkit"} >= {
        "digits",
        "noises",
        "protocols",
        "table1",
        "table1-cpu",
        "table1-digits",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_study_opens_with_its_command_cost_and_result(name):
    comment = (STUDIES / f"{name}.toml").read_text(encoding="utf-8").partition("\nschema")[0]
    assert all(f"\n# {word}:" in comment for word in ("Command", "Cost", "Expected"))
    assert f"rushkit study run {name}" in comment


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_has_a_job_that_comes_after_those_it_needs(planned, name):
    plan = planned[name]
    place = {job: index for index, job in enumerate(plan.jobs)}
    assert plan.cells
    assert {cell.job for cell in plan.cells} == set(plan.jobs)
    assert all(place[need] < place[job.id] for job in plan.jobs.values() for need in job.needs)


def test_table_1_has_every_row_of_the_paper(planned):
    beside = {key for keys in planned["table1"].rows.values() for key in keys}
    assert beside == {row.key for row in table_1()}


def test_the_noises_have_one_standard_deviation(planned):
    noises = {str(job.job.recipe["noise"]) for job in planned["noises"].jobs.values()}
    assert noises == {str({"name": name, "std": 0.1732}) for name in ("uniform", "gaussian", "laplace")}


def test_the_teacher_of_the_digits_is_the_encoder_of_rush(planned):
    plan = planned["table1-digits"]
    job = {(cell.row, cell.seed, cell.stage): cell.job for cell in plan.cells}
    student = plan.jobs[job["DeACL, SLF (not in Table 1)", 1, "pretrain"]]
    assert student.job.parents == {"model": job["RUSH", 1, "pretrain"]}


def test_a_training_on_clusters_names_the_run_that_makes_them(planned):
    plan = planned["table1-digits"]
    job = {(cell.row, cell.seed, cell.stage): cell.job for cell in plan.cells}
    learner = plan.jobs[job["AdvCL, SLF", 0, "pretrain"]].job
    clusters = job["AdvCL, SLF", 0, "cluster"]
    assert learner.parents == {"labels": clusters}
    assert learner.recipe["pretrain"]["labels"] == f"job-{clusters[:16]}"
