"""Models whose answer to an attack is known."""

import math

import torch
from torch import nn

from rushkit.attacks.hyperplane import shortest_move
from rushkit.attacks.norms import length


class Linear(nn.Module):
    """Logits W x + b, with parameters and a buffer that an attack could disturb."""

    def __init__(self, weight, bias, scale=1.0):
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def forward(self, x):
        return (x.flatten(1) @ self.weight.T + self.bias) * self.scale


def spaced(norm, count=40, side=6, scale=1.0):
    """Two classes; image i lies at distance 0.002 (i + 1/2) from the boundary in the norm. -> model, x, y, distances.

    The box never binds for radii below 0.1 in l-inf.
    """
    g = torch.Generator().manual_seed(3)
    u = torch.randn(side * side, generator=g)
    ray = u.sign() if norm == "linf" else u / u.norm()
    distance = 0.002 * (torch.arange(count) + 0.5)
    y = torch.arange(count) % 2
    x = 0.5 + (1 - 2 * y)[:, None] * distance[:, None] * ray
    bias = torch.stack([-0.5 * u.sum(), 0.5 * u.sum()])
    return Linear(torch.stack([u, -u]), bias, scale), x.view(count, 1, side, side), y, distance


def several_classes(classes, norm, count=60, side=6):
    """Random linear classes. -> model, x, y, (count,) distances to the nearest other class."""
    g = torch.Generator().manual_seed(classes)
    x = 0.3 + 0.4 * torch.rand(count, 1, side, side, generator=g)
    weight = torch.randn(classes, side * side, generator=g)
    model = Linear(weight, -(weight @ x.flatten(1).mean(0)))
    with torch.no_grad():
        z = model(x).double()
    y = z.argmax(1)
    dual = 1 if norm == "linf" else 2
    length = (weight[y][:, None] - weight[None]).double().norm(dual, dim=2)
    distance = (z.gather(1, y[:, None]) - z) / length
    distance[torch.arange(count), y] = math.inf
    return model, x, y, distance.amin(1)


@torch.no_grad()
def exact_distance(model, x, y, norm):
    """The norm of the shortest way out, box included; the way itself is proved in test_hyperplane.py."""
    logits, nearest = model(x), torch.full((len(x),), torch.inf, dtype=torch.float64)
    for target in range(logits.shape[1]):
        normal = (model.scale * (model.weight[target] - model.weight[y])).view_as(x)
        way = shortest_move(x, normal, logits.gather(1, y[:, None])[:, 0] - logits[:, target], norm)
        nearest = torch.where(y == target, nearest, torch.minimum(nearest, length(way.double(), norm)))
    return nearest


class Box:
    """Uniform noise of the tests' own."""

    def __init__(self, scale):
        self.scale, self.std = scale, scale / math.sqrt(3)

    def sample(self, x, generator=None):
        unit = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        return (2 * unit - 1) * self.scale


class Flipper(nn.Module):
    """Right for every image, but each answer is swapped with probability 0.3; the randomness is the global one."""

    def __init__(self, classes=2):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.classes = classes

    def forward(self, x):
        # The first pixel's brightness is the class, far from every boundary; the rest gives something to climb.
        bright = x[:, 0, 0, 0] * (self.classes - 1)
        centers = torch.arange(self.classes, dtype=x.dtype, device=x.device)
        logits = -5 * (bright[:, None] - centers).abs() + 0.1 * x.mean(dim=(1, 2, 3))[:, None] * centers + self.weight
        flip = torch.rand(len(x), device=x.device) < 0.3
        return torch.where(flip[:, None], logits.roll(1, dims=1), logits)

    @staticmethod
    def images(count=8, classes=2, side=6):
        x = torch.full((count, 1, side, side), 0.5)
        y = torch.arange(count) % classes
        x[:, 0, 0, 0] = y / (classes - 1)
        return x, y


def small_network(classes=5, side=8, channels=1, seed=0, images=200):
    """A trained network, its images and labels; with BatchNorm and dropout, left in training mode.

    It is trained in float64, so that its weights do not depend on the processor.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(channels, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(8 * (side - 2) ** 2, classes),
        ).double()
        prototype = torch.rand(classes, channels, side, side)
        y = torch.randint(classes, (images,))
        x = 0.5 * prototype[y] + 0.5 * torch.rand(images, channels, side, side)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x.double()), y).backward()
            optimizer.step()
        optimizer.zero_grad()
    return model.float(), x, y


def accuracy(model, x, y):
    """Right answers of a deterministic model in eval mode."""
    training = model.training
    model.eval()
    with torch.no_grad():
        right = int((model(x).argmax(1) == y).sum())
    model.train(training)
    return right


def reach(x, x_adv, norm):
    """Largest distance in float64."""
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    return float((x_adv.double() - x.double()).flatten(1).norm(order, dim=1).max())
