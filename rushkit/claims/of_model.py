"""The checks that put the model itself to the test: another attack on a few images, and images in other batches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rushkit.attacks.grid import on_grid
from rushkit.attacks.pgd import PGD
from rushkit.auditing.checks.subjects import most_change
from rushkit.auditing.probes import ROWS, batch_mates
from rushkit.claims.case import Case, finding, not_checked
from rushkit.claims.evidence import Originals
from rushkit.claims.scoring import Judge, Scores
from rushkit.errors import NumericsError, UsageError
from rushkit.results.notes import Check, Status
from rushkit.setup.components import to_float
from rushkit.statistics import mcnemar
from rushkit.system import derived_seed

# Images that are attacked again, and the steps and the most draws a gradient of that attack.
IMAGES, STEPS, DRAWS = 16, 20, 4
# The attack in the artifact is weaker if this one breaks so many more of them, as a share, and chance does not explain.
_DROP, _LEVEL = 0.05, 1e-3
# Passes of single images that judge the images of that attack.
_PASSES = 2_000
# Images that stay right lie at the rim of the ball; a median distance below this share of its radius is odd.
_NEAR, _FEW = 0.25, 8


@dataclass(frozen=True)
class _Again:
    """What PGD leaves of a few images, beside what the artifact's attack leaves of them.

    Attributes:
        images: How many images were attacked again.
        only_here: Images that only PGD breaks.
        only_there: Images that only the artifact's attack breaks.
    """

    images: int
    only_here: int
    only_there: int


def is_as_strong(case: Case) -> Check:
    """Attack a few images by PGD, and look at the distances: is the artifact's attack weaker than its protocol?

    Under protocols that are no strict one it may be, so that there the check warns.
    """
    judge, originals = case.judge, case.originals
    if judge is None or case.clean is None or not isinstance(originals, Originals):
        return not_checked("RV12", case.why_unscored)
    attack = case.artifact.manifest.attack
    places = _chosen(case)
    if not len(places) or attack.eps == 0:
        return not_checked("RV12", "no image is right without an attack" if attack.eps else "the radius is 0")
    try:
        again = _again(case, judge, originals, places)
    except (UsageError, NumericsError) as error:
        return not_checked("RV12", f"PGD finds nothing to follow: {error.message}")
    p = float(mcnemar(again.only_here, again.only_there))
    figures = {"images": float(again.images), "only_pgd": float(again.only_here), "p": p}
    says = (
        f"PGD of {STEPS} steps breaks {again.only_here} of {again.images} images that the attack in the artifact does "
        f"not, which breaks {again.only_there} that PGD does not"
    )
    weaker = again.only_here - again.only_there > _DROP * again.images and p < _LEVEL
    if weaker:
        return finding("RV12", "fail" if attack.protocol == "strict" else "warn", f"weaker: {says}", **figures)
    if (share := _median_share(case)) is not None and share < _NEAR:
        return finding(
            "RV12",
            "warn",
            f"{says}; but images that stay right lie at a median distance of {share:.2g} eps",
            **figures,
        )
    return finding("RV12", "pass", says, **figures)


def _chosen(case: Case) -> Tensor:
    """Return the places of up to 16 images, spread evenly over those that are right here without an attack."""
    assert case.clean is not None
    places = torch.tensor(case.clean.places)[_mostly_right(case.clean)]
    if len(places) <= IMAGES:
        return places
    return places[torch.linspace(0, len(places) - 1, IMAGES).round().long()]


def _again(case: Case, judge: Judge, originals: Originals, places: Tensor) -> _Again:
    artifact, attack = case.artifact, case.artifact.manifest.attack
    assert case.attacked is not None
    g, device = judge.g, judge.machine.device
    x, y = to_float(originals.images[places]).to(device), artifact.labels[places].to(device)
    draws = min(DRAWS, g.samples)
    seed = derived_seed(judge.seed, "verify pgd")
    pgd = PGD(attack.norm, attack.eps, steps=STEPS, samples=draws, best="last", seed=seed)
    x_adv = pgd(g, x, y)
    if attack.eight_bit:
        x_adv = on_grid(x, x_adv, attack.norm, attack.eps)
    votes = 1 if g.deterministic else max(1, min(case.attacked.votes, _PASSES // (len(places) * g.samples)))
    here = judge.score(x_adv.cpu(), artifact.labels[places], artifact.indices[places], "pgd", votes)
    broken_here = ~_mostly_right(here)
    # Whatever was scored without an attack was scored attacked, too.
    broken_there = ~_mostly_right(case.attacked)[torch.isin(torch.tensor(case.attacked.places), places)]
    return _Again(
        images=len(places),
        only_here=int((broken_here & ~broken_there).sum()),
        only_there=int((broken_there & ~broken_here).sum()),
    )


def _median_share(case: Case) -> float | None:
    """Return the median distance of the images that stay right, as a share of eps; None for too few of them."""
    assert case.attacked is not None
    attack = case.artifact.manifest.attack
    right = torch.tensor(case.attacked.places)[_mostly_right(case.attacked)]
    distances = case.distances[attack.norm][right]
    return float(distances.median()) / attack.eps if len(distances) >= _FEW else None


def _mostly_right(scores: Scores) -> Tensor:
    """Return (n,) bool: whether most votes on an image are right."""
    return 2 * torch.tensor(scores.right) > scores.votes


def answers_stand_alone(case: Case) -> Check:
    """Check that the answer for an image does not depend on the images beside it."""
    if case.judge is None:
        return not_checked("RV14", case.why_unscored)
    x = case.artifact.images[: 2 * ROWS].to(case.judge.machine.device)
    mates, low = batch_mates(case.judge.g, x, case.judge.seed)
    if mates is None:
        random = case.judge.g.own_draws
        return not_checked("RV14", "the model is random by itself" if random else "it takes four images")
    says = (
        f"one by one and behind others, logits of {mates.images} images change by {mates.change:.1g} of the largest, "
        f"and {mates.other_answers} answers change"
    )
    status: Status = "fail" if mates.change > most_change(low) or mates.other_answers else "pass"
    return finding("RV14", status, says, change=mates.change, other_answers=float(mates.other_answers))
