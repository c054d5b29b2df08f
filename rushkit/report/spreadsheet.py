"""Runs as CSV files: figures, training curves, what every image did. No cell of text is a spreadsheet's formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rushkit.errors import DataError, RushkitError, UsageError, showable
from rushkit.files import write_atomic, write_error
from rushkit.report.numbers import attacked_words, numbers_of
from rushkit.results import Results
from rushkit.results.attacks import Attacks
from rushkit.results.certification import Certification
from rushkit.results.evaluation import Evaluation
from rushkit.run.info import RunInfo
from rushkit.run.metrics import read_metrics
from rushkit.run.names import METRICS_FILE
from rushkit.run.stored_recipe import noise_of_run

FIGURES, CURVES, OUTCOMES = "figures.csv", "metrics.csv", "outcomes.csv"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
# A cell: text, a number, or nothing.
Cell = str | int | float | None
Row = Sequence[Cell]

_RUN_HEAD = ("run", "verb", "recipe", "noise", "seed", "status", "started")
_FIGURES_HEAD = (*_RUN_HEAD, "figure", "what", "value", "low", "high", "images")
_CURVES_HEAD = ("run", "kind", "step", "epoch", "metric", "value")
_OUTCOMES_HEAD = ("run", "what", "rule", "image", "label", "predicted", "right", "votes", "radius")


def export_runs(runs: Sequence[RunInfo], folder: Path, force: bool = False) -> list[Path]:
    """Write figures, metrics and per-image outcomes of runs as three CSV files, and return their paths.

    Args:
        runs: The runs.
        folder: Where the files go; made if it is missing.
        force: Whether files that are there are replaced.

    Raises:
        UsageError: a file is there already.
        RushkitError: the folder or a file cannot be written, or the metrics of a run are damaged.
    """
    tables = {
        FIGURES: (_FIGURES_HEAD, _figures(runs)),
        CURVES: (_CURVES_HEAD, _curves(runs)),
        OUTCOMES: (_OUTCOMES_HEAD, _outcomes(runs)),
    }
    there = next((folder / name for name in tables if (folder / name).exists()), None)
    if there is not None and not force:
        raise UsageError(f"{there} exists already", "choose another folder with --to, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error
    for name, (head, rows) in tables.items():
        write_atomic(folder / name, csv_lines(head, rows))
    return [folder / name for name in tables]


def _figures(runs: Sequence[RunInfo]) -> Iterator[Row]:
    for run in runs:
        about = (run.path.name, run.verb, run.recipe, noise_of_run(run), run.about.seed, run.status, run.started)
        for one in numbers_of(run.record()):
            yield (*about, one.name, one.what, one.value, one.low, one.high, one.images)


def _curves(runs: Sequence[RunInfo]) -> Iterator[Row]:
    for run in runs:
        try:
            lines = read_metrics(run.path / METRICS_FILE)
        except DataError as error:
            raise RushkitError(error.message, "leave this run out, or put the file back as it was written") from error
        for line in lines:
            place = tuple(_plain(line.get(key)) for key in ("kind", "step", "epoch"))
            for key, value in line.items():
                if key not in ("kind", "step", "epoch"):
                    yield (run.path.name, *place, key, _plain(value))


def _outcomes(runs: Sequence[RunInfo]) -> Iterator[Row]:
    for run in runs:
        for row in _outcomes_of(run.record()):
            yield (run.path.name, *row)


def _outcomes_of(results: Results | None) -> Iterator[Row]:
    match results:
        case Evaluation():
            indices, labels = results.outcomes.images, results.outcomes.labels
            for samples, rules in results.outcomes.predicted.items():
                for rule, predicted in rules.items():
                    what = f"{results.data}, m = {samples}"
                    for image, label, guess in zip(indices, labels, predicted, strict=True):
                        yield (what, rule, image, label, guess, int(label == guess), 1, None)
        case Attacks():
            for row in results.attacks:
                outcomes, what = row.outcomes, attacked_words(row)
                for rule, right in outcomes.right.items():
                    for image, label, votes in zip(outcomes.indices, outcomes.labels, right, strict=True):
                        yield (what, rule, image, label, None, votes, row.votes, None)
        case Certification():
            found = results.outcomes
            columns = zip(found.images, found.labels, found.predicted, found.radius, strict=True)
            for image, label, guess, radius in columns:
                yield (results.data, results.rule, image, label, guess, int(label == guess), 1, radius)


def csv_lines(head: Row, rows: Iterable[Row]) -> Iterator[bytes]:
    """Yield the lines of a CSV file, of which no text is a spreadsheet's formula."""
    for row in (head, *rows):
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([_harmless(cell) for cell in row])
        yield line.getvalue().encode()


def _plain(value: object) -> Cell:
    """Return a value of metrics.jsonl as a cell; what is no plain value becomes text."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _harmless(cell: Cell) -> Cell:
    """Return a cell that a spreadsheet takes for text if it is text: a name may begin like a formula."""
    if not isinstance(cell, str):
        return cell
    text = showable(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text
