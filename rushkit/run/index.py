"""An index of a folder of runs: what was read from the runs' files, so that thousands of runs are listed in a second.

It is checked, not trusted. What it holds of a file counts only while size, times and inode of the file are the same;
any other file is read anew. An index that is damaged, or of another rushkit, is none, and a folder that cannot be
written has none. It is replaced as a whole, so processes may use it at once. Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import rushkit
from rushkit.files import replace_file
from rushkit.paths import read_file

INDEX_FILE = ".index.json"
# Size, times of change of the content and of the file (ns), inode. The second time follows every change, and no
# program can set it. What depends on several files has as many of these in a row.
Stamp = tuple[int, ...]

_SCHEMA = 1
# Ten thousand runs take some ten megabytes.
_MOST_BYTES = 1 << 28
# An index is written when it spares the reading of so many files.
_WORTH = 100
# A file that changed less than this ago (ns) may change once more without another time: the clock of files has ticks.
_SETTLED = 2_000_000_000


class RunIndex:
    """What is known of the files of the runs in a folder. A ``with`` block keeps what it has learnt.

    Args:
        root: The folder of runs.
    """

    def __init__(self, root: str | Path) -> None:
        self._file = Path(root) / INDEX_FILE
        self._runs = _read(self._file)
        self._learnt = 0

    def get(self, run: str, kind: str, stamp: Stamp) -> str | None:
        """Return what was kept under a kind of a file of a run; None if the file has changed, or nothing was kept."""
        before, text = self.entry(run, kind)
        return text if before == list(stamp) else None

    def entry(self, run: str, kind: str) -> tuple[list[object], str]:
        """Return what was kept under a kind of a run and the stamp before it, unchecked; empty ones for nothing."""
        known = self._runs.get(run)
        match known.get(kind) if isinstance(known, dict) else None:
            case [list(before), str(text)]:
                return before, text
        return [], ""

    def put(self, run: str, kind: str, stamp: Stamp, text: str) -> None:
        """Keep a text that was made of a file of a run, which had this stamp before it was read."""
        if not abs(time.time_ns() - max(*stamp[1::4], *stamp[2::4])) > _SETTLED:
            return
        known = self._runs.setdefault(run, {})
        if not isinstance(known, dict):
            known = self._runs[run] = {}
        known[kind] = [list(stamp), text]
        self._learnt += 1

    def recall(self, folder: Path, file: str, kind: str, read: Callable[[], str]) -> str:
        """Return the text that ``read`` makes of a file in a run's folder, from the index where it has that."""
        # Paths as strings: pathlib takes as long as all else, for each of thousands.
        stamp = stamp_of(f"{folder}{os.sep}{file}")
        if stamp is None:
            return read()
        name = folder.name
        text = self.get(name, kind, stamp)
        if text is None:
            text = read()
            self.put(name, kind, stamp, text)
        return text

    def forget_others(self, names: Iterable[str]) -> None:
        """Forget all runs but those in folders of these names."""
        self._runs = {name: self._runs[name] for name in names if name in self._runs}

    def save(self) -> None:
        """Write the index, if that is worth it and the folder can be written."""
        if self._learnt < _WORTH:
            return
        table = {"schema": _SCHEMA, "made_by": _made_by(), "runs": self._runs}
        with contextlib.suppress(OSError):
            replace_file(self._file, [json.dumps(table, separators=(",", ":")).encode()])
            self._learnt = 0

    def __enter__(self) -> RunIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Put off the garbage collection in a block that makes ten thousand rows: each pass would look at all of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def stamp_of(file: str | Path) -> Stamp | None:
    """Return what shows that a file has changed; None if there is no such file."""
    try:
        about = os.stat(file)  # noqa: PTH116 - of thousands
    except (OSError, ValueError):
        return None
    return about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _read(file: Path) -> dict[str, Any]:
    """Return what an index holds of each run, unchecked; nothing if it is damaged or another rushkit wrote it."""
    try:
        table = json.loads(read_file(file, _MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    match table:
        case {"schema": schema, "made_by": made_by, "runs": dict(runs)} if schema == _SCHEMA and made_by == _made_by():
            return runs
    return {}


@cache
def _made_by() -> str:
    """Return what tells this rushkit from others, which may word a figure in another way: its version and its code."""
    package = Path(rushkit.__file__).parent
    code = [(str(file.relative_to(package)), stamp_of(file)) for file in sorted(package.rglob("*.py"))]
    return f"{rushkit.__version__} {hashlib.blake2b(repr(code).encode(), digest_size=16).hexdigest()}"
