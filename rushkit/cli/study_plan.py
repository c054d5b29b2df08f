"""``rushkit study plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.options import Json, Output, RunsDir

NAME = "plan"
EXAMPLE = "Example: rushkit study plan digits"


def command(
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a TOML file.")],
    runs_dir: RunsDir = "runs",
    no_bench: Annotated[
        bool, typer.Option("--no-bench", help="Count passes only, and do not measure how long one takes here.")
    ] = False,
    json: Json = False,
) -> None:
    """Check a study, and show its jobs: what is done, what each waits for and why it runs, and what it costs."""
    from rushkit.documents.studies import PlannedJob, PlannedStudy
    from rushkit.study.estimate import Estimator
    from rushkit.study.make import plan_study
    from rushkit.study.state import standings
    from rushkit.study.tree import Outlook, tree
    from rushkit.study.words import summary, version_lines

    plan = plan_study(study, runs_dir)
    found = standings(plan, Path(runs_dir))
    estimator = Estimator(timed=not no_bench)
    costs = {job.id: estimator.cost(job.job) for job in plan.jobs.values() if found[job.id].state != "done"}
    outlook = Outlook(plan, found, costs)
    jobs = {job.id: PlannedJob.of(job, found[job.id], costs.get(job.id)) for job in plan.jobs.values()}
    lines = [summary(plan, found), *tree(outlook), *version_lines(found), outlook.together(), estimator.assumes]
    Output(json).result(
        PlannedStudy(plan.study, jobs, plan.cells, estimator.assumes).plain(), "\n".join(filter(None, lines))
    )
