"""Collects the figures of a study's table from the results of its jobs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import rushkit
from rushkit.recipe.radius import ball_words
from rushkit.report.study.cells import cell_figure
from rushkit.report.study.differences import RowFigures, differences
from rushkit.report.study.figures import (
    SCHEMA,
    Group,
    Line,
    PublishedFigure,
    Quantity,
    SeedFigure,
    StudyReport,
    TrainingFigure,
)
from rushkit.report.study.measured import Measured, Radii, measured, order
from rushkit.report.study.notes import notes
from rushkit.results import Results
from rushkit.results.attacks import Attacks
from rushkit.results.published import PublishedRow
from rushkit.results.training import Finetuning, Pretraining
from rushkit.results.words import PROTOCOL_NOTE
from rushkit.rounding import percent
from rushkit.study.job import Job, Stage
from rushkit.study.plan import Cell, Plan

_GROUPS: Mapping[Stage, Group] = {"evaluate": "clean", "attack": "attacked", "certify": "certified"}


@dataclass(frozen=True)
class Done:
    """The results of a job.

    Attributes:
        results: The results.
        place: Its run folder, or the file of its kept results.
    """

    results: Results
    place: str


@dataclass(frozen=True)
class Table:
    """What a table is made of.

    Attributes:
        plan: The jobs of the study and its cells.
        published: Label of each row, in their order -> the published rows beside it.
        radii: Where certified accuracy is shown, by norm.
        done: Id of a job -> its results.
        states: Id of any other job -> how it stands, in a word.
    """

    plan: Plan
    published: Mapping[str, Sequence[PublishedRow]]
    radii: Radii
    done: Mapping[str, Done]
    states: Mapping[str, str]

    @cached_property
    def measured(self) -> dict[str, list[Measured]]:
        """Id of a job that is done -> its figures."""
        jobs = {cell.job for cell in self.plan.cells} & self.done.keys()
        return {job: list(measured(self.done[job].results, self.radii)) for job in jobs}

    @cached_property
    def labels(self) -> dict[Quantity, set[str]]:
        """Column -> the labels of the stages that fill it, in the order of the columns."""
        found: dict[Quantity, set[str]] = {}
        for cell in self.plan.cells:
            for one in self.measured.get(cell.job, ()):
                found.setdefault(one.quantity, set()).add(cell.stage)
        filled = set().union(*found.values())
        for cell in self.plan.cells:
            group = _GROUPS.get(self.stage(cell))
            if group is not None and cell.stage not in filled:
                found.setdefault(Quantity(cell.stage, "not measured yet", group), set()).add(cell.stage)
        return {quantity: found[quantity] for quantity in sorted(found, key=order)}

    def columns_of(self, cell: Cell) -> list[Quantity]:
        """Return the columns that a stage without figures would fill: of its attacks and protocols, where there are."""
        labelled = [quantity for quantity, labels in self.labels.items() if cell.stage in labels]
        job = self.plan.jobs[cell.job].job
        return [quantity for quantity in labelled if _is_of(job, quantity)] or labelled

    def stage(self, cell: Cell) -> Stage:
        """Return the command of a cell's job."""
        return self.plan.jobs[cell.job].job.stage

    def state(self, job: str) -> str:
        """Return how a job stands, in a word."""
        return "done" if job in self.done else self.states.get(job, "missing")


def _is_of(job: Job, quantity: Quantity) -> bool:
    """Return whether a job measures a quantity, as far as its recipe and options say."""
    sections, protocols = job.recipe.get("attack"), job.options.get("protocols")
    if not isinstance(sections, list) or not isinstance(protocols, list):
        return False
    kinds = {section.get("type") for section in sections if isinstance(section, dict)}
    protocol = "strict" if quantity.protocol == "weaker" else quantity.protocol
    return protocol in protocols and (not quantity.attack or quantity.attack in kinds)


def collect(table: Table) -> StudyReport:
    """Return the figures of a study's table."""
    lines: list[Line] = []
    rows: list[RowFigures] = []
    for label, published in table.published.items():
        cells = [cell for cell in table.plan.cells if cell.row == label]
        draws = _draws(table, cells)
        for samples in draws:
            last = samples == draws[-1]
            places = {quantity: _places(table, cells, quantity, samples, last) for quantity in table.labels}
            beside = [row for row in published if row.samples == samples or (last and row.samples not in draws)]
            shown = tuple(
                cell_figure([seed for seed, _ in found], [one for _, one in found if one]) if found else None
                for found in places.values()
            )
            lines.append(Line(label, samples, tuple(map(_published, beside)), shown))
            by_seed = {quantity: {seed.seed: one for seed, one in found if one} for quantity, found in places.items()}
            rows.append(RowFigures(label, samples, by_seed))
    return StudyReport(
        schema=SCHEMA,
        study=table.plan.study,
        title=table.plan.title,
        rushkit=rushkit.__version__,
        protocol_note=PROTOCOL_NOTE,
        quantities=tuple(table.labels),
        lines=tuple(lines),
        differences=differences(rows),
        trainings=tuple(_trainings(table)),
        states=dict(Counter(table.state(job) for job in table.plan.jobs)),
        notes=tuple(notes(lines, _records(table))),
    )


def _draws(table: Table, cells: Sequence[Cell]) -> list[int | None]:
    """Return every m of a row, of which each has a line; None for a row without noise."""
    found = {one.samples for cell in cells for one in table.measured.get(cell.job, ())}
    return sorted(found - {None}, key=lambda m: m or 0) or [None]


def _places(
    table: Table, cells: Sequence[Cell], quantity: Quantity, samples: int | None, last: bool
) -> list[tuple[SeedFigure, Measured | None]]:
    """Return each seed of a row in a column, and what was measured of it.

    A figure of no m, and a job that is not done, stand in the last line of the row, or where other seeds have a figure.
    """
    places: dict[int, tuple[SeedFigure, Measured | None]] = {}
    missing: dict[int, tuple[SeedFigure, Measured | None]] = {}
    for cell in cells:
        if cell.stage not in table.labels[quantity]:
            continue
        known = [one for one in table.measured.get(cell.job, ()) if one.quantity == quantity]
        one = next((one for one in known if one.samples == samples or (last and one.samples is None)), None)
        before = places.get(cell.seed, (None, None))[1]
        if one is not None and (before is None or len(one.shares) >= len(before.shares)):
            places[cell.seed] = _seed_figure(table, cell, one), one
        elif not known and quantity in table.columns_of(cell) and (state := _unmeasured(table, cell)):
            missing[cell.seed] = SeedFigure(cell.seed, cell.stage, cell.job, state), None
    if places or last:
        places = {seed: places.get(seed) or missing[seed] for seed in sorted(places.keys() | missing.keys())}
    return list(places.values())


def _seed_figure(table: Table, cell: Cell, one: Measured) -> SeedFigure:
    place = table.done[cell.job].place
    figures = one.value, one.low, one.high, len(one.shares)
    return SeedFigure(cell.seed, cell.stage, cell.job, "done", place, *figures, one.remarks)


def _unmeasured(table: Table, cell: Cell) -> str:
    """Return why a job has no figure in a column; empty where it has none to give."""
    if cell.job not in table.done:
        return table.state(cell.job)
    results = table.done[cell.job].results
    failed = results.failed if isinstance(results, Attacks) else []
    return "; ".join(one.words() for one in failed)


def _published(row: PublishedRow) -> PublishedFigure:
    outside = [f"EXTERNAL DATA: {row.extra_data}"] if row.extra_data else []
    words = "; ".join([*outside, row.what, row.network, row.protocol, row.source])
    norm = row.norm or "l2"
    certified = tuple(f"{ball_words(norm, point.radius)}: {percent(point.share)}" for point in row.certified)
    shares = row.standard, row.pgd, row.autoattack, row.robust
    method = f"{row.method} on {row.finetuned_on}"
    return PublishedFigure(row.key, row.finetuned_on, *shares, certified, f"{method}: {words}")


def _trainings(table: Table) -> Iterator[TrainingFigure]:
    for cell in table.plan.cells:
        if table.stage(cell) not in ("pretrain", "finetune"):
            continue
        place = cell.row, cell.seed, cell.stage, table.state(cell.job)
        done = table.done.get(cell.job)
        results = None if done is None else done.results
        run = "" if done is None else done.place
        if isinstance(results, Pretraining):
            yield TrainingFigure(*place, results.epochs, results.loss, results.knn_accuracy, run)
        elif isinstance(results, Finetuning):
            yield TrainingFigure(*place, results.epochs, results.loss, results.validation_accuracy, run)
        else:
            yield TrainingFigure(*place)


def _records(table: Table) -> Iterator[tuple[str, int, Results]]:
    """Yield row, seed and results of every cell that is done."""
    for cell in table.plan.cells:
        if cell.job in table.done:
            yield cell.row, cell.seed, table.done[cell.job].results
