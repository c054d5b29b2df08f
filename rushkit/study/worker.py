"""A process that does many jobs, one after another: their ids come on stdin, one a line, and replies go to stdout.

A reply is a line of JSON: ``{"job": ID, "ended": "done" | "failed" | "busy" | "interrupted", "message": ..., "hint":
...}``. The end of stdin means that the process that started this one is gone: it ends at once, in the middle of a job,
as abruptly as by a kill; the next attempt goes on from the last checkpoint. A start of Python and torch costs seconds,
a small job less.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from rushkit.errors import Interrupted, RushkitError
from rushkit.interrupt import EXIT_CODE
from rushkit.paths import direct
from rushkit.results.base import StageResults
from rushkit.run.folder import Run
from rushkit.run.speaker import Speaker
from rushkit.study.places import OUTPUT_FILE, Places
from rushkit.study.work import Ended, draw_nothing, work_on

_ORPHANED = 1
_READ = 1 << 16


class Leash:
    """Reads stdin in a thread, and ends this process when it closes. Lines wait in ``lines``."""

    def __init__(self) -> None:
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="leash", daemon=True).start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := os.read(0, _READ):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.lines.put(line.decode("ascii", "replace"))
        os._exit(_ORPHANED)


def work_on_many(runs: Path, leash: Leash, draw: Callable[[Run, StageResults], None] = draw_nothing) -> int:
    """Do the jobs that stdin names until it closes; return the exit code of an interruption.

    What a job prints goes to ``output.txt`` in its folder.

    Args:
        runs: The folder of runs.
        leash: Reads stdin.
        draw: Draws the figures of a finished stage into its run.
    """
    places = Places(runs)
    replies, null = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
    while True:
        # What is here by now stays, torch for the most part: to search it for garbage takes longer than a small job.
        gc.freeze()
        job = leash.lines.get()
        reply = _attempt(places, job, draw)
        os.write(replies, f"{json.dumps({'job': job, **reply})}\n".encode())
        if reply["ended"] == "interrupted":
            return EXIT_CODE


def _attempt(places: Places, job: str, draw: Callable[[Run, StageResults], None]) -> dict[str, str]:
    """Do one job, and return the reply."""
    from rushkit.study.isolation import isolated

    try:
        with _output_in(places.job_folder(job)), isolated():
            ended = work_on(places, job, draw, Speaker())
    except (Interrupted, KeyboardInterrupt) as error:
        return {"ended": "interrupted", "message": getattr(error, "message", "interrupted"), "hint": ""}
    except RushkitError as error:
        return {"ended": "failed", "message": error.message, "hint": error.hint or ""}
    return _reply(ended)


def _reply(ended: Ended) -> dict[str, str]:
    failure = ended.failure
    return {
        "ended": ended.how,
        "message": failure.message if failure else "",
        "hint": failure.hint if failure else "",
    }


@contextlib.contextmanager
def _output_in(folder: Path) -> Iterator[None]:
    """Let what is printed inside go to a job's folder; to nowhere, where that cannot be written."""
    before = os.dup(1), os.dup(2)
    try:
        output = direct(str(folder / OUTPUT_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        output = os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, handle in enumerate(before, 1):
            os.dup2(handle, number)
            os.close(handle)
