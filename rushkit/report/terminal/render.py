"""Renders a table for the terminal, with rich."""

from __future__ import annotations

from rich import table as rich_table
from rich.text import Text

from rushkit.report.table import Cell, Table


def render_table(table: Table, title: str = "", left: bool = False) -> rich_table.Table:
    """Return the table of rich that shows a table in the terminal.

    Args:
        table: What it shows.
        title: Above it; empty: the table's caption, if it has one.
        left: Whether the title is aligned left.
    """
    shown = table.on("terminal")
    rendered = rich_table.Table(
        title=title or shown.caption or None,
        title_justify="left" if left else "center",
        show_header=any(heading.flat for heading in shown.headings),
    )
    for heading in shown.headings:
        # Folded and not cut: a radius of many digits is the one that was asked for with its last digit only.
        rendered.add_column(heading.flat, justify="left" if heading.left else "right", overflow="fold")
    for row in shown.rows:
        rendered.add_row(*map(_rendered, row))
    return rendered


def _rendered(cell: Cell) -> Text:
    return Text(cell.flat, style=cell.style)
