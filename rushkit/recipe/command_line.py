"""Check what a command line sets in a recipe before the recipe is known, and so before any run is looked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rushkit.errors import UsageError
from rushkit.recipe import toml
from rushkit.recipe.components import SECTIONS
from rushkit.recipe.draft import Draft
from rushkit.recipe.origins import at
from rushkit.recipe.overrides import Changes, Override, from_changes, override
from rushkit.recipe.problems import error_line, recipe_error
from rushkit.recipe.schema import Attack, Certify, Data, Noise, Published, Recipe
from rushkit.recipe.toml import Table

# A recipe with more attacks than this is checked when it is there.
_MOST_ATTACKS = 64


def check_command_line(changes: Changes = (), flags: Iterable[Override] = ()) -> None:
    """Check keys, values and names of components that a command sets in the recipe of an earlier run.

    The recipe is known when the run is found. Whatever depends on it is not checked here: an index of one of its
    attacks, the options of its components, or a radius in a norm that only the recipe names.

    >>> check_command_line(["attack.0.eps=8/0"])

    Args:
        changes: As for ``--set``.
        flags: Flags of the command, such as ``("certify.alpha", 0.01, "--alpha")``; one without a value was not given.

    Raises:
        UsageError: with every error at once.
    """
    overrides = [*from_changes(changes), *(flag for flag in flags if flag[1] is not None)]
    overrides = [change for change in overrides if not _needs_the_recipe(change[0])]
    draft = Draft(_lenient_recipe(key for key, *_ in overrides), {})
    override(draft, overrides)
    keys, origins = [key for key, *_ in overrides], draft.origins
    values = {key: value for key, value in toml.flatten(draft.table).items() if _is_set(key, keys)}
    lines = [at(key, what, origins) for key, value in values.items() if (what := toml.unstorable(value))]
    try:
        Recipe.model_validate(draft.table)
    except ValidationError as error:
        lines += [error_line(item, origins) for item in error.errors(include_url=False) if _is_about(item, keys)]
    lines += _unknown_components(draft.table, keys, origins)
    if lines:
        raise recipe_error(lines)


def _lenient_recipe(keys: Iterable[str]) -> Table:
    """Return a stand-in for the recipe that allows radii valid in any norm, and has an attack for each index."""
    indices = [int(index) for key in keys if (index := _attack_index(key)) is not None]
    number = max(indices, default=0) + 1
    # A noise without options: none of them can be taken away.
    return Recipe(
        data=Data(name="digits"),
        noise=Noise(name="none"),
        attack=[Attack(norm="l1")] * number,
        published=[Published(norm="l1")] * number,
        certify=Certify(norm="l1"),
    ).resolved()


def _attack_index(key: str) -> str | None:
    section, _, rest = key.partition(".")
    index = rest.partition(".")[0]
    return index if section in ("attack", "published") and index else None


def _needs_the_recipe(key: str) -> bool:
    index = _attack_index(key)
    return index is not None and not (index.isdecimal() and len(index) < 10 and int(index) < _MOST_ATTACKS)


def _is_set(key: str, keys: Sequence[str]) -> bool:
    """Return whether a key is one of ``keys``, or lies in a table that is."""
    return any(key == changed or key.startswith(f"{changed}.") for changed in keys)


def _is_about(error: ErrorDetails, keys: Sequence[str]) -> bool:
    """Return whether an error concerns the keys that were set, not the other keys of the stand-in."""
    key = ".".join(map(str, error["loc"]))
    inside_unknown = error["type"] == "extra_forbidden" and any(changed.startswith(f"{key}.") for changed in keys)
    return inside_unknown or _is_set(key, keys)


def _unknown_components(table: Table, keys: Sequence[str], origins: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each unknown component that the command line names."""
    for section, (registry, model) in SECTIONS.items():
        part = table.get(section)
        parts = {f"{section}.{index}": item for index, item in enumerate(part)} if isinstance(part, list) else {}
        for where, item in (parts or {section: part}).items():
            key = f"{where}.{model.NAMED_BY}"
            name = item.get(model.NAMED_BY) if isinstance(item, dict) else None
            if _is_set(key, keys) and isinstance(name, str):
                try:
                    registry.entry(name)
                except UsageError as error:
                    yield at(key, f"{error.message} ({error.hint})", origins)
