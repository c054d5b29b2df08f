"""The smallest distances that break images: closed forms of half spaces, censoring, quantiles, and the stage."""

from __future__ import annotations

import math

import pytest
import torch
from linear_models import layer
from test_attack_variants import DIGITS, attacked, named_backbone, recipe, source
from torch import nn

from rushkit import noises
from rushkit.attacks.cascade import schedule
from rushkit.errors import UsageError
from rushkit.recipe.attack_flags import change_attacks
from rushkit.recipe.schema import Attack
from rushkit.results.attacks import Attacks
from rushkit.results.quantiles import quartiles
from rushkit.robustness.block import Block
from rushkit.robustness.jobs import plan_jobs
from rushkit.robustness.nearest import CELLS, nearest
from rushkit.robustness.protocols import plan_attack
from rushkit.smoothing import SmoothedClassifier

__all__ = ["named_backbone", "recipe", "source"]


def half_spaces() -> tuple[SmoothedClassifier, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear model of two classes, images, labels (some wrong), w of the boundary, and the signed lead."""
    model = nn.Sequential(nn.Flatten(), layer(12, 2))
    x = 0.4 + 0.2 * torch.rand(16, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    w = model[1].weight[1] - model[1].weight[0]
    with torch.no_grad():
        model[1].bias[0] += (x.flatten(1) @ w).median()
        y = model(x).argmax(dim=1)
    y[3] = 1 - y[3]
    lead = (model(x)[:, 1] - model(x)[:, 0]).abs()
    return SmoothedClassifier(model, noises.create("none"), samples=1, seed=0), x, y, w, lead


@pytest.fixture(autouse=True)
def two_short_rounds(monkeypatch):
    """Enough for linear models."""
    rounds = schedule._round(8, 1, "nll random"), schedule._round(8, 1, "margin best")
    monkeypatch.setattr(schedule, "_EXACT", rounds)


def exact_distances(norm):
    *_, w, lead = half_spaces()
    return lead / {"linf": w.abs().sum(), "l2": w.norm(), "l1": w.abs().amax()}[norm]


def found_at(norm, eps):
    g, x, y, *_ = half_spaces()
    section = Attack(type="pgd", norm=norm, eps=eps)

    def plan_at(here):
        return plan_attack(here, "strict", 1, 2, 0, deterministic=True)

    return nearest(g, section, plan_at, Block(0, x, y, torch.arange(16)), 0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_distance_to_a_half_space_is_exact_up_to_the_resolution(norm):
    exact = exact_distances(norm)
    eps = float(exact.sort().values[-4]) * 1.001
    found = found_at(norm, eps)
    assert found.distance[3] == 0
    for index, distance in enumerate(found.distance.tolist()):
        if index == 3:
            continue
        if exact[index] > eps:
            assert math.isinf(distance)
            assert found.held[index] == CELLS
        else:
            # No version lies nearer than the boundary, and none that was found lies a cell further.
            assert exact[index] * (1 - 1e-4) <= distance <= exact[index] + 1.01 * eps / CELLS
            assert found.held[index] * eps / CELLS <= distance
    assert sum(map(math.isinf, found.distance.tolist())) == 3


def test_distances_of_8_bit_versions_are_whole_levels_in_l_inf():
    g, x, *_ = half_spaces()
    x = (x * 255).round() / 255
    section = Attack(type="pgd", norm="linf", eps=32 / 255, eight_bit=True)

    def plan_at(here):
        return plan_attack(here, "strict", 1, 2, 0, deterministic=True)

    found = nearest(g, section, plan_at, Block(0, x, g.predict(x), torch.arange(16)), 0)
    levels = found.distance[torch.isfinite(found.distance)] * 255
    assert len(levels) > 5
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_quartiles_are_order_statistics_and_censored_ones_are_unknown():
    first, median, third = quartiles([0.1 * k for k in range(1, 101)])
    assert (first.distance, median.distance, third.distance) == pytest.approx((2.5, 5.0, 7.5))
    # The ranks between which a binomial variable of 100 trials lies with probability 0.95: 40 and 61 at the median.
    assert (median.low, median.high) == pytest.approx((4.0, 6.1))
    half = quartiles([*([1.0] * 3), *([None] * 3)])
    assert [row.distance for row in half] == [1.0, 1.0, None]
    assert (half[1].low, half[1].high) == (1.0, None)
    assert quartiles([None])[1].low == 0.0


def test_the_stage_records_every_distance_and_resumes_to_the_same(recipe, source):
    chosen = change_attacks(recipe("attack.0.limit=6"), "pgd", norm="l2", eps="1.5", smallest=True)
    results, path = attacked(chosen, source)
    (row,) = results.smallest
    assert results.attacks == []
    assert row.protocol == "strict"
    assert row.resolution == pytest.approx(1.5 / CELLS)
    assert Attacks.model_validate_json((path / "results.json").read_text()).smallest == [row]
    # What strict breaks at a radius, by itself, has a distance within it.
    at, _ = attacked(change_attacks(recipe("attack.0.limit=6"), "pgd", norm="l2", eps="0.75"), source)
    strict = next(one for one in at.attacks if one.protocol == "strict")
    for right, distance in zip(strict.outcomes.right["majority"], row.outcomes.distance, strict=True):
        assert (right == 0) == (distance is not None and distance <= 0.75)
    assert sum(distance is not None for distance in row.outcomes.distance) > 2


def test_under_paper_alone_no_distance_is_searched(recipe):
    chosen = change_attacks(recipe(), "pgd", smallest=True)
    with pytest.raises(UsageError, match="searched under the protocol strict"):
        plan_jobs(chosen, DIGITS, ["paper"])
    assert [job.plan.protocol for job in plan_jobs(chosen, DIGITS, ["paper", "strict"])] == ["strict"]
