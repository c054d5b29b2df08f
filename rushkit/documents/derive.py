"""Derive the JSON Schema of a document from the type of its record: draft 2020-12, with the words of the docstrings."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rushkit.documents.form import Form
from rushkit.documents.written import key_words, opening_words, written
from rushkit.results.base import StageResults

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# A float in the canonical JSON of artifacts and published folders.
_HEX_FLOAT: JsonSchemaValue = {
    "type": "object",
    "properties": {"hex": {"type": "string", "description": "The float as Python's float.hex writes it."}},
    "required": ["hex"],
    "additionalProperties": False,
}


def schema_of(kind: Any, form: Form, resolved: bool = False) -> dict[str, Any]:
    """Return the JSON Schema of what is written of a type, without title and identity.

    Args:
        kind: A record, a dataclass, a union of these, or a mapping or list of them.
        form: How the document holds it.
        resolved: Whether a recipe is one that rushkit writes, whose numbers are no texts such as ``"8/255"``.
    """

    class Generator(_Generator):
        FORM = form

    mode: Literal["serialization", "validation"] = "serialization" if resolved else "validation"
    return TypeAdapter(written(kind)).json_schema(by_alias=True, schema_generator=Generator, mode=mode)


def without_required(schema: Any) -> Any:
    """Return a schema of the same objects, in which no key is required."""
    if isinstance(schema, dict):
        return {key: without_required(value) for key, value in schema.items() if not _requires(key, value)}
    return [without_required(item) for item in schema] if isinstance(schema, list) else schema


def _requires(key: str, value: object) -> bool:
    # A property may be called so too.
    return key == "required" and isinstance(value, list)


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with descriptions from docstrings."""

    FORM: Form = "file"

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Give no key a title: it would only repeat the key."""
        return False

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        """Return the schema of a float, which canonical JSON writes in hex."""
        return _HEX_FLOAT if self.FORM == "canonical" else super().float_schema(schema)

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of a key that may be missing; that it then means nothing needs no default."""
        made = super().default_schema(schema)
        if made.get("default", ...) is None:
            del made["default"]
        return made

    def field_is_required(self, field: Any, total: bool) -> bool:
        """Return whether a key is always there: of a recipe that rushkit writes, every key that is not null."""
        if self.mode == "validation":
            return super().field_is_required(field, total)
        inner = field["schema"]
        return not (inner["type"] == "default" and inner["schema"]["type"] == "nullable")

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Return the schema of a record, each key with what the docstring says of it."""
        made, kind = super().model_schema(schema), schema["cls"]
        if said := opening_words(kind):
            made["description"] = said
        properties, words = made.get("properties", {}), key_words(kind)
        for name, field in kind.model_fields.items():
            key = field.alias or name
            if key in properties and words.get(name):
                properties[key].setdefault("description", words[name])
        if issubclass(kind, StageResults):
            # The folder of a run is printed, but not stored in it.
            if self.FORM == "printed":
                made["required"] = sorted({*made.get("required", []), "run"})
            else:
                del properties["run"]
        return made
