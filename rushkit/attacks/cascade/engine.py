"""The cascade at work on a batch of images, one step at a time, with a state that can be saved after each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestByRule
from rushkit.attacks.cascade.schedule import AGREEMENT, LOOKS, MOMENTUM, Ascent, Schedule, looks
from rushkit.attacks.norms import random_start, settle
from rushkit.attacks.result import AttackNote, gradient_notes, useless
from rushkit.attacks.steps.auto import AutoSteps
from rushkit.attacks.steps.climb import Climb
from rushkit.attacks.steps.falling import FallingSteps
from rushkit.attacks.steps.sparse import SparseSteps
from rushkit.attacks.victim import Victim, derive
from rushkit.recipe.schema import Rule
from rushkit.system import generator

# After the draws of a climb have called for a race, they call for no other of this image for this share of the steps.
_REST = 0.125
# The name that versions from a smaller ball are credited under.
SMALLER = "smaller ball"
# In place of the number of the climb that broke an image.
_NEVER, _CLEAN, _SMALLER = -1, 0, -2
# The numbers under which the versions are kept: a plan has no other attack beside a cascade and what it starts from.
_NUMBER, _NUMBER_SMALLER = 0, 1


@dataclass
class Place:
    """The position of a cascade in its schedule, and its costs so far, in plain numbers.

    Attributes:
        voted: Whether the panel has voted on the clean images.
        measured: The round whose draws were measured last; -1: none.
        climb: The number of the climb, counted from 1 over all rounds.
        draws: Draws in each gradient of the group of images that climbs; 0: no group has begun.
        climbing: Whether a group is under way.
        credits: Name of a climb to the number of images that it was the first to break.
        image_forwards: Images that went forward, in finished pieces of work.
        image_backwards: Images that went backward.
    """

    voted: bool = False
    measured: int = -1
    climb: int = 1
    draws: int = 0
    climbing: bool = False
    credits: dict[str, int] = field(default_factory=dict)
    image_forwards: int = 0
    image_backwards: int = 0


class Ball(NamedTuple):
    """The points around an image that an attack may move it to.

    Attributes:
        norm: The norm.
        eps: The radius, pixel units.
    """

    norm: Norm
    eps: float


@dataclass
class Group:
    """The images that climb together; every tensor has one row an image.

    Attributes:
        index: (n,) their positions in the batch.
        target: (n,) classes to reach; None: away from the label.
        rested: (n,) the step before which an image asks for no other race.
        climb: Takes the steps.
    """

    index: Tensor
    target: Tensor | None
    rested: Tensor
    climb: Climb

    def keep(self, stay: Tensor) -> None:
        """Keep the images for which ``stay`` (n,) is true and drop the others."""
        self.index, self.rested = self.index[stay], self.rested[stay]
        self.target = None if self.target is None else self.target[stay]
        self.climb.keep(stay)


class Engine:
    """A cascade on N images; ``advance`` does the next piece of work, wholly or not at all.

    Every draw is seeded by its round, climb and step, and every decision is about one image, so that its outcome
    depends neither on the images beside it nor on when they leave.

    Args:
        victim: The model under attack.
        best: Takes the versions that the climbs offer.
        x: (N, C, H, W) clean images.
        y: (N,) labels.
        schedule: The rounds.
        ball: The ball around each image.
        seed: Seeds the gradients and the starts.
        smaller: (N, C, H, W) versions found in a smaller ball, which race before the first climb; None: there are none.

    Attributes:
        at: Its position and costs.
        first_broken: Rule to (N,) int64, the number of the climb that first broke an image; 0: it was wrong before;
            -1: not broken; -2: a version from a smaller ball broke it.
        unusable: (N,) bool, images at which a gradient was NaN or infinite, which ended the climb that met it.
        flat: (N,) bool, images that have climbed, and whose gradient was zero at every step.
    """

    def __init__(
        self,
        victim: Victim,
        best: BestByRule,
        x: Tensor,
        y: Tensor,
        schedule: Schedule,
        ball: Ball,
        seed: int,
        smaller: Tensor | None = None,
    ) -> None:
        self._victim, self.best, self._x, self._y = victim, best, x, y
        self.schedule, self._norm, self._eps, self._seed = schedule, ball.norm, ball.eps, seed
        self._smaller = smaller
        self.at = Place()
        self.first_broken = {rule: torch.full_like(y, _NEVER) for rule in best.best}
        self.unusable, self._rising = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool)
        self._climbed, self._needed = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
        self._group: Group | None = None

    @property
    def last_fall(self) -> dict[Rule, Tensor]:
        """Rule to (N,) float64 in [0, 1], by how much the last round made a right vote less probable.

        Such a round costs about as much as all before it. Empty with fewer than two rounds; 0 for images that were
        settled before the last one.
        """
        last = len(self.schedule.rounds) - 1
        if last < 1:
            return {}
        falls = self.best.falls()
        return falls if self.at.measured == last else {rule: torch.zeros_like(fall) for rule, fall in falls.items()}

    @property
    def flat(self) -> Tensor:
        """(N,) bool, images that have climbed, and whose gradient was zero at every step."""
        return self._climbed & ~self._rising & ~self.unusable

    @property
    def useless(self) -> bool:
        """Whether images have climbed, and the gradients of each were NaN or infinite until it left."""
        return useless(self._climbed, self.unusable & ~self._rising)

    def advance(self) -> bool:
        """Do the next piece of work: a vote, a measurement, a step or a race. False if there is none left.

        An error, such as that of a pause between two passes, leaves the state as it was before the piece.
        """
        forwards, backwards = self._victim.image_forwards, self._victim.image_backwards
        if not self.at.voted:
            self.best.begin()
            self.at.voted = True
            self._credit("clean", _CLEAN)
            if self._smaller is not None and len(index := self.best.open()):
                self.best.offer(_NUMBER_SMALLER, index, self._smaller[index])
                self._credit(SMALLER, _SMALLER)
        elif self._group is not None:
            self._go_on(self._group)
        elif place := self._next_place():
            self._begin(*place)
        else:
            return False
        self.at.image_forwards += self._victim.image_forwards - forwards
        self.at.image_backwards += self._victim.image_backwards - backwards
        return True

    def _next_place(self) -> tuple[int, int] | None:
        """Return the next climb and number of draws for which there are images; 0 draws: they are not yet measured."""
        open_images = self.best.open()
        if not len(open_images):
            return None
        needed = set(self._needed[open_images].tolist())
        for climb in range(self.at.climb, len(self.schedule.climbs) + 1):
            part = self.schedule.climbs[climb - 1].round
            if part > self.at.measured:
                return climb, 0
            for draws in self.schedule.ladder(part):
                if (climb, draws) > (self.at.climb, self.at.draws) and draws in needed:
                    return climb, draws
        return None

    def _begin(self, number: int, draws: int) -> None:
        """Measure how many draws each image needs in a new round (0 draws), or begin the climb of a group."""
        part, ascent = self.schedule.climbs[number - 1]
        if not draws:
            self._needed = self._measured(part)
            self.best.mark()
            self.at.measured, self.at.climb, self.at.draws = part, number, 0
            return
        index = self.best.open()
        index = index[self._needed[index] == draws]
        target = self.best.rivals()[index, ascent.rival - 1] if ascent.rival else None
        climb = self._made(ascent, self.schedule.rounds[part].steps, index, self._start(ascent, number)[index])
        self._group = Group(index, target, torch.zeros_like(index), climb)
        self.at.climb, self.at.draws, self.at.climbing = number, draws, True
        self._climbed[index] = True

    def _start(self, ascent: Ascent, number: int) -> Tensor:
        """Return where the images start, (N, C, H, W): a start does not depend on which images have left."""
        if ascent.start == "best":
            return self.best.weakest()
        source = generator(self._seed, "cascade start", number, device=self._x.device)
        radius = self._eps * (SparseSteps.first_radius if ascent.rule == "sparse" else 1)
        return random_start(self._x, self._norm, radius, source, shared=True)

    def _made(self, ascent: Ascent, steps: int, index: Tensor, start: Tensor) -> Climb:
        x = self._x[index]
        if ascent.rule == "auto":
            return AutoSteps(x, start, self._norm, self._eps, steps)
        if ascent.rule == "sparse":
            return SparseSteps(x, start, self._norm, self._eps, steps, noisy=self._victim.random)
        return FallingSteps(x, start, self._norm, self._eps, steps, momentum=MOMENTUM)

    def _measured(self, part: int) -> Tensor:
        """Return (N,) the draws that each image needs in a gradient of a round; in the first one, those of the round.

        The cosine c between the gradients of two half panels tells how much of each is noise: twice the draws make it
        2c / (1 + c). They are doubled until it is large enough. An image without a gradient needs no more draws.
        """
        draws = self.schedule.rounds[part].draws
        needed = torch.full_like(self._y, draws)
        *_, most = self.schedule.ladder(part)
        if most == draws or part == 0:
            return needed
        index = self.best.open()
        x_adv, y = self.best.weakest()[index], self._y[index]
        first, second = (
            self._victim.gradient(
                x_adv, y, losses.margin, draw=derive(self._seed, "half", part, half), samples=draws // 2
            ).gradient.flatten(1)
            for half in range(2)
        )
        agreement = torch.cosine_similarity(first, second, dim=1, eps=1e-30).clamp(min=0)
        agreement[~(first.any(dim=1) | second.any(dim=1))] = 1
        for place, cosine in zip(index.tolist(), agreement.tolist(), strict=True):
            enough = draws
            while cosine < AGREEMENT and enough < most:
                enough, cosine = min(2 * enough, most), 2 * cosine / (1 + cosine)
            needed[place] = enough
        return needed

    def _go_on(self, group: Group) -> None:
        """Take a step with the images that climb; at the end of the climb, let them race."""
        climb, index, y = group.climb, group.index, self._y[group.index]
        if climb.step == climb.steps:
            self._race(index, climb.x_adv)
            self._group, self.at.climbing = None, False
            return
        ascent = self.schedule.climbs[self.at.climb - 1].ascent
        slope = self._victim.gradient(
            climb.x_adv,
            y,
            losses.get(ascent.loss),
            group.target,
            draw=derive(self._seed, "step", self.at.climb, climb.step),
            samples=self.at.draws,
        )
        asks = self.best.clear(index, slope.logits) & (group.rested <= climb.step) & slope.usable
        asks &= climb.inside
        due = asks | (climb.inside and climb.step in looks(climb.steps)) & slope.usable
        if due.any():
            self._race(index[due], climb.x_adv[due])
        group.rested = torch.where(asks, climb.step + max(1, round(_REST * climb.steps)), group.rested)
        self._rising[index] |= slope.gradient.flatten(1).any(dim=1)
        self.unusable[index] |= ~slope.usable
        climb.tell(slope.loss, slope.gradient)
        stay = slope.usable & ~self.best.settled[index]
        if not stay.all():
            group.keep(stay)
        if not len(group.index):
            self._group, self.at.climbing = None, False

    def _race(self, index: Tensor, x_adv: Tensor) -> None:
        """Offer versions of the images ``index``, and credit the climb with those that it breaks."""
        self.best.offer(_NUMBER, index, settle(self._x[index], x_adv, self._norm, self._eps))
        part, ascent = self.schedule.climbs[self.at.climb - 1]
        self._credit(f"{ascent} {self.schedule.rounds[part].words}", self.at.climb)

    def _credit(self, name: str, climb: int) -> None:
        """Credit a climb with the images that are broken and were not before."""
        for rule, numbers in self.first_broken.items():
            first = self.best.best[rule].broken & (numbers == _NEVER)
            numbers[first] = climb
            if rule == "majority":
                self.at.credits[name] = self.at.credits.get(name, 0) + int(first.sum())

    def left(self) -> int:
        """Return about how many passes the open images would still take if none of them left, with whole panels."""
        open_images = self.best.open()
        races = self.best.panel_size * (len(LOOKS) + 1) * len(open_images)
        passes = 0
        for number in range(max(self.at.climb, 1), len(self.schedule.climbs) + 1):
            part = self.schedule.rounds[self.schedule.climbs[number - 1].round]
            # Draws that this round has measured stand for those of later rounds.
            needed = self._needed[open_images].clamp(min=part.draws)
            if number == self.at.climb:
                needed = needed[needed > self.at.draws]
                if self._group is not None:
                    climb = self._group.climb
                    passes += 2 * (climb.steps - climb.step) * self.at.draws * len(self._group.index)
            passes += 2 * part.steps * int(needed.sum()) + (races if number > self.at.climb else 0)
        return passes

    def notes(self) -> tuple[AttackNote, ...]:
        """Return notes that name the images whose gradients were of no use, by their positions."""
        return gradient_notes(self.unusable, self.flat)

    def numbers(self) -> dict[str, Any]:
        """Return the numbers that ``restore`` needs."""
        return asdict(self.at)

    def tensors(self) -> dict[str, Tensor]:
        """Return copies of the tensors by name that ``restore`` needs."""
        state = {f"best.{name}": tensor for name, tensor in self.best.state().items()}
        state |= {f"first_broken.{rule}": numbers.clone() for rule, numbers in self.first_broken.items()}
        state |= {"unusable": self.unusable.clone(), "rising": self._rising.clone()}
        state |= {"climbed": self._climbed.clone(), "needed": self._needed.clone()}
        if self._group is not None:
            group = self._group
            state |= {"group.index": group.index, "group.rested": group.rested}
            if group.target is not None:
                state["group.target"] = group.target
            state |= {f"climb.{name}": tensor.clone() for name, tensor in group.climb.tensors().items()}
        return state

    def restore(self, numbers: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resume from a state of a cascade on the same images with the same settings, bit for bit."""
        here = {name: tensor.to(self._y.device) for name, tensor in tensors.items()}
        self.at = Place(**numbers)
        self.best.restore(_within("best.", here))
        self.first_broken = {rule: here[f"first_broken.{rule}"] for rule in self.first_broken}
        self.unusable, self._rising = here["unusable"], here["rising"]
        self._climbed, self._needed = here["climbed"], here["needed"]
        if self.at.climbing:
            part, ascent = self.schedule.climbs[self.at.climb - 1]
            index = here["group.index"]
            climb = self._made(ascent, self.schedule.rounds[part].steps, index, self._x[index])
            climb.restore(_within("climb.", here))
            self._group = Group(index, here.get("group.target"), here["group.rested"], climb)


def _within(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
