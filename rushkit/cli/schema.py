"""``rushkit schema``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rushkit.cli.complete import complete_documents
from rushkit.cli.options import Json, Output
from rushkit.cli.panels import OUTPUT
from rushkit.cli.verb import verb
from rushkit.errors import UsageError

NAME = "schema"
EXAMPLE = "Example: rushkit schema report.json"


@verb
def command(
    *,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A document: the words of its command, such as runs-list, or a file; none: list them.",
            autocompletion=complete_documents,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Write the schemas of all documents; needs --to.")] = False,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="DIR", rich_help_panel=OUTPUT, help="Write NAME.schema.json into this folder instead."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """The JSON Schema of what a command prints under --json, or of a file; without a name, which there are."""
    from rushkit.documents.names import DOCUMENTS, document_named
    from rushkit.documents.schemas import Schemas, WrittenSchemas, write_schemas

    if everything and (name or to is None):
        raise UsageError("--all takes --to and no name", "for example rushkit schema --all --to schemas")
    documents = [document_named(name)] if name else list(DOCUMENTS.values())
    if to is not None:
        if not (name or everything):
            raise UsageError("--to takes the name of a document, or --all", "`rushkit schema` lists the names")
        files = write_schemas(documents, to)
        Output(json).result(WrittenSchemas(files).plain(), "\n".join(f"written: {file}" for file in files))
    elif name:
        # A schema is JSON, asked for so or not.
        Output(json=True).result(documents[0].schema(), "")
    else:
        from rich.table import Table

        table = Table("document", "what it is")
        for document in documents:
            table.add_row(document.name, document.about)
        listed = Schemas({document.name: document.about for document in documents})
        Output(json).result(listed.plain(), table)
