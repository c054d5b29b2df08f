"""metrics.jsonl: one JSON object a line, appended as the run goes, without gaps or repeats after a resume.

The lines are chained: see ``run.log``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from rushkit.errors import DataError
from rushkit.files import plain_json, write_atomic, write_error
from rushkit.paths import read_file, reason
from rushkit.run.log import LineFile, Table, chained, read_chained
from rushkit.trackers.mirror import Mirror

# A line takes some hundred bytes: this is enough for millions of steps.
_MOST_BYTES = 1 << 30
# A line: ``step``, ``epoch``, ``kind`` ("step" or "epoch"), and figures by name.
Line = dict[str, Any]


class MetricsLog:
    """Appends lines to a metrics file. A line that a kill tore in two is cut off when the file is opened again.

    Args:
        path: The file; made when the first line comes.
        writes: False makes every write do nothing, for ranks that only follow.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path = Path(path)
        self._writes = writes
        self._file = LineFile(self.path)
        self._mirrors: list[Mirror] = []

    def mirror_to(self, mirrors: Iterable[Mirror]) -> None:
        """Show all lines, existing and future ones, to trackers too."""
        self._mirrors = list(mirrors)

    def append(self, **values: object) -> None:
        """Append one line, such as ``append(step=10, epoch=1, loss=0.3)``; it outlives the process at once.

        Raises:
            NumericsError: a NaN or an infinity, naming the key.
            DataError: the lines before were altered.
            RushkitError: no room or no permission.
        """
        if not self._writes:
            return
        table: Table = {key: plain_json(value, f"{self.path.name}: {key}") for key, value in values.items()}
        try:
            if not self._file.is_open:
                self._file.recover()
            self._file.append(table)
        except ValueError as error:
            raise _damaged(self.path, error) from error
        except OSError as error:
            # Opening the file anew cuts off what was half written.
            self.close()
            raise write_error(self.path, error) from error
        self._mirror(table)

    def keep_until(self, step: int) -> None:
        """Delete the lines after a step, before the run resumes from it. Lines without a step stay.

        Raises:
            DataError: the lines were altered.
        """
        if not self._writes:
            return
        self.close()
        kept = [line for line in read_metrics(self.path) if line.get("step", step) <= step]
        if self.path.exists():
            write_atomic(self.path, chained(kept))

    def sync(self) -> None:
        """Flush the lines to the disk, so that they also survive a power cut."""
        try:
            self._file.sync()
        except OSError as error:
            raise write_error(self.path, error) from error
        for mirror in self._mirrors:
            mirror.flush()

    def close(self) -> None:
        """Close the file; the next append opens it again."""
        self._file.close()
        for mirror in self._mirrors:
            mirror.close()

    def _mirror(self, line: Table) -> None:
        for mirror in self._mirrors:
            if mirror.begun:
                mirror.add(line)
            else:
                # The line is among them.
                mirror.begin(read_metrics(self.path))


def read_metrics(path: str | Path) -> list[Line]:
    """Return every whole line of a metrics file; a torn last line is left out, and a missing file has none.

    Raises:
        DataError: the file cannot be read, or a line before the last was altered, removed, added or moved.
    """
    path = Path(path)
    try:
        return cast(list[Line], read_chained(read_file(path, _MOST_BYTES))[0])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", "check its permissions") from error
    except ValueError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: ValueError) -> DataError:
    return DataError(
        f"{path} is damaged: {error}", "put it back as it was written; without it the curves begin anew, no more"
    )
