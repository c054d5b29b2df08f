"""Check a recipe's component options against the components' own signatures. Imports the components, and so torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rushkit import registries
from rushkit.errors import UsageError, did_you_mean
from rushkit.recipe.problems import at, place, recipe_error
from rushkit.recipe.schema import Attack, Backbone, Component, Data, Finetune, Noise, Pretrain, Recipe
from rushkit.registry import Registry, factory_parameters, option_problems

# Section -> the key that names its component.
COMPONENT_KEYS = {
    "data": "name",
    "backbone": "name",
    "noise": "name",
    "pretrain": "objective",
    "finetune": "objective",
    "attack": "type",
}

# What rushkit passes by itself, so that it is not an option of the recipe.
SUPPLIED = {
    "backbone": ("in_channels", "image_size"),
    "data set": ("root", "image_size"),
    "attack": ("norm", "eps", "seed", "samples"),
    "objective": ("hidden", "out", "batch_norm"),
}

SECTIONS: dict[str, tuple[Registry, type[Component]]] = {
    "data": (registries.datasets, Data),
    "backbone": (registries.backbones, Backbone),
    "noise": (registries.noises, Noise),
    "pretrain": (registries.objectives, Pretrain),
    "finetune": (registries.objectives, Finetune),
    "attack": (registries.attacks, Attack),
}


def check_components(recipe: Recipe) -> None:
    """Raise UsageError with every unknown component and every unknown, missing or ill-typed option at once."""
    if lines := component_lines(recipe.resolved(), recipe.origins):
        raise recipe_error(lines)


def component_lines(table: Mapping[str, Any], origins: Mapping[str, str]) -> list[str]:
    """What is wrong with the components of a recipe's plain data, whose own keys may be wrong as well."""
    lines: list[str] = []
    # A section that is not there has its defaults, which fit.
    for section in filter(table.__contains__, SECTIONS):
        part = table[section]
        parts = [(f"{section}.{index}", item) for index, item in enumerate(part)] if isinstance(part, list) else []
        for where, each in parts or [(section, part)]:
            if isinstance(each, dict):
                lines += _problems(where, each, origins)
    return lines


def _problems(where: str, part: Mapping[str, Any], origins: Mapping[str, str]) -> Iterator[str]:
    section = where.partition(".")[0]
    (registry, model), name_key = SECTIONS[section], COMPONENT_KEYS[section]
    name = part.get(name_key, model.model_fields[name_key].default)
    if not isinstance(name, str):
        return
    try:
        factory = registry.get(name)
    except UsageError as error:
        yield at(f"{where}.{name_key}", f"{error.message} ({error.hint})", origins)
        return
    options = {key: value for key, value in part.items() if key not in model.model_fields}
    supplied = SUPPLIED.get(registry.kind, ())
    problems = option_problems(factory, options, supplied)
    for option, sentence in problems:
        # A slip may be meant for the section itself.
        known = [*model.model_fields, *factory_parameters(factory, supplied)]
        near = did_you_mean(option, known, most=1, cutoff=0.6)
        if sentence.startswith("unknown option"):
            sentence = "unknown key" + (f"; {near}" if near else f" of {registry.kind} {name}")
        if sentence.endswith(" is missing"):
            # Nothing was said where it would stand; what was said is the component that needs it.
            sentence = f"{registry.kind} {name!r} needs the option {option!r}: --set {where}.{option}=..."
            yield at(f"{where}.{name_key}", sentence, origins)
            continue
        yield at(f"{where}.{option}", sentence.removeprefix(f"{option} "), origins)
    if registry.kind == "noise" and not problems:
        # Cheap to make, and the only one whose options exclude one another.
        try:
            registry.create(name, **options)
        except UsageError as error:
            yield f"{place(f'{where}.{next(iter(options), name_key)}', origins)}: {error.message}"
    if registry.kind == "objective":
        stage = getattr(factory, "stage", None)
        if stage not in (None, section):
            yield at(f"{where}.{name_key}", f"{name!r} is an objective of {stage}, not of {section}", origins)
