"""``--nproc N``: the same command as N ranks of this machine, as one job: one voice, one error, one exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import typer

# Where a rank leaves its last words instead of on stderr: what one rank's death does to the others is not the news.
ERROR_FILE = "RUSHKIT_ERROR_FILE"
# Set for ranks whose standard input ends when the process that started them does.
LEASH = "RUSHKIT_LEASH"
_INTERRUPTED = 130
_ORPHANED = 1
_GRACE_SECONDS = 5.0
_POLL_SECONDS = 0.05


def launch(nproc: int, context: typer.Context) -> None:
    """Run this command as ``nproc`` ranks and leave with their exit code; a single process, or a rank, just goes on.

    Raises:
        typer.Exit: the ranks have ended.
    """
    if nproc > 1 and "WORLD_SIZE" not in os.environ:
        arguments = context.find_root().obj or sys.argv[1:]
        raise typer.Exit(run_ranks([sys.executable, "-m", "rushkit", *arguments], nproc))
    if LEASH in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this rank as soon as the process that started it is gone, even by SIGKILL: nobody would stop it else.

    It ends as if killed itself: what is on the disk is whole, and ``--resume`` goes on from there.
    """
    while os.read(0, 1):
        pass
    os._exit(_ORPHANED)


def run_ranks(command: list[str], nproc: int) -> int:
    """Run a command as ranks 0 to nproc - 1, with the environment that torchrun would give them.

    The first rank that fails ends the job: the others are stopped and its error is shown. SIGINT and SIGTERM go on to
    every rank, which stop together. The ranks' standard input is a pipe that says nothing and ends with this process.

    Args:
        command: What each rank runs.
        nproc: How many.

    Returns:
        0, the exit code of the rank that failed first, or 130 where the ranks were interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="rushkit-") as folder, _leash() as leash:
        notes = [Path(folder) / str(rank) for rank in range(nproc)]
        port = _free_port()
        # In sessions of their own: Ctrl-C reaches this process alone, which passes it on once.
        ranks = [
            subprocess.Popen(
                command,
                stdin=leash,
                env=os.environ | _environment(rank, nproc, port) | {ERROR_FILE: str(notes[rank]), LEASH: "1"},
                start_new_session=True,
            )
            for rank in range(nproc)
        ]
        with _passing_signals_to(ranks):
            try:
                failed = _first_failure(ranks, notes)
                if failed is not None:
                    _stop(ranks)
                    return _report(failed, ranks, notes)
            finally:
                _stop(ranks)
        codes = [rank.returncode for rank in ranks]
        return _report(codes.index(_INTERRUPTED), ranks, notes) if any(codes) else 0


@contextmanager
def _leash() -> Iterator[int]:
    """The end to read from of a pipe whose other end this process alone holds, and the system closes when it dies."""
    reads, writes = os.pipe()
    try:
        yield reads
    finally:
        os.close(reads)
        os.close(writes)


def _first_failure(ranks: list[subprocess.Popen[bytes]], notes: list[Path]) -> int | None:
    """Wait for the ranks; the one that failed first, or None where all ended well or were interrupted."""
    while True:
        codes = [rank.poll() for rank in ranks]
        killed = [rank for rank, code in enumerate(codes) if code is not None and code < 0]
        if killed:
            return killed[0]
        failed = [rank for rank, code in enumerate(codes) if code not in (None, 0, _INTERRUPTED)]
        if failed:
            # The ranks that lost their peer fail within moments of it: the oldest note tells the cause.
            return min(failed, key=lambda rank: notes[rank].stat().st_mtime_ns if notes[rank].exists() else sys.maxsize)
        if None not in codes:
            return None
        # A wait for whichever of several children ends first; the standard library has only waits for one.
        time.sleep(_POLL_SECONDS)


def _report(failed: int, ranks: list[subprocess.Popen[bytes]], notes: list[Path]) -> int:
    code = ranks[failed].returncode
    if notes[failed].exists():
        sys.stderr.write(notes[failed].read_text(encoding="utf-8"))
        return code
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    sys.stderr.write(
        f"error: rank {failed} {how}\nhint: --resume goes on from the last checkpoint; SIGKILL is often the system's "
        f"answer to a full memory\n"
    )
    return code if code > 0 else 1


def _stop(ranks: list[subprocess.Popen[bytes]]) -> None:
    for rank in ranks:
        if rank.poll() is None:
            rank.terminate()
    deadline = time.monotonic() + _GRACE_SECONDS
    for rank in ranks:
        try:
            rank.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            rank.kill()
            rank.wait()


@contextmanager
def _passing_signals_to(ranks: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    def pass_on(number: int, frame: FrameType | None) -> None:
        for rank in ranks:
            if rank.poll() is None:
                rank.send_signal(number)

    old = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _environment(rank: int, nproc: int, port: int) -> dict[str, str]:
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // nproc))
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(nproc),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": threads,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
