"""Format figures for people: rounding never makes a figure better than it is, and never turns it into zero."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal

# Digits of a percentage that are figures, and not the rounding of float64.
_EXACT = 9


def as_asked(radius: float) -> str:
    """Return a number that a user gave in the shortest decimal that means it: 0.15 -> "0.15", 1e-05 -> "0.00001"."""
    return format(_printed(radius).normalize(), "f")


def floor_radius(radius: float, decimals: int = 3) -> str:
    """Return a computed radius as text, rounded down: a certificate must not be rounded up.

    It has at least that many decimals, and as many as show two digits of it: 0.0004 -> "0.00040". What is rounded is
    the number that Python prints: 0.15 is a float just below 15/100, and means 0.15.
    """
    value = _printed(radius)
    if value:
        decimals = max(decimals, 1 - value.adjusted())
    return format(value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_FLOOR), "f")


def decimals_of(radius: float) -> int:
    """Return how many decimals ``as_asked`` shows."""
    return len(as_asked(radius).partition(".")[2])


def percent(share: float) -> str:
    """0.8791 -> "87.9"; only all is "100.0", and only nothing "0.0": 0.9997 -> "99.97"."""
    decimals = 1
    while True:
        text = _percent(share, decimals, ROUND_HALF_EVEN)
        if share in (0.0, 1.0) or Decimal(text) not in (0, 100) or decimals > _EXACT:
            return text
        decimals += 1


def floor_percent(share: float) -> str:
    """0.8799 -> "87.9": a lower bound, rounded down."""
    return _percent(share, 1, ROUND_FLOOR)


def ceil_percent(share: float) -> str:
    """0.8791 -> "88.0": an upper bound, rounded up."""
    return _percent(share, 1, ROUND_CEILING)


def percent_interval(low: float, high: float, between: str = ", ") -> str:
    """0.8712, 0.8861 -> "87.1, 88.7": both ends rounded outwards."""
    return f"{_percent(low, 1, ROUND_FLOOR)}{between}{_percent(high, 1, ROUND_CEILING)}"


def _printed(number: float) -> Decimal:
    """Return the number that Python prints, without the sign of a zero."""
    return Decimal(repr(float(number) + 0.0))


def _percent(share: float, decimals: int, rounding: str) -> str:
    # Below these digits 0.29 · 100 is less than 29.
    value = _printed(round(100 * float(share), _EXACT))
    return format(value.quantize(Decimal(1).scaleb(-decimals), rounding=rounding), "f")


def counted(number: int, noun: str) -> str:
    """Return a number of things: 1, "epoch" -> "1 epoch"; 20, "epoch" -> "20 epochs"; 2, "pass" -> "2 passes"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def number_words(value: float) -> str:
    """Three digits of a number, or all of a large one: 0.01234 -> "0.0123", 12345.6 -> "12346"."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def figure(name: str, value: float) -> str:
    """Return a metric as a person reads it: accuracies, which are shares, in percent."""
    return f"{percent(value)} %" if name.endswith("_accuracy") else number_words(value)


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that say something: ``8.2 s``, ``3 min 20 s``, ``2 d 3 h``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def size_words(size: float) -> str:
    """Return a number of bytes in the largest unit that fits: ``100 bytes``, ``1.5 KiB``, ``162.6 MiB``."""
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
