"""What the tests of BYOL and BYORL share: views that differ, a network in float64, and a slow BYOL written out."""

from __future__ import annotations

import copy
import math

import torch
from batches import batch_of
from tiny_runs import toy
from torch import nn

from rushkit.models.network import Network

WIDTHS = {"hidden": 6, "out": 5, "predictor_hidden": 7}


def blurred(images, generator):
    """A view in float64: each image with noise of its own draw."""
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64)
    return 0.8 * images.double() / 255 + 0.2 * noise


def images_of(count=6, size=8, seed=0):
    source = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=source)


def made(objective):
    """A network with the objective's memory in float64, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = toy()
        network = Network(encoder, objective.head(encoder.num_features, [10]), "projector").double()
        return network, objective.attach(network, (6, 3, 8, 8)).double()


def losses_of_first_step(objective, network, memory, views=blurred):
    """The losses of a batch at the start of a run, without a step."""
    return list(objective.losses(network, memory, batch_of(images_of(), views=views, epoch=0)))


def same(one, other, within=1e-12):
    """Whether two modules hold the same tensors."""
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(
        name == other_name and torch.allclose(tensor, other_tensor, rtol=0, atol=within)
        for (name, tensor), (other_name, other_tensor) in pairs
    )


def stepped(objective, network, memory, steps, *, lr=0.1, views=blurred, epochs=2):
    """Train for some steps of plain SGD, each on images of its own; return the losses."""
    parameters = [*network.parameters(), *memory["predictor"].parameters()]
    losses = []
    for step in range(steps):
        batch = batch_of(images_of(seed=step), views=views, seed=step, epoch=epochs * step / steps)
        for loss in objective.losses(network, memory, batch):
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= lr * gradient
            losses.append(loss.item())
    return losses


def distance(p, z):
    """2 − 2 cos of two vectors, by sums over their entries."""
    dot = sum(a * b for a, b in zip(p, z, strict=True))
    return 2 - 2 * dot / (sum(a * a for a in p).sqrt() * sum(b * b for b in z).sqrt())


def slow_byol(network, predictor, steps, *, tau, lr=0.1, joint=False):
    """BYOL as its paper states it, one image and one parameter at a time; return the losses, and ξ in the end."""
    target = copy.deepcopy(network)
    online = nn.Sequential(network, predictor)
    losses = []
    for step in range(steps):
        source = torch.Generator().manual_seed(step)
        first, second = (blurred(images_of(seed=step), source) for _ in range(2))
        if joint:
            predictions, goals = (module(torch.cat([first, second])) for module in (online, target))
            predicted, goal = predictions.chunk(2), goals.chunk(2)
        else:
            predicted, goal = ([module(view) for view in (first, second)] for module in (online, target))
        pairs = [*zip(predicted[0], goal[1], strict=True), *zip(predicted[1], goal[0], strict=True)]
        loss = sum(distance(p, z.detach()) for p, z in pairs) / len(first)
        parameters = list(online.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        share = 1 - (1 - tau) * (math.cos(math.pi * step / steps) + 1) / 2
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.copy_(parameter - lr * gradient)
            for xi, theta in zip(target.parameters(), network.parameters(), strict=True):
                xi.copy_(share * xi + (1 - share) * theta)
        losses.append(loss.item())
    return losses, target
