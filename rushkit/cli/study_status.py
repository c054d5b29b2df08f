"""``rushkit study status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.options import Json, Output, RunsDir

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rushkit.study.plan import Plan
    from rushkit.study.state import Standing

NAME = "status"
EXAMPLE = "Example: rushkit study status digits"
# Failures that the terminal shows; --json has all.
_MOST_FAILURES = 20


def command(
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a TOML file.")],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """How many jobs of a study are done, running, failed, ready or waiting; and why jobs failed."""
    from pathlib import Path

    from rushkit.documents.studies import JobStanding, StudyStatus
    from rushkit.study.make import plan_study
    from rushkit.study.state import counts, standings

    plan = plan_study(study, runs_dir)
    found = standings(plan, Path(runs_dir))
    standing = {job: JobStanding.of(standing) for job, standing in found.items()}
    status = StudyStatus(plan.study, len(found), counts(found), standing)
    Output(json).result(status.plain(), _words(plan, found))


def _words(plan: Plan, found: dict[str, Standing]) -> RenderableType:
    from rich.console import Group
    from rich.table import Table

    from rushkit.study.state import STATES
    from rushkit.study.words import failure_lines, summary, version_lines

    table = Table(title=summary(plan, found))
    table.add_column("row")
    for state in STATES:
        table.add_column(state, justify="right")
    for row in plan.rows:
        jobs = {cell.job for cell in plan.cells if cell.row == row}
        numbers = [sum(found[job].state == state for job in jobs) for state in STATES]
        table.add_row(row, *(str(number) if number else "" for number in numbers))
    return Group(table, *failure_lines(plan, found, _MOST_FAILURES), *version_lines(found))
