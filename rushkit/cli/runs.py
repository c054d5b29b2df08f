"""``rushkit runs list|show|best|export|remove|clean``; ``compare`` has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli import runs_compare
from rushkit.cli.complete import complete_runs
from rushkit.cli.options import NAMES_A_RUN, Json, Output, RunsDir
from rushkit.errors import UsageError, shell_line
from rushkit.rounding import counted

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rushkit.report.ranking import Ranking
    from rushkit.run.info import RunInfo

app = typer.Typer(help="List runs, show one, compare several, rank, export and remove them.", no_args_is_help=True)
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="KEY=VALUE",
        help="Only runs with this verb, recipe, status, noise, seed, id or recipe key; * is any text; may be repeated.",
    ),
]
RunNames = Annotated[list[str], typer.Argument(metavar="RUN...", help=f"{NAMES_A_RUN}.", autocompletion=complete_runs)]
Yes = Annotated[bool, typer.Option("--yes", help="Delete them without asking.")]

# The verbs that take --resume.
_RESUMED = ("pretrain", "finetune", "evaluate", "attack", "audit", "certify")
# How many measurements of a model are shown.
_MOST_MEASURED = 40

app.command("compare", epilog=runs_compare.EXAMPLE)(runs_compare.command)


@app.command("list", epilog="Example: rushkit runs list --filter recipe=digits --sort size")
def list_runs(
    filters: Filters = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="COLUMN", help="date, size, verb, recipe, noise, seed or status.")
    ] = "date",
    reverse: Annotated[bool, typer.Option("--reverse", help="In reverse order.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Every run, newest first, with its date, noise, seed, size and figure."""
    from rushkit.documents.runs import ListedRun, RunList
    from rushkit.report.listing import listed_runs
    from rushkit.report.terminal.headline import figure_of
    from rushkit.report.terminal.listing import RunsTable
    from rushkit.run.index import RunIndex, uncollected

    with uncollected(), RunIndex(runs_dir) as index:
        rows = listed_runs(runs_dir, filters or [], sort, reverse, index)
        fit = " that fit" if filters else ""
        table = RunsTable(rows) if rows and not json else f"there are no runs{fit} in {runs_dir}"
    shown = [ListedRun.of(row, figure_of(row.run, row.record).words) for row in rows] if json else []
    Output(json).result(RunList(shown, sum(row.bytes for row in rows)).plain(), table)


@app.command("show", epilog="Example: rushkit runs show RUN")
def show(
    run: Annotated[str, typer.Argument(help=f"{NAMES_A_RUN}.", autocompletion=complete_runs)],
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """A run: its settings, its figures, what was measured of it, what it builds on, and how to go on with it."""
    from rich.text import Text

    from rushkit.documents.runs import ShownRun
    from rushkit.report.numbers import numbers_of
    from rushkit.report.terminal.headline import figures, needs_protocol_note
    from rushkit.results.words import PROTOCOL_NOTE
    from rushkit.run import lineage
    from rushkit.run.info import find_runs, read_run_file
    from rushkit.run.named import run_named
    from rushkit.run.shipped import model_card
    from rushkit.run.size import size_of

    info, note = run_named(run, runs_dir)
    path = info.path
    about = read_run_file(path)
    around = find_runs(path.resolve().parent)
    parents = lineage.parents(around)
    name = path.resolve().name
    parent = parents.get(name)
    children = sorted(other for other, above in parents.items() if above == name)
    results = info.record()
    shown_figures = [*info.damage(), *(figures(results) if results else [])]
    measured, needs_note = _measured(info)
    steps = _next_steps(info, path)
    shown = {
        key: value for key, value in about.to_table().items() if key not in ("sessions", "schema", "status", "argv")
    }
    lines = [*([f"note: {note}"] if note else []), str(path), f"status: {info.status}"]
    lines += [f"{key}: {_words(value)}" for key, value in shown.items()]
    lines += [f"built on: {parent or 'no run in this folder'}"]
    lines += [f"builds on it: {', '.join(children) or 'no run in this folder'}"]
    lines += ["results:" if shown_figures else "results: none", *(f"  {line}" for line in shown_figures)]
    lines += ["measured of it:", *(f"  {line}" for line in measured)] if measured else []
    if needs_note or (results and needs_protocol_note(results)):
        lines += [f"  {line}" for line in PROTOCOL_NOTE.splitlines()]
    lines += [f"{what}: {command}" for what, command in steps.items()]
    lines += [f"files: {', '.join(sorted(file.name for file in path.iterdir()))}"]
    if card := model_card(path):
        lines[:0] = [*card.splitlines(), ""]
    numbers = numbers_of(results)
    found = ShownRun(about, parent, children, measured, shown_figures, numbers, size_of(path), steps, card or None)
    Output(json).result(found.plain(), Text("\n".join(lines)))


@app.command("best", epilog="Example: rushkit runs best --by robust_accuracy")
def best(
    by: Annotated[
        str, typer.Option("--by", metavar="FIGURE", help="accuracy, robust_accuracy, loss, ...")
    ] = "accuracy",
    filters: Filters = None,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs ranked by a figure, the best first, among those that were measured alike."""
    from rich.console import Group
    from rich.text import Text

    from rushkit.documents.runs import BestRuns
    from rushkit.report.listing import listed_runs
    from rushkit.report.ranking import rankings
    from rushkit.results.words import PROTOCOL_NOTE

    ranked = rankings(listed_runs(runs_dir, filters or []), by)
    found = BestRuns(by, ranked[0].rows[0], ranked)
    notes = [Text(PROTOCOL_NOTE)] if any("strict" not in one.what for one in ranked) and by == "robust_accuracy" else []
    Output(json).result(found.plain(), Group(*map(_ranking_table, ranked), *notes))


@app.command("export", epilog="Example: rushkit runs export digits --to exported")
def export(
    runs: RunNames,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where figures, metrics and outcomes go.")],
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Figures, metrics and outcomes of runs as CSV; for a model also those of everything that was measured of it."""
    from rushkit.documents.runs import ExportedRuns
    from rushkit.report.families import gather
    from rushkit.report.spreadsheet import export_runs
    from rushkit.run.named import run_named

    chosen: dict[Path, RunInfo] = {}
    for spec in runs:
        run, note = run_named(spec, runs_dir)
        members = gather(run).runs if run.stage in ("finetune", "pretrain") else (run,)
        chosen |= {member.path: member for member in members}
        if note:
            Output(json).speaker().warn(note)
    files = export_runs(list(chosen.values()), to, force)
    lines = [_runs(len(chosen)), *(f"written: {file}" for file in files)]
    Output(json).result(ExportedRuns(list(chosen), files).plain(), "\n".join(lines))


@app.command("remove", epilog="Example: rushkit runs remove 3fa9c1")
def remove_runs(
    runs: RunNames,
    children: Annotated[bool, typer.Option("--with-children", help="Also all that depends on them.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Delete them even if runs that stay depend on them.")] = False,
    yes: Yes = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Delete runs: it asks first, and refuses runs in progress and those that others depend on."""
    from rushkit.documents.runs import RemovedRun, RemovedRuns
    from rushkit.rounding import size_words
    from rushkit.run.named import run_named
    from rushkit.run.remove import plan_removal, remove
    from rushkit.run.size import size_of

    named = [run_named(spec, runs_dir) for spec in runs]
    doomed = plan_removal([run for run, _ in named], children, force)
    sizes = {run.path: size_of(run.path) for run in doomed}
    speaker = Output(json).speaker()
    for note in filter(None, (note for _, note in named)):
        speaker.warn(note)
    lines = [f"{run.path.name}: {run.verb or run.status}, {size_words(sizes[run.path])}" for run in doomed]
    total = f"{_runs(len(doomed))}, {size_words(sum(sizes.values()))}"
    if not yes:
        _ask(lines, total)
    deleted = remove(doomed)
    rows = [RemovedRun(run.path, sizes[run.path]) for run in deleted]
    said = f"{_runs(len(deleted))}, {size_words(sum(sizes[run.path] for run in deleted))}: deleted"
    kept = [f"{run.path.name} stays: it was resumed meanwhile" for run in doomed if run not in deleted]
    Output(json).result(RemovedRuns(rows).plain(), "\n".join([*(lines if yes else []), said, *kept]))


@app.command("clean", epilog="Example: rushkit runs clean --yes")
def clean(
    resumable: Annotated[bool, typer.Option("--resumable", help="Also those that --resume could go on with.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them; default: list them.")] = False,
    runs_dir: RunsDir = "runs",
    json: Json = False,
) -> None:
    """Runs that stopped without results and that nothing builds on: list them, or delete them with --yes."""
    from rich.console import Group
    from rich.table import Table

    from rushkit.documents.runs import LeftoverRun, LeftoverRuns
    from rushkit.run.clean import delete_run, find_leftovers
    from rushkit.run.info import find_runs

    runs = find_runs(runs_dir)
    # Under its lock a run is looked at again before it is deleted: it may have been resumed since it was listed.
    leftovers = [left for left in find_leftovers(runs, resumable) if not yes or delete_run(left.run, runs)]
    table = Table("run", "status", "MiB", "could be resumed")
    rows = []
    for left in leftovers:
        rows.append(LeftoverRun(left.run.path, left.run.status, left.bytes, left.resumable))
        mebibytes = f"{left.bytes / 2**20:.1f}"
        table.add_row(left.run.path.name, left.run.status, mebibytes, "yes" if left.resumable else "")
    total = sum(left.bytes for left in leftovers) / 2**20
    words = f"{counted(len(leftovers), 'run')}, {total:.1f} MiB: " + ("deleted" if yes else "delete them with --yes")
    text = Group(table, words) if leftovers else f"nothing to clean in {runs_dir}"
    Output(json).result(LeftoverRuns(rows, yes).plain(), text)


def _measured(model: RunInfo) -> tuple[list[str], bool]:
    """Return a line for each run that measured a model, and whether one needs the note on protocols."""
    from rushkit.report.families import gather
    from rushkit.report.terminal.headline import figure_of

    if model.stage not in ("finetune", "pretrain"):
        return [], False
    members = [run for run in gather(model).runs if run.stage not in ("finetune", "pretrain", "import")]
    figures = [(run, figure_of(run, run.record())) for run in members[-_MOST_MEASURED:]]
    lines = [f"{run.verb} {run.path.name}: {figure.words or run.status}" for run, figure in figures]
    return lines, any(figure.needs_note for _, figure in figures)


def _ranking_table(ranking: Ranking) -> RenderableType:
    from rich.table import Table

    from rushkit.report.beside import number_cell

    table = Table(title=f"{ranking.by.replace('_', ' ')}: {ranking.what}", title_justify="left")
    for head in ("", "id", "model", "recipe", "noise", "figure", "images"):
        table.add_column(head, overflow="fold", no_wrap=head in ("id", "model"))
    for row in ranking.rows:
        images = "" if row.number.images is None else str(row.number.images)
        table.add_row(str(row.rank), row.id, row.model, row.recipe, row.noise, number_cell(row.number), images)
    return table


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _ask(lines: Sequence[str], total: str) -> None:
    """Ask whether runs shall be deleted. Raises UsageError for no, and where nobody can be asked."""
    import sys

    from rushkit.errors import showable

    if not sys.stdin.isatty():
        raise UsageError(f"{total}: nothing was deleted, for nobody can be asked here", "delete them with --yes")
    sys.stderr.write(showable("\n".join([*lines, ""])))
    if not typer.confirm(f"delete {total}?", err=True):
        raise UsageError("nothing was deleted", "`rushkit runs list` shows the runs")


def _next_steps(run: RunInfo, path: Path) -> dict[str, str]:
    """Return what one would do with a run: go on with it, measure it, or do the same again."""
    from rushkit.report.words import command_of
    from rushkit.run.info import STOPPED
    from rushkit.run.shipped import name_of

    steps = {}
    if run.status in STOPPED and run.verb in _RESUMED:
        steps["go on with it"] = shell_line("rushkit", run.verb, "--resume", "--run", path)
    elif run.status == "finished" and run.stage == "pretrain":
        steps["fine-tune it"] = shell_line("rushkit", "finetune", "--from", path)
    elif run.status == "finished" and run.stage == "finetune":
        name = name_of(path) or path
        steps["measure it"] = f"{shell_line('rushkit', 'evaluate', '--from', name)}, and attack, audit, certify, report"
    elif run.status == "finished" and run.verb == "cluster":
        steps["train on its labels"] = f"{shell_line('--set', f'pretrain.labels={path.name}')}, or finetune.labels"
    steps["started with"] = command_of(run) or "a Python program"
    return steps


def _words(value: object) -> str:
    """Return a value of run.json on one line."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)
