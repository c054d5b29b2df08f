"""Accuracy without an attack, and confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rushkit.report.figures import AccuracyRow, Confusion, Model
from rushkit.report.table import MARKDOWN, PAGE, TERMINAL, TEXT, Cell, Column, Heading, Table, build_table, column
from rushkit.report.tables.cells import name_cell, share_cell
from rushkit.results.words import accuracy_words, listed, low_words, noise_words

# Up to so many classes a confusion matrix is a table; beyond, its largest entries are listed.
MOST_CLASSES = 16
MOST_CONFUSED = 20


def accuracy_table(rows: Sequence[AccuracyRow], caption: str = "") -> Table:
    """Return a row for each m and rule."""
    columns: list[Column[AccuracyRow]] = [
        column("data", lambda row: row.data, left=True, media=MARKDOWN),
        column("noise", lambda row: noise_words(row.noise), left=True, media=MARKDOWN),
        column("m", lambda row: row.samples, media=TEXT),
        column("rule", lambda row: row.rule, left=True, media=TEXT),
        column("accuracy % [95%]", accuracy_words, media=MARKDOWN),
        column("accuracy % [95% interval]", accuracy_words, media=TERMINAL),
        column("right", lambda row: row.correct, media=TERMINAL),
        column("images", lambda row: row.images, media=TEXT),
    ]
    if any(low_words(row.precision) for row in rows):
        columns.append(column("precision", lambda row: row.precision, left=True, media=TEXT))
    return build_table(rows, columns, caption)


class _Predicted(NamedTuple):
    """The predictions of one model from one number of draws, by rule."""

    model: str
    data: str
    noise: str
    precision: str
    samples: int
    images: int
    by_rule: dict[str, AccuracyRow]


def accuracy_by_rule(models: Sequence[Model]) -> Table | None:
    """Return a row for each model and m, with the rules side by side; None if nothing was measured."""
    rows: dict[tuple[object, ...], _Predicted] = {}
    for model in models:
        for row in model.accuracy:
            about = (model.name, row.data, noise_words(row.noise), low_words(row.precision), row.samples, row.images)
            rows.setdefault(about, _Predicted(*about, {})).by_rule[row.rule] = row
    if not rows:
        return None
    columns: list[Column[_Predicted]] = [
        column("model", _measured_model, left=True),
        column("m", lambda row: row.samples, label="m"),
        column("images", lambda row: row.images, label="images"),
    ]
    columns += map(_rule_column, dict.fromkeys(rule for row in rows.values() for rule in row.by_rule))
    return build_table(rows.values(), columns)


def _measured_model(row: _Predicted) -> Cell:
    about = listed(row.data, row.noise, row.precision)
    return replace(name_cell(row.model, about), line=f"{row.model}: {about}")


def _rule_column(rule: str) -> Column[_Predicted]:
    return column(rule, lambda row: share_cell(row.by_rule.get(rule)), label=rule)


def confusion_table(confusion: Confusion, caption: str) -> Table:
    """Return true against predicted classes; for many classes only the most confused pairs."""
    if len(confusion.classes) > MOST_CLASSES:
        return _worst_pairs(confusion, f"{caption}: the most frequent confusions")
    headings = [Heading("is \\ taken for", left=True, kind="text", head_kind="text", media=PAGE)]
    headings += [Heading(name, media=PAGE) for name in confusion.classes]
    rows = []
    for index, counts in enumerate(confusion.counts):
        total = max(sum(counts), 1)
        cells = (
            Cell(str(count or ""), kind="hit" if index == other else "miss", shade=count / total)
            for other, count in enumerate(counts)
        )
        rows.append((Cell(confusion.classes[index], strong=True), *cells))
    return Table(tuple(headings), tuple(rows), caption, kind="matrix sticky")


class _Pair(NamedTuple):
    """How many images of one class were taken for another, of how many."""

    images: int
    truth: str
    taken_for: str
    total: int


def _worst_pairs(confusion: Confusion, caption: str) -> Table:
    names, counts = confusion.classes, confusion.counts
    wrong = sorted(
        (-count, truth, other)
        for truth, row in enumerate(counts)
        for other, count in enumerate(row)
        if truth != other and count
    )
    pairs = [_Pair(-count, names[i], names[j], sum(counts[i])) for count, i, j in wrong[:MOST_CONFUSED]]
    columns: list[Column[_Pair]] = [
        column("class", lambda pair: pair.truth, left=True, media=PAGE),
        column("taken for", lambda pair: pair.taken_for, left=True, media=PAGE),
        column("images", lambda pair: pair.images, media=PAGE),
        column("of", lambda pair: pair.total, media=PAGE),
    ]
    return build_table(pairs, columns, caption, kind="sticky")
