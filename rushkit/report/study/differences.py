"""The differences of a study's rows to its first one, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rushkit.report.study.cells import within
from rushkit.report.study.figures import Difference, Interval, Quantity
from rushkit.report.study.measured import Measured
from rushkit.statistics import holm, joined_interval, mcnemar, paired_interval, t_interval

# Beside strict on the same ball, a difference of these says nothing more of the robustness.
_NO_BOUNDS = ("paper", "published", "weaker")


@dataclass(frozen=True)
class RowFigures:
    """The figures of a line of the table, by column and seed.

    Attributes:
        label: The label of the row.
        samples: m; None without noise.
        figures: Column -> seed -> what was measured.
    """

    label: str
    samples: int | None
    figures: Mapping[Quantity, Mapping[int, Measured]]


def differences(rows: Sequence[RowFigures]) -> list[Difference]:
    """Return the difference of the first row to each of the others, in every column that both have.

    Of several lines of the first row, one for each m, the one with the m of the other counts, or else its last. An
    attack that the first row did not meet is compared with what *strict* leaves of it in the same ball.
    """
    if not rows:
        return []
    first = [row for row in rows if row.label == rows[0].label]
    found = [
        (quantity, _difference(baseline, row, quantity, theirs))
        for row in rows
        if row.label != rows[0].label
        for baseline in [next((one for one in first if one.samples == row.samples), first[-1])]
        for quantity, theirs in row.figures.items()
        if theirs and _says_something(quantity, row)
    ]
    shown = [(quantity, one) for quantity, one in found if one is not None]
    corrected = {quantity: _corrected([one for other, one in shown if other == quantity]) for quantity, _ in shown}
    return [next(corrected[quantity]) for quantity, _ in shown]


def _says_something(quantity: Quantity, row: RowFigures) -> bool:
    if quantity.protocol not in _NO_BOUNDS:
        return True
    return not any(other.protocol == "strict" and theirs for other, theirs in row.figures.items())


def _corrected(tests: Sequence[Difference]) -> Iterator[Difference]:
    """Yield the differences of one column with p-values that are corrected for their number."""
    corrected = iter(holm([p for test in tests for p in test.p_values]))
    for test in tests:
        yield replace(test, corrected=tuple(next(corrected) for _ in test.p_values))


def _difference(
    first: RowFigures, other: RowFigures, quantity: Quantity, theirs: Mapping[int, Measured]
) -> Difference | None:
    """Return one difference; None where the first row has nothing to compare with."""
    ball = next(iter(theirs.values())).ball
    strict = (
        figures
        for known, figures in first.figures.items()
        if known.protocol == "strict" and figures and ball and next(iter(figures.values())).ball == ball
    )
    ours = first.figures.get(quantity) or next(strict, None)
    if not ours:
        return None
    seeds = tuple(sorted(ours.keys() & theirs.keys()))
    place = other.label, (first.samples, other.samples), quantity.name, seeds
    if not seeds:
        return Difference(*place, problem="no seed in common")
    pairs = [(ours[seed], theirs[seed]) for seed in seeds]
    if any(one.labels != pairs[0][0].labels for pair in pairs for one in pair):
        return Difference(*place, problem="measured on other images")
    return _compared(Difference(*place), pairs)


def _compared(difference: Difference, pairs: Sequence[tuple[Measured, Measured]]) -> Difference:
    ours, theirs = (np.array([_shares(pair[side]) for pair in pairs]) for side in (0, 1))
    change = ours - theirs
    value, over_images = float(change.mean()), paired_interval(change.mean(axis=0))
    intervals = [Interval("images", *within(*over_images, -1.0, 1.0))]
    if len(pairs) > 1:
        over_seeds = t_interval(change.mean(axis=1))
        both = joined_interval(value, over_images, over_seeds)
        intervals += [
            Interval("seeds", *within(*over_seeds, -1.0, 1.0)),
            Interval("seeds and images", *within(*both, -1.0, 1.0)),
        ]
    right, wrong = ours > 0.5, theirs > 0.5
    only_first, only_other = (right & ~wrong).sum(axis=1), (wrong & ~right).sum(axis=1)
    return replace(
        difference,
        images=change.shape[1],
        value=value,
        intervals=tuple(intervals),
        only_first=tuple(only_first.tolist()),
        only_other=tuple(only_other.tolist()),
        p_values=tuple(float(mcnemar(*counts)) for counts in zip(only_first, only_other, strict=True)),
    )


def _shares(one: Measured) -> NDArray[np.float64]:
    """Return the share of votes that are right for each image, by index."""
    return np.array([one.shares[index] for index in sorted(one.shares)])
