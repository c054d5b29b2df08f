"""Certificates and predictions as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rushkit.recipe.radius import ball_words, norm_words
from rushkit.report.protocols import protocol_words
from rushkit.report.tables import interval, noise_words
from rushkit.report.words import certainty
from rushkit.rounding import as_asked, floor_radius, percent, percent_interval


def certified_table(results: Mapping[str, Any]) -> RenderableType:
    """Certified accuracy at each radius, what surrounds it, and what it covers."""
    norm = norm_words(results["norm"])
    table = Table(title=f"certified accuracy, {results['data']}, noise {noise_words(results['noise'])}")
    for column in (f"{norm} radius", "certified % [95%]", "right", "images"):
        table.add_column(column, justify="right")
    for row in results["certified"]:
        table.add_row(as_asked(row["radius"]), interval(row, "value"), str(row["count"]), str(row["total"]))
    lines = [
        f"certainty: {certainty(results)}",
        f"clean accuracy of the smoothed classifier: {interval(results['smoothed'], 'value')} %",
        f"abstained: {interval(results['abstained'], 'value')} %",
    ]
    if results["mode"] == "sequential":
        used = results["draws_used"]
        lines.append(
            f"draws an image: {used['mean']:.0f} on average, {used['most']} at most; "
            f"{results['undecided']} images undecided at some radius"
        )
    else:
        lines.append(
            f"average certified radius: {_average(results['average_radius'], results['average_radius_error'])}"
        )
    lines += [f"warning: {warning}" for warning in results["warnings"]]
    parts: list[RenderableType] = [table, Text("\n".join(lines))]
    if results["empirical"]:
        parts.append(_beside(results))
    parts += [Text(f"CONTRADICTION: {message}") for message in results["checks"]["messages"]]
    parts += [Text(results["covers"]), Text("\n".join(["Assumptions:", *(f"- {a}" for a in results["assumptions"])]))]
    return Group(*parts)


def prediction_table(results: Mapping[str, Any]) -> RenderableType:
    """One line an image: class or abstain, the bounds on its probability, the radius."""
    norm = norm_words(results["norm"])
    table = Table(title=f"noise {noise_words(results['noise'])}, {results['samples']} draws an image")
    for column in ("image", "class", "probability", f"{norm} radius", "note"):
        table.add_column(column, justify="right" if "radius" in column else "left")
    for row in results["predictions"]:
        shown = row["class"] if not row["abstained"] else f"abstain (nearest: {row['top']})"
        bounds = f"{percent_interval(row['p_lower'], row['p_upper'], ' to ')} %"
        table.add_row(row["image"], shown, bounds, floor_radius(row["radius"]), "; ".join(row["notes"]))
    return Group(table, Text(results["explanation"]))


def _average(radius: float, error: float | None) -> str:
    """``0.000054 ± 0.000021 (standard error)``: to two digits of the error, or of the radius where it has none."""
    if error is None:
        return floor_radius(radius)
    decimals = max(0, 1 - math.floor(math.log10(error))) if error else 3
    return f"{floor_radius(radius, decimals)} ± {error:.{decimals}f} (standard error)"


def _beside(results: Mapping[str, Any]) -> Table:
    table = Table(title="beside it, what attacks on the same model and images left")
    words, figures = ("attack", "ball", "protocol", "rule"), ("under attack %", "certified %", "certified and lost")
    for column in (*words, "m", "images", *figures):
        table.add_column(column, justify="left" if column in words else "right")
    for row in results["empirical"]:
        about = (row["attack"], ball_words(row["norm"], row["eps"]), protocol_words(row), row["rule"])
        shares = (percent(row["empirical"] / row["images"]), percent(row["certified"] / row["images"]))
        lost = f"{len(row['broken'])} of {row['compared']}"
        table.add_row(*about, str(row["samples"]), str(row["images"]), *shares, lost)
    return table
