"""Robust accuracy against the passes of the attack, from the climb that first broke each image."""

from __future__ import annotations

from itertools import accumulate

from rushkit.report.breakdown import PassesPoint, PassesSeries
from rushkit.results.attacks import AttackRow
from rushkit.results.intervals import mean_interval
from rushkit.results.rounds import AttackRound


def against_passes(
    run: str, data: str, noise: dict[str, object], row: AttackRow, settings: str = ""
) -> PassesSeries | None:
    """Return robust accuracy after each climb of a cascade, under the majority vote; None for other attacks.

    Passes are those of the gradients, at the fewest draws that a climb takes: an image whose gradient is noisy takes
    more, and one that is lost leaves before. Images that fell to the user's own attacks stand, since these come last
    and their passes are not known.
    """
    broken = row.outcomes.first_broken.get("majority")
    if not row.rounds or not broken:
        return None
    spent = accumulate(map(_passes, row.rounds))
    points = [_point(0, sum(number != 0 for number in broken), len(broken))]
    for climb, passes in enumerate(spent, 1):
        # A version from a smaller ball was there before the first climb.
        standing = sum(number == -1 or number > climb for number in broken)
        points.append(_point(passes, standing, len(broken)))
    variant = row.protocol, row.version, row.effort
    about = run, data, row.split, noise, row.attack, row.norm, row.eps, row.smaller, *variant, row.samples, settings
    return PassesSeries(*about, len(broken), row.rules["majority"].accuracy, tuple(points))


def _passes(climb: AttackRound) -> int:
    return 2 * climb.steps * climb.draws


def _point(passes: int, standing: int, images: int) -> PassesPoint:
    return PassesPoint(passes, standing / images, *mean_interval(standing, images))
