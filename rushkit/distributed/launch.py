"""``--nproc N``: the same command as N ranks of this machine, as one job: one voice, one error, one exit code."""

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

_INTERRUPTED = interrupt.EXIT_CODE
_ORPHANED = 1
# How long a stopped rank may take to end.
_GRACE_SECONDS = 5.0
# How long the others may take once one rank has left, because it was interrupted or because another one has gone: by
# then they have saved, or said why they did not.
_LEAVING_SECONDS = 15.0
_POLL_SECONDS = 0.05


def launch(nproc: int, arguments: Sequence[str]) -> int | None:
    """Run a command line as ``nproc`` ranks and return their exit code; None in a rank or a single process: go on.

    Args:
        nproc: How many ranks this machine is to run.
        arguments: The command line, without the program.

    Raises:
        UsageError: the environment of ranks does not make sense, or is of a job with another number of them.
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
    """End this rank as soon as the process that started it is gone, even by SIGKILL: nobody would stop it else.

    It ends as if killed itself: what is on the disk is whole, and ``--resume`` goes on from there.
    """
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


def run_ranks(command: list[str], nproc: int) -> int:
    """Run a command as ranks 0 to nproc - 1, with the variables that torchrun would give them and a folder to meet in.

    The first rank that fails ends the job: the others are stopped and its error is shown. SIGINT, SIGTERM and SIGHUP
    go on to every rank, which stop together; so does the end of a rank that alone was interrupted. The ranks' standard
    input is a pipe that says nothing and ends with this process.

    Args:
        command: What each rank runs.
        nproc: How many.

    Returns:
        0, the exit code of the rank that failed first, or 130 where the ranks were interrupted.
    """
    # Made by mkdtemp: nobody else can look into it, or foresee its name.
    with tempfile.TemporaryDirectory(prefix="rushkit-") as folder, _leash() as leash, _Ranks() as ranks:
        try:
            for rank in range(nproc):
                ranks.start(command, os.environ | _environment(rank, nproc, folder), leash)
            ranks.wait(folder)
            codes = ranks.codes()
        finally:
            ranks.stop()
        return _report(codes, read_words(folder))


@contextmanager
def _leash() -> Iterator[int]:
    """The end to read from of a pipe whose other end this process alone holds, and the system closes when it dies."""
    reads, writes = os.pipe()
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


class _Ranks:
    """The processes of a job, and the signal that this one has heard and passes on to them, each once."""

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
        """Start one more, unless the job has been interrupted."""
        if self._heard:
            return
        with _sigint_blocked():
            # In sessions of their own: Ctrl-C reaches this process alone, which passes it on once.
            process = subprocess.Popen(command, stdin=stdin, env=environment, start_new_session=True)
            self._processes.append(process)
            missed = self._heard[:1]
        for number in missed:
            process.send_signal(number)

    def wait(self, folder: str) -> None:
        """Wait until all have ended, or one has failed and is known to be the cause, or the others had their time."""
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
            # A wait for whichever of several children ends first; the standard library has only waits for one.
            time.sleep(_POLL_SECONDS)

    def codes(self) -> list[int | None]:
        """The exit code of each, None of one that runs; what our own signal killed was interrupted."""
        codes = [process.poll() for process in self._processes]
        if not self._heard:
            return codes
        return [_INTERRUPTED if code in [-number for number in interrupt.STOPS] else code for code in codes]

    def stop(self) -> None:
        """End those that still run."""
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
    """What is started inside gets a SIGINT that comes too early when it is ready for it, and not in Python's start."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _is_explained(failed: list[int], words: list[LastWords]) -> bool:
    """Whether the cause is known: a rank that died without a word, or the first that did not just lose a peer."""
    if set(failed) - {word.rank for word in words}:
        return True
    first = next((word.rank for word in words if word.kind == "cause"), None)
    return first in failed


def _report(codes: Sequence[int | None], words: list[LastWords]) -> int:
    """Say what the job's end was, once, and return its exit code."""
    cause = next((word for word in words if word.kind == "cause"), None)
    if cause is not None:
        sys.stderr.write(cause.text)
        return cause.code
    spoken = {word.rank for word in words}
    for rank, code in enumerate(codes):
        if code not in (None, 0, _INTERRUPTED) and rank not in spoken:
            return _report_silent(rank, code)
    if codes and codes[0] == 0:
        # Rank 0 speaks and writes: it has done all that there was to do.
        return 0
    if _INTERRUPTED in codes or not codes:
        said = sorted((word for word in words if word.kind != "consequence"), key=lambda word: word.kind != "stop")
        sys.stderr.write(said[0].text if said else "error: interrupted\n")
        return _INTERRUPTED
    sys.stderr.write(words[0].text if words else "")
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
