"""The figures and tables of a report as files for a paper.

Figures are as wide as a column of a paper of two columns, as SVG and PDF. There is no title in them, since papers have
captions: ``captions.txt`` holds for each what its caption should say, and what no table under the paper's
protocol may be shown without. Tables are LaTeX for booktabs, and CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rushkit.errors import showable
from rushkit.files import write_atomic
from rushkit.report.document import Document
from rushkit.report.pictures.charts import slug
from rushkit.report.pictures.ladder import Ladder
from rushkit.report.pictures.ladder_plot import save_ladder
from rushkit.report.pictures.plots import COLUMN, Format, save_chart
from rushkit.report.spreadsheet import csv_lines
from rushkit.report.study.latex import latex_table
from rushkit.report.table import Table

FORMATS: tuple[Format, ...] = ("svg", "pdf")
CAPTIONS = "captions.txt"
# Tables that show figures under the paper's protocol, beside table 1.
_WITH_PAPER = ("table-of-headlines", "table-of-attacks")


def write_figures(document: Document, ladders: Sequence[Ladder], folder: Path) -> list[Path]:
    """Write every ladder and chart of a report, its tables over all models, and captions; return the files.

    Args:
        document: The report.
        ladders: Of its models.
        folder: Exists; files of an earlier report are replaced.

    Raises:
        RushkitError: a file cannot be written.
    """
    paths: list[Path] = []
    captions: list[str] = []
    taken: set[str] = set()
    for ladder in ladders:
        name = _unique(slug("ladder", ladder.name if document.several else ""), taken)
        paths += save_ladder(ladder, folder, name, FORMATS)
        captions.append(f"{name}\nWhat is left of {ladder.label}")
    for chart in document.charts.all:
        name = _unique(chart.name, taken)
        paths += save_chart([chart], folder, name, FORMATS, titled=False, size=COLUMN)
        captions.append(f"{name}\n{chart.title}. {chart.caption}\nIt shows: {chart.label}.")
    for name, table in _tables(document):
        paths += _write_table(table, folder, name)
        captions += [f"{name}\n{' '.join(said)}" for said in [_said(name, document)] if said]
    paths.append(folder / CAPTIONS)
    text = "\n\n".join(showable(caption) for caption in captions) + "\n"
    write_atomic(paths[-1], [text.encode("utf-8", "backslashreplace")])
    return paths


def _unique(name: str, taken: set[str]) -> str:
    """Return a name that no file has yet, and take it."""
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}-{number}"
    taken.add(unique)
    return unique


def _tables(document: Document) -> Iterator[tuple[str, Table]]:
    tables: dict[str, Table | None] = {
        "headlines": document.headlines,
        "table-1": document.table_1.table if document.table_1 else None,
        "accuracy": document.accuracy,
        "attacks": document.attacks,
        "targeted": document.targeted,
        "worst": document.worst,
        "unions": document.unions,
        "distances": document.distances,
        "queries": document.queries,
        "transfer": document.transfer,
    }
    yield from ((f"table-of-{name}" if name != "table-1" else name, table) for name, table in tables.items() if table)


def _said(name: str, document: Document) -> Sequence[str]:
    """Return what no figure of a table may be shown without, and what its published rows are."""
    if name == "table-1" and document.table_1:
        return *document.table_1.sentences, *document.table_1.reported
    return document.protocols if document.attacked and name in _WITH_PAPER else ()


def _write_table(table: Table, folder: Path, name: str) -> list[Path]:
    shown = table.on("markdown")
    rows: Sequence[Sequence[str]] = [[cell.flat for cell in row] for row in shown.rows]
    write_atomic(folder / f"{name}.tex", [latex_table(table).encode("utf-8", "backslashreplace")])
    write_atomic(folder / f"{name}.csv", csv_lines([heading.flat for heading in shown.headings], rows))
    return [folder / f"{name}.tex", folder / f"{name}.csv"]
