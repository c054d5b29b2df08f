"""Output that cannot be written: what is computed and saved counts, and the exit code says whether it is."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path

import pytest
from commands import TINY, only, sets

from rushkit.cli.app import main


@pytest.fixture
def to(monkeypatch):
    """``to(stream, stderr)``: what is printed from now on goes there."""

    streams = []

    def redirect(out, err=None) -> None:
        streams.extend([out, err])
        monkeypatch.setattr(sys, "stdout", out)
        if err is not None:
            monkeypatch.setattr(sys, "stderr", err)

    yield redirect
    monkeypatch.undo()
    for stream in filter(None, streams):
        # What a broken stream still holds cannot be written now either.
        with contextlib.suppress(OSError):
            stream.close()


def full():
    return Path("/dev/full").open("w")


def left():
    """A pipe whose reader is gone."""
    reads, writes = os.pipe()
    os.close(reads)
    return os.fdopen(writes, "w")


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@needs_full
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_training_on_a_full_disk_of_its_output_is_done(to, folder, more):
    to(full(), full())
    assert main(["pretrain", "--recipe", "digits", "-v", *more, *sets(*TINY)]) == 0
    assert json.loads((only(folder / "runs", "pretrain") / "run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("verb", ["evaluate", "finetune"])
def test_work_whose_result_is_saved_is_done_though_nobody_reads_it(to, runs, verb):
    to(left(), left())
    assert main([verb, "--from", str(only(runs, "pretrain" if verb == "finetune" else "finetune"))]) == 0
    assert (only(runs, verb) / "results.json").exists()


def test_work_without_any_standard_stream_is_done(to, folder, monkeypatch):
    to(None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["pretrain", "--recipe", "digits", *sets(*TINY)]) == 0
    assert (only(folder / "runs", "pretrain") / "results.json").exists()


@needs_full
@pytest.mark.parametrize("arguments", [["runs", "list"], ["recipe", "list", "--json"], ["--version"], ["--help"]])
def test_a_verb_that_only_prints_fails_where_it_cannot(to, runs, capsys, arguments):
    to(full())
    code = main(arguments)
    err = capsys.readouterr().err
    assert err.startswith("error: the standard output cannot be written: No space left on device\nhint: ")
    assert code == 1


def test_a_reader_that_has_enough_is_no_failure(to, runs, capsys):
    to(left())
    assert main(["runs", "list"]) == 0
    assert capsys.readouterr().err == ""


def test_a_result_in_letters_that_the_stream_lacks_is_printed_escaped(to, runs, capsys):
    run = only(runs, "pretrain")
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**about, "machine": "cpu – one thread"}))
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    to(stream)
    assert main(["runs", "show", run.name]) == 0
    assert "machine: cpu \\u2013 one thread" in stream.buffer.getvalue().decode()
