"""The tables of a study: rows over their seeds, each seed, differences to the first row, trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

from rushkit.report.study.figures import (
    CellFigure,
    Difference,
    Group,
    Line,
    PublishedFigure,
    Quantity,
    SeedFigure,
    StudyReport,
    TrainingFigure,
)
from rushkit.report.table import EMPTY, Cell, Column, Heading, Table, build_table, column
from rushkit.results.words import interval, p_value, points
from rushkit.rounding import number_words, percent, percent_interval

# Path of a run -> where a page finds it; empty for no link.
Link = Callable[[str], str]
# What published rows have, and the columns that it stands before.
_PUBLISHED: tuple[tuple[str, Group, Callable[[PublishedFigure], str]], ...] = (
    ("published: clean", "clean", lambda row: _share(row.standard)),
    ("published: PGD", "attacked", lambda row: _share(row.pgd)),
    ("published: AutoAttack", "attacked", lambda row: _share(row.autoattack)),
    ("published: robust", "attacked", lambda row: _share(row.robust)),
    ("published: certified", "certified", lambda row: ", ".join(row.certified)),
)


def figures_table(report: StudyReport) -> Table:
    """Return rows by columns: the mean of the seeds, their spread, and the interval over most."""
    columns = _line_columns(report.lines)
    for group in ("clean", "attacked", "certified"):
        columns += _published_columns(report.lines, group)
        places = [place for place, quantity in enumerate(report.quantities) if quantity.group == group]
        columns += [_quantity_column(report, place) for place in places]
    return build_table(report.lines, columns, kind="sticky")


class _Single(NamedTuple):
    """One seed of a line."""

    line: Line
    seed: int
    figures: tuple[SeedFigure | None, ...]


def seeds_table(report: StudyReport, link: Link) -> Table:
    """Return every seed of every row, with a link to the run of each figure."""
    rows = [
        _Single(line, seed, tuple(_of_seed(cell, seed) for cell in line.cells))
        for line in report.lines
        for seed in sorted({figure.seed for cell in line.cells if cell for figure in cell.seeds})
    ]
    columns: list[Column[_Single]] = [
        column("row", lambda row: Cell(row.line.row, strong=True), left=True),
        column("m", lambda row: _draws(row.line), label="m"),
        column("seed", lambda row: row.seed, label="seed"),
    ]
    columns += [_seed_column(report, place, rows, link) for place in range(len(report.quantities))]
    return build_table(rows, columns, kind="sticky")


def differences_table(report: StudyReport) -> Table | None:
    """Return the differences of each row to the first; None where there is nothing to compare."""
    if not report.differences:
        return None
    columns: list[Column[Difference]] = [
        column(f"{report.lines[0].row} minus", lambda row: Cell(row.row, strong=True), left=True),
        column("m", lambda row: _pair_of_draws(row), label="m"),
        column("column", lambda row: row.quantity, left=True, label="column"),
        column("images", lambda row: row.images or "–", label="images"),
        column("points [images]", lambda row: _points(row, "images"), label="points [images]"),
        column("[seeds and images]", lambda row: _reach(row, "seeds and images"), label="[seeds and images]"),
        column("right in the first alone, in the row alone", _counts, label="right in one alone"),
        column("p (McNemar)", lambda row: "; ".join(map(p_value, row.p_values)), label="p (McNemar)"),
        column("p, Holm", lambda row: "; ".join(map(p_value, row.corrected)), label="p, Holm"),
    ]
    return build_table(report.differences, columns)


def trainings_table(report: StudyReport, link: Link) -> Table | None:
    """Return how each row was trained; None where nothing was."""
    if not report.trainings:
        return None
    columns: list[Column[TrainingFigure]] = [
        column("row", lambda row: Cell(row.row, strong=True), left=True),
        column("seed", lambda row: row.seed, label="seed"),
        column("stage", lambda row: Cell(row.stage, href=link(row.run)), left=True, label="stage"),
        column("epochs", lambda row: row.epochs or row.state, label="epochs"),
        column("loss of the last epoch", lambda row: _number(row.loss), line="last loss", label="loss"),
        column("accuracy on the way", lambda row: _share(row.accuracy), line="accuracy %", label="accuracy"),
    ]
    return build_table(report.trainings, columns)


def _line_columns(lines: Sequence[Line]) -> list[Column[Line]]:
    columns: list[Column[Line]] = [column("row", lambda line: Cell(line.row, strong=True), left=True)]
    if any(line.samples is not None for line in lines):
        columns.append(column("m", _draws, label="m"))
    return columns


def _published_columns(lines: Sequence[Line], group: Group) -> list[Column[Line]]:
    """Return the columns of what was published that stand before those of a group."""
    columns = []
    for name, before, show in _PUBLISHED:
        if before == group and any(show(row) for line in lines for row in line.published):

            def cell(line: Line, show: Callable[[PublishedFigure], str] = show) -> Cell:
                return Cell("; ".join(filter(None, map(show, line.published))))

            columns.append(Column(Heading(name, f"{name} %", False, "dim", "", name), cell))
    return columns


def _quantity_column(report: StudyReport, place: int) -> Column[Line]:
    figures = [figure for line in report.lines for cell in [line.cells[place]] if cell for figure in cell.done]
    shared, several = report.shared_remarks[place], len(_counts_of(figures)) > 1
    return Column(
        _heading(report.quantities[place], figures), lambda line: _mean_cell(line.cells[place], shared, several)
    )


def _seed_column(report: StudyReport, place: int, rows: Sequence[_Single], link: Link) -> Column[_Single]:
    figures = [figure for row in rows if (figure := row.figures[place])]
    shared, several = report.shared_remarks[place], len(_counts_of(figures)) > 1
    heading = _heading(report.quantities[place], figures)
    return Column(heading, lambda row: _seed_cell(row.figures[place], shared, several, link))


def _heading(quantity: Quantity, figures: Iterable[SeedFigure]) -> Heading:
    """Return the head of a column, with the number of images where all its figures are of as many."""
    kind = {"strict": "strict", "paper": "dim"}.get(quantity.protocol, "")
    images = f", n = {next(iter(counts))}" if len(counts := _counts_of(figures)) == 1 else ""
    name = quantity.name
    return Heading(f"{name}{images}", f"{name} %{images}", False, kind, kind if kind == "strict" else "", name)


def _counts_of(figures: Iterable[SeedFigure]) -> set[int]:
    """Return the numbers of images that figures are of."""
    return {figure.images for figure in figures if figure.images}


def _mean_cell(cell: CellFigure | None, shared: Set[str], with_images: bool) -> Cell:
    """Return the mean of the seeds, or why there is none; seeds that are missing are named.

    The page has every interval, other media the one over most.
    """
    if cell is None:
        return EMPTY
    missing = _missing(cell)
    if cell.mean is None:
        return Cell(cell.problem or missing or "–", kind="bad", style="red")
    spread = "" if cell.spread is None else f"± {100 * cell.spread:.1f}"
    images = f"n = {cell.done[0].images}" if with_images else ""
    remarks = dict.fromkeys(remark for figure in cell.done for remark in figure.remarks if remark not in shared)
    extra = [*filter(None, [images, *remarks, missing])]
    reach = "" if cell.widest is None else f"[{percent_interval(cell.widest.low, cell.widest.high)}]"
    line = " ".join(filter(None, [percent(cell.mean), spread, reach])) + (f" ({', '.join(extra)})" if extra else "")
    named = [f"{one.over}: {percent_interval(one.low, one.high, ' – ')}" for one in cell.intervals]
    return Cell(percent(cell.mean), tuple(filter(None, [spread, *named, *extra])), line, strong=True)


def _missing(cell: CellFigure) -> str:
    """Return which seeds have no figure, and why: ``"failed"`` of all, ``"seed 1: failed"`` of some."""
    states = {figure.seed: figure.state for figure in cell.seeds if figure.value is None}
    if len(states) == len(cell.seeds) and len(set(states.values())) == 1:
        return next(iter(states.values()))
    return "; ".join(f"seed {seed}: {state}" for seed, state in states.items())


def _of_seed(cell: CellFigure | None, seed: int) -> SeedFigure | None:
    return None if cell is None else next((figure for figure in cell.seeds if figure.seed == seed), None)


def _seed_cell(figure: SeedFigure | None, shared: Set[str], with_images: bool, link: Link) -> Cell:
    if figure is None:
        return EMPTY
    if figure.value is None or figure.low is None or figure.high is None:
        return Cell(figure.state, kind="bad", style="red")
    reach = percent_interval(figure.low, figure.high, " – ")
    remarks = [remark for remark in figure.remarks if remark not in shared]
    extra = tuple(filter(None, [f"n = {figure.images}" if with_images else "", *remarks]))
    line = interval(figure.value, figure.low, figure.high) + (f" ({', '.join(extra)})" if extra else "")
    return Cell(percent(figure.value), (reach, *extra), line, strong=True, href=link(figure.run))


def _draws(line: Line) -> str:
    return "–" if line.samples is None else str(line.samples)


def _pair_of_draws(row: Difference) -> str:
    return ", ".join("–" if m is None else str(m) for m in dict.fromkeys(row.samples))


def _points(row: Difference, over: str) -> str:
    return row.problem if row.value is None else f"{points(row.value)} {_reach(row, over)}"


def _reach(row: Difference, over: str) -> str:
    found = next((one for one in row.intervals if one.over == over), None)
    return "" if found is None else f"[{points(found.low)}, {points(found.high)}]"


def _counts(row: Difference) -> str:
    return "; ".join(f"{ours}, {theirs}" for ours, theirs in zip(row.only_first, row.only_other, strict=True))


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _number(value: float | None) -> str:
    return "" if value is None else number_words(value).replace("-", "−")
