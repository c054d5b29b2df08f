"""LARS: its steps are those of the formula, for both momenta, and what it excludes moves as in plain SGD."""

from __future__ import annotations

import math

import pytest
import torch
from timm.optim.lars import Lars as Peer
from torch import nn

from rushkit.recipe.schema import Pretrain
from rushkit.training.lars import Lars
from rushkit.training.optimizer import build_optimizer, norm_parameters

ETA, DECAY, MOMENTUM = 0.2, 0.1, 0.9
GRADIENTS, RATES = ([0.0, 2.0], [-1.0, 0.25]), (0.5, 0.3)


def written_out(weights, lr_inside, clip):
    """Two steps from weights, one number at a time; returns them and the two ratios."""
    velocity, ratios = [0.0] * len(weights), []
    for gradient, lr in zip(GRADIENTS, RATES, strict=True):
        length, slope = math.hypot(*weights), math.hypot(*gradient)
        ratio = ETA * length / (slope + DECAY * length + 1e-8) if length and slope else 1.0
        ratios.append(min(ratio / lr, 1.0) if clip and length and slope else ratio)
        for i, g in enumerate(gradient):
            change = ratios[-1] * (g + DECAY * weights[i])
            velocity[i] = MOMENTUM * velocity[i] + (lr if lr_inside else 1) * change
            weights[i] -= velocity[i] if lr_inside else lr * velocity[i]
    return weights, ratios


def stepped(weights, **settings):
    weight = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    optimizer = Lars([weight], lr=1.0, momentum=MOMENTUM, weight_decay=DECAY, eta=ETA, **settings)
    for gradient, lr in zip(GRADIENTS, RATES, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("start", [[3.0, 4.0], [0.0, 0.0]], ids=["some", "zero"])
@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("lr_inside", [False, True])
def test_two_steps_are_those_written_out(lr_inside, clip, start):
    expected, (first, second) = written_out(list(start), lr_inside, clip)
    weights = stepped(start, lr_inside=lr_inside, clip=clip)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-14, atol=1e-14)
    # Ratios that stay would not tell where in the momentum they belong; the second is one that is cut.
    assert first != second
    assert (second == 1) == (clip and any(start))


def test_the_two_momenta_differ_where_the_rate_changes():
    outside, inside = (stepped([3.0, 4.0], lr_inside=lr_inside) for lr_inside in (False, True))
    assert (outside - inside).abs().max() > 1e-3


def test_without_decay_the_first_step_is_eta_of_the_weights_however_long_the_gradient():
    for scale in (1e-3, 1.0, 1e3):
        weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        weight.grad = scale * torch.tensor([1.0, 0.0], dtype=torch.float64)
        Lars([weight], lr=2.0, eta=0.001).step()
        assert weight.tolist() == pytest.approx([3 - 2 * 0.001 * 5, 4.0], rel=1e-5)


@pytest.mark.parametrize("clip", [False, True])
def test_a_bias_of_zeros_takes_its_first_step_with_the_whole_rate(clip):
    layer = nn.BatchNorm1d(3).double()
    for parameter in layer.parameters():
        parameter.grad = torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64)
    section = optimizer_of(name="lars", lr=5.0, weight_decay=1e-6, clip=clip)
    build_optimizer(section, list(layer.parameters()), torch.device("cpu"), norm_parameters(layer)).step()
    assert layer.bias.tolist() == pytest.approx([-0.5, 1.0, -1.5], rel=1e-12)
    # The weights, ones at first, take a step of the ratio's length instead.
    assert (layer.weight - 1).norm().item() == pytest.approx((1 if clip else 5) * 0.001 * 3**0.5, rel=1e-4)


def optimizer_of(**settings):
    return Pretrain.model_validate({"optimizer": settings}).optimizer


def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.LayerNorm((2, 4)))
        for parameter in layers.parameters():
            nn.init.normal_(parameter)
    return layers.double()


def trained(layers, optimizer, steps=3):
    """The parameters after steps with gradients that are drawn, the same in every call."""
    draws = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in layers.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in layers.named_parameters()}


@pytest.mark.parametrize("lr_inside", [False, True])
def test_norms_and_biases_that_are_excluded_move_as_in_sgd_without_decay(lr_inside):
    cpu, settings = torch.device("cpu"), {"lr": 0.5, "weight_decay": 0.1}
    moved = {}
    for exclude in (False, True):
        layers = model()
        section = optimizer_of(name="lars", lr_inside=lr_inside, exclude=exclude, **settings)
        built = build_optimizer(section, list(layers.parameters()), cpu, norm_parameters(layers))
        moved[exclude] = trained(layers, built)
    plain = model()
    plain_moved = trained(plain, torch.optim.SGD(plain.parameters(), lr=0.5, momentum=0.9))
    for name, parameter in moved[True].items():
        adapted = name in ("0.weight", "2.weight")
        expected = moved[False] if adapted else plain_moved
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=1e-12)
        assert adapted or not torch.allclose(parameter, moved[False][name])


@pytest.mark.parametrize("clip", [False, True])
def test_timms_lars_takes_the_same_steps(clip):
    ours, theirs = model(), model()
    settings = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.01}
    moved = trained(ours, Lars(ours.parameters(), eta=0.3, clip=clip, **settings))
    peer = Peer(theirs.parameters(), trust_coeff=0.3, trust_clip=clip, always_adapt=True, **settings)
    for name, expected in trained(theirs, peer).items():
        torch.testing.assert_close(moved[name], expected, rtol=1e-12, atol=1e-12)


def test_a_parameter_without_a_gradient_stays_and_a_closure_returns_its_loss():
    still, moving = (nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Lars([still, moving], lr=1.0, weight_decay=0.5)

    def closure():
        loss = moving.sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert torch.equal(still, torch.ones(2))
    assert (moving < 1).all()
