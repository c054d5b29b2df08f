"""Charts of attacks, each with every model in it."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.figures import EpsPoint, EpsSeries, Model
from rushkit.report.pictures.charts import Chart, Series, axis, percent_axis, slug, xs
from rushkit.report.pictures.findings import finding
from rushkit.report.pictures.legends import Described, caption, named
from rushkit.report.quotable import on_test
from rushkit.results.attacks import variant_words
from rushkit.results.words import noise_words

_BOUNDS = {
    (False,): "Strict: an upper bound of the robustness.",
    (True,): "Not strict: no bound of the robustness.",
    (False, True): "Solid: strict, an upper bound of the robustness. Dashed: other protocols, which are not.",
}
_PASSES = (
    "After each climb: the images that are not broken yet, as the attack's own panel of selection saw them. It chose "
    "the worst versions by these draws, so the line leans down and is no bound; the tables have what independent votes "
    "leave. Passes of the gradients, forward and backward, at the fewest draws. "
    "Whiskers: 95% intervals over the images."
)
_INTERVALS = "Whiskers: 95% intervals over the images; at eps 0 the same images, clean."


def against_eps(models: Sequence[Model]) -> list[Chart]:
    """Draw robust accuracy against eps: a chart for each norm and m, with all but strict dashed."""
    groups: dict[tuple[str, int], list[Described]] = {}
    several = len(models) > 1
    for number, model in enumerate(models):
        for one in model.against_eps:
            group = groups.setdefault((one.norm, one.samples), [])
            colour = number if several else len(group)
            group.append(Described(_about(one, model.name if several else ""), _eps_series(one, colour)))
    return [_against_eps(norm, samples, group) for (norm, samples), group in sorted(groups.items())]


def _against_eps(norm: str, samples: int, group: Sequence[Described]) -> Chart:
    series, shared = named(sorted(group, key=lambda one: one.series.dashed), "protocol")
    title = f"Robust accuracy against eps, m = {samples}"
    return Chart(
        name=slug("robust accuracy by eps", norm_words(norm), f"m{samples}"),
        title=title,
        label=finding(title, series, lambda eps: f"eps {eps:g}/255" if norm == "linf" and eps else f"eps {eps:g}"),
        x=axis(eps_label(norm), xs(series)),
        y=percent_axis("accuracy, %"),
        series=series,
        caption=caption(shared, _bound_words(series), _INTERVALS),
    )


def _about(one: EpsSeries, model: str) -> dict[str, str]:
    return {
        "model": model,
        "attack": one.attack,
        "protocol": variant_words(one),
        "split": "" if on_test(one.split) else f"on {one.split}",
        "settings": one.settings,
        "noise": noise_words(one.noise),
        "images": _images(one.points),
    }


def _images(points: Sequence[EpsPoint]) -> str:
    numbers = sorted({point.images for point in points})
    return f"n = {numbers[0]}" + (f" to {numbers[-1]}" if len(numbers) > 1 else "")


def _eps_series(one: EpsSeries, colour: int) -> Series:
    scale = eps_scale(one.norm)
    return Series(
        name="",
        points=[(point.eps * scale, 100 * point.accuracy) for point in one.points],
        spread=[(point.eps * scale, 100 * point.low, 100 * point.high) for point in one.points],
        colour=colour,
        dashed=one.protocol != "strict",
    )


def against_passes(models: Sequence[Model]) -> list[Chart]:
    """Draw robust accuracy against the passes of cascades: a chart for each norm and m, and with several models eps."""
    groups: dict[tuple[str, int, float | None], list[Described]] = {}
    several = len(models) > 1
    for number, model in enumerate(models):
        for one in model.against_passes:
            group = groups.setdefault((one.norm, one.samples, one.eps if several else None), [])
            about = {
                "model": model.name if several else "",
                "attack": one.attack,
                "ball": ball_words(one.norm, one.eps),
                "smaller": "" if one.smaller is None else f"from {ball_words(one.norm, one.smaller)}",
                "protocol": variant_words(one),
                "split": "" if on_test(one.split) else f"on {one.split}",
                "settings": one.settings,
                "noise": noise_words(one.noise),
                "images": f"n = {one.images}",
            }
            shown = Series(
                name="",
                points=[(point.passes, 100 * point.accuracy) for point in one.points],
                spread=[(point.passes, 100 * point.low, 100 * point.high) for point in one.points],
                colour=number if several else len(group),
                dashed=one.protocol != "strict",
            )
            group.append(Described(about, shown))
    return [_against_passes(*key, group) for key, group in sorted(groups.items(), key=lambda item: str(item[0]))]


def _against_passes(norm: str, samples: int, eps: float | None, group: Sequence[Described]) -> Chart:
    series, shared = named(sorted(group, key=lambda one: one.series.dashed))
    ball = norm_words(norm) if eps is None else ball_words(norm, eps)
    title = f"Robust accuracy against passes, {ball}, m = {samples}"
    return Chart(
        name=slug("robust accuracy by passes", ball, f"m{samples}"),
        title=title,
        label=f"{finding(title, series, lambda passes: f'{passes:g} passes')}; no bound, as the attack itself saw it",
        x=axis("passes an image that stays to the end", xs(series)),
        y=percent_axis("images not broken yet, %"),
        series=series,
        caption=caption(shared, _PASSES),
    )


def _bound_words(series: Sequence[Series]) -> str:
    """Return what solid and dashed lines are bounds of, where strict is solid."""
    return _BOUNDS[tuple(sorted({one.dashed for one in series}))]


def eps_scale(norm: str) -> int:
    """Return the factor from pixel units to those of an axis of eps."""
    return 255 if norm == "linf" else 1


def eps_label(norm: str) -> str:
    """Return the words of an axis of eps."""
    return "l-inf eps, in 1/255" if norm == "linf" else f"{norm_words(norm)} eps, pixels in [0, 1]"
