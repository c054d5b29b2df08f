from __future__ import annotations

import io
import re
import weakref

import pytest
import torch

from rushkit.bar import BYTES, Progress, line_pause
from rushkit.place import Place
from rushkit.run.speaker import Speaker


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture(autouse=True)
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


def test_a_pipe_gets_a_line_every_few_seconds_with_rate_and_time_left():
    clock, stream = Clock(), io.StringIO()
    with Progress(100, "pretrain", "steps", stream=stream, clock=clock) as bar:
        for step in range(20):
            clock.now += 1
            bar.advance(2, loss=1 / (step + 1))
    assert stream.getvalue().splitlines() == [
        "pretrain: 10/100 steps, 2 steps/s, 45 s left, loss 0.2",
        "pretrain: 20/100 steps, 2 steps/s, 40 s left, loss 0.1",
        "pretrain: 30/100 steps, 2 steps/s, 35 s left, loss 0.0667",
        "pretrain: 40/100 steps, 2 steps/s, 30 s left, loss 0.05",
        "pretrain: 40/100 steps, 2 steps/s, in 20 s, loss 0.05",
    ]


def test_the_rate_is_that_of_the_last_minute_and_in_the_end_that_of_the_whole():
    clock, stream = Clock(), io.StringIO()
    with Progress(1000, "attack", "images", stream=stream, clock=clock) as bar:
        clock.now += 100
        bar.advance(1)
        for _ in range(20):
            clock.now += 10
            bar.advance(10)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "attack: 1/1000 images"
    assert "1 images/s" in lines[-2]
    assert "13 min 19 s left" in lines[-2]
    assert "0.67 images/s, in 5 min 0 s" in lines[-1]


def test_a_day_in_a_pipe_is_a_few_hundred_lines_and_the_first_come_every_5_seconds():
    clock, stream = Clock(), io.StringIO()
    with Progress(86_400, "pretrain", stream=stream, clock=clock) as bar:
        for _ in range(100):
            clock.now += 1
            bar.advance()
        assert len(stream.getvalue().splitlines()) == 20
        for _ in range(86_300):
            clock.now += 1
            bar.advance()
    assert 200 < len(stream.getvalue().splitlines()) < 300
    assert [line_pause(elapsed) for elapsed in (0, 100, 3600, 86_400)] == [5, 5, 180, 600]


def left(text: str) -> bool:
    return "left" in text or "/s" in text


def shown_after(*advances: tuple[float, int], total: int = 1000) -> str:
    """The last line after units (seconds that they took, how many) were done, before the work ended."""
    clock, stream = Clock(), io.StringIO()
    with Progress(total, "audit", stream=stream, clock=clock) as bar:
        for seconds, units in advances:
            clock.now += seconds
            bar.advance(units)
        return stream.getvalue().splitlines()[-1]


def test_a_first_step_and_a_stall_and_a_change_of_pace_give_no_time_left():
    # The first step compiles; a second one is no rate yet; the third makes it one.
    assert not left(shown_after((60, 1)))
    assert not left(shown_after((60, 1), (5, 1)))
    assert "0.2 steps/s, 1 h 23 min left" in shown_after((60, 1), (5, 1), (5, 1))
    # Ten quick steps, then one that takes its time, of which advance(0) tells.
    assert "1 steps/s" in shown_after(*[(1, 1)] * 10)
    assert not left(shown_after(*[(1, 1)] * 10, (45, 0)))
    # Items of very different cost say nothing about those to come.
    assert not left(shown_after((5, 10), (5, 10), (5, 1)))


def test_an_epochs_figures_are_in_a_pipe_too_with_those_that_only_some_epochs_have():
    clock, stream = Clock(), io.StringIO()
    with Progress(30, "pretrain", stream=stream, clock=clock) as bar:
        for epoch in range(1, 4):
            clock.now += 2
            bar.advance(10)
            bar.row(epoch=epoch, loss=1 / epoch, **({"knn_accuracy": 0.5} if epoch == 2 else {}))
    assert [line for line in stream.getvalue().splitlines() if "epoch" in line] == [
        "pretrain: epoch 2, loss 0.5, knn 50.0 %, time 2.0 s",
        "pretrain: epoch 3, loss 0.333, time 2.0 s",
    ]
    stream.truncate(0)
    with Progress(30, "pretrain", stream=stream, clock=Clock()) as bar:
        bar.row(epoch=1, loss=1.0, knn_accuracy=0.25)
        bar.row(epoch=2, loss=0.5)
    assert "pretrain: epoch 2, loss 0.5, time 0.0 s, knn 25.0 % (epoch 1)" in stream.getvalue()


def test_a_resumed_run_counts_from_where_it_was_but_its_rate_is_its_own():
    clock, stream = Clock(), io.StringIO()
    with Progress(100, "pretrain", start=90, stream=stream, clock=clock) as bar:
        for _ in range(5):
            clock.now += 1
            bar.advance(1)
    assert stream.getvalue().splitlines() == [
        "pretrain: 95/100 steps, 1 steps/s, 5.0 s left",
        "pretrain: 95/100 steps, 1 steps/s, in 5.0 s",
    ]


def test_an_unknown_total_has_no_time_left():
    clock, stream = Clock(), io.StringIO()
    with Progress(None, "certify", "samples", stream=stream, clock=clock) as bar:
        for _ in range(5):
            clock.now += 1
            bar.advance(10_000)
    assert stream.getvalue().splitlines()[0] == "certify: 50000 samples, 10000 samples/s"


def test_values_are_read_only_when_they_are_shown():
    class Costly:
        reads = 0

        def __float__(self) -> float:
            Costly.reads += 1
            return 0.5

    clock = Clock()
    with Progress(10, "pretrain", stream=io.StringIO(), clock=clock) as bar:
        for _ in range(9):
            bar.advance(loss=Costly())
        assert Costly.reads == 0
        clock.now += 6
        bar.advance(loss=Costly())
        assert Costly.reads == 1


def test_a_terminal_gets_a_bar_with_the_same_words():
    clock, stream = Clock(), Terminal()
    with Progress(10, "pretrain", stream=stream, clock=clock) as bar:
        for _ in range(5):
            clock.now += 1
            bar.advance(1, loss=0.25)
        assert bar.write("[bold] is no markup here")
    shown = plain(stream.getvalue())
    assert "━" in shown
    assert "pretrain: 5/10 steps, 1 steps/s, 5.0 s left, loss 0.25" in shown
    assert "[bold] is no markup here" in shown


def test_no_color_leaves_the_bar_without_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    clock, stream = Clock(), Terminal()
    with Progress(10, "pretrain", stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.advance(5)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", stream.getvalue())
    monkeypatch.delenv("NO_COLOR")
    coloured = Terminal()
    with Progress(10, "pretrain", stream=coloured, clock=clock) as bar:
        bar.advance(5)
    assert re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", coloured.getvalue())


def test_a_dumb_terminal_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with Progress(10, "pretrain", stream=stream, clock=Clock()) as bar:
        bar.advance(5)
    assert stream.getvalue() == "pretrain: 5/10 steps, in 0.0 s\n"


def test_quiet_says_nothing():
    stream = io.StringIO()
    with Progress(10, "pretrain", stream=stream, quiet=True) as bar:
        bar.advance(10)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("verbosity", "out", "err"),
    [(-1, "", "warning: w\n"), (0, "s\n", "warning: w\n"), (1, "s\nd\n", "warning: w\n")],
)
def test_verbosity_chooses_what_is_heard_and_warnings_always_are(capsys, verbosity, out, err):
    speaker = Speaker(verbosity)
    speaker.say("s")
    speaker.detail("d")
    speaker.warn("w")
    assert capsys.readouterr() == (out, err)


def test_with_json_stdout_stays_empty(capsys):
    speaker = Speaker(1, json=True)
    speaker.say("s")
    speaker.detail("d")
    with speaker.progress(1, "evaluate") as bar:
        bar.advance()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("s\nd\nevaluate: 1/1 steps")


def test_ranks_other_than_0_are_silent(capsys, monkeypatch):
    monkeypatch.setattr("rushkit.place._taken", Place(rank=1, world=2))
    heard: list[str] = []
    speaker = Speaker(1, sink=heard.append)
    speaker.say("s")
    speaker.warn("w")
    with speaker.progress(1, "evaluate") as bar:
        bar.advance()
    assert capsys.readouterr() == ("", "")
    assert heard == []


def test_the_log_hears_everything_whatever_the_verbosity():
    heard: list[str] = []
    speaker = Speaker(-1).with_sink(heard.append)
    speaker.say("s")
    speaker.detail("d")
    assert heard == ["s", "d"]


def test_progress_inside_progress_is_silent(capsys):
    speaker = Speaker(rank=0)
    with speaker.progress(1, "outer") as outer:
        with speaker.progress(5, "inner") as inner:
            inner.advance(5)
        with speaker.progress(5, "inner again") as inner:
            inner.advance(5)
        outer.advance()
    with speaker.progress(1, "next") as bar:
        bar.advance()
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["outer", "next"]


def test_the_line_of_the_outer_progress_says_how_far_its_part_is():
    clock, stream = Clock(), io.StringIO()
    with (
        Progress(10, "pretrain", stream=stream, clock=clock) as bar,
        Progress(600, "kNN", "images", quiet=True, clock=clock, within=bar) as part,
    ):
        clock.now += 5
        part.advance(200)
    assert stream.getvalue().splitlines() == [
        "pretrain: 0/10 steps, kNN 200/600 images",
        "pretrain: 0/10 steps, in 5.0 s",
    ]


def test_a_loss_is_shown_without_keeping_its_graph_alive():
    stream = io.StringIO()
    with Progress(1, "pretrain", stream=stream, clock=Clock()) as bar:
        loss = torch.tensor(2.0, requires_grad=True) * 2
        with_graph = weakref.ref(loss)
        bar.advance(loss=loss)
        del loss
        assert with_graph() is None
    assert "loss 4" in stream.getvalue()


def test_quiet_speakers_show_no_progress(capsys):
    with Speaker(-1).progress(1, "evaluate") as bar:
        bar.advance()
    assert capsys.readouterr() == ("", "")


def test_a_character_that_the_stream_cannot_show_is_escaped(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    Speaker().say("recipe é \ud800")
    assert stream.buffer.getvalue() == b"recipe \\xe9 \\ud800\n"


def test_a_narrow_terminal_keeps_the_bar_on_one_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    clock, stream = Clock(), Terminal()
    with Progress(100_000, "pretrain", stream=stream, clock=clock) as bar:
        clock.now += 1
        bar.advance(5, loss=0.25, accuracy=0.5)
    drawn = [line for line in re.split(r"[\r\n]", plain(stream.getvalue())) if line.strip()]
    assert all(len(line) <= 50 and "pretrain" in line for line in drawn)


def test_a_warning_on_a_terminal_passes_above_the_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    speaker = Speaker()
    with speaker.progress(10, "pretrain") as bar:
        bar.advance(1)
        speaker.warn("look out")
    shown = plain(stream.getvalue())
    assert "\nwarning: look out\n" in shown.replace("\r", "\n") + "\n"
    speaker.warn("after")
    assert stream.getvalue().endswith("\x1b[33mwarning: after\x1b[0m\n")
    monkeypatch.setenv("NO_COLOR", "1")
    speaker.warn("plain")
    assert stream.getvalue().endswith("\nwarning: plain\n")


def frame(stream: Terminal) -> list[str]:
    """What stands on the terminal in place of the bar: all that was drawn since the last line was taken back."""
    return [line.rstrip() for line in plain(stream.getvalue().rpartition("\x1b[2K")[2]).splitlines()]


def test_a_terminal_shows_the_last_epochs_in_a_table_above_the_bar():
    clock, stream = Clock(), Terminal()
    with Progress(100, "pretrain", stream=stream, clock=clock) as bar:
        for epoch in range(1, 11):
            clock.now += 5
            bar.advance(10)
            clock.now += 60 * (epoch == 10)
            # Not every epoch has a look at the features.
            bar.row(epoch=epoch, loss=4 / epoch, **({"knn_accuracy": 0.5} if epoch % 4 == 0 else {}), lr=0.1)
        *table, below = frame(stream)
    assert table == [
        "epoch   loss     knn   lr       time",
        "    3   1.33          0.1      5.0 s",
        "    4      1  50.0 %  0.1      5.0 s",
        "    5    0.8          0.1      5.0 s",
        "    6  0.667          0.1      5.0 s",
        "    7  0.571          0.1      5.0 s",
        "    8    0.5  50.0 %  0.1      5.0 s",
        "    9  0.444          0.1      5.0 s",
        "   10    0.4          0.1  1 min 5 s",
    ]
    assert "pretrain: 100/100 steps" in below


def test_the_table_is_drawn_in_place_and_lines_pass_above_it():
    stream = Terminal()
    with Progress(10, "pretrain", stream=stream, clock=Clock()) as bar:
        bar.row(epoch=1, loss=0.5)
        bar.write("a warning")
        bar.row(epoch=2, loss=0.25)
        drawn = stream.getvalue().rpartition("a warning")[2]
    # Each frame takes back as many lines as the one before it has: header, rows, bar.
    assert drawn.count("\x1b[1A") == 2
    assert [line.split() for line in frame(stream)[:3]] == [
        ["epoch", "loss", "time"],
        ["1", "0.5", "0.0", "s"],
        ["2", "0.25", "0.0", "s"],
    ]


@pytest.mark.parametrize(
    ("width", "header"),
    [(24, "epoch  loss   lr   time"), (20, "epoch loss  lr  time"), (16, "epoch loss  lr"), (12, "epoch loss")],
)
def test_a_narrow_terminal_loses_gaps_and_then_the_last_columns_and_never_a_digit(monkeypatch, width, header):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = Terminal()
    with Progress(10, "pretrain", stream=stream, clock=Clock()) as bar:
        bar.row(epoch=1, loss=0.25, lr=0.1)
        shown = frame(stream)
    assert shown[0] == header
    assert shown[1].split()[:2] == ["1", "0.25"]
    assert all(len(line) <= width for line in shown)


def test_a_low_terminal_shows_fewer_epochs_and_always_the_bar(monkeypatch):
    monkeypatch.setenv("LINES", "6")
    stream = Terminal()
    with Progress(10, "pretrain", stream=stream, clock=Clock()) as bar:
        for epoch in range(1, 10):
            bar.row(epoch=epoch)
        shown = frame(stream)
    assert [line.split()[0] for line in shown[:4]] == ["epoch", "7", "8", "9"]
    assert "pretrain" in shown[4]


def test_a_quiet_progress_and_one_without_rows_have_none():
    for stream, quiet in ((Terminal(), True), (io.StringIO(), False)):
        with Progress(10, "pretrain", stream=stream, clock=Clock(), quiet=quiet) as bar:
            bar.rows = quiet
            bar.row(epoch=1, loss=0.5)
        assert "epoch" not in stream.getvalue()


def test_no_color_leaves_the_table_without_colours(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with Progress(10, "pretrain", stream=stream, clock=Clock()) as bar:
        bar.row(epoch=1, loss=0.5)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", stream.getvalue())


def test_bytes_are_shown_in_units_that_fit():
    clock, stream = Clock(), io.StringIO()
    with Progress(3 << 20, "downloading", BYTES, stream=stream, clock=clock) as bar:
        for _ in range(4):
            clock.now += 2.5
            bar.advance(1 << 18)
    assert stream.getvalue().splitlines()[1] == "downloading: 1.0 MiB/3.0 MiB, 102.4 KiB/s, 20 s left"
