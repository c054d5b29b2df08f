"""The figures in a run's folder, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from rushkit.recipe.radius import norm_words
from rushkit.report.curves import certified_points
from rushkit.report.protocols import protocol_words
from rushkit.results.auditing import Audit
from rushkit.results.certification import Certification
from rushkit.results.words import noise_words, plain_noise

FORMATS = ("png", "svg")


def certified_curve(results: Certification) -> Figure:
    """Draw certified accuracy as a function of the radius, with its 95% Wilson band.

    After sequential tests there are points at the radii that were tested, and no curve between them.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    points = certified_points(results)
    value, low, high = (100 * np.array(shares) for shares in (points.value, points.low, points.high))
    if points.tested:
        axes.errorbar(points.radius, value, yerr=[value - low, high - value], fmt="o", capsize=3, label="certified")
    else:
        axes.fill_between(points.radius, low, high, step="pre", alpha=0.25, linewidth=0)
        axes.step(points.radius, value, where="pre", label="certified")
    if results.alpha:
        together = [100 * row.proved_value for row in results.certified]
        radii = [row.radius for row in results.certified]
        axes.plot(radii, together, "_", color="black", markersize=14, zorder=3, label="together at least")
    for row in results.empirical:
        share = 100 * row.empirical / row.images
        label = f"{row.attack} {protocol_words(row)}, m = {row.samples}"
        axes.plot([row.eps], [share], "v", label=f"under attack: {label}")
    axes.axhline(100 * results.smoothed.value, linestyle=":", color="gray", label="clean, smoothed")
    images = len(results.outcomes.labels)
    axes.set(
        xlabel=f"{norm_words(results.norm)} radius (pixels in [0, 1])",
        ylabel="accuracy, %",
        ylim=(0, 100),
    )
    about = f"{results.data}, {noise_words(plain_noise(results.noise))}: {images} images"
    axes.set_title("\n".join([about, *results.method.split("; ")]), fontsize="small")
    axes.set_xlim(left=0)
    axes.legend(fontsize="small")
    return figure


def audit_figure(results: Audit, path: Path) -> Path | None:
    """Draw accuracy along steps, draws and eps, and the loss of the attack, as a PNG; None if nothing was measured.

    Where the model has no gradient, and so no sweeps, the accuracy under each attack without gradients is drawn.
    """
    sweeps = results.sweeps
    if not sweeps.steps:
        return _without_gradient(results, path)
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 4)
    drawn = ((sweeps.steps, "steps"), (sweeps.eot, "draws a gradient"), (sweeps.eps, "eps"))
    for axis, (points, label) in zip(axes, drawn, strict=False):
        axis.plot([point.value for point in points], [100 * point.accuracy for point in points], "o-")
        axis.set(xlabel=label, xscale="log", ylim=(-2, 102))
    axes[0].set_ylabel("accuracy, % of the attacked images")
    axes[3].plot(range(1, len(results.loss_curve) + 1), results.loss_curve)
    axes[3].set(xlabel="step", ylabel="mean loss of the attack")
    figure.savefig(path, dpi=150)
    return path


def _without_gradient(results: Audit, path: Path) -> Path | None:
    """Draw the accuracy of the attacked images under each attack without gradients; None if there was none."""
    attacks = results.attacks
    points = [point for point in (attacks.random_noise, attacks.square, attacks.strongest) if point is not None]
    if not points:
        return None
    figure = Figure(figsize=(4, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.bar([point.label for point in points], [100 * point.accuracy for point in points], color="tab:blue")
    axes.set(ylabel="accuracy, % of the attacked images", ylim=(0, 102))
    figure.savefig(path, dpi=150)
    return path


def save_figure(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure in every format; the same figure gives the same bytes. Returns the files."""
    import matplotlib

    paths = [folder / f"{name}.{kind}" for kind in FORMATS]
    # Without these an SVG has random ids and the time in it.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
    return paths
