"""MACER (Zhai et al. 2020): training without an attack that maximises the certified radius."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rushkit.errors import UsageError
from rushkit.noises import name_of
from rushkit.noises.gaussian import Gaussian
from rushkit.objectives.smoothed import Smoothed, check_weight
from rushkit.objectives.supervised import cross_entropy, full_precision, labels_of
from rushkit.smoothing import log_mean_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rushkit.models.network import Network
    from rushkit.noises import Noise
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class Macer(Smoothed):
    """Cross-entropy of the smoothed classifier, and a hinge on its certified radius (Zhai et al. 2020).

    The loss of an image is CE(log p̄, y), plus lam · σ/2 · max(0, gamma − ξ) if it is classified correctly, where p̄ is
    the mean prediction over the draws, and σξ/2 the certified radius of Cohen et al. (2019). Gaussian
    noise only. The default ``lam`` is that of CIFAR-10 at σ = 0.25 and 1; at 0.5 a reproduction has 4.

    Args:
        draws: m, the noisy copies of each image; all go through the network in one pass.
        lam: Weight λ of the hinge.
        gamma: ξ from which on an image is certified well enough.
        beta: Inverse temperature of the predictions that ξ is of.
        deferred: Share of the run that trains without the hinge first, in [0, 1]; public runs at σ = 1 wait for the
            first drop of the learning rate.

    Raises:
        UsageError: there is not a single draw, or another option is out of its range.
    """

    draws: int = 16
    lam: float = 12.0
    gamma: float = 8.0
    beta: float = 16.0
    deferred: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("lam", self.lam)
        for name, value in (("gamma", self.gamma), ("beta", self.beta)):
            if not (value > 0 and math.isfinite(value)):
                raise UsageError(f"{name} must be a finite number above 0 (got {value!r})", "8 and 16 are published")
        if not 0 <= self.deferred <= 1:
            raise UsageError(
                f"deferred must be a share of the run, in [0, 1] (got {self.deferred!r})", "0 has the hinge always"
            )

    def check_noise(self, noise: Noise) -> None:
        """Raise UsageError unless the noise is Gaussian: the radius that is maximised is that of no other."""
        if not isinstance(noise, Gaussian):
            raise UsageError(
                f"macer maximises the certified radius under Gaussian noise, and this noise is {name_of(noise)}",
                "--set noise.name=gaussian --set noise.std=0.25",
            )

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of the batch's views, over all images and not over the correct ones alone.

        Raises:
            DataError: there are no labels.
        """
        labels = labels_of(batch)
        logits = self.by_draw(network(self.noisy(batch.view(), batch)))
        values = cross_entropy(log_mean_softmax(logits), batch.targets())
        if self.lam and batch.progress >= self.deferred:
            hinge = margin_hinge(self.beta * full_precision(logits), labels, self.gamma)
            values = values + self.lam * batch.distribution.std / 2 * hinge
        yield batch.mean(values)


def margin_hinge(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Return max(0, γ − ξ) of the images that the mean prediction p̄ gets right, and 0 of the others: (N,).

    ξ = Φ⁻¹(p̄₁) − Φ⁻¹(p̄₂) of the two likeliest classes.

    Args:
        logits: (m, N, K), float32 or float64.
        labels: (N,).
        gamma: ξ beyond which nothing is gained.
    """
    ranked, classes = log_mean_softmax(logits).sort(dim=1, descending=True)
    # Φ⁻¹(p̄₁) = −Φ⁻¹(1 − p̄₁), but only the tail keeps its digits where p̄₁ is near 1.
    rest, second = ranked[:, 1:].logsumexp(dim=1).exp(), ranked[:, 1].exp()
    with torch.no_grad():
        selected = (classes[:, 0] == labels) & (_margin(rest, second) <= gamma)
    # Selected before Φ⁻¹, whose slope is infinite at 0: 0 times that would be NaN.
    rest, second = (torch.where(selected, tail, 0.5) for tail in (rest, second))
    return torch.where(selected, gamma - _margin(rest, second), 0.0)


def _margin(rest: Tensor, second: Tensor) -> Tensor:
    """Return ξ of the probability 1 − p̄₁ of all classes but the first, and p̄₂ of the second."""
    margin: Tensor = -torch.special.ndtri(rest) - torch.special.ndtri(second)
    return margin
