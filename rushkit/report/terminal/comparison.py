"""Runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from rushkit.recipe.toml import Toml
from rushkit.report.figures import Significance
from rushkit.report.tables.comparison import significance_table, values_table
from rushkit.report.terminal.render import render_table


def comparison_table(
    names: Sequence[str], rows: Mapping[str, Sequence[Toml]], tests: Sequence[Significance], notes: Sequence[str]
) -> RenderableType:
    """Return facts and recipe keys of each run, and McNemar's test where two share images.

    Args:
        names: Of the runs.
        rows: Fact or key -> its value for each run.
        tests: Image by image.
        notes: What a reader must know of the figures.
    """
    parts: list[RenderableType] = [render_table(values_table(names, rows, first=""))]
    if tests:
        parts.append(render_table(significance_table(tests), "image by image (McNemar's exact test)", left=True))
    parts += map(Text, notes)
    return Group(*parts)
