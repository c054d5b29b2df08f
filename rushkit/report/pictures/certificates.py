"""Charts of certifications, each with every model in it, and the one in a certification's own folder."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.errors import first_few
from rushkit.recipe.radius import norm_words
from rushkit.report.bounds import Curve
from rushkit.report.curves import certified_points
from rushkit.report.figures import MeasuredCertification, Model
from rushkit.report.pictures.charts import (
    Chart,
    Kind,
    Points,
    Series,
    Spread,
    axis,
    height,
    percent_axis,
    slug,
    written,
    xs,
)
from rushkit.report.pictures.findings import finding, percents
from rushkit.report.pictures.legends import Described, caption, named
from rushkit.report.protocols import protocol_words
from rushkit.results.certification import Certification
from rushkit.results.words import noise_words, plain_noise
from rushkit.rounding import counted

_CERTIFIED = (
    "The share of images that are right and proved to stay so within the radius, each with a chance alpha of being "
    "wrong; with 95% intervals: a lower bound of the robustness."
)
_PROBABILITY = (
    "p_A is the probability that the class which is certified is the one predicted under noise: its lower bound, or it "
    "itself where all splits are counted. Solid: images whose class is right. Dashed: the others."
)


def certified(models: Sequence[Model]) -> list[Chart]:
    """Draw certified accuracy over the radius: a chart for each norm."""
    groups: dict[str, list[Described]] = {}
    for number, model in enumerate(models):
        for one in model.certified:
            group = groups.setdefault(one.record.norm, [])
            about = {"model": model.name if len(models) > 1 else "", **about_certification(one)}
            group.append(Described(about, _curve(one.curve, number if len(models) > 1 else len(group))))
    return [_certified(norm, *named(group)) for norm, group in sorted(groups.items())]


def probabilities(models: Sequence[Model]) -> list[Chart]:
    """Draw how p_A is distributed over the images of each certification: right ones solid, the others dashed."""
    group: dict[object, Described] = {}
    for number, model in enumerate(models):
        found = dict.fromkeys(one.probability for one in model.certified if one.probability is not None)
        for place, probability in enumerate(found):
            one = next(one for one in model.certified if one.probability == probability)
            about = {"model": model.name if len(models) > 1 else "", **about_certification(one)}
            colour = number if len(models) > 1 else place
            for what, points in (("right", probability.right), ("wrong or abstained", probability.other)):
                if points:
                    shown = [(p, 100 * share) for p, share in points]
                    line = Series("", shown, colour=colour, dashed=what != "right", marked=False)
                    group[number, place, what] = Described({**about, "what": what}, line)
    if not group:
        return []
    series, shared = named(list(group.values()), "what")
    title = "Distribution of p_A, the probability of the certified class"
    said = [
        f"{one.name or 'it'}: {percents(height(one, 0.5))} of the images are above 0.5, {percents(height(one, 0.9))} "
        "above 0.9"
        for one in series
    ]
    return [
        Chart(
            name="distribution-of-p-a",
            title=title,
            label=f"{title}: {first_few(said, 4, separator='; ')}",
            x=axis("p_A", (0, 1)),
            y=percent_axis("% of the images with at least this p_A"),
            series=series,
            caption=caption(shared, _PROBABILITY),
        )
    ]


def about_certification(one: MeasuredCertification) -> dict[str, str]:
    """Return what is known of a certification: aspect -> words."""
    record = one.record
    return {
        "data": record.data,
        "noise": noise_words(one.noise),
        "bound": record.bound,
        "draws": "tested radii" if one.curve.tested else counted(record.samples, "draw"),
        "alpha": f"alpha {record.alpha:g}" if record.alpha else "",
        "images": f"n = {record.images}",
    }


def _certified(norm: str, series: Sequence[Series], shared: str) -> Chart:
    title = f"Certified accuracy, {norm_words(norm)}"
    return Chart(
        name=slug("certified accuracy by radius", norm_words(norm)),
        title=title,
        label=finding(title, series, lambda radius: f"radius {written(radius, 'down')}"),
        x=axis(_radius_label(norm), xs(series)),
        y=percent_axis("certified accuracy, %"),
        series=series,
        caption=caption(shared, _CERTIFIED),
    )


def _curve(curve: Curve, colour: int) -> Series:
    points, spread = _in_percent(curve)
    kind: Kind = "points" if curve.tested else "step"
    return Series("", points, spread, kind, colour, written="exact" if curve.tested else "down")


def _in_percent(curve: Curve) -> tuple[Points, Spread]:
    columns = ([100 * share for share in shares] for shares in (curve.value, curve.low, curve.high))
    rows = list(zip(curve.radius, *columns, strict=True))
    return [(radius, value) for radius, value, _, _ in rows], [(radius, low, high) for radius, _, low, high in rows]


def _radius_label(norm: str) -> str:
    return f"{norm_words(norm)} radius, pixels in [0, 1]"


def certification_chart(results: Certification) -> Chart:
    """Draw a certification beside what attacks left of the same images.

    After sequential tests there are points at the radii that were tested, and no curve between them.
    """
    curve = certified_points(results)
    points, spread = _in_percent(curve)
    kind: Kind = "points" if curve.tested else "step"
    series = [Series("certified", points, spread, kind)]
    if results.alpha:
        together = [(row.radius, 100 * row.proved_value) for row in results.certified]
        series.append(Series("together at least", together, kind="points", colour=1))
    for number, row in enumerate(results.empirical, 2):
        name = f"under attack: {row.attack} {protocol_words(row)}, m = {row.samples}"
        share = 100 * row.empirical / row.images
        series.append(Series(name, [(row.eps, share)], kind="points", colour=number))
    ends = min(0.0, points[0][0]), max(xs(series))
    clean = 100 * results.smoothed.value
    x = axis(_radius_label(results.norm), ends)
    series.append(Series("clean, smoothed", [(x.low, clean), (x.high, clean)], dashed=True, marked=False))
    title = f"Certified accuracy, {norm_words(results.norm)}"
    about = (
        f"{results.data}, {noise_words(plain_noise(results.noise))}: {counted(len(results.outcomes.labels), 'image')}"
    )
    return Chart(
        name="certified",
        title=title,
        label=finding(title, series[:1], lambda radius: f"radius {written(radius, 'down')}"),
        x=x,
        y=percent_axis("accuracy, %"),
        series=series,
        caption="\n".join([about, *results.method.split("; ")]),
    )
