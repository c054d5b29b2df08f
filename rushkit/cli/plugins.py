"""``rushkit plugins``, ``rushkit plugins show`` and ``rushkit plugins new``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rushkit import registries
from rushkit.cli.options import Json, Output
from rushkit.errors import PluginError, UsageError, did_you_mean, shell_line, shorten
from rushkit.plugin_template.skeleton import Kind, plan_plugin, write_plugin
from rushkit.registry import BUILTIN_OWNER, Entry, Registry

if TYPE_CHECKING:
    from rich.console import Group

    from rushkit.description import Description

EXAMPLE = "Example: rushkit plugins --check"
# Kind -> how a command line names a component of it.
_USED = {
    "noise": ("--set", "noise.name={name}"),
    "data set": ("--set", "data.name={name}"),
    "backbone": ("--set", "backbone.name={name}"),
    "objective": ("--set", "{stage}.objective={name}"),
    "attack": ("--type", "{name}"),
    "engine": ("--engine", "{name}"),
    "tracker": ("--track", "{name}"),
    "recipe": ("--recipe", "{name}"),
}


class Shown(StrEnum):
    """The kinds of components that there are."""

    BACKBONE = "backbone"
    NOISE = "noise"
    DATASET = "dataset"
    ATTACK = "attack"
    OBJECTIVE = "objective"
    ENGINE = "engine"
    TRACKER = "tracker"
    RECIPE = "recipe"


_REGISTRIES = {Shown(registry.kind.replace(" ", "")): registry for registry in registries.ALL}

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

    from rushkit import __version__
    from rushkit.documents.components import Component, Components

    rows: list[Component] = []
    for registry in registries.ALL:
        for entry in registry.entries():
            version = entry.version or (__version__ if entry.owner == BUILTIN_OWNER else "")
            problem = _problem(registry, entry) if check else None
            rows.append(Component(registry.group, entry.name, entry.owner, version, problem))
    table = Table("registry", "name", "owner", "version", *(["check"] if check else []))
    for row in rows:
        table.add_row(row.registry, row.name, row.owner, row.version, *([row.problem or "ok"] if check else []))
    Output(json).result(Components(rows).plain(), table)
    broken = [f"{row.owner}/{row.name}" for row in rows if row.problem]
    if broken:
        raise PluginError(f"cannot be used: {', '.join(broken)}", "repair or uninstall their owners")


@app.command("show", epilog="Example: rushkit plugins show uniform")
def show(
    name: Annotated[str, typer.Argument(help="A registered name, or OWNER/NAME.")],
    kind: Annotated[Shown | None, typer.Option("--kind", help="Its kind, where several have the name.")] = None,
    json: Json = False,
) -> None:
    """A component: what it is, its options with types and defaults, and where it comes from."""
    from dataclasses import asdict

    from rushkit.description import describe

    found = describe(_registry_of(name, kind), name)
    Output(json).result(asdict(found), _shown(found))


@app.command("new", epilog="Example: rushkit plugins new cauchy --kind noise")
def new(
    name: Annotated[str, typer.Argument(help="The component's name; the distribution is rushkit-NAME.")],
    kind: Annotated[Kind, typer.Option("--kind", case_sensitive=False, help="What the plugin brings.")],
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where its folder is made.")] = Path(),
    json: Json = False,
) -> None:
    """Write a plugin that works, with a test, to start from: a folder rushkit-NAME to install and to change."""
    from rushkit.documents.components import NewPlugin

    plugin = plan_plugin(name, kind)
    project = write_plugin(plugin, folder)
    facts = NewPlugin(plugin.name, kind, str(project), sorted(plugin.files()))
    # Without its ./ it is a name, which pip takes from PyPI where -e is left out.
    place = project if project.is_absolute() else f".{os.sep}{project}"
    lines = [f"wrote {project}: {', '.join(facts.files)}", f"pip install -e {place}", f"pytest {project}"]
    Output(json).result(facts.plain(), "\n".join([*lines, plugin.example]))


def _registry_of(name: str, kind: Shown | None) -> Registry:
    """Return the registry of a name. Raises UsageError if no registry has it, or several."""
    if kind is not None:
        return _REGISTRIES[kind]
    having = [kind for kind, registry in _REGISTRIES.items() if name in registry]
    if not having:
        known = sorted({known for registry in _REGISTRIES.values() for known in registry.names()})
        near = did_you_mean(name, known) or "`rushkit plugins` lists the names, `rushkit recipe list` rushkit's recipes"
        raise UsageError(f"no component is called {shorten(name)!r}", near)
    if len(having) > 1:
        line = shell_line("rushkit", "plugins", "show", name, "--kind", having[0])
        raise UsageError(f"{name!r} names several components: {', '.join(having)}", f"say which: {line}")
    return _REGISTRIES[having[0]]


def _shown(found: Description) -> Group:
    from rich.console import Group
    from rich.table import Table

    lines = [f"{found.kind} {found.name}, of {found.owner} {found.version}".rstrip(), f"from {found.source}", ""]
    lines += [found.description or "It says nothing of itself.", ""]
    used = _USED.get(found.kind)
    if used and not found.name.endswith("/*"):
        lines += [f"used as {shell_line(*(word.format(name=found.name, stage=found.stage) for word in used))}"]
    if found.supplied:
        lines += [f"rushkit passes {', '.join(found.supplied)}"]
    if found.members:
        lines += [f"names: {', '.join(found.members)}"]
    table = Table("option", "takes", "default", "")
    for option in found.options:
        table.add_row(option.name, option.type, "required" if option.required else option.default, option.description)
    if found.more is not None:
        table.add_row("...", "", "", found.more or "further options")
    return Group("\n".join(lines), table if table.row_count else "no options")


def _problem(registry: Registry, entry: Entry) -> str:
    from rushkit.doctor.examine import component_problem

    return component_problem(registry, entry)
