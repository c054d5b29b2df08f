"""Find the smallest distance that breaks each image of a block: bisection over the radius of a strict attack."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from rushkit.attacks.norms import length
from rushkit.attacks.targeted import towards
from rushkit.attacks.victim import under_attack
from rushkit.recipe.schema import Attack
from rushkit.results.notes import Note, merged
from rushkit.robustness.block import Block, search_block
from rushkit.robustness.pace import Pace
from rushkit.robustness.protocols import Plan
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import derived_seed

# The radii that are tried are multiples of this share of the largest one.
CELLS = 32
# Halvings of the line from an image to a version of it that breaks it.
_SHORTENINGS = 12


@dataclass
class Nearest:
    """The nearest versions that break N images, so far.

    Attributes:
        distance: (N,) float64, distance of the nearest version that breaks an image; infinite if none was found.
        held: (N,) int64, the largest radius below it, in cells, at which the attack found nothing.
        notes: Notes of the attacks.
        image_forwards: Images that went forward through the model.
        image_backwards: Images that went backward through it.
    """

    distance: Tensor
    held: Tensor
    notes: list[Note] = field(default_factory=list)
    image_forwards: int = 0
    image_backwards: int = 0


def nearest(
    g: SmoothedClassifier,
    section: Attack,
    plan_at: Callable[[Attack], Plan],
    block: Block,
    seed: int,
    pace: Pace | None = None,
) -> Nearest:
    """Return the smallest distance at which a strict attack breaks each image, to a 32nd of the largest radius.

    The attack runs at the largest radius first, and then at the middle of what is open for each image. Without noise
    the version that it finds is moved along the line to the image as near as it stays wrong, which may save radii.
    The distance is that of a version that was found, so the true one is at most as large. It is not at least ``held``:
    a stronger attack may break an image there.

    Args:
        g: The model under its noise, with the m of the votes; a random model is asked by votes of fresh draws.
        section: Norm, the largest radius, and the options of the attack.
        plan_at: Maps the section with another radius to the attacks of strict there.
        block: The images.
        seed: Seeds every draw; the attack at a radius is that of ``rushkit attack --eps`` there.
        pace: Receives the progress; it may raise to stop.
    """
    found = Nearest(torch.full((len(block.x),), torch.inf, dtype=torch.float64), torch.zeros_like(block.keys).cpu())
    unit = section.eps / CELLS
    # The smallest radius, in cells, at which each image is broken; one more than there are: not yet.
    broken_at = torch.full_like(found.held, CELLS + 1)
    clean = _clean_wrong(g, section, plan_at(section), block, seed)
    found.image_forwards += clean[1]
    found.distance[clean[0]], broken_at[clean[0]] = 0.0, 0
    while len(radii := _radii(found.held, broken_at)):
        cell = int(radii[0])
        rows = (_next(found.held, broken_at) == cell).nonzero().squeeze(1)
        here = section.model_copy(update={"eps": cell * unit})
        distance = _attacked_at(g, here, plan_at(here), _rows(block, rows), seed, found, pace)
        nearer = distance < found.distance[rows]
        found.distance[rows] = torch.where(nearer, distance, found.distance[rows])
        # At most the radius itself: rounding must not make it the next one.
        reached = torch.ceil(found.distance[rows] / unit).clamp(min=1, max=cell).to(broken_at.dtype)
        hit = torch.isfinite(distance)
        broken_at[rows] = torch.where(hit, torch.minimum(broken_at[rows], reached), broken_at[rows])
        found.held[rows] = torch.where(hit, found.held[rows], cell)
        # A version nearer than a radius that held shows that the attack had missed it there.
        found.held = torch.minimum(found.held, (broken_at - 1).clamp(min=0))
    return found


def _next(held: Tensor, broken_at: Tensor) -> Tensor:
    """Return (N,) the radius to try next, in cells: the largest one first, then the middle; 0: nothing is open."""
    middle = torch.where(broken_at > CELLS, CELLS, (held + broken_at) // 2)
    return torch.where((broken_at - held > 1) & (held < CELLS), middle, 0)


def _radii(held: Tensor, broken_at: Tensor) -> Tensor:
    """Return the radii that are to be tried, in cells, the largest first."""
    radii: Tensor = _next(held, broken_at).unique().flip(0)
    return radii[radii > 0]


def _rows(block: Block, rows: Tensor) -> Block:
    there = rows.to(block.x.device)
    return replace(block, x=block.x[there], y=block.y[there], keys=block.keys[rows.to(block.keys.device)])


def _clean_wrong(g: SmoothedClassifier, section: Attack, plan: Plan, block: Block, seed: int) -> tuple[Tensor, int]:
    """Return (N,) bool, the images that are wrong before any attack, and the passes that this took."""
    attacked, y = _goal(g, plan, block)
    with under_attack(attacked, block.x, seed) as victim:
        verdict = victim.judge(block.x, y, draw=derived_seed(seed, "smallest clean"))
    return verdict.wrong.cpu(), victim.image_forwards


def _goal(g: SmoothedClassifier, plan: Plan, block: Block) -> tuple[SmoothedClassifier, Tensor]:
    if plan.target is None:
        return g, block.y
    return towards(g, plan.target), torch.zeros_like(block.y)


def _attacked_at(
    g: SmoothedClassifier, section: Attack, plan: Plan, block: Block, seed: int, found: Nearest, pace: Pace | None
) -> Tensor:
    """Return (n,) the distances of versions that break the images within a radius; infinite where none was found."""
    x_adv, costs = search_block(g, plan, section, block, seed, pace)
    attacked, y = _goal(g, plan, block)
    with under_attack(attacked, block.x, seed) as victim:
        verdict = victim.judge(x_adv, y, draw=derived_seed(seed, "smallest", round(section.eps * 10**9)))
        if not victim.random and not section.eight_bit:
            low = torch.zeros_like(x_adv[:, :1, :1, :1])
            high = torch.ones_like(low)
            for _ in range(_SHORTENINGS):
                middle = (low + high) / 2
                points = block.x + middle * (x_adv - block.x)
                wrong = (victim.logits(points, draw=seed).argmax(dim=2)[0] != y).view_as(low)
                low, high = torch.where(wrong, low, middle), torch.where(wrong, middle, high)
            x_adv = block.x + high * (x_adv - block.x)
    found.notes = merged([*found.notes, *costs.notes])
    found.image_forwards += costs.image_forwards + victim.image_forwards
    found.image_backwards += costs.image_backwards
    distance = length(x_adv.double() - block.x.double(), section.norm)
    return torch.where(verdict.wrong, distance, math.inf).cpu()
