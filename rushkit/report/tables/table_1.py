"""The paper's Table 1: the figures that it reports, and those that were measured under both protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rushkit.report.figures import AttackedShare, MeasuredShare, Model, Table1Row
from rushkit.report.table import EMPTY, MARKDOWN, PAGE, Cell, Column, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.results.words import images_words, noise_words
from rushkit.rounding import percent

_REPORTED = "dim edge"


class _Row(NamedTuple):
    """A row, and the number of its colour; None with a single model."""

    model: str
    key: int | None
    row: Table1Row


def table_1(models: Sequence[Model], caption: str = "") -> Table | None:
    """A row for each model, data set, noise and m; None where there is none."""
    several = len(models) > 1
    rows = [_Row(model.name, n if several else None, row) for n, model in enumerate(models) for row in model.table_1]
    columns: list[Column[_Row]] = [
        column("model", _model, left=True),
        column("m", _samples, head_kind="free", label="m"),
        column(
            "reported",
            lambda row: _reported(row, "standard", "standard"),
            line="standard, reported",
            head_kind=f"{_REPORTED} free",
            kind=_REPORTED,
            group="standard",
        ),
        column(
            "measured",
            lambda row: _share_cell(row.row.standard),
            line="standard, measured",
            label="standard, measured",
            group="standard",
        ),
        *_attack_columns("pgd", "PGD", "PGD", lambda row: row.row.pgd),
        *_attack_columns("autoattack", "AutoAttack", "AA", lambda row: row.row.autoattack),
    ]
    return build_table(rows, [part.on(PAGE | MARKDOWN) for part in columns], caption) if rows else None


def _attack_columns(
    attack: str, name: str, short: str, cells: Callable[[_Row], dict[str, AttackedShare | None]]
) -> list[Column[_Row]]:
    group = f"{name}, l-inf 8/255"
    return [
        column(
            "reported",
            lambda row: _reported(row, attack, name),
            line=f"{short}, reported",
            kind=_REPORTED,
            head_kind=_REPORTED,
            group=group,
        ),
        column(
            "paper",
            lambda row: _share_cell(cells(row)["paper"]),
            line=f"{short}, paper",
            kind="dim",
            head_kind="dim",
            label=f"{name}, paper",
            group=group,
        ),
        column(
            "strict",
            lambda row: _share_cell(cells(row)["strict"]),
            line=f"{short}, strict",
            kind="strict",
            head_kind="strict",
            label=f"{name}, strict",
            group=group,
        ),
    ]


def _model(row: _Row) -> Cell:
    where = f"{row.row.data}, {noise_words(row.row.noise)}"
    return Cell(row.model, (where,), f"{row.model}: {where}", strong=True, key=row.key)


def _samples(row: _Row) -> Cell:
    strategy = row.row.strategy
    return Cell(str(row.row.samples), (strategy,) if strategy else ())


def _reported(row: _Row, key: str, name: str) -> Cell:
    share = None if row.row.reported is None else getattr(row.row.reported, key)
    # A dash says something under a header only.
    return Cell("–", label="") if share is None else Cell(percent(share), label=f"{name}, reported")


def _share_cell(share: MeasuredShare | None) -> Cell:
    """A share with its interval, its images and, of an attack, the settings that are not the protocol's own."""
    if share is None:
        return EMPTY
    runs, settings = (share.chosen_from, share.settings) if isinstance(share, AttackedShare) else (1, "")
    images = f"n = {images_words(share.images, runs=runs)}"
    cell = share_cell(share)
    small = (*cell.small, *images.split(", "), *filter(None, [settings]))
    line = f"{cell.line}, {images}{f'; {settings}' if settings else ''}"
    return Cell(cell.text, small, line, strong=True)
