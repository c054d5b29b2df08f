"""The base of all figures of a report: records that say which keys of a JSON object they are.

What is written follows from the declarations alone, and so does the JSON Schema of it (``rushkit.documents``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field as DataclassField
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from rushkit.results.base import Record, StageResults

_SPREAD, _CALLED = "spread", "called"
_KEY = "_is_a_key"
# Metadata of a field that is no key, and of one that is none while it is None.
NO_KEY: Mapping[str, bool] = {"no_key": True}
LEFT_OUT: Mapping[str, bool] = {"left_out": True}

Getter = TypeVar("Getter", bound=Callable[[Any], object])


@dataclass(frozen=True)
class Spread:
    """Which keys of a field's record stand among the keys of the object itself, in place of the field.

    Of a record that is None no key is written.

    Attributes:
        only: The keys that are taken; None: all.
        without: Key -> True for one that is left out, or the keys that are left out of its record; ``"__all__"`` stands
            for every item of a list. This is what ``exclude`` of pydantic's ``model_dump`` takes.
    """

    only: frozenset[str] | None = None
    without: Mapping[str, object] = field(default_factory=dict)


def spread(*only: str, without: Mapping[str, object] | None = None) -> Mapping[str, Spread]:
    """Return the metadata of a field whose record stands among the keys of the object.

    Example::

        record: AttackRow = field(metadata=spread(without={"outcomes": True}))

    Args:
        *only: The keys of the record that are taken; none: all.
        without: The keys that are left out, as ``Spread`` has them.
    """
    return {_SPREAD: Spread(frozenset(only) or None, without or {})}


def spread_of(metadata: Mapping[Any, Any]) -> Spread | None:
    """Return how a field with this metadata is spread; None if it stands under its own name."""
    how: Spread | None = metadata.get(_SPREAD)
    return how


def called(key: str) -> Mapping[str, str]:
    """Return the metadata of a field whose key has another name than the field."""
    return {_CALLED: key}


def key_of(one: DataclassField[Any]) -> str:
    """Return the key that a field is."""
    key: str = one.metadata.get(_CALLED, one.name)
    return key


def in_json(getter: Getter) -> Getter:
    """Make the value of a property a key of the JSON object: stands below ``@property``."""
    setattr(getter, _KEY, True)
    return getter


def key_properties(kind: type) -> dict[str, Callable[[Any], object]]:
    """Return the properties of a record that are keys: name -> getter, in their order."""
    members = (member for owner in reversed(kind.__mro__) for member in vars(owner).items())
    return {
        name: member.fget
        for name, member in members
        if isinstance(member, property) and member.fget is not None and getattr(member.fget, _KEY, False)
    }


class Figures:
    """A dataclass whose fields are keys of report.json, and so are its properties that are marked ``in_json``."""

    def plain(self) -> dict[str, object]:
        """Return the record as a JSON object."""
        table: dict[str, object] = {}
        for one in fields(self):  # type: ignore[arg-type]
            value, how = getattr(self, one.name), spread_of(one.metadata)
            if how is not None:
                table |= _beside(value, how)
            elif not (NO_KEY.items() <= one.metadata.items() or (value is None and is_left_out(one.metadata))):
                table[key_of(one)] = plain(value)
        return table | {name: plain(getter(self)) for name, getter in key_properties(type(self)).items()}


def is_left_out(metadata: Mapping[Any, Any]) -> bool:
    """Return whether a field with this metadata is no key while it is None."""
    return LEFT_OUT.items() <= metadata.items()


def plain(value: object) -> object:
    """Return a value of a record in JSON types."""
    if isinstance(value, Figures):
        return value.plain()
    if isinstance(value, StageResults):
        return value.to_json()
    if isinstance(value, Record):
        return value.to_table()
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def _beside(value: object, how: Spread) -> dict[str, object]:
    if isinstance(value, Record):
        return value.model_dump(include=how.only, exclude=how.without or None)  # type: ignore[arg-type]
    table = plain(value)
    return table if isinstance(table, dict) else {}
