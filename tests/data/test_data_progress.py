from __future__ import annotations

import io
import logging

import pytest

from rushkit.data import progress
from rushkit.data.progress import reporting
from rushkit.place import Place


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal in the place of stderr; pytest would undo it between a fixture and its test."""
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    # As on a terminal that can move its cursor, and wide enough.
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    return stream


@pytest.mark.parametrize("in_bytes", [False, True])
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, in_bytes: bool) -> None:
    terminal = open_terminal(monkeypatch)
    with reporting("decoding pets", in_bytes) as report:
        report(50, 0)
        report(100, 100)
    assert "decoding pets" in terminal.getvalue()
    assert ("100 bytes/100 bytes" if in_bytes else "100/100 images") in terminal.getvalue()


def test_other_ranks_and_a_quiet_program_show_none(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr("rushkit.place._taken", Place(rank=1, world=2))
        with reporting("decoding pets") as report:
            report(1, 2)
    level = logging.getLogger("rushkit").level
    logging.getLogger("rushkit").setLevel(logging.WARNING)
    with reporting("decoding pets") as report:
        report(1, 2)
    logging.getLogger("rushkit").setLevel(level)
    assert terminal.getvalue() == ""


def test_elsewhere_a_line_comes_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "rushkit"), reporting("decoding pets") as report:
        report(1, 4)
        report(2, 4)
        report(3, 4)
        report(3, 0)
    assert caplog.messages == ["decoding pets", "decoding pets: 50%", "decoding pets: 3"]
