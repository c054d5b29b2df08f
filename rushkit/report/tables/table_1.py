"""The paper's Table 1: published figures and what they are, beside those that were measured under both protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from rushkit.report.figures import AttackedShare, MeasuredShare, Model, ReportedRow, Table1Row
from rushkit.report.table import EMPTY, MARKDOWN, PAGE, TERMINAL, Cell, Column, Heading, Table, build_table, column
from rushkit.report.tables.cells import share_cell
from rushkit.results.published import PublishedRow
from rushkit.results.published import table_1 as rows_of_table_1
from rushkit.results.words import images_words, noise_words
from rushkit.rounding import percent


class _Row(NamedTuple):
    """A row, and the number of the model's colour; None with a single model."""

    model: str
    key: int | None
    row: Table1Row


def table_1_heading(models: Sequence[Model]) -> str:
    """Return what stands above the published figures; empty where none are published of any model's method and data."""
    reported = [row.reported for model in models for row in model.table_1 if row.reported]
    if any(row.in_table_1 for row in reported):
        return "The paper's Table 1, reported and measured"
    return "Published figures, reported and measured" if reported else ""


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
        column("what was reported", lambda row: _what(row.row.reported), left=True, kind="edge says", media=_MEDIA),
    ]
    return build_table(rows, columns) if rows else None


def in_lines(models: Sequence[Model]) -> Table | None:
    """Return the same for the terminal, in a line for each source of figures; None if there is nothing to show."""
    lines = [line for model in models for row in model.table_1 for line in _lines(model.name, row)]
    columns: list[Column[_Line]] = [
        column("model", lambda line: line.model, left=True, media=TERMINAL),
        column("m", lambda line: line.samples, media=TERMINAL),
        column("protocol", lambda line: line.protocol, left=True, media=TERMINAL),
        column("standard %", lambda line: line.standard, media=TERMINAL),
        column("PGD %", lambda line: line.pgd, media=TERMINAL),
        column("AutoAttack %", lambda line: line.autoattack, media=TERMINAL),
    ]
    return build_table(lines, columns) if lines else None


def published_table(models: Sequence[Model]) -> Table | None:
    """Return all rows that the paper's Table 1 has for the models' data sets of test, or None if it has none."""
    tested = {row.data for model in models for row in model.table_1}
    rows = [row for row in rows_of_table_1() if row.finetuned_on in tested]
    columns: list[Column[PublishedRow]] = [
        column("method", lambda row: Cell(row.method, strong=True), left=True, media=_MEDIA),
        column("data", lambda row: " to ".join(dict.fromkeys(row.data)), left=True, label="data", media=_MEDIA),
        column("standard", lambda row: _percent(row.standard), label="standard", media=_MEDIA),
        column("PGD", lambda row: _percent(row.pgd), label="PGD", media=_MEDIA),
        column("AA", lambda row: _percent(row.autoattack), label="AutoAttack", media=_MEDIA),
        column("network", lambda row: row.network, left=True, label="network", media=_MEDIA),
        column("external data", lambda row: row.extra_data or "none", left=True, label="external data", media=_MEDIA),
        column("protocol", lambda row: row.protocol, left=True, kind="wide", label="protocol", media=_MEDIA),
        column("what it is", lambda row: row.what, left=True, kind="says wide", media=_MEDIA),
    ]
    return build_table(rows, columns) if rows else None


def reported_words(models: Sequence[Model]) -> list[str]:
    """Return a sentence on each published row that stands beside a model, without repeats."""
    rows = (row.reported for model in models for row in model.table_1 if row.reported)
    return list(dict.fromkeys(f"{_title(row)}: {'; '.join(_parts(row))}." for row in rows))


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


class _Line(NamedTuple):
    """A line of the terminal: figures of one source under one protocol."""

    model: str
    samples: str
    protocol: str
    standard: str
    pgd: str
    autoattack: str


def _lines(model: str, row: Table1Row) -> Iterator[_Line]:
    known = row.reported
    if known is not None:
        published = _percent(known.standard), _percent(known.pgd), _percent(known.autoattack)
        yield _Line(_title(known), "", "reported", *published)
    cells = {protocol: (row.pgd[protocol], row.autoattack[protocol]) for protocol in ("paper", "strict")}
    measured = {protocol: pair for protocol, pair in cells.items() if pair != (None, None)}
    # The clean figure is under no protocol: it stands in the first line of the model.
    name, standard = f"{model}: {row.data}", _measured(row.standard)
    for protocol, pair in (measured or {"–": (None, None)}).items():
        yield _Line(name, str(row.samples), protocol, standard, *map(_measured, pair))
        name, standard = "", ""


def _measured(share: MeasuredShare | None) -> str:
    figure = _percent(None if share is None else share.accuracy)
    return f"{figure} ({share.settings})" if share is not None and share.settings else figure


def _percent(share: float | None) -> str:
    return "–" if share is None else percent(share)


def _title(row: ReportedRow) -> str:
    return f"{row.method} in Table 1" if row.in_table_1 else f"{row.method}, not in Table 1"


def _parts(row: ReportedRow) -> list[str]:
    """Say what a published row is: the flag of external data, what it is, network and protocol, and where it stands."""
    flag = [f"EXTERNAL DATA: {row.extra_data}"] if row.extra_data else []
    return [*flag, row.what, f"{row.network}; {row.protocol}", *([] if row.in_table_1 else [row.source])]


def _what(row: ReportedRow | None) -> Cell:
    if row is None:
        return Cell("–", label="")
    flag = (f"EXTERNAL DATA: {row.extra_data}",) if row.extra_data else ()
    return Cell(_title(row), flag, "; ".join((_title(row), *flag)))


def _model(row: _Row) -> Cell:
    about = row.row
    where = f"{about.data}, {noise_words(about.noise)}"
    flag = (f"EXTERNAL DATA: {about.extra_data}",) if about.extra_data else ()
    return Cell(row.model, (where, *flag), f"{row.model}: {'; '.join((where, *flag))}", strong=True, key=row.key)


def _samples(row: _Row) -> Cell:
    strategy = row.row.strategy
    return Cell(str(row.row.samples), (strategy,) if strategy else ())


def _reported(row: _Row, key: str, name: str) -> Cell:
    share = None if row.row.reported is None else getattr(row.row.reported, key)
    # A dash says something under a head only.
    return Cell("–", label="") if share is None else Cell(_percent(share), label=f"{name}, reported")


def _share_cell(share: MeasuredShare | None) -> Cell:
    """Return a share with its interval, its images and, of an attack, the settings that are not the protocol's own."""
    if share is None:
        return EMPTY
    runs, settings = share.chosen_from if isinstance(share, AttackedShare) else 1, share.settings
    images = f"n = {images_words(share.images, runs=runs)}"
    cell = share_cell(share)
    small = (*cell.small, *images.split(", "), *filter(None, [settings]))
    line = f"{cell.line}, {images}{f'; {settings}' if settings else ''}"
    return Cell(cell.text, small, line, strong=True)
