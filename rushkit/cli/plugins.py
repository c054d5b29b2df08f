"""``rushkit plugins`` and ``rushkit plugins new``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.options import Json, Output
from rushkit.errors import PluginError, UsageError
from rushkit.plugin_template.skeleton import Kind, plan_plugin, write_plugin
from rushkit.registry import BUILTIN_OWNER, Entry, Registry

EXAMPLE = "Example: rushkit plugins --check"

app = typer.Typer(invoke_without_command=True, epilog=EXAMPLE)


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

    rows: list[dict[str, str]] = []
    for registry in registries.ALL:
        for entry in registry.entries():
            version = entry.version or (__version__ if entry.owner == BUILTIN_OWNER else "")
            row = {"registry": registry.group, "name": entry.name, "owner": entry.owner, "version": version}
            rows.append(row | _check(registry, entry) if check else row)
    table = Table("registry", "name", "owner", "version", *(["check"] if check else []))
    for row in rows:
        columns = [row[column] for column in ("registry", "name", "owner", "version")]
        table.add_row(*columns, *([row["problem"] or "ok"] if check else []))
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


def _check(registry: Registry, entry: Entry) -> dict[str, str]:
    from rushkit.doctor import component_problem

    return {"problem": component_problem(registry, entry)}
