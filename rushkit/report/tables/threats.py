"""Tables of threats beside a single ball: several balls together, corruptions, rotations and translations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.recipe.schema import Corruption
from rushkit.report.table import EMPTY, PAGE, Cell, Column, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.report.threats import MeasuredCorruptions, MeasuredShifts, MeasuredUnion
from rushkit.results.attacks import variant_words
from rushkit.results.threats import CorruptionMean, ShiftRow
from rushkit.results.words import corruption_error_words, noise_words
from rushkit.rounding import percent, percent_interval

# Rotations that a table has rows for.
_MOST_ROTATIONS = 7

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


def kinds_table(measured: MeasuredCorruptions) -> Table:
    """Return the accuracy in % under each kind of corruption at each strength, by the vote of the most draws."""
    one, shown = measured.record, measured.shown
    rows = one.rows_of(shown.samples, shown.rule)
    errors = one.errors_of(shown.samples, shown.rule)

    def at(strength: int) -> Column[Corruption]:
        name = f"strength {strength}"
        return column(name, lambda kind: percent(rows[kind, strength].accuracy), label=name)

    columns: list[Column[Corruption]] = [
        column("corruption", lambda kind: kind, left=True),
        *map(at, one.strengths),
        column("mean", lambda kind: percent(1 - errors[kind]), label="mean"),
    ]
    caption = f"accuracy in % under corruptions, {measured.about()}, {shown.rule} of m = {shown.samples}"
    return build_table(one.kinds, columns, caption, kind="sticky")


def means_table(measured: MeasuredCorruptions) -> Table:
    """Return the mean accuracy over kinds and strengths for each m and rule, with mCE where there is a baseline."""
    one = measured.record
    columns: list[Column[CorruptionMean]] = [
        column("m", lambda mean: mean.samples, label="m"),
        column("rule", lambda mean: mean.rule, left=True, label="rule"),
        column("clean", lambda mean: percent(mean.clean), line="clean %", label="clean"),
        column("mean accuracy", share_cell, line="mean accuracy % [95%]", label="mean accuracy"),
        column("mean error", lambda mean: percent(1 - mean.accuracy), line="mean error %", label="mean error"),
    ]
    if one.baseline is not None:
        columns.append(column("mCE", _mce, line="mCE % [95%]", label="mCE"))
    what = f"{len(one.kinds)} kinds at {len(one.strengths)} strengths"
    return build_table(one.means, columns, f"mean over {what}, {measured.about()}")


def _mce(mean: CorruptionMean) -> Cell:
    if (error := mean.mce) is None:
        return EMPTY
    small = () if error.low is None or error.high is None else (percent_interval(error.low, error.high, " – "),)
    return Cell(percent(error.value), small, corruption_error_words(error), strong=True)


def shifts_table(measured: MeasuredShifts) -> Table:
    """Return the accuracy under the worst rotation and translation for each m and rule."""
    columns: list[Column[ShiftRow]] = [
        column("m", lambda row: row.samples, label="m"),
        column("rule", lambda row: row.rule, left=True, label="rule"),
        column("as they are", lambda row: percent(row.natural), line="as they are %", label="as they are"),
        column("worst", share_cell, line="worst % [95%]", label="worst"),
        column("at every point", lambda row: percent(row.held), line="at every point %", label="at every point"),
    ]
    caption = f"accuracy under rotations and translations, {measured.about()}"
    return build_table(measured.record.rows, columns, caption)


class _Rotated(NamedTuple):
    """The accuracies at the translations of one rotation."""

    rotation: float
    accuracies: list[float]


def rotations_table(measured: MeasuredShifts) -> Table:
    """Return the accuracy at some of the rotations: the mean and the least over the translations."""
    one, shown = measured.record, measured.shown
    right = one.points[str(shown.samples)][shown.rule]
    rotations, width = one.grid[0], one.size // one.grid[0]
    number = min(rotations, _MOST_ROTATIONS)
    places = [round(place * (rotations - 1) / max(1, number - 1)) for place in range(number)]
    rows = [
        _Rotated(
            one.rotation * (2 * place / (rotations - 1) - 1) if rotations > 1 else 0.0,
            [count / measured.images for count in right[place * width : (place + 1) * width]],
        )
        for place in places
    ]
    columns: list[Column[_Rotated]] = [
        column("rotation", lambda row: f"{row.rotation:.4g}", label="rotation"),
        column("mean", lambda row: percent(sum(row.accuracies) / width), label="mean"),
        column("lowest", lambda row: percent(min(row.accuracies)), label="lowest"),
    ]
    caption = f"accuracy in % by rotation in degrees, over {width} translations, {shown.rule} of m = {shown.samples}"
    return build_table(rows, columns, caption)
