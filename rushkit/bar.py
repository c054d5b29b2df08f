"""The progress of one piece of work, with rate and time left.

On a terminal it is a bar, in a notebook one display that ends as a line, elsewhere plain lines.
"""

from __future__ import annotations

import html
import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, SupportsFloat, TextIO

from rushkit.errors import showable
from rushkit.notebook import Display, in_notebook
from rushkit.prose import wrapped
from rushkit.rounding import duration, figure, number_words, size_words
from rushkit.voice import unfailing

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

BYTES = "bytes"
BAR_SECONDS = 0.1
# Each change of a notebook's display is a message to its front end.
_NOTEBOOK_SECONDS = 0.5
# The table above the bar holds the last rows only, and fewer on a low terminal.
TABLE_ROWS = 8
# Plain lines: seconds between two at first, the share of the time so far that follows, and the most.
_FIRST_PAUSE, _PAUSE_SHARE, _LONGEST_PAUSE = 5.0, 1 / 20, 600.0
# The rate is that of the last stretch. It is known when so many advances have taken so long, and the earlier half of
# the stretch and the later one differ by no more than this factor.
_WINDOW_SECONDS, _KNOWN_ADVANCES, _KNOWN_SECONDS, _STEADY = 60.0, 2, 1.0, 4.0


def line_pause(elapsed: float) -> float:
    """Return the seconds from one plain line to the next, ``elapsed`` seconds after the work began.

    5 s in the first 100 s, then a twentieth of the time so far, and 10 minutes at most: some 240 lines on a first day.
    """
    return min(max(_FIRST_PAUSE, elapsed * _PAUSE_SHARE), _LONGEST_PAUSE)


class _Display(Protocol):
    def pause(self, elapsed: float) -> float: ...
    def update(self, done: int, total: int | None, text: str) -> None: ...
    def finish(self, done: int, total: int | None, text: str) -> None: ...
    def add_row(self, cells: dict[str, str]) -> None: ...


class Progress:
    """Progress of one piece of work: a bar on a terminal, a display in a notebook that is updated in place; elsewhere
    plain lines, ever more seldom (``line_pause``).

    The rate, and the time left, are shown when they are known: not from a first step, which may compile, nor while
    the work is stalled or changes its pace.

    Args:
        total: Number of units; None if it is unknown.
        label: Name of the work, such as ``"pretrain"``.
        unit: The unit, such as ``"steps"``; ``BYTES`` are shown in KiB and MiB.
        start: Number of units that were done before, by the run that this one resumes.
        quiet: Whether to print nothing at all.
        stream: The stream to write to; by default stderr, and in a notebook the output of the cell.
        clock: Returns seconds, like ``time.monotonic``.
        within: The progress of the work that this one is a part of, which then shows how far this one is.

    Attributes:
        total, label, unit: As given; the total may be changed as more becomes known about the work.
        done: Number of units done.
        rows: Whether rows are shown too.
        note: Text after the numbers, such as ``"settled 13 of 64"``.
        part: What shows how far a part of the work is, such as ``"kNN 512/60000 images"``.
    """

    def __init__(
        self,
        total: int | None,
        label: str,
        unit: str = "steps",
        *,
        start: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        within: Progress | None = None,
    ) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done = self._start = start
        self._quiet = quiet
        self._stream = stream
        self._clock = clock
        self._within = within
        self.rows = True
        self._values: dict[str, SupportsFloat] = {}
        self.note = self.part = ""
        self._display: _Display | None = None
        self._started = self._shown = self._row_began = 0.0
        self._marks: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Progress:
        self._started = self._shown = self._row_began = self._clock()
        if not self._quiet:
            stream = unfailing(self._stream or sys.stderr)
            if is_terminal(stream):
                self._display = _Bar(stream, self.label, self.total, self.done)
            elif self._stream is None and in_notebook():
                self._display = _Cell(self.label, self.total, self.done)
            else:
                self._display = _Lines(stream, self.label)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            seconds = self._clock() - self._started
            rate = (self.done - self._start) / seconds if seconds > 0 else None
            self._display.finish(self.done, self.total, self._text(rate, f"in {duration(seconds)}"))
            self._display = None
        if self._within is not None:
            self._within.part = ""

    def advance(self, n: int = 1, **values: SupportsFloat) -> None:
        """Count n units as done and show the values beside them.

        A value may be a tensor on a GPU: it is read when the display is drawn, and not at every step.
        """
        self.done += n
        for name, value in values.items():
            # Without its graph, which would otherwise live as long as the value is kept for display.
            self._values[name] = value.detach() if hasattr(value, "detach") else value
        if self._within is not None:
            of = "" if self.total is None else f"/{self.total}"
            self._within.part = f"{self.label} {self.done}{of} {self.unit}"
            self._within.advance(0)
        if self._display is None:
            return
        now = self._clock()
        self._mark(now)
        if now - self._shown >= self._display.pause(now - self._started):
            self._shown = now
            self._display.update(self.done, self.total, self._text(self._rate(now)))

    def _mark(self, now: float) -> None:
        """Remember when how much was done, for the rate."""
        last = self._marks[-1] if self._marks else (-math.inf, self._start)
        if self.done != last[1] and now - last[0] >= BAR_SECONDS:
            self._marks.append((now, self.done))
        while len(self._marks) > _KNOWN_ADVANCES + 1 and now - self._marks[1][0] > _WINDOW_SECONDS:
            self._marks.popleft()

    def _rate(self, now: float) -> float | None:
        """Return the units a second of the last stretch; None while it is not known.

        The stretch begins with the first advance, which may have taken longer than the others will.
        """
        if len(self._marks) <= _KNOWN_ADVANCES or now - self._marks[0][0] < _KNOWN_SECONDS:
            return None
        (began, before), (middle, halfway) = self._marks[0], self._marks[len(self._marks) // 2]
        earlier = (halfway - before) / (middle - began)
        later = (self.done - halfway) / (now - middle) if now > middle else earlier
        if min(earlier, later) * _STEADY < max(earlier, later):
            return None
        return (self.done - before) / (now - began)

    def start_from(self, done: int) -> None:
        """Count this many units as done before the work began, so that they do not enter the rate."""
        self.done = self._start = done
        self._marks.clear()

    def row(self, **values: SupportsFloat) -> None:
        """Add a row, such as that of an epoch, with the time since the row before.

        A terminal has a table of them above the bar, whose first columns are the last that a narrow one loses. Plain
        lines have the newest row, when the next line is due.
        """
        now = self._clock()
        seconds, self._row_began = now - self._row_began, now
        if self.rows and self._display is not None:
            cells = {name: figure(name, float(value)) for name, value in values.items()}
            self._display.add_row({**cells, "time": duration(seconds)})

    @property
    def shown(self) -> bool:
        """Whether the display is visible."""
        return self._display is not None

    def write(self, text: str) -> bool:
        """Write a line above the bar, and return True; if there is no bar, write nothing and return False."""
        if not isinstance(self._display, _Bar):
            return False
        self._display.write(text)
        return True

    def _text(self, rate: float | None, end: str = "") -> str:
        """Return the line with progress, rate (units a second; None: not known) and remaining time."""
        amount = size_words if self.unit == BYTES else str
        of = "" if self.total is None else f"/{amount(self.total)}"
        unit = "" if self.unit == BYTES else f" {self.unit}"
        parts = [f"{self.label}: {amount(self.done)}{of}{unit}"]
        if rate:
            parts.append(f"{size_words(rate) if self.unit == BYTES else number_words(rate)}{unit}/s")
        if end:
            parts.append(end)
        elif rate and self.total is not None:
            parts.append(f"{duration(max(self.total - self.done, 0) / rate)} left")
        parts += [words for words in (self.part, self.note) if words]
        # Last, because a narrow terminal cuts the line's end off.
        parts += [f"{name} {number_words(float(value))}" for name, value in self._values.items()]
        return showable(", ".join(parts))


class Showable:
    """A rich renderable whose texts have their control characters escaped.

    Args:
        drawn: The renderable.
    """

    def __init__(self, drawn: RenderableType) -> None:
        self._drawn = drawn

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        """Yield the segments that rich makes; those that move the cursor are its own."""
        for segment in console.render(self._drawn, options):
            yield segment if segment.control else segment._replace(text=showable(segment.text))


def with_prose_wrapped(drawn: RenderableType, width: int) -> RenderableType:
    """Return a renderable whose unstyled ``Text`` is wrapped at words; tables and plain strings stay as they are."""
    from rich.console import Group
    from rich.text import Text

    if isinstance(drawn, Group):
        return Group(*(with_prose_wrapped(part, width) for part in drawn.renderables))
    if isinstance(drawn, Text) and not drawn.spans:
        return Text(wrapped(drawn.plain, width), drawn.style)
    return drawn


class _Lines:
    """Plain lines for logs and pipes, with the newest row of the table beside them."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label = stream, label
        self._row: dict[str, str] = {}
        # Figures that the newest row lacks, from rows since the last line, and the rows that had them.
        self._earlier: dict[str, str] = {}

    def pause(self, elapsed: float) -> float:
        return line_pause(elapsed)

    def add_row(self, cells: dict[str, str]) -> None:
        of = ", ".join(_named(self._row, list(self._row)[:1]))
        self._earlier |= {name: f"{cell} ({of})" for name, cell in self._row.items()}
        self._row = cells
        for name in cells:
            self._earlier.pop(name, None)

    def update(self, done: int, total: int | None, text: str) -> None:
        if self._row:
            row = ", ".join(_named(self._row) + _named(self._earlier))
            self._stream.write(showable(f"{self._label}: {row}") + "\n")
            self._row, self._earlier = {}, {}
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def finish(self, done: int, total: int | None, text: str) -> None:
        self.update(done, total, text)


def _named(cells: dict[str, str], names: list[str] | None = None) -> list[str]:
    return [f"{_title(name)} {cells[name]}" for name in (cells if names is None else names)]


def _title(name: str) -> str:
    return name.removesuffix("_accuracy").replace("_", " ")


class _Cell:
    """A display in a notebook: a bar with the numbers beside it and the newest row below; in the end one line."""

    def __init__(self, label: str, total: int | None, done: int) -> None:
        self._display = Display()
        self._row: dict[str, str] = {}
        self.update(done, total, showable(label))

    def pause(self, elapsed: float) -> float:
        return _NOTEBOOK_SECONDS

    def add_row(self, cells: dict[str, str]) -> None:
        self._row = cells

    def update(self, done: int, total: int | None, text: str) -> None:
        row = showable(", ".join(_named(self._row)))
        lines = [text, *([row] if row else [])]
        # Without a value it moves to and fro.
        value = f' value="{min(done, total)}" max="{max(total, 1)}"' if total is not None else ""
        bar = f"<progress{value}></progress> {'<br>'.join(map(html.escape, lines))}"
        self._display.show("\n".join(lines), bar)

    def finish(self, done: int, total: int | None, text: str) -> None:
        self._display.show(text, f"<span>{html.escape(text)}</span>")


class _Bar:
    """A bar on a terminal and a table above it, redrawn by ``advance`` itself: no thread that a fork or a signal could
    trip over.
    """

    def __init__(self, stream: TextIO, label: str, total: int | None, done: int) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column

        # rich itself honours NO_COLOR. The texts are ours and may hold brackets: no markup.
        self._console = Console(file=stream, highlight=False)
        self._bar = RichProgress(
            BarColumn(bar_width=20),
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            console=self._console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(label, total=total, completed=done)
        self._rows: deque[dict[str, str]] = deque(maxlen=TABLE_ROWS)
        # Column -> how far to the right. Not every row has every figure, and a column stays when it has none.
        self._places: dict[str, int] = {}
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def pause(self, elapsed: float) -> float:
        return BAR_SECONDS

    def update(self, done: int, total: int | None, text: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=text)
        self._live.refresh()

    def finish(self, done: int, total: int | None, text: str) -> None:
        self.update(done, total, text)
        self._live.stop()

    def write(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def add_row(self, cells: dict[str, str]) -> None:
        self._rows.append(cells)
        for place, name in enumerate(cells):
            self._places[name] = max(place, self._places.get(name, 0))
        self._live.refresh()

    def _drawn(self) -> Showable:
        from rich.console import Group

        return Showable(Group(*([self._table()] if self._rows else []), self._bar))

    def _table(self) -> Table:
        from rich.table import Table

        # A line each for the header, the bar, and the cursor below it.
        rows = list(self._rows)[-max(1, self._console.height - 3) :]
        names = sorted(self._places, key=self._places.__getitem__)
        titles = {name: _title(name) for name in names}
        widths = {name: max(len(titles[name]), *(len(row.get(name, "")) for row in rows)) for name in names}
        room = self._console.width
        gap = 2 if sum(widths.values()) + 2 * (len(names) - 1) <= room else 1
        while len(names) > 1 and sum(widths[name] + gap for name in names) - gap > room:
            names.pop()
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
        for name in names:
            table.add_column(titles[name], justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*(row.get(name, "") for name in names))
        return table


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream can show a bar."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
