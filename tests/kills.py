"""Kills of a process at a chosen file operation, without a process: from it on, no file operation has an effect."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND


class Killed(BaseException):
    """What the dead process would have done next; nothing but a test catches it."""


class _Watch:
    folder: str | None = None
    left = 0

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or not (event in _CHANGES or (event == "open" and _writes(*arguments[1:3]))):
            return
        path = arguments[0]
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder):
            self.left -= 1
            if self.left < 0:
                raise Killed(event, path)


_watch = _Watch()
sys.addaudithook(lambda event, arguments: _watch.hear(event, arguments))


def killed_at(number: int, folder: Path, work: Callable[[], Any]) -> bool:
    """Do some work that is killed just before its file operation of this number below a folder, counted from 0.

    An operation is a file opened for writing, renamed or removed, or a folder made or removed.

    Returns:
        Whether the work was killed; False where it has no such operation and ended.
    """
    _watch.folder, _watch.left = str(folder), number
    try:
        work()
    except Killed:
        return True
    finally:
        _watch.folder = None
    return False


def _writes(mode: str | None, flags: int) -> bool:
    return any(letter in mode for letter in "wax+") if isinstance(mode, str) else bool(flags & _WRITES)
