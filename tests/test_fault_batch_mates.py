"""What a smoothed classifier says of an image does not depend on the images beside it, and leaves no mode changed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rushkit.noises.gaussian import Gaussian
from rushkit.smoothing import SmoothedClassifier
from rushkit.system import generator


def network() -> nn.Sequential:
    """A network in train mode whose BatchNorm has statistics, and whose second BatchNorm is frozen in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, 4),
        )  # fmt: skip
        for _ in range(20):
            net(torch.rand(32, 3, 8, 8))
    net[3].eval()
    return net


def images(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=generator(seed, "images"))


def smoothed(net: nn.Module, chunk: int | None = None) -> SmoothedClassifier:
    return SmoothedClassifier(net, Gaussian(std=0.25), samples=200, chunk=chunk, seed=0)


@pytest.mark.parametrize("chunk", [7, 64, None])
@pytest.mark.parametrize("beside", [1, 5, 30])
def test_votes_of_an_image_are_the_same_in_any_company_and_chunk(chunk, beside):
    image, g = images(1), smoothed(network(), chunk)
    # Mates of another kind: dark ones, whose statistics are not the image's.
    company = torch.cat([image, 0.1 * images(beside, seed=1)])
    assert torch.equal(panel_votes(g, company)[:1], panel_votes(smoothed(network()), image))


def panel_votes(g: SmoothedClassifier, x: torch.Tensor) -> torch.Tensor:
    """Votes on one panel of draws, which every image sees."""
    with g.fixed_noise(seed=3):
        return g.votes(x)


def test_votes_of_a_model_in_train_mode_are_those_in_eval_mode():
    x = images(4)
    assert torch.equal(smoothed(network()).votes(x), smoothed(network().eval()).votes(x))


def test_gradients_are_those_of_the_classifier_that_votes():
    def gradient(net, chunk):
        x = images(3).requires_grad_()
        (slope,) = torch.autograd.grad(smoothed(net, chunk)(x)[:, 0].sum(), x)
        return slope

    expected = gradient(network().eval(), None)
    torch.testing.assert_close(gradient(network(), None), expected)
    # A chunk's forward runs again in the backward pass, after the call has ended.
    torch.testing.assert_close(gradient(network(), 50), expected, rtol=1e-4, atol=1e-6)


def test_running_statistics_do_not_move_when_votes_are_counted():
    net = network()
    before = net[1].running_mean.clone()
    smoothed(net).votes(images(4))
    assert torch.equal(net[1].running_mean, before)


def test_a_training_classifier_still_counts_votes_in_eval_mode():
    x, g = images(4), smoothed(network())
    g.train()
    assert torch.equal(g.votes(x), smoothed(network().eval()).votes(x))


def test_a_model_that_is_random_in_eval_mode_too_repeats_its_draws_in_the_backward_pass():
    class Drops(nn.Module):
        """Linear, with half of the weights dropped in every mode: the gradient shows which."""

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            kept = nn.functional.dropout(x.flatten(1), 0.5, training=True) * self.weight
            return torch.stack([kept.sum(1), torch.zeros(len(x))], dim=1)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Drops().eval()
        g = SmoothedClassifier(net, Gaussian(std=0.1), samples=8, chunk=3, seed=0)
        x = images(2)
        logits = g.sample_logits(x)
        # d(sum of logits)/d(weight) at weight 1 is the sum of the logits, if the same pixels are dropped.
        (slope,) = torch.autograd.grad(logits.sum(), net.weight)
    torch.testing.assert_close(slope, logits.sum().detach().reshape(1), rtol=1e-4, atol=1e-3)
