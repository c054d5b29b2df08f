"""The results of a stage and the paper's table in the terminal, with the sentences that belong to them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from rushkit.report.figures import Report
from rushkit.report.quoted import apart_words
from rushkit.report.sheets import Code, Part, sheet_of
from rushkit.report.tables import table_1
from rushkit.report.tables.headlines import headline_table
from rushkit.report.terminal.render import render_table


def headlines_table(report: Report) -> RenderableType:
    """Return clean, paper, strict and certified accuracy of each model, and the sentence on them."""
    said = [f"{model.name}: {model.headline.sentence}" for model in report.models]
    said += filter(None, [apart_words([model.headline for model in report.models])])
    if any(model.headline.paper for model in report.models):
        said.append(report.protocol_note)
    return Group(render_table(headline_table(report.models)), Text("\n".join(said)))


def table_1_table(report: Report) -> RenderableType | None:
    """Return published figures beside measured ones, with what each published row is; None where none is published."""
    heading = table_1.table_1_heading(report.models)
    table = table_1.in_lines(report.models) if heading else None
    if table is None:
        return None
    sentences = [f"reported: {words}" for words in table_1.reported_words(report.models)]
    if any(model.attacks for model in report.models):
        sentences.append(report.protocol_note)
    title = f"{heading}; attacks within l-inf 8/255"
    return Group(render_table(table, title, left=True), Text("\n".join(sentences)))


def record_table(record: object) -> RenderableType:
    """Return what a stage returned: its tables, and the sentences that belong to them.

    Raises:
        TypeError: it is no record of a stage.
    """
    return Group(*(line for part in sheet_of(record) for line in _rendered(part)))


def _rendered(part: Part) -> Iterator[RenderableType]:
    if isinstance(part, str):
        yield Text(part)
    elif isinstance(part, Code):
        # Strings and no texts, which would be wrapped at their words.
        yield from part.lines
    else:
        yield render_table(part.table, part.title, part.left)
