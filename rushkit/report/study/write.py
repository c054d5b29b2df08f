"""Writes the table of a study as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

from rushkit.files import write_atomic, write_error, write_json
from rushkit.report.page.render import render_html, render_markdown
from rushkit.report.spreadsheet import csv_lines
from rushkit.report.study.document import StudyDocument, study_document
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.latex import latex
from rushkit.report.study.lines import HEAD, csv_rows

Format = Literal["html", "md", "json", "csv", "tex"]
FORMATS: tuple[Format, ...] = get_args(Format)
_STEM = "report"


def write_study(report: StudyReport, folder: Path, formats: Sequence[Format] = FORMATS) -> list[Path]:
    """Write ``report.html``, ``.md``, ``.json``, ``.csv`` and ``.tex``, or some of them, and return their paths.

    Args:
        report: The figures.
        folder: Made where it is missing; what an earlier report wrote there is replaced.
        formats: Which files.

    Raises:
        RushkitError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    document = study_document(report, folder)
    paths = [folder / f"{_STEM}.{kind}" for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        if kind == "json":
            write_json(path, report.plain())
        else:
            write_atomic(path, _content(kind, report, document))
    return paths


def study_markdown(report: StudyReport, folder: Path) -> str:
    """Return the Markdown of a study that lies, or would lie, in a folder."""
    return render_markdown("study.md.j2", document=study_document(report, folder), beside=f"{_STEM}.json")


def _content(kind: Format, report: StudyReport, document: StudyDocument) -> Iterable[bytes]:
    if kind == "csv":
        return csv_lines(HEAD, csv_rows(report))
    beside = f"{_STEM}.json"
    if kind == "html":
        text = render_html("study.html.j2", document=document, beside=beside)
    elif kind == "md":
        text = render_markdown("study.md.j2", document=document, beside=beside)
    else:
        text = latex(document)
    # The path of a run may hold bytes that are no text.
    return [text.encode("utf-8", "backslashreplace")]
