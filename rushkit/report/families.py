"""Finds the runs that a report is about: a model, the runs that it was made from, and its measurements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from rushkit.errors import RushkitError
from rushkit.image_size import size_flag
from rushkit.paths import read_text
from rushkit.recipe import toml
from rushkit.recipe.load import default_runs_dir, read_recipe
from rushkit.recipe.schema import Recipe
from rushkit.results import Results
from rushkit.results.base import StageResults
from rushkit.results.run_file import GivenFacts
from rushkit.run import lineage
from rushkit.run.info import RunInfo
from rushkit.run.names import RECIPE_FILE
from rushkit.run.shipped import name_of, runs_around

# The verbs whose runs hold a classifier, and the one that makes an encoder only.
MODEL_VERBS = ("finetune",)
ENCODER_VERB = "pretrain"
_TRAINED = (*MODEL_VERBS, ENCODER_VERB)

Stage = TypeVar("Stage", bound=StageResults)


@dataclass(frozen=True)
class Family:
    """A model and the runs around it.

    Attributes:
        model: The run that made the classifier; that of the encoder, or any other, where there is no classifier; the
            first measurement of somebody's classifier.
        runs: All runs that belong to it, oldest first, the model's own included.
        notes: What a reader must know of the choice.
        unreadable: Runs with the recipe's name whose run.json cannot be read: nothing says whose they are.
    """

    model: RunInfo
    runs: tuple[RunInfo, ...]
    notes: tuple[str, ...] = field(default=())
    unreadable: tuple[RunInfo, ...] = field(default=())

    def of(self, *verbs: str) -> list[RunInfo]:
        """Return its runs of these verbs, and imports that stand for them, oldest first."""
        return [run for run in self.runs if run.verb in verbs or run.stage in verbs]

    def results(self, kind: type[Stage]) -> list[tuple[RunInfo, Stage]]:
        """Return its runs with results of one kind, oldest first; damaged results are left out.

        Example::

            for run, results in family.results(Evaluation):
                print(run.path.name, results.accuracy[0].accuracy)
        """
        return [(run, record) for run, record in self.records if isinstance(record, kind)]

    @cached_property
    def records(self) -> list[tuple[RunInfo, Results]]:
        """Its runs with results, oldest first; damaged results are left out."""
        records = ((run, run.record()) for run in self.runs)
        return [(run, record) for run, record in records if record is not None]

    @property
    def encoder(self) -> RunInfo | None:
        """The run that pre-trained it; of an encoder that learned from another one, its own."""
        return next(reversed(self.of(ENCODER_VERB)), None)

    @property
    def from_scratch(self) -> bool:
        """Whether its training started from random weights."""
        return self.model.verb in MODEL_VERBS and self.encoder is None and self.model.about.parent is None


def gather(run: RunInfo, runs: Sequence[RunInfo] | None = None) -> Family:
    """Return the model that a run is about, with its parents and children.

    A run of an encoder, or a measurement of one, leads to the newest model on that encoder; a note names the others.
    A measurement of somebody's classifier leads to all measurements of it; the first of them stands for the model.
    An encoder that learnt from a teacher brings the teacher's run, but neither the teacher's models nor what was
    measured of it.

    Args:
        run: A run of the model, of its encoder, or of a measurement.
        runs: Where relatives are looked for; None: the runs in the same folder, and around a shipped model.
    """
    runs = runs_around(run, default_runs_dir()) if runs is None else runs
    by_name = {one.path.name: one for one in runs if one.status != "broken"} | {run.path.name: run}
    if run.about.model is not None:
        return _of_given(run.about.model, by_name.values())
    parents = lineage.parents(list(by_name.values()))
    above = _above(run.path.name, parents)
    notes: list[str] = []
    model = next((name for name in above if by_name[name].stage in MODEL_VERBS), None)
    encoder = next((name for name in above if by_name[name].stage == ENCODER_VERB), None)
    if encoder is not None and (model is None or above.index(encoder) < above.index(model)):
        # A model further up is the teacher's.
        model = None
        models = [name for name in _below(encoder, parents, by_name) if by_name[name].stage in MODEL_VERBS]
        models.sort(key=lambda name: (by_name[name].status == "finished", by_name[name].started, name))
        if models:
            model = models.pop()
        if models:
            notes.append(f"other models on this encoder: {', '.join(models)}")
    model = model or encoder or above[-1]
    line = _above(model, parents)
    names = {*line, run.path.name}
    # What was measured of a teacher is not about the encoder that learned from it.
    of_encoder = next((n for n, name in enumerate(line, 1) if by_name[name].stage == ENCODER_VERB), len(line))
    for ancestor in line[:of_encoder]:
        if ancestor != model and by_name[ancestor].stage in MODEL_VERBS:
            # Another classifier, whose encoder this one took: what was measured of it is not about this one.
            continue
        names |= {name for name in _below(ancestor, parents, by_name) if by_name[name].stage not in _TRAINED}
    if lost := next((name for name in line if _lost(by_name[name], parents[name])), None):
        notes.append(f"{lost} was made from {by_name[lost].about.parent}, which is not in {run.path.parent}")
    members = sorted((by_name[name] for name in names), key=lambda member: (member.started, member.path.name))
    named = f"-{by_name[model].recipe}-"
    unreadable = sorted((one for one in runs if one.status == "broken" and named in one.path.name), key=_by_name)
    return Family(by_name[model], tuple(members), tuple(notes), tuple(unreadable))


def _by_name(run: RunInfo) -> str:
    return run.path.name


def _of_given(model: GivenFacts, runs: Iterable[RunInfo]) -> Family:
    """Return what was measured of somebody's classifier: the runs of the same code with the same weights."""
    same = [run for run in runs if run.about.model is not None and run.about.model.hash == model.hash]
    same.sort(key=lambda member: (member.started, member.path.name))
    return Family(same[0], tuple(same))


def named_by(run: RunInfo) -> list[str]:
    """Return the words of a command line that name the model of a run, and the data of somebody's classifier."""
    recipe = recipe_of_run(run)
    if run.about.model is None or recipe is None or recipe.model is None:
        return ["--from", name_of(run.path) or run.path.name]
    model, data = recipe.model, recipe.data
    path = data.options.get("path")
    said = {
        "--model": model.code,
        "--weights": model.weights,
        "--mean": ",".join(map(str, model.mean)),
        "--std": ",".join(map(str, model.std)),
        "--classes": ",".join(model.classes),
        "--output": model.output,
        "--answers": "" if model.answers == "logits" else model.answers,
        "--input-size": size_flag(data.size) if data.size else "",
        "--data": path if isinstance(path, str) else data.name,
    }
    words = [word for flag, value in said.items() if value for word in (flag, value)]
    arguments = [f"--model-arg={name}={toml.format_value(value)}" for name, value in model.arguments.items()]
    return [*words, *arguments]


def recipe_text(run: RunInfo) -> str:
    """Return the resolved recipe of a run; empty if it cannot be read."""
    try:
        return read_text(run.path / RECIPE_FILE)
    except OSError:
        return ""


def recipe_of_run(run: RunInfo | None) -> Recipe | None:
    """Return the resolved recipe of a run, or None if it is gone or cannot be read."""
    text = recipe_text(run) if run else ""
    try:
        return read_recipe(text, str(run.path)) if text and run else None
    except RushkitError:
        return None


def _lost(run: RunInfo, parent: str | None) -> bool:
    return parent is None and run.about.parent is not None


def _above(name: str, parents: dict[str, str | None]) -> list[str]:
    """Return the run and what it builds on, in that order."""
    chain = [name]
    while (parent := parents[chain[-1]]) is not None and parent not in chain:
        chain.append(parent)
    return chain


def _below(name: str, parents: dict[str, str | None], by_name: dict[str, RunInfo]) -> list[str]:
    """Return what builds on a run, directly or not; runs behind another model or encoder in between are left out."""
    descendants = [name]
    for run in descendants:
        if run == name or by_name[run].stage not in _TRAINED:
            descendants += [child for child, parent in parents.items() if parent == run and child not in descendants]
    return descendants[1:]
