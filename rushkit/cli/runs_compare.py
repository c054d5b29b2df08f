"""``rushkit runs compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Json, Output, RunsDir

EXAMPLE = "Example: rushkit runs compare RUN RUN"


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help=f"{NAMES_A_RUN}.", autocompletion=complete_runs)],
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pair",
            metavar="A,B",
            help="Test these two image by image: ids, or places such as 1,3; may be repeated. Of three runs or fewer "
            "every pair is tested.",
        ),
    ] = None,
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Test every pair.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs side by side: figures, the recipe keys in which they differ, and McNemar's test where they share images."""
    from rushkit.documents.runs import ComparedRuns, ToldRuns
    from rushkit.report.compared import compare, said_notes, told_facts
    from rushkit.report.terminal.comparison import comparison_table

    compared = compare(*runs, pairs=pairs or (), all_pairs=all_pairs, runs_dir=runs_dir)
    facts, notes = told_facts(compared), said_notes(compared)
    table = comparison_table(
        compared.names, compared.ids, facts, compared.figures, compared.tests, notes, compared.worst
    )
    data = ComparedRuns(
        runs=list(compared.runs),
        ids=list(compared.ids),
        names=list(compared.names),
        recipes=compared.recipes,
        certificates=list(compared.certificates),
        figures=list(compared.figures),
        worst=list(compared.worst),
        significance=list(compared.tests),
        certified_by=compared.methods.get("certified by"),
        together=compared.methods.get("together"),
        told=ToldRuns(**compared.facts),
    )
    Output(json).result(data.plain(), table)
