"""Pre-training in a process of its own, whose reader or terminal goes away: it saves, or it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from commands import TINY, only, sets

from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.metrics import read_metrics

# Checkpoints come too late to be of any help: only the save on stopping counts.
LONG = (*TINY, "pretrain.epochs=100000", "pretrain.save_every=100000", "pretrain.knn.every=0")
GUARD = 240


def pretraining(*arguments: str, changes: tuple[str, ...] = LONG) -> list[str]:
    return [sys.executable, "-m", "rushkit", "pretrain", "--recipe", "digits", "-v", *arguments, *sets(*changes)]


def at_epoch_1(reads: int) -> None:
    """Read what is said until the first epoch is over, and training is in the midst of the second."""
    said = b""
    # With its colon: behind the bar's "epoch 1" another rank's warning may begin with a path.
    while re.search(rb"epoch 1/\d+:", said) is None:
        part = os.read(reads, 4096)
        assert part, said
        said += part


def stopped_and_saved(runs: Path) -> None:
    run = only(runs, "pretrain")
    assert json.loads((run / "run.json").read_text())["status"] == "interrupted"
    step = read_metrics(run / "metrics.jsonl")[-1]["step"]
    last = load_checkpoint(run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip())
    assert last.meta["step"] == step > 1


def on_a_terminal(command: list[str], ignore_hangup: bool = False) -> tuple[subprocess.Popen[bytes], int]:
    """Start a command as the leader of a session on a terminal; returns it and the terminal's other end."""
    master, slave = os.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        # Not as the tests themselves have it, which may run under nohup.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignore_hangup else signal.SIG_DFL)

    child = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=take_terminal
    )
    os.close(slave)
    return child, master


def test_ctrl_c_under_tee_saves(folder):
    """Ctrl-C goes to the whole group, and ``tee`` is gone before the command has said that it saves."""
    reads, writes = os.pipe()
    child = subprocess.Popen(pretraining(), stdout=writes, stderr=subprocess.STDOUT, start_new_session=True)
    os.close(writes)
    try:
        at_epoch_1(reads)
        os.close(reads)
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(GUARD) == 130
    finally:
        child.kill()
        child.wait()
    stopped_and_saved(folder / "runs")


@pytest.mark.parametrize("ranks", [[], ["--nproc", "2"]], ids=["one process", "two ranks"])
def test_a_terminal_that_closes_stops_as_sigterm_does(folder, ranks):
    child, master = on_a_terminal(pretraining(*ranks))
    try:
        at_epoch_1(master)
        os.close(master)
        assert child.wait(GUARD) == 130
    finally:
        child.kill()
        child.wait()
    stopped_and_saved(folder / "runs")


def test_under_nohup_training_outlives_its_terminal(folder):
    child, master = on_a_terminal(pretraining(changes=(*TINY, "pretrain.epochs=30")), ignore_hangup=True)
    try:
        at_epoch_1(master)
        os.close(master)
        assert child.wait(GUARD) == 0
    finally:
        child.kill()
        child.wait()
    assert json.loads((only(folder / "runs", "pretrain") / "run.json").read_text())["status"] == "finished"
