"""The figures of a row in one column: each seed, their mean, and the intervals around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rushkit.report.study.figures import CellFigure, Interval, SeedFigure
from rushkit.report.study.measured import Measured
from rushkit.results.intervals import mean_interval
from rushkit.statistics import joined_interval, t_interval


def cell_figure(seeds: Sequence[SeedFigure], found: Sequence[Measured]) -> CellFigure:
    """Return the figures of a row in one column.

    Args:
        seeds: Every seed, done or not.
        found: What was measured of those that are done.
    """
    if not found:
        return CellFigure(tuple(seeds))
    if problem := _differ(found):
        return CellFigure(tuple(seeds), problem=problem)
    values = [one.value for one in found]
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return CellFigure(tuple(seeds), float(np.mean(values)), spread, _intervals(found))


def within(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    """Return an interval without what no such figure can be."""
    return max(low, least), min(high, most)


def _intervals(found: Sequence[Measured]) -> tuple[Interval, ...]:
    """Return the intervals over the images, and of several seeds over these and over both."""
    if len(found) == 1:
        return (Interval("images", found[0].low, found[0].high),)
    values, centre = [one.value for one in found], float(np.mean([one.value for one in found]))
    images = len(found[0].shares)
    over_images = mean_interval(centre * images, images)
    over_seeds = t_interval(values)
    return (
        Interval("images", *over_images),
        Interval("seeds", *within(*over_seeds, 0.0, 1.0)),
        Interval("seeds and images", *within(*joined_interval(centre, over_images, over_seeds), 0.0, 1.0)),
    )


def _differ(found: Sequence[Measured]) -> str:
    """Return in what the measurements of several seeds differ that must be alike; empty if in nothing."""
    if not _alike(one.how for one in found):
        return f"the seeds were measured differently: {' / '.join(_words(one) for one in found)}"
    if not _alike(sorted(one.labels.items()) for one in found):
        return "the seeds were measured on other images"
    return ""


def _words(one: Measured) -> str:
    return ", ".join(one.how) or "as usual"


def _alike(values: Iterable[object]) -> bool:
    first, *others = values
    return all(other == first for other in others)
