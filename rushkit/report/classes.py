"""Accuracy class by class, with and without an attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rushkit.report.breakdown import ClassAccuracy, ClassShare
from rushkit.results.attacks import AttackRow
from rushkit.results.intervals import mean_interval


def classes_under_attack(row: AttackRow, names: Sequence[str] = ()) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each class under an attack, beside that of the same images as they are.

    Args:
        row: The attack.
        names: Of the classes; empty: not known.
    """
    places: dict[int, list[int]] = {}
    for place, label in enumerate(row.outcomes.labels):
        places.setdefault(label, []).append(place)
    clean, right = row.outcomes.clean_right["majority"], row.outcomes.right["majority"]
    return tuple(
        ClassAccuracy(_name(label, names), len(own), _share(clean, own, row.votes), _share(right, own, row.votes))
        for label, own in sorted(places.items())
    )


def classes_of_matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each class by a confusion matrix, whose rows are labels."""
    rows: Mapping[int, Sequence[int]] = {label: row for label, row in enumerate(counts) if sum(row)}
    return tuple(
        ClassAccuracy(_name(label, names), sum(row), _interval(row[label], sum(row))) for label, row in rows.items()
    )


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _share(right: Sequence[int], places: Sequence[int], votes: int) -> ClassShare:
    return _interval(sum(right[place] for place in places) / votes, len(places))


def _interval(total: float, images: int) -> ClassShare:
    return ClassShare(total / images, *mean_interval(total, images))
