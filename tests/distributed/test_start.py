from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from rank_programs import AFTER_RANK_1, HOLD, STAY, program
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

from rushkit.cli.options import Ranks
from rushkit.distributed import start
from rushkit.errors import UsageError
from rushkit.place import leave_place


def test_the_environment_is_that_of_torchrun(capfd):
    body = "print(*(os.environ[key] for key in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'LOCAL_WORLD_SIZE')))"
    assert start.run_ranks([sys.executable, "-c", f"import os; {body}"], 2) == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["0 0 2 2", "1 1 2 2"]


def state_of_this_process() -> tuple[object, ...]:
    return threading.active_count(), dict(os.environ), signal.getsignal(signal.SIGTERM), os.fstat(0)[:3]


def test_nothing_of_the_agent_stays_behind(monkeypatch):
    before, shut_down, ended = state_of_this_process(), DynamicRendezvousHandler.shutdown, []
    monkeypatch.setattr(DynamicRendezvousHandler, "shutdown", lambda self: ended.append(shut_down(self)))
    assert start.run_ranks([sys.executable, "-c", "pass"], 2) == 0
    assert state_of_this_process() == before
    assert ended == [True]


def test_a_rank_that_fails_ends_the_job_with_its_error(folder, capfd):
    assert start.run_ranks(program(folder, STAY, "raise PluginError('no room')"), 2) == 3
    assert capfd.readouterr().err == "error: no room\n"


def test_a_rank_that_is_killed_ends_the_job(folder, capfd):
    assert start.run_ranks(program(folder, STAY, "os.kill(os.getpid(), signal.SIGKILL)"), 2) == 1
    assert "rank 1 was killed by SIGKILL" in capfd.readouterr().err


def test_interrupted_ranks_may_take_their_time_to_save(folder, capfd):
    """The first to leave with 130 is no reason to stop the others."""
    os.mkfifo("gone")
    saving = f"with graceful_stop():\n    {AFTER_RANK_1}\n    raise Interrupted('stopped at step 7', 'go on')"
    assert start.run_ranks(program(folder, saving, f"{HOLD}\nraise KeyboardInterrupt"), 2) == 130
    assert capfd.readouterr().err == "error: stopped at step 7\nhint: go on\n"


LEASHES = {
    "both": "",
    "the pipe, as where Linux is not": "sys.platform = 'another'; ",
    "the kernel, as while a library holds the interpreter": "threading.Thread.start = lambda thread: None; ",
}


@pytest.mark.parametrize("leash", LEASHES)
def test_ranks_end_when_the_process_that_started_them_is_killed(tmp_path, leash):
    rank = f"import os, signal, sys, threading; {LEASHES[leash]}"
    rank += "from rushkit.distributed.leash import put_on; put_on()"
    # At once, lest the lines of two ranks mix.
    rank += "; os.write(1, b'%d\\n' % os.getpid()); signal.pause()"
    starts = (
        f"import sys; from rushkit.distributed.start import run_ranks; run_ranks([sys.executable, '-c', {rank!r}], 2)"
    )
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


@pytest.fixture
def in_a_job_of(monkeypatch) -> Iterator[Callable[[int], None]]:
    """As torchrun would start this process."""
    yield partial(_set_environment, monkeypatch)
    leave_place()


def _set_environment(monkeypatch: pytest.MonkeyPatch, world: int) -> None:
    where = {"RANK": "0", "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for name, value in where.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("world", "nproc"), [(1, 1), (4, 4), (4, 1)])
def test_one_process_or_a_rank_just_goes_on(in_a_job_of, world, nproc):
    if world > 1:
        in_a_job_of(world)
    Ranks(None, nproc).launch()


def test_processes_are_not_started_inside_a_job_of_another_number(in_a_job_of):
    in_a_job_of(4)
    with pytest.raises(UsageError, match="--nproc 2 in a job of 4 ranks"):
        Ranks(None, 2).launch()
