"""The run of a study's job lies in a folder of the job's name, and is a run like any other."""

from __future__ import annotations

import json

import pytest
import torch

from rushkit.errors import Replaced, RushkitError
from rushkit.results import read
from rushkit.results.run_file import Facts, StudyJob
from rushkit.results.training import Pretraining
from rushkit.run.clean import delete_run, find_leftovers
from rushkit.run.folder import Run
from rushkit.run.info import find_runs, info_of
from rushkit.run.named import find_named
from rushkit.run.speaker import Speaker

QUIET = Speaker(-1, rank=0)
RESULTS = Pretraining(recipe="cifar10", epochs=1, loss=0.5, knn_protocol=None)
JOB = StudyJob(study="digits", row="rush", seed=1, job="0123456789abcdef" * 4)
NAME = "job-0123456789abcdef"


def create(root) -> Run:
    return Run.create(root, "pretrain", "cifar10", Facts(study=JOB), "schema = 1\n", QUIET, root / NAME)


def replaced() -> None:
    raise Replaced("another process has it")


def test_the_run_lies_in_the_folder_that_was_named(tmp_path):
    with create(tmp_path / "runs") as run:
        run.save_checkpoint(1, {"w": torch.ones(1)}, {"step": 1})
    assert run.path == tmp_path / "runs" / NAME
    (info,) = find_runs(tmp_path / "runs")
    assert (info.path, info.status, info.verb) == (run.path, "finished", "pretrain")
    assert find_named(NAME, tmp_path / "runs").run == info
    assert find_named("9abcdef", tmp_path / "runs").run == info


def test_results_name_the_job(tmp_path):
    with create(tmp_path) as run:
        assert run.write_results(RESULTS).job == JOB.job
    assert read(run.path).job == JOB.job
    with Run.create(tmp_path, "pretrain", "cifar10", Facts(), "schema = 1\n", QUIET) as alone:
        alone.write_results(RESULTS)
    assert "job" not in json.loads((alone.path / "results.json").read_text())


def test_a_folder_that_is_there_is_refused(tmp_path):
    (tmp_path / NAME).mkdir()
    with pytest.raises(RushkitError, match="cannot write"):
        create(tmp_path)
    assert not any((tmp_path / NAME).iterdir())


def test_a_folder_whose_process_died_at_its_start_can_be_deleted(tmp_path):
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "recipe.toml").write_text("")
    (run,) = find_runs(tmp_path)
    assert [leftover.run for leftover in find_leftovers([run])] == [run]
    assert delete_run(info_of(tmp_path / NAME))
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda run: run.write_results(RESULTS),
        lambda run: run.save_checkpoint(2, {"w": torch.ones(1)}, {"step": 2}),
        lambda run: run.update(stage="pretrain"),
        lambda run: run.subfolder("counts"),
    ],
)
def test_a_process_that_was_replaced_writes_nothing_more(tmp_path, write):
    run = create(tmp_path)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    run.guard = replaced
    with pytest.raises(Replaced), run:
        write(run)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    # The lock is free for the other one.
    Run.open(run.path, QUIET).close()


def test_a_process_that_was_replaced_does_not_say_that_the_run_failed(tmp_path):
    run = create(tmp_path)
    before = (run.path / "run.json").read_bytes()
    run.guard = replaced
    with pytest.raises(ValueError, match="of another kind"), run:
        raise ValueError("of another kind")
    assert (run.path / "run.json").read_bytes() == before
