"""The charts of a report, each with every model in it."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.recipe.radius import ball_words, eps_words, norm_words
from rushkit.report.figures import Model
from rushkit.report.measured import on_test
from rushkit.report.pictures.charts import Chart, Series, chart
from rushkit.results.attacks import variant_words
from rushkit.results.words import encoder_words, noise_words, points_words
from rushkit.rounding import floor_radius

_NAMES = {
    "loss": "loss",
    "knn_accuracy": "kNN accuracy, %",
    "validation_accuracy": "validation accuracy (m = 1), %",
}
_SWEEPS = {"steps": "gradient steps", "eot": "draws a gradient", "eps": "eps"}
_STAGES = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}


def against_eps(models: Sequence[Model]) -> list[Chart]:
    """Draw robust accuracy against eps: a chart for each norm and m, with all but strict dashed."""
    groups: dict[tuple[str, int], list[Series]] = {}
    several = len(models) > 1
    for number, model in enumerate(models):
        noises = {noise_words(one.noise) for one in model.against_eps}
        for one in model.against_eps:
            series = groups.setdefault((one.norm, one.samples), [])
            scale = _eps_scale(one.norm)
            images = sorted({point.images for point in one.points})
            words = [
                *([model.name] if several else []),
                f"{one.attack} {variant_words(one)}{'' if on_test(one.split) else ' on ' + one.split}",
                *([one.settings] if one.settings else []),
                *([noise_words(one.noise)] if len(noises) > 1 else []),
                f"n = {images[0]}" + (f" to {images[-1]}" if len(images) > 1 else ""),
            ]
            series.append(
                Series(
                    name=", ".join(words),
                    points=[(point.eps * scale, 100 * point.accuracy) for point in one.points],
                    spread=[(point.eps * scale, 100 * point.low, 100 * point.high) for point in one.points],
                    colour=number if several else len(series),
                    dashed=one.protocol != "strict",
                )
            )
    return [
        chart(
            f"Robust accuracy against eps, m = {samples}",
            sorted(series, key=lambda one: one.dashed),
            _eps_label(norm),
            "accuracy, %",
            (0, 100),
            "Solid: strict, an upper bound of the robustness. Dashed: paper or weaker, which are not. "
            "Whiskers: 95% intervals over the images; at eps 0 the same images, clean.",
        )
        for (norm, samples), series in sorted(groups.items())
    ]


def certified(models: Sequence[Model]) -> list[Chart]:
    """Draw certified accuracy over the radius: a chart for each norm."""
    groups: dict[str, list[Series]] = {}
    for model in models:
        for one in model.certified:
            series, curve = groups.setdefault(one.record.norm, []), one.curve
            columns = ([100 * share for share in shares] for shares in (curve.value, curve.low, curve.high))
            rows = list(zip(curve.radius, *columns, strict=True))
            how = f"{one.record.bound}, " + ("tested radii" if curve.tested else f"{one.record.samples} draws")
            how += f", alpha {one.record.alpha:g}" if one.record.alpha else ""
            whose = f"{model.name}, " if len(models) > 1 else ""
            series.append(
                Series(
                    name=f"{whose}{noise_words(one.noise)}, {how}, n = {one.record.images}",
                    points=[(radius, value) for radius, value, _, _ in rows],
                    spread=[(radius, low, high) for radius, _, low, high in rows],
                    kind="points" if curve.tested else "step",
                    colour=len(series),
                    x_words=eps_words if curve.tested else floor_radius,
                )
            )
    return [
        chart(
            f"Certified accuracy, {norm_words(norm)}",
            series,
            f"{norm_words(norm)} radius, pixels in [0, 1]",
            "certified accuracy, %",
            (0, 100),
            "The share of images that are right and proved to stay so within the radius, each with a chance alpha of "
            "being wrong; with 95% intervals: a lower bound of the robustness.",
        )
        for norm, series in sorted(groups.items())
    ]


def audit(models: Sequence[Model]) -> list[Chart]:
    """Draw accuracy along the sweeps of the audits and the loss of the attack, both of which should settle."""
    groups: dict[tuple[str, str], list[Series]] = {}
    losses = []
    for number, model in enumerate(models):
        for one in model.audit:
            norm = one.record.settings.norm
            for key, words in _SWEEPS.items():
                scale, label = (_eps_scale(norm), _eps_label(norm)) if key == "eps" else (1, words)
                if points := one.sweeps.get(key, ()):
                    groups.setdefault((key, label), []).append(
                        Series(
                            f"{model.name}, n = {points[0].images}",
                            [(scale * point.value, 100 * point.accuracy) for point in points],
                            [(scale * point.value, 100 * point.low, 100 * point.high) for point in points],
                            colour=number,
                        )
                    )
            if curve := [(float(step), float(loss)) for step, loss in enumerate(one.record.loss_curve, 1)]:
                losses.append(Series(model.name, curve, colour=number))
    charts = [
        chart(
            f"Audit: along {_SWEEPS[key]}",
            series,
            f"{label} (log scale)",
            "% of attacked images still right",
            (0, 100),
            x_log=True,
        )
        for (key, label), series in sorted(groups.items(), key=lambda item: list(_SWEEPS).index(item[0][0]))
    ]
    if losses:
        charts.append(chart("Audit: loss of the attack", losses, "gradient step", "mean loss of the attack"))
    return charts


def probe(models: Sequence[Model]) -> list[Chart]:
    """Draw how far features move as the image moves: a chart for each ball, with random points dashed."""
    groups: dict[tuple[str, str, float], dict[tuple[str, str], Series]] = {}
    runs = {one.run for model in models for one in model.probe}
    for model in models:
        for one in model.probe:
            # Models of one encoder share its probe.
            about = one.record
            group = groups.setdefault((about.data, about.norm, about.eps), {})
            colours = {key[0]: series.colour for key, series in group.items()}
            for row, curve in zip(about.rows, one.curves, strict=True):
                key = (f"{one.run} {row.encoder}", row.points)
                colour = colours.setdefault(key[0], len(colours))
                words = f"{encoder_words(row.encoder)}, x' {points_words(row.points)}, n = {row.images}"
                if len(runs) > 1:
                    words = f"{one.run}: {words}"
                points = [(0.0, 0.0), *((x, 100 * y) for x, y in curve)]
                group[key] = Series(words, points, colour=colour, dashed=row.points == "random", marked=False)
    return [
        chart(
            f"Feature distance per image distance, {ball_words(norm, eps)}, {data}",
            list(series.values()),
            "‖f(x) − f(x')‖₂ / ‖x − x'‖₂",
            "% of images with at most this ratio",
            (0, 100),
            "Further right: features that move more. Solid: x' found by ascent, a lower bound of the local Lipschitz "
            "constant. Dashed: x' random in the ball.",
        )
        for (data, norm, eps), series in groups.items()
    ]


def training(models: Sequence[Model]) -> list[Chart]:
    """Draw loss and accuracy over the epochs: a chart for each stage and figure."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for number, model in enumerate(models):
        for one in model.training:
            for figure, points in one.curves.items():
                if figure == "lr":
                    continue
                factor = 100 if figure.endswith("accuracy") else 1
                series = groups.setdefault((one.stage, figure), [])
                scaled = [(x, factor * y) for x, y in points]
                series.append(Series(f"{model.name}: {one.run}", scaled, colour=number))
    return [
        chart(
            f"{_STAGES.get(stage, stage)}: {_NAMES.get(figure, figure).partition(',')[0]}",
            _once(series),
            "epoch",
            _NAMES.get(figure, figure),
            (0, 100) if figure.endswith("accuracy") else None,
        )
        for (stage, figure), series in sorted(groups.items(), key=lambda item: item[0][0] != "pretrain")
    ]


def _eps_scale(norm: str) -> int:
    return 255 if norm == "linf" else 1


def _eps_label(norm: str) -> str:
    return "l-inf eps, in 1/255" if norm == "linf" else f"{norm_words(norm)} eps, pixels in [0, 1]"


def _once(series: Sequence[Series]) -> list[Series]:
    """Return the series without repeats: models of one encoder share its curve."""
    return list({one.name.partition(": ")[2]: one for one in reversed(series)}.values())[::-1]
