"""Several models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rushkit.recipe.radius import ball_words
from rushkit.recipe.toml import Toml
from rushkit.report.protocols import protocol_words
from rushkit.report.significance import AttackMeasurement, CleanMeasurement, Significance
from rushkit.report.table import Cell, Column, Table, build_table, column
from rushkit.report.words import value_words
from rushkit.results.words import listed, low_words, p_value, points
from rushkit.rounding import counted

# Below this a corrected p-value is printed bold.
_SURE = 0.05


def values_table(names: Sequence[str], values: Mapping[str, Sequence[Toml]], first: str = "key") -> Table:
    """Return a row for each key, with its value for each model."""
    columns: list[Column[tuple[str, Sequence[Toml]]]] = [column(first, lambda row: row[0], left=True)]
    columns += [_value_column(place, name) for place, name in enumerate(names)]
    return build_table(values.items(), columns, kind="sticky")


def significance_table(tests: Sequence[Significance], caption: str = "") -> Table:
    """Return McNemar's test of each measurement that two models share."""
    columns: list[Column[Significance]] = [
        column("what", lambda test: measurement(test.what), left=True),
        column("A", lambda test: test.first, left=True, label="A"),
        column("B", lambda test: test.second, left=True, label="B"),
        column("images", lambda test: test.images, label="images"),
        column("both right", lambda test: test.both, label="both right"),
        column("only A", lambda test: test.only_first, label="only A"),
        column("only B", lambda test: test.only_second, label="only B"),
        column("A − B, points", _gap, label="A − B, points"),
        column("p", lambda test: p_value(test.p_value), label="p"),
        column("p, Holm", _corrected, label="p, Holm"),
    ]
    return build_table(tests, columns, caption)


def tests_words(tests: Sequence[Significance]) -> str:
    """Return what the tests come to: "216 tests of 36 pairs of models; p, Holm is below 0.05 in 12 of them"."""
    pairs = len({(test.first, test.second) for test in tests})
    sure = sum(test.corrected < _SURE for test in tests)
    of_pairs = f"{counted(len(tests), 'test')} of {counted(pairs, 'pair')} of models"
    return f"{of_pairs}; p, Holm is below {_SURE:g} in {sure or 'none'} of them"


def measurement(what: CleanMeasurement | AttackMeasurement) -> str:
    """Return what was compared: "digits/test, pgd l-inf 8/255, strict, m = 64"."""
    if isinstance(what, CleanMeasurement):
        rule = f", {what.rule} rule" if what.rule != "majority" else ""
        return listed(f"{what.data}, clean, m = {what.samples}{rule}", low_words(what.precision))
    attack = f"{what.attack} {ball_words(what.norm, what.eps)}, {protocol_words(what)}"
    return f"{what.data}, {attack}, m = {what.samples}"


def is_no_bound(what: CleanMeasurement | AttackMeasurement) -> bool:
    """Return whether a measurement needs the note on protocols: an attack under paper, or weaker than strict."""
    return isinstance(what, AttackMeasurement) and what.protocol != "strict"


def _value_column(place: int, name: str) -> Column[tuple[str, Sequence[Toml]]]:
    return column(name, lambda row: value_words(row[1][place]), left=True)


def _gap(test: Significance) -> str:
    return points((test.only_first - test.only_second) / test.images)


def _corrected(test: Significance) -> Cell:
    return Cell(p_value(test.corrected), kind="sure" if test.corrected < _SURE else "")
