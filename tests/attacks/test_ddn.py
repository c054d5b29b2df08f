"""``ddn`` finds the nearest misclassified points of linear models, and leaves images alone where it finds none."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import toy
from torch import nn

from rushkit.attacks.ascend import Ball
from rushkit.attacks.ddn import ddn

FAR = 3.0


def greys(count, size=2, low=100, high=156, seed=0):
    """Images (N, 3, size, size) of 256 levels in float64, far from black and white by default."""
    source = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, size, size), generator=source).double() / 255


def ball_of(eps=FAR, steps=120):
    return Ball("l2", eps, 0.1, steps, "clean")


class Margin(nn.Module):
    """Log-probabilities of two classes, the second with log-odds w·(x − ½) + b."""

    def __init__(self, bias=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
        self.bias = bias

    def odds(self, x):
        return (x - 0.5).flatten(1) @ self.weight + self.bias

    def forward(self, x):
        odds = self.odds(x)
        return torch.stack([torch.zeros_like(odds), odds], dim=1).log_softmax(1)


def answers(model, x):
    return model(x).argmax(1).detach()


def lengths(delta):
    return delta.flatten(1).norm(dim=1)


def test_of_a_linear_model_it_finds_points_just_beyond_the_boundary_along_the_weights():
    model, x = Margin(), greys(8)
    y = answers(model, x)
    found = ddn(model, model, x, y, ball_of())
    distance = model.odds(x).detach().abs() / model.weight.detach().norm()
    assert (answers(model, found) != y).all()
    # The length shrinks by 5 % a step from beyond; rounding to grey levels adds at most half a level a pixel.
    slack = 0.5 / 255 * 12**0.5
    assert (lengths(found - x) >= distance - 1e-12).all()
    assert (lengths(found - x) <= 1.06 * distance + 2 * slack).all()


def test_the_points_have_256_levels():
    model, x = Margin(), greys(8)
    found = ddn(model, model, x, answers(model, x), ball_of()) * 255
    torch.testing.assert_close(found, found.round(), rtol=0, atol=1e-9)


def test_points_beyond_the_ball_are_shortened_to_its_rim():
    model, x = Margin(bias=2.0), greys(4)
    y, eps = answers(model, x), 0.05
    free = ddn(model, model, x, y, ball_of(eps=1.0))
    found = ddn(model, model, x, y, ball_of(eps=eps))
    assert (lengths(free - x) > eps).all()
    torch.testing.assert_close(lengths(found - x), torch.full((4,), eps, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("eps", "first"), [(2.0, 1.0), (0.5, 0.5)])
def test_the_first_length_is_the_radius_but_at_most_one(eps, first):
    model, x = Margin(), greys(8)
    # Equal slopes of all pixels: none leaves the box.
    model.weight.data.sign_()
    y = answers(model, x)
    assert (model.odds(x).detach().abs() < 0.4 * 12**0.5).all()
    found = ddn(model, model, x, y, ball_of(eps=eps, steps=4))
    # It grows once, from x, and shrinks twice, from points beyond the boundary; then come the grey levels.
    expected = torch.full((8,), first * 1.05 * 0.95**2, dtype=torch.float64)
    torch.testing.assert_close(lengths(found - x), expected, rtol=0, atol=0.5 / 255 * 12**0.5)
    assert (answers(model, found) != y).all()


@pytest.mark.parametrize("case", ["misclassified", "unreachable", "flat", "no ball"])
def test_where_nothing_is_to_be_found_the_image_stays(case):
    model, x, eps = Margin(bias=40.0 if case == "unreachable" else 0.0), greys(4), 0.5
    y = answers(model, x)
    if case == "misclassified":
        y = 1 - y
    if case == "flat":
        nn.init.zeros_(model.weight)
        y = torch.zeros(4, dtype=torch.int64)
    found = ddn(model, model, x, y, ball_of(eps=0.0 if case == "no ball" else eps, steps=10))
    assert torch.equal(found, x)


def test_it_stays_in_the_box():
    model, x = Margin(), greys(4, low=0, high=256)
    found = ddn(model, model, x, answers(model, x), ball_of())
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("eps", [0.1, 0.5, 2.0])
def test_written_out_it_is_the_same(eps):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(toy(), nn.Linear(8, 3)).double().eval()
    x, steps = greys(6, 8, low=0, high=256), 12
    y = network(x).argmax(1)
    y[0] = (y[0] + 1) % 3
    found = ddn(network, lambda z: network(z).log_softmax(1), x, y, ball_of(eps=eps, steps=steps))
    for i in range(len(x)):
        delta, size, best = torch.zeros_like(x[i], requires_grad=True), min(eps, 1.0), None
        worst = torch.maximum(x[i], 1 - x[i]).norm().item()
        optimizer = torch.optim.SGD([delta], lr=1.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.01)
        for _ in range(steps):
            logits = network((x[i] + delta)[None])
            wrong = logits.argmax() != y[i]
            if wrong and (best is None or delta.norm() < best.norm()):
                best = delta.detach().clone()
            optimizer.zero_grad()
            (-nn.functional.cross_entropy(logits, y[i : i + 1])).backward()
            delta.grad /= delta.grad.norm()
            optimizer.step()
            schedule.step()
            size = min(size * (0.95 if wrong else 1.05), worst)
            with torch.no_grad():
                delta *= size / delta.norm()
                delta.copy_(((x[i] + delta) * 255).round().div(255).clamp(0, 1) - x[i])
        best = torch.zeros_like(x[i]) if best is None else best
        best = best * min(1.0, eps / max(best.norm().item(), 1e-12))
        torch.testing.assert_close(found[i], x[i] + best, rtol=0, atol=1e-9)


def test_the_network_is_left_as_it_was():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(toy(), nn.Linear(8, 3)).double()
    x = greys(4, 8)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = ddn(network, lambda z: network(z).log_softmax(1), x, torch.tensor([0, 1, 2, 0]), ball_of(steps=3))
    assert not found.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert all(part.training for part in network.modules())
