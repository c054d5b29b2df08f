"""Print a command's messages, warnings and progress, on rank 0 only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rushkit.bar import Progress, is_terminal
from rushkit.errors import showable
from rushkit.place import current_place
from rushkit.prose import fitted
from rushkit.voice import unfailing


class Speaker:
    """Prints a command's messages for people.

    Messages go to stdout, or to stderr if stdout is reserved for a JSON document; warnings and progress always go to
    stderr. Ranks other than 0 are silent. In a notebook messages are plain lines, and progress is one display that
    is updated in place. Printing never fails: a broken stream does not stop the work.

    Args:
        verbosity: -1 warnings only, 0 normal, 1 with details.
        json: Whether stdout is kept free for JSON.
        rank: The rank of this process; by default the place that it has taken.
        sink: Called with every sentence and warning, whatever the verbosity: the run's log.
    """

    def __init__(
        self,
        verbosity: int = 0,
        json: bool = False,
        rank: int | None = None,
        sink: Callable[[str], None] | None = None,
    ) -> None:
        self.verbosity = verbosity
        self.json = json
        self.rank = current_place().rank if rank is None else rank
        self._sink = sink
        self._progress: Progress | None = None

    def with_sink(self, sink: Callable[[str], None]) -> Speaker:
        """Return the same speaker with a sink, such as a log, that receives its messages too."""
        return Speaker(self.verbosity, self.json, self.rank, sink)

    def say(self, text: str) -> None:
        """Print a message, except with ``-q``."""
        self._out(text, shown=self.verbosity >= 0)

    def detail(self, text: str) -> None:
        """Print a message only with ``-v``."""
        self._out(text, shown=self.verbosity >= 1)

    def warn(self, text: str) -> None:
        """Print a warning, even with ``-q``."""
        self._out(f"warning: {text}", shown=True, to_stderr=True, style="33")

    def progress(self, total: int | None, label: str, unit: str = "steps", *, start: int = 0) -> Progress:
        """Return a progress display for one piece of work, for a ``with`` block.

        Inside another one it has no line of its own: that of the other says how far it is. With ``-v`` it has no rows,
        since each is a message then.
        """
        outer = self._progress if self._progress is not None and self._progress.shown else None
        silent = outer is not None or self.verbosity < 0 or self.rank != 0
        progress = Progress(total, label, unit, start=start, quiet=silent, within=outer)
        progress.rows = self.verbosity < 1 or is_terminal(unfailing(sys.stderr))
        if outer is None:
            self._progress = progress
        return progress

    def _out(self, text: str, shown: bool, to_stderr: bool = False, style: str = "") -> None:
        if self.rank != 0:
            return
        text = showable(text)
        if self._sink:
            self._sink(text)
        if not shown:
            return
        stream = unfailing(sys.stderr if to_stderr or self.json else sys.stdout)
        terminal = is_terminal(stream)
        # A line that goes to a terminal has to pass above the bar that may be on it.
        text = fitted(text, stream)
        if terminal and self._progress is not None and self._progress.write(text):
            return
        coloured = style and terminal and not os.environ.get("NO_COLOR")
        stream.write(f"\x1b[{style}m{text}\x1b[0m\n" if coloured else f"{text}\n")
        stream.flush()
