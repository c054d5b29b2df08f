"""metrics.jsonl: one JSON object a line, appended as the run goes, without gaps or repeats after a resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rushkit.errors import DataError
from rushkit.paths import direct, read_file, reason
from rushkit.run.files import plain_json, write_atomic, write_error
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
        self._events: ScalarEvents | None = None

    def mirror_to(self, events: ScalarEvents) -> None:
        """Show every line in TensorBoard too: those that are there as well as those to come."""
        self._events = events

    def append(self, **values: Any) -> None:
        """Append one line, such as ``append(step=10, epoch=1, loss=0.3)``; it outlives the process at once.

        Raises:
            NumericsError: a NaN or an infinity, naming the key.
            RushkitError: no room or no permission.
        """
        if not self._writes:
            return
        plain = {key: plain_json(value, f"{self.path.name}: {key}") for key, value in values.items()}
        line = (json.dumps(plain) + "\n").encode()
        try:
            if self._handle is None:
                self._cut_torn_line()
                self._handle = direct(str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            while line:
                line = line[os.write(self._handle, line) :]
        except OSError as error:
            # The line may be half written: opening the file anew cuts it off.
            self.close()
            raise write_error(self.path, error, len(line)) from error
        self._mirror(plain)

    def keep_until(self, step: int) -> None:
        """Drop the lines past a step, before the run goes on from there. Lines without a step stay.

        Raises:
            DataError: a line before the last is not JSON.
        """
        if not self._writes:
            return
        self.close()
        lines = read_metrics(self.path)
        kept = [line for line in lines if line.get("step", step) <= step]
        if self.path.exists():
            write_atomic(self.path, [(json.dumps(line) + "\n").encode() for line in kept])

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

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        data = read_file(self.path)
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.path, whole)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Every whole line of a metrics file; a torn last line is left out, and a missing file has none.

    Raises:
        DataError: the file cannot be read, or a line before the last is not a JSON object.
    """
    path = Path(path)
    try:
        data = read_file(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "check its permissions") from error
    lines = data.split(b"\n")[:-1]
    return [_parsed(path, number, line) for number, line in enumerate(lines, start=1)]


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        values = json.loads(line)
        if not isinstance(values, dict) or not isinstance(values.get("step", 0), int | float):
            raise ValueError("not an object with a numeric step")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}:{number}: not a line of metrics: {error}", "remove that line") from error
    return values
