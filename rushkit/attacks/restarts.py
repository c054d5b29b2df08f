"""The restarts of an attack that climbs a loss: the images of each climb, its starting points, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from rushkit.attacks import Norm, losses
from rushkit.attacks.best import BestIterate
from rushkit.attacks.checks import check_ball, check_counts, check_labels
from rushkit.attacks.norms import settle
from rushkit.attacks.result import AttackResult, checked
from rushkit.attacks.steps.climb import Climb
from rushkit.attacks.victim import Victim, derive
from rushkit.errors import UsageError
from rushkit.smoothing import log_mean_softmax
from rushkit.system import generator


class Settings(Protocol):
    """The settings that PGD and APGD share."""

    @property
    def norm(self) -> Norm:
        """The norm of the ball."""

    @property
    def eps(self) -> float:
        """The radius of the ball, pixel units."""

    @property
    def steps(self) -> int:
        """Gradient steps of one climb."""

    @property
    def loss(self) -> losses.LossName:
        """The loss that is climbed."""

    @property
    def restarts(self) -> int:
        """Climbs for each image."""

    @property
    def targeted(self) -> bool:
        """Whether each climb aims at a target class."""

    @property
    def seed(self) -> int:
        """Seeds every draw."""


@dataclass(frozen=True)
class Batch:
    """The images of one climb.

    Attributes:
        x: (n, C, H, W) clean images.
        y: (n,) labels.
        target: (n,) classes to be reached, or None.
        start: (n, C, H, W) where the climb starts.
        index: (n,) positions of the images in the attack's batch.
        number: The number of the climb, from 0.
        keys: (n,) int64, what identifies each image, if each is climbed on draws of its own; None if they share them.
    """

    x: Tensor
    y: Tensor
    target: Tensor | None
    start: Tensor
    index: Tensor
    number: int
    keys: Tensor | None = None


class Curve:
    """The mean loss at each step, over images and restarts; images that have left count with their last value."""

    def __init__(self, steps: int) -> None:
        self._total = torch.zeros(steps, dtype=torch.float64)
        self._count = 0
        self._last = torch.empty(0)

    def begin(self, images: int) -> None:
        """Begin a climb of this many images."""
        self._count += images
        self._last = torch.zeros(images)

    def add(self, step: int, position: Tensor, loss: Tensor) -> None:
        """Add the losses at one step, for the images at these positions of the climb's batch."""
        self._last = self._last.to(loss.device, loss.dtype)
        self._last[position] = loss
        self._total[step] += self._last.sum().cpu()

    def hold(self, step: int) -> None:
        """Use the last values for this step and all later ones, since no image is left."""
        self._total[step:] += self._last.sum().cpu()

    def mean(self) -> Tensor:
        """Return the mean losses, (steps,) float64."""
        return self._total / max(self._count, 1)


def check_settings(attack: str, settings: Settings, norms: tuple[Norm, ...]) -> None:
    """Raise UsageError for a norm that the attack does not support, or an invalid radius, number or loss."""
    check_ball(attack, settings.norm, settings.eps, norms)
    check_counts(attack, steps=settings.steps, restarts=settings.restarts)
    losses.get(settings.loss)


def check_classes(settings: Settings, classes: int) -> None:
    """Raise UsageError if the loss needs more classes than there are."""
    needed = losses.classes_needed(settings.loss, settings.targeted)
    if classes < needed:
        kind = f"targeted {settings.loss}" if settings.targeted else settings.loss
        raise UsageError(f"{kind} needs {needed} classes (the model has {classes})", "use loss nll, ce or margin")


def check_untargeted(attack: str, settings: Settings, target: Tensor | None) -> None:
    """Raise UsageError if target classes are given to an untargeted attack."""
    if target is not None and not settings.targeted:
        raise UsageError(f"{attack} was given a target but is untargeted", "make it with targeted=True")


def climbs(
    best: BestIterate,
    x: Tensor,
    targets: Sequence[Tensor | None],
    start: Callable[[int], Tensor],
    curve: Curve,
    every_image_first: bool = False,
) -> Iterator[Batch]:
    """Yield one batch for each climb, with the images that earlier climbs have not settled.

    Args:
        best: Takes the iterates that the climbs offer.
        x: (N, C, H, W) clean images.
        targets: (N,) target classes, or None, for each climb in turn.
        start: Maps the number of a climb to its starting points (N, C, H, W). It is called for the whole batch, so that
            the start of an image does not depend on which others have left.
        curve: Collects the losses; it is told when a climb begins.
        every_image_first: Whether the first climb includes images that are misclassified already.
    """
    for number, target in enumerate(targets):
        if number or not every_image_first:
            best.confirm(number)
        index = (~best.settled).nonzero().squeeze(1)
        if not len(index):
            return
        started = start(number)
        curve.begin(len(index))
        yield Batch(x[index], best.y[index], None if target is None else target[index], started[index], index, number)


def drive(
    victim: Victim,
    batch: Batch,
    climb: Climb,
    loss: losses.LossName,
    best: BestIterate,
    curve: Curve,
    offered: Literal["all", "improved", "none"],
    draw: Callable[[int], int],
) -> Tensor:
    """Take a climb to its end. Images that ``best`` settles leave it, and those whose gradient is not finite.

    Args:
        victim: The model under attack.
        batch: The images of the climb.
        climb: Takes the steps.
        loss: The loss to be climbed.
        best: Is offered iterates.
        curve: Collects the losses.
        offered: Whether ``best`` is offered every iterate, those of an image's largest loss so far and the last, or
            none. A panel costs forward passes; of a deterministic model, which needs none, every iterate is offered
            unless it is "none".
        draw: Maps a step to the seed of its draws.

    Returns:
        (n,) positions, in the attack's batch, of the images that have come to the end.
    """
    function = losses.get(loss)
    y, target, index, keys = batch.y, batch.target, batch.index, batch.keys
    position = torch.arange(len(index), device=index.device)
    for step in range(climb.steps):
        asked = climb.x_adv
        # Points of a larger ball lead on, and are no attacks themselves.
        offers = offered if climb.inside else "none"
        slope = victim.gradient(asked, y, function, target, draw=draw(step), keys=keys)
        curve.add(step, position, slope.loss)
        best.see(index, slope, climb.inside)
        climb.tell(slope.loss, slope.gradient)
        if offers == "all" or (offers == "improved" and not victim.random):
            best.offer(index, asked, slope.logits)
        elif offers == "improved" and climb.improved.any():
            best.offer(index[climb.improved], asked[climb.improved])
        stay = slope.usable
        if offered != "none":
            # Within a climb only images of a deterministic model settle; those of a random one are settled by a vote.
            stay = stay & ~best.settled[index]
        if stay.all():
            continue
        climb.keep(stay)
        y, index, position = y[stay], index[stay], position[stay]
        target, keys = (None if of_all is None else of_all[stay] for of_all in (target, keys))
        if not len(index):
            curve.hold(step + 1)
            return index
    if offered != "none":
        best.offer(index, climb.x_adv)
    return index


def draw_of_step(seed: int, climb: int) -> Callable[[int], int]:
    """Return the function from the steps of a climb to the seeds of their draws, which are fresh at every step."""
    return lambda step: derive(seed, "step", climb, step)


def start_source(seed: int, climb: int, device: torch.device) -> torch.Generator:
    """Return the generator of a climb's random start."""
    return generator(seed, "attack start", climb, device=device)


def concluded(
    settings: Settings, best: BestIterate, x: Tensor, curve: Curve, notes: tuple[str, ...] = ()
) -> AttackResult:
    """Return the result of an attack, scored by draws that were not used to choose the images.

    Raises:
        NumericsError: no image has finite logits, or none that was attacked a finite gradient.
    """
    victim = best.victim
    x_adv = settle(x, best.x_adv, settings.norm, settings.eps)
    verdict = victim.judge(x_adv, best.y, best.target, draw=derive(settings.seed, "verdict"))
    loss = losses.get(settings.loss)(verdict.logits, best.y, best.target)
    result = AttackResult(
        x_adv=x_adv,
        success=verdict.wrong,
        loss=torch.where(verdict.finite, loss, torch.nan),
        loss_curve=curve.mean(),
        image_forwards=victim.image_forwards,
        image_backwards=victim.image_backwards,
        notes=(*notes, *best.notes()),
        least_right=best.least_right,
    )
    return checked(result, best.useless)


def likeliest_others(victim: Victim, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """Return (N, K-1) the classes other than the label, from the likeliest at x to the least likely."""
    log_prob = log_mean_softmax(victim.logits(x, draw=derive(seed, "targets")))
    order = log_prob.scatter(1, y[:, None], -torch.inf).argsort(dim=1, descending=True, stable=True)
    return order[:, :-1]


def classes_to_reach(victim: Victim, x: Tensor, y: Tensor, target: Tensor | None, seed: int) -> Tensor:
    """Return (N,) int64 target classes: those given, or by default the likeliest class other than the label.

    Raises:
        UsageError: a given class equals the label, or the model does not have it.
    """
    if target is None:
        return likeliest_others(victim, x, y, seed)[:, 0]
    target = target.detach().to(x.device, torch.int64).contiguous()
    if target.shape != y.shape or bool((target == y).any()):
        raise UsageError(f"targets are classes of shape {tuple(y.shape)} that differ from the labels")
    check_labels(target, victim.num_classes)
    return target
