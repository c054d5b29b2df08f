"""The figures in the folder of a run."""

from __future__ import annotations

from pathlib import Path

from rushkit.report.pictures.audits import audit_charts
from rushkit.report.pictures.certificates import certification_chart
from rushkit.report.pictures.plots import save_chart
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification


def draw_certification(results: Certification, folder: Path) -> list[Path]:
    """Write ``certified.png`` and ``.svg``: certified accuracy over the radius. Returns the files.

    Raises:
        RushkitError: the folder cannot be written.
    """
    return save_chart([certification_chart(results)], folder, "certified")


def draw_audit(results: Audit, folder: Path) -> list[Path]:
    """Write ``audit.png``: the sweeps and the loss of the attack. Returns the file; nothing if nothing was measured.

    Raises:
        RushkitError: the folder cannot be written.
    """
    charts = audit_charts(results)
    return save_chart(charts, folder, "audit", ("png",), size=(3, 2.6)) if charts else []
