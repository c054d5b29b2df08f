"""Charts of the accuracy of each class, one for each model."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.report.breakdown import ClassAccuracy, ClassShare, PerClass
from rushkit.report.figures import Model
from rushkit.report.pictures.charts import Chart, Series, axis, percent_axis, slug
from rushkit.report.pictures.findings import percents
from rushkit.results.words import listed, noise_words
from rushkit.rounding import counted

# The most classes that are drawn: of more, those with the least accuracy.
_MOST = 20
# So many classes without an image are named.
_NAMED = 5


def per_class(models: Sequence[Model]) -> list[Chart]:
    """Draw clean accuracy, and that under attack beside it, of the classes that have least of it."""
    several = len(models) > 1
    return [_chart(one, model.name if several else "") for model in models for one in model.per_class if one.classes]


def _chart(one: PerClass, model: str) -> Chart:
    attacked = all(row.attacked for row in one.classes)
    shown = sorted(one.classes, key=_accuracy)[:_MOST]
    shown = [row for row in one.classes if row in shown] if len(shown) == len(one.classes) else shown
    series = [_series("clean", [row.clean for row in shown], 1)]
    if attacked:
        series.append(_series("under attack", [row.attacked for row in shown if row.attacked], 0))
    title = f"Accuracy by class{f': {model}' if model else ''}"
    worst, best = (pick(one.classes, key=_accuracy) for pick in (min, max))
    how = f"under {one.attack}" if attacked else "clean"
    return Chart(
        name=slug("accuracy by class", model),
        title=title,
        label=f"{title}: {how}, from {_words(worst)} to {_words(best)}",
        x=axis("class", range(len(shown))),
        y=percent_axis("accuracy, %"),
        series=series,
        caption=f"{one.data}, {noise_words(one.noise)}, m = {one.samples}, {_images(one.classes)}."
        + (f" Under attack: {one.attack}, on the same images and votes." if attacked else "")
        + " Whiskers: 95% intervals over the images."
        + (f" No image of {listed(*one.absent[:_NAMED])}{_more(one.absent)}." if one.absent else "")
        + (
            f" The {len(shown)} of {len(one.classes)} classes with the least of it."
            if len(shown) < len(one.classes)
            else ""
        ),
        rows=tuple(row.name for row in shown),
    )


def _series(name: str, shares: Sequence[ClassShare], colour: int) -> Series:
    return Series(
        name,
        [(place, 100 * share.accuracy) for place, share in enumerate(shares)],
        [(place, 100 * share.low, 100 * share.high) for place, share in enumerate(shares)],
        kind="points",
        colour=colour,
    )


def _accuracy(row: ClassAccuracy) -> float:
    return (row.attacked or row.clean).accuracy


def _more(absent: Sequence[str]) -> str:
    return f" and {len(absent) - _NAMED} more" if len(absent) > _NAMED else ""


def _words(row: ClassAccuracy) -> str:
    return f"{percents(100 * _accuracy(row))} of {row.name}"


def _images(classes: Sequence[ClassAccuracy]) -> str:
    numbers = sorted(row.images for row in classes)
    return f"n = {f'{numbers[0]} to ' if numbers[-1] > numbers[0] else ''}{counted(numbers[-1], 'image')} a class"
