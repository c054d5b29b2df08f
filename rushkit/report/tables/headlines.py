"""The table of the figures that a reader sees first: a row for each model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rushkit.report.figures import Model
from rushkit.report.headlines import Headline, Rung
from rushkit.report.quoted import gap_words, share_words
from rushkit.report.table import Cell, Column, Table, build_table, column
from rushkit.rounding import percent_interval

_HEADS = {"clean": "clean", "paper": "paper, not the robustness", "strict": "strict, at most", "certified": "certified"}
_KINDS = {"clean": "", "paper": "dim", "strict": "strict", "certified": ""}


class _Row(NamedTuple):
    """A model, and the number of its colour; None with a single model."""

    name: str
    key: int | None
    headline: Headline


def headline_table(models: Sequence[Model]) -> Table:
    """Return clean, paper, strict and certified accuracy of each model with the gap, and of which images they are."""
    several = len(models) > 1
    rows = [_Row(model.name, place if several else None, model.headline) for place, model in enumerate(models)]
    columns: list[Column[_Row]] = [
        column("model", lambda row: Cell(row.name, strong=True, key=row.key), left=True),
        _share_column("clean"),
        _share_column("paper"),
        column("paper − strict", _gap, label="paper − strict"),
        _share_column("strict"),
        _share_column("certified"),
        column("images", _images, left=True, kind="says", label="images"),
    ]
    return build_table(rows, columns)


def _share_column(name: str) -> Column[_Row]:
    return column(_HEADS[name], _shown(name), kind=_KINDS[name], label=_HEADS[name])


def _shown(name: str) -> Callable[[_Row], Cell]:
    def show(row: _Row) -> Cell:
        rung = dict(row.headline.rungs)[name]
        if rung is None:
            return Cell("–")
        words, reach = share_words(name, rung), f"[{percent_interval(rung.low, rung.high)}]"
        under = rung.ball or f"m = {rung.samples}"
        # Where the column is of other images than the rest of the row.
        others = "" if rung.same_images or row.headline.strict is None else f"n = {rung.images}"
        small = tuple(filter(None, (reach, under, others)))
        # What has no small print has the ball and the images in the sentence below.
        return Cell(words, small, f"{words} {', '.join(filter(None, (reach, others)))}", strong=True)

    return show


def _gap(row: _Row) -> Cell:
    gap = row.headline.gap
    if gap is None:
        return Cell("–")
    words, _, reach = gap_words(gap).partition(" [")
    return Cell(words, (f"[{reach}",), f"{words} [{reach}", strong=True)


def _images(row: _Row) -> Cell:
    rung: Rung | None = next((rung for _, rung in reversed(row.headline.rungs[:3]) if rung is not None), None)
    rung = rung or row.headline.certified
    if rung is None:
        return Cell("–")
    where = f"{rung.images} of {rung.data}"
    return Cell(where, (rung.chosen,), f"{where} ({rung.chosen})")
