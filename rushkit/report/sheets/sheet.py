"""What a sheet is: tables and lines of text, which a terminal prints and a notebook shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

from rushkit.report.table import Column, Table, build_table, column


@dataclass(frozen=True)
class Titled:
    """A table with what stands above it.

    Attributes:
        table: The table.
        title: Its title; empty: the table's caption, if it has one.
        left: Whether a terminal aligns the title left.
    """

    table: Table
    title: str = ""
    left: bool = False

    @property
    def words(self) -> str:
        """What stands above the table; empty for nothing."""
        return self.title or self.table.caption


@dataclass(frozen=True)
class Code:
    """Lines that are to be copied as they stand."""

    lines: tuple[str, ...]


Part = Titled | Code | str
# Tables, and lines of text between them.
Sheet = tuple[Part, ...]


def facts(title: str, rows: Mapping[str, object]) -> Titled:
    """Return names and values as a table without a header; a value that is None or empty is left out."""
    columns: list[Column[tuple[str, object]]] = [
        column("", lambda row: row[0], left=True),
        column("", lambda row: str(row[1]), left=True),
    ]
    return Titled(build_table([row for row in rows.items() if row[1] not in (None, "")], columns), title)


@singledispatch
def sheet_of(record: object) -> Sheet:
    """Return the tables and sentences of what a stage returned, the same for a terminal and a notebook.

    Example::

        sheet_of(rushkit.results.read("runs/20300101-000000-evaluate-cifar10-0a1b2c"))

    Raises:
        TypeError: it is no record of a stage.
    """
    raise TypeError(f"{type(record).__name__} is no record of a stage")
