"""What a notebook shows in place of a repr: the tables of a record, and the page of a report."""

from __future__ import annotations

from rushkit.errors import showable
from rushkit.report.page.render import render_html
from rushkit.report.sheets import sheet_of


def record_html(record: object) -> str:
    """Return what a stage returned as HTML: its tables, and the sentences that belong to them.

    Whatever the record quotes is escaped, also what neither HTML nor JSON can hold: it may be of other people's runs.

    Example::

        (folder / "accuracy.html").write_text(record_html(rushkit.evaluate(recipe, model)))

    Raises:
        TypeError: it is no record of a stage.
    """
    return showable(render_html("record.html.j2", sheet=sheet_of(record), run=getattr(record, "run", "")))
