"""The runs behind a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rushkit.report.figures import RunFacts
from rushkit.report.links import link_from
from rushkit.report.table import PAGE, Cell, Column, Table, build_table, column
from rushkit.report.tables.cells import name_cell
from rushkit.rounding import duration


def runs_table(runs: Sequence[RunFacts], folder: Path | None = None) -> Table:
    """When, where and from which code each run was made.

    Args:
        runs: The runs.
        folder: Where the page lies, from which they are linked; None: no links.
    """

    def name(run: RunFacts) -> Cell:
        cell = name_cell(run.stage, run.run.replace("\\", "/").rpartition("/")[2])
        return cell if folder is None else replace(cell, href=link_from(folder, run.run))

    columns: list[Column[RunFacts]] = [
        column("run", name, left=True),
        column("status", lambda run: run.status, left=True, label="status"),
        column("took", lambda run: "" if run.seconds is None else duration(run.seconds), kind="line", label="took"),
        column("machine", lambda run: run.machine or "", left=True, label="machine"),
        column("seed", lambda run: "" if run.seed is None else run.seed, label="seed"),
    ]
    if any(run.git for run in runs):
        columns.append(column("code", _code, left=True))
    return build_table(runs, [part.on(PAGE) for part in columns])


def _code(run: RunFacts) -> Cell:
    if not run.git:
        return Cell("")
    return Cell(f"{run.git.commit[:10]}{' with changes' if run.git.dirty else ''}", label="code")
