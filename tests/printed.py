"""What a command prints under ``--json``, held against the schema that rushkit publishes for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

from jsonschema import Draft202012Validator

from rushkit.documents.names import DOCUMENTS


@cache
def validator_of(name: str) -> Draft202012Validator:
    """The validator of a document; a schema is derived once."""
    return Draft202012Validator(DOCUMENTS[name].schema())


def fits(name: str, document: object) -> bool:
    """Whether a document has the form of its schema."""
    return validator_of(name).is_valid(document)


def check_printed(words: Sequence[str], out: str) -> None:
    """Fail if what a command line printed has another form than the command's schema."""
    if "--json" in words and out.strip():
        name = "-".join(words[:2])
        validator_of(name if name in DOCUMENTS else words[0]).validate(json.loads(out))
