"""Attacks that fit a defence: which image fell to which of their parts, and the stand-ins that they followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rushkit.errors import first_few, shorten
from rushkit.recipe.radius import ball_words
from rushkit.report.figures import MeasuredAttack
from rushkit.report.protocols import protocol_words
from rushkit.report.table import Cell, Column, Table, build_table, column
from rushkit.results.adaptive import SurrogateUsed
from rushkit.results.attacks import AttackRow
from rushkit.rounding import percent

# The most images that are named.
_NAMED = 20
# How much of a hash is shown.
_HASH = 12
_STANDS_FOR = {"model": "the whole model", "fronts": "what is in front"}


class _Part(NamedTuple):
    """A part of an attack, and the images that it was the first to break."""

    model: str
    row: MeasuredAttack
    name: str
    images: list[int]

    @property
    def record(self) -> AttackRow:
        return self.row.record


class _StoodIn(NamedTuple):
    """An attack that followed a stand-in."""

    model: str
    row: MeasuredAttack

    @property
    def record(self) -> AttackRow:
        return self.row.record

    @property
    def used(self) -> SurrogateUsed:
        assert self.record.surrogate is not None
        return self.record.surrogate


def fallen_table(models: Sequence[tuple[str, Sequence[MeasuredAttack]]], caption: str = "") -> Table | None:
    """Return which images fell to which part, for rows with a surrogate or own attacks; None if there are none.

    Args:
        models: Each model's name and its attacks. With several there is a column for their names.
        caption: What stands above the table.
    """
    parts = [
        _Part(name, row, part, images) for name, rows in models for row in rows for part, images in row.fell_to.items()
    ]
    if not parts:
        return None
    columns: list[Column[_Part]] = [column("model", lambda part: part.model, left=True)] * (len(models) > 1)
    columns += [
        column("attack", lambda part: part.record.attack, left=True, label="attack"),
        column("ball", lambda part: ball_words(part.record.norm, part.record.eps), left=True, label="ball"),
        column("m", lambda part: part.record.samples, label="m"),
        column("protocol", lambda part: protocol_words(part.record), left=True, label="protocol"),
        column("fell to", lambda part: Cell(shorten(part.name), strong=True), left=True, label="fell to"),
        column("images", lambda part: len(part.images), label="images"),
        column("which", lambda part: first_few(list(map(str, part.images)), _NAMED), left=True, label="which"),
    ]
    return build_table(parts, columns, caption)


def surrogates_table(models: Sequence[tuple[str, Sequence[MeasuredAttack]]], caption: str = "") -> Table | None:
    """Return how the stand-ins that attacks followed answer beside their models; None if none was followed.

    The arguments are those of ``fallen_table``.
    """
    rows = [_StoodIn(name, row) for name, rows in models for row in rows if row.record.surrogate is not None]
    if not rows:
        return None
    columns: list[Column[_StoodIn]] = [column("model", lambda row: row.model, left=True)] * (len(models) > 1)
    columns += [
        column("attack", lambda row: row.record.attack, left=True, label="attack"),
        column("ball", lambda row: ball_words(row.record.norm, row.record.eps), left=True, label="ball"),
        column("m", lambda row: row.record.samples, label="m"),
        column("gradients of", _code, left=True, label="gradients of"),
        column("stands for", lambda row: _STANDS_FOR[row.used.stands_for], left=True, label="stands for"),
        column("images", lambda row: row.used.images, label="images"),
        column("answers alike", lambda row: percent(row.used.agreement), line="answers alike %", label="answers alike"),
        column("fooled alone", lambda row: row.used.fooled, label="fooled alone"),
        column("and the model", lambda row: row.used.carried, label="and the model"),
    ]
    return build_table(rows, columns, caption)


def _code(row: _StoodIn) -> Cell:
    name, digest = shorten(row.used.code), row.used.sha256[:_HASH]
    return Cell(name, (digest,), f"{name} ({digest})", strong=True) if digest else Cell(name, strong=True)
