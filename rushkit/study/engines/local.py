"""The engine of this machine: processes that do one job after another, one for each GPU, or several on a CPU."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rushkit.errors import RushkitError, UsageError, shorten
from rushkit.study.engines import LastWord, Standing, Submission

_READ = 1 << 16
_MOST_REPLY = 1 << 20
_MOST_WORDS = 2000
# How long a worker may take to leave that has nothing to save.
_LEAVING_SECONDS = 10.0


@dataclass(frozen=True)
class _Task:
    handle: str
    job: str
    runs: Path


class Local:
    """Processes of this machine, which is what a study runs on by itself.

    >>> local = rushkit.engines.create("local", jobs=2)

    Args:
        jobs: How many jobs run at a time. 0: one for each GPU; without GPUs one for each core, with a thread each.

    Raises:
        UsageError: ``jobs`` is negative.
    """

    orders = False

    def __init__(self, jobs: int = 0) -> None:
        if jobs < 0:
            raise UsageError(f"jobs is {jobs}: it is a number of processes", "0 means one for each GPU or core")
        self._gpus = _gpus()
        self._cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        self.slots: int | None = jobs or len(self._gpus) or self._cores
        self._number = 0
        self._waiting: deque[_Task] = deque()
        self._workers: list[_Worker | None] = [None] * self.slots
        self._ended: dict[str, LastWord | None] = {}

    def submit(self, submission: Submission) -> str:
        """Give a job to a process that is free, or keep it until one is."""
        self._number += 1
        task = _Task(f"{self._number}:{submission.job[:8]}", submission.job, submission.runs)
        self._waiting.append(task)
        self._hand_out()
        return task.handle

    def standings(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        """Return how submissions stand, and give the next ones to processes that became free."""
        self._listen()
        self._hand_out()
        running = {worker.task.handle for worker in self._workers if worker is not None and worker.task is not None}
        queued = {task.handle for task in self._waiting}
        return {
            handle: "running"
            if handle in running
            else "queued"
            if handle in queued
            else "ended"
            if handle in self._ended
            else "gone"
            for handle in handles
        }

    def last_word(self, handle: str) -> LastWord | None:
        """Return how a process died in the middle of a submission, or what it said of its failure."""
        return self._ended.get(handle)

    def wait(self, seconds: float) -> None:
        """Return when a process replies or ends, or after so many seconds."""
        ears = [worker.ear for worker in self._workers if worker is not None]
        # Without a process there is nothing to hear, and the select is a pause.
        select.select(ears, [], [], seconds)

    def cancel(self, handles: Sequence[str]) -> None:
        """Ask the processes of submissions to save and stop, and wait until they have."""
        cancelled = set(handles)
        self._ended |= {task.handle: None for task in self._waiting if task.handle in cancelled}
        self._waiting = deque(task for task in self._waiting if task.handle not in cancelled)
        stopping = [
            worker
            for worker in self._workers
            if worker is not None and worker.task is not None and worker.task.handle in cancelled
        ]
        for worker in stopping:
            worker.process.terminate()
        for worker in stopping:
            worker.process.wait()
        self._listen()

    def close(self) -> None:
        """Stop all processes: those that work save first."""
        try:
            self.cancel([worker.task.handle for worker in self._workers if worker is not None and worker.task])
            for worker in self._workers:
                if worker is not None:
                    worker.leave()
        finally:
            for worker in self._workers:
                if worker is not None:
                    worker.kill()
            self._workers = [None] * len(self._workers)

    def _hand_out(self) -> None:
        """Give waiting submissions to processes that are free; start one where there is none."""
        for place, worker in enumerate(self._workers):
            if not self._waiting:
                return
            if worker is not None and (worker.task is not None or worker.runs != self._waiting[0].runs):
                if worker.task is not None:
                    continue
                worker.leave()
                worker = None
            task = self._waiting.popleft()
            if worker is None:
                worker = self._workers[place] = _Worker(task.runs, self._environment(place))
            worker.begin(task)

    def _listen(self) -> None:
        """Take the replies that have come, and notice processes that are gone."""
        for place, worker in enumerate(self._workers):
            if worker is None:
                continue
            task, over = worker.task, worker.hear()
            if task is not None and worker.task is None:
                self._ended[task.handle] = worker.word
            if over:
                worker.kill()
                self._workers[place] = None

    def _environment(self, place: int) -> dict[str, str]:
        environment = dict(os.environ)
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[place % len(self._gpus)]
        threads = max(1, self._cores // len(self._workers))
        environment.setdefault("OMP_NUM_THREADS", str(threads))
        # A launcher's ranks are of its own job: a worker is a single process.
        for name in ("WORLD_SIZE", "RANK"):
            environment.pop(name, None)
        return environment


class _Worker:
    """One process, and the submission that it works on.

    Attributes:
        runs: The folder of runs.
        process: The process.
        ear: What its replies come through.
        task: What it works on; None while it is free.
        word: What it said, or is known, of the end of its last submission.
    """

    def __init__(self, runs: Path, environment: Mapping[str, str]) -> None:
        self.runs = runs
        self.task: _Task | None = None
        self.word: LastWord | None = None
        self._heard = b""
        # What a process says that cannot even begin, such as without a package.
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by kill
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rushkit", "study", "work", "--runs", str(runs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                # Ctrl-C reaches this process alone, which asks each worker once.
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise RushkitError(f"no process can be started: {error.strerror or error}", "try fewer: --jobs") from error
        assert self.process.stdout is not None
        self.ear = self.process.stdout.fileno()
        os.set_blocking(self.ear, False)

    def begin(self, task: _Task) -> None:
        """Give it a submission; if it is gone, that shows at the next look."""
        self.task, self.word = task, None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(f"{task.job}\n".encode())
            self.process.stdin.flush()

    def hear(self) -> bool:
        """Take its reply, if there is one, and return whether it is gone."""
        over = self.process.poll() is not None
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.ear, _READ):
                self._heard += data
        *lines, self._heard = self._heard[-_MOST_REPLY:].split(b"\n")
        for line in lines:
            self._take(line)
        if over and self.task is not None:
            self.task, self.word = None, self._how_it_died()
        return over

    def leave(self) -> None:
        """Let it go; it has nothing to save."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_LEAVING_SECONDS)

    def kill(self) -> None:
        """End it, and everything that it has started, if it is still there, and close what belongs to it."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _take(self, line: bytes) -> None:
        try:
            reply = json.loads(line)
        except ValueError:
            # Of a library that prints while it is imported.
            return
        if self.task is None or not isinstance(reply, dict) or reply.get("job") != self.task.job:
            return
        self.task = None
        failed = reply["ended"] == "failed"
        self.word = LastWord(False, reply["message"], reply["hint"]) if failed else None

    def _how_it_died(self) -> LastWord:
        code = self.process.returncode
        if code < 0:
            return LastWord(True, f"killed by {signal.Signals(-code).name}", "SIGKILL is often a full memory's answer")
        self._errors.seek(0)
        said = self._errors.read(_MOST_REPLY).decode("utf-8", "replace").strip()
        return LastWord(True, f"exit code {code}", shorten(said, _MOST_WORDS))


def _gpus() -> list[str]:
    """Return the GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if len(named) >= count else [str(index) for index in range(count)]
