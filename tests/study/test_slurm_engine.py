from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import engine_jobs
import pytest
from engine_jobs import is_ready, submission, turns
from slurm_stand_in import StandIn, slurm_on_path

from rushkit import registries
from rushkit.errors import RushkitError, UsageError
from rushkit.study.engines import Engine, LastWord, Tells, slurm
from rushkit.study.engines.slurm import SCRIPT_FILE, Slurm, seconds_of
from rushkit.study.engines.slurm_batch import MARK_FILE
from rushkit.study.engines.worker_process import BUSY, worker_arguments
from rushkit.study.failure import read_failure

pytest.importorskip("submitit")
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(slurm, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "_CANCEL_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(slurm, "worker_arguments", engine_jobs.worker_arguments)
    with slurm_on_path(monkeypatch) as stand_in:
        yield stand_in


def output(job) -> str:
    return (job.folder / "output.txt").read_text()


def test_the_batch_files_of_a_plan(cluster: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "worker_arguments", worker_arguments)
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    cluster.held = True
    options = {"partition": "gpu,big", "account": "lab-7", "time": "1-12:30:00", "gpus": "a100:2", "cpus": 8}
    engine = registries.engines.create("slurm", **options, memory="32GB", qos="normal", constraint="a&b")
    plan = {"a-0-pretrain": [], "a-0-finetune": ["a-0-pretrain"], "all": ["a-0-pretrain", "a-0-finetune"]}
    numbers: dict[str, str] = {}
    for name, parents in plan.items():
        job = submission(tmp_path, name, tuple(numbers[parent] for parent in parents))
        numbers[name] = engine.submit(job)
        text = (job.folder / SCRIPT_FILE).read_text().replace(str(tmp_path), "RUNS")
        assert text == (GOLDEN / f"{name}.sh").read_text()
    assert numbers == {"a-0-pretrain": "7", "a-0-finetune": "8", "all": "9"}


def test_a_failed_job_takes_its_dependants_with_it_and_no_others(cluster: StandIn, tmp_path: Path):
    cluster.held = True
    engine = Slurm()
    parent = engine.submit(submission(tmp_path, "parent", code=1))
    child = engine.submit(submission(tmp_path, "child", (parent,)))
    grandchild = engine.submit(submission(tmp_path, "grandchild", (child,)))
    other = engine.submit(submission(tmp_path, "other"))
    handles = [parent, child, grandchild, other]
    assert set(engine.standings(handles).values()) == {"queued"}
    cluster.release()
    assert [cluster.ended(handle) for handle in handles] == ["FAILED", "CANCELLED", "CANCELLED", "COMPLETED"]
    assert set(engine.standings(handles).values()) == {"ended"}
    assert engine.standings(["3"]) == {"3": "gone"}


def test_a_job_out_of_time_saves_and_goes_on_and_its_dependants_wait(cluster: StandIn, tmp_path: Path):
    engine = Slurm()
    job = submission(tmp_path, "long", turns=2)
    number = engine.submit(job)
    child = submission(tmp_path, "child")
    child_number = engine.submit(submission(tmp_path, "child", (number,)))
    for _ in range(2):
        is_ready(job)
        assert engine.standings([number, child_number]) == {number: "running", child_number: "queued"}
        cluster.warn(number)
    assert [cluster.ended(number), cluster.ended(child_number)] == ["COMPLETED", "COMPLETED"]
    assert turns(job) == ["0", "1", "2"]
    assert turns(child) == ["0"]
    assert output(job).split() == ["saved", "saved", "done"]


def test_a_job_that_saves_nothing_new_is_requeued_twice_and_then_fails(cluster: StandIn, tmp_path: Path):
    engine = Slurm()
    job = submission(tmp_path, "stuck", turns=9, stuck=True)
    number = engine.submit(job)
    for _ in range(3):
        is_ready(job)
        cluster.warn(number)
    assert cluster.ended(number) == "FAILED"
    assert cluster.jobs[number].turns == 3
    assert "3 times in a row" in read_failure(job.folder).message
    assert "time in [engine.slurm]" in output(job)


def test_cancelled_jobs_save_and_are_not_requeued(cluster: StandIn, tmp_path: Path):
    engine = Slurm()
    job = submission(tmp_path, "long", turns=1)
    number = engine.submit(job)
    queued = engine.submit(submission(tmp_path, "child", (number,)))
    is_ready(job)
    engine.cancel([number, queued])
    assert (cluster.jobs[number].state, cluster.jobs[queued].state) == ("FAILED", "CANCELLED")
    assert cluster.jobs[number].turns == 1
    assert output(job) == "saved\n"
    assert not (job.folder / MARK_FILE).exists()


def test_a_job_that_another_process_works_on_goes_back_to_the_queue(cluster: StandIn, tmp_path: Path):
    job = submission(tmp_path, "shared", code=BUSY)
    cluster.held_after = 1
    number = Slurm().submit(job)
    cluster.waits(number)
    submission(tmp_path, "shared", code=0)
    cluster.release()
    assert cluster.ended(number) == "COMPLETED"
    assert turns(job) == ["0", "0"]


def test_what_slurm_knows_of_a_jobs_end(cluster: StandIn, tmp_path: Path):
    engine = Slurm()
    assert isinstance(engine, Tells)
    number = engine.submit(submission(tmp_path, "fails", code=1))
    cluster.ended(number)
    engine.standings([number])
    assert engine.last_word(number) is None
    cluster.jobs[number].state = "OUT_OF_MEMORY"
    assert engine.standings([number]) == {number: "ended"}
    assert engine.last_word(number) == LastWord(
        True, "Slurm ended it: OUT_OF_MEMORY", "give it more: memory in [engine.slurm]"
    )


def test_a_job_that_slurm_still_has_is_not_submitted_again(cluster: StandIn, tmp_path: Path):
    cluster.held = True
    job = submission(tmp_path, "one")
    assert Slurm().submit(job) == Slurm().submit(job) == "7"
    assert Slurm().submit(submission(tmp_path, "two")) == "8"


@pytest.mark.parametrize(
    "options",
    [
        {"partition": "gpu\n#SBATCH --uid=0"},
        {"account": "a b"},
        {"qos": "$(id)"},
        {"constraint": "a;b"},
        {"memory": "much"},
        {"gpus": "a100:0"},
        {"gpus": -1},
        {"cpus": -1},
        {"time": "soon"},
        {"time": 2},
        {"time": "1:00\n"},
    ],
)
def test_an_option_that_slurm_does_not_take(cluster: StandIn, options: dict):
    with pytest.raises(UsageError, match=next(iter(options))) as caught:
        registries.engines.create("slurm", **options)
    assert caught.value.hint


@pytest.mark.parametrize(
    "time, seconds",
    [(3, 180), ("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("2-12", 216000), ("1-0:30", 88200)],
)
def test_times_in_slurms_notation(time: str | int, seconds: int):
    assert seconds_of(time) == seconds


@pytest.mark.parametrize("name", ["back\\slash", "line\nend"])
def test_a_folder_that_a_batch_file_cannot_name(cluster: StandIn, tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="Slurm cannot work with"):
        Slurm().submit(submission(tmp_path / name, "job"))


def test_odd_names_of_folders_and_rows(cluster: StandIn, tmp_path: Path):
    job = submission(tmp_path / 'it\'s 5%j "$HOME" #ü', "row; $(touch x)\n#SBATCH --uid=0")
    number = Slurm().submit(job)
    assert cluster.ended(number) == "COMPLETED"
    assert output(job) == "done\n"
    assert cluster.jobs[number].options["job-name"] == "row-touch-x-SBATCH---uid-0"


def test_what_a_site_refuses(cluster: StandIn, tmp_path: Path):
    engine = Slurm()
    cluster.broken["sbatch"] = "AssocMaxSubmitJobLimit\nBatch job submission failed"
    with pytest.raises(RushkitError, match="does not take job: sbatch: error: AssocMaxSubmitJobLimit Batch") as caught:
        engine.submit(submission(tmp_path, "job"))
    assert "MaxSubmitJobs" in caught.value.hint
    cluster.broken["sbatch"] = "invalid partition specified: gqu"
    with pytest.raises(RushkitError, match="gqu") as caught:
        engine.submit(submission(tmp_path, "job"))
    assert "partition" in caught.value.hint


def test_slurm_out_of_reach(cluster: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    engine = Slurm()
    cluster.held = True
    number = engine.submit(submission(tmp_path, "job"))
    cluster.broken["squeue"] = "Unable to contact slurm controller"
    with pytest.raises(RushkitError, match="cannot be reached: squeue: error: Unable"):
        Slurm().submit(submission(tmp_path, "job"))
    assert engine.standings([number]) == {number: "queued"}
    monkeypatch.setattr(slurm, "_CANCEL_PATIENCE_SECONDS", -1.0)
    with pytest.raises(RushkitError, match="cannot be reached"):
        engine.cancel([number])
    monkeypatch.setattr(slurm, "_PATIENCE_SECONDS", -1.0)
    with pytest.raises(RushkitError, match="cannot be reached"):
        engine.standings([number])


def test_no_slurm_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RushkitError, match="no Slurm on this machine: sbatch, srun, squeue and 2 more"):
        Slurm()


def test_without_submitit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs submitit") as caught:
        registries.engines.create("slurm")
    assert caught.value.hint == "pip install 'rushkit[slurm]'"


def test_it_is_an_engine(cluster: StandIn):
    assert isinstance(Slurm(), Engine)
