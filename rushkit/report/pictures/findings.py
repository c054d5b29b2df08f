"""What a chart shows in a sentence, for who cannot see it: where its lines begin and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rushkit.report.pictures.charts import Series
from rushkit.rounding import percent

Words = Callable[[float], str]
# Up to so many lines are told one by one.
_MOST = 4


def percents(value: float) -> str:
    """Return a percentage as words: ``"83.1 %"``."""
    return f"{percent(value / 100)} %"


def finding(title: str, series: Sequence[Series], at: Words, of: Words = percents) -> str:
    """Return what a chart shows: ``"Robust accuracy: strict falls from 83.1 % at 0 to 6.2 % at 8/255"``.

    Args:
        title: The title of the chart.
        series: What it shows, each in order of x.
        at: Writes an x, with its unit.
        of: Writes a y, with its unit.
    """
    if len(series) <= _MOST:
        return f"{title}: {'; '.join(_course(one, at, of) for one in series)}"
    lowest, highest = (pick(series, key=lambda one: one.points[-1][1]) for pick in (min, max))
    return (
        f"{title}, {len(series)} lines: at their ends between {of(lowest.points[-1][1])} ({lowest.name}) and "
        f"{of(highest.points[-1][1])} ({highest.name})"
    )


def _course(one: Series, at: Words, of: Words) -> str:
    (x, y), (last_x, last_y) = one.points[0], one.points[-1]
    name = one.name or "it"
    if len(one.points) == 1:
        return f"{name} is {of(y)} at {at(x)}"
    if of(y) == of(last_y):
        return f"{name} is {of(y)} at {at(x)} and at {at(last_x)}"
    return f"{name} {'falls' if last_y < y else 'rises'} from {of(y)} at {at(x)} to {of(last_y)} at {at(last_x)}"
