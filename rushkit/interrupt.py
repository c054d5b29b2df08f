"""What asks a command to stop, from its first line on: noted, raised as KeyboardInterrupt, raised again if swallowed.

An exception that is raised wherever a signal happens to fall can be lost: in a ``__del__``, in a callback, under a
library's bare ``except``; or it comes out as another one, as from an import that it broke. So the request is kept until
somebody answers it: the command by ending, or ``graceful_stop`` by stopping the loop that it guards.

For programs that import rushkit nothing of this happens: ``listen`` is called by the command alone.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EXIT_CODE = 130
# SIGHUP, which Windows does not have, comes from a terminal that closes.
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# How long a request may go unanswered, with no exception on its way, before it is raised again.
_REPEAT_SECONDS = 0.5

_listening = False
_granted = False
_leaving = False
_pending: signal.Signals | None = None
# How many writes are under way that no Ctrl-C may cut short.
_writes = 0


def stops() -> list[signal.Signals]:
    """The signals to hear: those of ``STOPS``, but SIGHUP not where it is ignored, as under ``nohup``."""
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in STOPS if number != hangup or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that a Ctrl-C, also the second, does not cut short: saving, which the first one asked for."""
    global _writes
    _writes += 1
    try:
        yield
    finally:
        _writes -= 1


def is_uninterrupted() -> bool:
    """Whether such a block is under way."""
    return _writes > 0


def listen() -> None:
    """Hear ``stops`` from now on; SIGINT may have been blocked until now by the process that started this."""
    global _listening, _granted, _leaving
    _listening, _granted, _leaving = True, False, False
    for number in stops():
        signal.signal(number, _hear)
    sys.unraisablehook = _unraisable
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, _remind)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        # Registered first, so called last. Python ends itself by SIGINT if a KeyboardInterrupt ever left code that a C
        # library ran, though it has been caught since; where SIGINT is blocked, the exit code is the command's.
        atexit.register(signal.pthread_sigmask, signal.SIG_BLOCK, [signal.SIGINT])


def leave() -> None:
    """The command has said its last words: a further signal ends the process at once, without a traceback."""
    global _leaving
    _leaving = _listening
    take()


def pending() -> bool:
    """Whether a signal was heard that nobody has answered yet."""
    return _pending is not None


def take() -> signal.Signals | None:
    """Take over the request, to answer it: it is not raised again. None where there is none."""
    global _pending
    request, _pending = _pending, None
    _remind_in(0)
    return request


def grant() -> None:
    """The command is stopping, in its own time: a SIGTERM says nothing new."""
    global _granted
    _granted = True


@contextmanager
def heard() -> Iterator[None]:
    """A block that ends with KeyboardInterrupt if a signal fell into it, whatever became of the first exception."""
    try:
        yield
    except Exception as error:
        if pending():
            raise KeyboardInterrupt from error
        raise
    if pending():
        raise KeyboardInterrupt


def _hear(number: int, frame: FrameType | None) -> None:
    global _pending
    if _leaving:
        os._exit(EXIT_CODE)
    if _granted and number != signal.SIGINT:
        return
    first = _pending is None
    _pending = _pending or signal.Signals(number)
    _remind_in(_REPEAT_SECONDS)
    # Somebody who presses Ctrl-C again wants out of what takes so long; the system's SIGTERMs mean one thing.
    if (first or number == signal.SIGINT) and not is_uninterrupted():
        raise KeyboardInterrupt


def _remind(number: int, frame: FrameType | None) -> None:
    if not pending() or _leaving:
        return
    _remind_in(_REPEAT_SECONDS)
    if not is_uninterrupted() and not _is_on_its_way(sys.exception()):
        raise KeyboardInterrupt


def _remind_in(seconds: float) -> None:
    """Have the request raised again after so long; 0: not at all."""
    if sys.platform != "win32" and _listening:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _is_on_its_way(error: BaseException | None) -> bool:
    """Whether what runs now is the cleaning up after a KeyboardInterrupt."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _unraisable(lost: Any) -> None:
    """Say nothing of a KeyboardInterrupt that was raised where none can be: it comes again."""
    if not (pending() and issubclass(lost.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
