"""Probes of models whose slopes, jumps, batches and outputs are known: RK122, RK124, RK125 and RK132."""

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
from rushkit.auditing.checks.subjects import batch_dependent, outputs_are_probabilities
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


class Balanced(Linear):
    """Five rounds of Sinkhorn, after which every class has the same share of the batch."""

    def forward(self, x):
        log_p = super().forward(x) / 8
        for _ in range(5):
            log_p = (log_p - log_p.logsumexp(0)).log_softmax(1)
        return log_p


class BatchNorm(Linear):
    """Subtracts what is common to the batch."""

    def forward(self, x):
        return super().forward(nn.functional.batch_norm(x, None, None, training=True))


class Nudged(Linear):
    """The first class gains a little with every image in the batch."""

    def __init__(self, gain, low=False):
        super().__init__()
        self.gain, self.low = gain, low

    def forward(self, x):
        logits = super().forward(x)
        logits = torch.cat([logits[:, :1] + self.gain * len(x), logits[:, 1:]], 1)
        return logits.bfloat16() if self.low else logits


class Tied(Linear):
    """The first two classes lead by 20 and are close to one another; which of them leads depends on the batch."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, x):
        lead = self.gain * (1 if len(x) == 16 else -1)
        return torch.tensor([20.0 + lead, 20.0, 0.0, 0.0]) + 0 * super().forward(x)


class Softmax(Linear):
    """Probabilities, or their logarithm, or something of their range."""

    def __init__(self, then=lambda p: p):
        super().__init__()
        self.then = then

    def forward(self, x):
        return self.then(super().forward(x).softmax(1))


class Dropped(Linear):
    """Dropout that is on in eval mode."""

    def forward(self, x):
        return super().forward(nn.functional.dropout(x, 0.3, training=True))


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


@both_noises
@pytest.mark.parametrize("model", [Balanced, BatchNorm])
def test_logits_that_depend_on_the_batch_are_told(model, noise):
    found = batch_dependent(probed(model(), noise))
    assert found.status == "fail"
    assert found.figures["largest_change"] > 0.05


@both_noises
@pytest.mark.parametrize("model", [Linear, Quadratic, Hashed, Low])
def test_a_model_that_answers_each_image_alone_does_not_depend_on_the_batch(model, noise):
    found = batch_dependent(probed(model(), noise))
    assert found.status == "pass"
    assert found.figures["other_answers"] == 0


@pytest.mark.parametrize("gain, low, status", [(0.0, False, "pass"), (2e-3, False, "fail"), (2e-4, True, "pass")])
def test_the_largest_change_counts_and_half_precision_may_change_more(gain, low, status):
    # One by one the batch is 15 smaller than the plain one, behind others 16 larger; the largest logit is about 8.
    found = batch_dependent(probed(Nudged(gain, low)))
    assert found.status == status
    if not low:
        assert found.figures["largest_change"] * 8 == pytest.approx(16 * gain, rel=0.3, abs=1e-5)


@pytest.mark.parametrize("gain, others", [(1e-6, 0), (1e-3, 16)])
def test_another_answer_counts_where_it_is_more_than_rounding(gain, others):
    found = batch_dependent(probed(Tied(gain)))
    assert found.figures["largest_change"] < 1e-3
    assert found.figures["other_answers"] == others
    assert found.status == ("fail" if others else "pass")


@pytest.mark.parametrize("count, rows", [(80, 16), (32, 16), (31, 15), (4, 2), (3, 0), (1, 0)])
def test_half_of_few_images_go_before_the_others(count, rows):
    found = batch_dependent(probed(BatchNorm(), count=count))
    assert found.status == ("fail" if rows else "skipped")
    assert found.figures.get("images", 0) == rows
    assert ("too few" in found.says) == (rows == 0)


def test_what_does_not_repeat_is_said_by_another_check():
    x, y = images()
    g = smoothed(Dropped()).with_own_draws()
    found = Measured(SETTINGS, images=64, classes=CLASSES, probes=probe(g, x, y, list(range(64)), seed=5))
    for verdict in (batch_dependent(found), not_continuous(found)):
        assert verdict.status == "skipped"
        assert "RK123" in verdict.says
    # On one panel of its own draws a random model has a slope, and a true one.
    assert slope_is_false(found).status == "pass"
    assert outputs_are_probabilities(found).status == "pass"


@both_noises
def test_probabilities_are_told_from_logits_and_from_log_p(noise):
    models = {
        "warn": [Softmax(), Softmax(lambda p: p.bfloat16())],
        "pass": [Linear(), Softmax(torch.log), Softmax(lambda p: p / 2), Softmax(lambda p: 2 * p - 1 / CLASSES)],
    }
    found = {status: [outputs_are_probabilities(probed(each, noise)) for each in models[status]] for status in models}
    assert {status: {verdict.status for verdict in found[status]} for status in found} == {
        "warn": {"warn"},
        "pass": {"pass"},
    }


def test_one_image_whose_outputs_sum_to_1_is_an_accident():
    def on_most(p):
        return torch.where(torch.arange(len(p))[:, None] == 3, 1.001 * p, p)

    assert outputs_are_probabilities(probed(Softmax(on_most))).status == "pass"


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
