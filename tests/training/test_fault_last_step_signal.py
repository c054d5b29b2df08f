"""A signal in the very last step of a training stops it as in any other: what follows may take long."""

from __future__ import annotations

import os
import signal

import pytest
from tiny_runs import QUIET, checkpoint_of

from rushkit.errors import Interrupted
from rushkit.run.folder import Run
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain


def test_a_signal_in_the_last_step_stops_the_run_and_it_can_be_finished(tiny, at_step):
    recipe = tiny()
    at_step(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    run = start_run("pretrain", recipe, QUIET)
    with pytest.raises(Interrupted, match="stopped at step 6 of 6"), run:
        pretrain(recipe, run)
    assert run.about.status == "interrupted"
    with Run.open(run.path, QUIET) as resumed:
        pretrain(recipe, resumed)
    assert resumed.about.status == "finished"
    assert checkpoint_of(resumed).meta["step"] == 6
