"""SmoothAdv: its attack is on the smoothed classifier, by the draws that the loss is taken at."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from batches import Silent, batch_of, losses_of
from smoothed_parts import Normal, in_float64, value_and_gradient
from thread_ranks import run_ranks
from tiny_runs import toy
from torch import nn
from torch.nn import functional as F

from rushkit.distributed import ranks
from rushkit.distributed.share import share_of
from rushkit.errors import UsageError
from rushkit.objectives.cross_entropy import CrossEntropy
from rushkit.objectives.pgd_at import PgdAt
from rushkit.objectives.smoothadv import SmoothAdv
from rushkit.smoothing import SmoothedClassifier
from rushkit.training.batch import Draws, StepBatch

LABELS = torch.tensor([0, 1, 1, 0])
EPS = 0.3


class Panel:
    """A noise whose draws are the same for each image: those of a panel (m, C, H, W)."""

    std = 0.25

    def __init__(self, panel):
        self.panel = panel

    def sample(self, x, generator=None):
        return self.panel.repeat_interleave(len(x) // len(self.panel), dim=0).to(x.dtype)


class Probit(nn.Module):
    """Two classes, the second with probability Φ(w·(x − ½)), in float64; it keeps its inputs."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        self.weight = nn.Parameter(weight)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        score = (x - 0.5).flatten(1) @ self.weight
        return torch.special.log_ndtr(torch.stack([-score, score], dim=1))


class Kept(nn.Module):
    """A network that keeps its inputs."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, x):
        self.seen.append(x.detach())
        return self.network(x)


def images_of(count=4, size=2):
    """Images whose pixels are far from black and from white."""
    source = torch.Generator().manual_seed(0)
    return torch.randint(100, 156, (count, 3, size, size), dtype=torch.uint8, generator=source)


def convolutional():
    """Convolutions and BatchNorm in float64, in train mode; the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(toy(), nn.Linear(8, 2)).double()


def batch_with(noise, images=None, epoch=0.5):
    images = images_of() if images is None else images
    return replace(batch_of(images, LABELS, views=in_float64, noise=noise, classes=2), epoch=epoch)


def loss_of(objective, network, batch):
    (loss,) = losses_of(objective, network, batch)
    return loss


def directions(weight):
    """The way that raises the loss of each of the four images of a linear model, of length 1."""
    sides = (1 - 2 * LABELS).double().view(-1, 1, 1, 1)
    return sides * (weight.detach() / weight.detach().norm()).view(1, 3, 2, 2)


@pytest.mark.parametrize("draws", [1, 3])
def test_the_attack_on_a_probit_model_goes_along_its_weights_to_the_rim(draws):
    network, noise = Probit(), Normal()
    loss = loss_of(SmoothAdv(eps=EPS, draws=draws), network, batch_with(noise))
    clean = in_float64(images_of(), None).repeat(draws, 1, 1, 1)
    delta = network.seen[0] - clean
    worst = clean + EPS * directions(network.weight).repeat(draws, 1, 1, 1)
    torch.testing.assert_close(network.seen[-1], worst + delta, rtol=0, atol=1e-12)
    score = (worst + delta - 0.5).flatten(1) @ network.weight.detach()
    expected = -torch.special.log_ndtr((2 * LABELS.repeat(draws) - 1) * score).mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=1e-12)


def test_the_smoothed_probit_model_has_its_closed_form():
    network, sigma, draws = Probit(), 0.25, 4000
    weight = network.weight.detach()
    # Only the part along the weights matters, so quantiles of the normal distribution along them stand for all draws.
    quantiles = torch.special.ndtri((torch.arange(draws).double() + 0.5) / draws)
    panel = sigma * quantiles.view(-1, 1, 1, 1) * (weight / weight.norm()).view(1, 3, 2, 2)
    x = in_float64(images_of(), None)
    log_prob = SmoothAdv(draws=draws).smoothed(network, Panel(panel).sample(x.repeat(draws, 1, 1, 1)))(x)
    score = (x - 0.5).flatten(1) @ weight / math.sqrt(1 + sigma**2 * weight.norm() ** 2)
    torch.testing.assert_close(log_prob[:, 1].exp(), torch.special.ndtr(score), rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_the_gradient_of_the_attack_is_that_of_the_smoothed_classifier_on_the_same_panel(chunk):
    network, draws = convolutional().eval(), 3
    panel = 0.25 * torch.randn(draws, 3, 8, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    x = in_float64(images_of(size=8), None).requires_grad_()
    noise, rows = Panel(panel), torch.arange(4)
    delta = noise.sample(x.detach().repeat(draws, 1, 1, 1))
    log_prob = SmoothAdv(draws=draws, chunk=chunk).smoothed(network, delta)(x)
    smoothed = SmoothedClassifier(network, noise, samples=draws)
    with smoothed.fixed_noise(0):
        other = smoothed(x)
    torch.testing.assert_close(log_prob, other, rtol=0, atol=1e-12)
    (slope,) = torch.autograd.grad(-log_prob[rows, LABELS].sum(), x)
    (expected,) = torch.autograd.grad(-other[rows, LABELS].sum(), x)
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("train_noise", ["all", "one"])
def test_written_out_it_is_the_same(train_noise):
    network, draws, steps, images = convolutional(), 3, 2, images_of(size=8)
    options = {"draws": draws, "steps": steps, "train_noise": train_noise}
    found = value_and_gradient(loss_of(SmoothAdv(eps=EPS, **options), network, batch_with(Normal(), images)), network)
    clean = in_float64(images, None)
    delta = batch_with(Normal(), images).noise(clean.repeat(draws, 1, 1, 1)).unflatten(0, (draws, 4))
    attacked = convolutional().eval()
    points = []
    for i in range(4):
        point = clean[i]
        for _ in range(steps):
            moving = point.clone().requires_grad_()
            mean = sum(attacked((moving + delta[k, i])[None]).softmax(1)[0] for k in range(draws)) / draws
            (slope,) = torch.autograd.grad(-mean[LABELS[i]].log(), moving)
            moved = point + 2 * EPS / steps * slope / slope.norm() - clean[i]
            point = clean[i] + moved * min(1.0, EPS / moved.norm().item())
        points.append(point)
    other = convolutional()
    used = range(draws) if train_noise == "all" else range(1)
    logits = other(torch.cat([torch.stack([points[i] + delta[k, i] for i in range(4)]) for k in used]))
    expected = F.cross_entropy(logits, LABELS.repeat(len(used)))
    torch.testing.assert_close(found, value_and_gradient(expected, other), rtol=0, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_draws_in_chunks_are_draws_at_once(chunk):
    networks = [Kept(convolutional()) for _ in range(2)]
    objectives = SmoothAdv(draws=4, steps=2), SmoothAdv(draws=4, steps=2, chunk=chunk)
    whole, parts = (
        value_and_gradient(loss_of(objective, network, batch_with(Normal(), images_of(size=8))), network)
        for objective, network in zip(objectives, networks, strict=True)
    )
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)
    # The last pass is the loss's, whose BatchNorm takes the whole batch.
    assert max(len(x) for x in networks[1].seen[:-1]) == 4 * min(chunk, 4)
    assert len(networks[1].seen[-1]) == 16


@pytest.mark.parametrize("start", ["clean", "uniform"])
def test_without_noise_it_is_adversarial_training_step_for_step(start):
    smoothed, plain = Kept(convolutional()), Kept(convolutional())
    options = {"norm": "l2", "eps": EPS, "steps": 4, "start": start}
    found = value_and_gradient(
        loss_of(SmoothAdv(**options), smoothed, batch_with(Silent(), images_of(size=8))), smoothed
    )
    expected = value_and_gradient(loss_of(PgdAt(**options), plain, batch_with(Silent(), images_of(size=8))), plain)
    assert len(smoothed.seen) == len(plain.seen) == 5
    for one, other in zip(smoothed.seen, plain.seen, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_without_a_ball_it_is_training_under_noise():
    found, expected = (
        value_and_gradient(loss_of(objective, network, batch_with(Normal(), images_of(size=8))), network)
        for objective, network in ((SmoothAdv(eps=0.0), convolutional()), (CrossEntropy(), convolutional()))
    )
    # The loss of cross-entropy is in float32.
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-7)
    network = convolutional()
    x = in_float64(images_of(size=8), None)
    noisy = x + batch_with(Normal(), images_of(size=8)).noise(x)
    exact = value_and_gradient(F.cross_entropy(network(noisy), LABELS), network)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("epoch", "share"), [(0.0, 0.25), (0.9, 0.25), (1.0, 0.5), (2.5, 0.75), (3.0, 1.0), (9.5, 1.0)]
)
def test_the_radius_grows_from_epoch_to_epoch_of_the_warm_up(epoch, share):
    network = Probit()
    loss_of(SmoothAdv(eps=EPS, warmup=4), network, batch_with(Silent(), epoch=epoch))
    reached = network.seen[-1] - in_float64(images_of(), None)
    torch.testing.assert_close(reached, share * EPS * directions(network.weight), rtol=0, atol=1e-12)


def test_in_linf_it_attacks_as_well():
    network, eps = Probit(), 8 / 255
    loss_of(SmoothAdv(norm="linf", eps=eps), network, batch_with(Silent()))
    reached = network.seen[-1] - in_float64(images_of(), None)
    torch.testing.assert_close(reached, eps * directions(network.weight).sign(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("draws", [1, 3])
def test_ddn_crosses_the_boundary_of_a_smoothed_probit_model_and_stays_where_it_is_crossed_already(draws):
    network, noise = Probit(), Normal()
    clean = in_float64(images_of(), None)
    loss_of(SmoothAdv(eps=2.0, draws=draws, attack="ddn", steps=120), network, batch_with(noise))
    delta = network.seen[0] - clean.repeat(draws, 1, 1, 1)
    moved = (network.seen[-1] - delta)[:4]
    log_prob = SmoothAdv(draws=draws).smoothed(network, delta)
    already = log_prob(clean).argmax(1) != LABELS
    assert 0 < already.sum() < 4
    torch.testing.assert_close(moved[already], clean[already], rtol=0, atol=1e-12)
    assert (log_prob(moved).argmax(1) != LABELS).all()
    # Just beyond it: by 5 %, the change of a step, and by what rounding to grey levels adds.
    way = moved - clean
    back = (0.94 - 0.014 / way.flatten(1).norm(dim=1).clamp(min=1e-9)).clamp(min=0).view(-1, 1, 1, 1)
    assert (log_prob(clean + back * way).argmax(1) == LABELS)[~already].all()


def test_ddn_grows_with_the_warm_up():
    network = Probit()
    objective = SmoothAdv(eps=0.04, warmup=4, attack="ddn", steps=60)
    loss_of(objective, network, batch_with(Silent(), epoch=1.0))
    moved = (network.seen[-1] - in_float64(images_of(), None)).flatten(1).norm(dim=1)
    assert moved.max().item() == pytest.approx(0.02, abs=1e-9)


def test_weights_are_perturbed_for_the_step_where_asked():
    network, plain = convolutional(), convolutional()
    options = {"eps": EPS, "draws": 2, "steps": 2}
    steps = SmoothAdv(awp=0.01, **options).losses(network, nn.Module(), batch_with(Normal(), images_of(size=8)))
    attacked = loss_of(SmoothAdv(**options), plain, batch_with(Normal(), images_of(size=8)))
    # Uphill from the loss that it has without.
    assert next(steps).item() > attacked.item() + 1e-4
    moved = [
        name
        for (name, weight), other in zip(network.named_parameters(), plain.parameters(), strict=True)
        if not torch.equal(weight, other)
    ]
    assert moved == ["0.0.weight", "0.3.weight", "1.weight"]
    assert list(steps) == []
    for weight, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=0, atol=1e-15)


def on_rank(objective, count):
    """The loss and the gradients on this rank's rows of a batch."""
    share = share_of(count)
    source, draws = torch.Generator().manual_seed(0), Draws(in_float64, Normal())
    images, labels = images_of(count)[share.rows], (torch.arange(count) % 2)[share.rows]
    network = Probit()
    batch = StepBatch(images, labels, 0.25, 0.5, share, source, draws, classes=2)
    for loss in objective.losses(network, nn.Module(), batch):
        loss.backward()
    ranks.average_gradients([network.weight])
    return loss.item(), network.weight.grad


@pytest.mark.parametrize("count", [5, 2])
@pytest.mark.parametrize("options", [{"attack": "ddn", "chunk": 1}, {"train_noise": "one"}, {"chunk": 2}])
def test_ranks_together_take_the_step_of_one(options, count):
    objective = SmoothAdv(eps=0.1, draws=2, steps=3, **options)
    ((loss, gradient),) = run_ranks(on_rank, 1, objective, count)
    together = run_ranks(on_rank, 3, objective, count)
    assert sum(part for part, _ in together) / 3 == pytest.approx(loss, abs=1e-12)
    for _, other in together:
        torch.testing.assert_close(other, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"draws": 0}, "draws must be at least 1"),
        ({"warmup": 0}, "warmup must be at least 1"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"chunk": 2, "attack_bn": "batch"}, "chunks of a batch have other statistics"),
        ({"attack": "ddn", "norm": "linf"}, "attack = ddn does not go with norm = linf"),
        ({"attack": "ddn", "step_size": 0.1}, "attack = ddn does not go with step_size = 0.1"),
        ({"attack": "ddn", "start": "uniform"}, "attack = ddn does not go with start = uniform"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"eps": -1.0}, "eps must be a finite number"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        SmoothAdv(**options)
