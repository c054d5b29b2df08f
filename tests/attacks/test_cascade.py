"""The cascade: what it finds on models whose worst case is known, and that its state is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted_models import Linear, reach, several_classes, spaced
from scipy.stats import binom
from torch import nn

from rushkit import attacks, registries
from rushkit.attacks.best import BestByRule
from rushkit.attacks.cascade.attack import Cascade
from rushkit.attacks.cascade.engine import Ball, Engine
from rushkit.attacks.cascade.schedule import Ascent, Round, Schedule, schedule_of
from rushkit.attacks.victim import under_attack
from rushkit.errors import NumericsError, UsageError
from rushkit.smoothing import SmoothedClassifier

NOISES = {"uniform": {"scale": 0.005}, "gaussian": {"std": 0.003}, "laplace": {"scale": 0.002}, "none": {}}
SMALL = Schedule(
    (
        Round(4, 2, (Ascent("nll", "random"),)),
        Round(4, 4, (Ascent("margin", "best", rival=1), Ascent("ce", "random", "auto"))),
        Round(5, 4, (Ascent("dlr", "best"),)),
    ),
    most_draws=8,
)


def smoothed(model, noise="uniform", samples=16, **options):
    made = registries.noises.create(noise, **(options or NOISES[noise]))
    return SmoothedClassifier(model, made, samples, seed=3)


def engine_on(victim, x, y, schedule=SMALL, eps=0.042, norm="linf"):
    return Engine(victim, BestByRule(victim, x, y, 5), x, y, schedule, Ball(norm, eps), seed=7)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_classifier_keeps_its_known_worst_case(norm, noise):
    """Symmetric noise moves no vote of two linear classes; 20 % about the boundary, with split votes, are left out."""
    model, x, y, distance = spaced(norm, count=16, side=4)
    eps = 0.027
    result = Cascade(norm, eps).run(smoothed(model, noise, samples=8), x, y)
    near = 0.0 if noise == "none" else 0.2
    assert result.success[distance < (1 - near) * eps].all()
    assert not result.success[distance > (1 + near) * eps].any()
    assert reach(x, result.x_adv, norm) <= eps


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_class_is_found_that_is_nearest(norm):
    model, x, y, distance = several_classes(5, norm, count=40)
    eps = float(distance.sort().values[[19, 20]].mean())
    assert torch.equal(Cascade(norm, eps).run(model, x, y).success, distance < eps)


def test_it_is_an_attack_like_any_other():
    model, x, y, distance = spaced("linf", count=10)
    made = attacks.create("cascade", norm="linf", eps=0.011)
    assert torch.equal(model(made(model, x, y)).argmax(1) != y, distance < 0.011)
    assert repr(made) == "Cascade(norm='linf', eps=0.011, effort=1)"


@pytest.mark.parametrize("options", [{"effort": 3}, {"rule": "fgsm"}, {"samples": 0}], ids=str)
def test_settings_that_do_not_exist_are_refused(options):
    with pytest.raises(UsageError):
        Cascade("linf", 0.1, **options)


def state_of(engine):
    return engine.numbers(), {name: tensor.clone() for name, tensor in engine.tensors().items()}


def assert_same(ours, theirs):
    assert ours[0] == theirs[0]
    assert ours[1].keys() == theirs[1].keys()
    for name, tensor in ours[1].items():
        assert torch.equal(tensor, theirs[1][name]), name


def test_it_goes_on_bit_for_bit_from_each_of_its_steps():
    model, x, y, _ = several_classes(4, "linf", count=8, side=3)
    g = smoothed(model, samples=8, scale=0.1)
    with under_attack(g, x, 0) as victim:
        whole = engine_on(victim, x, y)
        states = [state_of(whole)]
        while whole.advance():
            states.append(state_of(whole))
        assert len(states) > 15
        for number, state in enumerate(states[:-1]):
            resumed = engine_on(victim, x, y)
            resumed.restore(*state)
            assert resumed.advance()
            assert_same(state_of(resumed), states[number + 1])
        resumed = engine_on(victim, x, y)
        resumed.restore(*states[-1])
        assert max(falls.max() for falls in whole.last_fall.values()) > 0
        for rule, falls in whole.last_fall.items():
            assert torch.equal(resumed.last_fall[rule], falls)


class Stop(Exception):
    pass


def test_a_stop_between_two_passes_loses_the_unfinished_step_alone():
    model, x, y, _ = several_classes(4, "linf", count=8, side=3)
    g = smoothed(model, samples=8, scale=0.1)
    with under_attack(g, x, 0) as victim:
        engine = engine_on(victim, x, y)
        stops, more = {1: 0, 2: 0}, True
        while more:
            before = state_of(engine)
            # A step makes one pass; a race that it asks for makes more.
            for last in stops:
                passes = iter(range(1, 100))

                def pause(passes=passes, last=last):
                    if next(passes) == last:
                        raise Stop

                with g.pausing(pause):
                    try:
                        more = engine.advance()
                    except Stop:
                        stops[last] += 1
                        assert_same(state_of(engine), before)
                    else:
                        break
            else:
                more = engine.advance()
        assert min(stops.values()) > 3


def test_an_image_alone_fares_as_it_does_beside_others():
    model, x, y, _ = several_classes(4, "linf", count=6, side=3)
    g = smoothed(model, samples=8, scale=0.1)
    with under_attack(g, x, 0) as victim:
        together = engine_on(victim, x, y)
        while together.advance():
            pass
        for place in range(len(x)):
            alone = engine_on(victim, x[place : place + 1], y[place : place + 1])
            while alone.advance():
                pass
            for rule, numbers in together.first_broken.items():
                assert alone.first_broken[rule].tolist() == [int(numbers[place])]
                ours, theirs = alone.best.best[rule].x_adv, together.best.best[rule].x_adv[place : place + 1]
                # Matrix products of other shapes round otherwise.
                assert torch.allclose(ours, theirs, atol=1e-5)


def test_more_effort_goes_on_where_less_ends():
    model, x, y, _ = several_classes(4, "linf", count=6, side=3)
    g, longer = smoothed(model, samples=8, scale=0.1), replace(SMALL, rounds=(*SMALL.rounds, SMALL.rounds[0]))
    with under_attack(g, x, 0) as victim:
        less, more = engine_on(victim, x, y), engine_on(victim, x, y, longer)
        while less.advance():
            more.advance()
        assert_same(state_of(less), state_of(more))
        assert more.advance()


def test_the_efforts_share_their_rounds():
    for random in (True, False):
        one, two, four = (schedule_of("linf", random, 10, effort).rounds for effort in (1, 2, 4))
        assert two[: len(one)] == one
        assert four[: len(two)] == two
        assert len(one) < len(two) < len(four)


SHORT = Schedule((Round(1, 4, (Ascent("nll", "random"),)), Round(8, 4, (Ascent("margin", "best"),))), most_draws=4)


class Even:
    """Moves images towards and away from a boundary by evenly spaced lengths up to ``reach``, in random order."""

    def __init__(self, direction, reach):
        self.direction, self.reach, self.std = direction, reach, reach / 3**0.5

    def sample(self, x, generator=None):
        lengths = (2 * torch.randperm(len(x), generator=generator) + 1) / len(x) - 1
        return self.reach * lengths.view(-1, 1, 1, 1) * self.direction


def searched(samples, reach, eps, schedule=SHORT, images=slice(20, 40)):
    """Run a cascade on the two classes of ``spaced`` under even noise.

    -> the engine; the probabilities of a right draw on the images, before the last round and after it.
    """
    model, x, y, _ = spaced("linf", count=40)
    x, y, gain = x[images], y[images], (model.weight[0] - model.weight[1]).detach()
    g = SmoothedClassifier(model, Even(gain.sign().view(x.shape[1:]), reach), samples, seed=3)

    def right():
        logits = model(engine.best.x_adv).detach()
        distance = (logits[:, 0] - logits[:, 1]) * (1 - 2 * y) / gain.norm(1)
        return (0.5 + distance / (2 * reach)).clamp(0, 1).double()

    with under_attack(g, x, 0) as victim:
        engine = engine_on(victim, x, y, schedule, eps)
        before = None
        while engine.advance():
            if engine.at.measured < 1:
                before = right()
        return engine, before, right()


@pytest.mark.parametrize("samples", [1, 9])
def test_the_last_fall_is_that_of_the_vote_though_no_label_has_lost(samples):
    """Draws are evenly spaced, so their shares are exact to one in their number, and the mean of the falls to 0.02.

    A draw is right with probability 1/2 + distance / 2 reach, a vote by the binomial distribution.
    """
    engine, before, after = searched(samples, reach=0.12, eps=0.035)
    vote = [binom.sf(samples // 2, samples, share) for share in (before, after)]
    assert (after > 0.5).all()
    assert not any((numbers > 1).any() for numbers in engine.first_broken.values())
    exact = (vote[0] - vote[1]).mean()
    assert exact > 0.06
    assert float(engine.last_fall["majority"].mean()) == pytest.approx(exact, abs=0.02)


def test_without_noise_a_label_that_the_last_round_takes_is_a_fall_of_one():
    """One step of half the radius breaks what is nearer than that, whatever its start, and the rest takes more."""
    model, x, y, distance = spaced("linf", count=40)
    schedule = replace(SHORT, rounds=tuple(replace(part, draws=1) for part in SHORT.rounds), most_draws=1)
    with under_attack(model, x, 0) as victim:
        engine = engine_on(victim, x, y, schedule, eps=0.05)
        while engine.advance():
            pass
        for rule, falls in engine.last_fall.items():
            assert torch.equal(falls == 1, engine.first_broken[rule] == 2)
            assert set(falls.tolist()) == {0.0, 1.0}
    assert (distance[engine.last_fall["majority"] == 1] < 0.05).all()


def test_what_leaves_before_the_last_round_does_not_fall_in_it_and_one_round_says_nothing():
    one, never_begun = (Schedule(SHORT.rounds[:end], 4) for end in (1, 2))
    engine, _, _ = searched(9, reach=0.001, eps=0.09, schedule=never_begun, images=slice(0, 5))
    assert engine.at.measured == 0
    assert {rule: falls.tolist() for rule, falls in engine.last_fall.items()} == {
        rule: [0.0] * 5 for rule in ("majority", "mean")
    }
    assert searched(9, reach=0.12, eps=0.03, schedule=one)[0].last_fall == {}


class Cards:
    """A victim of two classes: of every four draws, as many are wrong as an image's first pixel says in quarters."""

    random, num_classes = True, 2

    def __init__(self, votes):
        self.votes = votes

    def logits(self, x, *, draw, samples):
        wrong = torch.arange(samples)[:, None] % 4 < (4 * x[:, 0, 0, 0]).round()
        return torch.stack([~wrong, wrong], 2).double() * 4


def test_a_fall_is_counted_from_the_mark_between_the_versions_kept_there_and_now():
    x, y = torch.zeros(4, 1, 1, 1, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)
    best = BestByRule(Cards(1), x, y, 5)
    best.begin()
    quarters = torch.tensor([0.25, 0.25, 0.5, 0.0], dtype=torch.float64).view(4, 1, 1, 1)
    best.offer(0, torch.arange(4), quarters)
    best.mark()
    assert best.falls()["majority"].tolist() == [0.0] * 4
    best.offer(0, torch.arange(4), quarters + torch.tensor([0.25, 0.0, -0.25, 0.25]).view(4, 1, 1, 1))
    assert best.falls()["majority"].tolist() == best.falls()["mean"].tolist() == [0.25, 0.0, 0.0, 0.25]


def test_a_version_that_is_still_the_best_has_not_fallen_whatever_its_later_draws_say():
    victim, index = Cards(64), torch.arange(1)
    x = torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    best = BestByRule(victim, x, torch.zeros(1, dtype=torch.int64), 5)
    best.begin()
    best.offer(0, index, x + 0.25)
    best.mark()
    champion = best.best["majority"]
    assert (champion.x_adv.item(), champion.runs.drawn.tolist()) == (0.25, [32])
    champion.runs.log_prob[32:64] = victim.logits(x + 1, draw=0, samples=32)
    champion.runs.drawn[index] = 64
    assert float(best._right(best._judges["majority"])) < 0.2 < float(champion.before)
    assert best.falls()["majority"].tolist() == [0.0]


class Broken(nn.Module):
    """Linear but for images whose first pixel is white: there the gradient is NaN, or zero if it is black."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(torch.tensor([[1.0, 1.0, 1.0, 1.0], [-1.0, -1.0, -1.0, -1.0]]), torch.tensor([-2.0, 2.0]))

    def forward(self, x):
        logits, first = self.linear(x), x[:, 0, 0, 0]
        white = (first > 0.8).nonzero().squeeze(1)
        root = (x[white, 0, 1, 1] - x[white, 0, 1, 1].detach()).sqrt()
        logits = logits.index_add(0, white, torch.stack([root, -root], 1))
        return torch.where((first < 0.2)[:, None], logits.detach(), logits)


@pytest.mark.parametrize("noisy", [False, True])
def test_images_without_a_gradient_are_named_and_the_others_go_on(noisy):
    x = torch.full((4, 1, 2, 2), 0.52)
    x[1, 0, 0, 0], x[3] = 0.95, 0.75
    x[3, 0, 0, 0] = 0.05
    y = torch.zeros(4, dtype=torch.int64)
    model = Broken()
    model = smoothed(model, samples=4, scale=0.001) if noisy else model
    result = Cascade("linf", 0.05).run(model, x.clamp(0, 1), y)
    assert result.success.tolist() == [True, False, True, False]
    assert [note.text for note in result.notes] == [
        "the gradient was NaN or infinite at 1 of 4 images: 1",
        "the gradient was zero at every step at 1 of 4 images: 3",
    ]


@pytest.mark.parametrize("noisy", [False, True])
def test_it_goes_on_from_every_state_whose_open_images_have_no_gradient(noisy):
    x, y = torch.full((3, 1, 2, 2), 0.52), torch.zeros(3, dtype=torch.int64)
    x[1, 0, 0, 0] = 0.95
    model = smoothed(Broken(), samples=4, scale=0.001) if noisy else Broken()
    rounds = replace(SMALL, rounds=SMALL.rounds[:2])
    with under_attack(model, x, 0) as victim:
        whole = engine_on(victim, x, y, rounds, eps=0.2)
        states = []
        while whole.advance():
            states.append((whole.numbers(), whole.tensors()))
    assert whole.best.broken.tolist() == [True, False, True]
    alone = 0
    for state in states:
        with under_attack(model, x, 0) as victim:
            resumed = engine_on(victim, x, y, rounds, eps=0.2)
            resumed.restore(*state)
            alone += resumed.best.open().tolist() == [1]
            while resumed.advance():
                pass
        assert resumed.notes() == whole.notes()
        assert torch.equal(resumed.best.x_adv, whole.best.x_adv)
        assert not resumed.useless
    assert alone > 3
    assert [(note.code, note.images) for note in whole.notes()] == [("gradient-not-finite", (1,))]


def test_images_without_a_gradient_get_no_more_draws():
    x, y = torch.full((4, 1, 2, 2), 0.52), torch.zeros(4, dtype=torch.int64)
    # The gradient is NaN at the second image and zero at the third.
    x[1, 0, 0, 0], x[2], x[2, 0, 0, 0] = 0.95, 0.75, 0.05
    with under_attack(smoothed(Broken(), samples=4, scale=0.001), x, 0) as victim:
        engine = engine_on(victim, x, y)
        assert engine._measured(1).tolist() == [4] * 4


def test_a_gradient_that_is_nan_at_every_image_is_an_error():
    x = torch.full((2, 1, 2, 2), 0.95)
    with pytest.raises(NumericsError):
        Cascade("linf", 0.01).run(Broken(), x, torch.zeros(2, dtype=torch.int64))


def test_without_a_radius_the_clean_images_are_voted_on_and_nothing_is_searched():
    model, x, y, _ = spaced("linf", count=6)
    g = smoothed(model, samples=4)
    result = Cascade("linf", 0.0).run(g, x, torch.where(torch.arange(6) == 2, 1 - y, y))
    assert torch.equal(result.x_adv, x)
    assert result.image_backwards == 0
    assert result.success.nonzero().flatten().tolist() == [2]


class TwoFaces(nn.Module):
    """The vote and the mean softmax of class 0 fall as one pixel moves in opposite ways; the noise picks a draw.

    Brighter, class 1 wins more draws by a hair; darker, it wins three draws of ten ever more surely and never more.
    """

    def forward(self, x):
        kind, draw = x[:, 0, 0, 0] - 0.5, x[:, 0, 1, 1]
        often = torch.where(draw < 0.7, 20 * kind - 1.5, -6 - 0 * kind)
        seldom = torch.where(draw < 0.3, -60 * kind - 1, -0.1 + kind)
        margin = torch.where(kind > 0, often, seldom)
        return torch.stack([torch.zeros_like(margin), margin], 1)


class OnLastPixel:
    """Adds U(0, 1) to the last pixel, which is black."""

    std = 1.0

    def sample(self, x, generator=None):
        noise = torch.zeros_like(x)
        noise[:, 0, 1, 1] = torch.rand(len(x), generator=generator)
        return noise


def test_each_rule_is_left_with_the_version_that_is_worst_for_it():
    x = torch.full((1, 1, 2, 2), 0.5)
    x[0, 0, 1, 1] = 0
    y, g = torch.zeros(1, dtype=torch.int64), SmoothedClassifier(TwoFaces(), OnLastPixel(), 64, seed=0)
    with under_attack(g, x, 0) as victim:
        best = BestByRule(victim, x, y, 5)
        engine = Cascade("linf", 0.1).on(victim, best, x, y)
        while engine.advance():
            pass
        leads = {}
        for rule, champion in best.best.items():
            tally = g.tally(champion.x_adv, 2000)
            right = tally.votes if rule == "majority" else tally.confidence
            leads[rule] = float((right[0, 1] - right[0, 0]) / 2000)
    # Bright: seven draws of ten lost. Dark: three lost beyond doubt, and the others nearly even.
    assert leads["majority"] == pytest.approx(0.4, abs=0.08)
    assert leads["mean"] > 0.2


class Slope(nn.Module):
    """Two classes whose gap falls along a direction with a few large coordinates, as l1 attacks look for."""

    def __init__(self, direction):
        super().__init__()
        self.direction = nn.Parameter(direction)

    def forward(self, x):
        gain = x.flatten(1) @ self.direction * 0.05 - 40
        return torch.stack([-gain, gain], 1)


@pytest.mark.parametrize("side, count, noise", [(16, 2, "none"), (16, 2, "uniform"), (32, 2, "none"), (224, 1, "none")])
@pytest.mark.parametrize("eps", [1.0, 3.0])
def test_in_l1_it_gains_what_the_greedy_choice_of_pixels_does(eps, side, count, noise):
    """The pixels of largest weight go to their bound until eps is spent; .98 of that gain is asked for."""
    source = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, side, side, generator=source)
    direction = torch.randn(3 * side**2, generator=source)
    room = torch.where(direction > 0, 1 - x.flatten(1), x.flatten(1))[:, direction.abs().argsort(descending=True)]
    spent = torch.minimum(room, (eps - (room.cumsum(1) - room)).clamp(min=0))
    exact = (spent * direction.abs().sort(descending=True).values).sum(1)
    model = Slope(direction)
    attack = Cascade("l1", eps)
    result = attack.run(smoothed(model, noise, samples=4), x, torch.zeros(count, dtype=torch.int64))
    assert ((result.x_adv - x).flatten(1) @ direction / exact).min() > 0.98
    assert reach(x, result.x_adv, "l1") <= eps


def test_every_step_draws_anew_and_no_gradient_sees_the_draws_that_select():
    model, x, y, _ = several_classes(5, "linf", count=6)
    gradients, selections = [], []
    with under_attack(smoothed(model, samples=4), x, 0) as victim:
        gradient, logits = victim.gradient, victim.logits
        victim.gradient = lambda *args, draw, **more: gradients.append(draw) or gradient(*args, draw=draw, **more)
        victim.logits = lambda *args, draw, **more: selections.append(draw) or logits(*args, draw=draw, **more)
        engine = engine_on(victim, x, y, replace(SMALL, most_draws=2), eps=0.001)
        while engine.advance():
            pass
    assert len(gradients) == len(set(gradients)) >= sum(part.steps * len(part.ascents) for part in SMALL.rounds)
    assert selections
    assert not set(gradients) & set(selections)
