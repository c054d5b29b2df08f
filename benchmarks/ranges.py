"""The tables of the benchmarks: printed, kept for later, and joined over several runs as ranges.

    export RUSHKIT_TABLES=build/tables.jsonl
    for run in 1 2 3; do python benchmarks/votes.py; done
    python benchmarks/ranges.py build/tables.jsonl

Each benchmark adds its tables to the file that RUSHKIT_TABLES names, if it names one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

# Row -> column -> figure.
Rows = Mapping[str, Mapping[str, float]]
# Row -> column -> the figures of the runs.
Joined = dict[str, dict[str, list[float]]]


def show(title: str, rows: Rows) -> None:
    """Print a table, and keep it where RUSHKIT_TABLES says."""
    print(f"\n{words(title, {row: {name: [figure] for name, figure in cells.items()} for row, cells in rows.items()})}")
    if path := os.environ.get("RUSHKIT_TABLES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"title": title, "rows": rows}) + "\n")


def joined(lines: Iterable[str]) -> dict[str, Joined]:
    """Return the figures of all runs, by title.

    Args:
        lines: Tables as ``show`` keeps them.

    Raises:
        ValueError: a line is none, and which.
    """
    tables: dict[str, Joined] = {}
    for number, line in enumerate(lines, start=1):
        try:
            table = json.loads(line)
            rows = {
                str(row): {str(name): float(cell) for name, cell in cells.items()}
                for row, cells in table["rows"].items()
            }
            title = str(table["title"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"line {number} is no table of a benchmark") from error
        for row, cells in rows.items():
            place = tables.setdefault(title, {}).setdefault(row, {})
            for name, cell in cells.items():
                place.setdefault(name, []).append(cell)
    return tables


def words(title: str, rows: Joined) -> str:
    """Return a table as text; a cell of several runs says its range."""
    columns = list(dict.fromkeys(name for cells in rows.values() for name in cells))
    cells = [[title, *columns]]
    cells += [[row, *(range_words(line.get(name, [])) for name in columns)] for row, line in rows.items()]
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in cells
    )


def range_words(figures: list[float]) -> str:
    """Return the least and the largest figure, once where they look alike; "" for none."""
    ends = [number_words(end) for end in (min(figures), max(figures))] if figures else [""]
    return " to ".join(dict.fromkeys(ends))


def number_words(figure: float) -> str:
    """Return a figure with as many digits as its size deserves: 3 below 100, none after the point from there on."""
    return f"{figure:.0f}" if abs(figure) >= 100 else f"{figure:.3g}" if abs(figure) >= 10 else f"{figure:.3f}"


def main() -> None:
    """Print the tables of a file as ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="what RUSHKIT_TABLES named")
    arguments = parser.parse_args()
    try:
        tables = joined(arguments.file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        parser.error(f"{arguments.file}: {error}")
    for title, rows in tables.items():
        runs = max(len(figures) for cells in rows.values() for figures in cells.values())
        print(f"\n{words(f'{title} ({runs} runs)', rows)}")


if __name__ == "__main__":
    main()
