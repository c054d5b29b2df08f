"""``rushkit study run``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.imports import take_imports
from rushkit.cli.options import MOST, Output, RunsDir
from rushkit.cli.verb import verb
from rushkit.errors import UsageError, first_few
from rushkit.named_code import ALSO, FLAG, FRONT, SURROGATE, consented, hand_on, name_code
from rushkit.registrations import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from rushkit.study.engines import Engine
    from rushkit.study.load import Study
    from rushkit.study.plan import Plan
    from rushkit.study.run import Outcome
    from rushkit.study.state import Standing

NAME = "run"
EXAMPLE = "Example: rushkit study run digits"


@dataclass(frozen=True)
class Options:
    """What of a study is run, and where."""

    engine: Annotated[
        str, typer.Option("--engine", metavar="NAME", help="What runs the jobs: local, slurm, ray, or a plugin's.")
    ] = "local"
    engine_options: Annotated[
        str | None,
        typer.Option(
            "--engine-options",
            metavar="FILE",
            help="A TOML file with tables engine.NAME; they have precedence over the study's.",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", metavar="N", min=1, max=MOST, help="Jobs at a time; default: one for each GPU, or for each core."
        ),
    ] = None
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ROW", help="This row and what it needs; may be repeated."),
    ] = None
    model: Annotated[
        list[str] | None,
        typer.Option(
            FLAG, metavar="FILE.py:NAME", help="Run this code, which rows of the study name; may be repeated."
        ),
    ] = None
    fronts: Annotated[
        list[str] | None,
        typer.Option(FRONT, metavar="FILE.py:NAME", help="Run this code before models, as rows of the study say."),
    ] = None
    surrogates: Annotated[
        list[str] | None,
        typer.Option(SURROGATE, metavar="FILE.py:NAME", help="Run this code, whose gradients attacks of rows follow."),
    ] = None
    also: Annotated[
        list[str] | None,
        typer.Option(ALSO, metavar="FILE.py:NAME", help="Run this code, an attack of one's own that rows name."),
    ] = None
    reuse: Annotated[bool, typer.Option("--reuse", help="Take results that another version of rushkit made.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False


@verb
def command(
    *,
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="A study's name, or the path of a TOML file.")],
    options: Options,
    runs_dir: RunsDir = "runs",
    output: Output,
) -> None:
    """Do the jobs of a study that are not done yet; again after an interruption, or on several machines."""
    from rushkit.documents.studies import JobsAhead, StudyOutcome
    from rushkit.study.live import watcher_for
    from rushkit.study.load import load_study
    from rushkit.study.make import make_plan
    from rushkit.study.places import Places
    from rushkit.study.run import Driver, asked_for
    from rushkit.study.state import standings

    asked = load_study(study)
    runs = Path(runs_dir)
    plan = make_plan(asked, runs)
    standing = asked_for(plan, standings(plan, runs), options.only or [])
    if not options.reuse:
        _refuse_other_versions(standing)
    if options.dry_run:
        ahead = JobsAhead(plan.study, {job: state.state for job, state in standing.items()})
        output.result(ahead.plain(), _dry_run_words(plan, standing))
        return
    _hand_on_imports(context)
    named = [options.model, options.fronts, options.surrogates, options.also]
    _hand_on_code([code for codes in named for code in codes or []], standing, plan)
    engine = _engine(options, asked)
    try:
        with watcher_for(plan, output.speaker(), len(standing)) as watcher:
            limit = options.jobs or 0
            outcome = Driver(plan, Places(runs), engine, watcher, limit).run(standing)
    finally:
        engine.close()
    output.result(StudyOutcome.of(outcome).plain(), _words(outcome))
    if not outcome.is_whole:
        raise typer.Exit(1)


def _engine(options: Options, asked: Study) -> Engine:
    from rushkit.study.options import make_engine

    flags = {"jobs": options.jobs} if options.jobs and options.engine == "local" else {}
    return make_engine(options.engine, asked.asked.engine, options.engine_options, **flags)


def _hand_on_imports(context: typer.Context) -> None:
    """Let the workers run the files of ``--import``, too."""
    files = take_imports(context.obj or [])[1]
    if files:
        os.environ[VARIABLE] = os.pathsep.join(os.path.abspath(file) for file in dict.fromkeys(files))  # noqa: PTH100


def _hand_on_code(named: Sequence[str], standing: Mapping[str, Standing], plan: Plan) -> None:
    """Let the workers run the code that the user names. Raises UsageError if jobs need other code."""
    for code in named:
        name_code(code)
    left = [plan.jobs[job].job for job, state in standing.items() if state.state != "done"]
    for flag, code in dict.fromkeys(pair for job in left for pair in job.code):
        consented(code, flag)
    if named:
        hand_on(named)


def _refuse_other_versions(standing: Mapping[str, Standing]) -> None:
    """Raise UsageError if another version of rushkit made results that would be taken."""
    others = [state.version for state in standing.values() if state.is_of_another_version]
    if others:
        raise UsageError(
            f"rushkit {first_few(sorted(set(others)))} made the results of {len(others)} jobs, and this is another",
            "--reuse takes them as they are; `rushkit runs remove RUN` removes a run that is to be made anew",
        )


def _dry_run_words(plan: Plan, standing: Mapping[str, Standing]) -> str:
    from rushkit.study.words import cell_names

    names = cell_names(plan)
    left = [names[job] for job, state in standing.items() if state.state != "done"]
    return "\n".join([f"{plan.study}: {len(left)} of {len(standing)} jobs would be run", *left])


def _words(outcome: Outcome) -> RenderableType:
    """Return one table of what failed; a sentence where nothing did."""
    from rich.console import Group
    from rich.table import Table

    failed, blocked = outcome.of("failed"), outcome.of("blocked")
    done = outcome.of("done")
    before = sum(job.before for job in done)
    summary = f"{outcome.study}: {len(done)} of {len(outcome.jobs)} jobs are done"
    summary += f", {before} of them before" if before else ""
    if not failed:
        return summary
    table = Table(title="failed", title_justify="left")
    for name in ("row", "seed", "stage", "why"):
        table.add_column(name)
    for job in failed:
        assert job.failure is not None
        hint = f"\n{job.failure.hint}" if job.failure.hint else ""
        table.add_row(job.cell.row, str(job.cell.seed), job.cell.stage, f"{job.failure.message}{hint}")
    waiting = f"{len(blocked)} more need those that failed" if blocked else "no other job needs them"
    return Group(summary, table, f"{waiting}; the same command tries again")
