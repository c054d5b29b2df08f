"""The base of all figures of a report: records whose fields are keys of a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields

from rushkit.results.base import Record


class Figures:
    """A record whose fields are keys of report.json."""

    def plain(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]


def plain(value: object) -> object:
    """Return a value of a record in JSON types."""
    if isinstance(value, Figures):
        return value.plain()
    if isinstance(value, Record):
        return value.to_table()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
