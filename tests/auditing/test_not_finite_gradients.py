"""Gradients that are NaN or infinite are named as such, and are not taken for zero."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=2, eot=2, queries=5, planted=1)


class Rooted(nn.Module):
    """The same logits as a model's, with a root at 0 in the graph where an image's first pixel is above a bound."""

    def __init__(self, model, bound):
        super().__init__()
        self.model, self.bound = model, bound

    def forward(self, x):
        first = x.flatten(1)[:, 0]
        root = torch.where(first.detach() > self.bound, first - first.detach(), 1.0).sqrt()
        return self.model(x) + 0 * root[:, None]


def checked(bound):
    g, x, y = prototypes()
    found = measure(
        SmoothedClassifier(Rooted(g.model, bound), registries.noises.create("none"), 1, seed=0), x, y, SETTINGS
    )
    return x, found, {check.code: check for check in check_all(found)}


def test_some_gradients_that_are_nan_are_named_and_counted_as_such():
    x, found, checks = checked(0.5)
    broken = x.flatten(1)[list(found.attacked), 0] > 0.5
    share = float(broken.double().mean())
    assert 0.1 < share < 0.9
    assert found.gradients.not_finite == tuple(broken.tolist())
    assert not any(found.gradients.zero)
    assert found.gradients.zero_entries < 0.1
    assert checks["RK104"].status == "fail"
    assert checks["RK104"].figures["images_without_gradient"] == 0
    assert checks["RK104"].figures["images_with_gradient_not_finite"] == pytest.approx(share)
    assert "NaN or infinite" in checks["RK104"].says
    assert (checks["RK106"].status, checks["RK106"].figures["gradients_not_finite"]) == ("fail", int(broken.sum()))


def test_where_all_gradients_are_nan_all_attacked_images_are_counted():
    _, found, checks = checked(-1.0)
    assert checks["RK106"].status == "fail"
    assert checks["RK106"].figures["not_finite"] == len(found.attacked)
    assert "gradient" in checks["RK106"].says


def test_finite_gradients_are_not_mentioned():
    _, found, checks = checked(2.0)
    assert not any(found.gradients.not_finite)
    assert "NaN" not in checks["RK104"].says
    assert checks["RK106"].status == "pass"
