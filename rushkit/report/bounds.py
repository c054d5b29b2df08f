"""Curves over what certifications bound."""

from __future__ import annotations

from dataclasses import dataclass

from rushkit.results.jsonable import Figures


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


@dataclass(frozen=True)
class TopProbability(Figures):
    """How p_A, the probability of the class that is certified, is distributed over the images of a certification.

    Attributes:
        exact: Whether it is known exactly; else it is the lower bound that the certificate uses.
        right: (p_A, share of all images whose class is right and that have at least this p_A), from p_A = 0 on.
        other: The same of the images whose class is wrong, or that have none.
    """

    exact: bool
    right: tuple[tuple[float, float], ...]
    other: tuple[tuple[float, float], ...]
