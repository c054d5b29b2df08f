"""One process in a run folder at a time, by a lock that the system drops when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

from rushkit.errors import RushkitError
from rushkit.paths import read_file
from rushkit.run.files import write_error

LOCK_FILE = "lock"
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
            self._handle: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            self.held = _take(self._handle)
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


def holder_is_dead(folder: Path) -> bool:
    """Whether the process that took the folder's lock last is surely gone: it ran on this machine, and no longer does.

    Told from the process id and not by trying the lock, which might turn away the process that is about to take it.
    """
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
