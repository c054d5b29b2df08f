"""``rushkit runs list|show|compare|clean``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rushkit.cli.complete import complete_run_folders, complete_runs
from rushkit.cli.options import Json, Output
from rushkit.errors import UsageError, shell_line
from rushkit.paths import is_folder

if TYPE_CHECKING:
    from rushkit.run.info import RunInfo

app = typer.Typer(help="List runs, show one, compare several, clean up.", no_args_is_help=True)
RunsDir = Annotated[
    str, typer.Option("--runs-dir", envvar="RUSHKIT_RUNS", help="The folder of runs.", show_default=True)
]

# The verbs that take --resume.
_RESUMED = ("pretrain", "finetune", "attack", "audit", "certify")


@app.command("list", epilog="Example: rushkit runs list")
def list_runs(runs_dir: RunsDir = "runs", json: Json = False) -> None:
    """Every run, newest first."""
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from rushkit.report.terminal.headline import figure_of, is_no_robustness
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run.info import find_runs

    found = find_runs(runs_dir)
    table = Table("run", "verb", "recipe", "status", "figure")
    rows: list[dict[str, Any]] = []
    for run in found:
        figure = figure_of(run)
        rows.append(
            {"run": str(run.path), "verb": run.verb, "recipe": run.recipe, "status": run.status, "figure": figure}
        )
        table.add_row(run.path.name, run.verb, run.recipe, run.status, figure)
    parts: list[RenderableType] = [table]
    if any(is_no_robustness(row["figure"]) for row in rows):
        parts.append(Text(PROTOCOL_NOTE))
    Output(json).result({"runs": rows}, Group(*parts) if rows else f"there are no runs in {runs_dir}")


@app.command("show", epilog="Example: rushkit runs show RUN")
def show(
    run: Annotated[
        str,
        typer.Argument(help="A run folder, or its name in the folder of runs.", autocompletion=complete_run_folders),
    ],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """What a run was made with, what came out, what it builds on and what builds on it, and how to go on with it."""
    from rushkit.report.terminal.headline import figures, needs_protocol_note
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run import lineage
    from rushkit.run.info import find_runs, read_run_file

    path = Path(run) if is_folder(run) else Path(runs_dir) / run
    if not is_folder(path):
        raise UsageError(f"there is no run {run!r} in {runs_dir}", "`rushkit runs list` shows them")
    facts = read_run_file(path).to_table()
    around = find_runs(path.resolve().parent)
    info = next(each for each in around if each.path.name == path.resolve().name)
    above = lineage.parents(around)
    results = info.record()
    parent = above[info.path.name]
    children = sorted(name for name, each in above.items() if each == info.path.name)
    damage = info.damage()
    found, steps = [*damage, *(figures(results) if results else [])], _next_steps(info, path)
    shown = {key: value for key, value in facts.items() if key not in ("sessions", "schema", "status", "argv")}
    lines = [str(path), f"status: {info.status}"]
    lines += [f"{key}: {_words(value)}" for key, value in shown.items()]
    lines += [f"built on: {parent or 'no run in this folder'}"]
    lines += [f"builds on it: {', '.join(children) or 'no run in this folder'}"]
    lines += ["results:" if found else "results: none", *(f"  {line}" for line in found)]
    if results and needs_protocol_note(results):
        lines += [f"  {line}" for line in PROTOCOL_NOTE.splitlines()]
    lines += [f"{what}: {command}" for what, command in steps.items()]
    lines += [f"files: {', '.join(sorted(each.name for each in path.iterdir()))}"]
    said = {"parent_run": parent, "children": children, "figures": found, "next": steps}
    Output(json).result({**facts, **said}, "\n".join(lines))


@app.command("compare", epilog="Example: rushkit runs compare RUN RUN")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, their names, or recipes' names (the newest model).",
            autocompletion=complete_runs,
        ),
    ],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs side by side: figures, the recipe keys in which they differ, and McNemar's test where they share images."""
    from rushkit.report.compare import recipe_differences, significance
    from rushkit.report.families import Family, choose_run, gather, recipe_of_run
    from rushkit.report.tables.comparison import is_no_bound
    from rushkit.report.terminal.comparison import comparison_table
    from rushkit.report.terminal.headline import figure_of, is_no_robustness

    if len(runs) < 2:
        raise UsageError("one run cannot be compared", "name two or more: rushkit runs compare RUN RUN")
    chosen = [choose_run(spec, runs_dir) for spec in runs]
    names = [run.path.name for run in chosen]
    # A measurement stands for itself, a model for all that was measured of it.
    measured = ("evaluate", "attack")
    families = [Family(run, (run,)) if run.verb in measured else gather(run) for run in chosen]
    facts = {
        "verb": [run.verb for run in chosen],
        "recipe": [run.recipe for run in chosen],
        "status": [run.status for run in chosen],
        "started": [run.started[:19] for run in chosen],
        "machine": [run.about.machine for run in chosen],
        "figure": [figure_of(run) for run in chosen],
    }
    differing = recipe_differences([recipe_of_run(run) for run in chosen])
    tests = significance(families, [name.rpartition("-")[2] for name in names])
    note = any(map(is_no_robustness, facts["figure"])) or any(is_no_bound(test.what) for test in tests)
    table = comparison_table(names, {**facts, **differing}, tests, note)
    data = {"runs": [str(run.path) for run in chosen], **facts, "recipes": differing}
    Output(json).result({**data, "significance": [test.plain() for test in tests]}, table)


@app.command("clean", epilog="Example: rushkit runs clean --yes")
def clean(
    resumable: Annotated[bool, typer.Option("--resumable", help="Also those that --resume could go on with.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; else they are listed.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs that stopped without results and that nothing builds on: list them, or delete them with --yes."""
    from rich.console import Group
    from rich.table import Table

    from rushkit.run.clean import delete_run, find_leftovers
    from rushkit.run.info import find_runs

    listed = find_runs(runs_dir)
    found = find_leftovers(listed, resumable)
    # Under its lock each is looked at again: it may have been resumed since it was listed.
    found = [leftover for leftover in found if not yes or delete_run(leftover.run, listed)]
    table = Table("run", "status", "MiB", "could be resumed")
    rows = []
    for leftover in found:
        run = leftover.run
        rows.append({"run": str(run.path), "status": run.status, "bytes": leftover.bytes})
        rows[-1]["resumable"] = leftover.resumable
        table.add_row(run.path.name, run.status, f"{leftover.bytes / 2**20:.1f}", "yes" if leftover.resumable else "")
    total = sum(leftover.bytes for leftover in found) / 2**20
    said = f"{len(found)} runs, {total:.1f} MiB: " + ("deleted" if yes else "delete them with --yes")
    text = Group(table, said) if found else f"nothing to clean in {runs_dir}"
    Output(json).result({"runs": rows, "deleted": bool(yes)}, text)


def _next_steps(run: RunInfo, path: Path) -> dict[str, str]:
    """What one would do with a run: go on with it, measure it, or do the same again."""
    from rushkit.report.words import command_of
    from rushkit.run.info import STOPPED

    steps = {}
    if run.status in STOPPED and run.verb in _RESUMED:
        steps["go on with it"] = shell_line("rushkit", run.verb, "--resume", "--run", path)
    elif run.status == "finished" and run.stage == "pretrain":
        steps["fine-tune it"] = shell_line("rushkit", "finetune", "--from", path)
    elif run.status == "finished" and run.stage == "finetune":
        steps["measure it"] = f"{shell_line('rushkit', 'evaluate', '--from', path)}, and attack, audit, certify, report"
    steps["started with"] = command_of(run) or "a Python program"
    return steps


def _words(value: Any) -> str:
    """A value of run.json on a line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(each)}" for key, each in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
