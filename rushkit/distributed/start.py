"""Run a command as N ranks of this machine (``--nproc N``) on the elastic agent of torch, and make one job of them.

The agent starts the ranks, waits for them, stops them and starts them again. What it does not know is here: which exit
codes no further attempt can mend, whose error is shown, and that no rank outlives this process. Nothing of the job
listens but gloo, on the loopback.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import Popen
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from rushkit import interrupt
from rushkit.distributed.notes import Kind, RankNote, read_notes
from rushkit.errors import LOST_PEER
from rushkit.place import JOB_FOLDER
from rushkit.prose import fitted

_LOOPBACK = "127.0.0.1"
# How long the ranks may take to save after a signal, and to end after another one's failure, until they are killed.
_SAVING_SECONDS, _LEAVING_SECONDS = 600, 5
_POLL_SECONDS = 0.1
_NAMES = {number.value: number.name for number in signal.Signals}
_HINT = "--resume goes on from the last checkpoint; SIGKILL is often the system's answer to a full memory"


def run_ranks(command: Sequence[str], nproc: int, restarts: int = 0) -> int:
    """Run a command as ranks 0 to nproc - 1, with the variables that torchrun would set and a folder to meet in.

    A rank that fails ends the job, and its error is printed. A rank that is killed does so, too, once all ranks were
    started again ``restarts`` times. SIGINT, SIGTERM and SIGHUP are passed on to every rank, so that all stop together;
    a rank that was interrupted alone stops the others too.

    Args:
        command: The program and its arguments.
        nproc: How many ranks.
        restarts: How often all ranks are started again because one was killed or vanished.

    Returns:
        0, the exit code of the rank that failed first, or 130 if the ranks were interrupted.
    """
    # By mkdtemp: nobody else can read it or guess its name.
    with tempfile.TemporaryDirectory(prefix="rushkit-") as folder, _parent_death_pipe(), _environment(folder, nproc):
        rendezvous = RendezvousParameters(
            "c10d", f"{folder}/agent", "rushkit", 1, 1, local_addr=_LOOPBACK, store_type="file"
        )
        # The agent fills in templates of Python.
        program, *arguments = [word.replace("$", "$$") for word in command]
        spec = WorkerSpec(
            role="rank",
            local_world_size=nproc,
            rdzv_handler=get_rendezvous_handler(rendezvous),
            entrypoint=program,
            args=tuple(arguments),
            max_restarts=restarts,
            monitor_interval=_POLL_SECONDS,
            local_addr=_LOOPBACK,
        )
        return _Ranks(spec, folder).job()


class _Ranks(LocalElasticAgent):
    """The agent of torch, told what the exit codes of ranks mean."""

    def __init__(self, spec: WorkerSpec, folder: str) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=folder), exit_barrier_timeout=_LEAVING_SECONDS)
        self._heard: list[int] = []
        self._codes: list[int | None] = []
        # The signal by which ranks are ended, and how long they may take.
        self._ending = (signal.SIGTERM, _LEAVING_SECONDS)
        for name in logging.root.manager.loggerDict:
            if name.startswith("torch.distributed.elastic"):
                logging.getLogger(name).disabled = True

    def job(self) -> int:
        """Run the ranks, print the error of the job, once, and return its exit code."""
        if interrupt.take() is not None:
            return self._interrupted()
        handlers = {number: signal.signal(number, self._hear) for number in interrupt.stops()}
        try:
            self.run()
        except (SignalException, KeyboardInterrupt):
            return self._interrupted()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self._ended()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Note a signal for the next look at the ranks. A second Ctrl-C stops their saving, a third one ends them."""
        self._heard.append(number)
        again = self._heard.count(signal.SIGINT) if number == signal.SIGINT else 0
        if again > 2:
            self._ending = (signal.SIGKILL, _LEAVING_SECONDS)
            raise KeyboardInterrupt
        if again == 2:
            for process in self._processes():
                process.send_signal(number)

    def _processes(self) -> list[Popen[bytes]]:
        """Return the processes of this attempt in the order of their ranks; none before the first one."""
        handlers = self._pcontext.subprocess_handlers if isinstance(self._pcontext, SubprocessContext) else {}
        return [handlers[rank].proc for rank in sorted(handlers)]

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        # Held back from the ranks as well, until they can take it: Python dies of it with a traceback at its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            started: dict[int, Any] = super()._start_workers(worker_group)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Say how the ranks stand. The agent's own look would stop the others before it tells how each one ended."""
        codes = self._codes = [process.poll() for process in self._processes()]
        if self._heard or any(_is_interruption(code) for code in codes):
            self._ending = (signal.Signals(self._heard[0] if self._heard else signal.SIGTERM), _SAVING_SECONDS)
            raise SignalException("", self._ending[0])
        if not any(codes):
            state = WorkerState.HEALTHY if None in codes else WorkerState.SUCCEEDED
            return RunResult(state, dict.fromkeys(range(len(codes))))
        if codes[0] == 0 or any(_is_final(code) for code in codes) or self._notes("cause"):
            self._remaining_restarts = 0
        if self._remaining_restarts:
            # What the others do from here on is lost.
            self._ending = (signal.SIGKILL, _LEAVING_SECONDS)
            sys.stderr.write(f"warning: {self._loss()}: all ranks start again{self._attempt(+1)}\n")
        return RunResult(WorkerState.FAILED)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        # The agent's own timeout is fixed for a failure, and in torch 2.11 for a signal as well.
        if self._pcontext is not None:
            self._pcontext.close(*self._ending)
        self._ending = (signal.SIGTERM, _LEAVING_SECONDS)

    def _notes(self, *kinds: Kind) -> list[RankNote]:
        paths = self._pcontext.error_files.values() if self._pcontext is not None else ()
        return [note for note in read_notes(paths) if note.kind in kinds]

    def _interrupted(self) -> int:
        """Say how to go on, and return 130; unless a rank could not save, or rank 0 was done already."""
        if causes := self._notes("cause"):
            return _say(causes[0])
        if [process.poll() for process in self._processes()][:1] == [0]:
            return 0
        notes = [*self._notes("stop"), RankNote("interrupted", "error: interrupted\n", interrupt.EXIT_CODE, 0)]
        return _say(notes[0])

    def _ended(self) -> int:
        """Print the error of the job, and return its exit code."""
        if causes := self._notes("cause"):
            return _say(causes[0])
        # Rank 0 prints and writes everything: then the work is done.
        if self._codes[0] == 0:
            return 0
        sys.stderr.write(f"error: {self._loss()}{self._attempt()}\nhint: {_HINT}\n")
        return next((code for code in self._codes if _is_final(code)), 1) or 1

    def _loss(self) -> str:
        """Return what became of the rank that was lost."""
        ended = [(code == LOST_PEER, rank, code) for rank, code in enumerate(self._codes) if code]
        _, rank, code = min(ended)
        if code == LOST_PEER:
            return f"rank {rank} lost the connection to another rank"
        if code > 0:
            return f"rank {rank} ended with exit code {code}"
        return f"rank {rank} was killed by {_NAMES.get(-code, f'signal {-code}')}"

    def _attempt(self, further: int = 0) -> str:
        most = self._worker_group.spec.max_restarts
        return f" (attempt {most - self._remaining_restarts + 1 + further} of {most + 1})" if most else ""


def _is_interruption(code: int | None) -> bool:
    return code == interrupt.EXIT_CODE or (code is not None and -code in interrupt.STOPS)


def _is_final(code: int | None) -> bool:
    """Whether a rank ended with an error that another attempt would meet again."""
    return code is not None and code > 0 and code != LOST_PEER


def _say(note: RankNote) -> int:
    sys.stderr.write(fitted(note.text, sys.stderr))
    return note.code


@contextmanager
def _parent_death_pipe() -> Iterator[None]:
    """Make a pipe the standard input, which ranks inherit: only this process holds its other end, and closes it."""
    try:
        stdin = os.dup(0)
    except OSError:
        stdin = None
    reads, writes = os.pipe()
    if reads:
        os.dup2(reads, 0)
        os.close(reads)
    os.set_inheritable(0, True)
    try:
        yield
    finally:
        os.close(writes)
        if stdin is None:
            os.close(0)
        else:
            os.dup2(stdin, 0)
            os.close(stdin)


@contextmanager
def _environment(folder: str, nproc: int) -> Iterator[None]:
    """Set the variables that ranks inherit, and those that the agent reads."""
    before = dict(os.environ)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    os.environ |= {
        JOB_FOLDER: folder,
        # Without it the agent opens a port on every interface.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        # The handlers of the agent raise wherever a signal falls, between the starts of two ranks as well.
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGQUIT",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before
