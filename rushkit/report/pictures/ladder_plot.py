"""Draw the ladder of a model by matplotlib, for files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rushkit.report.pictures.ladder import Ladder, LadderGap, LadderRung
from rushkit.report.pictures.palette import marker
from rushkit.report.pictures.plots import COLUMN, Format, colour_of, safe, save_figure, style

# The look of each rung, by its place from the top; that of what is missing stands in no figure.
_LOOKS = (0, 1, 3, 4)
# Height in inches, and the room at the right for the words, as a share of the axis.
_HEIGHT, _WORDS = 1.9, 62
_SMALL = 6


def save_ladder(ladder: Ladder, folder: Path, name: str, formats: Sequence[Format] = ("svg", "pdf")) -> list[Path]:
    """Write the ladder of a model in every format, as wide as a column of a paper; return the files.

    Args:
        ladder: The ladder.
        folder: Exists.
        name: The name of the files, without their endings.
        formats: What is written.

    Raises:
        RushkitError: a file cannot be written.
    """
    with style():
        figure = Figure(figsize=(COLUMN[0], _HEIGHT), layout="constrained")
        _draw(ladder, figure.subplots())
        return save_figure(figure, folder, name, formats)


def _draw(ladder: Ladder, axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    names = [f"{rung.name}\n{rung.under}" if rung.under else rung.name for rung in ladder.rungs]
    axes.set_yticks(range(len(ladder.rungs)), ["\n".join(map(safe, name.split("\n"))) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(ladder.rungs) - 0.5, -0.5)
    axes.set_xlim(0, 100 + _WORDS)
    axes.set_xticks((0, 25, 50, 75, 100), ("0", "25", "50", "75", "100"))
    axes.spines["bottom"].set_bounds(0, 100)
    axes.set_xlabel("accuracy, %", x=50 / (100 + _WORDS))
    for place, rung in enumerate(ladder.rungs):
        axes.plot((0, 100), (place, place), color="#e4e7eb", linewidth=3, solid_capstyle="butt", zorder=0)
        _draw_rung(rung, place, axes)
    if ladder.gap is not None:
        names_of = [rung.name for rung in ladder.rungs]
        _draw_gap(ladder.gap, (names_of.index("paper") + names_of.index("strict")) / 2, axes)


def _draw_rung(rung: LadderRung, place: int, axes: Axes) -> None:
    if rung.share is None or rung.low is None or rung.high is None:
        axes.text(104, place, safe(rung.words, 40), va="center", fontsize=_SMALL, style="italic")
        return
    number = _LOOKS[place % len(_LOOKS)]
    colour = colour_of(number)
    axes.hlines(place, 100 * rung.low, 100 * rung.high, color=colour, linewidth=1.4)
    axes.plot([100 * rung.share], [place], marker=marker(number)[0], color=colour)
    axes.text(104, place - 0.03, safe(rung.words, 40), va="bottom")
    axes.text(104, place + 0.03, safe(rung.small, 40), va="top", fontsize=_SMALL)


def _draw_gap(gap: LadderGap, place: float, axes: Axes) -> None:
    ends = sorted((100 * gap.strict, 100 * gap.paper))
    axes.annotate("", (ends[0], place), (ends[1], place), arrowprops={"arrowstyle": "<->", "linewidth": 0.7})
    words = safe(f"{gap.words} {gap.small}", 40)
    # On the side where there is more room.
    side, way = (ends[1] + 2, "left") if ends[1] < 50 else (ends[0] - 2, "right")
    axes.text(side, place, words, va="center", ha=way, fontsize=_SMALL)
