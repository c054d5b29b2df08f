"""The figures of a study as lines of a CSV file: one for each seed, each mean with each of its intervals, and so on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rushkit.report.spreadsheet import Row
from rushkit.report.study.figures import CellFigure, Difference, Line, Quantity, StudyReport
from rushkit.rounding import counted

HEAD = (
    *("study", "kind", "row", "m", "column", "protocol", "seed", "value", "low", "high", "interval", "spread"),
    *("images", "p", "p_holm", "state", "remarks", "run", "what"),
)


def csv_rows(report: StudyReport) -> Iterator[Row]:
    """Yield the rows of the CSV file of a study, without its head.

    ``kind`` is ``seed``, ``mean`` (one row for each interval around it), ``published``, or ``difference`` (the first
    row minus this one). Shares are in [0, 1].
    """
    for line in report.lines:
        for quantity, cell in zip(report.quantities, line.cells, strict=True):
            if cell is not None:
                yield from ((report.study, *row) for row in _cell(line, quantity, cell))
        for row in _published(line):
            yield (report.study, *row)
    for difference in report.differences:
        yield from ((report.study, *row) for row in _difference(difference))


def _cell(line: Line, quantity: Quantity, cell: CellFigure) -> Iterator[Row]:
    place = line.row, line.samples, quantity.name, quantity.protocol
    for one in cell.seeds:
        over = None if one.value is None else "images"
        single = one.value, one.low, one.high, over, None, one.images
        yield "seed", *place, one.seed, *single, None, None, one.state, _joined(one.remarks), one.run, quantity.what
    if cell.mean is None:
        yield "mean", *place, *[None] * 9, "", cell.problem, "", quantity.what
    for interval in cell.intervals:
        figures = cell.mean, interval.low, interval.high, interval.over, cell.spread, cell.done[0].images
        yield (
            "mean",
            *place,
            None,
            *figures,
            None,
            None,
            f"{len(cell.done)} of {counted(len(cell.seeds), 'seed')}",
            "",
            "",
            (quantity.what),
        )


def _published(line: Line) -> Iterator[Row]:
    for row in line.published:
        shares = {"clean": row.standard, "PGD": row.pgd, "AutoAttack": row.autoattack, "robust": row.robust}
        for name, value in shares.items():
            if value is not None:
                place = line.row, line.samples, name, "published", None
                yield "published", *place, value, *[None] * 7, "", "", row.key, row.words


def _difference(one: Difference) -> Iterator[Row]:
    place = one.row, one.samples[1], one.quantity, ""
    for interval in one.intervals:
        figures = one.value, interval.low, interval.high, interval.over, None, one.images
        yield "difference", *place, None, *figures, None, None, "", "", "", ""
    for seed, p, corrected in zip(one.seeds, one.p_values, one.corrected, strict=False):
        yield "difference", *place, seed, *[None] * 5, one.images, p, corrected, "", "", "", ""
    if one.problem:
        yield "difference", *place, *[None] * 9, "", one.problem, "", ""


def _joined(remarks: Sequence[str]) -> str:
    return "; ".join(remarks)
