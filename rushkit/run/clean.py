"""Runs that nobody needs: those that stopped before their end and that nothing builds on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rushkit.errors import UsageError
from rushkit.files import write_error
from rushkit.locks import FolderLock
from rushkit.results.records import RESULTS_FILE
from rushkit.run.info import STOPPED, RunInfo, find_runs, is_stub, read_run_file
from rushkit.run.lineage import ancestors, parent_name, parents
from rushkit.run.names import CHECKPOINTS, COUNTS, RUN_FILE


@dataclass(frozen=True)
class Leftover:
    """A run that can go.

    Attributes:
        run: It.
        bytes: What its files take.
        resumable: Whether it has kept something that ``--resume`` would go on from.
    """

    run: RunInfo
    bytes: int
    resumable: bool


def find_leftovers(runs: Sequence[RunInfo], resumable: bool = False) -> list[Leftover]:
    """Runs that failed, were killed or interrupted, have no results, and that no run which stays builds on.

    Args:
        runs: All runs of a folder.
        resumable: Also those that could be resumed.
    """
    leftovers = {}
    for run in runs:
        if run.status in STOPPED and not (run.path / RESULTS_FILE).exists():
            leftover = Leftover(run, size_of(run.path), _resumable(run.path))
            if resumable or not leftover.resumable:
                leftovers[run.path.name] = leftover
    above = parents(runs)
    # What stays keeps what it builds on, and so on upwards.
    needed = {parent for name in above if name not in leftovers for parent in ancestors(name, above)}
    return [leftover for name, leftover in leftovers.items() if name not in needed]


def delete_run(run: RunInfo, listed: Sequence[RunInfo] = ()) -> bool:
    """Delete a run's folder, unless something has been done with the run since ``run`` was read.

    Args:
        run: As it was when somebody decided that it can go.
        listed: All runs that there were then. Others in the same folder have been made since, and may build on it.

    Returns:
        Whether it was deleted: False where it was resumed meanwhile, or where a newer run builds on it.

    Raises:
        UsageError: it is no run, or a link to one.
        RushkitError: a process works in it, or it cannot be deleted.
    """
    stub = is_stub(run.path)
    if run.path.is_symlink() or not (stub or (run.path / RUN_FILE).is_file()):
        raise UsageError(f"{run.path} is not a run folder", "delete it yourself if it should go")
    lock = FolderLock(run.path)
    try:
        # Under the lock nobody resumes it any more; who did before has left a session in run.json.
        if stub and not is_stub(run.path):
            return False
        if not stub and (read_run_file(run.path) != run.about or (listed and _has_new_children(run, listed))):
            return False
        shutil.rmtree(run.path)
    except OSError as error:
        raise write_error(run.path, error) from error
    finally:
        lock.release()
    return True


def _has_new_children(run: RunInfo, listed: Sequence[RunInfo]) -> bool:
    known = {other.path.name for other in listed}
    if all(path.name in known for path in run.path.parent.iterdir()):
        return False
    return any(
        parent_name(other, {run.path.name}) for other in find_runs(run.path.parent) if other.path.name not in known
    )


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder; what vanishes meanwhile counts nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total


def _resumable(folder: Path) -> bool:
    return any((folder / name).is_dir() and any((folder / name).iterdir()) for name in (CHECKPOINTS, COUNTS))
