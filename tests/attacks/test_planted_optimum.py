"""Attacks find the optimum of two landscapes in each norm, where it is known; those that are weak on purpose do not."""

import pytest
import torch
import weak_steps
from landscapes import LANDSCAPES, RADII, SOUND, linear

from rushkit import attacks
from rushkit.attacks.norms import length, random_start

SOUND_ATTACKS = {
    "pgd": ({}, ("linf", "l2", "l1")),
    "pgd, 20 steps": ({"steps": 20}, ("linf", "l2", "l1")),
    "pgd, margin from the image": ({"loss": "margin", "random_start": False}, ("linf", "l2", "l1")),
    "apgd": ({}, ("linf", "l2", "l1")),
    "apgd, 40 steps of nll": ({"loss": "nll", "steps": 40}, ("linf", "l2", "l1")),
    "cascade": ({}, ("linf", "l2", "l1")),
    # In l1 a step of FAB takes few pixels to their bounds, as that of the official code: sound where few matter.
    "fab": ({}, ("linf", "l2")),
    "autoattack": ({"queries": 50}, ("linf", "l2", "l1")),
}
# Each fails on one landscape of each of these norms at least; on the other it may be sound.
EVERYWHERE = ("linf", "l2", "l1")
WEAK_STEPS = {
    weak_steps.Tiny: EVERYWHERE,
    weak_steps.Few: EVERYWHERE,
    weak_steps.OneStep: EVERYWHERE,
    weak_steps.StaleSlope: EVERYWHERE,
    weak_steps.Descending: EVERYWHERE,
    weak_steps.OnlyUpward: EVERYWHERE,
    weak_steps.SmallBall: EVERYWHERE,
    weak_steps.SignsInL1: ("l1",),
    weak_steps.SpreadInL1: ("l1",),
}


def reached(attack, place):
    """The share of the possible rise that an attack reaches, and whether it succeeds."""
    result = attack.run(place.model, place.x, place.y)
    assert length(result.x_adv.double() - place.x.double(), place.norm).max() <= place.eps
    return place.share(result.x_adv), bool(result.success)


@pytest.mark.parametrize("kind", LANDSCAPES)
@pytest.mark.parametrize(
    "label, norm", [(label, norm) for label, (_, norms) in SOUND_ATTACKS.items() for norm in norms]
)
def test_a_sound_attack_reaches_the_optimum(label, norm, kind):
    # FAB stops at the boundary, which lies at this share, up to rounding.
    place = LANDSCAPES[kind](norm)
    name, options = label.partition(",")[0], SOUND_ATTACKS[label][0]
    share, success = reached(attacks.create(name, norm=norm, eps=place.eps, **options), place)
    assert success
    assert share >= SOUND - 1e-5


@pytest.mark.parametrize("weak, norm", [(weak, norm) for weak, norms in WEAK_STEPS.items() for norm in norms])
def test_a_weak_attack_misses_one_of_the_optima(weak, norm):
    attack = weak_steps.pgd_by(weak)(norm, RADII[norm])
    shares = {kind: reached(attack, make(norm)) for kind, make in LANDSCAPES.items()}
    assert any(share < SOUND and not success for share, success in shares.values()), shares


@pytest.mark.parametrize("norm", RADII)
def test_the_rules_that_are_spoilt_are_sound_before(norm):
    for make in LANDSCAPES.values():
        assert reached(weak_steps.pgd_by(weak_steps.Plain)(norm, RADII[norm]), make(norm))[1]


@pytest.mark.parametrize("norm", RADII)
@pytest.mark.parametrize("kind", LANDSCAPES)
def test_no_point_of_ball_and_box_is_higher_than_the_optimum(kind, norm):
    place = LANDSCAPES[kind](norm)
    assert place.share(place.x) == 0
    source = torch.Generator().manual_seed(1)
    points = torch.cat([random_start(place.x, norm, place.eps, source) for _ in range(100)])
    assert place.model.share(points).max() < 1
    # Nor does a long climb pass it.
    climbed = attacks.create("pgd", norm=norm, eps=place.eps, steps=300, random_start=False, best="last")
    assert 0.99 < place.share(climbed(place.model, place.x, place.y)) <= 1 + 1e-5


def test_one_landscape_alone_is_fooled_in_l1():
    """A step spread over 1 % of the coordinates is sound where few pixels matter, one over all where many do."""
    sparse, dense = LANDSCAPES["linear"]("l1"), LANDSCAPES["curved"]("l1")
    for rule, sound_at, weak_at in (
        (weak_steps.SpreadInL1, sparse, dense),
        (weak_steps.SignsInL1, dense, sparse),
    ):
        attack = weak_steps.pgd_by(rule)("l1", RADII["l1"])
        assert reached(attack, sound_at)[1]
        assert not reached(attack, weak_at)[1]


def test_the_same_seed_makes_the_same_landscape():
    assert torch.equal(linear("linf", 3).x, linear("linf", 3).x)
    assert not torch.equal(linear("linf", 3).x, linear("linf", 4).x)
