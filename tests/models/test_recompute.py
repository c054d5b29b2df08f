"""Blocks that recompute their activations: the same numbers to the last bit, statistics that move once, less memory."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from thread_ranks import run_ranks
from torch import nn

from rushkit.distributed import ranks
from rushkit.models.modes import in_eval_mode, untracked
from rushkit.models.recompute import recompute_blocks, repeated_blocks


class Block(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        return x + self.dropout(self.norm(self.convolution(x)).relu())


def blocks_and_head() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(Block(), Block(), Block()), nn.Flatten(), nn.Linear(4 * 5 * 5, 3))


@pytest.fixture(autouse=True)
def own_global_state():
    with torch.random.fork_rng(devices=[]):
        yield


def images(count=6) -> torch.Tensor:
    return torch.randn(count, 4, 5, 5, generator=torch.Generator().manual_seed(1))


def in_train_mode(network, x):
    return network(x).square().mean()


def in_eval(network, x):
    with in_eval_mode(network):
        return network(x).square().mean()


def untracked_and_tracked(network, x):
    with untracked(network):
        clean = network(x)
    return (clean - network(x + 0.1)).square().mean()


def all_at_once(network, x):
    return in_train_mode(network, x) * untracked_and_tracked(network, x) + in_eval(network, x)


def frozen_statistics(network, x):
    network[0][1].norm.eval()
    return in_train_mode(network, x)


def under_autocast(network, x):
    with torch.autocast("cpu", torch.bfloat16):
        return network(x).float().square().mean()


def trained(network, loss_of):
    """Everything that two steps leave: losses, gradients to weights and images, statistics, modes."""
    left = []
    for step in range(2):
        torch.manual_seed(10 + step)
        x = images().requires_grad_()
        loss = loss_of(network, x)
        # What happens between the passes and the backward pass is no concern of the second pass.
        torch.rand(3)
        loss.backward()
        left += [loss.detach(), x.grad, torch.get_rng_state()]
        left += [parameter.grad.clone() for parameter in network.parameters()]
    left += [tensor.clone() for tensor in network.state_dict().values()]
    return left, [(part.training, getattr(part, "track_running_stats", None)) for part in network.modules()]


@pytest.mark.parametrize(
    "loss_of",
    [in_train_mode, in_eval, untracked_and_tracked, all_at_once, frozen_statistics, under_autocast],
    ids=lambda loss_of: loss_of.__name__,
)
def test_every_number_is_that_of_kept_activations(loss_of):
    kept, again = blocks_and_head(), blocks_and_head()
    assert recompute_blocks(again) == 3
    expected, modes = trained(kept, loss_of)
    found, modes_found = trained(again, loss_of)
    assert modes_found == modes
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_blocks_really_run_again_and_statistics_move_once():
    network = blocks_and_head()
    passes = []
    network[0][0].convolution.register_forward_hook(lambda *_: passes.append(1))
    recompute_blocks(network)
    in_train_mode(network, images()).backward()
    assert len(passes) == 2
    assert [int(block.norm.num_batches_tracked) for block in network[0]] == [1, 1, 1]


def test_a_pass_in_eval_mode_keeps_the_statistics_that_it_had():
    network = blocks_and_head()
    in_eval(network, images()).backward()
    expected = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    recompute_blocks(network)
    loss = in_eval(network, images())
    # The statistics move before the second pass.
    network(images())
    loss.backward()
    assert all(torch.equal(one.grad, other) for one, other in zip(network.parameters(), expected, strict=True))


def kept_bytes(network) -> int:
    kept: dict[int, int] = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images(64))
    return sum(kept.values())


def test_less_is_kept():
    network = blocks_and_head()
    before = kept_bytes(network)
    recompute_blocks(network)
    assert kept_bytes(network) < before / 2


def test_a_block_passes_once_where_there_is_no_gradient():
    network = blocks_and_head()
    passes = []
    network[0][0].convolution.register_forward_hook(lambda *_: passes.append(1))
    recompute_blocks(network)
    with torch.no_grad():
        network(images())
    assert len(passes) == 1


def test_names_classes_and_copies_stay():
    network = blocks_and_head()
    names = list(network.state_dict())
    recompute_blocks(network)
    assert recompute_blocks(network) == 3
    assert list(network.state_dict()) == names
    assert isinstance(network[0][0], Block)
    assert repr(network[0][0]) == repr(Block())
    twin = copy.deepcopy(network)
    in_train_mode(twin, images()).backward()
    assert network[0][0].norm.num_batches_tracked == 0
    assert network[0][0].convolution.weight.grad is None
    assert twin[0][0].convolution.weight.grad is not None


@pytest.mark.parametrize(
    "name, kind, count",
    [
        ("resnet18", "BasicBlock", 8),
        ("vit_tiny_patch16_224", "Block", 12),
        ("convnext_atto", "ConvNeXtBlock", 12),
        ("swin_tiny_patch4_window7_224", "SwinTransformerBlock", 12),
    ],
)
def test_the_blocks_of_well_known_networks_are_found(name, kind, count):
    network = timm.create_model(name)
    assert [type(block).__name__ for block in repeated_blocks(network)] == [kind] * count


def test_a_network_of_layers_alone_has_no_blocks():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    assert repeated_blocks(network) == []
    assert recompute_blocks(network) == 0


def test_two_ranks_are_one():
    def step(recomputing):
        network = blocks_and_head().double()
        for block in network[0]:
            block.dropout.p = 0.0
        ranks.synchronise(network)
        if recomputing:
            recompute_blocks(network)
        rows = images(7).double()[ranks.rank() * 4 :][:4] if ranks.world() > 1 else images(7).double()
        (network(rows).square().sum() * ranks.world() / 21).backward()
        ranks.average_gradients(list(network.parameters()))
        return [parameter.grad for parameter in network.parameters()] + list(network.buffers())

    single = step(False)
    for found in run_ranks(step, 2, True):
        for one, other in zip(found, single, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
