"""``trades``: its worst cases, gradient and passes are those of the formula; without a ball it is cross-entropy."""

from __future__ import annotations

import pytest
import torch
from batches import batch_of, losses_of
from robust_losses import Logistic, graded, images_of, network_of, wide
from torch.nn import functional as F

from rushkit.attacks.ascend import ascend
from rushkit.errors import DataError, UsageError
from rushkit.objectives.trades import Trades

EPS, LABELS = 0.03, torch.tensor([0, 1, 1, 0])


def divergence_of(p, q):
    """KL between two Bernoulli distributions."""
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


@pytest.mark.parametrize("start", ["uniform", "gaussian"])
def test_the_attack_on_a_logistic_model_ends_in_one_of_two_corners(start):
    model, x = Logistic(), wide(images_of(40), None)
    objective, seen = Trades(eps=EPS, start=start), []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    graded(objective, model, images_of(40), torch.arange(40) % 2)
    moved = (seen[-1] - x).flatten(1) / (EPS * model.weight.detach().sign())
    torch.testing.assert_close(moved.abs(), torch.ones_like(moved), rtol=0, atol=1e-12)
    assert torch.equal(moved.sign().amin(1), moved.sign().amax(1))
    # Which of the two is a matter of the start.
    assert set(moved[:, 0].sign().tolist()) == {1.0, -1.0}


def test_the_loss_of_a_logistic_model_has_a_closed_form():
    model, images = Logistic(), images_of(4)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    loss = graded(Trades(eps=EPS, beta=3.0), model, images, LABELS)
    x, w = wide(images, None).flatten(1), model.weight.detach()
    side = ((seen[-1].flatten(1) - x) @ w).sign()
    odds = x @ w
    p, q = odds.sigmoid(), (odds + side * EPS * w.abs().sum()).sigmoid()
    expected = (F.softplus(-(2 * LABELS - 1) * odds) + 3 * divergence_of(p, q)).mean()
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", ["uniform", "gaussian", "clean"])
@pytest.mark.parametrize("moves_bn", ["both", "adversarial"])
def test_without_a_ball_it_is_cross_entropy(start, moves_bn):
    network, plain, images = network_of(), network_of(), images_of(4, 8)
    loss = graded(Trades(eps=0.0, start=start, moves_bn=moves_bn), network, images, LABELS)
    expected = F.cross_entropy(plain(wide(images, None)), LABELS)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("moves_bn, passes", [("both", 2), ("adversarial", 1)])
def test_the_gradient_goes_through_both_sides_and_batch_norm_moves_once_a_pass(moves_bn, passes):
    network, plain, images = network_of(), network_of(), images_of(4, 8)
    objective = Trades(eps=EPS, moves_bn=moves_bn)
    loss = graded(objective, network, images, LABELS)
    # The slow way: the same attack on a network in eval mode, then the formula.
    x, batch = wide(images, None), batch_of(images, LABELS, views=wide)
    plain.eval()
    q = plain(x).softmax(1).detach()
    moved = ascend(plain, lambda z: -(q * plain(z).log_softmax(1)).sum(), x, objective.ball(), batch)
    plain.train()
    attacked = plain(moved)
    before = {name: tensor.clone() for name, tensor in plain.named_buffers()}
    clean = plain(x)
    p = clean.softmax(1)
    expected = F.cross_entropy(clean, LABELS) + 6 * (p * (p / attacked.softmax(1)).log()).sum(1).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    for one, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-12)
    assert network[0][1].num_batches_tracked == passes
    if moves_bn == "adversarial":
        for name, tensor in network.named_buffers():
            torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("moves_bn", ["both", "adversarial"])
def test_a_batch_norm_in_eval_mode_stays_so(moves_bn):
    network, images = network_of(), images_of(4, 8)
    network[0][1].eval()
    loss = graded(Trades(eps=0.0, moves_bn=moves_bn), network, images, LABELS)
    torch.testing.assert_close(loss, F.cross_entropy(network(wide(images, None)), LABELS).detach(), rtol=0, atol=1e-12)
    assert network[0][1].num_batches_tracked == 0


@pytest.mark.parametrize("attack_bn", ["eval", "batch", "train"])
def test_what_the_attack_moves_away_from_is_seen_in_the_mode_of_the_attack(attack_bn):
    network, seen = network_of(), []
    network[0][1].register_forward_pre_hook(lambda bn, _: seen.append((bn.training, bn.track_running_stats)))
    graded(Trades(steps=3, attack_bn=attack_bn), network, images_of(4, 8), LABELS)
    inside = {"eval": (False, True), "batch": (True, False), "train": (True, True)}[attack_bn]
    assert seen == [inside] * 4 + [(True, True)] * 2


def test_an_attack_on_the_labels_is_that_of_adversarial_training():
    model, images = Logistic(), images_of(4)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    graded(Trades(eps=EPS, attack_target="labels", start="clean"), model, images, LABELS)
    sign = (1 - 2 * LABELS).double()
    expected = wide(images, None).flatten(1) + EPS * sign[:, None] * model.weight.detach().sign()
    torch.testing.assert_close(seen[-1].flatten(1), expected, rtol=0, atol=1e-12)


def test_the_divergence_is_noted_and_never_negative():
    batch = batch_of(images_of(4, 8), LABELS, views=wide, classes=2)
    network = network_of()
    (loss,) = losses_of(Trades(beta=0.0), network, batch)
    assert batch.noted["divergence"] > 0
    assert not batch.noted["divergence"].requires_grad
    torch.testing.assert_close(loss, F.cross_entropy(network(wide(batch.images, None)), LABELS), rtol=0, atol=1e-12)


def test_labels_are_smoothed_where_the_recipe_smooths_them():
    model, images = Logistic(), images_of(4)
    batch = batch_of(images, LABELS, views=wide, classes=2)
    batch.label_smoothing = torch.full((4,), 0.2)
    (loss,) = losses_of(Trades(eps=0.0), model, batch)
    expected = F.cross_entropy(model(wide(images, None)), LABELS, label_smoothing=0.2)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-7)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        graded(Trades(), Logistic(), images_of(4), None)


def test_a_start_where_the_divergence_is_flat_is_a_usage_error():
    with pytest.raises(UsageError, match="start = clean"):
        Trades(start="clean")
    Trades(start="clean", eps=0.0)
    Trades(start="clean", attack_target="labels")


@pytest.mark.parametrize("beta", [-0.1, float("nan")])
def test_a_weight_below_zero_is_a_usage_error(beta):
    with pytest.raises(UsageError, match="beta"):
        Trades(beta=beta)
