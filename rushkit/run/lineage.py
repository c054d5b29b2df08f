"""Find the runs that a run builds on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath

from rushkit.run.info import RunInfo


def parent_name(run: RunInfo, names: Collection[str]) -> str | None:
    """Return the folder's name of the run that this one builds on, if it is one of ``names``.

    It is the last part of the stored path that is a run here, not the path itself: folders of runs are moved, and
    run.json may hold a relative path.
    """
    parts = PurePath(run.about.parent or run.about.init or run.about.extends or "").parts
    return next((part for part in reversed(parts) if part in names and part != run.path.name), None)


def parents(runs: Sequence[RunInfo]) -> dict[str, str | None]:
    """Return folder's name of each run -> that of the run it builds on, or None if that is not among them."""
    names = {run.path.name for run in runs}
    return {run.path.name: parent_name(run, names) for run in runs}


def ancestors(name: str, above: Mapping[str, str | None]) -> list[str]:
    """Return the runs that a run builds on, from the nearest upwards, by what ``parents`` returned.

    A cycle, which only an edited run.json can have, is followed once.
    """
    line = [name]
    while (parent := above[line[-1]]) is not None and parent not in line:
        line.append(parent)
    return line[1:]
