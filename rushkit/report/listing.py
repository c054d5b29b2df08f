"""Many runs as rows: what `rushkit runs list` shows, how it is filtered and sorted. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

from rushkit.errors import UsageError, did_you_mean
from rushkit.recipe import toml
from rushkit.recipe.overrides import parse_changes
from rushkit.recipe.toml import Table, Toml
from rushkit.recipe.variant import base_name
from rushkit.report.numbers import Number, numbers_of
from rushkit.report.words import value_words
from rushkit.results import Results
from rushkit.run.index import RunIndex
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.named import short_ids
from rushkit.run.names import RECIPE_FILE
from rushkit.run.size import known_size, size_of
from rushkit.run.stored_recipe import noise_of_run, stored_recipe

_SECONDS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


@dataclass(frozen=True)
class Listed:
    """A run in a list; what lies in its files is read when it is first asked for.

    Attributes:
        run: The run.
        id: The shortest name that means it alone.
        index: The index of the runs' folder, if it is to be used.
    """

    run: RunInfo
    id: str
    index: RunIndex | None = field(default=None, repr=False, compare=False)

    def recall(self, name: str, kind: str, read: Callable[[], str]) -> str:
        """Return the text that ``read`` makes of a file of the run; the index may know it, if the run is at rest."""
        index = self._index_at_rest
        return read() if index is None else index.recall(self.run.path, name, kind, read)

    @property
    def _index_at_rest(self) -> RunIndex | None:
        """The index, unless a process works on the run, or seemed to."""
        return None if self.run.about.status == "running" else self.index

    @cached_property
    def recipe(self) -> Table:
        """Its resolved recipe."""
        return stored_recipe(self.run)

    @cached_property
    def noise(self) -> str:
        """The noise of its recipe, in words."""
        return self.recall(RECIPE_FILE, "noise", lambda: noise_of_run(self.run))

    @cached_property
    def bytes(self) -> int:
        """The size of its folder."""
        index = self._index_at_rest
        return size_of(self.run.path) if index is None else known_size(self.run.path, index)

    @cached_property
    def record(self) -> Results | None:
        """Its results."""
        return self.run.record()

    @cached_property
    def numbers(self) -> list[Number]:
        """All its figures."""
        return numbers_of(self.record)

    @cached_property
    def started(self) -> datetime | None:
        """When it was started; None where run.json has no such time."""
        try:
            return datetime.fromisoformat(self.run.started).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def age(self, now: datetime) -> str:
        """Return how long ago it was started, in one unit: "3 h"; empty where that is not known."""
        if self.started is None:
            return ""
        seconds = max(0, int((now - self.started).total_seconds()))
        unit, length = next((unit for unit in _SECONDS if seconds >= unit[1]), _SECONDS[-1])
        return f"{seconds // length} {unit}"


# What a list can be sorted by: the order is that of the smallest key.
SORTS: Mapping[str, Callable[[Listed], Any]] = {
    "date": lambda row: -(row.started.timestamp() if row.started else 0.0),
    "size": lambda row: -row.bytes,
    "verb": lambda row: row.run.verb,
    "recipe": lambda row: row.run.recipe,
    "noise": lambda row: row.noise,
    "seed": lambda row: -1 if row.run.about.seed is None else row.run.about.seed,
    "status": lambda row: row.run.status,
}
_COLUMNS: Mapping[str, Callable[[Listed], Sequence[str]]] = {
    "id": lambda row: (row.id, row.run.path.name),
    "verb": lambda row: (row.run.verb, row.run.stage),
    "recipe": lambda row: (row.run.recipe, base_name(row.run.recipe)),
    "status": lambda row: (row.run.status,),
    "noise": lambda row: (row.noise, row.noise.partition(" ")[0]),
    "seed": lambda row: (str(row.run.about.seed),),
}


def listed_runs(
    root: str | Path,
    filters: Sequence[str] = (),
    sort: str = "date",
    reverse: bool = False,
    index: RunIndex | None = None,
) -> list[Listed]:
    """Return the runs of a folder as rows.

    Args:
        root: The folder of runs.
        filters: Conditions that a run must all meet: ``KEY=VALUE`` with a column (verb, recipe, status, noise, seed,
            id) or a key of the recipe. A value may have ``*`` for any text. A recipe means its changed ones too.
        sort: A key of ``SORTS``: by date and size the newest and largest come first, else by the alphabet.
        reverse: Turn the order round.
        index: The index of that folder, which the rows use too and their reader saves.

    Raises:
        UsageError: a filter or a key is none.
    """
    if sort not in SORTS:
        hint = did_you_mean(sort, SORTS) or f"choose one of: {', '.join(SORTS)}"
        raise UsageError(f"--sort {sort} is no column", hint)
    runs = find_runs(root, index)
    rows = [Listed(run, name, index) for run, name in zip(runs, short_ids(runs, root), strict=True)]
    for condition in filters:
        rows = _filtered(rows, condition)
    rows = rows if sort == "date" else sorted(rows, key=SORTS[sort])
    return rows[::-1] if reverse else rows


def _filtered(rows: list[Listed], condition: str) -> list[Listed]:
    key, equals, wanted = condition.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--filter {condition!r} is not KEY=VALUE", "for example --filter recipe=cifar10")
    if key in _COLUMNS:
        return [row for row in rows if any(fnmatchcase(value, wanted.strip()) for value in _COLUMNS[key](row))]
    flat = [toml.flatten(row.recipe) for row in rows]
    keys = {name for recipe in flat for name in recipe}
    if rows and key not in keys:
        hint = did_you_mean(key, [*_COLUMNS, *keys]) or f"it takes {', '.join(_COLUMNS)}, or a key of the recipe"
        raise UsageError(f"no run has {key!r} to filter by", hint)
    value = parse_changes([condition])[0][1]
    return [row for row, recipe in zip(rows, flat, strict=True) if key in recipe and _equals(recipe[key], value)]


def _equals(found: Toml, wanted: Toml) -> bool:
    return found == wanted or (isinstance(wanted, str) and fnmatchcase(value_words(found), wanted))
