"""How an attack searched, in words: what defines its protocol, the passes an image, and whether it has converged."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rushkit.results.attacks import AttackRow
from rushkit.results.rounds import AttackRound, Change
from rushkit.results.words import points
from rushkit.rounding import counted, number_words

# The search has not converged if the interval of the change reaches further down than this.
CONVERGED = 0.02
HEAD = "twice the passes, points"


def passes_an_image(row: AttackRow) -> str:
    """Return the passes per image, forward and backward, each draw counted; the final votes are not among them."""
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
    words, _, mark = change_words(row).partition(", not ")
    advice = ", not converged: more effort or more images would tell" if mark else ""
    return f"twice the passes: {words} points{advice}" if words else ""


def definition_note(row: AttackRow) -> str:
    """Return the rounds and panels of a cascade in words; empty for other attacks."""
    if not row.rounds:
        return ""
    usual = _usual(row.rounds)
    parts = [
        f"round {number}: {_round_words(list(climbs), usual)}"
        for number, climbs in groupby(row.rounds, key=lambda climb: climb.doubling)
    ]
    panels = ", ".join(map(str, row.selection))
    votes = "one vote" if row.votes == 1 else f"{row.votes} votes"
    return (
        f"{row.protocol} version {row.version}, effort {row.effort}, search in {row.search_precision}: "
        f"{'; '.join(parts)}. Climbs are {_way(usual)} unless they say otherwise. Versions of an image are compared on "
        f"{panels} draws, and scored by {votes} of m = {row.samples}; an image leaves once its outcome is settled"
        f"{_threshold_words(row)}"
    )


def _threshold_words(row: AttackRow) -> str:
    if not row.thresholds:
        return ""
    agreement, clearly, settled = (row.thresholds[name] for name in ("agreement", "clearly", "settled"))
    return (
        f", its vote lost by {settled:g} standard deviations; draws are doubled where the gradients of two half panels "
        f"have a cosine below {agreement:g}; a race ends early at {clearly:g} standard errors"
    )


# The step rule, the length of the first step as a multiple of eps, and the momentum of a climb.
_Way = tuple[str, float, float]


def _way_of(climb: AttackRound) -> _Way:
    return climb.method, climb.step_size, climb.momentum


def _usual(rounds: Sequence[AttackRound]) -> _Way:
    """Return the step rule, first step and momentum of most climbs."""
    ways = [_way_of(climb) for climb in rounds]
    return max(ways, key=ways.count)


def _way(way: _Way) -> str:
    method, step_size, momentum = way
    return f"{method}, first step {step_size:g} eps, momentum {momentum:g}"


def _round_words(climbs: Sequence[AttackRound], usual: _Way) -> str:
    """Return a round of climbs of equal length: ``"20 steps of 16 draws, races after 10, 20, up margin from best"``."""
    first = climbs[0]
    draws = (
        f"{first.draws} to {first.most_draws} draws" if first.most_draws > first.draws else counted(first.draws, "draw")
    )
    races = ", ".join(map(str, first.offered)) or "none"
    up = ", ".join(_climb_words(climb, usual) for climb in climbs)
    return f"{counted(first.steps, 'step')} of {draws}, races after {races}, up {up}"


def _climb_words(climb: AttackRound, usual: _Way) -> str:
    own = [] if _way_of(climb) == usual else [_way(_way_of(climb))]
    own += [f"{name} {value}" for name, value in climb.options.items()]
    return f"{climb.loss} from {climb.start}" + (f" ({', '.join(own)})" if own else "")
