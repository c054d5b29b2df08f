"""An append-only record of what is done, block by block: a long evaluation that is killed goes on where it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rushkit.errors import RushkitError
from rushkit.run.files import write_error


class BlockLog:
    """JSON lines: first what the work is about, then one line a block of images.

    A torn last line, as a kill leaves it, is cut off. Blocks come in order, so the count of images is the place to go
    on from.

    Args:
        path: The file; made where it is missing.
        subject: What the outcomes depend on. A file about something else is refused.

    Raises:
        RushkitError: the file is about another subject, or damaged before its last line.
    """

    def __init__(self, path: Path, subject: dict[str, Any]) -> None:
        self.path = path
        subject = json.loads(json.dumps(subject))
        lines = self._whole_lines()
        if not lines:
            self._records: list[dict[str, Any]] = []
            self._write({"subject": subject})
            return
        header, *self._records = lines
        known = header.get("subject")
        if known != subject:
            changed = [key for key in subject if not isinstance(known, dict) or known.get(key) != subject[key]]
            raise RushkitError(
                f"{path} is about something else: {', '.join(changed) or 'its keys'} changed since it was begun",
                "go on with what the run was started with, or start a new run without --resume",
            )

    @property
    def done(self) -> int:
        """How many images have an outcome."""
        return sum(len(record["images"]) for record in self._records)

    def records(self) -> list[dict[str, Any]]:
        """The blocks so far, in order."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add a block; it has the key ``images``, a list of indices. It is on the disk when this returns."""
        self._write(record)
        self._records.append(record)

    def _write(self, record: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error

    def _whole_lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise RushkitError(f"{self.path} is damaged: {error}", "delete it and start again") from error
