"""The size of a run's folder: by a walk through it, or from the index of the runs' folder while nothing has changed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from rushkit.results.records import RESULTS_FILE
from rushkit.run.index import RunIndex, Stamp, stamp_of
from rushkit.run.names import RECIPE_FILE, RUN_FILE

# What the index keeps of the size, and the files whose stamps show that nobody has worked on the run since.
_INDEXED = "size"
_SHOWING = (RUN_FILE, RECIPE_FILE, RESULTS_FILE)


def size_of(folder: Path) -> int:
    """Return the total size of the files in a folder in bytes, ignoring files that vanish meanwhile."""
    return _walked(folder)[0]


def known_size(folder: Path, index: RunIndex) -> int:
    """Return the size of the folder of a run at rest in bytes, from the index where it has that.

    What it has counts while run.json, which every process that works on the run writes, the recipe and the results are
    as they were, and no file was made, replaced or deleted in any folder of the run. A file that somebody lengthens in
    its place is noticed with the next of these.
    """
    name = folder.name
    before, text = index.entry(name, _INDEXED)
    size, *parts = text.split("\n")
    # A name that leads out of the run would only be asked for its time.
    if before and before == [*_stamp(folder, parts)] and size.isdecimal():
        return int(size)
    total, parts = _walked(folder)
    index.put(name, _INDEXED, _stamp(folder, parts), "\n".join([str(total), *parts]))
    return total


def _stamp(folder: Path, parts: Sequence[str]) -> Stamp:
    """Return what shows that a run has changed; zeros for a file or a folder that is not there."""
    root, stamp = f"{folder}{os.sep}", list[int]()
    for name in (*_SHOWING, *parts):
        stamp += stamp_of(f"{root}{name}") or (0, 0, 0, 0)
    return tuple(stamp)


def _walked(folder: Path) -> tuple[int, list[str]]:
    """Return the size of all files in a folder, and the folders in it, itself as ""."""
    total, parts, root = 0, [""], f"{folder}{os.sep}"
    # The list grows while it is walked.
    for part in parts:
        with contextlib.suppress(OSError), os.scandir(f"{root}{part}") as entries:
            for entry in entries:
                # For each of the files of thousands of runs: a block of suppress takes as long as the call in it.
                try:
                    total += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        parts.append(f"{part}{entry.name}{os.sep}")
                except OSError:
                    continue
    return total, parts
