"""``byorl``: its worst cases are those of its loss, and without a ball it is BYOL."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of, plain64
from byol_parts import WIDTHS, blurred, images_of, losses_of_first_step, made, same, slow_byol, stepped
from torch import nn

from rushkit.attacks.ascend import ascend
from rushkit.errors import UsageError
from rushkit.objectives.byol import byol_loss
from rushkit.objectives.byorl import Byorl

EPS = 0.03


class Pixels(nn.Module):
    """The pixels themselves, as projections, and what was passed."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.scale * x.flatten(1)


class First(Pixels):
    """The same direction for every image, along the first pixel."""

    def forward(self, x):
        self.seen.append(x.detach())
        return torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64).expand(len(x), 3)


@pytest.mark.parametrize("start", ["uniform", "gaussian", "clean"])
def test_the_attack_turns_each_view_away_from_what_it_is_to_predict(start):
    """The cosine with the first pixel's axis is least where that pixel is darkest, and the others are brightest."""
    network, memory = Pixels(), nn.ModuleDict({"target": First(), "predictor": nn.Identity()})
    source = torch.Generator().manual_seed(0)
    images = torch.randint(64, 192, (20, 3, 1, 1), dtype=torch.uint8, generator=source)
    list(Byorl(eps=EPS, start=start).losses(network, memory, batch_of(images, views=plain64)))
    away = EPS * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    x = images.flatten(1).double() / 255
    for seen in network.seen[-2:]:
        torch.testing.assert_close(seen.flatten(1), x + away, rtol=0, atol=1e-12)
    # What it is compared with saw the views as they are.
    assert [torch.equal(seen.flatten(1), x) for seen in memory["target"].seen] == [True, True]


@pytest.mark.parametrize("bn", ["eval", "batch"])
@pytest.mark.parametrize(("attacked", "count"), [("both", 12), ("first", 6), ("none", 0)])
def test_loss_and_gradient_are_those_of_the_formula(attacked, count, bn):
    objective = Byorl(eps=EPS, steps=3, attacked_views=attacked, attack_bn=bn, **WIDTHS)
    network, memory = made(objective)
    (loss,) = losses_of_first_step(objective, network, memory)
    loss.backward()
    # The slow way: both attacks together, then the formula, on branches that have not moved.
    plain, beside = made(objective)
    batch = batch_of(images_of(), views=blurred, epoch=0)
    v, w = batch.view(), batch.view()
    with torch.no_grad():
        goals = torch.cat([beside["target"](w), beside["target"](v)])
    views, online = torch.cat([v, w]), nn.Sequential(plain, beside["predictor"])

    def climb(z):
        rows = [online(part) for part in z.split(6)]
        return byol_loss(torch.cat(rows), goals[:count]).sum()

    moved = (
        torch.cat([ascend(online, climb, views[:count], objective.ball(), batch), views[count:]]) if count else views
    )
    first, second = online(moved[:6]), online(moved[6:])
    expected = (byol_loss(first, goals[:6]) + byol_loss(second, goals[6:])).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)
    if count:
        clean = (byol_loss(online(v), goals[:6]) + byol_loss(online(w), goals[6:])).mean()
        assert loss > clean


@pytest.mark.parametrize("options", [{"eps": 0.0}, {"attacked_views": "none"}])
def test_without_an_attack_three_steps_are_byols_written_out(options):
    objective = Byorl(tau=0.6, **options, **WIDTHS)
    network, memory = made(objective)
    slow_network, slow_memory = made(objective)
    losses = stepped(objective, network, memory, 3)
    expected, slow_target = slow_byol(slow_network, slow_memory["predictor"], 3, tau=0.6)
    assert losses == pytest.approx(expected, rel=0, abs=1e-12)
    assert same(network, slow_network)
    assert same(memory["target"], slow_target)


@pytest.mark.parametrize("attack_bn", ["eval", "batch"])
def test_the_attack_leaves_no_trace_in_any_branch(attack_bn):
    """Each branch's BatchNorm moves once for each view, the predictor's too, and no parameter gets a gradient."""
    objective = Byorl(steps=3, attack_bn=attack_bn, **WIDTHS)
    network, memory = made(objective)
    (loss,) = losses_of_first_step(objective, network, memory)
    norms = [network.encoder[1], network.head.norm, memory["target"].encoder[1], memory["predictor"].norm]
    assert [int(norm.num_batches_tracked) for norm in norms] == [2] * 4
    assert all(theta.grad is None for module in (network, memory) for theta in module.parameters())
    assert all(module.training for part in (network, memory) for module in part.modules())
    loss.backward()
    assert all(theta.grad is not None for part in (network, memory["predictor"]) for theta in part.parameters())


@pytest.mark.parametrize(("attacked", "cost"), [("both", 48), ("first", 28), ("none", 8)])
def test_a_step_takes_the_passes_that_the_recipes_count(attacked, cost):
    """Targets forward only; in a step of the attack forward, and back to the image; in training thrice a forward."""
    objective = Byorl(attacked_views=attacked, **WIDTHS)
    network, memory = made(objective)
    passes = []

    def count(module, _, outputs):
        trains = module.training and outputs.requires_grad
        assert trains == (module is network and next(network.parameters()).requires_grad)
        passes.append(len(outputs) * (3 if trains else 2 if outputs.requires_grad else 1))

    for module in (network, memory["target"]):
        module.register_forward_hook(count)
    losses_of_first_step(objective, network, memory)
    assert sum(passes) == 6 * cost


def test_bad_options_of_either_base_are_usage_errors():
    for options, name in (({"tau": 2.0}, "tau"), ({"eps": 8.0}, "eps"), ({"steps": 0}, "steps"), ({"out": 0}, "out")):
        with pytest.raises(UsageError, match=name):
            Byorl(**options)
