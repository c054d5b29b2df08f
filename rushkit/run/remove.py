"""Remove runs that the user names, but none that works, and none that others depend on unless that is wanted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath

from rushkit.errors import UsageError, first_few
from rushkit.run.clean import delete_run
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.shipped import is_shipped

_NAMED = 5


def dependants(name: str, around: Iterable[RunInfo]) -> list[RunInfo]:
    """Return the runs that depend directly on one: its checkpoint, counts, labels or errors.

    Args:
        name: The name of the run's folder.
        around: All runs of its folder.
    """
    return [run for run in around if run.path.name != name and any(_leads_to(name, path) for path in _needs(run))]


def plan_removal(runs: Sequence[RunInfo], with_children: bool = False, force: bool = False) -> list[RunInfo]:
    """Return the runs to delete, those that depend on others first.

    Args:
        runs: The runs that the user named.
        with_children: Whether everything that depends on them goes too.
        force: Whether they go although others that stay depend on them.

    Raises:
        UsageError: one of them works or comes with rushkit, or others depend on one.
    """
    if shipped := next((run for run in runs if is_shipped(run.path)), None):
        raise UsageError(
            f"{shipped.path} comes with rushkit and stays", "it goes with rushkit; `rushkit runs list` shows your runs"
        )
    around = {path: find_runs(path) for path in dict.fromkeys(run.path.parent for run in runs)}
    chosen: dict[object, RunInfo] = {}
    waiting = list(runs)
    while waiting:
        run = waiting.pop()
        if run.path in chosen:
            continue
        chosen[run.path] = run
        if with_children:
            waiting += dependants(run.path.name, around[run.path.parent])
    for run in chosen.values():
        if run.status == "running":
            raise UsageError(f"{run.path} is running", "stop it first (Ctrl-C where it runs), then remove it")
        needed = [one for one in dependants(run.path.name, around[run.path.parent]) if one.path not in chosen]
        if needed and not force:
            names = first_few([one.path.name for one in needed], _NAMED)
            raise UsageError(
                f"{run.path} is what others depend on: {names}",
                "--with-children removes them too, --force removes it and leaves them as they are",
            )
    return list(reversed(chosen.values()))


def remove(runs: Sequence[RunInfo]) -> list[RunInfo]:
    """Delete the runs of ``plan_removal``; return those that were, without any that were resumed meanwhile.

    Raises:
        UsageError: one is no run folder, or a link to one.
        RushkitError: a process works in one, or it cannot be deleted.
    """
    return [run for run in runs if delete_run(run)]


def _needs(run: RunInfo) -> list[str]:
    about = run.about
    paths = (
        about.parent,
        about.counts,
        about.transfer_to,
        about.baseline,
        about.init,
        about.extends,
        about.labels and about.labels.run,
    )
    return [path for path in paths if path]


def _leads_to(name: str, path: str) -> bool:
    return name in PurePath(path.replace("\\", "/")).parts
