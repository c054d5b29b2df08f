"""Robust accuracy against the passes of the attack, from the climb that first broke each image."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from rushkit.report.jsonable import Figures
from rushkit.results.attacks import AttackRow
from rushkit.results.intervals import mean_interval
from rushkit.results.rounds import AttackRound


@dataclass(frozen=True)
class PassesPoint(Figures):
    """What stands after a climb; at no passes what is right without an attack.

    Attributes:
        passes: Of an image that stays to this climb's end: forward and backward, each draw counted.
        accuracy: Share of the images that no climb has broken yet, as the attack's own panel of selection saw it.
        low: Lower end of its 95% interval.
        high: Upper end of the interval.
    """

    passes: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class PassesSeries(Figures):
    """Robust accuracy as a function of passes.

    Attributes:
        smaller: Radius of the ball whose versions were tried first, pixel units; None: there was none.
        settings: Those that are not the protocol's own, in words.
        scored: The robust accuracy by votes of fresh noise, which is the figure of the attack.
        points: In the order of passes; the first is at 0.
    """

    run: str
    data: str
    split: str
    noise: dict[str, object]
    attack: str
    norm: str
    eps: float
    smaller: float | None
    protocol: str
    version: int
    effort: int
    samples: int
    settings: str
    images: int
    scored: float
    points: tuple[PassesPoint, ...]


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
