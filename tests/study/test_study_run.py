"""`study run` over engines of this process: order, failures, what is done before, elsewhere, or not at all."""

from __future__ import annotations

import signal

import pytest
from small_studies import Deadly, Inline, Queue, Watch, states

from rushkit.errors import Interrupted, RushkitError, UsageError
from rushkit.results import read
from rushkit.results.run_file import StudyJob
from rushkit.run.info import find_runs
from rushkit.study import claims
from rushkit.study.engines import Engine, LastWord
from rushkit.study.failure import read_failure
from rushkit.study.state import standings
from rushkit.study.work import work_on


def test_the_engines_of_the_tests_are_engines():
    assert isinstance(Inline(), Engine)
    assert isinstance(Deadly(), Engine)


def test_every_job_is_done_once_after_those_that_it_needs(small):
    outcome = small.run()
    assert outcome.is_whole
    assert sorted(small.events("end")) == sorted(
        f"{row} {seed} {stage}" for row in "AB" for seed in (0, 1) for stage in ("pretrain", "finetune", "evaluate")
    )
    for row in "AB":
        stages = [line.split()[2] for line in small.events("begin") if line.startswith(f"{row} 0")]
        assert stages == ["pretrain", "finetune", "evaluate"]


def test_the_run_of_a_job_says_whose_it_is(small):
    small.run(rows=["A"])
    job = small.job("A", 1, "finetune")
    (run,) = (run for run in find_runs(small.places.runs) if run.about.study.job == job)
    assert run.about.study == StudyJob(study="small", row="A", seed=1, job=job)
    assert (run.status, run.path) == ("finished", small.places.run_folder(job))
    assert read(run.path).job == job


def test_what_is_done_is_not_done_again(small):
    small.run()
    before = small.events("begin")
    outcome = small.run()
    assert outcome.is_whole
    assert all(job.before for job in outcome.jobs.values())
    assert small.events("begin") == before


def test_a_job_that_fails_blocks_those_that_need_it_and_no_other(small):
    small.ask("fail A pretrain")
    outcome = small.run()
    assert not outcome.is_whole
    assert states(outcome) == {
        f"{row} {seed} {stage}": "done" if row == "B" else "failed" if stage == "pretrain" else "blocked"
        for row in "AB"
        for seed in (0, 1)
        for stage in ("pretrain", "finetune", "evaluate")
    }
    failure = read_failure(small.places.job_folder(small.job("A", 0, "pretrain")))
    assert (failure.message, failure.hint, failure.attempt) == ("asked to fail", "take the file away", 1)


def test_a_failed_job_is_tried_again_by_a_new_run_and_forgets_its_failure(small):
    asked = small.ask("fail A finetune")
    small.run()
    asked.unlink()
    assert small.run().is_whole
    assert read_failure(small.places.job_folder(small.job("A", 0, "finetune"))) is None
    assert small.events("begin").count("A 0 pretrain") == 1


def test_a_process_that_dies_without_a_word_is_replaced_once(small):
    engine = Deadly()
    outcome = small.run(engine, rows=["A"])
    assert [job.failure.message for job in outcome.of("failed")] == ["died without a word: killed by SIGKILL"] * 2
    assert [job.name for job in outcome.of("failed")] == ["A 0 pretrain", "A 1 pretrain"]
    assert len(engine.submissions) == 4
    found = standings(small.plan, small.places.runs)
    assert found[small.job("A", 0, "pretrain")].failure.type == "Died"


def test_a_failure_that_could_not_be_written_is_told_all_the_same(small):
    engine = Deadly(word=LastWord(False, "cannot write runs: Permission denied", "check the folder"))
    outcome = small.run(engine, rows=["A"])
    assert {job.failure.message for job in outcome.of("failed")} == {"cannot write runs: Permission denied"}
    assert len(engine.submissions) == 2


def test_a_folder_of_runs_that_cannot_be_written_is_one_message(small):
    small.places.runs.mkdir()
    (small.places.runs / "studies").write_text("in the way")
    with pytest.raises(RushkitError, match="cannot write"):
        small.run()


def test_a_job_of_another_process_is_waited_for_and_not_done_again(small):
    job = small.job("A", 0, "pretrain")
    folder = small.places.job_folder(job)
    folder.mkdir(parents=True)
    claim = claims.take(folder)

    def other_process() -> None:
        if small.events("end").count("A 1 pretrain"):
            claim.release()
            watch.at_look = lambda: None
            small.run(Inline(), rows=["A"])

    watch = Watch(at_look=other_process)
    outcome = small.run(Inline(), watch, rows=["A"])
    assert outcome.is_whole
    assert sorted(small.events("begin")) == sorted(job.name for job in outcome.jobs.values())
    assert outcome.jobs[job].by.number == 1


def test_a_job_whose_other_process_vanishes_is_done_here(small):
    job = small.job("A", 0, "pretrain")
    folder = small.places.job_folder(job)
    folder.mkdir(parents=True)
    claim = claims.take(folder)
    watch = Watch(at_look=claim.release)
    assert small.run(Inline(), watch, rows=["A"]).is_whole
    assert ("A 0 pretrain", "elsewhere") in watch.phases
    assert small.events("begin").count("A 0 pretrain") == 1


def test_a_failure_of_another_process_is_not_tried_again(small):
    small.ask("fail A finetune")
    job = small.job("A", 0, "finetune")
    engine = Inline()

    def other_process() -> None:
        if engine.submissions and read_failure(small.places.job_folder(job)) is None:
            small.run(Inline(), rows=["A"])

    small.run(engine, Watch(at_look=other_process), rows=["A"])
    assert small.events("begin").count("A 0 finetune") == 1


def test_an_engine_that_orders_is_given_everything_at_once(small):
    engine = Queue()
    assert small.run(engine, rows=["A"]).is_whole
    after = {submission.name: submission.after for submission in engine.submissions}
    assert after == {
        "A-0-pretrain": (),
        "A-1-pretrain": (),
        "A-0-finetune": ("1",),
        "A-1-finetune": ("2",),
        "A-0-evaluate": ("3",),
        "A-1-evaluate": ("4",),
    }


def test_a_failure_under_an_engine_that_orders_cancels_what_waits_for_it(small):
    small.ask("fail A pretrain")
    engine = Queue()
    outcome = small.run(engine, rows=["A"])
    assert [job.phase for job in outcome.jobs.values()].count("blocked") == 4
    assert engine.cancelled


def test_rows_bring_what_they_need_from_other_rows(small):
    small.text += '[[row.stage]]\ndo = "finetune"\nfrom = "A/pretrain"\nset = { finetune.epochs = 3 }\n'
    outcome = small.run(rows=["B"])
    assert list(states(outcome)) == ["A 0 pretrain", "A 1 pretrain", "B 0 finetune", "B 1 finetune"]


def test_a_row_that_is_not_there_is_an_error(small):
    with pytest.raises(UsageError, match="no row 'C'"):
        small.run(rows=["C"])


def test_a_signal_stops_the_jobs_and_says_how_to_go_on(small):
    engine = Queue()
    watch = Watch(at_look=lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Interrupted, match="of 12 are done") as caught:
        small.run(engine, watch)
    assert "the same command goes on" in caught.value.hint
    assert len(engine.cancelled) == len(engine.submissions) - engine.over


def test_the_figures_are_those_of_jobs_done_one_by_one(small):
    small.run()
    before = small.losses()
    for job in reversed(small.plan.jobs):
        folder = small.places.run_folder(job)
        (folder / "results.json").unlink()
    for job in small.plan.jobs:
        assert work_on(small.places, job).how == "done"
    assert small.losses() == before
