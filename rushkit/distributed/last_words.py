"""What the ranks of ``--nproc`` have to say when they end: to the launcher, in the order in which they say it.

The ranks append to one file, a line each, and a line is one write: the first line of a cause stands before everything
that came of it, whatever the clocks say.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rushkit.place import JOB_FOLDER

# A consequence is what another rank's end did to this one; a stop is an interruption that says how to go on.
Kind = Literal["cause", "consequence", "stop", "interrupted"]
_FILE = "last_words.jsonl"


@dataclass(frozen=True)
class LastWords:
    """What a rank said at its end.

    Attributes:
        rank: Which one.
        kind: Whether it is news, or what another rank's end did to it.
        text: Message and hint; ``""`` where the exit code says all.
        code: The exit code that it ends with.
    """

    rank: int
    kind: Kind
    text: str
    code: int


def leave_words(kind: Kind, text: str, code: int) -> bool:
    """Leave this rank's words to the launcher. False where no launcher started this process: they are not said yet."""
    folder = os.environ.get(JOB_FOLDER)
    if not folder:
        return False
    # The place itself may be what is wrong: the launcher gave this number.
    words = LastWords(int(os.environ.get("RANK", "0")), kind, text, code)
    try:
        handle = os.open(Path(folder) / _FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError:
        return False
    try:
        os.write(handle, f"{json.dumps(asdict(words))}\n".encode())
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def read_words(folder: str | Path) -> list[LastWords]:
    """What the ranks have said so far, in their order."""
    try:
        lines = (Path(folder) / _FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [LastWords(**json.loads(line)) for line in lines]
