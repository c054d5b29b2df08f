from __future__ import annotations

import math

import pytest
import torch
from batches import Seen, batch_of, inputs_of, loss_of, losses_of, plain
from torch import Generator, Tensor

from rushkit import objectives
from rushkit.errors import DataError, UsageError
from rushkit.objectives.cross_entropy import CrossEntropy


class ConstantNoise:
    """Draws 0.4 everywhere, and advances the generator as a real noise does."""

    std = 0.4

    def sample(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        return torch.rand(x.shape, generator=generator) * 0 + 0.4


def images() -> Tensor:
    return torch.tensor([0, 51, 204, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)


def test_noise_is_added_to_the_views_without_a_clamp():
    x = inputs_of(CrossEntropy(), images(), torch.tensor([0]), noise=ConstantNoise())
    assert x.dtype is torch.float32
    torch.testing.assert_close(x.flatten(), torch.tensor([0.4, 0.6, 1.2, 1.4]))


def test_without_noise_the_views_come_through():
    x = inputs_of(CrossEntropy(), images(), torch.tensor([0]))
    assert torch.equal(x, plain(images(), None))


def test_equal_logits_cost_the_log_of_the_classes():
    loss = loss_of(CrossEntropy(), torch.zeros(3, 7), torch.tensor([0, 3, 6]))
    assert loss.item() == pytest.approx(math.log(7), abs=1e-6)


def test_two_classes_have_the_closed_form():
    loss = loss_of(CrossEntropy(), torch.tensor([[0.0, 1.5]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(1.5)), abs=1e-6)


def test_label_smoothing_mixes_in_the_mean_over_classes():
    logits, smoothing = torch.tensor([[0.0, 1.5, -2.0]]), 0.2
    log_prob = logits.log_softmax(1)[0]
    expected = -(1 - smoothing) * log_prob[0] - smoothing * log_prob.mean()
    assert loss_of(CrossEntropy(smoothing), logits, torch.tensor([0])).item() == pytest.approx(
        expected.item(), abs=1e-6
    )


def test_computed_in_float32_under_autocast():
    logits = torch.randn(9, 5, generator=Generator().manual_seed(0)).bfloat16()
    labels = torch.arange(9) % 5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(CrossEntropy(), logits, labels)
    assert loss.dtype is torch.float32
    assert loss.item() == loss_of(CrossEntropy(), logits.float(), labels).item()


def test_head_is_linear():
    head = objectives.create("cross-entropy", label_smoothing=0.1).head(6, [4])
    x, y = torch.randn(2, 3, 6, generator=Generator().manual_seed(0))
    assert head(x).shape == (3, 4)
    torch.testing.assert_close(head(x + y) + head(torch.zeros(3, 6)), head(x) + head(y))


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        loss_of(CrossEntropy(), torch.zeros(1, 2))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_label_smoothing_out_of_range_is_a_usage_error(smoothing):
    with pytest.raises(UsageError, match="label_smoothing"):
        CrossEntropy(smoothing)


def test_labels_that_the_batch_smooths_are_smoothed_image_by_image():
    logits = torch.tensor([[0.0, 1.5, -2.0], [0.3, -1.0, 2.0]])
    batch = batch_of(torch.zeros(2, 3, 2, 2, dtype=torch.uint8), torch.tensor([0, 2]), classes=3)
    batch.label_smoothing = torch.tensor([0.0, 0.1])
    (loss,) = losses_of(CrossEntropy(), Seen(logits), batch)
    exact, smoothed = logits.log_softmax(1)
    assert loss.item() == pytest.approx(-(exact[0] + 0.9 * smoothed[2] + 0.1 * smoothed.mean()).item() / 2, abs=1e-6)
