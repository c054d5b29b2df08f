"""What a worker is told of a job, by files that others may have written."""

from __future__ import annotations

import json

import pytest

from rushkit.errors import DataError, RushkitError, UsageError
from rushkit.study.failure import read_failure
from rushkit.study.job import Job
from rushkit.study.orders import Order, check_id, is_done, read_job, read_order, write_orders
from rushkit.study.places import Places
from rushkit.study.work import work_on

JOB = Job(stage="pretrain", recipe={"system": {"seed": 1}, "pretrain": {"epochs": 2}})
ORDER = Order(study="small", row="A", seed=1, sources={"model": "/models/m.safetensors"})


@pytest.fixture
def places(tmp_path) -> Places:
    places = Places(tmp_path / "runs")
    write_orders(places, JOB, ORDER)
    return places


def test_a_job_is_read_as_it_was_written(places):
    assert read_job(places, JOB.id) == JOB
    assert read_order(places, JOB.id) == ORDER
    assert not is_done(places, JOB.id)


def test_an_order_is_written_anew_and_a_job_is_not(places):
    before = (places.job_folder(JOB.id) / "job.json").stat().st_mtime_ns
    other = ORDER.with_changes(row="B")
    write_orders(places, JOB, other)
    assert read_order(places, JOB.id) == other
    assert (places.job_folder(JOB.id) / "job.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["", "[]", "{", '{"stage": "pretrain"}', "[" * 10**4, '{"stage": "rm", "recipe": {}}'])
def test_a_damaged_job_is_one_error(places, text):
    (places.job_folder(JOB.id) / "job.json").write_text(text)
    with pytest.raises(DataError, match=r"job\.json is damaged"):
        work_on(places, JOB.id)
    with pytest.raises(DataError):
        write_orders(places, JOB, ORDER)


def test_a_job_of_another_identity_is_refused(places):
    table = JOB.to_table() | {"options": {"limit": 1}}
    (places.job_folder(JOB.id) / "job.json").write_text(json.dumps(table))
    with pytest.raises(DataError, match="is not that of job"):
        work_on(places, JOB.id)


@pytest.mark.parametrize("job", ["", "../../etc", "g" * 64, "A" * 64, "0" * 63, "0" * 65, "\x1b" * 64])
def test_what_is_no_id_is_refused(tmp_path, job):
    with pytest.raises(UsageError, match="is no job"):
        work_on(Places(tmp_path), job)
    assert not list(tmp_path.iterdir())
    assert check_id("0" * 64)


def test_a_job_that_nobody_planned_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="there is no job"):
        work_on(Places(tmp_path), "0" * 64)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(stage="pretrain", recipe={"data": 1}), "data"),
        (Job(stage="finetune", recipe={}, options={"protocols": ["paper"]}), "protocols"),
        (Job(stage="finetune", recipe={}, parents={"model": "a" * 64}), "job aaaaaaaaaaaaaaaa is not done"),
        (Job(stage="finetune", recipe={}, parents={"model": "sha256:ab"}), "nobody says where the model"),
    ],
)
def test_a_job_that_makes_no_sense_fails_with_a_message(tmp_path, job, message):
    places = Places(tmp_path / "runs")
    write_orders(places, job, ORDER.with_changes(sources={}))
    ended = work_on(places, job.id)
    assert ended.how == "failed"
    assert message in ended.failure.message
    assert read_failure(places.job_folder(job.id)) == ended.failure
    assert not places.run_folder(job.id).exists()


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(RushkitError, match="cannot write"):
        write_orders(Places(tmp_path / "runs"), JOB, ORDER)
