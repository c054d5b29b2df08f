"""Writes a report as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rushkit.files import make_writable, write_atomic, write_json
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import Family
from rushkit.report.figure_files import write_figures
from rushkit.report.figures import Report
from rushkit.report.page.cards import Panel
from rushkit.report.page.render import markdown, page
from rushkit.report.pictures.ladder import ladder_of


def write_report(
    families: Sequence[Family], folder: Path, images: bool = True, figures: Path | None = None
) -> tuple[Report, list[Path]]:
    """Write ``report.html``, ``report.md`` and ``report.json`` (``comparison.*`` for several models).

    Args:
        families: The models.
        folder: Made where it is missing; what an earlier report wrote there is replaced.
        images: Whether to look for checkpoints and data, and show some images.
        figures: Where its charts and tables go as files for a paper; None: nowhere.

    Returns:
        The figures, and the files: HTML, Markdown and JSON, then those for a paper.

    Raises:
        RushkitError: a folder cannot be written; then nothing was computed.
    """
    make_writable(folder)
    if figures is not None:
        make_writable(figures)
    report = build_report(families)
    panels: list[Panel] = []
    if images:
        # Only here: everything else is written without torch running anything.
        from rushkit.report.page.panel import panel

        made = (panel(family, model.name) for family, model in zip(families, report.models, strict=True))
        panels = [one for one in made if one is not None]
    document = build_document(report, folder)
    name = "report" if len(families) == 1 else "comparison"
    paths = [folder / f"{name}.{kind}" for kind in ("html", "md", "json")]
    write_atomic(paths[0], [_encoded(page(document, f"{name}.json", panels))])
    write_atomic(paths[1], [_encoded(markdown(document, f"{name}.html"))])
    write_json(paths[2], report.plain())
    if figures is not None:
        ladders = [ladder_of(model.name, model.headline) for model in report.models]
        paths += write_figures(document, ladders, figures)
    return report, paths


def _encoded(text: str) -> bytes:
    """Encode a text as UTF-8; the path of a run may hold bytes that are not."""
    return text.encode("utf-8", "backslashreplace")
