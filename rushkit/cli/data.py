"""``rushkit data list|fetch|check``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rushkit.cli.complete import complete_datasets
from rushkit.cli.options import Json, Output
from rushkit.errors import DataError, UsageError
from rushkit.paths import expand_text

if TYPE_CHECKING:
    from rushkit.recipe.toml import Table

app = typer.Typer(help="List data sets, fetch their files, check them.", no_args_is_help=True)
DataDir = Annotated[
    str,
    typer.Option(
        "--data-dir",
        envvar="RUSHKIT_DATA",
        help="The folder that data sets lie in.",
        show_default=True,
        callback=expand_text,
    ),
]
Name = Annotated[str, typer.Argument(help="A data set's name.", autocompletion=complete_datasets)]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An option of the data set as in a recipe: data.path=photos."),
]


@app.command("list", epilog="Example: rushkit data list")
def list_datasets(data_dir: DataDir = "data", json: Json = False) -> None:
    """Every data set by name, and whether its files are there."""
    from rich.table import Table

    from rushkit import data
    from rushkit.errors import RushkitError

    facts: dict[str, dict[str, object]] = {}
    table = Table("data set", "classes", "size", "splits", "files")
    for name in data.names():
        try:
            about = data.describe(name, data_dir)
        except RushkitError as error:
            facts[name] = {"ready": False, "problem": error.message}
            table.add_row(name, "", "", "", error.message)
            continue
        state = "ready" if about.ready else about.problem or "; ".join(sorted({c.status for c in about.checks}))
        facts[name] = {
            "ready": about.ready,
            "classes": len(about.classes),
            "image_size": about.image_size,
            "splits": list(about.splits),
            "problem": about.problem,
        }
        table.add_row(name, str(len(about.classes) or ""), str(about.image_size or ""), ", ".join(about.splits), state)
    Output(json).result({"data_dir": data_dir, "datasets": facts}, table)


@app.command("fetch", epilog="Example: rushkit data fetch cifar10")
def fetch(name: Name, data_dir: DataDir = "data", changes: Changes = None, json: Json = False) -> None:
    """Download a data set's files from their official address, with checksum."""
    from rushkit import data

    options = _options(changes)
    facts = {"dataset": name, "data_dir": data_dir, "ok": True}
    if data.describe(name, data_dir, **options).ready:
        Output(json).result(facts, f"{name} is ready: there is nothing to fetch")
        return
    dataset = data.create(name, root=data_dir, **options)
    if not isinstance(dataset, data.Downloadable):
        raise DataError(f"{name} cannot be downloaded", f"`rushkit data check {name}` says what it needs")
    dataset.fetch()
    Output(json).result(facts, f"{name} is in {data_dir}")


@app.command("check", epilog="Example: rushkit data check cifar10")
def check(name: Name, data_dir: DataDir = "data", changes: Changes = None, json: Json = False) -> None:
    """Check a data set's files: lengths, labels. Exit code 1 unless all can be used."""
    from rich.table import Table

    from rushkit import data

    about = data.describe(name, data_dir, **_options(changes))
    table = Table("file", "state", "detail")
    for file in about.checks:
        table.add_row(*file)
    facts = {"dataset": name, "ready": about.ready, "files": [file._asdict() for file in about.checks]}
    Output(json).result(facts, table)
    if not about.ready:
        way = f"`rushkit data fetch {name}` downloads it; " if about.url else ""
        raise DataError(
            about.problem or f"{name} is not complete in {data_dir}",
            f"{way}--data-dir or RUSHKIT_DATA name another folder, --set data.KEY=VALUE an option such as data.path "
            "or data.image_size",
        )


def _options(changes: list[str] | None) -> Table:
    """Return the options of the data set that ``--set`` gives. Raises UsageError for a key of another section."""
    from rushkit.recipe.overrides import parse_changes

    options: Table = {}
    for key, value in parse_changes(changes or []):
        section, _, option = key.partition(".")
        if section != "data" or not option:
            raise UsageError(f"--set {key}: is no option of a data set", "for example --set data.path=photos")
        options[option] = value
    return options
