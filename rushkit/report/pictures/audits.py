"""Charts of audits: accuracy along the sweeps and the loss of the attack, both of which should settle."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.report.figures import Model
from rushkit.report.pictures.attacks import eps_label, eps_scale
from rushkit.report.pictures.charts import Chart, Series, axis, percent_axis, slug, xs, ys
from rushkit.report.pictures.findings import finding, percents
from rushkit.report.pictures.legends import Described, caption, named
from rushkit.results.auditing import Audit, AuditPoint
from rushkit.rounding import number_words

_SWEEPS = {"steps": "gradient steps", "eot": "draws a gradient", "eps": "eps"}
_RIGHT = "% of attacked images still right"


def audit(models: Sequence[Model]) -> list[Chart]:
    """Draw the sweeps of the audits of all models, and the loss of their attack."""
    groups: dict[tuple[str, str], list[Described]] = {}
    losses = []
    for number, model in enumerate(models):
        for one in model.audit:
            norm = one.record.settings.norm
            name = {"model": model.name if len(models) > 1 else ""}
            for key in _SWEEPS:
                if points := one.sweeps.get(key, ()):
                    scale = _scale(key, norm)
                    shown = Series(
                        "",
                        [(scale * point.value, 100 * point.accuracy) for point in points],
                        [(scale * point.value, 100 * point.low, 100 * point.high) for point in points],
                        colour=number,
                    )
                    about = {**name, "images": f"n = {points[0].images}"}
                    groups.setdefault((key, norm), []).append(Described(about, shown))
            if one.record.loss_curve:
                losses.append(Described(name, _loss(one.record, number)))
    drawn = sorted(groups.items(), key=lambda item: list(_SWEEPS).index(item[0][0]))
    charts = [_sweep(key, norm, *named(group)) for (key, norm), group in drawn]
    return [*charts, _losses(*named(losses))] if losses else charts


def audit_charts(results: Audit) -> list[Chart]:
    """Draw the sweeps of one audit and the loss of its attack; nothing if nothing was measured.

    Where the model has no gradient, and so no sweeps, the accuracy under each attack without gradients is drawn.
    """
    if not results.sweeps.steps:
        return _without_gradient(results)
    norm = results.settings.norm
    charts = []
    for key, points in results.sweeps:
        if key in _SWEEPS and points:
            shown = [(_scale(key, norm) * point.value, 100 * point.accuracy) for point in points]
            charts.append(_sweep(key, norm, [Series("", shown)], _attacked(points)))
    return [*charts, _losses([_loss(results, 0)], "")] if results.loss_curve else charts


def _without_gradient(results: Audit) -> list[Chart]:
    attacks = results.attacks
    points = [point for point in (attacks.random_noise, attacks.square, attacks.strongest) if point is not None]
    if not points:
        return []
    title = "Audit: attacks without a gradient"
    series = [Series("", [(place, 100 * point.accuracy) for place, point in enumerate(points)], kind="points")]
    return [
        Chart(
            name="audit-without-gradient",
            title=title,
            label=f"{title}: {'; '.join(f'{point.label} leaves {percents(100 * point.accuracy)}' for point in points)}",
            x=axis("attack", range(len(points))),
            y=percent_axis(_RIGHT),
            series=series,
            caption=caption(_attacked(points)),
            rows=tuple(point.label for point in points),
        )
    ]


def _sweep(key: str, norm: str, series: Sequence[Series], shared: str) -> Chart:
    title = f"Audit: along {_SWEEPS[key]}"
    label = eps_label(norm) if key == "eps" else _SWEEPS[key]
    return Chart(
        name=slug("audit", _SWEEPS[key], norm if key == "eps" else ""),
        title=title,
        label=finding(title, series, lambda x: f"{x:g}"),
        x=axis(f"{label} (log scale)", xs(series), log=True),
        y=percent_axis(_RIGHT),
        series=series,
        caption=caption(shared),
    )


def _losses(series: Sequence[Series], shared: str) -> Chart:
    title = "Audit: loss of the attack"
    return Chart(
        name="audit-loss",
        title=title,
        label=finding(title, series, lambda step: f"step {step:g}", number_words),
        x=axis("gradient step", xs(series)),
        y=axis("mean loss of the attack", ys(series)),
        series=series,
        caption=caption(shared),
    )


def _loss(results: Audit, colour: int) -> Series:
    return Series("", [(float(step), float(loss)) for step, loss in enumerate(results.loss_curve, 1)], colour=colour)


def _scale(key: str, norm: str) -> int:
    return eps_scale(norm) if key == "eps" else 1


def _attacked(points: Sequence[AuditPoint]) -> str:
    return f"n = {len(points[0].share)}"
