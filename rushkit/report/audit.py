"""An audit as a table and as curves, and a probe as a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.recipe.radius import ball_words
from rushkit.report.tables import noise_words
from rushkit.report.words import encoder_words, points_words
from rushkit.rounding import percent

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}
_PAGE = "docs/audit.md says of each code what it means and what to do"


def audit_table(results: Mapping[str, Any]) -> RenderableType:
    """Every check with its verdict and the sentence behind it."""
    settings, checks = results["settings"], results["checks"]
    ball = ball_words(settings["norm"], settings["eps"])
    table = Table(
        title=f"audit, {results['data']}, {len(results['attacked'])} of {results['images']} images attacked, {ball}, "
        f"m = {results['samples']}, noise {noise_words(results['noise'])}"
    )
    for column in ("code", "check", "verdict", "what was seen"):
        table.add_column(column)
    for check in checks:
        verdict = Text(check["status"], style=_STYLES[check["status"]])
        table.add_row(check["code"], check["name"], verdict, check["says"])
    count = {status: sum(check["status"] == status for check in checks) for status in _STYLES}
    summary = ", ".join(f"{count[status]} {status}" for status in _STYLES)
    lines = [summary, *filter(None, [results.get("size")])]
    if "best" in results["attacks"]:
        best = results["attacks"]["best"]["accuracy"]
        share = best * len(results["attacked"]) / results["images"]
        lines.append(
            f"under the best of these attacks {percent(share)} % of {results['images']} images stay right; this is a "
            f"check of the evaluation, `rushkit attack` measures"
        )
    return Group(table, Text("\n".join([*lines, _PAGE])))


def audit_figure(results: Mapping[str, Any], path: Path) -> Path | None:
    """Accuracy along steps, draws and eps, and the attack's loss, as a PNG; None where nothing was measured."""
    if not results["sweeps"]["steps"]:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4)
    for axis, key, label in zip(axes, ("steps", "eot", "eps"), ("steps", "draws a gradient", "eps"), strict=False):
        points = results["sweeps"][key]
        axis.plot([point["value"] for point in points], [100 * point["accuracy"] for point in points], "o-")
        axis.set(xlabel=label, xscale="log", ylim=(-2, 102))
    axes[0].set_ylabel("accuracy, % of the attacked images")
    axes[3].plot(range(1, len(results["loss_curve"]) + 1), results["loss_curve"])
    axes[3].set(xlabel="step", ylabel="mean loss of the attack")
    figure.savefig(path, dpi=150)
    return path


def probe_table(results: Mapping[str, Any]) -> RenderableType:
    """The local Lipschitz ratio of each encoder."""
    levels = list(results["rows"][0]["quantiles"])
    ball = ball_words(results["norm"], results["eps"])
    table = Table(title=f"feature distance per image distance, {results['data']}, x' in {ball}")
    for column in ("encoder", "x'"):
        table.add_column(column)
    for column in ("mean [95%]", *(f"{100 * float(level):g} %" for level in levels), "largest"):
        table.add_column(column, justify="right")
    for row in results["rows"]:
        mean = f"{row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        quantiles = (f"{row['quantiles'][level]:.3f}" for level in levels)
        about = (encoder_words(row["encoder"]), points_words(row["points"]))
        table.add_row(*about, mean, *quantiles, f"{row['largest']:.3f}")
    note = (
        f"‖f(x) − f(x')‖₂ / ‖x − x'‖₂, features of unit length, {results['images']} images without noise; the\n"
        "interval is a bootstrap over images. Ascent gives a lower bound of the local Lipschitz constant."
    )
    return Group(table, Text("\n".join(filter(None, [note, results.get("size")]))))
