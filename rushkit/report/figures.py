"""Figures of a run, as PNG and SVG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from rushkit.report.tables import noise_words
from rushkit.statistics import wilson_interval

FORMATS = ("png", "svg")


def certified_curve(results: Mapping[str, Any]) -> Figure:
    """Certified accuracy as a function of the radius, with its 95% Wilson band.

    After sequential tests there are points at the radii that were tested, and no curve between them.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    outcomes = results["outcomes"]
    right = np.array(outcomes["predicted"]) == np.array(outcomes["labels"])
    total = len(right)
    if results["mode"] == "sequential":
        rows = results["certified"]
        value, low, high = (np.array([100 * row[key] for row in rows]) for key in ("value", "low", "high"))
        tested = [row["radius"] for row in rows]
        axes.errorbar(tested, value, yerr=[value - low, high - value], fmt="o", capsize=3, label="certified")
    else:
        radii = np.sort(np.array(outcomes["radius"])[right])
        # The accuracy at a radius counts the images whose own radius is at least that: it falls just after each.
        at = np.concatenate([[0.0], radii, [max(results["reach"], 1e-12)]])
        count = np.concatenate([[len(radii)], np.arange(len(radii), 0, -1), [0]])
        low, high = wilson_interval(count, total)
        axes.fill_between(at, 100.0 * low, 100.0 * high, step="pre", alpha=0.25, linewidth=0)
        axes.step(at, 100 * count / total, where="pre", label="certified")
    for row in results["empirical"]:
        share = 100 * row["empirical"] / row["images"]
        label = f"{row['attack']} {row['protocol']}, m = {row['samples']}"
        axes.plot([row["eps"]], [share], "v", label=f"under attack: {label}")
    axes.axhline(100 * results["smoothed"]["value"], linestyle=":", color="gray", label="clean, smoothed")
    norm = {"linf": "l-inf"}.get(results["norm"], results["norm"])
    certainty = f"alpha {results['alpha']:g}" if results["alpha"] else "no chance of error"
    axes.set(
        xlabel=f"{norm} radius (pixels in [0, 1])",
        ylabel="accuracy, %",
        ylim=(0, 100),
        title=f"{results['data']}, {noise_words(results['noise'])}: {total} images, {certainty}",
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
