"""The strongest version of each image is that of all attacks; where the graph is cut, those without gradients run."""

from __future__ import annotations

import pytest
import torch
from linear_models import prototypes
from torch import nn

from rushkit import registries
from rushkit.auditing.attacks import Outcome
from rushkit.auditing.checks.checklist import check_all
from rushkit.auditing.measure import measure
from rushkit.auditing.plan import Settings
from rushkit.auditing.versions import judged
from rushkit.smoothing import SmoothedClassifier

SETTINGS = Settings("linf", 0.05, steps=4, eot=2, queries=100, planted=2)


class Cut(nn.Module):
    """A linear model without any gradient, which counts the images that it sees."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.forwards = 0

    def forward(self, x):
        self.forwards += len(x)
        return self.model(x.detach())


class Misled(nn.Module):
    """A linear model whose slope points backwards."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        logits = self.model(x)
        return 2 * logits.detach() - logits


def smoothed(model, noise, m):
    options = {} if noise == "none" else {"scale": 0.02}
    return SmoothedClassifier(model, registries.noises.create(noise, **options), m, seed=0)


def distances(model, x, y):
    """-> (N,) the l-inf distance of each image from the nearest boundary of a linear model."""
    logits, weight = model(x), model[1].weight
    gaps = logits.gather(1, y[:, None]) - logits
    slopes = (weight[y][:, None] - weight).abs().sum(dim=2)
    return (gaps / slopes).masked_fill(slopes == 0, torch.inf).amin(dim=1)


@pytest.mark.parametrize("noise, m", [("none", 1), ("uniform", 3)])
def test_a_cut_graph_is_attacked_without_gradients(noise, m):
    g, x, y = prototypes()
    model, announced = Cut(g.model), []
    cut = smoothed(model, noise, m)
    found = measure(cut, x, y, SETTINGS, announce=lambda passes, seconds: announced.append((passes, seconds)))
    assert found.no_gradient
    assert "no gradient" in found.problem
    assert found.passes == model.forwards
    assert announced[0][0] == found.announced
    assert announced[0][1] > 0
    assert 0.8 <= found.passes / found.announced <= 1.0
    assert {place for place, points in found.points.items() if points} == {"noise", "black_box"}
    assert found.best is None
    assert found.strongest is not None
    # In a box of twelve pixels Square finds the corners that a linear model falls to.
    lost = distances(g.model, x, y)[list(found.attacked)] < 0.04
    assert lost.sum() > 10
    share = torch.tensor(found.strongest.share)
    assert (share[lost] < 0.5).double().mean() > 0.9
    if noise == "none":
        assert (share[distances(g.model, x, y)[list(found.attacked)] > SETTINGS.eps] == 1).all()


def test_the_checks_of_a_cut_graph_judge_what_they_can_and_say_why_not():
    g, x, y = prototypes()
    checks = {check.code: check for check in check_all(measure(smoothed(Cut(g.model), "none", 1), x, y, SETTINGS))}
    judged = {code: check.status for code, check in checks.items() if check.status != "skipped"}
    expected = {"RK104": "fail", "RK106": "pass", "RK112": "fail", "RK113": "pass", "RK118": "pass", "RK119": "pass"}
    assert expected.items() <= judged.items()
    figures = checks["RK112"].figures
    assert figures["white_box_accuracy"] == 1.0
    assert figures["only_square"] == round((1 - figures["square_accuracy"]) * 60)
    assert "no gradient" in checks["RK102"].says


def test_the_strongest_version_is_squares_where_the_slope_misleads():
    g, x, y = prototypes()
    found = measure(smoothed(Misled(g.model), "none", 1), x, y, SETTINGS)
    (square,) = found.points["black_box"]
    assert found.best.accuracy > square.accuracy + 0.2
    assert found.strongest.share == square.share


def test_where_square_adds_nothing_the_strongest_versions_are_the_best_ones():
    g, x, y = prototypes()
    found = measure(smoothed(g.model, "none", 1), x, y, SETTINGS)
    assert found.strongest.share == found.best.share


class Judge:
    """Final votes on versions whose first pixel is their share."""

    def __init__(self, problem=""):
        self.problem, self.seen = problem, []

    def judge(self, x_adv, rows):
        self.seen.append(rows.tolist())
        share = x_adv[:, 0, 0, 0].tolist()
        return Outcome(share=share, passes=len(x_adv), problem=self.problem)


def versions(*shares):
    return torch.tensor(shares).view(-1, 1, 1, 1)


def test_only_the_versions_that_differ_are_judged_again():
    judge = Judge()
    best, strongest = judged(judge, [versions(1.0, 0.75, 0.25), versions(1.0, 0.0, 0.25)])
    assert judge.seen == [[0, 1, 2], [1]]
    assert best.share == [1.0, 0.75, 0.25]
    assert strongest.share == [1.0, 0.0, 0.25]
    assert best.passes + strongest.passes == 4


def test_versions_that_are_all_the_same_are_judged_once():
    judge = Judge()
    best, strongest = judged(judge, [versions(1.0, 0.5), versions(1.0, 0.5)])
    assert judge.seen == [[0, 1]]
    assert (strongest.share, strongest.passes) == (best.share, 0)


def test_after_a_problem_nothing_more_is_judged():
    judge = Judge("logits are NaN")
    assert [each.problem for each in judged(judge, [versions(1.0), versions(0.0)])] == ["logits are NaN"]
