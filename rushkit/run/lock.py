"""One process in a run folder at a time, by a lock that the system drops when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from rushkit.errors import RushkitError
from rushkit.paths import direct, open_file, read_file
from rushkit.run.files import write_error

LOCK_FILE = "lock"
# How long a process that wants the lock outlasts those who try it and give it back at once.
_TRIES, _TRY_SECONDS = 20, 0.01
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class FolderLock:
    """The lock of a folder, taken at once or not at all.

    It is an advisory lock on the file ``lock`` (flock; a byte-range lock on Windows). A file system without locks
    is used without one: ``held`` is False there.

    Raises:
        RushkitError: another process holds it, or the file cannot be made.
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
            pid = _holder(folder).get("pid", "?")
            raise RushkitError(
                f"another process (pid {pid}) works in {folder}",
                "wait for it or stop it; a new run gets its own folder",
            ) from error
        except OSError as error:
            self.release()
            raise write_error(path, error) from error

    def release(self) -> None:
        """Give the lock back; more than once does nothing."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


def is_abandoned(folder: Path) -> bool:
    """Whether no process works in a folder: its lock can be had, whoever held it and on whichever machine.

    The lock is tried and given back at once; whoever is about to take it waits that long. Where the file system has no
    locks, the process id in the lock file tells, of processes of this machine alone.
    """
    try:
        with open_file(folder / LOCK_FILE) as file:
            return _take(file.fileno()) or _holder_is_dead(folder)
    except FileNotFoundError:
        return True
    # Held, or not to be opened: as good as held.
    except OSError:
        return False


def _holder_is_dead(folder: Path) -> bool:
    """Whether the process that the lock file names ran on this machine, and no longer does."""
    holder = _holder(folder)
    pid = holder.get("pid")
    # On Windows, os.kill with any number ends the process.
    if sys.platform == "win32" or not isinstance(pid, int) or pid <= 0 or holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _holder(folder: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(read_file(folder / LOCK_FILE))
        if isinstance(note, dict):
            return note
    return {}


def _take_soon(handle: int) -> bool:
    """As ``_take``, but outlast those who only try the lock, to learn whether it is held."""
    for _ in range(_TRIES):
        with contextlib.suppress(BlockingIOError):
            return _take(handle)
        time.sleep(_TRY_SECONDS)
    return _take(handle)


def _take(handle: int) -> bool:
    """Lock an open file. False where the file system has no locks; BlockingIOError where another process has it."""
    if sys.platform == "win32":
        import msvcrt

        # Far behind the text, which others must be able to read.
        os.lseek(handle, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error
        os.lseek(handle, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return False
        raise
    return True
