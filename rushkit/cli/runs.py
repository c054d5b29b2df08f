"""``rushkit runs list|show``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rushkit.cli.options import Json, Output
from rushkit.errors import UsageError

app = typer.Typer(help="List runs and show one.", no_args_is_help=True)
RunsDir = Annotated[
    str, typer.Option("--runs-dir", envvar="RUSHKIT_RUNS", help="The folder of runs.", show_default=True)
]


@app.command("list", epilog="Example: rushkit runs list")
def list_runs(runs_dir: RunsDir = "runs", json: Json = False) -> None:
    """Every run, newest first."""
    from rich.table import Table

    from rushkit.run.find import find_runs

    found = find_runs(runs_dir)
    table = Table("run", "verb", "recipe", "status", "figure")
    rows: list[dict[str, Any]] = []
    for run in found:
        figure = headline(run.results() or {})
        rows.append(
            {"run": str(run.path), "verb": run.verb, "recipe": run.recipe, "status": run.status, "figure": figure}
        )
        table.add_row(run.path.name, run.verb, run.recipe, run.status, figure)
    Output(json).result({"runs": rows}, table if rows else f"there are no runs in {runs_dir}")


@app.command("show", epilog="Example: rushkit runs show RUN")
def show(
    run: Annotated[str, typer.Argument(help="A run folder, or its name in the folder of runs.")],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """What a run was made with and what came out."""
    from rushkit.run.folder import read_run_file

    path = Path(run) if Path(run).is_dir() else Path(runs_dir) / run
    if not path.is_dir():
        raise UsageError(f"there is no run {run!r} in {runs_dir}", "`rushkit runs list` shows them")
    facts = read_run_file(path)
    lines = [f"{key}: {value}" for key, value in facts.items() if key not in ("sessions", "schema")]
    Output(json).result(
        facts, "\n".join([str(path), *lines, f"files: {', '.join(sorted(each.name for each in path.iterdir()))}"])
    )


def headline(results: dict[str, Any]) -> str:
    """The one figure of a run that a list has room for."""
    from rushkit.report.tables import percent

    if results.get("stage") == "evaluate":
        row = results["accuracy"][-1]
        return f"{percent(row['accuracy'])} % at m = {row['samples']}"
    if results.get("stage") == "attack":
        rows = [row for row in results["attacks"] if row["protocol"] == "strict"] or results["attacks"]
        last = rows[-1]
        return f"{percent(last['rules']['majority']['accuracy'])} % {last['attack']} {last['protocol']}"
    if "knn_accuracy" in results:
        return f"kNN {percent(results['knn_accuracy'])} %"
    return f"loss {results['loss']:.3f}" if "loss" in results else ""
