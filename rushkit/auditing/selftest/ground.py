"""The ground of the self-test: the embedded digits at 3x16x16, and networks that train on them in seconds.

Every network is a function of the seed alone, so that an audit that resumes, or another rank, trains the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

import torch
from torch import Tensor, nn

from rushkit.attacks import Norm
from rushkit.attacks.norms import ascent, project, random_start
from rushkit.data.digits import digits
from rushkit.errors import NumericsError
from rushkit.noises import Noise
from rushkit.setup.components import to_float
from rushkit.system import derived_seed, generator

SIDE, CLASSES = 16, 10
# The epochs, the batch and the learning rate of the base network.
EPOCHS, BATCH, RATE = 30, 64, 2e-3
# Training against PGD: steps of eps/4 for each batch, and the epochs over which eps rises. Trained at the whole radius
# from the first step on, a network may learn a constant answer; below this clean accuracy it has.
_STEPS, _SIZE, _RAMP, LEARNED = 7, 0.25, 12, 0.8
# (network, images, labels, epoch, its draws) -> the images to train on.
Moves = Callable[[nn.Module, Tensor, Tensor, int, torch.Generator], Tensor]


class Ground:
    """The data and the networks that several cases share; each network is trained when it is first asked for.

    Args:
        seed: Seeds the weights, the order of the images and every other draw.
        pause: Called after each epoch of a training; what it raises ends the training.

    Attributes:
        seed: The same.
    """

    def __init__(self, seed: int, pause: Callable[[], None] = lambda: None) -> None:
        self.seed = seed
        self._pause = pause

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """The 1437 training images (N, 3, 16, 16) in [0, 1], and their labels (N,)."""
        return _images("train")

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The 360 test images (N, 3, 16, 16) in [0, 1], and their labels (N,)."""
        return _images("test")

    @cached_property
    def base(self) -> nn.Module:
        """The base network, trained as it is."""
        return self.trained(convolutional, "base")

    @cached_property
    def robust(self) -> nn.Module:
        """The base network, trained against PGD in l-inf 0.15."""
        return pgd_trained(self)

    def trained(
        self,
        make: Callable[[], nn.Module],
        name: str,
        *,
        epochs: int = EPOCHS,
        rate: float = RATE,
        moved: Moves | None = None,
        loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
        data: tuple[Tensor, Tensor] | None = None,
        at_epoch: Callable[[nn.Module, int], None] | None = None,
    ) -> nn.Module:
        """Train a network on the training images by Adam with a one-cycle rate, and return it frozen, in eval mode.

        Args:
            make: Makes the network; its weights are drawn from torch's global generator, seeded for the call.
            name: Seeds its weights and its batches.
            epochs: Number of epochs.
            rate: The largest learning rate.
            moved: Maps the images of a batch to those that are trained on, such as adversarial ones; None: the same.
            loss: Maps logits (n, K) and labels (n,), or the targets of ``data``, to the loss.
            data: Images (N, ...) and targets (N, ...) to train on, such as images behind a transform or a teacher's
                probabilities; None: the training images and their labels.
            at_epoch: Called with the network and the number of an epoch before that epoch; it may change the network.
        """
        x, y = self.train if data is None else data
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.seed, f"self-test {name}"))
            network = make()
            optimizer = torch.optim.Adam(network.parameters(), rate)
            source = generator(self.seed, f"self-test batches {name}")
            batches = -(-len(x) // BATCH)
            cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * batches)
            for epoch in range(epochs):
                if at_epoch is not None:
                    at_epoch(network, epoch)
                for rows in torch.randperm(len(x), generator=source).split(BATCH):
                    images = x[rows] if moved is None else moved(network, x[rows], y[rows], epoch, source)
                    optimizer.zero_grad()
                    loss(network(images), y[rows]).backward()
                    optimizer.step()
                    cycle.step()
                self._pause()
        return network.eval().requires_grad_(False)


def convolutional(channels: int = 3, layers: Iterable[nn.Module] = (), side: int = SIDE) -> nn.Sequential:
    """Return the base network, untrained: two convolutions of stride 2 and two linear layers, with ReLU.

    Args:
        channels: Channels of the input.
        layers: Layers that come before it.
        side: Height and width of the input, a multiple of 4.
    """
    return nn.Sequential(
        *layers,
        nn.Conv2d(channels, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 64),
        nn.ReLU(),
        nn.Linear(64, CLASSES),
    )


def pgd_trained(ground: Ground, norm: Norm = "linf", eps: float = 0.15) -> nn.Module:
    """Return the base network, trained against PGD of 7 steps of eps/4, while eps rises over 12 of 30 epochs.

    Args:
        ground: The images, and the seed of weights, batches and starts.
        norm: The norm of the ball.
        eps: Its radius, pixel units.

    Raises:
        NumericsError: the training collapsed: the network is right on no more than 80 % of clean images.
    """

    def moved(network: nn.Module, x: Tensor, y: Tensor, epoch: int, source: torch.Generator) -> Tensor:
        def loss(logits: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, y)

        return _climbed(network, x, loss, norm, eps * min(1.0, (epoch + 1) / _RAMP), source)

    return _learned(ground, ground.trained(convolutional, f"pgd {norm} {eps:g}", moved=moved), f"PGD in {norm} {eps:g}")


def trades_trained(ground: Ground, norm: Norm = "linf", eps: float = 0.15, beta: float = 3.0) -> nn.Module:
    """Return the base network, trained by TRADES (Zhang et al. 2019) with the steps and the rise of ``pgd_trained``.

    Args:
        ground: The images, and the seed of weights, batches and starts.
        norm: The norm of the ball.
        eps: Its radius, pixel units.
        beta: The weight of the divergence between the answers to an image and to its attacked version.
    """

    def moved(network: nn.Module, x: Tensor, y: Tensor, epoch: int, source: torch.Generator) -> Tensor:
        with torch.no_grad():
            answers = network(x).softmax(dim=1)

        def loss(logits: Tensor) -> Tensor:
            return _divergence(logits, answers)

        return torch.cat([x, _climbed(network, x, loss, norm, eps * min(1.0, (epoch + 1) / _RAMP), source)])

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        clean, attacked = logits.chunk(2)
        return nn.functional.cross_entropy(clean, y) + beta * _divergence(attacked, clean.softmax(dim=1))

    network = ground.trained(convolutional, f"trades {norm} {eps:g}", moved=moved, loss=loss)
    return _learned(ground, network, f"PGD in {norm} {eps:g} by TRADES")


def _divergence(logits: Tensor, answers: Tensor) -> Tensor:
    """Return the mean Kullback-Leibler divergence of the answers (N, K) from those that the logits (N, K) give."""
    return nn.functional.kl_div(logits.log_softmax(dim=1), answers, reduction="batchmean")


def _climbed(
    network: nn.Module,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    norm: Norm,
    radius: float,
    source: torch.Generator,
) -> Tensor:
    """Return the images (N, C, H, W) that a few steps up the loss of the logits lead to, from a random start."""
    x_adv = random_start(x, norm, radius, source)
    for _ in range(_STEPS):
        x_adv = x_adv.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(network(x_adv)), x_adv)
        x_adv = project(x, x_adv.detach() + ascent(slope, norm, _SIZE * radius), norm, radius)
    return x_adv.detach()


def _learned(ground: Ground, network: nn.Module, against: str) -> nn.Module:
    """Return a network that was trained against an attack, if it has learned the digits.

    Raises:
        NumericsError: it has not.
    """
    x, y = ground.test
    with torch.no_grad():
        clean = float((network(x).argmax(dim=1) == y).double().mean())
    if not clean > LEARNED:
        raise NumericsError(
            f"trained against {against}, the network gets {clean:.3f} of clean images right", "take another seed"
        )
    return network


def inserted(network: nn.Sequential, layers: Mapping[int, nn.Module]) -> nn.Sequential:
    """Return a network with more layers, each before the layer of its number."""
    parts: list[nn.Module] = []
    for number, part in enumerate(network):
        parts += [layers[number], part] if number in layers else [part]
    return nn.Sequential(*parts)


def in_noise(noise: Noise) -> Moves:
    """Return the move that adds one draw of a noise to each image of a batch."""

    def moved(network: nn.Module, x: Tensor, y: Tensor, epoch: int, source: torch.Generator) -> Tensor:
        return x + noise.sample(x, source)

    return moved


def _images(split: str) -> tuple[Tensor, Tensor]:
    stored = digits(image_size=SIDE).split(split)
    assert stored.labels is not None
    return to_float(stored.images[:]), stored.labels
