"""The paper's Table 1: the figures that it reports, and those that were measured under both protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rushkit.report.figures import AttackedShare, MeasuredShare, Model, Table1Row
from rushkit.report.table import EMPTY, MARKDOWN, PAGE, Cell, Column, Heading, Table, build_table
from rushkit.report.tables.cells import share_cell
from rushkit.results.words import images_words, noise_words
from rushkit.rounding import percent


class _Row(NamedTuple):
    """A row, and the number of the model's colour; None with a single model."""

    model: str
    key: int | None
    row: Table1Row


def table_1(models: Sequence[Model]) -> Table | None:
    """Return a row for each model, data set, noise and m, or None if there is none."""
    several = len(models) > 1
    rows = [_Row(model.name, n if several else None, row) for n, model in enumerate(models) for row in model.table_1]
    standard = _Group("standard", "standard", "standard")
    columns = [
        Column(Heading("model", left=True, kind="text", head_kind="text", media=_MEDIA), _model),
        Column(Heading("m", head_kind="free", label="m", media=_MEDIA), _samples),
        standard.column("reported", "dim edge", lambda row: _reported(row, "standard", "standard"), " free"),
        standard.column("measured", "", lambda row: _share_cell(row.row.standard)),
        *_attack_columns(_Group("PGD, l-inf 8/255", "PGD", "PGD"), "pgd", lambda row: row.row.pgd),
        *_attack_columns(_Group("AutoAttack, l-inf 8/255", "AutoAttack", "AA"), "autoattack", _autoattack),
    ]
    return build_table(rows, columns) if rows else None


_MEDIA = PAGE | MARKDOWN


class _Group(NamedTuple):
    """Columns under one head on the page.

    Attributes:
        head: The head.
        name: The name of the group on a narrow page.
        short: Its name in Markdown.
    """

    head: str
    name: str
    short: str

    def column(self, text: str, kind: str, show: Callable[[_Row], Cell], more: str = "") -> Column[_Row]:
        """Return a column of the group; ``kind`` and ``more`` are the classes of its head."""
        label = f"{self.name}, {text}"
        line = f"{self.short}, {text}"
        return Column(Heading(text, line, False, kind, f"{kind}{more}", label, self.head, _MEDIA), show)


def _attack_columns(
    group: _Group, attack: str, cells: Callable[[_Row], dict[str, AttackedShare | None]]
) -> list[Column[_Row]]:
    return [
        group.column("reported", "dim edge", lambda row: _reported(row, attack, group.name)),
        group.column("paper", "dim", lambda row: _share_cell(cells(row)["paper"])),
        group.column("strict", "strict", lambda row: _share_cell(cells(row)["strict"])),
    ]


def _autoattack(row: _Row) -> dict[str, AttackedShare | None]:
    return row.row.autoattack


def _model(row: _Row) -> Cell:
    where = f"{row.row.data}, {noise_words(row.row.noise)}"
    return Cell(row.model, (where,), f"{row.model}: {where}", strong=True, key=row.key)


def _samples(row: _Row) -> Cell:
    strategy = row.row.strategy
    return Cell(str(row.row.samples), (strategy,) if strategy else ())


def _reported(row: _Row, key: str, name: str) -> Cell:
    share = None if row.row.reported is None else getattr(row.row.reported, key)
    # A dash says something under a head only.
    return Cell("–", label="") if share is None else Cell(percent(share), label=f"{name}, reported")


def _share_cell(share: MeasuredShare | None) -> Cell:
    """Return a share with its interval, its images and, of an attack, the settings that are not the protocol's own."""
    if share is None:
        return EMPTY
    runs, settings = (share.chosen_from, share.settings) if isinstance(share, AttackedShare) else (1, "")
    images = f"n = {images_words(share.images, runs=runs)}"
    cell = share_cell(share)
    small = (*cell.small, *images.split(", "), *filter(None, [settings]))
    line = f"{cell.line}, {images}{f'; {settings}' if settings else ''}"
    return Cell(cell.text, small, line, strong=True)
