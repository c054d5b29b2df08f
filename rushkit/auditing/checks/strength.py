"""The checks of the attack under doubt against what is known to be reachable: an optimum, or a stronger attack."""

from __future__ import annotations

from rushkit import statistics
from rushkit.auditing.checks.verdict import LARGE, Verdict, as_percent, discordant
from rushkit.auditing.landscapes import SOUND
from rushkit.auditing.measure import Measured
from rushkit.results.notes import Status

# The second opinion may be stronger than a sound attack: it has to be so clearly.
_ALPHA = 1e-3


def planted_optimum(measured: Measured) -> Verdict:
    """Check that the attack climbs to the optimum of landscapes where it is known.

    In l-inf and l2 an attack that misses the curved one alone may lose nothing on a network, whose slopes hardly change
    within the ball: the check then only warns, unless the second opinion finds more. In l1 the two optima differ in how
    many pixels they change, and a network may ask for either.
    """
    shares = measured.landscapes
    figures = {f"share of the {kind} optimum": share for kind, share in shares.items()}
    missed = [kind for kind, share in shares.items() if share < SOUND]
    status: Status = "fail" if missed else "pass"
    if missed == ["curved"] and measured.settings.norm != "l1" and second_opinion(measured).status != "fail":
        status = "warn"
    reached = ", ".join(f"{as_percent(share)} on the {kind} one" for kind, share in shares.items())
    return Verdict(status, f"of the possible rise on two landscapes, the attack reaches {reached}", figures)


def second_opinion(measured: Measured) -> Verdict:
    """Check that APGD and APGD-T together do not break many more images than the attack under doubt at its best."""
    opinion = measured.second_opinion
    if opinion is None:
        return Verdict("skipped", "APGD was not run")
    doubted = min(measured.points["steps"], key=lambda point: point.accuracy)
    lost, won = discordant(opinion, doubted)
    p = float(statistics.mcnemar(lost, won))
    figures = {
        f"accuracy under {doubted.label}": doubted.accuracy,
        f"accuracy under {opinion.label}": opinion.accuracy,
        "lost": float(lost),
        "won": float(won),
        "p": p,
    }
    says = (
        f"{opinion.label} leave {as_percent(opinion.accuracy)}, the attack at {doubted.label} "
        f"{as_percent(doubted.accuracy)}"
    )
    if float(statistics.mcnemar(len(doubted.share), 0)) >= _ALPHA:
        return Verdict("skipped", f"too few images to tell; {says}", figures)
    fails = doubted.accuracy - opinion.accuracy > LARGE and lost > won and p < _ALPHA
    return Verdict("fail" if fails else "pass", f"{says} (p = {p:.2g})", figures)
