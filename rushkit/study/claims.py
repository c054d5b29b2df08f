"""Claims: which process works on a job, told by files alone, on one machine or many that share a file system.

A claim is a file ``claim.<n>`` in the job's folder, made new or not at all, and the highest n holds. Its holder touches
it every ten seconds. One that was given back, whose process is known to be dead, or that nobody has touched for a
minute is replaced by making n + 1, which exactly one process can do. Nothing that others may look at is ever deleted or
renamed, so there is no moment at which two can both think that they hold. On the holder's own machine its life is
known, and age does not count.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from rushkit.errors import Busy, Replaced, shorten
from rushkit.files import write_error
from rushkit.locks import is_dead
from rushkit.paths import direct, read_text

BEAT_SECONDS = 10.0
STALE_SECONDS = 60.0
_NAME = re.compile(r"claim\.([1-9]\d{0,8})")
_MOST_BYTES = 1 << 12


@dataclass(frozen=True)
class Holder:
    """Who holds a job.

    Attributes:
        number: The n of its claim.
        host: The name of its machine; empty where the claim does not say.
        pid: Its process id there; 0 where the claim does not say.
        released: Whether it has given the job back.
        machine: Tells machines of one name, and containers on one machine, apart.
        born: When the process started, in the system's own count; it tells processes of one number apart.
    """

    number: int
    host: str = ""
    pid: int = 0
    released: bool = False
    machine: str = ""
    born: str = ""

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have died; False where it may live, such as on another machine."""
        if not self.pid or self.machine != _machine():
            return False
        return is_dead(self.pid) or _born(self.pid) != self.born

    def in_words(self) -> str:
        """Return who it is for a message."""
        return f"pid {self.pid} on {shorten(self.host, 60)}" if self.pid else "another process"


class Claim:
    """The claim of this process on a job, for a ``with`` block; ``take`` makes one.

    Attributes:
        folder: The folder of the job.
        number: The n of the claim: how many times the job was claimed, this one included.
    """

    def __init__(self, folder: Path, number: int, handle: int) -> None:
        self.folder, self.number = folder, number
        self._handle: int | None = handle
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise Replaced if another process has taken the job over; call it before a write that others read."""
        following = _path(self.folder, self.number + 1)
        # Opened, not listed: a listing on a network file system may be a minute old.
        with contextlib.suppress(OSError):
            os.close(os.open(following, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)))
            raise _replaced(self.folder, f"by {_read(following, self.number + 1).in_words()}")
        try:
            _path(self.folder, self.number).stat()
        except FileNotFoundError as error:
            raise _replaced(self.folder, "or deleted its folder") from error
        except OSError:
            # Of a network: others will say if it lasts.
            return

    def release(self) -> None:
        """Give the job back; a second call does nothing."""
        self._ended.set()
        handle, self._handle = self._handle, None
        if handle is None:
            return
        with contextlib.suppress(OSError):
            os.write(handle, b"released\n")
        with contextlib.suppress(OSError):
            os.close(handle)

    def __enter__(self) -> Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _beat(self) -> None:
        path = _path(self.folder, self.number)
        while not self._ended.wait(BEAT_SECONDS):
            # What a network loses once, the next beat brings.
            with contextlib.suppress(OSError):
                os.utime(path)


def take(folder: Path) -> Claim:
    """Claim a job.

    Args:
        folder: The folder of the job, which exists.

    Raises:
        Busy: another process works on it.
        RushkitError: the folder cannot be written.
    """
    highest = newest(folder)
    if highest is not None and _holds(folder, highest):
        raise _busy(folder, highest)
    number = 1 if highest is None else highest.number + 1
    path = _path(folder, number)
    try:
        handle = direct(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError as error:
        raise _busy(folder, _read(path, number)) from error
    except OSError as error:
        raise write_error(path, error) from error
    about = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "time": datetime.now(UTC).isoformat(),
        "machine": _machine(),
        "born": _born(os.getpid()),
    }
    try:
        os.write(handle, f"{json.dumps(about)}\n".encode())
    except OSError as error:
        os.close(handle)
        raise write_error(path, error) from error
    return Claim(folder, number, handle)


def holder(folder: Path) -> Holder | None:
    """Return who works on a job now; None if nobody does.

    Args:
        folder: The folder of the job, which need not exist.
    """
    highest = newest(folder)
    return highest if highest is not None and _holds(folder, highest) else None


def newest(folder: Path) -> Holder | None:
    """Return the last process that claimed a job, whether it still works or not; None if none ever did."""
    number = max(_numbers(folder), default=0)
    return _read(_path(folder, number), number) if number else None


def _holds(folder: Path, claim: Holder) -> bool:
    if claim.released or claim.is_dead:
        return False
    return claim.machine == _machine() or _age(folder, claim.number) <= STALE_SECONDS


def _age(folder: Path, number: int) -> float:
    """Return the seconds since a claim was touched, by the clock of the machine that has the files, and no other."""
    probe = folder / f".clock.{secrets.token_hex(8)}"
    try:
        touched = _path(folder, number).stat().st_mtime
        os.close(direct(str(probe), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        return probe.stat().st_mtime - touched
    except OSError:
        # Who cannot write here cannot take over either.
        return 0.0
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)


def _numbers(folder: Path) -> Iterator[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - the names alone
    except OSError:
        return
    for name in names:
        if found := _NAME.fullmatch(name):
            yield int(found[1])


def _path(folder: Path, number: int) -> Path:
    return folder / f"claim.{number}"


def _read(path: Path, number: int) -> Holder:
    """Return what a claim says; one that was just made, or is not ours, says nothing, and its age alone decides."""
    try:
        first, *more = read_text(path, _MOST_BYTES).splitlines()
        about = json.loads(first)
        host, pid, machine, born = (about[key] for key in ("host", "pid", "machine", "born"))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Holder(number)
    if not (isinstance(pid, int) and pid > 0 and all(isinstance(text, str) for text in (host, machine, born))):
        return Holder(number)
    return Holder(number, host, pid, "released" in more, machine, born)


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return what tells this machine, as processes see it, from any other: its boot, and the numbering of processes."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def _born(pid: int) -> str:
    """Return when a process started, in ticks since the boot; empty if it is dead or the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    # After the command's name, which may hold anything.
    fields = text.rpartition(")")[2].split()
    if len(fields) <= 19:
        return ""
    # One that nobody has waited for yet is dead all the same; but a thread may still end what it was writing.
    state, threads, born = fields[0], fields[17], fields[19]
    return "" if state in ("Z", "X") and threads in ("0", "1") else born


def _busy(folder: Path, claim: Holder) -> Busy:
    return Busy(
        f"{claim.in_words()} works on the job in {folder}",
        "wait for it, or stop it; one that has vanished is replaced a minute after its last sign of life",
    )


def _replaced(folder: Path, how: str) -> Replaced:
    return Replaced(
        f"another process has taken over the job in {folder}, {how}",
        "it was silent for more than a minute; what it wrote until then is kept, and the other one goes on from there",
    )
