"""What reading data says: progress as a bar, or as logged lines where none can be shown, and remarks, once each.

``logging.getLogger("rushkit").setLevel(logging.WARNING)`` silences all.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from rushkit import bar
from rushkit.errors import showable
from rushkit.notebook import in_notebook
from rushkit.place import current_place
from rushkit.voice import unfailing

# Called with how much is done and how much there is in all (0: unknown).
Progress = Callable[[int, int], None]

logger = logging.getLogger("rushkit.data")


@contextmanager
def reporting(title: str, in_bytes: bool = False) -> Iterator[Progress]:
    """Yield a Progress for one piece of work; it says nothing on any rank but the first."""
    logger.info("%s", title)
    quiet = logging.getLogger("rushkit").level > logging.INFO or current_place().rank != 0
    if quiet or not (bar.is_terminal(unfailing(sys.stderr)) or in_notebook()):
        yield _lines(title)
        return
    with bar.Progress(None, title, bar.BYTES if in_bytes else "images") as shown:

        def report(done: int, total: int) -> None:
            shown.total = total or None
            shown.advance(done - shown.done)

        yield report


@cache
def say_once(text: str) -> None:
    """Log a remark on a data set, as a warning, the first time that it is made in this process."""
    logger.warning("%s", showable(text))


def _lines(title: str) -> Progress:
    began = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= bar.line_pause(now - began):
            last = now
            logger.info("%s: %s", title, f"{100 * done / total:.0f}%" if total else done)

    return report
