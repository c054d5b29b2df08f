"""Numbers as people write them in recipes: ``8/255`` beside 0.03."""

from __future__ import annotations

import math


def number(text: str) -> float:
    """Return the number that a text says: ``"8/255"`` or ``"0.03"``.

    Raises:
        ValueError: it says none, or one that is not finite; the message says what it must be.
    """
    numerator, slash, denominator = text.partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError("must be a number such as 0.03 or 8/255") from None
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def is_ratio(value: object) -> bool:
    """Return whether a value is a text that says a ratio such as ``"8/255"``."""
    if not isinstance(value, str) or "/" not in value:
        return False
    try:
        number(value)
    except ValueError:
        return False
    return True
