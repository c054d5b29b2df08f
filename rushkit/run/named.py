"""What names a run: one rule for every command and every Python function. Nothing here imports torch.

A name is tried as each of these, in this order:

0. ``shipped/NAME``, a model that comes with rushkit;
1. a path: a run's folder, a published model's, or a checkpoint file in one or by itself;
2. a run's id: the name of its folder under the folder of runs;
3. the name of a recipe or of an imported model: its newest run that fits, finished before unfinished;
4. the end of an id, if one run alone has it, such as the six digits that ``runs list`` shows.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rushkit.errors import CheckpointError, UsageError, did_you_mean, first_few, shorten
from rushkit.paths import exists, expand, is_file
from rushkit.recipe.variant import base_name
from rushkit.run.info import RunInfo, find_runs, info_of, is_run, is_stub
from rushkit.run.names import CHECKPOINTS, CLAIMS_FILE, POINTERS, PUBLISHED_WEIGHTS, SUFFIX
from rushkit.run.shipped import shipped_run
from rushkit.run.stored_recipe import noise_of_run

_SHOW = "`rushkit runs list` shows the runs"
# Fewer letters than this are no end of an id.
_SHORTEST_END = 3
# How many candidates a message names.
_MOST_NAMED = 8


@dataclass(frozen=True)
class Named:
    """What a name leads to.

    Attributes:
        run: The run; None for a checkpoint outside of any.
        checkpoint: The checkpoint file that was named, or None.
        note: What a reader must know of the choice, such as other runs that the name could have meant; else empty.
    """

    run: RunInfo | None
    checkpoint: Path | None = None
    note: str = ""


@dataclass(frozen=True)
class Wish:
    """Runs that a recipe's name may mean.

    Attributes:
        stages: The stages whose runs they are; empty for all. An import counts for the stage that it stands for.
        statuses: The statuses that they may have; empty for all.
        verb: The command that made them; empty for any.
    """

    stages: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ("finished",)
    verb: str = ""

    def grants(self, run: RunInfo) -> bool:
        """Return whether a run is such a one."""
        asked = ((self.stages, run.stage), (self.statuses, run.status), ((self.verb,) * bool(self.verb), run.verb))
        return all(not accepted or value in accepted for accepted, value in asked)


# Imported models, which any command may be told of, to say what they are.
IMPORTED = Wish(statuses=(), verb="import")
# What a recipe's name means to commands that look at runs: the newest model, else the newest run.
MODEL_FIRST = (Wish(("finetune",)), Wish(), Wish(statuses=()))


def find_named(spec: str, root: str | Path, wishes: Sequence[Wish] = MODEL_FIRST) -> Named | None:
    """Return what a name leads to; None if nothing is called so.

    Args:
        spec: The name.
        root: The folder of runs.
        wishes: Which runs a recipe's name means, the most wanted first.

    Raises:
        UsageError: several runs' ids end so, or a path leads nowhere.
        CheckpointError: there is no such checkpoint.
    """
    for rule in _RULES:
        named = rule(spec, Path(root), wishes)
        if named is not None:
            return named
    return None


def is_published(folder: Path) -> bool:
    """Return whether a folder is that of a published model, which holds a checkpoint and claims."""
    return is_file(folder / CLAIMS_FILE) and is_file(folder / PUBLISHED_WEIGHTS)


def run_named(spec: str | None, root: str | Path, wishes: Sequence[Wish] = MODEL_FIRST) -> tuple[RunInfo, str]:
    """Return the run that a name leads to, and what must be said of the choice; without a name the most wanted run.

    Raises:
        UsageError: no run is called so, or several are.
    """
    if spec is None:
        run = _most_wanted(find_runs(root), wishes)
        if run is None:
            raise UsageError(f"there is no run in {root}", f"{_SHOW}; `rushkit demo` makes some")
        return run, ""
    named = find_named(spec, root, wishes)
    if named is None:
        names = sorted({name for run in find_runs(root) for name in (run.recipe, run.path.name) if name})
        near = did_you_mean(spec, names, cutoff=0.6)
        raise UsageError(f"there is no run {shorten(spec)!r} in {root}", f"{near} {_SHOW}".strip())
    if named.run is None:
        raise UsageError(f"{spec} is a checkpoint outside of any run", _SHOW)
    return named.run, named.note


def short_ids(runs: Iterable[RunInfo], root: str | Path | None = None) -> list[str]:
    """Return for each run the shortest name that means it alone: the end of its id, or else the whole id.

    Args:
        runs: The runs.
        root: The folder of runs, whose other runs count too; None: there are no others.
    """
    runs = list(runs)
    names = [run.path.name for run in runs]
    tails = Counter(_tail(name) for name in {*names, *(_folders(Path(root)) if root is not None else ())})
    return [_tail(name) if tails[_tail(name)] == 1 else name for name in names]


def _path(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    path = expand(spec)
    if _is_run(path):
        # A run is known by its folder's name, which "." does not have.
        return Named(info_of(path if path.name not in ("", "..") else path.resolve()))
    if is_published(path):
        return Named(None, path / PUBLISHED_WEIGHTS)
    if path.suffix == SUFFIX or is_file(path):
        return _checkpoint(path)
    return None


def _id(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    return Named(info_of(root / spec)) if spec and _is_run(root / spec) else None


def _recipe(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    runs = [run for run in find_runs(root) if spec and spec in (run.recipe, base_name(run.recipe))]
    # What is called exactly so comes before what was changed on the command line.
    run = _most_wanted([run for run in runs if run.recipe == spec], wishes) or _most_wanted(runs, wishes)
    return None if run is None else Named(run, note=_note(spec, run, runs, wishes))


def _end(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    if len(spec) < _SHORTEST_END:
        return None
    ended = sorted(name for name in _folders(root) if name.endswith(spec) and _is_run(root / name))
    if len(ended) > 1:
        raise UsageError(
            f"{len(ended)} runs end in {shorten(spec)!r}: {first_few(ended, _MOST_NAMED)}",
            "write more of the one that is meant",
        )
    return Named(info_of(root / ended[0])) if ended else None


def _nowhere(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    if "/" in spec or os.sep in spec:
        raise UsageError(f"{shorten(spec)} is neither a run folder nor a checkpoint", _SHOW)
    return None


def _shipped(spec: str, root: Path, wishes: Sequence[Wish]) -> Named | None:
    run = shipped_run(spec)
    return None if run is None else Named(run)


# The rule, in its order. What else comes to name a run is one more entry.
_RULES: tuple[Callable[[str, Path, Sequence[Wish]], Named | None], ...] = (
    _shipped,
    _path,
    _id,
    _recipe,
    _end,
    _nowhere,
)


def _checkpoint(path: Path) -> Named:
    if not exists(path):
        raise CheckpointError(f"there is no checkpoint {path}", _SHOW)
    inside = path.resolve().parent.name == CHECKPOINTS and is_run(path.resolve().parent.parent)
    if path.suffix != SUFFIX and path.name not in POINTERS:
        hint = f"name a run folder, or a checkpoint that rushkit wrote: it ends in {SUFFIX}"
        raise UsageError(f"{path} is not a checkpoint of rushkit", hint)
    return Named(info_of(path.resolve().parent.parent) if inside else None, path)


def _most_wanted(runs: Sequence[RunInfo], wishes: Sequence[Wish]) -> RunInfo | None:
    """Return the newest run that the first wish grants which grants any; the runs are the newest first."""
    return next((run for wish in wishes for run in runs if wish.grants(run)), None)


def _note(spec: str, run: RunInfo, runs: Sequence[RunInfo], wishes: Sequence[Wish]) -> str:
    """Say which run a recipe's name was taken to mean, if there are some of other components or another noise."""
    wish = next(wish for wish in wishes if wish.grants(run))
    kinds = {_kind(other): other for other in reversed(runs) if wish.grants(other)}
    kinds.pop(_kind(run), None)
    if not kinds and run.recipe == spec:
        return ""
    note = f"{spec}: took {run.path} ({_kind_words(run)})"
    others = [f"{other.path.name} ({_kind_words(other)})" for other in kinds.values()]
    return f"{note}; others of this name: {first_few(others, 3)}" if others else note


def _kind(run: RunInfo) -> tuple[str, str]:
    return run.recipe, noise_of_run(run)


def _kind_words(run: RunInfo) -> str:
    return f"{run.recipe}, noise {noise_of_run(run) or 'unknown'}"


def _is_run(path: Path) -> bool:
    return is_run(path) or is_stub(path)


def _folders(root: Path) -> list[str]:
    try:
        return os.listdir(root)  # noqa: PTH208 - of thousands the names alone
    except (OSError, ValueError):
        return []


def _tail(name: str) -> str:
    return name.rpartition("-")[2]
