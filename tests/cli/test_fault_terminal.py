"""Names out of other people's files reach the terminal without the control characters that are in them."""

from __future__ import annotations

import json
import re
import sys

import pytest
from commands import sets

from rushkit.bar import Progress
from rushkit.cli.complete import complete_runs
from rushkit.errors import CheckpointError
from rushkit.recipe.load import load_recipe
from rushkit.results.run_file import Facts
from rushkit.run.folder import Run
from rushkit.run.names import LOG_FILE
from rushkit.run.speaker import Speaker

# Writes to the clipboard, clears the screen, goes to the beginning of the line, turns the direction of writing.
EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2J\r\x7f\u202e\u2028"
DANGEROUS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def terminal_text(text: str) -> str:
    """The text less the colours of rich and of rushkit, which are their own."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def evil_run(folder):
    """A run folder from somebody else, whose texts hold control characters."""
    place = folder / "runs" / f"evil{EVIL}-run"
    place.mkdir(parents=True)
    facts = {
        "verb": "pretrain", "recipe": f"r{EVIL}", "status": "failed", "started": "2030-01-01T00:00:00+00:00",
        "machine": f"m{EVIL}", "sessions": [],
    }  # fmt: skip
    (place / "run.json").write_text(json.dumps(facts))
    return place


@pytest.mark.parametrize("words", [("runs", "list"), ("runs", "show"), ("runs", "clean"), ("runs", "compare")])
def test_tables_and_texts_of_runs_show_control_characters_as_escapes(cli, evil_run, words):
    arguments = {"show": [evil_run.name], "compare": [str(evil_run), str(evil_run)]}.get(words[1], [])
    said = cli(*words, *arguments)
    assert said.code == 0, said.err
    assert not DANGEROUS.search(said.out + said.err)
    assert r"\x1b]52;c" in said.out


def test_an_error_that_names_a_file_shows_its_control_characters_as_escapes(fails, folder):
    said = fails(2, "pretrain", "--recipe", f"no{EVIL}.toml")
    assert not DANGEROUS.search(said.err)
    assert r"no\x1b]52;c" in said.err


def test_typers_own_errors_show_control_characters_as_escapes(fails):
    said = fails(2, "recipe", "list", f"extra{EVIL}")
    assert not DANGEROUS.search(said.err)
    assert r"extra\x1b]52;c" in said.err


def test_the_traceback_of_debug_shows_control_characters_as_escapes(cli):
    said = cli("pretrain", "--recipe", f"no{EVIL}.toml", "--debug")
    assert "Traceback" in said.err
    assert not DANGEROUS.search(said.err)


def test_an_uncaught_error_prints_its_control_characters_as_escapes():
    assert str(CheckpointError(f"a{EVIL}b", f"c{EVIL}d")) == (
        "a\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J\\x9b2J\\r\\x7f\\u202e\\u2028b\n"
        "c\\x1b]52;c;ZXZpbA==\\x07\\x1b[2J\\x9b2J\\r\\x7f\\u202e\\u2028d"
    )


def test_completion_offers_no_word_that_a_shell_would_obey(evil_run):
    facts = json.loads((evil_run / "run.json").read_text())
    for name, recipe in (("a$(id)", "b;id"), ("plain", "c\nd"), ("q'uote", "e`id`"), ("fine-1", f"f{EVIL}[/x]")):
        place = evil_run.parent / name
        place.mkdir()
        (place / "run.json").write_text(json.dumps(facts | {"recipe": recipe}))
    offers = [offer for offer in complete_runs("") + complete_runs("runs/") if not offer[0].startswith("shipped/")]
    assert {name for name, _ in offers} == {"plain", "fine-1", "runs/plain", "runs/fine-1"}
    assert not DANGEROUS.search("".join(about for _, about in offers))
    assert "\n" not in "".join(about for _, about in offers)


def test_sentences_warnings_and_the_log_show_control_characters_as_escapes(folder, capsys):
    run = Run.create(folder, "pretrain", f"r{EVIL}", Facts(), "", Speaker(rank=0))
    run.speaker.say(f"say {EVIL}")
    run.speaker.warn(f"warn {EVIL}")
    run.fail(ValueError(f"fail {EVIL}"))
    out, err = capsys.readouterr()
    log = (run.path / LOG_FILE).read_text()
    for text in (out, err, log):
        assert r"\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b2J\r\x7f\u202e\u2028" in text
        assert not DANGEROUS.search(text)
    assert "ValueError: fail" in log


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_and_its_lines_show_control_characters_as_escapes(capsys, monkeypatch, terminal):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with Progress(2, f"label{EVIL}", clock=iter(range(0, 1000, 10)).__next__) as progress:
        progress.advance(1, **{f"value{EVIL}": 1.0})
        progress.row(**{f"column{EVIL}": 1.0})
    err = capsys.readouterr().err
    assert r"label\x1b]52;c" in err
    assert not DANGEROUS.search(terminal_text(err).replace("\r", ""))


def test_a_recipe_in_python_shows_control_characters_as_escapes():
    from rich.console import Console

    changes = {"data.name": f"d{EVIL}", "name": f"n{EVIL}[/x]", "data.o": f"v{EVIL}"}
    recipe = load_recipe("digits", changes, {}, components=False)
    console = Console(width=400)
    with console.capture() as captured:
        console.print(recipe)
    for text in (repr(recipe), captured.get()):
        assert r"\x9b2J" in text
        assert not DANGEROUS.search(text)


def test_recipe_show_escapes_what_stands_in_a_file(cli, folder):
    (folder / "mine.toml").write_text(f'# {EVIL.replace(chr(13), "")}\n[data]\nname = "digits"\n')
    said = cli("recipe", "show", "mine.toml")
    assert said.code == 0
    assert not DANGEROUS.search(said.out)
    changed = cli("recipe", "show", "digits", "--resolved", *sets("data.path=\x9b2J"))
    assert not DANGEROUS.search(changed.out)
