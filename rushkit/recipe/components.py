"""Check a recipe's component options against the components' own signatures. Imports the components, and so torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from rushkit import registries
from rushkit.errors import UsageError
from rushkit.recipe.load import COMPONENT_KEYS, place, recipe_error
from rushkit.recipe.schema import Component, Recipe
from rushkit.registry import Registry, factory_parameters, option_problems

# What rushkit passes by itself, so that it is not an option of the recipe.
SUPPLIED = {
    "backbone": ("in_channels", "image_size"),
    "data set": ("root", "image_size"),
    "attack": ("norm", "eps", "seed", "samples"),
    "objective": ("hidden", "out", "batch_norm"),
}


def check_components(recipe: Recipe) -> None:
    """Raise UsageError with every unknown component and every unknown, missing or ill-typed option at once."""
    lines = [line for part in _parts(recipe) for line in _problems(recipe, *part)]
    if lines:
        raise recipe_error(lines)


def _parts(recipe: Recipe) -> Iterator[tuple[str, Registry, Component]]:
    yield "data", registries.datasets, recipe.data
    yield "backbone", registries.backbones, recipe.backbone
    yield "noise", registries.noises, recipe.noise
    yield "pretrain", registries.objectives, recipe.pretrain
    yield "finetune", registries.objectives, recipe.finetune
    for index, attack in enumerate(recipe.attack):
        yield f"attack.{index}", registries.attacks, attack


def _problems(recipe: Recipe, section: str, registry: Registry, part: Component) -> list[str]:
    name_key = COMPONENT_KEYS[section.partition(".")[0]]
    name = getattr(part, name_key)
    try:
        factory = registry.get(name)
    except UsageError as error:
        where = place(f"{section}.{name_key}", recipe.origins)
        return [f"{where}: {section}.{name_key}: {error.message} ({error.hint})"]
    supplied = SUPPLIED.get(registry.kind, ())
    lines = []
    for option, sentence in option_problems(factory, part.options, supplied):
        # A slip may be meant for the section itself.
        known = [*type(part).model_fields, *factory_parameters(factory, supplied)]
        near = difflib.get_close_matches(option, known, n=1)
        if sentence.startswith("unknown option"):
            sentence = "unknown key" + (f"; did you mean {near[0]}?" if near else f" of {registry.kind} {name}")
        lines.append(f"{place(f'{section}.{option}', recipe.origins)}: {section}.{option}: {sentence}")
    if registry.kind == "noise" and not lines:
        # Cheap to make, and the only one whose options exclude one another.
        try:
            factory(**part.options)
        except UsageError as error:
            key = next(iter(part.options), name_key)
            lines.append(f"{place(f'{section}.{key}', recipe.origins)}: {section}: {error.message}")
    if registry.kind == "objective":
        stage = getattr(factory, "stage", None)
        if stage not in (None, section):
            where = place(f"{section}.{name_key}", recipe.origins)
            lines.append(f"{where}: {section}.{name_key}: {name!r} is an objective of {stage}, not of {section}")
    return lines
