"""HopSkipJump: the distances of linear models, queries that are counted, and labels alone."""

from __future__ import annotations

import pytest
import torch
from linear_models import layer
from torch import nn

from rushkit import attacks, noises
from rushkit.attacks.hopskipjump import HopSkipJump
from rushkit.attacks.norms import length
from rushkit.errors import UsageError
from rushkit.models.answers import scores_of_labels, scores_of_probabilities
from rushkit.smoothing import SmoothedClassifier


class LabelsOnly(nn.Module):
    """Answers with labels alone, and counts the images that it was asked about."""

    answer_kind = "labels"

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model, self.classes, self.asked = model, classes, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.asked += len(x)
        with torch.no_grad():
            return scores_of_labels(self.model(x).argmax(dim=1), self.classes)


class ProbabilitiesOnly(LabelsOnly):
    answer_kind = "probabilities"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return scores_of_probabilities(self.model(x).softmax(dim=1))


def half_spaces(count: int = 12) -> tuple[LabelsOnly, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A model of two half spaces that answers labels, images, labels, and w of w.x + b."""
    linear = nn.Sequential(nn.Flatten(), layer(48, 2))
    x = 0.4 + 0.2 * torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    w = linear[1].weight[1] - linear[1].weight[0]
    with torch.no_grad():
        linear[1].bias[0] += (x.flatten(1) @ w).mean()
        y = linear(x).argmax(dim=1)
    return LabelsOnly(linear, 2), x, y, w


@pytest.mark.parametrize("norm, most", [("l2", 1.02), ("linf", 1.25)])
def test_the_distance_to_a_half_space_is_found_from_labels(norm, most):
    model, x, y, w = half_spaces()
    gap = (model.model(x)[:, 1] - model.model(x)[:, 0]).abs()
    exact = gap / (w.norm() if norm == "l2" else w.abs().sum())
    result = HopSkipJump(norm, eps=1e-4, queries=3000, stop_early=False).run(model, x, y)
    ratio = result.distance / exact
    assert (ratio >= 1 - 1e-4).all()
    assert float(ratio.median()) < most
    assert float(ratio.max()) < 1.5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_images_are_broken_exactly_where_the_half_space_is_within_eps(norm):
    model, x, y, w = half_spaces(24)
    exact = (model.model(x)[:, 1] - model.model(x)[:, 0]).abs() / (w.norm() if norm == "l2" else w.abs().sum())
    eps = float(exact.median())
    result = HopSkipJump(norm, eps=eps, queries=2000).run(model, x, y)
    assert not result.success[exact > eps * 1.001].any()
    assert result.success[exact < eps * 0.7].all()
    assert (length(result.x_adv.double() - x.double(), norm) <= eps).all()
    assert torch.equal(model.model(result.x_adv).argmax(dim=1) != y, result.success)


def test_queries_are_counted_and_bounded():
    model, x, y, _ = half_spaces(6)
    queries = 300
    result = HopSkipJump("l2", eps=0.02, queries=queries).run(model, x, y)
    assert model.asked == result.image_forwards
    # The looks at the clean images and the last vote are no queries of the search, and steps end where it ends.
    assert model.asked <= len(x) * (queries + 60) + 64
    assert result.queries.dtype == torch.int64
    assert torch.equal(result.queries >= 0, result.success)
    assert int(result.queries.max()) <= queries + 30


def test_an_image_fares_alike_in_any_batch():
    model, x, y, _ = half_spaces(6)
    attack = HopSkipJump("l2", eps=0.05, queries=400, stop_early=False)
    together, alone = attack.run(model, x, y), attack.run(model, x[2:3], y[2:3])
    torch.testing.assert_close(together.distance[2:3], alone.distance)


def test_images_that_are_wrong_cost_no_query():
    model, x, y, _ = half_spaces(4)
    result = HopSkipJump("l2", eps=0.05, queries=50).run(model, x, 1 - y)
    assert result.success.all()
    assert result.queries.tolist() == [0] * 4
    assert torch.equal(result.x_adv, x)


def test_a_smoothed_classifier_is_asked_for_votes():
    model, x, y, _ = half_spaces(6)
    g = SmoothedClassifier(model, noises.create("gaussian", std=0.05), samples=9, seed=0)
    result = attacks.create("hopskipjump", norm="l2", eps=3.0, queries=200).run(g, x, y)
    assert result.success.all()


@pytest.mark.parametrize("kind", ["pgd", "apgd", "cascade", "fab", "autoattack"])
def test_attacks_by_gradients_say_which_attacks_need_none(kind):
    model, x, y, _ = half_spaces(4)
    with pytest.raises(UsageError, match="answers with labels alone") as refused:
        attacks.create(kind, norm="l2", eps=0.01)(model, x, y)
    assert "hopskipjump" in refused.value.hint
    with pytest.raises(UsageError, match="answers with probabilities alone") as refused:
        attacks.create(kind, norm="l2", eps=0.01)(ProbabilitiesOnly(model.model, 2), x, y)
    assert "square" in refused.value.hint


def test_square_asks_for_probabilities_and_no_more():
    model, x, y, _ = half_spaces(6)
    square = attacks.create("square", norm="linf", eps=0.5, queries=50)
    result = square.run(ProbabilitiesOnly(model.model, 2), x, y)
    assert result.success.all()
    assert torch.equal(result.queries >= 0, result.success)
    with pytest.raises(UsageError, match="square needs probabilities, and the model answers with labels alone"):
        square(model, x, y)


def test_in_l1_there_is_none():
    with pytest.raises(UsageError, match="hopskipjump has no norm 'l1'"):
        HopSkipJump("l1", eps=1)
