"""metrics.jsonl: one JSON object a line, appended as the run goes, without gaps or repeats after a resume.

The lines are chained: see ``run.chain``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rushkit.errors import DataError
from rushkit.files import plain_json, write_atomic, write_error
from rushkit.paths import direct, read_file, reason
from rushkit.run.chain import Seal, chained, read_chained
from rushkit.run.tensorboard import ScalarEvents


class MetricsLog:
    """Appends lines to a metrics file. A line that a kill tore in two is cut off when the file is opened again.

    Args:
        path: The file; made when the first line comes.
        writes: False makes every write do nothing, for ranks that only follow.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path = Path(path)
        self._writes = writes
        self._handle: int | None = None
        self._seal = Seal()
        self._events: ScalarEvents | None = None

    def mirror_to(self, events: ScalarEvents) -> None:
        """Show every line in TensorBoard too: those that are there as well as those to come."""
        self._events = events

    def append(self, **values: Any) -> None:
        """Append one line, such as ``append(step=10, epoch=1, loss=0.3)``; it outlives the process at once.

        Raises:
            NumericsError: a NaN or an infinity, naming the key.
            DataError: the lines before were altered.
            RushkitError: no room or no permission.
        """
        if not self._writes:
            return
        plain = {key: plain_json(value, f"{self.path.name}: {key}") for key, value in values.items()}
        line = b""
        try:
            if self._handle is None:
                self._open()
            assert self._handle is not None
            line, seal = self._seal.line(plain)
            while line:
                line = line[os.write(self._handle, line) :]
        except OSError as error:
            # The line may be half written: opening the file anew cuts it off.
            self.close()
            raise write_error(self.path, error, len(line)) from error
        self._seal = seal
        self._mirror(plain)

    def keep_until(self, step: int) -> None:
        """Drop the lines past a step, before the run goes on from there. Lines without a step stay.

        Raises:
            DataError: the lines were altered.
        """
        if not self._writes:
            return
        self.close()
        lines = read_metrics(self.path)
        kept = [line for line in lines if line.get("step", step) <= step]
        if self.path.exists():
            write_atomic(self.path, chained(kept))

    def sync(self) -> None:
        """Bring the lines to the disk, so that they also outlive a power cut."""
        if self._handle is not None:
            try:
                os.fsync(self._handle)
            except OSError as error:
                raise write_error(self.path, error) from error
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)
        if self._events is not None:
            self._events.close()

    def _mirror(self, line: dict[str, Any]) -> None:
        if self._events is None:
            return
        if self._events.begun:
            self._events.add(line)
        else:
            # The line is among them.
            self._events.begin(read_metrics(self.path))

    def _open(self) -> None:
        """Open the file behind its last whole line; what a kill tore in two is cut off."""
        handle = direct(str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            data = read_file(self.path)
            _, seals, whole = _parsed(self.path, data)
            if whole < len(data):
                os.truncate(handle, whole)
        except BaseException:
            os.close(handle)
            raise
        self._handle, self._seal = handle, seals[-1] if seals else Seal()


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Every whole line of a metrics file; a torn last line is left out, and a missing file has none.

    Raises:
        DataError: the file cannot be read, or a line before the last was altered, removed, added or moved.
    """
    path = Path(path)
    try:
        data = read_file(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "check its permissions") from error
    return _parsed(path, data)[0]


def _parsed(path: Path, data: bytes) -> tuple[list[dict[str, Any]], list[Seal], int]:
    try:
        return read_chained(data)
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}", "put it back as it was written; without it the curves begin anew, no more"
        ) from error
