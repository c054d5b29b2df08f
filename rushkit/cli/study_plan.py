"""``rushkit study plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import Json, Output, RunsDir

NAME = "plan"
EXAMPLE = "Example: rushkit study plan digits"


def command(
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a TOML file.")],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """The jobs of a study, each with what it waits for."""
    from rushkit.study.make import plan_study

    plan = plan_study(study, runs_dir)
    lines = [
        f"{job.id[:16]}  {job.job.stage}"
        + (f"  needs {', '.join(need[:16] for need in job.needs)}" if job.needs else "")
        for job in plan.jobs.values()
    ]
    data = {"study": plan.study, "jobs": [{"id": job.id, "needs": list(job.needs)} for job in plan.jobs.values()]}
    Output(json).result(data, "\n".join(lines))
