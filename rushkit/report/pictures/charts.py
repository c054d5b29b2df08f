"""Line charts as inline SVG: colours and fonts are the page's, so that they follow its light and dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from markupsafe import Markup, escape

WIDTH, HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 10, 42
COLOURS = 6
# Up to so many points are shown as such.
_FEW = 12
# How close two ticks of the x axis may come.
_APART = 34


def six_digits(x: float) -> str:
    """Return a number as a tooltip shows it."""
    return f"{x:.6g}"


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: For the legend.
        points: (x, y), in order of x.
        spread: (x, low, high), whiskers where the points are shown, else a band; empty for none.
        kind: Straight between the points; a step down just after each; or points that nothing is known between.
        colour: Its number among the page's colours.
        dashed: Whether the line is.
        marked: Whether the points are shown as such where they are few.
        x_words: Writes x where a point is pointed at.
    """

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[tuple[float, float, float]] = ()
    kind: Literal["line", "step", "points"] = "line"
    colour: int = 0
    dashed: bool = False
    marked: bool = True
    x_words: Callable[[float], str] = six_digits

    @property
    def shade(self) -> int:
        """Its colour, of those that the page has."""
        return self.colour % COLOURS


@dataclass(frozen=True)
class Chart:
    """A drawing with its words.

    Attributes:
        title: Above it.
        label: What a screen reader says of it.
        drawing: The content of its SVG element.
        series: For the legend.
        caption: Below it.
        width: Width of the drawing, in its own units, like ``height``.
    """

    title: str
    label: str
    drawing: Markup
    series: Sequence[Series]
    caption: str
    width: int = WIDTH
    height: int = HEIGHT


def chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    y_range: tuple[float, float] | None = None,
    caption: str = "",
    x_log: bool = False,
) -> Chart:
    """Return a chart with axes.

    Args:
        title: Above it.
        series: At least one, each with at least one point.
        x_label: What x is, with its unit.
        y_label: What y is, with its unit.
        y_range: The ends of the y axis; None takes those of the points.
        caption: Below it.
        x_log: A logarithmic x axis, with ticks at the points; for a few x, all positive.
    """
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    x_ends = (_log_ends if x_log else _ends)(xs)
    frame = _Frame(*x_ends, *(y_range or _ends(ys)), x_ticks=sorted(set(xs)) if x_log else ticks(*x_ends), x_log=x_log)
    body = [
        frame.axes(x_label, y_label),
        *(_spread(one, frame, place - (len(series) - 1) / 2) for place, one in enumerate(series)),
        *(_line(one, frame) for one in series),
    ]
    # Every word in it was escaped where it was put in.
    return Chart(title, f"{title}: {y_label} over {x_label}", Markup("".join(body)), series, caption)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from ``low`` to ``high``, at most ``most`` of them."""
    span = high - low
    unit = 10.0 ** math.floor(math.log10(span / most))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10, 20) if span / (unit * factor) <= most - 1)
    first = math.ceil(low / step - 1e-9)
    return [step * index for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Frame:
    """Maps data to the coordinates of the drawing."""

    x0: float
    x1: float
    y0: float
    y1: float
    x_ticks: Sequence[float]
    x_log: bool = False

    def x(self, value: float) -> str:
        scale = math.log if self.x_log else float
        share = (scale(value) - scale(self.x0)) / (scale(self.x1) - scale(self.x0))
        return f"{_LEFT + share * (WIDTH - _LEFT - _RIGHT):.1f}"

    def y(self, value: float) -> str:
        share = (min(max(value, self.y0), self.y1) - self.y0) / (self.y1 - self.y0)
        return f"{HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM):.1f}"

    def axes(self, x_label: str, y_label: str) -> str:
        left, right, top, bottom = _LEFT, WIDTH - _RIGHT, _TOP, HEIGHT - _BOTTOM
        parts = []
        for value in ticks(self.y0, self.y1):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y}" y2="{y}"/>')
            parts.append(f'<text x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        last = -math.inf
        for value in self.x_ticks:
            x = self.x(value)
            if float(x) - last >= _APART:
                parts.append(f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{value:.4g}</text>')
                last = float(x)
        parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        middle = (top + bottom) / 2
        parts.append(f'<text x="{(left + right) / 2}" y="{HEIGHT - 7}" text-anchor="middle">{escape(x_label)}</text>')
        turned = f'x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})"'
        return "".join([*parts, f"<text {turned}>{escape(y_label)}</text>"])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _log_ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low / 2, high * 2)


def _line(one: Series, frame: _Frame) -> str:
    colour = f"c{one.shade}"
    if one.kind == "points" or (one.marked and len(one.points) <= _FEW):
        dots = "".join(
            f'<circle class="dot {colour}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="4">'
            f"<title>{escape(one.name)}: {one.x_words(x)}, {y:.4g}</title></circle>"
            for x, y in one.points
        )
    else:
        dots = ""
    if one.kind == "points":
        return dots
    style = f'class="line {colour}{" dashed" if one.dashed else ""}"'
    return f'<path {style} d="{_path(one, [(x, y) for x, y in one.points], frame)}"/>{dots}'


def _spread(one: Series, frame: _Frame, place: float) -> str:
    colour = f"c{one.shade}"
    if not one.spread:
        return ""
    if one.kind == "points" or (one.kind == "line" and len(one.points) <= _FEW):
        return "".join(
            # Side by side, so that those at one x can be told apart.
            f'<path class="whisker {colour}" d="M{float(frame.x(x)) + 3 * place:.1f} {frame.y(low)}V{frame.y(high)}"/>'
            for x, low, high in one.spread
        )
    upper = _path(one, [(x, high) for x, _, high in one.spread], frame)
    lower = _path(one, [(x, low) for x, low, _ in one.spread], frame, back=True)
    return f'<path class="band {colour}" d="{upper}L{lower[1:]}Z"/>'


def _path(one: Series, points: Sequence[tuple[float, float]], frame: _Frame, back: bool = False) -> str:
    if one.kind == "step":
        # The value of a point holds from just after the point before it.
        corners = [points[0]]
        for (before, _), (x, y) in pairwise(points):
            corners += [(before, y), (x, y)]
        points = corners
    ordered = reversed(points) if back else points
    return "M" + "L".join(f"{frame.x(x)} {frame.y(y)}" for x, y in ordered)
