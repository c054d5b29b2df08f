"""Runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.recipe.toml import Toml
from rushkit.report.beside import FigureRow, number_cell
from rushkit.report.significance import Significance
from rushkit.report.table import Cell
from rushkit.report.tables.comparison import measurement, significance_table, values_table
from rushkit.report.tables.worst import worst_table
from rushkit.report.terminal.render import render_table
from rushkit.report.worst import Worst
from rushkit.results.words import noise_words

# More models than these are rows of their figures; and no more of them stand side by side in a table of keys.
FEW = 3


def comparison_table(
    names: Sequence[str],
    ids: Sequence[str],
    rows: Mapping[str, Sequence[Toml]],
    figures: Sequence[FigureRow],
    tests: Sequence[Significance],
    notes: Sequence[str],
    worst: Sequence[Worst] = (),
) -> RenderableType:
    """Return figures, facts and recipe keys of each run, and McNemar's test where two share images.

    Args:
        names: What to call the runs by.
        ids: The short names that mean them to other commands.
        rows: Fact or key -> its value for each run.
        figures: Their figures.
        tests: Image by image.
        notes: What a reader must know of the figures.
        worst: What strict attacks on one model and the same images leave together.
    """
    parts: list[RenderableType] = [*_figures(names, ids, figures)]
    for start in range(0, len(names), FEW):
        some = slice(start, start + FEW)
        heads = [
            f"{name}\n{id_}" if id_ not in name else name for name, id_ in zip(names[some], ids[some], strict=True)
        ]
        parts.append(render_table(values_table(heads, {key: row[some] for key, row in rows.items()}, first="")))
    parts += [*_tests(tests), *_worst(worst), *map(Text, notes)]
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


def _worst(worst: Sequence[Worst]) -> Iterator[RenderableType]:
    """Yield a table of what attacks leave together, and the sentences that may be quoted."""
    if table := worst_table([("", worst)]):
        yield render_table(table, left=True)
        yield Text("\n".join(one.statement(noise_words(one.noise)) for one in worst))


def _tests(tests: Sequence[Significance]) -> Iterator[RenderableType]:
    """Yield a table of McNemar's tests that 80 columns have room for, and what its letters stand for below it."""
    if not tests:
        return
    words = list(dict.fromkeys(measurement(test.what) for test in tests))
    letters = {word: f"({chr(ord('a') + place % 26)}{place // 26 or ''})" for place, word in enumerate(words)}
    table = significance_table(tests)
    rows = [(Cell(letters[row[0].text]), *row[1:]) for row in table.rows]
    title = f"image by image (McNemar's exact test; p, Holm: corrected for these {len(tests)} tests)"
    rendered = render_table(replace(table, rows=tuple(rows)), title, left=True)
    rendered.box, rendered.padding = box.SIMPLE_HEAD, (0, 1, 0, 0)
    for column in rendered.columns:
        # A name or a figure is never broken, a heading may be.
        column.min_width = max(len(str(cell)) for cell in column.cells)
    yield rendered
    yield Text("\n".join(f"{letter} {word}" for word, letter in letters.items()))
