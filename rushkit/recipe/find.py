"""Find recipes: by path, in ``recipes/`` of the working folder, among those that rushkit ships, and in plugins."""

from __future__ import annotations

import os
from pathlib import Path

from rushkit import registries
from rushkit.errors import PluginError, UsageError, did_you_mean, shorten
from rushkit.paths import expand, is_file, is_folder, why_no_file
from rushkit.registry import BUILTIN_OWNER


def shipped_folder(kind: str = "recipes") -> Path:
    """Return the folder of what ships: inside an installed wheel, else beside the package in a checkout.

    Args:
        kind: ``"recipes"`` or ``"studies"``.
    """
    package = Path(__file__).resolve().parents[1]
    installed = package / f"_{kind}"
    return installed if installed.is_dir() else package.parent / kind


def available() -> dict[str, str]:
    """Map each recipe's name to its source: a path in ``recipes/`` of this folder, ``rushkit``, or a plugin's name."""
    sources = {entry.name: entry.owner for entry in reversed(registries.recipes.entries())}
    sources |= {path.stem: BUILTIN_OWNER for path in shipped_folder().glob("*.toml")}
    if not _same_folder(Path("recipes"), shipped_folder()):
        sources |= {path.stem: str(path) for path in Path("recipes").glob("*.toml")}
    return dict(sorted(sources.items()))


def called_like(data: str) -> str:
    """Return the recipe that is called like a data set, as RUSH's are; ``NAME`` if there is none."""
    return data if data in available() else "NAME"


def written(name: str) -> str:
    """Return a recipe's name as it is spelt, where it differs from that in case alone; any other as it is."""
    known = available()
    alike = [recipe for recipe in known if recipe.casefold() == name.casefold()]
    return alike[0] if name not in known and len(alike) == 1 else name


def find_recipe(name: str, beside: Path | None = None) -> Path:
    """Return the file of a recipe: a path, a name in ``recipes/`` here, one that rushkit ships, or a plugin's.

    Args:
        name: What the user or an ``extends`` says.
        beside: The folder of the recipe that extends this one; a sibling comes first.

    Raises:
        UsageError: no such recipe.
    """
    if name.endswith(".toml") or "/" in name or os.sep in name:
        path = (beside or Path()) / expand(name)
        if is_file(path):
            return path
        if name.endswith(".toml"):
            why = f": {unusable}" if (unusable := why_no_file(path)) else ""
            raise UsageError(f"there is no recipe file {path}{why}", "`rushkit recipe list` shows the recipes by name")
    name, here = name if beside else written(name), Path("recipes")
    for folder in filter(None, (beside, None if _same_folder(here, shipped_folder()) else here)):
        if is_file(folder / f"{name}.toml"):
            return folder / f"{name}.toml"
    shipped = shipped_folder() / f"{name.removeprefix(f'{BUILTIN_OWNER}/')}.toml"
    plugins = name in registries.recipes
    if is_file(shipped) and plugins:
        owners = [BUILTIN_OWNER, *(entry.owner for entry in registries.recipes.entries() if entry.name == name)]
        raise UsageError(
            f"the recipe {name!r} is brought by more than one owner",
            f"choose one of: {', '.join(f'{owner}/{name}' for owner in owners)}",
        )
    if is_file(shipped):
        return shipped
    if plugins:
        return _plugin_recipe(name)
    hint = did_you_mean(name, available(), cutoff=0.4) or f"there are: {', '.join(available())}."
    raise UsageError(f"unknown recipe {shorten(name)!r}", f"{hint} A path ending in .toml works too.")


def _plugin_recipe(name: str) -> Path:
    """Return the file of a plugin's recipe, whose entry point is a path or a function that returns one."""
    entry = registries.recipes.entry(name)
    target = entry.load()
    fix = f"repair or uninstall {entry.owner}; `rushkit plugins --check` tries every plugin"
    try:
        path = Path(target() if callable(target) else target)
    # Whatever a plugin raises breaks its own recipe only.
    except (Exception, SystemExit) as error:
        raise PluginError(f"the recipe {name!r} of {entry.owner} cannot be found: {error}", fix) from error
    if not is_file(path):
        raise PluginError(f"the recipe {name!r} of {entry.owner} is not a file: {path}", fix)
    return path


def _same_folder(one: Path, other: Path) -> bool:
    return is_folder(one) and is_folder(other) and one.samefile(other)
