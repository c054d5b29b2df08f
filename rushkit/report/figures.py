"""Figures of a run, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from rushkit.recipe.radius import norm_words
from rushkit.report.curves import certified_points
from rushkit.report.protocols import protocol_words
from rushkit.report.tables import noise_words

FORMATS = ("png", "svg")


def certified_curve(results: Mapping[str, Any]) -> Figure:
    """Certified accuracy as a function of the radius, with its 95% Wilson band.

    After sequential tests there are points at the radii that were tested, and no curve between them.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    points = certified_points(results)
    value, low, high = (100 * points[key] for key in ("value", "low", "high"))
    if points["tested"]:
        axes.errorbar(points["radius"], value, yerr=[value - low, high - value], fmt="o", capsize=3, label="certified")
    else:
        axes.fill_between(points["radius"], low, high, step="pre", alpha=0.25, linewidth=0)
        axes.step(points["radius"], value, where="pre", label="certified")
    for row in results["empirical"]:
        share = 100 * row["empirical"] / row["images"]
        label = f"{row['attack']} {protocol_words(row)}, m = {row['samples']}"
        axes.plot([row["eps"]], [share], "v", label=f"under attack: {label}")
    axes.axhline(100 * results["smoothed"]["value"], linestyle=":", color="gray", label="clean, smoothed")
    images = len(results["outcomes"]["labels"])
    certainty = f"alpha {results['alpha']:g}" if results["alpha"] else "no chance of error"
    axes.set(
        xlabel=f"{norm_words(results['norm'])} radius (pixels in [0, 1])",
        ylabel="accuracy, %",
        ylim=(0, 100),
        title=f"{results['data']}, {noise_words(results['noise'])}: {images} images, {certainty}",
    )
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    return figure


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format; the same figure gives the same bytes. Returns the files."""
    import matplotlib

    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    # Without these an SVG has random ids and the time in it.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
