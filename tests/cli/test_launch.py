from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rushkit.cli import launch

# What a rank does: 0 stays until it is stopped.
STAY = "import signal, sys; signal.pause()"
AFTER_RANK_1 = f"while not pathlib.Path(os.environ[{launch.ERROR_FILE!r}]).with_name('1').exists(): pass"


def command(rank_1: str, rank_0: str = STAY) -> list[str]:
    body = f"""
import os, pathlib, signal, sys
def note(text): pathlib.Path(os.environ[{launch.ERROR_FILE!r}]).write_text(text)
if os.environ["RANK"] == "1":
    {rank_1}
else:
    {rank_0}
"""
    return [sys.executable, "-c", body]


def test_the_environment_is_that_of_torchrun(capfd):
    body = "print(*(os.environ[key] for key in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR')))"
    assert launch.run_ranks([sys.executable, "-c", f"import os; {body}"], 2) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["0 0 2 127.0.0.1", "1 1 2 127.0.0.1"]


def test_a_rank_that_fails_ends_the_job_with_its_error(capfd):
    assert launch.run_ranks(command("note('error: no room\\n'); sys.exit(3)"), 2) == 3
    assert capfd.readouterr().err == "error: no room\n"


def test_a_rank_that_is_killed_ends_the_job(capfd):
    assert launch.run_ranks(command("os.kill(os.getpid(), signal.SIGKILL)"), 2) == 1
    assert "rank 1 was killed by SIGKILL" in capfd.readouterr().err


def test_the_cause_is_shown_and_not_what_it_did_to_the_others(capfd):
    """Rank 0 fails because rank 1 has gone, and may be noticed first."""
    failing = f"\n    {AFTER_RANK_1}\n    note('error: connection closed\\n'); sys.exit(1)"
    assert launch.run_ranks(command("note('error: the cause\\n'); sys.exit(1)", failing), 2) == 1
    assert capfd.readouterr().err == "error: the cause\n"


def test_interrupted_ranks_may_take_their_time_to_save(capfd):
    """The first to leave with 130 is no reason to stop the others."""
    saving = f"\n    {AFTER_RANK_1}\n    note('error: stopped at step 7\\n'); sys.exit(130)"
    assert launch.run_ranks(command("note(''); sys.exit(130)", saving), 2) == 130
    assert capfd.readouterr().err == "error: stopped at step 7\n"


def test_ranks_end_when_the_process_that_started_them_is_killed(tmp_path):
    rank = "import os, signal; from rushkit.cli.launch import launch; launch(2, None)"
    rank += "; print(os.getpid(), flush=True); signal.pause()"
    starts = f"import sys; from rushkit.cli.launch import run_ranks; run_ranks([sys.executable, '-c', {rank!r}], 2)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, "-c", starts], stdout=subprocess.PIPE, text=True, env=environment)
    pids = [int(parent.stdout.readline()) for _ in range(2)]
    parent.kill()
    try:
        # The ranks write to this pipe: it ends when the last of them does.
        assert parent.communicate(timeout=60) == ("", None)
    except subprocess.TimeoutExpired:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        raise


@pytest.mark.parametrize("count", [1, 4])
def test_one_process_or_a_rank_just_goes_on(monkeypatch, count):
    if count > 1:
        monkeypatch.setenv("WORLD_SIZE", str(count))
    launch.launch(count, None)
