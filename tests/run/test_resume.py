"""The parts of a run together: killed again and again, it ends as if it never had been."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import warnings
from pathlib import Path

import pytest
import torch

from rushkit.results.run_file import Facts
from rushkit.run.folder import Run
from rushkit.run.metrics import read_metrics
from rushkit.run.optimizer_state import optimizer_tensors, restore_optimizer
from rushkit.run.speaker import Speaker
from rushkit.system import generator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills are tried in forked children")

STEPS, EVERY = 40, 3


def train(run: Run) -> torch.Tensor:
    """Fit a vector by SGD with momentum on draws that depend on the step alone; resumes by itself."""
    weight = torch.nn.Parameter(torch.zeros(8))
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    step = 0
    latest = run.checkpoints.load_latest()
    if latest:
        step = latest.meta["step"]
        weight.data.copy_(latest.tensors["weight"])
        restore_optimizer(optimizer, latest.tensors, latest.meta["optimizer"])
    run.metrics.keep_until(step)
    while step < STEPS:
        step += 1
        optimizer.zero_grad()
        loss = (weight - torch.randn(8, generator=generator(1, "target", step))).square().sum()
        loss.backward()
        optimizer.step()
        run.metrics.append(step=step, loss=loss)
        if step % EVERY == 0 or step == STEPS:
            tensors, state = optimizer_tensors(optimizer)
            run.save_checkpoint(step, {**tensors, "weight": weight}, {"step": step, "optimizer": state})
    return weight.detach()


def train_until_killed(path: Path, call: int) -> None:
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "c_call"
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)
    with Run.open(path, Speaker(-1, rank=0)) as run:
        train(run)


def test_a_run_killed_at_twenty_random_moments_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    speaker = Speaker(-1, rank=0)
    with Run.create(tmp_path, "pretrain", "whole", Facts(), "", speaker) as whole:
        expected = train(whole)
    Run.create(tmp_path, "pretrain", "killed", Facts(), "", speaker).close()
    path = next(tmp_path.glob("*-killed-*"))
    chance = random.Random(3)
    for _ in range(20):
        call = chance.randrange(300, 2500)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                train_until_killed(path, call)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == -signal.SIGKILL, "the run was over before it was killed often enough"
    with Run.open(path, speaker) as resumed:
        assert 0 < len(read_metrics(path / "metrics.jsonl")) < STEPS
        assert torch.equal(train(resumed), expected)
    assert [line["step"] for line in read_metrics(path / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert read_metrics(path / "metrics.jsonl") == read_metrics(whole.path / "metrics.jsonl")
    assert len(resumed.about.sessions) >= 3
