"""A rank that is killed is replaced: all go on in the run of the first attempt, and end with the same weights."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rank_programs import program

from rushkit.distributed import start
from rushkit.run.checkpoint import load_checkpoint

# Twelve steps; a checkpoint behind each.
CHANGES = (
    "data.limit=32",
    "data.image_size=8",
    "projector.hidden=8",
    "projector.out=4",
    "pretrain.batch_size=16",
    "pretrain.epochs=6",
    "pretrain.save_every=1steps",
    "pretrain.knn.every=0",
)
STEPS = 12
SEEDS = range(2)
# A rank of pre-training: a kill comes at its n-th step, or earlier, at the n-th time that Python opens or imports.
_TRAIN = """
import json, os, signal, sys

plan = json.load(open("plan.json"))
rank, kind, left = plan.get(os.environ["TORCHELASTIC_RESTART_COUNT"], [-1, "", 0])
mine = rank == int(os.environ["RANK"])

def count(event):
    global left
    if mine and event == kind:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(lambda event, arguments: event in ("open", "import") and count("file"))
from rushkit import __main__
from rushkit.training import loop

train_batch = loop.train_batch

def counted(*arguments):
    count("step")
    return {loss}

loop.train_batch = counted
sys.exit(__main__.main())
"""


def by_torchrun(command: list[str], nproc: int, restarts: int) -> int:
    """As ``run_ranks``, under torchrun, which here opens no port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(nproc)]
    launcher += ["--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", "meeting"]
    launcher += ["--rdzv-conf", "store_type=file", "--local-addr", "127.0.0.1", "--monitor-interval", "0.1"]
    return subprocess.run([*launcher, *command[1:]], check=False).returncode


def trained(
    folder: Path,
    plan: dict[str, tuple[int, str, int]],
    loss: str = "train_batch(*arguments)",
    launch: Callable[..., int] = start.run_ranks,
) -> int:
    """Pre-train in two ranks, with kills: attempt -> (rank, kind of moment, how many of them pass before)."""
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "train.py").write_text(_TRAIN.replace("{loss}", loss))
    changes = [word for change in (*CHANGES, f"system.runs_dir={folder}/runs") for word in ("--set", change)]
    command = [sys.executable, str(folder / "train.py"), "pretrain", "--recipe", "digits", "-q", *changes]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return launch(command, 2, restarts=2)


def last_tensors(folder: Path) -> dict[str, bytes]:
    (run,) = (folder / "runs").iterdir()
    path = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    saved = load_checkpoint(path)
    assert saved.meta["step"] == STEPS
    return {name: tensor.numpy().tobytes() for name, tensor in saved.tensors.items()}


@pytest.fixture(scope="module")
def without_kills(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "job"
    assert trained(folder, {}) == 0
    return last_tensors(folder)


def moment(draws: random.Random) -> tuple[int, str, int]:
    """A random rank, and a random moment of its life: its start, its imports, or a step."""
    kind = draws.choice(("file", "step", "step"))
    return draws.randrange(2), kind, draws.randrange({"file": 3000, "step": STEPS // 2}[kind])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rank_that_is_killed_twice_changes_no_weight(tmp_path, capfd, without_kills, seed):
    draws = random.Random(seed)
    plan = {str(attempt): moment(draws) for attempt in range(2)}
    if seed == SEEDS[0]:
        # Before there is a checkpoint: the second attempt begins the run of the first one again.
        plan["0"] = (1, "step", 0)
    assert trained(tmp_path / "job", plan) == 0
    assert last_tensors(tmp_path / "job") == without_kills
    first, second = capfd.readouterr().err.splitlines()
    killed = [f"warning: rank {rank} was killed by SIGKILL: all ranks start again" for rank, _, _ in plan.values()]
    assert (first, second) == (f"{killed[0]} (attempt 2 of 3)", f"{killed[1]} (attempt 3 of 3)")


@pytest.mark.slow
def test_under_torchrun_a_rank_that_is_killed_changes_no_weight_either(tmp_path, without_kills):
    assert trained(tmp_path / "job", {"0": (1, "step", 5)}, launch=by_torchrun) == 0
    assert last_tensors(tmp_path / "job") == without_kills


@pytest.mark.slow
def test_under_torchrun_an_error_is_not_tried_again(folder, capfd):
    """torchrun starts the ranks again: they leave at once, and their error is the one that it shows."""
    end = "open('starts', 'a').write('.')\nraise PluginError('no')"
    assert by_torchrun(program(folder, end, end), 2, restarts=2) == 1
    # It may stop the second rank before that begins.
    assert (folder / "starts").read_text() in (".", "..")
    assert "traceback : error: no" in capfd.readouterr().err


def test_a_loss_that_is_nan_is_one_attempt_and_one_message(tmp_path, capfd):
    """Each rank appends a line when it starts, and there are two."""
    nan = "open('starts', 'a').write('.') and train_batch(*arguments) * float('nan')"
    assert trained(tmp_path / "job", {}, nan) == 1
    said = capfd.readouterr().err
    assert said.count("error: ") == said.count("hint: ") == 1
    assert "NaN" in said or "nan" in said
    assert (tmp_path / "job" / "starts").read_text() == ".."


def lost(times: int) -> str:
    return f"if int(os.environ['TORCHELASTIC_RESTART_COUNT']) < {times}: os.kill(os.getpid(), signal.SIGKILL)"


def test_a_rank_that_is_killed_once_too_often_ends_the_job(folder, capfd):
    assert start.run_ranks(program(folder, "signal.pause()", lost(2)), 2, restarts=1) == 1
    warning, error, hint = capfd.readouterr().err.splitlines()
    assert warning == "warning: rank 1 was killed by SIGKILL: all ranks start again (attempt 2 of 2)"
    assert error == "error: rank 1 was killed by SIGKILL (attempt 2 of 2)"
    assert hint.startswith("hint: --resume goes on from the last checkpoint")


def test_ranks_that_lost_one_another_start_again(folder, capfd):
    gone = "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0': sys.exit(75)"
    assert start.run_ranks(program(folder, gone, gone), 2, restarts=1) == 0
    # Whichever is seen first.
    assert " lost the connection to another rank: all ranks start again" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("raise RushkitError('no')", 1),
        ("raise UsageError('no')", 2),
        ("raise PluginError('no')", 3),
        ("raise KeyboardInterrupt", 130),
        ("os.kill(os.getpid(), signal.SIGTERM)", 130),
        ("os._exit(9)", 9),
    ],
)
def test_what_another_attempt_would_meet_again_ends_the_job(folder, capfd, end, code):
    noted = f"open('starts', 'a').write('.')\n{end}"
    assert start.run_ranks(program(folder, "signal.pause()", noted), 2, restarts=2) == code
    assert (folder / "starts").read_text() == "."
    said = capfd.readouterr().err
    assert said.count("error: ") == 1
    assert ("rank 1 ended with exit code 9 (attempt 1 of 3)" in said) == (code == 9)
    assert ("error: interrupted" in said) == (code == 130)


def test_a_rank_that_is_lost_when_rank_0_is_done_starts_nothing_again(folder, capfd):
    """Rank 0 is gone when rank 1, which it started the same work with, is killed."""
    after_rank_0 = "pid = int(os.readlink('pid'))\nwhile Path('/proc', str(pid)).exists(): pass\n"
    os.mkfifo("there")
    plan = {0: "os.symlink(str(os.getpid()), 'pid')\nopen('there', 'w').close()", 1: "open('there').read()\n"}
    assert start.run_ranks(program(folder, plan[0], plan[1] + after_rank_0 + lost(9)), 2, restarts=1) == 0
    assert capfd.readouterr().err == ""


def test_words_of_the_command_line_are_no_templates(folder, capfd):
    command = [sys.executable, "-c", "import sys; print(sys.argv[1:])", "$$", "${local_rank}", "$local_rank"]
    assert start.run_ranks(command, 1) == 0
    assert capfd.readouterr().out == "['$$', '${local_rank}', '$local_rank']\n"
