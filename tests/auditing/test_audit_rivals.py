"""The audit's rivals differ from PGD in mechanism, and notice a white box that is weak."""

from __future__ import annotations

import math

import pytest
import torch
from linear_models import layer, prototypes
from torch import nn

from rushkit import registries
from rushkit.attacks import pgd
from rushkit.attacks.result import AttackResult
from rushkit.auditing import attacks as audit_attacks
from rushkit.auditing import plan as audit_plan
from rushkit.auditing.attacks import Attacks
from rushkit.auditing.checks.attacks import minimum_norm_stronger, other_steps_stronger, planted_example_missed
from rushkit.auditing.checks.slopes import gradient_zero, loss_still_rising, saturated
from rushkit.auditing.checks.strength import planted_optimum, second_opinion
from rushkit.auditing.given import ALONE, Given
from rushkit.auditing.gradients import Gradients, input_gradients
from rushkit.auditing.landscapes import shares_reached
from rushkit.auditing.measure import Measured, Point
from rushkit.auditing.plan import Settings, plan
from rushkit.auditing.selftest.weak import OneStep, SpreadInL1, StaleSlope, pgd_by
from rushkit.auditing.versions import Versions
from rushkit.data.digits import digits
from rushkit.setup.components import to_float
from rushkit.smoothing import SmoothedClassifier

NORMS = ("linf", "l2", "l1")
# Radii at which PGD leaves between a sixth and two thirds of the digits' images.
BALLS = {"linf": 0.15, "l2": 1.5, "l1": 12.0}
IMAGES = 64


@pytest.fixture(scope="module")
def net():
    """A small convolutional network, trained for a few seconds on digits moved by two large steps of l-inf 0.15.

    It is trained in float64, so that its weights do not depend on the processor.
    """
    split = digits(image_size=16).split("train")
    x, y = to_float(split.images).double(), split.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()]
        model = nn.Sequential(*layers, nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)).double()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    source = torch.Generator().manual_seed(0)
    for epoch in range(10):
        radius = 0.15 * min(1, (epoch + 1) / 5)
        for rows in torch.randperm(len(x), generator=source).split(64):
            moved = moved_by_two_steps(model, x[rows], y[rows], radius, source)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(moved), y[rows]).backward()
            optimizer.step()
    return model.float().eval().requires_grad_(False)


def moved_by_two_steps(model, x, y, radius, source):
    delta = (2 * torch.rand(x.shape, generator=source) - 1) * radius
    for _ in range(2):
        delta.requires_grad_(True)
        loss = nn.functional.cross_entropy(model((x + delta).clamp(0, 1)), y)
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta.detach() + 0.6 * radius * gradient.sign()).clamp(-radius, radius)
    return (x + delta).clamp(0, 1)


class Ramp(nn.Module):
    """Two classes on 3x32x32 images; the logit of class 1 is linear."""

    def __init__(self):
        super().__init__()
        self.slope = torch.randn(3 * 32 * 32, generator=torch.Generator().manual_seed(0))

    def forward(self, x):
        logit = (x - 0.5).flatten(1) @ self.slope
        return torch.stack([torch.zeros_like(logit), logit], dim=1)


def on_a_ramp(noise, m, options, given=ALONE, make=None):
    """What ``make``, by default ``compared``, says of an l1 ball of 1: 64 images of logits up to more than it takes."""
    model, source = Ramp(), torch.Generator().manual_seed(1)
    x = 0.4 + 0.2 * torch.rand(64, 3, 32, 32, generator=source)
    logits = torch.linspace(0.1, 1.3 * float(model.slope.abs().amax()), 64)
    # The shortest move that gives each image its logit; it changes a pixel by 0.05 at most.
    move = (logits - model(x)[:, 1]) / model.slope.square().sum()
    x = x + (move[:, None] * model.slope).view_as(x)
    g = SmoothedClassifier(model, registries.noises.create(noise, **options), m, seed=0)
    settings = Settings("l1", 1.0, steps=20, eot=4, queries=5)
    return (make or compared)(g, x, torch.ones(64, dtype=torch.int64), settings, given)


def measured(model, norm, eps, given=ALONE, noise="none", m=1, **options):
    """The points that the checks of the rivals compare, on the digits' test images that are right."""
    split = digits(image_size=16).split("test")
    x, y = to_float(split.images[:IMAGES]), split.labels[:IMAGES]
    right = model(x).argmax(dim=1) == y
    assert right.double().mean() > 0.8
    g = SmoothedClassifier(model, registries.noises.create(noise, **options), m, seed=0)
    return compared(g, x[right], y[right], Settings(norm, eps, steps=20, eot=4, queries=5), given)


def compared(g, x, y, settings, given=ALONE):
    found = Measured(settings, images=len(x))
    attacks = Attacks(g, x, y, settings, given)
    wanted = {f"{settings.steps} steps", f"{settings.step_counts[-1]} steps"}
    for measurement in plan(settings, g.samples, g.votes(x[:1]).shape[1], x.shape, g.deterministic):
        if measurement.label in wanted or measurement.place in ("losses", "step_rule", "minimum_norm"):
            assert found.add(measurement, attacks.measure(measurement)[0])
    return found


def verdicts(found):
    """-> of other steps, of the minimum norm."""
    return other_steps_stronger(found).status, minimum_norm_stronger(found).status


@pytest.mark.parametrize("norm", NORMS)
def test_the_rivals_reach_the_exact_worst_case_of_a_linear_model(norm):
    source = torch.Generator().manual_seed(0)
    x, weight = 0.3 + 0.4 * torch.rand(60, 3, 2, 2, generator=source), torch.randn(12, generator=source)
    model = nn.Sequential(nn.Flatten(), layer(12, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.stack([-weight, weight]))
        model[1].bias.copy_((x.flatten(1) @ weight).mean() * torch.tensor([1.0, -1.0]))
    logits = model(x)
    distances = (logits[:, 0] - logits[:, 1]).abs() / (2 * weight.norm(p={"linf": 1, "l2": 2, "l1": math.inf}[norm]))
    # The middle of the widest gap between the distances of the middle half: no image lies near the rim.
    ordered = distances.sort().values[15:45]
    widest = int((ordered[1:] - ordered[:-1]).argmax())
    eps = float(ordered[widest : widest + 2].mean())
    # The box lets every pixel move as far as it is to.
    assert eps < 0.3
    still = SmoothedClassifier(model, registries.noises.create("none"), 1, seed=0)
    found = compared(still, x, logits.argmax(dim=1), Settings(norm, eps, steps=20, queries=5))
    for place in ("step_rule", "minimum_norm"):
        assert found.points[place][0].right == tuple((distances > eps).tolist()), place


class TowardsTheNextClass(pgd.PGD):
    """Aims at the class that follows the label."""

    def run(self, model, x, y, target=None):
        options = {"samples": self.samples, "selection_samples": 1, "seed": self.seed}
        aimed = pgd.PGD(self.norm, self.eps, self.steps, best="last", targeted=True, **options)
        return aimed.run(model, x, y, (y + 1) % 10)


@pytest.mark.parametrize("attack", [OneStep, TowardsTheNextClass])
def test_a_weak_pgd_is_noticed_by_both_rivals(net, attack):
    assert verdicts(measured(net, "linf", BALLS["linf"], Given(attack=attack))) == ("fail", "fail")


def test_a_slope_that_is_out_of_date_is_noticed_by_both_rivals(net):
    given = Given(attack=pgd_by(StaleSlope))
    assert verdicts(measured(net, "linf", BALLS["linf"], given)) == ("fail", "fail")


RAMPS = pytest.mark.parametrize("noise, m, options", [("none", 1, {}), ("uniform", 16, {"scale": 0.01})])


@RAMPS
def test_an_l1_step_spread_over_a_fixed_share_of_the_image_is_noticed(noise, m, options):
    given = Given(attack=pgd_by(SpreadInL1))
    assert verdicts(on_a_ramp(noise, m, options, given)) == ("fail", "fail")


@RAMPS
def test_the_real_l1_step_gives_no_alarm(noise, m, options):
    assert verdicts(on_a_ramp(noise, m, options)) == ("pass", "pass")


def doubts(g, x, y, settings, given):
    """The verdicts on the attack under doubt: of the known optima, of the second opinion."""
    found, attacks, versions = Measured(settings, images=len(x)), Attacks(g, x, y, settings, given), Versions.of(x)
    for number, measurement in enumerate(plan(settings, g.samples, 2, x.shape, g.deterministic)):
        if measurement.place == "steps" or measurement.kind == "adaptive":
            outcome, x_adv = attacks.measure(measurement)
            assert found.add(measurement, outcome)
            versions.offer(measurement, number, x_adv, outcome.lead)
    found.second_opinion = Point("opinion", 0.0, tuple(attacks.opinion(versions.opinion.x_adv).share))
    found.landscapes = shares_reached(given.attack, settings.norm, settings.steps, settings.seed)
    return planted_optimum(found).status, second_opinion(found).status


def test_the_l1_attack_as_it_was_is_doubted_by_the_known_optima_and_the_second_opinion():
    """The new one is not."""
    assert on_a_ramp("none", 1, {}, Given(attack=pgd_by(SpreadInL1)), doubts) == ("fail", "fail")
    assert on_a_ramp("none", 1, {}, Given(attack=pgd.PGD), doubts) == ("pass", "pass")


@pytest.mark.parametrize("norm", NORMS)
def test_the_real_attack_gives_no_alarm(net, norm):
    found = measured(net, norm, BALLS[norm])
    assert verdicts(found) == ("pass", "pass")
    # The ball is one in which a weak attack would show.
    assert 0.15 < found.points["steps"][-1].accuracy < 0.7


def test_an_attack_of_the_plugin_takes_part_where_it_is_installed(monkeypatch):
    """It breaks every image here, as no other attack does."""
    g, x, y = prototypes(noise=0.01)
    made = []

    class Minimal:
        def __init__(self, **options):
            made.append(options)

        def run(self, model, x, y):
            x_adv = torch.stack([x[(y != label).nonzero()[0, 0]] for label in y])
            nothing = torch.zeros(len(x))
            return AttackResult(x_adv, nothing.bool(), nothing, nothing, 0, 0)

    monkeypatch.setattr(audit_plan, "names", lambda: ["foolbox-fmn", "pgd"])
    monkeypatch.setattr(audit_attacks, "create", lambda name, **options: Minimal(**options))
    for norm, labels in {"linf": ["fab", "foolbox-fmn"], "l2": ["fab"], "l1": ["fab", "foolbox-fmn"]}.items():
        found = compared(g, x, y, Settings(norm, 1e-4, steps=2, eot=2, queries=5, planted=1))
        assert [point.label for point in found.points["minimum_norm"]] == labels
        assert minimum_norm_stronger(found).status == ("pass" if norm == "l2" else "fail")
    assert [(options["steps"], options["samples"], options["panels"]) for options in made] == [(4, 2, 1)] * 2


def test_a_check_without_the_figures_that_would_decide_warns():
    nothing = Measured(Settings("linf", 0.1), planted=None, curve=(0.1, 0.2))
    assert planted_example_missed(nothing).status == "warn"
    assert loss_still_rising(nothing).status == "warn"


@pytest.mark.parametrize(
    "share, left_by_margin, status",
    [(0.01, 1.0, "pass"), (0.2, 1.0, "pass"), (0.2, 0.5, "warn"), (0.6, 1.0, "pass"), (0.6, 0.5, "fail")],
)
def test_saturation_matters_where_another_loss_finds_more(share, left_by_margin, status):
    def point(label, left):
        return Point(label, 0.0, tuple(float(index < left * 40) for index in range(40)))

    found = Measured(Settings("linf", 0.1), gradients=Gradients((), 0.0, (), share))
    # Cross-entropy saturates as −log p̄ does, so what it finds decides nothing.
    found.points["losses"] = [point("nll", 1.0), point("ce", 0.2), point("dlr", 1.0), point("margin", left_by_margin)]
    assert saturated(found).status == status


class Loud(nn.Module):
    """A network whose logits are ten thousand times as large."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return 1e4 * self.net(x)


@pytest.mark.parametrize("make, status", [(Loud, "fail"), (lambda net: net, "pass")], ids=["times 1e4", "as it is"])
def test_a_saturated_network_is_caught_and_the_same_without_is_not(net, make, status):
    model = make(net)
    found = measured(model, "linf", 0.15)
    split = digits(image_size=16).split("test")
    x, y = to_float(split.images[:IMAGES]), split.labels[:IMAGES]
    g = SmoothedClassifier(model, registries.noises.create("none"), 1, seed=0)
    found.gradients, _ = input_gradients(g, x, y, found.settings.eot, found.settings.seed)
    assert saturated(found).status == status
    assert gradient_zero(found).status == status


@pytest.mark.parametrize("lost, status", [(5, "warn"), (6, "fail"), (7, "fail")])
def test_other_steps_are_stronger_at_five_percent_as_other_rivals_are(lost, status):
    """Two-sided exact McNemar: 5 to 0 has p = .0625, 6 to 0 has .031; each is above 5 points and 2 errors of 60."""
    found = Measured(Settings("linf", 0.1), images=60)
    found.points["steps"].append(Point("40 steps", 40, (1.0,) * 60))
    found.points["step_rule"].append(Point("apgd, 40 steps", 40, (0.0,) * lost + (1.0,) * (60 - lost)))
    assert other_steps_stronger(found).status == status
