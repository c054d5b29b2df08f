"""``rushkit runs list|show|compare|clean``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Json, Output
from rushkit.errors import UsageError, shell_line

if TYPE_CHECKING:
    from pathlib import Path

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
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from rushkit.report.terminal.headline import figure_of
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run.info import find_runs

    runs = [(run, figure_of(run)) for run in find_runs(runs_dir)]
    table = Table("run", "verb", "recipe", "status", "figure")
    rows = []
    for run, figure in runs:
        columns = {"verb": run.verb, "recipe": run.recipe, "status": run.status, "figure": figure.words}
        rows.append({"run": str(run.path), **columns})
        table.add_row(run.path.name, *columns.values())
    notes = [Text(PROTOCOL_NOTE)] if any(figure.needs_note for _, figure in runs) else []
    Output(json).result({"runs": rows}, Group(table, *notes) if rows else f"there are no runs in {runs_dir}")


@app.command("show", epilog="Example: rushkit runs show RUN")
def show(
    run: Annotated[
        str,
        typer.Argument(help=f"{NAMES_A_RUN}.", autocompletion=complete_runs),
    ],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """What a run was made with, what came out, what it builds on and what builds on it, and how to go on with it."""
    from rushkit.report.terminal.headline import figures, needs_protocol_note
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run import lineage
    from rushkit.run.info import find_runs, read_run_file
    from rushkit.run.named import run_named

    info, note = run_named(run, runs_dir)
    path = info.path
    facts = read_run_file(path).to_table()
    around = find_runs(path.resolve().parent)
    parents = lineage.parents(around)
    parent = parents[info.path.name]
    children = sorted(name for name, above in parents.items() if above == info.path.name)
    results = info.record()
    shown_figures = [*info.damage(), *(figures(results) if results else [])]
    steps = _next_steps(info, path)
    shown = {key: value for key, value in facts.items() if key not in ("sessions", "schema", "status", "argv")}
    lines = [*([f"note: {note}"] if note else []), str(path), f"status: {info.status}"]
    lines += [f"{key}: {_words(value)}" for key, value in shown.items()]
    lines += [f"built on: {parent or 'no run in this folder'}"]
    lines += [f"builds on it: {', '.join(children) or 'no run in this folder'}"]
    lines += ["results:" if shown_figures else "results: none", *(f"  {line}" for line in shown_figures)]
    if results and needs_protocol_note(results):
        lines += [f"  {line}" for line in PROTOCOL_NOTE.splitlines()]
    lines += [f"{what}: {command}" for what, command in steps.items()]
    lines += [f"files: {', '.join(sorted(file.name for file in path.iterdir()))}"]
    data = {"parent_run": parent, "children": children, "figures": shown_figures, "next": steps}
    Output(json).result({**facts, **data}, "\n".join(lines))


@app.command("compare", epilog="Example: rushkit runs compare RUN RUN")
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help=f"{NAMES_A_RUN}.",
            autocompletion=complete_runs,
        ),
    ],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs side by side: figures, the recipe keys in which they differ, and McNemar's test where they share images."""
    from rushkit.report.compare import certificate_notes, recipe_differences, significance
    from rushkit.report.families import Family, gather, recipe_of_run
    from rushkit.report.tables.comparison import is_no_bound
    from rushkit.report.terminal.comparison import comparison_table
    from rushkit.report.terminal.headline import figure_of, methods_of
    from rushkit.results.certification import Certification
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run.named import run_named

    if len(runs) < 2:
        raise UsageError("one run cannot be compared", "name two or more: rushkit runs compare RUN RUN")
    compared, said = zip(*(run_named(spec, runs_dir) for spec in runs), strict=True)
    names = [run.path.name for run in compared]
    headlines = [figure_of(run) for run in compared]
    # A measurement stands for itself, a model for all that was measured of it.
    measured = ("evaluate", "attack")
    families = [Family(run, (run,)) if run.verb in measured else gather(run) for run in compared]
    facts = {
        "verb": [run.verb for run in compared],
        "recipe": [run.recipe for run in compared],
        "status": [run.status for run in compared],
        "started": [run.started[:19] for run in compared],
        "machine": [run.about.machine for run in compared],
        "figure": [figure.words for figure in headlines],
    }
    differing = recipe_differences([recipe_of_run(run) for run in compared])
    tests = significance(families, [name.rpartition("-")[2] for name in names])
    methods = methods_of(compared)
    # A certification stands for itself too, though its model's other measurements are compared.
    certified = [
        [results for run, results in family.results(Certification) if chosen.verb != "certify" or run == chosen]
        for chosen, family in zip(compared, families, strict=True)
    ]
    certificates = certificate_notes(names, certified)
    notes = [f"note: {note}" for note in dict.fromkeys([*filter(None, said), *certificates])]
    if any(figure.needs_note for figure in headlines) or any(is_no_bound(test.what) for test in tests):
        notes.append(PROTOCOL_NOTE)
    table = comparison_table(names, {**facts, **methods, **differing}, tests, notes)
    data = {"runs": [str(run.path) for run in compared], **facts, **methods, "recipes": differing}
    data |= {"certificates": certificates, "significance": [test.plain() for test in tests]}
    Output(json).result(data, table)


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

    runs = find_runs(runs_dir)
    # Under its lock a run is looked at again before it is deleted: it may have been resumed since it was listed.
    leftovers = [left for left in find_leftovers(runs, resumable) if not yes or delete_run(left.run, runs)]
    table = Table("run", "status", "MiB", "could be resumed")
    rows = []
    for left in leftovers:
        facts = {"run": str(left.run.path), "status": left.run.status, "bytes": left.bytes, "resumable": left.resumable}
        rows.append(facts)
        mebibytes = f"{left.bytes / 2**20:.1f}"
        table.add_row(left.run.path.name, left.run.status, mebibytes, "yes" if left.resumable else "")
    total = sum(left.bytes for left in leftovers) / 2**20
    words = f"{len(leftovers)} runs, {total:.1f} MiB: " + ("deleted" if yes else "delete them with --yes")
    text = Group(table, words) if leftovers else f"nothing to clean in {runs_dir}"
    Output(json).result({"runs": rows, "deleted": bool(yes)}, text)


def _next_steps(run: RunInfo, path: Path) -> dict[str, str]:
    """Return what one would do with a run: go on with it, measure it, or do the same again."""
    from rushkit.report.words import command_of
    from rushkit.run.info import STOPPED

    steps = {}
    if run.status in STOPPED and run.verb in _RESUMED:
        steps["go on with it"] = shell_line("rushkit", run.verb, "--resume", "--run", path)
    elif run.status == "finished" and run.stage == "pretrain":
        steps["fine-tune it"] = shell_line("rushkit", "finetune", "--from", path)
    elif run.status == "finished" and run.stage == "finetune":
        steps["measure it"] = f"{shell_line('rushkit', 'evaluate', '--from', path)}, and attack, audit, certify, report"
    elif run.status == "finished" and run.verb == "cluster":
        steps["train on its labels"] = f"--set pretrain.labels={path.name}, or finetune.labels"
    steps["started with"] = command_of(run) or "a Python program"
    return steps


def _words(value: object) -> str:
    """Return a value of run.json on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
