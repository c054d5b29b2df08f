"""Two small networks of other libraries, rebuilt from their descriptions and trained against PGD on the digits."""

import functools

import torch
from torch import nn

from rushkit.data.digits import digits
from rushkit.system import generator

SIDE = 16


def wong_kolter():
    """The MNIST network of Wong and Kolter 2018: two strided 4x4 convolutions of 16 and 32 channels, 100 units."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * SIDE**2, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def lenet5():
    """The LeNet5 of advertorch: 3x3 convolutions of 32 and 64 channels, each with 2x2 max-pooling, 200 units."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * SIDE**2, 200),
        nn.ReLU(),
        nn.Linear(200, 10),
    )


def images(split):
    """The digits as (N, 1, 16, 16) in [0, 1] with labels (N,)."""
    data = digits(image_size=SIDE).split(split)
    return data.images[:, :1].float() / 255, data.labels


@functools.cache
def trained(architecture, eps=0.2, noise=0.0, epochs=8, seed=0):
    """A network trained on 720 digits under uniform noise of this half-width, against four steps of l-inf PGD.

    The radius of PGD rises over half of the epochs.
    """
    source = generator(seed, "foreign network")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture()
    train_images, train_labels = (rows[:720] for rows in images("train"))
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        radius = eps * min(1.0, 2 * (epoch + 1) / epochs)
        for rows in torch.randperm(len(train_images), generator=source).split(32):
            x, y = train_images[rows], train_labels[rows]
            moved = x + radius * (2 * torch.rand(x.shape, generator=source) - 1)
            for _ in range(4 if eps else 0):
                moved.requires_grad_()
                (slope,) = torch.autograd.grad(nn.functional.cross_entropy(model(moved), y), moved)
                moved = moved.detach() + radius / 3 * slope.sign()
                moved = torch.minimum(torch.maximum(moved, x - radius), x + radius).clamp(0, 1)
            moved = moved.detach() + noise * (2 * torch.rand(x.shape, generator=source) - 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(moved), y).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)
