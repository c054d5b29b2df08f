"""The plan of a study: its jobs, what each waits for, and the cells of its table that they fill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from rushkit.study.job import Job, Role


@dataclass(frozen=True)
class Planned:
    """A job in a plan.

    Attributes:
        id: Its identity.
        job: What it computes.
        needs: The ids of the jobs that must be done before it.
        sources: Role -> the path of a run or checkpoint that no job of the plan makes.
    """

    id: str
    job: Job
    needs: tuple[str, ...] = ()
    sources: tuple[tuple[Role, Path], ...] = ()


@dataclass(frozen=True)
class Cell:
    """A stage of a row for one seed: what the table shows in one place.

    Attributes:
        row: The label of the row.
        seed: The seed.
        stage: The label of the stage in its row.
        job: The id of the job that fills it; several cells may share one.
    """

    row: str
    seed: int
    stage: str
    job: str


@dataclass(frozen=True)
class Plan:
    """All jobs of a study.

    Attributes:
        study: The name of the study.
        jobs: Id -> job, each after those that it needs.
        cells: The cells, in the order of the study's rows, seeds and stages.
        title: What stands over the table.
        file: The study's file.
        rows: The label of each row, those of published figures alone among them -> the keys of its published rows.
        engines: The options of engines that the file has, by name.
    """

    study: str
    jobs: dict[str, Planned]
    cells: tuple[Cell, ...]
    title: str = ""
    file: Path | None = None
    rows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    engines: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)

    @property
    def kept(self) -> Path | None:
        """The folder beside the study's file where results may be kept; None without a file."""
        return None if self.file is None else self.file.with_suffix("")

    def dependants(self, job: str) -> Iterator[str]:
        """Yield the ids of all jobs that need a job, whether directly or not, in order."""
        waiting = {job}
        for planned in self.jobs.values():
            if waiting & set(planned.needs):
                waiting.add(planned.id)
                yield planned.id
