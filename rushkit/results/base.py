"""The base of all records: strict types, no unknown keys, and the form in which they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from rushkit.results.rows import Tabular

# A longer list is one of images: a repr says how long it is.
_MOST_SHOWN = 8

# The rounding error allowed when a mean is recomputed from its parts.
SLACK = 1e-6

Share = Annotated[float, Field(ge=0, le=1)]
Fall = Annotated[float, Field(ge=-1, le=0)]
Size = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=1)]
# The precision of a network's passes.
Precision = Literal["float32", "bf16"]
# The index of a class or an attack; -1 for none.
# The number of a climb; 0, -1 and -2 for none.
Climb = Annotated[int, Field(ge=-2)]
Choice = Annotated[int, Field(ge=-1)]


class Record(BaseModel):
    """A table of figures that a stage writes: immutable, strictly typed, without unknown keys.

    A field whose default is empty (None, ``""``, no items) is omitted from the file while it is empty; a field without
    a default is always written. Per-image figures are plain lists, so that validating ten thousand images takes
    milliseconds.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        # Most commands read records of one stage, and its validator takes long to build.
        defer_build=True,
    )

    @model_serializer(mode="wrap")
    def _without_empty_keys(self, as_table: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        table: dict[str, JsonValue] = as_table(self)
        for name, field in type(self).model_fields.items():
            if not field.is_required() and getattr(self, name) in (None, "", [], {}):
                table.pop(field.serialization_alias or name, None)
        return table

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        for name, value in super().__repr_args__():
            yield name, _brief(value)

    def with_changes(self, **changes: object) -> Self:
        """Return a copy with some fields changed, checked like any other record."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def to_table(self) -> dict[str, JsonValue]:
        """Return the record as the table of plain values that its file holds."""
        return self.model_dump()


class StageResults(Tabular, Record):
    """The results that a stage writes to results.json and returns.

    Attributes:
        run: The run's folder. The file itself does not store it, because folders can be moved. Empty before the results
            are written.
        job: Identity of the job of a study that the results are of; empty for a run by itself.
    """

    run: str = Field(default="", exclude=True)
    job: str = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.to_rows())} figures, run {self.run!r})"

    def __str__(self) -> str:
        return repr(self)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the object that a command prints with ``--json``: the keys of the file, and the folder as ``run``."""
        return {**self.to_table(), "run": self.run}


class _Values:
    """What stands in a repr for a long list."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __repr__(self) -> str:
        return f"[{self._count} values]"


def _brief(value: object) -> object:
    """Return a value as a repr shows it, without long lists."""
    if isinstance(value, Mapping):
        return {key: _brief(inner) for key, inner in value.items()}
    return _Values(len(value)) if isinstance(value, list) and len(value) > _MOST_SHOWN else value


def check_same_length(*columns: Sequence[object]) -> None:
    """Raise ValueError if per-image lists differ in length; empty lists are ignored."""
    lengths = {len(column) for column in columns if column}
    if len(lengths) > 1:
        raise ValueError(f"lists of one value for each image have {' and '.join(map(str, sorted(lengths)))}")


def check_share(share: float, part: int, whole: int, low: float, high: float) -> None:
    """Raise ValueError if a share is not ``part / whole``, or lies outside its interval."""
    if not low - SLACK <= share <= high + SLACK:
        raise ValueError("the share lies outside its interval")
    if abs(part / whole - share) > SLACK:
        raise ValueError(f"the share is not {part} of {whole}")
