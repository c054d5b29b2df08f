"""Charts of what attacked images are taken for, one for each model."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.report.figures import Model
from rushkit.report.pictures.charts import Chart, Series, axis, slug
from rushkit.report.taken import NO_CLASS, TakenUnderAttack
from rushkit.results.words import noise_words
from rushkit.rounding import counted

# The most classes that are drawn: of more, those that most images are taken for.
_MOST = 20


def taken_for(models: Sequence[Model]) -> list[Chart]:
    """Draw how many images of other classes are taken for each class, clean and under attack."""
    several = len(models) > 1
    return [
        _chart(model.taken_for, model.name if several else "")
        for model in models
        if model.taken_for is not None and model.taken_for.counts
    ]


def _chart(taken: TakenUnderAttack, model: str) -> Chart:
    clean, attacked = _drawn(taken)
    names = list(clean)
    shown = sorted(names, key=lambda name: -attacked[name])[:_MOST]
    shown = [name for name in names if name in shown]
    series = [
        _series("clean", [clean[name] for name in shown], 1),
        _series("under attack", [attacked[name] for name in shown], 0),
    ]
    title = f"What images of other classes are taken for{f': {model}' if model else ''}"
    most = max(shown, key=lambda name: attacked[name])
    found = f"under {taken.attack} {most} most often, {counted(attacked[most], 'image')}, {clean[most]} as they are"
    left = f" The {len(shown)} of {len(names)} that most are taken for." if len(shown) < len(names) else ""
    return Chart(
        name=slug("taken for", model),
        title=title,
        label=f"{title}: {found}",
        x=axis("class", range(len(shown))),
        y=axis("images of other classes", (0, max([*clean.values(), *attacked.values(), 1]))),
        series=series,
        caption=f"{taken.data}, {noise_words(taken.noise)}, m = {taken.samples}, {counted(taken.images, 'image')}; "
        f"under attack: {taken.attack}. An image is taken for a class that more than half of its votes give.{left}",
        rows=tuple(shown),
    )


def _drawn(taken: TakenUnderAttack) -> tuple[dict[str, int], dict[str, int]]:
    """Return how many images of other classes are taken for each class, clean and attacked; last those for no class."""
    clean: dict[str, int] = dict.fromkeys(taken.classes, 0)
    if any(taken.sums("none")):
        clean[NO_CLASS] = 0
    attacked = dict(clean)
    for count in taken.counts:
        if count.kind != "own":
            clean[count.taken_words] += count.clean
            attacked[count.taken_words] += count.attacked
    return clean, attacked


def _series(name: str, numbers: Sequence[int], colour: int) -> Series:
    return Series(name, list(enumerate(map(float, numbers))), kind="points", colour=colour)
