"""Sheets: what a stage returned as tables and sentences, the same for a terminal and a notebook."""

from rushkit.report.sheets import made, measured
from rushkit.report.sheets.sheet import Code, Part, Sheet, Titled, sheet_of

__all__ = ["Code", "Part", "Sheet", "Titled", "made", "measured", "sheet_of"]
