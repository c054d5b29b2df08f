"""What claims.json says of a published model, as records. Importing this imports no torch."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from rushkit.claims.manifest import Hash
from rushkit.results import Results
from rushkit.results.base import Record
from rushkit.results.records import parse

SCHEMA: Literal[1] = 1
KIND: Literal["rushkit model"] = "rushkit model"
_MOST_NAME = 100

Measuring = Literal["evaluate", "attack", "certify", "audit"]


class ModelClaim(Record):
    """The weights that everything is claimed of.

    Attributes:
        weights: SHA-256 of the classifier's tensors, by ``chain.weights_hash``.
        checkpoint: Hash in the published checkpoint.
        made_from: Hash of the checkpoint that was measured, of which the published one keeps the classifier.
    """

    weights: Hash
    checkpoint: Hash
    made_from: Hash


class Measured(Record):
    """One run that measured the model.

    Attributes:
        stage: The command.
        recipe: The resolved recipe of the run, without paths of its machine.
        results: The table of its results.json.
        counts: Folder of the counts of a certification; else empty.
        artifacts: The files with the saved images of its attacks.
    """

    stage: Measuring
    recipe: str
    results: dict[str, JsonValue]
    counts: str = ""
    artifacts: list[str] = Field(default_factory=list)

    def record(self) -> Results:
        """Return the results. Raises ValueError where they are none, or do not add up."""
        return parse(json.dumps(self.results))


class Claims(Record):
    """The contents of claims.json.

    Attributes:
        schema_version: Version of the format; the key ``schema`` in the file.
        kind: What the folder is.
        made_by: The version of rushkit that wrote it.
        name: The model's name.
        model: Its weights.
        files: Name of every other file but the card -> its SHA-256.
        measured: What was measured of it.
    """

    schema_version: Literal[1] = Field(alias="schema")
    kind: Literal["rushkit model"]
    made_by: Annotated[str, Field(max_length=_MOST_NAME)]
    name: Annotated[str, Field(max_length=_MOST_NAME)]
    model: ModelClaim
    files: dict[str, Hash]
    measured: list[Measured]
