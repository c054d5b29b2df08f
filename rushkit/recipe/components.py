"""Check a recipe's component options against the components' own signatures. Imports the components, and so torch."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from rushkit import registries
from rushkit.errors import UsageError, shorten
from rushkit.recipe.origins import at, place
from rushkit.recipe.problems import nearest_key, recipe_error
from rushkit.recipe.schema import (
    Attack,
    Backbone,
    Component,
    Data,
    Finetune,
    Noise,
    Pretrain,
    Published,
    Recipe,
    with_paper_scale,
)
from rushkit.recipe.toml import Table
from rushkit.registry import BUILTIN_OWNER, factory_parameters, option_problems

# What rushkit passes by itself, so that it is not an option of the recipe.
SUPPLIED = {
    "backbone": ("in_channels", "image_size"),
    "data set": ("root", "image_size"),
    "attack": ("norm", "eps", "seed", "samples"),
    "objective": ("hidden", "out", "batch_norm", "layers", "norm_out", "biases"),
}

_COMPONENTS: dict[str, type[Component]] = {
    "data": Data,
    "backbone": Backbone,
    "noise": Noise,
    "pretrain": Pretrain,
    "finetune": Finetune,
    "attack": Attack,
    "published": Published,
}
SECTIONS = {section: (model.REGISTRY, model) for section, model in _COMPONENTS.items()}


def check_components(recipe: Recipe) -> None:
    """Raise UsageError with every unknown component and every unknown, missing or ill-typed option at once."""
    if lines := component_lines(recipe.resolved(), recipe.origins):
        raise recipe_error(lines)


def component_lines(table: Table, origins: Mapping[str, str]) -> list[str]:
    """List what is wrong with the components in a recipe's plain data, whose other keys may be wrong as well."""
    lines: list[str] = []
    # A section that is not there has its defaults, which fit.
    for section in filter(table.__contains__, SECTIONS):
        part = table[section]
        parts = part if isinstance(part, list) else [part]
        for index, item in enumerate(parts):
            where = f"{section}.{index}" if isinstance(part, list) else section
            if isinstance(item, dict):
                lines += _section_lines(section, where, item, origins)
    return lines + list(_tracker_lines(table, origins))


def _section_lines(section: str, where: str, part: Table, origins: Mapping[str, str]) -> Iterator[str]:
    """List what is wrong with a section's component and its options; ``where`` is the section's dotted key."""
    registry, model = SECTIONS[section]
    if model is Noise:
        part = with_paper_scale(part)
    named = f"{where}.{model.NAMED_BY}"
    name = part.get(model.NAMED_BY, model.model_fields[model.NAMED_BY].default)
    if not isinstance(name, str):
        return
    try:
        factory = registry.get(name)
    except UsageError as error:
        yield at(named, f"{error.message} ({error.hint})", origins)
        return
    options = {key: value for key, value in part.items() if key not in model.model_fields}
    supplied = SUPPLIED.get(registry.kind, ())
    problems = option_problems(factory, options, supplied)
    for problem in problems:
        if problem.kind == "missing":
            # Nothing was said where it would stand; what was said is the component that needs it.
            needs = f"{registry.kind} {name!r} needs the option {problem.option!r}"
            yield at(named, f"{needs}: --set {where}.{problem.option}=...", origins)
        elif problem.kind == "unknown":
            # A slip may be meant for the section itself.
            known = [*model.model_fields, *factory_parameters(factory, supplied)]
            words = nearest_key(problem.option, known, where) or f" of {registry.kind} {name}"
            yield at(f"{where}.{problem.option}", f"unknown key{words}", origins)
        else:
            yield at(f"{where}.{problem.option}", problem.words, origins)
    if registry.kind in ("noise", "objective") and not problems and all(map(_finite, options.values())):
        # Cheap to make, and their options exclude one another.
        try:
            registry.create(name, **options)
        except UsageError as error:
            said = re.findall(r"\w+", error.message)
            blamed = next((key for key in options if key in said), next(iter(options), model.NAMED_BY))
            line = f"{place(f'{where}.{blamed}', origins)}: {error.message}"
            if model.EXCLUSIVE and not model.EXCLUSIVE & options.keys():
                line += (
                    f": say {' or '.join(f'--set {where}.{key}=...' for key in sorted(model.EXCLUSIVE, reverse=True))}"
                )
            yield line
    if registry.kind == "objective" and {"eps", "norm"} & factory_parameters(factory).keys() == {"eps"}:
        yield at(
            named, f"objective {name!r} has an eps without a norm: nothing says what ball it is the radius of", origins
        )
    stage = getattr(factory, "stage", None) if registry.kind == "objective" else None
    if stage not in (None, section):
        yield at(named, f"{name!r} is an objective of {stage}, not of {section}", origins)


def _tracker_lines(table: Table, origins: Mapping[str, str]) -> Iterator[str]:
    """List unknown trackers, and those that are named twice."""
    system = table.get("system")
    names = system.get("trackers") if isinstance(system, dict) else None
    named = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    for name in dict.fromkeys(named):
        try:
            registries.trackers.get(name)
        except UsageError as error:
            yield at("system.trackers", f"{error.message} ({error.hint})", origins)
        if [registries.trackers.written(each) for each in named].count(registries.trackers.written(name)) > 1:
            yield at("system.trackers", f"names {shorten(name)!r} twice", origins)


def components_with(option: str, section: str) -> list[str]:
    """Return the names of rushkit's own components of a section that have an option. Imports all of them."""
    registry, _ = SECTIONS[section]
    names = []
    for entry in registry.entries():
        if entry.owner == BUILTIN_OWNER and not entry.name.endswith("*"):
            factory = entry.load()
            fits = getattr(factory, "stage", section) == section
            if fits and option in factory_parameters(factory, SUPPLIED.get(registry.kind, ())):
                names.append(entry.name)
    return names


def _finite(value: object) -> bool:
    """Say whether a value is no NaN or infinity, which the schema refuses before a component could."""
    return not isinstance(value, float) or math.isfinite(value)
