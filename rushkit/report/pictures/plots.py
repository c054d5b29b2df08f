"""Draw charts by matplotlib, for files: those in a run's folder, and those for a paper. The same chart, the same bytes.

No text is read as mathematics or as anything else than itself: names come from other people's files.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rushkit.errors import shorten, showable
from rushkit.files import write_atomic
from rushkit.report.pictures.charts import Axis, Chart, Series, waymarks
from rushkit.report.pictures.palette import LIGHT, look, marker

Point = TypeVar("Point", bound="tuple[float, ...]")
Format = Literal["png", "svg", "pdf"]
# A panel of a figure on a screen, and a column of a paper of two columns, in inches.
PANEL, COLUMN = (5.2, 3.6), (3.3, 2.4)
# The height of a row of a chart that has rows, and of all else in it.
_ROW, _ROUND = 0.17, 0.75
# The height of a row of the legend, and how many of them the size of a figure allows for.
_ENTRY, _ENTRIES = 0.15, 2
# A curve of steps has its heights at so many places along the axis, which no eye tells from all of them.
_COLUMNS = 800
_DPI = 150
# What is longer is cut in the middle: else a name would leave no room for the picture.
_NAME, _LINE = 44, 90
# So many signs stand beside the vertical axis of a figure for a paper.
_ACROSS = 24
_DASHES, _RING = (4, 2.5), 0.9
# Keys of rcParams; their type is a list of all that there are.
_STYLE: Any = {
    **{"font.family": ["DejaVu Sans"], "font.size": 8, "axes.labelsize": 8, "axes.titlesize": 8},
    **{"xtick.labelsize": 7, "ytick.labelsize": 7, "legend.fontsize": 7, "axes.linewidth": 0.6},
    **{"lines.linewidth": 1.3, "lines.markersize": 4, "xtick.major.width": 0.6, "ytick.major.width": 0.6},
    # A dollar is a dollar. Outlines in SVG and TrueType in PDF look alike everywhere, and journals take them.
    **{"text.usetex": False, "text.parse_math": False, "svg.fonttype": "path", "pdf.fonttype": 42},
    # Without these, ids in an SVG are random and a PDF depends on how it is compressed.
    **{"svg.hashsalt": "rushkit", "pdf.compression": 6},
}
# What would put the moment of writing into a file, or the version of matplotlib.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_chart(
    charts: Sequence[Chart],
    folder: Path,
    name: str,
    formats: Sequence[Format] = ("png", "svg"),
    titled: bool = True,
    size: tuple[float, float] = PANEL,
) -> list[Path]:
    """Write charts, as panels beside each other, as one figure in every format.

    Args:
        charts: At least one.
        folder: Exists.
        name: The name of the files, without their endings.
        formats: What is written.
        titled: Whether titles and captions stand in the figure.
        size: Width and height of a panel in inches; charts of rows are as high as their rows need.

    Returns:
        The files.

    Raises:
        RushkitError: a file cannot be written.
    """
    with style():
        return save_figure(figure_of(charts, titled, size), folder, name, formats)


def save_figure(figure: Figure, folder: Path, name: str, formats: Sequence[Format]) -> list[Path]:
    """Write a figure in every format; within ``style``. Returns the files. Raises RushkitError if one cannot be."""
    # Laid out once, and not again for each format.
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = [folder / f"{name}.{kind}" for kind in formats]
    for kind, path in zip(formats, paths, strict=True):
        drawn = encoded(figure, kind)
        write_atomic(path, [drawn], len(drawn))
    return paths


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in here: fonts, sizes and what makes the bytes of files always the same."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A name may be in a script that the font lacks: a box stands for each such letter.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        yield


def encoded(figure: Figure, kind: Format) -> bytes:
    """Return a figure as the bytes of a file; within ``style``."""
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=_DPI, metadata=_METADATA[kind])
    return file.getvalue()


def figure_of(charts: Sequence[Chart], titled: bool = True, size: tuple[float, float] = PANEL) -> Figure:
    """Return charts as panels of a figure; within ``style``. ``save_chart`` has the arguments."""
    rows = max(_ROUND + _ROW * len(chart.rows) * max(1, len(chart.series) / 2) if chart.rows else 0 for chart in charts)
    entries = max(_legend_rows(chart) for chart in charts)
    height = max(size[1], rows) + _ENTRY * max(0, entries - _ENTRIES)
    figure = Figure(figsize=(size[0] * len(charts), height), layout="constrained")
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts, strict=True):
        _draw(chart, axes, titled)
    return figure


def safe(text: str, most: int = _LINE) -> str:
    """Return a text in one line, without what a font cannot hold, and not too long for a figure."""
    one_line = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return shorten(showable(one_line), most)


def colour_of(number: int) -> str:
    """Return the colour of a look on white paper."""
    return LIGHT[look(number)]


def _draw(chart: Chart, axes: Axes, titled: bool) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    across, up = (chart.y, chart.x) if chart.rows else (chart.x, chart.y)
    _scale(axes, across, "x")
    if chart.rows:
        axes.set_yticks(range(len(chart.rows)), [safe(name, _NAME) for name in chart.rows])
        axes.set_ylim(len(chart.rows) - 0.5, -0.5)
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    else:
        _scale(axes, up, "y")
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    middle = (len(chart.series) - 1) / 2
    for place, one in enumerate(chart.series):
        _draw_series(chart, one, axes, 0.7 / len(chart.series) * (place - middle))
    if titled:
        lines = [chart.title, *chart.caption.split("\n")] if "\n" in chart.caption else [chart.title]
        axes.set_title("\n".join(map(safe, lines)))
    if chart.legend:
        _legend(chart, axes)


def _scale(axes: Axes, axis: Axis, way: Literal["x", "y"]) -> None:
    room = 0.0 if axis.log else 0.02 * (axis.high - axis.low)
    factor = (axis.high / axis.low) ** 0.02 if axis.log else 1
    ends = (axis.low / factor - room, axis.high * factor + room)
    words = [f"{value:.6g}" for value in axis.ticks]
    if way == "x":
        axes.set_xscale("log" if axis.log else "linear")
        axes.set_xlim(*ends)
        axes.set_xticks(axis.ticks, words)
        axes.set_xticks([], minor=True)
        axes.set_xlabel(safe(axis.label))
    else:
        axes.set_ylim(*ends)
        axes.set_yticks(axis.ticks, words)
        axes.set_ylabel(textwrap.fill(safe(axis.label), _ACROSS))


def _draw_series(chart: Chart, one: Series, axes: Axes, shift: float) -> None:
    one = replace(one, points=_steps(chart, one, one.points), spread=_steps(chart, one, one.spread))
    x, y = np.array(one.points, dtype=np.float64).T
    line = _line_style(one)
    if chart.rows:
        x = x + shift
        if one.spread:
            _, low, high = np.array(one.spread, dtype=np.float64).T
            axes.hlines(x, low, high, color=colour_of(one.colour), linewidth=0.9)
        axes.plot(y, x, **_marks(one, "none"))
        return
    _draw_spread(one, axes)
    if one.kind == "step":
        axes.step(x, y, where="pre", **line)
    elif one.kind == "line":
        axes.plot(x, y, **line)
    if one.dotted:
        axes.plot(x, y, **_marks(one, "none"))
    elif chart.several and one.long:
        axes.plot(*zip(*waymarks(one), strict=True), **_marks(one, "none"))


def _steps(chart: Chart, one: Series, points: Sequence[Point]) -> list[Point]:
    """Return of a curve of steps the first point in each column of the axis, and the last point of all."""
    if one.kind != "step" or len(points) <= _COLUMNS:
        return list(points)
    columns = [round(_COLUMNS * chart.x.share(point[0])) for point in points]
    kept = [place for place in range(1, len(points)) if columns[place] != columns[place - 1]]
    return [points[place] for place in dict.fromkeys((0, *kept, len(points) - 1))]


def _draw_spread(one: Series, axes: Axes) -> None:
    if not one.spread:
        return
    colour = colour_of(one.colour)
    x, low, high = np.array(one.spread, dtype=np.float64).T
    if one.kind != "step" and one.dotted:
        axes.vlines(x, low, high, color=colour, linewidth=0.9)
    else:
        step: Literal["pre"] | None = "pre" if one.kind == "step" else None
        axes.fill_between(x, low, high, step=step, color=colour, alpha=0.18, linewidth=0)


def _line_style(one: Series) -> dict[str, Any]:
    dashes = {"dashes": _DASHES} if one.dashed else {}
    return {"color": colour_of(one.colour), "solid_joinstyle": "round", **dashes}


def _marks(one: Series, line: str) -> dict[str, Any]:
    shape, _, filled = marker(one.colour)
    colour = colour_of(one.colour)
    face = colour if filled else "white"
    return {
        **{"linestyle": line, "marker": shape, "color": colour},
        **{"markerfacecolor": face, "markeredgecolor": colour, "markeredgewidth": _RING},
    }


def _legend_rows(chart: Chart) -> int:
    """Return how many rows the legend takes: half as many where its names are short enough for two columns."""
    names = chart.legend
    short = len(names) > 3 and max(len(one.in_legend) for one in names) <= _NAME // 2
    return -(-len(names) // 2) if short else len(names)


def _legend(chart: Chart, axes: Axes) -> None:
    handles = []
    for one in chart.legend:
        marked = one.dotted or (chart.several and one.long)
        look_of = {**_line_style(one), **(_marks(one, "-") if marked else {})}
        if one.kind == "points":
            look_of["linestyle"] = "none"
        handles.append(Line2D([], [], **look_of))
    # Below the axes: there is no corner that twelve lines leave free. The names come later, since matplotlib leaves
    # out what begins with an underscore.
    places = [str(place) for place in range(len(handles))]
    names = [safe(one.in_legend, _NAME) for one in chart.legend]
    columns = 2 if _legend_rows(chart) < len(names) else 1
    drawn = axes.figure.legend(handles, places, loc="outside lower center", ncols=columns, frameon=False)
    for text, name in zip(drawn.get_texts(), names, strict=True):
        text.set_text(name)
