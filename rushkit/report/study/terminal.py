"""The table of a study for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from rushkit.report.study.document import shared_notes, standing_words
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.tables import differences_table, figures_table
from rushkit.report.terminal.render import render_table


def study_tables(report: StudyReport) -> RenderableType:
    """Return rows by columns, the differences to the first row, and what qualifies the figures."""
    parts: list[RenderableType] = [render_table(figures_table(report), f"{report.title}, %", left=True)]
    if (differences := differences_table(report)) is not None:
        parts.append(render_table(differences, "differences to the first row, points", left=True))
    notes = [*report.notes, *shared_notes(report)]
    lines = [f"{report.study}: {standing_words(report.states)}", *(f"note: {note}" for note in notes)]
    lines += dict.fromkeys(f"published: {row.words}" for line in report.lines for row in line.published)
    if any(quantity.group == "attacked" for quantity in report.quantities):
        lines.append(report.protocol_note)
    return Group(*parts, Text("\n".join(lines)))
