"""``rushkit study list``, ``plan`` and ``status``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rushkit.study import estimate
from rushkit.study.failure import Failure, write_failure
from rushkit.study.make import plan_study
from rushkit.study.places import Places
from rushkit.study.state import STATES

STUDY = """# Two rows of tiny jobs.
schema = 1
title = "mine"
seeds = [0, 1]
set = { data.limit = 32, finetune.epochs = 2, evaluate.limit = 8 }
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
samples = [1, 4]
[[row]]
label = "A"
recipe = "cross-entropy-digits"
[[row]]
label = "B"
recipe = "cross-entropy-digits"
set = { finetune.batch_size = 16 }
[[row]]
label = "paper"
published = ["rush-cifar10-vote"]
"""


@pytest.fixture
def study(folder) -> Path:
    """The file of a study, found by its name."""
    path = folder / "studies" / "mine.toml"
    path.parent.mkdir()
    path.write_text(STUDY)
    return path


def job_of(row: str, seed: int, stage: str) -> str:
    (job,) = [cell.job for cell in plan_study("mine").cells if (cell.row, cell.seed, cell.stage) == (row, seed, stage)]
    return job


def finish(job: str) -> None:
    write(Places(Path("runs")).run_folder(job) / "results.json", job)


def write(path: Path, job: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"job": job, "stage": "finetune"}))


def fail(job: str, message: str, hint: str = "") -> None:
    place = Places(Path("runs")).job_folder(job)
    place.mkdir(parents=True)
    write_failure(place, Failure(type="DataError", message=message, hint=hint))


def test_the_list_has_the_studies_here_and_those_that_ship(cli, study):
    study.with_name("broken.toml").write_bytes(b"\xff")
    listed = json.loads(cli("study", "list", "--json").out)
    assert listed["mine"] == {"from": "studies/mine.toml", "about": "Two rows of tiny jobs."}
    assert listed["table1"]["from"] == "rushkit"
    assert listed["broken"]["about"].startswith("cannot be used: the study studies/broken.toml cannot be read")
    assert "Two rows of tiny jobs." in cli("study", "list").out


def test_a_plan_is_a_tree_with_what_each_job_waits_for_and_its_passes(cli, study):
    finish(job_of("A", 0, "finetune"))
    fail(job_of("B", 1, "finetune"), "the disk is full")
    said = cli("study", "plan", "mine", "--no-bench")
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "mine: 8 jobs (1 done, 1 failed, 1 blocked, 3 ready, 2 waiting)",
        "A",
        "  finetune, seed 0: done",
        "  finetune, seed 1: ready: no results yet; 192 passes",
        "    evaluate, seed 0: ready: no results yet; 40 passes",
        "    evaluate, seed 1: waiting: for finetune; 40 passes",
        "B",
        "  finetune, seed 0: ready: no results yet; 192 passes",
        "  finetune, seed 1: failed: the disk is full; 192 passes",
        "    evaluate, seed 0: waiting: for finetune; 40 passes",
        "    evaluate, seed 1: blocked: by finetune; 40 passes",
        "paper: published figures alone (rush-cifar10-vote)",
        "to do: 7 jobs, 736 passes",
    ]


def test_a_plan_without_a_bench_times_nothing_and_with_one_each_network(cli, study, monkeypatch):
    timed = []
    monkeypatch.setattr(estimate, "_seconds_a_pass", lambda recipe: timed.append(recipe) or 0.5)
    assert "about" not in cli("study", "plan", "mine", "--no-bench").out
    assert timed == []
    assert (
        "finetune, seeds 0, 1: ready: no results yet; 384 passes, about 3 min 12 s" in cli("study", "plan", "mine").out
    )
    assert len(timed) == 1


def test_a_plan_as_json_has_every_job(cli, study):
    finish(job_of("A", 0, "finetune"))
    plan = json.loads(cli("study", "plan", "mine", "--no-bench", "--json").out)
    cells = {(cell["row"], cell["seed"], cell["stage"]): plan["jobs"][cell["job"]] for cell in plan["cells"]}
    done, evaluate = cells["A", 0, "finetune"], cells["A", 0, "evaluate"]
    assert (done["state"], "passes" in done) == ("done", False)
    assert evaluate["needs"] == [job_of("A", 0, "finetune")]
    assert (evaluate["stage"], evaluate["state"], evaluate["passes"], evaluate["seconds"]) == (
        "evaluate",
        "ready",
        40,
        None,
    )
    assert len(plan["jobs"]) == len(cells) == 8


def test_kept_results_are_done_and_show_their_file(cli, study):
    job = job_of("A", 1, "evaluate")
    write(study.with_suffix("") / f"{job[:16]}.json", job)
    out = cli("study", "plan", "mine", "--no-bench").out
    assert f"    evaluate, seed 1: done, kept in studies/mine/{job[:16]}.json" in out.splitlines()


def test_a_kept_result_of_another_job_does_not_count_as_done(cli, study):
    job = job_of("A", 1, "evaluate")
    write(study.with_suffix("") / f"{job[:16]}.json", job[:16] + "0" * 48)
    assert "done" not in cli("study", "plan", "mine", "--no-bench").out
    assert "done" not in json.loads(cli("study", "status", "mine", "--json").out)["counts"]


@pytest.mark.parametrize("command", ["plan", "status", "run"])
def test_what_is_wrong_with_a_study_is_one_message_with_its_lines(fails, study, command):
    study.write_text(STUDY.replace('label = "B"', 'label = "A"\nrecip = 3'))
    said = fails(2, "study", command, "mine")
    assert "the study has 2 errors" in said.err
    assert "studies/mine.toml:15: row.1.label: two rows are called 'A'" in said.err
    assert "studies/mine.toml:16: row.1.recip: unknown key; did you mean recipe?" in said.err


def test_the_status_counts_the_jobs_of_each_row_and_says_why_some_failed(cli, study):
    finish(job_of("A", 0, "finetune"))
    fail(job_of("B", 1, "finetune"), "the disk is full", "make room")
    said = cli("study", "status", "mine")
    assert said.code == 0, said.err
    table = [re.split(r" *[┃│] *", line)[1:-1] for line in said.out.splitlines()]
    header, of_a, of_b = (next(line for line in table if line[:1] == [name]) for name in ("row", "A", "B"))
    assert dict(zip(header, of_a, strict=True)) == dict.fromkeys(STATES, "") | {
        "row": "A",
        "done": "1",
        "ready": "2",
        "waiting": "1",
    }
    assert dict(zip(header, of_b, strict=True)) == dict.fromkeys(STATES, "") | {
        "row": "B",
        "failed": "1",
        "blocked": "1",
        "ready": "1",
        "waiting": "1",
    }
    assert "mine: 8 jobs (1 done, 1 failed, 1 blocked, 3 ready, 2 waiting)" in said.out
    assert "failed: B, seed 1, finetune: the disk is full (make room)" in said.out


def test_the_status_as_json_counts_too(cli, study):
    fail(job_of("B", 1, "finetune"), "the disk is full")
    status = json.loads(cli("study", "status", "mine", "--json").out)
    assert (status["jobs"], status["counts"]) == (8, {"failed": 1, "blocked": 1, "ready": 3, "waiting": 3})
    assert status["standings"][job_of("B", 1, "finetune")]["failure"]["message"] == "the disk is full"


def test_of_many_failures_the_status_shows_twenty(cli, study):
    study.write_text(STUDY.replace("[0, 1]", str(list(range(12)))))
    for row in "AB":
        for seed in range(12):
            fail(job_of(row, seed, "finetune"), "no")
    lines = cli("study", "status", "mine").out.splitlines()
    assert len([line for line in lines if line.startswith("failed: ")]) == 20
    assert "and 4 more; --json has all" in lines


def test_a_study_that_is_not_there_is_told_what_is_near(fails, study):
    assert "did you mean mine?" in fails(2, "study", "plan", "mien").err
