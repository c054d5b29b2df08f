"""``rushkit data list|fetch|check``."""

from __future__ import annotations

from typing import Annotated

import typer

from rushkit.cli.options import Json, Output
from rushkit.errors import DataError

app = typer.Typer(help="List data sets, fetch their files, check them.", no_args_is_help=True)
DataDir = Annotated[
    str, typer.Option("--data-dir", envvar="RUSHKIT_DATA", help="The folder that data sets lie in.", show_default=True)
]
Name = Annotated[str, typer.Argument(help="A data set's name.")]


@app.command("list", epilog="Example: rushkit data list")
def list_datasets(data_dir: DataDir = "data", json: Json = False) -> None:
    """Every data set by name, and whether its files are there."""
    from rich.table import Table

    from rushkit import data
    from rushkit.errors import RushkitError

    found = {}
    table = Table("data set", "classes", "size", "splits", "files")
    for name in data.names():
        try:
            about = data.describe(name, data_dir)
        except RushkitError as error:
            found[name] = {"ready": False, "problem": error.message}
            table.add_row(name, "", "", "", error.message)
            continue
        state = "ready" if about.ready else about.problem or "; ".join(sorted({c.status for c in about.checks}))
        found[name] = {
            "ready": about.ready,
            "classes": len(about.classes),
            "image_size": about.image_size,
            "splits": list(about.splits),
            "problem": about.problem,
        }
        table.add_row(name, str(len(about.classes) or ""), str(about.image_size or ""), ", ".join(about.splits), state)
    Output(json).result({"data_dir": data_dir, "datasets": found}, table)


@app.command("fetch", epilog="Example: rushkit data fetch cifar10")
def fetch(name: Name, data_dir: DataDir = "data", json: Json = False) -> None:
    """Download a data set's files from their official address, with checksum."""
    from rushkit import data

    dataset = data.create(name, root=data_dir)
    if not hasattr(dataset, "fetch"):
        raise DataError(f"{name} cannot be downloaded", "`rushkit data check` says what it needs")
    dataset.fetch()
    Output(json).result({"dataset": name, "data_dir": data_dir, "ok": True}, f"{name} is in {data_dir}")


@app.command("check", epilog="Example: rushkit data check cifar10")
def check(name: Name, data_dir: DataDir = "data", json: Json = False) -> None:
    """Check a data set's files: lengths, labels. Exit code 1 unless all can be used."""
    from rich.table import Table

    from rushkit import data

    about = data.describe(name, data_dir)
    table = Table("file", "state", "detail")
    for each in about.checks:
        table.add_row(*each)
    facts = {"dataset": name, "ready": about.ready, "files": [entry._asdict() for entry in about.checks]}
    Output(json).result(facts, table)
    if not about.ready:
        raise DataError(
            about.problem or f"{name} is not complete in {data_dir}",
            f"`rushkit data fetch {name}`, or put the files there; --data-dir or RUSHKIT_DATA name another folder",
        )
