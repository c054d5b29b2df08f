"""Turns results and metrics into the points of curves; shares are in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rushkit.errors import DataError
from rushkit.report.bounds import Curve, TopProbability
from rushkit.results.certification import Certification
from rushkit.run.info import RunInfo
from rushkit.run.metrics import read_metrics
from rushkit.run.names import METRICS_FILE
from rushkit.statistics import wilson_interval

# More points than this are not seen on a screen.
MOST_POINTS = 300


def certified_points(results: Certification) -> Curve:
    """Return certified accuracy over the radius, with its 95% Wilson interval.

    Its value at ``radius[i]`` is the accuracy at that radius: the share of images with at least that certified
    radius. After sequential tests it has the tested radii only.
    """
    if results.mode == "sequential":
        rows = results.certified
        columns = (tuple(getattr(row, key) for row in rows) for key in ("radius", "value", "low", "high"))
        return Curve(True, *columns)
    outcomes = results.outcomes
    right = np.array(outcomes.predicted) == np.array(outcomes.labels)
    radii = np.sort(np.array(outcomes.radius, dtype=np.float64)[right])
    radius = np.concatenate([[0.0], radii, [max(results.reach, 1e-12)]])
    count = np.concatenate([[len(radii)], np.arange(len(radii), 0, -1), [0]])
    low, high = wilson_interval(count, len(right))
    return Curve(False, *(tuple(column.tolist()) for column in (radius, count / len(right), low, high)))


def top_probability(results: Certification) -> TopProbability | None:
    """Return how p_A is distributed over the images; None after sequential tests, which end before they measure it."""
    if results.mode == "sequential":
        return None
    outcomes = results.outcomes
    rows = list(zip(outcomes.p_lower, outcomes.predicted, outcomes.labels, strict=True))
    right = [p for p, predicted, label in rows if predicted == label]
    other = [p for p, predicted, label in rows if predicted != label]
    return TopProbability(results.mode == "splits", _at_least(right, len(rows)), _at_least(other, len(rows)))


def _at_least(values: Sequence[float], total: int) -> tuple[tuple[float, float], ...]:
    """Return (value, share of ``total`` that has at least it), from 0 on; empty without values."""
    if not values:
        return ()
    share = len(values) / total
    return (0.0, share), *((value, share * (1 - below)) for value, below in distribution(values, 100))


def training_curves(run: RunInfo) -> dict[str, list[tuple[float, float]]]:
    """Return each figure of metrics.jsonl over the epoch; losses of steps are averaged to a few hundred points.

    Empty where there are none, or the file is damaged.
    """
    try:
        lines = read_metrics(run.path / METRICS_FILE)
    except DataError:
        return {}
    steps = [line for line in lines if line.get("kind") == "step"]
    epochs = [line for line in lines if line.get("kind") == "epoch" and "epoch" in line]
    per_epoch = max((line["step"] / line["epoch"] for line in epochs if line["epoch"]), default=1.0)
    curves: dict[str, list[tuple[float, float]]] = {}
    for name in ("loss", "lr"):
        points = [(line["step"] / per_epoch, line[name]) for line in steps if name in line]
        if points:
            curves[name] = thin(points)
    for line in epochs:
        for name, value in line.items():
            if name not in ("step", "epoch", "kind", "loss", "lr") and isinstance(value, int | float):
                curves.setdefault(name, []).append((float(line["epoch"]), float(value)))
    return curves


def distribution(values: Sequence[float], most: int = 50) -> list[tuple[float, float]]:
    """Return (value, share of the values that are at most that), at ``most`` even steps of the share from 0 to 1."""
    shares = np.linspace(0, 1, min(most, len(values)) + 1)
    return [(float(x), float(y)) for x, y in zip(np.quantile(values, shares), shares, strict=True)]


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most ``most`` points: the means of equal stretches."""
    if len(points) <= most:
        return [(float(x), float(y)) for x, y in points]
    parts = np.array_split(np.asarray(points, dtype=np.float64), most)
    return [(float(part[:, 0].mean()), float(part[:, 1].mean())) for part in parts]
