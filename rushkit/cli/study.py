"""``rushkit study list|plan|run|status|report|work``: the verbs of studies, each in a file of its own."""

from __future__ import annotations

import typer

from rushkit.cli import study_list, study_plan, study_report, study_run, study_status, study_work

VERBS = (study_list, study_plan, study_run, study_status, study_report, study_work)

app = typer.Typer(
    help="Plan, run and report studies: rows of a table, over seeds, stage by stage.", no_args_is_help=True
)
for verb in VERBS:
    app.command(verb.NAME, epilog=verb.EXAMPLE)(verb.command)
