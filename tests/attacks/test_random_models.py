"""Models that answer differently each time: objectives, votes, and what may count as a success."""

import pytest
import torch
from planted_models import Box, Flipper, Linear, reach, spaced
from torch import nn

from rushkit import attacks
from rushkit.attacks.autoattack import AutoAttack
from rushkit.attacks.pgd import PGD
from rushkit.smoothing import SmoothedClassifier


class TwoBranches(nn.Module):
    """SCIENCE.md section 3: the label's margin is 1 − x in one half of the noise and −3 + 0.8x in the other."""

    def forward(self, x):
        shifted = x.flatten(1)[:, 0]
        margin = torch.where(shifted < 5, 1 - shifted, -3 + 0.8 * (shifted - 10))
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


class HalfTheTime:
    """0 or 10, alternating in every panel: half of the draws each."""

    std = 5.0

    def sample(self, x, generator=None):
        turn = torch.arange(len(x), device=x.device) % 2
        return (10.0 * turn).view(-1, 1, 1, 1).expand_as(x)


@pytest.mark.parametrize("options", [{}, {"noise": "fixed", "best": "last"}], ids=["fresh, best", "fixed, last"])
@pytest.mark.parametrize("loss, direction", [("nll", 1), ("ce", -1)])
def test_minus_log_mean_and_mean_ce_go_opposite_ways_on_the_two_branches(loss, direction, options):
    x = torch.full((1, 1, 1, 1), 0.5)
    g = SmoothedClassifier(TwoBranches(), HalfTheTime(), samples=64, seed=0)
    attack = PGD("linf", 0.2, steps=10, loss=loss, random_start=False, **options)
    x_adv = attack(g, x, torch.tensor([0]))
    assert (x_adv - x).item() == pytest.approx(0.2 * direction, abs=1e-6)


FLIPPED = {
    "pgd": {"steps": 20, "restarts": 2},
    "pgd, l2": {"steps": 20},
    "pgd, fixed panel": {"steps": 20, "noise": "fixed", "best": "last", "random_start": False},
    "apgd": {"steps": 20},
    "apgd, targeted": {"steps": 20, "targeted": True, "loss": "margin"},
    "autoattack": {"steps": 10},
    "autoattack, standard": {"steps": 5, "queries": 20, "version": "standard"},
    "fab": {"steps": 5},
    "square": {"queries": 20},
    "fgsm": {},
    "torchattacks/apgd": {},
    "torchattacks/pgd": {},
}


@pytest.mark.parametrize("smoothed", [False, True], ids=["plain", "smoothed"])
@pytest.mark.parametrize("label", FLIPPED)
def test_labels_flipped_with_probability_0_3_are_never_a_success(label, smoothed):
    """A vote of 101 errs with probability 1.1e-5: a false alarm over 24 cases of 8 images in 0.2% of seeds."""
    classes = 4 if "standard" in label or "targeted" in label else 2
    x, y = Flipper.images(classes=classes)
    model = Flipper(classes)
    if smoothed:
        model = SmoothedClassifier(model, Box(0.01), samples=8, seed=1)
    norm = "l2" if "l2" in label else "linf"
    result = attacks.create(label.partition(",")[0], norm=norm, eps=0.05, seed=1, **FLIPPED[label]).run(model, x, y)
    assert not result.success.any()


def test_a_vote_reports_success_where_it_is_one():
    x, y = Flipper.images(count=6)
    result = PGD("linf", 0.9, steps=20).run(Flipper(), x, y)
    assert result.success.all()


@pytest.mark.parametrize("name", ["pgd", "apgd"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_smoothed_linear_classifier_keeps_its_known_worst_case(name, norm):
    """Symmetric noise moves no vote of two linear classes; 20% about the boundary, with split votes, are left out."""
    model, x, y, distance = spaced(norm)
    g = SmoothedClassifier(model, Box(0.005), samples=16, seed=3)
    eps = 0.042
    result = attacks.create(name, norm=norm, eps=eps, steps=40).run(g, x, y)
    assert result.success[distance < 0.8 * eps].all()
    assert not result.success[distance > 1.2 * eps].any()
    assert reach(x, result.x_adv, norm) <= eps + 1e-6


def test_the_panel_of_fixed_noise_is_one_and_fresh_noise_never_repeats():
    seen = []

    class Spy(Box):
        def sample(self, x, generator=None):
            delta = super().sample(x, generator)
            seen.append(delta[0, 0, 0, 0].item())
            return delta

    model, x, y, _ = spaced("linf", count=4)
    g = SmoothedClassifier(model, Spy(0.1), samples=4, seed=0)
    PGD("linf", 0.01, steps=6, noise="fixed", best="last", random_start=False)(g, x, y)
    fixed = max(seen.count(value) for value in seen)
    seen.clear()
    PGD("linf", 0.01, steps=6, noise="fresh", best="last", random_start=False)(g, x, y)
    fresh = max(seen.count(value) for value in seen)
    assert (fixed, fresh) == (6, 1)


class Waves(nn.Module):
    """Two classes by a sine of the only pixel, so that every shift has a slope of its own."""

    def forward(self, x):
        wave = torch.sin(40 * x.flatten(1)[:, :1])
        return torch.cat([wave, -wave], dim=1)


def waves(samples=1, chunk=None):
    """A classifier under noise of several periods, 40 copies of an image with the slope up, and their labels."""
    x, y = torch.full((40, 1, 1, 1), 0.5), torch.zeros(40, dtype=torch.int64)
    return SmoothedClassifier(Waves(), Box(1.0), samples, chunk, seed=0), x, y


def one_step(noise, seed=0):
    """The paper's attack with a single step."""
    return PGD("linf", 0.001, steps=1, step_size=0.001, random_start=False, best="last", noise=noise, seed=seed)


def test_a_shared_draw_moves_like_images_alike_and_draws_of_their_own_part_them():
    """Where the slope of a draw is up or down with equal probability, 40 images go the same way only by a shared one.

    The images differ by less than the slope notices. That 40 fair draws agree has a probability of 2e-12.
    """
    g, x, y = waves()
    x += torch.arange(40).view(-1, 1, 1, 1) * 1e-4
    moved = {noise: (one_step(noise)(g, x, y) - x).sign().flatten() for noise in ("fixed", "per-image", "none")}
    assert len(moved["fixed"].unique()) == 1
    assert len(moved["per-image"].unique()) == 2
    # Without noise all images see the slope at the image: log p̄ of class 0 falls where the sine does.
    assert torch.equal(moved["none"], -torch.cos(40 * x).flatten().sign())


def test_without_noise_a_gradient_is_one_pass_of_the_network_and_the_votes_have_noise():
    g, x, y = waves(samples=16)
    result = one_step("none").run(g, x, y)
    noisy = one_step("fixed").run(g, x, y)
    assert (result.image_backwards, noisy.image_backwards) == (40, 40 * 16)
    assert noisy.image_forwards - result.image_forwards == 40 * 15
    # The vote at the end has the noise: at least 20 draws of each image.
    assert result.image_forwards >= 40 * 21


def test_each_images_own_panel_stays_through_the_climb_and_is_its_own_in_any_batch():
    seen = []

    class Spy(Box):
        def sample(self, x, generator=None):
            delta = super().sample(x, generator)
            seen.append((len(x), tuple(delta[:, 0, 0, 0].tolist())))
            return delta

    model, x, y, _ = spaced("linf", count=4)
    g = SmoothedClassifier(model, Spy(0.1), samples=3, seed=0)
    PGD("linf", 0.01, steps=6, noise="per-image", best="last", random_start=False)(g, x, y)
    panels = [draws for size, draws in seen if size == 3 and seen.count((size, draws)) == 6]
    assert len(set(panels)) == 4


@pytest.mark.parametrize("noise", ["per-image", "none"])
def test_neither_the_batch_nor_the_chunk_changes_what_an_image_meets(noise):
    model, x, y, _ = spaced("linf", count=12)
    attack = PGD("linf", 0.05, steps=8, noise=noise, restarts=2, samples=4)
    whole = attack.run(SmoothedClassifier(model, Box(0.3), samples=4, seed=0), x, y)
    kept = torch.tensor([7, 2, 11])
    for chunk in (None, 3, 20):
        g = SmoothedClassifier(model, Box(0.3), samples=4, chunk=chunk, seed=1)
        assert torch.equal(attack(g, x, y), whole.x_adv)
        assert torch.equal(attack(g, x[kept], y[kept]), whole.x_adv[kept])


def test_noise_that_a_plain_model_makes_itself_can_neither_be_fixed_nor_left_out():
    x, y = Flipper.images(count=4)
    for noise, words in (("per-image", "fixed"), ("none", "left out")):
        result = PGD("linf", 0.1, steps=2, noise=noise).run(Flipper(), x, y)
        assert result.notes[0] == f"noise was to be {words}, but the model draws its own: it was fresh"


def test_selection_beats_the_last_iterate_of_a_step_too_long():
    """With steps that jump over the ball, the last of many iterates is chance; the best on a panel is not."""
    weight = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    bowl = nn.Sequential(Bowl(), Linear(weight, torch.zeros(2)))
    x = 0.3 + 0.4 * torch.rand(64, 1, 1, 2, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(64, dtype=torch.int64)
    g = SmoothedClassifier(bowl, Box(0.05), samples=8, seed=0)
    options = {"steps": 9, "step_size": 0.15, "random_start": False, "seed": 5}
    last = PGD("linf", 0.1, best="last", **options).run(g, x, y)
    best = PGD("linf", 0.1, best="best", **options).run(g, x, y)
    assert best.loss.mean() > last.loss.mean() + 0.05


class Bowl(nn.Module):
    """Two features whose difference oscillates with brightness, so that long steps overshoot its peaks."""

    def forward(self, x):
        wave = torch.sin(25 * x.flatten(1).sum(1))
        return torch.stack([1 + wave, 1 - wave], dim=1).view(-1, 1, 1, 2)


def test_rand_is_the_default_on_a_random_model_and_standard_on_another():
    model, x, y, _ = spaced("linf", count=4)
    smoothed = SmoothedClassifier(model, Box(0.01), samples=4, seed=0)
    quick = AutoAttack("linf", 0.01, steps=3, queries=5)
    assert quick.run(smoothed, x, y).version == "rand"
    assert quick.run(model, x, y).version == "standard"
    assert quick.run(Flipper(), *Flipper.images()).version == "rand"


def test_more_samples_never_raise_what_is_left_beyond_chance():
    """EOT 1 against 32 with equal steps: the larger finds at least as many, less 3 binomial standard errors."""
    model, x, y, _ = spaced("l2")
    g = SmoothedClassifier(model, Box(0.3), samples=4, seed=0)
    few = PGD("l2", 0.042, steps=10, samples=1).run(g, x, y).success.float().mean()
    many = PGD("l2", 0.042, steps=10, samples=32).run(g, x, y).success.float().mean()
    assert many >= few - 3 * (0.25 / len(x)) ** 0.5
