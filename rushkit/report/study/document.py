"""The table of a study as a document, which templates render as HTML, Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rushkit.report.links import link_from
from rushkit.report.study.figures import StudyReport
from rushkit.report.study.tables import differences_table, figures_table, seeds_table, trainings_table
from rushkit.report.table import Table
from rushkit.results.words import PROTOCOL_SENTENCES


@dataclass(frozen=True)
class StudyDocument:
    """Everything that a page, a Markdown file or a LaTeX file shows of a study.

    Attributes:
        title: Its title.
        study: Its name.
        version: Version of rushkit.
        standing: How many of its jobs are done, and how the others stand.
        figures: Rows by columns, over the seeds.
        seeds: Every seed.
        differences: Of each row to the first one; None if there are none, like the trainings.
        trainings: How the rows were trained.
        published: What the published rows really are.
        protocols: What figures under attack must be shown with; empty without any.
        notes: What qualifies the figures.
    """

    title: str
    study: str
    version: str
    standing: str
    figures: Table
    seeds: Table
    differences: Table | None
    trainings: Table | None
    published: tuple[str, ...]
    protocols: tuple[str, ...]
    notes: tuple[str, ...]


def study_document(report: StudyReport, folder: Path) -> StudyDocument:
    """Return the document that shows the figures of a study.

    Args:
        report: The figures.
        folder: Where the files will lie, from which runs are linked.
    """

    def link(run: str) -> str:
        return link_from(folder, run) if run else ""

    attacked = any(quantity.group == "attacked" for quantity in report.quantities)
    published = dict.fromkeys(row.words for line in report.lines for row in line.published)
    return StudyDocument(
        title=report.title,
        study=report.study,
        version=report.rushkit,
        standing=standing_words(report.states),
        figures=figures_table(report),
        seeds=seeds_table(report, link),
        differences=differences_table(report),
        trainings=trainings_table(report, link),
        published=tuple(published),
        protocols=PROTOCOL_SENTENCES if attacked else (),
        notes=(*report.notes, *shared_notes(report)),
    )


def shared_notes(report: StudyReport) -> list[str]:
    """Return what qualifies every figure of a column: ``"clean: in bf16, in every row"``."""
    return [
        f"{quantity.name}: {', '.join(sorted(remarks))}, in every row"
        for quantity, remarks in zip(report.quantities, report.shared_remarks, strict=True)
        if remarks
    ]


def standing_words(states: dict[str, int]) -> str:
    """Return ``"24 of 26 jobs are done; 1 failed, 1 blocked"``."""
    total, done = sum(states.values()), states.get("done", 0)
    others = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state != "done")
    return f"{done} of {total} jobs are done" + (f"; {others}" if others else "")
