"""The checkpoints that a run builds on: known by their hash, and kept beside the run until it is finished.

A path says where a checkpoint was. By the time a run is resumed its own folder may have been moved, the command may be
given from another folder, and training may have pruned the file: a second name of the file, in the run's folder, stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from rushkit.errors import CheckpointError, RushkitError
from rushkit.files import write_atomic
from rushkit.paths import is_file, open_file
from rushkit.results.run_file import Facts
from rushkit.run.checkpoint import Checkpoint, checkpoint_hash, load_checkpoint
from rushkit.run.folder import Run
from rushkit.run.names import CHECKPOINTS, SUFFIX

_COPIED = 1 << 24


def hashes_of(facts: Facts) -> dict[str, str]:
    """Return the hash of each checkpoint that run.json names by a path; a path that leads to none has none."""
    hashes = {key: checkpoint_hash(path) for key, path in _paths(facts).items() if path}
    return {key: value for key, value in hashes.items() if value}


def keep_checkpoints(run: Run) -> None:
    """Give the files of a run's checkpoints a second name in its folder, or copy them where they lie on another disk.

    A file that cannot be kept is found by its path, as long as it lies there.
    """
    if not run.writes:
        return
    for key in run.about.hashes:
        with contextlib.suppress(OSError, RushkitError):
            _second_name(_named(run, key).resolve(), run.path / f"{key}{SUFFIX}")


def checkpoint_of_run(run: Run, key: str = "parent") -> Checkpoint:
    """Return the checkpoint that a run builds on, wherever it lies now; its path is the one that run.json names.

    Raises:
        CheckpointError: it is gone, or another one has taken its place.
    """
    named, wanted = _named(run, key), run.about.hashes.get(key)
    if wanted is None:
        return load_checkpoint(named)
    for path in _places(run, key, named):
        if checkpoint_hash(path) == wanted:
            return replace(load_checkpoint(path), path=named)
    built_on = f"the one that {run.path} builds on, with the hash {wanted[:12]}"
    changed = f"the model changed: {named} is another checkpoint than {built_on}"
    raise CheckpointError(
        changed if is_file(named) else f"there is no checkpoint {named} any more: {built_on}",
        "put it back there, or start a new run",
    )


def _named(run: Run, key: str) -> Path:
    return Path(str(_paths(run.about).get(key)))


def _paths(facts: Facts) -> dict[str, str | None]:
    return {"parent": facts.parent, "transfer_to": facts.transfer_to, "init": facts.init, "extends": facts.extends}


def _places(run: Run, key: str, named: Path) -> Iterator[Path]:
    yield run.path / f"{key}{SUFFIX}"
    yield named
    # Of the run that it is of, where both folders were moved together.
    if named.parent.name == CHECKPOINTS:
        yield from sorted((run.path.parent / named.parent.parent.name / CHECKPOINTS).glob(f"*{SUFFIX}"), reverse=True)


def _second_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        with open_file(source) as file:
            write_atomic(target, iter(lambda: file.read(_COPIED), b""))
