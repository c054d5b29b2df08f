"""Broken defences with an eleventh class for what they reject, devised after the thresholds were fixed.

An attack that stops at the first answer that is not the label stops at a rejection, which the claim counts as right.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rushkit.auditing.selftest.case import Case, Planted
from rushkit.auditing.selftest.causes import REJECTION
from rushkit.auditing.selftest.ground import CLASSES, Ground
from rushkit.system import generator

EPS = 0.15
# Of the training images, one in twenty is rejected by each rule.
_QUANTILE = 0.95
# Kernels of the radial network.
_CENTRES = 300


class Weakness(nn.Module):
    """Rejects what noise changes, and what a few steps do not (Hu et al. 2019, "Turning a weakness into a strength").

    A natural image lies far from the boundary for noise and near it for an attack. The noise is the same for every
    image.

    Args:
        network: (N, C, H, W) -> (N, K) logits.
        images: (M, C, H, W) training images, which set what is usual.
        source: Draws the noise.
        sigma: Standard deviation of the noise, pixel units.
        draws: Draws of noise.
        size: The length of a step in l-inf, pixel units.
        most: Steps that are tried.
    """

    def __init__(
        self,
        network: nn.Module,
        images: Tensor,
        source: torch.Generator,
        sigma: float = 0.1,
        draws: int = 4,
        size: float = 0.03,
        most: int = 6,
    ) -> None:
        super().__init__()
        self.network, self.size, self.most = network, size, most
        self.register_buffer("noise", sigma * torch.randn(draws, *images.shape[1:], generator=source))
        self.largest_change = float(self.changes(images).quantile(_QUANTILE))
        self.most_steps = float(self.steps(images).quantile(_QUANTILE))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K + 1) logits of images (N, C, H, W); the last class is a rejection."""
        logits = cast(Tensor, self.network(x))
        inside = x.detach()
        rejected = (self.changes(inside) > self.largest_change) | (self.steps(inside) > self.most_steps)
        rejection = logits.amax(dim=1) + torch.where(rejected, 1.0, -1.0)
        return torch.cat([logits, rejection[:, None]], dim=1)

    @torch.no_grad()
    def changes(self, x: Tensor) -> Tensor:
        """Return (N,) by how much noise changes the probabilities of images (N, C, H, W), the mean l1 distance."""
        probs = self.network(x).softmax(dim=1)
        noisy = torch.stack([self.network(x + draw).softmax(dim=1) for draw in cast(Tensor, self.noise)])
        change: Tensor = (noisy - probs).abs().sum(dim=2)
        return change.mean(dim=0)

    @torch.enable_grad()
    def steps(self, x: Tensor) -> Tensor:
        """Return (N,) the steps up the loss of its own answer that an image (N, C, H, W) needs to change it."""
        answer = self.network(x).argmax(dim=1).detach()
        held = torch.ones(len(x), dtype=torch.bool, device=x.device)
        taken = torch.zeros(len(x), device=x.device)
        for _ in range(self.most):
            x = x.detach().requires_grad_()
            logits = self.network(x)
            held = held & (logits.argmax(dim=1) == answer)
            taken += held
            (slope,) = torch.autograd.grad(nn.functional.cross_entropy(logits, answer, reduction="sum"), x)
            x = x.detach() + self.size * slope.sign()
        return taken


class NeuralRejection(nn.Module):
    """Radial kernels on the last hidden layer, and a rejection where no class responds (Sotgiu et al. 2020).

    A ridge regression on Gaussian kernels around training images gives each class its score; far from all of them
    every score is 0, and so is its slope.

    Args:
        hidden: (N, C, H, W) -> (N, F) features.
        images: (M, C, H, W) training images.
        labels: (M,) their labels.
        centres: (c,) the positions of the images around which there are kernels.
        width: The width of a kernel as a multiple of the median distance between centres.
        ridge: The penalty of the regression.
        gain: What scores are multiplied by to make logits of them.
    """

    def __init__(
        self,
        hidden: nn.Module,
        images: Tensor,
        labels: Tensor,
        centres: Tensor,
        width: float = 0.2,
        ridge: float = 0.1,
        gain: float = 10.0,
    ) -> None:
        super().__init__()
        self.hidden, self.gain = hidden, gain
        with torch.no_grad():
            features = hidden(images)
        self.register_buffer("centres", features[centres])
        self.register_buffer("labels", labels[centres])
        self.width = width * float(torch.pdist(features[centres]).median())
        kernel = self._kernels(features)
        wanted = nn.functional.one_hot(labels, CLASSES).float()
        normal = kernel.T @ kernel + ridge * torch.eye(len(centres))
        self.register_buffer("weights", torch.linalg.solve(normal, kernel.T @ wanted))
        self.least = float((kernel @ cast(Tensor, self.weights)).amax(dim=1).quantile(1 - _QUANTILE))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K + 1) logits of images (N, C, H, W); the last class is a rejection."""
        scores = self._kernels(self.hidden(x)) @ cast(Tensor, self.weights)
        return self.gain * nn.functional.pad(scores, (0, 1), value=self.least)

    def squares(self, features: Tensor) -> Tensor:
        """Return (N, c) the squared distances of features (N, F) from the centres, in widths of a kernel."""
        centres = cast(Tensor, self.centres)
        distances = features.square().sum(1, keepdim=True) - 2 * features @ centres.T + centres.square().sum(1)
        return distances / self.width**2

    def _kernels(self, features: Tensor) -> Tensor:
        return torch.exp(-self.squares(features))


class Mimicry(nn.Module):
    """The nearness of the nearest centres of each class in place of a score: a slope that does not fade.

    Args:
        model: The defence.
        softness: Over how many squared widths the nearest centre is softened.
    """

    def __init__(self, model: NeuralRejection, softness: float = 1.0) -> None:
        super().__init__()
        self.model, self.softness = model, softness

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, K) logits of images (N, C, H, W)."""
        near = -self.model.squares(self.model.hidden(x)) / self.softness
        foreign = torch.arange(CLASSES, device=x.device)[:, None] != cast(Tensor, self.model.labels)
        return torch.logsumexp(near[:, None].masked_fill(foreign, -torch.inf), dim=2)


def _weakness(ground: Ground) -> Planted:
    source = generator(ground.seed, "self-test noise of weakness")
    return Planted(Weakness(ground.base, ground.train[0], source), stand_in=ground.base)


def _neural_rejection(ground: Ground) -> Planted:
    images, labels = ground.train
    source = generator(ground.seed, "self-test centres of neural rejection")
    centres = torch.randperm(len(images), generator=source)[:_CENTRES]
    hidden = cast(nn.Sequential, ground.base)[:-1]
    model = NeuralRejection(hidden, images, labels, centres)
    return Planted(model, stand_in=Mimicry(model))


CASES = (
    Case(
        "turns a weakness into a strength",
        "broken",
        "linf",
        EPS,
        _weakness,
        REJECTION,
        naive="rejecting",
        held_out=True,
    ),
    Case(
        "deep neural rejection",
        "broken",
        "linf",
        EPS,
        _neural_rejection,
        REJECTION,
        naive="rejecting",
        held_out=True,
    ),
)
