"""An image meets the same attack and the same votes whoever is beside it and however many images fit into a pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit import attacks, registries
from rushkit.attacks import losses
from rushkit.attacks.result import NothingFinite
from rushkit.attacks.scoring import cast_votes, cast_votes_by_rule, count_right
from rushkit.attacks.victim import under_attack
from rushkit.smoothing import SmoothedClassifier
from rushkit.units import noisy_unit

IMAGES, CLASSES, SIDE = 30, 4, 5
# A limit keeps some of the images, in an order of its own.
KEPT = torch.tensor([17, 3, 25, 8, 9, 21, 0, 12, 29])


class Prototypes(nn.Module):
    """Minus the squared distances to random images; the sums of an image are in float64 and in one order."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.rand(CLASSES, 3 * SIDE**2, generator=torch.Generator().manual_seed(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -8 * (x.flatten(1)[:, None] - self.centres).double().square().sum(dim=2)


def prototypes(noise: str, chunk: int | None = None, samples: int = 8) -> SmoothedClassifier:
    return SmoothedClassifier(Prototypes(), registries.noises.create(noise, std=0.15), samples, chunk, seed=0)


def images() -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(2)
    y = torch.arange(IMAGES) % CLASSES
    centres = Prototypes().centres.view(CLASSES, 3, SIDE, SIDE)
    # From images that are easily lost to images that hold out.
    share = torch.linspace(0.05, 0.35, IMAGES).view(-1, 1, 1, 1)
    return share * centres[y] + (1 - share) * torch.rand(IMAGES, 3, SIDE, SIDE, generator=source), y


ATTACKS = {
    "pgd": {"steps": 4, "restarts": 2},
    "apgd": {"steps": 8},
    "autoattack": {"steps": 6},
    "cascade": {},
    "bim": {"steps": 4},
}


@pytest.mark.parametrize("noise", ["uniform", "gaussian", "laplace"])
@pytest.mark.parametrize("name", ATTACKS)
def test_neither_the_chunk_nor_the_other_images_change_what_an_attack_finds(name, noise):
    x, y = images()
    attack = attacks.create(name, norm="linf", eps=0.08, **ATTACKS[name])
    whole = attack.run(prototypes(noise), x, y)
    assert 0 < whole.success.sum() < IMAGES
    for chunk in (64, 512):
        part = attack.run(prototypes(noise, chunk), x, y)
        assert torch.equal(part.x_adv, whole.x_adv)
        assert (part.image_forwards, part.image_backwards) == (whole.image_forwards, whole.image_backwards)
    few = attack.run(prototypes(noise, 64), x[KEPT], y[KEPT])
    assert torch.equal(few.x_adv, whole.x_adv[KEPT])
    assert torch.equal(few.success, whole.success[KEPT])


@pytest.mark.parametrize("noise", ["uniform", "gaussian", "laplace"])
def test_neither_the_chunk_nor_the_other_images_change_a_vote(noise):
    x, y = images()
    keys = torch.arange(IMAGES) + 1000
    whole = count_right(prototypes(noise, samples=1), x, y, 9, 4, keys)
    assert len(set(whole["majority"])) > 2
    for chunk in (5, 64, 512):
        g = prototypes(noise, chunk, samples=1)
        # Neither earlier calls nor a panel in force are noticed.
        g.votes(x[:3])
        with g.fixed_noise(7):
            assert count_right(g, x, y, 9, 4, keys) == whole
        few = count_right(g, x[KEPT], y[KEPT], 9, 4, keys[KEPT])
        assert few == {rule: [counts[place] for place in KEPT.tolist()] for rule, counts in whole.items()}
    assert count_right(prototypes(noise, samples=1), x, y, 9, 4, keys, "clean") != whole
    assert count_right(prototypes(noise, samples=1), x, y, 9, 5, keys) != whole


def test_votes_are_those_of_the_units_of_an_image_one_after_the_other():
    x, _ = images()
    g, votes = prototypes("uniform", chunk=7, samples=30), 8
    tally = g.keyed_tally(x, torch.arange(IMAGES), 3, "score", votes=votes)
    for image in (0, 13):
        # 240 draws: two units of 100 and one of 40.
        sizes = enumerate((100, 100, 40))
        noisy = torch.cat([noisy_unit(g.noise, x[image], size, 3, "score", image, unit) for unit, size in sizes])
        with torch.no_grad():
            logits = g.model(noisy).float().view(votes, 30, CLASSES)
        counts = nn.functional.one_hot(logits.argmax(dim=2), CLASSES).sum(dim=1)
        rows = slice(image * votes, (image + 1) * votes)
        assert torch.equal(tally.votes[rows], counts)
        # Each confidence is rounded down to a multiple of 2^-20.
        assert tally.confidence[rows].float() == pytest.approx(logits.softmax(dim=2).sum(dim=1), abs=31 * 2**-20)


def test_versions_that_two_rules_share_are_scored_once_and_others_by_their_rule():
    x, _ = images()
    g, keys = prototypes("gaussian"), torch.arange(IMAGES)
    moved = x.clone()
    moved[KEPT] = 1 - x[KEPT]
    cast = cast_votes_by_rule(g, {"majority": x, "mean": moved}, 5, 2, keys)
    assert g.image_forwards == 5 * 8 * (IMAGES + len(KEPT))
    assert torch.equal(cast["majority"], cast_votes(g, x, 5, 2, keys)["majority"])
    assert torch.equal(cast["mean"], cast_votes(g, moved, 5, 2, keys)["mean"])


def test_a_step_has_draws_of_its_own_and_the_same_step_the_same():
    x, y = images()
    g = prototypes("uniform")
    with under_attack(g, x, 0) as victim:
        one, again, other = (victim.gradient(x, y, losses.nll, draw=draw) for draw in (1, 1, 2))
        few = victim.gradient(x, y, losses.nll, draw=1, samples=3)
    assert torch.equal(one.gradient, again.gradient)
    assert not torch.equal(one.gradient, other.gradient)
    assert (one.logits.shape[0], few.logits.shape[0]) == (8, 3)


@pytest.mark.parametrize("chunk", [3, 8, 20, None])
def test_images_whose_draws_fit_a_chunk_are_not_computed_twice(chunk):
    x, y = images()
    g = prototypes("uniform", chunk)
    sizes, original = [], g.model.forward
    g.model.forward = lambda noisy: (sizes.append(len(noisy)), original(noisy))[1]
    with under_attack(g, x, 0) as victim:
        sizes.clear()
        before = victim.image_forwards
        victim.gradient(x, y, losses.nll, draw=0)
        assert victim.image_forwards - before == victim.image_backwards == IMAGES * 8
    assert max(sizes) <= (chunk or IMAGES * 8)
    # Only where one image's draws exceed the chunk is the forward pass repeated.
    assert sum(sizes) == IMAGES * 8 * (2 if chunk == 3 else 1)


def test_a_pause_between_two_passes_stops_a_step():
    class Stopped(Exception):
        pass

    x, y = images()
    g, passes = prototypes("uniform", chunk=16), []

    def pause() -> None:
        passes.append(1)
        if len(passes) == 4:
            raise Stopped

    with under_attack(g, x, 0) as victim, g.pausing(pause):
        passes.clear()
        before = g.image_forwards
        with pytest.raises(Stopped):
            victim.gradient(x, y, losses.nll, draw=0)
    assert g.image_forwards - before == 3 * 16
    g.pause()
    assert len(passes) == 4


class Spoilt(nn.Module):
    """Prototypes whose logits, or whose gradient alone, are NaN at images with a dark first pixel."""

    def __init__(self, what: str, dark: float = -1.0) -> None:
        super().__init__()
        self.model, self.what, self.dark = Prototypes(), what, dark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits, dark = self.model(x), x[:, 0, 0, 0] < self.dark
        if self.what == "logits":
            return torch.where(dark[:, None], torch.nan, logits)
        # The derivative of the root is infinite at 0, and 0 times that is NaN.
        nothing = 0 * x[:, 0, 0, 0]
        return logits + 0 * torch.where(dark, nothing, nothing + 1).sqrt()[:, None]


@pytest.mark.parametrize("what", ["logits", "gradient"])
def test_images_without_a_finite_gradient_are_told_and_the_others_are_not_touched(what):
    x, y = images()
    x[4, 0, 0, 0] = x[11, 0, 0, 0] = -2
    g = SmoothedClassifier(Spoilt(what), registries.noises.create("none"), 1, seed=0)
    with under_attack(g, x, 0) as victim:
        slope = victim.gradient(x, y, losses.nll, draw=0)
    whole = torch.ones(IMAGES, dtype=torch.bool)
    whole[[4, 11]] = False
    assert torch.equal(slope.usable, whole)
    assert not slope.gradient[~whole].any()
    assert torch.isfinite(slope.loss).all()
    with under_attack(Prototypes(), x, 0) as victim:
        clean = victim.gradient(x, y, losses.nll, draw=0)
    assert torch.equal(slope.gradient[whole], clean.gradient[whole])


def test_no_query_fails_however_few_images_have_a_finite_gradient():
    x, y = images()
    x[:, 0, 0, 0] = -2
    for what in ("logits", "gradient"):
        with under_attack(Spoilt(what), x, 0) as victim:
            assert not victim.gradient(x, y, losses.nll, draw=0).usable.any()
            assert torch.isnan(victim.logits(x, draw=0)).all() == (what == "logits")
            assert victim.judge(x, y, draw=0).finite.all() == (what == "gradient")


@pytest.mark.parametrize("name", ["pgd", "apgd", "fab", "cascade", "autoattack"])
def test_an_image_without_a_finite_gradient_fares_alike_beside_others_that_leave_and_alone(name):
    x, _ = images()
    y = Prototypes()(x).argmax(dim=1)
    model, attack = Spoilt("gradient", dark=0.03), attacks.create(name, norm="linf", eps=0.02, **ATTACKS.get(name, {}))
    x[:, 0, 0, 0] = 0.5
    x[4, 0, 0, 0] = 0.0
    # Those beside it are on the brink: every climb breaks them, and later ones see the dark image alone.
    weak = 0.5 * Prototypes().centres[:2].mean(dim=0).view(1, 3, SIDE, SIDE) + 0.25
    beside, labels = weak.repeat(5, 1, 1, 1), Prototypes()(weak).argmax(dim=1).repeat(5)
    beside[:, 0, 0, 0] = 0.5
    result = attack.run(model, torch.cat([beside, x[4:5]]), torch.cat([labels, y[4:5]]))
    assert result.success.tolist() == [True] * 5 + [False]
    assert [(note.code, note.images) for note in result.notes] == [("gradient-not-finite", (5,))]
    with pytest.raises(NothingFinite, match="gradient") as raised:
        attack.run(model, x[4:5], y[4:5])
    alone = raised.value.result
    assert torch.equal(alone.x_adv, result.x_adv[5:])
    assert [(note.code, note.images) for note in alone.notes] == [("gradient-not-finite", (0,))]


def test_panels_of_their_own_follow_the_images_when_one_leaves_a_climb():
    x, _ = images()
    x[:, 0, 0, 0] = 0.5
    x[4, 0, 0, 0] = 0.0
    y = Prototypes()(x).argmax(dim=1)
    g = SmoothedClassifier(Spoilt("gradient", dark=0.03), registries.noises.create("uniform", scale=0.02), 4, seed=0)
    attack = attacks.create("pgd", norm="linf", eps=0.005, steps=4, noise="per-image")
    whole = attack.run(g, x, y)
    assert [note.images for note in whole.notes] == [(4,)]
    assert torch.equal(attack(g, x[KEPT], y[KEPT]), whole.x_adv[KEPT])


def test_images_that_never_answer_a_search_are_named_and_the_others_go_on():
    x, y = images()
    x[:, 0, 0, 0] = 0.5
    x[4, 0, 0, 0] = 0.0
    y = Prototypes()(x).argmax(dim=1)
    model, attack = Spoilt("logits", dark=0.03), attacks.create("square", norm="linf", eps=0.02, queries=60)
    (note,) = attack.run(model, x, y).notes
    assert (note.code, note.images) == ("logits-not-finite", (4,))
    with pytest.raises(NothingFinite, match="logits"):
        attack.run(model, x[4:5], y[4:5])


@pytest.mark.parametrize("name", ["pgd", "apgd", "cascade", "autoattack"])
def test_images_without_a_finite_gradient_are_named_and_the_attack_goes_on(name):
    x, y = images()
    model = Spoilt("gradient", dark=0.03)
    x[:, 0, 0, 0] = 0.5
    x[4, 0, 0, 0] = x[11, 0, 0, 0] = 0.0
    result = attacks.create(name, norm="linf", eps=0.02, **ATTACKS[name]).run(model, x, y)
    (note,) = result.notes
    assert note == (
        "gradient-not-finite",
        f"the gradient was NaN or infinite at 2 of {IMAGES} images: 4, 11",
        (4, 11),
    )
