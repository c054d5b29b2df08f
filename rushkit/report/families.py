"""Which runs a report is about: a model, what it was made from, and what was measured of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from rushkit.errors import RushkitError, UsageError
from rushkit.paths import read_text
from rushkit.recipe.load import read_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results import Results
from rushkit.results.base import StageResults
from rushkit.run import lineage
from rushkit.run.info import RunInfo, find_runs
from rushkit.run.names import RECIPE_FILE

# The verbs whose runs hold a classifier, and the one that makes an encoder only.
MODEL_VERBS = ("finetune",)
ENCODER_VERB = "pretrain"

Stage = TypeVar("Stage", bound=StageResults)


@dataclass(frozen=True)
class Family:
    """A model and the runs around it.

    Attributes:
        model: The run that made the classifier; that of the encoder, or any other, where there is no classifier.
        runs: All runs that belong to it, oldest first, the model's own included.
        notes: What a reader must know of the choice.
    """

    model: RunInfo
    runs: tuple[RunInfo, ...]
    notes: tuple[str, ...] = field(default=())

    def of(self, *verbs: str) -> list[RunInfo]:
        """Its runs of these verbs, and imports that stand for them, oldest first."""
        return [run for run in self.runs if run.verb in verbs or run.stage in verbs]

    def results(self, kind: type[Stage]) -> list[tuple[RunInfo, Stage]]:
        """Its runs with results of one kind, oldest first; damaged results are left out."""
        return [(run, record) for run, record in self._records if isinstance(record, kind)]

    @cached_property
    def _records(self) -> list[tuple[RunInfo, Results]]:
        records = ((run, run.record()) for run in self.runs)
        return [(run, record) for run, record in records if record is not None]

    @property
    def encoder(self) -> RunInfo | None:
        """The run that pre-trained it."""
        return next(iter(self.of(ENCODER_VERB)), None)


def choose_run(spec: str | None, root: str | Path) -> RunInfo:
    """The run that a user means.

    Args:
        spec: A run folder, its name under ``root``, or a recipe's name (its newest model). None: the newest model.
        root: The folder of runs.

    Raises:
        UsageError: no such run.
    """
    runs = find_runs(root)
    if spec is not None:
        for path in (Path(spec), Path(root) / spec):
            found = next((run for run in find_runs(path.resolve().parent) if _same(run.path, path)), None)
            if found is not None:
                return found
        runs = [run for run in runs if run.recipe == spec]
    finished = [run for run in runs if run.status == "finished"]
    for candidates in ([run for run in finished if run.stage in MODEL_VERBS], finished, runs):
        if candidates:
            return candidates[0]
    asked = f"no run {spec!r}" if spec else "no run"
    raise UsageError(
        f"there is {asked} in {root}", "`rushkit runs list` shows what there is; `rushkit demo` makes some"
    )


def gather(run: RunInfo, runs: Sequence[RunInfo] | None = None) -> Family:
    """The model that a run is about, with its parents and children among ``runs`` (else: in the same folder).

    From the run of an encoder, or a measurement of one, the newest model on it is taken, and the others are named in a
    note.
    """
    runs = find_runs(run.path.parent) if runs is None else runs
    by_name = {each.path.name: each for each in runs if each.status != "broken"} | {run.path.name: run}
    parents = lineage.parents(list(by_name.values()))
    above = _above(run.path.name, parents)
    notes: list[str] = []
    model = next((name for name in above if by_name[name].stage in MODEL_VERBS), None)
    if model is None and by_name[above[-1]].stage == ENCODER_VERB:
        models = [name for name in _below(above[-1], parents, by_name) if by_name[name].stage in MODEL_VERBS]
        models.sort(key=lambda name: (by_name[name].status == "finished", by_name[name].started, name))
        if models:
            model = models.pop()
        if models:
            notes.append(f"other models on this encoder: {', '.join(models)}")
    model = model or above[-1]
    line = _above(model, parents)
    names = {*line, run.path.name}
    for each in line:
        names |= {name for name in _below(each, parents, by_name) if by_name[name].stage not in MODEL_VERBS}
    if lost := next((name for name in line if _lost(by_name[name], parents[name])), None):
        notes.append(f"{lost} was made from {by_name[lost].about.parent}, which is not in {run.path.parent}")
    members = sorted((by_name[name] for name in names), key=lambda each: (each.started, each.path.name))
    return Family(by_name[model], tuple(members), tuple(notes))


def recipe_text(run: RunInfo) -> str:
    """The resolved recipe of a run; empty where it cannot be read."""
    try:
        return read_text(run.path / RECIPE_FILE)
    except OSError:
        return ""


def recipe_of_run(run: RunInfo | None) -> Recipe | None:
    """The same, checked; None where it is gone or of another format."""
    text = recipe_text(run) if run else ""
    try:
        return read_recipe(text, str(run.path)) if text and run else None
    except RushkitError:
        return None


def _lost(run: RunInfo, parent: str | None) -> bool:
    return parent is None and run.about.parent is not None


def _above(name: str, parents: dict[str, str | None]) -> list[str]:
    """The run and what it builds on, in that order."""
    chain = [name]
    while (parent := parents[chain[-1]]) is not None and parent not in chain:
        chain.append(parent)
    return chain


def _below(name: str, parents: dict[str, str | None], by_name: dict[str, RunInfo]) -> list[str]:
    """What builds on a run, directly or not; what builds on another model in between is not looked at."""
    found = [name]
    for each in found:
        if each == name or by_name[each].stage not in MODEL_VERBS:
            found += [child for child, parent in parents.items() if parent == each and child not in found]
    return found[1:]


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
