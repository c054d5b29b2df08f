"""What a tiny run changes, what a command says, and what lies in a folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TINY = (
    "data.limit=32",
    "data.image_size=8",
    "projector.hidden=8",
    "projector.out=4",
    "pretrain.epochs=1",
    "pretrain.batch_size=16",
    "pretrain.knn.k=3",
    "finetune.epochs=1",
    "finetune.batch_size=16",
)


def sets(*changes: str) -> list[str]:
    """``--set`` for each change; of two to one key the later."""
    last = {change.partition("=")[0]: change for change in changes}
    return [word for change in last.values() for word in ("--set", change)]


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str


def started(run: Path) -> str:
    """When a run was started; the names of two of one second are in no order."""
    return json.loads((run / "run.json").read_text())["started"]


def only(runs: Path, verb: str) -> Path:
    """The newest run of a verb."""
    return max(runs.glob(f"*-{verb}-*"), key=started)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def pipe(path: Path) -> Iterator[Path]:
    """A named pipe; whoever opens it to read finds it empty, and does not wait."""
    os.mkfifo(path)

    def write_nothing() -> None:
        os.close(os.open(path, os.O_WRONLY))

    writer = threading.Thread(target=write_nothing)
    writer.start()
    try:
        yield path
    finally:
        # Lets a writer go to whom nobody has come.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        writer.join()
        os.close(handle)
