"""Which run builds on which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import PurePath

from rushkit.run.info import RunInfo


def parent_name(run: RunInfo, names: Collection[str]) -> str | None:
    """The folder's name of the run that this one builds on, if it is one of ``names``.

    It is the last part of the stored path that is a run here, not the path itself: folders of runs are moved, and
    run.json may hold a relative path.
    """
    stored = run.data.get("parent")
    parts = PurePath(stored).parts if isinstance(stored, str) else ()
    return next((part for part in reversed(parts) if part in names and part != run.path.name), None)


def parents(runs: Sequence[RunInfo]) -> dict[str, str | None]:
    """Folder's name of each run -> that of the one it builds on, or None where that is not among them."""
    names = {run.path.name for run in runs}
    return {run.path.name: parent_name(run, names) for run in runs}
