"""Start a command as N ranks of this machine (``--nproc N``) and make one job of them: one error, one exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

from rushkit import interrupt
from rushkit.distributed.last_words import LastWords, read_words
from rushkit.errors import UsageError
from rushkit.place import JOB_FOLDER, take_place
from rushkit.prose import fitted

_INTERRUPTED = interrupt.EXIT_CODE
_ORPHANED = 1
# How long a rank may take to end after SIGTERM.
_GRACE_SECONDS = 5.0
# How long the other ranks may take once one has failed or was interrupted: time to save, or to say why they cannot.
_LEAVING_SECONDS = 15.0
_POLL_SECONDS = 0.05


def launch(nproc: int, arguments: Sequence[str]) -> int | None:
    """Run a command line as ``nproc`` ranks and return their exit code.

    Args:
        nproc: How many ranks to start.
        arguments: The command line, without the program.

    Returns:
        The exit code of the job; None in a single process and in a rank itself, which go on with the command.

    Raises:
        UsageError: the variables of torchrun in the environment make no sense, or are of a job of another size.
    """
    place = take_place()
    if place.world == 1 and nproc > 1:
        return run_ranks([sys.executable, "-m", "rushkit", *arguments], nproc)
    if nproc not in (1, place.world):
        raise UsageError(
            f"--nproc {nproc} in a job of {place.world} ranks, as the environment variable WORLD_SIZE says",
            "leave --nproc out under torchrun; what another job left in the shell goes with: unset WORLD_SIZE RANK",
        )
    if place.folder:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    return None


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, even by SIGKILL, since nothing else would stop it.

    The end is as abrupt as a kill: files on disk stay intact, and ``--resume`` continues from there.
    """
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


def run_ranks(command: list[str], nproc: int) -> int:
    """Run a command as ranks 0 to nproc - 1, with the variables that torchrun would set and a folder to meet in.

    The first rank that fails ends the job: its error is printed and the others are stopped. SIGINT, SIGTERM and SIGHUP
    are passed on to every rank, so that all stop together; a rank that was interrupted alone stops the others too. The
    standard input of the ranks is a pipe that stays empty and closes when this process ends.

    Args:
        command: The program and its arguments.
        nproc: How many ranks.

    Returns:
        0, the exit code of the rank that failed first, or 130 if the ranks were interrupted.
    """
    # By mkdtemp: nobody else can read it or guess its name.
    with tempfile.TemporaryDirectory(prefix="rushkit-") as folder, _parent_death_pipe() as pipe, _Ranks() as ranks:
        try:
            for rank in range(nproc):
                ranks.start(command, os.environ | _environment(rank, nproc, folder), pipe)
            ranks.wait(folder)
            codes = ranks.codes()
        finally:
            ranks.stop()
        return _report(codes, read_words(folder))


@contextmanager
def _parent_death_pipe() -> Iterator[int]:
    """Open a pipe and give its reading end. Only this process holds the other one, which closes when it dies."""
    reads, writes = os.pipe()
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


class _Ranks:
    """The processes of a job. A signal that this process receives is passed on to each of them, once."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._heard: list[int] = []

    def __enter__(self) -> _Ranks:
        self._old = {number: signal.signal(number, self._pass_on) for number in interrupt.stops()}
        if (earlier := interrupt.take()) is not None:
            self._heard.append(earlier)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def start(self, command: list[str], environment: dict[str, str], stdin: int) -> None:
        """Start another rank, unless the job has been interrupted."""
        if self._heard:
            return
        with _sigint_blocked():
            # In a session of its own: Ctrl-C reaches this process alone, which passes it on once.
            process = subprocess.Popen(command, stdin=stdin, env=environment, start_new_session=True)
            self._processes.append(process)
            missed = self._heard[:1]
        for number in missed:
            process.send_signal(number)

    def wait(self, folder: str) -> None:
        """Wait until all ranks have ended, the cause of a failure is known, or the grace period is over."""
        last_moment = float("inf")
        while True:
            codes = self.codes()
            failed = [rank for rank, code in enumerate(codes) if code not in (None, 0, _INTERRUPTED)]
            if None not in codes or _is_explained(failed, read_words(folder) if failed else []):
                return
            if failed:
                last_moment = min(last_moment, time.monotonic() + _LEAVING_SECONDS)
            elif _INTERRUPTED in codes and last_moment == float("inf"):
                last_moment = time.monotonic() + _LEAVING_SECONDS
                if not self._heard:
                    self._pass_on(signal.SIGTERM)
            if time.monotonic() > last_moment:
                return
            # The standard library can wait for one child, not for whichever of several ends first.
            time.sleep(_POLL_SECONDS)

    def codes(self) -> list[int | None]:
        """Return the exit code of each rank, None while it runs; 130 for one that our own signal killed."""
        codes = [process.poll() for process in self._processes]
        if not self._heard:
            return codes
        return [_INTERRUPTED if code in [-number for number in interrupt.STOPS] else code for code in codes]

    def stop(self) -> None:
        """End the ranks that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _pass_on(self, number: int, frame: FrameType | None = None) -> None:
        self._heard.append(number)
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Hold SIGINT back from a process that is started inside until it is ready, so that it does not die at start-up."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_explained(failed: list[int], words: list[LastWords]) -> bool:
    """Return whether the cause is known: a rank died without an error message, or left an error of its own."""
    if set(failed) - {word.rank for word in words}:
        return True
    first = next((word.rank for word in words if word.kind == "cause"), None)
    return first in failed


def _report(codes: Sequence[int | None], words: list[LastWords]) -> int:
    """Print the error of the job, once, and return its exit code."""
    cause = next((word for word in words if word.kind == "cause"), None)
    if cause is not None:
        sys.stderr.write(fitted(cause.text, sys.stderr))
        return cause.code
    spoken = {word.rank for word in words}
    for rank, code in enumerate(codes):
        if code not in (None, 0, _INTERRUPTED) and rank not in spoken:
            return _report_silent(rank, code)
    if codes and codes[0] == 0:
        # Rank 0 prints and writes everything, so the work is done.
        return 0
    if _INTERRUPTED in codes or not codes:
        stops = sorted((word for word in words if word.kind != "consequence"), key=lambda word: word.kind != "stop")
        sys.stderr.write(fitted(stops[0].text, sys.stderr) if stops else "error: interrupted\n")
        return _INTERRUPTED
    sys.stderr.write(fitted(words[0].text, sys.stderr) if words else "")
    return 1


def _report_silent(rank: int, code: int) -> int:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    sys.stderr.write(
        f"error: rank {rank} {how}\nhint: --resume goes on from the last checkpoint; SIGKILL is often the system's "
        f"answer to a full memory\n"
    )
    return code if code > 0 else 1


def _environment(rank: int, nproc: int, folder: str) -> dict[str, str]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // nproc))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(nproc),
        "LOCAL_WORLD_SIZE": str(nproc),
        JOB_FOLDER: folder,
        "OMP_NUM_THREADS": threads,
    }
