"""The rounds of the cascade: the losses, starts, steps and draws of their climbs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

from rushkit.attacks import Norm
from rushkit.attacks.losses import LossName, classes_needed
from rushkit.attacks.steps.auto import AutoSteps
from rushkit.attacks.steps.sparse import SparseSteps

Start = Literal["random", "best"]
StepRule = Literal["falling", "auto", "sparse"]

EFFORTS = (1, 2, 4)
MOMENTUM = 0.75
# Where the halves of a panel of draws disagree more than this (cosine of their gradients), the draws are doubled.
AGREEMENT = 0.1
MOST_DRAWS = 64
# The shares of a climb's steps after which its images race; they race at its end too, and where their draws ask for it.
LOOKS = (0.75,)
# About how many races of a climb end at the first stage; the share of images that take every round, in an estimate.
_RACES, _HOLD_OUT = 2, 0.5


@dataclass(frozen=True)
class Ascent:
    """One climb of a round.

    Attributes:
        loss: The loss that is climbed.
        start: At a random point of the ball, or at the best version so far.
        rule: The step rule.
        rival: Climb towards the class that comes first or second among the others; 0: away from the label.
    """

    loss: LossName
    start: Start
    rule: StepRule = "falling"
    rival: int = 0

    def __str__(self) -> str:
        return f"{self.loss}{f' to rival {self.rival}' if self.rival else ''}"


@dataclass(frozen=True)
class Round:
    """Climbs of equal length, one after the other.

    Attributes:
        steps: Gradient steps of each climb.
        draws: The fewest draws of a gradient.
        ascents: The climbs.
    """

    steps: int
    draws: int
    ascents: tuple[Ascent, ...]

    @property
    def words(self) -> str:
        """Steps and draws, such as ``"40x16"``."""
        return f"{self.steps}x{self.draws}"


class Numbered(NamedTuple):
    """A climb and the number of its round, from 0."""

    round: int
    ascent: Ascent


@dataclass(frozen=True)
class Schedule:
    """Everything that defines the climbs of a cascade.

    Attributes:
        rounds: The rounds, in order; greater efforts append to them.
        most_draws: The most draws of a gradient, where its halves disagree.
    """

    rounds: tuple[Round, ...]
    most_draws: int

    @cached_property
    def climbs(self) -> tuple[Numbered, ...]:
        """The climbs of all rounds, in order."""
        return tuple(Numbered(number, ascent) for number, part in enumerate(self.rounds) for ascent in part.ascents)

    @property
    def fewest_draws(self) -> int:
        """The fewest draws of a gradient, in any round."""
        return min((part.draws for part in self.rounds), default=1)

    @property
    def usual_draws(self) -> int:
        """The draws of a gradient in most rounds."""
        return max((part.draws for part in self.rounds), default=1)

    def most_passes(self, panel: int) -> int:
        """Return the most passes, forward and backward, of one image that is compared on a panel of so many draws."""
        climbs = sum(
            2 * self.rounds[part].steps * max(self.ladder(part)) + panel * (len(LOOKS) + 1) for part, _ in self.climbs
        )
        return 2 * panel + climbs + 2 * sum(part.draws for part in self.rounds)

    def likely_passes(self, stage: int) -> int:
        """Return about how many passes an image takes if half of the images hold out, and races end at one stage."""
        first, *later = (
            (2 * part.steps * part.draws * len(part.ascents) for part in self.rounds) if self.rounds else (0,)
        )
        return round(2 * stage + first + _HOLD_OUT * (sum(later) + _RACES * stage * len(self.climbs)))

    def of_least(self, draws: int) -> Schedule:
        """Return the schedule with at least this many draws a gradient in every round."""
        rounds = tuple(replace(part, draws=max(part.draws, draws)) for part in self.rounds)
        return Schedule(rounds, max(self.most_draws, draws))

    def ladder(self, number: int) -> Iterator[int]:
        """Yield the numbers of draws that a round may use: its own, doubled while the most allows it."""
        draws = self.rounds[number].draws
        yield draws
        while draws < self.most_draws:
            draws = min(2 * draws, self.most_draws)
            yield draws


def _round(steps: int, draws: int, *ascents: str) -> Round:
    """Return a round from climbs such as ``"margin best"`` or ``"margin random auto 1"``."""
    parts = [ascent.split() for ascent in ascents]
    return Round(steps, draws, tuple(Ascent(*words[:3], *map(int, words[3:])) for words in parts))  # type: ignore[arg-type]


# With noise: the rounds of effort 1, and those that efforts 2 and 4 append.
_NOISY = (
    _round(10, 8, "nll random"),
    _round(20, 16, "margin best"),
    _round(40, 16, "ce random", "dlr random", "margin random falling 1", "margin random falling 2"),
    _round(80, 16, "nll random", "margin best"),
    _round(80, 16, "ce random", "dlr random", "nll best", "margin random"),
    _round(160, 16, "nll random", "margin best", "dlr random", "ce random"),
)
# Without noise a gradient is one exact pass, so there are more steps, some of them Auto-PGD's.
_EXACT = (
    _round(10, 1, "nll random"),
    _round(20, 1, "margin best"),
    _round(40, 1, "ce random", "dlr random"),
    _round(100, 1, "margin random auto 1", "margin random auto 2"),
    _round(100, 1, "ce random auto", "dlr random auto", "margin random auto 3"),
    _round(200, 1, "nll random", "margin best", "dlr random auto"),
)
_ROUNDS = {1: 4, 2: 5, 4: 6}


# The losses of Auto-PGD one after the other, at its own 100 steps; greater efforts start anew.
_APGD = (
    ("ce random auto",),
    ("dlr random auto",),
    ("nll random auto", "margin random auto"),
    ("ce random auto", "dlr random auto", "nll random auto", "margin random auto"),
    ("ce random auto", "dlr random auto", "nll random auto", "margin random auto") * 2,
)
_APGD_STEPS, _APGD_DRAWS = 100, 16


def first_step(rule: StepRule, norm: Norm, eps: float) -> float:
    """Return the length of a rule's first step as a multiple of eps."""
    if rule == "falling":
        return 0.5 if norm != "l1" else min(eps, 1.0) / eps
    return AutoSteps.first_radius * 2 if rule == "auto" else SparseSteps.first_radius


def looks(steps: int) -> list[int]:
    """Return the steps of a climb before which all of its images race."""
    return sorted({max(1, round(share * steps)) for share in LOOKS})


def schedule_of(
    norm: Norm, random: bool, classes: int, effort: int = 1, rule: Literal["mixed", "apgd"] = "mixed"
) -> Schedule:
    """Return the rounds of the cascade.

    Args:
        norm: In l1, climbs from random starts and those of Auto-PGD take the steps of APGD-L1.
        random: Whether the draws of an image differ.
        classes: K; with too few for DLR the margin replaces it, and no climb goes to a rival that does not exist.
        effort: 1, 2 or 4; 2 and 4 each append a round that costs about as much as all before it.
        rule: The steps that the rounds name, or those of Auto-PGD alone, up every loss.
    """
    rounds = (_NOISY if random else _EXACT)[: _ROUNDS[effort]]
    if rule == "apgd":
        draws = _APGD_DRAWS if random else 1
        rounds = tuple(_round(_APGD_STEPS, draws, *ascents) for ascents in _APGD[: _ROUNDS[effort] - 1])
    fitted = tuple(
        replace(part, ascents=tuple(_fitted(each, norm, classes) for each in part.ascents)) for part in rounds
    )
    return Schedule(fitted, MOST_DRAWS if random else 1)


def _fitted(ascent: Ascent, norm: Norm, classes: int) -> Ascent:
    if classes < classes_needed(ascent.loss, targeted=False):
        ascent = replace(ascent, loss="margin")
    if ascent.rival >= classes:
        ascent = replace(ascent, rival=0)
    if norm == "l1" and (ascent.rule == "auto" or ascent.start == "random"):
        ascent = replace(ascent, rule="sparse")
    return ascent
