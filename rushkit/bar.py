"""The progress of one piece of work, with rate and time left: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, SupportsFloat, TextIO

from rushkit.errors import showable
from rushkit.rounding import duration, figure, number_words, size_words
from rushkit.voice import unfailing

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

LINE_SECONDS = 5.0
BYTES = "bytes"
BAR_SECONDS = 0.1
# The table above the bar holds the last rows only, and fewer on a low terminal.
TABLE_ROWS = 8
# The rate is that of the last stretch, so that a slow first step (compilation) does not spoil the estimate for long.
_WINDOW_SECONDS = 60.0


class _Display(Protocol):
    seconds: float

    def update(self, done: int, total: int | None, text: str) -> None: ...
    def finish(self, done: int, total: int | None, text: str) -> None: ...


class Progress:
    """Progress of one piece of work: a bar on a terminal, a plain line every few seconds elsewhere.

    Args:
        total: Number of units; None if it is unknown.
        label: Name of the work, such as ``"pretrain"``.
        unit: The unit, such as ``"steps"``; ``BYTES`` are shown in KiB and MiB.
        start: Number of units that were done before, by the run that this one resumes.
        quiet: Whether to print nothing at all.
        stream: The stream to write to; stderr by default.
        clock: Returns seconds, like ``time.monotonic``.
        line_seconds: Seconds between two plain lines.

    Attributes:
        total, label, unit: As given; the total may be changed as more becomes known about the work.
        done: Number of units done.
        note: Text after the numbers, such as ``"settled 13 of 64"``.
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
        line_seconds: float = LINE_SECONDS,
    ) -> None:
        self.total, self.label, self.unit = total, label, unit
        self.done = self._start = start
        self._quiet = quiet
        self._stream = stream
        self._clock = clock
        self._line_seconds = line_seconds
        self._values: dict[str, SupportsFloat] = {}
        self.note = ""
        self._display: _Display | None = None
        self._started = self._shown = self._row_began = 0.0
        self._marks: deque[tuple[float, int]] = deque()

    def __enter__(self) -> Progress:
        self._started = self._shown = self._row_began = self._clock()
        self._marks.append((self._started, self.done))
        if not self._quiet:
            stream = unfailing(self._stream or sys.stderr)
            if is_terminal(stream):
                self._display = _Bar(stream, self.label, self.total, self.done)
            else:
                self._display = _Lines(stream, self._line_seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._display is not None:
            seconds = self._clock() - self._started
            self._display.finish(
                self.done, self.total, self._text(seconds, self.done - self._start, f"in {duration(seconds)}")
            )
            self._display = None

    def advance(self, n: int = 1, **values: SupportsFloat) -> None:
        """Count n units as done and show the values beside them.

        A value may be a tensor on a GPU: it is read when the display is drawn, and not at every step.
        """
        self.done += n
        for name, value in values.items():
            # Without its graph, which would otherwise live as long as the value is kept for display.
            self._values[name] = value.detach() if hasattr(value, "detach") else value
        if self._display is None:
            return
        now = self._clock()
        if now - self._shown >= self._display.seconds:
            self._shown = now
            since, before = self._marks[0]
            self._display.update(self.done, self.total, self._text(now - since, self.done - before))
            self._marks.append((now, self.done))
            while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW_SECONDS:
                self._marks.popleft()

    def start_from(self, done: int) -> None:
        """Count this many units as done before the work began, so that they do not enter the rate."""
        self.done = self._start = done
        self._marks.clear()
        self._marks.append((self._clock(), done))

    def row(self, **values: SupportsFloat) -> None:
        """Add a row to the table above the bar, such as that of an epoch, with the time since the row before.

        Only a terminal has a table. The first columns are the last that a narrow one loses.
        """
        now = self._clock()
        seconds, self._row_began = now - self._row_began, now
        if isinstance(self._display, _Bar):
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

    def _text(self, seconds: float, units: int, end: str = "") -> str:
        """Return the line with progress, rate (``units`` were done in the last ``seconds``) and remaining time."""
        amount = size_words if self.unit == BYTES else str
        of = "" if self.total is None else f"/{amount(self.total)}"
        unit = "" if self.unit == BYTES else f" {self.unit}"
        parts = [f"{self.label}: {amount(self.done)}{of}{unit}"]
        rate = units / seconds if seconds > 0 else 0.0
        if rate:
            parts.append(f"{size_words(rate) if self.unit == BYTES else number_words(rate)}{unit}/s")
        if end:
            parts.append(end)
        elif rate and self.total is not None:
            parts.append(f"{duration(max(self.total - self.done, 0) / rate)} left")
        parts += [self.note] * bool(self.note)
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


class _Lines:
    """A plain line every few seconds, for logs and pipes."""

    def __init__(self, stream: TextIO, seconds: float) -> None:
        self._stream, self.seconds = stream, seconds

    def update(self, done: int, total: int | None, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def finish(self, done: int, total: int | None, text: str) -> None:
        self.update(done, total, text)


class _Bar:
    """A bar on a terminal and a table above it, redrawn by ``advance`` itself: no thread that a fork or a signal could
    trip over.
    """

    seconds = BAR_SECONDS

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
        titles = {name: name.removesuffix("_accuracy").replace("_", " ") for name in names}
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
