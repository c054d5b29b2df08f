"""Writes a report as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rushkit.files import write_atomic, write_error, write_json
from rushkit.report.content import build_report
from rushkit.report.document import build_document
from rushkit.report.families import Family
from rushkit.report.figures import Report
from rushkit.report.page.cards import Panel
from rushkit.report.page.render import markdown, page


def write_report(families: Sequence[Family], folder: Path, images: bool = True) -> tuple[Report, list[Path]]:
    """Write ``report.html``, ``report.md`` and ``report.json`` (``comparison.*`` for several models).

    Args:
        families: The models.
        folder: Made where it is missing; what an earlier report wrote there is replaced.
        images: Whether to look for checkpoints and data, and show some images.

    Returns:
        The figures, and the files.

    Raises:
        RushkitError: the folder cannot be written.
    """
    report = build_report(families)
    panels: list[Panel] = []
    if images:
        # Only here: everything else is written without torch running anything.
        from rushkit.report.page.panel import panel

        made = (panel(family, model.name) for family, model in zip(families, report.models, strict=True))
        panels = [one for one in made if one is not None]
    document = build_document(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    name = "report" if len(families) == 1 else "comparison"
    paths = [folder / f"{name}.{kind}" for kind in ("html", "md", "json")]
    write_atomic(paths[0], [_encoded(page(document, f"{name}.json", panels))])
    write_atomic(paths[1], [_encoded(markdown(document, f"{name}.html"))])
    write_json(paths[2], report.plain())
    return report, paths


def _encoded(text: str) -> bytes:
    """Encode a text as UTF-8; the path of a run may hold bytes that are not."""
    return text.encode("utf-8", "backslashreplace")
