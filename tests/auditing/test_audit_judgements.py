"""Single checks of the audit against figures whose verdict is known."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from linear_models import layer, prototypes
from torch import nn

from rushkit import registries
from rushkit.attacks.pgd import PGD
from rushkit.auditing import attacks as audit_attacks
from rushkit.auditing import versions
from rushkit.auditing.attacks import Outcome
from rushkit.auditing.checks.attacks import steps_not_converged
from rushkit.auditing.checks.checklist import CHECKS, check_all
from rushkit.auditing.checks.subjects import large_eps_survived
from rushkit.auditing.given import ALONE, Given
from rushkit.auditing.measure import Measured, Point, measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.scoring import WorstVersions, score
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)


def stands(right, commonest):
    """What RK108 says where ``right`` of 40 images stand at the largest radius."""
    shares = tuple(float(index < right) for index in range(40))
    return large_eps_survived(
        Measured(SETTINGS, images=40, classes=4, commonest=commonest, points={"radii": [Point("large", 0.5, shares)]})
    )


def test_what_a_constant_answer_gets_right_is_no_sign_of_a_blind_attack():
    # All attacked images of one class of four: grey is answered with that class, rightly for all of them.
    assert stands(40, 1.0).status == "pass"
    assert stands(30, 0.75).status == "pass"
    assert stands(40, 0.75).status == "fail"
    assert stands(30, 0.25).status == "fail"
    assert stands(30, 0.75).figures["chance"] == 0.75


@pytest.mark.parametrize(
    "fallen, images, verdict, words",
    [
        # Of n images whole ones fall: a share p warns beyond 2·√(p(1 − p)/(n − 1)), which 4 of 27 are the first to do:
        # 3 of 27 are 0.111 and would have to be 0.123.
        (2, 27, "pass", "from 100.0 % to 92.6 %; on 27 images a drop below 14.8 % can be chance"),
        (3, 27, "pass", "from 100.0 % to 88.9 %; on 27 images a drop below 14.8 % can be chance"),
        (4, 27, "warn", "from 100.0 % to 85.2 %"),
        (0, 27, "pass", "from 100.0 % to 100.0 %"),
        (20, 27, "fail", "from 100.0 % to 25.9 %"),
    ],
)
def test_a_drop_that_passes_is_said_with_what_would_not_have(fallen, images, verdict, words):
    after = tuple(float(index >= fallen) for index in range(images))
    steps = [Point("4 steps", 4, (1.0,) * images), Point("8 steps", 8, after)]
    measured = Measured(SETTINGS, images=images, classes=4, commonest=0.1, points={"steps": steps})
    said = steps_not_converged(measured)
    assert said.status == verdict
    assert said.says == f"from 4 steps to 8 steps accuracy goes {words}"


class Favourite(nn.Module):
    """Class 0 whatever the image, with a little slope."""

    def __init__(self):
        super().__init__()
        self.slope = layer(3 * 36, 3)

    def forward(self, x):
        return 1e-3 * self.slope(x.flatten(1)) + torch.tensor([5.0, 0.0, 0.0])


def measured(given=ALONE):
    x = 0.2 + 0.6 * torch.rand(12, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 3
    g = SmoothedClassifier(Favourite(), registries.noises.create("gaussian", scale=0.1), 4, seed=0)
    return measure(g, x, y, SETTINGS, given)


def test_a_model_with_one_answer_is_not_blamed_for_standing_in_a_grey_ball():
    found = measured()
    assert found.attacked == (0, 3, 6, 9)
    assert found.commonest == 1.0
    assert {check.code: check.status for check in check_all(found)}["RK108"] == "pass"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", [0, -1])
def test_an_image_with_a_nan_is_outside_of_every_ball(bad, place):
    class Broken(PGD):
        """Spoils one pixel of one image."""

        def run(self, model, x, y):
            result = super().run(model, x, y)
            result.x_adv[place, 0, 0, 0] = bad
            return result

    checks = {check.code: check for check in check_all(measured(Given(attack=Broken)))}
    assert checks["RK118"].status == "fail"
    assert "NaN or infinite pixels" in checks["RK118"].says
    json.dumps([check.figures for check in checks.values()], allow_nan=False)


def test_images_within_the_ball_pass():
    check = {check.code: check for check in check_all(measured())}["RK118"]
    assert check.status == "pass"
    assert check.figures["excess"] <= 1e-6


def test_the_farthest_of_all_attacks_counts_and_the_box_does_too():
    class Once(PGD):
        """Makes one pixel negative, in its first attack alone; it stays within the ball."""

        left = 1

        def run(self, model, x, y):
            result = super().run(model, x, y)
            if Once.left:
                result.x_adv[0, 0, 0, 0] = -0.3
            Once.left = 0
            return result

    g = SmoothedClassifier(Favourite(), registries.noises.create("gaussian", scale=0.1), 4, seed=0)
    x, y = torch.full((2, 3, 6, 6), 0.1), torch.zeros(2, dtype=torch.int64)
    found = measure(g, x, y, replace(SETTINGS, eps=0.5), Given(attack=Once))
    assert found.excess == pytest.approx(0.3)


def test_an_image_that_half_of_the_votes_have_right_is_not_right():
    point = Point("p", 0.0, (0.5, 0.6, 0.0))
    assert point.right == (False, True, False)
    assert point.accuracy == pytest.approx(1.1 / 3)


def judged_as(shares):
    """Final votes that give the images these shares."""

    def judge(self, x_adv, rows):
        return Outcome(share=[shares[row] for row in rows.tolist()])

    return judge


def test_an_image_that_loses_one_of_the_last_votes_is_a_failure(monkeypatch):
    monkeypatch.setattr(audit_attacks.Attacks, "judge", judged_as([1.0, 0.9, 0.0, 1.0]))
    found = measured()
    assert found.any_failure == 0.5
    assert found.best.share == (1.0, 0.9, 0.0, 1.0)


def test_votes_of_two_labels_are_of_independent_draws():
    g, x, y = prototypes(noise=0.6, samples=1)
    one, same, other = (score(g, x, y, 64, 0, label) for label in ("one", "one", "other"))
    assert one == same != other


class HalfSaturated(nn.Module):
    """Beyond doubt where one pixel's noise is positive, which leaves no gradient; else with a slope."""

    def forward(self, x):
        flat = x.flatten(1)
        logits = torch.stack([5 + flat.sum(1), 0 * flat[:, 0]], 1)
        return torch.where(flat[:, :1] > 0.5, torch.tensor([200.0, 0.0]), logits / 10)


def test_a_gradient_is_zero_where_both_looks_are_and_saturation_is_of_draws():
    # All images share the draw of a look: it saturates those whose first pixel is bright enough.
    x, y = torch.full((64, 3, 2, 2), 0.5), torch.zeros(64, dtype=torch.int64)
    x[:, 0, 0, 0] = torch.linspace(0.2, 0.8, 64)
    g = SmoothedClassifier(HalfSaturated(), registries.noises.create("gaussian", scale=0.1), 4, seed=0)
    found = measure(g, x, y, replace(SETTINGS, eot=1)).gradients
    both, either = sum(found.zero) / 64, 2 * found.saturated - sum(found.zero) / 64
    assert 0 < both < found.saturated < either < 1
    assert len(found.cosines) == round(64 * (1 - either))


@pytest.mark.parametrize("other, kept", [((0.5, 5), True), ((0.5, 1), False), ((0.6, 5), False), ((0.4, 1), True)])
def test_of_the_ranks_versions_of_an_image_the_worst_counts_and_of_equals_the_first_measurements(
    monkeypatch, other, kept
):
    _, x, _ = prototypes()
    worst = WorstVersions(x[:1])
    worst.offer(3, x[:1], [0.5])
    monkeypatch.setattr(versions.ranks, "gather", lambda own: [own, [other]])
    # What another rank adds is not here: where its version is the one, this rank gives nothing.
    expected = x[:1] if kept else torch.zeros_like(x[:1])
    assert torch.equal(versions.worst_of_all(worst), expected)


def test_every_check_is_registered_under_its_own_name():
    assert [name.replace("-", "_") for _, name, _ in CHECKS] == [judge.__name__ for _, _, judge in CHECKS]
