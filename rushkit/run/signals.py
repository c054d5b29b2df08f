"""Turn Ctrl-C, SIGTERM and SIGHUP into a request that a loop answers between two steps, so that it can save first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from rushkit import interrupt
from rushkit.errors import Interrupted


@dataclass
class Stop:
    """Whether the run was asked to stop.

    Attributes:
        requested: True from the first signal on, also where that came before the block and was not answered.
        signal_name: ``"SIGINT"``, ``"SIGTERM"`` or ``"SIGHUP"``, or ``""``.
    """

    requested: bool = False
    signal_name: str = ""


@contextmanager
def graceful_stop(on_request: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """Turn SIGINT, SIGTERM and SIGHUP into ``stop.requested`` inside the block.

    A second SIGINT raises KeyboardInterrupt, except in a block of ``interrupt.uninterrupted``. SIGHUP stays ignored
    where it is, as under ``nohup``. Outside the main thread, where Python allows no handlers, nothing changes. The old
    handlers come back at the end, and a request that the block did not grant, by ending with an exception, goes on to
    them.

    Args:
        on_request: Called once with the signal's name when the first one comes: to say that the run is about to save.
            What it raises does not reach the block.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            if number == signal.SIGINT and not interrupt.is_uninterrupted():
                raise KeyboardInterrupt
            return
        stop.requested = True
        stop.signal_name = signal.Signals(number).name
        if on_request:
            # Whatever goes wrong with saying it, the loop has to save.
            with suppress(Exception):
                on_request(stop.signal_name)

    old: dict[signal.Signals, Any] = {}
    ended = False
    try:
        for number in interrupt.stops():
            old[number] = signal.signal(number, handle)
        if (earlier := interrupt.take()) is not None:
            handle(earlier, None)
        yield stop
        ended = True
    except Interrupted:
        interrupt.grant()
        raise
    finally:
        for number, handler in old.items():
            # None: set by something that is not Python, which cannot be put back from here.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        if ended and stop.requested:
            signal.raise_signal(signal.Signals[stop.signal_name])
