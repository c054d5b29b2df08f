"""Cells that several tables have."""

from __future__ import annotations

from rushkit.report.table import EMPTY, Cell
from rushkit.results.words import Accuracy, accuracy_words
from rushkit.rounding import percent, percent_interval


def share_cell(row: Accuracy | None) -> Cell:
    """Return an accuracy in % with its interval; without a row an empty cell."""
    if row is None:
        return EMPTY
    return Cell(percent(row.accuracy), (percent_interval(row.low, row.high, " – "),), accuracy_words(row), strong=True)


def name_cell(name: str, small: str) -> Cell:
    """Return a name in bold with small print under it."""
    return Cell(name, (small,), strong=True)
