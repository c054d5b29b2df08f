"""``rushkit recipe list|show|copy|check``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.complete import complete_recipes
from rushkit.cli.options import Changes, Json, Output
from rushkit.errors import UsageError, shell_line
from rushkit.paths import exists, is_folder, reason

app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)
Name = Annotated[
    str, typer.Argument(help="A recipe's name, or the path of a TOML file.", autocompletion=complete_recipes)
]


@app.command("list", epilog="Example: rushkit recipe list")
def list_recipes(json: Json = False) -> None:
    """Every recipe by name: those in ./recipes, rushkit's own, and those of plugins."""
    from rich.table import Table

    from rushkit.documents.components import Listed
    from rushkit.recipe.find import available

    recipes = {name: Listed(origin, _about(name)) for name, origin in available().items()}
    table = Table("recipe", "from", "about")
    for name, listed in recipes.items():
        table.add_row(name, listed.origin, listed.about)
    Output(json).result({name: listed.plain() for name, listed in recipes.items()}, table)


@app.command("show", epilog="Example: rushkit recipe show cifar10 --resolved --origins")
def show(
    name: Name,
    resolved: Annotated[bool, typer.Option("--resolved", help="Every key with its value, defaults included.")] = False,
    origins: Annotated[
        bool, typer.Option("--origins", help="Where each value comes from; implies --resolved.")
    ] = False,
    changes: Changes = None,
    json: Json = False,
) -> None:
    """Show a recipe: its file, or what it resolves to under flags and environment."""
    from rushkit.documents.components import KeyOrigin
    from rushkit.recipe import toml
    from rushkit.recipe.find import find_recipe
    from rushkit.recipe.load import load_recipe

    if not (resolved or origins or changes or json):
        Output().result({}, _text(find_recipe(name)).rstrip())
        return
    recipe = load_recipe(name, changes or [])
    if not origins:
        Output(json).result(recipe.resolved(), toml.dumps(recipe.resolved()).rstrip())
        return
    known = recipe.origins
    rows = {key: KeyOrigin(value, known.get(key, "default")) for key, value in toml.flatten(recipe.resolved()).items()}
    settings = {key: f"{key} = {toml.format_value(row.value)}" for key, row in rows.items()}
    width = min(60, max(map(len, settings.values())))
    lines = [f"{setting:<{width}}  # {rows[key].origin}" for key, setting in settings.items()]
    Output(json).result({key: row.plain() for key, row in rows.items()}, "\n".join(lines))


@app.command("copy", epilog="Example: rushkit recipe copy cifar10 mine.toml")
def copy(name: Name, target: Annotated[Path, typer.Argument(help="The file to write.")]) -> None:
    """Copy a recipe's file, to change it."""
    from rushkit.files import write_error
    from rushkit.recipe.find import find_recipe

    source = find_recipe(name)
    target = target / source.name if is_folder(target) else target
    if exists(target):
        raise UsageError(f"{target} exists already", "choose another name, or remove it first")
    try:
        target.write_text(_text(source), encoding="utf-8")
    except OSError as error:
        raise write_error(target, error) from error
    Output().result({}, f"wrote {target}; use it with: {shell_line('rushkit', 'pretrain', '--recipe', target)}")


@app.command("check", epilog="Example: rushkit recipe check cifar10 --set pretrain.epochs=100")
def check(name: Name, changes: Changes = None, json: Json = False) -> None:
    """Check a recipe: its keys, and its components' options against the components themselves."""
    from rushkit.documents.components import CheckedRecipe
    from rushkit.recipe.load import load_recipe

    recipe = load_recipe(name, changes or [])
    Output(json).result(CheckedRecipe(recipe.name).plain(), f"{recipe.name} is in order")


def _text(path: Path) -> str:
    """Return the text of a recipe. Raises UsageError if it cannot be read."""
    from rushkit.recipe import toml

    try:
        return toml.read_text(path)
    except (OSError, ValueError) as error:
        hint = f"it must be a text file in UTF-8, of at most {toml.MAX_CHARACTERS} characters"
        raise UsageError(f"the recipe {path} cannot be read: {reason(error)}", hint) from error


def _about(name: str) -> str:
    """Return the first line of the comment of a recipe, or why it cannot be used."""
    from rushkit.errors import RushkitError
    from rushkit.recipe.find import find_recipe

    try:
        first = _text(find_recipe(name)).partition("\n")[0]
    except RushkitError as error:
        return f"cannot be used: {error.message}"
    return first.removeprefix("#").strip() if first.startswith("#") else ""
