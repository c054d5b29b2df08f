"""Training outlives its audience and its log, and a second Ctrl-C the save that the first one asked for."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import sys

import pytest
from tiny_runs import QUIET, checkpoint_of, pretrained

from rushkit.errors import Interrupted, RushkitError
from rushkit.run import store
from rushkit.run.speaker import Speaker
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain


class Broken(io.StringIO):
    """A stream that raises what it is told to, as soon as it is used."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error

    flush = write


FAILURES = {
    "a reader that left": lambda: Broken(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "a full disk": lambda: Broken(OSError(errno.ENOSPC, "No space left on device")),
    "a terminal that hung up": lambda: Broken(OSError(errno.EIO, "Input/output error")),
    "a closed stream": lambda: Broken(ValueError("I/O operation on closed file")),
    "a notebook's stream": lambda: Broken(LookupError("no kernel")),
    "no stream": lambda: None,
}


@pytest.fixture(params=FAILURES)
def break_streams(request, monkeypatch):
    """Call it to break stdout and stderr."""

    def act() -> None:
        monkeypatch.setattr(sys, "stdout", FAILURES[request.param]())
        monkeypatch.setattr(sys, "stderr", FAILURES[request.param]())

    yield act
    monkeypatch.undo()


def test_a_signal_saves_though_saying_so_fails(tiny, at_step, break_streams):
    def stop() -> None:
        break_streams()
        signal.raise_signal(signal.SIGINT)

    recipe = tiny()
    at_step(4, stop)
    run = start_run("pretrain", recipe, Speaker(1, rank=0))
    with pytest.raises(Interrupted, match="stopped at step 4 of 6"), run:
        pretrain(recipe, run)
    assert checkpoint_of(run).meta["step"] == 4
    assert run.about.status == "interrupted"


def test_training_goes_on_without_its_audience(tiny, at_step, break_streams):
    recipe = tiny()
    whole = checkpoint_of(pretrained(recipe))
    at_step(2, break_streams)
    with start_run("pretrain", recipe, Speaker(1, rank=0)) as run:
        pretrain(recipe, run)
    assert run.about.status == "finished"
    assert checkpoint_of(run).hash == whole.hash
    # The log has heard what nobody else could.
    assert "epoch 2/2" in (run.path / "log.txt").read_text()


def test_a_log_that_cannot_be_written_neither_stops_training_nor_its_save(tiny, at_step, capsys):
    recipe = tiny()
    run = start_run("pretrain", recipe, Speaker(1, rank=0))

    def stop() -> None:
        (run.path / "log.txt").unlink(missing_ok=True)
        (run.path / "log.txt").mkdir()
        signal.raise_signal(signal.SIGTERM)

    at_step(2, stop)
    with pytest.raises(Interrupted, match="stopped at step 2 of 6"), run:
        pretrain(recipe, run)
    assert checkpoint_of(run).meta["step"] == 2
    assert capsys.readouterr().err.count("log.txt cannot be written") == 1


def test_a_second_ctrl_c_while_it_saves_loses_nothing(tiny, at_step, monkeypatch):
    original = store.save_checkpoint

    def interrupted_again(path, *arguments):
        signal.raise_signal(signal.SIGINT)
        original(path, *arguments)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(store, "save_checkpoint", interrupted_again)
    recipe = tiny()
    at_step(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises((Interrupted, KeyboardInterrupt)) as raised, run:
        pretrain(recipe, run)
    assert raised.type is Interrupted
    assert checkpoint_of(run).meta["step"] == 2


@pytest.mark.parametrize("gone", ["the folder", "what is in it"])
def test_a_run_whose_folder_is_deleted_fails_and_does_not_come_back_half(tiny, at_step, gone):
    recipe = tiny()
    run = start_run("pretrain", recipe, QUIET)

    def delete() -> None:
        shutil.rmtree(run.path)
        if gone != "the folder":
            run.path.mkdir()

    at_step(2, delete)
    with pytest.raises(RushkitError, match=r"folder .* is gone") as raised, run:
        pretrain(recipe, run)
    assert raised.value.exit_code == 1
    assert {path.name for path in run.path.glob("*")} <= {"metrics.jsonl"}
