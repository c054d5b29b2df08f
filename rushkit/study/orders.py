"""What a worker is told of a job: ``job.json`` says what it computes, ``order.json`` for whom and from what files.

The first is written once, and its hash is the job's name. The second is written anew by each ``study run``: it says
what changes no figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError

from rushkit.errors import DataError, UsageError, shorten
from rushkit.files import write_error, write_json
from rushkit.paths import read_text, reason
from rushkit.results.base import Count, Record
from rushkit.results.records import RESULTS_FILE, first_problem, load_json
from rushkit.results.run_file import StudyJob
from rushkit.study.job import Job, Role
from rushkit.study.places import JOB_FILE, ORDER_FILE, Places
from rushkit.study.state import job_of_results

ID_DIGITS = 64
_AGAIN = "remove the folder; `rushkit study run` writes it anew"
_MOST_BYTES = 1 << 22
_Kind = TypeVar("_Kind", bound=Record)


class Order(Record):
    """For whom a job is done, and where the files lie that no job makes.

    Attributes:
        study: The study's name.
        row: The label of the first row that needs it.
        seed: The seed of that row.
        sources: Role -> path of a run or checkpoint from outside the study.
    """

    study: str
    row: str
    seed: Count
    sources: dict[Role, str] = Field(default_factory=dict)

    def facts(self, job: str) -> StudyJob:
        """Return what run.json keeps of it."""
        return StudyJob(study=self.study, row=self.row, seed=self.seed, job=job)


def check_id(job: str) -> str:
    """Return the id of a job. Raises UsageError for a text that is none."""
    if len(job) != ID_DIGITS or not set(job) <= set("0123456789abcdef"):
        raise UsageError(f"{shorten(job)!r} is no job", f"the id of a job has {ID_DIGITS} hexadecimal digits")
    return job


def write_orders(places: Places, job: Job, order: Order) -> None:
    """Write what a worker is told of a job.

    Raises:
        RushkitError: the folder of runs cannot be written, or what another process wrote there is damaged.
    """
    identity = job.id
    folder = places.job_folder(identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    if (folder / JOB_FILE).exists():
        read_job(places, identity)
    else:
        write_json(folder / JOB_FILE, job.to_table())
    write_json(folder / ORDER_FILE, order.to_table())


def read_job(places: Places, identity: str) -> Job:
    """Return what a job computes, after checking that it is the job of this name.

    Raises:
        UsageError: there is no such job.
        DataError: its file is damaged, or is that of another job.
    """
    path = places.job_folder(identity) / JOB_FILE
    job = _read(path, Job)
    if job.id != identity:
        raise DataError(
            f"{path} is not that of job {identity}: it computes {job.id}",
            _AGAIN,
        )
    return job


def read_order(places: Places, identity: str) -> Order:
    """Return for whom a job is done. Raises UsageError or DataError as ``read_job`` does."""
    return _read(places.job_folder(identity) / ORDER_FILE, Order)


def is_done(places: Places, job: str) -> bool:
    """Return whether a job is done: results.json of its run names it. A damaged file is not one that does."""
    return job_of_results(places.run_folder(job) / RESULTS_FILE) == job


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        return kind.model_validate(load_json(read_text(path, _MOST_BYTES)))
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no job in {path.parent}: it has no {path.name}", "`rushkit study run` makes the jobs of a study"
        ) from error
    except (OSError, RecursionError, ValueError) as error:
        what = first_problem(error) if isinstance(error, ValidationError) else reason(error)
        raise DataError(f"{path} is damaged: {what}", _AGAIN) from error
