"""Find and delete runs that are no longer needed: those that stopped early and that no other run builds on."""

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
from rushkit.run.size import size_of


@dataclass(frozen=True)
class Leftover:
    """A run that can be deleted.

    Attributes:
        run: The run.
        bytes: Size of its files.
        resumable: Whether ``--resume`` could continue it.
    """

    run: RunInfo
    bytes: int
    resumable: bool


def find_leftovers(runs: Sequence[RunInfo], resumable: bool = False) -> list[Leftover]:
    """Return runs that failed or were stopped, have no results, and that no remaining run builds on.

    Args:
        runs: All runs of a folder.
        resumable: Whether to include those that could be resumed.
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
    """Delete a run's folder, unless the run has changed since ``run`` was read.

    Args:
        run: The run, as it was when it was chosen for deletion.
        listed: All runs at that time. Newer runs in the same folder may build on this one.

    Returns:
        Whether it was deleted; False if it has been resumed meanwhile, or a newer run builds on it.

    Raises:
        UsageError: the path is not a run, or is a link to one.
        RushkitError: a process is working in the folder, or it cannot be deleted.
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


def _resumable(folder: Path) -> bool:
    return any((folder / name).is_dir() and any((folder / name).iterdir()) for name in (CHECKPOINTS, COUNTS))
