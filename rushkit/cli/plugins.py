"""``rushkit plugins``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from rushkit.cli.options import Json, Output
from rushkit.errors import PluginError

NAME = "plugins"
EXAMPLE = "Example: rushkit plugins --check"


def command(
    check: Annotated[bool, typer.Option("--check", help="Import every component and show what fails.")] = False,
    json: Json = False,
) -> None:
    """Every registered component: its registry, its name, its owner and the owner's version."""
    from rich.table import Table

    from rushkit import __version__, registries

    rows: list[dict[str, Any]] = []
    for registry in registries.ALL:
        for entry in registry.entries():
            row = {"registry": registry.group, "name": entry.name, "owner": entry.owner}
            row["version"] = entry.version or (__version__ if entry.owner == "rushkit" else "")
            if check:
                row["problem"] = _problem(entry)
            rows.append(row)
    table = Table(*(["registry", "name", "owner", "version"] + (["check"] if check else [])))
    for row in rows:
        shown = [row["registry"], row["name"], row["owner"], row["version"]]
        table.add_row(*shown, *([row["problem"] or "ok"] if check else []))
    Output(json).result({"components": rows}, table)
    broken = [f"{row['owner']}/{row['name']}" for row in rows if row.get("problem")]
    if broken:
        raise PluginError(f"cannot be loaded: {', '.join(broken)}", "repair or uninstall their owners")


def _problem(entry: Any) -> str:
    try:
        entry.load()
    except PluginError as error:
        return error.message
    return ""
