"""``rushkit plugins`` and ``rushkit plugins new``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from rushkit.cli.options import Json, Output
from rushkit.errors import PluginError, RushkitError, UsageError
from rushkit.plugin_template.skeleton import Kind, plan_plugin, write_plugin
from rushkit.registry import BUILTIN_OWNER, Entry, Registry

EXAMPLE = "Example: rushkit plugins --check"

app = typer.Typer(invoke_without_command=True, epilog=EXAMPLE)

# What rushkit would pass by itself, and the sizes without which a noise cannot be made; the first that fits is taken.
_TRIALS: dict[str, tuple[dict[str, Any], ...]] = {
    "noise": ({"std": 0.25}, {"scale": 0.25}, {}),
    "attack": tuple({"norm": norm, "eps": 0.1} for norm in ("linf", "l2", "l1")),
    "data set": ({"root": "data"},),
    "backbone": ({"in_channels": 3, "image_size": 32},),
    "objective": ({},),
}


@app.callback()
def list_plugins(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Import every component, make those of plugins, and show what fails.")
    ] = False,
    json: Json = False,
) -> None:
    """Every registered component: its registry, its name, its owner and the owner's version."""
    if context.invoked_subcommand is not None:
        if check or json:
            raise UsageError("`rushkit plugins` takes --check and --json without a further command")
        return
    from rich.table import Table

    from rushkit import __version__, registries

    rows: list[dict[str, Any]] = []
    for registry in registries.ALL:
        for entry in registry.entries():
            row = {"registry": registry.group, "name": entry.name, "owner": entry.owner}
            row["version"] = entry.version or (__version__ if entry.owner == BUILTIN_OWNER else "")
            if check:
                row["problem"] = find_problem(registry, entry)
            rows.append(row)
    table = Table(*(["registry", "name", "owner", "version"] + (["check"] if check else [])))
    for row in rows:
        shown = [row["registry"], row["name"], row["owner"], row["version"]]
        table.add_row(*shown, *([row["problem"] or "ok"] if check else []))
    Output(json).result({"components": rows}, table)
    broken = [f"{row['owner']}/{row['name']}" for row in rows if row.get("problem")]
    if broken:
        raise PluginError(f"cannot be used: {', '.join(broken)}", "repair or uninstall their owners")


@app.command("new", epilog="Example: rushkit plugins new cauchy --kind noise")
def new(
    name: Annotated[str, typer.Argument(help="The component's name; the distribution is rushkit-NAME.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What the plugin brings.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where its folder is made.")] = Path(),
    json: Json = False,
) -> None:
    """Write a plugin that works, with a test, to start from: a folder rushkit-NAME to install and to change."""
    plugin = plan_plugin(name, kind)
    project = write_plugin(plugin, folder)
    facts = {"name": plugin.name, "kind": kind, "project": str(project), "files": sorted(plugin.files())}
    # Without its ./ it is a name, which pip takes from PyPI where -e is left out.
    place = project if project.is_absolute() else f".{os.sep}{project}"
    lines = [f"wrote {project}: {', '.join(facts['files'])}", f"pip install -e {place}", f"pytest {project}"]
    Output(json).result(facts, "\n".join([*lines, plugin.example]))


def find_problem(registry: Registry, entry: Entry) -> str:
    """Why a component cannot be used, or nothing; a plugin's is also made, where its options can be guessed."""
    try:
        if registry.kind == "recipe":
            from rushkit.recipe.find import find_recipe

            find_recipe(f"{entry.owner}/{entry.name}")
            return ""
        if entry.owner == BUILTIN_OWNER or entry.name.endswith("/*"):
            entry.load()
            return ""
        for options in _TRIALS[registry.kind]:
            try:
                registry.create(f"{entry.owner}/{entry.name}", **options)
                break
            except UsageError:
                continue
    except RushkitError as error:
        return error.message
    return ""
