"""``rushkit study work``: what engines start."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.errors import showable
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from rushkit.results.base import StageResults
    from rushkit.run.folder import Run

NAME = "work"
EXAMPLE = "Example: rushkit study work --job ID --runs runs"


def command(
    runs: Annotated[str, typer.Option("--runs", metavar="DIR", help="The folder of runs.", callback=expand_text)],
    job: Annotated[
        str | None, typer.Option("--job", metavar="ID", help="The job; default: each that standard input names.")
    ] = None,
    leash: Annotated[bool, typer.Option("--leash", help="End at once when the standard input closes.")] = False,
) -> None:
    """Do a job of a study; `study run` calls it. Exit code 4: another process works on it."""
    from rushkit.study.worker import Leash, work_on_many

    # Before anything that takes long: whoever started this may be gone by then.
    held = Leash() if leash or job is None else None
    from rushkit.study.engines.worker_process import BUSY
    from rushkit.study.places import Places
    from rushkit.study.work import work_on

    if job is None:
        assert held is not None
        raise typer.Exit(work_on_many(Path(runs), held, draw_figures))
    ended = work_on(Places(Path(runs)), job, draw_figures)
    if ended.failure is not None:
        hint = f"\nhint: {ended.failure.hint}" if ended.failure.hint else ""
        sys.stderr.write(showable(f"error: {ended.failure.message}{hint}\n"))
    raise typer.Exit({"done": 0, "failed": 1, "busy": BUSY}[ended.how])


def draw_figures(run: Run, results: StageResults) -> None:
    """Draw the figures that the stage's own command draws."""
    from rushkit.results.auditing import Audit
    from rushkit.results.certification import Certification

    if isinstance(results, Certification):
        from rushkit.report.pictures.of_runs import draw_certification

        draw_certification(results, run.subfolder("figures"))
    elif isinstance(results, Audit):
        from rushkit.report.pictures.of_runs import draw_audit

        draw_audit(results, run.subfolder("figures"))
