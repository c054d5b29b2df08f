"""Attacks towards a class: closed forms on linear models, and the class that a text names."""

from __future__ import annotations

import pytest
import torch
from linear_models import layer
from scipy.optimize import linprog
from torch import nn

from rushkit import attacks, noises
from rushkit.attacks.targeted import TowardsClass, target_class, towards
from rushkit.errors import UsageError
from rushkit.smoothing import SmoothedClassifier


def linear(classes: int = 4) -> tuple[nn.Module, torch.Tensor]:
    model = nn.Sequential(nn.Flatten(), layer(12, classes))
    x = 0.4 + 0.2 * torch.rand(40, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    return model, x


def lead_within_reach(weight: torch.Tensor, logits: torch.Tensor, target: int, eps: float) -> list[float]:
    """The largest lead of the target over all others that any point of an l-inf ball gives, by linear programming."""
    others = [k for k in range(len(weight)) if k != target]
    rows = torch.cat([weight[others] - weight[target], torch.ones(len(others), 1)], dim=1).double().numpy()
    cost = [0.0] * weight.shape[1] + [-1.0]
    bounds = [(-eps, eps)] * weight.shape[1] + [(None, None)]
    return [
        -linprog(cost, A_ub=rows, b_ub=(row[target] - row[others]).double().numpy(), bounds=bounds).fun
        for row in logits
    ]


@pytest.mark.parametrize("kind", ["pgd", "apgd", "cascade", "autoattack"])
def test_a_target_is_reached_exactly_where_a_linear_model_allows_it(kind):
    (model, x), target, eps = linear(), 3, 0.2
    lead = torch.tensor(lead_within_reach(model[1].weight, model(x), target, eps))
    g = SmoothedClassifier(model, noises.create("none"), samples=1)
    options = {} if kind == "cascade" else {"steps": 50}
    x_adv = attacks.create(kind, norm="linf", eps=eps, **options)(towards(g, target), x, torch.zeros(40).long())
    reached = model(x_adv).argmax(dim=1) == target
    decided = lead.abs() > 0.01
    assert torch.equal(reached[decided], (lead > 0)[decided])
    assert 5 < int(reached.sum()) < 35


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_with_two_classes_the_bound_is_met(norm):
    model, x = linear(classes=2)
    w = model[1].weight[1] - model[1].weight[0]
    with torch.no_grad():
        model[1].bias[0] += (x.flatten(1) @ w).amax() + 0.05
    short = model(x)[:, 0] - model(x)[:, 1]
    slope = {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().amax()}[norm]
    # Half of the images lie nearer to the half space of the target than eps, in closed form.
    eps = float(short.median() / slope) * 1.001
    g = SmoothedClassifier(model, noises.create("none"), samples=1)
    x_adv = attacks.create("cascade", norm=norm, eps=eps)(towards(g, 1), x, torch.zeros(len(x)).long())
    reached = model(x_adv).argmax(dim=1) == 1
    decided = (short / slope - eps).abs() > 0.02 * eps
    assert torch.equal(reached[decided], (short / slope < eps)[decided])
    assert 10 < int(reached.sum()) < 30


def test_a_draw_answers_the_target_where_the_model_does_and_a_tie_is_none():
    logits = torch.tensor([[1.0, 3.0, 2.0], [4.0, 3.0, 4.0], [0.0, 0.0, 5.0]])
    view = TowardsClass(nn.Identity(), 2)
    assert view(logits).argmax(dim=1).tolist() == [0, 0, 1]
    assert view(logits).tolist() == [[3.0, 2.0], [4.0, 4.0], [0.0, 5.0]]


def test_a_class_is_named_by_its_name_before_its_index():
    classes = ("cat", "dog", "0")
    assert [target_class(text, classes) for text in ("dog", "0", "1")] == [1, 2, 1]
    with pytest.raises(UsageError, match="has no class 'dgo'") as refused:
        target_class("dgo", classes)
    assert refused.value.hint == "did you mean dog?"
    with pytest.raises(UsageError, match="has no class '7'"):
        target_class("7", classes)
    with pytest.raises(UsageError, match="2 classes are called"):
        target_class("a", ("a", "a"))
