"""JSON lines that are chained by hashes: a line that was altered, removed, inserted, moved or doubled is found.

Each line has the key ``chain``: a hash over that of the line before and its own content. This tells damage and slips
from what was written; it is no signature, for whoever alters a file on purpose can compute the hashes anew. A file that
was cut at the end of a line cannot be told from one that was stopped there: who needs to know keeps a ``Seal``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHAIN = "chain"


@dataclass(frozen=True)
class Seal:
    """How far a file of lines had come.

    Attributes:
        lines: How many there were.
        chain: The hash of the last one; ``""`` of none.
    """

    lines: int = 0
    chain: str = ""

    def line(self, record: Mapping[str, Any]) -> tuple[bytes, Seal]:
        """The next line and the seal behind it. Raises ValueError for NaN and infinity."""
        seal = Seal(self.lines + 1, _hash(self.chain, record))
        return (json.dumps({**record, CHAIN: seal.chain}, allow_nan=False) + "\n").encode(), seal


def read_chained(data: bytes) -> tuple[list[dict[str, Any]], list[Seal], int]:
    """The records of a file's whole lines, without their hashes.

    Returns:
        The records, the seal behind each of them, and how many bytes they take: what follows is a line that a kill tore
        in two.

    Raises:
        ValueError: a line is no JSON object, or not the one that was written behind the line before.
    """
    whole = data.rfind(b"\n") + 1
    records, seals, seal = [], [], Seal()
    for number, line in enumerate(data[:whole].split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            told = record.pop(CHAIN)
            seal = Seal(number, _hash(seal.chain, record))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"line {number} is not one that rushkit wrote") from error
        if told != seal.chain:
            raise ValueError(f"line {number} does not follow from the one before: a line was altered, added or removed")
        records.append(record)
        seals.append(seal)
    return records, seals, whole


def chained(records: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Records as the lines of a new file."""
    lines, seal = [], Seal()
    for record in records:
        line, seal = seal.line(record)
        lines.append(line)
    return lines


def _hash(before: str, record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.blake2b(f"{before}\n{text}".encode(), digest_size=16).hexdigest()
