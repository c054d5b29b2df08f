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


def page_html(page: str, title: str) -> str:
    """Return a whole page as a frame in a notebook, which is apart from the notebook's own page.

    Args:
        page: The page, as HTML; it stands in the frame's own text, so that no file is looked for.
        title: What the frame is called for a reader who does not see it.
    """
    return showable(render_html("frame.html.j2", page=page, title=title))
