"""What ``rushkit schema`` prints under ``--json``, and the files that it writes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from rushkit.documents.names import Document
from rushkit.files import write_error, write_json
from rushkit.recipe.sections import Section
from rushkit.results.jsonable import Figures


@dataclass(frozen=True)
class Schemas(Figures):
    """The documents that have a schema.

    Attributes:
        documents: Name -> what it is.
    """

    documents: dict[str, str]


class Schema(Section):
    """A JSON Schema.

    Attributes:
        dialect: Its draft.
        identity: Names the document.
        title: What prints the document, or the file.
        description: What it is.
    """

    model_config = ConfigDict(extra="allow")

    dialect: Literal["https://json-schema.org/draft/2020-12/schema"] = Field(alias="$schema")
    identity: str = Field(alias="$id")
    title: str
    description: str


@dataclass(frozen=True)
class WrittenSchemas(Figures):
    """The files that schemas were written to."""

    files: list[Path]


def write_schemas(documents: Iterable[Document], folder: Path) -> list[Path]:
    """Write the schema of each document to ``NAME.schema.json`` in a folder, and return the files.

    Args:
        documents: The documents.
        folder: Made where it is missing; what an earlier call wrote there is replaced.

    Raises:
        RushkitError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    written = []
    for document in documents:
        path = folder / f"{document.name}.schema.json"
        write_json(path, document.schema())
        written.append(path)
    return written
