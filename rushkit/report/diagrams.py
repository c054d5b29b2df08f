"""The charts of a report, from its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rushkit.report.charts import Series, chart
from rushkit.report.measured import on_test
from rushkit.report.tables import noise_words

_NAMES = {
    "loss": "loss",
    "knn_accuracy": "nearest-neighbour accuracy, %",
    "validation_accuracy": "validation accuracy (m = 1), %",
}
_SWEEPS = {"steps": "gradient steps", "eot": "draws a gradient", "eps": "eps, pixels in [0, 1]"}
_STAGES = {"pretrain": "Pre-training", "finetune": "Fine-tuning"}


def against_eps(document: Mapping[str, Any]) -> str:
    """Robust accuracy against eps: a chart for each norm and m, every model in it, ``paper`` dashed."""
    groups: dict[tuple[str, int], list[Series]] = {}
    for number, model in enumerate(document["models"]):
        for one in model["against_eps"]:
            key = (one["norm"], one["samples"])
            scale = 255 if one["norm"] == "linf" else 1
            several = len(document["models"]) > 1
            where = "" if on_test(one) else f" on {one['split']}"
            groups.setdefault(key, []).append(
                Series(
                    name=f"{model['name'] + ', ' if several else ''}{one['attack']} {one['protocol']}{where}",
                    points=[(point["eps"] * scale, 100 * point["accuracy"]) for point in one["points"]],
                    spread=[(p["eps"] * scale, 100 * p["low"], 100 * p["high"]) for p in one["points"]],
                    colour=number if several else len(groups.get(key, [])),
                    dashed=one["protocol"] == "paper",
                )
            )
    return "".join(
        chart(
            f"Robust accuracy against eps, m = {samples}",
            sorted(series, key=lambda one: one.dashed),
            "l-inf eps, in 1/255" if norm == "linf" else f"{norm} eps",
            "accuracy, %",
            (0, 100),
            "Solid: strict, an upper bound of the robustness. Dashed: the protocol paper, which is not the robustness.",
        )
        for (norm, samples), series in sorted(groups.items())
    )


def certified(document: Mapping[str, Any]) -> str:
    """Certified accuracy over the radius: a chart for each norm, every certification in it."""
    several = len(document["models"]) > 1
    groups: dict[str, list[Series]] = {}
    for model in document["models"]:
        for one in model["certified"]:
            found, curve = groups.setdefault(one["norm"], []), one["curve"]
            columns = ([100 * value for value in curve[key]] for key in ("value", "low", "high"))
            rows = list(zip(curve["radius"], *columns, strict=True))
            how = "tested radii" if curve["tested"] else f"{one['bound']}, {one['samples']} draws"
            whose = f"{model['name']}, " if several else ""
            found.append(
                Series(
                    name=f"{whose}{noise_words(one['noise'])}, {how}, n = {one['images']}",
                    points=[(radius, value) for radius, value, _, _ in rows],
                    spread=[(radius, low, high) for radius, _, low, high in rows],
                    kind="points" if curve["tested"] else "step",
                    colour=len(found),
                )
            )
    return "".join(
        chart(
            f"Certified accuracy, {'l-inf' if norm == 'linf' else norm}",
            series,
            "radius, pixels in [0, 1]",
            "certified accuracy, %",
            (0, 100),
            "The share of images that are right and proved to stay so within the radius, with 95% intervals: a lower "
            "bound of the robustness.",
        )
        for norm, series in sorted(groups.items())
    )


def audit(document: Mapping[str, Any]) -> str:
    """Accuracy along the sweeps of the audits, and the loss of the attack: on the right they should have settled."""
    groups: dict[str, list[Series]] = {key: [] for key in _SWEEPS}
    losses = []
    for number, model in enumerate(document["models"]):
        for one in model["audit"]:
            for key, found in groups.items():
                points = [(float(point["value"]), 100 * point["accuracy"]) for point in one["sweeps"].get(key, [])]
                if points:
                    found.append(Series(model["name"], points, colour=number))
            curve = [(float(step), float(loss)) for step, loss in enumerate(one["loss_curve"], 1)]
            if curve:
                losses.append(Series(model["name"], curve, colour=number))
    charts = [
        chart(f"Audit: along {words}", groups[key], words, "accuracy, %", (0, 100))
        for key, words in _SWEEPS.items()
        if groups[key]
    ]
    if losses:
        charts.append(chart("Audit: loss of the attack", losses, "step", "mean loss"))
    return "".join(charts)


def training(document: Mapping[str, Any]) -> str:
    """Loss and accuracy over the epochs: a chart for each stage and figure, every model in it."""
    groups: dict[tuple[str, str], list[Series]] = {}
    for number, model in enumerate(document["models"]):
        for one in model["training"]:
            for figure, points in one["curves"].items():
                if figure == "lr":
                    continue
                factor = 100 if figure.endswith("accuracy") else 1
                found = groups.setdefault((one["stage"], figure), [])
                scaled = [(x, factor * y) for x, y in points]
                found.append(Series(f"{model['name']}: {one['run']}", scaled, colour=number))
    charts = [
        chart(
            f"{_STAGES.get(stage, stage)}: {_NAMES.get(figure, figure).partition(',')[0]}",
            _once(series),
            "epoch",
            _NAMES.get(figure, figure),
            (0, 100) if figure.endswith("accuracy") else None,
        )
        for (stage, figure), series in sorted(groups.items(), key=lambda item: item[0][0] != "pretrain")
    ]
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _once(series: Sequence[Series]) -> list[Series]:
    """Models of one encoder share its curve."""
    return list({one.name.partition(": ")[2]: one for one in reversed(series)}.values())[::-1]
