"""Attacks find the optimum of two landscapes in each norm, where it is known; those that are weak on purpose do not."""

import pytest
import torch

from rushkit import attacks
from rushkit.attacks.norms import length, project, random_start
from rushkit.attacks.pgd import PGD
from rushkit.auditing.landscapes import LANDSCAPES, RADII, SOUND, linear, shares_reached
from rushkit.auditing.selftest import weak

NORMS = tuple(RADII)
SOUND_ATTACKS = {
    "pgd": ({}, NORMS),
    "pgd, 20 steps": ({"steps": 20}, NORMS),
    "pgd, margin from the image": ({"loss": "margin", "random_start": False}, NORMS),
    "apgd": ({}, NORMS),
    "apgd, 40 steps of nll": ({"loss": "nll", "steps": 40}, NORMS),
    "cascade": ({}, NORMS),
    # In l1 a step of FAB takes few pixels to their bounds, as that of the official code: sound where few matter.
    "fab": ({}, ("linf", "l2")),
    "autoattack": ({"queries": 50}, NORMS),
}
# Each fails on one landscape of each of these norms at least; on the other it may be sound.
WEAK_ATTACKS = {
    weak.pgd_by(weak.Tiny): NORMS,
    weak.pgd_by(weak.Few): NORMS,
    weak.OneStep: NORMS,
    weak.pgd_by(weak.StaleSlope): NORMS,
    weak.pgd_by(weak.Descending): NORMS,
    weak.pgd_by(weak.OnlyUpward): NORMS,
    weak.pgd_by(weak.SmallBall): NORMS,
    weak.SmallerNorm: ("linf",),
    weak.pgd_by(weak.SignsInL1): ("l1",),
    weak.pgd_by(weak.SpreadInL1): ("l1",),
}


def reached(attack, place):
    """The share of the possible rise that an attack reaches on each image, and whether it succeeds."""
    result = attack.run(place.model, place.x, place.y)
    assert length(result.x_adv.double() - place.x.double(), place.norm).max() <= place.eps
    return place.share(result.x_adv), result.success


@pytest.mark.parametrize("kind", LANDSCAPES)
@pytest.mark.parametrize(
    "label, norm", [(label, norm) for label, (_, norms) in SOUND_ATTACKS.items() for norm in norms]
)
def test_a_sound_attack_reaches_the_optimum(label, norm, kind):
    place = LANDSCAPES[kind](norm, rows=2)
    name, options = label.partition(",")[0], SOUND_ATTACKS[label][0]
    share, success = reached(attacks.create(name, norm=norm, eps=place.eps, **options), place)
    assert success.all()
    # FAB stops at the boundary, which lies at this share, up to rounding.
    assert (share >= SOUND - 1e-5).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("norm", NORMS)
def test_twenty_steps_of_pgd_are_enough_in_every_norm(norm, seed):
    assert min(shares_reached(PGD, norm, 20, seed).values()) > 0.98


@pytest.mark.parametrize(
    "attack, norm",
    [(attack, norm) for attack, norms in WEAK_ATTACKS.items() for norm in norms],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_weak_attack_misses_one_of_the_optima(attack, norm):
    assert any(not reached(attack(norm, RADII[norm]), make(norm))[1].any() for make in LANDSCAPES.values())
    assert min(shares_reached(attack, norm, 20, 0).values()) < SOUND


@pytest.mark.parametrize("norm", NORMS)
def test_the_rules_that_are_spoilt_are_sound_before(norm):
    assert min(shares_reached(weak.pgd_by(weak.Plain), norm, 20, 0).values()) > SOUND


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", LANDSCAPES)
def test_no_point_of_ball_and_box_is_higher_than_the_optimum(kind, norm):
    place = LANDSCAPES[kind](norm)
    assert place.share(place.x).abs().max() < 1e-5
    assert (place.share(place.optimum) - 1).abs().max() < 1e-5
    assert (project(place.x, place.optimum, norm, place.eps) - place.optimum).abs().max() < 1e-6
    source = torch.Generator().manual_seed(1)
    points = torch.cat([random_start(place.x, norm, place.eps, source) for _ in range(100)])
    assert place.share(points).max() < 1
    # Nor does a long climb pass it.
    climbed = attacks.create("pgd", norm=norm, eps=place.eps, steps=300, random_start=False, best="last")
    share = place.share(climbed(place.model, place.x, place.y))
    assert 0.99 < share.min() <= share.max() <= 1 + 1e-5


def test_one_landscape_alone_is_fooled_in_l1():
    """A step spread over 1 % of the coordinates is sound where few pixels matter, one over all where many do."""
    spread, signs = (shares_reached(weak.pgd_by(rule), "l1", 20, 0) for rule in (weak.SpreadInL1, weak.SignsInL1))
    assert spread["curved"] < SOUND < spread["linear"]
    assert signs["linear"] < SOUND < signs["curved"]


def test_an_attack_that_leaves_the_ball_is_judged_by_what_is_within():
    class Outside(PGD):
        """Goes three times as far, and leaves the box."""

        def run(self, model, x, y, target=None):
            result = super().run(model, x, y, target)
            result.x_adv.add_(2 * (result.x_adv - x))
            return result

    class Nowhere(PGD):
        """Returns no numbers."""

        def run(self, model, x, y, target=None):
            result = super().run(model, x, y, target)
            result.x_adv.fill_(float("nan"))
            return result

    assert shares_reached(Outside, "linf", 20, 0)["linear"] == pytest.approx(1, abs=1e-4)
    assert shares_reached(Nowhere, "linf", 20, 0) == pytest.approx({"linear": 0, "curved": 0}, abs=1e-5)


def test_the_same_seed_makes_the_same_landscape():
    assert torch.equal(linear("linf", 3).x, linear("linf", 3).x)
    assert not torch.equal(linear("linf", 3).x, linear("linf", 4).x)
