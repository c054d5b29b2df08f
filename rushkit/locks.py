"""Locks between processes: one process in a run folder, one writer of a file. The system frees a dead process's locks.

filelock takes the lock; the file is opened here, through no link, and for reading alone where it is only tried. On a
file system without locks, work goes on without one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import filelock

from rushkit.errors import Busy
from rushkit.files import write_error
from rushkit.paths import direct, open_file, read_file

LOCK_FILE = "lock"
# How long a process that wants the lock outlasts those who try it and give it back at once.
_TRIES, _TRY_SECONDS = 20, 0.01
# How often a process that waits for another one tries again.
_WAIT_SECONDS = 0.05
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class FolderLock:
    """The lock of a folder, taken at once or not at all.

    It is an advisory lock on the file ``lock``, which says whose it is: the process id and the machine. ``held`` is
    False on a file system without locks.

    Raises:
        Busy: another process holds it.
        RushkitError: the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_FILE
        try:
            self._handle: int | None = direct(str(path), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            self.held = _take_soon(self._handle)
            if self.held:
                note = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
                os.ftruncate(self._handle, 0)
                os.write(self._handle, note.encode())
        except BlockingIOError as error:
            self.release()
            pid = _holder(folder)[0]
            raise Busy(
                f"another process (pid {'?' if pid is None else pid}) works in {folder}",
                "wait for it or stop it; a new run gets its own folder",
            ) from error
        except OSError as error:
            self.release()
            raise write_error(path, error) from error

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


def is_abandoned(folder: Path) -> bool:
    """Return whether no process works in a folder: its lock is free, whoever held it, on whichever machine.

    The lock is tried and given back at once; a process that is about to take it waits that long. Where the file system
    has no locks, the process id in the lock file decides, for processes of this machine alone.
    """
    try:
        with open_file(folder / LOCK_FILE) as file:
            return _take(file.fileno()) or _holder_is_dead(folder)
    except FileNotFoundError:
        return True
    # Held, or impossible to open: as good as held.
    except OSError:
        return False


def is_dead(pid: int) -> bool:
    """Return whether no process of this machine has the number; False where that cannot be known."""
    # On Windows, os.kill with any number ends the process.
    if sys.platform == "win32" or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


@contextmanager
def sole_writer(path: Path) -> Iterator[BinaryIO]:
    """Open ``path`` at its end for the one process that may write it; others wait for it."""
    while True:
        with open(path, "ab", opener=direct) as handle:
            _wait_for(handle.fileno())
            # Whoever held the lock may have renamed or deleted the file meanwhile: then this is no longer its handle.
            if _is_at(handle, path):
                yield handle
                return


def _is_at(handle: BinaryIO, path: Path) -> bool:
    """Return whether the file of a handle is the one that now has this path."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _holder_is_dead(folder: Path) -> bool:
    """Return whether the process that the lock file names ran on this machine, and has ended."""
    pid, host = _holder(folder)
    return pid is not None and host == socket.gethostname() and is_dead(pid)


def _holder(folder: Path) -> tuple[int | None, str]:
    """Return the process and the machine that the lock file names; None and "" where it names none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        note = json.loads(read_file(folder / LOCK_FILE))
        if isinstance(note, dict):
            pid, host = note.get("pid"), note.get("host")
            return pid if isinstance(pid, int) else None, host if isinstance(host, str) else ""
    return None, ""


def _take_soon(handle: int) -> bool:
    """Do what ``_take`` does, but outlast those who only try the lock to learn whether it is held."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            return _take(handle)
        time.sleep(_TRY_SECONDS)
    return _take(handle)


def _wait_for(handle: int) -> None:
    """Do what ``_take`` does, but wait as long as another process holds the lock."""
    while True:
        try:
            _take(handle)
        except BlockingIOError:
            time.sleep(_WAIT_SECONDS)
        else:
            return


def _take(handle: int) -> bool:
    """Lock an open file; False if the file system has no locks. Raises BlockingIOError if another has it."""
    try:
        taken = filelock.lock_descriptor(handle, blocking=False)
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return False
        raise
    if not taken:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock")
    return True
