"""Several runs side by side: what to call them by, and their figures in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rushkit.recipe.toml import Toml
from rushkit.report.numbers import NAMES, Number, numbers_of
from rushkit.report.words import value_words
from rushkit.results import Results
from rushkit.results.jsonable import Figures
from rushkit.results.words import interval
from rushkit.rounding import number_words

# So many keys at most are in a label.
_MOST_KEYS = 3
# Of a certification's radii so many are compared.
_MOST_RADII = 3
_SHARES = ("accuracy", "robust_accuracy", "certified_accuracy", "knn_accuracy", "faults_caught")


@dataclass(frozen=True)
class FigureRow(Figures):
    """One figure of several models.

    Attributes:
        name: The name of the figure.
        what: On what and how it was measured.
        numbers: That of each model; None where it was not measured.
    """

    name: str
    what: str
    numbers: list[Number | None]


def labels(differing: Mapping[str, Sequence[Toml]], ids: Sequence[str]) -> list[str]:
    """Return a label for each run: the values of the fewest recipe keys that tell them apart, such as "scale 0.1".

    Where no keys do, the ids stand beside what they tell.

    Args:
        differing: Key -> its value for each run, for keys in which they differ.
        ids: A short name of each run.
    """
    chosen: list[str] = []
    kinds = 1
    while kinds < len(ids) and len(chosen) < _MOST_KEYS:
        counts = {key: _kinds(differing, [*chosen, key]) for key in differing if key not in chosen}
        best = max(counts, key=counts.__getitem__, default=None)
        if best is None or counts[best] == kinds:
            break
        chosen.append(best)
        kinds = counts[best]
    words = [", ".join(_words(key, differing[key][place]) for key in chosen) for place in range(len(ids))]
    pairs = zip(words, ids, strict=True)
    return [word if word and words.count(word) == 1 else f"{word} {name}".strip() for word, name in pairs]


def figure_rows(records: Sequence[Sequence[Results]]) -> list[FigureRow]:
    """Return every figure that was measured of a model, beside those of the others measured alike.

    Of several measurements of the same thing the one on the most images counts, of these under strict the one that
    leaves least, else the newest; of the radii of certificates a few are shown.

    Args:
        records: The results of each model's runs, oldest first.
    """
    found: dict[tuple[str, str], list[Number | None]] = {}
    for place, results in enumerate(records):
        for number in (number for record in results for number in numbers_of(record)):
            row = found.setdefault((number.name, number.what), [None] * len(records))
            before = row[place]
            row[place] = number if before is None or _counts_more(number, before) else before
    rows = [FigureRow(name, what, numbers) for (name, what), numbers in found.items() if not _is_other_rule(what)]
    rows.sort(key=lambda row: NAMES.index(row.name))
    # A loss says little, and nothing beside what was measured.
    rows = [row for row in rows if row.name != "loss"] or rows
    certified = [
        row for row in rows if row.name == "certified_accuracy" and any(one and one.value for one in row.numbers)
    ]
    step = max(1, -(-len(certified) // _MOST_RADII))
    return [row for row in rows if row.name != "certified_accuracy" or row in certified[::step]]


def number_cell(number: Number | None) -> str:
    """Return a figure as a cell: shares in percent with their interval; a dash where there is none."""
    if number is None:
        return "–"
    if number.name in _SHARES and number.low is not None and number.high is not None:
        return interval(number.value, number.low, number.high)
    return f"{100 * number.value:.1f}" if number.name.endswith("accuracy") else number_words(number.value)


def _counts_more(number: Number, before: Number) -> bool:
    """Return whether a later measurement stands for a model instead of an earlier one."""
    if (number.images or 0) != (before.images or 0):
        return (number.images or 0) > (before.images or 0)
    return " strict" not in number.what or number.value <= before.value


def _is_other_rule(what: str) -> bool:
    return ", mean" in what


def _kinds(differing: Mapping[str, Sequence[Toml]], keys: Sequence[str]) -> int:
    columns = [list(map(repr, differing[key])) for key in keys]
    return len(set(zip(*columns, strict=True)))


def _words(key: str, value: Toml) -> str:
    name = key.rpartition(".")[2]
    return value_words(value) if name in ("name", "type") else f"{name} {value_words(value)}"
