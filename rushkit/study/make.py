"""Make the plan of a study: the jobs of its rows, seeds and stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from rushkit.errors import RushkitError, UsageError
from rushkit.recipe.load import default_runs_dir
from rushkit.recipe.origins import place
from rushkit.study.derive import Derived, Made, check_baseline, derive, file_changes, option_changes
from rushkit.study.job import Job, Role
from rushkit.study.links import Links, Place, link
from rushkit.study.load import Problems, Row, Study, load_study
from rushkit.study.outside import Outside, attack_identity, attacks_at, open_code, open_outside
from rushkit.study.places import Places
from rushkit.study.plan import Cell, Plan, Planned
from rushkit.study.schema import MOST_JOBS
from rushkit.study.stages import dotted


@dataclass(frozen=True)
class Template:
    """A stage of a row, for every seed.

    Attributes:
        derived: What it does.
        recipe: Its resolved recipe.
        links: What it starts from.
        outside: The run or checkpoint from outside the study that it starts from, if it does.
        code: Identity of the code that its attacks name; empty if they name none.
    """

    derived: Derived
    recipe: dict[str, JsonValue]
    links: Links
    outside: Outside | None = None
    code: str = ""


def plan_study(name: str, runs: str | Path | None = None) -> Plan:
    """Load a study by name or path, and plan it.

    Args:
        name: The study.
        runs: The folder of runs, where rows may name some; None: ``$RUSHKIT_RUNS``, else ``runs``.

    Raises:
        UsageError: every error of the study at once, each with file and line.
    """
    return make_plan(load_study(name), Path(runs or default_runs_dir()))


def make_plan(study: Study, runs: Path) -> Plan:
    """Return the plan of a study.

    Raises:
        UsageError: every error at once: recipes, options and parents among them, or more jobs than anybody runs.
    """
    problems = Problems(study.origins)
    number = sum(len(row.seeds) * len(row.stages) for row in study.rows.values())
    if number > MOST_JOBS:
        raise UsageError(
            f"{study.path}: the study has {number} jobs, more than {MOST_JOBS}", "leave some seeds or rows out"
        )
    linked = link(study, problems)
    outside = _outside(study, runs, problems)
    templates = _templates(study, linked, outside, problems)
    problems.check()
    return _planned(study, templates)


def _outside(study: Study, runs: Path, problems: Problems) -> dict[str, Outside]:
    """Return the runs and checkpoints from outside the study, by the label of their row."""
    opened = {}
    for label, row in study.rows.items():
        kind = next((kind for kind in ("run", "checkpoint", "model") if getattr(row.asked, kind) is not None), None)
        if kind is None:
            continue
        try:
            if row.asked.model is not None:
                changes = dotted(study.asked.set) | dotted(row.asked.set)
                opened[label] = open_code(label, row.asked.model, study.path.absolute().parent, changes)
            else:
                opened[label] = open_outside(getattr(row.asked, kind), runs)
        except RushkitError as error:
            problems.add_error(f"{row.key}.{kind}", error)
    return opened


def _templates(
    study: Study, linked: Mapping[Place, Links], outside: Mapping[str, Outside], problems: Problems
) -> dict[Place, Template]:
    """Return each stage of each row, those before it first; what is wrong is noted, and what depends on it left out."""
    templates: dict[Place, Template] = {}
    for (label, stage), links in linked.items():
        row = study.rows[label]
        if any(need not in templates for need in links.stages.values()) or (links.outside and label not in outside):
            continue
        model = links.stages.get("model")
        parent = None
        if model is not None:
            parent = Made(templates[model].derived.stage, templates[model].derived.recipe)
        elif links.outside:
            parent = outside[label].made
        try:
            derived = _derive(study, row, stage, parent, links)
            if (baseline := links.stages.get("baseline")) is not None:
                check_baseline(derived.recipe, templates[baseline].derived.recipe)
            recipe, code = derived.recipe.resolved(), ""
            if derived.stage == "attack":
                recipe["attack"] = attacks_at(recipe["attack"], study.path.absolute().parent)
                code = attack_identity(recipe["attack"])
        except RushkitError as error:
            problems.add_error(_blamed(row, stage, error), error)
            continue
        templates[label, stage] = Template(derived, recipe, links, outside[label] if links.outside else None, code)
    return templates


def _derive(study: Study, row: Row, stage: str, parent: Made | None, links: Links) -> Derived:
    asked, key = row.stages[stage], row.keys[stage]
    sets = (("set", study.asked.set), (f"{row.key}.set", row.asked.set), (f"{key}.set", asked.set))
    changes = [
        *file_changes(sets, study.origins),
        *option_changes(asked.changes(), place(key, study.origins)),
    ]
    labels = "/".join(links.stages["labels"]) if "labels" in links.stages else ""
    return derive(asked, row.asked.recipe, parent, labels, changes)


def _blamed(row: Row, stage: str, error: RushkitError) -> str:
    """Return the dotted key that an error is about: the row's recipe where that cannot be found."""
    return f"{row.key}.recipe" if error.message.startswith("unknown recipe") else row.keys[stage]


def _planned(study: Study, templates: Mapping[Place, Template]) -> Plan:
    """Return the jobs for every seed."""
    jobs: dict[str, Planned] = {}
    ids: dict[tuple[str, int, str], str] = {}
    for (label, stage), template in templates.items():
        for seed in study.rows[label].seeds:
            planned = _job(template, seed, ids)
            jobs.setdefault(planned.id, planned)
            ids[label, seed, stage] = planned.id
    cells = tuple(
        Cell(label, seed, stage, ids[label, seed, stage])
        for label, row in study.rows.items()
        for seed in row.seeds
        for stage in row.stages
    )
    rows = {label: tuple(row.asked.published) for label, row in study.rows.items()}
    return Plan(study.name, jobs, cells, study.asked.title, study.path, rows, study.asked.engine)


def _job(template: Template, seed: int, ids: Mapping[tuple[str, int, str], str]) -> Planned:
    """Return a stage's job for a seed; ``ids`` has those of its parents, by row, seed and stage."""
    parents: dict[Role, str] = {role: ids[row, seed, stage] for role, (row, stage) in template.links.stages.items()}
    needs = tuple(dict.fromkeys(parents.values()))
    sources: tuple[tuple[Role, Path], ...] = ()
    if template.outside is not None:
        parents["model"] = template.outside.identity
        sources = (("model", template.outside.path),)
    if template.code:
        parents["attack"] = template.code
    recipe = template.recipe | {"system": _table(template.recipe["system"]) | {"seed": seed}}
    for section in ("pretrain", "finetune"):
        table = _table(recipe[section])
        row, _, stage = str(table["labels"]).rpartition("/")
        if clusters := ids.get((row, seed, stage)):
            # A clustering is found by the name of its run.
            recipe[section] = table | {"labels": Places(Path()).run_folder(clusters).name}
    job = Job(stage=template.derived.stage, recipe=recipe, options=template.derived.options, parents=parents)
    return Planned(job.id, job, needs, sources)


def _table(value: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(value, dict)
    return value
