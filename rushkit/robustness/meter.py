"""The bar of an attack: passes made and left over all blocks and ranks, and how many images are settled."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rushkit.attacks.apgd import APGD
from rushkit.attacks.pgd import PGD
from rushkit.attacks.scoring import RULES
from rushkit.bar import Progress
from rushkit.distributed import ranks
from rushkit.recipe.schema import Attack
from rushkit.results.logs import AttackBlock
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import Plan, further_samples
from rushkit.rounding import duration
from rushkit.smoothing import SmoothedClassifier

# Images in the passes whose time is taken, one after the other; the second only if the first is short.
_TIMED = (16, 256)
_SHORT_SECONDS = 0.2


@dataclass(frozen=True)
class Expected:
    """The passes that an attack is expected to take for an image, forward and backward, each draw counted.

    Attributes:
        votes: Passes of the final votes.
        most: The most that the search takes; None if that is not known.
        likely: What it takes where images leave as usual; None if that is not known.
    """

    votes: int
    most: int | None = None
    likely: int | None = None


def expected_passes(plan: Plan, section: Attack, samples: int) -> Expected:
    """Return the passes that a plan is expected to take for an image.

    Args:
        plan: The attacks; a cascade's plan says how many passes it takes.
        section: Norm and eps.
        samples: m, the number of draws in each vote.
    """
    # The clean image, and for each rule the version that does worst.
    draws = samples + sum(further_samples(section, samples, plan))
    votes = plan.votes * draws * (1 + len(RULES))
    if plan.most_passes is not None:
        return Expected(votes, plan.most_passes, plan.likely_passes)
    if not all(isinstance(candidate.create(section), PGD | APGD) for candidate in plan.candidates):
        return Expected(votes)
    return Expected(votes, sum(_climbs(candidate.create(section), plan, samples) for candidate in plan.candidates))


def passes_a_second(g: SmoothedClassifier, x: torch.Tensor) -> float | None:
    """Return the passes of single images that a classifier makes in a second, forward and backward; None if it fails.

    Args:
        g: The classifier; its stream of draws is left as it was.
        x: (N, C, H, W) images.
    """
    passes, seconds = 0, 1.0
    try:
        for images in _TIMED:
            some = x[:images]
            timed = g.with_samples(max(1, images // len(some)))
            # The first pass warms up.
            _pass(timed, some)
            started = time.perf_counter()
            passes = _pass(timed, some)
            seconds = max(time.perf_counter() - started, 1e-9)
            if seconds > _SHORT_SECONDS:
                break
    except Exception:  # noqa: BLE001 - whatever is wrong with the model, the attack itself reports it
        return None
    return passes / seconds


def _pass(g: SmoothedClassifier, x: torch.Tensor) -> int:
    """Pass images forward, and backward if the model has gradients, and return the number of passes."""
    with torch.enable_grad(), g.fixed_noise(0):
        asked = x.clone().requires_grad_()
        outputs = g(asked).sum()
        if not outputs.requires_grad:
            outputs.item()
            return g.samples * len(x)
        (gradient,) = torch.autograd.grad(outputs, asked, allow_unused=True)
    if gradient is not None:
        gradient.sum().item()
    return 2 * g.samples * len(x)


def announcement(expected: Expected, images: int, speed: float | None) -> str:
    """Return the message before the first pass: how many passes there will be, and about how long they take.

    Args:
        expected: The passes of an image.
        images: Number of images that are left.
        speed: Passes a second of all ranks together; None if it is not known.
    """
    votes = images * expected.votes
    if expected.most is None:
        parts = [f"passes: {_short(votes)} for the final votes; those of the search are not known in advance"]
    else:
        parts = [f"passes: {_with_time(images * expected.most + votes, speed)} at most"]
        if expected.likely is not None:
            likely = _with_time(images * expected.likely + votes, speed)
            parts = [f"passes: about {likely} if half of the images hold out", f"{parts[0].partition(': ')[2]}"]
    if speed is not None:
        parts.append(f"{_short(speed)} a second here")
    return "; ".join(parts)


def _with_time(passes: int, speed: float | None) -> str:
    return _short(passes) if speed is None else f"{_short(passes)} ({duration(passes / speed)})"


class Meter:
    """Shows on a bar how far an attack is, in passes of all ranks and blocks.

    The blocks that other ranks work on at the same time are assumed to be as far as this rank's own.

    Args:
        bar: The bar.
        images: Number of images.
        block: Number of images in a block.
        expected: The passes of an image.
    """

    def __init__(self, bar: Progress, images: int, block: int, expected: Expected) -> None:
        self._bar, self._images, self._block, self._expected = bar, images, block, expected
        self._done, self._finished = 0, 0

    def resume(self, blocks: Sequence[AttackBlock]) -> None:
        """Count the blocks that an earlier session finished."""
        for block in blocks:
            self._count(block)
        self._bar.start_from(self._done)
        self._show(0, 0, 0, 0)

    def finish(self, block: AttackBlock) -> None:
        """Count a finished block."""
        self._count(block)
        self._show(0, 0, 0, 0)

    def _count(self, block: AttackBlock) -> None:
        votes = len(block.images) * self._expected.votes
        self._done += block.image_forwards + block.image_backwards + votes
        self._finished += len(block.images)

    def show(self, pace: Pace) -> None:
        """Show the progress of the block that this rank works on."""
        here = min(self._block, self._images - self._finished)
        votes = here * self._expected.votes
        if pace.searched is not None:
            votes = max(votes - (pace.passes - pace.searched), 0)
        search = here * self._expected.most if self._expected.most is not None else None
        left = pace.left if pace.left is not None else None if search is None else max(search - pace.passes, 0)
        self._show(pace.passes, None if left is None else left + votes, pace.settled, here)

    def _show(self, made: int, left: int | None, settled: int, here: int) -> None:
        open_images = self._images - self._finished
        blocks = min(ranks.world(), -(-open_images // self._block)) if here else 0
        later = max(open_images - blocks * self._block, 0) if here else open_images
        # It never goes back, although the blocks of other ranks may turn out to be behind this one.
        self._bar.done = max(self._bar.done, self._done + blocks * made)
        each = self._done / self._finished if self._finished else self._most()
        known = each is not None and left is not None
        self._bar.total = round(self._bar.done + blocks * (left or 0) + later * (each or 0)) if known else None
        self._bar.note = f"settled {self._finished + settled} of {self._images}"
        self._bar.advance(0)

    def _most(self) -> int | None:
        return None if self._expected.most is None else self._expected.most + self._expected.votes


def _climbs(attack: PGD | APGD, plan: Plan, samples: int) -> int:
    """Return the most passes that the climbs of an attack take for an image, with the panels that select."""
    draws = 1 if plan.deterministic else plan.gradient_samples
    takes_the_last = plan.panel or (getattr(attack, "best", "best") == "last" and attack.restarts == 1)
    panel = getattr(attack, "selection_samples", None) or (0 if takes_the_last else max(draws, samples))
    return attack.restarts * attack.steps * (2 * draws + panel) + max(samples, panel)


def _short(number: float) -> str:
    """Return a number to two digits: 41234 -> "41 thousand", 9.23e6 -> "9.2 million"."""
    for size, word in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if number >= size:
            return f"{number / size:.{1 if number < 10 * size else 0}f}{word}"
    return f"{number:.0f}"
