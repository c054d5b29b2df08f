"""Tables that are defined once: which columns a medium shows, and how each writes a cell."""

from __future__ import annotations

import io
import re

import pytest
from jinja2 import UndefinedError
from rich.console import Console

from rushkit.report.page import render
from rushkit.report.table import MARKDOWN, PAGE, TERMINAL, TEXT, Cell, Column, Heading, Table, build_table, column
from rushkit.report.terminal.render import render_table

EVIL = "<i>|`x`"
COLUMNS: list[Column[int]] = [
    column("name", lambda row: Cell(f"n{row}", ("small",), f"n{row} in one line"), left=True),
    column("only here", lambda row: row, media=PAGE),
    column("only there", lambda row: row, media=MARKDOWN),
    column("both", lambda row: row, line="both %", media=TEXT),
]


@pytest.mark.parametrize(
    ("medium", "names"),
    [("page", ["name", "only here"]), ("markdown", ["name", "only there", "both"]), ("terminal", ["name", "both"])],
)
def test_a_medium_shows_its_columns(medium, names):
    shown = build_table([1, 2], COLUMNS).on(medium)
    assert [heading.text for heading in shown.headings] == names
    assert [len(row) for row in shown.rows] == [len(names)] * 2


def test_columns_of_one_group_share_a_head():
    headings = tuple(Heading(name, group=group) for name, group in (("a", ""), ("b", "g"), ("c", "g"), ("d", "h")))
    assert [(name, width) for name, width, _ in Table(headings, ()).groups] == [("", 1), ("g", 2), ("h", 1)]


def in_html(table: Table) -> str:
    template = '{% import "parts.html.j2" as parts %}{{ parts.table(table, caption) }}'
    return render._html().from_string(template).render(table=table, caption=EVIL)


def in_markdown(table: Table) -> str:
    return render._markdown().get_template("table.md.j2").render(table=table)


def test_the_page_has_a_cell_with_its_small_print_and_escapes_whatever_it_says():
    cell = Cell(EVIL, (EVIL,), kind=f'"{EVIL}', label=f'"{EVIL}')
    written = in_html(Table((Heading(EVIL),), ((cell,),)))
    assert "<i>" not in written
    assert written.count("&lt;i&gt;") == 7
    assert re.search(r"<th [^<>]*>&lt;i&gt;\|`x`<small>&lt;i&gt;\|`x`</small></th>", written)


def test_markdown_and_the_terminal_have_a_cell_in_one_line():
    table = build_table([1], COLUMNS)
    assert in_markdown(table).splitlines() == [
        "| name | only there | both % |",
        "| --- | ---: | ---: |",
        "| n1 in one line | 1 | 1 |",
    ]
    console = Console(file=io.StringIO(), width=80)
    console.print(render_table(table))
    assert "n1 in one line" in console.file.getvalue()


def test_markdown_escapes_what_a_template_puts_in_and_nothing_else():
    written = in_markdown(Table((Heading(EVIL, media=MARKDOWN | TERMINAL),), ((Cell(f"{EVIL}\n2"),),)))
    assert written.splitlines()[0] == r"| \<i\>\|\`x\` |"
    assert written.splitlines()[2] == r"| \<i\>\|\`x\` 2 |"


@pytest.mark.parametrize("environment", [render._html, render._markdown])
def test_a_name_that_a_template_misspells_is_an_error_and_no_gap(environment):
    with pytest.raises(UndefinedError):
        environment().from_string("{{ documnt }}").render(document=1)
