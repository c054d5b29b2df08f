"""An append-only record of what is done, block by block: a long evaluation that is killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rushkit.errors import RushkitError
from rushkit.files import write_error
from rushkit.interrupt import uninterrupted
from rushkit.paths import direct, read_file
from rushkit.run.chain import Seal, read_chained

# Subject and records -> ValueError where they cannot be what was written.
Check = Callable[[dict[str, Any], list[dict[str, Any]]], None]


class BlockLog:
    """JSON lines: first what the work is about, then one line a block of images. They are chained: see ``run.chain``.

    A torn last line, as a kill leaves it, is cut off. Blocks come in order, so the count of images is the place to go
    on from.

    Args:
        path: The file; made where it is missing.
        subject: What the outcomes depend on. A file about something else is refused.
        check: Raises ValueError where the lines are not what the work writes.

    Raises:
        RushkitError: the file is about another subject, or damaged before its last line.
    """

    def __init__(self, path: Path, subject: dict[str, Any], check: Check = lambda subject, records: None) -> None:
        self.path = path
        subject = json.loads(json.dumps(subject))
        data = read_file(path) if path.exists() else b""
        known, self._records, self._seal, whole = _parsed(path, data)
        if whole < len(data):
            self._cut(whole)
        if known is None:
            self._write({"subject": subject})
            return
        if known != subject:
            changed = [key for key in subject if known.get(key) != subject[key]]
            raise RushkitError(
                f"{path} is about something else: {', '.join(changed) or 'its keys'} changed since it was begun",
                "go on with what the run was started with, or start a new run without --resume",
            )
        _checked(path, check, known, self._records)

    @property
    def done(self) -> int:
        """How many images have an outcome."""
        return sum(len(record["images"]) for record in self._records)

    @property
    def seal(self) -> dict[str, Any]:
        """How many lines there are and the hash of the last one, as results.json keeps them."""
        return asdict(self._seal)

    def records(self) -> list[dict[str, Any]]:
        """The blocks so far, in order."""
        return list(self._records)

    def append(self, record: dict[str, Any]) -> None:
        """Add a block; it has the key ``images``, a list of indices. It is on the disk when this returns."""
        self._write(record)
        self._records.append(record)

    def _cut(self, size: int) -> None:
        try:
            with open(self.path, "r+b", opener=direct) as file:
                file.truncate(size)
        except OSError as error:
            raise write_error(self.path, error) from error

    def _write(self, record: dict[str, Any]) -> None:
        line, seal = self._seal.line(record)
        try:
            with uninterrupted(), open(self.path, "ab", opener=direct) as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise write_error(self.path, error) from error
        self._seal = seal


def read_log(path: Path, check: Check) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The subject, the records and the seal of a log, which stays as it is; a torn last line is left out.

    Raises:
        OSError: it cannot be read.
        RushkitError: it is damaged.
    """
    subject, records, seal, _ = _parsed(path, read_file(path))
    if subject is None:
        raise damaged(path, "it has no lines")
    _checked(path, check, subject, records)
    return subject, records, asdict(seal)


def damaged(path: Path, reason: str) -> RushkitError:
    """The error of a file that is not what was written."""
    return RushkitError(
        f"{path} is damaged: {reason}", "put back the file as it was written, or start a new run without --resume"
    )


def _parsed(path: Path, data: bytes) -> tuple[dict[str, Any] | None, list[dict[str, Any]], Seal, int]:
    """The subject (None of an empty file), the records, the seal behind the last and the bytes of the whole lines."""
    try:
        lines, seals, whole = read_chained(data)
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not lines:
        return None, [], Seal(), whole
    subject = lines[0].get("subject")
    if not isinstance(subject, dict):
        raise damaged(path, "its first line does not say what it is about")
    return subject, lines[1:], seals[-1], whole


def _checked(path: Path, check: Check, subject: dict[str, Any], records: list[dict[str, Any]]) -> None:
    try:
        check(subject, records)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"a value is missing or of another kind ({error})"
        raise damaged(path, reason) from error
