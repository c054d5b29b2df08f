"""The table of the smallest distances that break images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.errors import shorten
from rushkit.recipe.radius import eps_words, norm_words
from rushkit.report.distances import MeasuredDistances
from rushkit.report.table import Column, Table, build_table, column
from rushkit.results.attacks import variant_words
from rushkit.results.distances import SmallestRow
from rushkit.results.words import noise_words

DISTANCES_CAPTION = "smallest distances at which images were broken [95%]; a stronger attack may find smaller ones"


class _Row(NamedTuple):
    """The distances that one attack of a model found."""

    model: str
    shown: MeasuredDistances

    @property
    def record(self) -> SmallestRow:
        return self.shown.record


def distances_table(models: Sequence[tuple[str, Sequence[MeasuredDistances]]]) -> Table | None:
    """Return the quartiles of the smallest distances that break images; None if no attack searched these.

    Args:
        models: Each model's name and its rows. With several there is a column for their names.
    """
    rows = [_Row(name, one) for name, measured in models for one in measured]
    if not rows:
        return None
    with_noise = len({noise_words(row.shown.noise) for row in rows}) > 1
    with_class = any(row.record.target for row in rows)
    columns: list[Column[_Row]] = [
        *([column("model", lambda row: row.model, left=True)] if len(models) > 1 else []),
        column("attack", lambda row: row.record.attack, left=True, label="attack"),
        *([column("to class", lambda row: shorten(row.record.target), left=True, label="to class")] * with_class),
        column("distance", _distance, left=True, label="distance"),
        *([column("noise", lambda row: noise_words(row.shown.noise), left=True, label="noise")] * with_noise),
        column("m", lambda row: row.record.samples, label="m"),
        column("protocol", lambda row: variant_words(row.record), left=True, label="protocol"),
        column("images", lambda row: row.record.images, label="images"),
        column("wrong before", lambda row: row.record.outcomes.distance.count(0.0), label="wrong before"),
        column("never broken", lambda row: row.record.outcomes.distance.count(None), label="never broken"),
        *(_quantile_column(place, name) for place, name in enumerate(("a quarter", "median", "three quarters"))),
    ]
    return build_table(rows, columns, DISTANCES_CAPTION)


def _distance(row: _Row) -> str:
    grid = ", 8-bit" if row.record.eight_bit else ""
    return f"{norm_words(row.record.norm)} up to {eps_words(row.record.eps)}{grid}"


def _quantile_column(place: int, name: str) -> Column[_Row]:
    def words(row: _Row) -> str:
        quantile, beyond = row.record.quantiles[place], f"> {row.record.eps:.4g}"
        here, low = (beyond if one is None else f"{one:.4g}" for one in (quantile.distance, quantile.low))
        return f"{here} [{low}, {beyond if quantile.high is None else f'{quantile.high:.4g}'}]"

    return column(name, words, label=name)
