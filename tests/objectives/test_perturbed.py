"""Weights are perturbed by their share exactly, a step is taken there, and nothing else of the network moves."""

from __future__ import annotations

import pytest
import torch
from batches import Silent, batch_of, losses_of
from robust_losses import images_of, network_of, wide
from thread_ranks import run_ranks
from torch import nn
from torch.nn import functional as F

from rushkit.attacks.ascend import ascend
from rushkit.distributed import ranks
from rushkit.distributed.share import share_of
from rushkit.errors import UsageError
from rushkit.objectives.perturbed import perturbed
from rushkit.objectives.pgd_at import PgdAt
from rushkit.objectives.trades import Trades
from rushkit.training.batch import Draws, StepBatch

LABELS, RATE = torch.tensor([0, 1, 1, 0]), 0.1
MOVING = {"0.0.weight", "0.3.weight", "1.weight"}


def tensors_of(network):
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def differing(one, other):
    return {name for name in one if not torch.equal(one[name], other[name])}


def plain_loss(network):
    x = wide(images_of(4, 8), None)
    return lambda: F.cross_entropy(network(x), LABELS)


def step_of(losses, network):
    """Take a step of plain gradient descent for each loss, and return the last loss."""
    for loss in losses:
        network.zero_grad()
        loss.backward()
        torch.optim.SGD(network.parameters(), RATE).step()
    return loss.detach()


def trained(objective, epoch=0.5):
    """The network after a step, and its loss."""
    network, batch = network_of(), batch_of(images_of(4, 8), LABELS, views=wide, classes=2)
    batch.epoch = epoch
    loss = step_of(objective.losses(network, nn.Module(), batch), network)
    return tensors_of(network), loss


def test_each_tensor_of_weights_moves_by_its_share_along_its_gradient_and_no_other_moves():
    network, gamma = network_of(), 0.01
    before = tensors_of(network)
    plain_loss(network_of())().backward()
    with perturbed(network, plain_loss(network), gamma):
        inside = tensors_of(network)
    assert differing(before, inside) == MOVING
    reference = network_of()
    plain_loss(reference)().backward()
    for name, parameter in reference.named_parameters():
        if name in MOVING:
            move, slope = inside[name] - before[name], parameter.grad
            assert move.norm().item() == pytest.approx(gamma * before[name].norm().item(), rel=1e-12)
            torch.testing.assert_close(move / move.norm(), slope / slope.norm(), rtol=0, atol=1e-12)


def test_frozen_weights_and_weights_without_a_gradient_stay():
    network = network_of()
    network[0][0].weight.requires_grad_(False)
    before = tensors_of(network)
    with perturbed(network, lambda: network[1].weight.sum(), 0.1):
        assert differing(before, tensors_of(network)) == {"1.weight"}


def test_a_linear_loss_rises_by_the_share_times_both_lengths():
    layer, slope = nn.Linear(3, 2).double(), torch.arange(1.0, 7.0, dtype=torch.float64).view(2, 3)
    with torch.no_grad():
        layer.weight.copy_(slope.sin())
    with perturbed(layer, lambda: (layer.weight * slope).sum(), 0.1):
        risen = (layer.weight * slope).sum() - (slope.sin() * slope).sum()
    assert risen.item() == pytest.approx(0.1 * slope.sin().norm().item() * slope.norm().item(), rel=1e-12)


def test_a_share_of_zero_is_the_plain_step_bit_for_bit():
    def losses(network):
        with perturbed(network, plain_loss(network), 0.0):
            yield plain_loss(network)()

    network, plain = network_of(), network_of()
    assert torch.equal(step_of(losses(network), network), step_of([plain_loss(plain)()], plain))
    assert differing(tensors_of(network), tensors_of(plain)) == set()


@pytest.mark.parametrize("kind, times", [(PgdAt, 1), (Trades, 2)])
def test_a_step_is_taken_at_the_perturbed_weights_and_the_perturbation_subtracted(kind, times):
    objective, gamma = kind(awp=0.05, steps=2), 0.05
    after, loss = trained(objective)
    # The slow way: perturbed copies, and the formula.
    network, batch = network_of(), batch_of(images_of(4, 8), LABELS, views=wide, classes=2)
    with torch.no_grad():
        q = network.eval()(batch.view()).softmax(1)
    target = q if kind is Trades else F.one_hot(LABELS).double()
    x_adv = ascend(
        network, lambda z: -(target * network(z).log_softmax(1)).sum(), batch.view(), objective.ball(), batch
    )
    network.train()

    def formula(model):
        if kind is PgdAt:
            return F.cross_entropy(model(x_adv), LABELS)
        clean, attacked = model(batch.view()), model(x_adv)
        divergence = F.kl_div(attacked.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True)
        return F.cross_entropy(clean, LABELS) + 6 * divergence

    proxy = network_of()
    formula(proxy).backward()
    moves = {}
    with torch.no_grad():
        for (name, w), other in zip(network.named_parameters(), proxy.parameters(), strict=True):
            if w.dim() > 1:
                moves[name] = gamma * w.norm() * other.grad / other.grad.norm()
                w += moves[name]
    expected = step_of([formula(network)], network)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    for name, tensor in tensors_of(network).items():
        torch.testing.assert_close(after[name], tensor - moves.get(name, 0), rtol=0, atol=1e-12)
    assert after["0.1.num_batches_tracked"] == times


@pytest.mark.parametrize("kind", [PgdAt, Trades])
def test_it_is_the_plain_objective_bit_for_bit_before_it_starts_and_not_after(kind):
    (plain, loss), (early, same), (late, other) = (
        trained(kind(steps=2, **options), epoch=1.5)
        for options in ({}, {"awp": 0.05, "awp_start": 2}, {"awp": 0.05, "awp_start": 1.5})
    )
    assert torch.equal(loss, same)
    assert differing(plain, early) == set()
    assert other > loss
    assert differing(plain, late) >= MOVING


def test_weights_come_back_if_no_step_is_taken():
    network, batch = network_of(), batch_of(images_of(4, 8), LABELS, views=wide, classes=2)
    before = tensors_of(network)
    losses = PgdAt(awp=0.05, steps=1).losses(network, nn.Module(), batch)
    next(losses)
    assert differing(before, tensors_of(network)) >= MOVING
    losses.close()
    for name in MOVING:
        torch.testing.assert_close(network.state_dict()[name], before[name], rtol=0, atol=1e-15)


def test_under_autocast_the_perturbed_weights_are_used_and_not_cached_copies():
    network = network_of().float()
    x = wide(images_of(4, 8), None).float()

    def loss():
        return F.cross_entropy(network(x).float(), LABELS)

    with torch.autocast("cpu", torch.bfloat16), perturbed(network, loss, 0.2):
        inside = loss().item()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            assert inside == loss().item()


def on_rank(objective):
    """The gradients, the loss and the weights inside, on this rank's rows of a batch of five images."""
    images, labels, share = images_of(5), torch.tensor([0, 1, 1, 0, 1]), share_of(5)
    source = torch.Generator().manual_seed(0)
    batch = StepBatch(
        images[share.rows], labels[share.rows], 0.25, 0.5, share, source, Draws(wide, Silent()), classes=2
    )
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    with torch.no_grad():
        network[1].weight.copy_(torch.arange(24.0).view(2, 12).sin())
        network[1].bias.zero_()
    (loss,) = (each for each in objective.losses(network, nn.Module(), batch) if not each.backward())
    ranks.average_gradients(list(network.parameters()))
    return loss.detach(), [parameter.grad for parameter in network.parameters()]


@pytest.mark.parametrize("options", [{"awp": 0.05}, {"cutmix": True}])
@pytest.mark.parametrize("kind", [PgdAt, Trades])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_take_the_step_of_one(kind, options, world):
    objective = kind(steps=2, **options)
    (alone,) = run_ranks(on_rank, 1, objective)
    together = run_ranks(on_rank, world, objective)
    assert torch.stack([loss for loss, _ in together]).mean().item() == pytest.approx(alone[0].item(), abs=1e-12)
    for _, gradients in together:
        for one, other in zip(gradients, alone[1], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective, forwards", [
    (PgdAt(steps=3), 3 + 1),
    (PgdAt(steps=3, awp=0.01), 3 + 2),
    (Trades(steps=3), 1 + 3 + 2),
    (Trades(steps=3, attack_target="labels"), 3 + 2),
    (Trades(steps=3, awp=0.01), 1 + 3 + 4),
    (Trades(steps=3, eps=0.0), 1 + 2),
])  # fmt: skip
def test_a_step_takes_the_passes_that_the_recipes_count(objective, forwards):
    network, passes = network_of(), []
    network.register_forward_hook(lambda *_: passes.append(1))
    step_of(objective.losses(network, nn.Module(), batch_of(images_of(4, 8), LABELS, views=wide, classes=2)), network)
    assert len(passes) == forwards


@pytest.mark.parametrize("options", [
    {"awp": -0.1}, {"awp": 1.0}, {"awp": float("nan")}, {"awp_start": -1.0}, {"awp_start": float("nan")},
])  # fmt: skip
def test_options_out_of_range_are_usage_errors(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        PgdAt(**options)


def test_options_of_the_attack_are_still_checked():
    with pytest.raises(UsageError, match="start = clean"):
        Trades(start="clean", awp=0.01)
    assert losses_of(
        PgdAt(awp=0.01, awp_start=5), network_of(), batch_of(images_of(4, 8), LABELS, views=wide, classes=2)
    )
