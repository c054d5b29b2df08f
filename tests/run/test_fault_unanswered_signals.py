"""A request to stop that a block of ``graceful_stop`` did not grant is not lost with the block."""

from __future__ import annotations

import signal

import pytest

from rushkit.run.signals import graceful_stop


@pytest.fixture
def pythons_handler():
    """Ctrl-C raises KeyboardInterrupt, whatever the tests were started with: in the background it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("pythons_handler")
def test_a_ctrl_c_that_the_block_did_not_grant_is_raised_behind_it():
    with pytest.raises(KeyboardInterrupt), graceful_stop():
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_the_block_did_not_grant_goes_to_who_listened_before():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    with graceful_stop():
        signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
