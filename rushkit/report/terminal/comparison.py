"""Runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.recipe.toml import Toml
from rushkit.report.beside import FigureRow, number_cell
from rushkit.report.figures import Significance
from rushkit.report.tables.comparison import significance_table, values_table
from rushkit.report.terminal.render import render_table

# More models than these are rows of their figures; and no more of them stand side by side in a table of keys.
FEW = 3


def comparison_table(
    names: Sequence[str],
    ids: Sequence[str],
    rows: Mapping[str, Sequence[Toml]],
    figures: Sequence[FigureRow],
    tests: Sequence[Significance],
    notes: Sequence[str],
) -> RenderableType:
    """Return figures, facts and recipe keys of each run, and McNemar's test where two share images.

    Args:
        names: What to call the runs by.
        ids: The short names that mean them to other commands.
        rows: Fact or key -> its value for each run.
        figures: Their figures.
        tests: Image by image.
        notes: What a reader must know of the figures.
    """
    parts: list[RenderableType] = [*_figures(names, ids, figures)]
    for start in range(0, len(names), FEW):
        some = slice(start, start + FEW)
        heads = [
            f"{name}\n{id_}" if id_ not in name else name for name, id_ in zip(names[some], ids[some], strict=True)
        ]
        parts.append(render_table(values_table(heads, {key: row[some] for key, row in rows.items()}, first="")))
    if tests:
        title = f"image by image (McNemar's exact test; p, Holm: corrected for these {len(tests)} tests)"
        parts.append(render_table(significance_table(tests), title, left=True))
    parts += map(Text, notes)
    return Group(*parts)


def _figures(names: Sequence[str], ids: Sequence[str], figures: Sequence[FigureRow]) -> Iterator[RenderableType]:
    """Yield a table of the figures: a row for each model, and what the columns are below it."""
    if not figures:
        return
    table = Table("model", "id")
    for number in range(1, len(figures) + 1):
        table.add_column(f"({number})", justify="right")
    for place, (name, word) in enumerate(zip(names, ids, strict=True)):
        table.add_row(name, word, *(number_cell(row.numbers[place]) for row in figures))
    yield table
    words = {name: name.replace("_", " ") for name in {row.name for row in figures}}
    yield Text("\n".join(f"({n}) {words[row.name]}: {row.what}" for n, row in enumerate(figures, 1)))
