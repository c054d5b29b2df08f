"""Branches of a network: twins share all but BatchNorm, frozen copies share nothing, and targets follow."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rushkit.models.branches import follow, frozen_copy, twin
from rushkit.models.network import Network


@pytest.fixture
def network():
    """BatchNorm in the encoder and in the head."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten())
    head = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2, bias=False))
    return Network(encoder, head).double()


X = torch.linspace(-1, 1, 8 * 12, dtype=torch.float64).view(8, 3, 2, 2).square()


def own(branch, network):
    """The names of what a branch does not share with a network: parameters, then buffers."""
    shared = {id(tensor) for tensor in (*network.parameters(), *network.buffers())}
    return (
        [name for name, tensor in branch.named_parameters() if id(tensor) not in shared],
        [name for name, tensor in branch.named_buffers() if id(tensor) not in shared],
    )


def buffers_of(layer, kinds=("running_mean", "running_var", "num_batches_tracked")):
    return [f"{layer}.{kind}" for kind in kinds]


def test_a_twin_has_batch_norm_of_its_own_and_nothing_else(network):
    branch = twin(network)
    parameters, buffers = own(branch, network)
    assert parameters == ["encoder.1.weight", "encoder.1.bias", "head.1.weight", "head.1.bias"]
    assert buffers == [*buffers_of("encoder.1"), *buffers_of("head.1")]
    assert list(branch.state_dict()) == list(network.state_dict())
    # It starts as the network is.
    assert torch.equal(branch(X), network(X))


def test_a_twin_may_share_the_batch_norm_of_a_part(network):
    branch = twin(network, share=["head"])
    assert own(branch, network) == (["encoder.1.weight", "encoder.1.bias"], buffers_of("encoder.1"))
    branch(X)
    assert network.head[1].num_batches_tracked == 1
    assert network.encoder[1].num_batches_tracked == 0
    # A name that only begins alike is another part.
    assert own(twin(network, share=["hea", "encoder.11"]), network) == own(twin(network), network)


def test_statistics_of_twins_do_not_mix(network):
    branch = twin(network)
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    branch(3 * X + 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())
    moved = {name: tensor.clone() for name, tensor in branch.named_buffers()}
    network(X)
    assert all(torch.equal(tensor, moved[name]) for name, tensor in branch.named_buffers())
    assert not torch.allclose(moved["encoder.1.running_mean"], network.encoder[1].running_mean)


def test_gradients_of_twins_meet_in_what_they_share(network):
    branch = twin(network)

    def gradients(*branches):
        network.zero_grad()
        branch.zero_grad()
        sum(part(X).square().sum() for part in branches).backward()
        return [
            None if layer.weight.grad is None else layer.weight.grad.clone()
            for layer in (network.encoder[0], network.encoder[1], branch.encoder[1], network.head[2])
        ]

    # Not alike, so that their gradients differ.
    with torch.no_grad():
        branch.encoder[1].weight.mul_(2)
    mine, theirs, both = gradients(network), gradients(branch), gradients(network, branch)
    assert mine[2] is None
    assert theirs[1] is None
    torch.testing.assert_close(both, [mine[0] + theirs[0], mine[1], theirs[2], mine[3] + theirs[3]])
    assert not torch.allclose(mine[0], theirs[0])


def test_a_step_on_a_shared_weight_moves_both_twins(network):
    branch = twin(network)
    trained = {id(parameter): parameter for part in (network, branch) for parameter in part.parameters()}
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    branch(X).square().sum().backward()
    optimizer.step()
    assert torch.equal(branch.head[2].weight, network.head[2].weight)
    assert not torch.equal(branch.encoder[1].weight, network.encoder[1].weight)


def test_a_twin_of_a_network_in_eval_mode_has_its_modes(network):
    network.train()
    network.encoder[1].eval()
    assert [layer.training for layer in twin(network).modules()] == [layer.training for layer in network.modules()]


def test_a_frozen_copy_shares_nothing_and_gets_no_gradient(network):
    before = network(X).detach()
    held = frozen_copy(network)
    parameters, buffers = own(held, network)
    assert len(parameters) == len(list(network.parameters()))
    assert len(buffers) == len(list(network.buffers()))
    assert not any(parameter.requires_grad for parameter in held.parameters())
    assert all(parameter.requires_grad for parameter in network.parameters())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(held(X), before)


def test_a_target_follows_by_the_closed_form(network):
    target, start = frozen_copy(network), frozen_copy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    for _ in range(50):
        follow(target, network, 0.99)
    for moved, first in zip(target.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(moved - first, torch.full_like(moved, 0.3949939), atol=1e-7, rtol=0)


def test_following_leaves_buffers_and_the_source_alone(network):
    target = frozen_copy(network)
    network(X)
    source = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    follow(target, network, 0.5)
    assert all(torch.equal(tensor, source[name]) for name, tensor in network.state_dict().items())
    assert all(layer.num_batches_tracked == 0 for layer in target.modules() if isinstance(layer, _BatchNorm))


@pytest.mark.parametrize(("tau", "like"), [(1.0, "before"), (0.0, "source")])
def test_a_target_stays_or_becomes_its_source_at_the_ends(network, tau, like):
    target = frozen_copy(network)
    before = {name: tensor.clone() for name, tensor in target.named_parameters()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.linspace(0, 1, parameter.numel(), dtype=torch.float64).view(parameter.shape))
    follow(target, network, tau)
    expected = before if like == "before" else dict(network.named_parameters())
    for name, parameter in target.named_parameters():
        torch.testing.assert_close(parameter, expected[name], atol=1e-15, rtol=1e-14)
