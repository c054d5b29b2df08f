"""``rocl``: the loss and the attack are those of the formula, and the keys that choose a variant choose it."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of, losses_of
from contrastive_parts import Linear, jittered, written_out
from robust_losses import images_of, network_of
from torch.nn import functional as F

from rushkit import objectives
from rushkit.errors import UsageError
from rushkit.objectives.nt_xent import nt_xent_views
from rushkit.objectives.rocl import RoCL

EPS = 0.03


def batch(count=4, size=2, seed=0):
    return batch_of(images_of(count, size), views=jittered, seed=seed)


def views_of(count=4, size=2, seed=0):
    """The two views that a batch of this seed draws."""
    drawn = batch(count, size, seed)
    return drawn.view(), drawn.view()


def graded(objective, network, *of_batch):
    """The only loss of an objective, after its backward pass."""
    (loss,) = losses_of(objective, network, batch(*of_batch))
    loss.backward()
    return loss.detach()


def test_without_a_ball_the_loss_is_that_of_the_formula():
    network, (v1, v2) = Linear(), views_of()
    loss = graded(RoCL(eps=0.0, start="clean", lam=8.0), network)
    z1, z2 = network(v1), network(v2)
    expected = written_out((z1, z2, z1), 0.5) + written_out((z1, z2), 0.5) / 8
    torch.testing.assert_close(loss, expected.detach(), atol=1e-12, rtol=0)
    (weight,) = torch.autograd.grad(expected, network.weight)
    torch.testing.assert_close(network.weight.grad, weight, atol=1e-12, rtol=0)


@pytest.mark.parametrize("regulariser", ["shared", "separate"])
@pytest.mark.parametrize("partner", ["other", "original"])
def test_the_gradient_of_the_regulariser_is_that_of_the_written_out_loss(regulariser, partner):
    options = {"eps": EPS, "regulariser": regulariser, "regularise_to": partner}
    networks = [Linear(), Linear()]
    for network, lam in zip(networks, (1.0, 2.0), strict=True):
        graded(RoCL(lam=lam, **options), network)
    half = networks[0].weight.grad - networks[1].weight.grad
    # Pass 0 to 7 are the partner's and the attack's.
    v1, v2, moved = networks[0].inputs[8].chunk(3)
    slow = Linear()
    expected = written_out((slow(moved), slow({"other": v2, "original": v1}[partner])), 0.5) / 2
    (weight,) = torch.autograd.grad(expected, slow.weight)
    torch.testing.assert_close(half, weight, atol=1e-12, rtol=0)


def test_a_batch_of_one_image_has_nothing_to_climb():
    network, (v1, v2) = Linear(), views_of(1)
    drawn = batch(1)
    drawn.view(), drawn.view()
    losses_of(RoCL(eps=EPS), network, batch(1))
    start = v1 + EPS * drawn.uniform(v1)
    torch.testing.assert_close(network.inputs[-1], torch.cat([v1, v2, start]), atol=0, rtol=0)


@pytest.mark.parametrize("options", [{}, {"norm": "l2", "eps": 0.5}, {"attack_rule": "adam", "step_size": 0.01}])
def test_the_attack_takes_every_image_away_from_its_other_view(options):
    network, (v1, v2) = Linear(192), views_of(8, 8)
    losses_of(RoCL(**{"eps": EPS, **options}), network, batch(8, 8))
    moved = network.inputs[-1].chunk(3)[2]
    before, after = (F.cosine_similarity(network(x), network(v2)) for x in (v1, moved))
    assert (after < before - 0.1).all()
    assert 0 <= moved.min() <= moved.max() <= 1


@pytest.mark.parametrize("attack_to", ["other", "original"])
@pytest.mark.parametrize("detach_keys", [False, True])
def test_a_step_of_the_attack_is_that_of_the_written_out_loss(attack_to, detach_keys):
    network, (v1, v2) = Linear(), views_of()
    objective = RoCL(eps=EPS, steps=1, step_size=0.001, start="clean", attack_to=attack_to, detach_keys=detach_keys)
    losses_of(objective, network, batch())
    moved = network.inputs[-1].chunk(3)[2]
    x, slow = v1.clone().requires_grad_(), Linear()
    loss = written_out((slow(x), slow({"other": v2, "original": v1}[attack_to]).detach()), 0.5)
    (slope,) = torch.autograd.grad(loss, x)
    direction = ((moved - v1) / 0.001).round()
    # Half of the gradient points nearly where the whole one does.
    agree = (direction == slope.sign()).double().mean()
    assert agree > 0.7 if detach_keys else agree == 1


def test_detached_keys_have_the_value_and_the_gradient_of_one_side():
    whole, half, (v1, v2) = Linear(), Linear(), views_of()
    losses = [graded(RoCL(eps=0.0, detach_keys=keys), net) for keys, net in ((False, whole), (True, half))]
    torch.testing.assert_close(*losses, atol=1e-12, rtol=0)
    slow = Linear()
    z1, z2 = slow(v1), slow(v2)

    def one_sided(*views):
        z = F.normalize(torch.cat(views))
        logits = (z @ z.detach().T / 0.5).masked_fill(torch.eye(len(z), dtype=torch.bool), float("-inf"))
        rows = torch.arange(len(z))
        positives = [F.cross_entropy(logits, rows.roll(4 * k)) for k in range(1, len(views))]
        return torch.stack(positives).sum()

    (one_sided(z1, z2, z1) + one_sided(z1, z2) / 256).backward()
    torch.testing.assert_close(half.weight.grad, slow.weight.grad, atol=1e-12, rtol=0)
    assert not torch.allclose(half.weight.grad, whole.weight.grad, rtol=0.1)


@pytest.mark.parametrize("regulariser, passes", [("shared", 1), ("separate", 2)])
def test_the_regulariser_of_the_public_code_moves_batch_norm_again(regulariser, passes):
    network = network_of(6)
    graded(RoCL(regulariser=regulariser, steps=2), network, 4, 8)
    assert network[0][1].num_batches_tracked == passes


def test_the_separate_regulariser_normalises_the_pair_by_itself():
    network, slow, (v1, v2) = network_of(6), network_of(6), views_of(4, 8)
    loss = graded(RoCL(eps=0.0, regulariser="separate", lam=2.0), network, 4, 8)
    expected = nt_xent_views(slow(torch.cat([v1, v2, v1])).chunk(3), 0.5)
    expected = expected + nt_xent_views(slow(torch.cat([v1, v2])).chunk(2), 0.5) / 2
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), atol=1e-12, rtol=0)
    for one, other in zip(network.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-12, rtol=0)


def test_the_other_view_is_passed_once_for_all_steps():
    network = Linear()
    losses_of(RoCL(eps=EPS), network, batch())
    # Seven steps on four images, one pass of their partners, and three views to train on.
    assert [len(x) for x in network.inputs] == [4] * 8 + [12]


@pytest.mark.parametrize("regulariser, passes", [("shared", 3), ("separate", 5)])
def test_it_says_how_many_passes_it_keeps(regulariser, passes):
    assert RoCL(regulariser=regulariser).kept_passes == passes


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {"lam": 0.0}, {"hidden": 0}, {"eps": -1.0}])
def test_an_option_out_of_range_is_a_usage_error(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        objectives.create("rocl", **options)
