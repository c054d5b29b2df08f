"""Load a recipe by name, apply the user's changes, and check the result.

Precedence: flag (``--set``) over environment over file over default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from rushkit import registries
from rushkit.errors import UsageError, did_you_mean, shorten
from rushkit.image_size import ImageSize, size_to_json
from rushkit.paths import exists, expand, expand_text
from rushkit.recipe import toml
from rushkit.recipe.components import component_lines
from rushkit.recipe.draft import Draft
from rushkit.recipe.file import parse, read_chain
from rushkit.recipe.find import available, find_recipe, written
from rushkit.recipe.origins import at
from rushkit.recipe.overrides import Changes, Override, from_changes, from_environment, override
from rushkit.recipe.problems import error_line, recipe_error
from rushkit.recipe.schema import Recipe, System
from rushkit.recipe.toml import Table, Toml
from rushkit.recipe.variant import changed_name
from rushkit.registry import BUILTIN_OWNER


def load_recipe(
    name: str,
    changes: Changes = (),
    environment: Mapping[str, str] | None = None,
    components: bool = True,
) -> Recipe:
    """Load a recipe with everything that overrides it.

    >>> load_recipe("cifar10", ["pretrain.epochs=100", "noise.scale=0.25"])

    Args:
        name: A recipe's name or the path of a TOML file.
        changes: ``["pretrain.epochs=1"]`` as on the command line, or {"pretrain.epochs": 1}.
        environment: Stands in for ``os.environ``.
        components: Check the components and their options, too, which imports them, and so torch.

    Returns:
        The checked recipe; its ``origins`` say where each value came from.

    Raises:
        UsageError: with every error at once, each with file and line.
    """
    name = written(name)
    draft = read_chain(find_recipe(name))
    draft.table.setdefault("name", Path(name).name.removesuffix(".toml"))
    _change(draft, [*from_environment(environment), *from_changes(changes)])
    _find_data_beside(draft)
    return build_recipe(draft.table, draft.origins, components)


def said_in_files(name: str, key: str) -> Toml:
    """Return what the files of a recipe say for a dotted key, whatever overrides it; None if they say nothing."""
    return toml.flatten(read_chain(find_recipe(name)).table).get(key)


def default_runs_dir() -> str:
    """Return the default folder of runs: ``$RUSHKIT_RUNS``, else ``runs`` in the working folder."""
    return expand_text(os.environ.get("RUSHKIT_RUNS") or "runs")


def read_recipe(text: str, origin: str) -> Recipe:
    """Read a resolved recipe back from the TOML text in a run folder or a checkpoint.

    What its ``[system]`` has beyond the keys of this version is left out: it says how another machine was used, and the
    files of a trained model stay as they are when such a key goes.
    """
    draft = parse(text, origin)
    if isinstance(system := draft.table.get("system"), dict):
        draft.table["system"] = {key: value for key, value in system.items() if key in System.model_fields}
    return build_recipe(draft.table, draft.origins)


def derive_recipe(
    recipe: Recipe,
    changes: Changes = (),
    environment: Mapping[str, str] | None = None,
    system: Iterable[str] = ("seed",),
    flags: Iterable[Override] = (),
) -> Recipe:
    """Return the recipe of an earlier run for a new command, on this machine and with this command's flags.

    Where data and runs lie and what computes is this machine's business: of ``[system]`` only the seed is inherited,
    or the keys that ``system`` names. ``flags`` are the command's own, such as ``("certify.alpha", 0.01, "--alpha")``;
    one without a value was not given.
    """
    inherited = set(system)
    table = recipe.resolved() | {"system": recipe.system.model_dump(include=inherited)}
    kept = {f"system.{key}" for key in inherited}
    origins = {key: place for key, place in recipe.origins.items() if not key.startswith("system.") or key in kept}
    draft = Draft(table, origins)
    given = [flag for flag in flags if flag[1] is not None]
    _change(draft, [*from_environment(environment), *from_changes(changes), *given])
    return build_recipe(draft.table, draft.origins)


def _change(draft: Draft, overrides: Sequence[Override]) -> None:
    """Override what a draft says, and let its name tell which components that changes, unless it is overridden too."""
    # Overriding copies the tables that it changes.
    before = dict(draft.table)
    override(draft, overrides)
    name = before.get("name", "recipe")
    if isinstance(name, str) and all(key != "name" for key, _, _ in overrides):
        draft.table["name"] = changed_name(name, before, draft.table)


def _find_data_beside(draft: Draft) -> None:
    """Make a relative ``data.path`` of a recipe's file absolute if it is not below the root, but beside that file.

    What a path names is read as images and as nothing else, so a recipe of somebody else gains nothing by it.
    """
    data, system = draft.table.get("data"), draft.table.get("system")
    if not isinstance(data, dict) or not isinstance(path := data.get("path"), str) or not path:
        return
    file, _, line = draft.origins.get("data.path", "").rpartition(":")
    if not line.isdigit() or expand(path).is_absolute() or not _is_builtin(data.get("name")):
        return
    root = system.get("data_dir", "data") if isinstance(system, dict) else "data"
    beside = Path(file).absolute().parent / path
    if isinstance(root, str) and not exists(expand(root) / path) and exists(beside):
        draft.table["data"] = data | {"path": str(beside)}


def _is_builtin(name: object) -> bool:
    """Return whether a data set is rushkit's own: ``path`` may be something else for a plugin's."""
    return any(
        entry.owner == BUILTIN_OWNER
        for entry in registries.datasets.entries()
        if isinstance(name, str) and name in (entry.name, f"{entry.owner}/{entry.name}")
    )


def transfer_recipe(source: Recipe, target: str, image_size: ImageSize) -> Recipe:
    """Return the recipe of the source's model on a target's data: ``finetune --from SOURCE --to TARGET``.

    A recipe of the target's name gives data, fine-tuning, evaluation and attacks; a data set of that name gives the
    data alone. Backbone, projector and noise stay the source's, and so does the image size that the encoder has seen.

    Raises:
        UsageError: neither a recipe nor a data set has this name.
    """
    check_target(target)
    target = _written(target)
    if _is_recipe(target):
        other = load_recipe(target)
        resolved = other.resolved()
        name, origins = other.name, dict(other.origins)
        given = {section: resolved[section] for section in ("finetune", "evaluate", "attack")}
        if other.published:
            given["published"] = resolved["published"]
        data = other.data.model_dump()
    else:
        name, origins, given, data = target, {}, {}, {"name": target}
    given |= {"data": data | {"image_size": size_to_json(image_size)}, "name": f"{source.name}-to-{name}"}
    return build_recipe(source.resolved() | given, origins)


def check_target(target: str) -> None:
    """Raise UsageError if a target of ``transfer_recipe`` is neither a recipe nor a data set, or a wrong recipe."""
    target = _written(target)
    if _is_recipe(target):
        # Its components are checked when it is used: this comes before the runs are looked at, and without torch.
        load_recipe(target, components=False)
    elif target not in registries.datasets:
        known = sorted({*available(), *registries.datasets.names()})
        hint = did_you_mean(target, known, cutoff=0.4) or "see `rushkit recipe list` and `rushkit data list`"
        raise UsageError(f"{shorten(target)!r} is neither a recipe nor a data set", hint)


def _written(target: str) -> str:
    """Return a target as its recipe or data set is spelt, whatever its case."""
    return registries.datasets.written(written(target))


def _is_recipe(target: str) -> bool:
    return target in available() or target.endswith(".toml")


def build_recipe(table: Table, origins: Mapping[str, str] | None = None, components: bool = False) -> Recipe:
    """Check a recipe's plain data; with ``components`` the options of components as well.

    Raises:
        UsageError: with every error at once.
    """
    origins = origins or {}
    lines = [at(key, what, origins) for key, value in toml.flatten(table).items() if (what := toml.unstorable(value))]
    recipe = None
    try:
        recipe = Recipe.model_validate(table)
    except ValidationError as error:
        lines += [error_line(item, origins) for item in error.errors(include_url=False)]
    if components:
        lines += component_lines(table, origins)
    if recipe is None or lines:
        raise recipe_error(lines)
    recipe._origins.update(origins)
    return recipe
