"""Draw a chart as inline SVG: colours and fonts are the page's, so that it follows its light and dark.

Few decimals, and no more points than a screen shows: a page of many models stays small.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from markupsafe import Markup, escape

from rushkit.errors import shorten
from rushkit.report.pictures.charts import FEW, Chart, Series, Spread, waymarks, written
from rushkit.report.pictures.palette import colour_class, marker

WIDTH, HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 10, 42
# Between the middles of two rows, and how far the rows' own names may reach; a sign is about so wide on a phone.
_ROW, _NAMES, _SIGN = 24, 18, 8.5
_MARK = 3.6
# So many signs of the vertical axis' name stand in a line, so far apart are its lines, and there begins the first.
_ALONG, _NAME_LINE, _NAME_AT = 26, 16, 13
# Points that are pointed at say their figures, unless there are too many to do so.
_TITLES = 2 * FEW


@dataclass(frozen=True)
class Drawing:
    """A chart as SVG.

    Attributes:
        body: The content of the SVG element.
        width: Width in its own units, like ``height``.
    """

    body: Markup
    width: int
    height: int


def draw(chart: Chart) -> Drawing:
    """Return a chart as SVG. Every word in it is escaped."""
    frame = _Frame(chart)
    middle = (len(chart.series) - 1) / 2
    body = [
        _axes(frame),
        *(_spread(one, frame, place - middle) for place, one in enumerate(chart.series)),
        *(_line(one, frame, place - middle) for place, one in enumerate(chart.series)),
    ]
    return Drawing(Markup("".join(body)), WIDTH, frame.height)


def sample(one: Series, chart: Chart) -> Markup:
    """Return how a series of a chart looks, for its legend: 34 by 12 units."""
    line = "" if one.kind == "points" else f'<path class="{_line_class(one)}" d="M1 6H33"/>'
    marked = one.dotted or (chart.several and one.long)
    mark = _mark(17, 6, one.colour, colour_class(one.colour)) if marked else ""
    return Markup(f"{line}{mark}")


class _Frame:
    """Maps data to the coordinates of the drawing."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.names = [shorten(" ".join(name.split()), _NAMES) for name in chart.rows]
        longest = max(map(len, self.names), default=0)
        self.label = [] if chart.rows else textwrap.wrap(chart.y.label, _ALONG)
        left = _LEFT + _NAME_LINE * max(0, len(self.label) - 1)
        self.left = max(left, round(10 + _SIGN * longest)) if chart.rows else left
        self.right, self.top = WIDTH - _RIGHT, _TOP
        self.height = _TOP + _ROW * len(chart.rows) + _BOTTOM if chart.rows else HEIGHT
        self.bottom = self.height - _BOTTOM

    def across(self, value: float) -> float:
        axis = self.chart.y if self.chart.rows else self.chart.x
        return self.left + axis.share(value) * (self.right - self.left)

    def up(self, value: float) -> float:
        return self.bottom - self.chart.y.share(value) * (self.bottom - self.top)

    def row(self, place: float) -> float:
        return self.top + (place + 0.5) * _ROW

    def at(self, x: float, y: float, shift: float = 0) -> tuple[float, float]:
        """Return where a point stands; in rows that of each series is moved by some units."""
        return (self.across(y), self.row(x) + shift) if self.chart.rows else (self.across(x), self.up(y))


def _axes(frame: _Frame) -> str:
    chart = frame.chart
    left, right, top, bottom = frame.left, frame.right, frame.top, frame.bottom
    parts = []
    if chart.rows:
        for place, name in enumerate(frame.names):
            y = frame.row(place) + 4
            parts.append(f'<text x="{left - 8}" y="{_number(y)}" text-anchor="end">{escape(name)}</text>')
    else:
        for value in chart.y.ticks:
            y = frame.up(value)
            parts.append(f'<path class="grid" d="M{left} {_number(y)}H{right}"/>')
            parts.append(f'<text x="{left - 6}" y="{_number(y + 4)}" text-anchor="end">{value:.6g}</text>')
    across = chart.y if chart.rows else chart.x
    free = -1.0
    for value in across.ticks:
        x, words = frame.across(value), f"{value:.6g}"
        wide = max(4, len(words)) * _SIGN / 2
        if x - wide >= free:
            if chart.rows:
                parts.append(f'<path class="grid" d="M{_number(x)} {top}V{bottom}"/>')
            parts.append(f'<text x="{_number(x)}" y="{bottom + 16}" text-anchor="middle">{words}</text>')
            free = x + wide
    parts.append(f'<path class="axis" d="M{left} {bottom}H{right}"/>')
    below = f'x="{_number((left + right) / 2)}" y="{frame.height - 7}" text-anchor="middle"'
    parts.append(f"<text {below}>{escape(across.label)}</text>")
    middle = _number((top + bottom) / 2)
    for place, line in enumerate(frame.label):
        x = _NAME_AT + _NAME_LINE * place
        turned = f'x="{x}" y="{middle}" text-anchor="middle" transform="rotate(-90 {x} {middle})"'
        parts.append(f"<text {turned}>{escape(line)}</text>")
    return "".join(parts)


def _line(one: Series, frame: _Frame, place: float) -> str:
    colour = colour_class(one.colour)
    line = "" if one.kind == "points" else f'<path class="{_line_class(one)}" d="{_path(one, frame)}"/>'
    if not one.dotted:
        way = waymarks(one) if frame.chart.several and one.long else []
        marks = (_mark(*frame.at(x, y), one.colour, colour) for x, y in way)
        return f"{line}{''.join(marks)}"
    titled = len(one.points) <= _TITLES
    return line + "".join(
        _mark(*frame.at(x, y, 5 * place), one.colour, colour, _title(one, frame.chart, x, y) if titled else "")
        for x, y in one.points
    )


def _line_class(one: Series) -> str:
    return f"line {colour_class(one.colour)}{' dashed' if one.dashed else ''}"


def _title(one: Series, chart: Chart, x: float, y: float) -> str:
    at = chart.rows[round(x)] if chart.rows else written(x, one.written)
    return f"{one.name}: {at}, {y:.4g}" if one.name else f"{at}, {y:.4g}"


def _mark(x: float, y: float, number: int, colour: str, title: str = "") -> str:
    _, outline, filled = marker(number)
    kind = f"dot {colour}" if filled else f"dot open {colour}"
    if outline is None:
        shape, attributes = "circle", f'cx="{_number(x)}" cy="{_number(y)}" r="{_MARK}"'
    else:
        corners = "L".join(f"{_number(x + _MARK * dx)} {_number(y + _MARK * dy)}" for dx, dy in outline)
        shape, attributes = "path", f'd="M{corners}Z"'
    if not title:
        return f'<{shape} class="{kind}" {attributes}/>'
    return f'<{shape} class="{kind}" {attributes}><title>{escape(title)}</title></{shape}>'


def _spread(one: Series, frame: _Frame, place: float) -> str:
    colour = colour_class(one.colour)
    if not one.spread:
        return ""
    if frame.chart.rows:
        return "".join(
            f'<path class="whisker {colour}" d="M{_number(frame.across(low))} {_number(frame.row(x) + 5 * place)}'
            f'H{_number(frame.across(high))}"/>'
            for x, low, high in one.spread
        )
    if one.kind != "step" and one.dotted:
        # Side by side, so that those at one x can be told apart.
        beside = min(3, 18 / len(frame.chart.series))
        return "".join(
            f'<path class="whisker {colour}" d="M{_number(frame.across(x) + beside * place)} {_number(frame.up(low))}'
            f'V{_number(frame.up(high))}"/>'
            for x, low, high in one.spread
        )
    return f'<path class="band {colour}" d="{_band(one, one.spread, frame)}"/>'


def _band(one: Series, spread: Spread, frame: _Frame) -> str:
    """Return the outline of a band: along its upper edge, and back along the lower one."""
    upper = [frame.at(x, high) for x, _, high in spread]
    lower = [frame.at(x, low) for x, low, _ in spread]
    if one.kind == "step":
        return f"M{_stairs(upper)}L{_stairs(lower, back=True)}Z"
    return f"M{_straight(upper)}L{_straight(lower[::-1])}Z"


def _path(one: Series, frame: _Frame) -> str:
    points = [frame.at(x, y) for x, y in one.points]
    return "M" + (_stairs(points) if one.kind == "step" else _straight(points))


def _straight(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{_number(x)} {_number(y)}" for x, y in _seen(points))


def _seen(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the points that can be seen: of many within half a unit the first, the outermost and the last."""
    for _, group in groupby(points, key=lambda point: round(2 * point[0])):
        column = list(group)
        if len(column) <= 4:
            yield from column
            continue
        lowest, highest = (pick(range(len(column)), key=lambda place: column[place][1]) for pick in (min, max))
        yield from (column[place] for place in sorted({0, lowest, highest, len(column) - 1}))


def _stairs(points: Sequence[tuple[float, float]], back: bool = False) -> str:
    """Return the path of steps that only rise or only fall; those that lie within half a unit are one.

    The value of a point holds from just after the point before it.
    """
    coarse = [(round(2 * x) / 2, y) for x, y in points]
    # Where points have one x, the line arrives at the height of the first of them.
    corners = [coarse[0]] + [after for before, after in pairwise(coarse) if before[0] != after[0]]
    corners += [coarse[-1]] if corners[-1] != coarse[-1] else []
    moves = corners[::-1] if back else corners
    parts, (x, y) = [f"{_number(moves[0][0])} {_number(moves[0][1])}"], moves[0]
    for next_x, next_y in moves[1:]:
        steps = (("H", next_x, x), ("V", next_y, y)) if back else (("V", next_y, y), ("H", next_x, x))
        parts += [f"{way}{_number(to)}" for way, to, at in steps if _number(to) != _number(at)]
        x, y = next_x, next_y
    return "".join(parts)


def _number(value: float) -> str:
    """Return a coordinate with one decimal at most."""
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
