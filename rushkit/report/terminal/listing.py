"""The list of runs in the terminal: at any width every run shows the name that means it alone."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from rushkit.errors import shorten, showable
from rushkit.report.listing import Listed
from rushkit.report.terminal.headline import Headline, figure_of
from rushkit.results.records import RESULTS_FILE
from rushkit.results.words import PROTOCOL_NOTE
from rushkit.rounding import size_words

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_HEADS = ("id", "date", "age", "verb", "recipe", "noise", "seed", "size", "status")
_RECIPE, _NOISE = _HEADS.index("recipe"), _HEADS.index("noise")
_RIGHT = ("age", "seed", "size")
# Names are shortened to these widths, in a narrow terminal to less, but never to less than this.
_WIDEST, _NARROWEST = 40, 9
# A figure stands on the run's own line where it has this room.
_FIGURE = 40
_GAP = 2
_INDENT = 4


class RunsTable:
    """A line for each run, and its figure behind it or, where that is too narrow, below it.

    Args:
        rows: The runs.
        now: The time that ages are counted from; None: now.
    """

    def __init__(self, rows: Sequence[Listed], now: datetime | None = None) -> None:
        now = now or datetime.now(UTC)
        self._rows = [_cells(row, now) for row in rows]
        figures = [_figure(row) for row in rows]
        self._figures = [_one_line(figure.words) for figure in figures]
        self._notes = [PROTOCOL_NOTE] if any(figure.needs_note for figure in figures) else []
        self._foot = f"{len(rows)} run{'s' * (len(rows) != 1)}, {size_words(sum(row.bytes for row in rows))}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Segment]:
        """Yield the lines for the width at hand."""
        places, widths = _fitted([_HEADS, *self._rows], options.max_width)
        taken = sum(widths[place] + _GAP for place in places)
        beside = options.max_width - taken >= _FIGURE
        yield Text(_line(_HEADS, places, widths) + (" " * _GAP + "figure") * beside, style="bold")
        plain: list[str] = []
        for cells, figure in zip(self._rows, self._figures, strict=True):
            line = _line(cells, places, widths)
            indent = taken if beside else _INDENT
            noise = "" if _NOISE in places or not cells[_NOISE] else f"noise {cells[_NOISE]}"
            words = _wrapped("; ".join(filter(None, [noise, figure])), max(options.max_width - indent, _NARROWEST))
            first = f"{' ' * _GAP}{words.pop(0)}" if beside and words else ""
            plain.append(f"{line}{first}".rstrip())
            if words or cell_len(plain[-1]) > options.max_width:
                yield from _fitting(plain, options.max_width)
                yield from _fitting([" " * indent + below for below in words], options.max_width, "dim")
                plain.clear()
        yield from _fitting(plain, options.max_width)
        yield from map(Text, [self._foot, *self._notes])


def _figure(row: Listed) -> Headline:
    """Return the headline of a run, which the index of the runs may know."""

    def read() -> str:
        figure = figure_of(row.run, row.record)
        return json.dumps([figure.words, figure.needs_note])

    try:
        match json.loads(row.recall(RESULTS_FILE, "figure", read)):
            case [str(words), bool(needs_note)]:
                return Headline(words, needs_note)
    except (ValueError, RecursionError):
        pass
    # What somebody else wrote into the index is no figure.
    return figure_of(row.run, row.record)


def _cells(row: Listed, now: datetime) -> tuple[str, ...]:
    run = row.run
    seed = "" if run.about.seed is None else str(run.about.seed)
    date = f"{row.started:%Y-%m-%d}" if row.started else ""
    facts = (row.id, date, row.age(now), run.verb, run.recipe, row.noise, seed, size_words(row.bytes), run.status)
    return tuple(map(_one_line, facts))


def _one_line(text: str) -> str:
    """Return a text from a run's files without line ends and whatever a terminal would obey."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return showable(" ".join(text.split()))


def _fitted(rows: Sequence[Sequence[str]], room: int) -> tuple[list[int], list[int]]:
    """Return the places of the columns that fit and the width of each column.

    First recipe and noise are shortened, then the noise goes below, and at last the date and the size are left out.
    """
    natural = [max(len(row[place]) for row in rows) for place in range(len(_HEADS))]
    for place in (_RECIPE, _NOISE):
        natural[place] = min(natural[place], _WIDEST)
    places, widths = list(range(len(_HEADS))), natural
    for dropped in (None, _NOISE, _HEADS.index("size"), _HEADS.index("date")):
        places, widths = [place for place in places if place != dropped], natural.copy()
        over = sum(widths[place] + _GAP for place in places) - _GAP - room
        for shrunk in (_NOISE, _RECIPE):
            if over > 0 and shrunk in places:
                spare = min(over, max(0, widths[shrunk] - _NARROWEST))
                widths[shrunk], over = widths[shrunk] - spare, over - spare
        if over <= 0:
            break
    return places, widths


def _wrapped(text: str, room: int) -> list[str]:
    if len(text) <= room:
        return [text] if text else []
    return textwrap.wrap(text, room)


def _fitting(lines: Sequence[str], room: int, style: str = "") -> Iterator[Text | Segment]:
    """Yield lines as one segment, which costs rich little; where one is too long, as texts that it wraps."""
    if any(cell_len(line) > room for line in lines):
        yield from (Text(line, style=style) for line in lines)
    elif lines:
        yield Segment("\n".join([*lines, ""]), Style.parse(style) if style else None)


def _line(cells: Sequence[str], places: Sequence[int], widths: Sequence[int]) -> str:
    shown = []
    for place in places:
        # The name that means the run is never cut.
        text = cells[place] if place == 0 else shorten(cells[place], max(widths[place], 4))
        shown.append(f"{text:>{widths[place]}}" if _HEADS[place] in _RIGHT else f"{text:<{widths[place]}}")
    return (" " * _GAP).join(shown)
