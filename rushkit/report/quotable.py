"""Which of several attacks is quoted as the robustness: of those on the most images the one that leaves least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rushkit.report.figures import MeasuredAttack
from rushkit.report.paper import EPS, NORM

# In this order norms are preferred, where several were attacked.
_NORMS = ("linf", "l2", "l1")
# How far apart two floats may be that mean one radius.
SAME_RADIUS = 1e-9
_TEST = "test"


def quoted(rows: Sequence[MeasuredAttack]) -> MeasuredAttack | None:
    """Return the row to quote of one run's attacks, which all were on the same weights; None if there are none.

    Args:
        rows: The rows that may be quoted, oldest first.
    """
    return lowest(most_images(ball_to_quote(rows))) if rows else None


def lowest(rows: Sequence[MeasuredAttack]) -> MeasuredAttack:
    """Return the row that leaves least, of equals the newest; ``rows`` has the oldest first."""
    return min(reversed(rows), key=lambda row: row.majority.accuracy)


def ball_to_quote(rows: Sequence[MeasuredAttack]) -> list[MeasuredAttack]:
    """Return the rows in the ball to quote, in the first of l-inf, l2 and l1 that was attacked.

    Those on test images come before others.
    """
    rows = [row for row in rows if on_test(row.record.split)] or rows
    norm = next((norm for norm in _NORMS if any(row.record.norm == norm for row in rows)), None)
    if norm is None:
        return []
    eps = asked_radius(norm, [row.record.eps for row in rows if row.record.norm == norm])
    return [row for row in rows if (row.record.norm, row.record.eps) == (norm, eps)]


def most_images(rows: Sequence[MeasuredAttack], weights: Mapping[str, str] | None = None) -> list[MeasuredAttack]:
    """Return those of one ball's rows among which the lowest is quoted: on the same images and of the same m.

    Of the groups that are alike, that of the most images counts, of equals that of the largest m, then the newest: what
    an attack leaves of 6 images never displaces what one leaves of 64.

    Args:
        rows: The rows, oldest first; at least one.
        weights: Run -> what tells the weights that it measured; None: all measured the same.
    """
    groups: dict[object, list[MeasuredAttack]] = {}
    places: dict[object, int] = {}
    for place, row in enumerate(rows):
        about = row.record
        key = about.split, str(row.noise), about.samples, images_of(row), weights and weights[row.run]
        groups.setdefault(key, []).append(row)
        places[key] = place
    best = max(groups, key=lambda key: (groups[key][0].record.images, groups[key][0].record.samples, places[key]))
    return groups[best]


def images_of(row: MeasuredAttack) -> tuple[tuple[int, int], ...]:
    """Return index and label of each image that was attacked, in one order for all rows on these images."""
    outcomes = row.record.outcomes
    return tuple(sorted(zip(outcomes.indices, outcomes.labels, strict=True)))


def asked_radius(norm: str, radii: Sequence[float]) -> float:
    """Return the radius to quote: 8/255 in l-inf, which the field asks about, where it was attacked; else the largest.

    Args:
        norm: The norm of the balls.
        radii: Their radii, pixel units; at least one.
    """
    asked = (eps for eps in radii if norm == NORM and abs(eps - EPS) < SAME_RADIUS)
    return next(asked, max(radii))


def on_test(split: str) -> bool:
    """Return whether "cifar10/test", say, is the test split."""
    return split.rpartition("/")[2] == _TEST
