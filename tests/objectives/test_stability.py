"""Stability training against closed forms and plain training."""

from __future__ import annotations

import math

import pytest
import torch
from batches import Seen, batch_of, losses_of
from smoothed_parts import Normal, in_float64, linear, loss_at, pictures, value_and_gradient

from rushkit.errors import DataError, UsageError
from rushkit.objectives.stability import Stability

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


def batch():
    return batch_of(pictures(), LABELS, views=in_float64, noise=Normal(), classes=4)


def test_the_clean_prediction_is_the_label_of_the_noisy_image():
    p, q = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([0.5, 0.1, 0.4], dtype=torch.float64)
    loss = loss_at(Stability(lam=2.0), torch.stack([p, q]).log(), torch.tensor([1]))
    expected = -math.log(0.2) - 2 * (0.7 * math.log(0.5) + 0.2 * math.log(0.1) + 0.1 * math.log(0.4))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_the_gradient_goes_through_the_clean_prediction_as_well():
    logits = torch.tensor([[0.3, -0.2], [1.5, 0.1]], dtype=torch.float64, requires_grad=True)
    loss_at(Stability(lam=2.0), logits, torch.tensor([0])).backward()
    a, b = logits.detach()
    p, log_q = a.softmax(0), b.log_softmax(0)
    # d/da of −Σ p log q is −p (log q − Σ p log q).
    through_label = -p * (log_q - (p * log_q).sum())
    expected = p - torch.tensor([1.0, 0.0]) + 2 * through_label
    torch.testing.assert_close(logits.grad[0], expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits.grad[1], 2 * (b.softmax(0) - p), rtol=0, atol=1e-12)


def test_without_its_weight_it_is_training_on_clean_images():
    network = linear()
    (loss,) = losses_of(Stability(lam=0.0), network, batch())
    plain = torch.nn.functional.cross_entropy(network(batch().view()), LABELS)
    torch.testing.assert_close(
        value_and_gradient(loss, network), value_and_gradient(plain, network), rtol=0, atol=1e-12
    )


def test_one_pass_has_the_clean_images_and_then_the_noisy_ones_unclamped():
    network = Seen()
    losses_of(Stability(), network, batch_of(pictures(), LABELS % 3, noise=Normal(), classes=3))
    (x,) = network.inputs
    clean, noisy = x.chunk(2)
    assert torch.equal(clean, pictures().float() / 255)
    assert noisy.min() < 0
    assert noisy.max() > 1


@pytest.mark.parametrize("lam", [-1.0, math.inf, math.nan])
def test_a_weight_out_of_range_is_a_usage_error(lam):
    with pytest.raises(UsageError, match="lam"):
        Stability(lam=lam)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        losses_of(Stability(), Seen(), batch_of(pictures()))
