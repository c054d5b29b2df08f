"""What ``rushkit study`` prints under ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rushkit.report.study.figures import StudyReport
from rushkit.results.jsonable import LEFT_OUT, Figures, spread
from rushkit.study.cost import Cost
from rushkit.study.failure import Failure
from rushkit.study.job import Role, Stage
from rushkit.study.plan import Cell, Planned
from rushkit.study.run import Outcome, Phase, Progress
from rushkit.study.state import Standing, State


@dataclass(frozen=True)
class JobStanding(Figures):
    """How a job stands; what is empty is left out.

    Attributes:
        state: In a word.
        results: Where its results lie: its run folder, or the file that is kept of them.
        kept: True if its results are those kept beside the study's file.
        version: The version of rushkit that made the results in its run folder.
        again: True if its results are kept, and it must run again since a job that is not done needs its weights.
        failure: Why its last attempt failed.
        by: Who works on it.
        because: Ids of the jobs that it waits for, or that block it.
    """

    state: State
    results: Path | None = field(default=None, metadata=LEFT_OUT)
    kept: bool | None = field(default=None, metadata=LEFT_OUT)
    version: str | None = field(default=None, metadata=LEFT_OUT)
    again: bool | None = field(default=None, metadata=LEFT_OUT)
    failure: Failure | None = field(default=None, metadata=LEFT_OUT)
    by: str | None = field(default=None, metadata=LEFT_OUT)
    because: tuple[str, ...] | None = field(default=None, metadata=LEFT_OUT)

    @classmethod
    def of(cls, standing: Standing) -> JobStanding:
        """Return what is printed of how a job stands."""
        return cls(
            state=standing.state,
            results=standing.results,
            kept=standing.kept or None,
            version=standing.version or None,
            again=standing.again or None,
            failure=standing.failure,
            by=None if standing.holder is None else standing.holder.in_words(),
            because=standing.because or None,
        )


@dataclass(frozen=True)
class PlannedJob(Figures):
    """A job of a study.

    Attributes:
        stage: The command whose stage it is.
        needs: Ids of the jobs that must be done before it.
        sources: Role -> the path of a run or checkpoint that no job of the study makes.
        standing: How it stands.
        cost: What it costs; None for a job that is done.
    """

    stage: Stage
    needs: tuple[str, ...]
    sources: dict[Role, Path]
    standing: JobStanding = field(metadata=spread())
    cost: Cost | None = field(metadata=spread())

    @classmethod
    def of(cls, planned: Planned, standing: Standing, cost: Cost | None) -> PlannedJob:
        """Return what is printed of a job of a plan."""
        return cls(planned.job.stage, planned.needs, dict(planned.sources), JobStanding.of(standing), cost)


@dataclass(frozen=True)
class PlannedStudy(Figures):
    """The jobs of a study.

    Attributes:
        study: Its name.
        jobs: Id -> the job.
        cells: The cells of its table, each with the job that fills it.
        assumes: What the times of its jobs assume; empty where none has one.
    """

    study: str
    jobs: dict[str, PlannedJob]
    cells: tuple[Cell, ...]
    assumes: str


@dataclass(frozen=True)
class StudyStatus(Figures):
    """How the jobs of a study stand.

    Attributes:
        study: Its name.
        jobs: Number of its jobs.
        counts: How many stand in each state, those without any left out.
        standings: Id -> how the job stands.
    """

    study: str
    jobs: int
    counts: Mapping[State, int]
    standings: dict[str, JobStanding]


@dataclass(frozen=True)
class JobsAhead(Figures):
    """What ``study run --dry-run`` would do.

    Attributes:
        study: The study's name.
        jobs: Id -> the state of the job; all but those that are done would be run.
    """

    study: str
    jobs: dict[str, State]


@dataclass(frozen=True)
class JobOutcome(Figures):
    """How a job of a study went.

    Attributes:
        job: Its id.
        row: The label of the first row of the table that it is in.
        seed: The seed of that row.
        stage: The label of the stage.
        state: In a word.
        message: Why it failed; only of a job that did.
        hint: What to do about it; only of a job that failed, and empty where nothing is known.
    """

    job: str
    row: str
    seed: int
    stage: str
    state: Phase
    message: str | None = field(default=None, metadata=LEFT_OUT)
    hint: str | None = field(default=None, metadata=LEFT_OUT)

    @classmethod
    def of(cls, identity: str, progress: Progress) -> JobOutcome:
        """Return how a job went."""
        cell, failure = progress.cell, progress.failure
        why = (None, None) if failure is None else (failure.message, failure.hint)
        return cls(identity, cell.row, cell.seed, cell.stage, progress.phase, *why)


@dataclass(frozen=True)
class StudyOutcome(Figures):
    """How a study went.

    Attributes:
        study: Its name.
        done: Number of the jobs that are done.
        jobs: Every job that was asked for.
    """

    study: str
    done: int
    jobs: list[JobOutcome]

    @classmethod
    def of(cls, outcome: Outcome) -> StudyOutcome:
        """Return how a study went."""
        jobs = [JobOutcome.of(identity, progress) for identity, progress in outcome.jobs.items()]
        return cls(outcome.study, len(outcome.of("done")), jobs)


@dataclass(frozen=True)
class WrittenStudyReport(Figures):
    """The table of a study, and where it was written.

    Attributes:
        report: The contents of its report.json.
        files: Format -> the file.
    """

    report: StudyReport = field(metadata=spread())
    files: dict[str, str]
