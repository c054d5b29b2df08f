"""Append-only files of JSON lines, chained by hashes, with a last line that a kill may have torn.

Each line has the key ``chain``: a hash over that of the line before and its own content. A line that was altered,
removed, inserted, moved or doubled is found. This tells damage and slips from what was written; it is no signature, for
whoever alters a file on purpose can compute the hashes anew. A file that was cut at the end of a line cannot be told
from one that was stopped there: whoever needs to know keeps a ``Seal``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import JsonValue

from rushkit.errors import RushkitError
from rushkit.files import write_error
from rushkit.interrupt import uninterrupted
from rushkit.paths import direct, read_file
from rushkit.results.certification import Seal

CHAIN = "chain"
# A line, as the table that JSON holds.
Table = dict[str, JsonValue]
# Raises ValueError where a log's subject and lines cannot be what was written.
Check = Callable[[Table, list[Table]], None]
_START = Seal(lines=0, chain="")


class LineFile:
    """A file of chained JSON lines, which one process appends to.

    Args:
        path: The file; made when the first line comes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seal = _START
        self._handle: int | None = None

    def recover(self) -> list[Table]:
        """Return the whole lines, after cutting off a last one that was torn: new lines follow them.

        Raises:
            ValueError: a line is not the one that was written behind the line before.
            OSError: the file cannot be read or cut.
        """
        self.close()
        if not self.path.exists():
            self.seal = _START
            return []
        # Opened for writing first: a link is refused before what it leads to is read.
        handle = direct(str(self.path), os.O_WRONLY)
        try:
            data = read_file(self.path)
            lines, seals, whole = read_chained(data)
            if whole < len(data):
                os.truncate(handle, whole)
        finally:
            os.close(handle)
        self.seal = seals[-1] if seals else _START
        return lines

    def append(self, table: Mapping[str, JsonValue]) -> None:
        """Append a line, which outlives the process at once; the file stays open.

        Where this raises OSError, the line may be half written: ``recover`` cuts it off.
        """
        line, seal = next_line(self.seal, table)
        if self._handle is None:
            self._handle = direct(str(self.path), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        while line:
            line = line[os.write(self._handle, line) :]
        self.seal = seal

    @property
    def is_open(self) -> bool:
        """Whether the file is open."""
        return self._handle is not None

    def sync(self) -> None:
        """Flush the lines to the disk, so that they also survive a power cut."""
        if self._handle is not None:
            os.fsync(self._handle)

    def close(self) -> None:
        """Close the file; the next ``append`` opens it again."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)


class BlockLog:
    """A log of long work: a first line with its subject, then one line for each block.

    A stopped work resumes after the last line.

    Args:
        path: The file; made where it is missing.
        subject: What the lines depend on. A file about something else is refused.
        check: Raises ValueError if the lines are not what the work writes.

    Raises:
        RushkitError: the file is about another subject, or damaged before its last line.
    """

    def __init__(self, path: Path, subject: Table, check: Check = lambda subject, records: None) -> None:
        self.path = path
        self._file = LineFile(path)
        subject = json.loads(json.dumps(subject))
        try:
            lines = self._file.recover()
        except ValueError as error:
            raise damaged(path, str(error)) from error
        except OSError as error:
            raise write_error(path, error) from error
        self._records = lines[1:]
        if not lines:
            self._write({"subject": subject})
            return
        written = _subject(path, lines)
        if written != subject:
            changed = [key for key in subject if written.get(key) != subject[key]]
            raise RushkitError(
                f"{path} is about something else: {', '.join(changed) or 'its keys'} changed since it was begun",
                "go on with what the run was started with, or start a new run without --resume",
            )
        _checked(path, check, written, self._records)

    @property
    def seal(self) -> Table:
        """The number of lines and the hash of the last one, as results.json keeps them."""
        return self._file.seal.to_table()

    def records(self) -> list[Table]:
        """Return the lines so far, in order, without the subject."""
        return list(self._records)

    def append(self, record: Table) -> None:
        """Add a line. It is on the disk when this returns."""
        self._write(record)
        self._records.append(record)

    def _write(self, record: Table) -> None:
        try:
            with uninterrupted():
                self._file.append(record)
                self._file.sync()
                # Opened anew each time: where the folder is gone, that fails.
                self._file.close()
        except OSError as error:
            raise write_error(self.path, error) from error


def read_log(path: Path, check: Check) -> tuple[Table, list[Table], Table]:
    """Return the subject, the lines and the seal of a log, which stays as it is; a torn last line is left out.

    Raises:
        OSError: it cannot be read.
        RushkitError: it is damaged.
    """
    try:
        lines, seals, _ = read_chained(read_file(path))
    except ValueError as error:
        raise damaged(path, str(error)) from error
    if not lines:
        raise damaged(path, "it has no lines")
    subject = _subject(path, lines)
    _checked(path, check, subject, lines[1:])
    return subject, lines[1:], seals[-1].to_table()


def damaged(path: Path, reason: str) -> RushkitError:
    """Return the error for a file that is not what was written."""
    return RushkitError(
        f"{path} is damaged: {reason}", "put back the file as it was written, or start a new run without --resume"
    )


def read_chained(data: bytes) -> tuple[list[Table], list[Seal], int]:
    """Return the tables of a file's whole lines, without their hashes.

    Returns:
        The tables, the seal behind each of them, and how many bytes they take: what follows is a line that a kill tore.

    Raises:
        ValueError: a line is no JSON object, or not the one that was written behind the line before.
    """
    whole = data.rfind(b"\n") + 1
    tables: list[Table] = []
    seals: list[Seal] = []
    before = ""
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        try:
            table = json.loads(line)
            chain = table.pop(CHAIN)
            before = _hash(before, table)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"line {number} is not one that rushkit wrote") from error
        if chain != before:
            raise ValueError(f"line {number} does not follow from the one before: a line was altered, added or removed")
        tables.append(table)
        seals.append(Seal(lines=number, chain=before))
    return tables, seals, whole


def next_line(seal: Seal, table: Mapping[str, JsonValue]) -> tuple[bytes, Seal]:
    """Return the line that follows a seal, and the seal behind it. Raises ValueError for NaN and infinity."""
    after = Seal(lines=seal.lines + 1, chain=_hash(seal.chain, table))
    return (json.dumps({**table, CHAIN: after.chain}, allow_nan=False) + "\n").encode(), after


def chained(tables: Sequence[Mapping[str, JsonValue]]) -> list[bytes]:
    """Return tables as the lines of a new file."""
    lines, seal = [], _START
    for table in tables:
        line, seal = next_line(seal, table)
        lines.append(line)
    return lines


def _subject(path: Path, lines: Sequence[Table]) -> Table:
    subject = lines[0].get("subject")
    if not isinstance(subject, dict):
        raise damaged(path, "its first line does not say what it is about")
    return subject


def _checked(path: Path, check: Check, subject: Table, records: list[Table]) -> None:
    try:
        check(subject, records)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"a value is missing or of another kind ({error})"
        raise damaged(path, reason) from error


def _hash(before: str, table: Mapping[str, JsonValue]) -> str:
    text = json.dumps(table, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(f"{before}\n{text}".encode(), digest_size=16).hexdigest()
