"""Trackers: places outside of metrics.jsonl where people follow a training, such as TensorBoard.

A recipe names them in ``system.trackers``. Importing this package imports no tracker.

A tracker is a class of a few lines::

    @rushkit.trackers.register("print")
    class Print:
        def begin(self, run):
            print(run.id)

        def add(self, step, scalars):
            print(step, scalars)

        def flush(self):
            pass

        def close(self):
            pass
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import JsonValue

from rushkit.files import write_error
from rushkit.registries import trackers as _registry

create, get, register = _registry.create, _registry.get, _registry.register
names, entries = _registry.names, _registry.entries


@dataclass(frozen=True)
class TrackedRun:
    """The run whose metrics a tracker gets.

    Attributes:
        folder: Its folder, which exists.
        verb: The command that made it.
        seed: Seed of all draws; None where run.json does not say.
        study: Name of the study that it is a job of; empty for a run by itself.
        row: Label of the row of that study.
        job: Identity of the job.
        recipe: The resolved recipe.
    """

    folder: Path
    verb: str
    seed: int | None = None
    study: str = ""
    row: str = ""
    job: str = ""
    recipe: Mapping[str, JsonValue] = field(default_factory=dict, repr=False)

    @property
    def id(self) -> str:
        """The run's id: the name of its folder."""
        return self.folder.resolve().name

    def subfolder(self, name: str) -> Path:
        """Return the folder of the run that holds a tracker's files, made at the first call.

        Raises:
            RushkitError: no room, no permission, a link in its place, or the run's folder is gone.
        """
        folder = self.folder / name
        try:
            if folder.is_symlink():
                raise FileExistsError(errno.EEXIST, "it is a link")
            # Without its parents: the folder of a run that is gone does not come back.
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from error
        return folder

    def facts(self) -> dict[str, str | int]:
        """Return what names the run wherever its metrics go: id, verb, seed, and of a study its name, row and job."""
        said = {"run": self.id, "verb": self.verb, "seed": self.seed}
        said |= {"study": self.study, "row": self.row, "job": self.job}
        return {key: value for key, value in said.items() if value not in (None, "")}


class Tracker(Protocol):
    """The interface of a tracker; a plugin needs no base class. Making one is cheap, and fails if a package is missing.

    What a tracker raises is told once as a warning, and the run goes on without it: metrics.jsonl has everything.
    Rank 0 alone has trackers.
    """

    def begin(self, run: TrackedRun) -> None:
        """Start anew, in place of what the tracker holds of this run: after a resume all steps come again, in order."""
        ...

    def add(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the scalars of a step, by names such as ``"step/loss"`` and ``"epoch/loss"``; a step may come twice."""
        ...

    def flush(self) -> None:
        """Bring to safety what was added so far; called before each checkpoint."""
        ...

    def close(self) -> None:
        """End it; ``begin`` may follow."""
        ...
