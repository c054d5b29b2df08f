"""Consistency regularisation against closed forms and a loss written out draw by draw."""

from __future__ import annotations

import math

import pytest
import torch
from batches import Seen, batch_of, losses_of
from smoothed_parts import Normal, Same, in_float64, linear, loss_at, pictures, value_and_gradient

from rushkit.errors import DataError, UsageError
from rushkit.objectives.consistency import Consistency

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def only_loss(objective, network, noise):
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=noise, classes=4)
    (loss,) = losses_of(objective, network, batch)
    return loss


def cross_entropy_under(noise, network, draws):
    """Plain training on the same noisy images."""
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=noise, classes=4)
    x = batch.view().repeat(draws, 1, 1, 1)
    return torch.nn.functional.cross_entropy(network(x + batch.noise(x)), LABELS.repeat(draws))


def test_draws_that_agree_cost_no_divergence():
    network = linear()
    loss = only_loss(Consistency(lam=20.0, eta=0.0), network, Same())
    plain = cross_entropy_under(Same(), network, 2)
    torch.testing.assert_close(
        value_and_gradient(loss, network), value_and_gradient(plain, network), rtol=0, atol=1e-12
    )


def test_two_opposite_draws_have_the_closed_form():
    # Logits ±a: p̄ is even, so KL(p̄ ‖ p_i) = log cosh(a / 2) of two classes, and H(p̄) = log 2.
    a, lam, eta = 3.0, 20.0, 0.5
    logits = torch.tensor([[a, 0.0], [0.0, a]], dtype=torch.float64)
    loss = loss_at(Consistency(lam=lam, eta=eta), logits, torch.tensor([0]))
    entropy = math.log(2)
    cross = (math.log1p(math.exp(-a)) + math.log1p(math.exp(a))) / 2
    assert loss.item() == pytest.approx(cross + lam * math.log(math.cosh(a / 2)) + eta * entropy, abs=1e-12)


def test_a_single_draw_costs_cross_entropy_and_entropy():
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    loss = loss_at(Consistency(draws=1, lam=20.0, eta=0.5), p.log(), torch.tensor([1]))
    entropy = -(p * p.log()).sum().item()
    assert loss.item() == pytest.approx(-math.log(0.2) + 0.5 * entropy, abs=1e-12)


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_without_its_weights_it_is_training_on_noisy_images(draws):
    network = linear()
    loss = only_loss(Consistency(draws=draws, lam=0.0, eta=0.0), network, Normal())
    plain = cross_entropy_under(Normal(), network, draws)
    torch.testing.assert_close(
        value_and_gradient(loss, network), value_and_gradient(plain, network), rtol=0, atol=1e-12
    )


def test_value_and_gradient_are_those_of_a_loop_over_images_and_draws():
    network, draws, lam, eta = linear(), 3, 7.0, 0.3
    loss = only_loss(Consistency(draws=draws, lam=lam, eta=eta), network, Normal())
    batch = batch_of(pictures(), LABELS, views=in_float64, noise=Normal(), classes=4)
    x = batch.view()
    delta = batch.noise(x.repeat(draws, 1, 1, 1))
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(x)):
        p = [network((x[i] + delta[k * len(x) + i])[None]).softmax(1)[0] for k in range(draws)]
        mean = sum(p) / draws
        for k in range(draws):
            total = total - p[k][LABELS[i]].log() / draws + lam * (mean * (mean / p[k]).log()).sum() / draws
        total = total - eta * (mean * mean.log()).sum()
    torch.testing.assert_close(
        value_and_gradient(loss, network), value_and_gradient(total / len(x), network), rtol=0, atol=1e-12
    )


def test_all_draws_go_through_the_network_in_one_pass():
    network = Seen()
    losses_of(Consistency(draws=3), network, batch_of(pictures(), LABELS % 3, noise=Normal(), classes=3))
    (x,) = network.inputs
    assert x.shape == (18, 3, 2, 2)
    assert len({row.sum().item() for row in x}) == 18


def test_certain_predictions_that_disagree_have_a_finite_gradient():
    logits = torch.tensor([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    loss = loss_at(Consistency(), logits, torch.tensor([0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"lam": -1.0}, {"eta": math.inf}, {"lam": math.nan}])
def test_an_option_out_of_range_is_a_usage_error(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        Consistency(**wrong)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        losses_of(Consistency(), Seen(), batch_of(pictures()))
