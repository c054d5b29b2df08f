from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from rushkit.run.signals import Stop, graceful_stop


class Granted(Exception):
    """The loop has stopped, as it was asked to."""


@contextmanager
def granted(on_request: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """As ``graceful_stop`` around a loop that stops in the end."""
    with suppress(Granted), graceful_stop(on_request) as stop:
        yield stop
        raise Granted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_a_wish_and_nothing_more(number):
    asked: list[str] = []
    with granted(asked.append) as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert stop.requested
        assert stop.signal_name == number.name
        signal.raise_signal(signal.SIGTERM)
    assert asked == [number.name]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_the_first_signal_interrupts_at_once(first):
    with granted() as stop:
        signal.raise_signal(first)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_the_old_handlers_come_back_also_after_an_error():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    inside = []

    def fail() -> None:
        with graceful_stop():
            inside.extend([signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)])
            raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fail()
    assert inside[0] is not before[0]
    assert inside[1] is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_reentrant_write_in_the_callback_does_not_reach_the_loop():
    def complain(name: str) -> None:
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    with granted(complain) as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


def test_outside_the_main_thread_nothing_changes():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with graceful_stop() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGINT) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
