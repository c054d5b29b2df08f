"""Ctrl-C and SIGTERM while a command starts: it ends with 130 and one word, whatever became of the exception."""

from __future__ import annotations

import signal

import pytest
import signals_at_imports
from commands import TINY, sets

START = ["pretrain", "--recipe", "digits", *sets(*TINY)]


@pytest.mark.parametrize("module", ["typer", "rushkit.cli.app", "rushkit.cli.usage"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_the_first_imports_is_one_word(folder, module, number):
    verb = ["pretrain", "--no-such-option"] if module == "rushkit.cli.usage" else ["recipe", "list"]
    done = signals_at_imports.run(folder, verb, module, "propagates", number)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("module", "fate"),
    [
        ("torch", "becomes another one"),
        ("numpy", "is lost in a finalizer"),
        ("timm", "is swallowed"),
        ("rushkit.setup.start", "is lost in a finalizer"),
    ],
)
def test_a_signal_that_an_import_does_not_pass_on_is_heard_all_the_same(folder, module, fate):
    done = signals_at_imports.run(folder, START, module, fate, signal.SIGINT)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "error: interrupted" in done.stderr or "error: stopped at step" in done.stderr


def test_a_signal_that_is_lost_in_a_short_command_is_heard_at_its_end(folder):
    done = signals_at_imports.run(folder, ["recipe", "list"], "rushkit.recipe.find", "is swallowed", signal.SIGINT)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


@pytest.mark.parametrize(
    ("module", "fate", "ranks"),
    [
        ("rushkit", "goes through the launcher", ("0",)),
        ("typer", "propagates", ("0", "1")),
        ("torch", "is swallowed", ("1",)),
        ("rushkit.training.pretrain", "propagates", ("1",)),
    ],
)
def test_ranks_that_a_signal_reaches_while_they_start_end_together(folder, module, fate, ranks):
    done = signals_at_imports.run(folder, [*START, "--nproc", "2"], module, fate, signal.SIGINT, ranks)
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "error: interrupted" in done.stderr or "error: stopped at step" in done.stderr
