"""Draws a ladder as the content of an SVG element, in the page's colours: a bar and a whisker for each rung.

Names of models stand outside of it. Every word that it puts in is escaped.
"""

from __future__ import annotations

import textwrap

from markupsafe import Markup, escape

from rushkit.report.pictures.ladder import Ladder, LadderGap, LadderRung

# In units of the drawing: a phone shows it at about its own size.
WIDTH = 360
_LEFT, _RIGHT, _TOP = 78, 190, 6
_WORDS = _RIGHT + 10
# So many signs have room beside the axis, and so many in its place.
_BESIDE, _ACROSS = 20, 38
_ROW, _LANE, _BAR = 42, 34, 14
_TICKS = (0, 25, 50, 75, 100)


def ladder_height(ladder: Ladder) -> int:
    """Return the height of the drawing, ``WIDTH`` units wide."""
    return _bottom(ladder) + 22


def draw_ladder(ladder: Ladder) -> Markup:
    """Return the content of the SVG element, ``WIDTH`` by ``ladder_height`` units."""
    bottom = _bottom(ladder)
    parts = [_axis(bottom)]
    top = _TOP
    for rung in ladder.rungs:
        parts.append(_rung(rung, top))
        top += _ROW
        if rung.name == "paper" and ladder.gap is not None:
            parts.append(_gap(ladder.gap, top))
            top += _LANE
    # Every word in it was escaped where it was put in.
    return Markup("".join(parts))


def _bottom(ladder: Ladder) -> int:
    return _TOP + _ROW * len(ladder.rungs) + (_LANE if ladder.gap is not None else 0)


def _x(share: float) -> float:
    return round(_LEFT + min(max(share, 0.0), 1.0) * (_RIGHT - _LEFT), 1)


def _axis(bottom: int) -> str:
    parts = []
    for tick in _TICKS:
        x = _x(tick / 100)
        parts.append(f'<path class="grid" d="M{x} {_TOP}V{bottom}"/>')
        if tick % 50 == 0:
            words = f"{tick} %" if tick else "0"
            parts.append(f'<text class="fine" x="{x}" y="{bottom + 15}" text-anchor="middle">{words}</text>')
    return "".join(parts)


def _rung(rung: LadderRung, top: int) -> str:
    middle = top + 17
    parts = [f'<text class="rung" x="0" y="{top + 16}">{escape(rung.name)}</text>']
    if rung.under:
        parts.append(f'<text class="fine" x="0" y="{top + 31}">{escape(rung.under)}</text>')
    if rung.share is None or rung.low is None or rung.high is None:
        return "".join([*parts, _lacking(rung.words, middle)])
    x, low, high = _x(rung.share), _x(rung.low), _x(rung.high)
    parts.append(
        f'<rect class="bar {rung.name}" x="{_LEFT}" y="{middle - _BAR / 2}" width="{x - _LEFT:.1f}" height="{_BAR}"/>'
    )
    parts.append(f'<path class="tip {rung.name}" d="M{x} {middle - _BAR / 2 - 3}v{_BAR + 6}"/>')
    parts.append(f'<path class="reach" d="M{low} {middle}H{high}M{low} {middle - 4}v8M{high} {middle - 4}v8"/>')
    parts.append(f'<text class="figure" x="{_WORDS}" y="{top + 16}">{escape(rung.words)}</text>')
    parts.append(f'<text class="fine" x="{_WORDS}" y="{top + 31}">{escape(rung.small)}</text>')
    return "".join(parts)


def _lacking(words: str, middle: int) -> str:
    if len(words) <= _BESIDE:
        track = f'<path class="lacking" d="M{_LEFT} {middle}H{_RIGHT}"/>'
        return f'{track}<text class="fine" x="{_WORDS}" y="{middle + 4}">{escape(words)}</text>'
    lines = enumerate(textwrap.wrap(words, _ACROSS))
    return "".join(
        f'<text class="fine" x="{_LEFT}" y="{middle + 4 + 14 * place}">{escape(line)}</text>' for place, line in lines
    )


def _gap(gap: LadderGap, top: int) -> str:
    left, right = sorted((_x(gap.strict), _x(gap.paper)))
    middle = top + 14
    # From the end of one bar to the end of the other.
    above, below = _x(gap.paper), _x(gap.strict)
    return (
        f'<path class="guide" d="M{above} {top - 14}V{middle + 6}M{below} {middle - 6}V{top + _LANE + 4}"/>'
        f'<rect class="gap" x="{left}" y="{middle - 5}" width="{right - left:.1f}" height="10"/>'
        f'<text class="rung gap" x="0" y="{middle + 4}">gap</text>'
        f'<text class="figure gap" x="{_WORDS}" y="{middle}">{escape(gap.words)}</text>'
        f'<text class="fine" x="{_WORDS}" y="{middle + 14}">{escape(gap.small)}</text>'
    )
