"""Tables that are defined once, of which the page, Markdown and the terminal each show the columns meant for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

Medium = Literal["page", "markdown", "terminal"]
PAGE: frozenset[Medium] = frozenset({"page"})
MARKDOWN: frozenset[Medium] = frozenset({"markdown"})
TERMINAL: frozenset[Medium] = frozenset({"terminal"})
# The media without small print: a cell is one line there.
TEXT: frozenset[Medium] = MARKDOWN | TERMINAL
EVERYWHERE: frozenset[Medium] = PAGE | TEXT

Row = TypeVar("Row")


@dataclass(frozen=True)
class Cell:
    """The content of one cell of a table.

    Attributes:
        text: The figure or word.
        small: Small print under it, one entry per line; on the page only.
        line: Text and small print in one line, for the other media; None: the text alone.
        strong: Whether the page prints the text bold.
        kind: CSS classes on the page; None: those of the column.
        label: The name of the cell on a narrow page, which has no header row; None: that of the column.
        key: The number of the colour that marks a model.
        shade: How strongly the cell of a confusion matrix is coloured, from 0 to 1.
        style: Its rich style in the terminal.
        href: Where the page and Markdown link it to, percent-encoded; empty for no link.
    """

    text: str
    small: tuple[str, ...] = ()
    line: str | None = None
    strong: bool = False
    kind: str | None = None
    label: str | None = None
    key: int | None = None
    shade: float | None = None
    style: str = ""
    href: str = ""

    @property
    def flat(self) -> str:
        """The whole cell in one line."""
        return self.text if self.line is None else self.line


EMPTY = Cell("", label="")


@dataclass(frozen=True)
class Heading:
    """The head of a column.

    Attributes:
        text: What stands in it on the page.
        line: What stands in it elsewhere; None: the same.
        left: Whether the column holds words, which are aligned left, and not figures.
        kind: CSS classes of its cells on the page.
        head_kind: CSS classes of the head itself.
        label: The name of its cells on a narrow page; empty for cells that need none.
        group: The head above several columns, on the page only.
        media: Where the column is shown.
    """

    text: str
    line: str | None = None
    left: bool = False
    kind: str = ""
    head_kind: str = ""
    label: str = ""
    group: str = ""
    media: frozenset[Medium] = EVERYWHERE

    @property
    def flat(self) -> str:
        """Its name where there is no page around it."""
        return self.text if self.line is None else self.line


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A heading, and what a row shows under it."""

    heading: Heading
    show: Callable[[Row], Cell | str | int]

    def on(self, media: frozenset[Medium]) -> Column[Row]:
        """Return the same column for these media only."""
        return replace(self, heading=replace(self.heading, media=media))


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells.

    Attributes:
        headings: One for each column.
        rows: As many cells each.
        caption: What stands above the table on the page, and is its title in the terminal.
        kind: On a narrow page ``stack`` tables turn into lists, and of ``sticky`` ones the first column stays in sight.
    """

    headings: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    kind: str = "stack"

    def on(self, medium: Medium) -> Table:
        """Return the columns that a medium shows."""
        places = [place for place, heading in enumerate(self.headings) if medium in heading.media]
        headings = tuple(self.headings[place] for place in places)
        return replace(self, headings=headings, rows=tuple(tuple(row[place] for place in places) for row in self.rows))

    @property
    def groups(self) -> list[tuple[str, int, Heading]]:
        """Name, width and first heading of each run of columns with one group; a column without one is its own."""
        groups: list[tuple[str, int, Heading]] = []
        for heading in self.headings:
            if heading.group and groups and groups[-1][0] == heading.group:
                name, width, first = groups[-1]
                groups[-1] = (name, width + 1, first)
            else:
                groups.append((heading.group, 1, heading))
        return groups

    @property
    def words(self) -> str:
        """Everything that its cells say."""
        return " ".join(" ".join((cell.text, *cell.small)) for row in self.rows for cell in row)


def column(
    text: str,
    show: Callable[[Row], Cell | str | int],
    *,
    line: str | None = None,
    left: bool = False,
    kind: str = "",
    label: str = "",
    media: frozenset[Medium] = EVERYWHERE,
) -> Column[Row]:
    """Return a column whose head needs no classes or group of its own; the arguments are those of ``Heading``.

    Example::

        columns: list[Column[AccuracyRow]] = [
            column("rule", lambda row: row.rule, left=True),
            column("accuracy % [95%]", accuracy_words, media=TEXT),
        ]
        table = build_table(rows, columns)
    """
    head_kind = "text" if left else ""
    return Column(Heading(text, line, left, f"{head_kind} {kind}".strip(), head_kind, label, media=media), show)


def build_table(rows: Iterable[Row], columns: Sequence[Column[Row]], caption: str = "", kind: str = "stack") -> Table:
    """Return the table that these columns make of the rows."""
    cells = tuple(tuple(_cell(column.show(row)) for column in columns) for row in rows)
    return Table(tuple(column.heading for column in columns), cells, caption, kind)


def _cell(shown: Cell | str | int) -> Cell:
    return shown if isinstance(shown, Cell) else Cell(str(shown))
