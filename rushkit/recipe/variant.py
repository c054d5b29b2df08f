"""Names of recipes whose components were changed on the command line: ``digits+gaussian-0.25``.

A run is called by its recipe's name, and the name alone must never stand for another model than the recipe's.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from rushkit.recipe.schema import Backbone, Noise, with_paper_scale
from rushkit.recipe.toml import Table, Toml
from rushkit.recipe.training_sections import Finetune, Pretrain

# Stands between a recipe's name and what was changed of it.
MARK = "+"
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def changed_name(name: str, before: Table, after: Table) -> str:
    """Return the name of a changed recipe: the one before, and the components in which the two differ.

    ``--set noise.name=gaussian --set noise.std=0.25`` makes ``digits+gaussian-std-0.25`` of ``digits``.
    """
    old, new = _components(before), _components(after)
    changed = [part for key, part in new.items() if part != old[key]]
    return MARK.join([name, *changed])


def base_name(name: str) -> str:
    """Return the name of the recipe that a changed one was made from: ``digits`` of ``digits+gaussian-0.25``."""
    return name.partition(MARK)[0]


def _components(recipe: Table) -> dict[str, str]:
    """Return a word for each component that a model is made of."""
    data, noise = _section(recipe, "data"), with_paper_scale(_section(recipe, "noise"))
    path = data.get("path")
    words: dict[str, Toml] = {
        "data": (isinstance(path, str) and PurePath(path).name) or data.get("name"),
        "backbone": _section(recipe, "backbone").get("name", Backbone().name),
        "noise": "-".join([str(noise.get("name", Noise().name)), *_options(noise)]),
        "pretrain": _section(recipe, "pretrain").get("objective", Pretrain().objective),
        "finetune": _section(recipe, "finetune").get("objective", Finetune().objective),
    }
    return {key: _NOT_IN_NAMES.sub("-", str(word))[:40] for key, word in words.items()}


def _options(noise: Table) -> list[str]:
    """Return the settings of a noise; its scale is a number alone."""
    settings = {key: value for key, value in noise.items() if key != "name" and value is not None}
    return [str(value) if key == "scale" else f"{key}-{value}" for key, value in sorted(settings.items())]


def _section(recipe: Table, name: str) -> Table:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}
