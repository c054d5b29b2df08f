"""The two sentences that end a first look at a model: what was found, and what it does not mean."""

from __future__ import annotations

from rushkit.recipe.radius import ball_words
from rushkit.report.protocols import attacks_of, protocol_words, upper_bounds
from rushkit.report.quotable import quoted
from rushkit.results.attacks import Attacks
from rushkit.results.evaluation import Evaluation
from rushkit.results.words import accuracy_words, at_most_words
from rushkit.rounding import counted


def found_words(accuracy: Evaluation, robustness: Attacks) -> tuple[str, str]:
    """Return what was found of a model, and what it does not mean; never a figure of the protocol paper."""
    votes = [row for row in accuracy.accuracy if row.rule == "majority"]
    vote = max(votes, key=lambda row: row.samples)
    clean = (
        f"Found: a vote of {counted(vote.samples, 'noisy look')} is right on {accuracy_words(vote)} % of "
        f"{counted(vote.images, 'image')} of {accuracy.data}"
    )
    measured = quoted(upper_bounds(attacks_of("", robustness)))
    if measured is None:
        return (
            f"{clean}; no attack was as strong as the strict protocol.",
            "Not found: how robust the model is; `rushkit attack` with --protocol strict gives an upper bound.",
        )
    row = measured.record
    return (
        f"{clean}, and under {row.attack}, {ball_words(row.norm, row.eps)}, {protocol_words(row)}, a vote of "
        f"{row.samples} on {at_most_words(measured.majority)} of {row.images}.",
        "Not found: that the model is robust; a stronger attack may leave less, only a certificate is a lower bound, "
        f"and {row.images} images of {row.split} say nothing about other data or the paper's figures.",
    )
