"""Tables of threats beside a single ball: several balls together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.report.table import PAGE, Column, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.report.threats import MeasuredUnion
from rushkit.results.attacks import variant_words
from rushkit.results.words import noise_words
from rushkit.rounding import percent

UNION_CAPTION = (
    "accuracy under several balls together: each image counts by the attack that is worst for it, chosen by half of "
    "its votes and scored by the others"
)


class _Joined(NamedTuple):
    """A union of one model."""

    model: str
    union: MeasuredUnion


def unions_table(models: Sequence[tuple[str, Sequence[MeasuredUnion]]]) -> Table | None:
    """Return what attacks in balls of different norms leave together; None if no attacks were joined.

    Args:
        models: Each model's name and its unions. With several there is a column for their names.
    """
    rows = [_Joined(name, union) for name, unions in models for union in unions]
    if not rows:
        return None
    with_noise = len({noise_words(row.union.noise) for row in rows}) > 1
    columns: list[Column[_Joined]] = [column("model", lambda row: row.model, left=True)] * (len(models) > 1)
    columns += [
        column("balls", lambda row: row.union.record.ball_words(), left=True, kind="wide"),
        *[column("noise", lambda row: noise_words(row.union.noise), left=True)] * with_noise,
        column("m", lambda row: row.union.record.samples, label="m"),
        column("protocol", lambda row: variant_words(row.union.record), left=True, label="protocol"),
        column("images", lambda row: row.union.record.images, label="images"),
        column("clean", lambda row: percent(row.union.majority.clean_accuracy), line="clean %", label="clean"),
        column("together", lambda row: share_cell(row.union.majority), line="together % [95%]", label="together"),
        column(
            "right in every vote",
            lambda row: percent(row.union.majority.any_failure_accuracy),
            line="right in every vote %",
            label="right in every vote",
        ),
        column("attacks", _attacks, left=True, kind="wide", label="attacks", media=PAGE),
    ]
    return build_table(rows, columns, UNION_CAPTION)


def _attacks(row: _Joined) -> str:
    return ", ".join(row.union.attacks)
