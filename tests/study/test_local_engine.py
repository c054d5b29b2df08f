"""The engine of this machine with its real processes: `study run` as a command, killed, interrupted, started again."""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from small_studies import TEXT, Small

from rushkit.run.checkpoint import load_checkpoint
from rushkit.run.info import find_runs
from rushkit.study.failure import read_failure
from rushkit.study.orders import is_done

TESTS = Path(__file__).parents[1]
STUBS = Path(__file__).with_name("stub_import.py")


@dataclass
class Command:
    """`study run` in a process of its own, whose stubs tell what they do through a pipe."""

    folder: Path
    ear: int
    events: list[str] = field(default_factory=list)
    _rest: bytes = b""

    @property
    def small(self) -> Small:
        return Small(self.folder, text=(self.folder / "small.toml").read_text())

    def start(self, *words: str) -> subprocess.Popen[str]:
        environment = {
            "RUSHKIT_IMPORT": str(STUBS),
            "PYTHONPATH": str(TESTS),
            "STUB_LEDGER": str(self.folder / "ledger"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "rushkit", "study", "run", "small.toml", *words],
            cwd=self.folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def hear(self, process: subprocess.Popen[str], number: int) -> list[str]:
        """Return the next events, until there are so many or the process has ended."""
        heard: list[str] = []
        while len(heard) < number:
            ended = process.poll() is not None
            if select.select([self.ear], [], [], 0 if ended else 0.05)[0]:
                *lines, self._rest = (self._rest + os.read(self.ear, 4096)).split(b"\n")
                heard += [line.decode() for line in lines]
            elif ended:
                break
        self.events += heard
        return heard

    def kill(self, process: subprocess.Popen[str]) -> list[str]:
        """Kill a process and its workers, all at once, and return the events until their end that nobody heard yet."""
        # Stopped first, so that it starts no further one.
        os.kill(process.pid, signal.SIGSTOP)
        workers = children_of(process.pid)
        for pid in (*workers, process.pid):
            kill(pid)
        process.communicate()
        while any(is_alive(pid) for pid in workers):
            select.select([], [], [], 0.02)
        # With none left to write, what is in the pipe is all there is.
        return self.hear(process, 10**6)

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for a process to end, and return what it said."""
        self.hear(process, 10**6)
        return process.communicate()[0]


@pytest.fixture
def command(tmp_path) -> Iterator[Command]:
    (tmp_path / "small.toml").write_text(TEXT)
    os.mkfifo(tmp_path / "ledger")
    ear = os.open(tmp_path / "ledger", os.O_RDWR | os.O_NONBLOCK)
    yield Command(tmp_path, ear)
    os.close(ear)


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def state_of(pid: int) -> list[str]:
    """The state of a process, its parent, and what else stands behind its name in its status; empty if it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return []


def is_alive(pid: int) -> bool:
    return (state_of(pid) or ["X"])[0] not in ("Z", "X")


def children_of(pid: int) -> list[int]:
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [other for other in processes if state_of(other)[1:2] == [str(pid)]]


def test_a_study_that_is_killed_again_and_again_ends_with_the_same_figures(command, small, monkeypatch):
    """All its processes die at once, at a moment of a seeded draw; ten such moments are in test_study_kills.py."""
    small.folder = small.folder / "reference"
    small.folder.mkdir()
    monkeypatch.setenv("STUB_LEDGER", str(small.folder / "ledger"))
    chance = random.Random(3)
    done: set[str] = set()
    for _ in range(3):
        process = command.start("--jobs", "2")
        heard = command.hear(process, chance.randint(1, 6))
        heard += command.kill(process)
        begun = {line.rpartition(" ")[0].partition(" ")[2] for line in heard if line.startswith("begin")}
        assert not begun & done
        plan = command.small.plan
        done |= {
            f"{cell.row} {cell.seed} {cell.stage}" for cell in plan.cells if is_done(command.small.places, cell.job)
        }
    process = command.start("--jobs", "2")
    said = command.finish(process)
    assert process.returncode == 0, said
    assert "12 of 12 jobs are done" in said
    small.run()
    assert command.small.losses() == small.losses()
    assert len(small.losses()) == 12


def test_ctrl_c_saves_the_jobs_and_the_same_command_goes_on(command):
    hold = command.small.ask("hold A pretrain")
    process = command.start("--jobs", "1")
    *_, last = command.hear(process, 2)
    os.kill(process.pid, signal.SIGINT)
    said = command.finish(process)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    with pytest.raises(ProcessLookupError):
        os.kill(int(last.split()[-1]), 0)
    (run,) = find_runs(command.small.places.runs)
    assert run.status == "interrupted"
    hold.unlink()
    process = command.start("--jobs", "1")
    said = command.finish(process)
    assert process.returncode == 0, said
    # What it had done was not done again.
    assert [line.rpartition(" ")[0] for line in command.events].count("step A 0 pretrain") == 4


def test_a_worker_that_is_killed_fails_its_job_alone_after_a_second_try(command):
    (command.folder / "small.toml").write_text(TEXT.replace("seeds = [0, 1]", "seeds = [0]"))
    command.small.ask("die A finetune")
    process = command.start("--jobs", "1")
    said = command.finish(process)
    assert process.returncode == 1, said
    assert "died without a word: killed by SIGKILL" in said
    small = command.small
    assert read_failure(small.places.job_folder(small.job("A", 0, "finetune"))).type == "Died"
    begun = [line.rpartition(" ")[0] for line in command.events if line.startswith("begin")]
    assert begun.count("begin A 0 finetune") == 2
    assert is_done(small.places, small.job("B", 0, "evaluate"))
    assert not is_done(small.places, small.job("A", 0, "evaluate"))


TINY_STUDY = """
schema = 1
title = "tiny"
seeds = [0, 1]
[set]
data = { limit = 48, image_size = 8 }
backbone.name = "toy"
projector = { hidden = 16, out = 8 }
pretrain = { epochs = 2, batch_size = 16, knn.every = 0 }
finetune = { epochs = 2, batch_size = 20 }
evaluate.samples = [1, 4]
system.device = "cpu"
[[stage]]
do = "pretrain"
[[stage]]
do = "finetune"
[[stage]]
do = "evaluate"
[[row]]
label = "RUSH"
recipe = "digits"
[[row]]
label = "SimCLR"
recipe = "digits"
set = { pretrain.objective = "simclr" }
"""


def test_a_job_after_others_in_one_process_makes_the_weights_of_a_fresh_process(tmp_path, toy_backbone):
    """Two rows, two seeds, real stages: the command, and then one of its jobs by itself."""
    (tmp_path / "small.toml").write_text(TINY_STUDY)
    environment = os.environ | {"RUSHKIT_IMPORT": str(STUBS), "PYTHONPATH": str(TESTS)}

    def study(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "rushkit", "study", *words]
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    run = study("run", "small.toml", "--jobs", "1")
    assert run.returncode == 0, run.stderr
    small = Small(tmp_path, text=TINY_STUDY)
    assert all(is_done(small.places, job) for job in small.plan.jobs)
    job = small.job("SimCLR", 1, "pretrain")
    folder = small.places.run_folder(job)
    made = last_weights(folder)
    folder.rename(tmp_path / "before")
    again = study("work", "--job", job, "--runs", "runs")
    assert again.returncode == 0, again.stderr
    weights = last_weights(folder)
    assert weights.keys() == made.keys()
    assert all(torch.equal(weights[name], made[name]) for name in made)


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the last checkpoint, those that training goes on with included."""
    return load_checkpoint(folder / "checkpoints" / (folder / "checkpoints" / "last").read_text().strip()).tensors
