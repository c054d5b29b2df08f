"""How jobs stand, told by files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rushkit
from rushkit.study.claims import take
from rushkit.study.failure import Failure, write_failure
from rushkit.study.job import Job
from rushkit.study.places import Places
from rushkit.study.plan import Plan, Planned
from rushkit.study.state import State, counts, job_of_results, standings


def job(stage: str, *needs: Planned) -> Planned:
    made = Job(stage=stage, recipe={"system": {"seed": 0}}, parents={"model": needs[0].id} if needs else {})
    return Planned(made.id, made, tuple(need.id for need in needs))


PRETRAIN = job("pretrain")
FINETUNE = job("finetune", PRETRAIN)
EVALUATE = job("evaluate", FINETUNE)
CERTIFY = job("certify", FINETUNE)
PLAN = Plan("mine", {each.id: each for each in (PRETRAIN, FINETUNE, EVALUATE, CERTIFY)}, ())


def finish(runs: Path, planned: Planned, version: str = rushkit.__version__) -> None:
    folder = Places(runs).run_folder(planned.id)
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"versions": {"rushkit": version}}))
    write(folder / "results.json", planned.id)


def write(path: Path, identity: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"job": identity, "stage": "evaluate"}, indent=2))


def fail(runs: Path, planned: Planned) -> None:
    folder = Places(runs).job_folder(planned.id)
    folder.mkdir(parents=True)
    write_failure(folder, Failure(type="DataError", message="no such file"))


def states(runs: Path, plan: Plan = PLAN) -> list[State]:
    return [standing.state for standing in standings(plan, runs).values()]


def test_before_anything_is_done_the_first_job_is_ready_and_the_others_wait(tmp_path):
    assert states(tmp_path / "none") == ["ready", "waiting", "waiting", "waiting"]


def test_a_job_is_done_when_its_results_name_it(tmp_path):
    finish(tmp_path, PRETRAIN)
    assert states(tmp_path) == ["done", "ready", "waiting", "waiting"]


def test_results_of_another_job_with_the_same_first_digits_are_none_of_it(tmp_path):
    write(Places(tmp_path).run_folder(PRETRAIN.id) / "results.json", PRETRAIN.id[:16] + "0" * 48)
    assert states(tmp_path)[0] == "interrupted"


def test_a_failed_job_blocks_those_that_need_it_and_no_others(tmp_path):
    finish(tmp_path, PRETRAIN)
    finish(tmp_path, FINETUNE)
    fail(tmp_path, EVALUATE)
    assert states(tmp_path) == ["done", "done", "failed", "ready"]


def test_what_builds_on_a_blocked_job_is_blocked(tmp_path):
    fail(tmp_path, PRETRAIN)
    found = standings(PLAN, tmp_path)
    assert [one.state for one in found.values()] == ["failed", "blocked", "blocked", "blocked"]
    assert found[EVALUATE.id].because == (FINETUNE.id,)


def test_a_claimed_job_runs_whatever_lies_there_already(tmp_path):
    fail(tmp_path, PRETRAIN)
    with take(Places(tmp_path).job_folder(PRETRAIN.id)):
        assert states(tmp_path) == ["running", "waiting", "waiting", "waiting"]
    assert states(tmp_path)[0] == "failed"


def test_a_run_that_nobody_works_on_was_interrupted(tmp_path):
    Places(tmp_path).run_folder(PRETRAIN.id).mkdir()
    assert states(tmp_path)[0] == "interrupted"


def test_results_of_another_version_are_told(tmp_path):
    finish(tmp_path, PRETRAIN, "0.0.1")
    standing = standings(PLAN, tmp_path)[PRETRAIN.id]
    assert (standing.state, standing.version, standing.is_of_another_version) == ("done", "0.0.1", True)


@pytest.fixture
def kept(tmp_path) -> Plan:
    """The plan of a file that lies beside its kept results."""
    return Plan("mine", PLAN.jobs, (), file=tmp_path / "mine.toml")


def keep(plan: Plan, *jobs: Planned) -> None:
    assert plan.kept is not None
    for each in jobs:
        write(plan.kept / f"{each.id[:16]}.json", each.id)


def test_kept_results_are_done(kept, tmp_path):
    keep(kept, PRETRAIN, FINETUNE, EVALUATE, CERTIFY)
    assert states(tmp_path / "runs", kept) == ["done"] * 4


def test_kept_results_run_again_only_if_their_weights_are_needed(kept, tmp_path):
    keep(kept, PRETRAIN, FINETUNE, EVALUATE)
    found = standings(kept, tmp_path / "runs")
    assert [one.state for one in found.values()] == ["ready", "waiting", "done", "waiting"]
    assert [one.again for one in found.values()] == [True, True, False, False]
    finish(tmp_path / "runs", PRETRAIN)
    assert states(tmp_path / "runs", kept) == ["done", "ready", "done", "waiting"]


def test_the_states_are_counted(tmp_path):
    finish(tmp_path, PRETRAIN)
    assert counts(standings(PLAN, tmp_path)) == {"done": 1, "ready": 1, "waiting": 2}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": 3}', '{"job": "' + "x" * 200, "\xff"])
def test_a_damaged_file_names_no_job(tmp_path, text):
    (tmp_path / "results.json").write_bytes(text.encode("latin-1"))
    assert job_of_results(tmp_path / "results.json") == ""


def test_a_job_is_named_wherever_the_key_stands(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"stage": "evaluate", "job": PRETRAIN.id}))
    assert job_of_results(tmp_path / "results.json") == PRETRAIN.id
