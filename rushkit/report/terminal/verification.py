"""A verification in the terminal: the verdict in a sentence, every check, and what may be said."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rushkit.claims.words import CANNOT, CANNOT_CERTIFY
from rushkit.recipe.radius import norm_words
from rushkit.report.table import Cell, Column, Table, build_table, column
from rushkit.report.tables.audits import verdict_cell
from rushkit.report.terminal.render import render_table
from rushkit.results.notes import Check
from rushkit.results.verification import Verification


def verification_table(results: Verification) -> RenderableType:
    """Return each part's verdict in a sentence, its checks, what may be said of it, and what no check shows."""
    parts: list[RenderableType] = []
    for attack in results.attacks:
        parts += [Text(attack.sentence), render_table(_checks(attack.checks), attack.attack), Text(attack.claim)]
    for proved in results.certificates:
        title = f"certificates, {proved.data}, {norm_words(proved.norm)}"
        parts += [Text(proved.sentence), render_table(_checks(proved.checks), title), Text(proved.claim)]
    return Group(*parts, Text(CANNOT if results.attacks else CANNOT_CERTIFY))


def _checks(checks: list[Check]) -> Table:
    columns: list[Column[Check]] = [
        column("check", lambda check: Cell(f"{check.code} {check.name}"), left=True),
        column("verdict", verdict_cell, left=True),
        column("what was seen", lambda check: check.says, left=True),
    ]
    return build_table(checks, columns)
