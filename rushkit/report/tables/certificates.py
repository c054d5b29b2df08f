"""Certified accuracy, what attacks left of the same images, and predictions with their radii."""

from __future__ import annotations

from collections.abc import Sequence

from rushkit.recipe.radius import ball_words, eps_words, norm_words
from rushkit.report.protocols import protocol_words
from rushkit.report.table import PAGE, TERMINAL, TEXT, Cell, Column, Table, build_table, column
from rushkit.results.certification import Certification, CertifiedRate, EmpiricalRow
from rushkit.results.prediction import PredictedImage, Prediction
from rushkit.results.words import listed, low_words, noise_words, plain_noise, proved_words, rate_words
from rushkit.rounding import counted, floor_radius, percent, percent_interval


def certified_table(results: Certification, caption: str = "") -> Table:
    """Return certified accuracy at each radius."""

    def certified(row: CertifiedRate) -> Cell:
        return Cell(percent(row.value), (percent_interval(row.low, row.high, " – "),), rate_words(row), strong=True)

    columns: list[Column[CertifiedRate]] = [
        column(f"{norm_words(results.norm)} radius", lambda row: eps_words(row.radius)),
        column("certified, %", certified, line="certified % [95%]"),
        column("together at least, %", proved_words, line="together at least %"),
        column("right", lambda row: row.count, media=PAGE | TERMINAL),
        column("images", lambda row: row.total),
    ]
    return build_table(results.certified, columns, caption, kind="sticky")


def together_words(results: Certification) -> str:
    """Explain the column of what holds for all images together, beside the certified share and its interval."""
    if not results.alpha:
        return "Nothing is left to chance: together as many are right and robust as are certified."
    return (
        f"Together at least: of {counted(results.images, 'image')} so many are right and robust within the radius, at "
        f"all radii at once, but for one chance of {results.alpha:g} in all. Certified: each image but for a chance of "
        "its own. The interval is about other images like these, not about the draws."
    )


def empirical_table(rows: Sequence[EmpiricalRow]) -> Table:
    """Return what attacks of other runs left of the certified images."""
    columns: list[Column[EmpiricalRow]] = [
        column("attack", lambda row: row.attack, left=True),
        column("ball", lambda row: ball_words(row.norm, row.eps), left=True),
        column("protocol", protocol_words, left=True),
        column("rule", lambda row: row.rule, left=True),
        column("m", lambda row: row.samples),
        column("images", lambda row: row.images),
        column("under attack %", lambda row: percent(row.empirical / row.images)),
        column("certified %", lambda row: percent(row.certified / row.images)),
        column("certified and lost", lambda row: f"{len(row.broken)} of {row.compared}"),
    ]
    return build_table(rows, columns, "beside it, what attacks on the same model and images left")


def prediction_table(results: Prediction) -> Table:
    """Return the class of each image or an abstention, the bounds on its probability, and the radius."""

    def predicted(row: PredictedImage) -> str:
        return f"abstain (nearest: {row.top})" if row.abstained else str(row.predicted)

    columns: list[Column[PredictedImage]] = [
        column("image", lambda row: row.image, left=True, media=TEXT),
        column("class", predicted, left=True, media=TEXT),
        column("probability", lambda row: f"{percent_interval(row.p_lower, row.p_upper, ' to ')} %", left=True),
        column(f"{norm_words(results.norm)} radius", lambda row: floor_radius(row.radius)),
        column("note", lambda row: "; ".join(row.notes), left=True),
    ]
    made = (
        f"noise {noise_words(plain_noise(results.noise))}, {counted(results.samples, 'draw')} an image, {results.bound}"
    )
    caption = listed(f"{made}, {results.theorem}", low_words(results.precision))
    return build_table(results.predictions, columns, caption)
