"""How a running study is shown: one live table on a terminal, a plain line for each job that ends elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rushkit.bar import Showable, is_terminal
from rushkit.errors import shorten, showable
from rushkit.rounding import duration
from rushkit.run.speaker import Speaker
from rushkit.study.plan import Plan
from rushkit.study.run import OVER, Progress
from rushkit.voice import unfailing

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_DRAW_SECONDS = 0.25
_MOST_LETTERS = 40
_STYLES = {"done": "green", "failed": "red", "blocked": "red", "running": "yellow", "elsewhere": "yellow"}


class Lines:
    """A line for each job that ends: for pipes, logs, and ``--quiet``, which leaves failures alone.

    Args:
        speaker: Prints them.
        total: How many jobs there are.
    """

    def __init__(self, speaker: Speaker, total: int) -> None:
        self._speaker, self._total = speaker, total
        self._over = 0

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def changed(self, job: Progress) -> None:
        """Say that a job has ended, with -v also that it has begun."""
        self._over += job.phase in OVER
        if job.before or job.phase == "blocked":
            return
        if job.phase == "failed" and job.failure is not None:
            self._speaker.warn(f"{job.name} failed: {job.failure.message}")
        elif job.phase == "done":
            self._speaker.say(f"{job.name}: {how_done(job)} ({self._over} of {self._total})")
        elif job.phase == "elsewhere" and job.by is not None:
            self._speaker.say(f"{job.name}: another process works on it ({job.by.in_words()})")
        elif job.phase == "running":
            self._speaker.detail(f"{job.name}: begun")

    def look(self) -> None:
        """Do nothing: a line stands as it was written."""


class LiveTable:
    """A table on a terminal: a line for each row and seed of the study, a column for each stage.

    On a terminal too low for all of them, those lines are shown that have a job at work.

    Args:
        plan: The study.
        stream: The terminal.
    """

    def __init__(self, plan: Plan, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._plan = plan
        self._jobs: dict[str, Progress] = {}
        self._stages = list(dict.fromkeys(cell.stage for cell in plan.cells))
        self._lines: dict[tuple[str, int], dict[str, str]] = {}
        for cell in plan.cells:
            self._lines.setdefault((cell.row, cell.seed), {})[cell.stage] = cell.job
        self._drawn_at = 0.0
        self._console = Console(file=stream, highlight=False, markup=False)
        self._live = Live(
            get_renderable=self._drawn,
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveTable:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.refresh()
        self._live.stop()

    def changed(self, job: Progress) -> None:
        """Take note of a job's phase."""
        self._jobs[job.planned.id] = job

    def look(self) -> None:
        """Draw the table anew, a few times a second at most."""
        now = time.monotonic()
        if now - self._drawn_at >= _DRAW_SECONDS:
            self._drawn_at = now
            self._live.refresh()

    def _drawn(self) -> RenderableType:
        return Showable(self._table())

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        done = sum(job.phase == "done" for job in self._jobs.values())
        table = Table(title=f"{self._plan.study}: {done} of {len(self._plan.jobs)} jobs done", title_justify="left")
        for name in ("row", "seed", *self._stages):
            table.add_column(showable(name), no_wrap=True, justify="right" if name == "seed" else "left")
        # Title, borders and header, and the cursor below.
        room = max(1, self._console.height - 7)
        lines = self._lines
        if len(lines) > room:
            lines = {key: line for key, line in lines.items() if self._is_at_work(line)}
        for (row, seed), line in list(lines.items())[:room]:
            cells = [self._cell(line.get(stage)) for stage in self._stages]
            table.add_row(
                showable(shorten(row, _MOST_LETTERS)), str(seed), *(Text(text, style) for text, style in cells)
            )
        return table

    def _is_at_work(self, line: Mapping[str, str]) -> bool:
        phases = {self._jobs[job].phase for job in line.values() if job in self._jobs}
        return bool(phases & {"submitted", "running", "elsewhere"})

    def _cell(self, identity: str | None) -> tuple[str, str]:
        job = self._jobs.get(identity or "")
        if job is None or job.phase == "waiting":
            return "", ""
        text: str = job.phase
        if job.phase == "running" and job.began is not None:
            text = f"running {duration(time.monotonic() - job.began)}"
        elif job.phase == "done" and job.seconds:
            text = f"done {duration(job.seconds)}"
        return text, _STYLES.get(job.phase, "")


def how_done(job: Progress) -> str:
    """Return how a job came to be done."""
    if job.seconds:
        return f"done in {duration(job.seconds)}"
    return f"done by another process ({job.by.in_words()})" if job.by is not None else "done"


def watcher_for(plan: Plan, speaker: Speaker, total: int) -> Lines | LiveTable:
    """Return what shows a study: a live table on a terminal, else lines."""
    stream = unfailing(sys.stderr)
    if speaker.verbosity == 0 and is_terminal(stream):
        return LiveTable(plan, stream)
    return Lines(speaker, total)
