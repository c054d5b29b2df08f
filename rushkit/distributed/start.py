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
from types import FrameType
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.api import SubprocessContext
from torch.distributed.elastic.rendezvous import RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from rushkit import interrupt
from rushkit.distributed.notes import RankNote, read_notes
from rushkit.errors import LOST_PEER
from rushkit.place import JOB_FOLDER
from rushkit.prose import fitted

_LOOPBACK = "127.0.0.1"
# How long the ranks may take to save after a signal, and to end after another one's failure, until they are killed.
_SAVING_SECONDS, _LEAVING_SECONDS = 600, 5
_POLL_SECONDS = 0.1
_INTERRUPTED = {interrupt.EXIT_CODE, *(-number for number in interrupt.STOPS)}
_NAMES = {-number: number.name for number in signal.Signals}
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
    made = tempfile.TemporaryDirectory(prefix="rushkit-", ignore_cleanup_errors=True)
    with made as folder, _inherited(folder, nproc):
        meeting = RendezvousParameters(
            "c10d", f"{folder}/agent", "rushkit", 1, 1, local_addr=_LOOPBACK, store_type="file"
        )
        # The agent fills in templates of Python.
        arguments = tuple(word.replace("$", "$$") for word in command[1:])
        spec = WorkerSpec(
            role="rank",
            local_world_size=nproc,
            rdzv_handler=get_rendezvous_handler(meeting),
            entrypoint=command[0],
            args=arguments,
            max_restarts=restarts,
            monitor_interval=_POLL_SECONDS,
            local_addr=_LOOPBACK,
        )
        return _Ranks(spec, folder).job()


@contextmanager
def _inherited(folder: str, nproc: int) -> Iterator[None]:
    """Set what the ranks inherit: their environment, and an empty standard input that ends when this process does."""
    environment = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = environment.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // nproc))
    os.environ[JOB_FOLDER] = folder
    # Without it the agent opens a port on every interface.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # The handlers of the agent raise wherever a signal falls, between the starts of two ranks as well.
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    stdin, (reads, writes) = os.dup(0), os.pipe()
    os.dup2(reads, 0)
    try:
        yield
    finally:
        os.dup2(stdin, 0)
        for handle in (stdin, reads, writes):
            os.close(handle)
        os.environ.clear()
        os.environ |= environment


class _Ranks(LocalElasticAgent):
    """The agent of torch, told what the exit codes of ranks mean."""

    def __init__(self, spec: WorkerSpec, folder: str) -> None:
        super().__init__(spec, DefaultLogsSpecs(log_dir=folder), exit_barrier_timeout=_LEAVING_SECONDS)
        self._attempts = 0
        # Looks at the ranks of this attempt in which the cause of a loss was still to come.
        self._waited = 0
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
            return self._report(interrupted=True)
        handlers = {number: signal.signal(number, self._hear) for number in interrupt.stops()}
        try:
            self.run()
        except (SignalException, KeyboardInterrupt):
            self._codes = self._poll()
            return self._report(interrupted=True)
        finally:
            # Ends a thread that would beat on in the folder that is about to go.
            self._worker_group.spec.rdzv_handler.shutdown()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self._report()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        """Note a signal for the next look at the ranks; after a second Ctrl-C they have a few seconds left."""
        self._heard.append(number)
        if self._heard.count(signal.SIGINT) > 1:
            self._ending = (signal.SIGINT, _LEAVING_SECONDS)
            raise KeyboardInterrupt

    def _poll(self) -> list[int | None]:
        """Return the exit code of each rank of this attempt, None while it runs; nothing before the first attempt."""
        handlers = self._pcontext.subprocess_handlers if isinstance(self._pcontext, SubprocessContext) else {}
        return [handlers[rank].proc.poll() for rank in sorted(handlers)]

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._attempts += 1
        self._waited = 0
        # Held back from the ranks as well, until they can take it: Python dies of it with a traceback at its start.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            started: dict[int, Any] = super()._start_workers(worker_group)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return started

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """Say how the ranks stand. The agent's own look would stop the others before it tells how each one ended."""
        codes = self._codes = self._poll()
        if self._heard or not _INTERRUPTED.isdisjoint(codes):
            self._ending = (signal.Signals([*self._heard, signal.SIGTERM][0]), _SAVING_SECONDS)
            raise SignalException("", self._ending[0])
        if not any(codes):
            state = WorkerState.HEALTHY if None in codes else WorkerState.SUCCEEDED
            return RunResult(state, dict.fromkeys(range(len(codes))))
        if self._awaits_cause(codes):
            return RunResult(WorkerState.HEALTHY, dict.fromkeys(range(len(codes))))
        if codes[0] == 0 or any(map(_is_final, codes)) or self._notes("cause"):
            self._remaining_restarts = 0
        if self._remaining_restarts:
            # What the others do from here on is lost.
            self._ending = (signal.SIGKILL, _LEAVING_SECONDS)
            sys.stderr.write(f"warning: {self._loss()}: all ranks start again{self._attempt(1)}\n")
        return RunResult(WorkerState.FAILED)

    def _awaits_cause(self, codes: list[int | None]) -> bool:
        """Return whether ranks have ended for the loss of a peer alone, and that one may still say why it left."""
        lost = None in codes and {code for code in codes if code} == {LOST_PEER}
        self._waited += lost
        return lost and self._waited * _POLL_SECONDS <= _LEAVING_SECONDS and not self._notes("cause")

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        # The agent's own timeout is fixed for a failure, and in torch 2.11 for a signal as well.
        if self._pcontext is not None:
            self._pcontext.close(*self._ending)
        self._ending = (signal.SIGTERM, _LEAVING_SECONDS)

    def _notes(self, kind: str) -> list[RankNote]:
        paths = () if self._pcontext is None else self._pcontext.error_files.values()
        return [note for note in read_notes(paths) if note.kind == kind]

    def _report(self, interrupted: bool = False) -> int:
        """Print the error of the job, if there is one, and return its exit code."""
        # Rank 0 prints and writes everything: when it is done, the work is.
        done = self._codes[:1] == [0]
        notes = self._notes("cause")
        if interrupted and not done:
            notes += [*self._notes("stop"), RankNote("interrupted", "error: interrupted\n", interrupt.EXIT_CODE, 0)]
        if notes:
            sys.stderr.write(fitted(notes[0].text, sys.stderr))
            return notes[0].code
        if done:
            return 0
        sys.stderr.write(f"error: {self._loss()}{self._attempt()}\nhint: {_HINT}\n")
        return next((code for code in self._codes if code and _is_final(code)), 1)

    def _loss(self) -> str:
        """Return what became of the rank that was lost; of one that lost the others only where there is no such."""
        _, rank, code = min((code == LOST_PEER, rank, code) for rank, code in enumerate(self._codes) if code)
        if code == LOST_PEER:
            return f"rank {rank} lost the connection to another rank"
        if code > 0:
            return f"rank {rank} ended with exit code {code}"
        return f"rank {rank} was killed by {_NAMES.get(code, f'signal {-code}')}"

    def _attempt(self, further: int = 0) -> str:
        most = self._worker_group.spec.max_restarts
        return f" (attempt {self._attempts + further} of {most + 1})" if most else ""


def _is_final(code: int | None) -> bool:
    """Return whether a rank ended with an error that another attempt would meet again."""
    return code is not None and code > 0 and code != LOST_PEER
