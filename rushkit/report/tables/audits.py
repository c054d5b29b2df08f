"""The checks of an audit, and the ratios of a probe."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.report.table import MARKDOWN, PAGE, TERMINAL, TEXT, Cell, Column, Table, build_table, column
from rushkit.results.evaluation import Probe, RatioRow
from rushkit.results.notes import Check
from rushkit.results.words import encoder_words, points_words

# Status -> class on the page, and style in the terminal.
_STATUS = {
    "pass": ("good", "green"),
    "warn": ("warn", "yellow"),
    "fail": ("bad", "bold red"),
    "skipped": ("soft", "dim"),
}


def checks_table(checks: Sequence[Check], caption: str = "") -> Table:
    """Return every check with its verdict, and the sentence behind it."""
    verdict: Column[Check] = column("verdict", verdict_cell, left=True)
    columns: list[Column[Check]] = [
        verdict.on(PAGE | MARKDOWN),
        column("check", lambda check: Cell(f"{check.code} ", (check.name,)), left=True, kind="line", media=PAGE),
        column("code", lambda check: check.code, left=True, media=TEXT),
        column("name", lambda check: check.name, left=True, media=MARKDOWN),
        column("check", lambda check: check.name, left=True, media=TERMINAL),
        verdict.on(TERMINAL),
        column("what was seen", lambda check: check.says, left=True, kind="wide says"),
    ]
    return build_table(checks, columns, caption)


def seen_table(checks: Sequence[Check]) -> Table:
    """Return every check of a verification with its verdict, and what was seen."""
    columns: list[Column[Check]] = [
        column("check", lambda check: f"{check.code} {check.name}", left=True),
        column("verdict", verdict_cell, left=True),
        column("what was seen", lambda check: check.says, left=True),
    ]
    return build_table(checks, columns)


def ratios_table(results: Probe, caption: str = "") -> Table:
    """Return the local Lipschitz ratio of each encoder: its mean and quantiles over the images."""
    columns: list[Column[RatioRow]] = [
        column("encoder", lambda row: encoder_words(row.encoder), left=True),
        column("x'", lambda row: points_words(row.points), left=True),
        column("mean [95%]", _mean),
        *map(_quantile_column, results.rows[0].quantiles),
        column("largest", lambda row: f"{row.largest:.3f}"),
    ]
    return build_table(results.rows, columns, caption, kind="sticky")


def verdict_cell(check: Check) -> Cell:
    """Return the verdict of a check in its colour."""
    kind, style = _STATUS[check.status]
    return Cell(check.status, strong=True, kind=f"text {kind}", style=style)


def _mean(row: RatioRow) -> Cell:
    low, high = f"{row.low:.3f}", f"{row.high:.3f}"
    return Cell(f"{row.mean:.3f}", (f"{low} – {high}",), f"{row.mean:.3f} [{low}, {high}]", strong=True)


def _quantile_column(level: str) -> Column[RatioRow]:
    name = f"{100 * float(level):g} %"
    return column(f"{name} quantile", lambda row: f"{row.quantiles[level]:.3f}", line=name)
