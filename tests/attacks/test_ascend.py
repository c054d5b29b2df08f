"""``ascend`` finds the worst cases of linear models, starts where it says, and leaves the network as it was."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of
from tiny_runs import toy
from torch import nn
from torch.nn import functional as F

from rushkit.attacks.ascend import Ball, ascend
from rushkit.attacks.norms import project

EPS, NORMS, STARTS = 0.125, ("linf", "l2", "l1"), ("uniform", "gaussian", "clean")


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner(*shape, seed=0):
    """Images so far from black and white that no ball leaves the box."""
    return 0.25 + 0.5 * drawn(*shape, seed=seed)


def draws(x, seed=0):
    return batch_of(torch.zeros(x.shape, dtype=torch.uint8), seed=seed)


def along(w):
    """The loss of a linear model: each image is to raise its product with w."""
    return lambda z: (z * w).sum()


def ascended(loss, x, ball, network=None, seed=0):
    return ascend(network or nn.Identity(), loss, x, ball, draws(x, seed))


def network_of(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(toy(), nn.Linear(8, 3)).to(dtype)


@pytest.mark.parametrize("start", STARTS)
def test_the_worst_case_of_a_linear_model_in_linf_is_a_corner(start):
    x, w = inner(3, 1, 2, 2), drawn(3, 1, 2, 2, seed=1) - 0.5
    found = ascended(along(w), x, Ball("linf", EPS, EPS / 4, 10, start))
    torch.testing.assert_close(found, x + EPS * w.sign())


def test_the_worst_case_of_a_linear_model_in_l2_lies_along_its_weights():
    x, w = inner(3, 1, 2, 2), drawn(3, 1, 2, 2, seed=1) - 0.5
    found = ascended(along(w), x, Ball("l2", EPS, EPS / 5, 10, "clean"))
    torch.testing.assert_close(found, x + EPS * w / w.flatten(1).norm(dim=1).view(-1, 1, 1, 1))


def test_the_worst_case_of_a_linear_model_in_l1_is_one_pixel():
    x, w = inner(1, 1, 2, 2), torch.tensor([0.1, -0.9, 0.2, 0.3], dtype=torch.float64).view(1, 1, 2, 2)
    found = ascended(along(w), x, Ball("l1", EPS, 2 * EPS / 10, 10, "clean"))
    torch.testing.assert_close(found - x, torch.tensor([0, -EPS, 0, 0], dtype=torch.float64).view(1, 1, 2, 2))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rule", ["sign", "adam"])
@pytest.mark.parametrize("start", STARTS)
def test_the_end_lies_in_ball_and_box(norm, rule, start):
    x, w = drawn(4, 3, 2, 2), drawn(4, 3, 2, 2, seed=1) - 0.5
    found = ascended(along(w), x, Ball(norm, EPS, EPS, 3, start, rule=rule))
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(project(x, found, norm, EPS), found, rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_an_image_without_a_slope_stays_and_the_others_climb(norm):
    x = inner(2, 1, 2, 2)
    w = torch.ones(2, 1, 2, 2, dtype=torch.float64)
    w[0] = 0
    found = ascended(along(w), x, Ball(norm, EPS, EPS / 2, 2, "clean"))
    assert torch.equal(found[0], x[0])
    assert (found[1] != x[1]).any()


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_those_that_are_written_out(norm):
    x, ball = drawn(4, 3, 6, 6), Ball(norm, EPS, EPS / 3, 4, "clean")
    network, label = network_of().eval(), torch.tensor([0, 1, 2, 0])
    point = x
    for _ in range(ball.steps):
        point = point.detach().requires_grad_()
        F.cross_entropy(network(point), label, reduction="sum").backward()
        moved = []
        for image, slope in zip(point.detach(), point.grad, strict=True):
            if norm == "linf":
                moved.append(image + ball.step_size * slope.sign())
            else:
                moved.append(image + ball.step_size * slope / (slope.norm() if norm == "l2" else slope.abs().max()))
        point = project(x, torch.stack(moved), norm, ball.eps)
    found = ascended(lambda z: F.cross_entropy(network(z), label, reduction="sum"), x, ball, network)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-12)


def test_the_steps_of_adam_are_those_that_are_written_out_and_a_tenth_in_the_second_half():
    x, target, wide = inner(2, 1, 2, 2), drawn(2, 1, 2, 2, seed=1), 0.9
    found = ascended(lambda z: -(z - target).pow(2).sum(), x, Ball("linf", wide, 0.1, 5, "clean", rule="adam"))
    point, first, second = x.clone(), 0.0, 0.0
    for step in range(1, 6):
        slope = -2 * (point - target)
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        rate = 0.1 if step <= 3 else 0.01
        point = point + rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        point = project(x, point, "linf", wide)
    torch.testing.assert_close(found, point, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_a_uniform_start_fills_the_ball(norm):
    x = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    moved = (ascended(along(0 * x), x, Ball(norm, EPS, EPS, 1)) - x).flatten(1)
    length = moved.abs().amax(1) if norm == "linf" else moved.norm(p=int(norm[1]), dim=1)
    assert length.max() <= EPS
    assert (moved.mean(0).abs() < 0.05 * EPS).all()
    if norm == "linf":
        torch.testing.assert_close(moved.var(), torch.tensor(EPS**2 / 3, dtype=torch.float64), rtol=0.03, atol=0)
    else:
        # The length is uniform, and so is the direction.
        quarters = torch.histc(length / EPS, 4, 0, 1) / len(x)
        assert (quarters - 0.25).abs().max() < 0.03


def test_a_gaussian_start_has_a_deviation_of_a_thousandth():
    x = torch.full((4000, 1, 2, 2), 0.5, dtype=torch.float64)
    moved = ascended(along(0 * x), x, Ball("linf", EPS, EPS, 1, "gaussian")) - x
    assert moved.std().item() == pytest.approx(0.001, rel=0.03)


def test_a_start_is_the_batch_s_draw():
    x, ball = inner(3, 1, 2, 2), Ball("linf", EPS, EPS, 1)
    first, again, other = (ascended(along(0 * x), x, ball, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_radius_of_zero_returns_the_images_and_draws_nothing():
    x, batch = inner(3, 1, 2, 2), draws(inner(3, 1, 2, 2))
    before = batch.source.get_state()
    found = ascend(nn.Identity(), along(x), x.requires_grad_(), Ball("linf", 0.0, 0.0, 5), batch)
    assert torch.equal(found, x)
    assert not found.requires_grad
    assert torch.equal(batch.source.get_state(), before)


@pytest.mark.parametrize("rule", ["sign", "adam"])
def test_the_end_is_detached_also_where_gradients_are_off(rule):
    x, w = inner(2, 1, 2, 2), drawn(2, 1, 2, 2) - 0.5
    with torch.no_grad():
        found = ascended(along(w), x, Ball("linf", EPS, EPS, 2, "clean", rule=rule))
    assert not found.requires_grad
    assert (found != x).any()


def state_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bn", ["eval", "batch", "train"])
def test_the_network_is_left_as_it_was(bn, training):
    network, x = network_of().train(training), drawn(4, 3, 6, 6)
    network[0][0].weight.requires_grad_(False)
    network[0][1].eval()
    modes = [(part.training, getattr(part, "track_running_stats", None)) for part in network.modules()]
    trained, before = [parameter.requires_grad for parameter in network.parameters()], state_of(network)

    def loss(z):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        return network(z).square().sum()

    ascended(loss, x, Ball("linf", EPS, EPS, 2, bn=bn), network)
    assert [(part.training, getattr(part, "track_running_stats", None)) for part in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == trained
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_running_statistics_move_where_that_is_asked_for_alone():
    x = drawn(4, 3, 6, 6)
    for bn, batches in (("eval", 0), ("batch", 0), ("train", 3)):
        network = network_of()
        ascended(lambda z, network=network: network(z).square().sum(), x, Ball("linf", EPS, EPS, 3, bn=bn), network)
        assert network[0][1].num_batches_tracked == batches, bn


@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_the_loss_sees_the_statistics_that_were_asked_for(bn):
    network, x, seen = network_of(), drawn(4, 3, 6, 6), []

    def loss(z):
        seen.append(network(z))
        return seen[-1].sum()

    ascended(loss, x, Ball("linf", EPS, EPS, 1, "clean", bn), network)
    with torch.no_grad():
        expected = network.train(bn == "batch")(x)
    torch.testing.assert_close(seen[0].detach(), expected)


def test_in_eval_mode_an_image_climbs_as_it_does_alone():
    network, x, ball = network_of(), drawn(4, 3, 6, 6), Ball("linf", EPS, EPS / 3, 4, "clean")
    together = ascended(lambda z: network(z)[:, 0].sum(), x, ball, network)
    alone = torch.cat([ascended(lambda z: network(z)[:, 0].sum(), image[None], ball, network) for image in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("step_size, precision, expected", [
    (2 / 255, "auto", torch.bfloat16),
    (0.5 / 255, "auto", torch.float32),
    (2 / 255, "float32", torch.float32),
])  # fmt: skip
def test_steps_that_bfloat16_cannot_take_are_taken_in_float32(step_size, precision, expected):
    network, x, seen = network_of(torch.float32), inner(2, 3, 6, 6).float(), []

    def loss(z):
        seen.append(network(z))
        return seen[-1].float().sum()

    with torch.autocast("cpu", torch.bfloat16):
        ascended(loss, x, Ball("linf", EPS, step_size, 1, precision=precision), network)
        assert torch.is_autocast_enabled("cpu")
    assert seen[0].dtype is expected
