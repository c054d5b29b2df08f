"""What every record offers beside its fields: rows of plain values, a data frame of them, and a table in a notebook."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING

from rushkit.errors import UsageError
from rushkit.registry import BUILTIN_OWNER, Entry

if TYPE_CHECKING:
    from pandas import DataFrame

Value = str | int | float | bool | None
# Column -> its value. Shares are in [0, 1], radii and distances in pixel units.
Row = dict[str, Value]

# A record is drawn by the room of reports, which lies above this one: it is named here and imported when it is needed,
# as a registry does with the components that it lists.
_DRAWN_BY = Entry("the table of a record", BUILTIN_OWNER, target="rushkit.report.inline:record_html")


@singledispatch
def rows_of(record: object, per_image: bool) -> list[Row]:
    """Return the figures of a record, or what it says of each image, as rows; each kind of record registers its own.

    Raises:
        TypeError: nothing is registered for it.
        UsageError: it says nothing of single images.
    """
    raise TypeError(f"{type(record).__name__} has no rows")


class Tabular:
    """What a stage returns: it can be had as rows and as a data frame, and a notebook shows it as a table."""

    def to_rows(self, *, per_image: bool = False) -> list[Row]:
        """Return a row for each figure, with what it was measured on: docs/python.md lists the columns.

        Example::

            best = max(row["value"] for row in accuracy.to_rows() if row["rule"] == "majority")

        Args:
            per_image: A row for each image instead, where the record has outcomes of images.

        Raises:
            UsageError: outcomes of images were asked for, and it has none.
        """
        return rows_of(self, per_image)

    def to_dataframe(self, *, per_image: bool = False) -> DataFrame:
        """Return the rows as a data frame of pandas, which is no requirement of rushkit.

        Numbers are numbers: shares are floats in [0, 1], and whole numbers with gaps have the type ``Int64``.

        Example::

            frame = rushkit.evaluate(recipe, model).to_dataframe()
            frame[frame.rule == "majority"].plot(x="m", y="value")

        Args:
            per_image: As in ``to_rows``.

        Raises:
            UsageError: pandas is missing; or as in ``to_rows``.
        """
        rows = self.to_rows(per_image=per_image)
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise UsageError(
                f"a data frame needs pandas: {error}", "pip install pandas; to_rows() gives the same without it"
            ) from error
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        return pandas.DataFrame({name: pandas.Series(values, dtype=_dtype(values)) for name, values in columns.items()})

    def _repr_html_(self) -> str:
        html: str = _DRAWN_BY.load()(self)
        return html


def no_images(record: object) -> UsageError:
    """Return the error for outcomes of images that a record does not have."""
    return UsageError(f"a {type(record).__name__} says nothing of single images", "leave per_image out")


def _dtype(values: Sequence[Value]) -> str:
    kinds = {type(value) for value in values if value is not None}
    gaps = None in values
    if kinds == {bool}:
        return "boolean" if gaps else "bool"
    if kinds == {int}:
        return "Int64" if gaps else "int64"
    return "float64" if kinds and kinds <= {int, float} else "object"
