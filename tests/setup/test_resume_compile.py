"""``--resume`` may switch the compiler, which changes results by rounding at most, and nothing that changes more."""

from __future__ import annotations

import pytest
from tiny_runs import QUIET, calling_after_step, die

from rushkit.errors import UsageError
from rushkit.setup.resume import Stopped, check_changes, reopen
from rushkit.setup.start import start_run
from rushkit.training.pretrain import pretrain


@pytest.fixture
def stopped(tiny):
    """A pre-training that was started without the compiler, and died."""
    recipe = tiny("system.compile=off")
    with pytest.raises(RuntimeError), start_run("pretrain", recipe, QUIET) as run, calling_after_step(4, die):
        pretrain(recipe, run)
    return Stopped("pretrain", recipe.system.runs_dir, str(run.path))


@pytest.mark.parametrize(
    ("changes", "expected"), [([], "off"), (["system.compile=on"], "on"), (["system.compile=auto"], "auto")]
)
def test_a_resumed_run_keeps_its_setting_unless_it_is_given_another(stopped, changes, expected):
    recipe, run = reopen(stopped, changes, QUIET)
    run.close()
    assert recipe.system.compile == expected


def test_a_resumed_run_with_another_setting_goes_on(stopped):
    recipe, run = reopen(stopped, ["system.compile=auto"], QUIET)
    with run:
        assert pretrain(recipe, run).epochs == recipe.pretrain.epochs


@pytest.mark.parametrize(
    "change",
    ["system.seed=1", "system.precision=bf16", "system.recompute=on", "pretrain.epochs=9", "pretrain.optimizer.lr=1"],
)
def test_what_changes_more_is_refused(change):
    with pytest.raises(UsageError, match=f"--resume goes on with the recipe of the run; it cannot take --set {change}"):
        check_changes("pretrain", [change])
