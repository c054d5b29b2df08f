"""What a rank leaves for those who started it: the error that ended it, and the run that it works in.

The agent of torch, that of ``--nproc`` or of torchrun, names a file for each rank and attempt. The error lies there in
the form that torchrun shows. What the next attempt has to know lies beside the folders of the attempts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from rushkit.place import ATTEMPT, ERROR_FILE, JOB_FOLDER

# "stop": interrupted, and the text says how to go on.
Kind = Literal["cause", "stop", "interrupted"]
_FINAL, _RUN = "final", "run"


@dataclass(frozen=True)
class RankNote:
    """The error that ended a rank.

    Attributes:
        kind: Whether the rank failed, or was interrupted.
        text: Message and hint; ``""`` where the exit code is enough.
        code: Its exit code.
        at: When it was written, in nanoseconds of the clock that all processes of a machine share.
    """

    kind: Kind
    text: str
    code: int
    at: int


def leave_note(kind: Kind, text: str, code: int) -> bool:
    """Leave this rank's error. Under torchrun no later attempt of the job does anything after a "cause".

    Returns:
        Whether ``--nproc`` started this process, and prints the note; the caller must print it otherwise.
    """
    path = os.environ.get(ERROR_FILE)
    if not path:
        return False
    note = RankNote(kind, text, code, time.monotonic_ns())
    shown = {"message": text, "extraInfo": {"timestamp": str(int(time.time()))}}
    document = json.dumps({"message": shown, "rushkit": asdict(note)})
    try:
        _write(Path(path), document)
    except OSError:
        return False
    if JOB_FOLDER in os.environ:
        return True
    if kind == "cause":
        _keep(_FINAL, document)
    return False


def read_notes(paths: Iterable[str]) -> list[RankNote]:
    """Return the notes in some files of ranks, in the order of writing. Ranks without a note left none."""
    notes = []
    for path in paths:
        with suppress(OSError):
            notes.append(RankNote(**json.loads(Path(path).read_bytes())["rushkit"]))
    return sorted(notes, key=lambda note: note.at)


def final_code() -> int | None:
    """Return the exit code of an attempt under torchrun that no further one can mend; None without one.

    Its error becomes that of this attempt, so that torchrun, which shows the last one, shows it.
    """
    document = _kept(_FINAL)
    if document is None:
        return None
    with suppress(OSError):
        _write(Path(os.environ[ERROR_FILE]), document)
    return int(json.loads(document)["rushkit"]["code"])


def note_run(path: Path) -> None:
    """Tell later attempts of this job which run to go on with."""
    _keep(_RUN, str(path.resolve()))


def noted_run() -> str | None:
    """Return the folder of the run that an earlier attempt of this job worked in; None without one."""
    return _kept(_RUN) if os.environ.get(ATTEMPT, "0") != "0" else None


def _keep(name: str, text: str) -> None:
    folder = _folder_of_job()
    if folder is not None:
        with suppress(OSError):
            _write(folder / name, text)


def _kept(name: str) -> str | None:
    folder = _folder_of_job()
    try:
        return None if folder is None else (folder / name).read_text(encoding="utf-8")
    except OSError:
        return None


def _folder_of_job() -> Path | None:
    """Return the folder that the agent keeps from attempt to attempt: JOB/attempt_0/RANK/error.json lies in it."""
    parents = Path(os.environ.get(ERROR_FILE, "")).parents
    if len(parents) > 2 and parents[1].name == f"attempt_{os.environ.get(ATTEMPT)}":
        return parents[2]
    return None


def _write(path: Path, text: str) -> None:
    """Write a file that is whole as soon as it is there."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
