"""How far a download or a decoding is: a bar on a terminal, a logged line every few seconds elsewhere.

``logging.getLogger("rushkit").setLevel(logging.WARNING)`` silences both.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rushkit.errors import showable
from rushkit.place import current_place
from rushkit.voice import unfailing

# Called with how much is done and how much there is in all (0: unknown).
Progress = Callable[[int, int], None]

logger = logging.getLogger("rushkit.data")
LINE_SECONDS = 5.0


@contextmanager
def reporting(title: str, in_bytes: bool = False) -> Iterator[Progress]:
    """A Progress for one piece of work; says nothing on any rank but the first."""
    logger.info("%s", title)
    quiet = logging.getLogger("rushkit").level > logging.INFO or current_place().rank != 0
    stream = unfailing(sys.stderr)
    if quiet or not stream.isatty():
        yield _lines(title)
        return
    # Only a terminal pays for the import.
    from rich import progress
    from rich.console import Console

    columns: list[progress.ProgressColumn] = [
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
    ]
    if in_bytes:
        columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    else:
        columns += [progress.MofNCompleteColumn()]
    with progress.Progress(*columns, progress.TimeRemainingColumn(), console=Console(file=stream)) as bar:
        task = bar.add_task(showable(title), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)


def _lines(title: str) -> Progress:
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            logger.info("%s: %s", title, f"{100 * done / total:.0f}%" if total else done)

    return report
