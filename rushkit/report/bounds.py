"""Curves over what certifications bound."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.report.jsonable import Figures


@dataclass(frozen=True)
class Curve(Figures):
    """Certified accuracy over the radius, with its 95% Wilson interval.

    Attributes:
        tested: Whether these are points at tested radii, with no curve between them (sequential tests).
        radius: Pixel units. Unless ``tested``, the value at ``radius[i]`` holds from just above ``radius[i - 1]`` on.
        value: Shares in [0, 1], as are ``low`` and ``high``.
    """

    tested: bool
    radius: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
