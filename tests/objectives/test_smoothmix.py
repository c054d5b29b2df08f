"""SmoothMix against the attack in closed form, a loop over images and draws, and plain training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from batches import Seen, batch_of, losses_of
from smoothed_parts import Normal, in_float64, linear, pictures, value_and_gradient
from torch import nn

from rushkit.errors import DataError, UsageError
from rushkit.objectives.smoothmix import SmoothMix

LABELS = torch.tensor([0, 1, 2, 3, 0, 1])


class Watched(nn.Module):
    """A network that keeps the images it is given."""

    def __init__(self, network):
        super().__init__()
        self.network, self.inputs = network, []

    def forward(self, x):
        self.inputs.append(x.detach())
        return self.network(x)


def batch(epoch=0.5, images=None, labels=LABELS, classes=4):
    images = pictures() if images is None else images
    return replace(batch_of(images, labels, views=in_float64, noise=Normal(), classes=classes), epoch=epoch)


def panel(draws):
    """The views of the batch, the noise of its draws (draws, N, ...), and λ of each image."""
    again = batch()
    x = again.view()
    delta = again.noise(x.repeat(draws, 1, 1, 1)).unflatten(0, (draws, -1))
    return x, delta, again.uniform(x[:, :1, :1, :1]).abs() / 2


def only_loss(objective, network, given=None):
    (loss,) = losses_of(objective, network, batch() if given is None else given)
    return loss


def written_out(network, draws, steps, size, eta):
    """The loss of an image after another, draw after draw, with the attack by hand."""
    x, delta, share = panel(draws)
    total = torch.zeros((), dtype=torch.float64)
    for i, label in enumerate(LABELS.tolist()):

        def mean_at(point, i=i):
            return torch.stack([network((point + delta[k, i])[None]).softmax(1)[0] for k in range(draws)]).mean(0)

        far = x[i]
        for _ in range(steps):
            point = far.detach().requires_grad_()
            (slope,) = torch.autograd.grad(-mean_at(point)[label].log(), point)
            far = (far + size * slope / slope.norm()).clamp(0, 1)
        mean = mean_at(x[i])
        soft = (1 - share[i].item()) * mean + share[i].item() / 4
        for k in range(draws):
            total = total - network((x[i] + delta[k, i])[None]).log_softmax(1)[0, label] / draws
            if mean.argmax() == label:
                mixed = x[i] + share[i] * (far - x[i])
                log_mixed = network((mixed + delta[k, i])[None]).log_softmax(1)[0]
                total = total + eta * (soft * (soft.log() - log_mixed)).sum() / draws
    return total / len(x)


@pytest.mark.parametrize("draws", [1, 3])
def test_value_and_gradient_are_those_of_a_loop_over_images_and_draws(draws):
    network = linear()
    objective = SmoothMix(draws=draws, steps=3, step_size=0.2, eta=5.0, warmup=1)
    torch.testing.assert_close(
        value_and_gradient(only_loss(objective, network), network),
        value_and_gradient(written_out(network, draws, 3, 0.2, 5.0), network),
        rtol=0,
        atol=1e-10,
    )


@pytest.mark.parametrize("draws", [1, 2])
def test_without_its_weight_it_is_training_on_noisy_images_in_one_pass(draws):
    network = Watched(linear())
    loss = only_loss(SmoothMix(draws=draws, eta=0.0), network)
    assert len(network.inputs) == 1
    x, delta, _ = panel(draws)
    plain = nn.functional.cross_entropy(network((x + delta).flatten(0, 1)), LABELS.repeat(draws))
    torch.testing.assert_close(
        value_and_gradient(loss, network), value_and_gradient(plain, network), rtol=0, atol=1e-12
    )


def test_attack_clean_and_mixed_pass_have_the_same_noise():
    network, draws = Watched(linear()), 2
    only_loss(SmoothMix(draws=draws, steps=4), network)
    assert len(network.inputs) == 6
    x, delta, _ = panel(draws)
    for seen in network.inputs:
        first, second = seen.unflatten(0, (draws, -1)) - delta
        torch.testing.assert_close(first, second, rtol=0, atol=1e-12)
        assert first.min() >= -1e-12
        assert first.max() <= 1 + 1e-12
    attacked, clean = network.inputs[0], network.inputs[4]
    torch.testing.assert_close(clean, (x + delta).flatten(0, 1), rtol=0, atol=0)
    assert torch.equal(attacked, clean)


def two_classes(slope):
    """Logits ±w·x / 2, whose −log p̄ of the label is steepest along w whatever the noise is."""
    layer = nn.Linear(12, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([slope / 2, -slope / 2]))
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize("mix_step", [0, 1])
def test_a_linear_models_neighbour_lies_along_its_slope_and_the_mixed_image_between(mix_step):
    slope = torch.linspace(-1, 1, 12).double()
    network = Watched(two_classes(slope))
    grey = torch.full((2, 3, 2, 2), 128, dtype=torch.uint8)
    labels, size, steps = torch.tensor([0, 1]), 0.1, 4
    objective = SmoothMix(draws=1, steps=steps, step_size=size, warmup=1, mix_step=mix_step)
    given = batch(images=grey, labels=labels, classes=2)
    only_loss(objective, network, given)
    again = batch(images=grey, labels=labels, classes=2)
    x = again.view()
    delta, share = again.noise(x), again.uniform(x[:, :1, :1, :1]).abs() / 2
    way = size * torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1) * (slope / slope.norm()).view(1, 3, 2, 2)
    near, far = x + mix_step * way, x + steps * way
    torch.testing.assert_close(network.inputs[-2] - delta, near, rtol=0, atol=1e-7)
    torch.testing.assert_close(network.inputs[-1] - delta, near + share * (far - near), rtol=0, atol=1e-7)


def test_the_attack_stays_in_no_ball_but_in_the_box():
    network = Watched(two_classes(torch.ones(12).double()))
    black, labels = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.tensor([1])
    given = batch(images=black, labels=labels, classes=2)
    objective = SmoothMix(draws=1, steps=4, step_size=3.0)
    only_loss(objective, network, given)
    again = batch(images=black, labels=labels, classes=2)
    x = again.view()
    delta, share = again.noise(x), again.uniform(x[:, :1, :1, :1]).abs() / 2
    # Up the slope for the label 1, into the white corner.
    torch.testing.assert_close(network.inputs[-1] - delta, share.expand_as(x), rtol=0, atol=1e-12)


def test_one_image_has_one_share_below_a_half():
    _, _, share = panel(2)
    assert share.shape == (6, 1, 1, 1)
    assert share.unique().numel() == 6
    assert share.max() < 0.5


@pytest.mark.parametrize(("epoch", "weight"), [(0.0, 0.25), (0.9, 0.25), (1.0, 0.5), (3.5, 1.0), (7.0, 1.0)])
def test_the_weight_of_the_mixed_images_grows_by_equal_steps(epoch, weight):
    network = linear()
    plain = only_loss(SmoothMix(eta=0.0), network)
    whole = only_loss(SmoothMix(warmup=1), network) - plain
    grown = only_loss(SmoothMix(warmup=4), network, batch(epoch)) - plain
    assert grown.item() == pytest.approx(weight * whole.item(), abs=1e-12)


def test_the_point_of_the_first_step_is_nearer_while_the_weight_grows():
    network = Watched(linear())
    objective = SmoothMix(draws=1, step_size=0.2, warmup=4, mix_step=1)
    only_loss(objective, network, batch(epoch=1.5))
    x, delta, _ = panel(1)
    moved = (network.inputs[-2] - delta[0] - x).flatten(1).norm(dim=1)
    assert moved.max() <= 0.1 + 1e-6
    assert moved.max() >= 0.1 - 1e-6


def test_images_that_are_classified_wrongly_are_not_mixed():
    x, delta, _ = panel(2)
    network = linear()
    p = network((x + delta).flatten(0, 1)).softmax(1).unflatten(0, (2, -1)).mean(0)
    # The least likely class of each image.
    mixed, plain = (only_loss(SmoothMix(eta=eta), network, batch(labels=p.argmin(1))) for eta in (5.0, 0.0))
    assert torch.equal(mixed, plain)


def test_the_statistics_of_batchnorm_move_in_the_clean_and_the_mixed_pass_alone():
    network = nn.Sequential(nn.BatchNorm2d(3, dtype=torch.float64), linear())
    only_loss(SmoothMix(mix_step=1), network)
    assert network[0].num_batches_tracked == 2
    assert network[0].training


def test_certain_predictions_have_a_finite_gradient():
    network = linear()
    with torch.no_grad():
        network[1].weight *= 1e5
    given = batch(labels=network(batch().view()).argmax(1))
    assert value_and_gradient(only_loss(SmoothMix(), network, given), network).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"draws": 0},
        {"steps": 0},
        {"eta": -1.0},
        {"warmup": 0},
        {"mix_step": 4},
        {"mix_step": -1},
        {"step_size": math.nan},
        {"step_size": -0.5},
    ],
)
def test_an_option_out_of_range_is_a_usage_error(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=name):
        SmoothMix(**wrong)


def test_missing_labels_are_a_data_error():
    with pytest.raises(DataError, match="labels"):
        losses_of(SmoothMix(), Seen(), batch_of(pictures()))
