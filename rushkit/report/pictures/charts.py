"""Charts as records: all that a drawing shows. ``svg`` draws one for a page, ``plots`` for a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rushkit.recipe.radius import eps_words
from rushkit.report.pictures.palette import LOOKS, look
from rushkit.rounding import floor_radius

Kind = Literal["line", "step", "points"]
# How an x is written in words: in six digits; as users write a radius, exactly; rounded down, as certificates are.
Written = Literal["number", "exact", "down"]
Points = Sequence[tuple[float, float]]
Spread = Sequence[tuple[float, float, float]]

# Up to so many points of a line are shown as such.
FEW = 12


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: What it shows, with its unit.
        low, high: Its ends; ``low`` is the smaller one.
        ticks: Where numbers stand, in order.
        log: Whether it is logarithmic; then both ends are positive.
    """

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def share(self, value: float) -> float:
        """Return how far along the axis a value lies, from 0 to 1; values outside lie on its ends."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: What sets it apart; may be empty where it is the only one.
        listed: What the legend calls it; None: its name; empty: it is not listed, since one of its look is that differs
            by its dashes alone, which the caption explains.
        points: (x, y), in order of x.
        spread: (x, low, high) of an interval around y, in order of x; empty for none.
        kind: Straight between the points; a step whose value holds from just after the point before; or points that
            nothing is known between.
        colour: The number of its look; lines of one model have one.
        dashed: Whether it is another kind of figure than the solid lines, as the caption says.
        marked: Whether the points are shown as such where they are few.
        written: How its x are written.
    """

    name: str
    points: Points
    spread: Spread = ()
    kind: Kind = "line"
    colour: int = 0
    dashed: bool = False
    marked: bool = True
    written: Written = "number"
    listed: str | None = None

    @property
    def in_legend(self) -> str:
        """What the legend calls it; empty if it is not listed."""
        return self.name if self.listed is None else self.listed

    @property
    def dotted(self) -> bool:
        """Whether every point is shown as such."""
        return self.kind == "points" or (self.marked and len(self.points) <= FEW)

    @property
    def long(self) -> bool:
        """Whether markers stand on its way, and not at its points, where there are several colours."""
        return not self.dotted and len(self.points) > FEW


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: Says what it shows, in lower case with hyphens: the name of a file. Not always unique in a report.
        title: Its heading.
        label: What it shows, for who cannot see it: the finding in a sentence or two.
        x: The horizontal axis.
        y: The vertical axis.
        series: What is drawn, in the order of the legend.
        caption: What one must know to read it, and what all series share.
        rows: Where x counts things and measures nothing: their names. The one at x = 0 is the first of them; they
            stand one below the other, and y runs from left to right.
    """

    name: str
    title: str
    label: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    caption: str = ""
    rows: tuple[str, ...] = ()

    @property
    def legend(self) -> list[Series]:
        """The series that a legend names; none where there is only one."""
        return [one for one in self.series if one.in_legend] if len(self.series) > 1 else []

    @property
    def several(self) -> bool:
        """Whether there are several colours, so that long lines have markers on their way."""
        return len({one.colour for one in self.series}) > 1


def axis(label: str, values: Sequence[float], ends: tuple[float, float] | None = None, log: bool = False) -> Axis:
    """Return an axis for values.

    Args:
        label: What it shows, with its unit.
        values: At least one; all positive on a logarithmic axis.
        ends: Its ends; None takes those of the values.
        log: A logarithmic axis, with ticks at the values, for a few of them.
    """
    low, high = ends or (min(values), max(values))
    if high <= low:
        low, high = (low / 2, low * 2) if log else (low - 0.5, low + 0.5)
    return Axis(label, low, high, tuple(sorted(set(values))) if log else tuple(ticks(low, high)), log)


def percent_axis(label: str) -> Axis:
    """Return an axis of percentages, from 0 to 100."""
    return axis(label, (0, 100))


def xs(series: Sequence[Series]) -> list[float]:
    """Return the x of all points, for an axis."""
    return [x for one in series for x, _ in one.points]


def ys(series: Sequence[Series]) -> list[float]:
    """Return the y of all points, for an axis."""
    return [y for one in series for _, y in one.points]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from ``low`` to ``high``, at most ``most`` of them."""
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (unit * factor) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]


def slug(*words: str) -> str:
    """Return words as the name of a file: lower case letters, digits and hyphens, at most 80 of them."""
    text = "".join(sign if sign.isascii() and sign.isalnum() else " " for sign in " ".join(words).lower())
    return "-".join(text.split())[:80].strip("-") or "chart"


def written(value: float, how: Written) -> str:
    """Return an x as words."""
    if how == "exact":
        return eps_words(value)
    return floor_radius(value) if how == "down" else f"{value:.6g}"


def waymarks(one: Series, most: int = 5) -> list[tuple[float, float]]:
    """Return points on a long line where its marker stands, shifted for each look so that few lie on each other."""
    (first, _), (last, _) = one.points[0], one.points[-1]
    shift = (1 + look(one.colour)) / (LOOKS + 1)
    return [(x, height(one, x)) for x in (first + (place + shift) / most * (last - first) for place in range(most))]


def height(one: Series, x: float) -> float:
    """Return the y of a line at an x between its ends."""
    after = next((place for place, (at, _) in enumerate(one.points) if at >= x), len(one.points) - 1)
    (left, low), (right, high) = one.points[max(after - 1, 0)], one.points[after]
    if one.kind == "step" or right <= left:
        return high
    return low + (high - low) * (x - left) / (right - left)
