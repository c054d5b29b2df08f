"""Probes of models whose batches and outputs are known: RK124 and RK132."""

from __future__ import annotations

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
from torch import nn

from rushkit.auditing.checks.slopes import not_continuous, slope_is_false
from rushkit.auditing.checks.subjects import batch_dependent, outputs_are_probabilities
from rushkit.auditing.measure import Measured
from rushkit.auditing.probes import probe


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


class DependsOn(Linear):
    """A logit that is larger in batches of one size."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return super().forward(x) + (len(x) == self.size) * torch.arange(CLASSES)


@pytest.mark.parametrize("size, status", [(1, "fail"), (16, "fail"), (32, "fail"), (64, "pass")])
def test_images_are_looked_at_one_by_one_and_behind_others(size, status):
    assert batch_dependent(probed(DependsOn(size))).status == status


class First(Linear):
    """Adds something of the first image of the batch to the logits of all others."""

    def forward(self, x):
        logits = super().forward(x)
        return torch.cat([logits[:1], logits[1:] + logits[:1]])


def test_it_is_the_images_ahead_that_change():
    found = batch_dependent(probed(First()))
    assert found.status == "fail"
    # All but the first of the plain batch change alone, and all of them do behind others.
    assert found.figures["other_answers"] > 8


class Late(Linear):
    """Adds to the logits of all images but the first 16 of a batch."""

    def forward(self, x):
        return super().forward(x) + (torch.arange(len(x)) >= 16)[:, None] * torch.arange(CLASSES)


def test_the_others_go_ahead_of_the_images_that_are_looked_at():
    assert batch_dependent(probed(Late())).status == "fail"


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


def test_every_batch_must_be_of_probabilities():
    """Not the last alone: those are logits where an image is on its own."""
    found = probed(Softmax(lambda p: 2 * p if len(p) == 1 else p))
    assert outputs_are_probabilities(found).status == "pass"


def test_one_image_whose_outputs_sum_to_1_is_an_accident():
    def on_most(p):
        return torch.where(torch.arange(len(p))[:, None] == 3, 1.001 * p, p)

    assert outputs_are_probabilities(probed(Softmax(on_most))).status == "pass"
