"""Charts of encoders and trainings, each with every model in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.figures import Model
from rushkit.report.pictures.charts import Chart, Series, axis, percent_axis, slug, xs, ys
from rushkit.report.pictures.findings import finding, percents
from rushkit.report.pictures.legends import Described, caption, named
from rushkit.results.words import encoder_words, points_words
from rushkit.rounding import number_words

_NAMES = {
    "loss": "loss",
    "knn_accuracy": "kNN accuracy, %",
    "validation_accuracy": "validation accuracy (m = 1), %",
}
_STAGES = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}
_WAYS = {
    (False,): "x' found by ascent: a lower bound of the local Lipschitz constant.",
    (True,): "x' random in the ball.",
    (False, True): (
        "Solid: x' found by ascent, a lower bound of the local Lipschitz constant. Dashed: x' random in the ball."
    ),
}


def probe(models: Sequence[Model]) -> list[Chart]:
    """Draw how far features move as the image moves: a chart for each ball, with random points dashed."""
    groups: dict[tuple[str, str, float], dict[tuple[str, str], Described]] = {}
    for model in models:
        for one in model.probe:
            # Models of one encoder share its probe.
            about = one.record
            group = groups.setdefault((about.data, about.norm, about.eps), {})
            colours = {key[0]: shown.series.colour for key, shown in group.items()}
            for row, curve in zip(about.rows, one.curves, strict=True):
                key = (f"{one.run} {row.encoder}", row.points)
                colour = colours.setdefault(key[0], len(colours))
                points = [(0.0, 0.0), *((x, 100 * y) for x, y in curve)]
                words = {
                    "run": one.run,
                    "encoder": encoder_words(row.encoder),
                    "points": f"x' {points_words(row.points)}",
                    "images": f"n = {row.images}",
                }
                shown = Series("", points, colour=colour, dashed=row.points == "random", marked=False)
                group[key] = Described(words, shown)
    return [_probe(data, norm, eps, list(group.values())) for (data, norm, eps), group in groups.items()]


def _probe(data: str, norm: str, eps: float, group: Sequence[Described]) -> Chart:
    series, shared = named(group, "points")
    ways = _WAYS[tuple(sorted({one.dashed for one in series}))]
    title = f"Feature distance per image distance, {ball_words(norm, eps)}, {data}"
    medians = [replace(one, points=[min(one.points, key=lambda point: abs(point[1] - 50))]) for one in series]
    return Chart(
        name=slug("feature distance", norm_words(norm), f"{eps:g}", data),
        title=title,
        label=finding(title, medians, lambda ratio: f"a ratio of {number_words(ratio)}"),
        x=axis("‖f(x) − f(x')‖₂ / ‖x − x'‖₂", xs(series)),
        y=percent_axis("% of images with at most this ratio"),
        series=series,
        caption=caption(shared, "Further right: features that move more.", ways),
    )


def training(models: Sequence[Model]) -> list[Chart]:
    """Draw loss and accuracy over the epochs: a chart for each stage and figure."""
    groups: dict[tuple[str, str], dict[str, Described]] = {}
    for number, model in enumerate(models):
        for one in model.training:
            for figure, points in one.curves.items():
                if figure == "lr":
                    continue
                factor = 100 if figure.endswith("accuracy") else 1
                shown = Series("", [(x, factor * y) for x, y in points], colour=number)
                about = {"model": model.name} if len(models) > 1 else {"run": one.run}
                # Models of one encoder share its curve, which is called by the first of them.
                groups.setdefault((one.stage, figure), {}).setdefault(one.run, Described(about, shown))
    drawn = sorted(groups.items(), key=lambda item: item[0][0] != "pretrain")
    return [_training(stage, figure, list(group.values())) for (stage, figure), group in drawn]


def _training(stage: str, figure: str, group: Sequence[Described]) -> Chart:
    series, shared = named(group)
    is_share = figure.endswith("accuracy")
    label = _NAMES.get(figure, figure)
    title = f"{_STAGES.get(stage, stage)}: {label.partition(',')[0]}"
    return Chart(
        name=slug(_STAGES.get(stage, stage), label),
        title=title,
        label=finding(title, series, lambda epoch: f"epoch {epoch:.3g}", percents if is_share else number_words),
        x=axis("epoch", xs(series)),
        y=percent_axis(label) if is_share else axis(label, ys(series)),
        series=series,
        caption=caption(shared),
    )
