"""Probes of models whose slopes and jumps are known: RK122 and RK125."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from probed_models import (
    CLASSES,
    SETTINGS,
    Hashed,
    Linear,
    Low,
    Quadratic,
    both_noises,
    images,
    probed,
    smoothed,
)

from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.checks.slopes import not_continuous, slope_is_false
from rushkit.auditing.measure import Measured, measure
from rushkit.auditing.probes import IMAGES, PANEL_DRAWS, probe
from rushkit.errors import UsageError


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


class Scaled(Linear):
    """The linear model's logits times a factor, and a constant beside them."""

    def __init__(self, factor, constant=0.0):
        super().__init__()
        self.factor, self.constant = factor, constant

    def forward(self, x):
        return self.factor * super().forward(x) + self.constant


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
    assert (found.status, found.says) == ("fail", "the slopes are not zero, and the margin does not move")


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


class OnGrid(Linear):
    """Other logits for images whose pixels are all sixteenths."""

    def forward(self, x):
        off = (x * 16 - (x * 16).round()).abs().flatten(1).amax(1, keepdim=True) > 1e-5
        return super().forward(x) + torch.where(off, 5.0, 0.0)


@pytest.mark.parametrize("noise, status", [("none", "fail"), ("uniform", "pass")])
def test_the_base_model_is_probed_where_the_noise_takes_it(noise, status):
    x, y = images()
    x = (x * 14 + 1).round() / 16
    found = probe(smoothed(OnGrid(), noise), x, y, list(range(IMAGES)), seed=5)
    assert not_continuous(Measured(SETTINGS, images=IMAGES, probes=found)).status == status


class Watching(Linear):
    """Notes the least and the largest pixel that it sees."""

    seen = (0.5, 0.5)

    def forward(self, x):
        self.seen = min(self.seen[0], float(x.detach().amin())), max(self.seen[1], float(x.detach().amax()))
        return super().forward(x)


def test_no_probe_leaves_the_box():
    model = Watching()
    x, y = images()
    probe(smoothed(model), x.round(), y, list(range(IMAGES)), seed=5)
    assert model.seen == pytest.approx((0, 1), abs=1e-6)


def test_a_model_that_nothing_moves_is_continuous():
    found = not_continuous(probed(Scaled(0.0, 1.0)))
    assert (found.status, found.figures) == ("pass", {"jump_ratio": 0.0, "images": 0.0})


class Cancelling(Linear):
    """Large logits, with the rounding errors of a sum of which in exact arithmetic nothing is left."""

    def forward(self, x):
        large = 1e4 * x.flatten(1)
        nothing = large.sum(1, keepdim=True) - large.flip(1).cumsum(1)[:, -1:]
        return 1000 * torch.arange(CLASSES) + nothing + 1e-4 * super().forward(x)


def test_rounding_is_no_jump():
    # The errors are the same at both steps, a few hundredths, and the logits are thousands.
    x, _ = images()
    model = Cancelling()
    moved = (model(x + 1e-5) - model(x)).abs().amax(1)
    assert 1e-3 < float(moved.mean()) < 0.2
    assert not_continuous(probed(model)).status == "pass"


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
    # A gradient and eight differences, to which the attack's interface adds one pass that tells the classes; the three
    # passes of the jumps; 16 images in a batch, one by one, and behind 16 others.
    assert g.image_forwards == (64 * 9 * draws + 1) + 3 * 64 + (16 + 16 + 32)
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
