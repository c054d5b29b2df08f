"""Training batches for the tests of objectives: this rank's rows, with views and noise of the test's own."""

from __future__ import annotations

import torch
from torch import nn

from rushkit.distributed.share import share_of
from rushkit.training.batch import Draws, StepBatch


class Silent:
    """A noise of zeros that draws nothing."""

    std = 0.0

    def sample(self, x, generator=None):
        return torch.zeros_like(x)


def plain(images, generator):
    return images.float() / 255


def plain64(images, generator):
    """The images in float64, for a network of that kind."""
    return images.double() / 255


# The same at every strength.
plain.weakened, plain64.weakened = lambda _: plain, lambda _: plain64


def batch_of(images, labels=None, *, views=plain, noise=None, seed=0, classes=10, epoch=0.5):
    """This rank's rows of the batch of a step, halfway through the first of two epochs; a single process has all."""
    share = share_of(len(images))
    source = torch.Generator().manual_seed(seed)
    labels = None if labels is None else labels[share.rows]
    draws = Draws(views, noise or Silent())
    return StepBatch(images[share.rows], labels, epoch / 2, epoch, share, source, draws, classes)


class Seen(nn.Module):
    """A network that keeps what it is given, and returns what it was made with, or the mean of each channel."""

    def __init__(self, outputs=None):
        super().__init__()
        self.outputs, self.inputs = outputs, []

    def forward(self, x):
        self.inputs.append(x)
        return x.mean(dim=(2, 3)) if self.outputs is None else self.outputs


def losses_of(objective, network, batch):
    return list(objective.losses(network, nn.Module(), batch))


def inputs_of(objective, images, labels=None, **options):
    """What an objective shows the network in its only pass."""
    network = Seen()
    # It returns a number for each channel.
    losses_of(objective, network, batch_of(images, labels, classes=images.shape[1], **options))
    (x,) = network.inputs
    return x


def loss_of(objective, outputs, labels=None):
    """The only loss of an objective whose network returns these outputs."""
    count = len(outputs) if labels is None else len(labels)
    batch = batch_of(torch.zeros(count, 3, 2, 2, dtype=torch.uint8), labels, classes=outputs.shape[1])
    (loss,) = losses_of(objective, Seen(outputs), batch)
    return loss
