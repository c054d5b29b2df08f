"""Handle signals that ask a command to stop: record them, raise KeyboardInterrupt, and raise it again if it is lost.

An exception raised at an arbitrary point can be lost in a ``__del__``, in a callback or in a library's bare ``except``,
or turn into another one, for example in an import that it broke. So the request is kept until it is answered: the
command answers it by ending, ``graceful_stop`` by stopping the loop that it guards.

Programs that import rushkit are not affected: only the command calls ``listen``.
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
# A terminal that closes sends SIGHUP, which Windows does not have.
STOPS = tuple(number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP"))
# How long a request may go unanswered, with no exception on its way, before it is raised again.
_REPEAT_SECONDS = 0.5

_listening = False
_granted = False
_leaving = False
_pending: signal.Signals | None = None
# How many writes are under way that no Ctrl-C may cut short.
_writes = 0


def stops() -> list[signal.Signals]:
    """Return the signals to handle: those in ``STOPS``, without SIGHUP if it is ignored, as under ``nohup``."""
    hangup = getattr(signal, "SIGHUP", None)
    return [number for number in STOPS if number != hangup or signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Protect a block from Ctrl-C, even a second one: it saves what the first one asked to save."""
    global _writes
    _writes += 1
    try:
        yield
    finally:
        _writes -= 1


def is_uninterrupted() -> bool:
    """Return whether an ``uninterrupted`` block is active."""
    return _writes > 0


def listen() -> None:
    """Handle ``stops`` from now on, and unblock SIGINT, which the parent process may have blocked."""
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
    """Let a further signal end the process at once, without a traceback; call it after the command's last output."""
    global _leaving
    _leaving = _listening
    take()


def pending() -> bool:
    """Return whether a signal has arrived that has not been answered yet."""
    return _pending is not None


def take() -> signal.Signals | None:
    """Take the pending request and return its signal, so that it is not raised again; None if there is none."""
    global _pending
    request, _pending = _pending, None
    _remind_in(0)
    return request


def grant() -> None:
    """Mark the command as stopping, so that further SIGTERMs are ignored."""
    global _granted
    _granted = True


@contextmanager
def heard() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of a block if a signal arrived in it, even if its first exception was lost."""
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
    """Schedule the request to be raised again after some seconds; 0 cancels it."""
    if sys.platform != "win32" and _listening:
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _is_on_its_way(error: BaseException | None) -> bool:
    """Return whether the current code runs as clean-up after a KeyboardInterrupt."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _unraisable(lost: Any) -> None:
    """Suppress the report of a KeyboardInterrupt that could not propagate, since it will be raised again."""
    if not (pending() and issubclass(lost.exc_type, KeyboardInterrupt)):
        sys.__unraisablehook__(lost)
