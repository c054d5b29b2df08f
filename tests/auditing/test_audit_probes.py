"""Probes of models whose slopes and jumps are known: RK122 and RK125."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import registries
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.checks.slopes import not_continuous, slope_is_false
from rushkit.auditing.measure import Measured, measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.probes import IMAGES, PANEL_DRAWS, probe
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier

SIDE, CLASSES = 6, 4
SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)
NOISES = {"none": {}, "uniform": {"scale": 0.1}}
both_noises = pytest.mark.parametrize("noise", NOISES)


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self):
        super().__init__()
        self.layer = layer(3 * SIDE * SIDE, CLASSES)

    def forward(self, x):
        return self.layer((x - 0.5).flatten(1))


class Quadratic(Linear):
    """A central difference of a quadratic is its slope, exactly."""

    def forward(self, x):
        return super().forward(x) + self.layer((x - 0.5).square().flatten(1))


class Flipped(Linear):
    """The values of the linear model, with minus its slope."""

    def forward(self, x):
        return super().forward(2 * x.detach() - x)


class StraightThrough(Linear):
    """Pixels rounded to sixteenths, with the slope of the identity."""

    def forward(self, x):
        return super().forward(x + ((16 * x).round() / 16 - x).detach())


class Rounded(Linear):
    """Pixels rounded to sixteenths, with no slope at all."""

    def forward(self, x):
        return super().forward((16 * x).round() / 16)


class Cut(Linear):
    """The linear model behind a cut graph."""

    def forward(self, x):
        return super().forward(x.detach())


class LeadsNowhere(Linear):
    """One answer for every image, with the linear model's slope."""

    def forward(self, x):
        moved = super().forward(x)
        return moved - moved.detach() + torch.arange(CLASSES)


class Hashed(Linear):
    """The linear model behind noise that every change of a pixel draws anew."""

    def forward(self, x):
        draws = [torch.Generator().manual_seed(_number(image)) for image in x]
        return super().forward(x + torch.stack([torch.randn(x.shape[1:], generator=draw) for draw in draws]))


class Scaled(Linear):
    """The linear model's logits times a factor, and a constant beside them."""

    def __init__(self, factor, constant=0.0):
        super().__init__()
        self.factor, self.constant = factor, constant

    def forward(self, x):
        return self.factor * super().forward(x) + self.constant


class Low(Linear):
    """Answers in bfloat16."""

    def forward(self, x):
        return super().forward(x).bfloat16()


def _number(image):
    return int.from_bytes(hashlib.blake2b(image.detach().numpy().tobytes(), digest_size=6).digest(), "big")


def smoothed(model, noise="none", chunk=None):
    made = registries.noises.create(noise, **NOISES[noise])
    return SmoothedClassifier(model.eval().requires_grad_(False), made, 4, chunk, seed=0)


def images(count=IMAGES):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3)), torch.arange(count) % CLASSES


def probed(model, noise="none", count=IMAGES, chunk=None):
    """What the probes find at images that all count as right: the margin does not ask whether it is negative."""
    x, y = images(count)
    found = probe(smoothed(model, noise, chunk), x, y, list(range(count)), seed=5)
    return Measured(SETTINGS, images=count, classes=CLASSES, probes=found)


def rank_correlation(model, noise="none"):
    return slope_is_false(probed(model, noise)).figures["rank_correlation"]


@both_noises
@pytest.mark.parametrize("model", [Linear, Quadratic])
def test_true_slopes_agree_with_the_changes(model, noise):
    assert slope_is_false(probed(model(), noise)).status == "pass"
    assert rank_correlation(model(), noise) == pytest.approx(1, abs=0.01)


@both_noises
def test_slopes_of_the_wrong_sign_are_false(noise):
    assert slope_is_false(probed(Flipped(), noise)).status == "fail"
    assert rank_correlation(Flipped(), noise) == pytest.approx(-1, abs=0.01)


def test_the_slope_of_an_identity_is_not_that_of_rounding():
    # A pixel crosses a step between sixteenths with probability 0.32, so that the correlation is about its root.
    found = slope_is_false(probed(StraightThrough()))
    assert found.status == "fail"
    assert found.figures["rank_correlation"] == pytest.approx(0.57, abs=0.12)


def test_noise_makes_a_straight_slope_through_rounding_less_false():
    # Different images cross different steps in every draw of the panel, and the mean of the draws is nearly linear.
    assert rank_correlation(StraightThrough(), "uniform") > rank_correlation(StraightThrough()) + 0.1


@both_noises
def test_no_slope_where_the_margin_moves_is_false(noise):
    found = slope_is_false(probed(Rounded(), noise))
    assert (found.status, found.says) == ("fail", "every slope is zero, and the margin moves")
    assert "rank_correlation" not in found.figures


@both_noises
def test_a_slope_where_nothing_moves_is_false(noise):
    found = slope_is_false(probed(LeadsNowhere(), noise))
    assert (found.status, found.says) == ("fail", "slopes lead where nothing moves")


@both_noises
def test_a_cut_graph_is_a_slope_of_zero_and_does_not_raise(noise):
    x, y = images()
    g = smoothed(Cut(), noise)
    y = g.predict(x)
    checks = {check.code: check for check in check_all(measure(g, x, y, SETTINGS))}
    assert checks["RK122"].status == checks["RK104"].status == "fail"
    assert "cut (RK104)" in checks["RK122"].says
    assert checks["RK125"].status == "pass"


@both_noises
def test_a_model_that_does_not_move_says_nothing_of_its_slopes(noise):
    found = slope_is_false(probed(Scaled(0.0, 1.0), noise))
    assert (found.status, found.figures["moving_pairs"]) == ("skipped", 0.0)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@both_noises
def test_neither_small_nor_large_logits_make_slopes_false(factor, noise):
    assert slope_is_false(probed(Scaled(factor), noise)).status == "pass"


def test_what_rounding_explains_is_no_change():
    # The image moves the logits in their last bits, which the differences lose and the slope does not.
    drowned, clear = (slope_is_false(probed(Scaled(factor, 100.0))) for factor in (1e-5, 1.0))
    assert drowned.status == "skipped"
    assert clear.status == "pass"


def test_low_precision_does_not_make_a_slope_false_or_a_model_jump():
    found = probed(Low())
    assert slope_is_false(found).status in ("pass", "skipped")
    assert not_continuous(found).status == "pass"


@both_noises
def test_a_linear_model_changes_in_proportion_to_the_step(noise):
    found = not_continuous(probed(Linear(), noise))
    assert found.status == "pass"
    assert found.figures == {"jump_ratio": pytest.approx(1e-3, rel=0.05), "images": IMAGES}


@both_noises
def test_noise_by_a_hash_jumps_as_far_at_a_tiny_step(noise):
    found = not_continuous(probed(Hashed(), noise))
    assert found.status == "fail"
    assert found.figures["jump_ratio"] == pytest.approx(1, abs=0.2)


def test_a_model_that_nothing_moves_is_continuous():
    found = not_continuous(probed(Scaled(0.0, 1.0)))
    assert (found.status, found.figures) == ("pass", {"jump_ratio": 0.0, "images": 0.0})


def test_rounding_is_no_jump():
    # At 1e-6 of a constant the logits move in their last bits, at the tiny step by as much as at the large one.
    assert not_continuous(probed(Scaled(1e-6, 10.0))).status == "pass"


@pytest.mark.parametrize(
    "count, slopes, jumps", [(1, "skipped", "skipped"), (15, "skipped", "pass"), (16, "pass", "pass")]
)
def test_fewer_images_are_too_few_for_some_checks(count, slopes, jumps):
    found = probed(Linear(), count=count)
    for verdict, status in ((slope_is_false(found), slopes), (not_continuous(found), jumps)):
        assert verdict.status == status
        assert ("too few" in verdict.says) == (status == "skipped")


@pytest.mark.parametrize("noise, draws", [("none", 1), ("uniform", PANEL_DRAWS)])
def test_the_probes_cost_what_the_page_says(noise, draws):
    x, y = images(80)
    g = smoothed(Linear(), noise)
    found = probe(g, x, y, list(range(80)), seed=5)
    # A gradient and eight differences, and the three passes of the jumps; the attack interface asks for the classes.
    assert g.image_forwards == 64 * 9 * draws + 3 * 64 + 1
    assert found.backwards == 64 * draws


@both_noises
def test_the_chunk_and_the_global_random_state_change_nothing(noise):
    torch.manual_seed(1)
    whole = probed(Quadratic(), noise).probes
    torch.manual_seed(2)
    state = torch.get_rng_state()
    parts = probed(Quadratic(), noise, chunk=20).probes
    assert asdict(parts.slopes) == pytest.approx(asdict(whole.slopes), abs=1e-3)
    assert asdict(parts.jumps) == pytest.approx(asdict(whole.jumps), rel=1e-3)
    assert torch.equal(torch.get_rng_state(), state)


class NaNNear(Linear):
    """NaN where the mean of an image has left that of the first clean one."""

    def __init__(self, around):
        super().__init__()
        self.around = around

    def forward(self, x):
        away = (x[:, 0, 0, 0] - self.around).abs() > 1e-6
        return torch.where(away[:, None], torch.nan, super().forward(x))


def test_nan_beside_an_image_is_a_failure_of_the_model_and_not_of_the_audit():
    x, _ = images()
    x[:, 0, 0, 0] = 0.4
    g = smoothed(NaNNear(0.4))
    checks = {check.code: check.status for check in check_all(measure(g, x, g.predict(x), SETTINGS))}
    assert checks["RK106"] == "fail"
    assert checks["RK122"] == checks["RK125"] == "skipped"


class OneClass(Linear):
    def forward(self, x):
        return super().forward(x)[:, :1]


def test_a_model_of_one_class_is_refused_with_one_message():
    x, y = images()
    with pytest.raises(UsageError, match="single logit an image"):
        measure(smoothed(OneClass()), x, 0 * y, SETTINGS)
