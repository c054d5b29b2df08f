"""Pass the errors of the ranks of ``--nproc`` to the launcher, which prints the one that caused the failure.

Each rank appends one line to a shared file in a single write. So a cause always precedes its consequences, whatever the
clocks of the processes.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rushkit.place import JOB_FOLDER

# "consequence": the end of another rank broke this one; "stop": interrupted, and the text says how to go on.
Kind = Literal["cause", "consequence", "stop", "interrupted"]
_FILE = "last_words.jsonl"


@dataclass(frozen=True)
class LastWords:
    """The error that a rank left when it ended.

    Attributes:
        rank: The rank.
        kind: Whether its error is the cause, or follows from the end of another rank.
        text: Message and hint; ``""`` where the exit code is enough.
        code: Its exit code.
    """

    rank: int
    kind: Kind
    text: str
    code: int


def leave_words(kind: Kind, text: str, code: int) -> bool:
    """Pass this rank's error to the launcher.

    Returns:
        False if no launcher started this process, or the error cannot be written; the caller must then print it.
    """
    folder = os.environ.get(JOB_FOLDER)
    if not folder:
        return False
    # Straight from the environment: what is wrong may be the place itself, and the launcher set this number.
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
    """Return the errors that the ranks have left so far, in order of writing."""
    try:
        lines = (Path(folder) / _FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [LastWords(**json.loads(line)) for line in lines]
