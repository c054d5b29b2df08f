"""How an attack searched, in words: what defines its protocol, the passes an image, and whether it has converged."""

from __future__ import annotations

from itertools import groupby

from rushkit.results.attacks import AttackRound, AttackRow, Change
from rushkit.results.words import points
from rushkit.rounding import number_words

# An interval that reaches further down than this has room for another figure: the search has not converged.
CONVERGED = 0.02
HEAD = "twice the passes, points"


def passes_an_image(row: AttackRow) -> str:
    """Return the passes an image, forward and backward, each draw counted; the final votes are not among them."""
    return number_words((row.image_forwards + row.image_backwards) / row.images)


def has_converged(change: Change) -> bool:
    """Return whether twice the passes would leave an accuracy as it is, but for 2 points."""
    return change.low >= -CONVERGED


def change_words(row: AttackRow) -> str:
    """Return what twice the passes would still change: ``"−0.5 [−2.1, 0.0], not converged"``; empty if not known."""
    change = row.convergence.get("majority")
    if change is None:
        return ""
    mark = "" if has_converged(change) else ", not converged"
    return f"{points(change.estimate)} [{points(change.low)}, {points(change.high)}]{mark}"


def convergence_note(row: AttackRow) -> str:
    """Return ``change_words`` as a note: ``"twice the passes: −0.5 [−2.1, 0.0] points"``; empty if not known."""
    words, comma, mark = change_words(row).partition(", not")
    advice = " converged: --effort buys more" if mark else ""
    return f"twice the passes: {words} points{comma}{advice}" if words else ""


def definition_note(row: AttackRow) -> str:
    """Return every number that defines the search of a cascade; empty for other attacks."""
    if not row.rounds:
        return ""
    parts = [
        f"{number}. {'; '.join(map(_climb_words, climbs))}"
        for number, climbs in groupby(row.rounds, key=lambda climb: climb.doubling)
    ]
    panels = ", ".join(map(str, row.selection))
    votes = "one vote" if row.votes == 1 else f"{row.votes} votes"
    return (
        f"{row.protocol} version {row.version}, effort {row.effort}, search in {row.search_precision}: "
        f"{' '.join(parts)}. Versions of an image are compared on {panels} draws, and scored by {votes} of "
        f"m = {row.samples}; an image leaves once its outcome is settled"
    )


def _climb_words(climb: AttackRound) -> str:
    draws = f"{climb.draws} to {climb.most_draws}" if climb.most_draws > climb.draws else str(climb.draws)
    more = "".join(f", {name} {value}" for name, value in climb.options.items())
    return (
        f"{climb.loss} {climb.method}, {climb.steps} steps of {draws} draws from {climb.start}, first step "
        f"{climb.step_size:g} eps, momentum {climb.momentum:g}, offered after {_steps(climb)}{more}"
    )


def _steps(climb: AttackRound) -> str:
    return ", ".join(map(str, climb.offered)) or "none"
