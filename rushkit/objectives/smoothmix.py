"""SmoothMix (Jeong et al. 2021): less confidence on the way from an image to its adversarial neighbour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rushkit.attacks.ascend import Ball, ascend
from rushkit.attacks.norms import project
from rushkit.errors import UsageError
from rushkit.objectives.smoothed import Smoothed, check_weight
from rushkit.objectives.supervised import cross_entropy, divergence, labels_of, log_softmax
from rushkit.recipe.radius import check_eps
from rushkit.smoothing import log_mean_softmax

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from rushkit.models.network import Network
    from rushkit.objectives import Batch


@dataclass(frozen=True, kw_only=True)
class SmoothMix(Smoothed):
    """Cross-entropy on noisy images, and soft labels between an image and x̃, where p̄ is low (Jeong et al. 2021).

    x̃ is a few l2 steps up −log p̄ of the label, in the box but in no ball. The loss of an image is the mean over its
    draws of CE(F(x + δ_i), y), plus, if p̄ is right, eta · KL((1 − λ) p̄ + λ/K ‖ p(x_λ + δ_i)) at
    x_λ = (1 − λ) x + λ x̃, λ from U(0, ½) for each image. The gradient goes through p̄ as well. Attack, clean and mixed
    pass have the same draws of the noise. The defaults are those of CIFAR-10 at σ = 0.25.

    Args:
        draws: m, the noisy copies of each image; all go through the network in one pass.
        steps: Steps of the attack.
        step_size: Length of a step in l2, pixel units; 0.5, 1 and 2 are published for σ = 0.25, 0.5 and 1.
        eta: Weight η of the mixed images.
        warmup: Epochs over which this weight grows, in equal steps from one epoch to the next; 1: none.
        mix_step: Step of the attack whose point stands for the clean image, 0 for x itself; while the weight grows,
            the point is as much nearer to x. 0 and 1 are published.

    Raises:
        UsageError: there is not a single draw, or another option is out of its range.
    """

    steps: int = 4
    step_size: float = 0.5
    eta: float = 5.0
    warmup: int = 10
    mix_step: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_weight("eta", self.eta)
        check_eps("l2", self.step_size, name="step_size")
        for name, value in (("steps", self.steps), ("warmup", self.warmup)):
            if value < 1:
                raise UsageError(f"{name} must be at least 1 (got {value})", "eta = 0 trains without an attack")
        if not 0 <= self.mix_step < self.steps:
            raise UsageError(
                f"mix_step must be one of the attack's {self.steps} steps, or 0 (got {self.mix_step})", "0 or 1"
            )

    @property
    def kept_passes(self) -> int:
        """The passes of the batch that are kept at once: each draw of the clean and of the mixed images."""
        return 2 * self.draws if self.eta else self.draws

    def losses(self, network: Network, memory: nn.Module, batch: Batch) -> Iterator[Tensor]:
        """Yield the mean loss of the batch's views.

        Raises:
            DataError: there are no labels.
        """
        labels, x, targets = labels_of(batch), batch.view(), batch.targets()
        delta = batch.noise(self.copies(x))
        grown = min(1.0, (int(batch.epoch) + 1) / self.warmup)

        def noisy_logits(points: Tensor) -> Tensor:
            logits: Tensor = network(self.copies(points) + delta)
            return logits

        def log_mean(logits: Tensor) -> Tensor:
            return log_mean_softmax(self.by_draw(logits))

        def climbed(start: Tensor, steps: int) -> Tensor:
            # A ball that holds whatever the steps can reach: the box alone bounds them.
            ball = Ball("l2", 2 * self.steps * self.step_size, self.step_size, steps, start="clean")
            return ascend(
                network, lambda z: cross_entropy(log_mean(noisy_logits(z)), targets).sum(), start, ball, batch
            )

        passed = climbed(x, self.mix_step) if self.mix_step else x
        far = climbed(passed, self.steps - self.mix_step) if self.eta else passed
        near = project(x, passed, "l2", grown * self.mix_step * self.step_size) if self.mix_step else x
        logits = noisy_logits(near)
        values = cross_entropy(logits, targets.repeat(self.draws, 1))
        if self.eta:
            share = batch.uniform(x[:, :1, :1, :1]).abs() / 2
            log_mixed = log_softmax(noisy_logits(near.lerp(far, share)))
            clean = log_mean(logits)
            apart = divergence(softened(clean, share.view(-1, 1)).repeat(self.draws, 1), log_mixed)
            right = clean.argmax(dim=1) == labels
            values = values + self.eta * grown * right.repeat(self.draws) * apart
        yield batch.mean(values)


def softened(log_p: Tensor, share: Tensor) -> Tensor:
    """Return log((1 − λ) p + λ/K) of log-probabilities (N, K) and shares λ (N, 1): uniform by that much."""
    # In log space, where a probability that underflows is no −∞.
    return torch.logaddexp(log_p + torch.log1p(-share), torch.log(share / log_p.shape[1]))
