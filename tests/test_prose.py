from __future__ import annotations

import io

import pytest
from rich.console import Group
from rich.table import Table
from rich.text import Text

from rushkit.bar import with_prose_wrapped
from rushkit.cli.app import main
from rushkit.prose import fitted, width_of, wrapped
from rushkit.run.speaker import Speaker


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_break_at_words_and_keep_their_indent():
    assert wrapped("one two three four five six\n  seven eight nine ten eleven", 20) == (
        "one two three four\nfive six\n  seven eight nine\n  ten eleven"
    )


def test_every_line_fits_where_the_words_do_and_no_word_is_lost():
    text = "Covered: l1 perturbations of a test image, of any kind, up to the image's radius. " * 3
    for width in (20, 41, 80, 120):
        lines = wrapped(text, width).split("\n")
        assert max(map(len, lines)) <= width
        assert " ".join(lines).split() == text.split()


def test_a_long_word_such_as_a_path_stays_whole():
    path = "/home/somebody/a/very/long/folder/of/runs"
    assert wrapped(f"the run is in {path} now", 20) == f"the run is in\n{path}\nnow"


def test_a_command_stays_whole_to_be_pasted():
    command = "rushkit pretrain --resume --run 'my runs/one'"
    assert wrapped(f"everything is saved; go on with: {command}, or not", 40) == (
        f"everything is saved; go on with:\n{command},\nor not"
    )


def test_less_than_20_columns_and_a_pipe_are_left_alone():
    text = "some words " * 9
    assert wrapped(text, 10) == text
    assert fitted(text, io.StringIO()) == text


def test_the_width_is_that_of_columns_or_of_the_terminal_or_80(monkeypatch):
    monkeypatch.setenv("COLUMNS", "33")
    assert width_of(Terminal()) == 33
    monkeypatch.setenv("COLUMNS", "wide")
    assert width_of(Terminal()) == 80


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")


def test_a_speaker_wraps_on_a_terminal_and_its_log_has_whole_lines(narrow, monkeypatch):
    stream, heard = Terminal(), []
    monkeypatch.setattr("sys.stderr", stream)
    text = "these words are more than forty columns wide, so they wrap"
    Speaker(sink=heard.append).warn(text)
    assert stream.getvalue() == "warning: these words are more than forty\ncolumns wide, so they wrap\n"
    assert heard == [f"warning: {text}"]


def test_an_error_and_its_hint_wrap_on_a_terminal(narrow, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    assert main(["recipe", "show", "no-such-recipe-in-all-the-world"]) == 2
    lines = stream.getvalue().splitlines()
    assert len(lines) > 2
    assert all(len(line) <= 40 or " " not in line.strip() or "rushkit" in line for line in lines)


def test_prose_beside_a_table_wraps_and_tables_and_plain_strings_do_not():
    table, words = Table(), "one two three four five six"
    group = with_prose_wrapped(Group(table, Text(words), words), 20)
    assert group.renderables[0] is table
    assert group.renderables[1].plain == "one two three four\nfive six"
    assert group.renderables[2] == words
