"""What an offline run of Weights & Biases holds: its own messages, as records in the log format of LevelDB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import wandb
from wandb.proto.wandb_internal_pb2 import Record

# A header of seven bytes; then blocks, whose records have a checksum of four bytes, a length of two and a kind of one.
_FILE_HEADER, _BLOCK, _HEADER = 7, 32768, 7
_FULL, _FIRST, _LAST = 1, 2, 4


def records(run: Path) -> Iterator[Record]:
    """The messages in the only offline run of a run's folder."""
    # Its process writes on after the end of a run; this waits for it.
    wandb.teardown()
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    data, at, parts = file.read_bytes(), _FILE_HEADER, b""
    while at + _HEADER <= len(data):
        if _BLOCK - at % _BLOCK < _HEADER:
            at += _BLOCK - at % _BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part = data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        parts = part if kind in (_FULL, _FIRST) else parts + part
        if kind in (_FULL, _LAST):
            yield Record.FromString(parts)


def history(run: Path) -> dict[int, dict[str, float]]:
    """Step -> scalars by name."""
    shown: dict[int, dict[str, float]] = {}
    for record in records(run):
        if record.WhichOneof("record_type") == "history":
            values = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            step = values.pop("_step", record.history.step.num)
            assert step not in shown
            shown[step] = {name: value for name, value in values.items() if not name.startswith("_")}
    return shown


def started(run: Path) -> Record:
    """The message that says which run it is."""
    return next(record.run for record in records(run) if record.WhichOneof("record_type") == "run")


def config(run: Path) -> dict[str, object]:
    """The configuration of the run, without what wandb says of itself."""
    values = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in started(run).config.update}
    return {key: value for key, value in values.items() if key != "_wandb"}
