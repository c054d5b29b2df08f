"""The place of each row of a ranking: rows of one figure share it."""

from __future__ import annotations

from collections.abc import Sequence


def shared_places(figures: Sequence[float]) -> list[int]:
    """Return the place of each figure of a sorted list; equal figures share one, and the places after it are skipped.

    Example::

        shared_places([0.9, 0.5, 0.5, 0.1])    # [1, 2, 2, 4]
    """
    places: list[int] = []
    for number, figure in enumerate(figures, start=1):
        tied = number > 1 and figure == figures[number - 2]
        places.append(places[-1] if tied else number)
    return places
