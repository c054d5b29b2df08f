"""Check that the lines of a log are plausible: counts that add up, labels and images that exist.

The hash chain detects lines that were altered after they were written; these checks detect impossible values.
Each function raises ValueError with the reason.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Record = dict[str, Any]


def check_seconds(record: Record) -> None:
    """Check that a line took a finite, non-negative number of seconds."""
    seconds = record["seconds"]
    demand(type(seconds) in (int, float) and 0 <= seconds < math.inf, "a duration is no number")


def integers(values: Any, shape: tuple[int, ...] | None, low: int, high: int | None, what: str) -> NDArray[np.int64]:
    """Return the values as an array of a shape (None: any number of them). Raises ValueError outside [low, high]."""
    array = np.array(values) if values != [] else np.zeros(0, dtype=np.int64)
    if array.dtype != np.int64 or array.shape != (shape or (array.size,)):
        raise ValueError(f"{what} is missing or no whole number")
    if array.size and (array.min() < low or (high is not None and array.max() > high)):
        raise ValueError(f"{what} is out of range")
    return array


def demand(holds: bool, otherwise: str) -> None:
    """Raise ValueError with the reason unless the condition holds."""
    if not holds:
        raise ValueError(otherwise)
